//! The assignors that run here: who reads which partitions of the topics that it wants.
//!
//! All of them are deterministic, and sticky: a member keeps what it has as far as the rule of the assignor allows.

mod balance;
mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::Assignment;

/// One that a member may name in its heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Assignor {
    /// As equal as can be over all topics together.
    Uniform,
    /// Each topic by itself, and topics that are alike in the same way: for joins.
    Range,
}

impl Assignor {
    pub const ALL: [Assignor; 2] = [Assignor::Uniform, Assignor::Range];

    pub fn name(self) -> &'static str {
        match self {
            Assignor::Uniform => "uniform",
            Assignor::Range => "range",
        }
    }

    pub fn by_name(name: &str) -> Option<Assignor> {
        Assignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// A new target for every member. `partition_counts` has every topic that a member may be given.
    pub fn assign(
        self,
        members: &BTreeMap<Str, MemberSpec>,
        partition_counts: &BTreeMap<TopicId, i32>,
    ) -> BTreeMap<Str, Assignment> {
        match self {
            Assignor::Uniform => uniform::assign(members, partition_counts),
            Assignor::Range => range::assign(members, partition_counts),
        }
    }
}

/// What an assignor knows of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberSpec {
    pub instance_id: Option<Str>,
    /// Shared by the members that want the same.
    pub topics: Arc<BTreeSet<TopicId>>,
    /// Its last target.
    pub owned: Assignment,
}
