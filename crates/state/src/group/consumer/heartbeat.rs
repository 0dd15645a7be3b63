//! ConsumerGroupHeartbeat: a member joins, says what it wants and holds, and hears what it should hold.

use std::collections::BTreeSet;

use capek_wire::ids::TopicId;
use capek_wire::messages::consumer_group_heartbeat::{Assignment as WireAssignment, TopicPartitions};
use capek_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use capek_wire::{ErrorCode, Str};

use super::assignor::Assignor;
use super::group::ConsumerGroup;
use super::member::{AWAY_EPOCH, Member, MemberMetadata, MemberState, Owned};
use super::reconcile::Reconciliation;
use super::record::{Change, ConsumerRecord, by_topic};
use super::target::topic_ids;
use super::timers::Timer;
use super::{Assignment, Context, Outcome, regexes};
use crate::Refusal;

/// From this version on, members choose their ids.
const MEMBER_CHOOSES_ID: i16 = 1;
const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;
/// How often a member reports that waits for partitions, and at most how often one that waits for a target.
const WAITING_HEARTBEAT_MS: i32 = 1_000;
const WAITING_HEARTBEAT_MS_MIN: i32 = 100;

/// A heartbeat and who sent it.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat<'a> {
    pub request: &'a ConsumerGroupHeartbeatRequest,
    pub client_id: &'a str,
    /// As Kafka writes it: a slash and the address.
    pub client_host: &'a str,
    /// For a member of version 0 that has no id yet.
    pub new_member_id: &'a str,
}

/// What a member becomes that the request names.
enum Found {
    New,
    Known,
    /// A static member comes back under an id of its own.
    Returning {
        previous_id: Str,
    },
}

/// Refuses what no group could accept.
pub fn check_heartbeat(
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
    assignors: &[Assignor],
) -> Result<(), Refusal> {
    let epoch = request.member_epoch;
    let needs_id = version >= MEMBER_CHOOSES_ID || epoch > JOIN_EPOCH || epoch == LEAVE_EPOCH;
    let is_blank = |id: &Str| id.chars().all(|letter| letter <= ' ');
    check(!needs_id || !is_blank(&request.member_id), "MemberId can't be empty.")?;
    check(!is_blank(&request.group_id), "GroupId can't be empty.")?;
    check(!request.instance_id.as_ref().is_some_and(is_blank), "InstanceId can't be empty.")?;
    check(!request.rack_id.as_ref().is_some_and(is_blank), "RackId can't be empty.")?;
    match epoch {
        JOIN_EPOCH => check_join(request)?,
        AWAY_EPOCH => check(request.instance_id.is_some(), "InstanceId can't be null.")?,
        _ => check(epoch > AWAY_EPOCH, "MemberEpoch is invalid.")?,
    }
    let Some(name) = &request.server_assignor else { return Ok(()) };
    if assignors.iter().any(|assignor| assignor.name() == name.as_str()) {
        return Ok(());
    }
    let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
    let message = format!("ServerAssignor {name} is not supported. Supported assignors: {}.", names.join(", "));
    Err(Refusal::new(ErrorCode::UnsupportedAssignor, message))
}

fn check_join(request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    check(request.rebalance_timeout_ms != -1, "RebalanceTimeoutMs must be provided in first request.")?;
    let has_none = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
    check(has_none, "TopicPartitions must be empty when (re-)joining.")?;
    let is_subscribed = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
    check(is_subscribed, "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.")
}

fn check(is_good: bool, message: &'static str) -> Result<(), Refusal> {
    if is_good { Ok(()) } else { Err(Refusal::new(ErrorCode::InvalidRequest, message)) }
}

