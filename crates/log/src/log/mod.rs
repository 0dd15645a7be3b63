//! A partition's log: shared by the journal, which alone writes, and by readers, which need neither the journal nor a lock
//! that it holds during I/O.
//!
//! What a reader sees is a [`View`]: an immutable list of segments, swapped as a whole when segments come or go. A log that
//! nobody touched since a clean start holds no view at all: it is opened by the first who reads or writes.

mod lookup;
mod open;
mod read;
mod retention;
mod swap;
mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::epochs::Epochs;
use crate::file_cache::FileCache;
use crate::ids::{LogConfig, LogId};
use crate::producers::{ProducerBatch, Producers};
use crate::segment::Segment;
use crate::vfs::Vfs;

pub use lookup::TimestampOffset;
pub(crate) use open::EPOCH_CHECKPOINT;
pub use read::{ReadOutcome, ReadRequest};
pub(crate) use write::{AppendFailure, WriteContext, Writer};

use read::Hints;

/// The segments that a reader may use, by rising offset; the last one is appended to.
#[derive(Default)]
pub(crate) struct View {
    /// Another one after each cut: positions that were remembered before do not hold any more.
    pub generation: u64,
    pub segments: Vec<Arc<Segment>>,
}

impl View {
    /// The segment that holds `offset`, if one does.
    pub fn segment_at(&self, offset: i64) -> Option<usize> {
        self.segments.partition_point(|segment| segment.base_offset <= offset).checked_sub(1)
    }
}

/// How much a log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub size_bytes: u64,
    pub segments: usize,
}

/// A log. See the crate's head for who may do what.
pub struct Log {
    id: LogId,
    directory: PathBuf,
    pub(crate) vfs: Arc<dyn Vfs>,
    pub(crate) files: Arc<FileCache>,
    config: ArcSwap<LogConfig>,
    log_start: AtomicI64,
    end_offset: AtomicI64,
    /// Compaction has gone up to here.
    cleaned_end: AtomicI64,
    /// Of a log that is replicated, when it has begun to be told; -1 before.
    high_watermark: AtomicI64,
    high_watermark_at_start: i64,
    announces_writes: AtomicBool,
    is_being_cleaned: AtomicBool,
    is_deleted: AtomicBool,
    view: ArcSwapOption<View>,
    hints: Mutex<Hints>,
    epochs: Mutex<Epochs>,
    producers: Mutex<Producers>,
    /// While it is not opened.
    unopened_extent: OnceLock<Extent>,
    /// The journal's own state of this log. Others take it only to open a log that is not open yet.
    writer: Mutex<Option<Box<Writer>>>,
}

