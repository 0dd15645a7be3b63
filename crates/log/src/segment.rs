//! One segment: its files, and where in them an offset or a timestamp is found.
//!
//! A segment that was cut is replaced by a new one: readers that hold the old one see at most what it held.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capek_wire::BatchHeader;
use capek_wire::batch::HEADER_BYTES;

use crate::compaction::Cleaned;
use crate::file_cache::{FileCache, FileSlot};
use crate::header_guard::{self, GuardEntry};
use crate::index::{self, Largest, MemoryIndex, OffsetEntry, TIME_ENTRY_BYTES};
use crate::scan::{Depth, Scanner, Step};
use crate::vfs::{OpenMode, Vfs, VfsFile, write_file};

/// Kafka's default of `index.interval.bytes`, for an index that is made anew.
const HEALED_INTERVAL_BYTES: u32 = 4096;

/// The files that belong to a segment.
pub(crate) const EXTENSIONS: [&str; 6] = ["log", "index", "timeindex", "txnindex", "snapshot", "headercrc"];

pub(crate) fn file_name(base_offset: i64, extension: &str) -> String {
    format!("{base_offset:020}.{extension}")
}

/// Base offset and extension of a segment's file; `None` for other files.
pub(crate) fn parse_file_name(name: &str) -> Option<(i64, &str)> {
    let (digits, extension) = name.split_once('.')?;
    let is_offset = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    Some((is_offset.then(|| digits.parse().ok())??, extension))
}

pub(crate) struct Segment {
    pub base_offset: i64,
    log: Arc<FileSlot>,
    index: Arc<FileSlot>,
    time: Arc<FileSlot>,
    size_bytes: AtomicU64,
    next_offset: AtomicI64,
    /// There while the segment is active, and where a closed one's files are not to be trusted.
    memory: Mutex<Option<MemoryIndex>>,
    /// Over the batch headers, of a segment that was closed while it was written.
    closed_headers_crc: AtomicU32,
    /// Of a closed segment, once somebody asked.
    largest: Mutex<Option<Option<Largest>>>,
}

impl Segment {
    fn new(
        directory: &Path,
        base_offset: i64,
        size_bytes: u64,
        next_offset: i64,
        memory: Option<MemoryIndex>,
    ) -> Arc<Segment> {
        let slot = |extension| FileSlot::new(directory.join(file_name(base_offset, extension)));
        Arc::new(Segment {
            base_offset,
            log: slot("log"),
            index: slot("index"),
            time: slot("timeindex"),
            size_bytes: AtomicU64::new(size_bytes),
            next_offset: AtomicI64::new(next_offset),
            memory: Mutex::new(memory),
            closed_headers_crc: AtomicU32::new(0),
            largest: Mutex::new(None),
        })
    }

    /// One that is appended to.
    pub fn active(
        directory: &Path,
        base_offset: i64,
        size_bytes: u64,
        next_offset: i64,
        memory: MemoryIndex,
    ) -> Arc<Segment> {
        Segment::new(directory, base_offset, size_bytes, next_offset, Some(memory))
    }

    /// One whose indexes are in their files.
    pub fn closed(directory: &Path, base_offset: i64, size_bytes: u64, next_offset: i64) -> Arc<Segment> {
        Segment::new(directory, base_offset, size_bytes, next_offset, None)
    }

