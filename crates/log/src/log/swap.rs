//! Cleaned segments take the place of the old ones.
//!
//! ```text
//!   B.log.cleaned ─▶ B.log.swap              durable: from here on a start finishes it
//!   old segments ─▶ .deleted, B.index … ◀─ .cleaned      durable: B.log.swap is all that speaks for its range
//!   B.log.swap ─▶ B.log                      durable
//! ```
//!
//! Readers that hold the old segments go on with the old files: these are opened before the names change, and stay open
//! for as long as somebody holds the segment.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Log, View, lock};
use crate::compaction::NeededBatches;
use crate::compaction::{CLEANED_EXTENSIONS, Cleaned, SWAP, cleaned_name, remove_cleaned};
use crate::segment::{self, Segment, file_name};
use crate::vfs::is_no_space;

impl Log {
    /// Whether nobody else cleans it; then the caller may, until [`Log::end_clean`].
    pub(crate) fn begin_clean(&self) -> bool {
        !self.is_being_cleaned.swap(true, std::sync::atomic::Ordering::AcqRel)
    }

    pub(crate) fn end_clean(&self) {
        self.is_being_cleaned.store(false, std::sync::atomic::Ordering::Release);
    }

    /// What must outlive its records, see `compaction`.
    pub(crate) fn needed_batches(&self) -> io::Result<NeededBatches> {
        self.opened()?;
        let producer_offsets = lock(&self.producers).batches().iter().map(|batch| batch.last_offset).collect();
        let epoch_starts = lock(&self.epochs).entries().iter().map(|entry| entry.1).collect();
        Ok(NeededBatches { producer_offsets, epoch_starts, segment_end: i64::MIN })
    }

    /// Whether these are its segments still.
    pub(crate) fn holds(&self, segments: &[Arc<Segment>]) -> bool {
        let view = self.view.load_full().unwrap_or_default();
        segments.is_empty() || place_in_view(&view, segments).is_some()
    }

    /// Puts a cleaned segment in its place and returns the files that may go. `None`: something of what it stands for was
    /// cut or dropped meanwhile, or there was no room; then nothing has changed.
    pub(crate) fn swap(&self, cleaned: &Cleaned) -> io::Result<Option<Vec<PathBuf>>> {
        let view = self.view.load_full().unwrap_or_default();
        let Some(first) = place_in_view(&view, &cleaned.old) else { return self.give_up_swap(cleaned) };
        for old in &cleaned.old {
            if old.pin_files(&self.files).is_err() {
                return self.give_up_swap(cleaned); // too many files are open
            }
        }
        let name = |extension: &str| self.directory.join(file_name(cleaned.base_offset, extension));
        let swap = self.directory.join(file_name(cleaned.base_offset, "log") + "." + SWAP);
        match self.vfs.rename(&self.directory.join(cleaned_name(cleaned.base_offset, "log")), &swap) {
            Err(error) if error.kind() == io::ErrorKind::NotFound || is_no_space(&error) => {
                return self.give_up_swap(cleaned);
            }
            renamed => renamed?,
        }
        self.vfs.sync_directory(&self.directory)?;

        let mut gone = Vec::new();
        self.rename_for_removal(cleaned.base_offset, &["log"], &mut gone)?;
        for old in &cleaned.old[1..] {
            self.rename_for_removal(old.base_offset, &segment::EXTENSIONS, &mut gone)?;
        }
        for extension in CLEANED_EXTENSIONS.into_iter().filter(|extension| *extension != "log") {
            let renamed =
                self.vfs.rename(&self.directory.join(cleaned_name(cleaned.base_offset, extension)), &name(extension));
            ignore_missing(renamed)?;
        }
        self.vfs.sync_directory(&self.directory)?;
        self.vfs.rename(&swap, &name("log"))?;
        self.vfs.sync_directory(&self.directory)?;

        let segment = Segment::cleaned(&self.directory, cleaned);
        self.change_view(|view| {
            view.generation += 1;
            view.segments.splice(first..first + cleaned.old.len(), [segment]);
        });
        Ok(Some(gone))
    }

    fn give_up_swap(&self, cleaned: &Cleaned) -> io::Result<Option<Vec<PathBuf>>> {
        remove_cleaned(self, cleaned.base_offset)?;
        Ok(None)
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where the old segments stand, if all of them are there still, one behind the other, and none of them is appended to.
fn place_in_view(view: &View, old: &[Arc<Segment>]) -> Option<usize> {
    let first = view.segments.iter().position(|segment| Arc::ptr_eq(segment, &old[0]))?;
    let there = view.segments.get(first..first + old.len())?;
    let is_same = there.iter().zip(old).all(|(segment, old)| Arc::ptr_eq(segment, old));
    (is_same && first + old.len() < view.segments.len()).then_some(first)
}
