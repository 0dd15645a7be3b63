//! Many members that crash, pause, repeat themselves and lose answers, and a coordinator that is reloaded. Whatever they
//! do: nobody reads a partition that another one may read, epochs do not go back, and once it is quiet all is assigned.

use std::collections::{BTreeMap, BTreeSet};

use capek_state::group::consumer::{Assignment, TopicInfo, Topics};
use capek_wire::ErrorCode;
use capek_wire::messages::ConsumerGroupHeartbeatRequest;

use crate::seeds::for_each_seed;
use crate::world::{Answer, REBALANCE_TIMEOUT_MS, World, beat, join, names, topic_id, wire};

/// A generator that gives the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

const SUBSCRIPTIONS: [&[&str]; 4] = [&["t1"], &["t1", "t2"], &["u", "later"], &["t2", "u"]];
const REGEXES: [&str; 3] = ["t.*", "u|later", ".*"];
const CLIENT_COUNT: usize = 5;
const STEP_COUNT: usize = 300;

/// A client as it sees itself: what it believes to hold may be less than the group believes, never more.
struct Client {
    number: usize,
    incarnation: usize,
    is_static: bool,
    epoch: i32,
    held: Assignment,
    /// It will send all that it has to say next time.
    sends_all: bool,
    wants: usize,
    by_regex: bool,
    last_heard_ms: i64,
    /// What it sent and has had no answer to: it may arrive again.
    unanswered: Option<ConsumerGroupHeartbeatRequest>,
}

impl Client {
    fn new(number: usize) -> Client {
        Client {
            number,
            incarnation: 0,
            is_static: number % 2 == 1,
            epoch: 0,
            held: Assignment::new(),
            sends_all: true,
            wants: number,
            by_regex: false,
            last_heard_ms: 0,
            unanswered: None,
        }
    }

    fn member_id(&self) -> String {
        format!("m{}-{}", self.number, self.incarnation)
    }

    /// A new process. What the old one sent may still arrive.
    fn restart(&mut self) {
        self.incarnation += 1;
        let unanswered = self.unanswered.take();
        self.rejoin();
        self.unanswered = unanswered;
    }

    fn rejoin(&mut self) {
        self.epoch = 0;
        self.held.clear();
        self.sends_all = true;
        self.unanswered = None;
    }

    fn request(&mut self) -> ConsumerGroupHeartbeatRequest {
        let member_id = self.member_id();
        let mut request = beat(&member_id, self.epoch);
        if self.epoch == 0 || self.sends_all {
            let epoch = self.epoch;
            request = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..join(&member_id, &[]) };
            if self.by_regex {
                request.subscribed_topic_regex = Some(REGEXES[self.wants % REGEXES.len()].into());
            } else {
                request.subscribed_topic_names = names(SUBSCRIPTIONS[self.wants % SUBSCRIPTIONS.len()]);
                request.subscribed_topic_regex = Some("".into());
            }
        }
        request.topic_partitions = Some(wire(&self.held));
        request.instance_id = self.is_static.then(|| format!("i{}", self.number).into());
        self.sends_all = false;
        self.unanswered = Some(request.clone());
        request
    }

    fn hear(&mut self, answer: &Answer, now_ms: i64) {
        self.unanswered = None;
        match answer {
            Ok(answer) => {
                assert!(self.epoch <= answer.member_epoch, "the epoch of {} went back", self.member_id());
                self.epoch = answer.member_epoch;
                self.last_heard_ms = now_ms;
                if let Some(assignment) = crate::world::assigned(&Ok(answer.clone())) {
                    self.held = assignment;
                }
            }
            Err((ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId, _)) => self.rejoin(),
            // Somebody else has its place: it starts over, and asks until the place is free.
            Err((ErrorCode::FencedInstanceId | ErrorCode::UnreleasedInstanceId, _)) => self.restart(),
            Err((code, message)) => panic!("{code:?}: {message}"),
        }
    }
}

struct Simulation {
    world: World,
    clients: Vec<Client>,
    random: Random,
}

