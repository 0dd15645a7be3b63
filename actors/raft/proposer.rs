//! The one place where commands become entries: while this node leads, one batch at a time.
//!
//! ```text
//!   queued commands ─▶ decided one after the other on a speculative image ─▶ one entry ─▶ committed and applied ─▶ answers
//! ```
//!
//! A batch that was decided on an image that has moved on is not applied (its base does not fit) and is decided again. One
//! that changes nothing is answered only when a majority has confirmed that this node still leads.

use std::sync::Arc;
use std::time::Duration;

use capek_state::cluster::{Command, Image, Outcome, decide};
use capek_state::{Refusal, cluster::Record};
use capek_wire::ids::BrokerId;
use log::warn;
use openraft::ServerState;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::applied::Applied;
use super::messages::ProposeReply;
use super::patient_file::Room;
use super::types::{MetadataEntry, Raft, broker_of};
use crate::request_metrics::ErrorCounts;

/// Commands that wait to be decided; beyond it they are refused.
pub const QUEUED_MAX: usize = 1024;
/// Commands of one entry.
const BATCH_MAX: usize = 128;
/// Records of one entry, but for a single command that makes more.
const BATCH_RECORDS_MAX: usize = 10_000;
/// How often a batch is decided again because the image moved on under it (only a change of leaders does that).
const TRIES_MAX: usize = 5;
/// A majority answers within this, or whoever asked is told that it is not known.
const COMMIT_DEADLINE: Duration = Duration::from_secs(5);
/// Longer than this without a word from a majority: this node does not lead any more, it only does not know.
pub const LEASE: Duration = Duration::from_millis(1500);

/// A command, and who wants to know.
pub struct Proposal {
    pub command: Command,
    pub reply: oneshot::Sender<ProposeReply>,
}

/// Decides what comes until all senders are gone.
pub async fn run(
    mut proposals: mpsc::Receiver<Proposal>,
    raft: Raft,
    applied: Arc<Applied>,
    room: Room,
    refusals: Arc<ErrorCounts>,
) {
    while let Some(first) = proposals.recv().await {
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX
            && let Ok(next) = proposals.try_recv()
        {
            batch.push(next);
        }
        decide_batch(batch, &raft, &applied, &room, &refusals).await;
    }
}

/// What was decided for a batch, or for as much of it as one entry takes.
struct Decided {
    base: u64,
    records: Arc<[Record]>,
    outcomes: Vec<Result<Outcome, Refusal>>,
}

/// What became of an entry.
enum Committed {
    At(u64),
    /// The image moved on: decide again.
    Stale,
    NotController(Option<BrokerId>),
    Unknown,
}

async fn decide_batch(mut batch: Vec<Proposal>, raft: &Raft, applied: &Applied, room: &Room, refusals: &ErrorCounts) {
    let mut tries = 0;
    while !batch.is_empty() {
        // Whoever lost patience before anything was tried wants it no more.
        batch.retain(|proposal| !proposal.reply.is_closed());
        let committed = match not_leading(raft, room) {
            Some(controller) => Committed::NotController(controller),
            None => {
                let decided = decide_all(&batch, &applied.image());
                let committed = commit(&decided, raft, applied).await;
                if let Committed::At(place) = committed {
                    let done = batch.drain(..decided.outcomes.len());
                    for (proposal, outcome) in done.zip(decided.outcomes) {
                        if let Err(refusal) = &outcome {
                            refusals.add(refusal.code);
                        }
                        answer(proposal, outcome, place);
                    }
                    tries = 0;
                    continue;
                }
                committed
            }
        };
        tries += 1;
        let reply = match committed {
            Committed::Stale if tries < TRIES_MAX => continue,
            Committed::NotController(controller) => ProposeReply::NotController { controller },
            Committed::At(_) | Committed::Stale | Committed::Unknown => ProposeReply::Unknown,
        };
        for proposal in batch.drain(..) {
            let _ = proposal.reply.send(reply.clone());
        }
    }
}

fn answer(proposal: Proposal, outcome: Result<Outcome, Refusal>, place: u64) {
    let reply = match outcome {
        Ok(outcome) => ProposeReply::Decided { outcome, place },
        Err(refusal) => ProposeReply::Refused(refusal),
    };
    // Nobody listens any more when the deadline has passed.
    let _ = proposal.reply.send(reply);
}

/// Some: another leads (if one is known), or nobody has confirmed for a while that this node does.
fn not_leading(raft: &Raft, room: &Room) -> Option<Option<BrokerId>> {
    if room.is_full() {
        // What raft says of itself is from before it began to wait.
        return Some(None);
    }
    let metrics = raft.metrics();
    let metrics = metrics.borrow();
    if metrics.state != ServerState::Leader {
        return Some(metrics.current_leader.filter(|leader| *leader != metrics.id).map(broker_of));
    }
    let is_alone = metrics.millis_since_quorum_ack.is_some_and(|ms| u128::from(ms) > LEASE.as_millis());
    is_alone.then_some(None)
}

fn decide_all(batch: &[Proposal], image: &Image) -> Decided {
    let (mut records, mut outcomes) = (Vec::new(), Vec::new());
    let mut speculative = image.clone();
    for proposal in batch {
        if records.len() >= BATCH_RECORDS_MAX {
            break;
        }
        outcomes.push(decide(&speculative, &proposal.command).map(|decision| {
            decision.warnings.iter().for_each(|warning| warn!("{warning}"));
            decision.records.iter().for_each(|record| speculative.apply(record));
            records.extend(decision.records);
            decision.outcome
        }));
    }
    Decided { base: image.records_applied(), records: records.into(), outcomes }
}

async fn commit(decided: &Decided, raft: &Raft, applied: &Applied) -> Committed {
    let committing = async {
        if decided.records.is_empty() {
            return confirm(decided.base, raft, applied).await;
        }
        let entry = MetadataEntry { base: decided.base, records: decided.records.clone() };
        match raft.client_write(entry).await {
            Ok(written) if written.data.is_accepted => Committed::At(written.data.records_applied),
            Ok(_) => Committed::Stale,
            // It may have been appended before the leadership was lost, and be committed by the next leader.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_))) => Committed::Unknown,
            Err(_) => Committed::Unknown,
        }
    };
    tokio::time::timeout(COMMIT_DEADLINE, committing).await.unwrap_or(Committed::Unknown)
}

/// Nothing changes; but is the image that says so still the newest?
async fn confirm(base: u64, raft: &Raft, applied: &Applied) -> Committed {
    match raft.ensure_linearizable().await {
        Ok(_) if applied.image().records_applied() == base => Committed::At(base),
        Ok(_) => Committed::Stale,
        Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward))) => {
            Committed::NotController(forward.leader_id.map(broker_of))
        }
        Err(_) => Committed::NotController(None),
    }
}
