//! One segment: its files, and where in them an offset or a timestamp is found.
//!
//! A segment that was cut is replaced by a new one: readers that hold the old one see at most what it held.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::compaction::Cleaned;
use crate::file_cache::{FileCache, FileSlot};
use crate::header_guard::{self, GuardEntry};
use crate::index::{self, Largest, MemoryIndex, TIME_ENTRY_BYTES};
use crate::pending::{PENDING_BYTES_MAX, Pending, Snapshot};
use crate::scan::{Depth, Scanner, Step};
use crate::vfs::{OpenMode, ReadAt, Vfs, VfsFile, write_file};

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
    /// With what is pending.
    size_bytes: AtomicU64,
    next_offset: AtomicI64,
    /// What is in the journal but not in the file. Only the active segment has any.
    pending: Pending,
    /// There while the segment is active.
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
        pending: Pending,
    ) -> Arc<Segment> {
        let slot = |extension| FileSlot::new(directory.join(file_name(base_offset, extension)));
        Arc::new(Segment {
            base_offset,
            log: slot("log"),
            index: slot("index"),
            time: slot("timeindex"),
            size_bytes: AtomicU64::new(size_bytes),
            next_offset: AtomicI64::new(next_offset),
            pending,
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
        Segment::new(directory, base_offset, size_bytes, next_offset, Some(memory), Pending::new(size_bytes))
    }

    /// This one, cut at `size_bytes`, where `next_offset` is due. The file is cut by the caller.
    pub fn cut(
        &self,
        directory: &Path,
        size_bytes: u64,
        next_offset: i64,
        memory: MemoryIndex,
        files: &FileCache,
    ) -> Arc<Segment> {
        let pending = Pending::cut_from(self.pending.snapshot_or_empty(), size_bytes);
        files.pending_added(pending.len_bytes());
        self.discard_pending(files);
        Segment::new(directory, self.base_offset, size_bytes, next_offset, Some(memory), pending)
    }

    /// One whose indexes are in their files.
    pub fn closed(directory: &Path, base_offset: i64, size_bytes: u64, next_offset: i64) -> Arc<Segment> {
        Segment::new(directory, base_offset, size_bytes, next_offset, None, Pending::new(size_bytes))
    }

    /// One that was written by compaction, and is in place.
    pub fn cleaned(directory: &Path, cleaned: &Cleaned) -> Arc<Segment> {
        let segment = Segment::closed(directory, cleaned.base_offset, cleaned.size_bytes, cleaned.end_offset);
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

    /// The segment's batches, those that are pending too; what comes later is not in it.
    pub fn reader(&self, files: &FileCache) -> io::Result<SegmentReader> {
        let pending = self.pending.snapshot_or_empty();
        // Its file may not have been made yet.
        let file = if pending.written > 0 { Some(self.log_file(files, OpenMode::Write)?) } else { None };
        Ok(SegmentReader { file, pending })
    }

    /// Up to `length` bytes if that needs no disk; `None` when it would block.
    pub fn read_at_cached(&self, position: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        let (written, pending) = self.pending.read(position, length);
        if position >= written {
            return Ok(Some(pending));
        }
        let Some(file) = self.log.if_open() else { return Ok(None) };
        let in_file = (length as u64).min(written - position) as usize;
        let Some(mut bytes) = file.read_at_cached(position, in_file)? else { return Ok(None) };
        if bytes.len() == in_file {
            bytes.extend_from_slice(&pending);
        }
        Ok(Some(bytes))
    }

    /// Whether so much more may wait to be written together.
    pub fn may_defer(&self, bytes: usize) -> bool {
        bytes < PENDING_BYTES_MAX && self.pending.len_bytes() + bytes <= PENDING_BYTES_MAX
    }

    /// Keeps the next bytes of the segment, which are in the journal (or will be, before anyone relies on them).
    pub fn defer(&self, files: &FileCache, slices: &[IoSlice<'_>]) {
        self.pending.push(slices);
        files.pending_added(slices.iter().map(|slice| slice.len()).sum());
    }

    /// Writes what is pending and `slices` behind it, which end at `end_position`.
    pub fn write_at_end(&self, files: &FileCache, slices: &[IoSlice<'_>], end_position: u64) -> io::Result<()> {
        let start = self.size_bytes();
        let pending = self.pending.snapshot();
        let file = self.log_file(files, OpenMode::Create)?;
        match (&pending, slices) {
            (None, [slice]) => file.write_all_at(start, slice)?,
            (None, slices) => file.write_all_vectored_at(start, slices)?,
            (Some(pending), slices) => {
                let mut all: Vec<_> = pending.chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
                all.extend_from_slice(slices);
                file.write_all_vectored_at(pending.written, &all)?;
            }
        }
        files.pending_removed(self.pending.note_written(end_position));
        Ok(())
    }

    /// Writes what is pending, unsynced.
    pub fn write_pending(&self, files: &FileCache) -> io::Result<()> {
        let Some(pending) = self.pending.snapshot() else { return Ok(()) };
        let file = self.log_file(files, OpenMode::Create)?;
        let slices: Vec<_> = pending.chunks.iter().map(|chunk| IoSlice::new(chunk)).collect();
        file.write_all_vectored_at(pending.written, &slices)?;
        files.pending_removed(self.pending.note_written(pending.written + pending.len_bytes() as u64));
        Ok(())
    }

    /// Nothing of it shall be written any more.
    pub fn discard_pending(&self, files: &FileCache) {
        files.pending_removed(self.pending.discard());
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
        match files.get(&self.index, OpenMode::Read) {
            Ok(file) => index::floor_in_file(&*file, relative).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(0)),
            Err(error) => Err(error),
        }
    }

    /// A position at or before the first batch with this timestamp or a later one.
    pub fn floor_position_by_time(&self, files: &FileCache, timestamp: i64) -> io::Result<u64> {
        let in_memory = self.memory().as_ref().map(|memory| memory.floor(memory.floor_by_time(timestamp)));
        if let Some(position) = in_memory {
            return Ok(position);
        }
        let relative = match files.get(&self.time, OpenMode::Read) {
            Ok(file) => index::floor_by_time_in_file(&*file, timestamp)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
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
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(self.rebuild(files, 4096)?.largest),
            Err(error) => return Err(error),
        };
        let count = file.len()? / TIME_ENTRY_BYTES as u64;
        let Some(last) = count.checked_sub(1) else { return Ok(None) };
        let entry = index::parse_time_entry(&file.read_at(last * TIME_ENTRY_BYTES as u64, TIME_ENTRY_BYTES)?);
        let offset = self.base_offset + i64::from(entry.relative_offset);
        Ok(Some(Largest { timestamp: entry.timestamp, offset }))
    }

    /// Indexes made anew from the headers of the batches.
    pub fn rebuild(&self, files: &FileCache, interval_bytes: u32) -> io::Result<MemoryIndex> {
        let mut memory = MemoryIndex::default();
        if self.size_bytes() == 0 {
            return Ok(memory);
        }
        let reader = self.reader(files)?;
        let mut scanner = Scanner::new(&reader, Depth::Headers, 0, self.size_bytes(), self.base_offset);
        while let Step::Batch(batch) = scanner.step()? {
            memory.note(self.base_offset, batch.position, &batch.header, interval_bytes);
        }
        Ok(memory)
    }
}

/// See [`Segment::reader`].
pub(crate) struct SegmentReader {
    file: Option<Arc<dyn VfsFile>>,
    pending: Snapshot,
}

impl ReadAt for SegmentReader {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let in_file = (length as u64).min(self.pending.written.saturating_sub(position)) as usize;
        let mut bytes = match &self.file {
            Some(file) if in_file > 0 => file.read_at(position, in_file)?,
            _ => Vec::new(),
        };
        if bytes.len() == in_file {
            self.pending.copy_into(&mut bytes, position, length);
        }
        Ok(bytes)
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