/// What a log is made of when it is not opened yet.
pub(crate) struct LogStart {
    pub id: LogId,
    pub config: LogConfig,
    pub directory: PathBuf,
    pub log_start: i64,
    pub end_offset: i64,
    pub cleaned_end: i64,
    /// What the checkpoint says.
    pub high_watermark: i64,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Log({} {}..{})", self.id.directory_name(), self.log_start(), self.end_offset())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    pub(crate) fn new(vfs: Arc<dyn Vfs>, files: Arc<FileCache>, start: LogStart) -> Log {
        Log {
            id: start.id,
            directory: start.directory,
            vfs,
            files,
            config: ArcSwap::from_pointee(start.config),
            log_start: AtomicI64::new(start.log_start),
            end_offset: AtomicI64::new(start.end_offset),
            cleaned_end: AtomicI64::new(start.cleaned_end),
            high_watermark: AtomicI64::new(-1),
            high_watermark_at_start: start.high_watermark,
            announces_writes: AtomicBool::new(false),
            is_being_cleaned: AtomicBool::new(false),
            is_deleted: AtomicBool::new(false),
            view: ArcSwapOption::empty(),
            hints: Mutex::default(),
            epochs: Mutex::default(),
            producers: Mutex::default(),
            unopened_extent: OnceLock::new(),
            writer: Mutex::new(None),
        }
    }

    /// A log whose directory was just made: there is nothing to open.
    pub(crate) fn new_empty(vfs: Arc<dyn Vfs>, files: Arc<FileCache>, start: LogStart) -> Log {
        let log = Log::new(vfs, files, start);
        log.view.store(Some(Arc::default()));
        *lock(&log.writer) = Some(Box::default());
        log
    }

    pub fn id(&self) -> &LogId {
        &self.id
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn config(&self) -> LogConfig {
        **self.config.load()
    }

    pub(crate) fn set_config(&self, config: LogConfig) {
        self.config.store(Arc::new(config));
    }

    /// The first offset that may be read.
    pub fn log_start(&self) -> i64 {
        self.log_start.load(Ordering::Acquire)
    }

    pub(crate) fn set_log_start(&self, offset: i64) {
        self.log_start.store(offset, Ordering::Release);
        lock(&self.epochs).cut_start(offset);
    }

    /// The next offset to be written; what is below is written, not necessarily durable.
    pub fn end_offset(&self) -> i64 {
        self.end_offset.load(Ordering::Acquire)
    }

    /// What the last checkpoint before this start had as the high watermark.
    pub fn high_watermark_at_start(&self) -> i64 {
        self.high_watermark_at_start
    }

    /// The high watermark of a replicated log; None while nobody has told it.
    pub fn high_watermark(&self) -> Option<i64> {
        Some(self.high_watermark.load(Ordering::Relaxed)).filter(|offset| *offset >= 0)
    }

    /// For the checkpoint.
    pub fn note_high_watermark(&self, offset: i64) {
        self.high_watermark.store(offset, Ordering::Relaxed);
        self.files.high_watermark_moved();
    }

    /// Whether appends complete twice: when they are written, for followers, and when they are durable.
    pub fn announce_writes(&self, announces: bool) {
        self.announces_writes.store(announces, Ordering::Relaxed);
    }

    pub(crate) fn announces_writes(&self) -> bool {
        self.announces_writes.load(Ordering::Relaxed)
    }

    /// What is below was compacted; 0 when nothing was.
    pub fn cleaned_end(&self) -> i64 {
        self.cleaned_end.load(Ordering::Acquire)
    }

    pub(crate) fn set_cleaned_end(&self, offset: i64) {
        self.cleaned_end.store(offset, Ordering::Release);
    }

    /// Bytes of all segments. Opens the log.
    pub fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.opened()?.segments.iter().map(|segment| segment.size_bytes()).sum())
    }

    /// Bytes and number of the segments, without opening a log that nobody has used yet: then its directory is listed once, for
    /// nothing in it changes until it is opened.
    pub fn extent(&self) -> io::Result<Extent> {
        if let Some(view) = self.view.load_full() {
            let size_bytes = view.segments.iter().map(|segment| segment.size_bytes()).sum();
            return Ok(Extent { size_bytes, segments: view.segments.len() });
        }
        if let Some(extent) = self.unopened_extent.get() {
            return Ok(*extent);
        }
        let extent = open::extent_on_disk(self)?;
        Ok(*self.unopened_extent.get_or_init(|| extent))
    }

    /// How many segments there are. Opens the log.
    pub fn segments_len(&self) -> io::Result<usize> {
        Ok(self.opened()?.segments.len())
    }

    /// Whether its directory was given up: nothing can be read or written any more.
    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// The leader epoch of the batch that holds `offset`. Opens the log.
    pub fn epoch_for(&self, offset: i64) -> io::Result<Option<i32>> {
        self.opened()?;
        Ok(lock(&self.epochs).of(offset))
    }

    /// The epoch of the last batch. Opens the log.
    pub fn latest_epoch(&self) -> io::Result<Option<i32>> {
        self.opened()?;
        Ok(lock(&self.epochs).latest())
    }

    /// For a client of the leader of `leader_epoch`: the largest epoch up to `epoch` that has batches, and the offset where it
    /// ends; `(epoch, log end)` when none has; `(-1, -1)` for an epoch that is yet to come. Opens the log.
    pub fn epoch_end_offset(&self, epoch: i32, leader_epoch: i32) -> io::Result<(i32, i64)> {
        self.opened()?;
        // In this order: what is appended in between is of an epoch that is known by then.
        let log_end = self.end_offset();
        Ok(lock(&self.epochs).end_offset_at_leader(epoch, leader_epoch, log_end))
    }

    /// For another replica, of a log whose own epoch is above all that it holds: the same, but an epoch above the latest one
    /// ends at `log_end`. `(-1, log start)` for a log without batches.
    pub fn replica_epoch_end(&self, epoch: i32, log_end: i64) -> io::Result<(i32, i64)> {
        self.opened()?;
        let epochs = lock(&self.epochs);
        Ok(match epochs.latest() {
            None => (-1, self.log_start()),
            Some(latest) if epoch >= latest => (latest, log_end),
            Some(_) => epochs.end_offset(epoch, log_end),
        })
    }

    /// The last batches of all idempotent producers, in the order of the log. Opens the log.
    pub fn producer_batches(&self) -> io::Result<Vec<ProducerBatch>> {
        self.opened()?;
        Ok(lock(&self.producers).batches())
    }

    pub(crate) fn writer(&self) -> MutexGuard<'_, Option<Box<Writer>>> {
        lock(&self.writer)
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        let old = self.view.load_full().unwrap_or_default();
        let mut view = View { generation: old.generation, segments: old.segments.clone() };
        change(&mut view);
        self.view.store(Some(Arc::new(view)));
    }
}
