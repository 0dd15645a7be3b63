//! Everything that there is, and the clock that moves it: events in the order of their times, a seed for all chance.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::ErrorCode;

use crate::broker::{Broker, Role};
use crate::checker::Checker;
use crate::client::{Producer, Reader};
use crate::controller::{Controller, Image};
use crate::messages::{Event, Line, Message, Node, ToController};
use crate::random::Random;

/// A controller that hears nothing of a broker for so long fences it.
pub const SESSION_MS: i64 = 900;
pub const LAG_MAX_MS: i64 = 700;
const TICK_MS: i64 = 40;

pub struct World {
    pub random: Random,
    pub now_ms: i64,
    events: BTreeMap<(i64, u64), Event>,
    event_count: u64,
    next_number: u64,
    pub brokers: Vec<Broker>,
    pub controller: Controller,
    /// The node with the active controller.
    pub active: Option<i32>,
    pub elect_at_ms: i64,
    pub heartbeats: BTreeMap<i32, i64>,
    /// One way.
    pub blocked: BTreeSet<(Node, Node)>,
    lines: BTreeMap<(Node, Node, u64), LineState>,
    /// One in so many messages is lost, and its connection with it.
    pub loss: u64,
    pub producers: Vec<Producer>,
    pub reader: Reader,
    pub checker: Checker,
    pub in_sync_min: usize,
    pub is_quiet: bool,
    /// What happened, for whoever looks at a failure.
    pub trace: Option<Vec<String>>,
    checked_images: usize,
}

#[derive(Default)]
struct LineState {
    last_ms: i64,
    is_broken: bool,
}

impl World {
    pub fn new(seed: u64, is_traced: bool) -> World {
        let mut random = Random(seed);
        let broker_count = 3 + random.below(3) as i32;
        let in_sync_min = if random.one_in(4) { 1 } else { 2 };
        let loss = [0, 0, 400, 60][random.below(4) as usize];
        let producers = Producer::all(&mut random);
        let mut world = World {
            random,
            now_ms: 0,
            events: BTreeMap::new(),
            event_count: 0,
            next_number: 1,
            brokers: (1..=broker_count).map(Broker::new).collect(),
            controller: Controller::new(broker_count, in_sync_min),
            active: None,
            elect_at_ms: 0,
            heartbeats: BTreeMap::new(),
            blocked: BTreeSet::new(),
            lines: BTreeMap::new(),
            loss,
            producers,
            reader: Reader::default(),
            checker: Checker::default(),
            in_sync_min,
            is_quiet: false,
            trace: is_traced.then(Vec::new),
            checked_images: 1,
        };
        for broker in 1..=broker_count {
            world.after(1, Event::Start { broker });
        }
        world.after(10, Event::Controller);
        for client in 0..world.producers.len() {
            world.after(20, Event::Client(client));
        }
        world.after(50, Event::Reader);
        world.after(1_500, Event::Trouble);
        world
    }

