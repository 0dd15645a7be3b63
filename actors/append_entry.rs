//! The entry that a drain of a partition's mailbox makes for the journal, and what its refusals look like.

use bytes::Bytes;
use capek_state::Refusal;
use capek_state::partition::{ProducerBatch, RecordsRefused};
use capek_wire::ids::Offset;

use crate::produce::PartitionAnswer;

pub fn records_refused(refused_records: RecordsRefused) -> PartitionAnswer {
    PartitionAnswer { record_errors: refused_records.record_errors, ..refused(refused_records.refusal) }
}

pub fn refused(refusal: Refusal) -> PartitionAnswer {
    PartitionAnswer::refused(refusal.code, refusal.message.map(|message| message.into_owned()))
}

/// The batches that a drain of the mailbox adds to the log.
pub struct RoundEntry {
    pub base_offset: Option<Offset>,
    pub max_timestamp: i64,
    pub batches: Vec<Bytes>,
}

impl RoundEntry {
    pub fn with_capacity(count: usize) -> Self {
        Self { base_offset: None, max_timestamp: -1, batches: Vec::with_capacity(count) }
    }

    pub fn push(&mut self, base_offset: Offset, max_timestamp: i64, batch: Bytes) {
        self.base_offset.get_or_insert(base_offset);
        self.max_timestamp = self.max_timestamp.max(max_timestamp);
        self.batches.push(batch);
    }
}

pub fn producer_batch(batch: capek_log::ProducerBatch) -> ProducerBatch {
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
