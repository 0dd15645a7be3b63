//! The journal's files, used in turn. A file is free when recovery points cover all of its rounds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::format::BLOCK_BYTES;
use crate::vfs::{OpenMode, Vfs, VfsFile};

pub(crate) const FILES: usize = 4;
const FILL_BYTES: usize = 1 << 20;
const GROW_BYTES: u64 = 1 << 20;

pub(crate) fn file_path(directory: &Path, index: usize) -> PathBuf {
    directory.join(index.to_string())
}

struct JournalFile {
    file: Arc<dyn VfsFile>,
    /// The last round in it; 0 when it has none that counts.
    last_sequence: u64,
    /// Written at least once up to here: a sync does not have to allocate.
    filled_bytes: u64,
}

pub(crate) struct Ring {
    files: Vec<JournalFile>,
    current: usize,
    position: u64,
    file_bytes: u64,
}

impl JournalFile {
    /// A fresh file grows in large steps: a sync that need not allocate takes half the time.
    fn grow(&mut self, file_bytes: u64) {
        let end = self.filled_bytes.next_multiple_of(GROW_BYTES).min(file_bytes);
        if let Some(length) = end.checked_sub(self.filled_bytes)
            && self.file.write_all_at(self.filled_bytes, &vec![0; length as usize]).is_ok()
        {
            self.filled_bytes = end;
        }
        // Without room it goes on step by step, and the round that finds none is answered.
    }
}

impl Ring {
    /// All files free. New ones are made; the caller syncs the directory.
    pub fn open(vfs: &dyn Vfs, directory: &Path, file_bytes: u64) -> io::Result<Ring> {
        let mut files = Vec::with_capacity(FILES);
        for index in 0..FILES {
            let file = vfs.open(&file_path(directory, index), OpenMode::Create)?;
            let filled_bytes = file.len()?;
            files.push(JournalFile { file, last_sequence: 0, filled_bytes });
        }
        let file_bytes = file_bytes.next_multiple_of(BLOCK_BYTES as u64);
        Ok(Ring { files, current: 0, position: 0, file_bytes })
    }

    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    pub fn has_room(&self, bytes: u64) -> bool {
        self.position + bytes <= self.file_bytes
    }

    /// Whether the next file may be written over when recovery points of `durable_sequence` are on the disk.
    pub fn is_next_free(&self, durable_sequence: u64) -> bool {
        self.files[self.next_index()].last_sequence <= durable_sequence
    }

    /// Whether the next file may be written over, is filled to its end, and this one is not: each megabyte that this one still
    /// has to grow holds up a round for some milliseconds.
    pub fn is_next_better(&self, durable_sequence: u64) -> bool {
        let is_filled = |index: usize| self.files[index].filled_bytes >= self.file_bytes;
        !is_filled(self.current) && is_filled(self.next_index()) && self.is_next_free(durable_sequence)
    }

    pub fn switch(&mut self) {
        self.current = (self.current + 1) % FILES;
        self.position = 0;
    }

    /// Writes a sealed round. On failure it may be tried again at the same place.
    pub fn write(&mut self, sequence: u64, bytes: &[u8]) -> io::Result<()> {
        let current = &mut self.files[self.current];
        current.file.write_all_at(self.position, bytes)?;
        current.last_sequence = sequence;
        self.position += bytes.len() as u64;
        if self.position > current.filled_bytes {
            current.filled_bytes = self.position;
            current.grow(self.file_bytes);
        }
        Ok(())
    }

    pub fn sync(&self) -> io::Result<()> {
        self.files[self.current].file.sync_data()
    }

    /// A file that was never written to its end and is not being written, to be filled with zeros behind what is in it. The
    /// next one first.
    pub fn unfilled(&self) -> Option<(usize, Arc<dyn VfsFile>, u64)> {
        let at = (1..FILES)
            .map(|step| (self.current + step) % FILES)
            .find(|at| self.files[*at].filled_bytes < self.file_bytes)?;
        Some((at, self.files[at].file.clone(), self.files[at].filled_bytes))
    }

    pub fn filled(&mut self, index: usize) {
        self.files[index].filled_bytes = self.file_bytes;
    }

    pub fn next_index(&self) -> usize {
        (self.current + 1) % FILES
    }
}

/// Fills a file with zeros, unless told to stop: a sync of it need not allocate blocks then.
pub(crate) fn fill(file: &dyn VfsFile, mut from: u64, file_bytes: u64, stop: &AtomicBool) -> io::Result<bool> {
    let zeros = vec![0; FILL_BYTES.min(file_bytes as usize)];
    while from < file_bytes {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let length = (file_bytes - from).min(zeros.len() as u64);
        file.write_all_at(from, &zeros[..length as usize])?;
        from += length;
    }
    file.sync_data()?;
    Ok(true)
}
