//! What is decided: partitions, the cluster and its configuration as plain state machines.
//!
//! Nothing in this crate reads a clock, does I/O, draws a random number or waits. A state machine takes what it needs
//! (`now_ms`, a seed, an id) as an argument and returns what must be done; an actor carries it out. So every rule of
//! the protocol can be tested by calling a function, and a simulation that uses the same code repeats exactly.
//!
//! * [`config`]: every configuration as data (name, type, default, bounds), and the typed settings of a topic.
//! * [`partition`]: the leader of a partition: what may be appended, what is committed, who gets an answer.
//! * [`group`]: the groups of one coordinator: members, rebalances, committed offsets.
//! * [`fetch_session`]: what a consumer asks for again and again (KIP-227).
//! * [`stream`]: what a client over HTTP was allowed, was sent and has acknowledged.
//! * [`cluster`]: metadata records, the image that they build, and the commands that yield them.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod config;
pub mod fetch_session;
pub mod group;
pub mod partition;
mod refusal;
pub mod stream;

pub use refusal::Refusal;
