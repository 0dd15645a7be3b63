//! Raft's state machine: committed entries move the image. In memory; a snapshot bounds what a restart applies again.

use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};

use super::applied::Applied;
use super::patient_file::Room;
use super::snapshot::{SnapshotError, SnapshotFile, decode_image, encode_image};
use super::types::{Entry, EntryApplied, LogId, Membership, SnapshotMeta, StorageError, TypeConfig};

/// See the head of this file.
pub struct StateMachine {
    applied: Arc<Applied>,
    last_applied: Option<LogId>,
    membership: Membership,
    file: SnapshotFile,
}

/// An image that is being written; the machine goes on meanwhile.
pub struct SnapshotBuilder {
    image: Arc<capek_state::cluster::Image>,
    last_applied: Option<LogId>,
    membership: Membership,
    file: SnapshotFile,
}

impl StateMachine {
    /// From the snapshot in this directory, if there is one; raft applies what was committed since.
    pub fn open(directory: &Path, applied: Arc<Applied>, room: Room) -> Result<Self, SnapshotError> {
        let file = SnapshotFile::new(directory, room);
        let mut machine = Self { applied, last_applied: None, membership: Membership::default(), file };
        if let Some((meta, body)) = machine.file.read()? {
            machine.take_over(&meta, &body)?;
        }
        Ok(machine)
    }

    fn take_over(&mut self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        // An empty body is that of a group that never had a record.
        self.applied.replace(decode_image(body)?);
        self.last_applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    fn apply_one(&mut self, entry: Entry) -> EntryApplied {
        self.last_applied = Some(entry.log_id);
        let (base, records) = match entry.payload {
            EntryPayload::Blank => (None, Arc::default()),
            EntryPayload::Membership(membership) => {
                self.membership = Membership::new(Some(entry.log_id), membership);
                (None, Arc::default())
            }
            EntryPayload::Normal(entry) => (Some(entry.base), entry.records),
        };
        let Some(base) = base else { return EntryApplied::default() };
        let (is_accepted, records_applied) = self.applied.apply(base, &records);
        EntryApplied { is_accepted, records_applied }
    }
}

fn failed_read(error: SnapshotError) -> StorageError {
    StorageIOError::read_snapshot(None, AnyError::new(&error)).into()
}

/// Writes on a thread that may wait for the disk.
async fn write(file: SnapshotFile, meta: SnapshotMeta, body: Vec<u8>) -> Result<Vec<u8>, StorageError> {
    let signature = meta.signature();
    let written = tokio::task::spawn_blocking(move || file.write(&meta, &body).map(|()| body)).await;
    let failed = |error: AnyError| StorageError::from(StorageIOError::write_snapshot(Some(signature), error));
    match written {
        Ok(Ok(body)) => Ok(body),
        Ok(Err(error)) => Err(failed(AnyError::new(&error))),
        Err(error) => Err(failed(AnyError::new(&error))),
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        let snapshot_id = self.last_applied.map_or_else(|| "empty".to_owned(), |log_id| log_id.to_string());
        let meta =
            SnapshotMeta { last_log_id: self.last_applied, last_membership: self.membership.clone(), snapshot_id };
        let body = write(self.file.clone(), meta.clone(), encode_image(&self.image)).await?;
        Ok(Snapshot { meta, snapshot: Box::new(Cursor::new(body)) })
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        Ok((self.last_applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<EntryApplied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Ok(entries.into_iter().map(|entry| self.apply_one(entry)).collect())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder {
            image: self.applied.image(),
            last_applied: self.last_applied,
            membership: self.membership.clone(),
            file: self.file.clone(),
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        // Read before it is kept: what does not decode must not survive here.
        decode_image(snapshot.get_ref()).map_err(failed_read)?;
        let body = write(self.file.clone(), meta.clone(), snapshot.into_inner()).await?;
        self.take_over(meta, &body).map_err(failed_read)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        let file = self.file.clone();
        let read = tokio::task::spawn_blocking(move || file.read()).await;
        let read =
            read.map_err(|error| StorageError::from(StorageIOError::read_snapshot(None, AnyError::new(&error))))?;
        let snapshot = read.map_err(failed_read)?;
        Ok(snapshot.map(|(meta, body)| Snapshot { meta, snapshot: Box::new(Cursor::new(body)) }))
    }
}
