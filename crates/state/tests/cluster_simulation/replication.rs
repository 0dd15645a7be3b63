//! Leader and followers at work: the effects of the state machines carried out, as the actors carry them out.

use capek_state::partition::{
    AdmitContext, Admitted, Asking, Divergence, Effect, Fate, Fetched, FollowerEffect, FollowerReport, FollowerVoice,
    ReplyId, Wait,
};
use capek_wire::ErrorCode;

use crate::broker::{LeaderRole, Parked, ParkedFetch, Proposal, Role};
use crate::controller::Alter;
use crate::disk::{Batch, fetched_records};
use crate::messages::{Answer, Event, Line, Message, ToController};
use crate::world::{LAG_MAX_MS, World};

const FETCH_BATCHES_MAX: usize = 8;
const FETCH_WAIT_MS: i64 = 120;
const FETCH_TIMEOUT_MS: i64 = 500;
const REQUEST_TIMEOUT_MS: i64 = 1_500;

impl World {
    // The journal.

    pub fn begin_sync(&mut self, id: i32) {
        let now_ms = self.now_ms;
        let mut sync_ms = self.random.between(0, 6);
        let broker = self.broker(id);
        if broker.syncing.is_some() || broker.disk.flushed == broker.disk.end() {
            return;
        }
        sync_ms += (broker.slow_disk_until_ms - now_ms).max(0);
        broker.syncing = Some(broker.disk.end());
        let life = broker.life;
        self.after(sync_ms, Event::Synced { broker: id, life });
    }

