//! The calls about groups from outside: list, describe, read and set committed offsets, delete. Each goes to the group's
//! coordinator, which is found again when it has moved.

use std::collections::{BTreeMap, BTreeSet};

use bytes::{Buf, Bytes};
use capek_wire::messages::consumer_group_describe;
use capek_wire::messages::describe_groups::DescribedGroup;
use capek_wire::messages::find_coordinator::FindCoordinatorRequest;
use capek_wire::messages::list_groups::ListedGroup;
use capek_wire::messages::offset_commit::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use capek_wire::messages::offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use capek_wire::messages::offset_fetch::OffsetFetchRequestGroup;
use capek_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, DeleteGroupsRequest, DescribeGroupsRequest,
    ListGroupsRequest, OffsetCommitRequest, OffsetDeleteRequest, OffsetFetchRequest,
};
use capek_wire::{ErrorCode, Message, Reader, Str};

use super::cluster::Client;
use super::connection::Connection;
use super::error::{ClientError, check};

/// A topic's name and a partition's index.
pub type Place = (String, i32);

/// What a group has committed for a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    pub offset: i64,
    pub leader_epoch: Option<i32>,
    pub metadata: Option<String>,
}

/// A group as its coordinator describes it.
#[derive(Clone, Debug)]
pub struct GroupDescription {
    pub id: String,
    /// Empty, PreparingRebalance, CompletingRebalance, Stable or Dead.
    pub state: String,
    /// The assignor that the members agreed on.
    pub protocol: String,
    pub members: Vec<GroupMember>,
    pub coordinator: CoordinatorAddress,
    /// Of a group whose partitions the broker shares out: the group's epoch and its assignment's.
    pub epochs: Option<(i32, i32)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoordinatorAddress {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    pub id: String,
    pub instance_id: Option<String>,
    pub client_id: String,
    pub host: String,
    pub assignment: BTreeSet<Place>,
    /// Where the broker shares out: the member's epoch, and what it shall have.
    pub target: Option<(i32, BTreeSet<Place>)>,
}

impl GroupDescription {
    /// Whether offsets may be changed from outside.
    pub fn is_inactive(&self) -> bool {
        matches!(self.state.as_str(), "Empty" | "Dead")
    }
}

impl Client {
    pub async fn coordinator_address(&self, group: &str) -> Result<CoordinatorAddress, ClientError> {
        self.retry("FindCoordinator", || async {
            let connection = self.any().await?;
            let version = connection.version::<FindCoordinatorRequest>()?;
            let mut request = FindCoordinatorRequest::default();
            match version {
                4.. => request.coordinator_keys = vec![Str::from(group)],
                _ => request.key = Str::from(group),
            }
            let response = connection.send_version(&request, version).await?.get().await?;
            let doing = format!("finding the coordinator of group '{group}'");
            let found = match response.coordinators.into_iter().next() {
                Some(found) => {
                    check(connection.whom(), &doing, found.error_code, found.error_message.as_deref())?;
                    (found.node_id, found.host, found.port)
                }
                None => {
                    check(connection.whom(), &doing, response.error_code, response.error_message.as_deref())?;
                    (response.node_id, response.host, response.port)
                }
            };
            let (node_id, host, port) = found;
            Ok(CoordinatorAddress { node_id, host: host.to_string(), port })
        })
        .await
    }

    /// The connection to a group's coordinator.
    pub async fn coordinator(&self, group: &str) -> Result<Connection, ClientError> {
        let address = self.coordinator_address(group).await?;
        self.broker(address.node_id).await
    }

    /// All groups of all brokers; a broker keeps those that it coordinates.
    pub async fn list_groups(&self, states: &[String], types: &[String]) -> Result<Vec<ListedGroup>, ClientError> {
        let request = ListGroupsRequest {
            states_filter: states.iter().map(Str::from).collect(),
            types_filter: types.iter().map(Str::from).collect(),
        };
        self.retry("ListGroups", || async {
            self.refresh(Some(&[])).await?;
            let mut groups = Vec::new();
            // The metadata goes on naming a broker for a while that has just left.
            for member in self.describe_cluster().await?.brokers {
                let connection = self.broker(member.broker_id).await?;
                let response = connection.call(&request).await?;
                check(connection.whom(), "ListGroups", response.error_code, None)?;
                groups.extend(response.groups);
            }
            groups.sort_by(|one, other| one.group_id.cmp(&other.group_id));
            groups.dedup_by(|one, other| one.group_id == other.group_id);
            Ok(groups)
        })
        .await
    }

