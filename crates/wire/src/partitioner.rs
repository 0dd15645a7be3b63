//! Which partition a record goes to, as Kafka's clients choose: by murmur2 of the key, and without a key to one
//! partition until a batch is full.

/// Kafka's 32-bit murmur2.
pub fn murmur2(bytes: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const FACTOR: u32 = 0x5bd1_e995;

    let mut hash = SEED ^ bytes.len() as u32;
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(FACTOR) ^ mixed.wrapping_mul(FACTOR);
    }
    if !tail.is_empty() {
        for (index, byte) in tail.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(FACTOR);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(FACTOR);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a record with this key; `partition_count` is above 0.
pub fn partition_for_key(key: &[u8], partition_count: i32) -> i32 {
    assert!(partition_count > 0, "a topic has partitions");
    (murmur2(key) & i32::MAX) % partition_count
}

/// Chooses for records without a key: stays on one partition for a batch's worth of bytes, then goes to a random one.
#[derive(Clone, Debug)]
pub struct Sticky {
    state: u64,
    batch_size_bytes: usize,
    partition: Option<i32>,
    bytes: usize,
}

impl Sticky {
    /// The same seed gives the same choices.
    pub fn new(seed: u64, batch_size_bytes: usize) -> Sticky {
        Sticky { state: seed, batch_size_bytes, partition: None, bytes: 0 }
    }

    /// The partition for the next record, which takes `record_bytes`; `partition_count` is above 0.
    pub fn partition(&mut self, partition_count: i32, record_bytes: usize) -> i32 {
        assert!(partition_count > 0, "a topic has partitions");
        let stays =
            self.partition.filter(|partition| self.bytes < self.batch_size_bytes && *partition < partition_count);
        let partition = stays.unwrap_or_else(|| {
            self.bytes = 0;
            (self.bits() % partition_count as u64) as i32
        });
        self.partition = Some(partition);
        self.bytes += record_bytes;
        partition
    }

    /// SplitMix64.
    fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        let known = [
            ("21", -973932308),
            ("foobar", -790332482),
            ("a-little-bit-long-string", -985981536),
            ("a-little-bit-longer-string", -1486304829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
            ("abc", 479470107),
        ];
        for (key, hash) in known {
            assert_eq!(murmur2(key.as_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn keys_spread_over_all_partitions() {
        let mut counts = [0; 6];
        for key in 0..6000 {
            counts[partition_for_key(key.to_string().as_bytes(), 6) as usize] += 1;
        }
        assert!(counts.iter().all(|count| (800..1200).contains(count)), "{counts:?}");
    }

    #[test]
    fn records_without_a_key_stay_together_for_a_batch() {
        let mut sticky = Sticky::new(7, 1000);
        let mut changes = 0;
        let mut counts = [0; 6];
        let mut last = -1;
        for _ in 0..60_000 {
            let partition = sticky.partition(6, 100);
            changes += i32::from(partition != last);
            last = partition;
            counts[partition as usize] += 1;
        }
        assert!(changes <= 6000, "ten records a batch, but {changes} changes");
        assert!(counts.iter().all(|count| (9_000..11_000).contains(count)), "{counts:?}");
        assert!(sticky.partition(1, 100) == 0, "the topic has become smaller");
    }
}
