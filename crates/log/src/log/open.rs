//! Opening a log whose files are known to be sound: after a clean stop, or when recovery is done.

use std::io;
use std::sync::Arc;

use super::{Extent, Log, View, Writer, lock};
use crate::compaction::is_cleaned;
use crate::epochs::Epochs;
use crate::header_guard;
use crate::index::{
    FirstBatch, MemoryIndex, OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, parse_offset_entry, parse_time_entry,
};
use crate::producers::Producers;
use crate::scan::{Depth, Scanner, Step};
use crate::segment::{self, Segment, parse_file_name};
use crate::text::{epoch_checkpoint_text, parse_epoch_checkpoint};
use crate::vfs::{OpenMode, ReadAt, is_no_space, read_file_if_there, remove_file_if_there, write_file};

pub(crate) const EPOCH_CHECKPOINT: &str = "leader-epoch-checkpoint";

/// What a partition's directory holds.
#[derive(Default)]
pub(crate) struct Listing {
    /// Base offsets of the segments.
    pub bases: Vec<i64>,
    /// Offsets of the producer snapshots.
    pub snapshots: Vec<i64>,
    /// Files that an earlier life wanted to be rid of.
    pub leftovers: Vec<String>,
}

impl Listing {
    pub fn read(log: &Log) -> io::Result<Listing> {
        let mut listing = Listing::default();
        for entry in log.vfs.read_directory(&log.directory)? {
            match parse_file_name(&entry.name) {
                Some((base, "log")) => listing.bases.push(base),
                Some((offset, "snapshot")) => listing.snapshots.push(offset),
                Some((_, extension)) if extension.ends_with(".deleted") || is_cleaned(&entry.name) => {
                    listing.leftovers.push(entry.name);
                }
                _ => {}
            }
        }
        Ok(listing)
    }
}

/// What the directory of a log that is not opened holds.
pub(crate) fn extent_on_disk(log: &Log) -> io::Result<Extent> {
    let mut extent = Extent { size_bytes: 0, segments: 0 };
    for entry in log.vfs.read_directory(&log.directory)? {
        if let Some((_, "log")) = parse_file_name(&entry.name) {
            extent.size_bytes += log.vfs.file_len(&log.directory.join(&entry.name))?;
            extent.segments += 1;
        }
    }
    Ok(extent)
}

impl Log {
    /// The view, opening the log if that was not done yet.
    pub(crate) fn opened(&self) -> io::Result<Arc<View>> {
        if let Some(view) = self.view.load_full() {
            return Ok(view);
        }
        let mut writer = lock(&self.writer);
        self.open_for(&mut writer)
    }

    /// The same for who holds the writer already.
    pub(crate) fn open_for(&self, writer: &mut Option<Box<Writer>>) -> io::Result<Arc<View>> {
        if let Some(view) = self.view.load_full() {
            return Ok(view);
        }
        let listing = Listing::read(self)?;
        for name in &listing.leftovers {
            self.vfs.remove_file(&self.directory.join(name))?;
        }
        let view = Arc::new(View { generation: 0, segments: self.open_segments(&listing.bases)? });
        let epochs = read_file_if_there(&*self.vfs, &self.directory.join(EPOCH_CHECKPOINT))?;
        let epochs = epochs.and_then(|bytes| parse_epoch_checkpoint(std::str::from_utf8(&bytes).ok()?));
        *lock(&self.epochs) = match epochs {
            Some(entries) => Epochs::new(entries),
            None => self.rebuild_epochs(&view)?,
        };
        lock(&self.epochs).cut_start(self.log_start());
        *lock(&self.producers) = self.rebuild_producers(&view, &listing.snapshots)?;
        *writer = Some(Box::default());
        self.view.store(Some(view.clone()));
        Ok(view)
    }

