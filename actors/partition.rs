//! Partition: the leader replica of one partition, for one leader epoch.
//!
//! Its mailbox only gathers. When a drain of the mailbox is over, everything gathered is admitted by `state::partition::Leader`,
//! patched in place and handed to the journal as one entry; the journal's answer advances the high watermark and releases the
//! parked replies. Fetches do not come here: they read [`PartitionShared`].
//!
//! A panic drops this actor: what it had gathered or parked answers by the drop of its `AppendReply`s, the journal drains, and
//! ReplicaManager starts the next incarnation from disk at the same leader epoch.

mod in_sync;
mod keyed;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use bytes::{Bytes, BytesMut};
use capek_log::{Entry, Outcome};
use capek_state::config::TimestampType;
use capek_state::partition::{
    AdmitContext, Admitted, Effect, Leader, LeaderStart, ProducerBatch, ReplicaSet, ReplyId, Trim, Wait, check_bytes,
    check_keys, check_timestamps, convert, timestamp_errors,
};
use capek_wire::batch;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use log::{Level, debug, error, log};

use crate::append_entry::{RoundEntry, producer_batch, records_refused, refused};
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::clock::now_ms;
use crate::in_sync_proposer::ProposerHandle;
use crate::journal::JournalHandle;
pub use crate::partition_messages::*;
use crate::produce::{Acks, AppendReply, PartitionAnswer};
use crate::shared::{PartitionKey, PartitionShared};
use crate::supervision::{ExitSignal, Incarnation};
use crate::traffic::Produced;
use in_sync::in_sync_min;

struct ParkedReply {
    base_offset: Offset,
    log_append_time_ms: i64,
    reply: AppendReply,
}

struct LogStartWait {
    offset: Offset,
    reply: tokio::sync::oneshot::Sender<Result<Offset, ErrorCode>>,
}

pub struct Partition {
    shared: Arc<PartitionShared>,
    incarnation: Incarnation,
    leader: Leader,
    /// The idempotent producers' last batches are read before the first append.
    has_producers: bool,
    is_loading: bool,
    replica_count: i32,
    lag_max_ms: i64,
    proposer: Option<ProposerHandle>,
    journal: JournalHandle,
    entry: Arc<ActorEntry>,
    gathered: Vec<Append>,
    /// Parked replies; the first has the id `first_parked`. A place is empty once its reply has gone.
    parked: VecDeque<Option<ParkedReply>>,
    first_parked: u64,
    log_start_waits: VecDeque<LogStartWait>,
    log_end_waits: Vec<tokio::sync::oneshot::Sender<Offset>>,
    describe_waits: Vec<DescribeProducers>,
    find_waits: Vec<FindKeyed>,
    /// When idle producers are forgotten again.
    expire_producers_at_ms: i64,
    effects: Vec<Effect>,
    exit: ExitSignal<PartitionKey>,
}

/// What a new incarnation begins with.
pub struct PartitionStart {
    pub shared: Arc<PartitionShared>,
    pub incarnation: Incarnation,
    pub replicas: ReplicaSet,
    pub lag_max_ms: i64,
    /// Where in-sync sets are proposed; None where the controller is not to be reached.
    pub proposer: Option<ProposerHandle>,
    pub journal: JournalHandle,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<PartitionKey>,
}

impl Partition {
    pub fn new(start: PartitionStart) -> Self {
        let replica_count = start.replicas.replicas.len() as i32;
        let leader = leader(&start.shared, start.replicas);
        Self {
            shared: start.shared,
            incarnation: start.incarnation,
            leader,
            has_producers: false,
            is_loading: false,
            replica_count,
            lag_max_ms: start.lag_max_ms,
            proposer: start.proposer,
            journal: start.journal,
            entry: start.entry,
            gathered: Vec::new(),
            parked: VecDeque::new(),
            first_parked: 0,
            log_start_waits: VecDeque::new(),
            log_end_waits: Vec::new(),
            describe_waits: Vec::new(),
            find_waits: Vec::new(),
            expire_producers_at_ms: 0,
            effects: Vec::new(),
            exit: start.exit,
        }
    }

    /// One entry for the journal from all that a drain of the mailbox brought.
    fn append_gathered(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        self.entry.mailbox.fetch_sub(gathered.len() as i64, Ordering::Relaxed);
        let config = self.shared.config();
        let now_ms = now_ms();
        self.expire_producers(config.producer_id_expiration_ms, now_ms);
        let mut entry = RoundEntry::with_capacity(gathered.len());
        let mut produced = Produced { requests: gathered.len() as u64, ..Produced::default() };
        for append in gathered {
            let context = AdmitContext {
                now_ms,
                config: &config,
                acks: append.acks.to_wire(),
                accepts_zstd: append.is_zstd_allowed,
            };
            self.admit(append, &context, &mut entry, &mut produced);
        }
        self.shared.traffic.produced(&produced);
        if let Some(base_offset) = entry.base_offset {
            self.journal.submit(Entry::Append {
                log: self.shared.log.clone(),
                incarnation: self.incarnation,
                leader_epoch: self.leader.epoch(),
                base_offset,
                end_offset: self.leader.log_end(),
                max_timestamp: entry.max_timestamp,
                batches: entry.batches,
            });
            self.leader.submitted(now_ms);
        }
        self.entry.parked.store(self.parked.len() as u64, Ordering::Relaxed);
    }

