//! The journal: the one writer of a data directory.
//!
//! ```text
//! caller's thread:  loop { journal.write(queue) → segments and journal file written; journal.sync() → answered }
//! ```
//!
//! A **round** takes what is queued: large appends are written into their segments, small ones gather in memory until there is
//! more of them, all entries go into the journal with one write; one sync, then the completions. It is a plain object: the thread that calls it belongs to the caller. Only the syncs that
//! free a journal file go to a helper thread, where the file system says that this is allowed.
//!
//! The rules that make a crash at any point harmless are noted where they are kept; `recovery` is their other half.

mod checkpoint;
mod create;
mod directory;
mod finish;
mod format;
mod high_watermarks;
mod points;
mod recovery;
mod ring;
mod round;
mod swap;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::compaction::Cleaned;
use crate::error::{AppendError, DirFailed, OpenError};
use crate::file_cache::FileCache;
use crate::ids::{LogConfig, LogId, LogKey};
use crate::log::Log;
use crate::vfs::{LockGuard, Vfs};

use checkpoint::Helper;
use format::Salt;
use points::PointsWriter;
use ring::Ring;
use round::{PendingFlushed, Round};

/// The folder of the journal within a data directory.
pub const JOURNAL_DIRECTORY: &str = "__journal";
/// Says whose a partition's directory is.
pub const PARTITION_METADATA: &str = "partition.metadata";

/// Where, whose and how large.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    pub path: PathBuf,
    pub node_id: i32,
    pub cluster_id: String,
    /// Size of each of the four journal files.
    pub file_bytes: u64,
    /// A log with this much pending in a round syncs its segment instead of going through the journal.
    pub bypass_bytes: usize,
    pub round_bytes_max: usize,
    pub open_files_max: usize,
    /// What all logs together may have in the journal and not in their segments yet; beyond it each write goes to both.
    pub pending_bytes_max: usize,
    /// How long a directory that was set aside stays.
    pub stray_delay_ms: i64,
    /// So many logs are recovered at a time when the process did not stop in good order.
    pub recovery_threads: usize,
}

impl JournalOptions {
    pub const FILE_BYTES: u64 = 64 << 20;
    pub const BYPASS_BYTES: usize = 512 << 10;
    pub const ROUND_BYTES_MAX: usize = 8 << 20;
    pub const OPEN_FILES_MAX: usize = 1024;
    pub const PENDING_BYTES_MAX: usize = 32 << 20;
    pub const STRAY_DELAY_MS: i64 = 60_000;
    pub const RECOVERY_THREADS: usize = 2;

    pub fn new(path: impl Into<PathBuf>, node_id: i32, cluster_id: impl Into<String>) -> JournalOptions {
        JournalOptions {
            path: path.into(),
            node_id,
            cluster_id: cluster_id.into(),
            file_bytes: Self::FILE_BYTES,
            bypass_bytes: Self::BYPASS_BYTES,
            round_bytes_max: Self::ROUND_BYTES_MAX,
            open_files_max: Self::OPEN_FILES_MAX,
            pending_bytes_max: Self::PENDING_BYTES_MAX,
            stray_delay_ms: Self::STRAY_DELAY_MS,
            recovery_threads: Self::RECOVERY_THREADS,
        }
    }
}

/// What a start found.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The last stop was a clean one: nothing was replayed.
    pub clean: bool,
    pub logs: Vec<RecoveredLog>,
    pub replayed_rounds: u64,
    pub replayed_entries: u64,
}

/// One log that was found.
#[derive(Clone, Debug)]
pub struct RecoveredLog {
    pub id: LogId,
    pub log_start: i64,
    pub end: i64,
    /// Everything below is on the disk; after a start that is all there is.
    pub flushed_end: i64,
    /// Why the log cannot be opened. Its files were not touched.
    pub damaged: Option<String>,
}

/// What a partition asks for. Entries of one log take effect in their order.
#[derive(Clone, Debug)]
pub enum Entry {
    /// Whole batches, patched. `base_offset` is the end of the log before, `end_offset` the one after.
    Append {
        log: Arc<Log>,
        incarnation: u32,
        leader_epoch: i32,
        base_offset: i64,
        end_offset: i64,
        max_timestamp: i64,
        batches: Vec<Bytes>,
    },
    /// Everything from `end_offset` on goes (the batch that holds it, too).
    Truncate {
        log: Arc<Log>,
        end_offset: i64,
    },
    /// What is below `offset` is no longer needed; beyond the end: all goes, and the log begins there.
    LogStart {
        log: Arc<Log>,
        offset: i64,
    },
    Delete {
        log: Arc<Log>,
    },
    Configure {
        log: Arc<Log>,
        config: LogConfig,
    },
    /// A cleaned segment takes the place of those that it was made from.
    Swap {
        log: Arc<Log>,
        cleaned: Arc<Cleaned>,
    },
    /// Compaction has gone up to `end_offset`. Not answered.
    CleanedTo {
        log: Arc<Log>,
        end_offset: i64,
    },
    /// Answered when all earlier entries of the log are done.
    Barrier {
        log: Arc<Log>,
        token: u64,
    },
}

