//! What may happen next, and what must hold whatever happens.

use std::panic::{AssertUnwindSafe, catch_unwind};

use stateright::{Model, Property};

use crate::replication::Delay;
use crate::world::{BROKERS, Bounds, Role, World};

/// So often a leader proposes again what the controller has refused.
pub const REFUSED_MAX: u8 = 1;

/// The property that no promise is broken.
pub const PROMISES: &str = "every promise of replication holds";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Produce {
        value: u64,
        to: i32,
    },
    Sync(i32),
    Fetch(i32),
    Arrive(usize),
    Reconnect(i32),
    /// The broker learns what the controller has decided.
    Learn(i32),
    /// The controller decides about this leader's proposal, and says so.
    Decide(i32),
    Start(i32),
    /// The session of a broker that is down ends.
    Expire(i32),
    Unfence(i32),
    Stop(i32),
    Trouble(Trouble),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    Crash {
        broker: i32,
        kept_end: i64,
    },
    /// It lives, and is not heard.
    Fence(i32),
    ShutDown(i32),
    /// The partition's actor panics.
    Restart(i32),
    LateFetch(i32),
    LateAnswer(i32),
    /// What is flushed is reported late.
    LateReport(i32),
    /// The controller decides, and its answer is lost.
    Unanswered(i32),
    /// This leader finds that whoever lacks something has lacked it for too long.
    Lag(i32),
}

impl World {
    /// What comes by itself, sooner or later.
    fn possible(&self, actions: &mut Vec<Action>) {
        let image = self.image();
        for broker in &self.brokers {
            let id = broker.id;
            let registration = &image.brokers[&id];
            if !broker.is_up() {
                actions.push(Action::Start(id));
                if !registration.fenced {
                    actions.push(Action::Expire(id));
                }
                continue;
            }
            if broker.image != *image {
                actions.push(Action::Learn(id));
            }
            if registration.fenced {
                actions.push(Action::Unfence(id));
            }
            if broker.is_stopping {
                actions.push(Action::Stop(id));
            }
            if broker.disk.flushed < broker.disk.end() {
                actions.push(Action::Sync(id));
            }
            match &broker.role {
                Role::None => {}
                Role::Leader(role) => {
                    self.possible_records(id, role.leader.epoch(), actions);
                    if role.proposal.is_some() {
                        actions.push(Action::Decide(id));
                    }
                }
                Role::Follower(role) if role.is_waiting => actions.push(Action::Reconnect(id)),
                Role::Follower(_) => actions.push(Action::Fetch(id)),
            }
        }
        for (index, late) in self.late.iter().enumerate() {
            if self.late[..index].iter().all(|earlier| earlier.connection() != late.connection()) {
                actions.push(Action::Arrive(index));
            }
        }
    }

    /// One after the other for the first time; to a later leader again while there is no answer.
    fn possible_records(&self, to: i32, epoch: i32, actions: &mut Vec<Action>) {
        for (value, sent) in (0..).zip(&self.sent) {
            if sent.epoch < epoch && !self.checker.acked.contains_key(&value) {
                actions.push(Action::Produce { value, to });
            }
            if sent.floor.is_none() {
                return;
            }
        }
    }

    fn possible_troubles(&self, actions: &mut Vec<Action>) {
        let image = self.image();
        let mut troubles = Vec::new();
        for broker in self.brokers.iter().filter(|broker| broker.is_up()) {
            let id = broker.id;
            let ends = broker.disk.from(broker.disk.flushed, usize::MAX).into_iter().map(|batch| batch.end_offset());
            let kept_ends = std::iter::once(broker.disk.flushed).chain(ends);
            troubles.extend(kept_ends.map(|kept_end| Trouble::Crash { broker: id, kept_end }));
            troubles.push(Trouble::Restart(id));
            if !image.brokers[&id].fenced {
                troubles.push(Trouble::Fence(id));
                if !broker.is_stopping {
                    troubles.push(Trouble::ShutDown(id));
                }
            }
            match &broker.role {
                Role::None => {}
                Role::Leader(role) => {
                    troubles.push(Trouble::Lag(id));
                    if role.proposal.is_some() {
                        troubles.push(Trouble::Unanswered(id));
                    }
                }
                Role::Follower(role) if role.is_waiting => {}
                Role::Follower(_) => {
                    troubles.extend([Trouble::LateFetch(id), Trouble::LateAnswer(id)]);
                    if broker.disk.flushed < broker.disk.end() {
                        troubles.push(Trouble::LateReport(id));
                    }
                }
            }
        }
        actions.extend(troubles.into_iter().map(Action::Trouble));
    }

    fn step(&mut self, action: Action) {
        match action {
            Action::Produce { value, to } => self.produce(value, to),
            Action::Sync(id) => self.sync(id, false),
            Action::Fetch(id) => self.fetch(id, None),
            Action::Arrive(index) => self.arrive(index),
            Action::Reconnect(id) => self.reconnect(id),
            Action::Learn(id) => self.learn(id),
            Action::Decide(id) => self.decide(id, true),
            Action::Start(id) => self.start(id),
            Action::Expire(id) => self.fence(id),
            Action::Unfence(id) => self.unfence(id),
            Action::Stop(id) => self.stop(id),
            Action::Trouble(trouble) => {
                self.troubles += 1;
                self.befall(trouble);
            }
        }
        self.check();
    }

