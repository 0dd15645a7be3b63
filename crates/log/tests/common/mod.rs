//! What the tests of the log share: batches, a log's content, a driver for the journal.

#![allow(dead_code)]

pub mod model;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use capek_log::vfs::Vfs;
use capek_log::{
    Clean, CleanError, CleanOptions, CleanWatch, CleanableQuery, Completion, DirFailed, Entry, Journal, JournalOptions,
    Log, LogConfig, LogId, LogSpec, OpenError, Outcome, ReadOutcome, ReadRequest, Recovery,
};
use capek_wire::batch::{batches, check, patch};
use capek_wire::{BatchBuilder, Codec, Uuid};

pub const CLUSTER: &str = "test-cluster";

pub fn options(path: &str) -> JournalOptions {
    JournalOptions::new(path, 1, CLUSTER)
}

pub fn id(topic: &str, partition: i32) -> LogId {
    let mut bytes = [0; 16];
    for (at, byte) in topic.bytes().take(16).enumerate() {
        bytes[at] = byte;
    }
    LogId { topic: topic.into(), topic_id: Uuid(bytes), partition }
}

pub fn spec(topic: &str, partition: i32, config: LogConfig) -> LogSpec {
    LogSpec { id: id(topic, partition), config }
}

/// A batch of `count` records with values of `value_bytes`, as it stands in a log.
pub fn batch(base_offset: i64, leader_epoch: i32, count: usize, value_bytes: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::new(Codec::None);
    for at in 0..count {
        let value: Vec<u8> = (0..value_bytes).map(|byte| (byte as i64 * 7 + base_offset + at as i64) as u8).collect();
        builder.push(timestamp + at as i64, Some(&(base_offset + at as i64).to_be_bytes()), Some(&value), &[]);
    }
    place(builder.build().unwrap(), base_offset, leader_epoch)
}

pub fn place(mut bytes: BytesMut, base_offset: i64, leader_epoch: i32) -> Bytes {
    patch(&mut bytes, base_offset, leader_epoch);
    bytes.freeze()
}

/// An append of batches that follow each other.
pub fn append(log: &Arc<Log>, incarnation: u32, batches_bytes: Vec<Bytes>) -> Entry {
    let headers: Vec<_> =
        batches_bytes.iter().flat_map(|bytes| batches(bytes)).map(|header| header.unwrap().1).collect();
    Entry::Append {
        log: log.clone(),
        incarnation,
        leader_epoch: headers[0].leader_epoch,
        base_offset: headers[0].base_offset,
        end_offset: headers.last().unwrap().next_offset(),
        max_timestamp: headers.iter().map(|header| header.max_timestamp).max().unwrap(),
        batches: batches_bytes,
    }
}

/// The journal with its queue, as its thread drives it.
pub struct Driver {
    pub journal: Journal,
    pub queue: VecDeque<Entry>,
    pub done: Vec<Completion>,
    pub now_ms: i64,
}

impl Driver {
    pub fn open(vfs: Arc<dyn Vfs>, options: JournalOptions) -> Result<(Driver, Recovery), OpenError> {
        let (journal, recovery) = Journal::open(vfs, options)?;
        Ok((Driver { journal, queue: VecDeque::new(), done: Vec::new(), now_ms: 1_000_000 }, recovery))
    }

    pub fn log(&mut self, topic: &str, partition: i32, config: LogConfig) -> Arc<Log> {
        self.journal.create(vec![spec(topic, partition, config)]).remove(0).unwrap()
    }

    pub fn push(&mut self, entry: Entry) {
        self.queue.push_back(entry);
    }

    /// One batch at the end of a log.
    pub fn append(&mut self, log: &Arc<Log>, count: usize, value_bytes: usize) {
        let end = self.next_offset(log);
        self.push(append(log, 0, vec![batch(end, 0, count, value_bytes, 1000 + end)]));
    }

    fn next_offset(&self, log: &Arc<Log>) -> i64 {
        let queued = self.queue.iter().rev().find_map(|entry| match entry {
            Entry::Append { log: other, end_offset, .. } if Arc::ptr_eq(other, log) => Some(*end_offset),
            _ => None,
        });
        queued.unwrap_or_else(|| log.end_offset())
    }

