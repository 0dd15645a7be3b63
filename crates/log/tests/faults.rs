//! A disk that is full, that fails, or that flips bits.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use capek_log::vfs::{Fault, FaultyVfs, SimVfs, Vfs, read_file};
use capek_log::{AppendError, Entry, JournalOptions, Log, LogConfig, Outcome, dump};
use common::*;

fn small_options() -> JournalOptions {
    JournalOptions { file_bytes: 32 << 10, bypass_bytes: 4000, round_bytes_max: 8_000, ..options("/data") }
}

/// Nothing gathers before it is written.
fn written_at_once() -> JournalOptions {
    JournalOptions { pending_bytes_max: 0, ..small_options() }
}

fn small_config() -> LogConfig {
    LogConfig { segment_bytes: 5000, index_interval_bytes: 500, file_delete_delay_ms: 0, ..LogConfig::default() }
}

/// Appends with a new incarnation after each failure, as partitions do, and what was answered as flushed.
struct Writing {
    log: Arc<Log>,
    incarnation: u32,
    confirmed: Vec<u8>,
    failures: usize,
}

impl Writing {
    fn new(log: Arc<Log>) -> Writing {
        Writing { log, incarnation: 1, confirmed: Vec::new(), failures: 0 }
    }

    fn append(&mut self, driver: &mut Driver, value_bytes: usize) -> Result<(), capek_log::DirFailed> {
        let end = self.log.end_offset();
        let bytes = batch(end, 0, 2, value_bytes, end);
        driver.push(append(&self.log, self.incarnation, vec![bytes.clone()]));
        for completion in driver.run()? {
            match completion.outcome {
                Outcome::Flushed { end_offset } => {
                    assert_eq!(end_offset, end + 2);
                    self.confirmed.extend_from_slice(&bytes);
                }
                Outcome::AppendFailed { error, .. } => {
                    assert!(matches!(error, AppendError::NoSpace), "{error}");
                    assert_eq!(self.log.end_offset(), end, "it was cut back");
                    self.incarnation += 1;
                    self.failures += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        Ok(())
    }
}

#[test]
fn a_full_disk_is_an_answer_and_appends_work_again_when_there_is_room() {
    let mut failures = 0;
    for first in 1..160 {
        let sim: Arc<dyn Vfs> = Arc::new(SimVfs::new(1));
        let faulty = FaultyVfs::new(sim.clone(), Fault::NoSpace);
        let (mut driver, _) = Driver::open(Arc::new(faulty.clone()), small_options()).unwrap();
        let mut small = Writing::new(driver.log("small", 0, small_config()));
        let mut large = Writing::new(driver.log("large", 0, small_config()));
        faulty.fail_between(faulty.operations() + first, faulty.operations() + first + 7);
        for _ in 0..25 {
            small.append(&mut driver, 300).unwrap();
            large.append(&mut driver, 2100).unwrap();
        }
        assert!(content(&small.log) == small.confirmed && content(&large.log) == large.confirmed);
        faulty.fail_between(u64::MAX, u64::MAX);
        small.append(&mut driver, 300).unwrap();
        large.append(&mut driver, 2100).unwrap();
        failures += small.failures + large.failures;
        drop(driver);
        let (mut driver, _) = Driver::open(sim, small_options()).unwrap();
        assert!(content(&driver.log("small", 0, small_config())) == small.confirmed, "first {first}");
        assert!(content(&driver.log("large", 0, small_config())) == large.confirmed, "first {first}");
    }
    assert!(failures > 100, "{failures} appends met the full disk");
}

/// What makes room on a full disk must not need any: the segment that is all deleted goes, its unwritten end with it.
#[test]
fn what_is_deleted_goes_though_the_disk_is_full() {
    let mut deleted_while_full = 0;
    for first in 1..12 {
        let sim = SimVfs::new(1);
        let faulty = FaultyVfs::new(Arc::new(sim.clone()), Fault::NoSpace);
        let (mut driver, _) = Driver::open(Arc::new(faulty.clone()), small_options()).unwrap();
        let log = driver.log("one", 0, small_config());
        for (count, value_bytes) in [(3, 1500), (2, 100)] {
            driver.append(&log, count, value_bytes);
            driver.run().unwrap();
        }
        faulty.fail_between(faulty.operations() + first, u64::MAX);
        driver.push(Entry::LogStart { log: log.clone(), offset: 5 });
        let done = driver.run().unwrap();
        if outcomes(&done).is_empty() {
            continue; // the journal had no room to note it
        }
        deleted_while_full += 1;
        driver.now_ms += 10;
        while driver.journal.background(driver.now_ms).unwrap() {}
        let files = sim.read_directory(Path::new("/data/one-0")).unwrap();
        let names: Vec<_> = files.into_iter().map(|entry| entry.name).collect();
        assert!(!names.iter().any(|name| name.contains(".log")), "first {first}: {names:?}");
        assert_eq!((log.log_start(), log.end_offset()), (5, 5));
        faulty.fail_between(u64::MAX, u64::MAX);
        driver.append(&log, 2, 10);
        driver.run().unwrap();
        driver.journal.close().unwrap();
        let verified = dump::verify_in(&sim, Path::new("/data/one-0")).unwrap();
        assert!(verified.problems.is_empty(), "first {first}: {:?}", verified.problems);
        assert_eq!((verified.log_start, verified.end), (Some(5), 7));
    }
    assert!(deleted_while_full > 5, "{deleted_while_full} times");
}

#[test]
fn a_stop_on_a_full_disk_is_as_good_as_a_crash() {
    let mut unclean = 0;
    for first in 1..30 {
        let sim: Arc<dyn Vfs> = Arc::new(SimVfs::new(1));
        let faulty = FaultyVfs::new(sim.clone(), Fault::NoSpace);
        let (mut driver, _) = Driver::open(Arc::new(faulty.clone()), small_options()).unwrap();
        let log = driver.log("one", 0, small_config());
        driver.append(&log, 4, 100);
        driver.run().unwrap();
        let written = content(&log);
        faulty.fail_between(faulty.operations() + first, u64::MAX);
        driver.journal.close().expect("no room is no failure");
        drop(log);
        let (mut driver, recovery) = Driver::open(sim, small_options()).unwrap();
        unclean += usize::from(!recovery.clean);
        assert!(content(&driver.log("one", 0, small_config())) == written, "first {first}");
    }
    assert!(unclean > 3, "{unclean} stops had no room for their mark");
}

/// Nothing is damaged where everything was deleted.
#[test]
fn an_empty_log_that_was_not_always_empty_is_good() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    let log = driver.log("one", 0, small_config());
    driver.append(&log, 3, 10);
    driver.run().unwrap();
    driver.push(Entry::LogStart { log: log.clone(), offset: 3 });
    driver.run().unwrap();
    driver.journal.close().unwrap();
    let verified = dump::verify_in(&sim, Path::new("/data/one-0")).unwrap();
    assert!(verified.problems.is_empty(), "{:?}", verified.problems);
    assert_eq!((verified.segments, verified.log_start, verified.end), (0, Some(3), 3));
}

#[test]
fn a_log_whose_segments_are_lost_is_not_taken_for_one_that_was_emptied() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    let log = driver.log("one", 0, small_config());
    driver.append(&log, 3, 10);
    driver.run().unwrap();
    driver.journal.close().unwrap();
    sim.remove_file(Path::new("/data/one-0/00000000000000000000.log")).unwrap();
    let verified = dump::verify_in(&sim, Path::new("/data/one-0")).unwrap();
    let problems: Vec<_> = verified.problems.iter().map(|problem| problem.problem.as_str()).collect();
    assert_eq!(problems, ["no batch begins epoch 0 at 0"]);
}

/// They are hints. The next ones are written when there is room.
#[test]
fn high_watermarks_that_find_no_room_are_let_go() {
    let sim = SimVfs::new(1);
    let faulty = FaultyVfs::new(Arc::new(sim.clone()), Fault::NoSpace);
    let (mut driver, _) = Driver::open(Arc::new(faulty.clone()), small_options()).unwrap();
    let log = driver.log("one", 0, small_config());
    driver.append(&log, 4, 10);
    driver.run().unwrap();
    let noted = |offset: i64| format!("one 0 {offset}\n");
    let file = || read_file(&sim, Path::new("/data/replication-offset-checkpoint")).map(String::from_utf8);
    for (offset, is_full) in [(1, false), (2, true), (3, false)] {
        driver.now_ms += 60_000;
        log.note_high_watermark(offset);
        let first = if is_full { faulty.operations() } else { u64::MAX };
        faulty.fail_between(first, u64::MAX);
        driver.journal.background(driver.now_ms).expect("a full disk is no failure");
        let expected = noted(if is_full { offset - 1 } else { offset });
        assert!(file().unwrap().unwrap().ends_with(&expected), "{:?}", file());
    }
}

#[test]
fn later_entries_of_a_failed_incarnation_fail_and_a_barrier_tells_the_end() {
    let sim: Arc<dyn Vfs> = Arc::new(SimVfs::new(1));
    let faulty = FaultyVfs::new(sim, Fault::NoSpace);
    let (mut driver, _) = Driver::open(Arc::new(faulty.clone()), written_at_once()).unwrap();
    let (log, other) = (driver.log("one", 0, small_config()), driver.log("other", 0, small_config()));
    driver.append(&log, 2, 10);
    driver.run().unwrap();
    faulty.fail_between(faulty.operations() + 1, faulty.operations() + 2);
    driver.push(append(&log, 5, vec![batch(2, 0, 1, 10, 0)]));
    driver.append(&other, 3, 10);
    driver.run().unwrap();
    driver.push(append(&log, 5, vec![batch(3, 0, 1, 10, 0)]));
    driver.push(Entry::Barrier { log: log.clone(), token: 9 });
    driver.push(append(&log, 6, vec![batch(2, 0, 4, 10, 0)]));
    assert_eq!(outcomes(&driver.run().unwrap()), ["failed 4: no room", "drained 9 2", "flushed 6"]);
    assert_eq!(base_offsets(&content(&other)), [0]);
}

#[test]
fn an_append_that_does_not_fit_the_end_is_refused() {
    let (mut driver, _) = Driver::open(Arc::new(SimVfs::new(1)), small_options()).unwrap();
    let log = driver.log("one", 0, small_config());
    driver.append(&log, 5, 10);
    driver.run().unwrap();
    driver.push(append(&log, 1, vec![batch(3, 0, 1, 10, 0)]));
    driver.push(append(&log, 1, vec![batch(5, 0, 1, 10, 0)]));
    let broken = "failed 4: the append does not fit the log";
    assert_eq!(outcomes(&driver.run().unwrap()), [broken, "failed 6: the append does not fit the log"]);
    let mut torn = batch(5, 0, 1, 10, 0).to_vec();
    torn.truncate(70);
    driver.push(Entry::Append {
        log: log.clone(),
        incarnation: 2,
        leader_epoch: 0,
        base_offset: 5,
        end_offset: 6,
        max_timestamp: 0,
        batches: vec![torn.into()],
    });
    assert_eq!(outcomes(&driver.run().unwrap()), ["failed 6: the append does not fit the log"]);
    assert_eq!(base_offsets(&content(&log)), [0]);
}

#[test]
fn a_disk_that_fails_ends_the_directory_and_loses_nothing_confirmed() {
    for first in 1..120 {
        let sim = SimVfs::new(first);
        let faulty = FaultyVfs::new(Arc::new(sim.clone()), Fault::Io);
        let (mut driver, _) = Driver::open(Arc::new(faulty.clone()), small_options()).unwrap();
        let mut small = Writing::new(driver.log("small", 0, small_config()));
        let mut large = Writing::new(driver.log("large", 0, small_config()));
        faulty.fail_between(faulty.operations() + first, u64::MAX);
        let mut is_failed = false;
        for _ in 0..25 {
            is_failed |= small.append(&mut driver, 300).is_err();
            is_failed |= large.append(&mut driver, 2100).is_err();
            if is_failed {
                assert!(small.append(&mut driver, 300).is_err() && large.append(&mut driver, 300).is_err());
                assert!(driver.journal.background(0).is_err());
                break;
            }
        }
        assert!(is_failed);
        drop(driver);
        sim.crash();
        let (mut driver, _) = Driver::open(Arc::new(sim), small_options()).unwrap();
        for writing in [small, large] {
            let log = driver.log(&writing.log.id().topic.clone(), 0, small_config());
            assert!(content(&log).starts_with(&writing.confirmed), "first {first}");
        }
    }
}

#[test]
fn reads_go_on_when_the_disk_is_full() {
    for options in [small_options(), written_at_once()] {
        let sim = SimVfs::new(1);
        let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options.clone()).unwrap();
        let mut writing = Writing::new(driver.log("one", 0, small_config()));
        for _ in 0..20 {
            writing.append(&mut driver, 300).unwrap();
        }
        sim.set_capacity_bytes(Some(0));
        // The journal's files have their room already: what gathers before it is written goes on for a while.
        let appends_max = 1 + options.file_bytes / 300;
        let accepted = (0..appends_max).take_while(|_| {
            writing.append(&mut driver, 300).unwrap();
            writing.failures == 0
        });
        assert_eq!(accepted.count() == 0, options.pending_bytes_max == 0);
        assert_eq!(writing.failures, 1);
        assert!(content(&writing.log) == writing.confirmed);
        driver.journal.background(0).unwrap();
        assert!(content(&writing.log) == writing.confirmed);
        sim.set_capacity_bytes(None);
        writing.append(&mut driver, 300).unwrap();
        assert_eq!(writing.failures, 1);
        driver.journal.background(0).unwrap();
        drop(driver);
        let (mut driver, _) = Driver::open(Arc::new(sim), options).unwrap();
        assert!(content(&driver.log("one", 0, small_config())) == writing.confirmed);
    }
}

