//! What a stream's session tells its client, and what goes to the socket; a door's encoder makes one of the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_wire::batch::Record;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::stream_cursors::GapReason;

/// How many data frames may wait for the socket.
pub const DATA_FRAMES_MAX: usize = 2;
/// Room behind the data that only the end uses (why, goodbye, close): what was sent before it arrives before it.
pub const GOODBYE_FRAMES: usize = 3;
/// How many frames that no credit covers may wait.
pub const CONTROL_FRAMES_MAX: usize = 16;

/// A partition by its topic's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamPlace {
    pub topic: Arc<str>,
    pub partition: PartitionIndex,
}

impl StreamPlace {
    pub fn new(topic: &str, partition: PartitionIndex) -> StreamPlace {
        StreamPlace { topic: topic.into(), partition }
    }
}

/// A place as the client is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    pub place: StreamPlace,
    pub next: Offset,
    pub end: Offset,
    pub leader_epoch: LeaderEpoch,
}

/// How far a client has been sent a partition: enough to go on there, and to notice that the log has become another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    pub place: StreamPlace,
    pub topic_id: TopicId,
    pub next: Offset,
    /// Of the last record before `next`; -1 when none was sent.
    pub leader_epoch: LeaderEpoch,
}

/// Why partitions are taken away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RevokeReason {
    /// The group gives them to others.
    Rebalance,
    /// The group did not hear of this member in time; others may read them already.
    Lost,
    TopicDeleted,
}

/// See the head of this file.
#[derive(Debug)]
pub enum StreamEvent {
    /// The subscription is there; everything else of it comes later.
    Subscribed,
    /// These are read from now on, or from elsewhere: at the begin, after a seek, when a topic has grown or a group has given them.
    Assigned {
        generation: Option<i32>,
        partitions: Vec<Assignment>,
    },
    /// No more records come of these; what was done of them can be acknowledged until the deadline.
    Revoked {
        partitions: Vec<StreamPlace>,
        deadline: Duration,
        reason: RevokeReason,
    },
    Records(StreamRecords),
    /// To those who asked for them as they are stored.
    Batches(StreamBatches),
    CaughtUp {
        place: StreamPlace,
        next: Offset,
    },
    /// Records between the two offsets will not come.
    Gap {
        place: StreamPlace,
        requested: Offset,
        resumed: Offset,
        reason: GapReason,
    },
    /// Everything that was asked for has been sent.
    End,
    Heartbeat {
        now_ms: i64,
        /// By subscription.
        lag: Vec<(u64, i64)>,
        /// What was sent before this; empty where that cannot be said.
        positions: Vec<(u64, Vec<Position>)>,
    },
    Problem {
        place: Option<StreamPlace>,
        code: ErrorCode,
        message: String,
    },
    Goodbye {
        goodbye: Goodbye,
        positions: Vec<(u64, Vec<Position>)>,
    },
}

/// Records of one partition, in order.
#[derive(Debug)]
pub struct StreamRecords {
    /// Counts the frames of this session.
    pub sequence: u64,
    pub place: StreamPlace,
    pub records: Vec<Record>,
    pub next: Offset,
    pub high_watermark: Offset,
    /// What they cost in credit: keys, values and headers.
    pub size_bytes: u64,
    /// Where the whole subscription stands after them, when it wants to know.
    pub positions: Option<Vec<Position>>,
}

/// Whole batches of one partition, in order, as they are stored.
#[derive(Debug)]
pub struct StreamBatches {
    pub sequence: u64,
    pub place: StreamPlace,
    /// The first record that is for this client, and the first that is not.
    pub first: Offset,
    pub next: Offset,
    pub high_watermark: Offset,
    /// What they cost in credit is their size.
    pub batches: Bytes,
}

/// Why a session ends, in the numbers of WebSocket's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbye {
    pub code: u16,
    pub reason: &'static str,
    /// None: coming back is of no use.
    pub reconnect_after_ms: Option<u64>,
}

impl Goodbye {
    /// The broker stops. Nobody else serves what it serves: it is to be waited for.
    pub const RESTART: Goodbye = Goodbye { code: 1012, reason: "the broker stops", reconnect_after_ms: Some(500) };
    /// The same in a cluster.
    pub const DRAIN: Goodbye =
        Goodbye { code: 4001, reason: "the broker stops: reconnect to another", reconnect_after_ms: Some(0) };
    /// The client comes back by itself: what lives for ever is a burden on the one broker that it is with.
    pub const ROTATED: Goodbye = Goodbye { code: 1001, reason: "come again", reconnect_after_ms: None };
    pub const DONE: Goodbye = Goodbye { code: 1000, reason: "everything was sent", reconnect_after_ms: None };
    pub const TOPIC_DELETED: Goodbye = Goodbye { code: 4504, reason: "topic deleted", reconnect_after_ms: None };
    pub const ACK_TIMEOUT: Goodbye =
        Goodbye { code: 4408, reason: "acknowledgements are overdue", reconnect_after_ms: Some(1000) };
    pub const INSTANCE_IN_USE: Goodbye =
        Goodbye { code: 4509, reason: "another member has this instance id", reconnect_after_ms: None };
    pub const REFUSED_BY_GROUP: Goodbye =
        Goodbye { code: 4500, reason: "the group does not take this member", reconnect_after_ms: None };

    /// Of the close frame. That a broker drains is told before; proxies and libraries know it as a restart.
    pub fn close_code(&self) -> u16 {
        if self.code == Goodbye::DRAIN.code { Goodbye::RESTART.code } else { self.code }
    }
}

/// What goes to the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    Text(Bytes),
    Binary(Bytes),
    /// For clients that answer pings.
    Ping(Bytes),
    Pong(Bytes),
    Close(Goodbye),
}

/// Makes a frame of an event; None when this kind of client is not told of it.
pub type Encoder = Box<dyn FnMut(&StreamEvent) -> Option<Outgoing> + Send>;

/// Which records are sent.
pub type Filter = Box<dyn Fn(&StreamPlace, &Record) -> bool + Send>;
