//! Members that crash, pause, leave, lose their connections and come back, and a coordinator that crashes and fails to write,
//! under a seeded schedule. After every event:
//!
//! * in one generation no partition has two owners;
//! * a committed offset never goes back;
//! * what the log says is what the live shard says of offsets;
//! * a heartbeat that did not reach the coordinator is answered, and counts, as if it had;
//!
//! and when the trouble is over, all members are soon of one stable generation, and each partition has its owner: nobody
//! waits for ever. `CAPEK_TEST_SEEDS=FIRST..END` runs others than the usual ones; a failure names its seed.

use std::collections::BTreeMap;

use bytes::Bytes;
use capek_state::group::{
    CommitRequest, CommittedOffset, Coordinator, Effects, FetchRequest, GroupConfig, HeartbeatRequest, JoinAnswer,
    JoinRequest, LeaveRequest, LeavingMember, OffsetToCommit, Record, ReplyId, SyncAnswer, SyncRequest,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Uuid;

use crate::beside::WithBeats;
use crate::client::{Action, Client, PARTITIONS, Timeouts};
use crate::fixtures::{GROUP, protocol, subscription, text};
use crate::seeds::for_each_seed;

const CLIENTS: usize = 5;
const TROUBLE_MS: i64 = 90_000;
/// By then the longest session, rebalance and retry is over several times.
const QUIET_MS: i64 = 90_000;
const SEEDS: std::ops::Range<u64> = 0..1_000;

/// What a client asks; it waits for one answer at a time.
#[derive(Clone, Debug)]
pub enum Request {
    Join(JoinRequest),
    Sync(SyncRequest),
    Heartbeat(HeartbeatRequest),
    Commit(CommitRequest),
    Fetch,
    Leave(LeaveRequest),
}

#[derive(Clone, Debug)]
pub enum Answer {
    Join(JoinAnswer),
    Sync(SyncAnswer),
    Heartbeat(ErrorCode),
    Commit(ErrorCode),
    Fetch(Vec<(i32, i64)>),
    Left,
    /// The coordinator loads, or has lost what it was asked.
    Unavailable,
}

/// A client and its connection: what was sent over an earlier one never arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    client: usize,
    connection: u32,
    /// Who asked, in `World::askers`: the client may be another member when the answer comes.
    asker: usize,
}

#[derive(Debug)]
enum Event {
    Ask(Line, Request),
    Tell(Line, Answer),
    Client(usize),
    Coordinator,
    Flushed(u64),
    Trouble,
    Loaded,
}

