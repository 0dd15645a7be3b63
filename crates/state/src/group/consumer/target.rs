//! The target assignment: what an assignor makes of the members and topics of one group epoch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::assignor::{Assignor, MemberSpec};
use super::group::ConsumerGroup;
use super::record::{Change, ConsumerRecord, GroupEpoch, TargetEpoch};
use super::topics::{Topics, metadata_hash};
use super::{Assignment, ConsumerGroupConfig, Context};

/// Names and a regular expression.
type Subscription<'a> = (&'a BTreeSet<Str>, Option<&'a Str>);

impl ConsumerGroup {
    /// Bumps the group epoch if something has happened, or if the topics that the group reads have changed.
    pub(super) fn update_epoch(&mut self, is_bump: bool, context: &Context<'_>, records: &mut Vec<ConsumerRecord>) {
        let version = context.topics.version();
        if !is_bump && self.seen.hash_version == Some(version) {
            return;
        }
        self.seen.hash_version = Some(version);
        let metadata_hash = metadata_hash(&self.subscribed_topics(), context.topics);
        if is_bump || metadata_hash != self.metadata_hash {
            let epoch = self.epoch + 1;
            self.write(Change::GroupEpoch(Some(GroupEpoch { epoch, metadata_hash })), records);
        }
    }

    /// Makes a target for the group epoch, unless the last one is too young.
    pub(super) fn update_target(&mut self, context: &Context<'_>, records: &mut Vec<ConsumerRecord>) {
        if self.epoch <= self.target_epoch || self.assignment_due_in(context) > 0 {
            return;
        }
        let topics_of = self.topic_ids_by_member(context.topics);
        let wanted: BTreeSet<TopicId> = topics_of.values().flat_map(|topics| topics.iter().copied()).collect();
        let count_of =
            |topic: TopicId| Some((topic, context.topics.topic(&context.topics.name(topic)?)?.partition_count));
        let partition_counts: BTreeMap<TopicId, i32> = wanted.into_iter().filter_map(count_of).collect();
        let specs = topics_of.into_iter().map(|(member_id, topics)| {
            let instance_id = self.members[&member_id].metadata.instance_id.clone();
            let owned = self.target(&member_id).clone();
            (member_id, MemberSpec { instance_id, topics, owned })
        });
        let specs: BTreeMap<Str, MemberSpec> = specs.collect();
        let targets = self.assignor(context.config).assign(&specs, &partition_counts);
        self.write_targets(targets, context.now_ms, records);
    }

    fn write_targets(&mut self, targets: BTreeMap<Str, Assignment>, now_ms: i64, records: &mut Vec<ConsumerRecord>) {
        for (member_id, target) in targets {
            if self.targets.get(&member_id) != Some(&target) {
                self.write(Change::Target { member_id, target: Some(target) }, records);
            }
        }
        let target_epoch = TargetEpoch { epoch: self.epoch, timestamp_ms: now_ms };
        self.write(Change::TargetEpoch(Some(target_epoch)), records);
    }

    /// How long the group must wait for its next target.
    pub(super) fn assignment_due_in(&self, context: &Context<'_>) -> i64 {
        let elapsed_ms = context.now_ms - self.target_timestamp_ms;
        // Another broker's clock may have been ahead: nobody waits for that.
        if elapsed_ms < 0 {
            return 0;
        }
        (i64::from(context.config.assignment_interval_ms) - elapsed_ms).max(0)
    }

    /// What each member wants, as far as it exists; members that want the same share it.
    fn topic_ids_by_member(&self, topics: &dyn Topics) -> BTreeMap<Str, Arc<BTreeSet<TopicId>>> {
        let mut shared: BTreeMap<Subscription<'_>, Arc<BTreeSet<TopicId>>> = BTreeMap::new();
        let members = self.members.iter().map(|(member_id, member)| {
            let subscription = (&member.metadata.topic_names, member.metadata.topic_regex.as_ref());
            let resolve = || Arc::new(topic_ids(&self.topics_of(member), topics));
            (member_id.clone(), Arc::clone(shared.entry(subscription).or_insert_with(resolve)))
        });
        members.collect()
    }

    /// The one that most members ask for; the order of the configuration decides between equals.
    pub(super) fn assignor(&self, config: &ConsumerGroupConfig) -> Assignor {
        let asked = self.members.values().filter_map(|member| member.metadata.server_assignor.as_deref());
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for assignor in asked.filter_map(Assignor::by_name) {
            *votes.entry(assignor).or_default() += 1;
        }
        let default = config.assignors.first().copied().unwrap_or(Assignor::Uniform);
        let count = |assignor: &Assignor| votes.get(assignor).copied().unwrap_or(0);
        let most = config.assignors.iter().rev().max_by_key(|assignor| count(assignor)).copied();
        most.filter(|assignor| count(assignor) > 0).unwrap_or(default)
    }
}

/// The ids of the topics that exist.
pub(super) fn topic_ids(names: &BTreeSet<Str>, topics: &dyn Topics) -> BTreeSet<TopicId> {
    names.iter().filter_map(|name| Some(topics.topic(name)?.id)).collect()
}
