//! The second half of a round: the sync, and what may only happen after it.

use std::io;
use std::sync::Arc;

use super::round::{Mode, Operation, PendingFlushed, flushed};
use super::{Completion, Journal, Outcome, Removal};
use crate::error::DirFailed;
use crate::log::{Log, WriteContext};
use crate::vfs::{OpenMode, is_no_space};

/// A buffer of this size is kept between rounds.
const BUFFER_KEPT_BYTES: usize = 1 << 20;
/// Logs whose pending bytes are written in one go.
const PENDING_MAX: usize = 256;
/// Files that are unlinked in one go.
const REMOVALS_MAX: usize = 16;

impl Journal {
    /// Makes the round durable and answers it.
    pub fn sync(&mut self, now_ms: i64, done: &mut Vec<Completion>) -> Result<(), DirFailed> {
        self.check_failed()?;
        if !self.round.is_open {
            return Ok(());
        }
        let result = self.sync_round().and_then(|()| self.finish_round(now_ms, done));
        result.map_err(|error| self.fail(error))
    }

    fn sync_round(&mut self) -> io::Result<()> {
        let bypassed = self.round.parts.iter().filter(|part| part.mode == Mode::Bypass && !part.is_failed);
        for part in bypassed {
            sync_log(&part.log, &self.vfs, &self.files, self.round_number)?;
        }
        if self.round.is_journaled {
            self.ring.sync(self.round.buffer.sealed())?;
            self.sequence += 1;
        }
        Ok(())
    }

    /// Answers, and does what waited for the sync: cuts, new log starts, deletions.
    pub(super) fn finish_round(&mut self, now_ms: i64, done: &mut Vec<Completion>) -> io::Result<()> {
        let parts = std::mem::take(&mut self.round.parts);
        for part in parts.iter().filter(|part| !part.is_failed && part.mode != Mode::Async) {
            if part.mode == Mode::Bypass {
                self.flushed_pending.push(PendingFlushed {
                    log: part.log.clone(),
                    base_offset: part.previous_end,
                    end_offset: part.end_offset,
                    headers_crc: part.headers_crc,
                });
            }
            done.push(flushed(part));
        }
        let context = WriteContext { round: self.round_number, now_ms, may_defer: false };
        let operations = std::mem::take(&mut self.round.operations);
        let mut has_deleted = false;
        for operation in operations {
            has_deleted |= matches!(operation, Operation::Delete { .. });
            self.carry_out(operation, context, done)?;
        }
        if has_deleted {
            self.vfs.sync_directory(&self.options.path)?;
        }
        self.round.is_open = false;
        self.round.is_journaled = false;
        self.round.size_bytes = 0;
        self.round.buffer.clear();
        // The vector is used again.
        self.round.parts = parts;
        self.round.parts.clear();
        Ok(())
    }

    fn carry_out(&mut self, operation: Operation, context: WriteContext, done: &mut Vec<Completion>) -> io::Result<()> {
        let (log, outcome) = match operation {
            Operation::Truncate { log, end_offset } => {
                self.truncate(&log, end_offset, context)?;
                (log, Outcome::Truncated)
            }
            Operation::LogStart { log, offset, is_reset } => {
                self.move_log_start(&log, offset, is_reset, context)?;
                (log, Outcome::LogStartDurable { offset })
            }
            Operation::Delete { log } => {
                self.delete(&log, context)?;
                (log, Outcome::Deleted)
            }
            Operation::Swap { log, cleaned } => {
                let outcome = self.swap(&log, &cleaned, context)?;
                (log, outcome)
            }
            Operation::Barrier { log, token } => {
                let end_offset = log.end_offset();
                (log, Outcome::Drained { token, end_offset })
            }
        };
        done.push(Completion { log, incarnation: 0, outcome });
        Ok(())
    }

    fn truncate(&mut self, log: &Arc<Log>, end_offset: i64, context: WriteContext) -> io::Result<()> {
        if end_offset >= log.end_offset() {
            return Ok(());
        }
        self.wait_for_checkpoint()?;
        // What was said of a range that is cut may not be said after the cut.
        self.flushed_pending.retain(|flushed| !Arc::ptr_eq(&flushed.log, log) || flushed.end_offset <= end_offset);
        let mut writer = log.writer();
        let writer = writer.as_mut().expect("it was opened when the round took it");
        writer.cut_sequence = self.sequence;
        self.note_dirty(log, &mut writer.is_listed_dirty);
        log.cut_to(writer, end_offset, context.round)?;
        self.cut_cleaned(log);
        Ok(())
    }

    fn move_log_start(&mut self, log: &Arc<Log>, offset: i64, is_reset: bool, context: WriteContext) -> io::Result<()> {
        if offset <= log.log_start() {
            return Ok(());
        }
        self.wait_for_checkpoint()?;
        let mut writer = log.writer();
        let writer = writer.as_mut().expect("it was opened when the round took it");
        self.note_dirty(log, &mut writer.is_listed_dirty);
        if is_reset {
            self.flushed_pending.retain(|flushed| !Arc::ptr_eq(&flushed.log, log));
            writer.cut_sequence = self.sequence;
            return log.reset_to(writer, offset, context.round);
        }
        let due_ms = context.now_ms.saturating_add(log.config().file_delete_delay_ms.max(0));
        for path in log.advance_log_start(writer, offset, context)? {
            self.removals.push_back(Removal { due_ms, path, is_directory: false });
        }
        Ok(())
    }

