//! OffsetFetch (key 9, versions 1–10): how far groups have come. Versions 8 and up ask for many groups; 10 names topics by id.
//! A partition that nothing is committed to has offset -1, and that is no error.

use std::rc::Rc;

use capek_state::cluster::Image;
use capek_state::group::{CommittedOffset, FetchRequest, FetchTopic, FetchedTopic};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{PartitionIndex, Uuid};
use capek_wire::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    OffsetFetchResponse, OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};

use super::RequestContext;
use super::coordinator::{self, Pending};

/// The first version has no place for an error but at each partition.
const TOP_LEVEL_ERROR_VERSION_MIN: i16 = 2;
const MANY_GROUPS_VERSION_MIN: i16 = 8;
const TOPIC_ID_VERSION_MIN: i16 = 10;

pub async fn answer(context: Rc<RequestContext>, request: OffsetFetchRequest, version: i16) -> OffsetFetchResponse {
    if version >= MANY_GROUPS_VERSION_MIN {
        return answer_many(&context, request.groups, version).await;
    }
    let asked = request.topics.map(|topics| topics.into_iter().map(fetch_topic).collect::<Vec<_>>());
    let fetch = FetchRequest { group: request.group_id.clone(), topics: asked.clone(), ..FetchRequest::default() };
    match coordinator::ask(&context, &request.group_id, fetch).await {
        Ok(fetched) => OffsetFetchResponse { topics: fetched.into_iter().map(topic).collect(), ..Default::default() },
        Err(error) if version >= TOP_LEVEL_ERROR_VERSION_MIN => {
            OffsetFetchResponse { error_code: error.code(), ..Default::default() }
        }
        Err(error) => {
            let topics = asked.into_iter().flatten().map(|asked| failed_topic(asked, error)).collect();
            OffsetFetchResponse { topics, ..Default::default() }
        }
    }
}

fn fetch_topic(topic: OffsetFetchRequestTopic) -> FetchTopic {
    FetchTopic { topic: topic.name, topic_id: Uuid::ZERO, partitions: topic.partition_indexes }
}

fn failed_topic(asked: FetchTopic, error: ErrorCode) -> OffsetFetchResponseTopic {
    let failed = |index| OffsetFetchResponsePartition { error_code: error.code(), ..partition((index, None)) };
    OffsetFetchResponseTopic { name: asked.topic, partitions: asked.partitions.into_iter().map(failed).collect() }
}

fn topic(fetched: FetchedTopic) -> OffsetFetchResponseTopic {
    OffsetFetchResponseTopic {
        name: fetched.topic,
        partitions: fetched.partitions.into_iter().map(partition).collect(),
    }
}

fn partition((index, committed): (PartitionIndex, Option<CommittedOffset>)) -> OffsetFetchResponsePartition {
    let committed = committed.unwrap_or_else(nothing);
    OffsetFetchResponsePartition {
        partition_index: index,
        committed_offset: committed.offset,
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(committed.metadata),
        ..Default::default()
    }
}

fn nothing() -> CommittedOffset {
    CommittedOffset { offset: -1, leader_epoch: -1, ..Default::default() }
}

/// A group of versions 8 and up, on its way.
struct Asked {
    group_id: Str,
    fetched: Result<Pending<Vec<FetchedTopic>>, ErrorCode>,
    /// Topics that nobody knows by their ids.
    unknown: Vec<OffsetFetchResponseTopics>,
}

async fn answer_many(
    context: &RequestContext,
    groups: Vec<OffsetFetchRequestGroup>,
    version: i16,
) -> OffsetFetchResponse {
    // All are asked before the first is waited for.
    let mut asked = Vec::with_capacity(groups.len());
    for group in groups {
        let shard = coordinator::of_group(context, &group.group_id).await;
        let image = context.broker.image.load();
        let mut unknown = Vec::new();
        let topics = group.topics.map(|topics| resolve(&image, topics, version, &mut unknown));
        let (member_id, member_epoch) = (group.member_id, group.member_epoch);
        let fetch = FetchRequest { group: group.group_id.clone(), member_id, member_epoch, topics };
        let fetched = shard.map(|shard| coordinator::send(&shard, fetch));
        asked.push(Asked { group_id: group.group_id, fetched, unknown });
    }
    let mut groups = Vec::with_capacity(asked.len());
    for asked in asked {
        let fetched = match asked.fetched {
            Ok(pending) => coordinator::answered(pending).await,
            Err(error) => Err(error),
        };
        let image = context.broker.image.load();
        groups.push(match fetched {
            Ok(fetched) => {
                let mut topics = asked.unknown;
                topics.extend(fetched.into_iter().filter_map(|fetched| group_topic(&image, fetched, version)));
                OffsetFetchResponseGroup { group_id: asked.group_id, topics, ..Default::default() }
            }
            Err(error) => {
                OffsetFetchResponseGroup { group_id: asked.group_id, error_code: error.code(), ..Default::default() }
            }
        });
    }
    OffsetFetchResponse { groups, ..Default::default() }
}

/// Topics by name, whatever way they were named; `unknown` are those without one.
fn resolve(
    image: &Image,
    topics: Vec<OffsetFetchRequestTopics>,
    version: i16,
    unknown: &mut Vec<OffsetFetchResponseTopics>,
) -> Vec<FetchTopic> {
    let mut resolved = Vec::with_capacity(topics.len());
    for topic in topics {
        if version < TOPIC_ID_VERSION_MIN {
            let (topic, partitions) = (topic.name, topic.partition_indexes);
            resolved.push(FetchTopic { topic, topic_id: Uuid::ZERO, partitions });
            continue;
        }
        match image.topic(topic.topic_id) {
            Some(found) => resolved.push(FetchTopic {
                topic: Str::from(&*found.name),
                topic_id: topic.topic_id,
                partitions: topic.partition_indexes,
            }),
            None => {
                let failed = |index| OffsetFetchResponsePartitions {
                    error_code: ErrorCode::UnknownTopicId.code(),
                    ..group_partition((index, None))
                };
                let partitions = topic.partition_indexes.into_iter().map(failed).collect();
                let topic_id = topic.topic_id;
                unknown.push(OffsetFetchResponseTopics { topic_id, partitions, ..Default::default() });
            }
        }
    }
    resolved
}

/// None: the version names it by an id that it does not have any more.
fn group_topic(image: &Image, fetched: FetchedTopic, version: i16) -> Option<OffsetFetchResponseTopics> {
    let topic_id = match version >= TOPIC_ID_VERSION_MIN {
        true => image.topic_by_name(&fetched.topic)?.id,
        false => Uuid::ZERO,
    };
    let partitions = fetched.partitions.into_iter().map(group_partition).collect();
    Some(OffsetFetchResponseTopics { name: fetched.topic, topic_id, partitions })
}

fn group_partition((index, committed): (PartitionIndex, Option<CommittedOffset>)) -> OffsetFetchResponsePartitions {
    let committed = committed.unwrap_or_else(nothing);
    OffsetFetchResponsePartitions {
        partition_index: index,
        committed_offset: committed.offset,
        committed_leader_epoch: committed.leader_epoch,
        metadata: Some(committed.metadata),
        ..Default::default()
    }
}
