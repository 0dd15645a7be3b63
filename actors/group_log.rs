//! What a GroupCoordinator writes: the records of a drain of its mailbox as one batch, and the answers that wait for them.
//!
//! ```text
//! calls of one drain ─▶ Round { records, answers } ─▶ one batch (more, if one would be too large) ─▶ Partition, acks=all
//!                                                     in flight: answers wait, those of later reads too ─▶ committed: given
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;

use atomic_waker::AtomicWaker;
use bytes::BytesMut;
use capek_state::group::Record;
use capek_wire::batch::{BatchBuilder, Codec};
use capek_wire::error_code::ErrorCode;

use crate::partition::Append;
use crate::produce::{Acks, AppendReply, PendingProduce};
use crate::routes::{PartitionRoute, Routes};
use crate::shared::PartitionKey;

/// Gives an answer. Dropped instead, it tells whoever waits that there is none.
pub type GiveAnswer = Box<dyn FnOnce() + Send>;

/// What a record takes in a batch beside key and value, and a batch beside its records; generously.
const RECORD_OVERHEAD_BYTES: usize = 64;
const BATCH_OVERHEAD_BYTES: usize = 128;

/// The largest record that fits into a batch of this size.
pub fn record_bytes_max(batch_bytes_max: usize) -> usize {
    batch_bytes_max.saturating_sub(RECORD_OVERHEAD_BYTES + BATCH_OVERHEAD_BYTES)
}

struct InFlight {
    batches: Vec<Arc<PendingProduce>>,
    answers: Vec<GiveAnswer>,
}

/// See the head of this file.
pub struct GroupLog {
    key: PartitionKey,
    routes: Arc<Routes>,
    codec: Codec,
    records: Vec<Record>,
    answers: Vec<GiveAnswer>,
    in_flight: VecDeque<InFlight>,
    appended: Arc<AtomicWaker>,
}

impl GroupLog {
    pub fn new(key: PartitionKey, routes: Arc<Routes>, codec: Codec) -> Self {
        Self {
            key,
            routes,
            codec,
            records: Vec::new(),
            answers: Vec::new(),
            in_flight: VecDeque::new(),
            appended: Arc::new(AtomicWaker::new()),
        }
    }

    /// Nothing written, nothing in flight: whatever waited is told so.
    pub fn fresh(&self) -> Self {
        Self::new(self.key.clone(), self.routes.clone(), self.codec)
    }

    pub fn write(&mut self, records: Vec<Record>) {
        self.records.extend(records);
    }

    /// Gives the answer when all that was written so far is committed.
    pub fn answer_when_committed(&mut self, answer: GiveAnswer) {
        if !self.records.is_empty() {
            self.answers.push(answer);
        } else if let Some(last) = self.in_flight.back_mut() {
            last.answers.push(answer);
        } else {
            answer();
        }
    }

    pub fn parked_count(&self) -> usize {
        self.answers.len() + self.in_flight.iter().map(|in_flight| in_flight.answers.len()).sum::<usize>()
    }

    /// Hands what was written since the last call to the partition. The error is one of the append's.
    pub fn submit(&mut self, now_ms: i64) -> Result<(), ErrorCode> {
        if self.records.is_empty() {
            return Ok(());
        }
        let records = std::mem::take(&mut self.records);
        let route = self.route()?;
        let leader = route.leader.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
        let batch_bytes_max = usize::try_from(route.shared.config().max_message_bytes).unwrap_or(0);
        let batches = batches(&records, self.codec, batch_bytes_max, now_ms)?;
        let mut in_flight = InFlight { batches: Vec::new(), answers: std::mem::take(&mut self.answers) };
        for batch in batches {
            // The frames that these records came in have paid for them.
            let call = PendingProduce::new(1, self.appended.clone(), None);
            let reply = AppendReply::new(call.clone(), 0);
            route.entry.mailbox.fetch_add(1, Ordering::Relaxed);
            leader.do_send(Append { batch, acks: Acks::All, is_zstd_allowed: true, partition_count: None, reply });
            in_flight.batches.push(call);
        }
        self.in_flight.push_back(in_flight);
        Ok(())
    }

    fn route(&self) -> Result<Arc<PartitionRoute>, ErrorCode> {
        let topic = self.routes.topic_by_id(self.key.topic_id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok(topic.leading(self.key.partition)?.clone())
    }

    /// Gives the answers of all that is committed by now; `waker` is woken when there is more. An error says that a batch is
    /// not (or perhaps not) in the log.
    pub fn collect(&mut self, waker: &Waker) -> Result<(), ErrorCode> {
        self.appended.register(waker);
        while let Some(first) = self.in_flight.front() {
            for batch in &first.batches {
                if !batch.is_complete() {
                    return Ok(());
                }
            }
            let Some(done) = self.in_flight.pop_front() else { break };
            for answer in done.batches.iter().flat_map(|batch| batch.take_answers()) {
                if answer.error != ErrorCode::None {
                    return Err(answer.error);
                }
            }
            for answer in done.answers {
                answer();
            }
        }
        Ok(())
    }
}

/// As few batches as can be.
fn batches(records: &[Record], codec: Codec, batch_bytes_max: usize, now_ms: i64) -> Result<Vec<BytesMut>, ErrorCode> {
    let mut built = Vec::new();
    let mut builder = BatchBuilder::new(codec);
    for record in records {
        let (key, value) = record.encode().map_err(|_| ErrorCode::InvalidRecord)?;
        let size_bytes = RECORD_OVERHEAD_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len());
        if !builder.is_empty() && builder.size_estimate_bytes() + size_bytes > batch_bytes_max {
            let full = std::mem::replace(&mut builder, BatchBuilder::new(codec));
            built.push(full.build().map_err(|error| error.error_code())?);
        }
        builder.push(now_ms, Some(&key), value.as_deref(), &[]);
    }
    built.push(builder.build().map_err(|error| error.error_code())?);
    Ok(built)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use capek_wire::batch;
    use capek_wire::codec::Str;

    use super::*;

    fn records(count: i32) -> Vec<Record> {
        let record = |partition| Record::OffsetCommit {
            group: Str::from("group"),
            topic: Str::from("topic"),
            partition,
            value: Some(Default::default()),
        };
        (0..count).map(record).collect()
    }

    #[test]
    fn the_records_of_a_drain_are_one_batch() {
        let built = batches(&records(100), Codec::None, 1 << 20, 7).expect("they fit");
        assert_eq!(built.len(), 1);
        let header = batch::check(&built[0]).expect("it is whole");
        assert_eq!((header.record_count, header.max_timestamp), (100, 7));
    }

    #[test]
    fn what_is_too_much_for_one_batch_becomes_several_in_order() {
        let built = batches(&records(100), Codec::None, 1000, 7).expect("they fit");
        assert!(built.len() > 3 && built.iter().all(|batch| batch.len() <= 1000));
        let mut partitions = Vec::new();
        for one in built {
            for record in batch::records(Bytes::from(one), 1 << 20).expect("it is whole") {
                let record = record.expect("it is whole");
                let decoded = Record::decode(record.key.expect("it has one"), record.value);
                let Ok(Some(Record::OffsetCommit { partition, .. })) = decoded else { panic!("not what was written") };
                partitions.push(partition);
            }
        }
        assert_eq!(partitions, (0..100).collect::<Vec<_>>());
    }
}
