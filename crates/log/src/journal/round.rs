//! The first half of a round: what is queued is gathered and written, into segments and into the journal file.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::Arc;

use bytes::Bytes;

use super::format::{BLOCK_BYTES, ENTRY_HEADER_BYTES, EntryHeader, Kind, RoundBuffer, RoundId, headers_crc_of};
use super::{Completion, Entry, Journal, Outcome};
use crate::compaction::Cleaned;
use crate::error::{AppendError, DirFailed};
use crate::file_cache::FileCache;
use crate::ids::{Flush, LogKey};
use crate::log::{AppendFailure, Log, WriteContext, Writer};
use crate::vfs::{OpenMode, is_no_space};

/// Below this, pieces are copied together before they are written: a `writev` of many small ones costs more.
const SMALL_PIECE_BYTES: usize = 4096;
const PIECES_MAX: usize = 64;
/// Where the queue is never empty, files that are due must go all the same.
const ROUNDS_PER_REMOVAL: u64 = 128;

/// How a log's appends of a round become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Journal,
    /// By a sync of the segments.
    Bypass,
    /// Not now.
    Async,
}

/// All appends of one log in a round.
pub(super) struct Part {
    pub log: Arc<Log>,
    pub incarnation: u32,
    pub mode: Mode,
    pub previous_end: i64,
    pub base_offset: i64,
    pub end_offset: i64,
    pub headers_crc: u32,
    pub is_failed: bool,
    leader_epoch: i32,
    batches: Vec<Bytes>,
    size_bytes: usize,
    /// The ends of the entries: each is answered if they fail.
    ends: Vec<i64>,
}

/// What else a round holds, in its order.
pub(super) enum Operation {
    Truncate { log: Arc<Log>, end_offset: i64 },
    LogStart { log: Arc<Log>, offset: i64, is_reset: bool },
    Delete { log: Arc<Log> },
    Swap { log: Arc<Log>, cleaned: Arc<Cleaned> },
    Barrier { log: Arc<Log>, token: u64 },
}

impl Operation {
    fn into_entry(self) -> Entry {
        match self {
            Operation::Truncate { log, end_offset } => Entry::Truncate { log, end_offset },
            Operation::LogStart { log, offset, .. } => Entry::LogStart { log, offset },
            Operation::Delete { log } => Entry::Delete { log },
            Operation::Swap { log, cleaned } => Entry::Swap { log, cleaned },
            Operation::Barrier { log, token } => Entry::Barrier { log, token },
        }
    }
}

/// A bypassed range that is synced and wants its entry in the journal.
pub(super) struct PendingFlushed {
    pub log: Arc<Log>,
    pub base_offset: i64,
    pub end_offset: i64,
    pub headers_crc: u32,
}

/// The round between `write` and `sync`.
#[derive(Default)]
pub(super) struct Round {
    pub is_open: bool,
    pub parts: Vec<Part>,
    pub operations: Vec<Operation>,
    /// What the journal file got; its sequence is one above the last.
    pub is_journaled: bool,
    pub buffer: RoundBuffer,
    gathered: Vec<u8>,
    /// A log became durable that was not: what it holds must be synced before its first append.
    pub needs_checkpoint: bool,
    pub size_bytes: usize,
}

impl Round {
    /// Gives back what large rounds took.
    pub fn shrink(&mut self, kept_bytes: usize) {
        self.buffer.shrink(kept_bytes);
        if self.gathered.capacity() > kept_bytes {
            self.gathered = Vec::new();
        }
    }
}

impl Journal {
    /// Takes what is queued, up to a limit, and writes it. `true`: [`Journal::sync`] must follow before the next round.
    /// Appends that fail, and those of `async` logs, complete here.
    pub fn write(
        &mut self,
        entries: &mut VecDeque<Entry>,
        now_ms: i64,
        done: &mut Vec<Completion>,
    ) -> Result<bool, DirFailed> {
        self.check_failed()?;
        if self.round.is_open {
            return Ok(true);
        }
        self.poll_helper()?;
        self.round_number += 1;
        let is_time = self.round_number.is_multiple_of(ROUNDS_PER_REMOVAL);
        let tidied = if is_time { self.tidy_up(now_ms) } else { Ok(()) };
        let result = tidied.and_then(|()| self.write_round(entries, now_ms, done));
        result.map_err(|error| self.fail(error))
    }