    pub fn synced(&mut self, id: i32) {
        let broker = self.broker(id);
        let Some(end_offset) = broker.syncing.take() else { return };
        let end_offset = end_offset.min(broker.disk.end());
        broker.disk.flushed = broker.disk.flushed.max(end_offset);
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
                self.carry_out_following(id, effects, &[]);
            }
        }
        self.begin_sync(id);
    }

    pub fn cut_disk(&mut self, id: i32, end_offset: i64) {
        self.checker.counts.truncations += 1;
        self.note(|| format!("broker {id} cuts its log to {end_offset}"));
        let broker = &mut self.brokers[(id - 1) as usize];
        self.checker.cuts(id, &broker.disk, end_offset);
        broker.disk.truncate(end_offset);
        let end_offset = broker.disk.end();
        broker.disk.high_watermark = broker.disk.high_watermark.min(end_offset);
        broker.syncing = broker.syncing.map(|end| end.min(end_offset));
    }

    pub fn cut(&mut self, id: i32, role_number: u64) {
        if self.broker(id).role_number != role_number {
            return;
        }
        let Role::Follower(role) = &mut self.broker(id).role else { return };
        let Some(end_offset) = role.cut.take() else { return };
        self.cut_disk(id, end_offset);
        let broker = self.broker(id);
        let (log_end, last_epoch) = (broker.disk.end(), broker.disk.last_epoch());
        let Role::Follower(role) = &mut broker.role else { return };
        let mut effects = Vec::new();
        role.follower.truncated(0, log_end, last_epoch, &mut effects);
        self.carry_out_following(id, effects, &[]);
    }

    // The leader.

    pub fn produce(&mut self, line: Line, acks: i16, mut batch: Batch) {
        let now_ms = self.now_ms;
        let id = line.to;
        let reply = ReplyId(self.number());
        let broker = self.broker(id);
        let (life, value) = (broker.life, batch.value);
        let answer = |error, base_offset| Message::Produced { value, error, base_offset };
        let Role::Leader(role) = &mut broker.role else {
            return self.reply(line, answer(ErrorCode::NotLeaderOrFollower, -1));
        };
        let context = AdmitContext { now_ms, config: &role.config, acks, accepts_zstd: true };
        let (base_offset, end_offset) = match role.leader.admit(&batch.header(), &context) {
            Err(refusal) => return self.reply(line, answer(refusal.code, -1)),
            Ok(Admitted::Duplicate { base_offset, end_offset, .. }) => (base_offset, end_offset),
            Ok(Admitted::Append { base_offset, end_offset }) => {
                role.leader.submitted(now_ms);
                batch.base_offset = base_offset;
                batch.epoch = role.leader.epoch();
                assert_eq!((base_offset, end_offset), (broker.disk.end(), batch.end_offset()));
                self.checker.appends(batch.epoch, id, life);
                self.broker(id).disk.batches.push(batch);
                (base_offset, end_offset)
            }
        };
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        if acks != 0 {
            let wait = if acks == 1 { Wait::Flushed } else { Wait::Committed };
            if role.leader.park(end_offset, reply, wait) {
                role.parked.insert(reply, Parked { line, value, base_offset, end_offset });
                self.after(REQUEST_TIMEOUT_MS, Event::RequestTimedOut { broker: id, life, reply: reply.0 });
            } else {
                self.reply(line, answer(ErrorCode::None, base_offset));
            }
        }
        self.begin_sync(id);
        self.answer_fetches(id);
    }

    pub fn request_timed_out(&mut self, id: i32, reply: u64) {
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let Some(parked) = role.parked.remove(&ReplyId(reply)) else { return };
        assert!(role.leader.unpark(parked.end_offset, ReplyId(reply)));
        let (error, base_offset) = (ErrorCode::RequestTimedOut, parked.base_offset);
        self.reply(parked.line, Message::Produced { value: parked.value, error, base_offset });
    }

    pub fn carry_out(&mut self, id: i32, effects: Vec<Effect>) {
        let now_ms = self.now_ms;
        for effect in effects {
            match effect {
                Effect::AdvanceHighWatermark(high_watermark) => {
                    let disk = self.broker(id).disk.clone();
                    self.checker.commits(id, &disk, high_watermark);
                }
                Effect::Reply(reply) => {
                    let Role::Leader(role) = &mut self.broker(id).role else { return };
                    let parked = role.parked.remove(&reply).expect("only parked replies are answered");
                    let (value, base_offset) = (parked.value, parked.base_offset);
                    self.reply(parked.line, Message::Produced { value, error: ErrorCode::None, base_offset });
                }
                Effect::Refuse(reply, error) => {
                    let Role::Leader(role) = &mut self.broker(id).role else { return };
                    let parked = role.parked.remove(&reply).expect("only parked replies are answered");
                    self.reply(parked.line, Message::Produced { value: parked.value, error, base_offset: -1 });
                }
                Effect::ProposeInSync { members, partition_epoch } => {
                    let version = self.broker(id).version;
                    let image = self.controller.images[version].clone();
                    let broker = self.broker(id);
                    let broker_epoch = broker.epoch.expect("a leader is registered");
                    let Role::Leader(role) = &mut broker.role else { return };
                    let leader_epoch = role.leader.epoch();
                    let alter = image.alter((id, broker_epoch), leader_epoch, members, partition_epoch);
                    role.proposed = alter.isr.clone();
                    let mut asking = Asking::default();
                    asking.ask();
                    role.proposal = Some(Proposal { alter: alter.clone(), sent_ms: now_ms, asking });
                    self.tell_controller(id, ToController::Alter(alter));
                }
            }
        }
        self.answer_fetches(id);
    }

    /// What was done comes by an image; what was refused for certain is taken back.
    pub fn altered(&mut self, id: i32, alter: &Alter, error: ErrorCode) {
        let now_ms = self.now_ms;
        if error == ErrorCode::None {
            self.checker.counts.joins += 1;
            return;
        }
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let about = |alter: &Alter| (alter.broker_epoch, alter.leader_epoch, alter.partition_epoch);
        let Some(proposal) = role.proposal.as_mut().filter(|proposal| about(&proposal.alter) == about(alter)) else {
            return;
        };
        if proposal.asking.answered(Err(error)) != Fate::Refused {
            return;
        }
        role.proposal = None;
        let mut effects = Vec::new();
        role.leader.in_sync_refused(alter.partition_epoch, now_ms, &mut effects);
        self.carry_out(id, effects);
    }

    pub fn fetch_asked(&mut self, line: Line, broker_epoch: i64, leader_epoch: i32, (offset, last_epoch): (i64, i32)) {
        let (now_ms, fetch) = (self.now_ms, self.number());
        let broker = self.broker(line.to);
        let (life, role_number) = (broker.life, broker.role_number);
        let error = match &broker.role {
            Role::Leader(role) if role.leader.epoch() == leader_epoch => ErrorCode::None,
            Role::Leader(role) if role.leader.epoch() > leader_epoch => ErrorCode::FencedLeaderEpoch,
            Role::Leader(_) => ErrorCode::UnknownLeaderEpoch,
            _ => ErrorCode::NotLeaderOrFollower,
        };
        let answer = Answer {
            leader_epoch,
            fetch_offset: offset,
            error,
            high_watermark: if let Role::Leader(role) = &broker.role { role.leader.high_watermark() } else { -1 },
            diverging: broker.disk.diverging(offset, last_epoch),
            batches: Vec::new(),
        };
        if error != ErrorCode::None || answer.diverging.is_some() {
            return self.reply(line, Message::Fetched(answer));
        }
        let Role::Leader(role) = &mut broker.role else { return };
        if !role.board.fetched(voice(line, broker_epoch, leader_epoch), offset, now_ms) {
            self.checker.counts.late_words += 1;
            return; // nobody waits for the answer
        }
        role.fetches.insert(line.from, ParkedFetch { line, fetch, offset });
        let parked = Event::ParkedFetch { broker: line.to, life, role: role_number, follower: line.from, fetch };
        self.after(FETCH_WAIT_MS, parked);
        self.read_board(line.to);
    }

    /// The leader is told what its followers have said.
    pub fn read_board(&mut self, id: i32) {
        let now_ms = self.now_ms;
        let Role::Leader(role) = &mut self.broker(id).role else { return };
        let mut effects = Vec::new();
        for (from, report) in role.board.of_epoch(role.leader.epoch()) {
            let FollowerReport { broker_epoch, fetch_offset, flushed_end, fetch_ms, .. } = report;
            role.leader.follower_fetched(from, broker_epoch, fetch_offset, fetch_ms, &mut effects);
            role.leader.follower_flushed(from, broker_epoch, flushed_end, &mut effects);
        }
        role.leader.review_in_sync(LAG_MAX_MS, now_ms, &mut effects);
        self.carry_out(id, effects);
    }

    fn answer_fetches(&mut self, id: i32) {
        let broker = self.broker(id);
        let log_end = broker.disk.end();
        let Role::Leader(role) = &broker.role else { return };
        let high_watermark = role.leader.high_watermark();
        let is_news = |(follower, parked): &(&i32, &ParkedFetch)| {
            parked.offset < log_end || role.told.get(follower).is_none_or(|told| *told < high_watermark)
        };
        let ready: Vec<i32> = role.fetches.iter().filter(is_news).map(|(follower, _)| *follower).collect();
        for follower in ready {
            self.answer_fetch(id, follower);
        }
    }

    pub fn parked_fetch_ends(&mut self, id: i32, role_number: u64, follower: i32, fetch: u64) {
        if self.broker(id).role_number != role_number {
            return;
        }
        let Role::Leader(role) = &self.broker(id).role else { return };
        if role.fetches.get(&follower).is_some_and(|parked| parked.fetch == fetch) {
            self.answer_fetch(id, follower);
        }
    }

    fn answer_fetch(&mut self, id: i32, follower: i32) {
        let broker = self.broker(id);
        let Role::Leader(role) = &mut broker.role else { return };
        let LeaderRole { leader, fetches, told, .. } = &mut **role;
        let Some(parked) = fetches.remove(&follower) else { return };
        let high_watermark = leader.high_watermark();
        told.insert(follower, high_watermark);
        let answer = Answer {
            leader_epoch: leader.epoch(),
            fetch_offset: parked.offset,
            error: ErrorCode::None,
            high_watermark,
            diverging: None,
            batches: broker.disk.from(parked.offset, FETCH_BATCHES_MAX),
        };
        self.reply(parked.line, Message::Fetched(answer));
    }

    pub fn follower_flushed(&mut self, line: Line, broker_epoch: i64, leader_epoch: i32, end_offset: i64) {
        let Role::Leader(role) = &mut self.broker(line.to).role else { return };
        if role.leader.epoch() != leader_epoch {
            return;
        }
        if role.board.flushed(voice(line, broker_epoch, leader_epoch), end_offset) {
            self.read_board(line.to);
        }
    }

    // The follower.

    pub fn fetch(&mut self, id: i32) {
        let fetch = self.number();
        let broker = self.broker(id);
        let (life, role_number) = (broker.life, broker.role_number);
        let broker_epoch = broker.epoch.expect("a follower is registered");
        let Role::Follower(role) = &mut broker.role else { return };
        if role.fetch.is_some() || role.cut.is_some() {
            return;
        }
        role.fetch = Some(fetch);
        let line = Line { from: id, to: role.leader, connection: role.connection, to_life: role.to_life };
        let follower = &role.follower;
        let (leader_epoch, fetch_offset, last_epoch) = (follower.epoch(), follower.log_end(), follower.last_epoch());
        self.send(line, Message::Fetch { broker_epoch, leader_epoch, fetch_offset, last_epoch });
        self.after(FETCH_TIMEOUT_MS, Event::FetchTimedOut { broker: id, life, role: role_number, fetch });
    }

    pub fn fetch_again(&mut self, id: i32, role_number: u64) {
        if self.broker(id).role_number == role_number {
            self.fetch(id);
        }
    }

    pub fn fetch_timed_out(&mut self, id: i32, role_number: u64, fetch: u64) {
        let connection = self.number();
        let broker = self.broker(id);
        if broker.role_number != role_number {
            return;
        }
        let Role::Follower(role) = &mut broker.role else { return };
        if role.fetch != Some(fetch) {
            return;
        }
        role.fetch = None;
        role.connection = connection;
        role.follower.reconnected();
        let leader = role.leader;
        let to_life = self.broker(leader).life;
        let Role::Follower(role) = &mut self.broker(id).role else { return };
        role.to_life = to_life;
        self.note(|| format!("broker {id} connects again to {leader}"));
        self.fetch(id);
    }

    pub fn fetch_answered(&mut self, line: Line, answer: Answer) {
        let id = line.to;
        let broker = self.broker(id);
        let Role::Follower(role) = &mut broker.role else { return };
        if role.connection != line.connection {
            return;
        }
        role.fetch = None;
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
        role.follower.fetched(&fetched, &mut effects);
        let is_idle = effects.is_empty();
        self.carry_out_following(id, effects, &answer.batches);
        if is_idle {
            self.fetch(id);
        }
    }

    pub fn carry_out_following(&mut self, id: i32, effects: Vec<FollowerEffect>, batches: &[Batch]) {
        let cut_ms = self.random.between(0, 10);
        for effect in effects {
            let broker = self.broker(id);
            let (life, role_number, broker_epoch) = (broker.life, broker.role_number, broker.epoch);
            let Role::Follower(role) = &mut broker.role else { return };
            match effect {
                FollowerEffect::Append => {
                    broker.disk.batches.extend_from_slice(batches);
                    self.begin_sync(id);
                }
                FollowerEffect::Truncate { end_offset } => {
                    role.cut = Some(end_offset);
                    self.after(cut_ms, Event::Cut { broker: id, life, role: role_number });
                }
                FollowerEffect::ReportFlushed(end_offset) => {
                    let line = Line { from: id, to: role.leader, connection: role.connection, to_life: role.to_life };
                    let leader_epoch = role.follower.epoch();
                    let broker_epoch = broker_epoch.expect("a follower is registered");
                    assert!(end_offset <= broker.disk.flushed, "broker {id} reports what it has not flushed");
                    self.send(line, Message::Flushed { broker_epoch, leader_epoch, end_offset });
                }
                FollowerEffect::Fetch => self.fetch(id),
                FollowerEffect::FetchLater => {
                    self.after(30, Event::FetchAgain { broker: id, life, role: role_number });
                }
                FollowerEffect::Fail(why) => {
                    self.note(|| format!("the follower on broker {id} fails: {why}"));
                    return self.restart_role(id);
                }
                FollowerEffect::AdvanceHighWatermark(high_watermark) => {
                    let mut shown = broker.disk.from(broker.disk.high_watermark, usize::MAX);
                    shown.retain(|batch| batch.end_offset() <= high_watermark);
                    self.checker.reads(id, &shown);
                }
                FollowerEffect::Reset { .. } | FollowerEffect::MoveLogStart { .. } => {
                    panic!("nothing is deleted here: {effect:?}")
                }
            }
        }
    }
}

fn voice(line: Line, broker_epoch: i64, leader_epoch: i32) -> FollowerVoice {
    FollowerVoice { broker: line.from, broker_epoch, leader_epoch, connection: line.connection }
}
