//! What stays of a batch. A plain decision: the map of last offsets, the time, and what must not go are given.
//!
//! ```text
//!   record at or beyond the end of the map       stays
//!   without a key                                goes
//!   a later one has its key                      goes
//!   with a value                                 stays
//!   tombstone, its batch has no horizon yet      stays, and the batch gets one: now + delete.retention.ms
//!   tombstone, before the horizon                stays
//!   tombstone, the horizon has passed            goes
//! ```

use capek_wire::batch::{BatchContent, RecordView, SiftedBatch, emptied};
use capek_wire::{BatchError, BatchHeader};

use super::offset_map::OffsetMap;

/// What one batch may inflate to.
pub(super) const INFLATED_BYTES_MAX: usize = 256 << 20;

pub(super) struct Filter<'a> {
    pub map: &'a OffsetMap,
    pub now_ms: i64,
    pub delete_retention_ms: i64,
    pub needed: &'a NeededBatches,
}

/// Batches that stay even without a record: other files are made anew from them.
#[derive(Debug, Default)]
pub(crate) struct NeededBatches {
    /// Last offsets of the batches that tell what idempotent producers sent last. Sorted.
    pub producer_offsets: Vec<i64>,
    /// Where leader epochs begin. Sorted.
    pub epoch_starts: Vec<i64>,
    /// Where segments end: the batch that reaches up to there.
    pub segment_end: i64,
}

impl NeededBatches {
    fn holds(&self, header: &BatchHeader) -> bool {
        header.next_offset() == self.segment_end
            || self.epoch_starts.binary_search(&header.base_offset).is_ok()
            || (header.producer_id >= 0 && self.producer_offsets.binary_search(&header.last_offset()).is_ok())
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Unchanged,
    Changed(Vec<u8>),
    Gone,
}

impl Filter<'_> {
    /// Judges a whole batch whose checksum is right.
    pub fn sift(&self, header: &BatchHeader, batch: &[u8]) -> Result<Verdict, BatchError> {
        if header.is_control() || header.base_offset >= self.map.end_offset() {
            return Ok(Verdict::Unchanged);
        }
        let content = BatchContent::open(batch, INFLATED_BYTES_MAX)?;
        let (mut kept, mut has_tombstones) = (Vec::new(), false);
        for record in content.views() {
            let record = record?;
            if self.keeps(header, &record) {
                has_tombstones |= record.is_tombstone;
                kept.push(record);
            }
        }
        if kept.is_empty() {
            return Ok(self.judge_empty(header));
        }
        let needs_horizon = has_tombstones && header.delete_horizon_ms().is_none();
        if kept.len() == header.record_count as usize && !needs_horizon {
            return Ok(Verdict::Unchanged);
        }
        let horizon_ms = self.now_ms.saturating_add(self.delete_retention_ms);
        let mut sifted = SiftedBatch::new(&content, needs_horizon.then_some(horizon_ms));
        kept.iter().for_each(|record| sifted.keep(record));
        sifted.build().map(Verdict::Changed)
    }

    fn judge_empty(&self, header: &BatchHeader) -> Verdict {
        if !self.needed.holds(header) {
            Verdict::Gone
        } else if header.record_count == 0 {
            Verdict::Unchanged
        } else {
            Verdict::Changed(emptied(header).to_vec())
        }
    }

    fn keeps(&self, header: &BatchHeader, record: &RecordView<'_>) -> bool {
        if record.offset >= self.map.end_offset() {
            return true;
        }
        let Some(key) = record.key else { return false };
        let is_last = self.map.get(key).is_none_or(|last| record.offset >= last);
        let has_passed = header.delete_horizon_ms().is_some_and(|horizon_ms| horizon_ms <= self.now_ms);
        is_last && !(record.is_tombstone && has_passed)
    }
}

#[cfg(test)]
mod tests {
    use capek_wire::batch::{check, patch, records};
    use capek_wire::{BatchBuilder, Codec};

    use super::super::offset_map::MapLimits;
    use super::*;

    fn map(entries: &[(&str, i64)], end_offset: i64) -> OffsetMap {
        let limits = MapLimits { memory_bytes: 1 << 16, keys_max: 100, load_factor: 0.9 };
        let mut map = OffsetMap::new([1; 16], limits, 0);
        entries.iter().for_each(|(key, offset)| assert!(map.put(key.as_bytes(), *offset)));
        map.advance(end_offset);
        map
    }

