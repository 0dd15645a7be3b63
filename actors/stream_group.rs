//! The group's side of a subscription: the member, what it holds, what was delivered and acknowledged of it. Plain data; the
//! session sends, hears and commits (`stream_membership.rs`).
//!
//! ```text
//!   assigned ──resolved──▶ held: DeliveryWindow ──revoked──▶ leaving: may be acknowledged until the deadline ──▶ reported
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use actix::SpawnHandle;
use capek_state::stream::DeliveryWindow;
use capek_wire::codec::Str;
use capek_wire::ids::{Offset, Uuid};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::consumer_commands::OffsetToStore;
use crate::consumer_membership::{Membership, Wanted};
use crate::group_offsets::GroupMember;
use crate::stream_events::StreamPlace;
use crate::stream_places::StartAt;

/// What the group waits for a member that has to give up partitions.
const REBALANCE_TIMEOUT_MS: i32 = 60_000;
/// How many acknowledgements may wait for the commit that is under way.
const WAITING_ACKS_MAX: usize = 256;

/// A name that nobody else has, and nobody can guess.
pub fn new_id() -> String {
    Uuid(crate::random::bytes()).to_string()
}

/// What counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acknowledges {
    /// What the client says it has done.
    Explicit,
    /// What has arrived: the answer to a ping that was sent behind the records.
    Received,
    /// Nothing is committed.
    None,
}

/// How a member takes part.
#[derive(Debug, Clone)]
pub struct GroupStart {
    pub group: String,
    pub member_id: String,
    pub topics: Vec<String>,
    pub instance_id: Option<String>,
    pub strategy: Option<String>,
    pub acknowledges: Acknowledges,
    /// One record may be acknowledged before others. Where nobody opens the batches it is not known which offsets hold one.
    pub may_acknowledge_one: bool,
    /// How many records may be without an acknowledgement.
    pub unacknowledged_max: u64,
    /// A member that takes nothing for so long has to go.
    pub stalls_at_most: Duration,
    /// Where a partition begins of which the group has committed nothing.
    pub start: StartAt,
    /// What a client brings back has arrived there: it is committed when the member gets the partition.
    pub arrived: BTreeMap<StreamPlace, Offset>,
}

/// Answered with what is committed of each place.
pub type AckReply = oneshot::Sender<Result<Vec<(StreamPlace, Offset)>, String>>;

struct WaitingAck {
    places: Vec<StreamPlace>,
    reply: AckReply,
}

/// What is to be stored, and for whom.
pub struct Commit {
    pub offsets: Vec<OffsetToStore>,
    /// What was committed of each before.
    before: Vec<Option<Offset>>,
    waiting: Vec<WaitingAck>,
}

/// See the head of this file.
pub struct GroupSide {
    pub start: GroupStart,
    pub membership: Membership,
    /// The member's, for those who commit while it moves.
    epoch: Arc<AtomicI32>,
    held: BTreeMap<StreamPlace, DeliveryWindow>,
    leaving: BTreeMap<StreamPlace, DeliveryWindow>,
    /// What the group knows of each.
    committed: BTreeMap<StreamPlace, Offset>,
    waiting: Vec<WaitingAck>,
    pub is_committing: bool,
    /// The next heartbeat: under way, or in the future.
    pub heartbeat: Option<SpawnHandle>,
    /// The last heartbeat had no answer.
    pub is_unanswered: bool,
    /// The search for where new partitions begin.
    pub resolving: Option<SpawnHandle>,
    pub stalled_since: Option<Instant>,
}

impl GroupSide {
    pub fn new(start: GroupStart) -> GroupSide {
        let wanted = Wanted::Topics(start.topics.clone());
        let mut membership = Membership::new(&start.group, &start.member_id, wanted, REBALANCE_TIMEOUT_MS);
        membership.instance_id = start.instance_id.as_ref().map(Str::from);
        membership.server_assignor = start.strategy.as_ref().map(Str::from);
        GroupSide {
            epoch: Arc::new(AtomicI32::new(membership.epoch)),
            membership,
            start,
            held: BTreeMap::new(),
            leaving: BTreeMap::new(),
            committed: BTreeMap::new(),
            waiting: Vec::new(),
            is_committing: false,
            heartbeat: None,
            is_unanswered: false,
            resolving: None,
            stalled_since: None,
        }
    }

