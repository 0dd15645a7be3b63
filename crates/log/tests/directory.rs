//! Whose directory it is, what else lies in it, and what a stop leaves.

mod common;

use std::path::Path;
use std::sync::Arc;

use capek_log::vfs::{OpenMode, SimVfs, Vfs, read_file, write_file};
use capek_log::{Entry, Flush, Journal, JournalOptions, LogConfig, LogSpec};
use common::*;

fn open_error(sim: &SimVfs, options: JournalOptions) -> String {
    Journal::open(Arc::new(sim.clone()), options).err().expect("it is refused").to_string()
}

fn text(sim: &SimVfs, path: &str) -> String {
    String::from_utf8(read_file(sim, Path::new(path)).unwrap()).unwrap()
}

fn names(sim: &SimVfs, path: &str) -> Vec<String> {
    sim.read_directory(Path::new(path)).unwrap().into_iter().map(|entry| entry.name).collect()
}

#[test]
fn a_directory_of_somebody_else_is_refused_with_what_to_do() {
    let sim = SimVfs::new(1);
    let (driver, _) = Driver::open(Arc::new(sim.clone()), options("/var/data")).unwrap();
    assert!(open_error(&sim, options("/var/data")).contains("in use by another process"));
    driver.journal.close().unwrap();

    let other_node = JournalOptions { node_id: 7, ..options("/var/data") };
    assert!(open_error(&sim, other_node).contains("belongs to node 1, this is node 7: set node.id=1"));
    let other_cluster = JournalOptions { cluster_id: "another".into(), ..options("/var/data") };
    assert!(open_error(&sim, other_cluster).contains("belongs to cluster test-cluster, this is cluster another"));

    let meta = text(&sim, "/var/data/meta.properties").replace("version=1", "version=2");
    write_file(&sim, Path::new("/var/data/meta.properties"), meta.as_bytes()).unwrap();
    assert!(open_error(&sim, options("/var/data")).contains("newer version"));
    let meta = meta.replace("version=2", "version=1");
    write_file(&sim, Path::new("/var/data/meta.properties"), meta.as_bytes()).unwrap();
    let points = Path::new("/var/data/__journal/recovery-points");
    let mut newer = read_file(&sim, points).unwrap();
    newer[7] = b'2';
    write_file(&sim, points, &newer).unwrap();
    assert!(open_error(&sim, options("/var/data")).contains("newer version"));
}

#[test]
fn the_clean_mark_is_there_only_while_nothing_runs() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    driver.log("one", 0, LogConfig::default());
    driver.journal.close().unwrap();
    assert!(names(&sim, "/data").contains(&".kafka_cleanshutdown".to_owned()));
    let (driver, recovery) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    assert!(recovery.clean && recovery.logs.len() == 1);
    assert!(!names(&sim, "/data").contains(&".kafka_cleanshutdown".to_owned()));
    drop(driver);
    assert!(!Driver::open(Arc::new(sim), options("/data")).unwrap().1.clean);
}

#[test]
fn a_directory_without_its_topic_id_is_put_aside_not_adopted() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let old = driver.log("one", 0, LogConfig::default());
    driver.append(&old, 3, 10);
    driver.run().unwrap();
    driver.journal.close().unwrap();
    sim.create_directory(Path::new("/data/two-0")).unwrap();
    write_file(&sim, Path::new("/data/two-0/partition.metadata"), b"version: 0\ntopic_id: torn").unwrap();

    let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    assert_eq!(recovery.logs.len(), 1);
    let mut other = id("one", 0);
    other.topic_id = id("another id", 0).topic_id;
    let specs = vec![
        LogSpec { id: other.clone(), config: LogConfig::default() },
        LogSpec { id: id("two", 0), config: LogConfig::default() },
    ];
    for log in driver.journal.create(specs) {
        assert_eq!(log.unwrap().end_offset(), 0);
    }
    driver.run().unwrap();
    assert_eq!(stray_count(&sim), 2);
    drop(driver);
    sim.crash();
    let (_, recovery) = Driver::open(Arc::new(sim), options("/data")).unwrap();
    assert!(recovery.logs.iter().any(|log| log.id == other && log.damaged.is_none()));
    assert!(recovery.logs.iter().all(|log| log.id != *old.id()));
}

fn stray_count(sim: &SimVfs) -> usize {
    names(sim, "/data").into_iter().filter(|name| name.ends_with("-stray")).count()
}

