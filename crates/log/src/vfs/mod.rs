//! The only way to files: a trait, so that tests can take the power away at any write.
//!
//! `RealVfs` is the operating system, `SimVfs` a disk in memory that loses what was not synced, `FaultyVfs` wraps either
//! and fails where it is told to.

mod faulty;
mod real;
mod sim;

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

pub use faulty::{Fault, FaultyVfs};
pub use real::RealVfs;
pub use sim::SimVfs;

/// What every disk writes as a whole, and what writes past the cache are a multiple of.
pub const BLOCK_BYTES: usize = 4096;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must be there; it is only read.
    Read,
    /// It must be there.
    Write,
    /// It is made, empty, when it is not there.
    Create,
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectoryEntry {
    pub name: String,
    pub is_directory: bool,
}

/// Something that can be read at any position.
pub trait ReadAt: Send + Sync {
    /// Up to `length` bytes from `position`; fewer only at the end.
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>>;
}

/// An open file. Positions are absolute: there is no cursor, so readers and the writer share one.
pub trait VfsFile: ReadAt {
    /// The same if it needs no disk; `None` when it would block.
    fn read_at_cached(&self, position: u64, length: usize) -> io::Result<Option<Vec<u8>>> {
        self.read_at(position, length).map(Some)
    }

    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()>;

    fn write_all_vectored_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// A hint: the file is about to be synced, among others. Nothing is promised, and nothing fails that the sync would not.
    fn start_writeback(&self) {}

    /// Makes content and length durable. The name is the directory's business.
    fn sync_data(&self) -> io::Result<()>;

    fn set_len(&self, length: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Held while a directory is in use; given back when dropped.
pub trait LockGuard: Send + Sync {}

/// A file system.
pub trait Vfs: Send + Sync {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>>;
    /// A file that must be there, to be written past the cache, in whole blocks of [`BLOCK_BYTES`] from memory that begins at a
    /// multiple of that, and only over what was written before: such a write needs no room. `None` where that is not sure.
    fn open_in_place(&self, _path: &Path) -> io::Result<Option<Arc<dyn VfsFile>>> {
        Ok(None)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes one directory; it is no error when it is there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn read_directory(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;
    fn file_len(&self, path: &Path) -> io::Result<u64>;
    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;
    /// Makes everything durable that was written to the file system that holds `path`.
    fn sync_filesystem(&self, path: &Path) -> io::Result<()>;
    /// Takes the lock file, or says with `WouldBlock` that somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>>;
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;
    /// An id that no other call gave.
    fn unique_id(&self) -> [u8; 16];
    /// Whether slow syncs should go to a helper thread; a simulated disk wants one order of events.
    fn has_helper_threads(&self) -> bool {
        false
    }
}

/// The whole content of a file.
pub fn read_file(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, OpenMode::Read)?;
    let length = file.len()?;
    file.read_at(0, length as usize)
}

/// As [`read_file`]; `None` when the file is not there.
pub fn read_file_if_there(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Vec<u8>>> {
    match read_file(vfs, path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file from its beginning and cuts what was behind; nothing is synced.
pub fn write_file(vfs: &dyn Vfs, path: &Path, bytes: &[u8]) -> io::Result<Arc<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::Create)?;
    if file.len()? > bytes.len() as u64 {
        file.set_len(bytes.len() as u64)?;
    }
    file.write_all_at(0, bytes)?;
    Ok(file)
}

/// Replaces a file so that after a crash it is the old one or the new one: `temporary` is written and synced first.
/// The directory is not synced.
pub fn replace_file(vfs: &dyn Vfs, path: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    write_file(vfs, temporary, bytes)?.sync_data()?;
    vfs.rename(temporary, path)
}

/// Removes a file; it is no error when it is not there.
pub fn remove_file_if_there(vfs: &dyn Vfs, path: &Path) -> io::Result<bool> {
    match vfs.remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether an error means that there is no room, which is an answer and not a failure of the disk.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