    pub fn epoch(&self) -> i32 {
        self.membership.epoch
    }

    /// The member has heard of another epoch.
    pub fn publish_epoch(&self) {
        self.epoch.store(self.membership.epoch, Ordering::Release);
    }

    pub fn member(&self) -> GroupMember {
        GroupMember { member_id: self.membership.member_id.clone(), epoch: self.epoch.clone() }
    }

    pub fn is_explicit(&self) -> bool {
        self.start.acknowledges == Acknowledges::Explicit
    }

    pub fn is_received(&self) -> bool {
        self.start.acknowledges == Acknowledges::Received
    }

    /// Nothing more is sent until something is acknowledged.
    pub fn is_full(&self) -> bool {
        let outstanding: u64 = self.held.values().map(DeliveryWindow::outstanding_count).sum();
        self.start.acknowledges != Acknowledges::None && outstanding >= self.start.unacknowledged_max
    }

    /// Reading begins there; below it nothing is for this member.
    pub fn begin(&mut self, place: StreamPlace, next: Offset, committed: Option<Offset>) {
        self.committed.insert(place.clone(), committed.unwrap_or(next));
        self.held.insert(place, DeliveryWindow::new(next));
    }

    pub fn delivered(
        &mut self,
        place: &StreamPlace,
        sequence: u64,
        offsets: impl Iterator<Item = Offset>,
        next: Offset,
    ) {
        let keeps_count = self.start.acknowledges != Acknowledges::None;
        if let Some(window) = self.held.get_mut(place).filter(|_| keeps_count) {
            window.delivered(sequence, offsets, next);
        }
    }

    pub fn passed(&mut self, place: &StreamPlace, next: Offset) {
        if let Some(window) = self.held.get_mut(place) {
            window.passed(next);
        }
    }

    /// Reading goes on elsewhere; what is done from there on is committed, also when that is further back.
    pub fn moved(&mut self, place: &StreamPlace, next: Offset) {
        if let Some(window) = self.held.get_mut(place) {
            *window = DeliveryWindow::new(next);
            self.committed.insert(place.clone(), next);
        }
    }

    /// All frames up to this one have arrived.
    pub fn received(&mut self, sequence: u64) {
        self.held.values_mut().chain(self.leaving.values_mut()).for_each(|window| window.received(sequence));
    }

    /// Takes all of them or none. The reply waits for the commit.
    pub fn acknowledge(
        &mut self,
        through: &[(StreamPlace, Offset)],
        records: &[(StreamPlace, Offset)],
        reply: AckReply,
    ) -> Result<(), (String, AckReply)> {
        if self.waiting.len() >= WAITING_ACKS_MAX {
            return Err((format!("{WAITING_ACKS_MAX} acknowledgements wait for a commit already"), reply));
        }
        if !records.is_empty() && !self.start.may_acknowledge_one {
            return Err(("what came as raw batches is acknowledged with through".to_owned(), reply));
        }
        if let Some(problem) = through.iter().chain(records).find_map(|(place, offset)| self.not_ours(place, *offset)) {
            return Err((problem, reply));
        }
        for (place, offset) in through {
            let _ = self.window(place).map(|window| window.acknowledge_through(*offset)); // it was checked
        }
        for (place, offset) in records {
            let _ = self.window(place).map(|window| window.acknowledge(*offset));
        }
        let places: BTreeSet<_> = through.iter().chain(records).map(|(place, _)| place.clone()).collect();
        self.waiting.push(WaitingAck { places: places.into_iter().collect(), reply });
        Ok(())
    }

    fn not_ours(&self, place: &StreamPlace, offset: Offset) -> Option<String> {
        let Some(window) = self.held.get(place).or_else(|| self.leaving.get(place)) else {
            return Some(format!("partition {} of {} is not this member's (any more)", place.partition, place.topic));
        };
        let next = window.next();
        let problem =
            || format!("offset {offset} of {}-{} was not sent: the next is {next}", place.topic, place.partition);
        (offset >= next).then(problem)
    }

    pub fn holds(&self, place: &StreamPlace) -> bool {
        self.held.contains_key(place) || self.leaving.contains_key(place)
    }

