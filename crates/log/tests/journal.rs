//! The journal on a sound disk: rounds, answers, restarts.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use capek_log::vfs::{OpenMode, RealVfs, SimVfs, Vfs};
use capek_log::{Entry, Flush, JournalOptions, LogConfig, ReadOutcome, ReadRequest};
use common::*;

fn sim() -> Arc<dyn Vfs> {
    Arc::new(SimVfs::new(1))
}

#[test]
fn what_is_appended_is_answered_and_read_back() {
    let (mut driver, recovery) = Driver::open(sim(), options("/data")).unwrap();
    assert!(recovery.clean && recovery.logs.is_empty());
    let log = driver.log("orders", 0, LogConfig::default());
    driver.append(&log, 2, 10);
    driver.append(&log, 3, 10);
    driver.push(Entry::Barrier { log: log.clone(), token: 7 });
    assert_eq!(outcomes(&driver.run().unwrap()), ["flushed 5", "drained 7 5"]);
    assert_eq!(base_offsets(&content(&log)), [0, 2]);
    let from_within = ReadRequest { offset: 3, max_bytes: 1, end_offset: 5, at_least_one: true, may_block: true };
    let ReadOutcome::Data { bytes, next_offset } = log.read(from_within).unwrap() else { panic!() };
    assert_eq!((base_offsets(&bytes), next_offset), (vec![2], 5));
    assert_eq!(log.read(ReadRequest { at_least_one: false, ..from_within }).unwrap(), ReadOutcome::Empty);
    assert_eq!(log.read(ReadRequest { end_offset: 2, offset: 2, ..from_within }).unwrap(), ReadOutcome::Empty);
    assert!(log.read(ReadRequest { offset: 6, ..from_within }).is_err());
}

#[test]
fn a_clean_stop_replays_nothing_and_a_crash_everything() {
    for is_clean in [true, false] {
        let vfs = sim();
        let (mut driver, _) = Driver::open(vfs.clone(), options("/data")).unwrap();
        let config = LogConfig { segment_bytes: 2000, ..LogConfig::default() };
        let log = driver.log("orders", 0, config);
        for _ in 0..40 {
            driver.append(&log, 2, 100);
            driver.run().unwrap();
        }
        assert!(log.segments_len().unwrap() > 3);
        let before = content(&log);
        match is_clean {
            true => driver.journal.close().unwrap(),
            false => drop(driver),
        }
        let (mut driver, recovery) = Driver::open(vfs, options("/data")).unwrap();
        assert_eq!(recovery.clean, is_clean);
        assert_eq!(recovery.replayed_rounds, if is_clean { 0 } else { 40 });
        assert_eq!((recovery.logs[0].end, &recovery.logs[0].damaged), (80, &None));
        let log = driver.log("orders", 0, config);
        assert!(content(&log) == before);
        driver.append(&log, 1, 1);
        assert_eq!(outcomes(&driver.run().unwrap()), ["flushed 81"]);
    }
}

#[test]
fn a_fresh_directory_on_a_real_disk_comes_back() {
    let directory = std::env::temp_dir().join(format!("capek-log-test-{}", std::process::id()));
    let path = directory.to_str().unwrap();
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let (mut driver, _) = Driver::open(vfs.clone(), options(path)).unwrap();
    assert!(Driver::open(vfs.clone(), options(path)).is_err_and(|error| error.to_string().contains("in use")));
    let log = driver.log("orders", 0, LogConfig::default());
    let fast = driver.log("fast", 0, LogConfig { flush: Flush::Async, ..LogConfig::default() });
    for _ in 0..20 {
        driver.append(&log, 10, 1000);
        driver.append(&fast, 10, 1000);
        driver.run().unwrap();
    }
    driver.append(&log, 1000, 1000); // past the journal
    driver.run().unwrap();
    while driver.journal.background(0).unwrap() {}
    let before = (content(&log), content(&fast));
    drop(driver);
    let (mut driver, recovery) = Driver::open(vfs.clone(), options(path)).unwrap();
    assert!(!recovery.clean);
    let log = driver.log("orders", 0, LogConfig::default());
    let fast = driver.log("fast", 0, LogConfig::default());
    assert!((content(&log), content(&fast)) == before);
    driver.journal.close().unwrap();
    let mut other_node = options(path);
    other_node.node_id = 2;
    assert!(Driver::open(vfs.clone(), other_node).is_err_and(|error| error.to_string().contains("node 1")));
    std::fs::remove_dir_all(directory).unwrap();
}

