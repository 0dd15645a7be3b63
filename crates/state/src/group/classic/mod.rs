//! A group of the classic protocol (JoinGroup, SyncGroup, Heartbeat, LeaveGroup): its members agree on a protocol, one of
//! them, the group leader, assigns. What they say to each other is opaque here.
//!
//! ```text
//!            ┌──────────── the last member has gone ───────────┐
//!            ▼                                                 │
//!          Empty ── a member joins ──▶ PreparingRebalance ─────┤
//!                                        ▲    ▲    │ all have joined, or the rebalance timeout
//!          joins with something new,     │    │    ▼
//!          leaves, session ends          │    └─ CompletingRebalance
//!                                        │         │ the group leader has assigned
//!                                        └─ Stable ◀
//! ```
//!
//! | state               | JoinGroup          | SyncGroup          | Heartbeat            | OffsetCommit            |
//! | ---                 | ---                | ---                | ---                  | ---                     |
//! | Empty               | rebalance          | UNKNOWN_MEMBER_ID  | UNKNOWN_MEMBER_ID    | of those without a member |
//! | PreparingRebalance  | waits              | REBALANCE_IN_PROGRESS | REBALANCE_IN_PROGRESS | of its members       |
//! | CompletingRebalance | the same again: answered; else rebalance | waits for the leader's | taken | REBALANCE_IN_PROGRESS |
//! | Stable              | nothing new from a follower: answered; else rebalance | the assignment | taken | of its members |
//!
//! What survives a restart is what [`GroupMetadata`] says, and it changes in `ClassicGroup::replay` only: the members with
//! their assignments, once a generation is stable. Everything else (who is joining, sessions, deadlines) is soft: after a
//! restart the members of the last stable generation go on, and all others join again.

mod describe;
mod join;
mod member;
mod rebalance;
mod session;
mod sync;
mod upgrade;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use capek_wire::codec::{Message, Reader, Str};
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::ConsumerProtocolSubscription;

use self::member::Member;
use super::{CommittedOffset, Cx, GroupMetadata, Record};

pub use self::join::{JoinAnswer, JoinRequest, JoinedMember};
pub use self::member::Protocol;
pub use self::session::{HeartbeatRequest, LeaveRequest, LeavingMember};
pub use self::sync::{SyncAnswer, SyncRequest};
pub use self::upgrade::UpgradingMember;

/// The protocol type of consumers: only their subscriptions are looked into.
const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// See the drawing above. A dead group is one that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClassicState {
    Empty,
    PreparingRebalance,
    CompletingRebalance,
    Stable,
}

impl ClassicState {
    /// As ListGroups and DescribeGroups show it.
    pub fn name(self) -> &'static str {
        match self {
            ClassicState::Empty => "Empty",
            ClassicState::PreparingRebalance => "PreparingRebalance",
            ClassicState::CompletingRebalance => "CompletingRebalance",
            ClassicState::Stable => "Stable",
        }
    }
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClassicGroup {
    id: Str,
    state: ClassicState,
    /// Since when; None: not told by an old Kafka.
    state_timestamp_ms: Option<i64>,
    /// None before the first member.
    protocol_type: Option<Str>,
    /// The one that the members agreed on.
    protocol: Option<Str>,
    generation: i32,
    leader: Option<Str>,
    members: BTreeMap<Str, Member>,
    /// Static members: who holds which `group.instance.id`.
    instances: BTreeMap<Str, Str>,
    /// Ids that were given out (MEMBER_ID_REQUIRED), and until when they may be used.
    pending_members: BTreeMap<Str, i64>,
    /// Members of this generation that have not sent SyncGroup.
    pending_syncs: BTreeSet<Str>,
    join_deadline: Option<JoinDeadline>,
    sync_deadline_ms: Option<i64>,
    /// Somebody has joined since the initial delay began.
    has_new_member: bool,
    /// None when nobody can know.
    subscribed_topics: Option<BTreeSet<Str>>,
}

/// When the join phase ends even if not all have joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct JoinDeadline {
    at_ms: i64,
    phase: JoinPhase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum JoinPhase {
    /// The first members of an empty group wait for more; each newcomer prolongs it, up to `remaining_ms`.
    Initial {
        delay_ms: i64,
        remaining_ms: i64,
    },
    Rebalance,
}

impl ClassicGroup {
    pub fn new(id: Str, now_ms: i64) -> ClassicGroup {
        ClassicGroup {
            id,
            state: ClassicState::Empty,
            state_timestamp_ms: Some(now_ms),
            protocol_type: None,
            protocol: None,
            generation: 0,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            pending_members: BTreeMap::new(),
            pending_syncs: BTreeSet::new(),
            join_deadline: None,
            sync_deadline_ms: None,
            has_new_member: false,
            subscribed_topics: None,
        }
    }

    /// A group that only the log knows. Its members' sessions begin with [`ClassicGroup::loaded`].
    pub fn from_record(id: Str, record: &GroupMetadata) -> ClassicGroup {
        let mut group = ClassicGroup::new(id, 0);
        group.replay(record);
        group
    }

    pub fn state(&self) -> ClassicState {
        self.state
    }

    pub fn generation(&self) -> i32 {
        self.generation
    }

    pub fn protocol_type(&self) -> Option<&Str> {
        self.protocol_type.as_ref()
    }

    pub fn protocol(&self) -> Option<&Str> {
        self.protocol.as_ref()
    }

    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    pub fn has_pending_members(&self) -> bool {
        !self.pending_members.is_empty()
    }

    /// Nothing of it is in the log, and nobody is about to join.
    pub fn is_unused(&self) -> bool {
        self.state == ClassicState::Empty && self.generation == 0 && self.pending_members.is_empty()
    }

