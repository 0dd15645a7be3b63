//! Which offset a timestamp stands for, and how many bytes lie between two offsets.

use std::ops::Range;

use bytes::Bytes;
use capek_wire::BatchError;
use capek_wire::batch::{Records, records};

use super::{Log, View};
use crate::error::ReadError;
use crate::scan::{Depth, ScannedBatch, Scanner, Step};
use crate::segment::Segment;
use crate::vfs::ReadAt;

/// What a batch may inflate to when records are looked at.
const INFLATED_BYTES_MAX: usize = 256 << 20;

/// An answer to ListOffsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    pub offset: i64,
    pub timestamp: i64,
    pub leader_epoch: i32,
}

impl Log {
    /// Bytes of the batches from `offset` to `end_offset`, estimated without I/O; at least 1 when there is any record.
    pub fn bytes_between(&self, offset: i64, end_offset: i64) -> u64 {
        let end_offset = end_offset.min(self.end_offset());
        let offset = offset.max(self.log_start());
        if offset >= end_offset {
            return 0;
        }
        let Some(view) = self.view.load_full() else { return 1 };
        let end = position_in_log(&view, end_offset);
        end.saturating_sub(position_in_log(&view, offset)).max(1)
    }

    /// Whether `end_offset` lies behind the segment that holds `offset`, as far as is known without I/O.
    pub fn is_in_older_segment(&self, offset: i64, end_offset: i64) -> bool {
        if offset >= end_offset {
            return false;
        }
        let view = self.view.load();
        view.as_ref().is_some_and(|view| view.segment_at(offset) < view.segment_at(end_offset))
    }

    /// The first record with this timestamp or a later one, below `end_offset`.
    pub fn offset_for_timestamp(&self, timestamp: i64, end_offset: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let view = self.opened()?;
        for segment in view.segments.iter().filter(|segment| segment.size_bytes() > 0) {
            if segment.base_offset >= end_offset {
                break;
            }
            let largest = segment.largest(&self.files)?;
            if largest.is_none_or(|largest| largest.timestamp < timestamp) {
                continue;
            }
            let position = segment.floor_position_by_time(&self.files, timestamp)?;
            let is_wanted = |batch: &ScannedBatch| batch.header.max_timestamp >= timestamp;
            let found = self.find_record(segment, position, end_offset, &is_wanted, &|at| at >= timestamp)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first record that has the largest timestamp of all below `end_offset`.
    pub fn max_timestamp_offset(&self, end_offset: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let view = self.opened()?;
        let mut best: Option<TimestampOffset> = None;
        for segment in view.segments.iter().filter(|segment| segment.size_bytes() > 0) {
            if segment.base_offset >= end_offset {
                break;
            }
            let Some(timestamp) = self.largest_below(segment, end_offset)? else { continue };
            if best.is_some_and(|best| best.timestamp >= timestamp) {
                continue;
            }
            let position = segment.floor_position_by_time(&self.files, timestamp)?;
            let is_wanted = |batch: &ScannedBatch| batch.header.max_timestamp >= timestamp;
            best = self.find_record(segment, position, end_offset, &is_wanted, &|at| at >= timestamp)?.or(best);
        }
        Ok(best)
    }

    /// The largest timestamp of a segment's records below `end_offset` and from the log start on.
    fn largest_below(&self, segment: &Segment, end_offset: i64) -> Result<Option<i64>, ReadError> {
        let log_start = self.log_start();
        let largest = segment.largest(&self.files)?;
        // What the index remembers is the last offset of its batch.
        if largest.is_some_and(|largest| largest.offset < end_offset) && segment.base_offset >= log_start {
            return Ok(largest.map(|largest| largest.timestamp));
        }
        let mut timestamp = None;
        self.each_batch(segment, 0, &mut |batch, file| {
            let header = &batch.header;
            if header.base_offset >= end_offset {
                return Ok(false);
            }
            if header.next_offset() > log_start {
                let is_inside = header.base_offset >= log_start && header.next_offset() <= end_offset;
                let largest = if is_inside {
                    Some(header.max_timestamp)
                } else {
                    largest_of(&batch, file, log_start..end_offset)?
                };
                timestamp = timestamp.max(largest.filter(|timestamp| *timestamp >= 0));
            }
            Ok(true)
        })?;
        Ok(timestamp)
    }

    fn find_record(
        &self,
        segment: &Segment,
        position: u64,
        end_offset: i64,
        is_batch_wanted: &dyn Fn(&ScannedBatch) -> bool,
        is_wanted: &dyn Fn(i64) -> bool,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let log_start = self.log_start();
        let mut found = None;
        self.each_batch(segment, position, &mut |batch, file| {
            if batch.header.base_offset >= end_offset {
                return Ok(false);
            }
            if batch.header.next_offset() <= log_start || !is_batch_wanted(&batch) {
                return Ok(true);
            }
            for record in records_of(&batch, file)? {
                let record = record.map_err(corrupt)?;
                if (log_start..end_offset).contains(&record.offset) && is_wanted(record.timestamp) {
                    let leader_epoch = batch.header.leader_epoch;
                    found = Some(TimestampOffset { offset: record.offset, timestamp: record.timestamp, leader_epoch });
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        Ok(found)
    }

    fn each_batch(
        &self,
        segment: &Segment,
        position: u64,
        visit: &mut dyn FnMut(ScannedBatch, &dyn ReadAt) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let reader = segment.reader(&self.files)?;
        let mut scanner = Scanner::new(&reader, Depth::Headers, position, segment.size_bytes(), segment.base_offset);
        loop {
            match scanner.step()? {
                Step::Batch(batch) => {
                    if !visit(batch, &reader)? {
                        return Ok(());
                    }
                }
                Step::End => return Ok(()),
                Step::Bad(bad) => return Err(ReadError::Corrupt(bad.problem)),
            }
        }
    }
}

fn corrupt(error: BatchError) -> ReadError {
    ReadError::Corrupt(error.to_string())
}

fn records_of(batch: &ScannedBatch, file: &dyn ReadAt) -> Result<Records, ReadError> {
    let bytes = Bytes::from(file.read_at(batch.position, batch.header.size_bytes())?);
    records(bytes, INFLATED_BYTES_MAX).map_err(corrupt)
}

/// Of a batch that only in part lies in the range.
fn largest_of(batch: &ScannedBatch, file: &dyn ReadAt, offsets: Range<i64>) -> Result<Option<i64>, ReadError> {
    let mut largest = None;
    for record in records_of(batch, file)? {
        let record = record.map_err(corrupt)?;
        if offsets.contains(&record.offset) {
            largest = largest.max(Some(record.timestamp));
        }
    }
    Ok(largest)
}

/// About how many bytes of the view lie before an offset.
fn position_in_log(view: &View, offset: i64) -> u64 {
    let mut before = 0;
    for segment in &view.segments {
        let (size, next_offset) = (segment.size_bytes(), segment.next_offset());
        if offset < next_offset {
            let inside = offset - segment.base_offset;
            if inside > 0 {
                let in_memory =
                    segment.memory().as_ref().map(|memory| memory.floor(inside.min(i64::from(u32::MAX)) as u32));
                // Of a closed segment the index is on disk: as if all records were of one size.
                let span = (next_offset - segment.base_offset).max(1) as u128;
                before += in_memory.unwrap_or_else(|| (u128::from(size) * inside as u128 / span) as u64);
            }
            break;
        }
        before += size;
    }
    before
}