/// Of a directory on a real disk: only there are threads.
#[test]
fn many_logs_are_recovered_side_by_side_and_a_damaged_one_is_alone() {
    const LOGS: i32 = 150;
    const DAMAGED: i32 = 71;
    let directory = std::env::temp_dir().join(format!("capek-log-side-by-side-{}", std::process::id()));
    let options = JournalOptions { recovery_threads: 8, ..options(directory.to_str().unwrap()) };
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let config = LogConfig { segment_bytes: 3000, ..LogConfig::default() };
    let (mut driver, _) = Driver::open(vfs.clone(), options.clone()).unwrap();
    let logs: Vec<_> = (0..LOGS).map(|partition| driver.log("orders", partition, config)).collect();
    for log in &logs {
        for _ in 0..1 + log.id().partition % 7 {
            driver.append(log, 3, 500);
        }
    }
    driver.run().unwrap();
    let before: Vec<_> = logs.iter().map(|log| content(log)).collect();
    drop((driver, logs));

    // The first start replays the journal; after it all is below the recovery points.
    drop(Driver::open(vfs.clone(), options.clone()).unwrap());
    let damaged_file = directory.join(format!("orders-{DAMAGED}/00000000000000000000.log"));
    let mut bytes = std::fs::read(&damaged_file).unwrap();
    bytes[300] ^= 4;
    std::fs::write(&damaged_file, bytes).unwrap();

    let (mut driver, recovery) = Driver::open(vfs, options).unwrap();
    let partitions: Vec<_> = recovery.logs.iter().map(|log| log.id.partition).collect();
    assert_eq!(partitions, (0..LOGS).collect::<Vec<_>>());
    for found in &recovery.logs {
        let partition = found.id.partition;
        assert_eq!(found.damaged.is_some(), partition == DAMAGED, "{found:?}");
        if partition != DAMAGED {
            assert_eq!(found.end, i64::from(3 * (1 + partition % 7)));
            let log = driver.log("orders", partition, config);
            assert!(content(&log) == before[partition as usize], "{partition}");
        }
    }
    drop(driver);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_file_that_must_grow_is_left_for_one_that_is_filled() {
    let sim = SimVfs::new(1);
    let vfs: Arc<dyn Vfs> = Arc::new(sim.clone());
    let mut small = options("/data");
    small.file_bytes = 4 << 20;
    let file = |index: usize| PathBuf::from(format!("/data/__journal/{index}"));
    let is_used = |index: usize| {
        let opened = vfs.open(&file(index), OpenMode::Read).unwrap();
        opened.read_at(0, 4096).unwrap().iter().any(|byte| *byte != 0)
    };
    let (mut driver, _) = Driver::open(vfs.clone(), small.clone()).unwrap();
    let log = driver.log("orders", 0, LogConfig::default());
    driver.append(&log, 2, 100);
    driver.run().unwrap();
    while driver.journal.background(0).unwrap() {}
    assert!(is_used(0) && !is_used(1));
    assert!(sim.file_len(&file(0)).unwrap() < small.file_bytes && sim.file_len(&file(1)).unwrap() == small.file_bytes);
    driver.append(&log, 2, 100);
    driver.run().unwrap();
    assert!(is_used(1));
    while driver.journal.background(0).unwrap() {}
    assert_eq!(sim.file_len(&file(0)).unwrap(), small.file_bytes, "filled while another is in use");
    driver.append(&log, 2, 100);
    driver.run().unwrap();
    assert!(!is_used(2), "a filled one is used to its end");
    drop(driver);
    let (mut driver, recovery) = Driver::open(vfs, small).unwrap();
    assert_eq!(recovery.logs[0].end, 6);
    let log = driver.log("orders", 0, LogConfig::default());
    assert_eq!(base_offsets(&content(&log)), [0, 2, 4]);
}

#[test]
fn small_appends_gather_in_memory_and_are_written_together() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let log = driver.log("orders", 0, LogConfig::default());
    let file = Path::new("/data/orders-0/00000000000000000000.log");
    for _ in 0..5 {
        driver.append(&log, 2, 100);
        driver.run().unwrap();
    }
    assert!(sim.file_len(file).is_err(), "not even the file is there");
    assert_eq!(base_offsets(&content(&log)), [0, 2, 4, 6, 8]);
    while driver.journal.background(0).unwrap() {}
    assert_eq!(sim.file_len(file).unwrap(), log.size_bytes().unwrap());
    driver.append(&log, 2, 100);
    driver.run().unwrap();
    assert!(sim.file_len(file).unwrap() < log.size_bytes().unwrap());
    let across = ReadRequest { offset: 8, max_bytes: 1 << 20, end_offset: 12, at_least_one: true, may_block: false };
    let ReadOutcome::Data { bytes, next_offset } = log.read(across).unwrap() else { panic!() };
    assert_eq!((base_offsets(&bytes), next_offset), (vec![8, 10], 12));
    driver.push(Entry::Truncate { log: log.clone(), end_offset: 11 });
    driver.run().unwrap();
    driver.append(&log, 100, 1000); // more than what may gather
    driver.run().unwrap();
    assert_eq!(sim.file_len(file).unwrap(), log.size_bytes().unwrap());
    assert_eq!(base_offsets(&content(&log)), [0, 2, 4, 6, 8, 10]);
    assert_eq!(log.end_offset(), 110);
}

#[test]
fn what_gathers_has_a_limit() {
    let sim = SimVfs::new(1);
    let limited = JournalOptions { pending_bytes_max: 1000, ..options("/data") };
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), limited).unwrap();
    let logs: Vec<_> = (0..20).map(|partition| driver.log("orders", partition, LogConfig::default())).collect();
    for log in &logs {
        driver.append(log, 1, 100);
        driver.run().unwrap();
    }
    let in_files: u64 = (logs.iter().map(|log| log.directory().join("00000000000000000000.log")))
        .map(|file| sim.file_len(&file).unwrap_or(0))
        .sum();
    let in_all: u64 = logs.iter().map(|log| log.size_bytes().unwrap()).sum();
    assert!(in_files > 0 && in_all - in_files < 1000 + 300, "{} bytes wait", in_all - in_files);
    logs.iter().for_each(|log| assert_eq!(base_offsets(&content(log)), [0]));
}
