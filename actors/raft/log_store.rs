//! Raft's log, vote and marks in a redb file: one transaction for each change, durable before raft is told so.
//!
//! ```text
//!   raft_log     index u64 ─▶ format u8 | postcard of the entry
//!   raft_state   "vote", "committed", "purged" ─▶ postcard
//! ```

use std::fmt::Debug;
use std::fs::File;
use std::ops::RangeBounds;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};
use redb::backends::FileBackend;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, WriteTransaction,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::patient_file::{PatientFile, Room};
use super::types::{Entry, LogId, StorageError, TypeConfig, Vote};

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("raft_log");
const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("raft_state");
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
/// The first byte of every entry; a reader refuses what it does not know.
const ENTRY_FORMAT: u8 = 1;
/// The log is written far more than read: redb's default cache would be a gigabyte.
const CACHE_BYTES: usize = 1 << 20;
/// What one peer is sent at once; a single entry may be larger.
const READ_BYTES_MAX: usize = 1 << 20;

/// Why the file cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LogStoreError {
    #[error("the raft log: {0}")]
    Store(Box<redb::Error>),
    #[error("the raft log holds what cannot be read: {0}")]
    Malformed(String),
    #[error("the raft log: its writer panicked")]
    Panicked,
}

/// For `map_err`: redb has an error type for each step.
fn store(error: impl Into<redb::Error>) -> LogStoreError {
    LogStoreError::Store(Box::new(error.into()))
}

type Outcome<T> = Result<T, LogStoreError>;

/// See the head of this file. A clone is a reader of the same log.
#[derive(Clone)]
pub struct LogStore {
    database: Arc<Database>,
    offered: Offered,
}

/// What a reader was asked for last. A peer that is not reached is offered the same again many times a second, and that may be a
/// record for each of many thousand partitions: the second time it is kept.
#[derive(Clone, Default)]
struct Offered {
    start: Option<u64>,
    entries: Vec<Entry>,
}

impl Offered {
    /// What is kept of these. An entry of a leader's log does not change while it leads, and a reader serves one reign.
    fn kept(&self, start: u64, end: u64) -> Option<&Vec<Entry>> {
        let last = self.entries.last().filter(|_| self.start == Some(start));
        last.is_some_and(|last| last.log_id.index < end).then_some(&self.entries)
    }
}

impl LogStore {
    /// Opens or makes the file; `room` says what becomes of a write when the disk is full.
    pub fn open(path: &Path, room: &Room) -> Outcome<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let file = FileBackend::new(file.map_err(redb::StorageError::from).map_err(store)?).map_err(store)?;
        let builder = &mut Database::builder();
        let database = builder.set_cache_size(CACHE_BYTES).create_with_backend(PatientFile::new(file, room.clone()));
        let database = database.map_err(store)?;
        let transaction = database.begin_write().map_err(store)?;
        transaction.open_table(LOG).map_err(store)?;
        transaction.open_table(STATE).map_err(store)?;
        transaction.commit().map_err(store)?;
        Ok(Self { database: Arc::new(database), offered: Offered::default() })
    }

    /// Neither a vote nor an entry was ever written.
    pub fn is_new(&self) -> Outcome<bool> {
        let transaction = self.database.begin_read().map_err(store)?;
        let state = transaction.open_table(STATE).map_err(store)?;
        let log = transaction.open_table(LOG).map_err(store)?;
        let has_voted = state.get(VOTE).map_err(store)?.is_some();
        Ok(!has_voted && log.is_empty().map_err(store)?)
    }

    /// Reads on a thread that may wait for the disk.
    async fn read<T: Send + 'static>(&self, work: impl FnOnce(&Database) -> Outcome<T> + Send + 'static) -> Outcome<T> {
        let database = self.database.clone();
        let done = tokio::task::spawn_blocking(move || work(&database)).await;
        done.unwrap_or(Err(LogStoreError::Panicked))
    }

    /// One transaction, durable (if so asked) when this returns.
    async fn write(
        &self,
        durability: Durability,
        work: impl FnOnce(&WriteTransaction) -> Outcome<()> + Send + 'static,
    ) -> Outcome<()> {
        self.read(move |database| {
            let mut transaction = database.begin_write().map_err(store)?;
            transaction.set_durability(durability).map_err(store)?;
            work(&transaction)?;
            transaction.commit().map_err(store)
        })
        .await
    }

    async fn state<T: DeserializeOwned + Send + 'static>(&self, name: &'static str) -> Outcome<Option<T>> {
        self.read(move |database| {
            let transaction = database.begin_read().map_err(store)?;
            let table = transaction.open_table(STATE).map_err(store)?;
            table.get(name).map_err(store)?.map(|bytes| decode(bytes.value())).transpose()
        })
        .await
    }

    async fn set_state<T: Serialize>(&self, name: &'static str, value: &T, durability: Durability) -> Outcome<()> {
        let bytes = encode(value);
        self.write(durability, move |transaction| put_state(transaction, name, &bytes)).await
    }
}

