//! What the whole-broker tests share: the real binary on free ports with a directory of its own, programs of other people
//! with a deadline, and hand-made frames for what no client would send.

pub mod broker;
pub mod chaos;
pub mod compared_tools;
pub mod frames;
pub mod group;
pub mod programs;
pub mod rest;
pub mod scrape;
pub mod small_disk;
pub mod socket;
pub mod tools;

use std::time::{Duration, Instant};

/// Waits until `done` answers something; panics with `what` when it takes too long.
pub fn wait_for<T>(what: &str, within: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(result) = done() {
            return result;
        }
        assert!(Instant::now() < deadline, "waited {within:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