    pub fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:>6} {}", self.now_ms, what()));
        }
    }

    pub fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub fn after(&mut self, ms: i64, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now_ms + ms.max(0), self.event_count), event);
    }

    pub fn run(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end_ms) {
            let ((at_ms, _), event) = entry.remove_entry();
            self.now_ms = at_ms;
            self.checker.counts.events += 1;
            self.handle(event);
            self.check();
        }
        self.now_ms = end_ms;
    }

    fn check(&mut self) {
        while self.checked_images < self.controller.images.len() {
            let image = self.controller.images[self.checked_images].clone();
            let before = self.controller.images[self.checked_images - 1].clone();
            self.checker.counts.elections += u64::from(before.partition.leader_epoch != image.partition.leader_epoch);
            Checker::check_image(&before, &image, self.in_sync_min);
            if before.partition != image.partition {
                self.note(|| format!("committed {:?}", image.partition));
            }
            self.checked_images += 1;
        }
        let partition = &self.controller.image().partition;
        for member in partition.isr.iter().chain(&partition.elr) {
            self.checker.check_candidate(*member, &mut self.brokers[(*member - 1) as usize].disk);
        }
        let in_sync_min = self.in_sync_min.min(partition.replicas.len());
        for broker in &self.brokers {
            if let Role::Leader(role) = &broker.role {
                Checker::check_leader(partition, &role.leader, &role.proposed, in_sync_min);
            }
        }
    }

    fn handle(&mut self, event: Event) {
        if let Some((broker, life)) = at_broker(&event) {
            let found = &self.brokers[(broker - 1) as usize];
            if !found.is_up || life.is_some_and(|life| life != found.life) {
                return;
            }
            if found.paused_until_ms > self.now_ms {
                return self.after(found.paused_until_ms - self.now_ms, event);
            }
        }
        match event {
            Event::Deliver(line, message) => self.delivered(line, message),
            Event::ToController { from, controller, ask } => self.ask_controller(from, controller, ask),
            Event::Altered { broker, alter, error, .. } => self.altered(broker, &alter, error),
            Event::Registered { broker, epoch, .. } => self.brokers[(broker - 1) as usize].epoch = Some(epoch),
            Event::Tick { broker, life } => {
                self.tick(broker);
                self.after(TICK_MS, Event::Tick { broker, life });
            }
            Event::Synced { broker, .. } => self.synced(broker),
            Event::Cut { broker, role, .. } => self.cut(broker, role),
            Event::FetchAgain { broker, role, .. } => self.fetch_again(broker, role),
            Event::FetchTimedOut { broker, role, fetch, .. } => self.fetch_timed_out(broker, role, fetch),
            Event::ParkedFetch { broker, role, follower, fetch, .. } => {
                self.parked_fetch_ends(broker, role, follower, fetch);
            }
            Event::RequestTimedOut { broker, reply, .. } => self.request_timed_out(broker, reply),
            Event::Start { broker } => self.start(broker),
            Event::Stop { broker, .. } => {
                self.crash(broker, false);
                self.after(100, Event::Start { broker });
            }
            Event::Controller => self.controller_tick(),
            Event::Client(client) => self.client(client),
            Event::ClientTimedOut { client, attempt } => self.client_timed_out(client, attempt),
            Event::Reader => self.reader(),
            Event::Trouble => self.trouble(),
        }
    }

    fn delivered(&mut self, line: Line, message: Message) {
        match message {
            Message::Fetch { broker_epoch, leader_epoch, fetch_offset, last_epoch } => {
                self.fetch_asked(line, broker_epoch, leader_epoch, (fetch_offset, last_epoch));
            }
            Message::Fetched(answer) => self.fetch_answered(line, answer),
            Message::Flushed { broker_epoch, leader_epoch, end_offset } => {
                self.follower_flushed(line, broker_epoch, leader_epoch, end_offset);
            }
            Message::Produce { acks, batches } => {
                for batch in batches {
                    self.produce(line, acks, batch);
                }
            }
            Message::Produced { value, error, base_offset } => self.produced(line, value, error, base_offset),
            Message::Read { offset } => self.read(line, offset),
            Message::ReadAnswer { error, batches } => self.read_answered(line, error, &batches),
            Message::ListLatest => self.list_latest(line),
        }
    }

    /// Over a connection, in its order. What is lost takes the connection with it; what is on its way over an earlier one may
    /// still arrive.
    pub fn send(&mut self, line: Line, message: Message) {
        let is_lost = self.is_lost(line.from, line.to);
        let delay_ms = self.delay_ms();
        let state = self.lines.entry((line.from, line.to, line.connection)).or_default();
        state.is_broken |= is_lost;
        if state.is_broken {
            return;
        }
        let at_ms = (self.now_ms + delay_ms).max(state.last_ms);
        state.last_ms = at_ms;
        self.after(at_ms - self.now_ms, Event::Deliver(line, message));
    }

    pub fn reply(&mut self, line: Line, message: Message) {
        let to_life = if line.from < 100 { self.brokers[(line.from - 1) as usize].life } else { 0 };
        self.send(Line { from: line.to, to: line.from, connection: line.connection, to_life }, message);
    }

    fn is_lost(&mut self, from: Node, to: Node) -> bool {
        self.blocked.contains(&(from, to)) || (self.loss > 0 && !self.is_quiet && self.random.one_in(self.loss))
    }

    pub fn delay_ms(&mut self) -> i64 {
        match self.random.below(50) {
            0 if !self.is_quiet => self.random.between(50, 800),
            1..=5 => self.random.between(5, 60),
            _ => self.random.between(0, 5),
        }
    }

    /// To whichever node has the controller.
    pub fn tell_controller(&mut self, from: i32, ask: ToController) {
        let Some(controller) = self.active else { return };
        if from != controller && self.is_lost(from, controller) {
            return;
        }
        let delay_ms = self.delay_ms();
        self.after(delay_ms, Event::ToController { from, controller, ask });
    }

    /// Both ways.
    pub fn reaches(&self, one: i32, other: i32) -> bool {
        one == other || !(self.blocked.contains(&(one, other)) || self.blocked.contains(&(other, one)))
    }

    fn ask_controller(&mut self, from: i32, controller: i32, ask: ToController) {
        if self.active != Some(controller) || !self.has_majority(controller) {
            return;
        }
        let answer = match ask {
            ToController::Register { broker, incarnation } => {
                let life = self.brokers[(broker - 1) as usize].life;
                if self.brokers[(broker - 1) as usize].incarnation != incarnation {
                    return; // asked by a process that is gone: its epoch would fence the living one
                }
                let Some(epoch) = self.controller.register(broker, incarnation) else { return };
                self.heartbeats.insert(broker, self.now_ms);
                Event::Registered { broker, life, epoch }
            }
            ToController::Heartbeat { broker, broker_epoch, version } => {
                return self.heard_of(broker, broker_epoch, version);
            }
            ToController::ShutDown { broker, epoch } => return self.controller.shut_down(broker, epoch),
            ToController::Alter(alter) => {
                let broker = alter.broker;
                let result = self.controller.alter(&alter);
                self.note(|| format!("controller: {alter:?} -> {result:?}"));
                let life = self.brokers[(broker - 1) as usize].life;
                let error = result.err().unwrap_or(ErrorCode::None);
                Event::Altered { broker, life, alter, error }
            }
        };
        if from == controller || !self.is_lost(controller, from) {
            let delay_ms = self.delay_ms();
            self.after(delay_ms, answer);
        }
    }

    fn heard_of(&mut self, broker: i32, broker_epoch: i64, version: usize) {
        let known = self.controller.image().brokers.get(&broker);
        let Some(known) = known.filter(|known| known.epoch == broker_epoch) else { return };
        let is_fenced = known.fenced;
        self.heartbeats.insert(broker, self.now_ms);
        let seen = self.controller.images[version].brokers.get(&broker);
        if is_fenced && seen.is_some_and(|seen| seen.epoch == broker_epoch) {
            self.controller.unfence(broker, broker_epoch);
        }
    }

    pub fn has_majority(&self, node: i32) -> bool {
        let is_there = |broker: &&Broker| broker.is_up && broker.paused_until_ms <= self.now_ms;
        let alive = self.brokers[..3].iter().filter(is_there);
        let reached = alive.filter(|broker| self.reaches(node, broker.id)).count();
        reached >= 2 && self.brokers[..3].iter().filter(is_there).any(|broker| broker.id == node)
    }

    /// Who has the controller, and who has not been heard of for too long. A new controller gives everyone a fresh session.
    fn controller_tick(&mut self) {
        self.after(25, Event::Controller);
        if let Some(active) = self.active {
            if !self.has_majority(active) {
                self.note(|| format!("controller {active} is lost"));
                self.active = None;
                self.elect_at_ms = self.now_ms + self.random.between(100, 500);
                return;
            }
            let image: &Image = self.controller.image();
            let alive = image.brokers.iter().filter(|(_, known)| !known.fenced).map(|(broker, _)| *broker);
            for broker in alive.collect::<Vec<i32>>() {
                if self.now_ms - self.heartbeats.get(&broker).copied().unwrap_or(0) > SESSION_MS {
                    self.note(|| format!("controller fences {broker}"));
                    self.controller.fence(broker);
                }
            }
        } else if self.now_ms >= self.elect_at_ms {
            let candidates: Vec<i32> = (1..=3).filter(|node| self.has_majority(*node)).collect();
            self.active = self.random.pick(&candidates);
            let Some(active) = self.active else { return };
            self.note(|| format!("controller is {active}"));
            let now_ms = self.now_ms;
            let brokers: Vec<i32> = self.controller.image().brokers.keys().copied().collect();
            self.heartbeats = brokers.into_iter().map(|broker| (broker, now_ms)).collect();
        }
    }
}

/// Which broker an event happens at, and in which of its lives.
fn at_broker(event: &Event) -> Option<(i32, Option<u32>)> {
    match event {
        Event::Deliver(line, _) if line.to < 100 => Some((line.to, Some(line.to_life))),
        Event::ToController { controller, .. } => Some((*controller, None)),
        Event::Altered { broker, life, .. }
        | Event::Registered { broker, life, .. }
        | Event::Tick { broker, life }
        | Event::Stop { broker, life }
        | Event::Synced { broker, life }
        | Event::Cut { broker, life, .. }
        | Event::FetchAgain { broker, life, .. }
        | Event::FetchTimedOut { broker, life, .. }
        | Event::ParkedFetch { broker, life, .. }
        | Event::RequestTimedOut { broker, life, .. } => Some((*broker, Some(*life))),
        _ => None,
    }
}
