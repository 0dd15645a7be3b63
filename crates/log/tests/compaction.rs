//! Compaction against a model: of each key the last value stays where it was, and nothing else changes.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use capek_log::vfs::{Fault, FaultyVfs, SimVfs, Vfs, read_file};
use capek_log::{
    Clean, CleanError, CleanOptions, Cleanable, Entry, JournalOptions, Log, LogConfig, Outcome, ProducerBatch, dump,
};
use capek_wire::batch::{batches, records};
use capek_wire::{BatchBuilder, Codec, Record};
use common::*;

const DELETE_RETENTION_MS: i64 = 1000;
const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

fn config() -> LogConfig {
    LogConfig { segment_bytes: 3000, index_interval_bytes: 400, file_delete_delay_ms: 0, ..LogConfig::default() }
}

fn small_options() -> JournalOptions {
    JournalOptions { file_bytes: 64 << 10, bypass_bytes: 6000, ..options("/data") }
}

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % below
    }
}

/// A log and all that was ever appended to it.
struct World {
    driver: Driver,
    log: Arc<Log>,
    random: Random,
    records: Vec<Record>,
    /// Base offset, next offset.
    batches: Vec<(i64, i64)>,
    /// By the base offset of the batch.
    horizons: BTreeMap<i64, i64>,
    /// All that cleans have set.
    set_horizons: BTreeSet<i64>,
    sequences: BTreeMap<i64, i32>,
    epoch: i32,
}

impl World {
    fn new(vfs: Arc<dyn Vfs>, seed: u64) -> World {
        let (mut driver, _) = Driver::open(vfs, small_options()).unwrap();
        let log = driver.log("keyed", 0, config());
        World {
            driver,
            log,
            random: Random(seed),
            records: Vec::new(),
            batches: Vec::new(),
            horizons: BTreeMap::new(),
            set_horizons: BTreeSet::new(),
            sequences: BTreeMap::new(),
            epoch: 0,
        }
    }

