//! What compacting a large log of small records takes: time, bytes and memory.
//! `cargo run --release -p capek-log --example compaction_bench -- [DIRECTORY] [MEBIBYTES] [KEYS] [BUFFER-MEBIBYTES]`
//! (1024 MiB of 100-byte records, each with a key of its own when KEYS is 0, and a buffer of 48 MiB)

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

use capek_log::vfs::RealVfs;
use capek_log::{
    Clean, CleanOptions, CleanWatch, CleanableQuery, Completion, Entry, Journal, JournalOptions, Log, LogConfig, LogId,
    LogSpec,
};
use capek_wire::batch::patch;
use capek_wire::{BatchBuilder, Codec, Uuid};

/// Record, key and value together; Kafka's default of 16 KiB in a batch.
const RECORD_BYTES: usize = 100;
const BATCH_RECORDS: u64 = 160;
const ROUND_BATCHES: usize = 64;

struct NoWatch;

impl CleanWatch for NoWatch {
    fn progress(&mut self, _: u64, _: u64) -> bool {
        true
    }
}

struct Bench {
    journal: Journal,
    queue: VecDeque<Entry>,
    done: Vec<Completion>,
}

impl Bench {
    fn run(&mut self, entry: Entry) {
        self.queue.push_back(entry);
        while !self.queue.is_empty() || self.journal.wants_round() {
            if self.journal.write(&mut self.queue, 0, &mut self.done).expect("the disk works") {
                self.journal.sync(0, &mut self.done).expect("the disk works");
            }
        }
        self.done.clear();
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("compaction-bench");
    let mut number = |default: u64| arguments.next().and_then(|value| value.parse().ok()).unwrap_or(default);
    let (mebibytes, keys, buffer_mebibytes) = (number(1024), number(0), number(48));
    let _ = std::fs::remove_dir_all(&root);
    let options = JournalOptions::new(&root, 1, "bench");
    let (journal, _) = Journal::open(Arc::new(RealVfs), options).expect("a fresh directory");
    let mut bench = Bench { journal, queue: VecDeque::new(), done: Vec::new() };
    let log = make_log(&mut bench);
    let start = std::time::Instant::now();
    let records = fill(&mut bench, &log, mebibytes << 20, keys);
    println!(
        "{records} records, {} MiB, written in {:.1?}",
        log.size_bytes().expect("it is open") >> 20,
        start.elapsed()
    );
    println!("resident before {} KiB, at most {} KiB", status("VmRSS:"), status("VmHWM:"));

    let start = std::time::Instant::now();
    let (mut passes, mut read_bytes, mut written_bytes) = (0, 0, 0);
    let query = CleanableQuery { now_ms: 0, high_watermark: i64::MAX, min_lag_ms: 0, max_lag_ms: i64::MAX };
    while let Some(cleanable) = log.cleanable(query).expect("the log can be read") {
        let options = CleanOptions {
            now_ms: 0,
            delete_retention_ms: 0,
            dedupe_bytes_max: (buffer_mebibytes as usize) << 20,
            load_factor: 0.9,
            buffer_bytes: 512 << 10,
        };
        let mut clean = Clean::begin(&log, cleanable, options, &mut NoWatch).expect("it is sound");
        while let Some(cleaned) = clean.next_group(&mut NoWatch).expect("there is room") {
            bench.run(Entry::Swap { log: log.clone(), cleaned });
        }
        bench.run(Entry::CleanedTo { log: log.clone(), end_offset: clean.end_offset() });
        bench.journal.background(i64::MAX).expect("the disk works");
        let stats = clean.stats();
        passes += 1;
        read_bytes += stats.read_bytes;
        written_bytes += stats.written_bytes;
    }
    println!(
        "{passes} passes in {:.1?}, {} MiB read, {} MiB written, {} MiB left",
        start.elapsed(),
        read_bytes >> 20,
        written_bytes >> 20,
        log.size_bytes().expect("it is open") >> 20
    );
    println!("resident after {} KiB, at most {} KiB", status("VmRSS:"), status("VmHWM:"));
    let _ = std::fs::remove_dir_all(&root);
}

fn make_log(bench: &mut Bench) -> Arc<Log> {
    let id = LogId { topic: "bench".into(), topic_id: Uuid([7; 16]), partition: 0 };
    let config = LogConfig { segment_bytes: 100 << 20, ..LogConfig::default() };
    bench.journal.create(vec![LogSpec { id, config }]).remove(0).expect("the log can be made")
}

fn fill(bench: &mut Bench, log: &Arc<Log>, size_bytes: u64, keys: u64) -> u64 {
    let (mut written, mut offset) = (0, 0);
    while written < size_bytes {
        let base_offset = offset as i64;
        let mut batches = Vec::new();
        for _ in 0..ROUND_BATCHES {
            let mut builder = BatchBuilder::new(Codec::None);
            for at in offset..offset + BATCH_RECORDS {
                // No order: as a hash of the record's number.
                let key = if keys == 0 { at } else { at.wrapping_mul(0x9e37_79b9_7f4a_7c15) % keys };
                builder.push(at as i64, Some(&key.to_be_bytes()), Some(&[b'x'; RECORD_BYTES - 8]), &[]);
            }
            let mut batch = builder.build().expect("a small batch");
            patch(&mut batch, offset as i64, 0);
            written += batch.len() as u64;
            offset += BATCH_RECORDS;
            batches.push(batch.freeze());
        }
        let (end_offset, log) = (offset as i64, log.clone());
        let max_timestamp = end_offset - 1;
        bench.run(Entry::Append {
            log,
            incarnation: 1,
            leader_epoch: 0,
            base_offset,
            end_offset,
            max_timestamp,
            batches,
        });
    }
    offset
}

/// A line of what Linux says of this process, in KiB.
fn status(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}