#[test]
fn what_was_set_aside_is_removed_later_also_by_another_life() {
    let sim = SimVfs::new(1);
    let set_aside = JournalOptions { stray_delay_ms: 1000, ..options("/data") };
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), set_aside.clone()).unwrap();
    let (kept, gone) = (driver.log("kept", 0, LogConfig::default()), driver.log("gone", 0, LogConfig::default()));
    driver.append(&kept, 3, 10);
    driver.append(&gone, 3, 10);
    driver.run().unwrap();
    driver.journal.set_aside(gone.id()).unwrap();
    driver.run().unwrap();
    let mut now_ms = driver.now_ms;
    while driver.journal.background(now_ms).unwrap() {}
    while driver.journal.background(now_ms + 999).unwrap() {}
    assert_eq!(stray_count(&sim), 1, "not so soon");
    drop(driver);

    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), set_aside).unwrap();
    now_ms += 5000;
    while driver.journal.background(now_ms).unwrap() {}
    assert_eq!(stray_count(&sim), 1, "a new life waits as long");
    while driver.journal.background(now_ms + 1000).unwrap() {}
    assert_eq!(stray_count(&sim), 0);
    assert_eq!(driver.log("kept", 0, LogConfig::default()).end_offset(), 3);
}

#[test]
fn deleted_topics_and_expired_segments_leave_the_disk_when_due() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let config = LogConfig { segment_bytes: 600, file_delete_delay_ms: 100, ..LogConfig::default() };
    let (kept, gone) = (driver.log("kept", 0, config), driver.log("gone", 0, config));
    for _ in 0..20 {
        driver.append(&kept, 1, 200);
        driver.append(&gone, 1, 200);
        driver.run().unwrap();
    }
    let all = kept.size_bytes().unwrap();
    let by_size = kept.retention_candidates(0, -1, all as i64 / 2, 20).unwrap().unwrap();
    assert!((8..=11).contains(&by_size), "{by_size}");
    assert_eq!(
        kept.retention_candidates(0, -1, all as i64 / 2, 3).unwrap().unwrap(),
        2,
        "not beyond the high watermark"
    );
    let by_age = kept.retention_candidates(1000 + 15, 10, -1, 20).unwrap().unwrap();
    assert!((3..=5).contains(&by_age), "{by_age}");
    assert_eq!(kept.retention_candidates(i64::MAX / 2, 10, -1, 20).unwrap(), Some(20), "the active segment, too");

    driver.push(Entry::LogStart { log: kept.clone(), offset: by_size });
    driver.push(Entry::Delete { log: gone.clone() });
    driver.run().unwrap();
    assert!(gone.is_deleted());
    let is_leftover = |sim: &SimVfs| {
        let in_log = names(sim, "/data/kept-0").iter().any(|name| name.ends_with(".deleted"));
        in_log || names(sim, "/data").iter().any(|name| name.ends_with("-delete"))
    };
    while driver.journal.background(driver.now_ms + 99).unwrap() {}
    assert!(is_leftover(&sim));
    while driver.journal.background(driver.now_ms + 100).unwrap() {}
    assert!(!is_leftover(&sim));
    assert_eq!(base_offsets(&content(&kept)).first(), Some(&by_size));

    driver.push(Entry::LogStart { log: kept.clone(), offset: 20 });
    driver.run().unwrap();
    assert_eq!((kept.log_start(), kept.end_offset(), kept.size_bytes().unwrap()), (20, 20, 0));
    driver.append(&kept, 1, 10);
    driver.run().unwrap();
    drop(driver);
    let (_, recovery) = Driver::open(Arc::new(sim), options("/data")).unwrap();
    assert_eq!((recovery.logs[0].log_start, recovery.logs[0].end), (20, 21));
}

#[test]
fn a_log_that_becomes_durable_is_synced_before_its_first_durable_append() {
    let sim = SimVfs::new(5);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let group = LogConfig::default();
    let log = driver.log("one", 0, LogConfig { flush: Flush::Async, ..group });
    for _ in 0..5 {
        driver.append(&log, 1, 1000);
        driver.run().unwrap();
    }
    driver.push(Entry::Configure { log: log.clone(), config: group });
    driver.append(&log, 1, 10);
    assert_eq!(outcomes(&driver.run().unwrap()), ["flushed 6"]);
    drop(driver);
    sim.crash();
    let (_, recovery) = Driver::open(Arc::new(sim), options("/data")).unwrap();
    assert_eq!((recovery.logs[0].end, recovery.logs[0].damaged.clone()), (6, None));
}

