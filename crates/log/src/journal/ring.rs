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
    /// The same file past the cache, for what was filled before: the disk has it sooner, and no copy is made.
    in_place: Option<Arc<dyn VfsFile>>,
    /// The last round in it; 0 when it has none that counts.
    last_sequence: u64,
    /// Written at least once up to here: a sync does not have to allocate.
    filled_bytes: u64,
}

pub(crate) struct Ring {
    files: Vec<JournalFile>,
    current: usize,
    /// Where the round goes that is written in place, when it is synced.
    staged: Option<u64>,
    position: u64,
    file_bytes: u64,
}

impl JournalFile {
    fn write_in_place(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        let in_place = self.in_place.as_ref().unwrap_or(&self.file);
        match in_place.write_all_at(position, bytes) {
            // A disk whose blocks are larger than ours takes it from the cache.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.in_place = None;
                self.file.write_all_at(position, bytes)
            }
            other => other,
        }
    }

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
            let path = file_path(directory, index);
            let file = vfs.open(&path, OpenMode::Create)?;
            let (filled_bytes, in_place) = (file.len()?, vfs.open_in_place(&path)?);
            files.push(JournalFile { file, in_place, last_sequence: 0, filled_bytes });
        }
        let file_bytes = file_bytes.next_multiple_of(BLOCK_BYTES as u64);
        Ok(Ring { files, current: 0, staged: None, position: 0, file_bytes })
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

    /// Whether there is one more behind the next. Recovery points for every second file cost half of those for each, where
    /// there are many logs, and come early enough for nobody to wait.
    pub fn has_spare(&self, durable_sequence: u64) -> bool {
        self.files[(self.current + 2) % FILES].last_sequence <= durable_sequence
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

    /// Takes a sealed round, and writes it if that could fail for want of room. On failure it may be tried again at the same
    /// place.
    pub fn write(&mut self, sequence: u64, bytes: &[u8]) -> io::Result<()> {
        let current = &mut self.files[self.current];
        let end = self.position + bytes.len() as u64;
        if current.in_place.is_some() && end <= current.filled_bytes {
            self.staged = Some(self.position);
        } else {
            current.file.write_all_at(self.position, bytes)?;
        }
        current.last_sequence = sequence;
        self.position = end;
        if end > current.filled_bytes {
            current.filled_bytes = end;
            current.grow(self.file_bytes);
        }
        Ok(())
    }

    /// Makes the round durable that was taken last; `bytes` are the same once more.
    pub fn sync(&mut self, bytes: &[u8]) -> io::Result<()> {
        let current = &mut self.files[self.current];
        if let Some(position) = self.staged.take() {
            current.write_in_place(position, bytes)?;
        }
        current.file.sync_data()
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

#[cfg(test)]
mod tests {
    use std::io::IoSlice;

    use super::*;
    use crate::ids::LogKey;
    use crate::journal::format::{EntryHeader, Kind, RoundBuffer, RoundId, Salt};
    use crate::vfs::{ReadAt, SimVfs};

    /// A disk that takes nothing past the cache after all.
    struct Refusing;

    impl ReadAt for Refusing {
        fn read_at(&self, _: u64, _: usize) -> io::Result<Vec<u8>> {
            Err(io::ErrorKind::InvalidInput.into())
        }
    }

    impl VfsFile for Refusing {
        fn write_all_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            Err(io::ErrorKind::InvalidInput.into())
        }

        fn write_all_vectored_at(&self, _: u64, _: &[IoSlice<'_>]) -> io::Result<()> {
            Err(io::ErrorKind::InvalidInput.into())
        }

        fn sync_data(&self) -> io::Result<()> {
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Err(io::ErrorKind::InvalidInput.into())
        }

        fn len(&self) -> io::Result<u64> {
            Ok(0)
        }
    }

    /// One block, as rounds are.
    fn sealed(partition: i32) -> RoundBuffer {
        let key = LogKey { topic_id: capek_wire::Uuid([1; 16]), partition };
        let mut buffer = RoundBuffer::default();
        let header =
            EntryHeader { kind: Kind::Delete, key, leader_epoch: -1, previous_end: 0, base_offset: 0, end_offset: 0 };
        buffer.begin(&header);
        buffer.seal(RoundId { sequence: 1, attempt: 0 }, Salt([2; 16]));
        buffer
    }

    /// A ring of filled files; their names are durable.
    fn ring(vfs: &SimVfs, blocks: usize) -> Ring {
        let bytes = blocks * BLOCK_BYTES;
        let mut ring = Ring::open(vfs, Path::new("/"), bytes as u64).unwrap();
        for file in &mut ring.files {
            file.file.write_all_at(0, &vec![0; bytes]).unwrap();
            file.filled_bytes = bytes as u64;
        }
        vfs.sync_directory(Path::new("/")).unwrap();
        ring
    }

    #[test]
    fn what_was_written_before_is_written_over_when_it_is_synced() {
        let vfs = SimVfs::new(1);
        let mut ring = ring(&vfs, 2);
        let (first, second) = (sealed(1), sealed(2));
        ring.write(1, first.sealed()).unwrap();
        assert_eq!(ring.files[0].file.read_at(0, BLOCK_BYTES).unwrap(), vec![0; BLOCK_BYTES]);
        ring.sync(first.sealed()).unwrap();
        ring.files[0].in_place = Some(Arc::new(Refusing));
        ring.write(2, second.sealed()).unwrap();
        ring.sync(second.sealed()).unwrap();
        assert!(ring.files[0].in_place.is_none(), "it is not tried again");
        vfs.crash();
        let found = vfs.open(&file_path(Path::new("/"), 0), OpenMode::Read).unwrap();
        assert_eq!(found.read_at(0, 3 * BLOCK_BYTES).unwrap(), [first.sealed(), second.sealed()].concat());
    }

    #[test]
    fn recovery_points_are_due_for_every_second_file() {
        let vfs = SimVfs::new(1);
        let mut ring = ring(&vfs, 1);
        let (mut durable, mut due) = (0, Vec::new());
        for sequence in 1..=8 {
            let buffer = sealed(1);
            ring.write(sequence, buffer.sealed()).unwrap();
            ring.sync(buffer.sealed()).unwrap();
            assert!(ring.is_next_free(durable), "nobody waits");
            ring.switch();
            if !ring.has_spare(durable) {
                due.push(sequence);
                durable = sequence;
            }
        }
        assert_eq!(due, [2, 4, 6, 8]);
    }
}
