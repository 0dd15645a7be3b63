//! Reads, positions, timestamps and epochs against a model that just keeps all records in a list.

mod common;

use std::sync::Arc;

use capek_log::vfs::SimVfs;
use capek_log::{Entry, Log, LogConfig, ReadError, ReadOutcome, ReadRequest};
use capek_wire::batch::batches;
use capek_wire::{BatchBuilder, Codec};
use common::*;
use proptest::prelude::*;

#[derive(Clone, Debug)]
struct NewBatch {
    /// Of each record; not sorted, as producers' clocks are not.
    timestamps: Vec<i64>,
    value_bytes: usize,
    epoch_step: bool,
    is_compressed: bool,
}

#[derive(Clone, Debug)]
struct Row {
    offset: i64,
    timestamp: i64,
    epoch: i32,
    batch: usize,
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    /// Base offset, next offset, size of each batch.
    batches: Vec<(i64, i64, usize)>,
}

fn new_batch() -> impl Strategy<Value = NewBatch> {
    let timestamps = prop::collection::vec(0..2000i64, 1..6);
    (timestamps, 0..400usize, any::<bool>(), any::<bool>()).prop_map(
        |(timestamps, value_bytes, step, is_compressed)| NewBatch {
            timestamps,
            value_bytes,
            epoch_step: step && value_bytes % 5 == 0,
            is_compressed,
        },
    )
}

fn build(driver: &mut Driver, log: &Arc<Log>, new: &[NewBatch]) -> Rows {
    let (mut rows, mut epoch, mut end) = (Rows::default(), 0, 0);
    for (at, batch) in new.iter().enumerate() {
        epoch += i32::from(batch.epoch_step);
        let mut builder = BatchBuilder::new(if batch.is_compressed { Codec::Lz4 } else { Codec::None });
        for (index, timestamp) in batch.timestamps.iter().enumerate() {
            builder.push(*timestamp, None, Some(&vec![at as u8; batch.value_bytes]), &[]);
            rows.rows.push(Row { offset: end + index as i64, timestamp: *timestamp, epoch, batch: at });
        }
        let bytes = place(builder.build().unwrap(), end, epoch);
        rows.batches.push((end, end + batch.timestamps.len() as i64, bytes.len()));
        end += batch.timestamps.len() as i64;
        driver.push(append(log, 0, vec![bytes]));
        if at % 3 == 0 {
            driver.run().unwrap();
        }
    }
    driver.run().unwrap();
    rows
}

impl Rows {
    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.1)
    }

    /// The batches that a read gives, by their base offsets, regardless of where segments end.
    fn read(&self, request: ReadRequest) -> Vec<i64> {
        let mut found = Vec::new();
        let mut used = 0;
        if request.offset >= request.end_offset {
            return found;
        }
        for (base, next, size) in &self.batches {
            if *next <= request.offset {
                continue;
            }
            let is_too_much = used + size > request.max_bytes && (!found.is_empty() || !request.at_least_one);
            if *base >= request.end_offset || is_too_much {
                break;
            }
            found.push(*base);
            used += size;
        }
        found
    }

    fn visible(&self, log_start: i64, end_offset: i64) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.offset >= log_start && row.offset < end_offset)
    }
}

fn check_reads(log: &Log, rows: &Rows) {
    let (start, end) = (log.log_start(), rows.end());
    for offset in start..=end {
        for (max_bytes, end_offset) in [(1, end), (700, end), (3000, end), (3000, end - 3), (1 << 20, end)] {
            for at_least_one in [true, false] {
                let request = ReadRequest { offset, max_bytes, end_offset, at_least_one, may_block: true };
                let expected = rows.read(request);
                let found = match log.read(request).unwrap() {
                    ReadOutcome::Data { bytes, next_offset } => {
                        assert_eq!(batches(&bytes).last().unwrap().unwrap().1.next_offset(), next_offset);
                        assert!(bytes.len() <= max_bytes || expected.len() == 1);
                        base_offsets(&bytes)
                    }
                    ReadOutcome::Empty => Vec::new(),
                    ReadOutcome::WouldBlock => panic!("it may block"),
                };
                // A read ends with its segment: it may give less, but never nothing where there is something.
                assert!(expected.starts_with(&found), "{request:?}: {found:?}, not {expected:?}");
                assert_eq!(expected.is_empty(), found.is_empty(), "{request:?}");
            }
        }
    }
    let beyond = ReadRequest { offset: end + 1, max_bytes: 1, end_offset: end, at_least_one: true, may_block: true };
    assert!(matches!(log.read(beyond), Err(ReadError::OutOfRange { .. })));
}

