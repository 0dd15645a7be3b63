//! LocalClient: what the broker's own doors (HTTP, WebSocket, SSE) use; the same partitions and the same rules as over Kafka's
//! protocol, without a socket. What another broker of the cluster leads is asked there (`forwarding.rs`).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use atomic_waker::AtomicWaker;
use bytes::{Bytes, BytesMut};
use capek_log::{ReadError, ReadOutcome, ReadRequest};
use capek_state::Refusal;
use capek_state::cluster::{Image, Outcome};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex, ProducerId, TopicId};
use capek_wire::peer::calls::{FindKeyedCall, KeyedBatch};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::broker::BrokerShared;
use crate::budget::{BudgetPermit, MemoryBudget};
use crate::partition::{Append, FindKeyed};
use crate::partition_source::PartitionSource;
use crate::produce::{AppendOptions, AppendReply, PartitionAnswer, PendingProduce};
use crate::remote_partition;
use crate::shared::PartitionShared;
use crate::topics;

/// How long a door waits for a leader to be asked before its client is told that there is none.
pub const LEADER_WITHIN: Duration = Duration::from_secs(5);

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

    /// The partition to read from, wherever it is led. What another broker leads is known when its leader has been heard: see
    /// [`LocalClient::refresh`].
    pub fn partition(&self, topic: &str, partition: PartitionIndex) -> Result<PartitionSource, ErrorCode> {
        let image = self.broker.image.load();
        let found = image.topic_by_name(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        match self.leader_by_id(found.id, partition)? {
            leader if leader == self.broker.config.node_id => {
                let route = self.broker.routes.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
                Ok(PartitionSource::Here(route.leading(partition)?.shared.clone()))
            }
            _ => {
                let followed = self.broker.remote_partitions.follow(self, &found.name, found.id, partition);
                Ok(PartitionSource::There(followed))
            }
        }
    }

    /// After this what is known of the partition is no older than the call. It waits a while for a leader.
    pub async fn refresh(&self, source: &PartitionSource) -> Result<(), ErrorCode> {
        match source {
            PartitionSource::Here(_) => Ok(()),
            PartitionSource::There(remote) => remote_partition::refresh(self, remote, LEADER_WITHIN).await,
        }
    }

    /// The partition to read from, as its leader knows it now. Waits a while for a leader.
    pub async fn known_partition(&self, topic: &str, partition: PartitionIndex) -> Result<PartitionSource, ErrorCode> {
        const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
        let deadline = Instant::now() + LEADER_WITHIN;
        loop {
            let found = match self.partition(topic, partition) {
                Ok(source) => self.refresh(&source).await.map(|()| source),
                Err(code) => Err(code),
            };
            match found {
                Err(ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower) if Instant::now() < deadline => {
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                found => return found,
            }
        }
    }

    /// Appends one batch (base offset 0, CRC set) wherever the partition is led, and waits until it is as durable as `acks` asks,
    /// at most its timeout. NOT_LEADER_OR_FOLLOWER: it was certainly not stored. REQUEST_TIMED_OUT: it may have been.
    pub async fn produce(
        &self,
        topic: &str,
        partition: PartitionIndex,
        batch: BytesMut,
        options: AppendOptions,
    ) -> PartitionAnswer {
        if topics::is_internal(topic) {
            return PartitionAnswer::error(ErrorCode::InvalidTopicException);
        }
        let permit = self.broker.request_budget.acquire(batch.len()).await;
        let image = self.broker.image.load_full();
        let Some(found) = image.topic_by_name(topic) else {
            return PartitionAnswer::error(ErrorCode::UnknownTopicOrPartition);
        };
        match self.leader_by_id(found.id, partition) {
            Ok(leader) if leader == self.broker.config.node_id => {
                self.append_here(found.id, partition, batch, options, permit).await
            }
            Ok(leader) => self.append_there(leader, (found.id, partition), batch, options, permit).await,
            // It was certainly not stored.
            Err(ErrorCode::LeaderNotAvailable) => PartitionAnswer::error(ErrorCode::NotLeaderOrFollower),
            Err(code) => PartitionAnswer::error(code),
        }
    }

    /// The same where this broker leads.
    pub async fn append_here(
        &self,
        topic_id: TopicId,
        partition: PartitionIndex,
        batch: BytesMut,
        options: AppendOptions,
        permit: BudgetPermit,
    ) -> PartitionAnswer {
        let AppendOptions { acks, timeout, partition_count } = options;
        let complete = Arc::new(AtomicWaker::new());
        let call = PendingProduce::new(1, complete.clone(), Some(permit));
        let reply = AppendReply::new(call.clone(), 0);
        // Looked at behind the leader: one whose epoch began when there were more is not told so by anybody.
        let is_outgrown = || {
            let has_more =
                || self.broker.image.load().topic(topic_id).is_some_and(|topic| topic.has_more_than(partition_count));
            partition_count.is_some() && has_more()
        };
        match self.leader_here(topic_id, partition) {
            Ok(_) if is_outgrown() => reply.answer(PartitionAnswer::error(ErrorCode::InvalidPartitions)),
            Ok((leader, entry)) => {
                entry.mailbox.fetch_add(1, Ordering::Relaxed);
                // What this queues is bounded by the byte budget that was just paid from.
                leader.do_send(Append { batch, acks, is_zstd_allowed: true, partition_count, reply });
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

    /// What the partition, wherever it is led, knows of these producers, which stand for keys, and will not forget. From then on it
    /// refuses whoever counts fewer partitions. Waits for a leader; an error is that of the last try.
    pub async fn find_keyed(
        &self,
        topic_id: TopicId,
        partition: PartitionIndex,
        partition_count: i32,
        producer_ids: Vec<ProducerId>,
        deadline: Instant,
    ) -> Result<Vec<Option<KeyedBatch>>, ErrorCode> {
        const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(20);
        let call = FindKeyedCall { topic_id, partition, partition_count, producer_ids };
        loop {
            let found = match self.leader_by_id(topic_id, partition) {
                Ok(leader) if leader == self.broker.config.node_id => {
                    let found = tokio::time::timeout_at(deadline, self.find_keyed_here(&call)).await;
                    found.unwrap_or(Err(ErrorCode::RequestTimedOut))
                }
                Ok(leader) => self.find_keyed_there(leader, &call, deadline).await,
                Err(ErrorCode::UnknownTopicId) => return Err(ErrorCode::UnknownTopicOrPartition),
                Err(code) => Err(code),
            };
            match found {
                Err(code) if code.is_retriable() && Instant::now() + LOOK_AGAIN_AFTER < deadline => {
                    tokio::time::sleep(LOOK_AGAIN_AFTER).await;
                }
                found => return found,
            }
        }
    }

    /// The same where this broker leads, however long it takes.
    pub async fn find_keyed_here(&self, call: &FindKeyedCall) -> Result<Vec<Option<KeyedBatch>>, ErrorCode> {
        let (leader, _) = self.leader_here(call.topic_id, call.partition)?;
        let (reply, found) = oneshot::channel();
        let find = FindKeyed { partition_count: call.partition_count, producer_ids: call.producer_ids.clone(), reply };
        leader.send(find).await.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
        found.await.map_err(|_| ErrorCode::NotLeaderOrFollower)
    }

    fn leader_here(
        &self,
        topic_id: TopicId,
        partition: PartitionIndex,
    ) -> Result<(actix::Addr<crate::partition::Partition>, Arc<crate::census::ActorEntry>), ErrorCode> {
        let route = self.broker.routes.topic_by_id(topic_id).ok_or(ErrorCode::UnknownTopicOrPartition)?;
        if topics::is_internal(&route.name) {
            return Err(ErrorCode::InvalidTopicException);
        }
        let found = route.serving(partition)?;
        let leader = found.leader.clone().ok_or(ErrorCode::NotLeaderOrFollower)?;
        Ok((leader, found.entry.clone()))
    }

    /// Reads whole batches from `offset` on, below the high watermark; None when there is nothing yet, or nobody to ask.
    pub async fn read(
        &self,
        source: &PartitionSource,
        offset: Offset,
        max_bytes: usize,
    ) -> Result<Option<ReadBatches>, ErrorCode> {
        match source {
            PartitionSource::Here(shared) => self.read_here(shared, offset, max_bytes, &self.broker.fetch_budget).await,
            PartitionSource::There(remote) => self.read_there(remote, offset, max_bytes).await,
        }
    }

    /// The same from a log of this broker, paid for from that budget.
    pub async fn read_here(
        &self,
        shared: &Arc<PartitionShared>,
        offset: Offset,
        max_bytes: usize,
        budget: &MemoryBudget,
    ) -> Result<Option<ReadBatches>, ErrorCode> {
        if shared.is_deleted() {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        let high_watermark = shared.high_watermark();
        if offset == high_watermark {
            return Ok(None);
        }
        let permit = budget.acquire(max_bytes).await;
        let read = ReadRequest { offset, max_bytes, end_offset: high_watermark, at_least_one: true, may_block: false };
        match shared.read(read).await {
            Ok(ReadOutcome::Data { bytes, next_offset }) => {
                shared.traffic.fetched(bytes.len());
                Ok(Some(ReadBatches { bytes, next_offset, high_watermark, permit }))
            }
            Ok(ReadOutcome::Empty | ReadOutcome::WouldBlock) => Ok(None),
            Err(ReadError::OutOfRange { .. }) => Err(ErrorCode::OffsetOutOfRange),
            Err(_) => Err(ErrorCode::KafkaStorageError),
        }
    }

    /// `waiter` is notified whenever one of the partitions it was registered with has more (or is gone). To miss nothing:
    /// make and `enable()` a `notified()` future first, then read, then await it.
    pub fn watch(&self, source: &PartitionSource, waiter: &Arc<Notify>) {
        source.register(waiter);
    }
}
