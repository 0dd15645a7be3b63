//! What consumers of the classic protocol say inside JoinGroup and SyncGroup: subscriptions in, assignments out.
//!
//! Both begin with an i16 version. A later version has more at its end, which is passed over.

use std::collections::BTreeMap;

use bytes::Bytes;
use capek_wire::messages::consumer_protocol_assignment::TopicPartition as AssignedTopic;
use capek_wire::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use capek_wire::{DecodeError, EncodeError, Message, Reader, Str, Writer};

use super::topics::Topics;
use super::{Assignment, TopicPartition};

const VERSION_MAX: i16 = 3;

/// A subscription and its version.
pub(super) struct Subscription {
    pub version: i16,
    pub message: ConsumerProtocolSubscription,
}

pub(super) fn decode_subscription(bytes: &Bytes) -> Result<Subscription, DecodeError> {
    let (version, message) = decode(bytes)?;
    Ok(Subscription { version, message })
}

/// The partitions of an assignment, as far as their topics exist.
pub(super) fn decode_assignment(bytes: &Bytes, topics: &dyn Topics) -> Result<Assignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(Assignment::new());
    }
    let (_, assignment) = decode::<ConsumerProtocolAssignment>(bytes)?;
    let named = assignment.assigned_partitions.iter().map(|topic| (&topic.topic, &topic.partitions));
    Ok(resolve(named, topics))
}

/// What the subscriber says that it still reads, as far as the topics exist.
pub(super) fn owned_partitions(subscription: &ConsumerProtocolSubscription, topics: &dyn Topics) -> Assignment {
    resolve(subscription.owned_partitions.iter().map(|topic| (&topic.topic, &topic.partitions)), topics)
}

fn resolve<'a>(named: impl Iterator<Item = (&'a Str, &'a Vec<i32>)>, topics: &dyn Topics) -> Assignment {
    let known = named.filter_map(|(name, partitions)| Some((topics.topic(name)?.id, partitions)));
    known.flat_map(|(id, partitions)| partitions.iter().map(move |index| (id, *index))).collect()
}

/// Topics that are gone are left out.
pub(super) fn encode_assignment<'a>(
    version: i16,
    assigned: impl Iterator<Item = &'a TopicPartition>,
    topics: &dyn Topics,
) -> Result<Bytes, EncodeError> {
    let mut by_name: BTreeMap<Str, Vec<i32>> = BTreeMap::new();
    for (topic_id, index) in assigned {
        if let Some(name) = topics.name(*topic_id) {
            by_name.entry(name).or_default().push(*index);
        }
    }
    let assigned_partitions =
        by_name.into_iter().map(|(topic, partitions)| AssignedTopic { topic, partitions }).collect();
    let message = ConsumerProtocolAssignment { assigned_partitions, user_data: None };
    let version = version.min(VERSION_MAX);
    let mut writer = Writer::new();
    writer.put_i16(version);
    message.encode(&mut writer, version)?;
    Ok(writer.into_bytes())
}

fn decode<M: Message>(bytes: &Bytes) -> Result<(i16, M), DecodeError> {
    let mut reader = Reader::new(bytes.clone());
    let version = reader.get_i16()?.max(0);
    Ok((version, M::decode(&mut reader, version.min(VERSION_MAX))?))
}