pub struct Random(u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

struct World {
    random: Random,
    now_ms: i64,
    events: BTreeMap<(i64, u64), Event>,
    event_count: u64,
    clients: Vec<Client>,
    connections: Vec<u32>,
    /// A static member's instance id, which is itself over all its lives; else the member id.
    askers: Vec<String>,
    /// When the last message of each direction arrives: a connection keeps the order.
    arrivals: BTreeMap<(usize, bool), i64>,
    /// None while it loads.
    coordinator: Option<WithBeats>,
    log: Vec<Record>,
    /// What the log says, up to where it was last asked.
    replayed: Replayed,
    flushed: usize,
    /// Answers wait until the log is flushed so far.
    parked: Vec<(usize, Line, Answer)>,
    waiting: BTreeMap<ReplyId, Line>,
    next_reply: u64,
    next_member: u64,
    /// Bumped when what was in flight to the log is lost.
    coordinator_life: u64,
    owners: BTreeMap<(i32, i32), String>,
    is_quiet: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random(seed);
        let timeouts = match seed % 2 {
            0 => Timeouts { session_ms: 6_000, rebalance_ms: 10_000 },
            _ => Timeouts { session_ms: 20_000, rebalance_ms: 2_000 },
        };
        let clients = (0..CLIENTS).map(|index| Client::new(index, random.one_in(2), timeouts)).collect();
        let mut world = World {
            random,
            now_ms: 1_000_000,
            events: BTreeMap::new(),
            event_count: 0,
            clients,
            connections: vec![0; CLIENTS],
            askers: Vec::new(),
            arrivals: BTreeMap::new(),
            coordinator: None,
            log: Vec::new(),
            replayed: Replayed::default(),
            flushed: 0,
            parked: Vec::new(),
            waiting: BTreeMap::new(),
            next_reply: 0,
            next_member: 0,
            coordinator_life: 0,
            owners: BTreeMap::new(),
            is_quiet: false,
        };
        world.after(0, Event::Loaded);
        world.after(500, Event::Trouble);
        for client in 0..CLIENTS {
            world.after(10, Event::Client(client));
        }
        world
    }

    fn after(&mut self, ms: i64, event: Event) {
        self.event_count += 1;
        self.events.insert((self.now_ms + ms, self.event_count), event);
    }

    fn run(&mut self, ms: i64) {
        let end_ms = self.now_ms + ms;
        while let Some(entry) = self.events.first_entry().filter(|entry| entry.key().0 <= end_ms) {
            let ((at_ms, _), event) = entry.remove_entry();
            self.now_ms = at_ms;
            self.handle(event);
        }
        self.now_ms = end_ms;
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Ask(line, request) => self.asked(line, request),
            Event::Tell(line, answer) => {
                if line.connection == self.connections[line.client] {
                    let actions = self.clients[line.client].answered(self.now_ms, answer);
                    self.act(line.client, actions);
                    self.end_left_behind(line.client);
                }
            }
            Event::Client(client) => {
                let actions = self.clients[client].woken(self.now_ms, &mut self.random);
                self.act(client, actions);
                let next_ms = 50 + self.random.below(200) as i64;
                self.after(next_ms, Event::Client(client));
            }
            Event::Coordinator => self.tick(),
            Event::Flushed(life) if life == self.coordinator_life => self.flush(),
            Event::Flushed(_) => {}
            Event::Loaded => self.load(),
            Event::Trouble => self.make_trouble(),
        }
    }

    fn act(&mut self, client: usize, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Reconnect => self.reconnect(client),
                Action::Ask(mut request) => {
                    if let Request::Join(join) = &mut *request {
                        self.next_member += 1;
                        join.new_member_id = Str::from(format!("c{client}-{}", self.next_member));
                    }
                    let line = Line { client, connection: self.connections[client], asker: self.askers.len() };
                    self.askers.push(self.clients[client].name());
                    self.send(client, true, Event::Ask(line, *request));
                }
            }
        }
    }

    /// A process that was left behind ends when it loses its place.
    fn end_left_behind(&mut self, client: usize) {
        if client >= CLIENTS && self.clients[client].stable_generation().is_none() {
            self.clients[client].crash(i64::MAX);
            self.reconnect(client);
        }
    }

    fn reconnect(&mut self, client: usize) {
        self.connections[client] += 1;
        self.arrivals.remove(&(client, true));
        self.arrivals.remove(&(client, false));
    }

    fn send(&mut self, client: usize, is_request: bool, event: Event) {
        let delay_ms = if self.random.one_in(20) { self.random.below(1_500) } else { self.random.below(20) } as i64;
        let last_ms = self.arrivals.get(&(client, is_request)).copied().unwrap_or(0);
        let at_ms = (self.now_ms + delay_ms).max(last_ms);
        self.arrivals.insert((client, is_request), at_ms);
        self.after(at_ms - self.now_ms, event);
    }

    fn asked(&mut self, line: Line, request: Request) {
        if line.connection != self.connections[line.client] {
            return;
        }
        let now_ms = self.now_ms;
        self.next_reply += 1;
        let reply = ReplyId(self.next_reply);
        let Some(coordinator) = &mut self.coordinator else {
            return self.send(line.client, false, Event::Tell(line, Answer::Unavailable));
        };
        let mut effects = Effects::default();
        let answer = match request {
            Request::Join(request) => {
                self.waiting.insert(reply, line);
                coordinator.change(&mut effects, |coordinator, effects| {
                    coordinator.join(now_ms, request.clone(), reply, effects);
                });
                None
            }
            Request::Sync(request) => {
                self.waiting.insert(reply, line);
                coordinator.change(&mut effects, |coordinator, effects| {
                    coordinator.sync(now_ms, request.clone(), reply, effects);
                });
                None
            }
            Request::Heartbeat(request) => {
                let error = coordinator.heartbeat(now_ms, &request);
                return self.send(line.client, false, Event::Tell(line, Answer::Heartbeat(error)));
            }
            Request::Commit(request) => {
                let committed = coordinator.commit(now_ms, request, &mut effects);
                let error = committed.map_or_else(|error| error, |errors| errors.first().copied().unwrap_or_default());
                Some(Answer::Commit(error))
            }
            Request::Fetch => Some(Answer::Fetch(positions(coordinator))),
            Request::Leave(request) => {
                let left = coordinator
                    .change(&mut effects, |coordinator, effects| coordinator.leave(now_ms, &request, effects));
                left.expect("the group has an id");
                Some(Answer::Left)
            }
        };
        self.carry_out(effects);
        if let Some(answer) = answer {
            self.park(line, answer);
        }
    }

    fn tick(&mut self) {
        let Some(coordinator) = &mut self.coordinator else { return };
        let mut effects = Effects::default();
        coordinator.tick(self.now_ms, &mut effects);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: Effects) {
        for record in effects.records {
            self.check_offset_goes_on(&record);
            self.log.push(record);
            let flush_ms = self.random.below(30) as i64;
            self.after(flush_ms, Event::Flushed(self.coordinator_life));
        }
        for (reply, answer) in effects.joins {
            if let Some(line) = self.waiting.remove(&reply) {
                self.park(line, Answer::Join(answer));
            }
        }
        for (reply, answer) in effects.syncs {
            if let Some(line) = self.waiting.remove(&reply) {
                self.park(line, Answer::Sync(answer));
            }
        }
        let deadline_ms = self.coordinator.as_ref().and_then(|coordinator| coordinator.next_deadline_ms());
        if let Some(deadline_ms) = deadline_ms {
            self.after((deadline_ms - self.now_ms).max(0), Event::Coordinator);
        }
    }

    fn park(&mut self, line: Line, answer: Answer) {
        self.parked.push((self.log.len(), line, answer));
        self.release();
    }

    fn flush(&mut self) {
        self.flushed = self.log.len();
        self.release();
    }

    fn release(&mut self) {
        let (ready, parked) = std::mem::take(&mut self.parked).into_iter().partition(|parked| parked.0 <= self.flushed);
        self.parked = parked;
        for (_, line, answer) in ready {
            self.check_owners(line, &answer);
            self.send(line.client, false, Event::Tell(line, answer));
        }
    }

    /// The coordinator's process dies, or a write fails: some of what was not flushed is gone, and nobody knows how much.
    fn lose_coordinator(&mut self) {
        let kept = self.flushed + self.random.below((self.log.len() - self.flushed) as u64 + 1) as usize;
        self.log.truncate(kept);
        self.replayed.forget_beyond(kept);
        self.flushed = kept;
        self.coordinator_life += 1;
        self.coordinator = None;
        let lost = std::mem::take(&mut self.parked).into_iter().map(|(_, line, _)| line);
        for line in lost.chain(std::mem::take(&mut self.waiting).into_values()).collect::<Vec<_>>() {
            self.send(line.client, false, Event::Tell(line, Answer::Unavailable));
        }
        let load_ms = self.random.below(3_000) as i64;
        self.after(load_ms, Event::Loaded);
    }

    fn load(&mut self) {
        if self.coordinator.is_some() {
            return;
        }
        let mut coordinator = self.replayed.all_of(&self.log).clone();
        let mut effects = Effects::default();
        coordinator.loaded(self.now_ms, &mut effects);
        self.coordinator = Some(WithBeats::new(coordinator));
        self.carry_out(effects);
    }

    fn make_trouble(&mut self) {
        if self.is_quiet {
            return;
        }
        let client = self.random.below(CLIENTS as u64) as usize;
        let now_ms = self.now_ms;
        let pause_ms = self.random.below(15_000) as i64;
        match self.random.below(12) {
            0 => self.lose_coordinator(),
            1 | 2 => {
                self.clients[client].crash(now_ms + pause_ms);
                self.reconnect(client);
            }
            3 | 4 => self.clients[client].pause(now_ms + pause_ms),
            5 => {
                let actions = self.clients[client].leave(now_ms + pause_ms);
                self.act(client, actions);
            }
            6 | 7 => {
                self.reconnect(client);
                self.clients[client].connection_lost();
            }
            8 if self.clients[client].is_static() => {
                // Another process takes its name, while it goes on for as long as it is let.
                let left_behind = self.clients[client].clone();
                self.clients.push(left_behind);
                self.connections.push(0);
                self.after(pause_ms % 3_000, Event::Client(self.clients.len() - 1));
                self.clients[client].crash(now_ms);
                self.reconnect(client);
            }
            _ => {}
        }
        let next_ms = 100 + self.random.below(2_000) as i64;
        self.after(next_ms, Event::Trouble);
    }

    fn check_owners(&mut self, line: Line, answer: &Answer) {
        let Answer::Sync(SyncAnswer { error: ErrorCode::None, assignment, .. }) = answer else { return };
        let owner = &self.askers[line.asker];
        for (generation, partition) in parse_assignment(assignment) {
            let other = self.owners.entry((generation, partition)).or_insert_with(|| owner.clone());
            assert_eq!(other, owner, "partition {partition} has two owners in generation {generation}");
        }
    }

    fn check_offset_goes_on(&self, record: &Record) {
        let Record::OffsetCommit { partition, value: Some(value), .. } = record else { return };
        let before = self.log.iter().rev().find_map(|record| match record {
            Record::OffsetCommit { partition: other, value, .. } if other == partition => value.clone(),
            _ => None,
        });
        let before = before.map_or(0, |before: CommittedOffset| before.offset);
        assert!(before <= value.offset, "partition {partition} goes back from {before} to {}", value.offset);
    }

    fn check_log(&mut self) {
        let Some(coordinator) = &self.coordinator else { return };
        let all = |coordinator: &Coordinator| {
            coordinator.fetch_offsets(FetchRequest { group: text(GROUP), ..Default::default() })
        };
        assert_eq!(all(self.replayed.all_of(&self.log)), all(coordinator), "the log and the shard differ");
    }

    fn check_converged(&self) {
        let generations: Vec<_> = self.clients[..CLIENTS].iter().map(Client::stable_generation).collect();
        let state = self.coordinator.as_ref().and_then(|coordinator| coordinator.describe(GROUP));
        assert!(
            generations.iter().all(|generation| generation.is_some()),
            "somebody waits: {generations:?} {state:#?}"
        );
        assert!(generations.windows(2).all(|pair| pair[0] == pair[1]), "not of one generation: {generations:?}");
        let mut owned: Vec<i32> = self.clients[..CLIENTS].iter().flat_map(|client| client.owned()).collect();
        owned.sort_unstable();
        assert_eq!(owned, (0..PARTITIONS).collect::<Vec<_>>());
    }
}

