//! A file system with a fault at a chosen operation: `EIO` that stays, or `ENOSPC` for a while.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DirectoryEntry, LockGuard, OpenMode, ReadAt, Vfs, VfsFile};

const ENOSPC: i32 = 28;
const EIO: i32 = 5;

/// What fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Writes, new names and syncs fail with `EIO`.
    Io,
    /// Writes and new names fail with `ENOSPC`, a write after half of its bytes.
    NoSpace,
}

/// Wraps a file system and fails the changes numbered `from..to` (counted from 1).
#[derive(Clone)]
pub struct FaultyVfs {
    inner: Arc<dyn Vfs>,
    plan: Arc<Plan>,
}

struct Plan {
    fault: Fault,
    operations: AtomicU64,
    from: AtomicU64,
    to: AtomicU64,
}

struct FaultyFile {
    inner: Arc<dyn VfsFile>,
    plan: Arc<Plan>,
}

impl FaultyVfs {
    pub fn new(inner: Arc<dyn Vfs>, fault: Fault) -> FaultyVfs {
        let (operations, from, to) = (AtomicU64::new(0), AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        FaultyVfs { inner, plan: Arc::new(Plan { fault, operations, from, to }) }
    }

    /// Changes so far.
    pub fn operations(&self) -> u64 {
        self.plan.operations.load(Ordering::Relaxed)
    }

    /// From now on the changes numbered `from..to` fail.
    pub fn fail_between(&self, from: u64, to: u64) {
        self.plan.from.store(from, Ordering::Relaxed);
        self.plan.to.store(to, Ordering::Relaxed);
    }
}

impl Plan {
    fn fails(&self) -> bool {
        let operation = self.operations.fetch_add(1, Ordering::Relaxed) + 1;
        (self.from.load(Ordering::Relaxed)..self.to.load(Ordering::Relaxed)).contains(&operation)
    }

    fn error(&self) -> io::Error {
        io::Error::from_raw_os_error(if self.fault == Fault::Io { EIO } else { ENOSPC })
    }

    fn check_growth(&self) -> io::Result<()> {
        if self.fails() { Err(self.error()) } else { Ok(()) }
    }

    /// For what a full disk does not refuse.
    fn check_other(&self) -> io::Result<()> {
        if self.fails() && self.fault == Fault::Io { Err(self.error()) } else { Ok(()) }
    }
}

impl ReadAt for FaultyFile {
    fn read_at(&self, position: u64, length: usize) -> io::Result<Vec<u8>> {
        self.inner.read_at(position, length)
    }
}

impl VfsFile for FaultyFile {
    fn write_all_at(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if self.plan.fails() {
            self.inner.write_all_at(position, &bytes[..bytes.len() / 2])?;
            return Err(self.plan.error());
        }
        self.inner.write_all_at(position, bytes)
    }

    fn write_all_vectored_at(&self, position: u64, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if self.plan.fails() {
            self.inner.write_all_vectored_at(position, &parts[..parts.len() / 2])?;
            return Err(self.plan.error());
        }
        self.inner.write_all_vectored_at(position, parts)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.sync_data()
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.set_len(length)
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }
}

impl Vfs for FaultyVfs {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        if mode == OpenMode::Create {
            self.plan.check_growth()?;
        }
        Ok(Arc::new(FaultyFile { inner: self.inner.open(path, mode)?, plan: self.plan.clone() }))
    }

    fn open_in_place(&self, path: &Path) -> io::Result<Option<Arc<dyn VfsFile>>> {
        if self.plan.fault == Fault::NoSpace {
            return Ok(None); // such a write would need no room
        }
        let inner = self.inner.open_in_place(path)?;
        Ok(inner.map(|inner| Arc::new(FaultyFile { inner, plan: self.plan.clone() }) as Arc<dyn VfsFile>))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.remove_file(path)
    }

    fn remove_directory(&self, path: &Path) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.remove_directory(path)
    }

    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.plan.check_growth()?;
        self.inner.create_directory(path)
    }

    fn read_directory(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        self.inner.read_directory(path)
    }

    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.inner.file_len(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.sync_directory(path)
    }

    fn sync_filesystem(&self, path: &Path) -> io::Result<()> {
        self.plan.check_other()?;
        self.inner.sync_filesystem(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn LockGuard>> {
        self.inner.lock(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.inner.free_bytes(path)
    }

    fn unique_id(&self) -> [u8; 16] {
        self.inner.unique_id()
    }
}
