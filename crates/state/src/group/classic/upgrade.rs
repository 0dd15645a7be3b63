//! What a consumer group takes over from a classic one.

use capek_wire::error_code::ErrorCode;

use super::{ClassicGroup, Protocol};
use crate::group::{Cx, GroupMember};

/// A member with all that it offered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpgradingMember {
    /// Its subscription is the one under the protocol that it prefers.
    pub member: GroupMember,
    pub protocols: Vec<Protocol>,
}

impl ClassicGroup {
    /// By member id.
    pub fn upgrading_members(&self) -> impl Iterator<Item = UpgradingMember> {
        self.members.values().map(|member| {
            let preferred = member.protocols.first().map(|protocol| protocol.name.clone()).unwrap_or_default();
            let record = member.to_record(&preferred, member.assignment.clone());
            UpgradingMember { member: record, protocols: member.protocols.clone() }
        })
    }

    /// Whoever waits is told to join again: the group goes on as another one.
    pub fn send_away(&mut self, cx: &mut Cx<'_>) {
        self.refuse_syncs(ErrorCode::RebalanceInProgress, cx);
        for member in self.members.values_mut() {
            if let Some(reply) = member.join.take() {
                cx.refuse_join(reply, ErrorCode::RebalanceInProgress, member.id.clone());
            }
        }
    }

    /// The group comes from another protocol: its members join again, and their sessions begin.
    pub fn taken_over(&mut self, cx: &mut Cx<'_>) {
        self.loaded(cx);
        self.prepare_rebalance(cx);
    }
}