/// A coordinator that knows nothing but the first records of a log.
struct Replayed {
    coordinator: Coordinator,
    records: usize,
}

impl Default for Replayed {
    fn default() -> Replayed {
        let config =
            GroupConfig { initial_rebalance_delay_ms: 500, session_timeout_min_ms: 1_000, ..GroupConfig::default() };
        Replayed { coordinator: Coordinator::new(config), records: 0 }
    }
}

impl Replayed {
    fn all_of(&mut self, log: &[Record]) -> &Coordinator {
        for record in &log[self.records..] {
            let (key, value) = record.encode().expect("it is short enough");
            self.coordinator.replay(&Record::decode(key, value).expect("we wrote it").expect("we wrote it"));
        }
        self.records = log.len();
        &self.coordinator
    }

    fn forget_beyond(&mut self, records: usize) {
        if self.records > records {
            *self = Replayed::default();
        }
    }
}

fn positions(coordinator: &Coordinator) -> Vec<(i32, i64)> {
    let fetched = coordinator.fetch_offsets(FetchRequest { group: text(GROUP), ..Default::default() });
    let partitions = fetched.expect("nobody is asked who he is").into_iter().flat_map(|topic| topic.partitions);
    partitions.filter_map(|(partition, committed)| Some((partition, committed?.offset))).collect()
}

