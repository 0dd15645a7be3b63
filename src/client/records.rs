//! Single calls about records, each to the leader of its partition: produce one batch, list offsets, get a producer id.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use capek_wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use capek_wire::messages::produce::{PartitionProduceData, TopicProduceData};
use capek_wire::messages::{InitProducerIdRequest, ListOffsetsRequest, ProduceRequest, ProduceResponse};
use capek_wire::{Str, Uuid};

use super::cluster::Client;
use super::connection::{Answer, Connection};
use super::error::{ClientError, check};

pub const TIMESTAMP_LATEST: i64 = -1;
pub const TIMESTAMP_EARLIEST: i64 = -2;

/// Where a batch went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub base_offset: i64,
}

/// One batch for one partition, as a Produce request has it.
pub struct ProduceCall<'a> {
    pub topic: &'a str,
    pub topic_id: Uuid,
    pub partition: i32,
    pub records: Bytes,
    pub acks: i16,
    pub timeout: Duration,
}

/// Which offset is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetQuery {
    pub topic: String,
    pub partition: i32,
    /// Milliseconds, [`TIMESTAMP_LATEST`] or [`TIMESTAMP_EARLIEST`].
    pub timestamp: i64,
}

/// Its answer: offset -1 where no record is that young.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedOffset {
    pub offset: i64,
    pub timestamp: i64,
}

/// Sends a batch without waiting for its answer. Version 13 names topics by id: where there is none (an old broker, a
/// test double) 12 is spoken.
pub async fn send_produce(
    connection: &Connection,
    call: ProduceCall<'_>,
) -> Result<Option<Answer<ProduceRequest>>, ClientError> {
    let newest = connection.version::<ProduceRequest>()?;
    let version = if call.topic_id == Uuid::ZERO { newest.min(12) } else { newest };
    let timeout = call.timeout;
    let partition = PartitionProduceData { index: call.partition, records: Some(call.records) };
    let topic =
        TopicProduceData { name: Str::from(call.topic), topic_id: call.topic_id, partition_data: vec![partition] };
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let request = ProduceRequest { transactional_id: None, acks: call.acks, timeout_ms, topic_data: vec![topic] };
    if call.acks == 0 {
        connection.send_unanswered(&request).await?;
        return Ok(None);
    }
    Ok(Some(connection.send_version(&request, version).await?.patience(timeout)))
}

/// The one partition of the answer to [`send_produce`].
pub fn read_produced(whom: &str, doing: &str, response: ProduceResponse) -> Result<Produced, ClientError> {
    let partition =
        response.responses.into_iter().next().and_then(|topic| topic.partition_responses.into_iter().next());
    let Some(partition) = partition else {
        let (whom, doing) = (whom.to_owned(), doing.to_owned());
        return Err(ClientError::Malformed { whom, doing, problem: "it names no partition".to_owned() });
    };
    let of_record = partition.record_errors.iter().find_map(|error| error.batch_index_error_message.as_deref());
    let message = partition.error_message.as_deref().or(of_record);
    check(whom, doing, partition.error_code, message)?;
    Ok(Produced { base_offset: partition.base_offset })
}

