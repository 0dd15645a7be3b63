//! A consumer group as its records describe it, and its timers.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::Str;

use super::member::{Member, Owned};
use super::record::{Change, ConsumerRecord, CurrentAssignment, GroupEpoch, ResolvedRegex, TargetEpoch};
use super::timers::{Deadlines, Timer};
use super::{Assignment, TopicPartition};

/// The epoch of a group that has just been made, and of its empty target: no record says so.
const FIRST_EPOCH: i32 = 1;

/// What Kafka calls the state of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// No members.
    Empty,
    /// The target assignment is older than the group.
    Assigning,
    /// Some member has not got its target.
    Reconciling,
    Stable,
}

impl GroupState {
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        }
    }
}

/// A group of the consumer protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerGroup {
    pub(super) group_id: Str,
    pub(super) epoch: i32,
    pub(super) metadata_hash: i64,
    pub(super) members: BTreeMap<Str, Member>,
    /// Member ids by instance id.
    pub(super) static_members: BTreeMap<Str, Str>,
    pub(super) target_epoch: i32,
    pub(super) target_timestamp_ms: i64,
    pub(super) targets: BTreeMap<Str, Assignment>,
    /// Who may read a partition, by member id.
    pub(super) owners: BTreeMap<TopicPartition, Str>,
    pub(super) regexes: BTreeMap<Str, ResolvedRegex>,
    /// How many members use each regular expression.
    pub(super) regex_users: BTreeMap<Str, usize>,
    pub(super) seen: Seen,
    pub(super) timers: Deadlines<Timer>,
}

/// Up to which version the group has looked at the topics; not in the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Seen {
    pub hash_version: Option<u64>,
    pub regexes_version: Option<u64>,
    pub regexes_refreshed_ms: i64,
}

impl ConsumerGroup {
    pub fn new(group_id: Str) -> ConsumerGroup {
        ConsumerGroup {
            group_id,
            epoch: FIRST_EPOCH,
            metadata_hash: 0,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target_epoch: FIRST_EPOCH,
            target_timestamp_ms: 0,
            targets: BTreeMap::new(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            regex_users: BTreeMap::new(),
            seen: Seen::default(),
            timers: Deadlines::default(),
        }
    }

    pub fn group_id(&self) -> &Str {
        &self.group_id
    }

    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    pub fn target_epoch(&self) -> i32 {
        self.target_epoch
    }

    pub fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.get(member_id)
    }

