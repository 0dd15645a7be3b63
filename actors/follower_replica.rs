//! FollowerReplica: the copy of a partition that another broker leads, for one leader epoch.
//!
//! What a [`Peer`] fetches for it goes to the journal, in agreement with the leader's log as `state::partition::Follower` has
//! it; what is durable is reported back. A panic or a failed append starts it again from disk, in the same epoch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture,
};
use bytes::Bytes;
use capek_log::{Entry, Outcome};
use capek_state::partition::{Divergence, Fetched, FetchedRecords, Follower, FollowerEffect, FollowerStart};
use capek_wire::batch;
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset};
use capek_wire::peer::replication::{EpochEnd, FetchPosition, FetchedPartition};
use log::{error, info, warn};

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::journal::JournalHandle;
use crate::partition::{ConfigChanged, RoundDone, StopPartition};
use crate::peer::{Follow, FollowerReady, Peer, ReportFlushed, Unfollow};
use crate::peer_manager::{Join, PeerManager};
use crate::replication_quota::ReplicationQuota;
use crate::shared::{PartitionKey, PartitionShared};
use crate::supervision::{ExitSignal, Incarnation};

/// A follower asks for no more while so much of it waits for the disk.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
/// When the leader is not one yet, or not any more.
const RETRY_AFTER: Duration = Duration::from_millis(50);

/// A peer runs that can be asked for the leader's records, not faster than the quota lets whoever is throttled.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PeerStarted {
    pub peer: Addr<Peer>,
    pub quota: Arc<ReplicationQuota>,
}

/// The leader's answer.
#[derive(Message)]
#[rtype(result = "()")]
pub struct PartitionFetched {
    pub answer: FetchedPartition,
    pub records: Bytes,
}

pub struct FollowerReplica {
    shared: Arc<PartitionShared>,
    incarnation: Incarnation,
    leader: BrokerId,
    /// None until the log is open.
    follower: Option<Follower>,
    peer_manager: Addr<PeerManager>,
    peer: Option<Addr<Peer>>,
    quota: Option<Arc<ReplicationQuota>>,
    slot: Option<u32>,
    journal: JournalHandle,
    /// Handed to the journal and not durable: where each ends, and its bytes.
    in_flight: VecDeque<(Offset, usize)>,
    in_flight_bytes: usize,
    /// The next fetch waits for the disk.
    is_held_back: bool,
    /// It waits for the quota.
    pausing: Option<SpawnHandle>,
    effects: Vec<FollowerEffect>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<PartitionKey>,
}

/// What a new incarnation begins with.
pub struct FollowerReplicaStart {
    pub shared: Arc<PartitionShared>,
    pub incarnation: Incarnation,
    pub leader: BrokerId,
    pub peer_manager: Addr<PeerManager>,
    pub journal: JournalHandle,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<PartitionKey>,
}

impl FollowerReplica {
    pub fn new(start: FollowerReplicaStart) -> Self {
        Self {
            shared: start.shared,
            incarnation: start.incarnation,
            leader: start.leader,
            follower: None,
            peer_manager: start.peer_manager,
            peer: None,
            quota: None,
            slot: None,
            journal: start.journal,
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            is_held_back: false,
            pausing: None,
            effects: Vec::new(),
            entry: start.entry,
            exit: start.exit,
        }
    }

    fn epoch(&self) -> LeaderEpoch {
        self.shared.leader_epoch()
    }

    /// The log's last epoch is known.
    fn begin(&mut self, last_epoch: LeaderEpoch, context: &mut Context<Self>) {
        let log = &self.shared.log;
        let log_end = log.end_offset();
        let published = self.shared.high_watermark();
        let high_watermark = published.min(log_end);
        if high_watermark < published {
            // The last life had told of records whose append failed then, on a full disk for instance.
            self.shared.cut(high_watermark, log_end);
        }
        self.follower = Some(Follower::new(FollowerStart {
            epoch: self.epoch(),
            log_start: log.log_start(),
            log_end,
            flushed_end: log_end, // recovery, or the barrier before this start, has synced it
            last_epoch,
            high_watermark,
        }));
        self.peer_manager.do_send(Join {
            leader: self.leader,
            partition: (self.shared.key.topic_id, self.shared.key.partition),
            follower: context.address(),
        });
    }