impl Client {
    /// Asks the leaders, in parallel, and tries again where that helps. Answers come for every query.
    pub async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
    ) -> Result<BTreeMap<OffsetQuery, ListedOffset>, ClientError> {
        self.retry("ListOffsets", || async {
            let mut by_leader: BTreeMap<i32, Vec<&OffsetQuery>> = BTreeMap::new();
            for query in queries {
                let (leader, _) = self.leader(&query.topic, query.partition).await?;
                by_leader.entry(leader).or_default().push(query);
            }
            let mut asked = Vec::new();
            for (leader, queries) in by_leader {
                let connection = self.broker(leader).await?;
                // A request holds one time for a partition: two times for it go in two requests.
                for queries in without_repeats(queries) {
                    asked.push((connection.clone(), connection.send(&list_offsets_request(&queries)).await?, queries));
                }
            }
            let mut found = BTreeMap::new();
            for (connection, answer, queries) in asked {
                for topic in answer.get().await?.topics {
                    for partition in topic.partitions {
                        let name = topic.name.as_str();
                        let is_asked =
                            |query: &&&OffsetQuery| query.topic == name && query.partition == partition.partition_index;
                        let Some(query) = queries.iter().find(is_asked) else { continue };
                        let doing = format!("ListOffsets of {name}-{}", partition.partition_index);
                        let checked = check(connection.whom(), &doing, partition.error_code, None);
                        checked.inspect_err(|_| self.forget(name))?;
                        let listed = ListedOffset { offset: partition.offset, timestamp: partition.timestamp };
                        found.insert((*query).clone(), listed);
                    }
                }
            }
            match queries.iter().find(|query| !found.contains_key(query)) {
                Some(missing) => Err(ClientError::Malformed {
                    whom: "the leader".to_owned(),
                    doing: "ListOffsets".to_owned(),
                    problem: format!("nothing about {}-{}", missing.topic, missing.partition),
                }),
                None => Ok(found),
            }
        })
        .await
    }

    /// First and next offset of each partition of a topic, by partition.
    pub async fn offset_bounds(&self, topic: &str) -> Result<BTreeMap<i32, (i64, i64)>, ClientError> {
        let partitions: Vec<i32> = self.topic(topic).await?.partitions.keys().copied().collect();
        self.offset_bounds_of(topic, &partitions).await
    }

    /// First and next offset of some partitions.
    pub async fn offset_bounds_of(
        &self,
        topic: &str,
        partitions: &[i32],
    ) -> Result<BTreeMap<i32, (i64, i64)>, ClientError> {
        let query = |partition, timestamp| OffsetQuery { topic: topic.to_owned(), partition, timestamp };
        let both = |&partition: &i32| [query(partition, TIMESTAMP_EARLIEST), query(partition, TIMESTAMP_LATEST)];
        let found = self.list_offsets(&partitions.iter().flat_map(both).collect::<Vec<_>>()).await?;
        let offset = |partition, timestamp| found.get(&query(partition, timestamp)).map_or(0, |listed| listed.offset);
        let bounds = |&partition: &i32| {
            (partition, (offset(partition, TIMESTAMP_EARLIEST), offset(partition, TIMESTAMP_LATEST)))
        };
        Ok(partitions.iter().map(bounds).collect())
    }

    /// A fresh producer id and epoch, for idempotent produce.
    pub async fn init_producer_id(&self) -> Result<(i64, i16), ClientError> {
        self.retry("InitProducerId", || async {
            let connection = self.any().await?;
            let request = InitProducerIdRequest {
                transactional_id: None,
                transaction_timeout_ms: i32::MAX,
                ..InitProducerIdRequest::default()
            };
            let response = connection.call(&request).await?;
            check(connection.whom(), "InitProducerId", response.error_code, None)?;
            Ok((response.producer_id, response.producer_epoch))
        })
        .await
    }
}

fn without_repeats(queries: Vec<&OffsetQuery>) -> Vec<Vec<&OffsetQuery>> {
    let mut rounds: Vec<Vec<&OffsetQuery>> = Vec::new();
    let mut repeats: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for query in queries {
        let round = repeats.entry((&query.topic, query.partition)).or_default();
        if rounds.len() == *round {
            rounds.push(Vec::new());
        }
        rounds[*round].push(query);
        *round += 1;
    }
    rounds
}

fn list_offsets_request(queries: &[&OffsetQuery]) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&str, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for query in queries {
        let partition = ListOffsetsPartition {
            partition_index: query.partition,
            current_leader_epoch: -1,
            timestamp: query.timestamp,
        };
        topics.entry(&query.topic).or_default().push(partition);
    }
    let topic = |(name, partitions)| ListOffsetsTopic { name: Str::from(name), partitions };
    ListOffsetsRequest { replica_id: -1, topics: topics.into_iter().map(topic).collect(), ..Default::default() }
}
