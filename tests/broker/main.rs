//! The whole broker: the real binary, clients that we did not write, `kill -9`.
//!
//! One program for all of it, so that it is linked once. `cargo test --test broker NAME` runs those whose path holds NAME.
//! Each test starts a broker of its own on free ports of 127.0.0.1.

#![allow(clippy::print_stdout, clippy::print_stderr)] // what a failed test says of the broker

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod crash;
mod disk;
mod front_door;
mod hostile;
mod http;
mod protocol;
mod refusals;
mod stop;
mod streams;
mod supervision;
mod tool_groups;
mod tool_names;
mod tools;
