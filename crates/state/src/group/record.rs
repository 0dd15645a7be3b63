//! The records of `__consumer_offsets`, byte for byte as Kafka 4.3 writes them.
//!
//! ```text
//! key:   version i16 | fields      the version says what kind of record it is
//! value: version i16 | fields      no value (a tombstone): what the key names is gone
//!
//! key version   key                           value, and the version that is written
//! 0, 1          group, topic, partition i32   OffsetCommitValue 4; 1 when the client chose how long it is kept
//! 2             group                         GroupMetadataValue 3
//! 3 to 8, 16    see `consumer/record.rs`
//! ```
//!
//! Every older version is read. A key of a version that is not in the table is of a kind that this broker does not keep:
//! it is passed over, as Kafka does.

use bytes::Bytes;
use capek_wire::codec::{DecodeError, EncodeError, Message, Reader, Str, Writer};
use capek_wire::ids::{Offset, PartitionIndex, TopicId, Uuid};
use capek_wire::messages::group_metadata_value::MemberMetadata;
use capek_wire::messages::{GroupMetadataValue, OffsetCommitValue};

use super::consumer::{self, ConsumerRecord};

const LEGACY_OFFSET_COMMIT: i16 = 0;
const OFFSET_COMMIT: i16 = 1;
const GROUP_METADATA: i16 = 2;

const OFFSET_COMMIT_VALUE_VERSION: i16 = 4;
/// The only one with a time of its own at which the offset expires.
const EXPIRING_OFFSET_COMMIT_VALUE_VERSION: i16 = 1;
const GROUP_METADATA_VALUE_VERSION: i16 = 3;

/// What stands for "no such time" in a record.
const NO_TIMESTAMP: i64 = -1;

/// A change of a group that survives the coordinator. Without a value it is a tombstone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    OffsetCommit { group: Str, topic: Str, partition: PartitionIndex, value: Option<CommittedOffset> },
    GroupMetadata { group: Str, value: Option<GroupMetadata> },
    Consumer(ConsumerRecord),
}

/// Where a group goes on in a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CommittedOffset {
    pub offset: Offset,
    /// Of the last consumed record; -1: the client did not say.
    pub leader_epoch: i32,
    /// The client's own words.
    pub metadata: Str,
    pub commit_timestamp_ms: i64,
    /// Set when the client chose how long it is kept (OffsetCommit 2 to 4).
    pub expire_timestamp_ms: Option<i64>,
    /// Zero when it was not known.
    pub topic_id: TopicId,
}

/// A classic group as it was when its last generation became stable, or when its last member left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupMetadata {
    /// Empty before the first member.
    pub protocol_type: Str,
    pub generation: i32,
    pub protocol: Option<Str>,
    pub leader: Option<Str>,
    /// None: not told by an old Kafka.
    pub state_timestamp_ms: Option<i64>,
    pub members: Vec<GroupMember>,
}

