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

pub struct MetaLog {
    database: Database,
    next_index: u64,
}

impl MetaLog {
    /// Opens or makes the log below `cluster_dir`, and reads all of its records.
    pub fn open(cluster_dir: &Path) -> Result<(Self, Vec<Record>), MetaLogError> {
        std::fs::create_dir_all(cluster_dir).map_err(MetaLogError::Io)?;
        let path = cluster_dir.join("metadata.redb");
        let is_new = !path.exists();
        let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path).map_err(store)?;
        let records = if is_new { Vec::new() } else { read_all(&database)? };
        let next_index = records.len() as u64;
        Ok((Self { database, next_index }, records))
    }

    /// The records from this place on.
    pub fn read_from(&self, first: u64) -> Result<Vec<Record>, MetaLogError> {
        read_from(&self.database, first)
    }

    /// Commits `records` together; they are durable on return.
    pub fn append(&mut self, records: &[Record]) -> Result<(), MetaLogError> {
        let mut transaction = self.database.begin_write().map_err(store)?;
        transaction.set_durability(Durability::Immediate).map_err(store)?;
        {
            let mut table = transaction.open_table(LOG).map_err(store)?;
            for (index, record) in (self.next_index..).zip(records) {
                table.insert(index, record.encode().as_slice()).map_err(store)?;
            }
        }
        transaction.commit().map_err(store)?;
        self.next_index += records.len() as u64;
        Ok(())
    }
}

fn read_all(database: &Database) -> Result<Vec<Record>, MetaLogError> {
    read_from(database, 0)
}

fn read_from(database: &Database, first: u64) -> Result<Vec<Record>, MetaLogError> {
    let transaction = database.begin_read().map_err(store)?;
    let table = match transaction.open_table(LOG) {
        Ok(table) => table,
        // The file was made, and the process stopped before the first commit.
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        Err(error) => return Err(store(error)),
    };
    let mut records = Vec::new();
    for entry in table.range(first..).map_err(store)? {
        let (index, bytes) = entry.map_err(store)?;
        let record = Record::decode(bytes.value());
        records.push(record.map_err(|error| MetaLogError::Record { index: index.value(), error })?);
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_committed_is_read_again() {
        let dir = std::env::temp_dir().join(format!("capek-meta-log-{}", std::process::id()));
        let record = |name: &str| Record::Feature { name: name.to_string(), level: 1 };
        {
            let (mut log, records) = MetaLog::open(&dir).expect("opens");
            assert!(records.is_empty());
            log.append(&[record("a"), record("b")]).expect("commits");
            log.append(&[record("c")]).expect("commits");
            assert_eq!(log.read_from(1).expect("reads"), [record("b"), record("c")]);
            assert_eq!(log.read_from(3).expect("reads"), []);
        }
        let (_, records) = MetaLog::open(&dir).expect("opens again");
        assert_eq!(records, [record("a"), record("b"), record("c")]);
        std::fs::remove_dir_all(&dir).expect("the test may delete its own directory");
    }
}