fn check_timestamps(log: &Log, rows: &Rows) {
    let start = log.log_start();
    for end_offset in [rows.end(), rows.end() / 2, start] {
        for timestamp in (0..2100).step_by(67) {
            let expected = rows.visible(start, end_offset).find(|row| row.timestamp >= timestamp);
            let found = log.offset_for_timestamp(timestamp, end_offset).unwrap();
            assert_eq!(
                found.map(|found| (found.offset, found.timestamp, found.leader_epoch)),
                expected.map(|row| (row.offset, row.timestamp, row.epoch)),
                "{timestamp} below {end_offset}"
            );
        }
        let largest = rows.visible(start, end_offset).map(|row| row.timestamp).max();
        let found = log.max_timestamp_offset(end_offset).unwrap();
        assert_eq!(found.map(|found| found.timestamp), largest, "below {end_offset}");
        if let Some(found) = found {
            let row = rows.visible(start, end_offset).find(|row| row.offset == found.offset).unwrap();
            assert_eq!(Some(row.timestamp), largest);
        }
    }
}

fn check_epochs(log: &Log, rows: &Rows) {
    for row in rows.rows.iter().filter(|row| row.offset >= log.log_start()) {
        assert_eq!(log.epoch_for(row.offset).unwrap(), Some(row.epoch), "offset {}", row.offset);
    }
    if let Some(last) = rows.visible(log.log_start(), rows.end()).last() {
        assert_eq!(log.latest_epoch().unwrap(), Some(last.epoch));
    }
}

fn check_sizes(log: &Log, rows: &Rows) {
    let end = rows.end();
    assert_eq!(log.bytes_between(end, end), 0);
    assert!(log.bytes_between(log.log_start(), end) > 0 || log.log_start() == end);
    let all: usize = rows.batches.iter().map(|batch| batch.2).sum();
    assert!(log.bytes_between(0, end) <= all as u64);
}

fn check_all(log: &Log, rows: &Rows) {
    check_reads(log, rows);
    check_timestamps(log, rows);
    check_epochs(log, rows);
    check_sizes(log, rows);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lookups_agree_with_a_list_of_records(
        new in prop::collection::vec(new_batch(), 1..40),
        segment_bytes in 600..6000u32,
        index_interval_bytes in 1..1500u32,
        log_start in 0..30i64,
        cut_back in 0..8i64,
    ) {
        let sim = SimVfs::new(1);
        let config = LogConfig { segment_bytes, index_interval_bytes, ..LogConfig::default() };
        let (mut driver, _) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
        let log = driver.log("one", 0, config);
        let mut rows = build(&mut driver, &log, &new);
        check_all(&log, &rows);

        // Less at the beginning, less at the end.
        driver.push(Entry::LogStart { log: log.clone(), offset: log_start.min(rows.end()) });
        driver.push(Entry::Truncate { log: log.clone(), end_offset: (rows.end() - cut_back).max(log.log_start()) });
        driver.run().unwrap();
        let end = log.end_offset();
        rows.batches.retain(|batch| batch.1 <= end);
        rows.rows.retain(|row| row.batch < rows.batches.len());
        prop_assume!(rows.end() == end && log.log_start() <= end);
        check_all(&log, &rows);

        // And the same after a clean stop, and after a crash.
        driver.journal.close().unwrap();
        let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
        prop_assert!(recovery.clean);
        check_all(&driver.log("one", 0, config), &rows);
        drop(driver);
        let (mut driver, recovery) = Driver::open(Arc::new(sim.clone()), options("/data")).unwrap();
        prop_assert!(!recovery.clean && recovery.logs[0].damaged.is_none());
        check_all(&driver.log("one", 0, config), &rows);
    }
}
