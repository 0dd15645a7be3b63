//! The records that a consumer group is made of, as typed data and as the bytes of `__consumer_offsets`.
//!
//! ```text
//!   key     i16 number, then the group id, then what else names it          value (null deletes): i16 version 0, then
//!     3     group                                                             the group epoch
//!     4     group                                                             the topics as brokers before 4.1 kept them
//!     5     group, member                                                     what the member says about itself
//!     6     group                                                             the epoch of the target assignment
//!     7     group, member                                                     the member's target
//!     8     group, member                                                     what the member has
//!    16     group, regular expression                                         the topics that match
//! ```

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use capek_wire::messages::consumer_group_current_member_assignment_value::TopicPartitions;
use capek_wire::messages::consumer_group_member_metadata_value as member_value;
use capek_wire::messages::consumer_group_target_assignment_member_value::TopicPartition as TargetPartitions;
use capek_wire::messages::{
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataValue,
    ConsumerGroupRegularExpressionValue, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataValue,
};
use capek_wire::{DecodeError, EncodeError, Message, Reader, Str, TopicId, Writer};

use super::member::{ClassicMetadata, MemberMetadata, MemberState, Owned};
use super::{Assignment, TopicPartition};
use crate::group::Protocol;

const VALUE_VERSION: i16 = 0;

const GROUP_EPOCH: i16 = 3;
const PARTITION_METADATA: i16 = 4;
const MEMBER: i16 = 5;
const TARGET_EPOCH: i16 = 6;
const TARGET: i16 = 7;
const CURRENT: i16 = 8;
const REGEX: i16 = 16;

/// A change to one consumer group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerRecord {
    pub group_id: Str,
    pub change: Change,
}

/// What changes; `None` deletes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    GroupEpoch(Option<GroupEpoch>),
    /// What older brokers wrote is not looked at; deleting it is part of deleting a group.
    PartitionMetadata {
        is_deleted: bool,
    },
    Member {
        member_id: Str,
        metadata: Option<MemberMetadata>,
    },
    TargetEpoch(Option<TargetEpoch>),
    Target {
        member_id: Str,
        target: Option<Assignment>,
    },
    Current {
        member_id: Str,
        current: Option<CurrentAssignment>,
    },
    Regex {
        regex: Str,
        resolved: Option<ResolvedRegex>,
    },
}

/// How often the group has changed, and a hash of the topics that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupEpoch {
    pub epoch: i32,
    pub metadata_hash: i64,
}

/// Which group epoch the target assignment is for, and when it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetEpoch {
    pub epoch: i32,
    pub timestamp_ms: i64,
}

/// What a member has, and in which epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CurrentAssignment {
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    pub assigned: Owned,
    pub revoking: Owned,
}

/// The topics that a regular expression matched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResolvedRegex {
    pub topics: BTreeSet<Str>,
    pub version: i64,
    pub timestamp_ms: i64,
}

/// Why bytes are not a record of a consumer group.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the key of a consumer group record: {0}")]
    Key(DecodeError),
    #[error("the value of a consumer group record with key {key}: {error}")]
    Value { key: i16, error: DecodeError },
    #[error("the value of a consumer group record with key {key} has version {version}, which is not known")]
    ValueVersion { key: i16, version: i16 },
    #[error("member state {0} is not known")]
    MemberState(i8),
}

impl ConsumerRecord {
    /// Whether a key of `__consumer_offsets` with this number is one of ours.
    pub fn is_key_number(number: i16) -> bool {
        matches!(number, GROUP_EPOCH..=CURRENT | REGEX)
    }

    /// Key and value as they stand in the log.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        Ok((self.encode_key()?, self.change.encode_value()?))
    }

    fn encode_key(&self) -> Result<Bytes, EncodeError> {
        let (number, second) = self.change.key();
        let mut key = Writer::new();
        key.put_i16(number);
        key.put_str(&self.group_id, false)?;
        if let Some(second) = second {
            key.put_str(second, false)?;
        }
        Ok(key.into_bytes())
    }

    /// The record with this key, whose number is one of ours. What it returns has memory of its own.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<ConsumerRecord, RecordError> {
        let mut reader = Reader::new(key);
        let number = reader.get_i16().map_err(RecordError::Key)?;
        let group_id = reader.get_str(false).map_err(RecordError::Key)?.detached();
        let mut second = || Ok(reader.get_str(false).map_err(RecordError::Key)?.detached());
        let change = match number {
            GROUP_EPOCH => Change::GroupEpoch(decode_value(number, value)?.map(group_epoch)),
            PARTITION_METADATA => Change::PartitionMetadata { is_deleted: value.is_none() },
            MEMBER => Change::Member { member_id: second()?, metadata: decode_value(number, value)?.map(member) },
            TARGET_EPOCH => Change::TargetEpoch(decode_value(number, value)?.map(target_epoch)),
            TARGET => Change::Target { member_id: second()?, target: decode_value(number, value)?.map(target) },
            CURRENT => Change::Current {
                member_id: second()?,
                current: decode_value(number, value)?.map(current).transpose()?,
            },
            _ => Change::Regex { regex: second()?, resolved: decode_value(number, value)?.map(resolved_regex) },
        };
        Ok(ConsumerRecord { group_id, change })
    }
}

