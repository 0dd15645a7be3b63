//! The metadata log of a cluster: a raft group of the voters, by openraft, behind [`quorum::Quorum`]. Nothing outside of this
//! directory names openraft.
//!
//! ```text
//!   Controller ──Proposal──▶ proposer ──one entry──▶ raft ──▶ state machine ──▶ Applied ──▶ publication ──▶ MetadataPublisher
//!   (any broker)             decides on the image            (every voter)      (image)
//! ```
//!
//! One entry is what was decided on one image: `{ base, records }`. The state machine ignores an entry whose base is not the
//! place that its image is at, so a decision is never applied to another image than its own.
//!
//! * [`types`]: what raft carries. `log_store`, `patient_file`, `state_machine`, `snapshot`: what it keeps.
//! * [`applied`]: the image that follows; [`publication`]: who is told of it.
//! * [`messages`], [`control_lane`], `network`, [`server`]: what brokers ask of each other, and both ends of it.
//! * [`quorum`], [`proposer`]: how metadata changes. [`heartbeats`]: which brokers live; [`leader_balance`]: who of
//!   them leads. `succession`: who follows a controller that is dead for sure. [`formation`]: how a group begins; [`members`]:
//!   how it changes.

pub mod applied;
pub mod control_lane;
pub mod formation;
pub mod heartbeats;
pub mod leader_balance;
pub mod log_store;
pub mod members;
pub mod messages;
mod muteness;
mod network;
pub(crate) mod patient_file;
pub mod proposer;
pub mod publication;
pub mod quorum;
pub mod server;
mod snapshot;
mod state_machine;
mod succession;
pub mod types;

#[cfg(test)]
mod tests;

/// Raft's log, below `__cluster`.
const LOG_FILE: &str = "raft.redb";

/// Whether this directory was a member's.
pub fn has_log(cluster_dir: &std::path::Path) -> bool {
    cluster_dir.join(LOG_FILE).exists()
}

/// Whether raft has never voted nor written anything here.
pub fn is_new(cluster_dir: &std::path::Path) -> Result<bool, log_store::LogStoreError> {
    if !has_log(cluster_dir) {
        return Ok(true);
    }
    log_store::LogStore::open(&cluster_dir.join(LOG_FILE), &Default::default())?.is_new()
}
