//! How members go: by saying so, by falling silent, or by keeping partitions that they were told to give back.

use std::collections::BTreeSet;

use capek_wire::Str;
use capek_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::group::ConsumerGroup;
use super::heartbeat::{fenced_instance, unknown_instance};
use super::member::{AWAY_EPOCH, Member, MemberState, Owned};
use super::record::{Change, ConsumerRecord};
use super::timers::Timer;
use super::{Context, Outcome};
use crate::Refusal;

impl ConsumerGroup {
    /// A heartbeat with epoch -1, or -2: a static member that may come back within its session.
    pub fn leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        context: &Context<'_>,
    ) -> Result<Outcome<ConsumerGroupHeartbeatResponse>, Refusal> {
        let member_id = request.member_id.detached();
        match &request.instance_id {
            None if !self.members.contains_key(&member_id) => return Err(self.unknown_member(&member_id)),
            None => {}
            Some(instance_id) => {
                let holder = self.static_members.get(instance_id).ok_or_else(|| unknown_instance(instance_id))?;
                if *holder != member_id {
                    return Err(fenced_instance(&member_id, instance_id, holder));
                }
            }
        }
        let mut records = Vec::new();
        if request.member_epoch == AWAY_EPOCH {
            self.send_away(&member_id, &mut records);
        } else {
            self.remove_members(BTreeSet::from([member_id.clone()]), context, &mut records);
        }
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: request.member_epoch,
            ..Default::default()
        };
        Ok(Outcome { records, response })
    }

    /// It keeps its assignment, but gives up at once what it was giving up anyway. Its session goes on.
    fn send_away(&mut self, member_id: &Str, records: &mut Vec<ConsumerRecord>) {
        let member = self.members[member_id].clone();
        let away = Member { epoch: AWAY_EPOCH, state: MemberState::Stable, revoking: Owned::new(), ..member };
        self.timers.cancel(&Timer::Rebalance(member_id.clone()));
        let current = Some(away.current());
        self.write(Change::Current { member_id: member_id.clone(), current }, records);
    }

    /// Takes members out of the group, which bumps its epoch.
    pub fn remove_members(
        &mut self,
        member_ids: BTreeSet<Str>,
        context: &Context<'_>,
        records: &mut Vec<ConsumerRecord>,
    ) {
        for member_id in &member_ids {
            self.remove_member(member_id, records);
        }
        self.refresh_regexes(context, records);
        self.update_epoch(true, context, records);
    }

    pub(super) fn remove_member(&mut self, member_id: &Str, records: &mut Vec<ConsumerRecord>) {
        for timer in [Timer::Session, Timer::Rebalance, Timer::Join, Timer::Sync] {
            self.timers.cancel(&timer(member_id.clone()));
        }
        self.write(Change::Current { member_id: member_id.clone(), current: None }, records);
        self.write(Change::Target { member_id: member_id.clone(), target: None }, records);
        self.write(Change::Member { member_id: member_id.clone(), metadata: None }, records);
    }

    /// Removes whoever has run out of time; what it returns must be written.
    pub fn tick(&mut self, context: &Context<'_>) -> Vec<ConsumerRecord> {
        let mut late = BTreeSet::new();
        while let Some(timer) = self.timers.pop_due(context.now_ms) {
            let (Timer::Session(member_id)
            | Timer::Rebalance(member_id)
            | Timer::Join(member_id)
            | Timer::Sync(member_id)) = timer;
            late.insert(member_id);
        }
        let mut records = Vec::new();
        if !late.is_empty() {
            self.remove_members(late, context, &mut records);
        }
        records
    }

    /// After a reload nobody knows who has reported when: every member gets a whole session, and a whole rebalance
    /// timeout if it has partitions to give back.
    pub fn restart_timers(&mut self, context: &Context<'_>) {
        self.timers.clear();
        for (member_id, member) in &self.members {
            let classic = member.metadata.classic.as_ref();
            let session_ms = classic.map_or(context.config.session_timeout_ms, |classic| classic.session_timeout_ms);
            self.timers.set(Timer::Session(member_id.clone()), context.now_ms + i64::from(session_ms));
            if member.state == MemberState::UnrevokedPartitions && classic.is_none() {
                let deadline_ms = context.now_ms + i64::from(member.metadata.rebalance_timeout_ms);
                self.timers.set(Timer::Rebalance(member_id.clone()), deadline_ms);
            }
        }
    }

    /// Deletes everything that records say of the group. The caller forgets it.
    pub fn delete(&self) -> Vec<ConsumerRecord> {
        let members = || self.members.keys().cloned();
        let targets: BTreeSet<Str> = self.targets.keys().cloned().chain(members()).collect();
        let mut changes: Vec<Change> = Vec::new();
        changes.extend(members().map(|member_id| Change::Current { member_id, current: None }));
        changes.extend(targets.into_iter().map(|member_id| Change::Target { member_id, target: None }));
        changes.push(Change::TargetEpoch(None));
        changes.extend(members().map(|member_id| Change::Member { member_id, metadata: None }));
        let regexes = self.regexes.keys().cloned();
        changes.extend(regexes.map(|regex| Change::Regex { regex, resolved: None }));
        changes.push(Change::PartitionMetadata { is_deleted: true });
        changes.push(Change::GroupEpoch(None));
        let group_id = &self.group_id;
        changes.into_iter().map(|change| ConsumerRecord { group_id: group_id.clone(), change }).collect()
    }
}