/// A directory with everything in it: several segments, journaled and bypassed appends, a cut.
fn directory_for_flips() -> (SimVfs, Vec<u8>) {
    let sim = SimVfs::new(7);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    let log = driver.log("one", 0, small_config());
    for step in 0..14 {
        driver.append(&log, 2, if step % 5 == 4 { 2100 } else { 120 });
        driver.run().unwrap();
    }
    driver.push(Entry::Truncate { log: log.clone(), end_offset: 26 });
    driver.append(&log, 1, 10);
    driver.queue.pop_back();
    driver.run().unwrap();
    driver.push(append(&log, 0, vec![batch(26, 3, 2, 100, 5)]));
    driver.run().unwrap();
    let before = content(&log);
    drop(driver);
    (sim, before)
}

fn segment_files(sim: &SimVfs) -> Vec<PathBuf> {
    let directory = Path::new("/data/one-0");
    let names = sim.read_directory(directory).unwrap();
    names.iter().filter(|entry| entry.name.ends_with(".log")).map(|entry| directory.join(&entry.name)).collect()
}

/// Opens after a flip: the log is found damaged, or it is as it was. Returns whether it was damaged.
fn is_damaged_after_flip(sim: &SimVfs, before: &[u8], context: &str) -> bool {
    let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    if recovery.logs[0].damaged.is_some() {
        return true;
    }
    let found = content(&driver.log("one", 0, small_config()));
    assert!(found == before, "{context}: {:?}, not {:?}", base_offsets(&found), base_offsets(before));
    false
}