    /// One that was written by compaction, and is in place.
    pub fn cleaned(directory: &Path, cleaned: &Cleaned) -> Arc<Segment> {
        let segment = Segment::new(directory, cleaned.base_offset, cleaned.size_bytes, cleaned.end_offset, None);
        *segment.largest.lock().unwrap_or_else(PoisonError::into_inner) = Some(cleaned.largest);
        segment
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Acquire)
    }

    /// No batch here reaches beyond.
    pub fn next_offset(&self) -> i64 {
        self.next_offset.load(Ordering::Acquire)
    }

    pub fn memory(&self) -> MutexGuard<'_, Option<MemoryIndex>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn log_file(&self, files: &FileCache, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        files.get(&self.log, mode)
    }

    pub fn log_file_if_open(&self) -> Option<Arc<dyn VfsFile>> {
        self.log.if_open()
    }

    /// After a write: the new end, size last, so that a reader that sees it finds the bytes.
    pub fn grew(&self, size_bytes: u64, next_offset: i64) {
        self.next_offset.store(next_offset, Ordering::Release);
        self.size_bytes.store(size_bytes, Ordering::Release);
    }

    /// From now on its files are those of this moment, whatever becomes of their names.
    pub fn pin_files(&self, files: &FileCache) -> io::Result<()> {
        [&self.log, &self.index, &self.time].into_iter().try_for_each(|slot| files.pin(slot))
    }

    /// Descriptors go, the segment stays.
    pub fn close_files(&self) {
        for slot in [&self.log, &self.index, &self.time] {
            slot.close();
        }
    }

    /// Writes the indexes of an active segment to their files, unsynced: they can be rebuilt.
    pub fn write_indexes(&self, vfs: &dyn Vfs) -> io::Result<()> {
        let (offsets, times) = match &*self.memory() {
            Some(memory) => (memory.offset_file(), memory.time_file(self.base_offset)),
            None => return Ok(()),
        };
        write_file(vfs, self.index.path(), &offsets)?;
        write_file(vfs, self.time.path(), &times)?;
        Ok(())
    }

    /// The segment is no longer appended to: its indexes are in their files now.
    pub fn close(&self) {
        let memory = self.memory().take();
        let headers_crc = memory.as_ref().map_or(0, |memory| memory.headers_crc);
        self.closed_headers_crc.store(headers_crc, Ordering::Relaxed);
        *self.largest.lock().unwrap_or_else(PoisonError::into_inner) = memory.map(|memory| memory.largest);
    }

    /// What is to be said of the batch headers of a segment that this process wrote to.
    pub fn guard(&self) -> GuardEntry {
        let in_memory = self.memory().as_ref().map(|memory| memory.headers_crc);
        GuardEntry {
            end_position: self.size_bytes() as u32,
            end_offset: self.next_offset(),
            crc: in_memory.unwrap_or_else(|| self.closed_headers_crc.load(Ordering::Relaxed)),
        }
    }

    pub fn guard_path(&self) -> PathBuf {
        self.log.path().with_extension(header_guard::EXTENSION)
    }

    pub fn write_guard(&self, vfs: &dyn Vfs) -> io::Result<()> {
        let guard = self.guard();
        if guard.end_position > 0 {
            header_guard::append(vfs, &self.guard_path(), guard)?;
        }
        Ok(())
    }

    /// A position at or before the batch that holds `offset`. `None`: that needs the disk.
    pub fn floor_position(&self, files: &FileCache, offset: i64, may_block: bool) -> io::Result<Option<u64>> {
        let relative = relative(offset, self.base_offset);
        if let Some(memory) = &*self.memory() {
            return Ok(Some(memory.floor(relative)));
        }
        if !may_block {
            return Ok(None);
        }
        let entry = match files.get(&self.index, OpenMode::Read) {
            Ok(file) => index::floor_in_file(&*file, relative)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.heal(files, relative).map(Some),
            Err(error) => return Err(error),
        };
        match entry {
            None => Ok(Some(0)),
            Some(entry) if self.is_true(files, entry)? => Ok(Some(u64::from(entry.position))),
            Some(_) => self.heal(files, relative).map(Some),
        }
    }

    /// Whether the batch that an index entry speaks of is where it says.
    fn is_true(&self, files: &FileCache, entry: OffsetEntry) -> io::Result<bool> {
        let position = u64::from(entry.position);
        if position >= self.size_bytes() {
            return Ok(false);
        }
        let header = self.log_file(files, OpenMode::Write)?.read_at(position, HEADER_BYTES)?;
        let last_offset = self.base_offset + i64::from(entry.relative_offset);
        Ok(BatchHeader::parse(&header).is_ok_and(|header| header.last_offset() == last_offset))
    }

    /// The index file of a closed segment is missing or not true: from now on there is one in memory. The position that it
    /// has for a relative offset.
    fn heal(&self, files: &FileCache, relative_offset: u32) -> io::Result<u64> {
        ::log::warn!("{} is missing or damaged: it is made anew in memory", self.index.path().display());
        let memory = self.rebuild(files, HEALED_INTERVAL_BYTES)?;
        let position = memory.floor(relative_offset);
        *self.memory() = Some(memory);
        Ok(position)
    }

    /// A position at or before the first batch with this timestamp or a later one.
    pub fn floor_position_by_time(&self, files: &FileCache, timestamp: i64) -> io::Result<u64> {
        let in_memory = self.memory().as_ref().map(|memory| memory.floor(memory.floor_by_time(timestamp)));
        if let Some(position) = in_memory {
            return Ok(position);
        }
        let relative = match files.get(&self.time, OpenMode::Read) {
            Ok(file) => index::floor_by_time_in_file(&*file, timestamp)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.heal(files, 0)?;
                return self.floor_position_by_time(files, timestamp);
            }
            Err(error) => return Err(error),
        };
        let position = self.floor_position(files, self.base_offset + i64::from(relative), true)?;
        Ok(position.unwrap_or(0))
    }

    /// The largest timestamp and its offset; `None` for an empty segment or one without timestamps.
    pub fn largest(&self, files: &FileCache) -> io::Result<Option<Largest>> {
        if let Some(memory) = &*self.memory() {
            return Ok(memory.largest.filter(|largest| largest.timestamp >= 0));
        }
        if let Some(largest) = *self.largest.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(largest.filter(|largest| largest.timestamp >= 0));
        }
        let loaded = self.load_largest(files)?;
        *self.largest.lock().unwrap_or_else(PoisonError::into_inner) = Some(loaded);
        Ok(loaded)
    }

    fn load_largest(&self, files: &FileCache) -> io::Result<Option<Largest>> {
        let file = match files.get(&self.time, OpenMode::Read) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.heal_largest(files),
            Err(error) => return Err(error),
        };
        let length = file.len()?;
        let count = length / TIME_ENTRY_BYTES as u64;
        let Some(last) = count.checked_sub(1) else { return Ok(None) };
        let entry = index::parse_time_entry(&file.read_at(last * TIME_ENTRY_BYTES as u64, TIME_ENTRY_BYTES)?);
        let offset = self.base_offset + i64::from(entry.relative_offset);
        if !length.is_multiple_of(TIME_ENTRY_BYTES as u64) || offset >= self.next_offset() {
            return self.heal_largest(files);
        }
        Ok(Some(Largest { timestamp: entry.timestamp, offset }))
    }

    fn heal_largest(&self, files: &FileCache) -> io::Result<Option<Largest>> {
        self.heal(files, 0)?;
        Ok(self.memory().as_ref().and_then(|memory| memory.largest))
    }

    /// Indexes made anew from the headers of the batches.
    pub fn rebuild(&self, files: &FileCache, interval_bytes: u32) -> io::Result<MemoryIndex> {
        let mut memory = MemoryIndex::default();
        if self.size_bytes() == 0 {
            return Ok(memory);
        }
        let file = self.log_file(files, OpenMode::Write)?;
        let mut scanner = Scanner::new(&*file, Depth::Headers, 0, self.size_bytes(), self.base_offset);
        while let Step::Batch(batch) = scanner.step()? {
            memory.note(self.base_offset, batch.position, &batch.header, interval_bytes);
        }
        Ok(memory)
    }
}

/// Relative offsets are 32 bits wide; a segment is rolled before they overflow.
fn relative(offset: i64, base_offset: i64) -> u32 {
    u32::try_from(offset.saturating_sub(base_offset).max(0)).unwrap_or(u32::MAX)
}

/// Removes all files of a segment that are there.
pub(crate) fn remove_files(vfs: &dyn Vfs, directory: &Path, base_offset: i64) -> io::Result<()> {
    for extension in EXTENSIONS {
        crate::vfs::remove_file_if_there(vfs, &directory.join(file_name(base_offset, extension)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{file_name, parse_file_name};

    #[test]
    fn file_names_are_kafkas() {
        assert_eq!(file_name(42, "log"), "00000000000000000042.log");
        assert_eq!(parse_file_name("00000000000000000042.timeindex"), Some((42, "timeindex")));
        assert_eq!(parse_file_name("00000000000000000042.log.deleted"), Some((42, "log.deleted")));
        for other in ["42.log", "leader-epoch-checkpoint", "partition.metadata", "0000000000000000004x.log"] {
            assert_eq!(parse_file_name(other), None);
        }
    }
}
