//! How a shard of groups comes back from its log: everything that was ever appended to it is awaited, then read and replayed
//! on the blocking pool.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use bytes::Bytes;
use capek_log::{ReadOutcome, ReadRequest};
use capek_state::group::{Coordinator, GroupConfig, Record};
use capek_wire::batch::{self, BatchError};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use log::{error, info};
use tokio::sync::{Notify, Semaphore, oneshot};

use crate::partition::{LogEnd, Partition};
use crate::routes::Routes;
use crate::shared::{PartitionKey, PartitionShared};

/// What is read at a time.
const SLICE_BYTES_MAX: usize = 1 << 20;
/// How far a compressed batch may inflate.
const INFLATED_BYTES_MAX: usize = 64 << 20;
/// Between two looks for the partition's leader, while it is being restarted.
const LEADER_CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// A shard that cannot be loaded as it stands: its groups need an operator.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("its partition is offline")]
    Offline,
    #[error("its log cannot be read at offset {offset}: {reason}")]
    Unreadable { offset: Offset, reason: String },
}

/// Waits for the partition's leader, and for what earlier incarnations have appended; then replays the log.
pub async fn load(
    routes: Arc<Routes>,
    key: PartitionKey,
    config: GroupConfig,
    loads: Arc<Semaphore>,
) -> Result<Coordinator, LoadError> {
    let (shared, end_offset) = settled_end(&routes, &key).await?;
    if shared.log_start() >= end_offset {
        return Ok(Coordinator::new(config));
    }
    // The semaphore is never closed, and without it loading would only be slower.
    let _permit = loads.acquire().await;
    let began = Instant::now();
    let replayed = tokio::task::spawn_blocking(move || replay(&shared, end_offset, config)).await;
    let coordinator = replayed.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
    info!("{key}: {} groups loaded up to offset {end_offset} in {:?}", coordinator.group_count(), began.elapsed());
    Ok(coordinator)
}

/// The end of the log when everything that was sent to it before is in it, committed; or is refused, and will never be.
async fn settled_end(routes: &Routes, key: &PartitionKey) -> Result<(Arc<PartitionShared>, Offset), LoadError> {
    loop {
        if let Some((shared, leader)) = leader_of(routes, key)? {
            let (reply, answer) = oneshot::channel();
            // An error says that this leader has ended: the next one begins when its journal entries are done.
            if leader.send(LogEnd { reply }).await.is_ok()
                && let Ok(end_offset) = answer.await
                && is_committed(&shared, &leader, end_offset).await
            {
                return Ok((shared, end_offset));
            }
        }
        tokio::time::sleep(LEADER_CHECK_INTERVAL).await;
    }
}

type Leader = (Arc<PartitionShared>, Addr<Partition>);

fn leader_of(routes: &Routes, key: &PartitionKey) -> Result<Option<Leader>, LoadError> {
    let Some(topic) = routes.topic_by_id(key.topic_id) else { return Ok(None) };
    match topic.serving(key.partition) {
        Ok(route) => Ok(route.leader.clone().map(|leader| (route.shared.clone(), leader))),
        Err(ErrorCode::KafkaStorageError) => Err(LoadError::Offline),
        Err(_) => Ok(None),
    }
}

/// False when the leader ended before that.
async fn is_committed(shared: &PartitionShared, leader: &Addr<Partition>, end_offset: Offset) -> bool {
    let waiter = Arc::new(Notify::new());
    shared.register(&waiter);
    loop {
        let mut changed = std::pin::pin!(waiter.notified());
        changed.as_mut().enable();
        if shared.high_watermark() >= end_offset {
            return true;
        }
        if !leader.connected() {
            return false;
        }
        // A leader that ends tells nobody here.
        let _ = tokio::time::timeout(LEADER_CHECK_INTERVAL, changed).await;
    }
}

fn replay(shared: &PartitionShared, end_offset: Offset, config: GroupConfig) -> Result<Coordinator, LoadError> {
    let mut replaying = Replaying { key: &shared.key, coordinator: Coordinator::new(config) };
    let mut offset = shared.log_start();
    while offset < end_offset {
        let read = ReadRequest { offset, max_bytes: SLICE_BYTES_MAX, end_offset, at_least_one: true, may_block: true };
        let unreadable = |reason: String| LoadError::Unreadable { offset, reason };
        match shared.log.read(read) {
            Ok(ReadOutcome::Data { bytes, next_offset }) => {
                replaying.batches(&bytes).map_err(unreadable)?;
                offset = next_offset;
            }
            // Compaction leaves gaps, at the end of a log too.
            Ok(ReadOutcome::Empty) => break,
            Ok(ReadOutcome::WouldBlock) => return Err(unreadable("a read that may block would block".to_string())),
            Err(error) => return Err(unreadable(error.to_string())),
        }
    }
    Ok(replaying.coordinator)
}

/// One bad record is one group's trouble: it is passed over, with an error that says where it is, and all others are loaded.
struct Replaying<'a> {
    key: &'a PartitionKey,
    coordinator: Coordinator,
}

impl Replaying<'_> {
    /// An error: there is no telling where the next batch begins.
    fn batches(&mut self, bytes: &Bytes) -> Result<(), String> {
        for found in batch::batches(bytes) {
            let (position, header) = found.map_err(|error| error.to_string())?;
            // A transaction's marker is not a record of a group.
            if header.is_control() {
                continue;
            }
            if let Err(error) = self.batch(bytes.slice(position..)) {
                let last = header.next_offset() - 1;
                error!(
                    "{}: what is left of the batch at offsets {} to {last} is passed over: {error}",
                    self.key, header.base_offset
                );
            }
        }
        Ok(())
    }

    /// An error: there is no telling where its next record begins.
    fn batch(&mut self, batch: Bytes) -> Result<(), BatchError> {
        for record in batch::records(batch, INFLATED_BYTES_MAX)? {
            let record = record?;
            let offset = record.offset;
            if let Err(reason) = self.record(record) {
                error!("{}: the record at offset {offset} is passed over: {reason}", self.key);
            }
        }
        Ok(())
    }

    fn record(&mut self, record: batch::Record) -> Result<(), String> {
        let key = record.key.ok_or("it has no key")?;
        if let Some(found) = Record::decode(key, record.value).map_err(|error| error.to_string())? {
            self.coordinator.replay(&found);
        }
        Ok(())
    }
}
