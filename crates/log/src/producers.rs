//! What the log knows of idempotent producers: their last batches, from the headers that pass, and Kafka's snapshot files.
//!
//! ```text
//! version i16 = 1 | crc u32 of the rest | count i32 | count × (producer id i64, epoch i16, last sequence i32,
//! last offset i64, offset delta i32, timestamp i64, coordinator epoch i32, current transaction's first offset i64)
//! ```
//!
//! Five batches of a producer may be in flight, and a client that is away during several lives of the broker sends all of
//! them again: so a snapshot has an entry for each of the five, oldest first. Kafka writes one, and reading ours keeps the
//! last. The table is rebuilt from the last snapshot but one and the batches after it, as snapshots of one entry need. The
//! rules are elsewhere; here they are only remembered.

use std::collections::{BTreeMap, VecDeque};

use capek_wire::BatchHeader;
use capek_wire::keyed::KeyedProducers;

const SNAPSHOT_VERSION: i16 = 1;
const HEADER_BYTES: usize = 10;
const ENTRY_BYTES: usize = 46;
const BATCHES_MAX: usize = 5;

/// One batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerBatch {
    pub producer_id: i64,
    pub epoch: i16,
    pub first_sequence: i32,
    pub last_sequence: i32,
    pub last_offset: i64,
    pub offset_delta: i32,
    pub timestamp_ms: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Producer {
    /// Oldest first.
    batches: VecDeque<ProducerBatch>,
    epoch: i16,
    last_timestamp_ms: i64,
    coordinator_epoch: i32,
    transaction_first_offset: Option<i64>,
}

/// All producers of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<i64, Producer>,
    keyed: KeyedProducers,
}

/// The first sequence of a batch, going back over the wrap at `i32::MAX`.
fn first_sequence(last_sequence: i32, offset_delta: i32) -> i32 {
    let first = i64::from(last_sequence) - i64::from(offset_delta);
    (if first < 0 { first + i64::from(i32::MAX) + 1 } else { first }) as i32
}

impl Producers {
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// A batch was appended.
    pub fn note(&mut self, header: &BatchHeader) {
        if header.producer_id < 0 {
            return;
        }
        let producer = self.by_id.entry(header.producer_id).or_insert_with(|| Producer {
            epoch: header.producer_epoch,
            coordinator_epoch: -1,
            ..Producer::default()
        });
        let earlier = producer.batches.back().map(|batch| batch.last_offset);
        if producer.epoch != header.producer_epoch {
            producer.epoch = header.producer_epoch;
            producer.batches.clear();
        }
        producer.last_timestamp_ms = header.max_timestamp;
        if header.is_control() {
            producer.transaction_first_offset = None;
            return;
        }
        if header.is_transactional() && producer.transaction_first_offset.is_none() {
            producer.transaction_first_offset = Some(header.base_offset);
        }
        if header.base_sequence >= 0 {
            if producer.batches.len() == BATCHES_MAX {
                producer.batches.pop_front();
            }
            producer.batches.push_back(ProducerBatch {
                producer_id: header.producer_id,
                epoch: header.producer_epoch,
                first_sequence: header.base_sequence,
                last_sequence: header.last_sequence(),
                last_offset: header.last_offset(),
                offset_delta: header.last_offset_delta,
                timestamp_ms: header.max_timestamp,
            });
            if let Some(oldest) = self.keyed.note(header.producer_id, earlier, header.last_offset()) {
                self.by_id.remove(&oldest);
            }
        }
    }

