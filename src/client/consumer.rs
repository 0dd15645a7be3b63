//! A consumer that is told what to read: fetches from each leader, one request ahead of whoever reads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_wire::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use capek_wire::messages::{FetchRequest, FetchResponse};
use capek_wire::{ErrorCode, Str, Uuid, batch};
use tokio::task::JoinSet;

use super::cluster::Client;
use super::connection::Connection;
use super::error::{ClientError, check};
use super::records::{OffsetQuery, TIMESTAMP_EARLIEST};

#[derive(Clone, Debug)]
pub struct ConsumerOptions {
    /// How long a broker may wait for `min_bytes`.
    pub max_wait: Duration,
    pub min_bytes: i32,
    /// Of one answer. With the one read ahead, memory holds twice as much for each broker.
    pub max_bytes: i32,
    pub partition_max_bytes: i32,
    pub read_committed: bool,
}

/// What one answer brought for one partition: whole batches, the first of which may begin before `fetch_offset`.
#[derive(Clone, Debug)]
pub struct Fetched {
    pub topic: Arc<str>,
    pub partition: i32,
    pub fetch_offset: i64,
    pub records: Bytes,
    /// Where the consumer goes on.
    pub next_offset: i64,
    pub high_watermark: i64,
}

pub struct Consumer {
    client: Client,
    options: ConsumerOptions,
    positions: BTreeMap<TopicPartition, i64>,
    connections: BTreeMap<i32, Connection>,
    /// Leaders that are being asked.
    busy: BTreeSet<i32>,
    fetches: JoinSet<Answered>,
    /// Turns with every request, so that no partition is always last.
    turn: usize,
    failures: u32,
}

type TopicPartition = (Arc<str>, i32);

struct Answered {
    leader: i32,
    whom: String,
    /// What was asked: id of the topic, and offset.
    asked: BTreeMap<TopicPartition, (Uuid, i64)>,
    response: Result<FetchResponse, ClientError>,
}

const FAILURES_MAX: u32 = 30;
const BACKOFF: Duration = Duration::from_millis(50);

impl Default for ConsumerOptions {
    fn default() -> ConsumerOptions {
        ConsumerOptions {
            max_wait: Duration::from_millis(500),
            min_bytes: 1,
            max_bytes: 16 << 20,
            partition_max_bytes: 4 << 20,
            read_committed: false,
        }
    }
}

impl Consumer {
    pub fn new(client: Client, options: ConsumerOptions) -> Consumer {
        Consumer {
            client,
            options,
            positions: BTreeMap::new(),
            connections: BTreeMap::new(),
            busy: BTreeSet::new(),
            fetches: JoinSet::new(),
            turn: 0,
            failures: 0,
        }
    }

    /// Reads this partition from this offset on.
    pub fn assign(&mut self, topic: &Arc<str>, partition: i32, offset: i64) {
        self.positions.insert((topic.clone(), partition), offset);
    }

    /// Reads this partition no longer.
    pub fn unassign(&mut self, topic: &Arc<str>, partition: i32) {
        self.positions.remove(&(topic.clone(), partition));
    }

    pub fn is_done(&self) -> bool {
        self.positions.is_empty()
    }

    /// Waits for the next answer of any broker. An answer without records is one entry with none: it tells where the
    /// end is.
    pub async fn poll(&mut self) -> Result<Vec<Fetched>, ClientError> {
        loop {
            if let Err(error) = self.ask_leaders().await {
                self.failed(error).await?;
                continue;
            }
            let Some(answered) = self.fetches.join_next().await else {
                return Ok(Vec::new());
            };
            let answered = match answered {
                Ok(answered) => answered,
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            };
            self.busy.remove(&answered.leader);
            match self.take(answered).await {
                Ok(fetched) => {
                    self.failures = 0;
                    // The next request is on its way while the caller looks at this answer. What goes wrong with it
                    // shows in the next poll.
                    let _ = self.ask_leaders().await;
                    return Ok(fetched);
                }
                Err(error) => self.failed(error).await?,
            }
        }
    }

    async fn failed(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.failures += 1;
        if !error.is_retriable() || self.failures > FAILURES_MAX {
            return Err(error);
        }
        log::debug!("fetching again: {error}");
        for (topic, _) in self.positions.keys() {
            self.client.forget(topic);
        }
        tokio::time::sleep(BACKOFF * self.failures.min(20)).await;
        Ok(())
    }

