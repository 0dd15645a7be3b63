//! A bounded read of some partitions, for doors whose clients poll: waits until there is enough, or until time is up.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use capek_wire::batch::Record;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::local::LocalClient;
use crate::partition_source::PartitionSource;
use crate::stream_records::{Allowance, OpenedBatches};

/// How many records one read brings at most, however small they are.
const RECORDS_MAX: u64 = 50_000;
/// What is read from the log at a time.
const CHUNK_BYTES: u64 = 1 << 20;
/// Who holds memory already waits only so long for more of it: two who wait for each other would wait for ever.
const MORE_WITHIN: Duration = Duration::from_millis(50);
/// The pause after a read that should have brought something and did not.
const RETRY_AFTER: Duration = Duration::from_millis(20);

/// Where a consumer begins that has no position, or one that is not in the log any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    None,
}

/// A partition and where to read on.
pub struct ReadCursor {
    pub source: PartitionSource,
    pub next: Offset,
}

/// How much to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimits {
    /// Keys, values and headers together; one record passes whatever its size.
    pub max_bytes: u64,
    /// Enough to stop waiting.
    pub min_bytes: u64,
    pub deadline: Instant,
}

/// What a read brought. Its memory is paid for until this is dropped.
#[derive(Default)]
pub struct ReadRecords {
    /// Each with the index of its cursor; those of one partition in order.
    pub records: Vec<(usize, Record)>,
    pub size_bytes: u64,
    /// By cursor: where reading goes on.
    pub next: Vec<Offset>,
    /// Nothing was read and this is why.
    pub failed: Option<ErrorCode>,
    held: Vec<OpenedBatches>,
}

/// Reads from the cursor `first` on, in turn. Whoever drops the future has read nothing.
pub async fn read(
    client: &LocalClient,
    cursors: Vec<ReadCursor>,
    first: usize,
    reset: OffsetReset,
    limits: ReadLimits,
) -> ReadRecords {
    let waiter = Arc::new(Notify::new());
    for cursor in &cursors {
        client.watch(&cursor.source, &waiter);
    }
    let next = cursors.iter().map(|cursor| cursor.next).collect();
    let mut reading = Reading { client, cursors, reset, limits, read: ReadRecords { next, ..Default::default() } };
    loop {
        let mut changed = pin!(waiter.notified());
        changed.as_mut().enable();
        let looked = reading.look(first).await;
        let is_enough = reading.read.size_bytes >= limits.min_bytes && !reading.read.records.is_empty();
        if let Looked::Failed(code) = looked {
            if reading.read.records.is_empty() {
                reading.read.failed = Some(code);
            }
            return reading.read;
        }
        if is_enough || matches!(looked, Looked::Full) || Instant::now() >= limits.deadline {
            return reading.read;
        }
        let again = if matches!(looked, Looked::Again) { Instant::now() + RETRY_AFTER } else { limits.deadline };
        tokio::select! {
            () = changed => {}
            () = tokio::time::sleep_until(again.min(limits.deadline)) => {}
        }
    }
}

enum Looked {
    /// There is no more now.
    All,
    Full,
    /// Something was in the way that may be gone in a moment.
    Again,
    Failed(ErrorCode),
}

struct Reading<'a> {
    client: &'a LocalClient,
    cursors: Vec<ReadCursor>,
    reset: OffsetReset,
    limits: ReadLimits,
    read: ReadRecords,
}

impl Reading<'_> {
    async fn look(&mut self, first: usize) -> Looked {
        let count = self.cursors.len();
        let mut looked = Looked::All;
        for index in (0..count).map(|turn| (first + turn) % count) {
            match self.look_at(index).await {
                Looked::All => {}
                Looked::Again => looked = Looked::Again,
                over => return over,
            }
        }
        looked
    }

    async fn look_at(&mut self, index: usize) -> Looked {
        let source = self.cursors[index].source.clone();
        loop {
            let next = self.read.next[index];
            if source.is_deleted() {
                return Looked::All; // its group will be told by its coordinator
            }
            if next < source.log_start() || next > source.high_watermark() {
                if next > source.high_watermark() && !source.is_beyond_end(next) {
                    return Looked::All; // its leader is asked, and whoever waits is woken
                }
                match source.reset(self.reset) {
                    Ok(offset) => self.read.next[index] = offset,
                    Err(code) => return Looked::Failed(code),
                }
                continue;
            }
            if next == source.high_watermark() {
                return Looked::All;
            }
            let left = self.limits.max_bytes.saturating_sub(self.read.size_bytes);
            let count = self.read.records.len() as u64;
            if count > 0 && (left == 0 || count >= RECORDS_MAX) {
                return Looked::Full;
            }
            let max_bytes = usize::try_from(left.clamp(1, CHUNK_BYTES)).unwrap_or(usize::MAX);
            let opened = OpenedBatches::read(self.client, &source, next, max_bytes);
            let opened = if self.read.held.is_empty() {
                opened.await
            } else {
                match tokio::time::timeout(MORE_WITHIN, opened).await {
                    Ok(opened) => opened,
                    Err(_) => return Looked::Full,
                }
            };
            match opened {
                Ok(Some(opened)) => {
                    self.take(index, opened, Allowance { records: RECORDS_MAX - count, bytes: left.max(1) });
                    if self.read.next[index] <= next {
                        return Looked::Again;
                    }
                }
                // The log start has moved, or a segment was swapped.
                Ok(None) | Err(ErrorCode::OffsetOutOfRange) => return Looked::Again,
                Err(ErrorCode::UnknownTopicOrPartition) => return Looked::All,
                Err(code) => return Looked::Failed(code),
            }
        }
    }

    /// A batch that cannot be opened is passed over, as streams do; its loss is told in the log.
    fn take(&mut self, index: usize, mut opened: OpenedBatches, allowance: Allowance) {
        let taken = opened.take(allowance);
        if let Some(damaged) = &taken.damaged {
            log::warn!("a batch of {} is passed over: {damaged}", self.cursors[index].source);
        }
        self.read.next[index] = opened.next();
        self.read.size_bytes += taken.size_bytes;
        self.read.records.extend(taken.records.into_iter().map(|record| (index, record)));
        self.read.held.push(opened);
    }
}