    /// Forgets who was not heard of since, unless a transaction is open.
    pub fn expire(&mut self, before_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.last_timestamp_ms >= before_ms || producer.transaction_first_offset.is_some()
        });
        self.keyed.retain(|producer_id| self.by_id.contains_key(&producer_id));
    }

    /// The batches of all producers in the order of the log.
    pub fn batches(&self) -> Vec<ProducerBatch> {
        let mut batches: Vec<_> = self.by_id.values().flat_map(|producer| producer.batches.iter().copied()).collect();
        batches.sort_by_key(|batch| batch.last_offset);
        batches
    }

    pub fn snapshot(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        let mut count = 0;
        for (producer_id, producer) in &self.by_id {
            if producer.batches.is_empty() {
                push_entry(&mut bytes, *producer_id, producer, None);
                count += 1;
            }
            for batch in &producer.batches {
                push_entry(&mut bytes, *producer_id, producer, Some(batch));
                count += 1;
            }
        }
        bytes[..2].copy_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        bytes[6..HEADER_BYTES].copy_from_slice(&i32::to_be_bytes(count));
        let crc = crc32c::crc32c(&bytes[6..]);
        bytes[2..6].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    /// `None` when it is torn or of another version.
    pub fn parse_snapshot(bytes: &[u8]) -> Option<Producers> {
        let head = bytes.first_chunk::<HEADER_BYTES>()?;
        let version = i16::from_be_bytes([head[0], head[1]]);
        let crc = u32::from_be_bytes([head[2], head[3], head[4], head[5]]);
        let count = i32::from_be_bytes([head[6], head[7], head[8], head[9]]);
        let entries = &bytes[HEADER_BYTES..];
        let is_whole = usize::try_from(count).is_ok_and(|count| count.checked_mul(ENTRY_BYTES) == Some(entries.len()));
        if version != SNAPSHOT_VERSION || !is_whole || crc32c::crc32c(&bytes[6..]) != crc {
            return None;
        }
        let mut producers = Producers::default();
        for entry in entries.as_chunks::<ENTRY_BYTES>().0 {
            let (producer_id, mut producer) = parse_entry(entry);
            if let Some(earlier) =
                producers.by_id.remove(&producer_id).filter(|earlier| earlier.epoch == producer.epoch)
            {
                let first = (earlier.batches.len() + producer.batches.len()).saturating_sub(BATCHES_MAX);
                let later = std::mem::take(&mut producer.batches);
                producer.batches = earlier.batches.into_iter().chain(later).skip(first).collect();
            }
            producers.by_id.insert(producer_id, producer);
        }
        producers.count_keyed();
        Some(producers)
    }

    fn count_keyed(&mut self) {
        let last =
            |(producer_id, producer): (&i64, &Producer)| Some((*producer_id, producer.batches.back()?.last_offset));
        for (producer_id, last_offset) in self.by_id.iter().filter_map(last).collect::<Vec<_>>() {
            if let Some(oldest) = self.keyed.note(producer_id, None, last_offset) {
                self.by_id.remove(&oldest);
            }
        }
    }
}

/// `batch` is one of the producer's, or None when it has none.
fn push_entry(bytes: &mut Vec<u8>, producer_id: i64, producer: &Producer, batch: Option<&ProducerBatch>) {
    let is_last = batch == producer.batches.back();
    let timestamp_ms = batch.filter(|_| !is_last).map_or(producer.last_timestamp_ms, |batch| batch.timestamp_ms);
    bytes.extend_from_slice(&producer_id.to_be_bytes());
    bytes.extend_from_slice(&producer.epoch.to_be_bytes());
    bytes.extend_from_slice(&batch.map_or(-1, |batch| batch.last_sequence).to_be_bytes());
    bytes.extend_from_slice(&batch.map_or(-1, |batch| batch.last_offset).to_be_bytes());
    bytes.extend_from_slice(&batch.map_or(0, |batch| batch.offset_delta).to_be_bytes());
    bytes.extend_from_slice(&timestamp_ms.to_be_bytes());
    bytes.extend_from_slice(&producer.coordinator_epoch.to_be_bytes());
    bytes.extend_from_slice(&producer.transaction_first_offset.unwrap_or(-1).to_be_bytes());
}

