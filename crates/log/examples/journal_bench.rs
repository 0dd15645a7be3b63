//! How many durable rounds a second a disk gives, for 1, 16 and 1,000 partitions:
//! `cargo run --release -p capek-log --example journal_bench -- [DIRECTORY] [SECONDS]`

#![allow(clippy::print_stdout, reason = "it prints a table")]

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_log::vfs::RealVfs;
use capek_log::{Entry, Flush, Journal, JournalOptions, Log, LogConfig, LogId, LogSpec};
use capek_wire::batch::patch;
use capek_wire::{BatchBuilder, Codec, Uuid};

struct Case {
    partitions: usize,
    /// Batches for each partition in a round.
    batches: usize,
    value_bytes: usize,
    flush: Flush,
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let root = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("journal-bench");
    let seconds: u64 = arguments.next().and_then(|value| value.parse().ok()).unwrap_or(3);
    println!(
        "{:>10} {:>8} {:>8} {:>6} {:>10} {:>12} {:>9}",
        "partitions", "batches", "bytes", "flush", "rounds/s", "batches/s", "MiB/s"
    );
    for (partitions, batches, value_bytes) in [
        (1, 1, 100),
        (1, 50, 100),
        (1, 1, 16 << 10),
        (1, 64, 16 << 10),
        (16, 1, 100),
        (16, 16, 16 << 10),
        (1000, 1, 100),
    ] {
        for flush in [Flush::Group, Flush::Async] {
            let case = Case { partitions, batches, value_bytes, flush };
            run(&root, &case, Duration::from_secs(seconds));
        }
    }
    many_logs(&root, 10_000);
}

/// What ten thousand logs cost: to make, to write to, to stop and to start again.
#[allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]
fn many_logs(root: &PathBuf, count: usize) {
    let _ = std::fs::remove_dir_all(root);
    let case = Case { partitions: count, batches: 1, value_bytes: 100, flush: Flush::Group };
    let mut start = std::time::Instant::now();
    let mut step = |name: &str| {
        println!("{count} logs, {name}: {:.0?}, resident {} KiB", start.elapsed(), resident_kib());
        start = std::time::Instant::now();
    };
    let open = || Journal::open(Arc::new(RealVfs), JournalOptions::new(root, 1, "bench")).expect("a sound directory");
    let (mut journal, _) = open();
    step("open a fresh directory");
    let logs = create(&mut journal, &case);
    step("create");
    let template = template(case.value_bytes);
    let (mut queue, mut done) = (VecDeque::new(), Vec::new());
    for log in &logs {
        push(&mut queue, log, &template, 1);
    }
    while !queue.is_empty() {
        if journal.write(&mut queue, 0, &mut done).expect("the disk is sound") {
            journal.sync(0, &mut done).expect("the disk is sound");
        }
    }
    done.clear();
    step("append to each");
    journal.close().expect("the disk is sound");
    drop(logs);
    step("close");
    let (mut journal, recovery) = open();
    let logs = create(&mut journal, &case);
    step(if recovery.clean { "start after a clean stop" } else { "start" });
    drop((logs, journal));
    let (journal, _) = open();
    step("start after a crash");
    drop(journal);
    let _ = std::fs::remove_dir_all(root);
}

fn resident_kib() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("?");
    line.trim().trim_end_matches(" kB").to_owned()
}

#[allow(clippy::disallowed_methods, reason = "a benchmark needs a clock")]
fn run(root: &PathBuf, case: &Case, time: Duration) {
    let _ = std::fs::remove_dir_all(root);
    let options = JournalOptions::new(root, 1, "bench");
    let (mut journal, _) = Journal::open(Arc::new(RealVfs), options).expect("a fresh directory");
    let logs = create(&mut journal, case);
    while journal.background(0).expect("room for the journal") {}
    std::thread::sleep(Duration::from_millis(500));
    let template = template(case.value_bytes);
    let (mut queue, mut done, mut rounds, mut bytes) = (VecDeque::new(), Vec::new(), 0u64, 0u64);
    let start = std::time::Instant::now();
    while start.elapsed() < time {
        for log in &logs {
            bytes += push(&mut queue, log, &template, case.batches);
        }
        while !queue.is_empty() {
            rounds += 1;
            if journal.write(&mut queue, 0, &mut done).expect("the disk is sound") {
                journal.sync(0, &mut done).expect("the disk is sound");
            }
        }
        done.clear();
    }
    let elapsed = start.elapsed().as_secs_f64();
    let count = bytes as f64 / template.len() as f64;
    println!(
        "{:>10} {:>8} {:>8} {:>6} {:>10.0} {:>12.0} {:>9.1}",
        case.partitions,
        case.batches,
        template.len(),
        format!("{:?}", case.flush),
        rounds as f64 / elapsed,
        count / elapsed,
        bytes as f64 / elapsed / (1 << 20) as f64
    );
    journal.close().expect("the disk is sound");
    let _ = std::fs::remove_dir_all(root);
}

fn create(journal: &mut Journal, case: &Case) -> Vec<Arc<Log>> {
    let config = LogConfig { flush: case.flush, ..LogConfig::default() };
    let id = |partition: usize| LogId { topic: "bench".into(), topic_id: Uuid([1; 16]), partition: partition as i32 };
    let specs = (0..case.partitions).map(|partition| LogSpec { id: id(partition), config }).collect();
    journal.create(specs).into_iter().map(|log| log.expect("room for it")).collect()
}

fn template(value_bytes: usize) -> Vec<u8> {
    let mut builder = BatchBuilder::new(Codec::None);
    builder.push(1, None, Some(&vec![7; value_bytes]), &[]);
    builder.build().expect("it is not compressed").to_vec()
}

fn push(queue: &mut VecDeque<Entry>, log: &Arc<Log>, template: &[u8], count: usize) -> u64 {
    let base_offset = log.end_offset();
    let batches: Vec<Bytes> = (0..count as i64)
        .map(|at| {
            let mut batch = template.to_vec();
            patch(&mut batch, base_offset + at, 0);
            Bytes::from(batch)
        })
        .collect();
    let end_offset = base_offset + count as i64;
    let log = log.clone();
    queue.push_back(Entry::Append {
        log,
        incarnation: 0,
        leader_epoch: 0,
        base_offset,
        end_offset,
        max_timestamp: 1,
        batches,
    });
    (template.len() * count) as u64
}