    /// Rounds until nothing is queued.
    pub fn run(&mut self) -> Result<Vec<Completion>, DirFailed> {
        while !self.queue.is_empty() || self.journal.wants_round() {
            let before = self.queue.len();
            if self.journal.write(&mut self.queue, self.now_ms, &mut self.done)? {
                self.journal.sync(self.now_ms, &mut self.done)?;
            } else if self.queue.len() == before {
                break;
            }
        }
        Ok(std::mem::take(&mut self.done))
    }
}

/// Lets a clean go on.
pub struct NoWatch;

impl CleanWatch for NoWatch {
    fn progress(&mut self, _: u64, _: u64) -> bool {
        true
    }
}

pub fn clean_options(now_ms: i64) -> CleanOptions {
    CleanOptions { now_ms, delete_retention_ms: 1000, dedupe_bytes_max: 1 << 20, load_factor: 0.9, buffer_bytes: 8192 }
}

pub fn query(now_ms: i64, high_watermark: i64) -> CleanableQuery {
    CleanableQuery { now_ms, high_watermark, min_lag_ms: 0, max_lag_ms: i64::MAX }
}

/// Cleans all that can be cleaned, in as many passes as it takes; returns how many segments were swapped.
pub fn clean_all(driver: &mut Driver, log: &Arc<Log>, options: CleanOptions) -> Result<usize, CleanError> {
    let mut swapped = 0;
    while let Some(cleanable) = log.cleanable(query(options.now_ms, log.end_offset()))? {
        let mut clean = Clean::begin(log, cleanable, options, &mut NoWatch)?;
        while let Some(cleaned) = clean.next_group(&mut NoWatch)? {
            driver.push(Entry::Swap { log: log.clone(), cleaned });
            assert_eq!(outcomes(&driver.run().unwrap()), ["swapped"]);
            swapped += 1;
        }
        driver.push(Entry::CleanedTo { log: log.clone(), end_offset: clean.end_offset() });
        driver.run().unwrap();
    }
    Ok(swapped)
}

/// All batches from the log start on, checked.
pub fn content(log: &Log) -> Vec<u8> {
    read_from(log, log.log_start(), 1 << 20)
}

pub fn read_from(log: &Log, mut offset: i64, max_bytes: usize) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let end_offset = i64::MAX;
        let request = ReadRequest { offset, max_bytes, end_offset, at_least_one: true, may_block: true };
        match log.read(request).unwrap() {
            ReadOutcome::Data { bytes, next_offset } => {
                for (position, header) in batches(&bytes).map(Result::unwrap) {
                    check(&bytes[position..position + header.size_bytes()]).unwrap();
                }
                assert!(next_offset > offset);
                all.extend_from_slice(&bytes);
                offset = next_offset;
            }
            ReadOutcome::Empty => return all,
            ReadOutcome::WouldBlock => panic!("it may block"),
        }
    }
}

/// Base offsets of the batches in `bytes`.
pub fn base_offsets(bytes: &[u8]) -> Vec<i64> {
    batches(bytes).map(|batch| batch.unwrap().1.base_offset).collect()
}

pub fn outcomes(done: &[Completion]) -> Vec<String> {
    done.iter()
        .map(|completion| match &completion.outcome {
            Outcome::Written { end_offset } => format!("written {end_offset}"),
            Outcome::Flushed { end_offset } => format!("flushed {end_offset}"),
            Outcome::AppendFailed { end_offset, error } => format!("failed {end_offset}: {error}"),
            Outcome::Truncated => "truncated".into(),
            Outcome::LogStartDurable { offset } => format!("start {offset}"),
            Outcome::Deleted => "deleted".into(),
            Outcome::Swapped => "swapped".into(),
            Outcome::SwapRefused => "swap refused".into(),
            Outcome::Drained { token, end_offset } => format!("drained {token} {end_offset}"),
        })
        .collect()
}
