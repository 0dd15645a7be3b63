//! The leader replica of a partition, for one leader epoch: offsets, in-sync replicas, parked replies.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use capek_wire::batch::BatchHeader;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset};

use super::admit::{AdmitContext, Admitted, check_after_checksum, check_before_checksum};
use super::producers::{ProducerBatch, Producers};
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
    /// The append that this reply waits for is committed.
    Reply(ReplyId),
    /// The append that this reply waits for is not in the log, and will not be.
    Refuse(ReplyId, ErrorCode),
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
    pub log_start: Offset,
    pub log_end: Offset,
    pub flushed_end: Offset,
    /// What readers were promised before; it does not go back.
    pub high_watermark: Offset,
    /// The batches of idempotent producers that the log holds, in offset order.
    pub producers: P,
}

/// How far another replica has got. There is none yet: with one broker the map is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Follower {
    flushed_end: Offset,
    in_sync: bool,
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
    log_start: Offset,
    log_end: Offset,
    flushed_end: Offset,
    high_watermark: Offset,
    followers: BTreeMap<BrokerId, Follower>,
    producers: Producers,
    producer_expiration_ms: i64,
    in_flight: VecDeque<InFlight>,
    /// What was admitted from here on is not in any entry yet.
    unsubmitted_from: Offset,
    parked: BTreeSet<(Offset, ReplyId)>,
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
            log_start: start.log_start,
            log_end: start.log_end,
            flushed_end: start.flushed_end,
            high_watermark: start.high_watermark.max(start.log_start),
            followers: BTreeMap::new(),
            producers,
            producer_expiration_ms: PRODUCER_EXPIRATION_MS,
            in_flight: VecDeque::new(),
            unsubmitted_from: start.log_end,
            parked: BTreeSet::new(),
            failed: false,
        };
        leader.high_watermark = leader.high_watermark.max(leader.committed_end());
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
        self.parked.len()
    }

    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The last batch of every producer that is remembered, by producer id.
    pub fn producers(&self) -> impl Iterator<Item = ProducerBatch> + '_ {
        self.producers.last_batches()
    }

    /// Replicas that count for the high watermark, this one among them.
    pub fn in_sync_count(&self) -> usize {
        1 + self.followers.values().filter(|follower| follower.in_sync).count()
    }

    fn replication_factor(&self) -> usize {
        1 + self.followers.len()
    }

    /// Kafka's `producer.id.expiration.ms`, when it is not a day.
    pub fn set_producer_expiration_ms(&mut self, expiration_ms: i64) {
        self.producer_expiration_ms = expiration_ms;
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
        let replication_factor = self.replication_factor();
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
    pub fn submitted(&mut self) {
        if self.unsubmitted_from < self.log_end {
            let entry = InFlight { base_offset: self.unsubmitted_from, end_offset: self.log_end };
            self.in_flight.push_back(entry);
            self.unsubmitted_from = self.log_end;
        }
    }

    /// Holds a reply back until everything below `end_offset` is committed. False: it is already, answer now.
    pub fn park(&mut self, end_offset: Offset, reply: ReplyId) -> bool {
        assert!(end_offset <= self.log_end, "a reply waits for an append that was never admitted");
        if end_offset <= self.high_watermark {
            return false;
        }
        self.parked.insert((end_offset, reply));
        true
    }

    /// The reply is no longer wanted: it timed out or its connection went. False if it had been answered.
    pub fn unpark(&mut self, end_offset: Offset, reply: ReplyId) -> bool {
        self.parked.remove(&(end_offset, reply))
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
        self.advance(effects);
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
        let refused = self.parked.split_off(&(good_end + 1, ReplyId(0)));
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

    fn advance(&mut self, effects: &mut Vec<Effect>) {
        let committed_end = self.committed_end();
        if committed_end <= self.high_watermark {
            return;
        }
        self.high_watermark = committed_end;
        effects.push(Effect::AdvanceHighWatermark(committed_end));
        while let Some(&(end_offset, reply)) = self.parked.first() {
            if end_offset > committed_end {
                break;
            }
            self.parked.pop_first();
            effects.push(Effect::Reply(reply));
        }
    }

    /// What every in-sync replica holds durably.
    fn committed_end(&self) -> Offset {
        let in_sync = self.followers.values().filter(|follower| follower.in_sync);
        in_sync.map(|follower| follower.flushed_end).fold(self.flushed_end, Offset::min)
    }
}
