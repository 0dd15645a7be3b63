//! A cleaned segment is written: `.cleaned` files, synced, that only the journal gives their names.
//!
//! As long as a group of one segment comes out as it was, nothing is written at all: the first change writes what was
//! before it.

use std::fmt;
use std::io;
use std::sync::Arc;

use capek_wire::BatchHeader;

use super::files::cleaned_name;
use super::{CleanError, CleanWatch};
use crate::header_guard::{self, GuardEntry};
use crate::index::{Largest, MemoryIndex};
use crate::log::Log;
use crate::segment::Segment;
use crate::vfs::{OpenMode, VfsFile, remove_file_if_there, write_file};

/// Positions in the offset index are 32 bits wide, and Kafka's tools read them as signed.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;
const COPY_BYTES: usize = 256 << 10;
/// The files that a cleaned segment consists of.
pub(crate) const CLEANED_EXTENSIONS: [&str; 4] = ["log", "index", "timeindex", header_guard::EXTENSION];

/// Segments written again as one, complete and synced beside them. An entry of the journal puts it in their place.
pub struct Cleaned {
    /// What it stands for, in order.
    pub(crate) old: Vec<Arc<Segment>>,
    pub(crate) base_offset: i64,
    pub(crate) end_offset: i64,
    pub(crate) size_bytes: u64,
    pub(crate) largest: Option<Largest>,
}

impl fmt::Debug for Cleaned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cleaned { base_offset, end_offset, size_bytes, .. } = self;
        write!(f, "Cleaned({base_offset}..{end_offset}, {size_bytes} bytes)")
    }
}

impl Cleaned {
    /// From here up to the end it takes the place of what was there.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    pub fn end_offset(&self) -> i64 {
        self.end_offset
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

pub(super) struct Output<'a> {
    log: &'a Log,
    base_offset: i64,
    file: Option<Arc<dyn VfsFile>>,
    memory: MemoryIndex,
    index_interval_bytes: u32,
    /// Of what was taken, the buffer included.
    size_bytes: u64,
    buffer: Vec<u8>,
    buffer_bytes: usize,
}

impl<'a> Output<'a> {
    pub fn new(log: &'a Log, base_offset: i64, buffer_bytes: usize) -> Output<'a> {
        Output {
            log,
            base_offset,
            file: None,
            memory: MemoryIndex::default(),
            index_interval_bytes: log.config().index_interval_bytes,
            size_bytes: 0,
            buffer: Vec::new(),
            buffer_bytes: buffer_bytes.max(4096),
        }
    }

    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub fn is_written(&self) -> bool {
        self.file.is_some()
    }

    /// Makes the file. What was noted until now is the same in `source`, from its beginning on.
    pub fn begin(&mut self, source: &dyn VfsFile, watch: &mut dyn CleanWatch) -> Result<(), CleanError> {
        let path = self.log.directory().join(cleaned_name(self.base_offset, "log"));
        let file = self.log.vfs.open(&path, OpenMode::Create)?;
        // Another topic of this name may have the directory by now: its files are none of ours.
        if self.log.is_deleted() {
            return Err(CleanError::Ended);
        }
        if !file.is_empty()? {
            file.set_len(0)?;
        }
        let mut position = 0;
        while position < self.size_bytes {
            let wanted = (self.size_bytes - position).min(COPY_BYTES as u64) as usize;
            let bytes = source.read_at(position, wanted)?;
            if bytes.len() < wanted {
                return Err(CleanError::Uncleanable("a segment is shorter than it was".to_owned()));
            }
            file.write_all_at(position, &bytes)?;
            position += wanted as u64;
            if !watch.progress(wanted as u64, wanted as u64) {
                return Err(CleanError::Ended);
            }
        }
        self.file = Some(file);
        Ok(())
    }

    /// Takes a whole batch; before the file is made it is only noted.
    pub fn push(&mut self, header: &BatchHeader, batch: &[u8], watch: &mut dyn CleanWatch) -> Result<(), CleanError> {
        self.memory.note(self.base_offset, self.size_bytes, header, self.index_interval_bytes);
        self.size_bytes += batch.len() as u64;
        if self.size_bytes > SEGMENT_BYTES_MAX {
            return Err(CleanError::Uncleanable("a cleaned segment outgrows what a segment may have".to_owned()));
        }
        if self.file.is_some() {
            self.buffer.extend_from_slice(batch);
            if self.buffer.len() >= self.buffer_bytes {
                self.flush(watch)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, watch: &mut dyn CleanWatch) -> Result<(), CleanError> {
        let length = self.buffer.len() as u64;
        if let Some(file) = &self.file {
            file.write_all_at(self.size_bytes - length, &self.buffer)?;
            self.buffer.clear();
        }
        if watch.progress(0, length) { Ok(()) } else { Err(CleanError::Ended) }
    }

    /// Everything is written and synced.
    pub fn finish(
        mut self,
        old: Vec<Arc<Segment>>,
        end_offset: i64,
        watch: &mut dyn CleanWatch,
    ) -> Result<Cleaned, CleanError> {
        self.flush(watch)?;
        let file = self.file.take().expect("only what was begun is finished");
        let path = |extension| self.log.directory().join(cleaned_name(self.base_offset, extension));
        let vfs = &*self.log.vfs;
        let guard = GuardEntry { end_position: self.size_bytes as u32, end_offset, crc: self.memory.headers_crc };
        write_file(vfs, &path("index"), &self.memory.offset_file())?.sync_data()?;
        write_file(vfs, &path("timeindex"), &self.memory.time_file(self.base_offset))?.sync_data()?;
        remove_file_if_there(vfs, &path(header_guard::EXTENSION))?;
        header_guard::append(vfs, &path(header_guard::EXTENSION), guard)?.sync_data()?;
        file.sync_data()?;
        // The guard's name must not be lost where that of the swap survives.
        vfs.sync_directory(self.log.directory())?;
        let largest = self.memory.largest;
        Ok(Cleaned { old, base_offset: self.base_offset, end_offset, size_bytes: self.size_bytes, largest })
    }
}

/// Takes back what was written of a cleaned segment.
pub(crate) fn remove_cleaned(log: &Log, base_offset: i64) -> io::Result<()> {
    if log.is_deleted() {
        return Ok(()); // the directory may be another topic's
    }
    for extension in CLEANED_EXTENSIONS {
        remove_file_if_there(&*log.vfs, &log.directory().join(cleaned_name(base_offset, extension)))?;
    }
    Ok(())
}
