//! Partition: the leader replica of one partition, for one leader epoch.
//!
//! Its mailbox only gathers. When a drain of the mailbox is over, everything gathered is admitted by `state::partition::Leader`,
//! patched in place and handed to the journal as one entry; the journal's answer advances the high watermark and releases the
//! parked replies. Fetches do not come here: they read [`PartitionShared`].
//!
//! A panic drops this actor: what it had gathered or parked answers by the drop of its `AppendReply`s, the journal drains, and
//! ReplicaManager starts the next incarnation from disk at the same leader epoch.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use bytes::{Bytes, BytesMut};
use capek_log::{Entry, Outcome};
use capek_state::Refusal;
use capek_state::config::TimestampType;
use capek_state::partition::{
    AdmitContext, Admitted, Effect, Leader, LeaderStart, ProducerBatch, RecordsRefused, ReplyId, Trim, check_bytes,
    check_keys, timestamp_errors,
};
use capek_wire::batch;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use log::{debug, error};

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::clock::now_ms;
use crate::journal::JournalHandle;
use crate::produce::{Acks, AppendReply, PartitionAnswer};
use crate::shared::{PartitionKey, PartitionShared};
use crate::supervision::{ExitSignal, Incarnation};

/// Append one batch. The answer comes through `reply`: when it is durable, or why it is not.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Append {
    pub batch: BytesMut,
    pub acks: Acks,
    /// Produce below version 7 may not carry zstd.
    pub is_zstd_allowed: bool,
    pub reply: AppendReply,
}

/// Move the log start to `offset`; -1 means the high watermark. Answered when it is durable, with the new low watermark.
#[derive(Message)]
#[rtype(result = "()")]
pub struct AdvanceLogStart {
    pub offset: Offset,
    pub reply: tokio::sync::oneshot::Sender<Result<Offset, ErrorCode>>,
}

/// Where does the log end when everything that was sent here before is in it, or refused?
#[derive(Message)]
#[rtype(result = "()")]
pub struct LogEnd {
    pub reply: tokio::sync::oneshot::Sender<Offset>,
}

/// Which producers does the partition remember? Answered once they are read from the log.
#[derive(Message)]
#[rtype(result = "()")]
pub struct DescribeProducers {
    pub reply: tokio::sync::oneshot::Sender<Vec<ProducerBatch>>,
}

/// The journal has finished something for this partition.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RoundDone {
    pub incarnation: Incarnation,
    pub outcome: Outcome,
}

/// The topic's configuration changed; `PartitionShared` holds the new one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ConfigChanged;

/// Stop: the role, the topic or the broker goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopPartition;

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
    /// None until the producers' last batches are read.
    leader: Option<Leader>,
    is_loading: bool,
    journal: JournalHandle,
    entry: Arc<ActorEntry>,
    gathered: Vec<Append>,
    /// Parked replies; the first has the id `first_parked`. A place is empty once its reply has gone.
    parked: VecDeque<Option<ParkedReply>>,
    first_parked: u64,
    log_start_waits: VecDeque<LogStartWait>,
    log_end_waits: Vec<tokio::sync::oneshot::Sender<Offset>>,
    describe_waits: Vec<DescribeProducers>,
    /// When idle producers are forgotten again.
    expire_producers_at_ms: i64,
    effects: Vec<Effect>,
    exit: ExitSignal<PartitionKey>,
}

/// What a new incarnation begins with.
pub struct PartitionStart {
    pub shared: Arc<PartitionShared>,
    pub incarnation: Incarnation,
    pub journal: JournalHandle,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<PartitionKey>,
}

impl Partition {
    pub fn new(start: PartitionStart) -> Self {
        Self {
            shared: start.shared,
            incarnation: start.incarnation,
            leader: None,
            is_loading: false,
            journal: start.journal,
            entry: start.entry,
            gathered: Vec::new(),
            parked: VecDeque::new(),
            first_parked: 0,
            log_start_waits: VecDeque::new(),
            log_end_waits: Vec::new(),
            describe_waits: Vec::new(),
            expire_producers_at_ms: 0,
            effects: Vec::new(),
            exit: start.exit,
        }
    }