    fn expire_producers(&mut self, expiration_ms: i64, now_ms: i64) {
        if now_ms >= self.expire_producers_at_ms {
            self.expire_producers_at_ms = now_ms.saturating_add(PRODUCER_CHECK_MS.min(expiration_ms));
            self.leader.set_producer_expiration_ms(expiration_ms);
            self.leader.set_new_producers(self.shared.producer_moments().new_producers(now_ms, expiration_ms));
            self.leader.expire_producers(now_ms);
        }
    }

    /// Refuses a batch, or gives it its place in the log and parks its reply.
    fn admit(
        &mut self,
        mut append: Append,
        context: &AdmitContext<'_>,
        entry: &mut RoundEntry,
        produced: &mut Produced,
    ) {
        let batch = &append.batch[..];
        let checked = self.check_count(append.partition_count).and_then(|()| {
            let header = check_bytes(batch, context).map_err(refused)?;
            if context.config.cleanup_policy.compact {
                check_keys(Bytes::copy_from_slice(batch), INFLATED_BYTES_MAX, &self.shared.key)
                    .map_err(records_refused)?;
            }
            if context.config.timestamp_before_max_ms != i64::MAX {
                check_timestamps(Bytes::copy_from_slice(batch), INFLATED_BYTES_MAX, context)
                    .map_err(records_refused)?;
            }
            let converted = convert(&header, batch, INFLATED_BYTES_MAX, context).map_err(refused)?;
            let admitted = self.leader.admit(&header, context).map_err(|refusal| {
                let mut answer = refused(refusal);
                if answer.error == ErrorCode::InvalidTimestamp {
                    answer.record_errors = timestamp_errors(Bytes::copy_from_slice(batch), INFLATED_BYTES_MAX, context);
                }
                answer
            })?;
            Ok((header, converted, admitted))
        });
        let admitted = match checked {
            Ok(admitted) => admitted,
            Err(answer) => {
                debug!("{}: refused a batch: {}", self.shared.key, answer.error);
                produced.failures += 1;
                return append.reply.answer(answer);
            }
        };
        append.reply.handed_to_journal();
        match admitted {
            (_, _, Admitted::Duplicate { base_offset, end_offset, log_append_time_ms }) => {
                let parked = ParkedReply { base_offset, log_append_time_ms, reply: append.reply };
                self.park(parked, end_offset, append.acks);
            }
            (header, converted, Admitted::Append { base_offset, end_offset }) => {
                if let Some(converted) = converted {
                    append.batch = BytesMut::from(&converted[..]);
                }
                batch::patch(&mut append.batch, base_offset, self.leader.epoch());
                produced.records += (end_offset - base_offset).unsigned_abs();
                produced.bytes += append.batch.len() as u64;
                let mut log_append_time_ms = -1;
                if context.config.message_timestamp_type == TimestampType::LogAppendTime {
                    batch::set_log_append_time(&mut append.batch, context.now_ms);
                    log_append_time_ms = context.now_ms;
                }
                entry.push(base_offset, header.max_timestamp.max(log_append_time_ms), append.batch.freeze());
                if append.acks == Acks::None {
                    append.reply.answer(self.stored(base_offset, log_append_time_ms));
                } else {
                    let parked = ParkedReply { base_offset, log_append_time_ms, reply: append.reply };
                    self.park(parked, end_offset, append.acks);
                }
            }
        }
    }

    fn park(&mut self, parked: ParkedReply, end_offset: Offset, acks: Acks) {
        let id = self.first_parked + self.parked.len() as u64;
        self.parked.push_back(Some(parked));
        let wait = if acks == Acks::All { Wait::Committed } else { Wait::Flushed };
        if !self.leader.park(end_offset, ReplyId(id), wait) {
            self.release(id);
        }
    }

    fn stored(&self, base_offset: Offset, log_append_time_ms: i64) -> PartitionAnswer {
        PartitionAnswer {
            error: ErrorCode::None,
            message: None,
            base_offset,
            log_append_time_ms,
            log_start_offset: self.shared.log_start(),
            record_errors: Vec::new(),
        }
    }

