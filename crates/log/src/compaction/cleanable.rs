//! How much of a log can be compacted, and how much it needs it.

use std::io;
use std::sync::Arc;

use crate::log::{Log, View};
use crate::scan::{Depth, Scanner, Step};
use crate::segment::Segment;
use crate::vfs::OpenMode;

/// What decides on it besides the log.
#[derive(Clone, Copy, Debug)]
pub struct CleanableQuery {
    pub now_ms: i64,
    /// Nothing beyond is compacted.
    pub high_watermark: i64,
    /// `min.compaction.lag.ms`: younger records stay as they are.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: older records must be compacted, however few they are.
    pub max_lag_ms: i64,
}

/// The part of a log that can be compacted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanable {
    /// What is below was compacted before.
    pub first_dirty: i64,
    /// Exclusive; where a segment begins.
    pub end_offset: i64,
    pub clean_bytes: u64,
    pub dirty_bytes: u64,
    /// A record waits for longer than it may.
    pub is_overdue: bool,
}

impl Cleanable {
    /// The dirty part of all that can be compacted.
    pub fn dirty_ratio(&self) -> f64 {
        self.dirty_bytes as f64 / (self.clean_bytes + self.dirty_bytes).max(1) as f64
    }
}

impl Log {
    /// What can be compacted now; `None`: nothing. Opens the log.
    pub fn cleanable(&self, query: CleanableQuery) -> io::Result<Option<Cleanable>> {
        let view = self.opened()?;
        let first_dirty = self.first_dirty(&view);
        let cleanable_count = self.cleanable_count(&view, first_dirty, query)?;
        let segments = &view.segments[..cleanable_count];
        let Some(last) = segments.last().filter(|last| last.next_offset() > first_dirty) else { return Ok(None) };
        let size = |segments: &[Arc<Segment>]| segments.iter().map(|segment| segment.size_bytes()).sum();
        let clean_count = segments.partition_point(|segment| segment.next_offset() <= first_dirty);
        Ok(Some(Cleanable {
            first_dirty,
            end_offset: last.next_offset(),
            clean_bytes: size(&segments[..clean_count]),
            dirty_bytes: size(&segments[clean_count..]),
            is_overdue: self.is_overdue(&segments[clean_count..], query)?,
        }))
    }

    /// Where compaction ended the last time, if the log still holds that.
    fn first_dirty(&self, view: &View) -> i64 {
        let first = view.segments.first().map_or(0, |segment| segment.base_offset).max(self.log_start());
        match self.cleaned_end() {
            cleaned_end if cleaned_end > self.end_offset() => first,
            cleaned_end => cleaned_end.max(first),
        }
    }

    /// How many segments from the beginning on are closed, committed and, where they are dirty, old enough.
    fn cleanable_count(&self, view: &View, first_dirty: i64, query: CleanableQuery) -> io::Result<usize> {
        let closed = view.segments.len().saturating_sub(1);
        for (at, segment) in view.segments[..closed].iter().enumerate() {
            let next_offset = segment.next_offset();
            if next_offset > query.high_watermark {
                return Ok(at);
            }
            if query.min_lag_ms > 0 && next_offset > first_dirty {
                let newest = segment.largest(&self.files)?.map_or(-1, |largest| largest.timestamp);
                if newest > query.now_ms.saturating_sub(query.min_lag_ms) {
                    return Ok(at);
                }
            }
        }
        Ok(closed)
    }

    /// Whether the first batch of a segment is older than dirty records may be.
    fn is_overdue(&self, dirty: &[Arc<Segment>], query: CleanableQuery) -> io::Result<bool> {
        let oldest_allowed = query.now_ms.saturating_sub(query.max_lag_ms.max(0));
        if oldest_allowed <= 0 {
            return Ok(false);
        }
        for segment in dirty.iter().filter(|segment| segment.size_bytes() > 0) {
            let file = segment.log_file(&self.files, OpenMode::Write)?;
            let mut scanner = Scanner::new(&*file, Depth::Headers, 0, segment.size_bytes(), segment.base_offset);
            if let Step::Batch(batch) = scanner.step()?
                && (1..oldest_allowed).contains(&batch.header.max_timestamp)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
