//! One member: what it says about itself, and how far it is on the way to its target.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use capek_wire::Str;

use super::TopicPartition;

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

/// A protocol that a classic member offered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassicProtocol {
    pub name: Str,
    pub metadata: Bytes,
}

/// What is known in addition of a member that speaks the classic protocol.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassicMetadata {
    pub session_timeout_ms: i32,
    pub protocols: Vec<ClassicProtocol>,
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
