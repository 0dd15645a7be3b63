//! One error for each situation of a caller.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a data directory cannot be opened. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the data directory {} is in use by another process: stop it, or choose another directory", .0.display())]
    InUse(PathBuf),
    #[error(
        "the data directory {} belongs to node {found}, this is node {expected}: set node.id={found}, or choose another directory",
        .path.display()
    )]
    OtherNode { path: PathBuf, found: i32, expected: i32 },
    #[error(
        "the data directory {} belongs to cluster {found}, this is cluster {expected}: set the cluster id to {found}, or choose another directory",
        .path.display()
    )]
    OtherCluster { path: PathBuf, found: String, expected: String },
    #[error("the data directory {} was written by a newer version ({found}): start that version, or choose another directory", .path.display())]
    NewerVersion { path: PathBuf, found: String },
    #[error("no room in {}: the journal must be replayed before it can be opened, free some space and start again", .0.display())]
    NoSpace(PathBuf),
    #[error("the data directory {} is corrupt: {problem}; restore it, or empty it and let the replicas be copied from other brokers", .path.display())]
    Corrupt { path: PathBuf, problem: String },
    #[error("the data directory {} cannot be opened: {source}: make it one that can be written here, or choose another", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl OpenError {
    /// For `map_err`: a full disk is told apart from a broken one.
    pub(crate) fn at(path: &Path) -> impl Fn(io::Error) -> OpenError + '_ {
        move |source| match crate::vfs::is_no_space(&source) {
            true => OpenError::NoSpace(path.to_owned()),
            false => OpenError::Io { path: path.to_owned(), source },
        }
    }
}

/// Why one log could not be opened or made; the others go on.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LogError {
    #[error("no room")]
    NoSpace,
    /// It stays untouched on disk, for repair from a peer.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    #[error("{0}")]
    Io(Arc<io::Error>),
}

impl From<io::Error> for LogError {
    fn from(error: io::Error) -> LogError {
        if crate::vfs::is_no_space(&error) { LogError::NoSpace } else { LogError::Io(Arc::new(error)) }
    }
}

/// Why an append was not done. The log was cut back to its last good end.
#[derive(Clone, Debug, thiserror::Error)]
pub enum AppendError {
    #[error("no room")]
    NoSpace,
    #[error("{0}")]
    Io(Arc<io::Error>),
    /// The entry does not fit the end of the log, or is no sequence of whole batches.
    #[error("the append does not fit the log")]
    Broken,
}

/// Why a read has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("offset out of range: the log holds {start} to {end}")]
    OutOfRange { start: i64, end: i64 },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the log is corrupt: {0}")]
    Corrupt(String),
}

/// The disk failed under the journal: nothing more may be written to this directory, its replicas go offline.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the data directory {} failed: {source}", .path.display())]
pub struct DirFailed {
    pub path: PathBuf,
    pub source: Arc<io::Error>,
}
