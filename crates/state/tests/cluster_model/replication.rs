//! Leader and followers at work: the effects of the state machines carried out, as the actors carry them out. What is said
//! arrives at once, unless it is late.

use std::sync::LazyLock;

use capek_state::config::TopicConfig;
use capek_state::partition::{
    AdmitContext, Admitted, Asking, Divergence, Effect, Fetched, FollowerEffect, FollowerVoice, ReplyId, Wait,
};
use capek_wire::ErrorCode;

use crate::controller::topic_config;
use crate::disk::{Batch, fetched_records};
use crate::messages::Answer;
use crate::model::REFUSED_MAX;
use crate::world::{Fetch, Flushed, Late, LeaderRole, Role, World};

const FETCH_BATCHES_MAX: usize = 8;
/// When what was refused may be proposed again.
const LATER_MS: i64 = 1_000;

static CONFIGS: LazyLock<[TopicConfig; 2]> = LazyLock::new(|| [topic_config(1), topic_config(2)]);

/// Which part of a round trip is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delay {
    Request,
    Answer,
}

impl World {
    // The journal.

    /// What was written is on the disk. A follower says so, at once or late.
    pub fn sync(&mut self, id: i32, is_late: bool) {
        let broker = self.broker(id);
        let end_offset = broker.disk.end();
        broker.disk.flushed = end_offset;
        match &mut broker.role {
            Role::None => {}
            Role::Leader(role) => {
                broker.disk.high_watermark = role.leader.high_watermark();
                let mut effects = Vec::new();
                role.leader.flushed(end_offset, &mut effects);
                self.carry_out(id, effects);
            }
            Role::Follower(role) => {
                broker.disk.high_watermark = role.follower.high_watermark().min(end_offset);
                let mut effects = Vec::new();
                role.follower.flushed(end_offset, &mut effects);
                self.carry_out_following(id, effects, &[], is_late);
            }
        }
    }

    /// Nothing can come between any more.
    fn written(&mut self, id: i32) {
        if !self.has_trouble_left() {
            self.sync(id, false);
        }
    }

    // The leader.

    pub fn produce(&mut self, value: u64, id: i32) {
        let index = value as usize;
        let (in_sync_min, floor) = (self.bounds.in_sync_min, self.checker.acked_end);
        let broker = self.broker(id);
        let life = broker.life;
        let Role::Leader(role) = &mut broker.role else { return };
        let epoch = role.leader.epoch();
        let mut batch = Batch { base_offset: 0, record_count: 1, epoch, value, producer: value as i64, sequence: 0 };
        let config = &CONFIGS[usize::from(in_sync_min) - 1];
        let context = AdmitContext { now_ms: 0, config, acks: -1, accepts_zstd: true };
        let (base_offset, end_offset) = match role.leader.admit(&batch.header(), &context) {
            Err(refusal) => {
                assert_eq!(refusal.code, ErrorCode::NotEnoughReplicas, "a record was refused for no reason");
                return;
            }
            Ok(Admitted::Duplicate { base_offset, end_offset, .. }) => {
                self.seen.duplicate = true;
                (base_offset, end_offset)
            }
            Ok(Admitted::Append { base_offset, end_offset }) => {
                role.leader.submitted(0);
                batch.base_offset = base_offset;
                assert_eq!((base_offset, end_offset), (broker.disk.end(), batch.end_offset()));
                broker.disk.batches.push(batch);
                self.checker().appends(epoch, id, life);
                (base_offset, end_offset)
            }
        };
        let sent = &mut self.sent[index];
        sent.floor.get_or_insert(floor);
        sent.epoch = epoch;
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        if role.leader.park(end_offset, ReplyId(value), Wait::Committed) {
            role.parked.insert(value, base_offset);
        } else {
            self.acked(value, base_offset);
        }
        self.written(id);
    }