fn put_state(transaction: &WriteTransaction, name: &str, bytes: &[u8]) -> Outcome<()> {
    let mut table = transaction.open_table(STATE).map_err(store)?;
    table.insert(name, bytes).map_err(store)?;
    Ok(())
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("raft's state is plain data and a vector takes any length")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Outcome<T> {
    postcard::from_bytes(bytes).map_err(|error| LogStoreError::Malformed(error.to_string()))
}

fn encode_entry(entry: &Entry) -> Vec<u8> {
    let bytes = postcard::to_extend(entry, vec![ENTRY_FORMAT]);
    bytes.expect("an entry is plain data and a vector takes any length")
}

fn decode_entry(bytes: &[u8]) -> Outcome<Entry> {
    match bytes {
        [ENTRY_FORMAT, body @ ..] => decode(body),
        [other, ..] => Err(LogStoreError::Malformed(format!("entry format {other}: start a newer release"))),
        [] => Err(LogStoreError::Malformed("an entry without bytes".to_owned())),
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let bounds = (range.start_bound().cloned(), range.end_bound().cloned());
        let entries = self.read(move |database| {
            let transaction = database.begin_read().map_err(store)?;
            let table = transaction.open_table(LOG).map_err(store)?;
            let found = table.range::<u64>(bounds).map_err(store)?;
            found.map(|entry| decode_entry(entry.map_err(store)?.1.value())).collect()
        });
        entries.await.map_err(|error| StorageIOError::read_logs(AnyError::new(&error)).into())
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        if let Some(entries) = self.offered.kept(start, end) {
            return Ok(entries.clone());
        }
        let entries = self.read(move |database| {
            let transaction = database.begin_read().map_err(store)?;
            let table = transaction.open_table(LOG).map_err(store)?;
            let (mut entries, mut read_bytes) = (Vec::new(), 0);
            for found in table.range(start..end).map_err(store)? {
                let (_, bytes) = found.map_err(store)?;
                read_bytes += bytes.value().len();
                if !entries.is_empty() && read_bytes > READ_BYTES_MAX {
                    break;
                }
                entries.push(decode_entry(bytes.value())?);
            }
            Ok(entries)
        });
        let entries = entries.await.map_err(|error| StorageIOError::read_logs(AnyError::new(&error)))?;
        let is_again = self.offered.start == Some(start);
        self.offered = Offered { start: Some(start), entries: if is_again { entries.clone() } else { Vec::new() } };
        Ok(entries)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let failed = |error| StorageError::from(StorageIOError::read_logs(AnyError::new(&error)));
        let last_purged_log_id: Option<LogId> = self.state(PURGED).await.map_err(failed)?;
        let last = self.read(|database| {
            let transaction = database.begin_read().map_err(store)?;
            let table = transaction.open_table(LOG).map_err(store)?;
            let last = table.last().map_err(store)?;
            last.map(|(_, bytes)| decode_entry(bytes.value())).transpose()
        });
        let last = last.await.map_err(failed)?;
        Ok(LogState { last_purged_log_id, last_log_id: last.map(|entry| entry.log_id).or(last_purged_log_id) })
    }

    async fn get_log_reader(&mut self) -> Self {
        Self { database: self.database.clone(), offered: Offered::default() }
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.set_state(VOTE, vote, Durability::Immediate).await;
        saved.map_err(|error| StorageIOError::write_vote(AnyError::new(&error)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.state(VOTE).await.map_err(|error| StorageIOError::read_vote(AnyError::new(&error)).into())
    }

    /// No promise is given with this mark (it only says how far a restart may apply without asking anybody), so it waits for
    /// the next transaction that syncs.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let saved = self.set_state(COMMITTED, &committed, Durability::None).await;
        saved.map_err(|error| StorageIOError::write(AnyError::new(&error)).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed: Outcome<Option<Option<LogId>>> = self.state(COMMITTED).await;
        let committed = committed.map_err(|error| StorageIOError::read(AnyError::new(&error)))?;
        Ok(committed.flatten())
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let encoded: Vec<_> = entries.into_iter().map(|entry| (entry.log_id.index, encode_entry(&entry))).collect();
        let written = self.write(Durability::Immediate, move |transaction| {
            let mut table = transaction.open_table(LOG).map_err(store)?;
            for (index, bytes) in &encoded {
                table.insert(index, bytes.as_slice()).map_err(store)?;
            }
            Ok(())
        });
        written.await.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)))?;
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let cut = self.write(Durability::Immediate, move |transaction| {
            let mut table = transaction.open_table(LOG).map_err(store)?;
            table.retain_in(log_id.index.., |_, _| false).map_err(store)
        });
        cut.await.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purged = self.write(Durability::Immediate, move |transaction| {
            put_state(transaction, PURGED, &encode(&log_id))?;
            let mut table = transaction.open_table(LOG).map_err(store)?;
            table.retain_in(..=log_id.index, |_, _| false).map_err(store)
        });
        purged.await.map_err(|error| StorageIOError::write_logs(AnyError::new(&error)).into())
    }
}
