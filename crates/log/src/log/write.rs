//! What the journal does to a log: append, roll, cut. Nothing here syncs; what is not synced yet is noted down.

use std::io::{self, IoSlice};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use capek_wire::BatchHeader;

use super::open::Listing;
use super::{Log, View, lock};
use crate::error::AppendError;
use crate::header_guard;
use crate::index::MemoryIndex;
use crate::producers::Producers;
use crate::scan::{Depth, Scanner, Step};
use crate::segment::{self, Segment, file_name};
use crate::vfs::{OpenMode, is_no_space, remove_file_if_there};

/// Positions in the offset index are 32 bits wide, and Kafka's tools read them as signed.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// The journal's own state of a log that is open.
#[derive(Default)]
pub(crate) struct Writer {
    /// Segments with content that is not synced, and the last round that wrote to each.
    pub unsynced: Vec<(Arc<Segment>, u64)>,
    /// Segments with batches that `.headercrc` says nothing of, and the last round that wrote to each. A bypass syncs a
    /// segment, but only a checkpoint guards it.
    pub unguarded: Vec<(Arc<Segment>, u64)>,
    /// The last round that made or removed a file, if the directory was not synced since.
    pub directory_unsynced: Option<u64>,
    /// The incarnation whose append failed: what else it sent fails too.
    pub failed: Option<(u32, AppendError)>,
    /// The last round that cut this log. Until a recovery point is later, replay may cut it again.
    pub cut_sequence: u64,
    /// The last round that holds a `Flushed` of this log: replay compares it with the files.
    pub flushed_sequence: u64,
    /// Where in the round that is being gathered this log's appends are.
    pub part: Option<(u64, usize)>,
    /// The round that holds an operation on this log: what follows waits for the next.
    pub operation_in_round: u64,
    pub is_listed_dirty: bool,
    pub is_listed_pending: bool,
    pub epochs_changed: bool,
    pub side_files_changed: bool,
    segment_created_ms: i64,
}

/// Why an append failed half-way: the log must be cut back, or the disk is gone.
pub(crate) enum AppendFailure {
    /// The batches do not fit; nothing was written.
    Broken,
    Io(io::Error),
}

impl From<io::Error> for AppendFailure {
    fn from(error: io::Error) -> AppendFailure {
        AppendFailure::Io(error)
    }
}

impl AppendFailure {
    /// What is answered, or the error that ends the directory.
    pub fn into_answer(self) -> Result<AppendError, io::Error> {
        match self {
            AppendFailure::Broken => Ok(AppendError::Broken),
            AppendFailure::Io(error) if is_no_space(&error) => Ok(AppendError::NoSpace),
            AppendFailure::Io(error) if is_shortage(&error) => Ok(AppendError::Io(Arc::new(error))),
            AppendFailure::Io(error) => Err(error),
        }
    }
}

/// Too many open files, or no memory: the disk is sound.
fn is_shortage(error: &io::Error) -> bool {
    const EMFILE: i32 = 24;
    const ENFILE: i32 = 23;
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE)) || error.kind() == io::ErrorKind::OutOfMemory
}

/// Batches for the same segment that go out with one write.
struct Run<'a> {
    segment: Arc<Segment>,
    position: u64,
    slices: Vec<IoSlice<'a>>,
}

/// When and in which round something is written.
#[derive(Clone, Copy)]
pub(crate) struct WriteContext {
    pub round: u64,
    pub now_ms: i64,
    /// The bytes go into the journal, too, so that small writes may wait for each other.
    pub may_defer: bool,
}

impl Writer {
    /// `segment` (or what it replaces) has content that is not synced.
    fn note_unsynced(&mut self, segment: &Arc<Segment>, round: u64) {
        for list in [&mut self.unsynced, &mut self.unguarded] {
            match list.iter_mut().find(|(other, _)| other.base_offset == segment.base_offset) {
                Some(entry) => *entry = (segment.clone(), round),
                None => list.push((segment.clone(), round)),
            }
        }
    }

    /// Only the segments in this range of base offsets are there any more.
    fn retain_segments(&mut self, bases: impl RangeBounds<i64>) {
        for list in [&mut self.unsynced, &mut self.unguarded] {
            list.retain(|(segment, _)| bases.contains(&segment.base_offset));
        }
    }

    /// What rounds up to this one wrote is guarded, too.
    pub fn guarded(&mut self, round: u64) {
        self.unguarded.retain(|(_, last)| *last > round);
    }

    /// Everything that rounds up to this one wrote is on the disk.
    pub fn synced(&mut self, round: u64) {
        self.unsynced.retain(|(_, last)| *last > round);
        self.directory_unsynced = self.directory_unsynced.filter(|last| *last > round);
    }
}