    fn append_random(&mut self, keys: u64) {
        let base_offset = self.log.end_offset();
        let mut builder = BatchBuilder::new(CODECS[self.random.next(5) as usize]);
        let count = 1 + self.random.next(8);
        for at in 0..count {
            let key = self.random.next(keys).to_string();
            let value: Vec<u8> = (0..self.random.next(200)).map(|_| self.random.next(256) as u8).collect();
            let (key, value) = match self.random.next(12) {
                0 => (None, Some(value)),
                1..4 => (Some(key), None),
                _ => (Some(key), Some(value)),
            };
            let timestamp = 1000 + base_offset + at as i64 - self.random.next(5) as i64;
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"h", Some(b"1")), (b"h", None)];
            builder.push(timestamp, key.as_deref().map(str::as_bytes), value.as_deref(), headers);
        }
        if self.random.next(2) == 0 {
            let producer_id = self.random.next(4) as i64;
            let sequence = self.sequences.entry(producer_id).or_default();
            builder.producer(producer_id, 0, *sequence);
            *sequence += count as i32;
        }
        self.epoch += i32::from(self.random.next(15) == 0);
        let batch = place(builder.build().unwrap(), base_offset, self.epoch);
        self.records.extend(records(batch.clone(), 1 << 20).unwrap().map(Result::unwrap));
        self.batches.push((base_offset, base_offset + count as i64));
        self.driver.push(append(&self.log, 0, vec![batch]));
        self.driver.run().unwrap();
    }

    fn clean(&mut self, now_ms: i64, dedupe_bytes_max: usize) {
        let options =
            CleanOptions { delete_retention_ms: DELETE_RETENTION_MS, dedupe_bytes_max, ..clean_options(now_ms) };
        let was_cleaned = self.log.cleaned_end();
        clean_all(&mut self.driver, &self.log, options).unwrap();
        if self.log.cleaned_end() > was_cleaned {
            self.set_horizons.insert(now_ms + DELETE_RETENTION_MS);
            self.clean_model(now_ms);
        }
    }

    /// What compaction up to the log's cleaned end leaves, by its rules and without its means.
    fn clean_model(&mut self, now_ms: i64) {
        let end = self.log.cleaned_end();
        let last: BTreeMap<_, _> = (self.records.iter().filter(|record| record.offset < end))
            .filter_map(|record| Some((record.key.clone()?, record.offset)))
            .collect();
        let batch_of = |offset: i64| self.batches[self.batches.partition_point(|batch| batch.1 <= offset)].0;
        let horizons = self.horizons.clone();
        self.records.retain(|record| {
            let Some(key) = &record.key else { return record.offset >= end };
            let has_passed = horizons.get(&batch_of(record.offset)).is_some_and(|horizon| *horizon <= now_ms);
            record.offset >= end || (record.offset == last[key] && !(record.value.is_none() && has_passed))
        });
        for record in self.records.iter().filter(|record| record.offset < end && record.value.is_none()) {
            self.horizons.entry(batch_of(record.offset)).or_insert(now_ms + DELETE_RETENTION_MS);
        }
    }

    fn check(&mut self, is_one_pass: bool) {
        let bytes = Bytes::from(content(&self.log));
        let mut found = Vec::new();
        let known: BTreeSet<_> = self.batches.iter().copied().collect();
        for (at, header) in batches(&bytes).map(Result::unwrap) {
            assert!(known.contains(&(header.base_offset, header.next_offset())), "{header:?}");
            if let Some(horizon) = header.delete_horizon_ms() {
                // Of several passes an early one may have met a tombstone that a later one outdates.
                let known = self.horizons.get(&header.base_offset).copied().filter(|_| is_one_pass);
                assert!(known == Some(horizon) || (!is_one_pass && self.set_horizons.contains(&horizon)), "{header:?}");
                self.horizons.insert(header.base_offset, horizon);
            }
            let records = records(bytes.slice(at..at + header.size_bytes()), 1 << 20).unwrap();
            let records: Vec<_> = records.map(Result::unwrap).collect();
            let largest = records.iter().map(|record| record.timestamp).max();
            assert!(largest.is_none_or(|largest| largest == header.max_timestamp), "{header:?}");
            found.extend(records);
        }
        assert_eq!(found, self.records);
        for offset in (0..self.log.end_offset()).step_by(7) {
            let next = self.batches.iter().rposition(|batch| batch.0 <= offset).unwrap();
            let first = base_offsets(&read_from(&self.log, offset, 1));
            assert!(first.first().is_none_or(|first| *first >= self.batches[next].0), "reading from {offset}");
        }
    }

    /// What the log knows besides its records.
    fn knowledge(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let epochs: Vec<_> =
            (0..=self.epoch).map(|epoch| self.log.epoch_end_offset(epoch, self.epoch).unwrap()).collect();
        let largest = self.log.max_timestamp_offset(i64::MAX).unwrap();
        // A snapshot keeps one batch of each producer, so after a start no more may be known.
        let batches = self.log.producer_batches().unwrap();
        // The largest timestamp of a batch is that of the records that stayed.
        let timeless = |batch: ProducerBatch| (batch.producer_id, ProducerBatch { timestamp_ms: 0, ..batch });
        let producers: BTreeMap<_, _> = batches.into_iter().map(timeless).collect();
        (producers, epochs, largest, self.log.cleaned_end(), self.log.end_offset())
    }

    fn reopen(&mut self, vfs: Arc<dyn Vfs>) {
        let (driver, recovery) = Driver::open(vfs, small_options()).unwrap();
        assert!(recovery.logs.iter().all(|log| log.damaged.is_none()), "{:?}", recovery.logs);
        self.driver = driver;
        self.log = self.driver.log("keyed", 0, config());
    }
}