    /// A group that is not there is GROUP_ID_NOT_FOUND.
    pub async fn describe_group(&self, group: &str) -> Result<GroupDescription, ClientError> {
        self.retry("DescribeGroups", || async {
            let coordinator = self.coordinator_address(group).await?;
            let connection = self.broker(coordinator.node_id).await?;
            if let Some(described) = describe_consumer_group(&connection, group, &coordinator).await? {
                return Ok(described);
            }
            let request =
                DescribeGroupsRequest { groups: vec![Str::from(group)], include_authorized_operations: false };
            let response = connection.call(&request).await?;
            let doing = format!("describing group '{group}'");
            let Some(described) = response.groups.into_iter().next() else {
                return Err(nothing_said(&connection, &doing));
            };
            check(connection.whom(), &doing, described.error_code, described.error_message.as_deref())?;
            // Before version 6 an unknown group is a dead one.
            if described.group_state == "Dead" {
                let message = format!("Group {group} not found.");
                return Err(ClientError::refused(
                    connection.whom(),
                    &doing,
                    ErrorCode::GroupIdNotFound,
                    Some(&message),
                ));
            }
            Ok(description(described, coordinator))
        })
        .await
    }

    /// What a group has committed, of all partitions for which it has.
    pub async fn committed(&self, group: &str) -> Result<BTreeMap<Place, Committed>, ClientError> {
        self.retry("OffsetFetch", || async {
            let connection = self.coordinator(group).await?;
            // From 10 on topics have ids instead of names.
            let version = connection.version::<OffsetFetchRequest>()?.min(9);
            let mut request = OffsetFetchRequest::default();
            match version {
                8.. => {
                    let all =
                        OffsetFetchRequestGroup { group_id: Str::from(group), topics: None, ..Default::default() };
                    request.groups = vec![all];
                }
                _ => (request.group_id, request.topics) = (Str::from(group), None),
            }
            let response = connection.send_version(&request, version).await?.get().await?;
            let doing = format!("OffsetFetch of group '{group}'");
            let mut committed = BTreeMap::new();
            let mut take = |topic: &Str, partition: i32, offset: i64, leader_epoch: i32, metadata: Option<Str>| {
                if offset >= 0 {
                    let metadata = metadata.map(|text| text.to_string());
                    let leader_epoch = Some(leader_epoch).filter(|epoch| *epoch >= 0);
                    committed.insert((topic.to_string(), partition), Committed { offset, leader_epoch, metadata });
                }
            };
            check(connection.whom(), &doing, response.error_code, None)?;
            for topic in response.topics {
                for one in topic.partitions {
                    check(connection.whom(), &doing, one.error_code, None)?;
                    take(
                        &topic.name,
                        one.partition_index,
                        one.committed_offset,
                        one.committed_leader_epoch,
                        one.metadata,
                    );
                }
            }
            for group in response.groups {
                check(connection.whom(), &doing, group.error_code, None)?;
                for topic in group.topics {
                    for one in topic.partitions {
                        check(connection.whom(), &doing, one.error_code, None)?;
                        take(
                            &topic.name,
                            one.partition_index,
                            one.committed_offset,
                            one.committed_leader_epoch,
                            one.metadata,
                        );
                    }
                }
            }
            Ok(committed)
        })
        .await
    }

    /// Sets offsets of a group that has no members.
    pub async fn set_committed(&self, group: &str, offsets: &BTreeMap<Place, i64>) -> Result<(), ClientError> {
        self.retry("OffsetCommit", || async {
            let connection = self.coordinator(group).await?;
            let request = commit_request(group, offsets);
            commit(&connection, &request).await
        })
        .await
    }

    /// Deletes a group with its offsets.
    pub async fn delete_group(&self, group: &str) -> Result<(), ClientError> {
        self.retry("DeleteGroups", || async {
            let connection = self.coordinator(group).await?;
            let response = connection.call(&DeleteGroupsRequest { groups_names: vec![Str::from(group)] }).await?;
            let doing = format!("deleting group '{group}'");
            let Some(result) = response.results.first() else { return Err(nothing_said(&connection, &doing)) };
            check(connection.whom(), &doing, result.error_code, None)
        })
        .await
    }

    /// Deletes what a group has committed for some partitions; the answer tells of each.
    pub async fn delete_committed(
        &self,
        group: &str,
        places: &[Place],
    ) -> Result<BTreeMap<Place, Result<(), ClientError>>, ClientError> {
        self.retry("OffsetDelete", || async {
            let connection = self.coordinator(group).await?;
            let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
            for (topic, partition) in places {
                topics.entry(topic).or_default().push(OffsetDeleteRequestPartition { partition_index: *partition });
            }
            let topic = |(name, partitions)| OffsetDeleteRequestTopic { name: Str::from(name), partitions };
            let request =
                OffsetDeleteRequest { group_id: Str::from(group), topics: topics.into_iter().map(topic).collect() };
            let response = connection.call(&request).await?;
            let doing = format!("deleting offsets of group '{group}'");
            check(connection.whom(), &doing, response.error_code, None)?;
            let mut results = BTreeMap::new();
            for topic in response.topics {
                for one in topic.partitions {
                    let result = check(connection.whom(), &doing, one.error_code, None);
                    results.insert((topic.name.to_string(), one.partition_index), result);
                }
            }
            Ok(results)
        })
        .await
    }
}

/// A commit of nobody in particular; a member adds who it is.
pub fn commit_request(group: &str, offsets: &BTreeMap<Place, i64>) -> OffsetCommitRequest {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        topics.entry(topic).or_default().push(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_metadata: Some(Str::from("")),
            ..Default::default()
        });
    }
    let topic =
        |(name, partitions)| OffsetCommitRequestTopic { name: Str::from(name), partitions, ..Default::default() };
    OffsetCommitRequest {
        group_id: Str::from(group),
        topics: topics.into_iter().map(topic).collect(),
        ..Default::default()
    }
}

