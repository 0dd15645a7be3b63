//! Every order of events in a small group, checked by stateright: its members join, sync, commit, leave, are thrown out
//! without knowing it, and live through a write that is lost and a coordinator that crashes.
//!
//! Two members in three generations are looked at, and three members in two.
//!
//! Time stands still: a session "ends" when the model says so. An answer reaches its member at once, unless the coordinator
//! dies with it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use capek_state::group::{
    Coordinator, Effects, GroupConfig, GroupKind, HeartbeatRequest, JoinAnswer, JoinRequest, Record, ReplyId,
    SyncAnswer, SyncRequest,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use stateright::{Checker, Model, Property};

use crate::client::Timeouts;
use crate::fixtures::{GROUP, text};
use crate::simulation::{assignment, commit_request, join_request, leave_request, parse_assignment};

const PARTITIONS: i32 = 3;
/// Crashes, lost writes and sessions that end, together.
const TROUBLES_MAX: u8 = 1;

const NOW_MS: i64 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Out,
    Joining,
    /// Has joined; the group leader knows whom to assign to.
    Joined,
    Syncing,
    Stable,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Member {
    id: Str,
    generation: i32,
    phase: Phase,
    to_assign: Vec<Str>,
    owned: Vec<i32>,
    lives: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct World {
    coordinator: Coordinator,
    log: Vec<Record>,
    members: Vec<Member>,
    /// Who was given a partition in a generation, and was told so.
    owners: BTreeMap<(i32, i32), Str>,
    troubles: u8,
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Join(usize),
    Sync(usize),
    Heartbeat(usize),
    Commit(usize),
    Leave(usize),
    /// Its session ends, and it does not know.
    Expire(usize),
    /// The initial delay is over.
    Tick,
    Crash,
}

/// What becomes of the answers and of what was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fate {
    Good,
    /// Written, and the coordinator dies before it answers.
    Unanswered,
    /// Not written, and the coordinator dies.
    Lost,
}

/// The bounds of what is looked at.
struct SmallGroup {
    members: usize,
    generations_max: i32,
    /// How often a member may come as a newcomer.
    lives_max: u8,
}

impl World {
    fn new(members: usize) -> World {
        let member = |_| Member {
            id: Str::default(),
            generation: -1,
            phase: Phase::Out,
            to_assign: Vec::new(),
            owned: Vec::new(),
            lives: 0,
        };
        World {
            coordinator: loaded(&[]),
            log: Vec::new(),
            members: (0..members).map(member).collect(),
            owners: BTreeMap::new(),
            troubles: 0,
            broken: None,
        }
    }

    fn generation(&self) -> i32 {
        match self.coordinator.group(GROUP).map(|group| &group.kind) {
            Some(GroupKind::Classic(group)) => group.generation(),
            _ => 0,
        }
    }

    fn step(&mut self, action: Action, fate: Fate) {
        let mut effects = Effects::default();
        let mut told = None;
        match action {
            Action::Join(index) => {
                let request = self.join(index);
                self.coordinator.join(NOW_MS, request, ReplyId(index as u64), &mut effects);
            }
            Action::Sync(index) => {
                let request = self.sync(index);
                self.coordinator.sync(NOW_MS, request, ReplyId(index as u64), &mut effects);
            }
            Action::Heartbeat(index) => {
                let member = &self.members[index];
                let request = HeartbeatRequest {
                    group: text(GROUP),
                    member_id: member.id.clone(),
                    instance_id: None,
                    generation: member.generation,
                };
                told = Some((index, self.coordinator.heartbeat(NOW_MS, &request)));
            }
            Action::Commit(index) => {
                let member = &self.members[index];
                let partition = member.owned[0];
                let request = commit_request((&member.id, None), member.generation, vec![(partition, 1)]);
                let committed = self.coordinator.commit_offsets(NOW_MS, request, &mut effects);
                let error = committed.map_or_else(|error| error, |errors| errors[0]);
                if error == ErrorCode::None && self.has_a_later_owner(index, partition) {
                    self.broken = Some("a commit of an earlier owner was taken");
                }
                told = Some((index, error));
            }
            Action::Leave(index) | Action::Expire(index) => {
                let request = leave_request(&self.members[index].id);
                let _ = self.coordinator.leave(NOW_MS, &request, &mut effects);
                if matches!(action, Action::Leave(_)) {
                    self.members[index].go_out(true);
                }
            }
            Action::Tick => self.coordinator.tick(NOW_MS, &mut effects),
            Action::Crash => {}
        }
        if fate != Fate::Lost {
            effects.records.drain(..).for_each(|record| self.write(record));
        }
        if fate != Fate::Good || action == Action::Crash {
            return self.crash();
        }
        for (ReplyId(index), answer) in effects.joins {
            self.joined(index as usize, answer);
        }
        for (ReplyId(index), answer) in effects.syncs {
            self.synced(index as usize, answer);
        }
        if let Some((index, error)) = told {
            self.failed(index, error);
        }
    }