fn decode_value<M: Message>(key: i16, value: Option<Bytes>) -> Result<Option<M>, RecordError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    let wrap = |error| RecordError::Value { key, error };
    let version = reader.get_i16().map_err(wrap)?;
    if version != VALUE_VERSION {
        return Err(RecordError::ValueVersion { key, version });
    }
    M::decode(&mut reader, version).map(Some).map_err(wrap)
}

impl Change {
    /// Whether it deletes.
    pub fn is_tombstone(&self) -> bool {
        match self {
            Change::GroupEpoch(value) => value.is_none(),
            Change::PartitionMetadata { is_deleted } => *is_deleted,
            Change::Member { metadata, .. } => metadata.is_none(),
            Change::TargetEpoch(value) => value.is_none(),
            Change::Target { target, .. } => target.is_none(),
            Change::Current { current, .. } => current.is_none(),
            Change::Regex { resolved, .. } => resolved.is_none(),
        }
    }

    fn key(&self) -> (i16, Option<&Str>) {
        match self {
            Change::GroupEpoch(_) => (GROUP_EPOCH, None),
            Change::PartitionMetadata { .. } => (PARTITION_METADATA, None),
            Change::Member { member_id, .. } => (MEMBER, Some(member_id)),
            Change::TargetEpoch(_) => (TARGET_EPOCH, None),
            Change::Target { member_id, .. } => (TARGET, Some(member_id)),
            Change::Current { member_id, .. } => (CURRENT, Some(member_id)),
            Change::Regex { regex, .. } => (REGEX, Some(regex)),
        }
    }

    fn encode_value(&self) -> Result<Option<Bytes>, EncodeError> {
        match self {
            Change::GroupEpoch(value) => encode_value(value.as_ref().map(group_epoch_value)),
            Change::PartitionMetadata { .. } => Ok(None),
            Change::Member { metadata, .. } => encode_value(metadata.as_ref().map(member_value)),
            Change::TargetEpoch(value) => encode_value(value.as_ref().map(target_epoch_value)),
            Change::Target { target, .. } => encode_value(target.as_ref().map(target_value)),
            Change::Current { current, .. } => encode_value(current.as_ref().map(current_value)),
            Change::Regex { resolved, .. } => encode_value(resolved.as_ref().map(resolved_regex_value)),
        }
    }
}

fn encode_value<M: Message>(value: Option<M>) -> Result<Option<Bytes>, EncodeError> {
    let Some(value) = value else { return Ok(None) };
    let mut writer = Writer::new();
    writer.put_i16(VALUE_VERSION);
    value.encode(&mut writer, VALUE_VERSION)?;
    Ok(Some(writer.into_bytes()))
}

fn group_epoch(value: ConsumerGroupMetadataValue) -> GroupEpoch {
    GroupEpoch { epoch: value.epoch, metadata_hash: value.metadata_hash }
}

fn group_epoch_value(value: &GroupEpoch) -> ConsumerGroupMetadataValue {
    ConsumerGroupMetadataValue { epoch: value.epoch, metadata_hash: value.metadata_hash }
}

fn target_epoch(value: ConsumerGroupTargetAssignmentMetadataValue) -> TargetEpoch {
    TargetEpoch { epoch: value.assignment_epoch, timestamp_ms: value.assignment_timestamp }
}

fn target_epoch_value(value: &TargetEpoch) -> ConsumerGroupTargetAssignmentMetadataValue {
    ConsumerGroupTargetAssignmentMetadataValue {
        assignment_epoch: value.epoch,
        assignment_timestamp: value.timestamp_ms,
    }
}

/// Older brokers wrote an empty text where there is none.
fn text(value: Option<Str>) -> Option<Str> {
    value.filter(|value| !value.is_empty()).map(|value| value.detached())
}

fn member(value: ConsumerGroupMemberMetadataValue) -> MemberMetadata {
    let classic = value.classic_member_metadata.map(|classic| ClassicMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic.supported_protocols.into_iter().map(classic_protocol).collect(),
    });
    MemberMetadata {
        instance_id: text(value.instance_id),
        rack_id: text(value.rack_id),
        client_id: value.client_id.detached(),
        client_host: value.client_host.detached(),
        topic_names: value.subscribed_topic_names.iter().map(Str::detached).collect(),
        topic_regex: text(value.subscribed_topic_regex),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        server_assignor: text(value.server_assignor),
        classic,
    }
}

