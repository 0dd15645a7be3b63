//! MetaLog: the metadata log of this node, a redb file.
//!
//! With one broker it is the whole quorum: what is committed here is committed. The controller is the only one who writes;
//! a commit is durable when [`MetaLog::append`] returns.

use std::path::Path;

use capek_state::cluster::{Record, RecordError};
use redb::{Database, Durability, ReadableDatabase, TableDefinition};

/// Record by its place in the log, from 0 on.
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");
/// The log is small and read once: redb's default cache would be a gigabyte.
const CACHE_BYTES: usize = 1 << 20;

/// Why the metadata log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MetaLogError {
    #[error("the metadata log: {0}")]
    Store(Box<redb::Error>),
    #[error("the metadata log cannot be made: {0}")]
    Io(std::io::Error),
    #[error("the metadata log is damaged at record {index}: {error}")]
    Record { index: u64, error: RecordError },
}

/// For `map_err`: redb has an error type for each step.
fn store(error: impl Into<redb::Error>) -> MetaLogError {
    MetaLogError::Store(Box::new(error.into()))
}

/// Opens the file, or makes it.
type Open = Box<dyn Fn() -> Result<Database, redb::DatabaseError> + Send>;

pub struct MetaLog {
    open: Open,
    /// None after a write that failed: redb refuses all others until the file is opened again.
    database: Option<Database>,
    next_index: u64,
}

impl MetaLog {
    /// Opens or makes the log below `cluster_dir`, and reads all of its records.
    pub fn open(cluster_dir: &Path) -> Result<(Self, Vec<Record>), MetaLogError> {
        std::fs::create_dir_all(cluster_dir).map_err(MetaLogError::Io)?;
        let path = cluster_dir.join("metadata.redb");
        let open = move || Database::builder().set_cache_size(CACHE_BYTES).create(&path);
        MetaLog::open_with(Box::new(open))
    }

    fn open_with(open: Open) -> Result<(Self, Vec<Record>), MetaLogError> {
        let database = open().map_err(store)?;
        let records = read_all(&database)?;
        let next_index = records.len() as u64;
        Ok((Self { open, database: Some(database), next_index }, records))
    }

    /// Commits `records` together; they are durable on return. After an error the next ones take their place: a disk that was
    /// full takes them when it has room.
    pub fn append(&mut self, records: &[Record]) -> Result<(), MetaLogError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.open)().map_err(store)?,
        };
        commit(&database, self.next_index, records)?;
        self.database = Some(database);
        self.next_index += records.len() as u64;
        Ok(())
    }
}

fn commit(database: &Database, from: u64, records: &[Record]) -> Result<(), MetaLogError> {
    let mut transaction = database.begin_write().map_err(store)?;
    transaction.set_durability(Durability::Immediate).map_err(store)?;
    {
        let mut table = transaction.open_table(LOG).map_err(store)?;
        // A commit that failed may have come through all the same.
        table.retain_in(from.., |_, _| false).map_err(store)?;
        for (index, record) in (from..).zip(records) {
            table.insert(index, record.encode().as_slice()).map_err(store)?;
        }
    }
    transaction.commit().map_err(store)
}

fn read_all(database: &Database) -> Result<Vec<Record>, MetaLogError> {
    let transaction = database.begin_read().map_err(store)?;
    let table = match transaction.open_table(LOG) {
        Ok(table) => table,
        // The file was made, and the process stopped before the first commit.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(store(error)),
    };
    let mut records = Vec::new();
    for entry in table.range::<u64>(..).map_err(store)? {
        let (index, bytes) = entry.map_err(store)?;
        let record = Record::decode(bytes.value());
        records.push(record.map_err(|error| MetaLogError::Record { index: index.value(), error })?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::patient_file::testing::SmallDisk;

    #[test]
    fn a_full_disk_refuses_records_until_there_is_room() {
        let disk = SmallDisk::new(8 << 20);
        let backend = disk.clone();
        let open = move || Database::builder().create_with_backend(backend.clone());
        let (mut log, _) = MetaLog::open_with(Box::new(open.clone())).expect("opens");
        let record = |level: i16| Record::Feature { name: "x".repeat(1 << 20), level };
        let mut written: Vec<Record> = Vec::new();
        let mut append = |log: &mut MetaLog, record: Record| {
            let outcome = log.append(std::slice::from_ref(&record));
            written.extend(outcome.is_ok().then_some(record));
            outcome.is_ok()
        };
        let refused = (0..50).find(|level| !append(&mut log, record(*level))).expect("it is full at some time");
        assert!(refused > 0, "some found room");
        assert!(!append(&mut log, record(100)), "it is still full");
        disk.resize(u64::MAX);
        assert!(append(&mut log, record(200)), "there is room again");
        drop(log);
        let (_, found) = MetaLog::open_with(Box::new(open)).expect("opens again");
        assert!(found == written, "{} found of {}", found.len(), written.len());
    }

    #[test]
    fn what_was_committed_is_read_again() {
        let dir = std::env::temp_dir().join(format!("capek-meta-log-{}", std::process::id()));
        let record = |name: &str| Record::Feature { name: name.to_string(), level: 1 };
        {
            let (mut log, records) = MetaLog::open(&dir).expect("opens");
            assert!(records.is_empty());
            log.append(&[record("a"), record("b")]).expect("commits");
            log.append(&[record("c")]).expect("commits");
        }
        let (_, records) = MetaLog::open(&dir).expect("opens again");
        assert_eq!(records, [record("a"), record("b"), record("c")]);
        std::fs::remove_dir_all(&dir).expect("the test may delete its own directory");
    }
}
