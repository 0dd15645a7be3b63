//! A cluster of real processes, hurt under load: kill -9, SIGTERM, SIGSTOP, cut connections, panics.
//!
//! `cargo test --test cluster NAME` runs those whose path holds NAME. Those that take long, or need root, are ignored:
//! `tests/faults` runs them all, as often as it is told, and sums up.

#![allow(clippy::print_stdout, clippy::print_stderr)] // what a test measured, and what a failed one says of the brokers

// Shared with the tests of one broker, which use the rest.
#[allow(dead_code)]
#[path = "../support/mod.rs"]
mod support;

#[allow(dead_code)] // the tests of one connection use the rest
#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/checker.rs"]
mod checker;
#[path = "../support/cluster.rs"]
mod cluster;
#[path = "../support/network.rs"]
mod network;

mod checker_self;
mod damage;
mod disks;
mod doors;
mod groups;
mod grown_topics;
mod kills;
mod last_standing;
mod load;
mod members;
mod metrics;
mod minority;
mod mix;
mod moves;
mod panics;
mod partitions;
mod pauses;
mod peer_tls;
mod quorum;
mod racks;
mod reassign_tools;
mod rest_consumers;
mod sockets;
mod strangers;
