//! The shard: all groups of one partition of `__consumer_offsets`, and when something is due in them.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use super::classic::{ClassicGroup, ClassicState};
use super::consumer::{ConsumerGroup, ImageTopics};
use super::{
    Cx, Effects, GroupConfig, GroupMetadata, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveRequest, Offsets, Record,
    ReplyId, SyncAnswer, SyncRequest,
};

/// A group and what it has committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    pub kind: GroupKind,
    pub offsets: Offsets,
    /// Its place among the deadlines: never later than what is due in it.
    scheduled_ms: Option<i64>,
}

/// Which protocol the group follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum GroupKind {
    Classic(ClassicGroup),
    Consumer(ConsumerGroup),
}

impl Group {
    fn classic(id: Str, now_ms: i64) -> Group {
        Group::of_kind(GroupKind::Classic(ClassicGroup::new(id, now_ms)))
    }

    pub(super) fn of_kind(kind: GroupKind) -> Group {
        Group { kind, offsets: Offsets::default(), scheduled_ms: None }
    }

    fn next_deadline_ms(&self) -> Option<i64> {
        match &self.kind {
            GroupKind::Classic(group) => group.next_deadline_ms(),
            GroupKind::Consumer(group) => group.next_deadline(),
        }
    }
}

/// See the head of `group`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Coordinator {
    pub(super) config: GroupConfig,
    pub(super) groups: BTreeMap<Str, Group>,
    /// What the consumer protocol assigns.
    pub(super) topics: ImageTopics,
    deadlines: BTreeSet<(i64, Str)>,
    /// None until the log is replayed.
    pub(super) expiry_due_ms: Option<i64>,
    /// Expiry goes through the groups in slices: it has come so far.
    pub(super) expiry_after: Option<Str>,
}

impl Coordinator {
    pub fn new(config: GroupConfig) -> Coordinator {
        Coordinator {
            config,
            groups: BTreeMap::new(),
            topics: ImageTopics::default(),
            deadlines: BTreeSet::new(),
            expiry_due_ms: None,
            expiry_after: None,
        }
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub fn group(&self, group: &str) -> Option<&Group> {
        self.groups.get(group)
    }

    /// Takes in a record: the only way in which what survives changes.
    pub fn replay(&mut self, record: &Record) {
        match record {
            Record::OffsetCommit { group, topic, partition, value } => match value {
                // Whoever commits without ever joining has a group, too.
                Some(value) => {
                    let found = match self.groups.get_mut(group) {
                        Some(found) => found,
                        None => {
                            let id = group.detached();
                            let made = Group::classic(id.clone(), value.commit_timestamp_ms);
                            self.groups.entry(id).or_insert(made)
                        }
                    };
                    found.offsets.set(topic, *partition, value);
                }
                None => {
                    if let Some(found) = self.groups.get_mut(group) {
                        found.offsets.remove(topic, *partition);
                    }
                }
            },
            Record::GroupMetadata { group, value: Some(value) } => self.replay_group(group, value),
            Record::GroupMetadata { group, value: None } => {
                if let Some(Group { kind: GroupKind::Classic(_), .. }) = self.groups.get(group) {
                    self.remove_kind(group);
                }
            }
            Record::Consumer(record) => self.replay_consumer(record),
        }
    }

    /// The group is gone, but not what it has committed: that has records of its own.
    pub(super) fn remove_kind(&mut self, id: &Str) {
        let Some(group) = self.groups.get_mut(id) else { return };
        if group.offsets.is_empty() {
            return self.remove(id);
        }
        group.kind = GroupKind::Classic(ClassicGroup::new(id.detached(), 0));
        self.schedule(id.clone(), None);
    }

    fn replay_group(&mut self, id: &Str, value: &GroupMetadata) {
        match self.groups.get_mut(id) {
            Some(Group { kind: GroupKind::Classic(group), .. }) => group.replay(value),
            Some(group) => group.kind = GroupKind::Classic(ClassicGroup::from_record(id.detached(), value)),
            None => {
                let id = id.detached();
                let kind = GroupKind::Classic(ClassicGroup::from_record(id.clone(), value));
                self.groups.insert(id, Group { kind, offsets: Offsets::default(), scheduled_ms: None });
            }
        }
    }

    /// The log is replayed to its end: sessions and timers begin.
    pub fn loaded(&mut self, now_ms: i64, effects: &mut Effects) {
        self.expiry_due_ms = Some(now_ms.saturating_add(self.config.offsets_retention_check_interval_ms));
        let ids: Vec<Str> = self.groups.keys().cloned().collect();
        for id in ids {
            self.with_group(&id, now_ms, effects, |group, cx| match &mut group.kind {
                GroupKind::Classic(group) => group.loaded(cx),
                GroupKind::Consumer(group) => group.restart_timers(&cx.consumer()),
            });
        }
    }

    /// When [`Coordinator::tick`] has something to do.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let of_groups = self.deadlines.first().map(|(deadline_ms, _)| *deadline_ms);
        of_groups.into_iter().chain(self.expiry_due_ms).min()
    }

