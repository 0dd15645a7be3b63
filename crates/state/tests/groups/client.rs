//! A consumer of the classic protocol as the real ones behave, for the simulation: eager, one request at a time.

use std::collections::BTreeMap;

use capek_state::group::{HeartbeatRequest, JoinAnswer, JoinedMember, SyncRequest};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use crate::fixtures::{GROUP, text};
use crate::simulation::{
    Answer, Random, Request, assignment, commit_request, join_request, leave_request, parse_assignment,
};

pub const PARTITIONS: i32 = 7;
const HEARTBEAT_MS: i64 = 2_000;
const REQUEST_TIMEOUT_MS: i64 = 5_000;
const JOIN_TIMEOUT_MS: i64 = 15_000;

/// What members ask for. A session that outlasts a rebalance leaves static members in a generation that they know nothing of.
#[derive(Clone, Copy)]
pub struct Timeouts {
    pub session_ms: i32,
    pub rebalance_ms: i32,
}

/// What the client wants done.
pub enum Action {
    Ask(Box<Request>),
    Reconnect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody, or about to join again.
    Out,
    Joining,
    Syncing,
    Fetching,
    Stable,
}

#[derive(Clone)]
pub struct Client {
    index: usize,
    instance_id: Option<Str>,
    timeouts: Timeouts,
    /// How often it was started: a dynamic member is another one each time.
    life: u32,
    member_id: Str,
    generation: i32,
    phase: Phase,
    owned: Vec<i32>,
    positions: BTreeMap<i32, i64>,
    /// When the answer to the open request is given up.
    deadline_ms: Option<i64>,
    heartbeat_due_ms: i64,
    /// It is not there until then.
    away_until_ms: i64,
}

impl Client {
    pub fn new(index: usize, is_static: bool, timeouts: Timeouts) -> Client {
        Client {
            index,
            timeouts,
            instance_id: is_static.then(|| Str::from(format!("instance-{index}"))),
            life: 0,
            member_id: Str::default(),
            generation: -1,
            phase: Phase::Out,
            owned: Vec::new(),
            positions: BTreeMap::new(),
            deadline_ms: None,
            heartbeat_due_ms: 0,
            away_until_ms: 0,
        }
    }

    /// A static member is itself over all its lives; a dynamic one is what its member id says.
    pub fn name(&self) -> String {
        self.instance_id.as_ref().unwrap_or(&self.member_id).to_string()
    }

    pub fn owned(&self) -> Vec<i32> {
        self.owned.clone()
    }

    pub fn stable_generation(&self) -> Option<i32> {
        (self.phase == Phase::Stable).then_some(self.generation)
    }

    /// The process ends without a word, and another begins later.
    pub fn crash(&mut self, until_ms: i64) {
        let instance_id = self.instance_id.take();
        let fresh = Client::new(self.index, false, self.timeouts);
        *self = Client { instance_id, life: self.life + 1, away_until_ms: until_ms, ..fresh };
    }

    pub fn is_static(&self) -> bool {
        self.instance_id.is_some()
    }

    /// The process stands still: it believes what it believed before.
    pub fn pause(&mut self, until_ms: i64) {
        self.away_until_ms = until_ms;
    }

    pub fn wake_up(&mut self) {
        self.away_until_ms = 0;
    }

    pub fn leave(&mut self, until_ms: i64) -> Vec<Action> {
        let request = Request::Leave(leave_request(&self.member_id));
        let has_joined = !self.member_id.is_empty() && self.instance_id.is_none();
        self.crash(until_ms);
        if has_joined { vec![Action::Ask(Box::new(request))] } else { Vec::new() }
    }

    pub fn connection_lost(&mut self) {
        self.deadline_ms = None;
        self.retry();
    }

    /// The open request will not be answered: what now?
    fn retry(&mut self) {
        match self.phase {
            Phase::Joining | Phase::Syncing | Phase::Fetching => self.phase = Phase::Out,
            Phase::Out | Phase::Stable => {}
        }
    }

    fn lost(&mut self) {
        self.member_id = Str::default();
        self.rejoin();
    }

    /// Eager: everything is given up before.
    fn rejoin(&mut self) {
        self.owned.clear();
        self.generation = -1;
        self.phase = Phase::Out;
    }

    fn ask(&mut self, now_ms: i64, request: Request) -> Vec<Action> {
        let is_join = matches!(request, Request::Join(_));
        self.deadline_ms = Some(now_ms + if is_join { JOIN_TIMEOUT_MS } else { REQUEST_TIMEOUT_MS });
        vec![Action::Ask(Box::new(request))]
    }