    fn position(&self) -> FetchPosition {
        let follower = self.follower.as_ref().expect("nobody asks before the log is open");
        FetchPosition {
            slot: self.slot.unwrap_or_default(),
            fetch_offset: follower.log_end(),
            last_fetched_epoch: follower.last_epoch(),
            log_start: follower.log_start(),
        }
    }

    fn follow(&mut self, context: &mut Context<Self>) {
        let Some(peer) = &self.peer else { return };
        peer.do_send(Follow {
            topic_id: self.shared.key.topic_id,
            partition: self.shared.key.partition,
            leader_epoch: self.epoch(),
            position: self.position(),
            follower: context.address(),
        });
    }

    /// Tells the peer that this answer is dealt with, and where to go on if that is known.
    fn ready(&self, position: Option<FetchPosition>) {
        if let (Some(peer), Some(slot)) = (&self.peer, self.slot) {
            peer.do_send(FollowerReady { slot, leader_epoch: self.epoch(), position });
        }
    }

    fn fetched(&mut self, fetched: PartitionFetched, context: &mut Context<Self>) {
        self.slot = Some(fetched.answer.slot);
        let records = match check_records(&fetched.records) {
            Ok(records) => records,
            Err(problem) => return self.distrust(&problem, context),
        };
        let divergence = match self.divergence(fetched.answer.diverging) {
            Ok(divergence) => divergence,
            Err(error) => return self.fail(&format!("its epochs cannot be read: {error}"), context),
        };
        let FetchedPartition { leader_epoch, fetch_offset, error, high_watermark, log_start, .. } = fetched.answer;
        let word = Fetched {
            leader_epoch,
            fetch_offset,
            error,
            high_watermark,
            log_start,
            diverging: divergence,
            records: records.as_ref().map(|checked| checked.range),
        };
        let follower = self.follower.as_mut().expect("a peer answers only to who has asked");
        let base_offset = follower.log_end();
        follower.fetched(&word, &mut self.effects);
        if follower.agrees() {
            self.shared.set_agreed();
        }
        let is_behind = follower.log_end() < high_watermark;
        if let Some(quota) = self.throttling().filter(|_| is_behind) {
            quota.take(fetched.records.len());
        }
        self.carry_out(base_offset, records.map(|checked| (checked, fetched.records)), context);
    }

    fn divergence(&self, leader: Option<EpochEnd>) -> std::io::Result<Option<Divergence>> {
        let Some(leader) = leader else { return Ok(None) };
        let log = &self.shared.log;
        let (epoch, end_offset) = log.replica_epoch_end(leader.epoch, log.end_offset())?;
        Ok(Some(Divergence { leader, local: EpochEnd { epoch, end_offset } }))
    }