    fn befall(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Crash { broker, kept_end } => self.crash(broker, kept_end),
            Trouble::Fence(id) => self.fence(id),
            Trouble::ShutDown(id) => self.shut_down(id),
            Trouble::Restart(id) => self.restart_role(id),
            Trouble::LateFetch(id) => self.fetch(id, Some(Delay::Request)),
            Trouble::LateAnswer(id) => self.fetch(id, Some(Delay::Answer)),
            Trouble::LateReport(id) => self.sync(id, true),
            Trouble::Unanswered(id) => self.decide(id, false),
            Trouble::Lag(id) => self.review(id, -1),
        }
    }

    /// None: nothing comes of it. A promise that does not hold ends this world.
    fn next(&self, action: Action) -> Option<World> {
        let mut world = self.clone();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| world.step(action))) {
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
            return Some(World { broken: Some(why.unwrap_or_default()), ..self.clone() });
        }
        let is_same = World { troubles: self.troubles, ..world.clone() } == *self;
        (!is_same).then_some(world)
    }

    /// C: when nothing is left to happen and no more trouble can come, all is well.
    fn is_well_or_goes_on(&self) -> bool {
        if self.has_trouble_left() || !self.late.is_empty() {
            return true;
        }
        let image = self.image();
        let knows_all = |world: &World| world.brokers.iter().all(|broker| broker.is_up() && broker.image == *image);
        if !knows_all(self) {
            return true;
        }
        let mut possible = Vec::new();
        self.possible(&mut possible);
        let goes_on = possible.into_iter().any(|action| self.next(action).is_some());
        let has_given_up = self.brokers.iter().any(|broker| match &broker.role {
            Role::Leader(role) => role.refused > REFUSED_MAX,
            _ => false,
        });
        goes_on || has_given_up || self.is_well()
    }

    /// All are in sync and hold the same, and every record is acknowledged.
    fn is_well(&self) -> bool {
        let partition = &self.image().partition;
        let acked = self.checker.acked.len();
        let held = |id: i32| self.at(id).disk.batches == self.checker.committed;
        partition.leader >= 0
            && partition.isr.len() as i32 == BROKERS
            && acked == self.sent.len()
            && (1..=BROKERS).all(held)
    }
}

/// A cluster of three brokers, one partition on all of them.
pub struct SmallCluster(pub Bounds);

impl Model for SmallCluster {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.0), World::one_out_of_sync(self.0)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.broken.is_some() {
            return;
        }
        world.possible(actions);
        if world.has_trouble_left() {
            world.possible_troubles(actions);
        }
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        world.next(action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(PROMISES, |_, world: &World| world.broken.is_none()),
            Property::always("when all is over all are in sync", |_, world: &World| world.is_well_or_goes_on()),
            Property::sometimes("another leader is elected", |_, world: &World| {
                world.image().partition.leader_epoch > 0
            }),
            Property::sometimes("two lead at one time", |_, world: &World| {
                let leads = |role: &Role| matches!(role, Role::Leader(_));
                world.brokers.iter().filter(|broker| leads(&broker.role)).count() > 1
            }),
            Property::sometimes("the in-sync set shrinks and grows", |_, world: &World| world.seen.growth_after_shrink),
            Property::sometimes("all records are acknowledged", |_, world: &World| {
                world.checker.acked.len() == world.sent.len()
            }),
            Property::sometimes("what was late arrives", |_, world: &World| world.seen.late_arrival),
            Property::sometimes("word over a connection that is gone comes after the next", |_, world: &World| {
                world.seen.overtaken
            }),
            Property::sometimes("what was not synced is lost", |_, world: &World| world.seen.lost_unsynced),
            Property::sometimes("a log is cut", |_, world: &World| world.seen.truncation),
            Property::sometimes("a proposal is refused", |_, world: &World| world.seen.refused_proposal),
            Property::sometimes("a record that is there is sent again", |_, world: &World| world.seen.duplicate),
        ];
        if self.0.in_sync_min >= 2 {
            properties.push(Property::sometimes("too few are in sync", |_, world: &World| {
                !world.image().partition.elr.is_empty()
            }));
        }
        if self.0.in_sync_min >= 2 && self.0.troubles >= 2 {
            let eligible_leads = |_: &Self, world: &World| world.seen.led_by_eligible;
            properties.push(Property::sometimes("an eligible replica leads", eligible_leads));
        }
        if self.0.records >= 2 {
            properties.push(Property::sometimes("records are acknowledged in two epochs", |_, world: &World| {
                let epochs = world.checker.committed.iter().map(|batch| batch.epoch);
                epochs.collect::<std::collections::BTreeSet<i32>>().len() > 1
                    && world.checker.acked.len() == world.sent.len()
            }));
        }
        properties
    }
}