    /// One entry for the journal from all that a drain of the mailbox brought.
    fn append_gathered(&mut self) {
        let Some(mut leader) = self.leader.take() else { return };
        let gathered = std::mem::take(&mut self.gathered);
        self.entry.mailbox.fetch_sub(gathered.len() as i64, Ordering::Relaxed);
        let config = self.shared.config();
        let now_ms = now_ms();
        self.expire_producers(&mut leader, config.producer_id_expiration_ms, now_ms);
        let mut entry = RoundEntry::with_capacity(gathered.len());
        for append in gathered {
            let context = AdmitContext {
                now_ms,
                config: &config,
                acks: append.acks.to_wire(),
                accepts_zstd: append.is_zstd_allowed,
            };
            self.admit(append, &mut leader, &context, &mut entry);
        }
        if let Some(base_offset) = entry.base_offset {
            self.journal.submit(Entry::Append {
                log: self.shared.log.clone(),
                incarnation: self.incarnation,
                leader_epoch: leader.epoch(),
                base_offset,
                end_offset: leader.log_end(),
                max_timestamp: entry.max_timestamp,
                batches: entry.batches,
            });
            leader.submitted();
        }
        self.leader = Some(leader);
        self.entry.parked.store(self.parked.len() as u64, Ordering::Relaxed);
    }

    fn expire_producers(&mut self, leader: &mut Leader, expiration_ms: i64, now_ms: i64) {
        if now_ms >= self.expire_producers_at_ms {
            self.expire_producers_at_ms = now_ms.saturating_add(PRODUCER_CHECK_MS.min(expiration_ms));
            leader.set_producer_expiration_ms(expiration_ms);
            leader.expire_producers(now_ms);
        }
    }

    /// Refuses a batch, or gives it its place in the log and parks its reply.
    fn admit(&mut self, mut append: Append, leader: &mut Leader, context: &AdmitContext<'_>, entry: &mut RoundEntry) {
        let batch = &append.batch[..];
        let checked = check_bytes(batch, context).map_err(refused).and_then(|header| {
            if context.config.cleanup_policy.compact {
                check_keys(Bytes::copy_from_slice(batch), INFLATED_BYTES_MAX, &self.shared.key)
                    .map_err(records_refused)?;
            }
            let admitted = leader.admit(&header, context).map_err(|refusal| {
                let mut answer = refused(refusal);
                if answer.error == ErrorCode::InvalidTimestamp {
                    answer.record_errors = timestamp_errors(Bytes::copy_from_slice(batch), INFLATED_BYTES_MAX, context);
                }
                answer
            })?;
            Ok((header, admitted))
        });
        let admitted = match checked {
            Ok(admitted) => admitted,
            Err(answer) => {
                debug!("{}: refused a batch: {}", self.shared.key, answer.error);
                return append.reply.answer(answer);
            }
        };
        append.reply.handed_to_journal();
        match admitted {
            (_, Admitted::Duplicate { base_offset, end_offset, log_append_time_ms }) => {
                let parked = ParkedReply { base_offset, log_append_time_ms, reply: append.reply };
                self.park(leader, parked, end_offset);
            }
            (header, Admitted::Append { base_offset, end_offset }) => {
                batch::patch(&mut append.batch, base_offset, leader.epoch());
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
                    self.park(leader, parked, end_offset);
                }
            }
        }
    }

    fn park(&mut self, leader: &mut Leader, parked: ParkedReply, end_offset: Offset) {
        let id = self.first_parked + self.parked.len() as u64;
        self.parked.push_back(Some(parked));
        if !leader.park(end_offset, ReplyId(id)) {
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
                Effect::AdvanceHighWatermark(high_watermark) => self.shared.advance_high_watermark(high_watermark),
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
        if let Some(leader) = &mut self.leader {
            leader.append_failed(end_offset, &mut self.effects);
        }
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
            Ok(Ok(batches)) => partition.begin(batches.into_iter().map(producer_batch).collect()),
            Ok(Err(error)) => {
                error!("{}: cannot read the producers' last batches: {error}", partition.shared.key);
                partition.gathered.clear();
                partition.exit.give_up();
                context.stop();
            }
            Err(error) => panic!("reading the producers' last batches panicked: {error}"),
        }));
    }

    fn trim_published(&self, offset: Offset) -> Result<Trim, Refusal> {
        let high_watermark = self.shared.high_watermark();
        let log_start = if offset == -1 { high_watermark } else { offset };
        if log_start < 0 || log_start > high_watermark {
            return Err(Refusal::bare(ErrorCode::OffsetOutOfRange));
        }
        let current = self.shared.log_start();
        Ok(if log_start <= current { Trim::Done { log_start: current } } else { Trim::Move { log_start } })
    }

    fn begin(&mut self, producers: Vec<ProducerBatch>) {
        let log = &self.shared.log;
        let leader = Leader::new(LeaderStart {
            epoch: self.shared.leader_epoch(),
            log_start: log.log_start(),
            log_end: log.end_offset(),
            flushed_end: log.end_offset(), // recovery, or the barrier before a restart, has synced it
            high_watermark: self.shared.high_watermark().min(log.end_offset()),
            producers,
        });
        self.shared.advance_high_watermark(leader.high_watermark());
        for wait in std::mem::take(&mut self.describe_waits) {
            // The caller may have given up waiting.
            let _ = wait.reply.send(leader.producers().collect());
        }
        self.leader = Some(leader);
        self.append_gathered();
        self.answer_log_ends();
    }

    /// While batches are gathered the end is not known.
    fn answer_log_ends(&mut self) {
        if !self.gathered.is_empty() || self.log_end_waits.is_empty() {
            return;
        }
        let end_offset = self.leader.as_ref().map_or_else(|| self.shared.log.end_offset(), Leader::log_end);
        for reply in self.log_end_waits.drain(..) {
            // Whoever asked may have gone.
            let _ = reply.send(end_offset);
        }
    }
}

