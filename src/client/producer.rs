//! A producer: records go to the lane of their partition, which batches and sends them (see `lane.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_wire::batch::Codec;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use super::cluster::Client;
use super::error::ClientError;
use super::lane::Lane;

#[derive(Clone, Debug)]
pub struct ProducerOptions {
    /// -1 (all), 0 or 1.
    pub acks: i16,
    pub codec: Codec,
    /// How long a batch waits for more records. Zero sends what is there.
    pub linger: Duration,
    pub batch_bytes_max: usize,
    /// Batches of one partition on their way at once.
    pub in_flight_max: usize,
    /// Records given and not yet confirmed, all partitions together.
    pub buffer_bytes_max: usize,
    pub idempotent: bool,
    /// How long a batch is tried again before it is given up.
    pub delivery_timeout: Duration,
}

/// What is to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Milliseconds; None is now.
    pub timestamp: Option<i64>,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// A batch that was confirmed (acks=0: sent), or given up.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub topic: Arc<str>,
    pub partition: i32,
    pub count: usize,
    pub result: Result<i64, ClientError>,
}

/// Sends records to any topic and partition.
pub struct Producer {
    client: Client,
    options: ProducerOptions,
    producer_id: Option<(i64, i16)>,
    lanes: BTreeMap<(Arc<str>, i32), mpsc::Sender<Queued>>,
    tasks: JoinSet<()>,
    buffer: Arc<Semaphore>,
    deliveries: mpsc::Sender<Delivery>,
}

/// A record in a lane's queue, with the room it takes in the buffer.
pub struct Queued {
    pub record: ProducerRecord,
    pub permit: OwnedSemaphorePermit,
}

/// Records in the queue of one lane; the byte budget is the real bound.
const LANE_RECORDS_MAX: usize = 1000;
/// What a record takes beside its bytes.
const RECORD_OVERHEAD_BYTES: usize = 100;

impl Default for ProducerOptions {
    fn default() -> ProducerOptions {
        ProducerOptions {
            acks: -1,
            codec: Codec::None,
            linger: Duration::from_millis(5),
            batch_bytes_max: 1_000_000,
            in_flight_max: 5,
            buffer_bytes_max: 32 << 20,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl Producer {
    /// What becomes of each batch comes on the receiver, which must be read: the producer waits when it is full.
    pub async fn new(
        client: Client,
        options: ProducerOptions,
    ) -> Result<(Producer, mpsc::Receiver<Delivery>), ClientError> {
        const DELIVERIES_MAX: usize = 1000;
        let producer_id = match options.idempotent && options.acks == -1 {
            true => Some(client.init_producer_id().await?),
            false => None,
        };
        let (deliveries, receiver) = mpsc::channel(DELIVERIES_MAX);
        let buffer = Arc::new(Semaphore::new(options.buffer_bytes_max));
        let (lanes, tasks) = (BTreeMap::new(), JoinSet::new());
        Ok((Producer { client, options, producer_id, lanes, tasks, buffer, deliveries }, receiver))
    }

    /// Queues a record; waits while the buffer is full.
    pub async fn send(&mut self, topic: &Arc<str>, partition: i32, record: ProducerRecord) -> Result<(), ClientError> {
        let bytes = record.size_bytes().min(self.options.buffer_bytes_max) as u32;
        let permit = self.buffer.clone().acquire_many_owned(bytes).await;
        let permit = permit.map_err(|_| ClientError::Invalid("the producer is closed".to_owned()))?;
        let lane = match self.lanes.get(&(topic.clone(), partition)) {
            Some(lane) => lane,
            None => self.open_lane(topic, partition).await?,
        };
        let queued = lane.send(Queued { record, permit }).await;
        queued
            .map_err(|_| ClientError::Invalid(format!("{topic}-{partition} failed before: nothing more is sent to it")))
    }

    async fn open_lane(&mut self, topic: &Arc<str>, partition: i32) -> Result<&mpsc::Sender<Queued>, ClientError> {
        self.client.retry("finding the leader", || self.client.leader(topic, partition)).await?;
        let (sender, receiver) = mpsc::channel(LANE_RECORDS_MAX);
        let (client, options) = (self.client.clone(), self.options.clone());
        let lane = Lane::new(client, options, topic.clone(), partition, self.producer_id, self.deliveries.clone());
        self.tasks.spawn(lane.run(receiver));
        Ok(self.lanes.entry((topic.clone(), partition)).or_insert(sender))
    }

    /// Sends what is queued and waits until everything is confirmed or given up. Then the receiver ends.
    pub async fn close(mut self) {
        self.lanes.clear();
        while self.tasks.join_next().await.is_some() {}
    }
}

impl ProducerRecord {
    /// The room it takes, about.
    pub fn size_bytes(&self) -> usize {
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers: usize = self.headers.iter().map(|(key, value)| key.len() + length(value)).sum();
        RECORD_OVERHEAD_BYTES + length(&self.key) + length(&self.value) + headers
    }
}
