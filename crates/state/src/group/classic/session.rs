//! Heartbeats, leaving, and what happens when neither comes.

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use super::member::Member;
use super::{ClassicGroup, ClassicState};
use crate::group::{Cx, SteadyGroup, SteadyMember};

/// A member lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HeartbeatRequest {
    pub group: Str,
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub generation: i32,
}

/// Members leave, or are removed by a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaveRequest {
    pub group: Str,
    pub members: Vec<LeavingMember>,
}

/// Without a member id: whoever holds the instance id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeavingMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
}

impl ClassicGroup {
    pub fn heartbeat(&mut self, request: &HeartbeatRequest, now_ms: i64) -> ErrorCode {
        if let Err(error) = self.check_member(&request.member_id, request.instance_id.as_ref()) {
            return error;
        }
        if request.generation != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        let member = self.members.get_mut(&request.member_id).expect("it was just checked");
        member.renew_session(now_ms);
        match self.state {
            ClassicState::Empty => ErrorCode::UnknownMemberId,
            ClassicState::PreparingRebalance => ErrorCode::RebalanceInProgress,
            ClassicState::CompletingRebalance | ClassicState::Stable => ErrorCode::None,
        }
    }

    /// What heartbeats are checked against as long as nothing changes.
    pub fn steady(&self) -> Option<SteadyGroup> {
        let of_member = |member: &Member| SteadyMember { instance_id: member.instance_id.clone(), beat_ms: None };
        let members = || self.members.values().map(|member| (member.id.clone(), of_member(member))).collect();
        (self.state == ClassicState::Stable).then(|| SteadyGroup { generation: self.generation, members: members() })
    }

    /// Members were heard of. A commit may have renewed their sessions later than that.
    pub fn beaten(&mut self, steady: &SteadyGroup) {
        for (member_id, SteadyMember { beat_ms, .. }) in &steady.members {
            if let (Some(member), Some(beat_ms)) = (self.members.get_mut(member_id), *beat_ms) {
                let deadline_ms = member.session_deadline_ms;
                member.renew_session(beat_ms);
                member.session_deadline_ms = member.session_deadline_ms.max(deadline_ms);
            }
        }
    }

    /// For each of the leaving its own error.
    pub fn leave(&mut self, members: &[LeavingMember], cx: &mut Cx<'_>) -> Vec<ErrorCode> {
        let errors: Vec<ErrorCode> = members.iter().map(|leaving| self.leave_one(leaving, cx)).collect();
        if errors.contains(&ErrorCode::None) {
            self.members_gone(cx);
        }
        errors
    }

    fn leave_one(&mut self, leaving: &LeavingMember, cx: &mut Cx<'_>) -> ErrorCode {
        let instance_id = leaving.instance_id.as_ref();
        if leaving.member_id.is_empty() {
            let holder = instance_id.and_then(|instance_id| self.instances.get(instance_id)).cloned();
            let Some(holder) = holder else { return ErrorCode::UnknownMemberId };
            self.remove_member(&holder, cx);
            return ErrorCode::None;
        }
        if self.pending_members.remove(&leaving.member_id).is_some() {
            return ErrorCode::None;
        }
        if let Err(error) = self.check_member(&leaving.member_id, instance_id) {
            return error;
        }
        self.remove_member(&leaving.member_id, cx);
        ErrorCode::None
    }

    fn members_gone(&mut self, cx: &mut Cx<'_>) {
        match self.state {
            ClassicState::Empty => {}
            ClassicState::PreparingRebalance => self.maybe_complete_join(cx),
            ClassicState::CompletingRebalance | ClassicState::Stable => self.prepare_rebalance(cx),
        }
    }

    /// Takes a member out; what it still waits for is answered.
    pub(super) fn remove_member(&mut self, member_id: &str, cx: &mut Cx<'_>) {
        self.pending_members.remove(member_id);
        self.pending_syncs.remove(member_id);
        let Some(member) = self.members.remove(member_id) else { return };
        if let Some(reply) = member.join {
            cx.refuse_join(reply, ErrorCode::UnknownMemberId, Str::default());
        }
        if let Some(reply) = member.sync {
            cx.refuse_sync(reply, ErrorCode::UnknownMemberId);
        }
        if let Some(instance_id) = &member.instance_id {
            self.instances.remove(instance_id);
        }
        if self.leader.as_ref() == Some(&member.id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// When [`ClassicGroup::tick`] has something to do.
    pub fn next_deadline_ms(&self) -> Option<i64> {
        let sessions = self.members.values().filter_map(|member| member.deadline_ms());
        let pending = self.pending_members.values().copied();
        let phases = [self.join_deadline.map(|deadline| deadline.at_ms), self.sync_deadline_ms];
        sessions.chain(pending).chain(phases.into_iter().flatten()).min()
    }

    /// Does what is due.
    pub fn tick(&mut self, cx: &mut Cx<'_>) {
        let now_ms = cx.now_ms;
        let pending_before = self.pending_members.len();
        self.pending_members.retain(|_, deadline_ms| *deadline_ms > now_ms);
        if self.pending_members.len() < pending_before {
            self.maybe_complete_join(cx);
        }
        self.end_sessions(cx);
        if self.sync_deadline_ms.is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.sync_deadline_reached(cx);
        }
        if let Some(deadline) = self.join_deadline.filter(|deadline| deadline.at_ms <= now_ms) {
            self.join_deadline_reached(deadline, cx);
        }
    }

    fn end_sessions(&mut self, cx: &mut Cx<'_>) {
        let is_over = |deadline_ms: Option<i64>| deadline_ms.is_some_and(|deadline_ms| deadline_ms <= cx.now_ms);
        let ended = self.members.values().filter(|member| is_over(member.deadline_ms()));
        let ended: Vec<Str> = ended.map(|member| member.id.clone()).collect();
        for member_id in &ended {
            self.remove_member(member_id, cx);
        }
        if !ended.is_empty() {
            self.members_gone(cx);
        }
    }
}
