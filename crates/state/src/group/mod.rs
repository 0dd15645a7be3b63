//! Groups, as the coordinator of one partition of `__consumer_offsets` sees them: their members, and the offsets they commit.
//!
//! A [`Coordinator`] is a *shard*: the groups whose id hashes to its partition ([`shard_of`]). It is plain data:
//!
//! * A request yields [`Effects`]: records, and answers. The records are written as one; no answer of a call is given before
//!   its records are committed.
//! * What must survive changes in [`Coordinator::replay`] only, live (at once, when the records are made) and at reload alike.
//!   So what a call sees may not be committed yet: its answer waits for whatever was written before it.
//! * A write that fails spoils the whole shard: it is thrown away and loaded from the log again.
//! * Time is an argument, and timers are data: [`Coordinator::next_deadline_ms`] and [`Coordinator::tick`].
//!
//! `record` has the bytes, `classic/` the group of the classic protocol, `consumer/` that of the consumer protocol,
//! `consumer_requests` what is asked of it, `beats` heartbeats that need no coordinator, `offsets` what is committed, `expiry`
//! what is forgotten, `describe` what others are shown.

mod beats;
mod classic;
mod config;
pub mod consumer;
mod consumer_requests;
mod coordinator;
mod describe;
mod effects;
mod expiry;
mod offsets;
mod record;

use capek_wire::ids::{PartitionIndex, Uuid};

pub use crate::partition::ReplyId;
pub use beats::{Beats, SteadyGroup, SteadyMember};
pub use classic::{
    ClassicGroup, ClassicState, HeartbeatRequest, JoinAnswer, JoinRequest, JoinedMember, LeaveRequest, LeavingMember,
    Protocol, SyncAnswer, SyncRequest, UpgradingMember,
};
pub use config::GroupConfig;
pub use consumer_requests::ConsumerHeartbeat;
pub use coordinator::{Coordinator, Group, GroupKind};
pub use describe::{DescribedGroup, DescribedMember, ListFilter, ListedGroup, SurveyedGroup, SurveyedOffset};
pub use effects::{Cx, Effects};
pub use offsets::{
    CommitRequest, DeleteOffsetsRequest, FetchRequest, FetchTopic, FetchedTopic, OffsetToCommit, Offsets,
};
pub use record::{CommittedOffset, GroupMember, GroupMetadata, Record, RecordError};

/// The topic that the groups live in.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// The partition of `__consumer_offsets` that a group belongs to: Java's hash of its id, as clients and tools compute it too.
pub fn shard_of(group: &str, partition_count: i32) -> PartitionIndex {
    assert!(partition_count > 0, "a topic has partitions");
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = group.encode_utf16().fold(0, add);
    // Java's abs of the smallest number is itself, and Kafka takes 0 for it.
    hash.checked_abs().unwrap_or(0) % partition_count
}

/// A member id that nobody has had before, in Kafka's form: a name that people recognise, and a UUID made of random bytes.
pub fn new_member_id(name: &str, Uuid(mut bytes): Uuid) -> String {
    // The marks of a random UUID, version 4.
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{name}-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
