//! JoinGroup: who comes in, who may stay as it is, and when that means a rebalance.

use bytes::Bytes;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use super::member::{Member, Protocol};
use super::{ClassicGroup, ClassicState, JoinPhase};
use crate::group::{Cx, ReplyId};

/// A new member's JoinGroup is given up after so long without an answer (Kafka's bound).
const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;

/// A member wants in, or says something new. What is in it lives on in the group: it holds no frame.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct JoinRequest {
    pub group: Str,
    /// Empty: a newcomer.
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub session_timeout_ms: i32,
    pub rebalance_timeout_ms: i32,
    pub protocol_type: Str,
    pub protocols: Vec<Protocol>,
    /// A newcomer comes a second time with the id that it is given (version 4 and up).
    pub requires_known_member: bool,
    /// A group leader that was away may be told not to assign again (version 9 and up).
    pub can_skip_assignment: bool,
    /// For a newcomer: an id that nobody has had before.
    pub new_member_id: Str,
}

/// What a JoinGroup response says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JoinAnswer {
    pub error: ErrorCode,
    pub generation: i32,
    pub protocol_type: Option<Str>,
    pub protocol: Option<Str>,
    pub leader: Str,
    pub skip_assignment: bool,
    pub member_id: Str,
    /// For the group leader: everybody.
    pub members: Vec<JoinedMember>,
}

/// A member as the group leader is told of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct JoinedMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub metadata: Bytes,
}

impl JoinAnswer {
    pub fn refused(error: ErrorCode, member_id: Str) -> JoinAnswer {
        JoinAnswer {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: Str::default(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        }
    }
}

impl ClassicGroup {
    /// Answers now, or when the join phase is over.
    pub fn join(&mut self, request: JoinRequest, reply: ReplyId, cx: &mut Cx<'_>) {
        if !self.has_room_for(&request.member_id, cx) {
            self.remove_member(&request.member_id, cx);
            cx.refuse_join(reply, ErrorCode::GroupMaxSizeReached, Str::default());
            self.maybe_complete_join(cx);
        } else if !self.supports_protocols(&request) {
            cx.refuse_join(reply, ErrorCode::InconsistentGroupProtocol, request.member_id);
        } else if request.member_id.is_empty() {
            self.join_newcomer(request, reply, cx);
        } else {
            self.join_known(request, reply, cx);
        }
    }

    fn has_room_for(&self, member_id: &str, cx: &Cx<'_>) -> bool {
        let size_max = cx.config.group_size_max;
        match self.state {
            ClassicState::Empty => true,
            // Those who have not come back may be gone: who is here counts.
            ClassicState::PreparingRebalance => {
                let is_waiting = self.members.get(member_id).is_some_and(|member| member.join.is_some());
                is_waiting || self.waiting_count() < size_max
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                self.members.contains_key(member_id) || self.members.len() < size_max
            }
        }
    }

    /// Can the group still agree on a protocol with this one in it?
    fn supports_protocols(&self, request: &JoinRequest) -> bool {
        if self.state == ClassicState::Empty {
            return !request.protocol_type.is_empty() && !request.protocols.is_empty();
        }
        let is_common = |protocol: &Protocol| self.members.values().all(|member| member.supports(&protocol.name));
        self.protocol_type.as_ref() == Some(&request.protocol_type) && request.protocols.iter().any(is_common)
    }

    fn join_newcomer(&mut self, request: JoinRequest, reply: ReplyId, cx: &mut Cx<'_>) {
        let member_id = request.new_member_id.clone();
        let holder = request.instance_id.as_ref().map(|instance_id| self.instances.get(instance_id).cloned());
        match holder {
            Some(Some(holder)) => self.replace_static_member(request, holder, reply, cx),
            Some(None) => self.add_member(request, member_id, reply, cx),
            None if request.requires_known_member => {
                let deadline_ms = cx.now_ms.saturating_add(i64::from(request.session_timeout_ms));
                self.pending_members.insert(member_id.clone(), deadline_ms);
                cx.refuse_join(reply, ErrorCode::MemberIdRequired, member_id);
            }
            None => self.add_member(request, member_id, reply, cx),
        }
    }

