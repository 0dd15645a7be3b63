//! The consumer protocol as promises, each held against the plain group that keeps it.

mod assignors;
mod deltas;
mod fencing;
mod leaving;
mod offsets;
mod reconciliation;
mod records;
mod regexes;
mod simulation;
mod static_members;
mod world;
