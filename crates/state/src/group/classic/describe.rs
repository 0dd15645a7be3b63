//! A classic group as DescribeGroups shows it.

use super::member::Member;
use super::{ClassicGroup, ClassicState};
use crate::group::{DescribedGroup, DescribedMember};

impl ClassicGroup {
    pub fn describe(&self) -> DescribedGroup {
        // Before that they have not agreed. What they were assigned last they may still be at work on.
        let shown = self.protocol.clone().filter(|_| self.state == ClassicState::Stable);
        let describe_member = |member: &Member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: shown.as_ref().map(|protocol| member.metadata(protocol)).unwrap_or_default(),
            assignment: member.assignment.clone(),
        };
        DescribedGroup {
            state: self.state.name(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            members: self.members.values().map(describe_member).collect(),
            protocol: shown.clone().unwrap_or_default(),
        }
    }
}
