//! What may go, by age and by size.

use std::io;

use super::Log;

impl Log {
    /// The new log start if whole segments may go: those whose last record is older than `retention_ms`, and the oldest while
    /// what is left is `retention_bytes` or more; never beyond the high watermark. A negative limit is none.
    pub fn retention_candidates(
        &self,
        now_ms: i64,
        retention_ms: i64,
        retention_bytes: i64,
        high_watermark: i64,
    ) -> io::Result<Option<i64>> {
        if retention_ms < 0 && retention_bytes < 0 {
            return Ok(None);
        }
        let view = self.opened()?;
        let log_start = self.log_start();
        let mut left: u64 = view.segments.iter().map(|segment| segment.size_bytes()).sum();
        let mut new_start = log_start;
        for segment in view.segments.iter().filter(|segment| segment.size_bytes() > 0) {
            let next_offset = segment.next_offset();
            if next_offset > high_watermark {
                break;
            }
            let largest = segment.largest(&self.files)?;
            let is_old = retention_ms >= 0
                && largest.is_some_and(|largest| now_ms.saturating_sub(largest.timestamp) > retention_ms);
            let rest = left - segment.size_bytes();
            let is_too_much = retention_bytes >= 0 && rest >= retention_bytes as u64;
            if !is_old && !is_too_much {
                break;
            }
            left = rest;
            new_start = new_start.max(next_offset);
        }
        Ok((new_start > log_start).then_some(new_start))
    }
}