    fn write_round(
        &mut self,
        entries: &mut VecDeque<Entry>,
        now_ms: i64,
        done: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        self.take(entries, done)?;
        if self.round.parts.is_empty() && self.round.operations.is_empty() && !self.wants_round() {
            return Ok(false);
        }
        self.choose_modes()?;
        let has_room = self.make_room(self.journal_bytes_max())?;
        self.write_parts(now_ms, has_room, done)?;
        match has_room {
            true => self.write_journal(entries, done)?,
            false => self.give_back_operations(entries),
        }
        self.complete_async(done);
        self.announce_writes(done);
        let needs_sync = self.round.is_journaled || self.has_part(Mode::Bypass);
        self.round.is_open = needs_sync;
        if !needs_sync {
            self.finish_round(now_ms, done)?;
        }
        Ok(needs_sync)
    }

    fn has_part(&self, mode: Mode) -> bool {
        self.round.parts.iter().any(|part| part.mode == mode && !part.is_failed)
    }

    // ---- gathering

    fn take(&mut self, entries: &mut VecDeque<Entry>, done: &mut Vec<Completion>) -> io::Result<()> {
        let limit = self.options.round_bytes_max.min(self.ring.file_bytes() as usize / 4);
        while let Some(entry) = entries.front() {
            let size_bytes = entry.size_bytes();
            if self.round.size_bytes > 0 && self.round.size_bytes + size_bytes > limit {
                break;
            }
            let log = entry.log().clone();
            let mut writer = log.writer();
            if !log.is_deleted() {
                log.open_for(&mut writer)?;
            }
            let writer = &mut **writer.get_or_insert_default();
            // A Truncate cuts after the sync of its round, and answers come in order: what follows an operation waits.
            if writer.operation_in_round == self.round_number {
                break;
            }
            if !self.can_follow(entry, writer) {
                break;
            }
            let entry = entries.pop_front().expect("it was looked at");
            self.round.size_bytes += size_bytes;
            match log.is_deleted() {
                true => self.answer_for_deleted(entry, done),
                false => self.take_entry(entry, &log, writer, done)?,
            }
        }
        Ok(())
    }

    /// Whether an entry fits into the round that already holds something of its log.
    fn can_follow(&self, entry: &Entry, writer: &Writer) -> bool {
        // What was synced past the journal must be in it, and a recovery point behind that, before a swap.
        let waits_for_flushed =
            |log: &Arc<Log>| self.flushed_pending.iter().any(|flushed| Arc::ptr_eq(&flushed.log, log));
        if matches!(entry, Entry::Swap { log, .. } if waits_for_flushed(log)) {
            return false;
        }
        let Some(part) = self.part_of(writer) else { return true };
        match entry {
            Entry::Append { incarnation, .. } => *incarnation == self.round.parts[part].incarnation,
            Entry::Configure { .. } | Entry::Swap { .. } => false,
            _ => true,
        }
    }

    fn part_of(&self, writer: &Writer) -> Option<usize> {
        writer.part.filter(|(round, _)| *round == self.round_number).map(|(_, at)| at)
    }

    fn take_entry(
        &mut self,
        entry: Entry,
        log: &Arc<Log>,
        writer: &mut Writer,
        done: &mut Vec<Completion>,
    ) -> io::Result<()> {
        if !matches!(entry, Entry::Append { .. } | Entry::Configure { .. } | Entry::CleanedTo { .. }) {
            writer.operation_in_round = self.round_number;
        }
        match entry {
            Entry::Append { log, incarnation, leader_epoch, base_offset, end_offset, batches, .. } => {
                let append = Part {
                    log,
                    incarnation,
                    mode: Mode::Journal,
                    previous_end: 0,
                    base_offset,
                    end_offset,
                    headers_crc: 0,
                    is_failed: false,
                    leader_epoch,
                    size_bytes: batches.iter().map(Bytes::len).sum(),
                    batches,
                    ends: vec![end_offset],
                };
                self.take_append(append, writer, done);
            }
            Entry::Truncate { log, end_offset } => {
                self.round.operations.push(Operation::Truncate { log, end_offset });
            }
            Entry::LogStart { log, offset } => {
                self.round.operations.push(Operation::LogStart { log, offset, is_reset: false });
            }
            Entry::Delete { log } => {
                self.round.operations.push(Operation::Delete { log });
            }
            Entry::Configure { config, .. } => self.configure(log, config)?,
            Entry::Swap { log, cleaned } => self.round.operations.push(Operation::Swap { log, cleaned }),
            Entry::CleanedTo { end_offset, .. } => self.note_cleaned(log, end_offset),
            Entry::Barrier { log, token } => self.round.operations.push(Operation::Barrier { log, token }),
        }
        Ok(())
    }

