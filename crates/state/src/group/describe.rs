//! What others are shown of groups.

use bytes::Bytes;
use capek_wire::codec::Str;

use super::{Coordinator, GroupKind};

/// A group as DescribeGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DescribedGroup {
    pub state: &'static str,
    pub protocol_type: Str,
    /// Empty unless the group is stable.
    pub protocol: Str,
    pub members: Vec<DescribedMember>,
}

/// Metadata and assignment are empty unless the group is stable.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DescribedMember {
    pub member_id: Str,
    pub instance_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub metadata: Bytes,
    pub assignment: Bytes,
}

/// A group as ListGroups shows it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ListedGroup {
    pub group: Str,
    pub protocol_type: Str,
    pub state: &'static str,
    pub kind: &'static str,
}

/// Empty: all. Names that no state or type has match nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListFilter {
    pub states: Vec<Str>,
    pub kinds: Vec<Str>,
}

impl Coordinator {
    /// None: there is no such group, or it is of the other protocol.
    pub fn describe(&self, group: &str) -> Option<DescribedGroup> {
        match &self.groups.get(group)?.kind {
            GroupKind::Classic(group) => Some(group.describe()),
            GroupKind::Consumer(_) => None,
        }
    }

    /// By group id.
    pub fn list(&self, filter: &ListFilter) -> Vec<ListedGroup> {
        let is_wanted = |names: &[Str], name: &str| {
            names.is_empty() || names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
        };
        let listed = self.groups.iter().map(|(id, group)| match &group.kind {
            GroupKind::Classic(classic) => ListedGroup {
                group: id.clone(),
                protocol_type: classic.protocol_type().cloned().unwrap_or_default(),
                state: classic.state().name(),
                kind: "classic",
            },
            GroupKind::Consumer(consumers) => ListedGroup {
                group: id.clone(),
                protocol_type: Str::from_static("consumer"),
                state: consumers.state().name(),
                kind: "consumer",
            },
        });
        listed.filter(|group| is_wanted(&filter.states, group.state) && is_wanted(&filter.kinds, group.kind)).collect()
    }
}
