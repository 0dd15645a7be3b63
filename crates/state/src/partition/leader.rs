//! The leader replica of a partition, for one leader epoch: offsets, in-sync replicas, parked replies.

use std::collections::{BTreeSet, VecDeque};

use capek_wire::batch::BatchHeader;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset, ProducerId};

use super::admit::{AdmitContext, Admitted, check_after_checksum, check_before_checksum};
use super::new_producers::NewProducers;
use super::producers::{ProducerBatch, Producers};
use super::replicas::{Ends, ReplicaSet, Replicas};
use crate::Refusal;
use crate::config::TimestampType;

/// Kafka's `producer.id.expiration.ms`.
const PRODUCER_EXPIRATION_MS: i64 = 24 * 60 * 60 * 1000;

/// Names a reply that an actor holds back; state knows no senders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyId(pub u64);

/// What the actor must do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Readers may see everything below this offset.
    AdvanceHighWatermark(Offset),
    /// The append that this reply waits for is as safe as it asked for.
    Reply(ReplyId),
    /// The append that this reply waits for is not in the log, and will not be.
    Refuse(ReplyId, ErrorCode),
    /// Ask the controller for this in-sync set (with each follower's broker epoch; -1 is ours), which is about the record
    /// with this partition epoch. The answer comes by [`Leader::in_sync_changed`] or [`Leader::in_sync_refused`]; while none
    /// is certain, ask again.
    ProposeInSync { members: Vec<(BrokerId, i64)>, partition_epoch: i32 },
}

/// What a reply waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Wait {
    /// acks=1: this replica has it.
    Flushed,
    /// acks=all: every in-sync replica has it.
    Committed,
}

/// What DeleteRecords asks of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trim {
    /// Everything below the asked offset is gone already.
    Done { log_start: Offset },
    /// Make this the log start, durably, then call [`Leader::log_start_moved`] and answer with it.
    Move { log_start: Offset },
}

/// Where a leader begins: what its log holds after recovery.
#[derive(Clone, Debug)]
pub struct LeaderStart<P> {
    pub epoch: LeaderEpoch,
    pub replicas: ReplicaSet,
    /// An in-sync set that an earlier incarnation has proposed in this epoch, at this partition epoch, and that the controller
    /// has neither refused nor shown: it may be committed yet. Empty: none.
    pub proposed: Vec<BrokerId>,
    /// min.insync.replicas, not more than there are replicas.
    pub in_sync_min: usize,
    pub now_ms: i64,
    pub log_start: Offset,
    /// Where this epoch began: the log's end when its first leader started.
    pub epoch_start: Offset,
    pub log_end: Offset,
    pub flushed_end: Offset,
    /// What readers were promised before; it does not go back.
    pub high_watermark: Offset,
    /// The batches of idempotent producers that the log holds, in offset order.
    pub producers: P,
}

/// An entry of the journal, of one batch or of several, that is not confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct InFlight {
    base_offset: Offset,
    end_offset: Offset,
}

/// See the module's drawing for the offsets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Leader {
    epoch: LeaderEpoch,
    replicas: Replicas,
    in_sync_min: usize,
    log_start: Offset,
    epoch_start: Offset,
    log_end: Offset,
    flushed_end: Offset,
    high_watermark: Offset,
    producers: Producers,
    producer_expiration_ms: i64,
    in_flight: VecDeque<InFlight>,
    /// What was admitted from here on is not in any entry yet.
    unsubmitted_from: Offset,
    /// acks=all.
    parked: BTreeSet<(Offset, ReplyId)>,
    /// acks=1.
    parked_local: BTreeSet<(Offset, ReplyId)>,
    failed: bool,
}