    /// The log says that the group is so.
    pub fn replay(&mut self, record: &GroupMetadata) {
        let protocol = record.protocol.clone().unwrap_or_default();
        self.protocol_type = Some(record.protocol_type.clone()).filter(|name| !name.is_empty());
        self.protocol = record.protocol.clone();
        self.generation = record.generation;
        self.leader = record.leader.clone();
        let mut before = std::mem::take(&mut self.members);
        self.instances.clear();
        for of_member in &record.members {
            let mut member = match before.remove(&of_member.member_id) {
                Some(member) => member,
                None => Member::from_record(of_member, &protocol),
            };
            member.replay(of_member, &protocol);
            if let Some(instance_id) = &member.instance_id {
                self.instances.insert(instance_id.clone(), member.id.clone());
            }
            self.members.insert(member.id.clone(), member);
        }
        self.state = if self.members.is_empty() { ClassicState::Empty } else { ClassicState::Stable };
        self.state_timestamp_ms = record.state_timestamp_ms;
        self.subscribed_topics = self.compute_subscribed_topics();
    }

    /// The whole log was replayed: the members' sessions begin.
    pub fn loaded(&mut self, cx: &mut Cx<'_>) {
        for member in self.members.values_mut() {
            member.renew_session(cx.now_ms);
        }
        if self.members.len() > cx.config.group_size_max {
            self.prepare_rebalance(cx);
        }
    }

    /// What goes into the log when the members are assigned so.
    fn to_record(&self, assignment_of: impl Fn(&Member) -> Bytes) -> GroupMetadata {
        let protocol = self.protocol.clone().unwrap_or_default();
        GroupMetadata {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            state_timestamp_ms: self.state_timestamp_ms,
            members: self.members.values().map(|member| member.to_record(&protocol, assignment_of(member))).collect(),
        }
    }

    fn write(&mut self, value: GroupMetadata, cx: &mut Cx<'_>) {
        self.replay(&value);
        cx.effects.records.push(Record::GroupMetadata { group: self.id.clone(), value: Some(value) });
    }

    fn transition(&mut self, state: ClassicState, now_ms: i64) {
        self.state = state;
        self.state_timestamp_ms = Some(now_ms);
    }

    /// Is this one of ours, and still itself? A static member's id changes with each start of it.
    fn check_member(&self, member_id: &str, instance_id: Option<&Str>) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.instances.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(holder) if *holder != *member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) { Ok(()) } else { Err(ErrorCode::UnknownMemberId) }
    }

    /// May whoever says so commit offsets now? Below zero is a generation of nobody: of tools, and of consumers that were
    /// assigned by hand.
    pub fn check_commit(&self, member_id: &str, instance_id: Option<&Str>, generation: i32) -> Result<(), ErrorCode> {
        if generation < 0 && self.state == ClassicState::Empty {
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return if self.state == ClassicState::Empty { Ok(()) } else { Err(ErrorCode::UnknownMemberId) };
        }
        self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        // It has its new generation, and not yet its assignment: what it commits belongs to others by now.
        if self.state == ClassicState::CompletingRebalance {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(())
    }

    /// A commit is a sign of life.
    pub fn commit_received(&mut self, member_id: &str, now_ms: i64) {
        if let Some(member) = self.members.get_mut(member_id) {
            member.renew_session(now_ms);
        }
    }

    /// May offsets be deleted at all? Of a group with members only when it is known what they are subscribed to.
    pub fn check_offset_delete(&self) -> Result<(), ErrorCode> {
        if self.state == ClassicState::Empty || self.is_of_consumers() { Ok(()) } else { Err(ErrorCode::NonEmptyGroup) }
    }

    /// Do members consume from this topic? While nobody knows: yes, if they are consumers.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        self.subscribed_topics.as_ref().map_or(self.is_of_consumers(), |topics| topics.contains(topic))
    }

    /// Since when has nobody used this offset? None while it is in use.
    pub fn offset_unused_since_ms(&self, committed: &CommittedOffset) -> Option<i64> {
        let commit_timestamp_ms = committed.commit_timestamp_ms;
        if self.protocol_type.is_none() {
            return Some(commit_timestamp_ms);
        }
        match self.state {
            ClassicState::Empty => Some(self.state_timestamp_ms.unwrap_or(commit_timestamp_ms)),
            ClassicState::Stable if self.is_of_consumers() && self.subscribed_topics.is_some() => {
                Some(commit_timestamp_ms)
            }
            _ => None,
        }
    }

    fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_ref().is_some_and(|name| *name == CONSUMER_PROTOCOL_TYPE)
    }

    /// What the members consume from, as far as it can be known.
    fn compute_subscribed_topics(&self) -> Option<BTreeSet<Str>> {
        if !self.is_of_consumers() {
            return None;
        }
        if self.members.is_empty() {
            return Some(BTreeSet::new());
        }
        let protocol = self.protocol.as_ref()?;
        let mut topics = BTreeSet::new();
        for member in self.members.values() {
            topics.extend(subscribed_topics(member.metadata(protocol))?);
        }
        Some(topics)
    }
}

/// The topics in a consumer's subscription; None when it cannot be read.
fn subscribed_topics(subscription: Bytes) -> Option<Vec<Str>> {
    const VERSION_MAX: i16 = 3;
    let mut reader = Reader::new(subscription);
    let version = reader.get_i16().ok().filter(|version| *version >= 0)?;
    // A later version has more at its end.
    let subscription = ConsumerProtocolSubscription::decode(&mut reader, version.min(VERSION_MAX)).ok()?;
    Some(subscription.topics)
}