#[test]
fn compaction_keeps_the_last_value_of_each_key_and_nothing_else_changes() {
    let mut swaps = 0;
    for seed in 0..40 {
        let sim = SimVfs::new(seed);
        let mut world = World::new(Arc::new(sim.clone()), seed);
        let keys = [3, 20, 400][seed as usize % 3];
        // A map that holds everything, and one that takes many passes.
        let is_one_pass = seed.is_multiple_of(2);
        let dedupe_bytes = if is_one_pass { 1 << 20 } else { 24 * 12 };
        for now_ms in (0..5).map(|clean| 10_000 + clean * 600) {
            for _ in 0..20 + world.random.next(30) {
                world.append_random(keys);
            }
            world.clean(now_ms, dedupe_bytes);
            world.check(is_one_pass);
            let known = world.knowledge();
            if world.random.next(2) == 0 {
                // Without a clean stop: recovery looks at everything.
                world.driver.journal.background(0).unwrap();
                world.reopen_after(&sim);
                world.check(is_one_pass);
                assert_eq!(world.knowledge(), known, "seed {seed}");
            }
        }
        assert_eq!(dump::verify_in(&sim, Path::new("/data/keyed-0")).unwrap().problems, [], "seed {seed}");
        swaps += usize::from(world.log.cleaned_end() > 0);
    }
    assert_eq!(swaps, 40);
}

/// `count` records in batches of one, each with a value of 300 bytes.
fn world_of(vfs: Arc<dyn Vfs>, keys: &[&str]) -> World {
    let mut world = World::new(vfs, 1);
    for key in keys {
        append_one(&mut world, key, Some(&[7; 300]));
    }
    world
}

fn append_one(world: &mut World, key: &str, value: Option<&[u8]>) {
    let end = world.log.end_offset();
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1000 + end * 10, Some(key.as_bytes()), value, &[]);
    world.driver.push(append(&world.log, 0, vec![place(builder.build().unwrap(), end, 0)]));
    world.driver.run().unwrap();
}

fn cleanable(world: &World, now_ms: i64) -> Option<Cleanable> {
    world.log.cleanable(query(now_ms, world.log.end_offset())).unwrap()
}

#[test]
fn small_segments_become_one_and_the_active_one_stays() {
    let mut world = world_of(Arc::new(SimVfs::new(1)), &["a"; 40]);
    assert_eq!(world.log.segments_len().unwrap(), 5);
    let before = cleanable(&world, 0).unwrap();
    assert_eq!((before.first_dirty, before.end_offset, before.clean_bytes), (0, 32, 0));
    assert_eq!(before.dirty_ratio(), 1.0);
    clean_all(&mut world.driver, &world.log, clean_options(0)).unwrap();
    assert_eq!(world.log.segments_len().unwrap(), 5, "two full ones do not fit into one");
    assert_eq!(cleanable(&world, 0), None);
    for _ in 0..20 {
        append_one(&mut world, "b", Some(&[7; 300]));
    }
    let ratio = cleanable(&world, 0).unwrap().dirty_ratio();
    assert!((0.8..1.0).contains(&ratio), "{ratio}");
    clean_all(&mut world.driver, &world.log, clean_options(0)).unwrap();
    let kept_for_their_ends = [0, 31, 39, 47];
    assert_eq!(base_offsets(&content(&world.log))[..4], kept_for_their_ends);
    assert_eq!(record_offsets(&content(&world.log))[..3], [39, 55, 56], "the last of each key and the active segment");
}

#[test]
fn young_records_and_what_is_not_committed_are_left_alone() {
    let world = world_of(Arc::new(SimVfs::new(1)), &["a"; 40]);
    let ends = |min_lag_ms, high_watermark| {
        let query = capek_log::CleanableQuery { min_lag_ms, ..query(2000, high_watermark) };
        world.log.cleanable(query).unwrap().map(|cleanable| cleanable.end_offset)
    };
    assert_eq!(ends(0, 40), Some(32));
    assert_eq!(ends(0, 31), Some(24));
    assert_eq!(ends(0, 7), None);
    assert_eq!(ends(2000 - 1150, 40), Some(16), "record 15 is of 1150");
    assert_eq!(ends(2000 - 1149, 40), Some(8));
    assert_eq!(ends(2000, 40), None);
    let is_overdue = |max_lag_ms| {
        let query = capek_log::CleanableQuery { max_lag_ms, ..query(2000, 40) };
        world.log.cleanable(query).unwrap().unwrap().is_overdue
    };
    assert!(is_overdue(999) && !is_overdue(1000) && !is_overdue(i64::MAX));
}

