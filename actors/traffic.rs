//! TopicTraffic: what has come in and gone out of one topic on this broker since it came here. Counted once for each batch or
//! answer, never for each record; it stays when partitions move, so that no sum goes back.

use std::sync::atomic::{AtomicU64, Ordering};

/// See the head of this file.
#[derive(Debug, Default)]
pub struct TopicTraffic {
    pub records_in: AtomicU64,
    pub bytes_in: AtomicU64,
    /// To consumers, over Kafka's protocol and HTTP.
    pub bytes_out: AtomicU64,
    /// A request that names several partitions counts once for each, as in Kafka.
    pub produce_requests: AtomicU64,
    pub produce_failures: AtomicU64,
    pub fetch_requests: AtomicU64,
    pub fetch_failures: AtomicU64,
}

impl TopicTraffic {
    /// A drain of a partition's mailbox was taken in.
    pub fn produced(&self, round: &Produced) {
        add(&self.produce_requests, round.requests);
        add(&self.produce_failures, round.failures);
        add(&self.records_in, round.records);
        add(&self.bytes_in, round.bytes);
    }

    /// A consumer was given so much.
    pub fn fetched(&self, size_bytes: usize) {
        add(&self.fetch_requests, 1);
        add(&self.bytes_out, size_bytes as u64);
    }

    pub fn fetch_failed(&self) {
        add(&self.fetch_requests, 1);
        add(&self.fetch_failures, 1);
    }
}

fn add(counter: &AtomicU64, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
    }
}

/// What one drain of a partition's mailbox brought.
#[derive(Debug, Default, Clone, Copy)]
pub struct Produced {
    pub requests: u64,
    pub failures: u64,
    pub records: u64,
    pub bytes: u64,
}