/// Our own words: the generation, and the partitions.
pub fn assignment(generation: i32, partitions: &[i32]) -> Bytes {
    let numbers = [&[generation], partitions].concat();
    numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
}

pub fn parse_assignment(assignment: &Bytes) -> Vec<(i32, i32)> {
    let mut numbers = assignment.chunks(4).map(|bytes| i32::from_be_bytes(bytes.try_into().expect("four bytes")));
    let Some(generation) = numbers.next() else { return Vec::new() };
    numbers.map(|partition| (generation, partition)).collect()
}

pub fn join_request(member_id: &Str, instance_id: Option<&Str>, timeouts: Timeouts) -> JoinRequest {
    JoinRequest {
        group: text(GROUP),
        member_id: member_id.clone(),
        instance_id: instance_id.cloned(),
        session_timeout_ms: timeouts.session_ms,
        rebalance_timeout_ms: timeouts.rebalance_ms,
        protocol_type: text("consumer"),
        protocols: vec![protocol("range", subscription(&["orders"]))],
        requires_known_member: instance_id.is_none(),
        can_skip_assignment: true,
        ..JoinRequest::default()
    }
}

pub fn leave_request(member_id: &Str) -> LeaveRequest {
    let members = vec![LeavingMember { member_id: member_id.clone(), instance_id: None }];
    LeaveRequest { group: text(GROUP), members }
}