    /// Sends a fetch to every leader that has none.
    async fn ask_leaders(&mut self) -> Result<(), ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<(TopicPartition, Uuid, i64)>> = BTreeMap::new();
        for ((topic, partition), offset) in &self.positions {
            let (leader, topic_id) = self.client.leader(topic, *partition).await?;
            if !self.busy.contains(&leader) {
                by_leader.entry(leader).or_default().push(((topic.clone(), *partition), topic_id, *offset));
            }
        }
        for (leader, mut wanted) in by_leader {
            let connection = self.connection(leader).await?;
            self.turn += 1;
            let first = self.turn % wanted.len();
            wanted.rotate_left(first);
            let newest = connection.version::<FetchRequest>()?;
            let version = if wanted.iter().any(|(_, id, _)| *id == Uuid::ZERO) { newest.min(12) } else { newest };
            let answer =
                connection.send_version(&self.request(&wanted), version).await?.patience(self.options.max_wait);
            let asked = wanted.into_iter().map(|(key, id, offset)| (key, (id, offset))).collect();
            let whom = connection.whom().to_owned();
            self.busy.insert(leader);
            self.fetches.spawn(async move { Answered { leader, whom, asked, response: answer.get().await } });
        }
        Ok(())
    }

    /// A connection for fetches alone: what else is asked of the broker does not wait behind a long poll.
    async fn connection(&mut self, leader: i32) -> Result<Connection, ClientError> {
        if let Some(connection) = self.connections.get(&leader).filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = self.client.open_broker(leader).await?;
        self.connections.insert(leader, connection.clone());
        Ok(connection)
    }

    fn request(&self, wanted: &[(TopicPartition, Uuid, i64)]) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((topic, partition), topic_id, offset) in wanted {
            let partition = FetchPartition {
                partition: *partition,
                fetch_offset: *offset,
                partition_max_bytes: self.options.partition_max_bytes,
                ..FetchPartition::default()
            };
            match topics.last_mut().filter(|last| *last.topic == **topic) {
                Some(last) => last.partitions.push(partition),
                None => {
                    let (topic, topic_id) = (Str::from(&**topic), *topic_id);
                    topics.push(FetchTopic { topic, topic_id, partitions: vec![partition] });
                }
            }
        }
        FetchRequest {
            cluster_id: None,
            max_wait_ms: i32::try_from(self.options.max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: self.options.min_bytes,
            max_bytes: self.options.max_bytes,
            isolation_level: i8::from(self.options.read_committed),
            topics,
            ..FetchRequest::default()
        }
    }

    async fn take(&mut self, answered: Answered) -> Result<Vec<Fetched>, ClientError> {
        let response = answered.response?;
        check(&answered.whom, "Fetch", response.error_code, None)?;
        let mut all = Vec::new();
        let mut lost = Vec::new();
        for topic in response.responses {
            for data in topic.partitions {
                let is_it = |((name, partition), (id, _)): &(&TopicPartition, &(Uuid, i64))| {
                    *partition == data.partition_index
                        && if topic.topic.is_empty() { *id == topic.topic_id } else { **name == *topic.topic }
                };
                let Some((key, (_, fetch_offset))) = answered.asked.iter().find(is_it) else { continue };
                // Taken off the list while the answer was on its way, or sent elsewhere.
                if self.positions.get(key) != Some(fetch_offset) {
                    continue;
                }
                match ErrorCode::from_code(data.error_code) {
                    ErrorCode::OffsetOutOfRange => lost.push((key.clone(), *fetch_offset)),
                    _ => all.push(self.take_partition(&answered.whom, key, *fetch_offset, data)?),
                }
            }
        }
        for (key, fetch_offset) in lost {
            self.find_again(key, fetch_offset).await?;
        }
        Ok(all)
    }

    fn take_partition(
        &mut self,
        whom: &str,
        key: &TopicPartition,
        fetch_offset: i64,
        data: PartitionData,
    ) -> Result<Fetched, ClientError> {
        let (topic, partition) = key;
        let doing = format!("Fetch of {topic}-{partition} at offset {fetch_offset}");
        check(whom, &doing, data.error_code, None)?;
        let malformed =
            |problem: String| ClientError::Malformed { whom: whom.to_owned(), doing: doing.clone(), problem };
        let records = data.records.unwrap_or_default();
        let mut next_offset = fetch_offset;
        let mut end = 0;
        for found in batch::batches(&records) {
            let (position, header) = found.map_err(|error| malformed(error.to_string()))?;
            next_offset = next_offset.max(header.next_offset());
            end = position + header.size_bytes();
        }
        if end == 0 && !records.is_empty() {
            return Err(malformed(format!("{} bytes that hold no whole batch", records.len())));
        }
        self.positions.insert(key.clone(), next_offset);
        Ok(Fetched {
            topic: topic.clone(),
            partition: *partition,
            fetch_offset,
            records: records.slice(..end),
            next_offset,
            high_watermark: data.high_watermark,
        })
    }

    /// What was to be read is gone (retention), or not there yet: goes on at the nearest offset there is.
    async fn find_again(&mut self, key: TopicPartition, fetch_offset: i64) -> Result<(), ClientError> {
        let (topic, partition) = &key;
        let query = |timestamp| OffsetQuery { topic: topic.to_string(), partition: *partition, timestamp };
        let queries = [query(TIMESTAMP_EARLIEST), query(super::records::TIMESTAMP_LATEST)];
        let found = self.client.list_offsets(&queries).await?;
        let offset = |query: &OffsetQuery| found.get(query).map_or(0, |listed| listed.offset);
        let (start, end) = (offset(&queries[0]), offset(&queries[1]));
        let nearest = fetch_offset.clamp(start, end.max(start));
        log::warn!(
            "{topic}-{partition}: offset {fetch_offset} is not there ({start} to {end}): reading on at {nearest}"
        );
        self.positions.insert(key, nearest);
        Ok(())
    }
}