/// A member of a [`GroupMetadata`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A record that nobody can read: which part of it, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the {part} of a group record cannot be read: {error}")]
    Broken { part: &'static str, error: DecodeError },
    #[error(transparent)]
    Consumer(#[from] consumer::RecordError),
}

impl Record {
    /// Reads a record; None for a kind that this broker does not keep.
    pub fn decode(key: Bytes, value: Option<Bytes>) -> Result<Option<Record>, RecordError> {
        let whole_key = key.clone();
        let mut key = Reader::new(key);
        let version = key.get_i16().map_err(broken("key's version"))?;
        let record = match version {
            LEGACY_OFFSET_COMMIT | OFFSET_COMMIT => {
                let part = "key of an offset";
                let group = key.get_str(false).map_err(broken(part))?;
                let topic = key.get_str(false).map_err(broken(part))?;
                let partition = key.get_i32().map_err(broken(part))?;
                let value = value.map(decode_offset).transpose().map_err(broken("value of an offset"))?;
                Record::OffsetCommit { group, topic, partition, value }
            }
            GROUP_METADATA => {
                let group = key.get_str(false).map_err(broken("key of a group"))?;
                let value = value.map(decode_group).transpose().map_err(broken("value of a group"))?;
                Record::GroupMetadata { group, value }
            }
            _ if ConsumerRecord::is_key_number(version) => Record::Consumer(ConsumerRecord::decode(whole_key, value)?),
            _ => return Ok(None),
        };
        Ok(Some(record))
    }

    /// Key and value.
    pub fn encode(&self) -> Result<(Bytes, Option<Bytes>), EncodeError> {
        let mut key = Writer::new();
        let value = match self {
            Record::OffsetCommit { group, topic, partition, value } => {
                key.put_i16(OFFSET_COMMIT);
                key.put_str(group, false)?;
                key.put_str(topic, false)?;
                key.put_i32(*partition);
                value.as_ref().map(encode_offset).transpose()?
            }
            Record::GroupMetadata { group, value } => {
                key.put_i16(GROUP_METADATA);
                key.put_str(group, false)?;
                value.as_ref().map(encode_group).transpose()?
            }
            Record::Consumer(record) => return record.encode(),
        };
        Ok((key.into_bytes(), value))
    }

    /// The group that the record is about.
    pub fn group(&self) -> &Str {
        match self {
            Record::OffsetCommit { group, .. } | Record::GroupMetadata { group, .. } => group,
            Record::Consumer(record) => &record.group_id,
        }
    }
}

impl GroupMetadata {
    /// At most so many bytes will the record of this group take.
    pub fn size_bytes_max(&self) -> usize {
        /// Lengths and numbers of a member, and of the whole.
        const FIXED_BYTES: usize = 64;
        let of_member = |member: &GroupMember| {
            let instance_id = member.instance_id.as_ref().map_or(0, |id| id.len());
            let texts = member.member_id.len() + instance_id + member.client_id.len() + member.client_host.len();
            FIXED_BYTES + texts + member.subscription.len() + member.assignment.len()
        };
        let names = [Some(&self.protocol_type), self.protocol.as_ref(), self.leader.as_ref()];
        let texts: usize = names.into_iter().flatten().map(|name| name.len()).sum();
        FIXED_BYTES + texts + self.members.iter().map(of_member).sum::<usize>()
    }
}

fn broken(part: &'static str) -> impl Fn(DecodeError) -> RecordError {
    move |error| RecordError::Broken { part, error }
}

/// The version, and the message in it; bytes behind it are somebody's future and passed over.
fn decode_versioned<M: Message>(value: Bytes) -> Result<M, DecodeError> {
    let mut reader = Reader::new(value);
    let version = reader.get_i16()?;
    M::decode(&mut reader, version)
}

fn encode_versioned<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.put_i16(version);
    message.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

fn decode_offset(value: Bytes) -> Result<CommittedOffset, DecodeError> {
    let value: OffsetCommitValue = decode_versioned(value)?;
    Ok(CommittedOffset {
        offset: value.offset,
        leader_epoch: value.leader_epoch,
        metadata: value.metadata,
        commit_timestamp_ms: value.commit_timestamp,
        expire_timestamp_ms: Some(value.expire_timestamp).filter(|timestamp| *timestamp != NO_TIMESTAMP),
        topic_id: value.topic_id,
    })
}

fn encode_offset(committed: &CommittedOffset) -> Result<Bytes, EncodeError> {
    let version = match committed.expire_timestamp_ms {
        Some(_) => EXPIRING_OFFSET_COMMIT_VALUE_VERSION,
        None => OFFSET_COMMIT_VALUE_VERSION,
    };
    let value = OffsetCommitValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: committed.metadata.clone(),
        commit_timestamp: committed.commit_timestamp_ms,
        expire_timestamp: committed.expire_timestamp_ms.unwrap_or(NO_TIMESTAMP),
        topic_id: if committed.expire_timestamp_ms.is_some() { Uuid::ZERO } else { committed.topic_id },
    };
    encode_versioned(&value, version)
}

fn decode_group(value: Bytes) -> Result<GroupMetadata, DecodeError> {
    let value: GroupMetadataValue = decode_versioned(value)?;
    // A group lives longer than the batch that it was read from.
    let text = |text: Str| text.detached();
    let member = |member: MemberMetadata| GroupMember {
        member_id: text(member.member_id),
        instance_id: member.group_instance_id.map(text),
        client_id: text(member.client_id),
        client_host: text(member.client_host),
        // Before version 1 there was one timeout for both.
        rebalance_timeout_ms: match member.rebalance_timeout {
            -1 => member.session_timeout,
            timeout_ms => timeout_ms,
        },
        session_timeout_ms: member.session_timeout,
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    };
    Ok(GroupMetadata {
        protocol_type: text(value.protocol_type),
        generation: value.generation,
        protocol: value.protocol.map(text),
        leader: value.leader.map(text),
        state_timestamp_ms: Some(value.current_state_timestamp).filter(|timestamp| *timestamp != NO_TIMESTAMP),
        members: value.members.into_iter().map(member).collect(),
    })
}

fn encode_group(group: &GroupMetadata) -> Result<Bytes, EncodeError> {
    let member = |member: &GroupMember| MemberMetadata {
        member_id: member.member_id.clone(),
        group_instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    };
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.clone(),
        generation: group.generation,
        protocol: group.protocol.clone(),
        leader: group.leader.clone(),
        current_state_timestamp: group.state_timestamp_ms.unwrap_or(NO_TIMESTAMP),
        members: group.members.iter().map(member).collect(),
    };
    encode_versioned(&value, GROUP_METADATA_VALUE_VERSION)
}