/// Sends a commit; the first error of any partition is its error.
pub async fn commit(connection: &Connection, request: &OffsetCommitRequest) -> Result<(), ClientError> {
    // From 10 on topics have ids instead of names.
    let version = connection.version::<OffsetCommitRequest>()?.min(9);
    let response = connection.send_version(request, version).await?.get().await?;
    for topic in &response.topics {
        for partition in &topic.partitions {
            let doing =
                format!("committing {}-{} in group '{}'", topic.name, partition.partition_index, request.group_id);
            check(connection.whom(), &doing, partition.error_code, None)?;
        }
    }
    Ok(())
}

fn description(described: DescribedGroup, coordinator: CoordinatorAddress) -> GroupDescription {
    let is_consumer_group = described.protocol_type == "consumer";
    let members = described.members.into_iter().map(|member| GroupMember {
        assignment: if is_consumer_group { assigned(&member.member_assignment) } else { BTreeSet::new() },
        target: None,
        id: member.member_id.to_string(),
        instance_id: member.group_instance_id.map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
    });
    GroupDescription {
        id: described.group_id.to_string(),
        state: described.group_state.to_string(),
        protocol: described.protocol_data.to_string(),
        members: members.collect(),
        coordinator,
        epochs: None,
    }
}

/// A group of the newer protocol; None where it is none, or the broker knows no such groups.
async fn describe_consumer_group(
    connection: &Connection,
    group: &str,
    coordinator: &CoordinatorAddress,
) -> Result<Option<GroupDescription>, ClientError> {
    if connection.version::<ConsumerGroupDescribeRequest>().is_err() {
        return Ok(None);
    }
    let request = ConsumerGroupDescribeRequest { group_ids: vec![Str::from(group)], ..Default::default() };
    let response = connection.call(&request).await?;
    let Some(described) = response.groups.into_iter().next() else { return Ok(None) };
    match ErrorCode::from_code(described.error_code) {
        ErrorCode::GroupIdNotFound | ErrorCode::UnsupportedVersion => return Ok(None),
        _ => {
            let doing = format!("describing group '{group}'");
            check(connection.whom(), &doing, described.error_code, described.error_message.as_deref())?;
        }
    }
    let places = |assignment: &consumer_group_describe::Assignment| -> BTreeSet<Place> {
        let topics = assignment.topic_partitions.iter();
        topics.flat_map(|topic| topic.partitions.iter().map(|one| (topic.topic_name.to_string(), *one))).collect()
    };
    let members = described.members.iter().map(|member| GroupMember {
        id: member.member_id.to_string(),
        instance_id: member.instance_id.as_ref().map(|id| id.to_string()),
        client_id: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assignment: places(&member.assignment),
        target: Some((member.member_epoch, places(&member.target_assignment))),
    });
    Ok(Some(GroupDescription {
        id: group.to_owned(),
        state: described.group_state.to_string(),
        protocol: described.assignor_name.to_string(),
        members: members.collect(),
        coordinator: coordinator.clone(),
        epochs: Some((described.group_epoch, described.assignment_epoch)),
    }))
}

/// The partitions in a member's assignment; what cannot be read (another program's format) is none.
pub fn assigned(assignment: &Bytes) -> BTreeSet<Place> {
    let read = versioned::<ConsumerProtocolAssignment>(assignment);
    let topics = read.map(|assignment| assignment.assigned_partitions).unwrap_or_default();
    let places = topics.into_iter().flat_map(|topic| {
        let name = topic.topic.to_string();
        topic.partitions.into_iter().map(move |partition| (name.clone(), partition))
    });
    places.collect()
}

/// Subscriptions and assignments begin with their version; newer ones only add to the end.
pub fn versioned<M: Message>(bytes: &Bytes) -> Option<M> {
    if bytes.len() < 2 {
        return None;
    }
    let mut bytes = bytes.clone();
    let version = bytes.get_i16();
    M::decode(&mut Reader::new(bytes), version.clamp(0, 3)).ok()
}

fn nothing_said(connection: &Connection, doing: &str) -> ClientError {
    let (whom, doing) = (connection.whom().to_owned(), doing.to_owned());
    ClientError::Malformed { whom, doing, problem: "it says nothing about the group".to_owned() }
}
