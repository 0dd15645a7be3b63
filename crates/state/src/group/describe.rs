//! What others are shown of groups.

use bytes::Bytes;
use capek_wire::codec::Str;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};

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

/// The metadata is empty unless the group is stable; the assignment is the last one.
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

/// A group as those see it who watch how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SurveyedGroup {
    pub group: Str,
    pub kind: &'static str,
    pub state: &'static str,
    pub member_count: usize,
    /// By topic and partition.
    pub offsets: Vec<SurveyedOffset>,
}

/// What a group has committed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SurveyedOffset {
    pub topic: Str,
    /// Zero: nobody knows.
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub offset: Offset,
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

    /// All groups, with at most so many offsets in all.
    pub fn survey(&self, offsets_max: usize) -> Vec<SurveyedGroup> {
        let mut left = offsets_max;
        let mut surveyed = Vec::with_capacity(self.groups.len());
        for (id, group) in &self.groups {
            let (kind, state, member_count) = match &group.kind {
                GroupKind::Classic(classic) => ("classic", classic.state().name(), classic.member_count()),
                GroupKind::Consumer(group) => ("consumer", group.state().name(), group.members().len()),
            };
            let offsets = group.offsets.iter().take(left).map(|(topic, partition, committed)| SurveyedOffset {
                topic: topic.clone(),
                topic_id: committed.topic_id,
                partition,
                offset: committed.offset,
            });
            let offsets: Vec<_> = offsets.collect();
            left -= offsets.len();
            surveyed.push(SurveyedGroup { group: id.clone(), kind, state, member_count, offsets });
        }
        surveyed
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