    fn carry_out(&mut self) {
        for effect in std::mem::take(&mut self.effects) {
            match effect {
                Effect::AdvanceHighWatermark(high_watermark) => self.publish_high_watermark(high_watermark),
                Effect::ProposeInSync { members, partition_epoch } => self.propose(members, partition_epoch),
                Effect::Reply(ReplyId(id)) => self.release(id),
                Effect::Refuse(ReplyId(id), code) => {
                    if let Some(parked) = self.take_parked(id) {
                        parked.reply.answer(PartitionAnswer::error(code));
                    }
                }
            }
        }
        self.entry.parked.store(self.parked.len() as u64, Ordering::Relaxed);
    }

    fn publish_high_watermark(&self, high_watermark: Offset) {
        self.shared.advance_high_watermark(high_watermark);
        if self.replica_count > 1 {
            self.shared.log.note_high_watermark(high_watermark);
        }
    }

    fn release(&mut self, id: u64) {
        if let Some(parked) = self.take_parked(id) {
            let answer = self.stored(parked.base_offset, parked.log_append_time_ms);
            parked.reply.answer(answer);
        }
    }

    fn take_parked(&mut self, id: u64) -> Option<ParkedReply> {
        let index = usize::try_from(id.checked_sub(self.first_parked)?).ok()?;
        let parked = self.parked.get_mut(index)?.take();
        // Replies nearly always leave in the order they came: a duplicate's may overtake.
        while matches!(self.parked.front(), Some(None)) {
            self.parked.pop_front();
            self.first_parked += 1;
        }
        parked
    }

    /// An append could not be written, and the journal has cut the log back: the next incarnation begins at its end.
    fn fail(&mut self, end_offset: Offset, context: &mut Context<Self>) {
        self.leader.append_failed(end_offset, &mut self.effects);
        self.carry_out();
        self.exit.ask_for_refresh();
        context.stop();
    }

    /// The idempotent producers' last batches are read from the log before the first append, not at start: thousands of
    /// partitions start at once, and most of them idle.
    fn load_producers(&mut self, context: &mut Context<Self>) {
        self.is_loading = true;
        let shared = self.shared.clone();
        let loaded = async move { tokio::task::spawn_blocking(move || shared.log.producer_batches()).await };
        context.spawn(loaded.into_actor(self).map(|loaded, partition, context| match loaded {
            Ok(Ok(batches)) => partition.recover(batches.into_iter().map(producer_batch)),
            Ok(Err(error)) => {
                error!("{}: cannot read the producers' last batches: {error}", partition.shared.key);
                partition.gathered.clear();
                partition.exit.give_up();
                context.stop();
            }
            Err(error) => panic!("reading the producers' last batches panicked: {error}"),
        }));
    }

    fn recover(&mut self, producers: impl Iterator<Item = ProducerBatch>) {
        self.is_loading = false;
        self.has_producers = true;
        self.leader.recover_producers(producers);
        for wait in std::mem::take(&mut self.describe_waits) {
            // The caller may have given up waiting.
            let _ = wait.reply.send(self.leader.producers().collect());
        }
        self.append_gathered();
        self.answer_log_ends();
        self.answer_finds();
    }

    /// While batches are gathered the end is not known.
    fn answer_log_ends(&mut self) {
        if !self.gathered.is_empty() || self.log_end_waits.is_empty() {
            return;
        }
        let end_offset = self.leader.log_end();
        for reply in self.log_end_waits.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(end_offset);
        }
    }
}

/// The leader of a log that recovery, or the barrier before a restart, has synced.
fn leader(shared: &PartitionShared, replicas: ReplicaSet) -> Leader {
    let log_end = shared.log.end_offset();
    let proposed = shared.proposed(replicas.partition_epoch).map_or(Vec::new(), |proposed| proposed.members);
    Leader::new(LeaderStart {
        epoch: shared.leader_epoch(),
        proposed: proposed.into_iter().map(|(member, _)| member).collect(),
        in_sync_min: in_sync_min(shared, replicas.replicas.len() as i32),
        replicas,
        now_ms: now_ms(),
        log_start: shared.log.log_start(),
        epoch_start: shared.epoch_start().min(log_end),
        log_end,
        flushed_end: log_end,
        high_watermark: shared.high_watermark().min(log_end),
        producers: [],
    })
}

/// Kafka's `producer.id.expiration.check.interval.ms`.
pub const PRODUCER_CHECK_MS: i64 = 10 * 60 * 1000;

/// How far a batch may inflate while its records are looked at, which happens only for refusals and in topics that are
/// compacted, have a codec of their own, or say how old a record may be.
const INFLATED_BYTES_MAX: usize = 16 << 20;

/// Polled by actix after each drain of the mailbox; never ready.
struct Gather;