fn parse_entry(entry: &[u8; ENTRY_BYTES]) -> (i64, Producer) {
    let long = |at: usize| i64::from_be_bytes(*entry[at..].first_chunk().expect("the entry is long enough"));
    let int = |at: usize| i32::from_be_bytes(*entry[at..].first_chunk().expect("the entry is long enough"));
    let (producer_id, epoch) = (long(0), i16::from_be_bytes([entry[8], entry[9]]));
    let (last_sequence, last_offset, offset_delta, timestamp_ms) = (int(10), long(14), int(22), long(26));
    let mut producer = Producer {
        batches: VecDeque::new(),
        epoch,
        last_timestamp_ms: timestamp_ms,
        coordinator_epoch: int(34),
        transaction_first_offset: Some(long(38)).filter(|offset| *offset >= 0),
    };
    if last_sequence >= 0 {
        let first_sequence = first_sequence(last_sequence, offset_delta);
        producer.batches.push_back(ProducerBatch {
            producer_id,
            epoch,
            first_sequence,
            last_sequence,
            last_offset,
            offset_delta,
            timestamp_ms,
        });
    }
    (producer_id, producer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(producer_id: i64, epoch: i16, base_sequence: i32, base_offset: i64) -> BatchHeader {
        BatchHeader {
            base_offset,
            batch_length: 60,
            leader_epoch: 0,
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 1,
            base_timestamp: 100 + base_offset,
            max_timestamp: 100 + base_offset,
            producer_id,
            producer_epoch: epoch,
            base_sequence,
            record_count: 2,
        }
    }

    #[test]
    fn five_batches_are_kept_and_all_are_in_a_snapshot() {
        let mut producers = Producers::default();
        for batch in 0..7 {
            producers.note(&header(9, 0, batch * 2, i64::from(batch) * 2));
        }
        producers.note(&header(-1, -1, -1, 14));
        let sequences: Vec<_> = producers.batches().iter().map(|batch| batch.first_sequence).collect();
        assert_eq!(sequences, [4, 6, 8, 10, 12]);

        let restored = Producers::parse_snapshot(&producers.snapshot()).unwrap();
        assert_eq!(restored.batches(), producers.batches());
    }

    #[test]
    fn a_new_epoch_begins_anew_and_old_producers_expire() {
        let mut producers = Producers::default();
        producers.note(&header(9, 0, 0, 0));
        producers.note(&header(9, 1, 0, 2));
        producers.note(&header(8, 0, 0, 4));
        assert_eq!(
            producers.batches().iter().map(|batch| (batch.producer_id, batch.epoch)).collect::<Vec<_>>(),
            [(9, 1), (8, 0)]
        );
        producers.expire(104);
        assert_eq!(producers.batches().len(), 1);
    }

    #[test]
    fn damaged_snapshots_are_not_believed() {
        let mut producers = Producers::default();
        producers.note(&header(9, 0, 0, 0));
        let good = producers.snapshot();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Producers::parse_snapshot(&bad).is_none(), "bit {bit}");
        }
        for length in 0..good.len() {
            assert!(Producers::parse_snapshot(&good[..length]).is_none());
        }
    }

    #[test]
    fn sequences_wrap() {
        assert_eq!(first_sequence(0, 1), i32::MAX);
        assert_eq!(first_sequence(5, 2), 3);
    }

    #[test]
    fn only_the_newest_keys_are_remembered_also_by_a_snapshot() {
        use capek_wire::keyed::{KEYED_PRODUCER_ID_FIRST, KEYED_PRODUCERS_MAX};
        let mut producers = Producers::default();
        producers.note(&header(7, 0, 0, 0));
        for index in 0..=KEYED_PRODUCERS_MAX as i64 {
            producers.note(&header(KEYED_PRODUCER_ID_FIRST + index, 0, 99, 2 + 2 * index));
        }
        assert_eq!(producers.by_id.len(), 1 + KEYED_PRODUCERS_MAX);
        assert!(producers.by_id.contains_key(&7), "a client's producer stays");
        assert!(!producers.by_id.contains_key(&KEYED_PRODUCER_ID_FIRST));
        let mut read = Producers::parse_snapshot(&producers.snapshot()).expect("it was just written");
        assert_eq!(read, producers);
        read.note(&header(KEYED_PRODUCER_ID_FIRST - 1 + (1 << 40), 0, 99, 1 << 40));
        assert!(!read.by_id.contains_key(&(KEYED_PRODUCER_ID_FIRST + 1)), "the next oldest goes");
    }
}