    pub fn woken(&mut self, now_ms: i64, random: &mut Random) -> Vec<Action> {
        if now_ms < self.away_until_ms {
            return Vec::new();
        }
        if let Some(deadline_ms) = self.deadline_ms {
            if now_ms < deadline_ms {
                return Vec::new();
            }
            self.deadline_ms = None;
            self.retry();
            return vec![Action::Reconnect];
        }
        match self.phase {
            Phase::Out => self.join(now_ms),
            Phase::Stable if random.one_in(3) && !self.owned.is_empty() => self.commit(now_ms, random),
            Phase::Stable if now_ms >= self.heartbeat_due_ms => {
                self.heartbeat_due_ms = now_ms + HEARTBEAT_MS;
                let request = HeartbeatRequest {
                    group: text(GROUP),
                    member_id: self.member_id.clone(),
                    instance_id: self.instance_id.clone(),
                    generation: self.generation,
                };
                self.ask(now_ms, Request::Heartbeat(request))
            }
            _ => Vec::new(),
        }
    }

    fn commit(&mut self, now_ms: i64, random: &mut Random) -> Vec<Action> {
        for partition in &self.owned {
            *self.positions.entry(*partition).or_default() += random.below(5) as i64;
        }
        let positions = self.owned.iter().map(|partition| (*partition, self.positions[partition])).collect();
        let request = commit_request((&self.member_id, self.instance_id.as_ref()), self.generation, positions);
        self.ask(now_ms, Request::Commit(request))
    }

    fn join(&mut self, now_ms: i64) -> Vec<Action> {
        self.rejoin();
        self.phase = Phase::Joining;
        let request = join_request(&self.member_id, self.instance_id.as_ref(), self.timeouts);
        self.ask(now_ms, Request::Join(request))
    }

    pub fn answered(&mut self, now_ms: i64, answer: Answer) -> Vec<Action> {
        self.deadline_ms = None;
        match (self.phase, answer) {
            (Phase::Joining, Answer::Join(answer)) => self.joined(now_ms, answer),
            (Phase::Syncing, Answer::Sync(answer)) => match answer.error {
                ErrorCode::None => {
                    let assigned = parse_assignment(&answer.assignment);
                    assert!(assigned.iter().all(|(generation, _)| *generation == self.generation), "{assigned:?}");
                    self.owned = assigned.into_iter().map(|(_, partition)| partition).collect();
                    self.phase = Phase::Fetching;
                    self.ask(now_ms, Request::Fetch)
                }
                error => self.failed(error),
            },
            (Phase::Fetching, Answer::Fetch(positions)) => {
                self.positions = self.owned.iter().map(|partition| (*partition, 0)).collect();
                let own = positions.into_iter().filter(|(partition, _)| self.owned.contains(partition));
                self.positions.extend(own.collect::<Vec<_>>());
                self.phase = Phase::Stable;
                self.heartbeat_due_ms = now_ms + HEARTBEAT_MS;
                Vec::new()
            }
            (Phase::Stable, Answer::Heartbeat(error) | Answer::Commit(error)) => self.failed(error),
            (_, Answer::Unavailable) => {
                self.retry();
                Vec::new()
            }
            // Of a request that was given up.
            _ => Vec::new(),
        }
    }

    fn failed(&mut self, error: ErrorCode) -> Vec<Action> {
        match error {
            ErrorCode::None => {}
            ErrorCode::RebalanceInProgress => self.rejoin(),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => self.lost(),
            // Another process has our name: ours is an old one, and a new one takes its place.
            ErrorCode::FencedInstanceId => self.crash(0),
            other => panic!("client {} in life {} cannot go on: {other}", self.index, self.life),
        }
        Vec::new()
    }

    fn joined(&mut self, now_ms: i64, answer: JoinAnswer) -> Vec<Action> {
        match answer.error {
            ErrorCode::None => {}
            ErrorCode::MemberIdRequired => {
                self.member_id = answer.member_id;
                return self.join(now_ms);
            }
            error => {
                self.phase = Phase::Out;
                return self.failed(error);
            }
        }
        self.member_id = answer.member_id.clone();
        self.generation = answer.generation;
        self.phase = Phase::Syncing;
        let is_assigning = answer.leader == answer.member_id && !answer.skip_assignment;
        let request = SyncRequest {
            group: text(GROUP),
            member_id: self.member_id.clone(),
            instance_id: self.instance_id.clone(),
            generation: answer.generation,
            protocol_type: answer.protocol_type.clone(),
            protocol: answer.protocol.clone(),
            assignments: if is_assigning { assign(answer.generation, &answer.members) } else { Vec::new() },
        };
        self.ask(now_ms, Request::Sync(request))
    }
}

/// Each partition to one of the members in turn.
fn assign(generation: i32, members: &[JoinedMember]) -> Vec<(Str, bytes::Bytes)> {
    assert!(!members.is_empty(), "the group leader is told of everybody");
    let of_member = |(index, member): (usize, &JoinedMember)| {
        let mine = (0..PARTITIONS).filter(|partition| *partition as usize % members.len() == index);
        (member.member_id.clone(), assignment(generation, &mine.collect::<Vec<_>>()))
    };
    members.iter().enumerate().map(of_member).collect()
}
