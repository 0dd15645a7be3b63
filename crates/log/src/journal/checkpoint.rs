//! Recovery points, and with them the journal files that may be written over.
//!
//! A checkpoint notes the end of each log and the sequence of the journal first, then writes what is pending, syncs what is not
//! synced, and writes the points: so what they say is true when they say it.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use super::points::{Point, Points, PointsWriter};
use super::{Journal, ring};
use crate::error::DirFailed;
use crate::file_cache::FileCache;
use crate::header_guard::{self, GuardEntry};
use crate::log::Log;
use crate::segment::Segment;
use crate::vfs::{OpenMode, Vfs, VfsFile, is_no_space};

/// More than this, and one `syncfs` is cheaper.
pub(super) const SYNCS_MAX: usize = 32;
/// Without threads a checkpoint takes up to so many rounds, now more and now fewer.
const ROUNDS_LATER_MAX: u64 = 80;

/// What works beside the journal: at most one checkpoint and one filling of a file.
#[derive(Default)]
pub(super) struct Helper {
    checkpoint: Option<(CheckpointScope, Running)>,
    /// A file was filled since the last one began.
    wants_checkpoint: bool,
    filling: Option<Filling>,
}

/// A checkpoint beside the journal.
enum Running {
    Thread(JoinHandle<io::Result<()>>),
    /// Where there are no threads it is done a few rounds later, so that a simulated disk sees the same order of things.
    Later {
        job: CheckpointJob,
        rounds: u32,
    },
}

struct Filling {
    index: usize,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<bool>>,
}

/// What a checkpoint covers.
struct CheckpointScope {
    logs: Vec<Arc<Log>>,
    sequence: u64,
    round: u64,
}

/// A segment as it was when the checkpoint began.
struct DirtySegment {
    log: Arc<Log>,
    segment: Arc<Segment>,
    guard: GuardEntry,
}

/// The slow part of a checkpoint.
struct CheckpointJob {
    vfs: Arc<dyn Vfs>,
    files: Arc<FileCache>,
    root: PathBuf,
    segments: Vec<DirtySegment>,
    directories: Vec<Arc<Log>>,
    points: Points,
    points_writer: PointsWriter,
}

impl Running {
    fn is_due(&mut self) -> bool {
        match self {
            Running::Thread(thread) => thread.is_finished(),
            Running::Later { rounds, .. } => {
                *rounds = rounds.saturating_sub(1);
                *rounds == 0
            }
        }
    }
}

impl CheckpointJob {
    fn run(&self) -> io::Result<()> {
        let one_by_one = self.segments.len() + self.directories.len() <= SYNCS_MAX;
        for dirty in &self.segments {
            self.ignore_gone(&dirty.log, dirty.segment.write_pending(&self.files))?;
            let synced = self.guard(dirty).and_then(|guard| if one_by_one { self.sync(dirty, guard) } else { Ok(()) });
            self.ignore_gone(&dirty.log, synced)?;
        }
        if one_by_one {
            for log in &self.directories {
                self.ignore_gone(log, self.vfs.sync_directory(log.directory()))?;
            }
        } else {
            self.vfs.sync_filesystem(&self.root)?;
        }
        self.points_writer.write(&*self.vfs, &self.points)
    }

    fn guard(&self, dirty: &DirtySegment) -> io::Result<Option<Arc<dyn VfsFile>>> {
        if dirty.guard.end_position == 0 {
            return Ok(None);
        }
        header_guard::append(&*self.vfs, &dirty.segment.guard_path(), dirty.guard).map(Some)
    }

    fn sync(&self, dirty: &DirtySegment, guard: Option<Arc<dyn VfsFile>>) -> io::Result<()> {
        guard.map_or(Ok(()), |guard| guard.sync_data())?;
        dirty.segment.log_file(&self.files, OpenMode::Write)?.sync_data()
    }

    /// A log that was deleted, or a segment that was removed meanwhile, needs no sync.
    fn ignore_gone(&self, log: &Log, result: io::Result<()>) -> io::Result<()> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound || log.is_deleted() => Ok(()),
            other => other,
        }
    }
}