impl Log {
    /// Writes whole batches at the end. On failure the caller cuts back to the end that was before.
    pub(crate) fn append(
        &self,
        writer: &mut Writer,
        pieces: &[IoSlice<'_>],
        context: WriteContext,
    ) -> Result<(), AppendFailure> {
        check_batches(pieces, self.end_offset())?;
        let mut next_offset = self.end_offset();
        let mut run = self.start_run(writer, next_offset, context);
        for piece in pieces {
            let (mut from, mut at) = (0, 0);
            while at < piece.len() {
                let header = BatchHeader::parse(&piece[at..]).map_err(|_| AppendFailure::Broken)?;
                if self.must_roll(writer, &run, &header, context.now_ms) {
                    run.slices.push(IoSlice::new(&piece[from..at]));
                    from = at;
                    self.write_run(writer, &mut run, next_offset, WriteContext { may_defer: false, ..context })?;
                    // A segment begins where the one before ends, even if its first batch comes after a gap.
                    self.roll(writer, &run.segment, next_offset, context)?;
                    run = self.start_run(writer, next_offset, context);
                }
                self.note_batch(writer, &run, &header);
                next_offset = header.next_offset();
                at += header.size_bytes();
                run.position += header.size_bytes() as u64;
            }
            run.slices.push(IoSlice::new(&piece[from..]));
        }
        self.write_run(writer, &mut run, next_offset, context)
    }

    /// The active segment's end, or a first segment.
    fn start_run<'a>(&self, writer: &mut Writer, base_offset: i64, context: WriteContext) -> Run<'a> {
        let view = self.view.load_full().unwrap_or_default();
        let segment = match view.segments.last() {
            Some(segment) => segment.clone(),
            None => self.add_segment(writer, base_offset, context),
        };
        Run { position: segment.size_bytes(), segment, slices: Vec::new() }
    }

    /// A new active segment. Its file is made by the first write.
    fn add_segment(&self, writer: &mut Writer, base_offset: i64, context: WriteContext) -> Arc<Segment> {
        let segment = Segment::active(&self.directory, base_offset, 0, base_offset, MemoryIndex::default());
        self.change_view(|view| view.segments.push(segment.clone()));
        writer.segment_created_ms = context.now_ms;
        segment
    }

    /// `run.position` is where the batch would begin.
    fn must_roll(&self, writer: &Writer, run: &Run<'_>, header: &BatchHeader, now_ms: i64) -> bool {
        if run.position == 0 {
            return false;
        }
        let config = self.config();
        let end_position = run.position + header.size_bytes() as u64;
        if end_position > u64::from(config.segment_bytes).min(SEGMENT_BYTES_MAX)
            || header.last_offset() - run.segment.base_offset > i64::from(i32::MAX)
        {
            return true;
        }
        let memory = run.segment.memory();
        let Some(memory) = &*memory else { return true };
        let age_ms = match memory.first_timestamp {
            Some(first) if first >= 0 && header.max_timestamp >= 0 => header.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(writer.segment_created_ms),
        };
        memory.is_full(config.segment_index_bytes) || age_ms > config.segment_ms
    }

    fn note_batch(&self, writer: &mut Writer, run: &Run<'_>, header: &BatchHeader) {
        if let Some(memory) = &mut *run.segment.memory() {
            memory.note(run.segment.base_offset, run.position, header, self.config().index_interval_bytes);
        }
        if header.producer_id >= 0 {
            lock(&self.producers).note(header);
        }
        writer.epochs_changed |= lock(&self.epochs).note(header.leader_epoch, header.base_offset);
        writer.side_files_changed = true;
    }

    fn write_run(
        &self,
        writer: &mut Writer,
        run: &mut Run<'_>,
        next_offset: i64,
        context: WriteContext,
    ) -> Result<(), AppendFailure> {
        run.slices.retain(|slice| !slice.is_empty());
        if run.slices.is_empty() {
            return Ok(());
        }
        writer.note_unsynced(&run.segment, context.round);
        let start = run.segment.size_bytes();
        if start == 0 {
            // This makes the file, now or when what is pending is written; a checkpoint does that first.
            writer.directory_unsynced = Some(context.round);
        }
        if context.may_defer && run.segment.may_defer((run.position - start) as usize) {
            run.segment.defer(&self.files, &run.slices);
        } else {
            run.segment.write_at_end(&self.files, &run.slices, run.position)?;
        }
        run.segment.grew(run.position, next_offset);
        self.end_offset.store(next_offset, Ordering::Release);
        run.slices.clear();
        Ok(())
    }

    /// Writes what only the journal has so far into the active segment. Nothing is synced.
    pub(crate) fn write_pending(&self) -> io::Result<()> {
        let view = self.view.load_full().unwrap_or_default();
        view.segments.last().map_or(Ok(()), |active| active.write_pending(&self.files))
    }

    /// Closes a segment and begins the next at `base_offset`. Nothing is synced: replay makes the files again if it must.
    fn roll(&self, writer: &mut Writer, closed: &Segment, base_offset: i64, context: WriteContext) -> io::Result<()> {
        closed.write_pending(&self.files)?;
        closed.write_indexes(&*self.vfs)?;
        self.write_what_is_known(writer, base_offset, context)?;
        self.add_segment(writer, base_offset, context);
        closed.close();
        Ok(())
    }

    /// Producers and epochs as they are where a segment begins.
    fn write_what_is_known(&self, writer: &mut Writer, base_offset: i64, context: WriteContext) -> io::Result<()> {
        lock(&self.producers).expire(context.now_ms.saturating_sub(self.config().producer_expiration_ms));
        self.write_snapshot(base_offset)?;
        self.write_epochs(writer)
    }

    /// The next segment begins where this one ends, all of which goes. That needs no room: the disk may be full, and this be what
    /// makes room on it.
    fn give_up_active(&self, writer: &mut Writer, active: &Segment, context: WriteContext) -> io::Result<()> {
        let end_offset = self.end_offset();
        match self.write_what_is_known(writer, end_offset, context) {
            // They are written with the next segment, or at the stop. Until then only this process knows the last batches of producers
            // whose records are all gone.
            Err(error) if is_no_space(&error) => {}
            result => result?,
        }
        self.add_segment(writer, end_offset, context);
        active.close();
        Ok(())
    }

    /// The batch boundary that a cut at `end_offset` comes down to.
    pub(crate) fn cut_boundary(&self, view: &View, end_offset: i64) -> io::Result<i64> {
        if end_offset >= self.end_offset() {
            return Ok(self.end_offset());
        }
        let keep = view.segments.partition_point(|segment| segment.base_offset < end_offset);
        let Some(last) = keep.checked_sub(1).map(|at| &view.segments[at]) else {
            return Ok(end_offset.max(0));
        };
        let mut boundary = last.base_offset;
        if last.size_bytes() == 0 {
            return Ok(boundary);
        }
        let position = last.floor_position(&self.files, end_offset - 1, true)?.unwrap_or(0);
        let reader = last.reader(&self.files)?;
        let mut scanner = Scanner::new(&reader, Depth::Headers, position, last.size_bytes(), last.base_offset);
        while let Step::Batch(batch) = scanner.step()? {
            // A cut within a batch takes the whole batch.
            if batch.header.next_offset() > end_offset {
                break;
            }
            boundary = batch.header.next_offset();
        }
        Ok(boundary)
    }

    /// Cuts everything from `end_offset` (a batch boundary) on off the files.
    pub(crate) fn cut_to(&self, writer: &mut Writer, end_offset: i64, round: u64) -> io::Result<()> {
        let view = self.view.load_full().unwrap_or_default();
        let keep = view.segments.partition_point(|segment| segment.base_offset < end_offset);
        for removed in &view.segments[keep..] {
            removed.discard_pending(&self.files);
            removed.close_files();
            segment::remove_files(&*self.vfs, &self.directory, removed.base_offset)?;
        }
        writer.retain_segments(..end_offset);
        writer.directory_unsynced = Some(round);
        let mut segments = view.segments[..keep].to_vec();
        if let Some(last) = segments.last_mut() {
            *last = self.cut_segment(last, end_offset)?;
            writer.note_unsynced(last, round);
        }
        self.finish_cut(writer, segments, end_offset)
    }

    /// Drops everything; the log goes on, empty, at `offset`.
    pub(crate) fn reset_to(&self, writer: &mut Writer, offset: i64, round: u64) -> io::Result<()> {
        let view = self.view.load_full().unwrap_or_default();
        for removed in &view.segments {
            removed.discard_pending(&self.files);
            removed.close_files();
            segment::remove_files(&*self.vfs, &self.directory, removed.base_offset)?;
        }
        writer.unsynced.clear();
        writer.unguarded.clear();
        writer.directory_unsynced = Some(round);
        lock(&self.epochs).cut_end(i64::MIN);
        *lock(&self.producers) = Producers::default();
        self.finish_cut(writer, Vec::new(), offset)?;
        self.set_log_start(offset);
        Ok(())
    }

    fn cut_segment(&self, segment: &Segment, end_offset: i64) -> io::Result<Arc<Segment>> {
        let reader = segment.reader(&self.files)?;
        let interval_bytes = self.config().index_interval_bytes;
        let (mut memory, mut position) = (MemoryIndex::default(), 0);
        let mut scanner = Scanner::new(&reader, Depth::Headers, 0, segment.size_bytes(), segment.base_offset);
        while let Step::Batch(batch) = scanner.step()? {
            if batch.header.next_offset() > end_offset {
                break;
            }
            memory.note(segment.base_offset, batch.position, &batch.header, interval_bytes);
            position = batch.end_position();
        }
        // A failed write may have left bytes that the size does not count, even in a file that holds nothing else.
        match segment.log_file(&self.files, OpenMode::Write) {
            Ok(file) if file.len()? > position => file.set_len(position)?,
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        header_guard::cut(&*self.vfs, &segment.guard_path(), position)?;
        segment.close_files();
        Ok(segment.cut(&self.directory, position, end_offset, memory, &self.files))
    }

    fn finish_cut(&self, writer: &mut Writer, segments: Vec<Arc<Segment>>, end_offset: i64) -> io::Result<()> {
        self.end_offset.store(end_offset, Ordering::Release);
        if end_offset < self.log_start() {
            self.log_start.store(end_offset, Ordering::Release);
        }
        self.change_view(|view| *view = View { generation: view.generation + 1, segments });
        lock(&self.epochs).cut_end(end_offset);
        writer.epochs_changed = true;
        writer.side_files_changed = true;
        let mut snapshots = Listing::read(self)?.snapshots;
        for offset in snapshots.iter().filter(|offset| **offset > end_offset) {
            remove_file_if_there(&*self.vfs, &self.directory.join(file_name(*offset, "snapshot")))?;
        }
        snapshots.retain(|offset| *offset <= end_offset);
        if !lock(&self.producers).is_empty() {
            let view = self.view.load_full().unwrap_or_default();
            *lock(&self.producers) = self.rebuild_producers(&view, &snapshots)?;
        }
        Ok(())
    }

    /// After a `LogStart` is durable: the segments below it go from the view and are named for removal later.
    /// Returns the paths to remove.
    pub(crate) fn advance_log_start(
        &self,
        writer: &mut Writer,
        offset: i64,
        context: WriteContext,
    ) -> io::Result<Vec<std::path::PathBuf>> {
        self.set_log_start(offset);
        writer.epochs_changed = true;
        let view = self.view.load_full().unwrap_or_default();
        if let Some(active) = view.segments.last()
            && active.size_bytes() > 0
            && self.end_offset() <= offset
        {
            self.give_up_active(writer, &active.clone(), context)?;
        }
        let view = self.view.load_full().unwrap_or_default();
        let gone = (view.segments.partition_point(|segment| segment.next_offset() <= offset))
            .min(view.segments.len().saturating_sub(1));
        let mut paths = Vec::new();
        for segment in &view.segments[..gone] {
            segment.discard_pending(&self.files);
            self.rename_for_removal(segment.base_offset, &segment::EXTENSIONS, &mut paths)?;
        }
        if gone > 0 {
            let first = view.segments[gone].base_offset;
            writer.retain_segments(first..);
            writer.directory_unsynced = Some(context.round);
            self.change_view(|view| {
                view.segments.drain(..gone);
            });
        }
        Ok(paths)
    }

    /// Kafka's way: `.deleted` behind each name, so that a log that begins anew at this offset is not confused with it.
    pub(super) fn rename_for_removal(
        &self,
        base_offset: i64,
        extensions: &[&str],
        paths: &mut Vec<std::path::PathBuf>,
    ) -> io::Result<()> {
        for extension in extensions {
            let from = self.directory.join(file_name(base_offset, extension));
            let to = self.directory.join(file_name(base_offset, extension) + ".deleted");
            match self.vfs.rename(&from, &to) {
                Ok(()) => paths.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if is_no_space(&error) => self.vfs.remove_file(&from)?,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The directory is gone: readers that hold segments may finish, nobody else gets any.
    pub(crate) fn mark_deleted(&self) {
        self.is_deleted.store(true, Ordering::Release);
        for segment in &self.view.load_full().unwrap_or_default().segments {
            segment.discard_pending(&self.files);
            segment.close_files();
        }
        self.view.store(Some(Arc::default()));
        self.log_start.store(0, Ordering::Release);
        self.end_offset.store(0, Ordering::Release);
    }
}

/// Whole batches of rising offsets, from `next_offset` on; gaps are legal (compaction makes them).
fn check_batches(pieces: &[IoSlice<'_>], mut next_offset: i64) -> Result<(), AppendFailure> {
    for piece in pieces {
        let mut at = 0;
        while at < piece.len() {
            let header = BatchHeader::parse(&piece[at..]).map_err(|_| AppendFailure::Broken)?;
            let is_whole = header.size_bytes() <= piece.len() - at;
            if !is_whole || header.magic != 2 || header.base_offset < next_offset || header.last_offset_delta < 0 {
                return Err(AppendFailure::Broken);
            }
            next_offset = header.next_offset();
            at += header.size_bytes();
        }
    }
    Ok(())
}
