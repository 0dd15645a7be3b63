//! SyncGroup: the group leader brings the assignment, everybody takes their part of it.

use std::collections::BTreeMap;

use bytes::Bytes;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use super::{ClassicGroup, ClassicState};
use crate::group::{Cx, ReplyId};

/// A member asks for its part; the group leader brings all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SyncRequest {
    pub group: Str,
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub generation: i32,
    /// None in versions before 5, which do not say.
    pub protocol_type: Option<Str>,
    pub protocol: Option<Str>,
    pub assignments: Vec<(Str, Bytes)>,
}

/// What a SyncGroup response says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SyncAnswer {
    pub error: ErrorCode,
    pub protocol_type: Option<Str>,
    pub protocol: Option<Str>,
    pub assignment: Bytes,
}

impl SyncAnswer {
    pub fn refused(error: ErrorCode) -> SyncAnswer {
        SyncAnswer { error, protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

impl ClassicGroup {
    /// Answers now, or when the group leader has assigned.
    pub fn sync(&mut self, request: SyncRequest, reply: ReplyId, cx: &mut Cx<'_>) {
        if let Err(error) = self.check_sync(&request) {
            return cx.refuse_sync(reply, error);
        }
        match self.state {
            ClassicState::Empty => cx.refuse_sync(reply, ErrorCode::UnknownMemberId),
            ClassicState::PreparingRebalance => cx.refuse_sync(reply, ErrorCode::RebalanceInProgress),
            ClassicState::CompletingRebalance => self.wait_for_assignment(request, reply, cx),
            ClassicState::Stable => {
                self.sync_received(&request.member_id);
                let answer = self.assigned(&request.member_id);
                cx.answer_sync(reply, answer);
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), ErrorCode> {
        self.check_member(&request.member_id, request.instance_id.as_ref())?;
        if request.generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: &Option<Str>, ours: &Option<Str>| said.is_some() && said != ours;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn sync_received(&mut self, member_id: &str) {
        self.pending_syncs.remove(member_id);
        if self.pending_syncs.is_empty() {
            self.sync_deadline_ms = None;
        }
    }

    fn wait_for_assignment(&mut self, request: SyncRequest, reply: ReplyId, cx: &mut Cx<'_>) {
        let member = self.members.get_mut(&request.member_id).expect("the request was checked");
        if let Some(given_up) = member.sync.replace(reply) {
            cx.refuse_sync(given_up, ErrorCode::RebalanceInProgress);
        }
        self.sync_received(&request.member_id);
        if self.leader.as_ref() == Some(&request.member_id) {
            self.assign(request.assignments.into_iter().collect(), cx);
        }
    }

    /// The generation is stable. Members that were forgotten have nothing.
    fn assign(&mut self, mut assignments: BTreeMap<Str, Bytes>, cx: &mut Cx<'_>) {
        assignments.retain(|member_id, _| self.members.contains_key(member_id));
        let value = self.to_record(|member| assignments.get(&member.id).cloned().unwrap_or_default());
        if value.size_bytes_max() > cx.config.record_bytes_max {
            self.refuse_syncs(ErrorCode::UnknownServerError, cx);
            return self.prepare_rebalance(cx);
        }
        self.write(value, cx);
        let member_ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let member = self.members.get_mut(&member_id).expect("its id was just listed");
            if let Some(reply) = member.sync.take() {
                member.renew_session(cx.now_ms);
                let answer = self.assigned(&member_id);
                cx.answer_sync(reply, answer);
            }
        }
    }

    fn assigned(&self, member_id: &str) -> SyncAnswer {
        SyncAnswer {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self.members.get(member_id).map(|member| member.assignment.clone()).unwrap_or_default(),
        }
    }

    /// Whoever waits for the assignment learns that it will not come.
    pub(super) fn refuse_syncs(&mut self, error: ErrorCode, cx: &mut Cx<'_>) {
        for member in self.members.values_mut() {
            if let Some(reply) = member.sync.take() {
                member.renew_session(cx.now_ms);
                cx.refuse_sync(reply, error);
            }
        }
    }
}
