//! Members that speak the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup, answered
//! so that such a member moves as the others do.
//!
//! ```text
//!   JoinGroup   says what it wants and still holds, and takes it one step on; its generation is its member epoch
//!   SyncGroup   brings what it may read now
//!   Heartbeat   REBALANCE_IN_PROGRESS when there is a step to take: it joins again, which takes it
//! ```
//!
//! Nobody waits here for anybody: every request is answered at once. The group leader of the classic protocol is the
//! coordinator itself, so no member is told that it leads.

use std::collections::BTreeSet;

use capek_wire::{ErrorCode, Str};

use super::embedded::{Subscription, decode_subscription, encode_assignment, owned_partitions};
use super::group::ConsumerGroup;
use super::member::{ClassicMetadata, Member, MemberMetadata, MemberState};
use super::record::ConsumerRecord;
use super::timers::Timer;
use super::{Context, Outcome};
use crate::group::{HeartbeatRequest, JoinAnswer, JoinRequest, LeavingMember, SyncAnswer, SyncRequest};

pub(super) const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

impl ConsumerGroup {
    /// A member of the classic protocol joins the group, or takes its next step.
    pub fn classic_join(&mut self, request: JoinRequest, context: &Context<'_>) -> Outcome<JoinAnswer> {
        self.try_classic_join(&request, context).unwrap_or_else(|(error, member_id)| Outcome {
            records: Vec::new(),
            response: JoinAnswer::refused(error, member_id),
        })
    }

    fn try_classic_join(
        &mut self,
        request: &JoinRequest,
        context: &Context<'_>,
    ) -> Result<Outcome<JoinAnswer>, (ErrorCode, Str)> {
        let refused = |error| (error, Str::default());
        self.check_size(&request.member_id, context).map_err(|refusal| refused(refusal.code))?;
        let inconsistent = || refused(ErrorCode::InconsistentGroupProtocol);
        if !self.supports(request) {
            return Err(inconsistent());
        }
        let first = request.protocols.first().ok_or_else(inconsistent)?;
        let subscription = decode_subscription(&first.metadata).map_err(|_| inconsistent())?;
        let (member_id, previous_id) = self.classic_member_id(request)?;
        let metadata = self.classic_metadata(previous_id.as_ref().unwrap_or(&member_id), request, &subscription);
        if metadata.size_bytes_max() > context.config.record_bytes_max {
            return Err(refused(ErrorCode::InvalidRequest));
        }
        // From here on nothing is refused.
        let mut records = Vec::new();
        if let Some(previous_id) = previous_id {
            self.replace_member(&previous_id, &member_id, &mut records);
        }
        let has_subscription_changed = self.update_member(&member_id, metadata, context, &mut records);
        self.update_target(context, &mut records);
        let held = owned_partitions(&subscription.message, context.topics);
        self.reconcile(&member_id, has_subscription_changed, Some(&held), context, &mut records);
        self.timers.cancel(&Timer::Join(member_id.clone()));
        let sync_ms = context.now_ms + i64::from(request.rebalance_timeout_ms);
        self.timers.set(Timer::Sync(member_id.clone()), sync_ms);
        self.renew_classic_session(&member_id, context);
        let response = JoinAnswer {
            error: ErrorCode::None,
            generation: self.members[&member_id].epoch,
            protocol_type: Some(Str::from_static(CONSUMER_PROTOCOL_TYPE)),
            protocol: Some(first.name.clone()),
            leader: Str::default(),
            skip_assignment: false,
            member_id,
            members: Vec::new(),
        };
        Ok(Outcome { records, response })
    }

    /// Is one of its protocols one that all classic members have?
    fn supports(&self, request: &JoinRequest) -> bool {
        let is_common = |name: &Str| {
            let mut classic = self.members.values().filter_map(|member| member.metadata.classic.as_ref());
            classic.all(|classic| classic.protocols.iter().any(|protocol| protocol.name == *name))
        };
        let has_common = request.protocols.iter().any(|protocol| is_common(&protocol.name));
        request.protocol_type == CONSUMER_PROTOCOL_TYPE && has_common
    }

    /// Under which id it joins, and whose place it takes.
    fn classic_member_id(&self, request: &JoinRequest) -> Result<(Str, Option<Str>), (ErrorCode, Str)> {
        let is_newcomer = request.member_id.is_empty();
        let member_id = if is_newcomer { request.new_member_id.clone() } else { request.member_id.clone() };
        let Some(instance_id) = &request.instance_id else {
            if is_newcomer && request.requires_known_member {
                return Err((ErrorCode::MemberIdRequired, member_id));
            }
            return Ok((member_id, None));
        };
        match self.static_members.get(instance_id) {
            None if is_newcomer => Ok((member_id, None)),
            None => Err((ErrorCode::UnknownMemberId, Str::default())),
            Some(holder) if is_newcomer => Ok((member_id, Some(holder.clone()))),
            Some(holder) if *holder == member_id => Ok((member_id, None)),
            Some(_) => Err((ErrorCode::FencedInstanceId, Str::default())),
        }
    }

    fn classic_metadata(&self, member_id: &str, request: &JoinRequest, subscription: &Subscription) -> MemberMetadata {
        let known = self.members.get(member_id).map(|member| member.metadata.clone()).unwrap_or_default();
        let message = &subscription.message;
        MemberMetadata {
            instance_id: request.instance_id.as_ref().map(Str::detached).or(known.instance_id),
            rack_id: message.rack_id.as_ref().map(Str::detached).or(known.rack_id),
            client_id: request.client_id.clone(),
            client_host: request.client_host.clone(),
            topic_names: message.topics.iter().map(Str::detached).collect(),
            topic_regex: None,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            server_assignor: known.server_assignor,
            classic: Some(ClassicMetadata {
                session_timeout_ms: request.session_timeout_ms,
                protocols: request.protocols.clone(),
            }),
        }
    }

