//! What can be said to a [`Partition`](crate::partition::Partition).

use actix::Message;
use bytes::BytesMut;
use capek_log::Outcome;
use capek_state::partition::{ProducerBatch, ReplicaSet};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, ProducerId};
use capek_wire::peer::calls::KeyedBatch;

use crate::produce::{Acks, AppendReply};
use crate::supervision::Incarnation;

/// Append one batch. The answer comes through `reply`: when it is durable, or why it is not.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    pub batch: BytesMut,
    pub acks: Acks,
    /// Produce below version 7 may not carry zstd.
    pub is_zstd_allowed: bool,
    /// See [`AppendOptions`](crate::produce::AppendOptions).
    pub partition_count: Option<i32>,
    pub reply: AppendReply,
}

/// Move the log start to `offset`; -1 means the high watermark. Answered when it is durable, with the new low watermark.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AdvanceLogStart {
    pub offset: Offset,
    pub reply: tokio::sync::oneshot::Sender<Result<Offset, ErrorCode>>,
}

/// Where does the log end when everything that was sent here before is in it, or refused?
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogEnd {
    pub reply: tokio::sync::oneshot::Sender<Offset>,
}

/// What are the newest batches of these producers, which stand for keys? Answered when what came before is
/// committed, or refused; from then on whoever counts fewer partitions is refused.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FindKeyed {
    pub partition_count: i32,
    pub producer_ids: Vec<ProducerId>,
    pub reply: tokio::sync::oneshot::Sender<Vec<Option<KeyedBatch>>>,
}

/// Which producers does the partition remember? Answered once they are read from the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DescribeProducers {
    pub reply: tokio::sync::oneshot::Sender<Vec<ProducerBatch>>,
}

/// The journal has finished something for this partition.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RoundDone {
    pub incarnation: Incarnation,
    pub outcome: Outcome,
}

/// Followers have reported: `PartitionShared::followers` has what.
#[derive(Message)]
#[rtype(result = "()")]
pub struct FollowersMoved;

/// Look whether a follower has fallen behind: `replica.lag.time.max.ms`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReviewInSync {
    pub lag_max_ms: i64,
}

/// The image has another record of the partition, in the same leader epoch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReplicasChanged(pub ReplicaSet);

/// The controller has refused an in-sync set for certain.
#[derive(Message)]
#[rtype(result = "()")]
pub struct InSyncRefused {
    pub partition_epoch: i32,
}

/// The topic's configuration changed; `PartitionShared` holds the new one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ConfigChanged;

/// Stop: the role, the topic or the broker goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopPartition;