impl ActorFuture<Partition> for Gather {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        partition: &mut Partition,
        context: &mut Context<Partition>,
        _: &mut TaskContext<'_>,
    ) -> Poll<()> {
        if !partition.gathered.is_empty() || !partition.find_waits.is_empty() {
            if partition.has_producers {
                partition.append_gathered();
            } else if !partition.is_loading {
                partition.load_producers(context);
            }
        }
        partition.answer_log_ends();
        partition.answer_finds();
        Poll::Pending
    }
}

impl Actor for Partition {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.incarnation, Some(context.address().recipient()));
        self.shared.log.announce_writes(self.replica_count > 1);
        // What an earlier incarnation had under way is synced by now: readers need not wait for the next append to see it.
        self.shared.set_written_end(self.leader.log_end());
        if self.shared.high_watermark() < self.leader.high_watermark() {
            self.publish_high_watermark(self.leader.high_watermark());
        }
        if self.replica_count > 1 {
            if let Some(proposed) = self.shared.proposed(self.leader.partition_epoch()) {
                self.propose(proposed.members, proposed.partition_epoch);
            }
            self.take_reports();
        }
        context.spawn(Gather);
    }
}

impl Handler<Append> for Partition {
    type Result = ();

    fn handle(&mut self, append: Append, _: &mut Self::Context) {
        self.gathered.push(append);
    }
}

impl Handler<RoundDone> for Partition {
    type Result = ();

    fn handle(&mut self, done: RoundDone, context: &mut Self::Context) {
        if done.incarnation != self.incarnation && !matches!(done.outcome, Outcome::LogStartDurable { .. }) {
            return; // an earlier incarnation's append: its replies are answered already
        }
        match done.outcome {
            Outcome::Written { end_offset } => self.shared.set_written_end(end_offset),
            Outcome::Flushed { end_offset } => {
                if self.replica_count > 1 {
                    self.shared.set_written_end(end_offset); // of an async log nothing else says so
                }
                self.leader.flushed(end_offset, &mut self.effects);
                self.carry_out();
            }
            Outcome::AppendFailed { end_offset, error } => {
                let log_end = self.shared.log.end_offset();
                let level = if self.shared.is_time_to_tell_of_failure(now_ms()) { Level::Error } else { Level::Debug };
                log!(level, "{}: an append failed, the log ends at {log_end}: {error}", self.shared.key);
                self.fail(end_offset, context);
            }
            Outcome::LogStartDurable { offset } => {
                self.leader.log_start_moved(offset);
                while self.log_start_waits.front().is_some_and(|wait| wait.offset <= offset) {
                    if let Some(wait) = self.log_start_waits.pop_front() {
                        // The caller may have given up waiting.
                        let _ = wait.reply.send(Ok(offset));
                    }
                }
                self.shared.wake_waiters();
            }
            Outcome::Truncated
            | Outcome::Deleted
            | Outcome::Swapped
            | Outcome::SwapRefused
            | Outcome::Drained { .. } => {}
        }
    }
}

impl Handler<AdvanceLogStart> for Partition {
    type Result = ();

    fn handle(&mut self, advance: AdvanceLogStart, _: &mut Self::Context) {
        let trim = self.leader.trim(advance.offset);
        // The caller may have given up waiting: an answer that nobody takes is no error.
        match trim {
            Err(refusal) => drop(advance.reply.send(Err(refusal.code))),
            Ok(Trim::Done { log_start }) => drop(advance.reply.send(Ok(log_start))),
            Ok(Trim::Move { log_start }) => {
                self.log_start_waits.push_back(LogStartWait { offset: log_start, reply: advance.reply });
                self.journal.submit(Entry::LogStart { log: self.shared.log.clone(), offset: log_start });
            }
        }
    }
}

impl Handler<LogEnd> for Partition {
    type Result = ();

    fn handle(&mut self, asked: LogEnd, _: &mut Self::Context) {
        self.log_end_waits.push(asked.reply);
    }
}

impl Handler<DescribeProducers> for Partition {
    type Result = ();

    fn handle(&mut self, describe: DescribeProducers, context: &mut Self::Context) {
        if self.has_producers {
            // The caller may have given up waiting.
            let _ = describe.reply.send(self.leader.producers().collect());
            return;
        }
        self.describe_waits.push(describe);
        if !self.is_loading {
            self.load_producers(context);
        }
    }
}

impl Handler<ConfigChanged> for Partition {
    type Result = ();

    fn handle(&mut self, _: ConfigChanged, _: &mut Self::Context) {
        self.leader.set_in_sync_min(in_sync_min(&self.shared, self.replica_count), &mut self.effects);
        self.carry_out();
        let config = crate::replica_manager::log_config(&self.shared.config());
        self.journal.submit(Entry::Configure { log: self.shared.log.clone(), config });
    }
}

impl Handler<StopPartition> for Partition {
    type Result = ();

    fn handle(&mut self, _: StopPartition, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Chaos> for Partition {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
