//! `Idempotency-Key`: the same request sent again stores nothing twice.
//!
//! The records of one request go to one partition, each batch of them as the only batch of a producer that is made of the key
//! (`capek_wire::keyed`), with a sequence that is made of what it holds. So the leader itself knows it again, by the rules for
//! idempotent producers: also a new leader, which has the producers with its log, and also after a restart.
//!
//! ```text
//!   id = key, number of the batch     sequence = the records
//!   same id, same sequence            duplicate: answered like the first time
//!   same id, another sequence         OUT_OF_ORDER_SEQUENCE_NUMBER: the key was used for other records
//! ```
//!
//! The numbered frames of a producer (`capek_state::stream::ProduceSlot`) are the same with another id, which its later frames use
//! again in the next epoch, so that a partition remembers few of them. Their sequence is made of the records, too.

use capek_state::stream::ProduceSlot;
use capek_wire::ids::{PartitionIndex, ProducerId};
use capek_wire::keyed::KEYED_PRODUCER_ID_FIRST;
use capek_wire::partitioner::partition_for_key;
use sha1::{Digest, Sha1};

use super::produce::NewRecord;

/// The header of the request, and of each record that it stored.
pub const HEADER: &str = "Idempotency-Key";

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    digest: [u8; 20],
    /// Of a producer that counts.
    epoch: i16,
}

/// As what the batch is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyedProducer {
    pub id: ProducerId,
    pub epoch: i16,
    pub sequence: i32,
}

impl IdempotencyKey {
    pub fn new(key: &[u8]) -> IdempotencyKey {
        IdempotencyKey { digest: Sha1::digest(key).into(), epoch: 0 }
    }

    /// Of a frame that its producer has counted.
    pub fn of_sequence(producer: &str, sequence: u64) -> IdempotencyKey {
        let ProduceSlot { generation, lane, epoch } = ProduceSlot::of(sequence);
        let digest = Sha1::new().chain_update(b"producer\0").chain_update(producer).chain_update(b"\0");
        let digest = digest.chain_update(generation.to_be_bytes()).chain_update(lane.to_be_bytes());
        IdempotencyKey { digest: digest.finalize().into(), epoch }
    }

    /// Where records go that name neither a partition nor a key.
    pub fn partition(&self, partition_count: i32) -> PartitionIndex {
        partition_for_key(&self.digest, partition_count)
    }

    /// Who writes the batch that is number `index` of its request.
    pub fn producer<'a>(&self, index: usize, records: impl Iterator<Item = &'a NewRecord>) -> KeyedProducer {
        let id = Sha1::new().chain_update(self.digest).chain_update((index as u64).to_be_bytes()).finalize();
        let id = i64::from_be_bytes(*id.first_chunk().expect("a digest has 20 bytes"));
        let id = (id & (KEYED_PRODUCER_ID_FIRST - 1)) | KEYED_PRODUCER_ID_FIRST;
        let mut content = Sha1::new();
        for record in records {
            add(&mut content, record.key.as_deref());
            add(&mut content, record.value.as_deref());
            for (name, value) in &record.headers {
                add(&mut content, Some(name));
                add(&mut content, value.as_deref());
            }
            let timestamp = record.timestamp_ms.map(i64::to_be_bytes);
            add(&mut content, timestamp.as_ref().map(|timestamp| &timestamp[..]));
        }
        let content = content.finalize();
        let sequence = i32::from_be_bytes(*content.first_chunk().expect("a digest has 20 bytes"));
        KeyedProducer { id, epoch: self.epoch, sequence: sequence & i32::MAX }
    }
}

/// With its length, so that what follows cannot be taken for a part of it.
fn add(digest: &mut Sha1, field: Option<&[u8]>) {
    let length = field.map_or(-1, |field| field.len() as i64);
    digest.update(length.to_be_bytes());
    digest.update(field.unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn record(key: &'static str, value: &'static str) -> NewRecord {
        NewRecord { key: Some(Bytes::from(key)), value: Some(Bytes::from(value)), ..Default::default() }
    }

    #[test]
    fn a_key_is_known_again_and_its_batches_are_not_mixed_up() {
        let key = IdempotencyKey::new(b"order-1");
        let producer = |key: &IdempotencyKey, index, record: &NewRecord| key.producer(index, [record].into_iter());
        let first = producer(&key, 0, &record("k", "v"));
        assert_eq!(first, producer(&IdempotencyKey::new(b"order-1"), 0, &record("k", "v")));
        assert!(first.id >= KEYED_PRODUCER_ID_FIRST && first.sequence >= 0);
        assert_ne!(first.id, producer(&key, 1, &record("k", "v")).id);
        assert_ne!(first.id, producer(&IdempotencyKey::new(b"order-2"), 0, &record("k", "v")).id);
        for other in [record("k", "w"), record("kv", ""), NewRecord { timestamp_ms: Some(1), ..record("k", "v") }] {
            let other = producer(&key, 0, &other);
            assert_eq!(other.id, first.id);
            assert_ne!(other.sequence, first.sequence);
        }
    }

    #[test]
    fn a_producers_later_frames_use_its_ids_again() {
        let producer =
            |name, sequence| IdempotencyKey::of_sequence(name, sequence).producer(0, [&record("k", "v")].into_iter());
        let first = producer("s", 3);
        assert_eq!(first, producer("s", 3));
        assert!(first.id >= KEYED_PRODUCER_ID_FIRST);
        let later = producer("s", 3 + 64);
        assert_eq!((later.id, later.epoch), (first.id, 1));
        let other = IdempotencyKey::of_sequence("s", 3).producer(0, [&record("k", "w")].into_iter());
        assert_eq!((other.id, other.epoch), (first.id, 0));
        assert_ne!(other.sequence, first.sequence, "the number was used for other records");
        assert_ne!(producer("s", 4).id, first.id);
        assert_ne!(producer("t", 3).id, first.id);
        assert_ne!(producer("s", 3 + 64 * 32_768).id, first.id, "epochs are used up: another generation");
    }

    /// They stand in logs: another version must find them again.
    #[test]
    fn the_numbers_of_a_key_never_change() {
        let producer = IdempotencyKey::new(b"order-1").producer(0, [&record("k", "v")].into_iter());
        assert_eq!((producer.id, producer.sequence), (7_665_323_821_593_711_782, 992_372_304));
    }
}