    pub fn is_held(&self, place: &StreamPlace) -> bool {
        self.held.contains_key(place)
    }

    fn window(&mut self, place: &StreamPlace) -> Option<&mut DeliveryWindow> {
        self.held.get_mut(place).or_else(|| self.leaving.get_mut(place))
    }

    /// What is done and not committed, with those who wait for it; None when there is nothing to do.
    pub fn begin_commit(&mut self) -> Option<Commit> {
        if self.is_committing || self.start.acknowledges == Acknowledges::None {
            return None;
        }
        let windows = self.held.iter().chain(&self.leaving);
        let done = windows.map(|(place, window)| (place, window.committable()));
        let new = |(place, offset): (&StreamPlace, Offset)| {
            let before = self.committed.get(place).copied();
            (before != Some(offset)).then(|| (to_store(place, offset), before))
        };
        let (offsets, before): (Vec<_>, Vec<_>) = done.filter_map(new).unzip();
        let waiting = std::mem::take(&mut self.waiting);
        if offsets.is_empty() && waiting.is_empty() {
            return None;
        }
        self.is_committing = true;
        Some(Commit { offsets, before, waiting })
    }

    pub fn end_commit(&mut self, commit: Commit, outcome: Result<(), String>) {
        self.is_committing = false;
        if outcome.is_ok() {
            for (stored, before) in commit.offsets.iter().zip(&commit.before) {
                let place = StreamPlace::new(&stored.place.0, stored.place.1);
                // After a seek it is what is done there that counts.
                if self.holds(&place) && self.committed.get(&place) == before.as_ref() {
                    self.committed.insert(place, stored.offset);
                }
            }
        }
        for WaitingAck { places, reply } in commit.waiting {
            let committed = |place: StreamPlace| {
                let stored = commit
                    .offsets
                    .iter()
                    .find(|stored| stored.place.0 == *place.topic && stored.place.1 == place.partition);
                let offset = stored.map(|stored| stored.offset).or_else(|| self.committed.get(&place).copied())?;
                Some((place, offset))
            };
            // Whoever asked may have gone.
            let _ = reply.send(outcome.clone().map(|()| places.into_iter().filter_map(committed).collect()));
        }
    }

    /// The group says that these are ours: those that are new, and those that were.
    pub fn assign(&mut self, now: &BTreeSet<StreamPlace>) -> (Vec<StreamPlace>, Vec<StreamPlace>) {
        let added = now.iter().filter(|place| !self.held.contains_key(place)).cloned().collect();
        let removed: Vec<_> = self.held.keys().filter(|place| !now.contains(place)).cloned().collect();
        for place in &removed {
            if let Some(window) = self.held.remove(place) {
                self.leaving.insert(place.clone(), window);
            }
        }
        (added, removed)
    }

    /// What is given up is done: the group may be told.
    pub fn is_settled(&self) -> bool {
        let is_done = |window: &DeliveryWindow| window.outstanding_count() == 0;
        self.start.acknowledges == Acknowledges::None || self.leaving.values().all(is_done)
    }

    pub fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// It is told: nothing of it can be acknowledged any more.
    pub fn let_go(&mut self) {
        for (place, _) in std::mem::take(&mut self.leaving) {
            if !self.held.contains_key(&place) {
                self.committed.remove(&place);
            }
        }
    }

    /// The group has given everything to others.
    pub fn lose(&mut self) -> Vec<StreamPlace> {
        self.leaving.clear();
        self.committed.clear();
        std::mem::take(&mut self.held).into_keys().collect()
    }
}