#[test]
fn a_swap_is_refused_when_its_segments_changed_meanwhile() {
    for is_cut in [true, false] {
        let sim = SimVfs::new(1);
        let mut world = world_of(Arc::new(sim.clone()), &["a"; 40]);
        let range = cleanable(&world, 0).unwrap();
        let mut clean = Clean::begin(&world.log, range, clean_options(0), &mut NoWatch).unwrap();
        assert!(Clean::begin(&world.log, range, clean_options(0), &mut NoWatch).is_err(), "one at a time");
        let cleaned = clean.next_group(&mut NoWatch).unwrap().unwrap();
        let log = world.log.clone();
        world.driver.push(match is_cut {
            true => Entry::Truncate { log: log.clone(), end_offset: 3 },
            false => Entry::LogStart { log: log.clone(), offset: 8 },
        });
        world.driver.push(Entry::Swap { log, cleaned });
        let done = world.driver.run().unwrap();
        assert!(matches!(done[1].outcome, Outcome::SwapRefused), "{done:?}");
        assert!(matches!(clean.next_group(&mut NoWatch), Err(CleanError::Ended)) == is_cut);
        let expected: Vec<i64> = if is_cut { (0..3).collect() } else { (8..40).collect() };
        assert_eq!(base_offsets(&content(&world.log)), expected);
    }
}

#[test]
fn a_cut_into_the_cleaned_part_makes_it_dirty_again() {
    let sim = SimVfs::new(1);
    let keys: Vec<String> = (0..40).map(|key| (key % 10).to_string()).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let mut world = world_of(Arc::new(sim.clone()), &keys);
    clean_all(&mut world.driver, &world.log, clean_options(0)).unwrap();
    assert_eq!(world.log.cleaned_end(), 32);
    world.driver.push(Entry::Truncate { log: world.log.clone(), end_offset: 30 });
    world.driver.run().unwrap();
    assert_eq!((world.log.end_offset(), world.log.cleaned_end()), (30, 30));
    world.driver.journal.background(0).unwrap();
    world.reopen_after(&sim);
    assert_eq!(world.log.cleaned_end(), 30);
    assert_eq!(base_offsets(&content(&world.log)).last(), Some(&29));
}

fn record_offsets(bytes: &[u8]) -> Vec<i64> {
    let bytes = Bytes::copy_from_slice(bytes);
    let each = batches(&bytes).map(Result::unwrap);
    each.flat_map(|(at, header)| records(bytes.slice(at..at + header.size_bytes()), 1 << 20).unwrap())
        .map(|record| record.unwrap().offset)
        .collect()
}

impl World {
    fn reopen_after(&mut self, sim: &SimVfs) {
        self.driver = Driver::open(Arc::new(SimVfs::new(9)), small_options()).unwrap().0;
        self.reopen(Arc::new(sim.clone()));
    }
}

#[test]
fn how_far_a_log_was_cleaned_is_remembered_in_kafkas_file_and_forgotten_with_the_log() {
    let sim = SimVfs::new(1);
    let mut world = world_of(Arc::new(sim.clone()), &["a"; 40]);
    clean_all(&mut world.driver, &world.log, clean_options(0)).unwrap();
    world.driver.journal.background(0).unwrap();
    let text = || String::from_utf8(read_file(&sim, Path::new("/data/cleaner-offset-checkpoint")).unwrap()).unwrap();
    assert_eq!(text(), "0\n1\nkeyed 0 32\n");
    world.reopen_after(&sim);
    assert_eq!(world.log.cleaned_end(), 32);
    world.driver.push(Entry::Delete { log: world.log.clone() });
    world.driver.run().unwrap();
    assert_eq!(text(), "0\n0\n");
    assert_eq!(world.driver.log("keyed", 0, config()).cleaned_end(), 0);
}

