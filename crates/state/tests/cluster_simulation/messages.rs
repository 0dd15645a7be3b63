//! What travels between brokers, controller and clients.

use capek_wire::ErrorCode;
use capek_wire::peer::replication::EpochEnd;

use crate::controller::Alter;
use crate::disk::Batch;

/// Brokers are 1 and up, clients 100 and up.
pub type Node = i32;

/// Where a message goes, and over which of the connections that there were: each keeps its order, and ends with the life of
/// either side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    pub from: Node,
    pub to: Node,
    /// Of the side that connected.
    pub connection: u64,
    pub to_life: u32,
}

#[derive(Clone, Debug)]
pub enum Message {
    Fetch { broker_epoch: i64, leader_epoch: i32, fetch_offset: i64, last_epoch: i32 },
    Fetched(Answer),
    Flushed { broker_epoch: i64, leader_epoch: i32, end_offset: i64 },
    Produce { acks: i16, batches: Vec<Batch> },
    Produced { value: u64, error: ErrorCode, base_offset: i64 },
    Read { offset: i64 },
    ReadAnswer { error: ErrorCode, batches: Vec<Batch> },
    ListLatest,
}

/// To a follower's fetch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Answer {
    pub leader_epoch: i32,
    pub fetch_offset: i64,
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub diverging: Option<EpochEnd>,
    pub batches: Vec<Batch>,
}

#[derive(Clone, Debug)]
pub enum ToController {
    Register {
        broker: i32,
        incarnation: u64,
    },
    /// Says which image the broker has.
    Heartbeat {
        broker: i32,
        broker_epoch: i64,
        version: usize,
    },
    Alter(Alter),
    ShutDown {
        broker: i32,
        epoch: i64,
    },
}

#[derive(Debug)]
pub enum Event {
    Deliver(Line, Message),
    ToController {
        from: i32,
        controller: i32,
        ask: ToController,
    },
    /// The controller's answer to a proposal, certain.
    Altered {
        broker: i32,
        life: u32,
        alter: Alter,
        error: ErrorCode,
    },
    Registered {
        broker: i32,
        life: u32,
        epoch: i64,
    },
    /// A broker's clock: heartbeats, proposals, the images that it has not seen.
    Tick {
        broker: i32,
        life: u32,
    },
    Synced {
        broker: i32,
        life: u32,
    },
    Cut {
        broker: i32,
        life: u32,
        role: u64,
    },
    FetchAgain {
        broker: i32,
        life: u32,
        role: u64,
    },
    FetchTimedOut {
        broker: i32,
        life: u32,
        role: u64,
        fetch: u64,
    },
    ParkedFetch {
        broker: i32,
        life: u32,
        role: u64,
        follower: i32,
        fetch: u64,
    },
    RequestTimedOut {
        broker: i32,
        life: u32,
        reply: u64,
    },
    Start {
        broker: i32,
    },
    Stop {
        broker: i32,
        life: u32,
    },
    Controller,
    Client(usize),
    ClientTimedOut {
        client: usize,
        attempt: u64,
    },
    Reader,
    Trouble,
}
