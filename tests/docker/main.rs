//! The image, and the compose files around it, on a real engine.
//!
//! `tests/run containers` brings an engine and runs this; `cargo test` alone leaves it out, because it builds a static release
//! binary. Every container, network and volume has a name that begins with `capektest`, and is removed at the end.

#![allow(clippy::print_stdout, clippy::print_stderr)] // what a failed test says of its containers

#[path = "../support/mod.rs"]
#[allow(dead_code)] // shared with the tests of the binary itself
mod support;

mod cluster;
mod engine;
mod image;
mod seed;