    fn carry_out(
        &mut self,
        base_offset: Offset,
        mut records: Option<(CheckedRecords, Bytes)>,
        context: &mut Context<Self>,
    ) {
        let mut position = None;
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                FollowerEffect::Append => {
                    let (checked, bytes) = records.take().expect("an answer with records is appended once");
                    self.append(base_offset, &checked, bytes);
                }
                FollowerEffect::Truncate { end_offset } => {
                    info!("{}: cutting the log back to {end_offset}, as its leader has it", self.shared.key);
                    self.cut(Entry::Truncate { log: self.shared.log.clone(), end_offset }, context);
                }
                FollowerEffect::Reset { log_start } => {
                    warn!("{}: the leader's log begins at {log_start}: starting over there", self.shared.key);
                    self.shared.producer_moments().begin_anew();
                    self.cut(Entry::LogStart { log: self.shared.log.clone(), offset: log_start }, context);
                }
                FollowerEffect::MoveLogStart { log_start } => {
                    self.journal.submit(Entry::LogStart { log: self.shared.log.clone(), offset: log_start });
                }
                FollowerEffect::AdvanceHighWatermark(high_watermark) => {
                    self.shared.advance_high_watermark(high_watermark);
                    self.shared.log.note_high_watermark(high_watermark);
                }
                FollowerEffect::ReportFlushed(end_offset) => self.report(end_offset),
                FollowerEffect::Fetch => position = Some(self.position()),
                FollowerEffect::FetchLater => {
                    context.run_later(RETRY_AFTER, |replica, context| replica.follow(context));
                }
                FollowerEffect::Fail(problem) => return self.distrust(problem, context),
            }
        }
        self.is_held_back = position.is_some() && self.in_flight_bytes > IN_FLIGHT_BYTES_MAX;
        let is_pausing = position.is_some() && !self.is_held_back && self.pauses(context);
        self.ready(position.filter(|_| !self.is_held_back && !is_pausing));
    }

    /// The quota, if this replica is one of the throttled.
    fn throttling(&self) -> Option<&ReplicationQuota> {
        let is_throttled = |quota: &&ReplicationQuota| {
            quota.is_for(&self.shared.config().follower_throttled, self.shared.key.partition)
        };
        self.quota.as_deref().filter(is_throttled)
    }

    /// Whether the next fetch waits for the quota; it is sent when the wait is over.
    fn pauses(&mut self, context: &mut Context<Self>) -> bool {
        let Some(pause) = self.throttling().and_then(ReplicationQuota::pause) else { return false };
        self.pausing = Some(context.run_later(pause, |replica, context| {
            replica.pausing = None;
            if !replica.pauses(context) {
                replica.ready(Some(replica.position()));
            }
        }));
        true
    }

    fn append(&mut self, base_offset: Offset, checked: &CheckedRecords, bytes: Bytes) {
        self.in_flight.push_back((checked.range.end_offset, bytes.len()));
        self.in_flight_bytes += bytes.len();
        self.journal.submit(Entry::Append {
            log: self.shared.log.clone(),
            incarnation: self.incarnation,
            leader_epoch: checked.range.last_epoch,
            base_offset: checked.range.base_offset.max(base_offset),
            end_offset: checked.range.end_offset,
            max_timestamp: checked.max_timestamp,
            batches: vec![bytes],
        });
    }

    /// A cut waits for what is queued before it, and the next fetch waits for the cut.
    fn cut(&mut self, entry: Entry, context: &mut Context<Self>) {
        self.journal.submit(entry);
        let (journal, log) = (self.journal.clone(), self.shared.log.clone());
        let done = async move {
            let drained = journal.drain(&log).await?;
            let last_epoch = tokio::task::spawn_blocking(move || log.latest_epoch()).await;
            Some((drained, last_epoch))
        };
        context.spawn(done.into_actor(self).map(|done, replica, context| match done {
            Some((log_end, Ok(Ok(last_epoch)))) => replica.cut_done(log_end, last_epoch.unwrap_or(-1)),
            Some((_, Ok(Err(error)))) => replica.fail(&format!("its log cannot be read: {error}"), context),
            Some((_, Err(error))) => panic!("reading the epochs panicked: {error}"),
            None => {} // the journal has ended, and the broker hears of that on its own
        }));
    }

    fn cut_done(&mut self, log_end: Offset, last_epoch: LeaderEpoch) {
        self.in_flight.clear();
        self.in_flight_bytes = 0;
        let log_start = self.shared.log.log_start();
        if let Some(follower) = &mut self.follower {
            follower.truncated(log_start, log_end, last_epoch, &mut self.effects);
            self.shared.cut(follower.high_watermark(), log_end);
        }
        self.effects.clear(); // what it asks for is said by `ready`
        self.ready(Some(self.position()));
    }

    fn flushed(&mut self, end_offset: Offset) {
        while let Some((_, bytes)) = self.in_flight.front().copied().filter(|(end, _)| *end <= end_offset) {
            self.in_flight_bytes -= bytes;
            self.in_flight.pop_front();
        }
        self.shared.set_written_end(end_offset);
        self.shared.wake_waiters(); // what was known to be committed can be read only now
        if let Some(follower) = &mut self.follower {
            follower.flushed(end_offset, &mut self.effects);
        }
        for effect in std::mem::take(&mut self.effects) {
            if let FollowerEffect::ReportFlushed(end_offset) = effect {
                self.report(end_offset);
            }
        }
        if self.is_held_back && self.in_flight_bytes <= IN_FLIGHT_BYTES_MAX / 2 {
            self.is_held_back = false;
            self.ready(Some(self.position()));
        }
    }

    fn report(&self, end_offset: Offset) {
        if let (Some(peer), Some(slot)) = (&self.peer, self.slot) {
            peer.do_send(ReportFlushed { slot, leader_epoch: self.epoch(), end_offset });
        }
    }

    /// What came is not what a leader's log has: ask for it again from what is on the disk.
    fn distrust(&mut self, problem: &str, context: &mut Context<Self>) {
        self.fail(&format!("what broker {} sent is refused: {problem}", self.leader), context);
    }

    fn fail(&mut self, problem: &str, context: &mut Context<Self>) {
        error!("{}: {problem}", self.shared.key);
        self.exit.give_up();
        context.stop();
    }
}

