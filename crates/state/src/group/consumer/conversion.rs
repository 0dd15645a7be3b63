//! A classic group becomes a consumer group when a member of the consumer protocol joins it, and a classic one again when
//! the last such member has left: members that cannot speak the other protocol keep what they read.

use capek_wire::{ErrorCode, Str};

use super::classic_members::CONSUMER_PROTOCOL_TYPE;
use super::embedded::{decode_assignment, decode_subscription, encode_assignment};
use super::group::ConsumerGroup;
use super::member::{ClassicMetadata, Member, MemberMetadata, MemberState, Owned};
use super::record::{Change, GroupEpoch, TargetEpoch};
use super::topics::{Topics, metadata_hash};
use super::{Assignment, Context, Outcome};
use crate::Refusal;
use crate::group::{ClassicGroup, GroupMember, GroupMetadata, UpgradingMember};

/// `group.consumer.migration.policy`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MigrationPolicy {
    Disabled,
    Upgrade,
    Downgrade,
    Bidirectional,
}

impl MigrationPolicy {
    pub fn by_name(name: &str) -> Option<MigrationPolicy> {
        match name.to_ascii_lowercase().as_str() {
            "disabled" => Some(MigrationPolicy::Disabled),
            "upgrade" => Some(MigrationPolicy::Upgrade),
            "downgrade" => Some(MigrationPolicy::Downgrade),
            "bidirectional" => Some(MigrationPolicy::Bidirectional),
            _ => None,
        }
    }

    pub fn allows_upgrade(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    pub fn allows_downgrade(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}

impl ConsumerGroup {
    /// What a classic group with members becomes, and the records that say so. Its generation is the group's epoch, and
    /// its members hold what they were last assigned.
    pub fn from_classic(
        group_id: &Str,
        classic: &ClassicGroup,
        context: &Context<'_>,
    ) -> Result<Outcome<ConsumerGroup>, Refusal> {
        let refused = |reason: &str| {
            let message = format!("Cannot upgrade classic group {group_id} to consumer group because {reason}.");
            Refusal::new(ErrorCode::GroupIdNotFound, message)
        };
        if !context.config.migration_policy.allows_upgrade() {
            return Err(refused("online upgrade is disabled"));
        }
        if classic.protocol_type().is_none_or(|name| *name != CONSUMER_PROTOCOL_TYPE) {
            return Err(refused("the group does not use the consumer embedded protocol"));
        }
        if classic.member_count() > context.config.members_max {
            return Err(refused("the group size exceeds the consumer group maximum size"));
        }
        let mut group = ConsumerGroup::new(group_id.clone());
        let epoch = classic.generation().max(group.epoch);
        let mut members: Vec<(Str, MemberMetadata, Assignment)> = Vec::new();
        for UpgradingMember { member, protocols } in classic.upgrading_members() {
            let malformed = || refused("the embedded consumer protocol is malformed");
            let subscription = decode_subscription(&member.subscription).map_err(|_| malformed())?.message;
            let held = decode_assignment(&member.assignment, context.topics).map_err(|_| malformed())?;
            let metadata = MemberMetadata {
                instance_id: member.instance_id,
                rack_id: subscription.rack_id.as_ref().map(Str::detached),
                client_id: member.client_id,
                client_host: member.client_host,
                topic_names: subscription.topics.iter().map(Str::detached).collect(),
                topic_regex: None,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                server_assignor: None,
                classic: Some(ClassicMetadata { session_timeout_ms: member.session_timeout_ms, protocols }),
            };
            members.push((member.member_id, metadata, held));
        }
        let mut records = Vec::new();
        for (member_id, metadata, _) in &members {
            let change = Change::Member { member_id: member_id.clone(), metadata: Some(metadata.clone()) };
            group.write(change, &mut records);
        }
        let metadata_hash = metadata_hash(&group.subscribed_topics(), context.topics);
        group.write(Change::GroupEpoch(Some(GroupEpoch { epoch, metadata_hash })), &mut records);
        for (member_id, _, held) in &members {
            let change = Change::Target { member_id: member_id.clone(), target: Some(held.clone()) };
            group.write(change, &mut records);
        }
        group.write(Change::TargetEpoch(Some(TargetEpoch { epoch, timestamp_ms: 0 })), &mut records);
        for (member_id, metadata, held) in members {
            // A client-side assignor may have made a mistake: the first one has the partition.
            let is_free = |partition: &super::TopicPartition| !group.owners.contains_key(partition);
            let assigned: Owned = held.into_iter().filter(is_free).map(|partition| (partition, epoch)).collect();
            let member = Member {
                metadata,
                epoch,
                previous_epoch: epoch,
                state: MemberState::Stable,
                assigned,
                revoking: Owned::new(),
            };
            group.write(Change::Current { member_id, current: Some(member.current()) }, &mut records);
        }
        group.restart_timers(context);
        Ok(Outcome { records, response: group })
    }

    /// The classic group of the members, all of which speak the classic protocol; they hold what they read.
    pub fn to_classic(&self, generation: i32, now_ms: i64, topics: &dyn Topics) -> GroupMetadata {
        let protocol = self.common_protocol();
        let of_member = |(member_id, member): (&Str, &Member)| {
            let metadata = &member.metadata;
            let classic = metadata.classic.as_ref();
            let protocols = classic.map(|classic| classic.protocols.as_slice()).unwrap_or_default();
            let subscription = protocols.iter().find(|offered| Some(&offered.name) == protocol.as_ref());
            let subscription = subscription.map(|offered| offered.metadata.clone()).unwrap_or_default();
            let version = decode_subscription(&subscription).map_or(0, |subscription| subscription.version);
            GroupMember {
                member_id: member_id.clone(),
                instance_id: metadata.instance_id.clone(),
                client_id: metadata.client_id.clone(),
                client_host: metadata.client_host.clone(),
                rebalance_timeout_ms: metadata.rebalance_timeout_ms,
                session_timeout_ms: classic.map_or(0, |classic| classic.session_timeout_ms),
                subscription,
                // Without its assignment the member joins again, as it does in any case.
                assignment: encode_assignment(version, member.assigned.keys(), topics).unwrap_or_default(),
            }
        };
        GroupMetadata {
            protocol_type: Str::from_static(CONSUMER_PROTOCOL_TYPE),
            generation,
            leader: self.members.keys().next().cloned(),
            state_timestamp_ms: Some(now_ms),
            members: self.members.iter().map(of_member).collect(),
            protocol,
        }
    }

    /// The first protocol of the first member that all have.
    fn common_protocol(&self) -> Option<Str> {
        let offered = |member: &Member| member.metadata.classic.as_ref().map(|classic| classic.protocols.clone());
        let first = self.members.values().next().and_then(offered)?;
        let has = |member: &Member, name: &Str| {
            offered(member).is_some_and(|protocols| protocols.iter().any(|protocol| protocol.name == *name))
        };
        let mut names = first.into_iter().map(|protocol| protocol.name);
        names.find(|name| self.members.values().all(|member| has(member, name)))
    }
}
