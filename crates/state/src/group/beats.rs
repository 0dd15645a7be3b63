//! Beats: heartbeats of members whose group is steady, noted where the coordinator does not have to be asked.
//!
//! Nearly all heartbeats say that nothing has changed, and are told the same. While a classic group is stable, what such a
//! heartbeat is checked against lies here ([`SteadyGroup`]), and the answer is that the member lives; the time of it is noted.
//!
//! ```text
//!     Coordinator::steady ──▶ Beats::begin ──▶ Beats::beat … ──▶ Beats::end ──▶ Coordinator::beaten
//! ```
//!
//! What must hold: a group's entry has ended, and its beats are with the coordinator, before anything else can change the
//! group ([`Coordinator::join`], `sync`, `leave`, `consumer_heartbeat`, and `tick` when the group is among those that are
//! [`Coordinator::due`]). So whatever is answered here was true, and no member is taken for dead that was told it lives.

use std::collections::BTreeMap;

use capek_wire::codec::Str;

use super::{Coordinator, GroupKind, HeartbeatRequest};

/// A stable generation, and when its members were last heard of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SteadyGroup {
    pub generation: i32,
    pub members: BTreeMap<Str, SteadyMember>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SteadyMember {
    pub instance_id: Option<Str>,
    /// None: not since the entry began.
    pub beat_ms: Option<i64>,
}

/// The steady groups of a shard. See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Beats {
    groups: BTreeMap<Str, SteadyGroup>,
}

impl Beats {
    /// True: the member lives, and the coordinator would say so. False says nothing: the coordinator has to be asked.
    pub fn beat(&mut self, request: &HeartbeatRequest, now_ms: i64) -> bool {
        let Some(group) = self.groups.get_mut(&request.group) else { return false };
        let Some(member) = group.members.get_mut(&request.member_id) else { return false };
        let is_itself = request.instance_id.is_none() || request.instance_id == member.instance_id;
        if !is_itself || request.generation != group.generation {
            return false;
        }
        member.beat_ms = Some(now_ms);
        true
    }

    pub fn begin(&mut self, group: Str, steady: SteadyGroup) {
        self.groups.insert(group, steady);
    }

    pub fn is_steady(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// From now on the coordinator is asked.
    pub fn end(&mut self, group: &str) -> Option<SteadyGroup> {
        self.groups.remove(group)
    }

    /// The same for all groups: their coordinator is going.
    pub fn end_all(&mut self) {
        self.groups.clear();
    }
}

impl Coordinator {
    /// What heartbeats of this group can be checked against for the time being. None: the coordinator has to be asked.
    pub fn steady(&self, group: &str) -> Option<SteadyGroup> {
        match &self.groups.get(group)?.kind {
            GroupKind::Classic(group) => group.steady(),
            GroupKind::Consumer(_) => None,
        }
    }

    /// Takes in what was noted since [`Coordinator::steady`].
    pub fn beaten(&mut self, group: &str, steady: &SteadyGroup) {
        // What was due earlier is looked at then, and put off.
        if let Some(GroupKind::Classic(group)) = self.groups.get_mut(group).map(|group| &mut group.kind) {
            group.beaten(steady);
        }
    }
}
