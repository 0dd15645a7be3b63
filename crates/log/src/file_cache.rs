//! Open files with a limit: a slot opens its file when it is needed, and the one that was not used for longest is closed.
//! And what all logs of a directory tell their journal together: how many bytes wait to be written into any of them, and whether
//! the high watermark of one has moved.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::vfs::{OpenMode, Vfs, VfsFile};

/// A file that may be open.
pub(crate) struct FileSlot {
    path: PathBuf,
    file: Mutex<SlotState>,
    /// Second chance: set by each use, cleared when the cache passes by.
    was_used: AtomicBool,
}

#[derive(Default)]
enum SlotState {
    #[default]
    Closed,
    Open(Arc<dyn VfsFile>),
    /// Its name belongs to another file now, or to none: it stays as it is, open or missing.
    Pinned(Option<Arc<dyn VfsFile>>),
}

/// All slots that hold a file, oldest first.
pub(crate) struct FileCache {
    vfs: Arc<dyn Vfs>,
    open: Mutex<VecDeque<Weak<FileSlot>>>,
    open_max: usize,
    pending_bytes: AtomicUsize,
    has_high_watermark_moved: AtomicBool,
}

impl FileCache {
    pub fn new(vfs: Arc<dyn Vfs>, open_max: usize) -> FileCache {
        FileCache {
            vfs,
            open: Mutex::new(VecDeque::new()),
            open_max: open_max.max(1),
            pending_bytes: AtomicUsize::new(0),
            has_high_watermark_moved: AtomicBool::new(false),
        }
    }

    pub fn high_watermark_moved(&self) {
        self.has_high_watermark_moved.store(true, Ordering::Release);
    }

    pub fn take_high_watermark_moved(&self) -> bool {
        self.has_high_watermark_moved.swap(false, Ordering::AcqRel)
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
        let opened = self.vfs.open(&slot.path, mode);
        let mut file = slot.lock();
        match &*file {
            // Another thread was faster, or what was opened has only the name.
            SlotState::Open(other) | SlotState::Pinned(Some(other)) => return Ok(other.clone()),
            SlotState::Pinned(None) => return Err(io::ErrorKind::NotFound.into()),
            SlotState::Closed => {}
        }
        let opened = opened?;
        *file = SlotState::Open(opened.clone());
        slot.was_used.store(true, Ordering::Relaxed);
        drop(file);
        self.note(slot);
        Ok(opened)
    }

    /// The slot keeps the file that has its name now, or none if there is none, for as long as it lives. Call it before the
    /// name goes to another file: readers that come later get this one all the same.
    pub fn pin(&self, slot: &Arc<FileSlot>) -> io::Result<()> {
        let file = match self.get(slot, OpenMode::Write) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        *slot.lock() = SlotState::Pinned(file);
        Ok(())
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
        Arc::new(FileSlot { path, file: Mutex::default(), was_used: AtomicBool::new(false) })
    }

    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// The file, if no open is needed.
    pub fn if_open(&self) -> Option<Arc<dyn VfsFile>> {
        match &*self.lock() {
            SlotState::Open(file) | SlotState::Pinned(Some(file)) => {
                self.was_used.store(true, Ordering::Relaxed);
                Some(file.clone())
            }
            SlotState::Closed | SlotState::Pinned(None) => None,
        }
    }

    pub fn close(&self) {
        let mut file = self.lock();
        if matches!(*file, SlotState::Open(_)) {
            *file = SlotState::Closed;
        }
    }

    fn lock(&self) -> MutexGuard<'_, SlotState> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimVfs;
    use std::path::Path;

    #[test]
    fn a_pinned_slot_keeps_its_file_when_the_name_goes_to_another() {
        let vfs = Arc::new(SimVfs::new(1));
        let cache = FileCache::new(vfs.clone(), 1);
        let write = |name: &str, content: &[u8]| crate::vfs::write_file(&*vfs, &Path::new("/").join(name), content);
        write("a", b"old").unwrap();
        write("b", b"new").unwrap();
        let slot = |name: &str| FileSlot::new(Path::new("/").join(name));
        let (old, missing, new) = (slot("a"), slot("c"), slot("a"));
        cache.pin(&old).unwrap();
        cache.pin(&missing).unwrap();
        vfs.rename(Path::new("/b"), Path::new("/a")).unwrap();
        write("c", b"later").unwrap();
        old.close();
        let content = |slot| cache.get(slot, OpenMode::Read).map(|file| file.read_at(0, 9).unwrap());
        assert_eq!((content(&old).unwrap(), content(&new).unwrap()), (b"old".to_vec(), b"new".to_vec()));
        assert_eq!(content(&missing).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

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
