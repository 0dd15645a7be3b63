//! Open files with a limit: a slot opens its file when it is needed, and the one that was not used for longest is closed.
//! And a count of the bytes that wait to be written into any of them.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::vfs::{OpenMode, Vfs, VfsFile};

/// A file that may be open.
pub(crate) struct FileSlot {
    path: PathBuf,
    file: Mutex<Option<Arc<dyn VfsFile>>>,
    /// Second chance: set by each use, cleared when the cache passes by.
    was_used: AtomicBool,
}

/// All slots that hold a file, oldest first.
pub(crate) struct FileCache {
    vfs: Arc<dyn Vfs>,
    open: Mutex<VecDeque<Weak<FileSlot>>>,
    open_max: usize,
    pending_bytes: AtomicUsize,
}

impl FileCache {
    pub fn new(vfs: Arc<dyn Vfs>, open_max: usize) -> FileCache {
        FileCache {
            vfs,
            open: Mutex::new(VecDeque::new()),
            open_max: open_max.max(1),
            pending_bytes: AtomicUsize::new(0),
        }
    }

    /// What all segments together have in the journal and not in their files.
    pub fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }

    pub fn pending_added(&self, bytes: usize) {
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub fn pending_removed(&self, bytes: usize) {
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// The slot's file, opened if need be. Readers keep the `Arc` for as long as they read.
    pub fn get(&self, slot: &Arc<FileSlot>, mode: OpenMode) -> io::Result<Arc<dyn VfsFile>> {
        if let Some(file) = slot.if_open() {
            return Ok(file);
        }
        let opened = self.vfs.open(&slot.path, mode)?;
        {
            let mut file = slot.file.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = &*file {
                return Ok(other.clone()); // another thread was faster
            }
            *file = Some(opened.clone());
            slot.was_used.store(true, Ordering::Relaxed);
        }
        self.note(slot);
        Ok(opened)
    }

    fn note(&self, slot: &Arc<FileSlot>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.push_back(Arc::downgrade(slot));
        let mut chances = open.len();
        while open.len() > self.open_max && chances > 0 {
            chances -= 1;
            let Some(oldest) = open.pop_front() else { break };
            let Some(slot) = oldest.upgrade() else { continue };
            if slot.was_used.swap(false, Ordering::Relaxed) && chances > 0 {
                open.push_back(oldest);
            } else {
                slot.close();
            }
        }
    }
}

impl FileSlot {
    pub fn new(path: PathBuf) -> Arc<FileSlot> {
        Arc::new(FileSlot { path, file: Mutex::new(None), was_used: AtomicBool::new(false) })
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The file, if no open is needed.
    pub fn if_open(&self) -> Option<Arc<dyn VfsFile>> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if file.is_some() {
            self.was_used.store(true, Ordering::Relaxed);
        }
        file
    }

    pub fn close(&self) {
        self.file.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimVfs;
    use std::path::Path;

    #[test]
    fn no_more_files_are_open_than_allowed() {
        let cache = FileCache::new(Arc::new(SimVfs::new(1)), 3);
        let slots: Vec<_> = (0..10).map(|n| FileSlot::new(Path::new("/").join(n.to_string()))).collect();
        for slot in &slots {
            cache.get(slot, OpenMode::Create).unwrap();
            let open = slots.iter().filter(|slot| slot.if_open().is_some()).count();
            assert!(open <= 3, "{open} are open");
        }
    }
}