    fn join_known(&mut self, request: JoinRequest, reply: ReplyId, cx: &mut Cx<'_>) {
        let member_id = request.member_id.clone();
        if self.pending_members.contains_key(&member_id) {
            return self.add_member(request, member_id, reply, cx);
        }
        if let Err(error) = self.check_member(&member_id, request.instance_id.as_ref()) {
            return cx.refuse_join(reply, error, member_id);
        }
        let says_the_same = self.members[&member_id].protocols == request.protocols;
        let is_leader = self.leader.as_ref() == Some(&member_id);
        let may_stay = match self.state {
            // The answer to its first request may have been lost.
            ClassicState::CompletingRebalance => says_the_same,
            // A group leader that joins again wants to assign again.
            ClassicState::Stable => says_the_same && !is_leader,
            ClassicState::PreparingRebalance | ClassicState::Empty => false,
        };
        if may_stay {
            let answer = self.joined(&member_id, is_leader);
            return cx.answer_join(reply, answer);
        }
        self.update_member(&member_id, request, reply, cx);
        self.rebalance_or_complete_join(cx);
    }

    /// What a member of the current generation is told.
    pub(super) fn joined(&self, member_id: &Str, with_members: bool) -> JoinAnswer {
        let protocol = self.protocol.clone().unwrap_or_default();
        let joined_member = |member: &Member| JoinedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(&protocol),
        };
        JoinAnswer {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_default(),
            skip_assignment: false,
            member_id: member_id.clone(),
            members: if with_members { self.members.values().map(joined_member).collect() } else { Vec::new() },
        }
    }

    fn add_member(&mut self, request: JoinRequest, member_id: Str, reply: ReplyId, cx: &mut Cx<'_>) {
        self.pending_members.remove(&member_id);
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if matches!(self.join_deadline, Some(deadline) if matches!(deadline.phase, JoinPhase::Initial { .. })) {
            self.has_new_member = true;
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        if let Some(instance_id) = &request.instance_id {
            self.instances.insert(instance_id.clone(), member_id.clone());
        }
        let member = Member {
            id: member_id.clone(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
            assignment: Bytes::new(),
            join: Some(reply),
            sync: None,
            is_new: true,
            session_deadline_ms: cx.now_ms.saturating_add(NEW_MEMBER_TIMEOUT_MS),
        };
        self.members.insert(member_id, member);
        self.rebalance_or_complete_join(cx);
    }

    /// A member says it anew; as whom it first came, it stays known. A request of it that still waits was given up by its client.
    fn update_member(&mut self, member_id: &Str, request: JoinRequest, reply: ReplyId, cx: &mut Cx<'_>) {
        let member = self.members.get_mut(member_id).expect("the caller has looked");
        if let Some(given_up) = member.join.replace(reply) {
            cx.refuse_join(given_up, ErrorCode::RebalanceInProgress, member_id.clone());
        }
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.session_timeout_ms = request.session_timeout_ms;
        member.protocols = request.protocols;
    }

    /// A static member was started again: it takes over its old place, and whoever still holds that is fenced.
    fn replace_static_member(&mut self, request: JoinRequest, old_id: Str, reply: ReplyId, cx: &mut Cx<'_>) {
        let new_id = request.new_member_id.clone();
        let can_skip_assignment = request.can_skip_assignment;
        let mut member = self.members.remove(&old_id).expect("an instance is held by a member");
        if let Some(old_reply) = member.join.take() {
            cx.refuse_join(old_reply, ErrorCode::FencedInstanceId, old_id.clone());
        }
        if let Some(old_reply) = member.sync.take() {
            cx.refuse_sync(old_reply, ErrorCode::FencedInstanceId);
        }
        if let Some(instance_id) = &member.instance_id {
            self.instances.insert(instance_id.clone(), new_id.clone());
        }
        if self.pending_syncs.remove(&old_id) {
            self.pending_syncs.insert(new_id.clone());
        }
        let was_leader = self.leader.as_ref() == Some(&old_id);
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        member.id = new_id.clone();
        member.is_new = false; // its session counts, and its old self was known
        self.members.insert(new_id.clone(), member);
        self.update_member(&new_id, request, reply, cx);
        let member = self.members.get_mut(&new_id).expect("it was just put there");
        member.renew_session(cx.now_ms);

        match self.state {
            ClassicState::Stable if self.selected_protocol() == self.protocol => {
                let value = self.to_record(|member| member.assignment.clone());
                if value.size_bytes_max() > cx.config.record_bytes_max {
                    return self.rebalance_or_complete_join(cx);
                }
                self.members.get_mut(&new_id).expect("it was just put there").join = None;
                self.write(value, cx);
                let mut answer = self.joined(&new_id, was_leader && can_skip_assignment);
                answer.skip_assignment = was_leader && can_skip_assignment;
                if was_leader && !can_skip_assignment {
                    // Old clients would take their own id for an order to assign.
                    answer.leader = old_id;
                }
                cx.answer_join(reply, answer);
            }
            // The leader may be assigning to the old id right now.
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(cx),
            ClassicState::PreparingRebalance | ClassicState::Empty => self.maybe_complete_join(cx),
        }
    }
}
