//! The data lane: a follower's broker pulls, and says what it has made durable.
//!
//! A connection is a session: a request names only the partitions whose place has changed since the last one, an answer only
//! those that have news. Records stand in the body of the frame, partition after partition, as long as `records_bytes` says.

use serde::{Deserialize, Serialize};

use crate::error_code::ErrorCode;
use crate::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};

/// Fetches of one session that may wait at the leader: the second lets go the first.
pub const FETCHES_MAX: usize = 2;

/// From the follower's broker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataRequest {
    Fetch(FetchRequest),
}

/// The answer to [`DataRequest`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataResponse {
    Fetch(FetchResponse),
}

/// What needs no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DataOneWay {
    Flushed(Vec<Flushed>),
}

/// What follower and leader call a partition within one session: the place in the order in which the session came to know it.
pub type SessionSlot = u32;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchRequest {
    /// The epoch of the follower's broker, as the controller gave it.
    pub broker_epoch: i64,
    /// How long to wait for news.
    pub max_wait_ms: u32,
    pub max_bytes: u32,
    /// New to the session, or in another leader epoch than before: they get (or keep) the slot that is named.
    pub added: Vec<FetchPartition>,
    /// Go on from here, in the same leader epoch.
    pub moved: Vec<FetchPosition>,
    /// No longer followed from here.
    pub forgotten: Vec<SessionSlot>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPartition {
    pub slot: SessionSlot,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// Of the leader whom the follower follows; another one answers with an error.
    pub leader_epoch: LeaderEpoch,
    pub position: FetchPosition,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchPosition {
    pub slot: SessionSlot,
    /// The follower's log end.
    pub fetch_offset: Offset,
    /// The leader epoch of the follower's last batch, -1 for an empty log (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
    pub log_start: Offset,
}

/// The follower's log is durable up to here, in agreement with the leader of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flushed {
    pub slot: SessionSlot,
    pub leader_epoch: LeaderEpoch,
    pub end_offset: Offset,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchResponse {
    /// Not NONE: the session is over (such as STALE_BROKER_EPOCH); connect again.
    pub error: ErrorCode,
    pub partitions: Vec<FetchedPartition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FetchedPartition {
    pub slot: SessionSlot,
    /// The request's, so that a late answer is known as such.
    pub leader_epoch: LeaderEpoch,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub log_start: Offset,
    /// The follower's log leaves the leader's here: truncate, then fetch on. Then there are no records.
    pub diverging: Option<EpochEnd>,
    /// The offset of the first record that may follow; the answer is to a fetch from here.
    pub fetch_offset: Offset,
    pub records_bytes: u32,
}

/// The largest epoch of the leader's log that is not above the one that was asked for, and where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EpochEnd {
    pub epoch: LeaderEpoch,
    pub end_offset: Offset,
}
