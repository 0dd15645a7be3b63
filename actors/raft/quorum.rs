//! Quorum: this node's part in the raft group, and all that the rest of the broker knows of it: propose, the image, who
//! leads, the membership.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use capek_state::Refusal;
use capek_state::cluster::{Command, Decision, Image, Outcome, decide};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;
use openraft::{BasicNode, SnapshotPolicy};
use tokio::sync::{mpsc, oneshot, watch};

use super::applied::Applied;
use super::control_lane::{ControlLanes, LaneError};
use super::heartbeats::Heartbeats;
use super::log_store::{LogStore, LogStoreError};
use super::messages::{ControlRequest, ControlResponse, ProposeReply};
use super::muteness::{self, Muteness};
use super::network::Network;
use super::patient_file::Room;
use super::proposer::{self, Proposal};
use super::snapshot::SnapshotError;
use super::state_machine::StateMachine;
use super::succession::Succession;
use super::types::{Raft, broker_of, node_of};
use crate::request_metrics::ErrorCounts;

/// A command is decided, committed and published here within this, or whoever asked is told that it is not known.
pub const PROPOSE_DEADLINE: Duration = Duration::from_secs(8);
/// How long a command waits for a controller to be elected before it is refused: an election takes less.
const LEADER_PATIENCE: Duration = Duration::from_secs(3);
/// Before a command is taken to the controller again that did not want it.
const RETRY: Duration = Duration::from_millis(50);

/// A follower calls an election when it has heard nothing for ELECTION_MAX_MS and a random time between the two below: a busy
/// machine misses seven heartbeats before that.
const HEARTBEAT_MS: u64 = 100;
pub(super) const ELECTION_MIN_MS: u64 = 250;
pub(super) const ELECTION_MAX_MS: u64 = 500;
/// Entries since the last snapshot until the next.
const SNAPSHOT_ENTRIES: u64 = 5_000;
/// Entries that stay below a snapshot, so that a peer that was away shortly needs none.
const KEPT_ENTRIES: u64 = 1_000;
/// One piece of a snapshot on the wire.
const SNAPSHOT_PIECE_BYTES: u64 = 8 << 20;
const SNAPSHOT_DEADLINE_MS: u64 = 10_000;

/// Why this node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum QuorumError {
    #[error("{0}")]
    Log(#[from] LogStoreError),
    #[error("{0}")]
    Snapshot(#[from] SnapshotError),
    #[error("the quorum cannot be started: {0}")]
    Raft(String),
    #[error("{0}")]
    Refused(String),
}

/// Who is in the quorum and how far each is, as this node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuorumView {
    pub controller: Option<BrokerId>,
    pub term: u64,
    /// The next index of this node's log.
    pub log_end: u64,
    pub committed: u64,
    /// With the addresses of their peer listeners.
    pub voters: BTreeMap<BrokerId, String>,
    pub observers: BTreeMap<BrokerId, String>,
    /// On the leader: the next index of each replica.
    pub replicated: BTreeMap<BrokerId, u64>,
}

/// See the head of this file.
pub struct Quorum {
    me: BrokerId,
    raft: Raft,
    applied: Arc<Applied>,
    lanes: Arc<ControlLanes>,
    /// On the disk of its log.
    room: Room,
    proposals: mpsc::Sender<Proposal>,
    /// The place of the image that this broker acts on.
    published: watch::Sender<u64>,
    heartbeats: OnceLock<Arc<Heartbeats>>,
    succession: Succession,
    /// Since when no controller has answered this broker's heartbeats; None: the last one was answered.
    unheard_since: Mutex<Option<Instant>>,
    /// What was refused while this node led, a replaced broker's heartbeats too.
    pub refusals: Arc<ErrorCounts>,
    /// How often this node has become the controller.
    pub elections_won: AtomicU64,
}

impl Quorum {
    /// Starts raft on the current runtime, from what is in `directory`.
    pub async fn start(directory: &Path, me: BrokerId, lanes: Arc<ControlLanes>) -> Result<Arc<Self>, QuorumError> {
        let applied = Arc::new(Applied::default());
        let room = Room::default();
        let log = LogStore::open(&directory.join(super::LOG_FILE), &room)?;
        let machine = StateMachine::open(directory, applied.clone(), room.beside())?;
        room.begin_waiting();
        let muteness = Muteness::default();
        let network = Network::new(node_of(me), lanes.clone(), muteness.clone());
        let raft = Raft::new(node_of(me), Arc::new(raft_config()), network, log, machine).await;
        let raft = raft.map_err(|error| QuorumError::Raft(error.to_string()))?;
        tokio::spawn(muteness.watch(raft.clone()));
        let (proposals, queued) = mpsc::channel(proposer::QUEUED_MAX);
        let refusals = Arc::<ErrorCounts>::default();
        tokio::spawn(proposer::run(queued, raft.clone(), applied.clone(), room.clone(), refusals.clone()));
        let published = watch::Sender::new(0);
        let heartbeats = OnceLock::new();
        let elections_won = AtomicU64::new(0);
        Ok(Arc::new(Self {
            me,
            raft,
            applied,
            lanes,
            room,
            proposals,
            published,
            heartbeats,
            succession: Succession::default(),
            unheard_since: Mutex::default(),
            refusals,
            elections_won,
        }))
    }

