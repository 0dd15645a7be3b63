//! How it runs: everything that runs is an actor; everything that is decided is plain code of `capek-state` that an actor calls.
//!
//! ```text
//! Broker                              starts top to bottom, stops bottom to top; a child's escalation ends the process
//! ├── MetadataPublisher   permanent   applies committed records, publishes the image and its deltas
//! ├── Controller          permanent   decides, commits to the metadata log; the quorum of one
//! ├── Journal(data dir)   permanent   one thread for each data directory: gathers appends, syncs once, tells the partitions
//! ├── ReplicaManager      permanent ── one_for_one, 3 restarts in 30 s each
//! │     └── Partition       (orders-0, leader epoch 0)    transient: panic -> reopen the log, same epoch
//! ├── CoordinatorManager  permanent
//! │     └── GroupCoordinator (__consumer_offsets-12, leader epoch 0)  transient: panic -> reload from the log
//! ├── Retention           permanent   moves log starts
//! ├── LogCleaner          permanent ── CleanerThread(#0) …   transient: panic -> the log that it cleaned is left alone
//! ├── Listener(name)      permanent ── Connection(#1) …   temporary: the client reconnects
//! └── Http                permanent ── StreamSession(#1) …    temporary
//! ```
//!
//! Arbiters: `control` has the managers and carries no data; `data-0…n` have Listeners, Connections and Partitions;
//! `coordination` has the coordinators: no flood of records delays a heartbeat.
//!
//! In reading order: [`supervision`], [`children`], [`broker`], [`listener`], [`connection`], [`requests`], [`routes`],
//! [`partition`], [`journal`], [`replica_manager`], [`coordinator_manager`], [`group_coordinator`], [`controller`], [`metadata_publisher`],
//! [`retention`], [`log_cleaner`].

#![forbid(unsafe_code)]

pub mod broker;
mod broker_children;
pub mod budget;
pub mod census;
pub mod children;
pub mod cleaner_thread;
pub mod cleaning;
mod clock;
pub mod config;
pub mod connection;
pub mod controller;
pub mod coordinator_manager;
pub mod coordinator_routes;
mod features;
pub mod fetch_sessions;
pub mod group_coordinator;
mod group_loader;
pub mod group_log;
pub mod http;
pub mod journal;
pub mod listener;
pub mod local;
pub mod log_cleaner;
pub mod log_levels;
mod meta_log;
pub mod metadata_publisher;
pub mod metrics;
mod output;
pub mod partition;
pub mod produce;
pub mod producer_ids;
mod random;
mod read_buffers;
pub mod replica_manager;
pub mod requests;
pub mod retention;
pub mod routes;
pub mod shared;
mod sockets;
pub mod stream_cursors;
mod stream_records;
pub mod stream_session;
pub mod supervision;
mod throttle;
pub mod topics;