impl ConsumerGroup {
    /// A member joins or reports. The request has passed [`check_heartbeat`], and does not leave.
    pub fn heartbeat(
        &mut self,
        heartbeat: Heartbeat<'_>,
        context: &Context<'_>,
    ) -> Result<Outcome<ConsumerGroupHeartbeatResponse>, Refusal> {
        let request = heartbeat.request;
        let member_id = match request.member_id.as_str() {
            "" => Str::from(heartbeat.new_member_id),
            member_id => Str::from(member_id),
        };
        let reported = request.topic_partitions.as_ref().map(|topics| partitions(topics));
        self.check_size(&member_id, context)?;
        let found = self.find(&member_id, request, reported.as_ref())?;
        let known = match &found {
            Found::New => MemberMetadata::default(),
            Found::Known => self.members[&member_id].metadata.clone(),
            Found::Returning { previous_id } => self.members[previous_id].metadata.clone(),
        };
        let metadata = updated_metadata(&known, &heartbeat);
        if metadata.topic_regex != known.topic_regex
            && let Some(regex) = &metadata.topic_regex
        {
            regexes::check(regex)?;
        }
        check(metadata.size_bytes_max() <= context.config.record_bytes_max, "The subscription is too large.")?;
        // From here on nothing is refused.
        let mut records = Vec::new();
        if let Found::Returning { previous_id } = &found {
            self.replace_member(previous_id, &member_id, &mut records);
        }
        let has_subscription_changed = self.update_member(&member_id, metadata, context, &mut records);
        self.update_target(context, &mut records);
        let has_assignment_changed =
            self.reconcile(&member_id, has_subscription_changed, reported.as_ref(), context, &mut records);
        let session_end_ms = context.now_ms + i64::from(context.config.session_timeout_ms);
        self.timers.set(Timer::Session(member_id.clone()), session_end_ms);
        let response = self.heartbeat_response(&member_id, request, has_assignment_changed, context);
        Ok(Outcome { records, response })
    }

    pub(super) fn check_size(&self, member_id: &str, context: &Context<'_>) -> Result<(), Refusal> {
        let members_max = context.config.members_max;
        if self.members.len() < members_max || self.members.contains_key(member_id) {
            return Ok(());
        }
        let message = format!("The consumer group has reached its maximum capacity of {members_max} members.");
        Err(Refusal::new(ErrorCode::GroupMaxSizeReached, message))
    }

    fn find(
        &self,
        member_id: &Str,
        request: &ConsumerGroupHeartbeatRequest,
        reported: Option<&Assignment>,
    ) -> Result<Found, Refusal> {
        let is_join = request.member_epoch == JOIN_EPOCH;
        let find_by_id = |refusal: &dyn Fn() -> Refusal| match self.members.get(member_id) {
            Some(member) => check_epoch(member, request.member_epoch, reported).map(|()| Found::Known),
            None if is_join => Ok(Found::New),
            None => Err(refusal()),
        };
        let Some(instance_id) = &request.instance_id else {
            return find_by_id(&|| self.unknown_member(member_id));
        };
        let Some(holder_id) = self.static_members.get(instance_id) else {
            return if is_join {
                find_by_id(&|| unknown_instance(instance_id))
            } else {
                Err(unknown_instance(instance_id))
            };
        };
        let holder = &self.members[holder_id];
        if is_join && holder.is_away() {
            return Ok(Found::Returning { previous_id: holder_id.clone() });
        }
        if holder_id != member_id {
            return Err(if is_join {
                unreleased_instance(member_id, instance_id, holder_id)
            } else {
                fenced_instance(member_id, instance_id, holder_id)
            });
        }
        check_epoch(holder, request.member_epoch, reported)?;
        Ok(Found::Known)
    }

    pub(super) fn unknown_member(&self, member_id: &str) -> Refusal {
        let message = format!("Member {member_id} is not a member of group {}.", self.group_id);
        Refusal::new(ErrorCode::UnknownMemberId, message)
    }

