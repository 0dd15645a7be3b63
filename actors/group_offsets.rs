//! The offsets of a group, asked and stored by the broker's own doors: what stands between them and the coordinator.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use capek_wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use capek_wire::messages::offset_fetch::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use capek_wire::messages::{OffsetCommitRequest, OffsetCommitResponse, OffsetFetchRequest, OffsetFetchResponse};

use crate::consumer_commands::{InstanceError, OffsetToStore, Place};
use crate::local::LocalClient;
use crate::local_requests::{Caller, Destination};
use crate::record_reader::OffsetReset;

/// The last that name topics by their names.
const COMMIT_VERSION: i16 = 9;
const FETCH_VERSION: i16 = 9;

/// Who commits or asks. The epoch moves with the member's heartbeats, also while somebody tries again.
#[derive(Debug, Clone)]
pub struct GroupMember {
    pub member_id: Str,
    pub epoch: Arc<AtomicI32>,
}

impl GroupMember {
    /// Allowed where the group has no members.
    pub fn nobody() -> GroupMember {
        GroupMember { member_id: Str::default(), epoch: Arc::new(AtomicI32::new(-1)) }
    }
}

/// What a group has stored for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredOffset {
    pub offset: Offset,
    pub metadata: String,
}

/// Stores the offsets; all that can be stored are, and the first error is told.
pub async fn commit(
    client: &LocalClient,
    caller: &Caller,
    group: &str,
    member: &GroupMember,
    offsets: &[OffsetToStore],
) -> Result<(), InstanceError> {
    if offsets.is_empty() {
        return Ok(());
    }
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for OffsetToStore { place: (topic, partition), offset, metadata } in offsets {
        topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            committed_metadata: Some(Str::from(metadata)),
        });
    }
    let topic =
        |(name, partitions)| OffsetCommitRequestTopic { name: Str::from(name), partitions, ..Default::default() };
    let topics: Vec<_> = topics.into_iter().map(topic).collect();
    let request = || OffsetCommitRequest {
        group_id: Str::from(group),
        member_id: member.member_id.clone(),
        generation_id_or_member_epoch: member.epoch.load(Ordering::Acquire),
        topics: topics.clone(),
        ..Default::default()
    };
    let destination = Destination::Coordinator(group);
    let answer = client.ask_patiently(destination, caller, COMMIT_VERSION, request, first_failure).await;
    let answer = answer.map_err(|error| InstanceError::Kafka(error.code(), Some(error.to_string())))?;
    match ErrorCode::from_code(first_failure(&answer)) {
        ErrorCode::None => Ok(()),
        code => Err(InstanceError::Kafka(code, None)),
    }
}

fn first_failure(answer: &OffsetCommitResponse) -> i16 {
    let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|partition| partition.error_code);
    codes.find(|code| *code != ErrorCode::None.code()).unwrap_or_default()
}

/// What the group has stored for these; a partition without an offset is not in the answer.
pub async fn committed(
    client: &LocalClient,
    caller: &Caller,
    group: &str,
    member: &GroupMember,
    places: &[Place],
) -> Result<BTreeMap<Place, StoredOffset>, InstanceError> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for (topic, partition) in places {
        topics.entry(topic).or_default().push(*partition);
    }
    let topic = |(name, partition_indexes)| OffsetFetchRequestTopics {
        name: Str::from(name),
        partition_indexes,
        ..Default::default()
    };
    fetch(client, caller, group, member, Some(topics.into_iter().map(topic).collect())).await
}

/// Where to begin in each: where the group has come, or where `reset` says.
pub async fn positions(
    client: &LocalClient,
    caller: &Caller,
    group: &str,
    member: &GroupMember,
    places: Vec<Place>,
    reset: OffsetReset,
) -> Result<Vec<(Place, Result<Offset, ErrorCode>)>, InstanceError> {
    let committed = committed(client, caller, group, member, &places).await?;
    let mut positions = Vec::with_capacity(places.len());
    for place in places {
        let offset = match committed.get(&place) {
            Some(stored) => Ok(stored.offset),
            None => begin(client, &place, reset).await,
        };
        positions.push((place, offset));
    }
    Ok(positions)
}

async fn begin(client: &LocalClient, place: &Place, reset: OffsetReset) -> Result<Offset, ErrorCode> {
    let source = client.partition(&place.0, place.1)?;
    client.refresh(&source).await?;
    source.reset(reset)
}

pub fn is_there(client: &LocalClient, (topic, partition): &Place) -> bool {
    client.image().topic_by_name(topic).is_some_and(|topic| topic.partition(*partition).is_some())
}

/// All that the group has stored.
pub async fn all_committed(
    client: &LocalClient,
    caller: &Caller,
    group: &str,
) -> Result<BTreeMap<Place, StoredOffset>, InstanceError> {
    fetch(client, caller, group, &GroupMember::nobody(), None).await
}

async fn fetch(
    client: &LocalClient,
    caller: &Caller,
    group: &str,
    member: &GroupMember,
    topics: Option<Vec<OffsetFetchRequestTopics>>,
) -> Result<BTreeMap<Place, StoredOffset>, InstanceError> {
    let has_member = !member.member_id.is_empty();
    let request = || {
        let asked = OffsetFetchRequestGroup {
            group_id: Str::from(group),
            member_id: has_member.then(|| member.member_id.clone()),
            member_epoch: if has_member { member.epoch.load(Ordering::Acquire) } else { -1 },
            topics: topics.clone(),
        };
        OffsetFetchRequest { groups: vec![asked], ..Default::default() }
    };
    let code_of = |answer: &OffsetFetchResponse| answer.groups.first().map_or(0, |group| group.error_code);
    let destination = Destination::Coordinator(group);
    let answer = client.ask_patiently(destination, caller, FETCH_VERSION, request, code_of).await;
    let answer = answer.map_err(|error| InstanceError::Kafka(error.code(), Some(error.to_string())))?;
    let mut found = BTreeMap::new();
    let Some(group) = answer.groups.into_iter().next() else { return Ok(found) };
    match ErrorCode::from_code(group.error_code) {
        // A group that nobody has joined yet has stored nothing.
        ErrorCode::None | ErrorCode::GroupIdNotFound => {}
        code => return Err(InstanceError::Kafka(code, None)),
    }
    for topic in group.topics {
        for partition in topic.partitions.into_iter().filter(|partition| partition.committed_offset >= 0) {
            let metadata = partition.metadata.map(String::from).unwrap_or_default();
            let stored = StoredOffset { offset: partition.committed_offset, metadata };
            found.insert((topic.name.to_string(), partition.partition_index), stored);
        }
    }
    Ok(found)
}