impl Leader {
    /// Begins a reign. Recovery has synced whatever the log holds, but in async mode only up to `flushed_end`.
    pub fn new<P: IntoIterator<Item = ProducerBatch>>(start: LeaderStart<P>) -> Leader {
        assert!(start.log_start <= start.log_end, "the log starts behind its end");
        assert!(start.flushed_end <= start.log_end, "more is flushed than there is");
        assert!(start.high_watermark <= start.log_end, "more was promised than there is");
        let mut producers = Producers::default();
        for batch in start.producers {
            producers.recover(&batch);
        }
        let mut leader = Leader {
            epoch: start.epoch,
            replicas: Replicas::new(&start.replicas, &start.proposed, start.now_ms),
            in_sync_min: start.in_sync_min,
            log_start: start.log_start,
            epoch_start: start.epoch_start,
            log_end: start.log_end,
            flushed_end: start.flushed_end,
            high_watermark: start.high_watermark.max(start.log_start),
            producers,
            producer_expiration_ms: PRODUCER_EXPIRATION_MS,
            in_flight: VecDeque::new(),
            unsubmitted_from: start.log_end,
            parked: BTreeSet::new(),
            parked_local: BTreeSet::new(),
            failed: false,
        };
        leader.advance(&mut Vec::new());
        leader
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    pub fn flushed_end(&self) -> Offset {
        self.flushed_end
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    pub fn parked_count(&self) -> usize {
        self.parked.len() + self.parked_local.len()
    }

    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The last batch of every producer that is remembered, by producer id.
    pub fn producers(&self) -> impl Iterator<Item = ProducerBatch> + '_ {
        self.producers.last_batches()
    }

    /// The last batch of this one, while it is remembered.
    pub fn producer(&self, producer_id: ProducerId) -> Option<ProducerBatch> {
        self.producers.last_batch(producer_id)
    }

    /// Replicas that the controller knows to be in sync, this one among them.
    pub fn in_sync_count(&self) -> usize {
        self.replicas.in_sync_count()
    }

    pub fn in_sync(&self) -> impl Iterator<Item = BrokerId> + '_ {
        self.replicas.in_sync().iter().copied()
    }

    pub fn partition_epoch(&self) -> i32 {
        self.replicas.partition_epoch()
    }

    /// Whether an in-sync set is proposed and not answered.
    pub fn is_proposing(&self) -> bool {
        self.replicas.is_proposing()
    }

    /// Readers may be told where the log ends: everything that an earlier leader has confirmed is below the high watermark
    /// (KIP-207).
    pub fn knows_committed_end(&self) -> bool {
        self.high_watermark >= self.epoch_start
    }

    /// The batches of idempotent producers that the log holds, in offset order: before the first batch is admitted, if the
    /// leader began without them.
    pub fn recover_producers(&mut self, batches: impl IntoIterator<Item = ProducerBatch>) {
        for batch in batches {
            self.producers.recover(&batch);
        }
    }

    /// Kafka's `producer.id.expiration.ms`, when it is not a day.
    pub fn set_producer_expiration_ms(&mut self, expiration_ms: i64) {
        self.producer_expiration_ms = expiration_ms;
    }

    /// Whose state would be here if they had written: nobody's until this is called, and others' as time goes on.
    pub fn set_new_producers(&mut self, new_producers: Option<NewProducers>) {
        self.producers.set_new(new_producers);
    }

    /// Forgets producers that have not written for so long that they will not retry.
    pub fn expire_producers(&mut self, now_ms: i64) {
        self.producers.expire(now_ms, self.producer_expiration_ms);
    }

    /// Is the client's view of the leadership ours? -1 asks nothing.
    pub fn check_epoch(&self, current_leader_epoch: LeaderEpoch) -> Result<(), Refusal> {
        if current_leader_epoch == -1 || current_leader_epoch == self.epoch {
            Ok(())
        } else if current_leader_epoch < self.epoch {
            Err(Refusal::bare(ErrorCode::FencedLeaderEpoch))
        } else {
            Err(Refusal::bare(ErrorCode::UnknownLeaderEpoch))
        }
    }

    /// May this batch enter the log, and where? An admitted batch must be handed to the journal with its offsets.
    pub fn admit(&mut self, header: &BatchHeader, context: &AdmitContext<'_>) -> Result<Admitted, Refusal> {
        if self.failed {
            return Err(Refusal::new(ErrorCode::KafkaStorageError, "an append failed; the log is being reopened"));
        }
        self.check_in_sync(context)?;
        check_before_checksum(header, context)?;
        check_after_checksum(header, context)?;
        let is_idempotent = header.producer_id >= 0;
        if is_idempotent && let Some(duplicate) = self.producers.check(header)? {
            return Ok(Admitted::Duplicate {
                base_offset: duplicate.base_offset(),
                end_offset: duplicate.end_offset(),
                log_append_time_ms: duplicate.timestamp_ms,
            });
        }
        Ok(self.append(header, context, is_idempotent))
    }

    fn check_in_sync(&self, context: &AdmitContext<'_>) -> Result<(), Refusal> {
        if context.acks != -1 {
            return Ok(());
        }
        let replication_factor = self.replicas.count();
        let needed = context.config.min_insync_replicas_for(replication_factor as i32);
        let in_sync_count = self.in_sync_count();
        if (in_sync_count as i64) < i64::from(needed) {
            return Err(Refusal::new(
                ErrorCode::NotEnoughReplicas,
                format!("{in_sync_count} of {replication_factor} replicas are in sync, fewer than the {needed} needed"),
            ));
        }
        Ok(())
    }