    fn acked(&mut self, value: u64, base_offset: i64) {
        let floor = self.sent[value as usize].floor.expect("only what was sent is acknowledged");
        self.checker().acks(value, base_offset, floor);
    }

    pub fn carry_out(&mut self, id: i32, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::AdvanceHighWatermark(high_watermark) => {
                    self.check_quorum(id, high_watermark);
                    let disk = self.at(id).disk.clone();
                    self.checker().commits(id, &disk, high_watermark);
                }
                Effect::Reply(ReplyId(value)) => {
                    let Role::Leader(role) = &mut self.broker(id).role else { return };
                    let base_offset = role.parked.remove(&value).expect("only parked replies are answered");
                    self.acked(value, base_offset);
                }
                Effect::Refuse(..) => panic!("no append fails here"),
                Effect::ProposeInSync { members, partition_epoch } => {
                    self.check_newcomers(id, &members);
                    let broker = self.broker(id);
                    let me = (id, broker.epoch.expect("a leader is registered"));
                    let Role::Leader(role) = &mut broker.role else { return };
                    let alter = broker.image.alter(me, role.leader.epoch(), members, partition_epoch);
                    role.proposed = alter.isr.clone();
                    role.proposal = Some(alter);
                    role.asking = Asking::default();
                }
            }
        }
    }

    /// B6: enough are in sync, and all of them and of those who are proposed have it on their disks.
    fn check_quorum(&self, id: i32, high_watermark: i64) {
        let Role::Leader(role) = &self.at(id).role else { return };
        let LeaderRole { leader, proposed, .. } = role;
        assert!(leader.in_sync_count() >= self.bounds.in_sync_min.into(), "broker {id} commits with too few in sync");
        let proposed = proposed.iter().map(|(member, _)| *member).filter(|_| leader.is_proposing());
        for member in leader.in_sync().chain(proposed) {
            let disk = &self.at(member).disk;
            assert!(disk.flushed >= high_watermark, "broker {id} commits {high_watermark}, which {member} could lose");
        }
    }

    /// B7: whoever is to come in could lead at once, and lose nothing.
    fn check_newcomers(&self, id: i32, members: &[(i32, i64)]) {
        let Role::Leader(role) = &self.at(id).role else { return };
        if role.leader.epoch() != self.image().partition.leader_epoch {
            return; // the controller will refuse what it asks
        }
        let is_in_sync = |member: i32| role.leader.in_sync().any(|known| known == member);
        for member in members.iter().map(|(member, _)| *member).filter(|member| !is_in_sync(*member)) {
            self.checker.check_candidate(member, &mut self.at(member).disk.clone());
        }
    }

    /// Who has fallen behind for so long, and who may come in.
    pub fn review(&mut self, id: i32, lag_max_ms: i64) {
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let now_ms = if (1..=REFUSED_MAX).contains(&role.refused) { LATER_MS } else { 0 };
        let mut effects = Vec::new();
        role.leader.review_in_sync(lag_max_ms, now_ms, &mut effects);
        self.carry_out(id, effects);
    }

    fn fetch_asked(&mut self, fetch: &Fetch) -> Option<Answer> {
        let leader = self.at(fetch.to);
        if !leader.is_up() {
            return None;
        }
        let (error, high_watermark) = match &leader.role {
            Role::Leader(role) if role.leader.epoch() == fetch.leader_epoch => {
                (ErrorCode::None, role.leader.high_watermark())
            }
            Role::Leader(role) if role.leader.epoch() > fetch.leader_epoch => (ErrorCode::FencedLeaderEpoch, -1),
            Role::Leader(_) => (ErrorCode::UnknownLeaderEpoch, -1),
            _ => (ErrorCode::NotLeaderOrFollower, -1),
        };
        let diverging = leader.disk.diverging(fetch.offset, fetch.last_epoch);
        let mut answer = Answer {
            leader_epoch: fetch.leader_epoch,
            fetch_offset: fetch.offset,
            error,
            high_watermark,
            diverging,
            batches: Vec::new(),
        };
        if error != ErrorCode::None || diverging.is_some() {
            return Some(answer);
        }
        let Role::Leader(role) = &mut self.broker(fetch.to).role else { return None };
        if role.board.fetched(fetch.voice(), fetch.offset, 0) {
            self.read_board(fetch.to);
        } else {
            self.seen.overtaken = true;
        }
        let leader = self.at(fetch.to);
        if let Role::Leader(role) = &leader.role {
            answer.high_watermark = role.leader.high_watermark();
            answer.batches = leader.disk.from(fetch.offset, FETCH_BATCHES_MAX);
        }
        Some(answer)
    }

    fn follower_flushed(&mut self, flushed: &Flushed) {
        let Role::Leader(role) = &mut self.broker(flushed.to).role else { return };
        if role.leader.epoch() != flushed.leader_epoch {
            return;
        }
        if role.board.flushed(flushed.voice(), flushed.end_offset) {
            self.read_board(flushed.to);
        }
    }

    /// The leader is told what its followers have said.
    pub fn read_board(&mut self, id: i32) {
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let mut effects = Vec::new();
        for (from, report) in role.board.of_epoch(role.leader.epoch()) {
            role.leader.follower_fetched(from, report.broker_epoch, report.fetch_offset, 0, &mut effects);
            role.leader.follower_flushed(from, report.broker_epoch, report.flushed_end, &mut effects);
        }
        self.carry_out(id, effects);
        self.review(id, i64::MAX);
    }

    // The follower.

    pub fn fetch(&mut self, id: i32, delay: Option<Delay>) {
        let broker = self.at(id);
        let Role::Follower(role) = &broker.role else { return };
        let fetch = Fetch {
            from: id,
            to: role.leader,
            connection: broker.connection,
            broker_epoch: broker.epoch.expect("a follower is registered"),
            leader_epoch: role.follower.epoch(),
            offset: role.follower.log_end(),
            last_epoch: role.follower.last_epoch(),
        };
        if delay == Some(Delay::Request) {
            return self.is_late(id, Late::Fetch(fetch));
        }
        let Some(answer) = self.fetch_asked(&fetch) else { return };
        match delay {
            Some(_) => self.is_late(id, Late::Fetched { to: id, connection: fetch.connection, answer }),
            None => self.fetched(id, &answer),
        }
    }

    fn is_late(&mut self, from: i32, late: Late) {
        self.late.push(late);
        if let Role::Follower(role) = &mut self.broker(from).role {
            role.is_waiting = true;
        }
    }

    pub fn arrive(&mut self, index: usize) {
        self.seen.late_arrival = true;
        match self.late.remove(index) {
            Late::Fetch(fetch) => {
                let is_awaited = fetch.connection == self.at(fetch.from).connection;
                let answer = self.fetch_asked(&fetch).filter(|_| is_awaited);
                self.look_what_is_late(fetch.from);
                if let Some(answer) = answer {
                    self.fetched(fetch.from, &answer);
                }
            }
            Late::Fetched { to, answer, .. } => {
                self.look_what_is_late(to);
                self.fetched(to, &answer);
            }
            Late::Flushed(flushed) => {
                self.look_what_is_late(flushed.from);
                self.follower_flushed(&flushed);
            }
        }
    }

    /// Whether something of this follower's connection is on its way.
    fn look_what_is_late(&mut self, id: i32) {
        let current = (id, self.at(id).connection);
        let is_late = self.late.iter().any(|late| late.connection() == current);
        if let Role::Follower(role) = &mut self.broker(id).role {
            role.is_waiting = is_late;
        }
    }

    /// A follower that waits has a new connection.
    pub fn reconnect(&mut self, id: i32) {
        self.cut_connection(id);
        if let Role::Follower(role) = &mut self.broker(id).role {
            role.is_waiting = false;
            role.follower.reconnected();
        }
    }

    fn fetched(&mut self, id: i32, answer: &Answer) {
        let broker = self.broker(id);
        let Role::Follower(role) = &mut broker.role else { return };
        let divergence =
            answer.diverging.map(|leader| Divergence { leader, local: broker.disk.epoch_end(leader.epoch) });
        let fetched = Fetched {
            leader_epoch: answer.leader_epoch,
            fetch_offset: answer.fetch_offset,
            error: answer.error,
            high_watermark: answer.high_watermark,
            log_start: 0,
            diverging: divergence,
            records: fetched_records(&answer.batches),
        };
        let mut effects = Vec::new();
        let position = role.follower.log_end();
        role.follower.fetched(&fetched, &mut effects);
        self.carry_out_following(id, effects, &answer.batches, false);
        match &self.at(id).role {
            // It asks for what comes then, and so the leader knows how far it is before it hears what is flushed.
            Role::Follower(role) if role.follower.log_end() != position => self.fetch(id, None),
            _ => self.written(id),
        }
    }

    fn carry_out_following(&mut self, id: i32, effects: Vec<FollowerEffect>, batches: &[Batch], is_late: bool) {
        for effect in effects {
            let broker = self.broker(id);
            let Role::Follower(role) = &mut broker.role else { return };
            match effect {
                FollowerEffect::Append => {
                    broker.disk.batches.extend_from_slice(batches);
                }
                FollowerEffect::Truncate { end_offset } => self.cut(id, end_offset),
                FollowerEffect::ReportFlushed(end_offset) => {
                    assert!(end_offset <= broker.disk.flushed, "broker {id} reports what it has not flushed");
                    let flushed = Flushed {
                        from: id,
                        to: role.leader,
                        connection: broker.connection,
                        broker_epoch: broker.epoch.expect("a follower is registered"),
                        leader_epoch: role.follower.epoch(),
                        end_offset,
                    };
                    if is_late || role.is_waiting {
                        self.is_late(id, Late::Flushed(flushed));
                    } else {
                        self.follower_flushed(&flushed);
                    }
                }
                // Only what agrees with the leader, once that is known.
                FollowerEffect::AdvanceHighWatermark(high_watermark) => {
                    let mut shown = broker.disk.batches.clone();
                    shown.retain(|batch| batch.end_offset() <= high_watermark);
                    self.checker.reads(id, &shown);
                }
                FollowerEffect::Fetch | FollowerEffect::FetchLater => {}
                FollowerEffect::Fail(_) => return self.restart_role(id),
                FollowerEffect::Reset { .. } | FollowerEffect::MoveLogStart { .. } => {
                    panic!("nothing is deleted here: {effect:?}")
                }
            }
        }
    }

    fn cut(&mut self, id: i32, end_offset: i64) {
        self.seen.truncation = true;
        self.checker.cuts(id, &self.at(id).disk, end_offset);
        let broker = self.broker(id);
        broker.disk.truncate(end_offset);
        broker.disk.high_watermark = broker.disk.high_watermark.min(end_offset);
        let (log_end, last_epoch) = (broker.disk.end(), broker.disk.last_epoch());
        let Role::Follower(role) = &mut broker.role else { return };
        let mut effects = Vec::new();
        role.follower.truncated(0, log_end, last_epoch, &mut effects);
        self.carry_out_following(id, effects, &[], false);
    }
}

impl Fetch {
    fn voice(&self) -> FollowerVoice {
        let Fetch { from: broker, broker_epoch, leader_epoch, connection, .. } = *self;
        FollowerVoice { broker, broker_epoch, leader_epoch, connection }
    }
}

impl Flushed {
    fn voice(&self) -> FollowerVoice {
        let Flushed { from: broker, broker_epoch, leader_epoch, connection, .. } = *self;
        FollowerVoice { broker, broker_epoch, leader_epoch, connection }
    }
}