    /// The directory gets a name that no start takes for a log; its files go later.
    fn delete(&mut self, log: &Arc<Log>, context: WriteContext) -> io::Result<()> {
        self.wait_for_checkpoint()?;
        self.flushed_pending.retain(|flushed| !Arc::ptr_eq(&flushed.log, log));
        self.dirty.retain(|other| !Arc::ptr_eq(other, log));
        let key = log.id().key();
        let name = log.id().directory_name();
        let aside = self.rename_aside(&name, "delete")?;
        log.mark_deleted();
        self.known.remove(&key);
        self.forget_cleaned(log)?;
        self.names.remove(&name);
        self.deleted.insert(key, self.sequence);
        let due_ms = context.now_ms.saturating_add(log.config().file_delete_delay_ms.max(0));
        self.removals.push_back(Removal { due_ms, path: aside, is_directory: true });
        Ok(())
    }

    /// Work for when nothing is queued: files that are due are unlinked, a few at a time, and fresh journal files filled.
    /// `true` when there is more to do at once.
    pub fn background(&mut self, now_ms: i64) -> Result<bool, DirFailed> {
        self.check_failed()?;
        let result = self.background_work(now_ms);
        result.map_err(|error| self.fail(error))
    }

    fn background_work(&mut self, now_ms: i64) -> io::Result<bool> {
        self.round.shrink(BUFFER_KEPT_BYTES);
        let due_ms = now_ms.saturating_add(self.options.stray_delay_ms);
        let strays = self.strays.drain(..).map(|path| Removal { due_ms, path, is_directory: true });
        self.removals.extend(strays);
        let removed = self.remove_due(now_ms, REMOVALS_MAX)?;
        let written = match self.write_pending(PENDING_MAX) {
            // The journal has it, and readers have it: it can wait until there is room.
            Err(error) if is_no_space(&error) => 0,
            other => other?,
        };
        self.write_changed_cleaner_checkpoint()?;
        self.write_changed_high_watermarks(now_ms)?;
        Ok(self.help_ring()? || removed > 0 || written > 0)
    }

    /// Writes what up to so many logs have pending into their segments; returns how many logs it were.
    pub(super) fn write_pending(&mut self, logs_max: usize) -> io::Result<usize> {
        let mut written = 0;
        while written < logs_max
            && let Some(log) = self.pending.front().cloned()
        {
            log.write_pending()?;
            if let Some(writer) = log.writer().as_mut() {
                writer.is_listed_pending = false;
            }
            self.pending.pop_front();
            written += 1;
        }
        Ok(written)
    }

    /// A little of that for a journal that is never idle.
    pub(super) fn tidy_up(&mut self, now_ms: i64) -> io::Result<()> {
        self.remove_due(now_ms, 1)?;
        self.write_changed_high_watermarks(now_ms)?;
        self.write_changed_cleaner_checkpoint()
    }

    /// Unlinks up to so many files that are due; returns how many it were.
    pub(super) fn remove_due(&mut self, now_ms: i64, files_max: usize) -> io::Result<usize> {
        let mut left = files_max;
        // Delays differ between topics, so the order of the queue is not that of the due times.
        for _ in 0..self.removals.len() {
            let Some(removal) = self.removals.pop_front() else { break };
            let is_done = removal.due_ms <= now_ms && left > 0 && self.remove(&removal, &mut left)?;
            if !is_done {
                self.removals.push_back(removal);
            }
        }
        Ok(files_max - left)
    }

    /// Unlinks up to `left` files; `true` when nothing is left of it.
    fn remove(&self, removal: &Removal, left: &mut usize) -> io::Result<bool> {
        if !removal.is_directory {
            *left -= 1;
            crate::vfs::remove_file_if_there(&*self.vfs, &removal.path)?;
            return Ok(true);
        }
        let names = match self.vfs.read_directory(&removal.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            other => other?,
        };
        for entry in names.iter().take(*left) {
            self.vfs.remove_file(&removal.path.join(&entry.name))?;
        }
        let is_empty = names.len() <= *left;
        *left -= names.len().min(*left);
        if is_empty {
            self.vfs.remove_directory(&removal.path)?;
        }
        Ok(is_empty)
    }
}

/// Every unsynced segment of a log, and its directory if files came or went.
fn sync_log(
    log: &Log,
    vfs: &Arc<dyn crate::vfs::Vfs>,
    files: &crate::file_cache::FileCache,
    round: u64,
) -> io::Result<()> {
    let mut writer = log.writer();
    let Some(writer) = writer.as_mut() else { return Ok(()) };
    for (segment, _) in &writer.unsynced {
        segment.log_file(files, OpenMode::Write)?.sync_data()?;
    }
    if writer.directory_unsynced.is_some() {
        vfs.sync_directory(log.directory())?;
    }
    writer.synced(round);
    Ok(())
}