    /// From offset 10 on.
    fn batch(records: &[(Option<&str>, Option<&str>)]) -> Vec<u8> {
        let mut builder = BatchBuilder::new(Codec::None);
        for (key, value) in records {
            builder.push(1000, key.map(str::as_bytes), value.map(str::as_bytes), &[]);
        }
        builder.producer(7, 0, 0);
        let mut batch = builder.build().unwrap();
        patch(&mut batch, 10, 2);
        batch.to_vec()
    }

    fn sift_at(now_ms: i64, map: &OffsetMap, needed: &NeededBatches, batch: &[u8]) -> Verdict {
        let filter = Filter { map, now_ms, delete_retention_ms: 100, needed };
        filter.sift(&check(batch).unwrap(), batch).unwrap()
    }

    fn sift(map: &OffsetMap, batch: &[u8]) -> Verdict {
        sift_at(5000, map, &NeededBatches::default(), batch)
    }

    fn offsets(verdict: &Verdict) -> Vec<i64> {
        let Verdict::Changed(batch) = verdict else { panic!("{verdict:?}") };
        check(batch).unwrap();
        let records = records(batch.clone().into(), 1 << 20).unwrap();
        records.map(|record| record.unwrap().offset).collect()
    }

    #[test]
    fn the_last_record_of_a_key_stays_and_a_keyless_one_goes() {
        let batch = batch(&[(Some("a"), Some("1")), (None, Some("2")), (Some("b"), Some("3")), (Some("a"), Some("4"))]);
        assert_eq!(offsets(&sift(&map(&[("a", 13), ("b", 12)], 20), &batch)), [12, 13]);
        assert_eq!(offsets(&sift(&map(&[("a", 13), ("b", 99)], 20), &batch)), [13]);
        assert_eq!(sift(&map(&[("a", 50), ("b", 99)], 20), &batch), Verdict::Gone);
        assert_eq!(offsets(&sift(&map(&[], 20), &batch)), [10, 12, 13], "what is not in the map is not outdated");
    }

    #[test]
    fn what_the_map_did_not_see_stays() {
        let batch = batch(&[(Some("a"), Some("1")), (None, Some("2")), (Some("a"), Some("3"))]);
        assert_eq!(sift(&map(&[("a", 99)], 10), &batch), Verdict::Unchanged);
        assert_eq!(offsets(&sift(&map(&[("a", 99)], 11), &batch)), [11, 12]);
    }

    #[test]
    fn a_tombstone_stays_until_its_horizon() {
        let batch = batch(&[(Some("a"), Some("1")), (Some("b"), None)]);
        let map = map(&[("a", 10), ("b", 11)], 20);
        let needed = NeededBatches::default();
        let first = sift_at(5000, &map, &needed, &batch);
        assert_eq!(offsets(&first), [10, 11]);
        let Verdict::Changed(with_horizon) = first else { unreachable!() };
        assert_eq!(check(&with_horizon).unwrap().delete_horizon_ms(), Some(5100));
        assert_eq!(sift_at(5099, &map, &needed, &with_horizon), Verdict::Unchanged);
        assert_eq!(offsets(&sift_at(5100, &map, &needed, &with_horizon)), [10]);
    }

    #[test]
    fn needed_batches_stay_without_records() {
        let batch = batch(&[(Some("a"), Some("1")), (Some("b"), None)]);
        let map = map(&[("a", 90), ("b", 91)], 100);
        let needed = [
            NeededBatches { segment_end: 12, ..NeededBatches::default() },
            NeededBatches { epoch_starts: vec![3, 10], ..NeededBatches::default() },
            NeededBatches { producer_offsets: vec![5, 11], ..NeededBatches::default() },
        ];
        for needed in &needed {
            let first = sift_at(5000, &map, needed, &batch);
            assert_eq!(offsets(&first), [0; 0]);
            let Verdict::Changed(empty) = first else { unreachable!() };
            assert_eq!(sift_at(5000, &map, needed, &empty), Verdict::Unchanged);
            assert_eq!(sift_at(5000, &map, &NeededBatches::default(), &empty), Verdict::Gone);
        }
        let others = NeededBatches { epoch_starts: vec![11], producer_offsets: vec![10], segment_end: 13 };
        assert_eq!(sift_at(5000, &map, &others, &batch), Verdict::Gone);
    }

    #[test]
    fn control_batches_stay_as_they_are() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(1000, Some(b"a"), Some(b"1"), &[]);
        builder.control();
        let batch = builder.build().unwrap();
        assert_eq!(sift(&map(&[("a", 90)], 100), &batch), Verdict::Unchanged);
    }
}