#[test]
fn a_flipped_bit_below_the_flushed_point_is_never_served() {
    // While the journal still has it all, and when only the recovery points speak for it.
    for is_recovered in [false, true] {
        let mut damaged = 0;
        for file in 0..segment_files(&directory_for_flips().0).len() {
            let size = directory_for_flips().0.file_len(&segment_files(&directory_for_flips().0)[file]).unwrap();
            // The first header, then a sample of the rest.
            for bit in (0..61 * 8).step_by(3).chain((61 * 8..size * 8).step_by(997)) {
                let (sim, before) = directory_for_flips();
                if is_recovered {
                    drop(Driver::open(Arc::new(sim.clone()), small_options()).unwrap());
                }
                let path = &segment_files(&sim)[file];
                sim.flip_bit(path, bit).unwrap();
                let context = format!("{path:?} bit {bit}, recovered {is_recovered}");
                let is_damaged = is_damaged_after_flip(&sim, &before, &context);
                damaged += usize::from(is_damaged);
                assert!(is_damaged || !is_recovered, "{context}");
                assert!(is_damaged_after_flip(&sim, &before, &context) == is_damaged, "it must stay so: {context}");
            }
        }
        assert!(damaged > 0);
    }
}

#[test]
fn a_damaged_log_is_refused_untouched_and_can_be_set_aside() {
    let (sim, _) = directory_for_flips();
    drop(Driver::open(Arc::new(sim.clone()), small_options()).unwrap());
    let path = &segment_files(&sim)[0];
    sim.flip_bit(path, 1000).unwrap();
    let length = sim.file_len(path).unwrap();
    assert!(!dump::verify_in(&sim, Path::new("/data/one-0")).unwrap().problems.is_empty());
    let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    assert!(recovery.logs[0].damaged.as_ref().is_some_and(|problem| problem.contains("one-0")));
    let spec = spec("one", 0, small_config());
    assert!(driver.journal.create(vec![spec.clone()])[0].is_err());
    assert_eq!(sim.file_len(path).unwrap(), length);
    driver.journal.close().unwrap();
    let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    assert!(recovery.logs[0].damaged.is_some(), "a clean stop does not heal it");
    driver.journal.set_aside(&spec.id).unwrap();
    assert!(driver.journal.create(vec![spec.clone()])[0].is_err(), "not before the journal knows");
    driver.run().unwrap();
    let log = driver.log("one", 0, small_config());
    driver.append(&log, 1, 10);
    driver.run().unwrap();
    drop(driver);
    let (_, recovery) = Driver::open(Arc::new(sim), small_options()).unwrap();
    assert_eq!((recovery.logs[0].damaged.clone(), recovery.logs[0].end), (None, 1));
}

