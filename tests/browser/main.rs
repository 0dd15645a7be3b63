//! Chromium as a client: pages whose own `EventSource` and `WebSocket` read from the real binary. Debian's packages `chromium` and
//! `chromium-driver`, which `tests/run install` brings.

#![allow(clippy::print_stdout, clippy::print_stderr)] // what a failed test says of the broker

// Shared with the other tests, which use the rest.
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

mod origins;
mod restarts;
mod webdriver;