/// Records whose headers and checksums were looked at.
struct CheckedRecords {
    range: FetchedRecords,
    max_timestamp: i64,
}

/// Every batch is whole, sound, and begins where the one before ends, or behind it. None: there are no records.
fn check_records(records: &Bytes) -> Result<Option<CheckedRecords>, String> {
    let mut checked: Option<CheckedRecords> = None;
    let mut rest = &records[..];
    while !rest.is_empty() {
        let header = batch::BatchHeader::parse(rest).map_err(|error| error.to_string())?;
        let Some(whole) = rest.get(..header.size_bytes()) else {
            return Err(format!("the batch at {} is cut short", header.base_offset));
        };
        batch::check(whole).map_err(|error| format!("the batch at {}: {error}", header.base_offset))?;
        let range = FetchedRecords {
            base_offset: header.base_offset,
            end_offset: header.next_offset(),
            last_epoch: header.leader_epoch,
        };
        match &mut checked {
            None => checked = Some(CheckedRecords { range, max_timestamp: header.max_timestamp }),
            Some(known) => {
                if range.base_offset < known.range.end_offset || range.last_epoch < known.range.last_epoch {
                    return Err(format!("the batch at {} does not follow the one before", header.base_offset));
                }
                known.range = FetchedRecords { base_offset: known.range.base_offset, ..range };
                known.max_timestamp = known.max_timestamp.max(header.max_timestamp);
            }
        }
        rest = &rest[header.size_bytes()..];
    }
    Ok(checked)
}

impl Actor for FollowerReplica {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.incarnation, Some(context.address().recipient()));
        self.shared.log.announce_writes(false);
        // A log that nobody has used yet is opened by this, and that is work for the pool.
        let log = self.shared.log.clone();
        let opened = async move { tokio::task::spawn_blocking(move || log.latest_epoch()).await };
        context.spawn(opened.into_actor(self).map(|opened, replica, context| match opened {
            Ok(Ok(last_epoch)) => replica.begin(last_epoch.unwrap_or(-1), context),
            Ok(Err(error)) => replica.fail(&format!("its log cannot be read: {error}"), context),
            Err(error) => panic!("reading the epochs panicked: {error}"),
        }));
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        if let Some(peer) = &self.peer {
            peer.do_send(Unfollow {
                topic_id: self.shared.key.topic_id,
                partition: self.shared.key.partition,
                leader_epoch: self.epoch(),
            });
        }
    }
}

impl Handler<PeerStarted> for FollowerReplica {
    type Result = ();

    fn handle(&mut self, started: PeerStarted, context: &mut Self::Context) {
        self.peer = Some(started.peer);
        self.quota = Some(started.quota);
        self.slot = None;
        if let Some(pausing) = self.pausing.take() {
            context.cancel_future(pausing);
        }
        if let Some(follower) = &mut self.follower {
            follower.reconnected();
        }
        self.follow(context);
    }
}

impl Handler<PartitionFetched> for FollowerReplica {
    type Result = ();

    fn handle(&mut self, fetched: PartitionFetched, context: &mut Self::Context) {
        self.fetched(fetched, context);
    }
}

impl Handler<RoundDone> for FollowerReplica {
    type Result = ();

    fn handle(&mut self, done: RoundDone, context: &mut Self::Context) {
        match done.outcome {
            Outcome::Flushed { end_offset } if done.incarnation == self.incarnation => self.flushed(end_offset),
            Outcome::AppendFailed { error, .. } if done.incarnation == self.incarnation => {
                error!("{}: an append failed: {error}", self.shared.key);
                self.exit.ask_for_refresh();
                context.stop();
            }
            Outcome::LogStartDurable { .. } => self.shared.wake_waiters(),
            _ => {}
        }
    }
}

impl Handler<ConfigChanged> for FollowerReplica {
    type Result = ();

    fn handle(&mut self, _: ConfigChanged, _: &mut Self::Context) {
        let config = crate::replica_manager::log_config(&self.shared.config());
        self.journal.submit(Entry::Configure { log: self.shared.log.clone(), config });
    }
}

impl Handler<StopPartition> for FollowerReplica {
    type Result = ();

    fn handle(&mut self, _: StopPartition, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Chaos> for FollowerReplica {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
