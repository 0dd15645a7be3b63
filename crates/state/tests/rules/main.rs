//! The rules of the broker as promises, each held against the plain state machine that keeps it.

mod admission;
mod broker_commands;
mod brokers;
mod cluster_properties;
mod config_commands;
mod config_origin;
mod config_tables;
mod convert;
mod elections;
mod feature_commands;
mod fetch_sessions;
mod fixtures;
mod follower;
mod image;
mod in_sync;
mod in_sync_commands;
mod leader;
mod placement;
mod producers;
mod read_replica;
mod reassignments;
mod records;
mod replica_commands;
mod streams;
mod topic_commands;