    fn open_segments(&self, bases: &[i64]) -> io::Result<Vec<Arc<Segment>>> {
        let (log_start, end_offset) = (self.log_start(), self.end_offset());
        let mut segments = Vec::with_capacity(bases.len());
        for (at, base) in bases.iter().copied().enumerate() {
            let size = self.vfs.file_len(&self.directory.join(segment::file_name(base, "log")))?;
            match bases.get(at + 1).copied() {
                // Below the log start: its removal was on the way when the process ended.
                Some(next) if next <= log_start => segment::remove_files(&*self.vfs, &self.directory, base)?,
                Some(next) => segments.push(Segment::closed(&self.directory, base, size, next)),
                None => segments.push(self.open_active(base, size, end_offset)?),
            }
        }
        Ok(segments)
    }

    fn open_active(&self, base: i64, size: u64, end_offset: i64) -> io::Result<Arc<Segment>> {
        let memory = match self.load_indexes(base, size)? {
            Some(memory) => memory,
            None => {
                let closed = Segment::closed(&self.directory, base, size, end_offset);
                closed.rebuild(&self.files, self.config().index_interval_bytes)?
            }
        };
        Ok(Segment::active(&self.directory, base, size, end_offset, memory))
    }

    /// The indexes of the segment that was active at the stop; `None` when they must be made anew.
    fn load_indexes(&self, base: i64, size: u64) -> io::Result<Option<MemoryIndex>> {
        let read =
            |extension| read_file_if_there(&*self.vfs, &self.directory.join(segment::file_name(base, extension)));
        let (Some(offsets), Some(times)) = (read("index")?, read("timeindex")?) else { return Ok(None) };
        let offsets: Vec<_> =
            offsets.as_chunks::<OFFSET_ENTRY_BYTES>().0.iter().map(|entry| parse_offset_entry(entry)).collect();
        let times: Vec<_> =
            times.as_chunks::<TIME_ENTRY_BYTES>().0.iter().map(|entry| parse_time_entry(entry)).collect();
        let is_inside = offsets.last().is_none_or(|last| u64::from(last.position) < size);
        if size == 0 || !is_inside || times.is_empty() {
            return Ok(None);
        }
        let guard =
            header_guard::read(&*self.vfs, &self.directory.join(segment::file_name(base, header_guard::EXTENSION)))?;
        let Some(guard) = guard.last().filter(|last| u64::from(last.end_position) == size) else { return Ok(None) };
        let mut scanner_memory = MemoryIndex::default();
        let file = self.vfs.open(&self.directory.join(segment::file_name(base, "log")), OpenMode::Read)?;
        note_first(&*file, base, size, &mut scanner_memory)?;
        let first = FirstBatch { first_timestamp: scanner_memory.first_timestamp, headers_crc: guard.crc };
        Ok(Some(MemoryIndex::from_files(base, offsets, times, first, size)))
    }

    /// From the last snapshot but one, and the batches after it.
    pub(crate) fn rebuild_producers(&self, view: &View, snapshots: &[i64]) -> io::Result<Producers> {
        let end_offset = self.end_offset();
        let mut usable = snapshots.iter().rev().copied().filter(|offset| *offset <= end_offset);
        let (newest, newest_at) = self.next_snapshot(&mut usable)?;
        if newest_at == end_offset && newest.as_ref().is_some_and(Producers::is_empty) {
            return Ok(Producers::default()); // the usual case: nobody is idempotent here
        }
        let first = view.segments.first().map_or(end_offset, |segment| segment.base_offset);
        let (older, older_at) = self.next_snapshot(&mut usable)?;
        let (mut producers, from) = match (older, newest) {
            (Some(older), _) => (older, older_at),
            (None, Some(newest)) if newest_at <= first.max(self.log_start()) => (newest, newest_at),
            _ => (Producers::default(), first),
        };
        self.note_headers(view, from, &mut |header| producers.note(header))?;
        Ok(producers)
    }

    fn next_snapshot(&self, offsets: &mut impl Iterator<Item = i64>) -> io::Result<(Option<Producers>, i64)> {
        for offset in offsets {
            let path = self.directory.join(segment::file_name(offset, "snapshot"));
            let bytes = read_file_if_there(&*self.vfs, &path)?;
            if let Some(producers) = bytes.as_deref().and_then(Producers::parse_snapshot) {
                return Ok((Some(producers), offset));
            }
        }
        Ok((None, -1))
    }

