//! Counters of this broker: plain atomics that the hot paths add to, once for each request and never for each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use capek_log::CleanStats;
use capek_wire::error_code::ErrorCode;

use crate::produce::PartitionAnswer;

/// What has happened since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub produce_requests: AtomicU64,
    pub produce_errors: AtomicU64,
    pub fetch_requests: AtomicU64,
    pub fetched_bytes: AtomicU64,
    pub cleaner: Arc<CleanerMetrics>,
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

/// What compaction has done since the start.
#[derive(Debug, Default)]
pub struct CleanerMetrics {
    pub runs: AtomicU64,
    pub failed: AtomicU64,
    pub read_bytes: AtomicU64,
    pub written_bytes: AtomicU64,
    /// Keys of the dirty parts, all runs together.
    pub keys: AtomicU64,
    /// Logs that are left alone because they could not be cleaned.
    pub uncleanable: AtomicU64,
    /// The dirty ratio of the last log that was chosen, in millionths.
    pub last_dirty_ratio_millionths: AtomicU64,
    /// Of what the last run went through: how much of it was left, in millionths.
    pub last_left_millionths: AtomicU64,
}

const MILLION: f64 = 1_000_000.0;

impl CleanerMetrics {
    pub fn begin(&self, dirty_ratio: f64) {
        self.last_dirty_ratio_millionths.store((dirty_ratio * MILLION) as u64, Ordering::Relaxed);
    }

    pub fn moved(&self, read_bytes: u64, written_bytes: u64) {
        self.read_bytes.fetch_add(read_bytes, Ordering::Relaxed);
        self.written_bytes.fetch_add(written_bytes, Ordering::Relaxed);
    }

    pub fn done(&self, stats: &CleanStats) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        self.keys.fetch_add(stats.keys, Ordering::Relaxed);
        let left = stats.after_bytes as f64 / stats.before_bytes.max(1) as f64;
        self.last_left_millionths.store((left * MILLION) as u64, Ordering::Relaxed);
    }
}