    /// As a compacted log: the last record of a key is all that counts.
    fn write(&mut self, record: Record) {
        let key = |record: &Record| record.encode().expect("it is short").0;
        let written = key(&record);
        self.log.retain(|earlier| key(earlier) != written);
        self.log.push(record);
        self.log.sort_by_key(key);
    }

    fn has_a_later_owner(&self, index: usize, partition: i32) -> bool {
        let generation = self.members[index].generation;
        let mut later = self.owners.range((generation + 1, i32::MIN)..);
        later.any(|((_, other), owner)| *other == partition && *owner != self.members[index].id)
    }

    fn join(&mut self, index: usize) -> JoinRequest {
        let member = &mut self.members[index];
        member.go_out(false);
        member.phase = Phase::Joining;
        if member.id.is_empty() {
            member.lives += 1;
        }
        let timeouts = Timeouts { session_ms: 10_000, rebalance_ms: 10_000 };
        let new_member_id = Str::from(format!("{index}.{}", member.lives));
        JoinRequest { new_member_id, requires_known_member: false, ..join_request(&member.id, None, timeouts) }
    }

    fn sync(&mut self, index: usize) -> SyncRequest {
        let member = &mut self.members[index];
        member.phase = Phase::Syncing;
        let to_assign = std::mem::take(&mut member.to_assign);
        let of_member = |(place, id): (usize, &Str)| -> (Str, Bytes) {
            let mine = (0..PARTITIONS).filter(|partition| *partition as usize % to_assign.len() == place);
            (id.clone(), assignment(member.generation, &mine.collect::<Vec<_>>()))
        };
        SyncRequest {
            group: text(GROUP),
            member_id: member.id.clone(),
            generation: member.generation,
            assignments: to_assign.iter().enumerate().map(of_member).collect(),
            ..SyncRequest::default()
        }
    }

    fn joined(&mut self, index: usize, answer: JoinAnswer) {
        if answer.error != ErrorCode::None {
            return self.failed(index, answer.error);
        }
        let member = &mut self.members[index];
        member.phase = Phase::Joined;
        member.id = answer.member_id;
        member.generation = answer.generation;
        member.to_assign = answer.members.into_iter().map(|member| member.member_id).collect();
    }

    fn synced(&mut self, index: usize, answer: SyncAnswer) {
        if answer.error != ErrorCode::None {
            return self.failed(index, answer.error);
        }
        let id = self.members[index].id.clone();
        for place in parse_assignment(&answer.assignment) {
            if *self.owners.entry(place).or_insert_with(|| id.clone()) != id {
                self.broken = Some("a partition has two owners in one generation");
            }
            self.members[index].owned.push(place.1);
        }
        self.members[index].phase = Phase::Stable;
    }

    fn failed(&mut self, index: usize, error: ErrorCode) {
        match error {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => self.members[index].go_out(false),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => self.members[index].go_out(true),
            _ => self.broken = Some("a member was refused for no reason"),
        }
    }

    /// Only the log is left, and nobody who waits is answered.
    fn crash(&mut self) {
        self.coordinator = loaded(&self.log);
        for member in &mut self.members {
            if matches!(member.phase, Phase::Joining | Phase::Syncing) {
                member.go_out(false);
            }
        }
    }
}

