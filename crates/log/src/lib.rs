//! What is on disk: segments, indexes, the journal, recovery.
//!
//! ```text
//! Journal (one for each data directory, turned by one thread of the caller)
//!   write: round ─▶ segment of each log ─▶ journal file      sync: one fdatasync, answers, then cuts and deletions
//!     └─ Log (one for each partition, shared): View of Segments ─▶ .log .index .timeindex .headercrc
//!          readers: Log::read, offset_for_timestamp, … straight from the files
//! ```
//!
//! * `journal/` the one writer: `round` gathers and writes, `finish` syncs and answers, `checkpoint` makes recovery points,
//!   `create` makes directories, `directory` opens and closes, `recovery/` reads the journal, plans, and repairs.
//! * `log/` one partition: `open` after a sound stop, `write` append, roll and cut, `read`, `lookup`, `retention`.
//! * `vfs/` the only way to files; `dump` looks in from outside.
//!
//! Invariants:
//! * Only the journal changes files; a reader never waits for it. What a reader holds is immutable or only grows.
//! * Kafka's files say what Kafka's tools expect, but nothing that was confirmed depends on them beyond `.log`:
//!   indexes, epochs, snapshots and checkpoints can all be made anew.
//! * There is no clock, no randomness and no thread here, except helpers of the journal that fill and sync.
//! * An append that was answered as flushed is there after any power cut, or its log is refused as damaged; bytes are never
//!   served that were not appended.

#![forbid(unsafe_code)]

mod compaction;
pub mod dump;
mod epochs;
mod error;
mod file_cache;
mod header_guard;
mod ids;
mod index;
mod journal;
mod log;
mod pending;
mod producers;
mod scan;
mod segment;
mod text;
pub mod vfs;

pub use compaction::{Clean, CleanError, CleanOptions, CleanStats, CleanWatch, Cleanable, CleanableQuery, Cleaned};
pub use error::{AppendError, DirFailed, LogError, OpenError, ReadError};
pub use ids::{Flush, LogConfig, LogId, LogKey, LogSpec, parse_directory_name};
pub use journal::{
    Completion, Entry, JOURNAL_DIRECTORY, Journal, JournalOptions, Outcome, PARTITION_METADATA, RecoveredLog, Recovery,
};
pub use log::{Extent, Log, ReadOutcome, ReadRequest, TimestampOffset};
pub use producers::ProducerBatch;
