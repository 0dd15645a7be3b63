//! What a partition remembers of the idempotent producers that write to it: their epoch and last five batches.
//!
//! ```text
//!   batch of (producer, epoch, first..last sequence)
//!     no state, a new producer         must start with sequence 0, else OUT_OF_ORDER_SEQUENCE_NUMBER
//!     no state, another one            any sequence is taken: the state may have expired
//!     epoch below the one remembered   INVALID_PRODUCER_EPOCH: fenced
//!     epoch above                      must start with sequence 0, else OUT_OF_ORDER_SEQUENCE_NUMBER
//!     same epoch, a remembered batch   duplicate: answered like the first time
//!     same epoch, next in sequence     appended (2147483647 is followed by 0)
//!     same epoch, anything else        OUT_OF_ORDER_SEQUENCE_NUMBER
//! ```
//!
//! Who stands for a key (`capek_wire::keyed`) writes one batch in an epoch, with a sequence that is made of what it holds: it may
//! begin an epoch anywhere, and nothing is next.
//!
//! Kafka takes any sequence of each producer without a state. A producer's first batch may then be lost: it waits at a leader that
//! is cut off, the second one reaches the next leader, and the client takes the first for stored, as what follows it is. See
//! [`NewProducers`].

use std::collections::BTreeMap;

use capek_wire::batch::BatchHeader;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, ProducerId};
use capek_wire::keyed::{KEYED_PRODUCER_ID_FIRST, KeyedProducers};

use super::new_producers::NewProducers;
use crate::Refusal;

/// How many batches of a producer are remembered: as many as an idempotent client may have in flight.
pub const PRODUCER_BATCHES_MAX: usize = 5;

/// How long a producer that was found in the log at a start is kept at least: its last write may be later than the
/// timestamp of its last record says, and it may be about to retry.
const RECOVERED_GRACE_MS: i64 = 60 * 60 * 1000;

/// One batch of an idempotent producer, as it is found in the log or in a snapshot of the producers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerBatch {
    pub producer_id: ProducerId,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub last_offset: Offset,
    /// `last_offset` minus the batch's base offset.
    pub offset_delta: i32,
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Producer {
    epoch: i16,
    /// Oldest first, at most [`PRODUCER_BATCHES_MAX`], all of `epoch`.
    batches: Vec<CachedBatch>,
    /// None until the first sweep after a start.
    last_write_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct CachedBatch {
    first_sequence: i32,
    last_sequence: i32,
    offset_delta: i32,
    last_offset: Offset,
    pub(super) timestamp_ms: i64,
}

impl CachedBatch {
    pub(super) fn base_offset(&self) -> Offset {
        self.last_offset - i64::from(self.offset_delta)
    }

    pub(super) fn end_offset(&self) -> Offset {
        self.last_offset + 1
    }
}

/// The producers of one partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    keyed: KeyedProducers,
    /// None: each producer without a state may have been forgotten.
    new: Option<NewProducers>,
}

impl Producers {
    pub(super) fn set_new(&mut self, new: Option<NewProducers>) {
        self.new = new;
    }

    /// Takes over a batch that the log holds already; batches come in offset order.
    pub(super) fn recover(&mut self, batch: &ProducerBatch) {
        self.insert(batch, None);
    }

    /// Some if this very batch is in the log, None if it is the producer's next.
    pub(super) fn check(&self, header: &BatchHeader) -> Result<Option<CachedBatch>, Refusal> {
        let Some(producer) = self.by_id.get(&header.producer_id) else {
            let is_new = self.new.is_some_and(|new| new.include(header.producer_id));
            return if is_new && header.base_sequence != 0 { Err(out_of_order(header, -1)) } else { Ok(None) };
        };
        if header.producer_epoch < producer.epoch {
            return Err(Refusal::new(
                ErrorCode::InvalidProducerEpoch,
                format!(
                    "epoch of producer {} is {}, which is smaller than the last seen epoch {}",
                    header.producer_id, header.producer_epoch, producer.epoch
                ),
            ));
        }
        let is_keyed = header.producer_id >= KEYED_PRODUCER_ID_FIRST;
        if header.producer_epoch > producer.epoch {
            let is_first = header.base_sequence == 0 || is_keyed;
            return if is_first { Ok(None) } else { Err(new_epoch_not_at_zero(header, producer)) };
        }
        if let Some(duplicate) = producer.find(header) {
            return Ok(Some(duplicate));
        }
        if is_keyed || header.base_sequence != producer.next_sequence() {
            return Err(out_of_order(header, producer.last_sequence()));
        }
        Ok(None)
    }

