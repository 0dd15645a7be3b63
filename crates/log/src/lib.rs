//! What is on disk: segments, indexes, the journal, recovery.

#![forbid(unsafe_code)]

pub mod dump;
mod epochs;
mod error;
mod file_cache;
mod header_guard;
mod ids;
mod index;
mod journal;
mod log;
mod producers;
mod scan;
mod segment;
mod text;
pub mod vfs;

pub use error::{AppendError, DirFailed, LogError, OpenError, ReadError};
pub use ids::{Flush, LogConfig, LogId, LogKey, LogSpec, parse_directory_name};
pub use journal::{Completion, Entry, JOURNAL_DIRECTORY, Journal, JournalOptions, Outcome, RecoveredLog, Recovery};
pub use log::{Log, ReadOutcome, ReadRequest, TimestampOffset};
pub use producers::ProducerBatch;
