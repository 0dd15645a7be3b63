//! The whole broker: the real binary, clients that we did not write, `kill -9`.
//!
//! One program for all of it, so that it is linked once. `cargo test --test broker NAME` runs those whose path holds NAME.
//! Each test starts a broker of its own on free ports of 127.0.0.1.

#![allow(clippy::print_stdout, clippy::print_stderr)] // what a failed test says of the broker

// Shared with the tests of a cluster, which use the rest.
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

mod admin;
mod clients;
mod compaction;
mod configs;
mod consumer_groups;
mod coordinators;
mod crash;
mod dev;
mod disk;
mod examples;
mod fetch_sessions;
mod front_door;
mod gathered;
mod groups;
mod grown_topics;
mod hostile;
mod http;
mod http_guide;
mod http_limits;
mod http_slow;
mod log_settings;
mod metrics;
mod openapi;
mod protocol;
mod refusals;
mod rest_quickstarts;
mod rest_v2;
mod rest_v3;
mod stop;
mod stream_options;
mod streams;
mod supervision;
mod tool_groups;
mod tool_names;
mod tools;
mod v1;
mod websocket_frames;
mod websocket_groups;
mod websockets;
