//! What is asked of consumer groups, and how a group changes its protocol.

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::consumer_group_describe::DescribedGroup;
use capek_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::classic::{ClassicGroup, ClassicState};
use super::consumer::{Change, ConsumerGroup, ConsumerRecord, Heartbeat, check_heartbeat};
use super::coordinator::{Group, GroupKind};
use super::{Coordinator, Cx, Effects, GroupConfig, Record};
use crate::Refusal;
use crate::cluster::Image;

/// A ConsumerGroupHeartbeat and who sent it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConsumerHeartbeat {
    pub request: ConsumerGroupHeartbeatRequest,
    pub version: i16,
    pub client_id: Str,
    /// As Kafka writes it: a slash and the address.
    pub client_host: Str,
    /// For a member of version 0 that has no id yet.
    pub new_member_id: Str,
}

impl Coordinator {
    /// Topics came, went or grew, or groups were configured: it is now as this image says. Members hear of it with their
    /// next heartbeats.
    pub fn set_image(&mut self, image: &Image) {
        self.topics.set(image);
    }

    pub fn set_config(&mut self, config: GroupConfig) {
        self.config = config;
    }

    /// A member of the consumer protocol joins, reports or leaves.
    pub fn consumer_heartbeat(
        &mut self,
        now_ms: i64,
        heartbeat: &ConsumerHeartbeat,
        effects: &mut Effects,
    ) -> ConsumerGroupHeartbeatResponse {
        self.try_consumer_heartbeat(now_ms, heartbeat, effects).unwrap_or_else(|refusal| {
            ConsumerGroupHeartbeatResponse {
                error_code: refusal.code.code(),
                error_message: refusal.message.map(|message| Str::from(&*message)),
                ..Default::default()
            }
        })
    }

    fn try_consumer_heartbeat(
        &mut self,
        now_ms: i64,
        heartbeat: &ConsumerHeartbeat,
        effects: &mut Effects,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let request = &heartbeat.request;
        if !self.config.consumer.is_enabled {
            return Err(Refusal::bare(ErrorCode::UnsupportedVersion));
        }
        check_heartbeat(request, heartbeat.version, &self.config.consumer.assignors)?;
        let id = request.group_id.detached();
        let is_join = request.member_epoch == 0;
        if is_join && !self.groups.contains_key(&id) {
            return self.found_group(id, now_ms, heartbeat, effects);
        }
        let found = self.with_group(&id, now_ms, effects, |group, cx| match &mut group.kind {
            GroupKind::Consumer(_) if request.member_epoch < 0 => group.leave(request, cx),
            GroupKind::Consumer(consumers) => consumers.report(heartbeat, cx),
            GroupKind::Classic(classic) if is_join => {
                let (consumers, response) = upgrade(&id, classic, heartbeat, cx)?;
                group.kind = GroupKind::Consumer(consumers);
                Ok(response)
            }
            GroupKind::Classic(_) => Err(not_a_consumer_group(&id)),
        });
        found.unwrap_or_else(|| {
            let what = if request.member_epoch < 0 { "Group" } else { "Consumer group" };
            Err(Refusal::new(ErrorCode::GroupIdNotFound, format!("{what} {id} not found.")))
        })
    }

    /// The first member of a group makes it, unless it is refused.
    fn found_group(
        &mut self,
        id: Str,
        now_ms: i64,
        heartbeat: &ConsumerHeartbeat,
        effects: &mut Effects,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let mut consumers = ConsumerGroup::new(id.clone());
        let consumer = self.topics.configured(&id, &self.config.consumer);
        let cx = &mut Cx { now_ms, config: &self.config, consumer: &consumer, topics: &self.topics, effects };
        let response = consumers.report(heartbeat, cx)?;
        let deadline_ms = consumers.next_deadline();
        self.groups.insert(id.clone(), Group::of_kind(GroupKind::Consumer(consumers)));
        self.schedule(id, deadline_ms);
        Ok(response)
    }

    /// What a tool is shown. Also of groups that are not there, or of the other protocol.
    pub fn describe_consumer_group(&self, id: &Str) -> DescribedGroup {
        let refused = |message: String| DescribedGroup {
            group_id: id.clone(),
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some(Str::from(message)),
            ..Default::default()
        };
        match self.groups.get(id).map(|group| &group.kind) {
            Some(GroupKind::Consumer(group)) => group.describe(&self.config.consumer, &self.topics),
            Some(GroupKind::Classic(_)) => refused(format!("Group {id} is not a consumer group.")),
            None => refused(format!("Group {id} not found.")),
        }
    }

    /// Whether a group of this name follows the consumer protocol.
    pub fn is_consumer_group(&self, id: &str) -> bool {
        matches!(self.groups.get(id), Some(Group { kind: GroupKind::Consumer(_), .. }))
    }

