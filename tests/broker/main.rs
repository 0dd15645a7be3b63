//! The whole broker: the real binary, clients that we did not write, `kill -9`.
//!
//! One program for all of it, so that it is linked once. `cargo test --test broker NAME` runs those whose path holds NAME.
//! Each test starts a broker of its own on free ports of 127.0.0.1.

#![allow(clippy::print_stdout, clippy::print_stderr)] // what a failed test says of the broker

#[path = "../support/mod.rs"]
mod support;

mod admin;
mod clients;
mod compaction;
mod configs;
mod consumer_groups;
mod coordinators;
mod crash;
mod disk;
mod examples;
mod fetch_sessions;
mod front_door;
mod groups;
mod hostile;
mod http;
mod log_settings;
mod protocol;
mod refusals;
mod stop;
mod streams;
mod supervision;
mod tool_groups;
mod tool_names;
mod tools;
