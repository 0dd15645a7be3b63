//! One member: what it says about itself, and how far it is on the way to its target.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::Str;

use super::TopicPartition;
use crate::group::Protocol;

/// The epoch of a static member that left and may come back within its session.
pub(super) const AWAY_EPOCH: i32 = -2;

/// Partitions of a member, each with the epoch in which it got it.
pub type Owned = BTreeMap<TopicPartition, i32>;

/// Where a member stands between two assignments. The numbers are those of the record.
///
/// ```text
///              target lacks what it holds                     it no longer holds them
///    Stable ─────────────────────────────▶ UnrevokedPartitions ───────────────┐
///      ▲ ▲                                    ▲                               │
///      │ └── all it wants is free ─────────── │ ──────────────────────────────┤
///      │                                      │ (a newer target)              │ some is still with others
///      └────────── the rest is free ── UnreleasedPartitions ◀─────────────────┘
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(i8)]
pub enum MemberState {
    /// It holds what it should in its epoch.
    #[default]
    Stable = 0,
    /// It must give partitions back before it goes on.
    UnrevokedPartitions = 1,
    /// It waits for partitions that others have not given back.
    UnreleasedPartitions = 2,
}

impl MemberState {
    pub(super) fn from_number(number: i8) -> Option<MemberState> {
        [MemberState::Stable, MemberState::UnrevokedPartitions, MemberState::UnreleasedPartitions]
            .into_iter()
            .find(|state| *state as i8 == number)
    }
}

/// What is known in addition of a member that speaks the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassicMetadata {
    pub session_timeout_ms: i32,
    /// In the member's order of preference.
    pub protocols: Vec<Protocol>,
}

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MemberMetadata {
    pub instance_id: Option<Str>,
    pub rack_id: Option<Str>,
    pub client_id: Str,
    pub client_host: Str,
    pub topic_names: BTreeSet<Str>,
    pub topic_regex: Option<Str>,
    pub rebalance_timeout_ms: i32,
    pub server_assignor: Option<Str>,
    /// Of a member that speaks the classic protocol.
    pub classic: Option<ClassicMetadata>,
}

impl MemberMetadata {
    /// At most so many bytes will its record take.
    pub(super) fn size_bytes_max(&self) -> usize {
        /// Lengths and numbers of a member; a length of a text.
        const FIXED_BYTES: usize = 64;
        const LENGTH_BYTES: usize = 3;
        let texts = [&self.instance_id, &self.rack_id, &self.topic_regex, &self.server_assignor];
        let texts = texts.into_iter().flatten().chain([&self.client_id, &self.client_host]).chain(&self.topic_names);
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols = protocols.map(|protocol| protocol.name.len() + protocol.metadata.len() + 4 * LENGTH_BYTES);
        FIXED_BYTES + texts.map(|text| text.len() + LENGTH_BYTES).sum::<usize>() + protocols.sum::<usize>()
    }
}

/// A member of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Member {
    pub metadata: MemberMetadata,
    pub epoch: i32,
    pub previous_epoch: i32,
    pub state: MemberState,
    /// What it may read.
    pub assigned: Owned,
    /// What it was told to give back and may still read.
    pub revoking: Owned,
}

impl Member {
    pub fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// True for a static member that left for a while.
    pub fn is_away(&self) -> bool {
        self.epoch == AWAY_EPOCH
    }

    pub fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// Everything that nobody else may read.
    pub fn held(&self) -> impl Iterator<Item = (&TopicPartition, &i32)> {
        self.assigned.iter().chain(&self.revoking)
    }

    pub(super) fn move_to_epoch(&mut self, epoch: i32) {
        if epoch != self.epoch {
            self.previous_epoch = self.epoch;
            self.epoch = epoch;
        }
    }
}
