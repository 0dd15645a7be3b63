//! The parts of a produce: the check of a batch, and a round of the journal over some partitions, up to its sync.
//!
//! `cargo bench -p capek-benches`

use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration;

use capek_benches::{Scratch, batch, patched};
use capek_log::{Entry, Flush, LogConfig};
use capek_wire::batch::{check, patch};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

fn check_and_patch(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("check and patch");
    for (records, value_bytes) in [(1, 100), (16, 1024), (1000, 1024)] {
        let bytes = batch(records, value_bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("{records} x {value_bytes} B"), |bencher| {
            bencher.iter_batched_ref(
                || bytes.clone(),
                |bytes| {
                    black_box(check(bytes).expect("the batch is sound"));
                    patch(bytes, 7, 1);
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn journal_round(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("journal round");
    group.measurement_time(Duration::from_secs(5)).sample_size(20);
    for flush in [Flush::Group, Flush::Async] {
        for (log_count, records) in [(1, 1), (1, 1000), (16, 1), (100, 1)] {
            let mut scratch = Scratch::new(log_count, LogConfig { flush, ..LogConfig::default() });
            let bytes = batch(records, 100);
            let mut offset = 0;
            group.throughput(Throughput::Elements(log_count as u64 * records as u64));
            group.bench_function(format!("{flush:?}, {log_count} logs, {records} records each"), |bencher| {
                bencher.iter(|| {
                    let end_offset = offset + records as i64;
                    let entries = scratch.logs.iter().map(|log| Entry::Append {
                        log: log.clone(),
                        incarnation: 1,
                        leader_epoch: 0,
                        base_offset: offset,
                        end_offset,
                        max_timestamp: 0,
                        batches: vec![patched(&bytes, offset)],
                    });
                    let mut queue: VecDeque<Entry> = entries.collect();
                    let mut done = Vec::new();
                    while !queue.is_empty() {
                        if scratch.journal.write(&mut queue, 0, &mut done).expect("the disk takes it") {
                            scratch.journal.sync(0, &mut done).expect("the disk syncs");
                        }
                    }
                    offset = end_offset;
                    black_box(done.len());
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, check_and_patch, journal_round);
criterion_main!(benches);