    /// The new member gets what the old one has and should have, and starts with epoch 0.
    pub(super) fn replace_member(&mut self, previous_id: &Str, member_id: &Str, records: &mut Vec<ConsumerRecord>) {
        let previous = self.members[previous_id].clone();
        let target = self.target(previous_id).clone();
        self.remove_member(previous_id, records);
        let metadata = Some(previous.metadata.clone());
        let joined = Member { epoch: 0, previous_epoch: 0, state: MemberState::Stable, ..previous };
        self.write(Change::Member { member_id: member_id.clone(), metadata }, records);
        self.write(Change::Target { member_id: member_id.clone(), target: Some(target) }, records);
        let current = Some(joined.current());
        self.write(Change::Current { member_id: member_id.clone(), current }, records);
    }

    /// Takes over what the member says of itself. True if it now wants other topics than before.
    pub(super) fn update_member(
        &mut self,
        member_id: &Str,
        metadata: MemberMetadata,
        context: &Context<'_>,
        records: &mut Vec<ConsumerRecord>,
    ) -> bool {
        let known = self.members.get(member_id);
        let before = known.map(|member| self.topics_of(member)).unwrap_or_default();
        let had_names = known.map(|member| member.metadata.topic_names.clone()).unwrap_or_default();
        let has_names_changed = had_names != metadata.topic_names;
        if known.is_none_or(|member| member.metadata != metadata) {
            self.write(Change::Member { member_id: member_id.clone(), metadata: Some(metadata) }, records);
        }
        let has_regex_changed = self.refresh_regexes(context, records);
        let has_subscription_changed = before != self.topics_of(&self.members[member_id]);
        self.update_epoch(has_names_changed || has_regex_changed || has_subscription_changed, context, records);
        has_subscription_changed
    }

    /// Takes the member one step towards its target. True if that changes what it may read.
    pub(super) fn reconcile(
        &mut self,
        member_id: &Str,
        has_subscription_changed: bool,
        reported: Option<&Assignment>,
        context: &Context<'_>,
        records: &mut Vec<ConsumerRecord>,
    ) -> bool {
        let member = &self.members[member_id];
        if member.is_reconciled_to(self.target_epoch) && !has_subscription_changed {
            return false;
        }
        let topics: BTreeSet<TopicId> = topic_ids(&self.topics_of(member), context.topics);
        let reconciliation = Reconciliation {
            member_id,
            target_epoch: self.target_epoch,
            target: self.target(member_id),
            topics: &topics,
            has_subscription_changed,
            reported,
            owners: &self.owners,
        };
        let next = reconciliation.step(member);
        if next == *member {
            return false;
        }
        let has_assignment_changed = !next.assigned.keys().eq(member.assigned.keys());
        let timer = Timer::Rebalance(member_id.clone());
        if next.state == MemberState::UnrevokedPartitions && !next.is_classic() {
            self.timers.set(timer, context.now_ms + i64::from(next.metadata.rebalance_timeout_ms));
        } else {
            self.timers.cancel(&timer);
        }
        let current = Some(next.current());
        self.write(Change::Current { member_id: member_id.clone(), current }, records);
        has_assignment_changed
    }

    /// A member that waits, for the next target or for partitions of others, asks again soon: nobody calls it. (Kafka
    /// always answers what is configured, and such a member waits for that long.)
    fn heartbeat_interval_ms(&self, member: &Member, context: &Context<'_>) -> i32 {
        let interval_ms = context.config.heartbeat_interval_ms;
        if self.epoch > self.target_epoch {
            let due_in_ms = i32::try_from(self.assignment_due_in(context)).unwrap_or(i32::MAX);
            interval_ms.min(due_in_ms.max(WAITING_HEARTBEAT_MS_MIN))
        } else if member.state == MemberState::UnreleasedPartitions {
            interval_ms.min(WAITING_HEARTBEAT_MS)
        } else {
            interval_ms
        }
    }