    /// The log is gone; another with the same id may be there already, so nothing may reach the journal.
    fn answer_for_deleted(&mut self, entry: Entry, done: &mut Vec<Completion>) {
        let outcome = match &entry {
            Entry::Append { end_offset, .. } => {
                Outcome::AppendFailed { end_offset: *end_offset, error: AppendError::Broken }
            }
            Entry::Truncate { .. } => Outcome::Truncated,
            Entry::LogStart { offset, .. } => Outcome::LogStartDurable { offset: *offset },
            Entry::Delete { .. } => Outcome::Deleted,
            Entry::Barrier { token, .. } => Outcome::Drained { token: *token, end_offset: 0 },
            Entry::Swap { .. } => Outcome::SwapRefused,
            Entry::Configure { .. } | Entry::CleanedTo { .. } => return,
        };
        let incarnation = if let Entry::Append { incarnation, .. } = &entry { *incarnation } else { 0 };
        done.push(Completion { log: entry.log().clone(), incarnation, outcome });
    }

    fn take_append(&mut self, append: Part, writer: &mut Writer, done: &mut Vec<Completion>) {
        let refusal = match &writer.failed {
            Some((incarnation, error)) if *incarnation >= append.incarnation => Some(error.clone()),
            _ => None,
        };
        if let Some(error) = refusal {
            done.push(append_failed(&append, append.end_offset, error));
            return;
        }
        let known = self.part_of(writer);
        let end = known.map_or(append.log.end_offset(), |at| self.round.parts[at].end_offset);
        if append.base_offset < end || append.end_offset <= append.base_offset {
            // Nothing of this incarnation can follow: its idea of the end is wrong.
            writer.failed = Some((append.incarnation, AppendError::Broken));
            done.push(append_failed(&append, append.end_offset, AppendError::Broken));
            return;
        }
        match known {
            Some(at) => {
                let part = &mut self.round.parts[at];
                part.batches.extend(append.batches);
                part.size_bytes += append.size_bytes;
                part.ends.push(append.end_offset);
                part.end_offset = append.end_offset;
                part.leader_epoch = append.leader_epoch;
            }
            None => {
                writer.part = Some((self.round_number, self.round.parts.len()));
                self.round.parts.push(Part { previous_end: end, ..append });
            }
        }
    }

    fn configure(&mut self, log: &Arc<Log>, config: crate::ids::LogConfig) -> io::Result<()> {
        let becomes_durable = log.config().flush == Flush::Async && config.flush == Flush::Group;
        log.set_config(config);
        if becomes_durable {
            self.round.needs_checkpoint = true;
        }
        Ok(())
    }

    /// Large parts bypass the journal; not after a cut that replay might do once more.
    fn choose_modes(&mut self) -> io::Result<()> {
        let mut needs_checkpoint = std::mem::take(&mut self.round.needs_checkpoint);
        let journal_max = self.ring.file_bytes() as usize / 2;
        for part in &mut self.round.parts {
            let is_large = part.size_bytes >= self.options.bypass_bytes;
            let cut_sequence = part.log.writer().as_ref().map_or(0, |writer| writer.cut_sequence);
            let may_bypass = cut_sequence <= self.durable_sequence;
            part.mode = match part.log.config().flush {
                Flush::Async => Mode::Async,
                Flush::Group if is_large && (may_bypass || part.size_bytes > journal_max) => Mode::Bypass,
                Flush::Group => Mode::Journal,
            };
            needs_checkpoint |= part.mode != Mode::Journal && !may_bypass;
        }
        for operation in &self.round.operations {
            let Operation::Swap { log, cleaned } = operation else { continue };
            needs_checkpoint |= !self.is_covered(log, cleaned);
        }
        // All that would not fit into a journal file in one piece goes past it.
        if self.journal_bytes_max() > self.ring.file_bytes() {
            needs_checkpoint = true;
            self.round
                .parts
                .iter_mut()
                .filter(|part| part.mode == Mode::Journal)
                .for_each(|part| part.mode = Mode::Bypass);
        }
        if needs_checkpoint { self.checkpoint_now() } else { Ok(()) }
    }

    /// What the round takes in the journal file, at most.
    fn journal_bytes_max(&self) -> u64 {
        let parts: usize = (self.round.parts.iter().filter(|part| part.mode == Mode::Journal))
            .map(|part| ENTRY_HEADER_BYTES + part.size_bytes)
            .sum();
        let small = self.round.operations.len() + self.flushed_pending.len() + self.forget_pending.len();
        (parts + small * (ENTRY_HEADER_BYTES + 4)).next_multiple_of(BLOCK_BYTES) as u64
    }

    // ---- writing