impl Entry {
    pub fn log(&self) -> &Arc<Log> {
        match self {
            Entry::Append { log, .. }
            | Entry::Truncate { log, .. }
            | Entry::LogStart { log, .. }
            | Entry::Delete { log }
            | Entry::Configure { log, .. }
            | Entry::Swap { log, .. }
            | Entry::CleanedTo { log, .. }
            | Entry::Barrier { log, .. } => log,
        }
    }

    /// What it holds in memory until it is taken.
    pub fn size_bytes(&self) -> usize {
        match self {
            Entry::Append { batches, .. } => batches.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }
}

/// Something that was asked for is done, or not.
#[derive(Clone, Debug)]
pub struct Completion {
    pub log: Arc<Log>,
    /// Of appends; otherwise 0.
    pub incarnation: u32,
    pub outcome: Outcome,
}

#[derive(Clone, Debug)]
pub enum Outcome {
    /// Appends up to here are written and will not be taken back, but may not be durable yet: followers may have them. Only
    /// told of logs that ask for it, see [`Log::announce_writes`](crate::Log::announce_writes).
    Written {
        end_offset: i64,
    },
    /// All appends up to here are as durable as the log's `flush` asks for.
    Flushed {
        end_offset: i64,
    },
    /// One entry was not appended. What follows of its incarnation fails too.
    AppendFailed {
        end_offset: i64,
        error: AppendError,
    },
    Truncated,
    LogStartDurable {
        offset: i64,
    },
    Deleted,
    Swapped,
    /// What it was made from changed meanwhile, or there was no room: nothing was done, and its files are gone.
    SwapRefused,
    Drained {
        token: u64,
        end_offset: i64,
    },
}

/// What is known of a partition's directory.
struct Known {
    id: LogId,
    log_start: i64,
    end: i64,
    cleaned_end: i64,
    high_watermark: i64,
    /// The sequence of its recovery point, for a log that stays as it was found.
    sequence: u64,
    damaged: Option<String>,
    /// Once somebody asked for it.
    log: Option<Arc<Log>>,
}

/// Something to be unlinked when it is due.
struct Removal {
    due_ms: i64,
    path: PathBuf,
    is_directory: bool,
}

/// The writer of one data directory.
pub struct Journal {
    vfs: Arc<dyn Vfs>,
    options: JournalOptions,
    files: Arc<FileCache>,
    salt: Salt,
    starts: u64,
    points_writer: PointsWriter,
    ring: Ring,
    known: BTreeMap<LogKey, Known>,
    /// Directory names and the topic ids in them; `None` where there is none that can be read.
    names: BTreeMap<String, Option<LogKey>>,
    /// Deleted in this life, until the recovery points are later.
    deleted: BTreeMap<LogKey, u64>,
    round: Round,
    /// The last round that was synced in the journal file.
    sequence: u64,
    attempt: u32,
    /// Counts all rounds, those without a journal write too: what is unsynced since when.
    round_number: u64,
    /// Recovery points of this sequence are on the disk.
    durable_sequence: u64,
    flushed_pending: Vec<PendingFlushed>,
    forget_pending: Vec<LogKey>,
    /// Logs with something that is not synced.
    dirty: Vec<Arc<Log>>,
    /// Logs with something that is not in their segments yet.
    pending: VecDeque<Arc<Log>>,
    helper: Helper,
    removals: VecDeque<Removal>,
    /// Directories that are aside, in this life or since an earlier one; they are removed when they have been for a while.
    strays: Vec<PathBuf>,
    cleaner_checkpoint_changed: bool,
    high_watermarks_due_ms: i64,
    failed: Option<DirFailed>,
    _lock: Box<dyn LockGuard>,
}

impl Journal {
    /// Locks the directory, checks whose it is, and brings it to where it was: after this nothing needs to be replayed.
    pub fn open(vfs: Arc<dyn Vfs>, options: JournalOptions) -> Result<(Journal, Recovery), OpenError> {
        directory::open(vfs, options)
    }

    pub fn path(&self) -> &Path {
        &self.options.path
    }

    /// Whether [`Journal::write`] has something to do even if the queue is empty.
    pub fn wants_round(&self) -> bool {
        !self.flushed_pending.is_empty() || !self.forget_pending.is_empty()
    }

    fn check_failed(&self) -> Result<(), DirFailed> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The disk is not to be trusted any more.
    fn fail(&mut self, source: io::Error) -> DirFailed {
        let failed = DirFailed { path: self.options.path.clone(), source: Arc::new(source) };
        self.failed.get_or_insert_with(|| failed.clone());
        failed
    }

    fn note_dirty(&mut self, log: &Arc<Log>, is_listed: &mut bool) {
        if !std::mem::replace(is_listed, true) {
            self.dirty.push(log.clone());
        }
    }
}
