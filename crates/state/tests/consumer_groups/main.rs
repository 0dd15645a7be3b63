//! The consumer protocol as promises, each held against the plain group that keeps it.

mod assignors;
mod deltas;
mod fencing;
mod leaving;
mod migration;
mod offsets;
mod reconciliation;
mod records;
mod regexes;
#[path = "../support/seeds.rs"]
mod seeds;
mod shard;
mod simulation;
mod static_members;
mod world;
