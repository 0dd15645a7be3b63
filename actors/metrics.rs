//! Counters of this broker: plain atomics that the hot paths add to, once for each request and never for each record.

use std::sync::atomic::{AtomicU64, Ordering};

use capek_wire::error_code::ErrorCode;

use crate::produce::PartitionAnswer;

/// What has happened since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub produce_requests: AtomicU64,
    pub produce_errors: AtomicU64,
    pub fetch_requests: AtomicU64,
    pub fetched_bytes: AtomicU64,
}

impl Metrics {
    pub fn produced(&self, answers: &[PartitionAnswer]) {
        self.produce_requests.fetch_add(1, Ordering::Relaxed);
        let failed = answers.iter().filter(|answer| answer.error != ErrorCode::None).count();
        if failed > 0 {
            self.produce_errors.fetch_add(failed as u64, Ordering::Relaxed);
        }
    }

    pub fn fetched(&self, size_bytes: usize) {
        self.fetch_requests.fetch_add(1, Ordering::Relaxed);
        self.fetched_bytes.fetch_add(size_bytes as u64, Ordering::Relaxed);
    }
}