    /// By member id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = (&Str, &Member)> {
        self.members.iter()
    }

    /// The member with this instance id, by its member id.
    pub fn static_member(&self, instance_id: &str) -> Option<&Str> {
        self.static_members.get(instance_id)
    }

    /// What the member should have.
    pub fn target(&self, member_id: &str) -> &Assignment {
        static NOTHING: Assignment = Assignment::new();
        self.targets.get(member_id).unwrap_or(&NOTHING)
    }

    /// Who may read the partition, by member id.
    pub fn owner(&self, partition: TopicPartition) -> Option<&Str> {
        self.owners.get(&partition)
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target_epoch {
            GroupState::Assigning
        } else if self.members.values().all(|member| member.is_reconciled_to(self.target_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Names of the topics that the member reads: those that it names and those that its regular expression matched.
    pub(super) fn topics_of(&self, member: &Member) -> BTreeSet<Str> {
        let mut names = member.metadata.topic_names.clone();
        let regex = member.metadata.topic_regex.as_ref();
        if let Some(resolved) = regex.and_then(|regex| self.regexes.get(regex)) {
            names.extend(resolved.topics.iter().cloned());
        }
        names
    }

    /// Names of the topics that any member reads.
    pub(super) fn subscribed_topics(&self) -> BTreeSet<Str> {
        let named = self.members.values().flat_map(|member| &member.metadata.topic_names);
        let used = self.regexes.iter().filter(|(regex, _)| self.regex_users.contains_key(*regex));
        let matched = used.flat_map(|(_, resolved)| &resolved.topics);
        named.chain(matched).cloned().collect()
    }

    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        let is_named = self.members.values().any(|member| member.metadata.topic_names.contains(topic));
        is_named || self.regexes.values().any(|resolved| resolved.topics.contains(topic))
    }

    /// Applies the change and keeps it for the log.
    pub(super) fn write(&mut self, change: Change, records: &mut Vec<ConsumerRecord>) {
        self.replay(&change);
        records.push(ConsumerRecord { group_id: self.group_id.clone(), change });
    }

    /// Applies a change, live and at reload alike.
    pub fn replay(&mut self, change: &Change) {
        match change {
            Change::GroupEpoch(Some(GroupEpoch { epoch, metadata_hash })) => {
                self.epoch = *epoch;
                self.metadata_hash = *metadata_hash;
            }
            // The group is deleted with its last record: there is nothing else to forget.
            Change::GroupEpoch(None) | Change::PartitionMetadata { .. } => {}
            Change::Member { member_id, metadata: Some(metadata) } => {
                self.forget_metadata(member_id);
                if let Some(instance_id) = &metadata.instance_id {
                    self.static_members.insert(instance_id.clone(), member_id.clone());
                }
                if let Some(regex) = &metadata.topic_regex {
                    *self.regex_users.entry(regex.clone()).or_default() += 1;
                }
                self.members.entry(member_id.clone()).or_default().metadata = metadata.clone();
            }
            Change::Member { member_id, metadata: None } => self.forget_member(member_id),
            Change::TargetEpoch(Some(TargetEpoch { epoch, timestamp_ms })) => {
                self.target_epoch = *epoch;
                self.target_timestamp_ms = *timestamp_ms;
            }
            Change::TargetEpoch(None) => {}
            Change::Target { member_id, target: Some(target) } => {
                self.targets.insert(member_id.clone(), target.clone());
            }
            Change::Target { member_id, target: None } => {
                self.targets.remove(member_id);
            }
            Change::Current { member_id, current } => self.replay_current(member_id, current.as_ref()),
            Change::Regex { regex, resolved: Some(resolved) } => {
                self.regexes.insert(regex.clone(), resolved.clone());
            }
            Change::Regex { regex, resolved: None } => {
                self.regexes.remove(regex);
            }
        }
    }

    fn forget_member(&mut self, member_id: &Str) {
        self.replay_current(member_id, None);
        self.forget_metadata(member_id);
        self.members.remove(member_id);
    }

    fn forget_metadata(&mut self, member_id: &Str) {
        let Some(member) = self.members.get_mut(member_id) else { return };
        let metadata = std::mem::take(&mut member.metadata);
        if let Some(instance_id) = metadata.instance_id
            && self.static_members.get(&instance_id) == Some(member_id)
        {
            self.static_members.remove(&instance_id);
        }
        if let Some(regex) = metadata.topic_regex
            && let Some(users) = self.regex_users.get_mut(&regex)
        {
            *users -= 1;
            if *users == 0 {
                self.regex_users.remove(&regex);
            }
        }
    }

    fn replay_current(&mut self, member_id: &Str, current: Option<&CurrentAssignment>) {
        // In a compacted log a member's assignment can stand before what it says about itself, and its end without it.
        if current.is_none() && !self.members.contains_key(member_id) {
            return;
        }
        let member = self.members.entry(member_id.clone()).or_default();
        for (partition, _) in member.held() {
            if self.owners.get(partition) == Some(member_id) {
                self.owners.remove(partition);
            }
        }
        let nothing = CurrentAssignment {
            epoch: 0,
            previous_epoch: 0,
            state: Default::default(),
            assigned: Owned::new(),
            revoking: Owned::new(),
        };
        let CurrentAssignment { epoch, previous_epoch, state, assigned, revoking } =
            current.cloned().unwrap_or(nothing);
        *member =
            Member { metadata: std::mem::take(&mut member.metadata), epoch, previous_epoch, state, assigned, revoking };
        for (partition, _) in member.held() {
            self.owners.insert(*partition, member_id.clone());
        }
    }

    /// When [`ConsumerGroup::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<i64> {
        self.timers.next()
    }
}

impl Member {
    pub(super) fn current(&self) -> CurrentAssignment {
        CurrentAssignment {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            state: self.state,
            assigned: self.assigned.clone(),
            revoking: self.revoking.clone(),
        }
    }
}
