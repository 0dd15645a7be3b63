//! Compaction as the journal sees it: when a cleaned segment may take its place, and the file that says how far a log was
//! cleaned.
//!
//! Replay must never meet a cleaned segment with an entry for what it stands for: the entry's batches may be gone from it. So
//! recovery points that are later than all such entries come first.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Journal, Known, Outcome, Removal};
use crate::compaction::{Cleaned, remove_cleaned};
use crate::error::DirFailed;
use crate::ids::LogKey;
use crate::log::{Log, WriteContext};
use crate::text::{offset_checkpoint_text, parse_offset_checkpoint};
use crate::vfs::{Vfs, read_file_if_there, write_file};

/// Kafka's: a line for each log, with the offset up to which it was compacted. Losing it costs a clean, no more.
const CLEANER_CHECKPOINT: &str = "cleaner-offset-checkpoint";

impl Journal {
    /// Recovery points soon, beside the journal: a swap that comes later need not wait for them.
    pub fn checkpoint_soon(&mut self) -> Result<(), DirFailed> {
        self.check_failed()?;
        let result = self.start_checkpoint_soon();
        result.map_err(|error| self.fail(error))
    }

    /// Whether no entry that replay would look at speaks of what `cleaned` stands for.
    pub(super) fn is_covered(&self, log: &Log, cleaned: &Cleaned) -> bool {
        let writer = log.writer();
        let Some(writer) = writer.as_ref() else { return false };
        let range = cleaned.base_offset()..cleaned.end_offset();
        writer.flushed_sequence <= self.durable_sequence
            && !writer.unguarded.iter().any(|(segment, _)| range.contains(&segment.base_offset))
    }

    /// After the round is synced.
    pub(super) fn swap(&mut self, log: &Log, cleaned: &Cleaned, context: WriteContext) -> io::Result<Outcome> {
        if log.is_deleted() || !self.is_covered(log, cleaned) {
            remove_cleaned(log, cleaned.base_offset())?;
            return Ok(Outcome::SwapRefused);
        }
        let Some(gone) = log.swap(cleaned)? else { return Ok(Outcome::SwapRefused) };
        let removal = |path| Removal { due_ms: context.now_ms, path, is_directory: false };
        self.removals.extend(gone.into_iter().map(removal));
        Ok(Outcome::Swapped)
    }

    pub(super) fn note_cleaned(&mut self, log: &Arc<Log>, end_offset: i64) {
        log.set_cleaned_end(end_offset);
        self.cleaner_checkpoint_changed = true;
    }

    /// What was cleaned beyond a cut is dirty again when it is written again.
    pub(super) fn cut_cleaned(&mut self, log: &Log) {
        if log.cleaned_end() > log.end_offset() {
            log.set_cleaned_end(log.end_offset());
            self.cleaner_checkpoint_changed = true;
        }
    }

    /// Before a log of the same name can be made: it must not find what was said of this one.
    pub(super) fn forget_cleaned(&mut self, log: &Log) -> io::Result<()> {
        match log.cleaned_end() {
            0 => Ok(()),
            _ => self.write_cleaner_checkpoint(),
        }
    }

    pub(super) fn write_changed_cleaner_checkpoint(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.cleaner_checkpoint_changed) { self.write_cleaner_checkpoint() } else { Ok(()) }
    }

    fn write_cleaner_checkpoint(&self) -> io::Result<()> {
        let cleaned_end = |known: &Known| known.log.as_ref().map_or(known.cleaned_end, |log| log.cleaned_end());
        let cleaned = self.known.values().map(|known| (&known.id, cleaned_end(known)));
        let lines: Vec<_> = cleaned.filter(|(_, cleaned_end)| *cleaned_end > 0).collect();
        let lines = lines.iter().map(|(id, cleaned_end)| (&*id.topic, id.partition, *cleaned_end));
        let path = self.options.path.join(CLEANER_CHECKPOINT);
        let temporary = path.with_extension("tmp");
        let written = write_file(&*self.vfs, &temporary, offset_checkpoint_text(lines).as_bytes());
        match written.and_then(|_| self.vfs.rename(&temporary, &path)) {
            // The old one may say more of a log than is true now: none is better.
            Err(error) if crate::vfs::is_no_space(&error) => {
                crate::vfs::remove_file_if_there(&*self.vfs, &path).map(drop)
            }
            result => result,
        }
    }
}

/// How far the logs of a data directory were cleaned, by topic and partition.
pub(super) fn read_cleaner_checkpoint(vfs: &dyn Vfs, directory: &Path) -> io::Result<BTreeMap<(String, i32), i64>> {
    let bytes = read_file_if_there(vfs, &directory.join(CLEANER_CHECKPOINT))?;
    let entries = bytes.and_then(|bytes| parse_offset_checkpoint(std::str::from_utf8(&bytes).ok()?));
    Ok(entries.unwrap_or_default().into_iter().map(|(topic, partition, end)| ((topic, partition), end)).collect())
}

/// Fills in what the file says of the logs that are known.
pub(super) fn note_cleaned_ends(known: &mut BTreeMap<LogKey, Known>, ends: &BTreeMap<(String, i32), i64>) {
    for log in known.values_mut() {
        let end = ends.get(&(log.id.topic.to_string(), log.id.partition)).copied();
        log.cleaned_end = end.filter(|end| *end <= log.end).unwrap_or(0);
    }
}