    /// Remembers a batch that [`Producers::check`] found to be the next one.
    pub(super) fn append(&mut self, batch: &ProducerBatch, now_ms: i64) {
        self.insert(batch, Some(now_ms));
    }

    /// Forgets producers whose last write is `expiration_ms` old.
    pub(super) fn expire(&mut self, now_ms: i64, expiration_ms: i64) {
        self.new = self.new.filter(|new| !new.may_be_forgotten(now_ms, expiration_ms));
        self.by_id.retain(|_, producer| {
            let last_write_ms = *producer.last_write_ms.get_or_insert_with(|| {
                let grace_ms = RECOVERED_GRACE_MS.min(expiration_ms);
                let last_record_ms = producer.batches.last().map_or(0, |batch| batch.timestamp_ms);
                last_record_ms.min(now_ms).max(now_ms.saturating_sub(expiration_ms).saturating_add(grace_ms))
            });
            now_ms.saturating_sub(last_write_ms) < expiration_ms
        });
        self.keyed.retain(|producer_id| self.by_id.contains_key(&producer_id));
    }

    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The last batch of each producer, by id.
    pub(super) fn last_batches(&self) -> impl Iterator<Item = ProducerBatch> + '_ {
        self.by_id.iter().filter_map(|(&producer_id, producer)| producer.last_batch(producer_id))
    }

    pub(super) fn last_batch(&self, producer_id: ProducerId) -> Option<ProducerBatch> {
        self.by_id.get(&producer_id)?.last_batch(producer_id)
    }

    fn insert(&mut self, batch: &ProducerBatch, now_ms: Option<i64>) {
        let producer = self.by_id.entry(batch.producer_id).or_insert_with(|| Producer {
            epoch: batch.epoch,
            batches: Vec::new(),
            last_write_ms: None,
        });
        let earlier = producer.batches.last().map(|batch| batch.last_offset);
        if producer.epoch != batch.epoch {
            producer.epoch = batch.epoch;
            producer.batches.clear();
        }
        if producer.batches.len() == PRODUCER_BATCHES_MAX {
            producer.batches.remove(0);
        }
        producer.batches.push(CachedBatch {
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            offset_delta: batch.offset_delta,
            last_offset: batch.last_offset,
            timestamp_ms: batch.timestamp_ms,
        });
        producer.last_write_ms = now_ms;
        if let Some(oldest) = self.keyed.note(batch.producer_id, earlier, batch.last_offset) {
            self.by_id.remove(&oldest);
        }
    }
}

impl Producer {
    fn find(&self, header: &BatchHeader) -> Option<CachedBatch> {
        let last_sequence = header.last_sequence();
        let same =
            |batch: &&CachedBatch| batch.first_sequence == header.base_sequence && batch.last_sequence == last_sequence;
        self.batches.iter().find(same).copied()
    }

    fn last_batch(&self, producer_id: ProducerId) -> Option<ProducerBatch> {
        let batch = self.batches.last()?;
        Some(ProducerBatch {
            producer_id,
            epoch: self.epoch,
            first_sequence: batch.first_sequence,
            last_sequence: batch.last_sequence,
            last_offset: batch.last_offset,
            offset_delta: batch.offset_delta,
            timestamp_ms: batch.timestamp_ms,
        })
    }

    fn last_sequence(&self) -> i32 {
        self.batches.last().map_or(-1, |batch| batch.last_sequence)
    }

    /// Sequences count to 2147483647 and then start again at 0.
    fn next_sequence(&self) -> i32 {
        self.last_sequence().checked_add(1).unwrap_or(0)
    }
}

fn new_epoch_not_at_zero(header: &BatchHeader, producer: &Producer) -> Refusal {
    Refusal::new(
        ErrorCode::OutOfOrderSequenceNumber,
        format!(
            "Invalid sequence number for new epoch of producer {}: {} (request epoch), {} (seq. number), \
             {} (current producer epoch)",
            header.producer_id, header.producer_epoch, header.base_sequence, producer.epoch
        ),
    )
}

/// The last sequence is -1 where there is none.
fn out_of_order(header: &BatchHeader, last_sequence: i32) -> Refusal {
    Refusal::new(
        ErrorCode::OutOfOrderSequenceNumber,
        format!(
            "Out of order sequence number for producer {}: {} (incoming seq. number), {} (current end sequence number)",
            header.producer_id, header.base_sequence, last_sequence
        ),
    )
}