    fn write_parts(&mut self, now_ms: i64, has_room: bool, done: &mut Vec<Completion>) -> io::Result<()> {
        self.round.buffer.clear();
        if has_room {
            self.begin_journal_round();
        }
        let context = WriteContext { round: self.round_number, now_ms, may_defer: false };
        let mut parts = std::mem::take(&mut self.round.parts);
        let has_several_bypassed = parts.iter().filter(|part| part.mode == Mode::Bypass).nth(1).is_some();
        for part in &mut parts {
            let log = part.log.clone();
            let mut guard = log.writer();
            let writer = guard.as_mut().expect("it was opened when the round took it");
            self.note_dirty(&log, &mut writer.is_listed_dirty);
            if part.mode == Mode::Journal && !std::mem::replace(&mut writer.is_listed_pending, true) {
                self.pending.push_back(log.clone());
            }
            let may_defer = self.files.pending_bytes() < self.options.pending_bytes_max;
            let result = match (part.mode, has_room) {
                (Mode::Journal, true) => self.write_to_both(part, writer, WriteContext { may_defer, ..context }),
                (Mode::Journal, false) => Err(AppendFailure::Io(io::ErrorKind::StorageFull.into())),
                (Mode::Bypass | Mode::Async, _) => self.write_to_segment(part, writer, context),
            };
            part.batches.clear();
            if let Err(failure) = result {
                drop(guard);
                self.fail_part(part, failure.into_answer()?, done)?;
            } else if has_several_bypassed && part.mode == Mode::Bypass {
                // The disk works on this one while the next are copied, on all of them at once while the first is waited for,
                // and one commit of the file system serves all.
                start_writeback(writer, &self.files)?;
            }
        }
        self.round.parts = parts;
        Ok(())
    }

    fn begin_journal_round(&mut self) {
        for flushed in &self.flushed_pending {
            self.round.buffer.begin(&EntryHeader {
                kind: Kind::Flushed,
                key: flushed.log.id().key(),
                leader_epoch: -1,
                previous_end: flushed.base_offset,
                base_offset: flushed.base_offset,
                end_offset: flushed.end_offset,
            });
            self.round.buffer.extend(&flushed.headers_crc.to_be_bytes());
        }
        for key in &self.forget_pending {
            self.round.buffer.begin(&small_entry(Kind::Delete, *key, 0));
        }
    }

    /// The bytes are copied once, into the journal's buffer; the segment is written from there.
    fn write_to_both(&mut self, part: &Part, writer: &mut Writer, context: WriteContext) -> Result<(), AppendFailure> {
        let buffer = &mut self.round.buffer;
        buffer.begin(&EntryHeader {
            kind: Kind::Append,
            key: part.log.id().key(),
            leader_epoch: part.leader_epoch,
            previous_end: part.previous_end,
            base_offset: part.base_offset,
            end_offset: part.end_offset,
        });
        for batch in &part.batches {
            buffer.extend(batch);
        }
        let result = part.log.append(writer, &[IoSlice::new(buffer.last_payload())], context);
        let result = result.and_then(|()| check_end(part));
        if result.is_err() {
            buffer.drop_last();
        }
        result
    }

    fn write_to_segment(
        &mut self,
        part: &mut Part,
        writer: &mut Writer,
        context: WriteContext,
    ) -> Result<(), AppendFailure> {
        if part.mode == Mode::Bypass {
            part.headers_crc = part.batches.iter().fold(0, |crc, batches| headers_crc_of(crc, batches));
        }
        let is_crumbs = part.batches.len() > PIECES_MAX && part.size_bytes / part.batches.len() < SMALL_PIECE_BYTES;
        if is_crumbs {
            let gathered = &mut self.round.gathered;
            gathered.clear();
            part.batches.iter().for_each(|batch| gathered.extend_from_slice(batch));
            part.log.append(writer, &[IoSlice::new(gathered)], context)?;
        } else {
            let pieces: Vec<_> = part.batches.iter().map(|batch| IoSlice::new(batch)).collect();
            part.log.append(writer, &pieces, context)?;
        }
        check_end(part)
    }

