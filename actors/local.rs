//! LocalClient: what the broker's own doors (HTTP, WebSocket, SSE) use; the same partitions and the same rules as over Kafka's
//! protocol, without a socket.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use bytes::{Bytes, BytesMut};
use capek_log::{ReadError, ReadOutcome, ReadRequest};
use capek_state::Refusal;
use capek_state::cluster::{Image, Outcome};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex};
use tokio::sync::Notify;

use crate::broker::BrokerShared;
use crate::budget::BudgetPermit;
use crate::partition::Append;
use crate::produce::{Acks, AppendReply, PartitionAnswer, PendingProduce};
use crate::shared::PartitionShared;
use crate::topics;

/// See the head of this file. Cheap to clone, usable from every thread.
#[derive(Clone)]
pub struct LocalClient {
    pub broker: Arc<BrokerShared>,
}

/// Whole batches, the first of which may begin before the offset that was asked for.
#[derive(Debug)]
pub struct ReadBatches {
    pub bytes: Bytes,
    /// Where to go on.
    pub next_offset: Offset,
    pub high_watermark: Offset,
    /// Paid for until this is dropped.
    pub permit: BudgetPermit,
}

impl LocalClient {
    pub fn new(broker: Arc<BrokerShared>) -> Self {
        Self { broker }
    }

    pub fn image(&self) -> Arc<Image> {
        self.broker.image.load_full()
    }

    /// How many partitions the topic has; creates it when the broker creates topics on first use.
    pub async fn partition_count(&self, topic: &str) -> Result<i32, Refusal> {
        if let Some(found) = self.image().topic_by_name(topic) {
            return Ok(found.partitions.len() as i32);
        }
        if let Some(problem) = capek_wire::ids::topic_name_problem(topic) {
            return Err(Refusal::new(ErrorCode::InvalidTopicException, problem));
        }
        if !self.broker.config.auto_create_topics {
            return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, "Topic not found."));
        }
        topics::auto_create(&self.broker, topic).await?;
        let image = self.image();
        let found = image.topic_by_name(topic).ok_or(Refusal::bare(ErrorCode::UnknownTopicOrPartition))?;
        Ok(found.partitions.len() as i32)
    }

    pub async fn create_topic(&self, name: &str) -> Result<Outcome, Refusal> {
        topics::auto_create(&self.broker, name).await
    }

    /// What outlives a partition's incarnations: offsets, the log, its configuration.
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Result<Arc<PartitionShared>, ErrorCode> {
        let route = self.broker.routes.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        Ok(route.serving(partition)?.shared.clone())
    }

    /// Appends one batch (base offset 0, CRC set) and waits until it is as durable as `acks` asks, at most `timeout`.
    pub async fn produce(
        &self,
        topic: &str,
        partition: PartitionIndex,
        batch: BytesMut,
        acks: Acks,
        timeout: Duration,
    ) -> PartitionAnswer {
        let permit = self.broker.request_budget.acquire(batch.len()).await;
        let complete = Arc::new(AtomicWaker::new());
        let call = PendingProduce::new(1, complete.clone(), Some(permit));
        let reply = AppendReply::new(call.clone(), 0);
        match self.leader(topic, partition) {
            Ok((leader, entry)) => {
                entry.mailbox.fetch_add(1, Ordering::Relaxed);
                // What this queues is bounded by the byte budget that was just paid from.
                leader.do_send(Append { batch, acks, is_zstd_allowed: true, reply });
            }
            Err(code) => reply.answer(PartitionAnswer::error(code)),
        }
        let answered = std::future::poll_fn(|task| {
            complete.register(task.waker());
            if call.is_complete() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        });
        // On a time-out the slot is empty, and that is answered as one.
        let _ = tokio::time::timeout(timeout, answered).await;
        let answer = call.take_answers().into_iter().next();
        answer.unwrap_or_else(|| PartitionAnswer::error(ErrorCode::RequestTimedOut))
    }

    fn leader(
        &self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<(actix::Addr<crate::partition::Partition>, Arc<crate::census::ActorEntry>), ErrorCode> {
        if topics::is_internal(topic) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let route = self.broker.routes.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let found = route.serving(partition)?;
        let leader = found.leader.clone().ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok((leader, found.entry.clone()))
    }

    /// Reads whole batches from `offset` on, below the high watermark; None when there is nothing yet.
    pub async fn read(
        &self,
        shared: &Arc<PartitionShared>,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<ReadBatches>, ErrorCode> {
        if shared.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let high_watermark = shared.high_watermark();
        if offset == high_watermark {
            return Ok(None);
        }
        let permit = self.broker.fetch_budget.acquire(max_bytes).await;
        let read = ReadRequest { offset, max_bytes, end_offset: high_watermark, at_least_one: true, may_block: false };
        let mut outcome = shared.log.read(read);
        if matches!(outcome, Ok(ReadOutcome::WouldBlock)) {
            let cold = shared.clone();
            let read = ReadRequest { may_block: true, ..read };
            outcome = tokio::task::spawn_blocking(move || cold.log.read(read)).await.unwrap_or(Ok(ReadOutcome::Empty));
        }
        match outcome {
            Ok(ReadOutcome::Data { bytes, next_offset }) => {
                Ok(Some(ReadBatches { bytes, next_offset, high_watermark, permit }))
            }
            Ok(ReadOutcome::Empty | ReadOutcome::WouldBlock) => Ok(None),
            Err(ReadError::OutOfRange { .. }) => Err(ErrorCode::OffsetOutOfRange),
            Err(_) => Err(ErrorCode::KafkaStorageError),
        }
    }

    /// The first record at or after `timestamp_ms`, below the high watermark; None when all are older.
    pub async fn offset_for_timestamp(
        &self,
        shared: &Arc<PartitionShared>,
        timestamp_ms: i64,
    ) -> Result<Option<Offset>, ErrorCode> {
        let shared = shared.clone();
        let end_offset = shared.high_watermark();
        let search = move || shared.log.offset_for_timestamp(timestamp_ms, end_offset);
        match tokio::task::spawn_blocking(search).await {
            Ok(Ok(found)) => Ok(found.map(|found| found.offset)),
            Ok(Err(_)) | Err(_) => Err(ErrorCode::KafkaStorageError),
        }
    }

    /// `waiter` is notified whenever one of the partitions it was registered with has more (or is gone). To miss nothing:
    /// make and `enable()` a `notified()` future first, then read, then await it.
    pub fn watch(&self, shared: &PartitionShared, waiter: &Arc<Notify>) {
        shared.register(waiter);
    }
}
