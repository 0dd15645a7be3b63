//! What a member of a consumer group (KIP-848) must remember between two heartbeats: its epoch, what it holds, and what it has
//! not reported yet. Plain data; its actor sends and hears.
//!
//! ```text
//!   joining (epoch 0) ──heard an epoch──▶ member ──heard an assignment──▶ member that must report ──reported──▶ member
//!        ▲                                  │                                 │
//!        └────────── fenced, or unknown ────┴─────────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{PartitionIndex, TopicId};
use capek_wire::messages::consumer_group_heartbeat::TopicPartitions;
use capek_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

const JOIN_EPOCH: i32 = 0;
const LEAVE_EPOCH: i32 = -1;
/// A static member comes back: what it holds is kept for it until its session ends.
const STATIC_LEAVE_EPOCH: i32 = -2;

/// What the member wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Topics(Vec<String>),
    Pattern(String),
}

impl Wanted {
    /// Of the same kind: a member goes from one to the other without leaving its group.
    pub fn is_like(&self, other: &Wanted) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

pub type Held = BTreeSet<(TopicId, PartitionIndex)>;

/// What an answer means for the member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    Nothing,
    /// It holds something else now, and must report that at once.
    Assigned,
    /// The group has given its partitions to others; it joins again at once.
    Lost,
    /// Ask again, soon.
    Again,
    /// Asking again is of no use.
    Refused(ErrorCode, Option<String>),
}

/// See the head of this file.
#[derive(Debug, Clone)]
pub struct Membership {
    group: Str,
    pub member_id: Str,
    pub epoch: i32,
    pub wanted: Wanted,
    rebalance_timeout_ms: i32,
    /// A static member keeps its partitions while it is away for a moment.
    pub instance_id: Option<Str>,
    pub server_assignor: Option<Str>,
    /// None until it has been told.
    held: Option<Held>,
    has_reported: bool,
    has_told_wish: bool,
}

impl Membership {
    pub fn new(group: &str, member_id: &str, wanted: Wanted, rebalance_timeout_ms: i32) -> Self {
        let (group, member_id) = (Str::from(group), Str::from(member_id));
        let epoch = JOIN_EPOCH;
        Self {
            group,
            member_id,
            epoch,
            wanted,
            rebalance_timeout_ms,
            instance_id: None,
            server_assignor: None,
            held: None,
            has_reported: false,
            has_told_wish: false,
        }
    }

    /// None until the group has said it for the first time.
    pub fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Another wish of the same kind.
    pub fn want(&mut self, wanted: Wanted) {
        self.has_told_wish &= self.wanted == wanted;
        self.wanted = wanted;
    }

    /// What to say now.
    pub fn heartbeat(&self) -> ConsumerGroupHeartbeatRequest {
        let is_joining = self.epoch == JOIN_EPOCH;
        let mut request = ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: self.epoch,
            instance_id: self.instance_id.clone(),
            ..Default::default()
        };
        if is_joining || !self.has_told_wish {
            match &self.wanted {
                Wanted::Topics(topics) => {
                    request.subscribed_topic_names = Some(topics.iter().map(Str::from).collect());
                }
                Wanted::Pattern(pattern) => request.subscribed_topic_regex = Some(Str::from(pattern)),
            }
        }
        if is_joining {
            request.server_assignor = self.server_assignor.clone();
            request.rebalance_timeout_ms = self.rebalance_timeout_ms;
            request.topic_partitions = Some(Vec::new());
        } else if !self.has_reported {
            request.topic_partitions = Some(by_topic(self.held.iter().flatten()));
        }
        request
    }

    pub fn leave(&self) -> ConsumerGroupHeartbeatRequest {
        ConsumerGroupHeartbeatRequest {
            group_id: self.group.clone(),
            member_id: self.member_id.clone(),
            member_epoch: if self.instance_id.is_some() { STATIC_LEAVE_EPOCH } else { LEAVE_EPOCH },
            instance_id: self.instance_id.clone(),
            ..Default::default()
        }
    }

    /// The answer to `asked`, which was made by [`Membership::heartbeat`].
    pub fn hear(&mut self, asked: &ConsumerGroupHeartbeatRequest, answer: &ConsumerGroupHeartbeatResponse) -> Heard {
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => self.accepted(asked, answer),
            ErrorCode::UnknownMemberId | ErrorCode::FencedMemberEpoch => {
                self.epoch = JOIN_EPOCH;
                self.held = None;
                Heard::Lost
            }
            ErrorCode::CoordinatorNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::NotCoordinator
            | ErrorCode::RequestTimedOut => Heard::Again,
            code => Heard::Refused(code, answer.error_message.as_ref().map(|message| message.to_string())),
        }
    }

    fn accepted(&mut self, asked: &ConsumerGroupHeartbeatRequest, answer: &ConsumerGroupHeartbeatResponse) -> Heard {
        self.epoch = answer.member_epoch;
        let told = (&asked.subscribed_topic_names, &asked.subscribed_topic_regex);
        self.has_told_wish |= match &self.wanted {
            Wanted::Topics(topics) => {
                told.0.as_ref().is_some_and(|told| told.iter().eq(topics.iter().map(String::as_str)))
            }
            Wanted::Pattern(pattern) => told.1.as_ref().is_some_and(|told| told == pattern.as_str()),
        };
        if asked.topic_partitions == Some(by_topic(self.held.iter().flatten())) {
            self.has_reported = true;
        }
        let assigned = answer.assignment.as_ref().map(|assignment| {
            let topics = assignment.topic_partitions.iter();
            topics.flat_map(|topic| topic.partitions.iter().map(|index| (topic.topic_id, *index))).collect::<Held>()
        });
        let before = self.held.take();
        let now = assigned.or(before.clone()).unwrap_or_default();
        let has_changed = before.as_ref() != Some(&now);
        self.held = Some(now);
        if has_changed {
            self.has_reported = false;
            Heard::Assigned
        } else {
            Heard::Nothing
        }
    }
}