    fn rebuild_epochs(&self, view: &View) -> io::Result<Epochs> {
        let mut epochs = Epochs::default();
        self.note_headers(view, i64::MIN, &mut |header| {
            epochs.note(header.leader_epoch, header.base_offset);
        })?;
        Ok(epochs)
    }

    /// All batch headers from an offset on.
    fn note_headers(&self, view: &View, from: i64, note: &mut dyn FnMut(&capek_wire::BatchHeader)) -> io::Result<()> {
        for segment in view.segments.iter().filter(|segment| segment.next_offset() > from && segment.size_bytes() > 0) {
            let position = segment.floor_position(&self.files, from, true)?.unwrap_or(0);
            let reader = segment.reader(&self.files)?;
            let mut scanner =
                Scanner::new(&reader, Depth::Headers, position, segment.size_bytes(), segment.base_offset);
            while let Step::Batch(batch) = scanner.step()? {
                if batch.header.base_offset >= from {
                    note(&batch.header);
                }
            }
        }
        Ok(())
    }

    /// Writes what a clean stop leaves beside the segments: indexes, epochs, producers. Nothing is synced.
    pub(crate) fn write_side_files(&self, writer: &mut Writer) -> io::Result<()> {
        let Some(view) = self.view.load_full() else { return Ok(()) };
        if !writer.side_files_changed {
            return Ok(());
        }
        let result = self.try_write_side_files(&view, writer);
        match result {
            Err(error) if is_no_space(&error) => self.remove_side_files(&view),
            other => {
                writer.side_files_changed = false;
                other
            }
        }
    }

    fn try_write_side_files(&self, view: &View, writer: &mut Writer) -> io::Result<()> {
        if let Some(active) = view.segments.last() {
            active.write_indexes(&*self.vfs)?;
            active.write_guard(&*self.vfs)?;
        }
        self.write_epochs(writer)?;
        self.write_snapshot(self.end_offset())
    }

    /// No room for them: half a file must not be believed, and without them they are made anew.
    fn remove_side_files(&self, view: &View) -> io::Result<()> {
        if let Some(active) = view.segments.last() {
            for extension in ["index", "timeindex"] {
                remove_file_if_there(
                    &*self.vfs,
                    &self.directory.join(segment::file_name(active.base_offset, extension)),
                )?;
            }
        }
        remove_file_if_there(&*self.vfs, &self.directory.join(EPOCH_CHECKPOINT))?;
        Ok(())
    }

    pub(crate) fn write_epochs(&self, writer: &mut Writer) -> io::Result<()> {
        if writer.epochs_changed {
            let text = epoch_checkpoint_text(lock(&self.epochs).entries());
            self.write_whole(&self.directory.join(EPOCH_CHECKPOINT), text.as_bytes())?;
            writer.epochs_changed = false;
        }
        Ok(())
    }

    pub(crate) fn write_snapshot(&self, offset: i64) -> io::Result<()> {
        let bytes = lock(&self.producers).snapshot();
        self.write_whole(&self.directory.join(segment::file_name(offset, "snapshot")), &bytes)
    }

    /// Half a file, which a full disk leaves, must not be believed.
    fn write_whole(&self, path: &std::path::Path, bytes: &[u8]) -> io::Result<()> {
        match write_file(&*self.vfs, path, bytes) {
            Err(error) if is_no_space(&error) => remove_file_if_there(&*self.vfs, path).and(Err(error)),
            result => result.map(drop),
        }
    }
}

fn note_first(file: &dyn ReadAt, base: i64, size: u64, memory: &mut MemoryIndex) -> io::Result<()> {
    if let Step::Batch(batch) = Scanner::new(file, Depth::Headers, 0, size, base).step()? {
        memory.note(base, 0, &batch.header, u32::MAX);
    }
    Ok(())
}
