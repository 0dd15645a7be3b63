//! Index files are conveniences: when they are missing or damaged at a start, they are made anew, and nothing is read wrong.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use capek_log::vfs::{OpenMode, SimVfs, Vfs, read_file, write_file};
use capek_log::{Log, LogConfig};
use common::*;

const RECORDS: i64 = 300;

fn config() -> LogConfig {
    LogConfig { segment_bytes: 9000, index_interval_bytes: 300, ..LogConfig::default() }
}

/// Several segments, each with several entries in its indexes.
fn build(is_clean: bool) -> SimVfs {
    let sim = SimVfs::new(1);
    let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    let log = driver.log("one", 0, config());
    for offset in 0..RECORDS {
        driver.push(append(&log, 0, vec![batch(offset, 0, 1, 100, 1000 + offset * 10)]));
        driver.run().unwrap();
    }
    assert!(log.segments_len().unwrap() > 4);
    match is_clean {
        true => driver.journal.close().unwrap(),
        false => drop(driver),
    }
    sim
}

fn check(sim: &SimVfs, context: &str) {
    let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
    assert_eq!(recovery.logs[0].damaged, None, "{context}");
    let log = driver.log("one", 0, config());
    check_lookups(&log, context);
}

fn check_lookups(log: &Log, context: &str) {
    for offset in (0..RECORDS).rev().step_by(3) {
        assert_eq!(base_offsets(&read_from(log, offset, 1))[0], offset, "{context}");
        for timestamp in [1000 + offset * 10, 995 + offset * 10] {
            let found = log.offset_for_timestamp(timestamp, i64::MAX).unwrap().unwrap();
            assert_eq!((found.offset, found.timestamp), (offset, 1000 + offset * 10), "{context}");
        }
    }
    assert_eq!(log.max_timestamp_offset(i64::MAX).unwrap().unwrap().offset, RECORDS - 1, "{context}");
}

fn index_files(sim: &SimVfs) -> Vec<PathBuf> {
    let directory = Path::new("/data/one-0");
    let names = sim.read_directory(directory).unwrap().into_iter().map(|entry| entry.name);
    names.filter(|name| name.ends_with("index")).map(|name| directory.join(name)).collect()
}

#[test]
fn missing_index_files_are_made_anew() {
    for is_clean in [true, false] {
        let sim = build(is_clean);
        for path in index_files(&sim) {
            sim.remove_file(&path).unwrap();
        }
        check(&sim, &format!("clean stop: {is_clean}"));
    }
}

#[test]
fn damaged_index_files_are_not_believed() {
    type Damage = fn(&SimVfs, &Path, &[u8]);
    let damages: [(&str, Damage); 3] = [
        ("cut within an entry", |sim, path, bytes| {
            sim.open(path, OpenMode::Write).unwrap().set_len(bytes.len() as u64 - 3).unwrap();
        }),
        ("positions and offsets too large", |sim, path, bytes| {
            write_file(sim, path, &vec![0x7f; bytes.len()]).unwrap();
        }),
        ("positions of other batches", |sim, path, bytes| {
            // Entries of eight bytes: each gets the position of the next.
            let mut moved = bytes.to_vec();
            if path.extension().is_some_and(|extension| extension == "index") {
                for at in (0..bytes.len().saturating_sub(8)).step_by(8) {
                    moved[at + 4..at + 8].copy_from_slice(&bytes[at + 12..at + 16]);
                }
            }
            write_file(sim, path, &moved).unwrap();
        }),
    ];
    for is_clean in [true, false] {
        for (name, damage) in damages {
            let sim = build(is_clean);
            let mut files = index_files(&sim);
            // The indexes of the active segment are in memory again after a clean stop, as they were written.
            files.truncate(files.len() - if is_clean { 2 } else { 0 });
            assert!(files.len() >= 8);
            for path in files {
                let bytes = read_file(&sim, &path).unwrap();
                assert!(bytes.len() > 30, "{path:?}");
                damage(&sim, &path, &bytes);
            }
            check(&sim, &format!("{name}, clean stop: {is_clean}"));
        }
    }
}
