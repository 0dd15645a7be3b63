//! What goes over the control lane. Variants are only ever appended: neighbouring releases talk to each other.

use capek_state::Refusal;
use capek_state::cluster::{Command, Outcome};
use capek_wire::ids::{BrokerId, Uuid};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse, VoteRequest,
    VoteResponse,
};
use serde::{Deserialize, Serialize};

use super::members::{MembersChange, MembersReply};
use super::succession::{Claim, ClaimReply};
use super::types::TypeConfig;

/// The longest message of this lane: one entry of the largest command, or a piece of a snapshot.
pub const CONTROL_FRAME_BYTES_MAX: usize = 64 << 20;
/// Several entries together stay below this; a single one may be larger.
pub const ENTRIES_BYTES_MAX: usize = 8 << 20;

#[derive(Debug, Serialize, Deserialize)]
pub enum ControlRequest {
    /// Who are you, and do you know me?
    Status,
    AppendEntries(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<u64>),
    InstallSnapshot(InstallSnapshotRequest<TypeConfig>),
    /// Decide this, if you lead the quorum.
    Propose(Box<Command>),
    Heartbeat(Heartbeat),
    ChangeMembers(MembersChange),
    /// The controller is dead: who follows?
    Claim(Claim),
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ControlResponse {
    Status(PeerStatus),
    /// An error here is that of raft's core: the node is going down.
    AppendEntries(Result<AppendEntriesResponse<u64>, String>),
    Vote(Result<VoteResponse<u64>, String>),
    InstallSnapshot(Result<InstallSnapshotResponse<u64>, String>),
    Propose(ProposeReply),
    Heartbeat(HeartbeatReply),
    /// It has not got that far in its start.
    NotReady,
    /// The request does not decode here: the other is newer.
    Unknown,
    ChangeMembers(MembersReply),
    Claim(ClaimReply),
}

/// What a broker says of itself to one that starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub cluster_id: Option<String>,
    /// It has a log of the quorum, however short.
    pub has_log: bool,
    /// Whom it takes for the controller.
    pub controller: Option<BrokerId>,
    /// The process that last registered with the asker's id.
    pub asker_incarnation: Option<Uuid>,
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProposeReply {
    /// Committed; whoever asked waits for its own image to get there.
    Decided {
        outcome: Outcome,
        place: u64,
    },
    Refused(Refusal),
    /// Nothing was tried: another leads, as far as is known.
    NotController {
        controller: Option<BrokerId>,
    },
    /// It may be committed yet.
    Unknown,
}

/// A broker lives. Soft state: only what follows from it is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub broker: BrokerId,
    pub epoch: i64,
    /// The place of its published image.
    pub place: u64,
    /// It wants to go down: its leaderships shall move.
    pub wants_shutdown: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HeartbeatReply {
    Known {
        is_fenced: bool,
        may_shut_down: bool,
    },
    /// Another process has registered with this id since.
    StaleEpoch,
    NotController {
        controller: Option<BrokerId>,
    },
}