/// A client that was not heard of during several lives of the broker may still have five batches to send again.
#[test]
fn restarts_forget_none_of_a_producers_last_batches() {
    use capek_wire::{BatchBuilder, Codec};
    let sim = SimVfs::new(11);
    let config = LogConfig::default();
    let push = |driver: &mut Driver, producer: i64, sequence: i32| {
        let log = driver.log("one", 0, config);
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(1_000_000, None, Some(&[1; 100]), &[]);
        builder.producer(producer, 0, sequence);
        let bytes = place(builder.build().unwrap(), log.end_offset(), 0);
        driver.push(append(&log, 0, vec![bytes]));
        driver.run().unwrap();
    };
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    (0..5).for_each(|sequence| push(&mut driver, 7, sequence));
    for life in 0..4 {
        drop(driver);
        sim.crash();
        driver = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap().0;
        let batches = driver.log("one", 0, config).producer_batches().unwrap();
        let of_seven = batches.iter().filter(|batch| batch.producer_id == 7).map(|batch| batch.last_sequence);
        assert_eq!(of_seven.collect::<Vec<_>>(), [0, 1, 2, 3, 4], "life {life}");
        push(&mut driver, 8, life);
    }
}

#[test]
fn producers_are_known_after_a_stop_a_crash_and_a_roll() {
    use capek_wire::{BatchBuilder, Codec};
    let sim = SimVfs::new(1);
    let config = LogConfig { segment_bytes: 700, ..LogConfig::default() };
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let log = driver.log("one", 0, config);
    let push = |driver: &mut Driver, round: i64| {
        let end = driver.log("one", 0, config).end_offset();
        let log = driver.log("one", 0, config);
        for producer in [7, 8] {
            let mut builder = BatchBuilder::new(Codec::None);
            builder.push(1_000_000, None, Some(&[1; 100]), &[]);
            builder.producer(producer, 0, round as i32);
            let bytes = place(builder.build().unwrap(), end + producer - 7, 0);
            driver.push(append(&log, 0, vec![bytes]));
        }
        driver.run().unwrap();
    };
    (0..9).for_each(|round| push(&mut driver, round));
    let five_of = |log: &capek_log::Log, producer| {
        let batches = log.producer_batches().unwrap();
        batches
            .iter()
            .filter(|batch| batch.producer_id == producer)
            .map(|batch| batch.last_sequence)
            .collect::<Vec<_>>()
    };
    assert_eq!((five_of(&log, 7), five_of(&log, 8)), (vec![4, 5, 6, 7, 8], vec![4, 5, 6, 7, 8]));
    driver.journal.close().unwrap();
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let log = driver.log("one", 0, config);
    assert_eq!(*five_of(&log, 7).last().unwrap(), 8);
    assert!(five_of(&log, 7).len() >= 2, "more than the one of a snapshot");
    push(&mut driver, 9);
    drop(driver);
    sim.crash();
    let (mut driver, _) = Driver::open(Arc::new(sim), options("/data")).unwrap();
    let log = driver.log("one", 0, config);
    assert_eq!((five_of(&log, 7).last(), five_of(&log, 8).last()), (Some(&9), Some(&9)));
    // A cut takes producers back, too.
    driver.push(Entry::Truncate { log: log.clone(), end_offset: 19 });
    driver.run().unwrap();
    assert_eq!((five_of(&log, 7).last(), five_of(&log, 8).last()), (Some(&9), Some(&8)));
}

#[test]
fn reads_that_may_not_block_say_so() {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let log = driver.log("one", 0, LogConfig::default());
    driver.append(&log, 1, 10);
    driver.run().unwrap();
    let request =
        capek_log::ReadRequest { offset: 0, max_bytes: 1000, end_offset: 1, at_least_one: true, may_block: false };
    assert!(matches!(log.read(request).unwrap(), capek_log::ReadOutcome::Data { .. }));
    driver.journal.close().unwrap();
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let log = driver.log("one", 0, LogConfig::default());
    assert_eq!(log.read(request).unwrap(), capek_log::ReadOutcome::WouldBlock);
    let blocking = capek_log::ReadRequest { may_block: true, ..request };
    assert!(matches!(log.read(blocking).unwrap(), capek_log::ReadOutcome::Data { .. }));
    assert!(matches!(log.read(request).unwrap(), capek_log::ReadOutcome::Data { .. }));
    assert!(sim.open(Path::new("/data/one-0/00000000000000000000.log"), OpenMode::Read).is_ok());
}