fn by_topic<'a>(held: impl Iterator<Item = &'a (TopicId, PartitionIndex)>) -> Vec<TopicPartitions> {
    let mut topics: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
    for (topic, partition) in held {
        topics.entry(*topic).or_default().push(*partition);
    }
    topics.into_iter().map(|(topic_id, partitions)| TopicPartitions { topic_id, partitions }).collect()
}

#[cfg(test)]
mod tests {
    use capek_wire::ids::Uuid;
    use capek_wire::messages::consumer_group_heartbeat::Assignment;

    use super::*;

    const TOPIC: TopicId = Uuid([7; 16]);

    fn membership() -> Membership {
        Membership::new("g", "m", Wanted::Topics(vec!["t".to_string()]), 1000)
    }

    fn assigned(member_epoch: i32, partitions: &[PartitionIndex]) -> ConsumerGroupHeartbeatResponse {
        let topic_partitions = vec![TopicPartitions { topic_id: TOPIC, partitions: partitions.to_vec() }];
        let assignment = Some(Assignment { topic_partitions });
        ConsumerGroupHeartbeatResponse { member_epoch, assignment, ..Default::default() }
    }

    fn refused(code: ErrorCode) -> ConsumerGroupHeartbeatResponse {
        ConsumerGroupHeartbeatResponse { error_code: code.code(), ..Default::default() }
    }

    #[test]
    fn it_joins_with_everything_and_then_says_only_what_is_new() {
        let mut membership = membership();
        let join = membership.heartbeat();
        assert_eq!((join.member_epoch, join.topic_partitions.as_deref()), (0, Some(&[][..])));
        assert_eq!(join.subscribed_topic_names.as_deref(), Some(&[Str::from("t")][..]));
        assert_eq!(membership.hear(&join, &assigned(3, &[0, 1])), Heard::Assigned);
        let report = membership.heartbeat();
        assert_eq!((report.member_epoch, report.subscribed_topic_names.as_ref()), (3, None));
        assert_eq!(report.topic_partitions.as_ref().map(|topics| topics[0].partitions.clone()), Some(vec![0, 1]));
        let same = ConsumerGroupHeartbeatResponse { member_epoch: 3, ..Default::default() };
        assert_eq!(membership.hear(&report, &same), Heard::Nothing);
        assert_eq!(membership.heartbeat().topic_partitions, None, "it has been reported");
    }

    #[test]
    fn a_static_member_keeps_its_place_while_it_is_away() {
        let mut membership = membership();
        assert_eq!(membership.leave().member_epoch, -1);
        membership.instance_id = Some(Str::from("one"));
        membership.server_assignor = Some(Str::from("range"));
        let join = membership.heartbeat();
        assert_eq!((join.instance_id.as_deref(), join.server_assignor.as_deref()), (Some("one"), Some("range")));
        let leave = membership.leave();
        assert_eq!((leave.instance_id.as_deref(), leave.member_epoch), (Some("one"), -2));
    }

    #[test]
    fn a_report_that_was_lost_is_made_again() {
        let mut membership = membership();
        let join = membership.heartbeat();
        membership.hear(&join, &assigned(1, &[0]));
        let report = membership.heartbeat();
        assert_eq!(membership.hear(&report, &refused(ErrorCode::NotCoordinator)), Heard::Again);
        assert_eq!(membership.heartbeat(), report);
    }

    #[test]
    fn a_changed_wish_is_told_once() {
        let mut membership = membership();
        let join = membership.heartbeat();
        membership.want(Wanted::Topics(vec!["u".to_string()]));
        membership.hear(&join, &assigned(1, &[0]));
        let told = membership.heartbeat();
        assert_eq!(told.subscribed_topic_names.as_deref(), Some(&[Str::from("u")][..]), "the join said another");
        membership.hear(&told, &assigned(2, &[]));
        assert_eq!(membership.heartbeat().subscribed_topic_names, None);
    }

    #[test]
    fn a_fenced_member_drops_what_it_had_and_joins_again() {
        for code in [ErrorCode::FencedMemberEpoch, ErrorCode::UnknownMemberId] {
            let mut membership = membership();
            let join = membership.heartbeat();
            membership.hear(&join, &assigned(5, &[0]));
            assert_eq!(membership.hear(&membership.heartbeat(), &refused(code)), Heard::Lost);
            assert_eq!(membership.held(), None);
            assert_eq!(membership.heartbeat(), join);
        }
    }

    #[test]
    fn what_cannot_get_better_is_an_error() {
        let mut membership = membership();
        let join = membership.heartbeat();
        let heard = membership.hear(&join, &refused(ErrorCode::GroupMaxSizeReached));
        assert_eq!(heard, Heard::Refused(ErrorCode::GroupMaxSizeReached, None));
    }
}
