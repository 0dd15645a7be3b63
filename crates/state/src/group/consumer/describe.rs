//! ConsumerGroupDescribe: a group as tools show it.

use capek_wire::Str;
use capek_wire::messages::consumer_group_describe::{
    Assignment as WireAssignment, DescribedGroup, Member as DescribedMember, TopicPartitions,
};

use super::group::ConsumerGroup;
use super::member::Member;
use super::record::by_topic;
use super::topics::Topics;
use super::{ConsumerGroupConfig, TopicPartition};

const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

impl ConsumerGroup {
    pub fn describe(&self, config: &ConsumerGroupConfig, topics: &dyn Topics) -> DescribedGroup {
        DescribedGroup {
            group_id: self.group_id.clone(),
            group_state: Str::from_static(self.state().name()),
            group_epoch: self.epoch,
            assignment_epoch: self.target_epoch,
            assignor_name: Str::from_static(self.assignor(config).name()),
            members: self.members.iter().map(|(id, member)| self.describe_member(id, member, topics)).collect(),
            ..Default::default()
        }
    }

    fn describe_member(&self, member_id: &Str, member: &Member, topics: &dyn Topics) -> DescribedMember {
        let metadata = &member.metadata;
        DescribedMember {
            member_id: member_id.clone(),
            instance_id: metadata.instance_id.clone(),
            rack_id: metadata.rack_id.clone(),
            member_epoch: member.epoch,
            client_id: metadata.client_id.clone(),
            client_host: metadata.client_host.clone(),
            subscribed_topic_names: metadata.topic_names.iter().cloned().collect(),
            // Kafka shows an empty text where there is none.
            subscribed_topic_regex: Some(metadata.topic_regex.clone().unwrap_or_default()),
            assignment: assignment(member.held().map(|(partition, _)| *partition), topics),
            target_assignment: assignment(self.target(member_id).iter().copied(), topics),
            member_type: if member.is_classic() { CLASSIC_MEMBER } else { CONSUMER_MEMBER },
        }
    }
}

/// Topics that are gone are left out.
fn assignment(partitions: impl Iterator<Item = TopicPartition>, topics: &dyn Topics) -> WireAssignment {
    let named = by_topic(partitions).into_iter().filter_map(|(topic_id, mut partitions)| {
        partitions.sort();
        Some(TopicPartitions { topic_id, topic_name: topics.name(topic_id)?, partitions })
    });
    WireAssignment { topic_partitions: named.collect() }
}
