//! A rebalance: members are waited for, a generation begins, its leader's assignment is waited for.

use std::collections::BTreeMap;

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use super::member::Member;
use super::{ClassicGroup, ClassicState, JoinDeadline, JoinPhase};
use crate::group::Cx;

impl ClassicGroup {
    /// Something has changed: begin a rebalance, or see whether that was what a running one waits for.
    pub(super) fn rebalance_or_complete_join(&mut self, cx: &mut Cx<'_>) {
        match self.state {
            ClassicState::PreparingRebalance => self.maybe_complete_join(cx),
            _ => self.prepare_rebalance(cx),
        }
    }

    pub(super) fn prepare_rebalance(&mut self, cx: &mut Cx<'_>) {
        self.refuse_syncs(ErrorCode::RebalanceInProgress, cx);
        self.sync_deadline_ms = None;
        let was_empty = self.state == ClassicState::Empty;
        self.transition(ClassicState::PreparingRebalance, cx.now_ms);
        if was_empty {
            let delay_ms = cx.config.initial_rebalance_delay_ms;
            let remaining_ms = (self.rebalance_timeout_ms() - delay_ms).max(0);
            self.begin_initial_delay(delay_ms, remaining_ms, cx.now_ms);
        } else if self.have_all_joined() {
            self.complete_join(cx);
        } else {
            self.wait_for_joins(cx.now_ms);
        }
    }

    fn begin_initial_delay(&mut self, delay_ms: i64, remaining_ms: i64, now_ms: i64) {
        self.has_new_member = false;
        let phase = JoinPhase::Initial { delay_ms, remaining_ms };
        self.join_deadline = Some(JoinDeadline { at_ms: now_ms.saturating_add(delay_ms), phase });
    }

    fn wait_for_joins(&mut self, now_ms: i64) {
        let at_ms = now_ms.saturating_add(self.rebalance_timeout_ms());
        self.join_deadline = Some(JoinDeadline { at_ms, phase: JoinPhase::Rebalance });
    }

    /// The join phase is over when all have joined; only the initial delay is waited for in any case.
    pub(super) fn maybe_complete_join(&mut self, cx: &mut Cx<'_>) {
        let is_initial = matches!(self.join_deadline, Some(JoinDeadline { phase: JoinPhase::Initial { .. }, .. }));
        if self.state == ClassicState::PreparingRebalance && !is_initial && self.have_all_joined() {
            self.complete_join(cx);
        }
    }

    fn have_all_joined(&self) -> bool {
        self.pending_members.is_empty() && self.members.values().all(|member| member.join.is_some())
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.members.values().filter(|member| member.join.is_some()).count()
    }

    /// The longest that a member asks for; at least a moment, so that time goes on.
    pub(super) fn rebalance_timeout_ms(&self) -> i64 {
        let timeouts_ms = self.members.values().map(|member| i64::from(member.rebalance_timeout_ms));
        timeouts_ms.max().unwrap_or(0).max(1)
    }

    pub(super) fn join_deadline_reached(&mut self, deadline: JoinDeadline, cx: &mut Cx<'_>) {
        match deadline.phase {
            JoinPhase::Initial { delay_ms, remaining_ms } if self.has_new_member && remaining_ms > 0 => {
                let next_delay_ms = cx.config.initial_rebalance_delay_ms.min(remaining_ms);
                self.begin_initial_delay(next_delay_ms, (remaining_ms - delay_ms).max(0), cx.now_ms);
            }
            _ => self.complete_join(cx),
        }
    }

    fn complete_join(&mut self, cx: &mut Cx<'_>) {
        self.join_deadline = None;
        // Static members may be away for a while: their sessions decide.
        let is_gone = |member: &&Member| member.join.is_none() && member.instance_id.is_none();
        let gone: Vec<Str> = self.members.values().filter(is_gone).map(|member| member.id.clone()).collect();
        for member_id in gone {
            self.remove_member(&member_id, cx);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left, and all of them are away.
            return self.wait_for_joins(cx.now_ms);
        }
        self.generation = self.generation.wrapping_add(1).max(0);
        self.pending_syncs.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.transition(ClassicState::Empty, cx.now_ms);
            let value = self.to_record(|_| Default::default());
            return self.write(value, cx);
        }
        self.protocol = self.selected_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.transition(ClassicState::CompletingRebalance, cx.now_ms);
        self.answer_joins(cx);
        self.sync_deadline_ms = Some(cx.now_ms.saturating_add(self.rebalance_timeout_ms()));
    }

    /// The group leader is one that is here. False when nobody is.
    fn elect_leader(&mut self) -> bool {
        let is_here = |member: &Member| member.join.is_some();
        if self.leader.as_ref().and_then(|leader| self.members.get(leader)).is_some_and(is_here) {
            return true;
        }
        let present = self.members.values().find(|member| is_here(member));
        let Some(elected) = present.map(|member| member.id.clone()) else { return false };
        self.leader = Some(elected);
        true
    }

    fn answer_joins(&mut self, cx: &mut Cx<'_>) {
        let member_ids: Vec<Str> = self.members.keys().cloned().collect();
        for member_id in member_ids {
            let is_leader = self.leader.as_ref() == Some(&member_id);
            let member = self.members.get_mut(&member_id).expect("its id was just listed");
            let reply = member.join.take();
            member.is_new = false;
            member.renew_session(cx.now_ms);
            if let Some(reply) = reply {
                let answer = self.joined(&member_id, is_leader);
                cx.answer_join(reply, answer);
            }
            self.pending_syncs.insert(member_id);
        }
    }

    /// The protocol that most members prefer among those that all of them support; of equals the group leader's.
    pub(super) fn selected_protocol(&self) -> Option<Str> {
        let is_common = |name: &Str| self.members.values().all(|member| member.supports(name));
        let mut votes: BTreeMap<&Str, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member.protocols.iter().map(|protocol| &protocol.name).find(|name| is_common(name));
            *votes.entry(choice?).or_default() += 1;
        }
        let most = votes.values().max().copied()?;
        let leader = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        let preferred = leader.into_iter().flat_map(|leader| &leader.protocols).map(|protocol| &protocol.name);
        let mut by_preference = preferred.chain(votes.keys().copied());
        by_preference.find(|name| votes.get(name) == Some(&most)).cloned()
    }

    /// The rebalance timeout has passed since the generation began: whoever has not synced is not there.
    pub(super) fn sync_deadline_reached(&mut self, cx: &mut Cx<'_>) {
        self.sync_deadline_ms = None;
        let missing = std::mem::take(&mut self.pending_syncs);
        if missing.is_empty() {
            return;
        }
        for member_id in &missing {
            self.remove_member(member_id, cx);
        }
        self.prepare_rebalance(cx);
    }
}
