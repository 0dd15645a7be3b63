//! OffsetCommit (key 8, versions 2–10): a group has come so far; answered when that is committed. Version 10 names topics by
//! id.

use std::rc::Rc;

use capek_state::cluster::{Image, Topic};
use capek_state::group::{CommitRequest, OffsetToCommit};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetCommitResponse,
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};

use super::{RequestContext, coordinator};

/// Versions up to here may say how long the offsets are kept.
const RETENTION_VERSION_MAX: i16 = 4;
/// Clients from here on know that a group can be missing.
const MISSING_GROUP_VERSION_MIN: i16 = 9;
const TOPIC_ID_VERSION_MIN: i16 = 10;

/// What the broker's configuration has the last word on.
const BROKERS_RETENTION: i64 = -1;

pub async fn answer(context: Rc<RequestContext>, request: OffsetCommitRequest, version: i16) -> OffsetCommitResponse {
    let mut offsets = Vec::new();
    let mut topics = {
        let image = context.broker.image.load();
        let sort_out = |topic| sort_out(&image, topic, version, &mut offsets);
        request.topics.into_iter().filter_map(sort_out).collect::<Vec<_>>()
    };
    let committed = if offsets.is_empty() {
        Ok(Vec::new())
    } else {
        let retention_ms = Some(request.retention_time_ms)
            .filter(|retention_ms| version <= RETENTION_VERSION_MAX && *retention_ms != BROKERS_RETENTION);
        let commit = CommitRequest {
            group: request.group_id.clone(),
            member_id: request.member_id,
            instance_id: request.group_instance_id,
            generation: request.generation_id_or_member_epoch,
            retention_ms,
            knows_missing_groups: version >= MISSING_GROUP_VERSION_MIN,
            offsets,
        };
        coordinator::ask(&context, &request.group_id, commit).await
    };
    let mut errors = committed.as_deref().unwrap_or_default().iter().copied();
    let of_all = committed.as_ref().err().copied();
    for partition in topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if partition.error_code == ErrorCode::None.code() {
            let error = of_all.or_else(|| errors.next()).unwrap_or(ErrorCode::UnknownServerError);
            partition.error_code = error.code();
        }
    }
    OffsetCommitResponse { topics, ..Default::default() }
}

/// Adds to `offsets` what names a partition that exists; what is wrong with the others stands in the answer. As with Kafka, of
/// a topic that exists and of which no partition is named the answer says nothing.
fn sort_out(
    image: &Image,
    topic: OffsetCommitRequestTopic,
    version: i16,
    offsets: &mut Vec<OffsetToCommit>,
) -> Option<OffsetCommitResponseTopic> {
    let is_by_id = version >= TOPIC_ID_VERSION_MIN;
    let found = if is_by_id { image.topic(topic.topic_id) } else { image.topic_by_name(&topic.name) };
    let missing = if is_by_id { ErrorCode::UnknownTopicId } else { ErrorCode::UnknownTopicOrPartition };
    if found.is_some() && topic.partitions.is_empty() {
        return None;
    }
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for partition in topic.partitions {
        let partition_index = partition.partition_index;
        let error = match found {
            None => missing,
            Some(found) if found.partition(partition_index).is_none() => ErrorCode::UnknownTopicOrPartition,
            Some(found) => {
                offsets.push(to_commit(found, partition));
                ErrorCode::None
            }
        };
        partitions.push(OffsetCommitResponsePartition { partition_index, error_code: error.code() });
    }
    Some(OffsetCommitResponseTopic { name: topic.name, topic_id: topic.topic_id, partitions })
}

fn to_commit(topic: &Topic, partition: OffsetCommitRequestPartition) -> OffsetToCommit {
    OffsetToCommit {
        topic: (&*topic.name).into(),
        topic_id: topic.id,
        partition: partition.partition_index,
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        // The record cannot hold null: it comes back as "", as with Kafka.
        metadata: partition.committed_metadata.unwrap_or_default(),
    }
}