pub fn commit_request(
    (member_id, instance_id): (&Str, Option<&Str>),
    generation: i32,
    offsets: Vec<(i32, i64)>,
) -> CommitRequest {
    CommitRequest {
        group: text(GROUP),
        member_id: member_id.clone(),
        instance_id: instance_id.cloned(),
        generation,
        offsets: offsets.into_iter().map(|(partition, offset)| offset_to_commit(partition, offset)).collect(),
        ..CommitRequest::default()
    }
}

fn offset_to_commit(partition: i32, offset: i64) -> OffsetToCommit {
    OffsetToCommit { topic: text("orders"), topic_id: Uuid::ZERO, partition, offset, ..OffsetToCommit::default() }
}

fn simulate(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..TROUBLE_MS / 1_000 {
        world.run(1_000);
        world.check_log();
    }
    world.is_quiet = true;
    world.clients[..CLIENTS].iter_mut().for_each(Client::wake_up);
    world.run(QUIET_MS);
    world.check_log();
    world.check_converged();
}

#[test]
fn groups_converge_and_keep_their_promises_whatever_happens_to_members_and_coordinator() {
    for_each_seed(SEEDS, |seed| {
        let outcome = std::panic::catch_unwind(|| simulate(seed));
        assert!(outcome.is_ok(), "seed {seed} failed: CAPEK_TEST_SEEDS={seed}..{}", seed + 1);
    });
}