    /// The group begins, with these voters. Every one of them may say so; it is done once.
    pub async fn begin(&self, voters: BTreeMap<BrokerId, String>) -> Result<(), QuorumError> {
        use openraft::error::InitializeError;
        let nodes: BTreeMap<u64, BasicNode> =
            voters.into_iter().map(|(broker, address)| (node_of(broker), BasicNode::new(address))).collect();
        match self.raft.initialize(nodes).await {
            Ok(()) => Ok(()),
            Err(error) if matches!(error.api_error(), Some(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(QuorumError::Raft(error.to_string())),
        }
    }

    pub fn id(&self) -> BrokerId {
        self.me
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.raft
    }

    /// As it is applied here; what is published may lag.
    pub fn image(&self) -> Arc<Image> {
        self.applied.image()
    }

    pub fn applied(&self) -> &Arc<Applied> {
        &self.applied
    }

    pub fn lanes(&self) -> &Arc<ControlLanes> {
        &self.lanes
    }

    /// This broker acts on the image of this place from now on.
    pub fn set_published(&self, place: u64) {
        self.published.send_replace(place);
    }

    pub fn published(&self) -> u64 {
        *self.published.borrow()
    }

    /// Who answers the heartbeats of brokers while this node leads.
    pub fn set_heartbeats(&self, heartbeats: Arc<Heartbeats>) {
        let _ = self.heartbeats.set(heartbeats);
    }

    pub(super) fn heartbeats(&self) -> Option<&Arc<Heartbeats>> {
        self.heartbeats.get()
    }

    pub(super) fn succession(&self) -> &Succession {
        &self.succession
    }

    pub fn has_log(&self) -> bool {
        self.raft.metrics().borrow().last_log_index.is_some()
    }

    /// As far as this node knows. While its log has no room it cannot be the controller, and does not learn who is.
    pub fn controller(&self) -> Option<BrokerId> {
        self.controller_by(self.raft.metrics().borrow().current_leader)
    }

    fn controller_by(&self, leader: Option<u64>) -> Option<BrokerId> {
        leader.map(broker_of).filter(|controller| *controller != self.me || !self.room.is_full())
    }

    /// Resolves when raft says that it is another than this, or that there is none any more.
    pub async fn controller_is_not(&self, known: Option<BrokerId>) {
        // An error says that raft is gone: then there is nothing to wait for.
        let _ = self.raft.metrics().wait_for(|metrics| self.controller_by(metrics.current_leader) != known).await;
    }

    pub fn is_controller(&self) -> bool {
        self.controller() == Some(self.me)
    }

    /// This broker's heartbeat was answered by a controller, or by nobody.
    pub fn note_heartbeat(&self, is_answered: bool) {
        let mut since = self.unheard_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = if is_answered { None } else { since.or_else(|| Some(Instant::now())) };
    }

    /// For how long no controller has answered this broker.
    pub fn unheard_for(&self) -> Duration {
        let since = self.unheard_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// For how long this broker has been the controller without hearing a majority.
    pub fn deaf_for(&self) -> Duration {
        muteness::deaf_for(&self.raft)
    }

    /// Resolves with why raft cannot go on.
    pub async fn failed(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(fatal) = &metrics.borrow_and_update().running_state {
                return fatal.to_string();
            }
            if metrics.changed().await.is_err() {
                return "raft's core is gone".to_owned();
            }
        }
    }

    pub async fn stop(&self) {
        self.room.give_up();
        // An error says that it has stopped already.
        let _ = self.raft.shutdown().await;
    }

    pub fn view(&self) -> QuorumView {
        let metrics = self.raft.metrics().borrow().clone();
        let membership = metrics.membership_config.membership();
        let voters: Vec<u64> = membership.voter_ids().collect();
        let mut view = QuorumView {
            controller: metrics.current_leader.map(broker_of),
            term: metrics.current_term,
            log_end: metrics.last_log_index.map_or(0, |index| index + 1),
            committed: metrics.last_applied.map_or(0, |log_id| log_id.index + 1),
            ..QuorumView::default()
        };
        for (node, address) in membership.nodes() {
            let kind = if voters.contains(node) { &mut view.voters } else { &mut view.observers };
            kind.insert(broker_of(*node), address.addr.clone());
        }
        for (node, log_id) in metrics.replication.iter().flatten() {
            view.replicated.insert(broker_of(*node), log_id.map_or(0, |log_id| log_id.index + 1));
        }
        view
    }

    /// What would [`Quorum::propose`] answer, going by what is applied here?
    pub fn validate(&self, command: &Command) -> Result<Decision, Refusal> {
        decide(&self.image(), command)
    }

    /// Decides the command here if this node leads, else takes it to who does. Answered when it is committed and this
    /// broker acts on it.
    pub async fn propose(&self, command: Command) -> Result<Outcome, Refusal> {
        self.propose_until(command, self.published.subscribe()).await
    }

    /// The same, before anything is published: answered when it is applied here.
    pub async fn propose_at_start(&self, command: Command) -> Result<Outcome, Refusal> {
        self.propose_until(command, self.applied.place()).await
    }

    async fn propose_until(&self, command: Command, mut place: watch::Receiver<u64>) -> Result<Outcome, Refusal> {
        let proposing = async {
            let (outcome, decided_at) = self.propose_until_decided(command).await?;
            // An error says that this broker is going down.
            let _ = place.wait_for(|place| *place >= decided_at).await;
            Ok(outcome)
        };
        tokio::time::timeout(PROPOSE_DEADLINE, proposing).await.unwrap_or_else(|_| Err(not_known()))
    }

    async fn propose_until_decided(&self, command: Command) -> Result<(Outcome, u64), Refusal> {
        let started = Instant::now();
        loop {
            match self.propose_once(&command).await {
                ProposeReply::Decided { outcome, place } => return Ok((outcome, place)),
                ProposeReply::Refused(refusal) => return Err(refusal),
                ProposeReply::Unknown => return Err(not_known()),
                ProposeReply::NotController { .. } if started.elapsed() < LEADER_PATIENCE => {
                    tokio::time::sleep(RETRY).await;
                }
                ProposeReply::NotController { .. } if self.room.is_full() => return Err(no_room()),
                ProposeReply::NotController { .. } => return Err(no_controller()),
            }
        }
    }

    async fn propose_once(&self, command: &Command) -> ProposeReply {
        match self.controller() {
            None => ProposeReply::NotController { controller: None },
            Some(controller) if controller == self.me => self.decide_here(command.clone()).await,
            Some(controller) => self.carry(controller, command).await,
        }
    }

    async fn carry(&self, controller: BrokerId, command: &Command) -> ProposeReply {
        let nobody = ProposeReply::NotController { controller: None };
        let Some(lane) = self.lane(controller) else { return nobody };
        let request = ControlRequest::Propose(Box::new(command.clone()));
        match lane.request(&request, PROPOSE_DEADLINE).await {
            Ok(ControlResponse::Propose(reply)) => reply,
            Ok(_) | Err(LaneError::NotSent(_)) => nobody,
            Err(_) => ProposeReply::Unknown,
        }
    }

    /// The lane to a member of the group.
    pub fn lane(&self, broker: BrokerId) -> Option<Arc<super::control_lane::ControlLane>> {
        let metrics = self.raft.metrics();
        let node = metrics.borrow().membership_config.membership().get_node(&node_of(broker)).cloned();
        node.map(|node| self.lanes.lane(broker, &node.addr)).or_else(|| self.lanes.find(broker))
    }

    /// Only if this node leads.
    pub async fn decide_here(&self, command: Command) -> ProposeReply {
        let (reply, replied) = oneshot::channel();
        match self.proposals.try_send(Proposal { command, reply }) {
            Ok(()) => replied.await.unwrap_or(ProposeReply::Unknown),
            Err(mpsc::error::TrySendError::Full(_)) => {
                let message = "the controller has too many commands to decide: try again";
                ProposeReply::Refused(Refusal::new(ErrorCode::ThrottlingQuotaExceeded, message))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => ProposeReply::NotController { controller: None },
        }
    }
}

fn not_known() -> Refusal {
    Refusal::new(ErrorCode::RequestTimedOut, "the controller has not confirmed the change in time; it may be made yet")
}

fn no_room() -> Refusal {
    let message = "this broker's metadata log has no room on its disk. Nothing was changed: try again, or ask another";
    Refusal::new(ErrorCode::NotController, message)
}

fn no_controller() -> Refusal {
    let message =
        "there is no controller: a majority of the quorum is not reached from this broker. Nothing was changed";
    Refusal::new(ErrorCode::NotController, message)
}

fn raft_config() -> openraft::Config {
    openraft::Config {
        cluster_name: "capek".to_owned(),
        heartbeat_interval: HEARTBEAT_MS,
        election_timeout_min: ELECTION_MIN_MS,
        election_timeout_max: ELECTION_MAX_MS,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEPT_ENTRIES,
        replication_lag_threshold: SNAPSHOT_ENTRIES + KEPT_ENTRIES,
        snapshot_max_chunk_size: SNAPSHOT_PIECE_BYTES,
        install_snapshot_timeout: SNAPSHOT_DEADLINE_MS,
        ..openraft::Config::default()
    }
}
