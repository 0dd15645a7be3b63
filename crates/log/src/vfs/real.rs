//! The operating system's files.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::OFlags;
use rustix::io::{Errno, ReadWriteFlags};

use super::{DirectoryEntry, LockGuard, OpenMode, ReadAt, Vfs, VfsFile};

/// What one `writev` takes on Linux.
const PARTS_MAX: usize = 1024;

/// The operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealVfs;

struct RealFile(File);

struct RealLock(#[allow(dead_code, reason = "held for its drop")] File);

impl LockGuard for RealLock {}

impl ReadAt for RealFile {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(length.max(1));
        while bytes.len() < length {
            let at = position + bytes.len() as u64;
            match rustix::io::pread(&self.0, spare_capacity(&mut bytes), at) {
                Ok(0) => break,
                Ok(_) => {}
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        bytes.truncate(length);
        Ok(bytes)
    }
}

impl VfsFile for RealFile {
    fn read_at_cached(&self, position: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        // Large zeroed vectors come as untouched pages, so this costs no memset of its own.
        let mut bytes = vec![0u8; length];
        let mut filled = 0;
        while filled < length {
            let target = &mut [IoSliceMut::new(&mut bytes[filled..])];
            match rustix::io::preadv2(&self.0, target, position + filled as u64, ReadWriteFlags::NOWAIT) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                // A file system without non-blocking reads: let the caller go where blocking is allowed.
                Err(Errno::OPNOTSUPP) => return Ok(None),
                Err(errno) => return Err(errno.into()),
            }
        }
        bytes.truncate(filled);
        Ok(Some(bytes))
    }

    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, position)
    }

    fn write_all_vectored_at(&self, mut position: u64, mut parts: &[IoSlice<'_>]) -> io::Result<()> {
        while !parts.is_empty() {
            let batch = &parts[..parts.len().min(PARTS_MAX)];
            let wanted: usize = batch.iter().map(|part| part.len()).sum();
            let mut written = match rustix::io::pwritev(&self.0, batch, position) {
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if written < wanted {
                written = self.write_rest(position, batch, written)?;
            }
            position += written as u64;
            parts = &parts[batch.len()..];
        }
        Ok(())
    }

    fn start_writeback(&self) {
        // What goes wrong here, the sync that follows meets again and reports.
        if let Err(error) = capek_writeback::start(&self.0) {
            log::debug!("writing could not be begun early: {error}");
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.0.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl RealFile {
    /// After a short vectored write: the rest part by part, which shows the reason if there is one.
    fn write_rest(&self, position: u64, parts: &[IoSlice<'_>], written: usize) -> io::Result<usize> {
        let mut start = 0;
        for part in parts {
            let end = start + part.len();
            if end > written {
                let from = written.saturating_sub(start);
                self.0.write_all_at(&part[from..], position + (start + from) as u64)?;
            }
            start = end;
        }
        Ok(start)
    }
}

/// Ext4 and XFS put new bytes where the old ones are. Those that copy on write look for room each time.
fn overwrites_in_place(file: &File) -> io::Result<bool> {
    const EXT4: u64 = 0xef53;
    const XFS: u64 = 0x5846_5342;
    Ok(matches!(rustix::fs::fstatfs(file)?.f_type as u64, EXT4 | XFS))
}

impl Vfs for RealVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(mode != OpenMode::Read).create(mode == OpenMode::Create).truncate(false);
        Ok(Arc::new(RealFile(options.open(path)?)))
    }

    fn open_in_place(&self, path: &Path) -> io::Result<Option<Arc<dyn VfsFile>>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(OFlags::DIRECT.bits() as i32);
        match options.open(path) {
            Ok(file) if overwrites_in_place(&file)? => Ok(Some(Arc::new(RealFile(file)))),
            Ok(_) => Ok(None),
            // A file system that knows no way past the cache.
            Err(error) if error.kind() == ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        match fs::create_dir(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
            other => other,
        }
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            // A name that is not UTF-8 is none of ours.
            if let Ok(name) = entry.file_name().into_string() {
                entries.push(DirectoryEntry { name, is_directory: entry.file_type()?.is_dir() });
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(path)?)?)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Box::new(RealLock(file))),
            Err(TryLockError::WouldBlock) => Err(ErrorKind::WouldBlock.into()),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let status = rustix::fs::statvfs(path)?;
        Ok(status.f_bavail * status.f_frsize)
    }

    fn unique_id(&self) -> [u8; 16] {
        // Each `RandomState` is keyed from the system's randomness.
        let mut id = [0; 16];
        for half in id.chunks_mut(8) {
            half.copy_from_slice(&RandomState::new().hash_one(std::process::id()).to_be_bytes());
        }
        id
    }

    fn has_helper_threads(&self) -> bool {
        true
    }
}
