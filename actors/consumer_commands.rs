//! What a consumer instance is asked, and what it answers.

use std::time::Duration;

use actix::Message;
use capek_wire::batch::Record;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex};
use tokio::sync::oneshot;

use crate::consumer_membership::Wanted;
use crate::local_requests::Caller;
use crate::record_reader::{OffsetReset, ReadLimits, ReadRecords};

/// A partition by its topic's name.
pub type Place = (String, PartitionIndex);

/// What an instance is made of.
#[derive(Debug, Clone)]
pub struct InstanceSettings {
    pub group: String,
    pub instance: String,
    pub caller: Caller,
    pub offset_reset: OffsetReset,
    /// None: only when the client commits.
    pub auto_commit_interval: Option<Duration>,
    pub idle_timeout: Duration,
    /// How its records are written, what a read waits for and how long; for whoever reads.
    pub format: &'static str,
    pub min_bytes: u64,
    pub read_within: Duration,
}

/// Why an instance does not do what it is asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InstanceError {
    /// It was subscribed or assigned in another way.
    #[error("{0}")]
    IllegalState(&'static str),
    #[error("No current assignment for partition {}-{}", .0.0, .0.1)]
    NotAssigned(Place),
    #[error("{}", .1.as_deref().unwrap_or(.0.message()))]
    Kafka(ErrorCode, Option<String>),
    #[error("too many reads of this instance wait already")]
    TooManyReads,
    /// It has ended meanwhile.
    #[error("Consumer instance not found.")]
    Gone,
}

impl InstanceError {
    pub fn code(&self) -> ErrorCode {
        match self {
            InstanceError::Kafka(code, _) => *code,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

/// Reads these topics as a member of the group, from now on. Answered at once; the member joins meanwhile.
#[derive(Message, Debug)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct Subscribe(pub Wanted);

/// Leaves the group, or drops what was assigned. Answered when the group knows.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct Unsubscribe;

/// The topics it is subscribed to.
#[derive(Message, Debug)]
#[rtype(result = "Vec<String>")]
pub struct DescribeSubscription;

/// Reads these partitions from now on, outside of any group's assignment.
#[derive(Message, Debug)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct Assign(pub Vec<Place>);

/// The partitions it reads now.
#[derive(Message, Debug)]
#[rtype(result = "Vec<Place>")]
pub struct DescribeAssignment;

/// Answered when a subscribed instance has heard what it may read, or after so long.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct AwaitAssignment {
    pub at_most: Duration,
}

/// Answered when there are records, or nothing by the deadline. Whoever drops the other end has read nothing.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ReadInstance {
    pub limits: ReadLimits,
    pub reply: oneshot::Sender<Result<ReadBatch, InstanceError>>,
}

/// What a read brought. Its memory is paid for until this is dropped.
#[derive(Default)]
pub struct ReadBatch {
    pub records: Vec<ReadRecord>,
    pub paid: Option<Box<ReadRecords>>,
}

pub struct ReadRecord {
    pub place: Place,
    pub record: Record,
}

/// Stores these offsets for the group; None: wherever reading goes on. Answered when they are stored.
#[derive(Message, Debug)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct Commit(pub Option<Vec<OffsetToStore>>);

/// The next record that the group has not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToStore {
    pub place: Place,
    pub offset: Offset,
    pub metadata: String,
}

/// Reads on from there; all of it or nothing.
#[derive(Message, Debug)]
#[rtype(result = "Result<(), InstanceError>")]
pub struct Seek(pub Vec<(Place, Offset)>);

/// Leaves the group and ends. Answered when it has.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct EndInstance;