fn to_store(place: &StreamPlace, offset: Offset) -> OffsetToStore {
    OffsetToStore { place: (place.topic.to_string(), place.partition), offset, metadata: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(partition: i32) -> StreamPlace {
        StreamPlace::new("t", partition)
    }

    fn side(acknowledges: Acknowledges) -> GroupSide {
        let start = GroupStart {
            group: "g".to_owned(),
            member_id: "m".to_owned(),
            topics: vec!["t".to_owned()],
            instance_id: None,
            strategy: None,
            acknowledges,
            may_acknowledge_one: true,
            unacknowledged_max: 3,
            stalls_at_most: Duration::from_secs(1),
            start: StartAt::Earliest,
            arrived: BTreeMap::new(),
        };
        let mut side = GroupSide::new(start);
        side.begin(place(0), 10, Some(10));
        side
    }

    fn acknowledge(
        side: &mut GroupSide,
        offset: Offset,
    ) -> oneshot::Receiver<Result<Vec<(StreamPlace, Offset)>, String>> {
        let (reply, answer) = oneshot::channel();
        side.acknowledge(&[(place(0), offset)], &[], reply).map_err(|(problem, _)| problem).unwrap();
        answer
    }

    #[test]
    fn an_acknowledgement_is_answered_with_what_was_committed() {
        let mut side = side(Acknowledges::Explicit);
        side.delivered(&place(0), 1, 10..13, 13);
        assert!(side.is_full());
        let mut first = acknowledge(&mut side, 11);
        assert!(!side.is_full());
        let commit = side.begin_commit().unwrap();
        assert_eq!(commit.offsets[0].offset, 12);
        let mut second = acknowledge(&mut side, 12);
        assert!(side.begin_commit().is_none(), "one at a time");
        side.end_commit(commit, Ok(()));
        assert_eq!(first.try_recv().unwrap(), Ok(vec![(place(0), 12)]));
        assert!(second.try_recv().is_err(), "it waits for the next");
        let commit = side.begin_commit().unwrap();
        side.end_commit(commit, Err("no".to_owned()));
        assert_eq!(second.try_recv().unwrap(), Err("no".to_owned()));
        let commit = side.begin_commit().unwrap();
        assert_eq!(commit.offsets[0].offset, 13, "what failed is tried again");
    }

    #[test]
    fn what_was_not_sent_or_is_not_ours_is_refused_as_a_whole() {
        let mut side = side(Acknowledges::Explicit);
        side.delivered(&place(0), 1, 10..13, 13);
        for bad in [(place(0), 13), (place(1), 0)] {
            let (reply, _) = oneshot::channel();
            assert!(side.acknowledge(&[(place(0), 12), bad], &[], reply).is_err());
        }
        assert!(side.begin_commit().is_none());
    }

    #[test]
    fn batches_that_nobody_opened_are_acknowledged_through() {
        let mut side = side(Acknowledges::Explicit);
        side.start.may_acknowledge_one = false;
        side.delivered(&place(0), 1, 10..13, 13);
        let (reply, _) = oneshot::channel();
        assert!(side.acknowledge(&[], &[(place(0), 11)], reply).is_err());
        acknowledge(&mut side, 12);
        assert_eq!(side.begin_commit().unwrap().offsets[0].offset, 13);
    }

    #[test]
    fn what_is_given_up_can_be_acknowledged_until_it_is_let_go() {
        let mut side = side(Acknowledges::Explicit);
        side.delivered(&place(0), 1, 10..12, 12);
        let (added, removed) = side.assign(&BTreeSet::from([place(1)]));
        assert_eq!((added, removed), (vec![place(1)], vec![place(0)]));
        assert!(!side.is_settled());
        let _answer = acknowledge(&mut side, 11);
        assert!(side.is_settled());
        assert_eq!(side.begin_commit().unwrap().offsets[0].offset, 12);
        side.let_go();
        assert!(!side.holds(&place(0)));
    }

    #[test]
    fn a_seek_commits_nothing_until_something_is_done_there() {
        let mut side = side(Acknowledges::Explicit);
        side.delivered(&place(0), 1, 10..12, 12);
        side.moved(&place(0), 4);
        assert!(side.begin_commit().is_none());
        side.delivered(&place(0), 2, 4..5, 5);
        let _answer = acknowledge(&mut side, 4);
        assert_eq!(side.begin_commit().unwrap().offsets[0].offset, 5);
    }

    #[test]
    fn what_has_arrived_is_committed_and_with_none_nothing_is() {
        let mut received = side(Acknowledges::Received);
        received.delivered(&place(0), 7, 10..12, 12);
        received.received(6);
        assert!(received.begin_commit().is_none());
        received.received(7);
        assert_eq!(received.begin_commit().unwrap().offsets[0].offset, 12);
        let mut none = side(Acknowledges::None);
        none.delivered(&place(0), 7, 10..20, 20);
        none.received(7);
        assert!(none.begin_commit().is_none() && !none.is_full() && none.is_settled());
    }
}
