//! The memory that compaction takes is what it was given, however large the log. A program of its own: it looks at the whole
//! process. `examples/compaction_bench.rs` does the same with a gibibyte.

mod common;

use std::sync::Arc;

use capek_log::vfs::RealVfs;
use capek_log::{CleanOptions, JournalOptions, LogConfig};
use capek_wire::{BatchBuilder, Codec};
use common::*;

const LOG_BYTES: u64 = 40 << 20;
const KEYS_BYTES: usize = 1 << 20;
/// What is read and written at a time, the indexes of a segment, and what the allocator keeps.
const SLACK_KIB: u64 = 6 << 10;

#[test]
fn compaction_stays_within_the_memory_that_it_is_given() {
    let root = std::env::temp_dir().join(format!("capek-compaction-memory-{}", std::process::id()));
    let options = JournalOptions { file_bytes: 8 << 20, ..options(root.to_str().unwrap()) };
    let (mut driver, _) = Driver::open(Arc::new(RealVfs), options).unwrap();
    let config = LogConfig { segment_bytes: 8 << 20, ..LogConfig::default() };
    let log = driver.log("keyed", 0, config);
    while log.size_bytes().unwrap() < LOG_BYTES {
        let end = log.end_offset();
        let mut batches = Vec::new();
        for base_offset in (end..end + 64 * 160).step_by(160) {
            let mut builder = BatchBuilder::new(Codec::None);
            for offset in base_offset..base_offset + 160 {
                // Every second record has a key of its own.
                let key = if offset % 2 == 0 { offset } else { 1 };
                builder.push(offset, Some(&key.to_be_bytes()), Some(&[b'x'; 92]), &[]);
            }
            batches.push(place(builder.build().unwrap(), base_offset, 0));
        }
        driver.push(append(&log, 0, batches));
        driver.run().unwrap();
    }
    let before_kib = largest_resident_kib();
    let options = CleanOptions { dedupe_bytes_max: KEYS_BYTES, ..clean_options(0) };
    assert!(clean_all(&mut driver, &log, options).unwrap() > 3);
    let grown_kib = largest_resident_kib() - before_kib;
    assert!(grown_kib < KEYS_BYTES as u64 / 1024 + SLACK_KIB, "it took {grown_kib} KiB");
    let size_bytes = log.size_bytes().unwrap();
    assert!(size_bytes < LOG_BYTES * 7 / 10, "{size_bytes} bytes are left");
    drop(driver);
    std::fs::remove_dir_all(root).unwrap();
}

/// Of this process, in its whole life.
fn largest_resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