    fn heartbeat_response(
        &self,
        member_id: &Str,
        request: &ConsumerGroupHeartbeatRequest,
        has_assignment_changed: bool,
        context: &Context<'_>,
    ) -> ConsumerGroupHeartbeatResponse {
        let member = &self.members[member_id];
        let is_subscribed = request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some();
        let is_full = request.rebalance_timeout_ms != -1 && is_subscribed && request.topic_partitions.is_some();
        let is_told = request.member_epoch == JOIN_EPOCH || is_full || has_assignment_changed;
        ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: member.epoch,
            heartbeat_interval_ms: self.heartbeat_interval_ms(member, context),
            assignment: is_told.then(|| wire_assignment(&member.assigned)),
            ..Default::default()
        }
    }
}

/// A member that lost an answer comes with its previous epoch; it may, if it holds nothing that it should not.
fn check_epoch(member: &Member, epoch: i32, reported: Option<&Assignment>) -> Result<(), Refusal> {
    if epoch == member.epoch || epoch == JOIN_EPOCH {
        return Ok(());
    }
    let holds_its_own = || reported.is_some_and(|all| all.iter().all(|one| member.assigned.contains_key(one)));
    if epoch < member.epoch && epoch == member.previous_epoch && holds_its_own() {
        return Ok(());
    }
    let relation = if epoch > member.epoch { "greater" } else { "smaller" };
    let message = format!(
        "The consumer group member has a {relation} member epoch ({epoch}) than the one known by the group coordinator \
         ({}). The member must abandon all its partitions and rejoin.",
        member.epoch
    );
    Err(Refusal::new(ErrorCode::FencedMemberEpoch, message))
}

pub(super) fn unknown_instance(instance_id: &str) -> Refusal {
    Refusal::new(ErrorCode::UnknownMemberId, format!("Instance id {instance_id} is unknown."))
}

pub(super) fn fenced_instance(member_id: &str, instance_id: &str, holder_id: &str) -> Refusal {
    let message = format!("Static member {member_id} with instance id {instance_id} was fenced by member {holder_id}.");
    Refusal::new(ErrorCode::FencedInstanceId, message)
}

fn unreleased_instance(member_id: &str, instance_id: &str, holder_id: &str) -> Refusal {
    let message = format!(
        "Static member {member_id} with instance id {instance_id} cannot join the group because the instance id is \
         owned by {holder_id} member."
    );
    Refusal::new(ErrorCode::UnreleasedInstanceId, message)
}

/// What the request does not mention stays as it was.
fn updated_metadata(known: &MemberMetadata, heartbeat: &Heartbeat<'_>) -> MemberMetadata {
    let request = heartbeat.request;
    let text = |new: &Option<Str>, old: &Option<Str>| new.as_ref().map(Str::detached).or_else(|| old.clone());
    let names = request.subscribed_topic_names.as_ref();
    let regex = request.subscribed_topic_regex.as_ref().map(Str::detached).or_else(|| known.topic_regex.clone());
    MemberMetadata {
        instance_id: text(&request.instance_id, &known.instance_id),
        rack_id: text(&request.rack_id, &known.rack_id),
        client_id: Str::from(heartbeat.client_id),
        client_host: Str::from(heartbeat.client_host),
        topic_names: names.map_or_else(|| known.topic_names.clone(), |names| names.iter().map(Str::detached).collect()),
        // An empty one ends the subscription.
        topic_regex: regex.filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: match request.rebalance_timeout_ms {
            -1 => known.rebalance_timeout_ms,
            timeout_ms => timeout_ms,
        },
        server_assignor: text(&request.server_assignor, &known.server_assignor),
        classic: None,
    }
}

fn partitions(topics: &[TopicPartitions]) -> Assignment {
    topics.iter().flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect()
}

fn wire_assignment(assigned: &Owned) -> WireAssignment {
    let topics = by_topic(assigned.keys().copied()).into_iter();
    let topic_partitions = topics.map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect();
    WireAssignment { topic_partitions }
}