    /// What the member may read now.
    pub fn classic_sync(&mut self, request: &SyncRequest, context: &Context<'_>) -> SyncAnswer {
        self.try_classic_sync(request, context).unwrap_or_else(SyncAnswer::refused)
    }

    fn try_classic_sync(&mut self, request: &SyncRequest, context: &Context<'_>) -> Result<SyncAnswer, ErrorCode> {
        let member_id = &request.member_id;
        let member = self.classic_member(member_id, request.instance_id.as_ref(), request.generation)?;
        let first = member.metadata.classic.as_ref().and_then(|classic| classic.protocols.first());
        let first = first.ok_or(ErrorCode::InconsistentGroupProtocol)?.clone();
        let is_same = |asked: &Option<Str>, name: &str| asked.as_ref().is_none_or(|asked| *asked == *name);
        if !is_same(&request.protocol_type, CONSUMER_PROTOCOL_TYPE) || !is_same(&request.protocol, &first.name) {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // Whoever has partitions to give back is told first which it keeps.
        if self.epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            self.expect_join(member_id, context);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let version = decode_subscription(&first.metadata).map_or(0, |subscription| subscription.version);
        let assignment = encode_assignment(version, member.assigned.keys(), context.topics)
            .map_err(|_| ErrorCode::UnknownServerError)?;
        self.timers.cancel(&Timer::Sync(member_id.clone()));
        self.renew_classic_session(member_id, context);
        Ok(SyncAnswer {
            error: ErrorCode::None,
            protocol_type: Some(Str::from_static(CONSUMER_PROTOCOL_TYPE)),
            protocol: Some(first.name),
            assignment,
        })
    }

    /// REBALANCE_IN_PROGRESS tells the member to join again: there is a step to take.
    pub fn classic_heartbeat(&mut self, request: &HeartbeatRequest, context: &Context<'_>) -> ErrorCode {
        let member_id = &request.member_id;
        let member = match self.classic_member(member_id, request.instance_id.as_ref(), request.generation) {
            Ok(member) => member,
            Err(error) => return error,
        };
        let has_step = match member.state {
            MemberState::UnrevokedPartitions => true,
            MemberState::UnreleasedPartitions => !self.waits_for_others(member_id, member),
            MemberState::Stable => false,
        };
        let must_join = has_step || member.epoch < self.epoch;
        self.renew_classic_session(member_id, context);
        if !must_join {
            return ErrorCode::None;
        }
        self.expect_join(member_id, context);
        ErrorCode::RebalanceInProgress
    }

    /// Members leave, or are removed by a tool; members of the consumer protocol, too.
    pub fn classic_leave(
        &mut self,
        leaving: &[LeavingMember],
        context: &Context<'_>,
        records: &mut Vec<ConsumerRecord>,
    ) -> Vec<ErrorCode> {
        let mut gone = BTreeSet::new();
        let mut errors = Vec::with_capacity(leaving.len());
        for LeavingMember { member_id, instance_id } in leaving {
            let holder = instance_id.as_ref().map(|instance_id| self.static_members.get(instance_id));
            let found = match holder {
                Some(None) => Err(ErrorCode::UnknownMemberId),
                Some(Some(holder)) if member_id.is_empty() || holder == member_id => Ok(holder.clone()),
                Some(Some(_)) => Err(ErrorCode::FencedInstanceId),
                None if self.members.contains_key(member_id) => Ok(member_id.clone()),
                None => Err(ErrorCode::UnknownMemberId),
            };
            errors.push(found.as_ref().err().copied().unwrap_or(ErrorCode::None));
            gone.extend(found.ok());
        }
        if !gone.is_empty() {
            self.remove_members(gone, context, records);
        }
        errors
    }

    /// True when members are there and all of them speak the classic protocol.
    pub fn has_only_classic_members(&self) -> bool {
        !self.members.is_empty() && self.members.values().all(Member::is_classic)
    }

    fn classic_member(
        &self,
        member_id: &str,
        instance_id: Option<&Str>,
        generation: i32,
    ) -> Result<&Member, ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if *holder != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        let member = self.members.get(member_id).filter(|member| member.is_classic());
        let member = member.ok_or(ErrorCode::UnknownMemberId)?;
        if generation == member.epoch { Ok(member) } else { Err(ErrorCode::IllegalGeneration) }
    }

    /// Is a partition that the member should have still with somebody else?
    fn waits_for_others(&self, member_id: &Str, member: &Member) -> bool {
        let missing = self.target(member_id).iter().filter(|partition| !member.assigned.contains_key(*partition));
        missing.into_iter().any(|partition| self.owners.get(partition).is_some_and(|owner| owner != member_id))
    }

    /// The member was told to join again: it has its rebalance timeout for that.
    fn expect_join(&mut self, member_id: &Str, context: &Context<'_>) {
        let timer = Timer::Join(member_id.clone());
        if !self.timers.is_set(&timer) {
            let timeout_ms = self.members.get(member_id).map_or(0, |member| member.metadata.rebalance_timeout_ms);
            self.timers.set(timer, context.now_ms + i64::from(timeout_ms));
        }
    }

    fn renew_classic_session(&mut self, member_id: &Str, context: &Context<'_>) {
        let classic = self.members.get(member_id).and_then(|member| member.metadata.classic.as_ref());
        if let Some(classic) = classic {
            let deadline_ms = context.now_ms + i64::from(classic.session_timeout_ms);
            self.timers.set(Timer::Session(member_id.clone()), deadline_ms);
        }
    }
}