impl Journal {
    /// Room for a round in the current file or in the next; `false` when no file is free and the disk is full.
    pub(super) fn make_room(&mut self, bytes: u64) -> io::Result<bool> {
        if self.ring.has_room(bytes) && !self.ring.is_next_better(self.durable_sequence) {
            return Ok(true);
        }
        if !self.ring.is_next_free(self.durable_sequence) {
            self.checkpoint_now()?;
        }
        if !self.ring.is_next_free(self.durable_sequence) {
            return Ok(false);
        }
        self.stop_filling(Some(self.ring.next_index()))?;
        self.ring.switch();
        let on_its_way = self.helper.checkpoint.as_ref().map_or(0, |(scope, _)| scope.sequence);
        if !self.ring.has_spare(self.durable_sequence.max(on_its_way)) {
            self.start_checkpoint_soon()?;
        }
        Ok(true)
    }

    /// Checkpoints here and now, whatever it takes. A full disk is no error: the points stay as they are.
    pub(super) fn checkpoint_now(&mut self) -> io::Result<()> {
        self.wait_for_checkpoint()?;
        let (scope, job) = self.prepare_checkpoint();
        let result = job.run();
        self.finish_checkpoint(scope, result)
    }

    pub(super) fn start_checkpoint_soon(&mut self) -> io::Result<()> {
        self.helper.wants_checkpoint = true;
        self.start_wanted_checkpoint()
    }

    /// Begins a checkpoint beside the journal; while one is on its way the next has to wait, not the journal.
    fn start_wanted_checkpoint(&mut self) -> io::Result<()> {
        if !self.helper.wants_checkpoint || self.helper.checkpoint.is_some() {
            return Ok(());
        }
        self.helper.wants_checkpoint = false;
        let (scope, job) = self.prepare_checkpoint();
        if !self.vfs.has_helper_threads() {
            let rounds = (self.sequence * 37 % ROUNDS_LATER_MAX) as u32 + 1;
            self.helper.checkpoint = Some((scope, Running::Later { job, rounds }));
            return Ok(());
        }
        let thread = std::thread::Builder::new().name("journal-helper".into()).spawn(move || job.run())?;
        self.helper.checkpoint = Some((scope, Running::Thread(thread)));
        Ok(())
    }

    fn prepare_checkpoint(&mut self) -> (CheckpointScope, CheckpointJob) {
        let logs = std::mem::take(&mut self.dirty);
        let (mut segments, mut directories) = (Vec::new(), Vec::new());
        for log in &logs {
            let mut writer = log.writer();
            let Some(writer) = writer.as_mut() else { continue };
            writer.is_listed_dirty = false;
            let dirty = |segment: &Arc<Segment>| DirtySegment {
                log: log.clone(),
                segment: segment.clone(),
                guard: segment.guard(),
            };
            segments.extend(writer.unguarded.iter().map(|(segment, _)| dirty(segment)));
            if writer.directory_unsynced.is_some() {
                directories.push(log.clone());
            }
        }
        let job = CheckpointJob {
            vfs: self.vfs.clone(),
            files: self.files.clone(),
            root: self.options.path.clone(),
            segments,
            directories,
            points: self.points(false),
            points_writer: self.points_writer.clone(),
        };
        let scope = CheckpointScope { logs, sequence: self.sequence, round: self.round_number };
        // What is written from now on is not covered.
        self.round_number += 1;
        (scope, job)
    }

    /// What holds when everything is synced.
    pub(super) fn points(&self, is_clean: bool) -> Points {
        let mut logs = BTreeMap::new();
        for (key, known) in &self.known {
            let point = match &known.log {
                Some(log) => Point { end: log.end_offset(), log_start: log.log_start(), sequence: self.sequence },
                None => Point { end: known.end, log_start: known.log_start, sequence: known.sequence },
            };
            logs.insert(*key, point);
        }
        Points { is_clean, starts: self.starts, sequence: self.sequence, salt: self.salt, logs }
    }