impl Member {
    fn go_out(&mut self, is_unknown: bool) {
        self.phase = Phase::Out;
        self.generation = -1;
        self.owned.clear();
        self.to_assign.clear();
        if is_unknown {
            self.id = Str::default();
        }
    }
}

fn loaded(log: &[Record]) -> Coordinator {
    let mut coordinator = Coordinator::new(GroupConfig { initial_rebalance_delay_ms: 0, ..GroupConfig::default() });
    log.iter().for_each(|record| coordinator.replay(record));
    coordinator.loaded(NOW_MS, &mut Effects::default());
    coordinator
}

impl Model for SmallGroup {
    type State = World;
    type Action = (Action, Fate);

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.members)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<(Action, Fate)>) {
        let mut possible = Vec::new();
        for (index, member) in world.members.iter().enumerate() {
            let may_begin = !member.id.is_empty() || member.lives < self.lives_max;
            match member.phase {
                Phase::Out if may_begin => possible.push(Action::Join(index)),
                Phase::Out | Phase::Joining | Phase::Syncing => {}
                Phase::Joined => possible.extend([Action::Sync(index), Action::Heartbeat(index)]),
                Phase::Stable => {
                    possible.extend([Action::Heartbeat(index), Action::Leave(index), Action::Join(index)]);
                    if !member.owned.is_empty() {
                        possible.push(Action::Commit(index));
                    }
                }
            }
        }
        if world.coordinator.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= NOW_MS) {
            possible.push(Action::Tick);
        }
        actions.extend(possible.iter().map(|action| (*action, Fate::Good)));
        if world.troubles < TROUBLES_MAX {
            for action in possible.iter().filter(|action| matches!(action, Action::Sync(_) | Action::Leave(_))) {
                actions.extend([(*action, Fate::Unanswered), (*action, Fate::Lost)]);
            }
            let known = world.members.iter().enumerate().filter(|(_, member)| !member.id.is_empty());
            actions.extend(known.map(|(index, _)| (Action::Expire(index), Fate::Good)));
            actions.push((Action::Crash, Fate::Good));
        }
    }

    fn next_state(&self, before: &World, (action, fate): (Action, Fate)) -> Option<World> {
        let mut world = before.clone();
        if fate != Fate::Good || matches!(action, Action::Expire(_) | Action::Crash) {
            world.troubles += 1;
        }
        world.step(action, fate);
        (world != *before).then_some(world)
    }

    fn within_boundary(&self, world: &World) -> bool {
        world.generation() <= self.generations_max
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "one owner, who alone commits, and nobody is refused for no reason",
                |_, world: &World| world.broken.is_none(),
            ),
            Property::always("whoever waits is known to the group, so that it will be answered", |_, world: &World| {
                let waits = |member: &&Member| matches!(member.phase, Phase::Joining | Phase::Syncing);
                let waiting = world.members.iter().filter(waits).count();
                waiting == 0 || world.coordinator.describe(GROUP).is_some_and(|group| group.members.len() >= waiting)
            }),
            Property::sometimes("all members are stable in one generation", |_, world: &World| {
                let generations: BTreeSet<i32> = world.members.iter().map(|member| member.generation).collect();
                generations.len() == 1 && world.members.iter().all(|member| member.phase == Phase::Stable)
            }),
            Property::sometimes("a member that was thrown out believes it owns something", |_, world: &World| {
                let described = world.coordinator.describe(GROUP);
                let is_member = |id: &Str| {
                    described.as_ref().is_some_and(|group| group.members.iter().any(|member| member.member_id == *id))
                };
                world.members.iter().any(|member| !member.owned.is_empty() && !is_member(&member.id))
            }),
        ]
    }
}

#[test]
fn in_every_order_of_events_a_partition_has_one_owner_in_a_generation() {
    for (members, generations_max) in [(2, 3), (3, 2)] {
        let checker = SmallGroup { members, generations_max, lives_max: 1 }.checker().spawn_bfs().join();
        checker.assert_properties();
        assert!(checker.unique_state_count() > 10_000, "only {} states", checker.unique_state_count());
    }
}