fn classic_protocol(protocol: member_value::ClassicProtocol) -> Protocol {
    Protocol { name: protocol.name.detached(), metadata: Bytes::copy_from_slice(&protocol.metadata) }
}

fn member_value(metadata: &MemberMetadata) -> ConsumerGroupMemberMetadataValue {
    let protocol = |protocol: &Protocol| member_value::ClassicProtocol {
        name: protocol.name.clone(),
        metadata: protocol.metadata.clone(),
    };
    let classic = metadata.classic.as_ref().map(|classic| member_value::ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic.protocols.iter().map(protocol).collect(),
    });
    ConsumerGroupMemberMetadataValue {
        instance_id: metadata.instance_id.clone(),
        rack_id: metadata.rack_id.clone(),
        client_id: metadata.client_id.clone(),
        client_host: metadata.client_host.clone(),
        subscribed_topic_names: metadata.topic_names.iter().cloned().collect(),
        // Kafka writes an empty text here, and null for the others.
        subscribed_topic_regex: Some(metadata.topic_regex.clone().unwrap_or_default()),
        rebalance_timeout_ms: metadata.rebalance_timeout_ms,
        server_assignor: metadata.server_assignor.clone(),
        classic_member_metadata: classic,
    }
}

fn target(value: ConsumerGroupTargetAssignmentMemberValue) -> Assignment {
    let topics = value.topic_partitions.into_iter();
    topics.flat_map(|topic| topic.partitions.into_iter().map(move |index| (topic.topic_id, index))).collect()
}

fn target_value(target: &Assignment) -> ConsumerGroupTargetAssignmentMemberValue {
    let topics = by_topic(target.iter().copied());
    let topic = |(topic_id, partitions)| TargetPartitions { topic_id, partitions };
    ConsumerGroupTargetAssignmentMemberValue { topic_partitions: topics.into_iter().map(topic).collect() }
}

fn current(value: ConsumerGroupCurrentMemberAssignmentValue) -> Result<CurrentAssignment, RecordError> {
    Ok(CurrentAssignment {
        epoch: value.member_epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::from_number(value.state).ok_or(RecordError::MemberState(value.state))?,
        assigned: owned(value.assigned_partitions),
        revoking: owned(value.partitions_pending_revocation),
    })
}

/// Brokers before 4.3 did not write in which epoch a partition was assigned: then it may be any.
fn owned(topics: Vec<TopicPartitions>) -> Owned {
    let mut owned = Owned::new();
    for topic in topics {
        let epochs = topic.assignment_epochs.unwrap_or_default().into_iter().chain(std::iter::repeat(0));
        let partitions = topic.partitions.into_iter().map(|index| (topic.topic_id, index));
        owned.extend(partitions.zip(epochs));
    }
    owned
}

fn current_value(current: &CurrentAssignment) -> ConsumerGroupCurrentMemberAssignmentValue {
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state as i8,
        assigned_partitions: owned_value(&current.assigned),
        partitions_pending_revocation: owned_value(&current.revoking),
    }
}

fn owned_value(owned: &Owned) -> Vec<TopicPartitions> {
    let mut topics: Vec<TopicPartitions> = Vec::new();
    for (&(topic_id, index), &epoch) in owned {
        if topics.last().is_none_or(|topic| topic.topic_id != topic_id) {
            topics.push(TopicPartitions { topic_id, partitions: Vec::new(), assignment_epochs: Some(Vec::new()) });
        }
        let topic = topics.last_mut().expect("one was pushed if there was none");
        topic.partitions.push(index);
        topic.assignment_epochs.get_or_insert_default().push(epoch);
    }
    topics
}

fn resolved_regex(value: ConsumerGroupRegularExpressionValue) -> ResolvedRegex {
    ResolvedRegex {
        topics: value.topics.iter().map(Str::detached).collect(),
        version: value.version,
        timestamp_ms: value.timestamp,
    }
}

fn resolved_regex_value(resolved: &ResolvedRegex) -> ConsumerGroupRegularExpressionValue {
    ConsumerGroupRegularExpressionValue {
        topics: resolved.topics.iter().cloned().collect(),
        version: resolved.version,
        timestamp: resolved.timestamp_ms,
    }
}

/// The partitions of each topic, in order.
pub(super) fn by_topic(partitions: impl Iterator<Item = TopicPartition>) -> BTreeMap<TopicId, Vec<i32>> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for (topic_id, index) in partitions {
        topics.entry(topic_id).or_default().push(index);
    }
    topics
}