    fn finish_checkpoint(&mut self, scope: CheckpointScope, result: io::Result<()>) -> io::Result<()> {
        match result {
            Ok(()) => {
                for log in &scope.logs {
                    if let Some(writer) = log.writer().as_mut() {
                        writer.synced(scope.round);
                        writer.guarded(scope.round);
                    }
                }
                self.durable_sequence = scope.sequence;
                self.deleted.retain(|_, sequence| *sequence > scope.sequence);
                Ok(())
            }
            Err(error) if is_no_space(&error) => {
                for log in &scope.logs {
                    if let Some(writer) = log.writer().as_mut() {
                        self.note_dirty(log, &mut writer.is_listed_dirty);
                    }
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Takes the result of the helper if it is done.
    pub(super) fn poll_helper(&mut self) -> Result<(), DirFailed> {
        let mut result = Ok(());
        if self.helper.checkpoint.as_mut().is_some_and(|(_, running)| running.is_due()) {
            result = self.wait_for_checkpoint();
        }
        result = result.and_then(|()| self.start_wanted_checkpoint());
        if self.helper.filling.as_ref().is_some_and(|filling| filling.thread.is_finished()) {
            result = result.and(self.finish_filling());
        }
        result.map_err(|error| self.fail(error))
    }

    /// The helper is through with its checkpoint. Before a cut, too: it must not say anything of what is cut.
    pub(super) fn wait_for_checkpoint(&mut self) -> io::Result<()> {
        let Some((scope, running)) = self.helper.checkpoint.take() else { return Ok(()) };
        let result = match running {
            Running::Thread(thread) => {
                thread.join().unwrap_or_else(|_| Err(io::Error::other("the journal's helper panicked")))
            }
            Running::Later { job, .. } => job.run(),
        };
        self.finish_checkpoint(scope, result)
    }

    /// Fills fresh journal files; `true` when there is more to do.
    pub(super) fn help_ring(&mut self) -> io::Result<bool> {
        if self.helper.checkpoint.as_mut().is_some_and(|(_, running)| running.is_due()) {
            self.wait_for_checkpoint()?;
        }
        if let Some(filling) = &self.helper.filling {
            if !filling.thread.is_finished() {
                return Ok(false);
            }
            self.finish_filling()?;
        }
        let Some((index, file, from)) = self.ring.unfilled() else { return Ok(false) };
        let file_bytes = self.ring.file_bytes();
        let stop = Arc::new(AtomicBool::new(false));
        if !self.vfs.has_helper_threads() {
            return match ring::fill(&*file, from, file_bytes, &stop) {
                Err(error) if !is_no_space(&error) => Err(error),
                result => {
                    self.ring.filled(index);
                    Ok(result.is_ok())
                }
            };
        }
        let seen = stop.clone();
        let work = move || ring::fill(&*file, from, file_bytes, &seen);
        let thread = std::thread::Builder::new().name("journal-filler".into()).spawn(work)?;
        self.helper.filling = Some(Filling { index, stop, thread });
        Ok(false)
    }

    fn finish_filling(&mut self) -> io::Result<()> {
        let Some(filling) = self.helper.filling.take() else { return Ok(()) };
        let result = filling.thread.join().unwrap_or_else(|_| Err(io::Error::other("the filling thread panicked")));
        match result {
            Ok(false) => Ok(()),
            // Without room it grows when it is used, or that fails as an answer.
            Err(error) if !is_no_space(&error) => Err(error),
            _ => {
                self.ring.filled(filling.index);
                Ok(())
            }
        }
    }

    /// Stops the filling of one file, or of any.
    pub(super) fn stop_filling(&mut self, index: Option<usize>) -> io::Result<()> {
        match &self.helper.filling {
            Some(filling) if index.is_none_or(|index| index == filling.index) => {
                filling.stop.store(true, Ordering::Relaxed);
                self.finish_filling()
            }
            _ => Ok(()),
        }
    }

    /// Nothing runs beside the journal after this.
    pub(super) fn stop_helpers(&mut self) -> io::Result<()> {
        let filling = self.stop_filling(None);
        self.wait_for_checkpoint().and(filling)
    }

    /// The last points of a clean stop; everything is synced.
    pub(super) fn write_clean_points(&mut self) -> io::Result<()> {
        // A damaged log must be looked at again by the next start.
        let is_sound = self.known.values().all(|known| known.damaged.is_none());
        let points = self.points(is_sound);
        self.points_writer.write(&*self.vfs, &points)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // The lock goes with the journal: nothing of it may write after that.
        self.helper.checkpoint.take_if(|(_, running)| matches!(running, Running::Later { .. }));
        if let Err(error) = self.stop_helpers() {
            ::log::warn!("the journal's helper failed at the end: {error}");
        }
    }
}
