//! A broker with one replica: its parts stand for the actors, and do what they do with the plain state machines.

use std::collections::BTreeMap;

use capek_state::config::TopicConfig;
use capek_state::partition::{Asking, Follower, FollowerReports, Leader, ReplyId};

use crate::controller::Alter;
use crate::disk::Disk;
use crate::messages::Line;

pub struct Broker {
    pub id: i32,
    pub life: u32,
    pub is_up: bool,
    pub paused_until_ms: i64,
    /// Syncs take this much longer.
    pub slow_disk_until_ms: i64,
    pub incarnation: u64,
    pub epoch: Option<i64>,
    /// Which image it has.
    pub version: usize,
    pub disk: Disk,
    /// The journal's round that is being synced ends here.
    pub syncing: Option<i64>,
    pub role: Role,
    /// New with every incarnation of the partition's actor.
    pub role_number: u64,
}

pub enum Role {
    None,
    Leader(Box<LeaderRole>),
    Follower(Box<FollowerRole>),
}

pub struct LeaderRole {
    pub leader: Leader,
    pub epoch_start: i64,
    pub config: TopicConfig,
    /// Of the last proposal.
    pub proposed: Vec<(i32, i64)>,
    /// Sent and not answered for certain.
    pub proposal: Option<Proposal>,
    pub parked: BTreeMap<ReplyId, Parked>,
    /// Not its own: a leader that begins again finds here what its followers will not repeat.
    pub board: FollowerReports,
    /// Fetches that wait for news.
    pub fetches: BTreeMap<i32, ParkedFetch>,
    /// The high watermark that each follower was last told.
    pub told: BTreeMap<i32, i64>,
}

#[derive(Clone)]
pub struct Proposal {
    pub alter: Alter,
    pub sent_ms: i64,
    pub asking: Asking,
}

pub struct Parked {
    pub line: Line,
    pub value: u64,
    pub base_offset: i64,
    pub end_offset: i64,
}

#[derive(Clone, Copy)]
pub struct ParkedFetch {
    pub line: Line,
    pub fetch: u64,
    pub offset: i64,
}

pub struct FollowerRole {
    pub follower: Follower,
    pub leader: i32,
    /// The fetch that is not answered.
    pub fetch: Option<u64>,
    pub connection: u64,
    pub to_life: u32,
    /// The journal is about to cut the log here.
    pub cut: Option<i64>,
}

impl Broker {
    pub fn new(id: i32) -> Broker {
        Broker {
            id,
            life: 0,
            is_up: false,
            paused_until_ms: 0,
            slow_disk_until_ms: 0,
            incarnation: 0,
            epoch: None,
            version: 0,
            disk: Disk::default(),
            syncing: None,
            role: Role::None,
            role_number: 0,
        }
    }
}
