//! Counters of this broker: plain atomics that the hot paths add to, once for each request and never for each record.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use capek_log::CleanStats;
use capek_wire::error_code::ErrorCode;

use crate::cluster_changes::ClusterChanges;
use crate::histogram::Histogram;
use crate::peer_metrics::PeerMetrics;
use crate::produce::PartitionAnswer;
use crate::request_metrics::{ErrorCounts, RequestMetrics};

/// What has happened since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    pub requests: RequestMetrics,
    pub cleaner: Arc<CleanerMetrics>,
    pub changes: Arc<ClusterChanges>,
    pub peers: Arc<PeerMetrics>,
    /// What the controller here has refused to do.
    pub refusals: Arc<ErrorCounts>,
    /// One for each data directory, in the order of the configuration.
    pub journals: Vec<Arc<JournalMetrics>>,
}

impl Metrics {
    pub fn produced(&self, answers: &[PartitionAnswer]) {
        answers.iter().for_each(|answer| self.requests.produce_errors.add(answer.error));
    }

    pub fn fetch_failed(&self, error_code: i16) {
        self.requests.fetch_errors.add(ErrorCode::from_code(error_code));
    }
}

/// One journal's rounds.
#[derive(Debug, Default)]
pub struct JournalMetrics {
    /// Rounds that were written, and of those the ones that waited for the disk.
    pub rounds: AtomicU64,
    pub synced: Histogram,
    /// Entries that the last round left to the next.
    pub queued: AtomicU64,
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