#[test]
fn a_large_append_after_a_log_was_set_aside_is_there_after_a_power_cut() {
    let (sim, _) = directory_for_flips();
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), small_options()).unwrap();
    driver.journal.set_aside(&id("one", 0)).unwrap();
    driver.run().unwrap();
    let log = driver.log("one", 0, small_config());
    driver.append(&log, 1, 2 * small_options().bypass_bytes);
    let mut entries = std::mem::take(&mut driver.queue);
    // Its round only: what a next one would say of it is cut off.
    assert!(driver.journal.write(&mut entries, driver.now_ms, &mut driver.done).unwrap());
    driver.journal.sync(driver.now_ms, &mut driver.done).unwrap();
    let is_answered = driver.done.iter().any(|done| matches!(done.outcome, Outcome::Flushed { end_offset: 1 }));
    assert!(is_answered, "{:?}", driver.done);
    drop(driver);
    sim.crash();
    let (_, recovery) = Driver::open(Arc::new(sim), small_options()).unwrap();
    assert_eq!((recovery.logs[0].damaged.clone(), recovery.logs[0].end), (None, 1));
}

#[test]
fn a_missing_round_of_the_journal_is_corruption_and_a_torn_tail_is_not() {
    let build = || {
        let sim = SimVfs::new(3);
        let (mut driver, _) = Driver::open(Arc::new(sim.clone()), written_at_once()).unwrap();
        let log = driver.log("one", 0, small_config());
        for _ in 0..4 {
            driver.append(&log, 1, 100);
            driver.run().unwrap();
        }
        drop(driver);
        sim
    };
    let journal = Path::new("/data/__journal/0");
    let sim = build();
    sim.flip_bit(journal, (4096 + 100) * 8).unwrap();
    let error = Driver::open(Arc::new(sim), small_options()).err().unwrap().to_string();
    assert!(error.contains("corrupt") && error.contains("round"), "{error}");
    let sim = build();
    sim.flip_bit(journal, (3 * 4096 + 100) * 8).unwrap();
    let (_, recovery) = Driver::open(Arc::new(sim), small_options()).unwrap();
    // The segment had the last record, too.
    assert_eq!((recovery.replayed_rounds, recovery.logs[0].end), (3, 4));
}
