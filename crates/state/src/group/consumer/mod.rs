//! The consumer protocol (KIP-848): members report, the coordinator assigns.
//!
//! ```text
//!   subscriptions, topics ──▶ group epoch ──▶ target assignment ──▶ each member, by itself, towards its target
//!        (a change bumps it)      (an assignor makes it)             (revoke, acknowledge, release, assign)
//! ```
//!
//! A handler takes a group, what a client said, and a [`Context`]. It checks everything before it changes anything; what
//! it changes, it changes by records, which [`ConsumerGroup::replay`] applies, live and at reload alike. Timers are
//! data; a reload starts them afresh. No partition is ever given to a member while another one may still read it:
//! [`ConsumerGroup`] knows the owner of every partition, one that is being revoked still has its owner.

pub mod assignor;
mod classic_members;
mod conversion;
mod describe;
mod embedded;
mod group;
mod heartbeat;
mod leave;
mod member;
mod offsets;
mod reconcile;
mod record;
mod regexes;
mod target;
mod timers;
mod topics;

use std::collections::BTreeSet;

use capek_wire::ids::{PartitionIndex, TopicId};

pub use assignor::{Assignor, MemberSpec};
pub use conversion::MigrationPolicy;
pub use group::{ConsumerGroup, GroupState};
pub use heartbeat::{Heartbeat, check_heartbeat};
pub use member::{ClassicMetadata, Member, MemberMetadata, MemberState, Owned};
pub use offsets::Committer;
pub use record::{Change, ConsumerRecord, CurrentAssignment, GroupEpoch, RecordError, ResolvedRegex, TargetEpoch};
pub use regexes::check as check_topic_regex;
pub use timers::{Deadlines, Timer};
pub use topics::{ImageTopics, TopicInfo, TopicTable, Topics};

/// A partition of a topic, by the topic's id.
pub type TopicPartition = (TopicId, PartitionIndex);

/// Partitions that are meant for one member.
pub type Assignment = BTreeSet<TopicPartition>;

/// Kafka's defaults, see [`ConsumerGroupConfig`].
const SESSION_TIMEOUT_MS: i32 = 45_000;
const HEARTBEAT_INTERVAL_MS: i32 = 5_000;
const ASSIGNMENT_INTERVAL_MS: i32 = 1_000;
const RECORD_BYTES_MAX: usize = 1 << 20;

/// What is configured for a group: the broker's `group.consumer.*`, or what the group has set for itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsumerGroupConfig {
    /// `group.coordinator.rebalance.protocols` names the consumer protocol.
    pub is_enabled: bool,
    pub session_timeout_ms: i32,
    pub heartbeat_interval_ms: i32,
    pub assignment_interval_ms: i32,
    pub members_max: usize,
    /// Those that members may name; the first is the default.
    pub assignors: Vec<Assignor>,
    pub migration_policy: MigrationPolicy,
    /// The largest record that the log of the group takes.
    pub record_bytes_max: usize,
}

impl Default for ConsumerGroupConfig {
    fn default() -> Self {
        ConsumerGroupConfig {
            is_enabled: true,
            session_timeout_ms: SESSION_TIMEOUT_MS,
            heartbeat_interval_ms: HEARTBEAT_INTERVAL_MS,
            assignment_interval_ms: ASSIGNMENT_INTERVAL_MS,
            members_max: i32::MAX as usize,
            assignors: vec![Assignor::Uniform, Assignor::Range],
            migration_policy: MigrationPolicy::Bidirectional,
            record_bytes_max: RECORD_BYTES_MAX,
        }
    }
}

/// What a handler looks at beside the group.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub now_ms: i64,
    pub config: &'a ConsumerGroupConfig,
    pub topics: &'a dyn Topics,
}

/// What a handler has done: records to write, and what to answer once they are committed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome<R> {
    pub records: Vec<ConsumerRecord>,
    pub response: R,
}
