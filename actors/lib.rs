//! How it runs: everything that runs is an actor; everything that is decided is plain code of `capek-state` that an actor calls.
//!
//! ```text
//! Broker                              starts top to bottom, stops bottom to top; a child's escalation ends the process
//! ├── PeerListener        permanent   in a cluster: lets other brokers in, for raft and for replication
//! ├── MetadataPublisher   permanent   publishes the committed image and its deltas
//! ├── Controller          permanent   has changes decided and committed: here alone, in a cluster by the quorum's leader
//! ├── PeerManager         permanent ── Peer(2) Peer(3) …   in a cluster: one connection for all that is followed there
//! ├── InSyncProposer      permanent   in a cluster: carries the in-sync sets of this broker's leaders to the controller
//! ├── Journal(data dir)   permanent   one thread for each data directory: gathers appends, syncs once, tells the partitions
//! ├── ReplicaManager      permanent ── one_for_one, 3 restarts in 30 s each
//! │     ├── Partition       (orders-0, leader epoch 7)    transient: panic -> reopen the log, same epoch
//! │     └── FollowerReplica (orders-1, leader epoch 4)    transient: panic -> reopen the log, fetch again
//! ├── CoordinatorManager  permanent
//! │     └── GroupCoordinator (__consumer_offsets-12, leader epoch 0)  transient: panic -> reload from the log
//! ├── Retention           permanent   moves log starts
//! ├── LogCleaner          permanent ── CleanerThread(#0) …   transient: panic -> the log that it cleaned is left alone
//! ├── Listener(name)      permanent ── Connection(#1) …   temporary: the client reconnects
//! ├── Heartbeat           permanent   in a cluster: last up, first down
//! ├── ConsumerInstances   permanent ── ConsumerInstance(#1) … temporary: the client makes another
//! └── Http                permanent ── StreamSession(#1) …    temporary
//! ```
//!
//! Arbiters: `control` has the managers and carries no data; `data-0…n` have Listeners, Connections and Partitions;
//! `coordination` has the coordinators: no flood of records delays a heartbeat. In a cluster `quorum` has raft with its timers,
//! the control lanes and the Heartbeat.
//!
//! In reading order: [`supervision`], [`children`], [`broker`], [`listener`], [`connection`], [`requests`], [`routes`],
//! [`partition`], [`journal`], [`replica_manager`], [`coordinator_manager`], [`group_coordinator`], [`controller`], [`metadata_publisher`],
//! [`retention`], [`log_cleaner`]; of a cluster [`peer_transport`], [`peer_tls`], [`peer_listener`], [`raft`], [`heartbeat`],
//! [`follower_replica`], [`peer`], [`data_lane`], [`in_sync_proposer`]; what doors ask of other brokers: [`local`],
//! [`forwarding`], [`call_lane`], [`call_server`], [`remote_partition`].

#![forbid(unsafe_code)]

mod append_entry;
pub mod broker;
mod broker_children;
mod broker_open;
pub mod budget;
pub mod call_lane;
pub mod call_server;
pub mod census;
pub mod children;
pub mod cleaner_thread;
pub mod cleaning;
mod clock;
pub mod cluster_changes;
mod cluster_start;
pub mod config;
pub mod connection;
pub mod consumer_commands;
pub mod consumer_instance;
pub mod consumer_instances;
pub mod consumer_membership;
mod consumer_sources;
pub mod controller;
pub mod coordinator_manager;
pub mod coordinator_routes;
pub mod data_lane;
pub mod departures;
mod features;
pub mod fetch_sessions;
mod follower_board;
pub mod follower_replica;
pub mod forwarding;
mod group_beats;
pub mod group_coordinator;
mod group_loader;
pub mod group_log;
pub mod group_offsets;
pub mod group_survey;
pub mod heartbeat;
pub mod histogram;
pub mod http;
pub mod in_sync_proposer;
pub mod journal;
pub mod listener;
pub mod local;
pub mod local_requests;
pub mod log_cleaner;
pub mod log_levels;
mod meta_log;
pub mod metadata_publisher;
pub mod metrics;
mod output;
pub mod partition;
mod partition_messages;
pub mod partition_source;
mod patience;
pub mod peer;
pub mod peer_certificates;
pub mod peer_connection;
pub mod peer_listener;
pub mod peer_manager;
pub mod peer_metrics;
pub mod peer_socket;
pub mod peer_tls;
#[cfg(test)]
mod peer_tls_tests;
pub mod peer_transport;
pub mod produce;
pub mod producer_ids;
mod pulses;
pub mod raft;
mod random;
mod read_buffers;
pub mod record_reader;
pub mod remote_partition;
mod replica;
mod replica_logs;
pub mod replica_manager;
mod replica_messages;
mod replica_watch;
mod replication_quota;
pub mod request_metrics;
pub mod requests;
pub mod retention;
pub mod routes;
pub mod shared;
mod sockets;
mod stream_batches;
pub mod stream_commands;
pub mod stream_cursors;
pub mod stream_events;
pub mod stream_group;
mod stream_membership;
pub mod stream_places;
mod stream_records;
pub mod stream_session;
pub mod stream_subscription;
mod stream_taking;
pub mod supervision;
mod throttle;
pub mod topics;
pub mod traffic;
mod waiters;