impl Simulation {
    fn new(seed: u64) -> Simulation {
        let clients = (0..CLIENT_COUNT).map(Client::new).collect();
        let mut world = World::new();
        world.calls_per_check = 97;
        Simulation { world, clients, random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1) }
    }

    fn run(&mut self) {
        for _ in 0..STEP_COUNT {
            self.step();
            self.check();
        }
        self.calm_down();
    }

    fn step(&mut self) {
        let index = self.random.below(CLIENT_COUNT as u64) as usize;
        match self.random.below(24) {
            0 => self.clients[index].restart(),
            1 => self.leave(index),
            2 => {
                let wait_ms = [1, 900, 5_000, 31_000, 46_000][self.random.below(5) as usize];
                self.pass(wait_ms);
            }
            3 => self.world.reload(),
            4 => self.change_topics(),
            5 => {
                let client = &mut self.clients[index];
                client.wants += 1;
                client.by_regex = !client.by_regex;
                client.sends_all = true;
            }
            // A request that was on the way comes once more, and its answer reaches nobody.
            6 | 7 => {
                if let Some(request) = self.clients[index].unanswered.clone() {
                    let _ = self.world.send(&request);
                }
            }
            _ => {
                self.pass(300);
                self.beat(index);
            }
        }
    }

    fn pass(&mut self, ms: i64) {
        self.world.wait(ms);
        // Whoever has heard nothing for so long may have been told to revoke, and removed because it did not: it stops.
        for client in &mut self.clients {
            if self.world.now_ms - client.last_heard_ms >= i64::from(REBALANCE_TIMEOUT_MS) {
                client.rejoin();
            }
        }
    }

    fn beat(&mut self, index: usize) {
        let now_ms = self.world.now_ms;
        let client = &mut self.clients[index];
        let request = client.request();
        let answer = self.world.send(&request);
        if self.random.one_in(8) {
            client.sends_all = true; // The answer is lost: it says everything again.
            return;
        }
        client.hear(&answer, now_ms);
    }

    fn leave(&mut self, index: usize) {
        let client = &mut self.clients[index];
        if client.epoch == 0 {
            return;
        }
        let mut request = beat(&client.member_id(), if client.is_static { -2 } else { -1 });
        request.instance_id = client.is_static.then(|| format!("i{}", client.number).into());
        let _ = self.world.send(&request);
        client.restart();
    }

    fn change_topics(&mut self) {
        let partition_count = 1 + self.random.below(9) as i32;
        let id = topic_id(10 + self.random.below(200) as u8);
        match self.random.below(3) {
            0 => self.world.topics.remove("later"),
            1 => self.world.topics.put("later", TopicInfo { id, partition_count }),
            _ => {
                let TopicInfo { id, partition_count } = self.world.topics.topic("t1").expect("it stays");
                let grown = (partition_count + 1).min(12);
                self.world.topics.put("t1", TopicInfo { id, partition_count: grown });
            }
        }
    }

    /// What clients read is theirs alone, and what the group says agrees with itself.
    fn check(&self) {
        let mut readers = BTreeMap::new();
        for client in &self.clients {
            for partition in &client.held {
                let other = readers.insert(*partition, client.member_id());
                assert_eq!(other, None, "{partition:?} is read by two, one is {}", client.member_id());
            }
        }
        let mut owners = BTreeMap::new();
        for (member_id, member) in self.world.group.members() {
            for (partition, _) in member.held() {
                assert_eq!(owners.insert(*partition, member_id), None, "{partition:?} has two owners");
                assert_eq!(self.world.group.owner(*partition), Some(member_id));
            }
            assert!(member.epoch <= self.world.group.target_epoch(), "{member_id} is ahead");
        }
        assert!(self.world.group.target_epoch() <= self.world.group.epoch());
    }

    /// Nothing fails any more: everybody gets all that there is, soon.
    fn calm_down(&mut self) {
        for _ in 0..60 {
            self.pass(1_000);
            for index in 0..CLIENT_COUNT {
                let now_ms = self.world.now_ms;
                let client = &mut self.clients[index];
                let request = client.request();
                let answer = self.world.send(&request);
                client.hear(&answer, now_ms);
                self.check();
            }
        }
        assert_eq!(self.world.group.state().name(), "Stable", "{:?}", self.world.group);
        let read: BTreeSet<_> = self.clients.iter().flat_map(|client| client.held.iter().copied()).collect();
        let mut expected = BTreeSet::new();
        self.world.topics.visit_names(&mut |name| {
            if self.world.group.is_subscribed_to(name) {
                let TopicInfo { id, partition_count } = self.world.topics.topic(name).expect("it was named");
                expected.extend((0..partition_count).map(|index| (id, index)));
            }
        });
        assert_eq!(read, expected, "everything is read");
    }
}

/// `CAPEK_TEST_SEEDS=FIRST..END` runs others.
const SEEDS: std::ops::Range<u64> = 0..1_500;

#[test]
fn no_partition_has_two_readers_whatever_members_do() {
    for_each_seed(SEEDS, |seed| {
        let outcome = std::panic::catch_unwind(|| Simulation::new(seed).run());
        assert!(outcome.is_ok(), "seed {seed} failed: CAPEK_TEST_SEEDS={seed}..{}", seed + 1);
    });
}