fn producer_batch(batch: capek_log::ProducerBatch) -> ProducerBatch {
    ProducerBatch {
        producer_id: batch.producer_id,
        epoch: batch.epoch,
        first_sequence: batch.first_sequence,
        last_sequence: batch.last_sequence,
        last_offset: batch.last_offset,
        offset_delta: batch.offset_delta,
        timestamp_ms: batch.timestamp_ms,
    }
}

/// Kafka's `producer.id.expiration.check.interval.ms`.
const PRODUCER_CHECK_MS: i64 = 10 * 60 * 1000;

/// How far a batch may inflate while its records are looked at, which happens in compacted topics and for refusals only.
const INFLATED_BYTES_MAX: usize = 16 << 20;

fn records_refused(refused_records: RecordsRefused) -> PartitionAnswer {
    PartitionAnswer { record_errors: refused_records.record_errors, ..refused(refused_records.refusal) }
}

fn refused(refusal: Refusal) -> PartitionAnswer {
    PartitionAnswer::refused(refusal.code, refusal.message.map(|message| message.into_owned()))
}

/// The batches that a drain of the mailbox adds to the log.
struct RoundEntry {
    base_offset: Option<Offset>,
    max_timestamp: i64,
    batches: Vec<Bytes>,
}

impl RoundEntry {
    fn with_capacity(count: usize) -> Self {
        Self { base_offset: None, max_timestamp: -1, batches: Vec::with_capacity(count) }
    }

    fn push(&mut self, base_offset: Offset, max_timestamp: i64, batch: Bytes) {
        self.base_offset.get_or_insert(base_offset);
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.batches.push(batch);
    }
}

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
        if !partition.gathered.is_empty() {
            if partition.leader.is_some() {
                partition.append_gathered();
            } else if !partition.is_loading {
                partition.load_producers(context);
            }
        }
        partition.answer_log_ends();
        Poll::Pending
    }
}

impl Actor for Partition {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.incarnation, Some(context.address().recipient()));
        // What an earlier incarnation had under way is synced by now: readers need not wait for the next append to see it.
        let end_offset = self.shared.log.end_offset();
        if self.shared.high_watermark() < end_offset {
            self.shared.advance_high_watermark(end_offset);
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
            Outcome::Flushed { end_offset } => {
                if let Some(leader) = &mut self.leader {
                    leader.flushed(end_offset, &mut self.effects);
                }
                self.carry_out();
            }
            Outcome::AppendFailed { end_offset, error } => {
                error!("{}: an append failed, the log ends at {end_offset}: {error}", self.shared.key);
                self.fail(end_offset, context);
            }
            Outcome::LogStartDurable { offset } => {
                if let Some(leader) = &mut self.leader {
                    leader.log_start_moved(offset);
                }
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
        let trim = match &self.leader {
            Some(leader) => leader.trim(advance.offset),
            // Nothing was appended in this incarnation: what is published is all there is.
            None => self.trim_published(advance.offset),
        };
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
        if let Some(leader) = &self.leader {
            // The caller may have given up waiting.
            let _ = describe.reply.send(leader.producers().collect());
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