    fn append(&mut self, header: &BatchHeader, context: &AdmitContext<'_>, is_idempotent: bool) -> Admitted {
        let base_offset = self.log_end;
        let end_offset = base_offset + i64::from(header.record_count);
        if is_idempotent {
            let timestamp_ms = match context.config.message_timestamp_type {
                TimestampType::CreateTime => header.max_timestamp,
                TimestampType::LogAppendTime => context.now_ms,
            };
            let batch = ProducerBatch {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                first_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                last_offset: end_offset - 1,
                offset_delta: header.last_offset_delta,
                timestamp_ms,
            };
            self.producers.append(&batch, context.now_ms);
        }
        self.log_end = end_offset;
        Admitted::Append { base_offset, end_offset }
    }

    /// Everything admitted since the last call went to the journal as one entry: it is written or fails as a whole.
    pub fn submitted(&mut self, now_ms: i64) {
        if self.unsubmitted_from < self.log_end {
            self.replicas.appended(self.unsubmitted_from, now_ms);
            let entry = InFlight { base_offset: self.unsubmitted_from, end_offset: self.log_end };
            self.in_flight.push_back(entry);
            self.unsubmitted_from = self.log_end;
        }
    }

    /// Holds a reply back until everything below `end_offset` is as safe as `wait` says. False: it is already, answer now.
    pub fn park(&mut self, end_offset: Offset, reply: ReplyId, wait: Wait) -> bool {
        assert!(end_offset <= self.log_end, "a reply waits for an append that was never admitted");
        let (safe_end, parked) = match wait {
            Wait::Flushed => (self.flushed_end, &mut self.parked_local),
            Wait::Committed => (self.high_watermark, &mut self.parked),
        };
        if end_offset <= safe_end {
            return false;
        }
        parked.insert((end_offset, reply));
        true
    }

    /// The reply is no longer wanted: it timed out or its connection went. False if it had been answered.
    pub fn unpark(&mut self, end_offset: Offset, reply: ReplyId) -> bool {
        self.parked.remove(&(end_offset, reply)) || self.parked_local.remove(&(end_offset, reply))
    }

    /// The journal has everything below `end_offset` (on the disk, or for an async topic in the page cache).
    pub fn flushed(&mut self, end_offset: Offset, effects: &mut Vec<Effect>) {
        assert!(end_offset <= self.log_end || self.failed, "more was flushed than was admitted");
        // After a failure the end was cut back; what the journal confirms beyond it is cut there too.
        let end_offset = end_offset.min(self.log_end);
        while self.in_flight.front().is_some_and(|entry| entry.end_offset <= end_offset) {
            self.in_flight.pop_front();
        }
        self.unsubmitted_from = self.unsubmitted_from.max(end_offset);
        self.flushed_end = self.flushed_end.max(end_offset);
        // First the high watermark: a producer that reads after its answer finds what it wrote, as far as that is committed.
        self.advance(effects);
        release(&mut self.parked_local, self.flushed_end, effects);
    }

    /// A follower asks for what comes after `fetch_offset`: it holds everything before, in agreement with this log.
    pub fn follower_fetched(
        &mut self,
        from: BrokerId,
        broker_epoch: i64,
        fetch_offset: Offset,
        now_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        self.replicas.fetched(from, broker_epoch, fetch_offset, self.ends(), now_ms);
        self.advance(effects);
    }

    /// A follower has made everything below `end_offset` durable.
    pub fn follower_flushed(
        &mut self,
        from: BrokerId,
        broker_epoch: i64,
        end_offset: Offset,
        effects: &mut Vec<Effect>,
    ) {
        self.replicas.flushed(from, broker_epoch, end_offset);
        self.advance(effects);
    }

    /// The controller would not let this follower in: its broker is gone, or speaks of a life that is not registered. What it
    /// has told is forgotten, so that it is not proposed, unless it is waited for. Says whether it is forgotten.
    pub fn follower_left(&mut self, follower: BrokerId) -> bool {
        self.replicas.left(follower)
    }

    /// Looks whether the in-sync set should be another one: after followers have reported, and from time to time, since
    /// falling behind is not an event. `lag_max_ms` is `replica.lag.time.max.ms`.
    pub fn review_in_sync(&mut self, lag_max_ms: i64, now_ms: i64, effects: &mut Vec<Effect>) {
        self.replicas.review(self.ends(), lag_max_ms, now_ms, effects);
    }

