//! The rules of the broker as promises, each held against the plain state machine that keeps it.

mod admission;
mod broker_commands;
mod config_commands;
mod config_origin;
mod config_tables;
mod feature_commands;
mod fetch_sessions;
mod fixtures;
mod image;
mod leader;
mod placement;
mod producers;
mod records;
mod replica_commands;
mod topic_commands;
