//! The offset index and the time index of a segment, in memory while it is active and in Kafka's files afterwards.
//!
//! ```text
//! .index      relative offset u32 (last of a batch) | position u32 (where that batch begins)          8 bytes each
//! .timeindex  timestamp i64 (largest so far) | relative offset u32 (last of the batch that has it)   12 bytes each
//! ```
//!
//! An entry is made for the first batch after each `index.interval.bytes`; when the segment closes, the time index gets the
//! largest timestamp as its last entry.

use std::io;

use capek_wire::BatchHeader;

use crate::header_guard;
use crate::vfs::VfsFile;

pub(crate) const OFFSET_ENTRY_BYTES: usize = 8;
pub(crate) const TIME_ENTRY_BYTES: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub relative_offset: u32,
    pub position: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    pub timestamp: i64,
    pub relative_offset: u32,
}

/// A timestamp and the offset that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Largest {
    pub timestamp: i64,
    pub offset: i64,
}

/// Both indexes of the active segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryIndex {
    pub offsets: Vec<OffsetEntry>,
    pub times: Vec<TimeEntry>,
    pub largest: Option<Largest>,
    /// The largest timestamp of the segment's first batch: `segment.ms` counts from there.
    pub first_timestamp: Option<i64>,
    /// Over the headers of all batches, see `header_guard`.
    pub headers_crc: u32,
    bytes_since_entry: u64,
}

/// What the index files do not say.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FirstBatch {
    pub first_timestamp: Option<i64>,
    pub headers_crc: u32,
}

impl MemoryIndex {
    /// From what the files of the segment say.
    pub fn from_files(
        base_offset: i64,
        offsets: Vec<OffsetEntry>,
        times: Vec<TimeEntry>,
        first: FirstBatch,
        size_bytes: u64,
    ) -> MemoryIndex {
        let last = times.last();
        let largest = last
            .map(|last| Largest { timestamp: last.timestamp, offset: base_offset + i64::from(last.relative_offset) });
        let bytes_since_entry = size_bytes - offsets.last().map_or(0, |last| u64::from(last.position));
        let FirstBatch { first_timestamp, headers_crc } = first;
        MemoryIndex { offsets, times, largest, first_timestamp, headers_crc, bytes_since_entry }
    }

    /// A batch stands at `position`.
    pub fn note(&mut self, base_offset: i64, position: u64, header: &BatchHeader, interval_bytes: u32) {
        let last_offset = header.last_offset();
        self.headers_crc = header_guard::extend(self.headers_crc, header);
        self.first_timestamp.get_or_insert(header.max_timestamp);
        if self.largest.is_none_or(|largest| header.max_timestamp > largest.timestamp) {
            self.largest = Some(Largest { timestamp: header.max_timestamp, offset: last_offset });
        }
        if self.bytes_since_entry > u64::from(interval_bytes) {
            let relative_offset = (last_offset - base_offset) as u32;
            self.offsets.push(OffsetEntry { relative_offset, position: position as u32 });
            self.note_time(base_offset);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry += header.size_bytes() as u64;
    }

    /// The largest timestamp so far becomes an entry if it is later than the last one.
    fn note_time(&mut self, base_offset: i64) {
        let Some(largest) = self.largest.filter(|largest| largest.timestamp >= 0) else { return };
        if self.times.last().is_none_or(|last| largest.timestamp > last.timestamp) {
            let relative_offset = (largest.offset - base_offset) as u32;
            self.times.push(TimeEntry { timestamp: largest.timestamp, relative_offset });
        }
    }

    pub fn is_full(&self, index_bytes_max: u32) -> bool {
        // One time entry stays free for the last one.
        self.offsets.len() >= index_bytes_max as usize / OFFSET_ENTRY_BYTES
            || self.times.len() + 1 >= index_bytes_max as usize / TIME_ENTRY_BYTES
    }

    /// Where to begin looking for a relative offset.
    pub fn floor(&self, relative_offset: u32) -> u64 {
        let after = self.offsets.partition_point(|entry| entry.relative_offset <= relative_offset);
        after.checked_sub(1).map_or(0, |at| u64::from(self.offsets[at].position))
    }

    /// The least relative offset from which a batch with this timestamp or a later one may be found.
    pub fn floor_by_time(&self, timestamp: i64) -> u32 {
        let after = self.times.partition_point(|entry| entry.timestamp < timestamp);
        after.checked_sub(1).map_or(0, |at| self.times[at].relative_offset)
    }

    pub fn offset_file(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.offsets.len() * OFFSET_ENTRY_BYTES);
        for entry in &self.offsets {
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
            bytes.extend_from_slice(&entry.position.to_be_bytes());
        }
        bytes
    }

    /// With the last entry of a segment that closes.
    pub fn time_file(&self, base_offset: i64) -> Vec<u8> {
        let mut closed = MemoryIndex { times: self.times.clone(), largest: self.largest, ..MemoryIndex::default() };
        closed.note_time(base_offset);
        let mut bytes = Vec::with_capacity(closed.times.len() * TIME_ENTRY_BYTES);
        for entry in &closed.times {
            bytes.extend_from_slice(&entry.timestamp.to_be_bytes());
            bytes.extend_from_slice(&entry.relative_offset.to_be_bytes());
        }
        bytes
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn parse_offset_entry(bytes: &[u8]) -> OffsetEntry {
    OffsetEntry { relative_offset: u32_at(bytes, 0), position: u32_at(bytes, 4) }
}

pub(crate) fn parse_time_entry(bytes: &[u8]) -> TimeEntry {
    let timestamp = (u64::from(u32_at(bytes, 0)) << 32 | u64::from(u32_at(bytes, 4))) as i64;
    TimeEntry { timestamp, relative_offset: u32_at(bytes, 8) }
}

/// The entries of a closed index file are sorted: the last one for which `is_before` holds.
fn last_where<const BYTES: usize>(
    file: &dyn VfsFile,
    is_before: impl Fn(&[u8]) -> bool,
) -> io::Result<Option<[u8; BYTES]>> {
    let (mut low, mut high) = (0, file.len()? / BYTES as u64);
    let mut found = None;
    while low < high {
        let middle = (low + high) / 2;
        let bytes = file.read_at(middle * BYTES as u64, BYTES)?;
        let Ok(entry) = <[u8; BYTES]>::try_from(bytes) else { break };
        if is_before(&entry) {
            found = Some(entry);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(found)
}

/// As [`MemoryIndex::floor`], in a file: the entry that says it.
pub(crate) fn floor_in_file(file: &dyn VfsFile, relative_offset: u32) -> io::Result<Option<OffsetEntry>> {
    let is_before = |entry: &[u8]| parse_offset_entry(entry).relative_offset <= relative_offset;
    let found = last_where::<OFFSET_ENTRY_BYTES>(file, is_before)?;
    Ok(found.map(|entry| parse_offset_entry(&entry)))
}

/// As [`MemoryIndex::floor_by_time`], in a file.
pub(crate) fn floor_by_time_in_file(file: &dyn VfsFile, timestamp: i64) -> io::Result<u32> {
    let is_before = |entry: &[u8]| parse_time_entry(entry).timestamp < timestamp;
    let found = last_where::<TIME_ENTRY_BYTES>(file, is_before)?;
    Ok(found.map_or(0, |entry| parse_time_entry(&entry).relative_offset))
}
