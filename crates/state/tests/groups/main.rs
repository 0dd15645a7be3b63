//! The rules of groups as promises, each held against the plain state machine that keeps it.

mod beats;
mod beside;
mod client;
mod fixtures;
mod joining;
mod model;
mod offsets;
mod records;
#[path = "../support/seeds.rs"]
mod seeds;
mod sessions;
mod simulation;
mod syncing;