    /// Adds the operations and writes the round into the journal file.
    fn write_journal(&mut self, entries: &mut VecDeque<Entry>, done: &mut Vec<Completion>) -> io::Result<()> {
        for operation in &mut self.round.operations {
            let header = match operation {
                Operation::Truncate { log, end_offset } => {
                    *end_offset = log.cut_boundary(&*log.opened()?, *end_offset)?;
                    if *end_offset >= log.end_offset() {
                        continue;
                    }
                    small_entry(Kind::Truncate, log.id().key(), *end_offset)
                }
                Operation::LogStart { log, offset, is_reset } => {
                    // Known for sure only now: an append before it may have failed.
                    *is_reset = *offset > log.end_offset();
                    if *offset <= log.log_start() {
                        continue;
                    }
                    // With the end that it meets: replay tells by it a reset from a step forward.
                    EntryHeader {
                        previous_end: log.end_offset(),
                        ..small_entry(Kind::LogStart, log.id().key(), *offset)
                    }
                }
                Operation::Delete { log } => small_entry(Kind::Delete, log.id().key(), 0),
                Operation::Swap { .. } | Operation::Barrier { .. } => continue,
            };
            self.round.buffer.begin(&header);
        }
        if self.round.buffer.is_empty() {
            return Ok(());
        }
        let id = RoundId { sequence: self.sequence + 1, attempt: self.attempt };
        let result = self.ring.write(id.sequence, self.round.buffer.seal(id, self.salt));
        match result {
            Ok(()) => {
                self.attempt = 0;
                self.round.is_journaled = true;
                for flushed in self.flushed_pending.drain(..) {
                    if let Some(writer) = flushed.log.writer().as_mut() {
                        writer.flushed_sequence = id.sequence;
                    }
                }
                self.deleted.extend(self.forget_pending.drain(..).map(|key| (key, id.sequence)));
                Ok(())
            }
            Err(error) if is_no_space(&error) => {
                // The next round goes to the same place; the attempt tells it from what is left of this one.
                self.attempt += 1;
                self.cut_back_journaled(done)?;
                self.give_back_operations(entries);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The journal did not take the round: its appends are taken out of the segments again.
    fn cut_back_journaled(&mut self, done: &mut Vec<Completion>) -> io::Result<()> {
        let mut parts = std::mem::take(&mut self.round.parts);
        for part in parts.iter_mut().filter(|part| part.mode == Mode::Journal && !part.is_failed) {
            self.fail_part(part, AppendError::NoSpace, done)?;
        }
        self.round.parts = parts;
        Ok(())
    }

    /// Takes back what a part wrote and answers its entries.
    fn fail_part(&mut self, part: &mut Part, error: AppendError, done: &mut Vec<Completion>) -> io::Result<()> {
        // The helper may be writing what is pending: it must not do so over what comes after the cut.
        self.wait_for_checkpoint()?;
        let log = part.log.clone();
        let mut writer = log.writer();
        let writer = writer.as_mut().expect("it was opened when the round took it");
        log.cut_to(writer, part.previous_end, self.round_number)?;
        part.is_failed = true;
        for end_offset in &part.ends {
            done.push(append_failed(part, *end_offset, error.clone()));
        }
        writer.failed = Some((part.incarnation, error));
        Ok(())
    }

    fn give_back_operations(&mut self, entries: &mut VecDeque<Entry>) {
        for operation in self.round.operations.drain(..).rev() {
            entries.push_front(operation.into_entry());
        }
    }

    /// From here on the round's appends are not taken back, whatever becomes of the process.
    fn announce_writes(&self, done: &mut Vec<Completion>) {
        for part in self.round.parts.iter().filter(|part| !part.is_failed && part.mode != Mode::Async) {
            if part.log.announces_writes() {
                let outcome = Outcome::Written { end_offset: part.end_offset };
                done.push(Completion { log: part.log.clone(), incarnation: part.incarnation, outcome });
            }
        }
    }

    fn complete_async(&mut self, done: &mut Vec<Completion>) {
        for part in self.round.parts.iter().filter(|part| part.mode == Mode::Async && !part.is_failed) {
            done.push(flushed(part));
        }
    }
}

fn small_entry(kind: Kind, key: LogKey, offset: i64) -> EntryHeader {
    EntryHeader { kind, key, leader_epoch: -1, previous_end: offset, base_offset: offset, end_offset: offset }
}

/// The entry said where it would end; what its batches say counts.
fn check_end(part: &Part) -> Result<(), AppendFailure> {
    if part.log.end_offset() == part.end_offset { Ok(()) } else { Err(AppendFailure::Broken) }
}

fn start_writeback(writer: &Writer, files: &FileCache) -> io::Result<()> {
    for (segment, _) in &writer.unsynced {
        segment.log_file(files, OpenMode::Write)?.start_writeback();
    }
    Ok(())
}

fn append_failed(part: &Part, end_offset: i64, error: AppendError) -> Completion {
    let outcome = Outcome::AppendFailed { end_offset, error };
    Completion { log: part.log.clone(), incarnation: part.incarnation, outcome }
}

pub(super) fn flushed(part: &Part) -> Completion {
    let outcome = Outcome::Flushed { end_offset: part.end_offset };
    Completion { log: part.log.clone(), incarnation: part.incarnation, outcome }
}