    /// The image has a newer record of this partition, in this leader epoch.
    pub fn in_sync_changed(&mut self, set: &ReplicaSet, now_ms: i64, effects: &mut Vec<Effect>) {
        self.replicas.committed(set, now_ms);
        self.advance(effects);
    }

    /// The controller has refused what was proposed about this partition epoch, and will not do it later: only after a
    /// refusal that [`is_final`] (else an earlier attempt at the same proposal may be what has been done).
    ///
    /// [`is_final`]: in_sync_refusal_is_final
    pub fn in_sync_refused(&mut self, partition_epoch: i32, now_ms: i64, effects: &mut Vec<Effect>) {
        self.replicas.refused(partition_epoch, now_ms);
        self.advance(effects);
    }

    /// `min.insync.replicas` (not more than there are replicas) is another one.
    pub fn set_in_sync_min(&mut self, in_sync_min: usize, effects: &mut Vec<Effect>) {
        self.in_sync_min = in_sync_min;
        self.advance(effects);
    }

    fn ends(&self) -> Ends {
        Ends { epoch_start: self.epoch_start, log_end: self.log_end, high_watermark: self.high_watermark }
    }

    /// The entry that ends at `end_offset` could not be written. It and all that came after it are refused, and this
    /// leader admits nothing more: the partition reopens its log at the last good end.
    pub fn append_failed(&mut self, end_offset: Offset, effects: &mut Vec<Effect>) {
        self.failed = true;
        let failed = self.in_flight.iter().position(|entry| entry.end_offset >= end_offset);
        let good_end = failed.map_or(self.unsubmitted_from, |position| self.in_flight[position].base_offset);
        if good_end >= self.log_end {
            return; // It was cut back with an earlier one.
        }
        self.in_flight.truncate(failed.unwrap_or(self.in_flight.len()));
        self.log_end = good_end;
        self.unsubmitted_from = good_end;
        let mut refused = self.parked.split_off(&(good_end + 1, ReplyId(0)));
        refused.append(&mut self.parked_local.split_off(&(good_end + 1, ReplyId(0))));
        effects.extend(refused.into_iter().map(|(_, reply)| Effect::Refuse(reply, ErrorCode::KafkaStorageError)));
    }

    /// True after a failed append: nothing is admitted until a new incarnation has opened the log.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// DeleteRecords: drop what lies below `offset`; -1 is everything that is committed.
    pub fn trim(&self, offset: Offset) -> Result<Trim, Refusal> {
        let log_start = if offset == -1 { self.high_watermark } else { offset };
        if log_start < 0 || log_start > self.high_watermark {
            return Err(Refusal::bare(ErrorCode::OffsetOutOfRange));
        }
        if log_start <= self.log_start {
            return Ok(Trim::Done { log_start: self.log_start });
        }
        Ok(Trim::Move { log_start })
    }

    /// Retention or DeleteRecords has moved the start of the log, durably.
    pub fn log_start_moved(&mut self, log_start: Offset) {
        assert!(log_start <= self.high_watermark, "records were deleted before they were committed");
        self.log_start = self.log_start.max(log_start);
    }

    /// The high watermark moves to what the maximal in-sync set holds, while the committed one has enough members (KIP-966).
    fn advance(&mut self, effects: &mut Vec<Effect>) {
        if self.replicas.in_sync_count() < self.in_sync_min {
            return;
        }
        let committed_end = self.replicas.committed_end(self.flushed_end);
        if committed_end <= self.high_watermark {
            return;
        }
        self.high_watermark = committed_end;
        effects.push(Effect::AdvanceHighWatermark(committed_end));
        release(&mut self.parked, committed_end, effects);
    }
}

/// Whether a controller that answers a proposed in-sync set so has done nothing of it, now or before. Where it knows another
/// leader or partition epoch, that may have come of this very proposal, whose first answer was lost; and NEW_LEADER_ELECTED
/// says that it was done. Then the image will tell, and until then the leader waits for all that it has proposed.
pub fn in_sync_refusal_is_final(error: ErrorCode) -> bool {
    matches!(error, ErrorCode::IneligibleReplica | ErrorCode::InvalidRequest)
}

fn release(parked: &mut BTreeSet<(Offset, ReplyId)>, safe_end: Offset, effects: &mut Vec<Effect>) {
    while let Some(&(end_offset, reply)) = parked.first() {
        if end_offset > safe_end {
            break;
        }
        parked.pop_first();
        effects.push(Effect::Reply(reply));
    }
}