    /// A member of the classic protocol that joins a group without members finds it as if nobody had been there.
    pub(super) fn delete_if_empty_consumer_group(&mut self, id: &Str, effects: &mut Effects) {
        let group = self.groups.get(id).map(|group| &group.kind);
        if matches!(group, Some(GroupKind::Consumer(group)) if group.is_empty()) {
            self.delete_kind(id, effects);
        }
    }

    pub(super) fn replay_consumer(&mut self, record: &ConsumerRecord) {
        let ConsumerRecord { group_id: id, change } = record;
        if let Change::GroupEpoch(None) = change {
            if self.is_consumer_group(id) {
                self.remove_kind(id);
            }
            return;
        }
        match self.groups.get_mut(id) {
            Some(Group { kind: GroupKind::Consumer(group), .. }) => group.replay(change),
            // What deletes a part of a group does not make one.
            _ if change.is_tombstone() => {}
            Some(group) => group.kind = replayed(id, change),
            None => {
                self.groups.insert(id.detached(), Group::of_kind(replayed(id, change)));
            }
        }
    }
}

fn replayed(id: &Str, change: &Change) -> GroupKind {
    let mut group = ConsumerGroup::new(id.detached());
    group.replay(change);
    GroupKind::Consumer(group)
}

fn not_a_consumer_group(id: &str) -> Refusal {
    Refusal::new(ErrorCode::GroupIdNotFound, format!("Group {id} is not a consumer group."))
}

/// What a classic group becomes when a member of the consumer protocol joins it. Nothing is changed if that is refused.
fn upgrade(
    id: &Str,
    classic: &mut ClassicGroup,
    heartbeat: &ConsumerHeartbeat,
    cx: &mut Cx<'_>,
) -> Result<(ConsumerGroup, ConsumerGroupHeartbeatResponse), Refusal> {
    let (mut consumers, records) = if classic.state() == ClassicState::Empty {
        (ConsumerGroup::new(id.clone()), Vec::new())
    } else {
        let upgraded = ConsumerGroup::from_classic(id, classic, &cx.consumer())?;
        (upgraded.response, upgraded.records)
    };
    let outcome = consumers.heartbeat(heartbeat.as_heartbeat(), &cx.consumer())?;
    classic.send_away(cx);
    cx.effects.records.push(Record::GroupMetadata { group: id.clone(), value: None });
    cx.write_consumer(records);
    cx.write_consumer(outcome.records);
    Ok((consumers, outcome.response))
}

impl ConsumerHeartbeat {
    fn as_heartbeat(&self) -> Heartbeat<'_> {
        Heartbeat {
            request: &self.request,
            client_id: &self.client_id,
            client_host: &self.client_host,
            new_member_id: &self.new_member_id,
        }
    }
}

impl ConsumerGroup {
    fn report(
        &mut self,
        heartbeat: &ConsumerHeartbeat,
        cx: &mut Cx<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let outcome = self.heartbeat(heartbeat.as_heartbeat(), &cx.consumer())?;
        cx.write_consumer(outcome.records);
        Ok(outcome.response)
    }
}

impl Group {
    fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        cx: &mut Cx<'_>,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let GroupKind::Consumer(consumers) = &mut self.kind else {
            return Err(not_a_consumer_group(&request.group_id));
        };
        let epoch = consumers.epoch();
        let outcome = consumers.leave(request, &cx.consumer())?;
        cx.write_consumer(outcome.records);
        self.downgrade_if_left_to_classic_members(epoch, cx);
        Ok(outcome.response)
    }

    /// Members have gone, and all that are left speak the classic protocol: the group does so, too. `epoch` is the group's
    /// from before: those who are left know no later one.
    pub(super) fn downgrade_if_left_to_classic_members(&mut self, epoch: i32, cx: &mut Cx<'_>) {
        let GroupKind::Consumer(consumers) = &self.kind else { return };
        let is_allowed = cx.config.consumer.migration_policy.allows_downgrade();
        if !is_allowed || consumers.epoch() == epoch || !consumers.has_only_classic_members() {
            return;
        }
        let id = consumers.group_id().clone();
        let metadata = consumers.to_classic(epoch, cx.now_ms, cx.topics);
        // A classic group is one record: what does not fit stays as it is.
        if metadata.size_bytes_max() > cx.config.record_bytes_max {
            return;
        }
        cx.write_consumer(consumers.delete());
        let mut classic = ClassicGroup::from_record(id.clone(), &metadata);
        cx.effects.records.push(Record::GroupMetadata { group: id, value: Some(metadata) });
        classic.taken_over(cx);
        self.kind = GroupKind::Classic(classic);
    }
}