    /// The groups that [`Coordinator::tick`] is going to look at.
    pub fn due(&self, now_ms: i64) -> Vec<Str> {
        let due = self.deadlines.iter().take_while(|(deadline_ms, _)| *deadline_ms <= now_ms);
        due.map(|(_, id)| id.clone()).collect()
    }

    /// Does what is due.
    pub fn tick(&mut self, now_ms: i64, effects: &mut Effects) {
        while let Some((deadline_ms, id)) = self.deadlines.first().cloned() {
            if deadline_ms > now_ms {
                break;
            }
            self.with_group(&id, now_ms, effects, |group, cx| match &mut group.kind {
                GroupKind::Classic(group) => group.tick(cx),
                GroupKind::Consumer(consumers) => {
                    let epoch = consumers.epoch();
                    let records = consumers.tick(&cx.consumer());
                    cx.write_consumer(records);
                    group.downgrade_if_left_to_classic_members(epoch, cx);
                }
            });
            self.forget_if_unused(&id);
        }
        if self.expiry_due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.expire_offsets(now_ms, effects);
        }
    }

    /// Lets `work` at a group, and sees to its deadlines.
    pub(super) fn with_group<T>(
        &mut self,
        id: &Str,
        now_ms: i64,
        effects: &mut Effects,
        work: impl FnOnce(&mut Group, &mut Cx<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let consumer = match &group.kind {
            GroupKind::Classic(_) => Cow::Borrowed(&self.config.consumer),
            GroupKind::Consumer(_) => self.topics.configured(id, &self.config.consumer),
        };
        let cx = &mut Cx { now_ms, config: &self.config, consumer: &consumer, topics: &self.topics, effects };
        let done = work(group, cx);
        let deadline_ms = group.next_deadline_ms();
        if group.scheduled_ms != deadline_ms {
            let id = self.groups.get_key_value(id).map(|(id, _)| id.clone()).unwrap_or_default();
            self.schedule(id, deadline_ms);
        }
        Some(done)
    }

    pub(super) fn schedule(&mut self, id: Str, deadline_ms: Option<i64>) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if let Some(before_ms) = std::mem::replace(&mut group.scheduled_ms, deadline_ms) {
            self.deadlines.remove(&(before_ms, id.clone()));
        }
        if let Some(deadline_ms) = deadline_ms {
            self.deadlines.insert((deadline_ms, id));
        }
    }

    /// Joins a group, which is made for its first member. Answered among the effects of this call or of a later one.
    pub fn join(&mut self, now_ms: i64, request: JoinRequest, reply: ReplyId, effects: &mut Effects) {
        let config = &self.config;
        let refused = |error, member_id| (reply, JoinAnswer::refused(error, member_id));
        if request.group.is_empty() {
            return effects.joins.push(refused(ErrorCode::InvalidGroupId, request.member_id));
        }
        let session_timeouts_ms = config.session_timeout_min_ms..=config.session_timeout_max_ms;
        if !session_timeouts_ms.contains(&request.session_timeout_ms) {
            return effects.joins.push(refused(ErrorCode::InvalidSessionTimeout, request.member_id));
        }
        let id = request.group.clone();
        self.delete_if_empty_consumer_group(&id, effects);
        if !self.groups.contains_key(&id) {
            if !request.member_id.is_empty() {
                return effects.joins.push(refused(ErrorCode::UnknownMemberId, request.member_id));
            }
            self.groups.insert(id.clone(), Group::classic(id.clone(), now_ms));
        }
        self.with_group(&id, now_ms, effects, |group, cx| match &mut group.kind {
            GroupKind::Classic(group) => group.join(request, reply, cx),
            GroupKind::Consumer(group) => {
                let outcome = group.classic_join(request, &cx.consumer());
                cx.write_consumer(outcome.records);
                cx.answer_join(reply, outcome.response);
            }
        });
        self.forget_if_unused(&id);
    }

    /// Answered among the effects of this call or of a later one.
    pub fn sync(&mut self, now_ms: i64, request: SyncRequest, reply: ReplyId, effects: &mut Effects) {
        if request.group.is_empty() {
            return effects.syncs.push((reply, SyncAnswer::refused(ErrorCode::InvalidGroupId)));
        }
        let id = request.group.clone();
        let found = self.with_group(&id, now_ms, effects, |group, cx| match &mut group.kind {
            GroupKind::Classic(group) => group.sync(request, reply, cx),
            GroupKind::Consumer(group) => {
                let answer = group.classic_sync(&request, &cx.consumer());
                cx.answer_sync(reply, answer);
            }
        });
        if found.is_none() {
            effects.syncs.push((reply, SyncAnswer::refused(ErrorCode::UnknownMemberId)));
        }
    }

    /// Changes nothing but the time until which the member is taken for alive.
    pub fn heartbeat(&mut self, now_ms: i64, request: &HeartbeatRequest) -> ErrorCode {
        if request.group.is_empty() {
            return ErrorCode::InvalidGroupId;
        }
        match self.groups.get_mut(&request.group).map(|group| &mut group.kind) {
            // What was due earlier is looked at then, and put off.
            Some(GroupKind::Classic(group)) => group.heartbeat(request, now_ms),
            // Its timers may become due earlier than they were.
            Some(GroupKind::Consumer(_)) => {
                let beat = |group: &mut Group, cx: &mut Cx<'_>| match &mut group.kind {
                    GroupKind::Consumer(group) => group.classic_heartbeat(request, &cx.consumer()),
                    GroupKind::Classic(_) => ErrorCode::UnknownMemberId,
                };
                let beaten = self.with_group(&request.group, now_ms, &mut Effects::default(), beat);
                beaten.unwrap_or(ErrorCode::UnknownMemberId)
            }
            None => ErrorCode::UnknownMemberId,
        }
    }

    /// For each member its own error; an error for all when the group id is none.
    pub fn leave(
        &mut self,
        now_ms: i64,
        request: &LeaveRequest,
        effects: &mut Effects,
    ) -> Result<Vec<ErrorCode>, ErrorCode> {
        if request.group.is_empty() {
            return Err(ErrorCode::InvalidGroupId);
        }
        let left = self.with_group(&request.group, now_ms, effects, |group, cx| match &mut group.kind {
            GroupKind::Classic(group) => group.leave(&request.members, cx),
            GroupKind::Consumer(consumers) => {
                let (epoch, mut records) = (consumers.epoch(), Vec::new());
                let errors = consumers.classic_leave(&request.members, &cx.consumer(), &mut records);
                cx.write_consumer(records);
                group.downgrade_if_left_to_classic_members(epoch, cx);
                errors
            }
        });
        self.forget_if_unused(&request.group);
        Ok(left.unwrap_or_else(|| vec![ErrorCode::UnknownMemberId; request.members.len()]))
    }

    /// Deletes a group that has no members, with all its offsets.
    pub fn delete_group(&mut self, group: &Str, effects: &mut Effects) -> ErrorCode {
        let Some(found) = self.groups.get(group) else { return ErrorCode::GroupIdNotFound };
        match &found.kind {
            GroupKind::Classic(classic) if classic.state() == ClassicState::Empty => {}
            GroupKind::Consumer(group) if group.is_empty() => {}
            GroupKind::Classic(_) | GroupKind::Consumer(_) => return ErrorCode::NonEmptyGroup,
        }
        let offsets = found.offsets.iter().map(|(topic, partition, _)| (topic.clone(), partition));
        for (topic, partition) in offsets.collect::<Vec<_>>() {
            self.write(Record::OffsetCommit { group: group.clone(), topic, partition, value: None }, effects);
        }
        self.delete_kind(group, effects);
        ErrorCode::None
    }

    /// Says in the log that the group is no more.
    pub(super) fn delete_kind(&mut self, id: &Str, effects: &mut Effects) {
        let records = match self.groups.get(id).map(|group| &group.kind) {
            Some(GroupKind::Consumer(group)) => group.delete().into_iter().map(Record::Consumer).collect(),
            Some(GroupKind::Classic(_)) | None => vec![Record::GroupMetadata { group: id.clone(), value: None }],
        };
        for record in records {
            self.write(record, effects);
        }
    }

    pub(super) fn write(&mut self, record: Record, effects: &mut Effects) {
        self.replay(&record);
        effects.records.push(record);
    }

    fn remove(&mut self, group: &Str) {
        self.schedule(group.clone(), None);
        self.groups.remove(group);
    }

    /// Whoever asked to join and never came leaves no group behind.
    fn forget_if_unused(&mut self, id: &Str) {
        let is_unused = self.groups.get(id).is_some_and(|group| match &group.kind {
            GroupKind::Classic(classic) => classic.is_unused() && group.offsets.is_empty(),
            // Records have made it, and only records end it.
            GroupKind::Consumer(_) => false,
        });
        if is_unused {
            self.remove(id);
        }
    }
}