#[test]
fn a_full_disk_undoes_a_clean_and_a_later_one_works() {
    let mut failures = 0;
    for first in 1..60 {
        let sim = SimVfs::new(first);
        let faulty = FaultyVfs::new(Arc::new(sim.clone()), Fault::NoSpace);
        let keys: Vec<String> = (0..40).map(|key| (key % 10).to_string()).collect();
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let mut world = world_of(Arc::new(faulty.clone()), &keys);
        let range = cleanable(&world, 0).unwrap();
        faulty.fail_between(faulty.operations() + first, faulty.operations() + first + 3);
        match one_clean(&mut world, range) {
            Ok(true) => {}
            Ok(false) | Err(CleanError::NoSpace) => failures += 1,
            Err(error) => panic!("{error}"),
        }
        faulty.fail_between(u64::MAX, u64::MAX);
        clean_all(&mut world.driver, &world.log, clean_options(0)).unwrap();
        assert_eq!(record_offsets(&content(&world.log)), (22..40).collect::<Vec<_>>(), "first {first}");
        world.driver.journal.background(i64::MAX).unwrap();
        world.reopen_after(&sim);
        assert_eq!(record_offsets(&content(&world.log)), (22..40).collect::<Vec<_>>(), "first {first}");
        let names = sim.read_directory(Path::new("/data/keyed-0")).unwrap();
        assert!(!names.iter().any(|entry| entry.name.ends_with(".cleaned") || entry.name.ends_with(".swap")));
    }
    assert!(failures > 5, "{failures} cleans met the full disk");
}

/// `false`: a swap was refused.
fn one_clean(world: &mut World, range: Cleanable) -> Result<bool, CleanError> {
    let mut clean = Clean::begin(&world.log, range, clean_options(0), &mut NoWatch)?;
    while let Some(cleaned) = clean.next_group(&mut NoWatch)? {
        world.driver.push(Entry::Swap { log: world.log.clone(), cleaned });
        if outcomes(&world.driver.run().unwrap()) != ["swapped"] {
            return Ok(false);
        }
    }
    Ok(true)
}

#[test]
fn a_damaged_segment_is_not_cleaned() {
    let sim = SimVfs::new(1);
    let mut world = world_of(Arc::new(sim.clone()), &["a"; 40]);
    sim.flip_bit(Path::new("/data/keyed-0/00000000000000000008.log"), 8000).unwrap();
    let range = cleanable(&world, 0).unwrap();
    let error = one_clean(&mut world, range).err().unwrap();
    assert!(matches!(&error, CleanError::Uncleanable(problem) if problem.contains("segment 8 at")), "{error}");
    assert_eq!(base_offsets(&content_below(&world.log, 8)), (0..8).collect::<Vec<_>>());
}

fn content_below(log: &Log, end_offset: i64) -> Vec<u8> {
    let request =
        capek_log::ReadRequest { offset: 0, max_bytes: 1 << 20, end_offset, at_least_one: true, may_block: true };
    match log.read(request).unwrap() {
        capek_log::ReadOutcome::Data { bytes, .. } => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// What went past the journal is compared with its segment by replay: recovery points must be behind that first.
#[test]
fn a_range_that_went_past_the_journal_can_be_compacted() {
    let sim = SimVfs::new(1);
    let mut world = world_of(Arc::new(sim.clone()), &[]);
    let batches: Vec<_> = (0..20).map(|offset| keyed(offset, "a", 400)).collect();
    world.driver.push(append(&world.log, 0, batches));
    // One round only: that it was synced is in the journal with the next.
    assert!(world.driver.journal.write(&mut world.driver.queue, 0, &mut world.driver.done).unwrap());
    world.driver.journal.sync(0, &mut world.driver.done).unwrap();
    assert!(world.driver.journal.wants_round());
    world.driver.journal.checkpoint_soon().unwrap();
    for _ in 0..100 {
        world.driver.journal.background(0).unwrap();
    }
    world.driver.run().unwrap();
    clean_all(&mut world.driver, &world.log, clean_options(0)).unwrap();
    let compacted = content(&world.log);
    assert!(record_offsets(&compacted).len() < 10);
    world.reopen_after(&sim);
    assert_eq!(content(&world.log), compacted);
}

fn keyed(offset: i64, key: &str, value_bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1000 + offset, Some(key.as_bytes()), Some(&vec![7; value_bytes]), &[]);
    place(builder.build().unwrap(), offset, 0)
}
