//! The last offset of each key, in memory that does not grow: a table of 24 bytes a key, 16 of them a hash that stands for
//! the key.

use super::siphash::{SipKey, hash128};

pub(super) const SLOT_BYTES: usize = 24;

#[derive(Clone, Copy)]
struct Slot {
    hash: [u64; 2],
    /// -1: nobody is here.
    offset: i64,
}

const FREE: Slot = Slot { hash: [0; 2], offset: -1 };

pub(super) struct OffsetMap {
    key: SipKey,
    slots: Vec<Slot>,
    len: usize,
    len_max: usize,
    /// Exclusive: what is below is in the map.
    end_offset: i64,
}

/// How large a map may become.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapLimits {
    pub memory_bytes: usize,
    /// No more keys than this can come.
    pub keys_max: u64,
    /// How full it may get, above 0 and at most 1.
    pub load_factor: f64,
}

impl OffsetMap {
    pub fn new(random: [u8; 16], limits: MapLimits, start_offset: i64) -> OffsetMap {
        let [first, second] =
            [0, 8].map(|at| u64::from_le_bytes(*random[at..].first_chunk().expect("it has 16 bytes")));
        let load_factor = limits.load_factor.clamp(0.01, 1.0);
        let wanted = (limits.keys_max as f64 / load_factor).ceil() as usize + 1;
        let slots = (limits.memory_bytes / SLOT_BYTES).min(wanted).max(2);
        // A probe ends at a free slot: one is always left.
        let len_max = ((slots as f64 * load_factor) as usize).clamp(1, slots - 1);
        OffsetMap { key: SipKey(first, second), slots: vec![FREE; slots], len: 0, len_max, end_offset: start_offset }
    }

    /// `false`: no room for another key.
    pub fn put(&mut self, key: &[u8], offset: i64) -> bool {
        let hash = hash128(self.key, key);
        let at = self.find(hash);
        let slot = &mut self.slots[at];
        if slot.offset < 0 {
            if self.len >= self.len_max {
                return false;
            }
            self.len += 1;
            slot.hash = hash;
        }
        slot.offset = slot.offset.max(offset);
        true
    }

    /// The last offset of a key that came below the end.
    pub fn get(&self, key: &[u8]) -> Option<i64> {
        let found = self.slots[self.find(hash128(self.key, key))].offset;
        (found >= 0).then_some(found)
    }

    /// Where the hash is, or where it would go.
    fn find(&self, hash: [u64; 2]) -> usize {
        let count = self.slots.len();
        // The upper bits of the product are the hash scaled to the table.
        let mut at = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        while self.slots[at].offset >= 0 && self.slots[at].hash != hash {
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        at
    }

    pub fn advance(&mut self, end_offset: i64) {
        self.end_offset = self.end_offset.max(end_offset);
    }

    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(memory_bytes: usize, load_factor: f64) -> OffsetMap {
        OffsetMap::new([3; 16], MapLimits { memory_bytes, keys_max: 1 << 20, load_factor }, 0)
    }

    #[test]
    fn the_last_offset_of_a_key_counts() {
        let mut map = map(4096, 0.9);
        for (key, offset) in [("a", 1), ("b", 2), ("a", 7), ("", 9)] {
            assert!(map.put(key.as_bytes(), offset));
        }
        assert_eq!((map.get(b"a"), map.get(b"b"), map.get(b""), map.get(b"c")), (Some(7), Some(2), Some(9), None));
        assert_eq!(map.len(), 3);
    }

    #[test]
    fn a_full_map_takes_no_new_key_but_knows_the_old_ones() {
        for load_factor in [0.5, 0.9, 1.0] {
            let mut map = map(100 * SLOT_BYTES, load_factor);
            let fitted = (0..200u64).take_while(|key| map.put(&key.to_be_bytes(), *key as i64)).count();
            assert_eq!(fitted, ((100.0 * load_factor) as usize).min(99));
            assert!(map.put(&0u64.to_be_bytes(), 500) && !map.put(b"new", 501));
            assert_eq!(map.get(&0u64.to_be_bytes()), Some(500));
            for key in 1..fitted as u64 {
                assert_eq!(map.get(&key.to_be_bytes()), Some(key as i64));
            }
        }
    }

    #[test]
    fn a_small_log_takes_little_memory() {
        let map = OffsetMap::new([3; 16], MapLimits { memory_bytes: 1 << 30, keys_max: 10, load_factor: 0.9 }, 0);
        assert!(map.slots.len() < 20);
    }
}
