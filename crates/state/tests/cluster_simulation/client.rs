//! Producers that retry what they may retry, and a consumer that reads anywhere.

use std::collections::VecDeque;

use capek_wire::ErrorCode;

use crate::broker::Role;
use crate::disk::Batch;
use crate::messages::{Event, Line, Message};
use crate::random::Random;
use crate::world::World;

const CLIENT_TIMEOUT_MS: i64 = 1_000;
const IN_FLIGHT_MAX: usize = 4;
const READER: i32 = 200;
/// Of producers that begin anew.
pub const PRODUCER_ID_FIRST: i64 = 1_000;

pub struct Producer {
    node: i32,
    acks: i16,
    is_idempotent: bool,
    producer_id: i64,
    next_sequence: i32,
    /// In the order of their sequences.
    waiting: VecDeque<Operation>,
    connection: u64,
    leader: Option<i32>,
    /// New whenever something was answered or sent again: a time-out is about one of them.
    attempt: u64,
}

struct Operation {
    batch: Batch,
    /// What was acknowledged before it was asked for ends here.
    floor: i64,
    /// It may be in a log.
    is_uncertain: bool,
}

#[derive(Default)]
pub struct Reader {
    position: i64,
    pub read_count: u64,
}

impl Producer {
    pub fn all(random: &mut Random) -> Vec<Producer> {
        let kinds = [(-1, true), (-1, true), (-1, false), (1, true), (1, false), (0, false)];
        let count = 2 + random.below(5) as usize;
        let producer = |(index, (acks, is_idempotent)): (usize, &(i16, bool))| Producer {
            node: 100 + index as i32,
            acks: *acks,
            is_idempotent: *is_idempotent,
            producer_id: 100 + index as i64,
            next_sequence: 0,
            waiting: VecDeque::new(),
            connection: 0,
            leader: None,
            attempt: 0,
        };
        kinds.iter().take(count).enumerate().map(producer).collect()
    }

    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }
}

impl World {
    pub fn client(&mut self, client: usize) {
        let pause_ms = self.random.between(4, 80);
        self.after(pause_ms, Event::Client(client));
        if self.producers[client].leader.is_none() {
            return self.connect(client);
        }
        if self.producers[client].waiting.len() >= IN_FLIGHT_MAX {
            return;
        }
        let (value, record_count, floor) = (self.number(), 1 + self.random.below(3) as i32, self.checker.acked_end);
        let producer = &mut self.producers[client];
        let mut batch = Batch { base_offset: 0, record_count, epoch: -1, value, producer: -1, sequence: -1 };
        if producer.is_idempotent {
            batch.producer = producer.producer_id;
            batch.sequence = producer.next_sequence;
            producer.next_sequence += record_count;
        }
        if producer.acks != 0 {
            producer.waiting.push_back(Operation { batch, floor, is_uncertain: false });
        }
        self.ask(client, vec![batch]);
    }

    fn ask(&mut self, client: usize, batches: Vec<Batch>) {
        let producer = &self.producers[client];
        let Some(leader) = producer.leader else { return };
        let to_life = self.brokers[(leader - 1) as usize].life;
        let (acks, attempt) = (producer.acks, producer.attempt);
        let line = Line { from: producer.node, to: leader, connection: producer.connection, to_life };
        self.send(line, Message::Produce { acks, batches });
        if acks != 0 {
            self.after(CLIENT_TIMEOUT_MS, Event::ClientTimedOut { client, attempt });
        }
    }

    /// Asks any broker who leads, and sends again over a new connection what was not answered.
    fn connect(&mut self, client: usize) {
        let asked = self.random.below(self.brokers.len() as u64) as usize;
        let broker = &self.brokers[asked];
        let leader = self.controller.images[broker.version].partition.leader;
        let leader = (broker.is_up && leader >= 0).then_some(leader);
        let (connection, attempt) = (self.number(), self.number());
        let producer = &mut self.producers[client];
        producer.connection = connection;
        producer.attempt = attempt;
        producer.leader = leader;
        let batches: Vec<Batch> = producer.waiting.iter().map(|operation| operation.batch).collect();
        if !batches.is_empty() {
            self.ask(client, batches);
        }
    }

    pub fn produced(&mut self, line: Line, value: u64, error: ErrorCode, base_offset: i64) {
        let client = (line.to - 100) as usize;
        let producer = &mut self.producers[client];
        if producer.connection != line.connection {
            return;
        }
        let Some(place) = producer.waiting.iter().position(|operation| operation.batch.value == value) else { return };
        let (batch, node) = (producer.waiting[place].batch, producer.node);
        self.note(|| format!("client {node} is told {error:?} of {batch:?}"));
        let producer = &mut self.producers[client];
        let is_definite = error == ErrorCode::NotLeaderOrFollower || error == ErrorCode::NotEnoughReplicas;
        if error == ErrorCode::None {
            let (acks, operation) = (producer.acks, producer.waiting.remove(place).expect("it was just found"));
            if acks == -1 {
                self.checker.acks(value, base_offset, operation.floor);
            }
            return;
        }
        if is_definite {
            self.checker.counts.refused += 1;
        } else {
            self.checker.counts.unknown += 1;
            producer.waiting[place].is_uncertain = true;
        }
        if error == ErrorCode::OutOfOrderSequenceNumber && place == 0 {
            return self.begin_anew(client);
        }
        if !producer.is_idempotent {
            // Sent once only: what becomes of it is known, or not.
            let operation = producer.waiting.remove(place).expect("it was just found");
            if is_definite && !operation.is_uncertain {
                self.checker.failed.insert(value);
            }
        }
        self.lose_connection(client);
    }

    pub fn client_timed_out(&mut self, client: usize, attempt: u64) {
        let producer = &self.producers[client];
        if producer.attempt == attempt && producer.has_waiting() {
            self.lose_connection(client);
        }
    }

    /// What came before is lost (acks=1), or was refused while what came after it was taken (a broker that does not know whether
    /// a producer is new takes any sequence): nothing can be added in its order. With another producer id the client goes on.
    fn begin_anew(&mut self, client: usize) {
        let producer_id = PRODUCER_ID_FIRST + self.number() as i64;
        let producer = &mut self.producers[client];
        producer.waiting.clear();
        producer.producer_id = producer_id;
        producer.next_sequence = 0;
        self.lose_connection(client);
    }

    /// What was not answered may be in a log; without idempotence it is not sent again.
    fn lose_connection(&mut self, client: usize) {
        let connection = self.number();
        let producer = &mut self.producers[client];
        producer.connection = connection;
        producer.leader = None;
        producer.attempt = 0;
        producer.waiting.iter_mut().for_each(|operation| operation.is_uncertain = true);
        if !producer.is_idempotent {
            producer.waiting.clear();
        }
    }

    pub fn reader(&mut self) {
        let pause_ms = self.random.between(5, 60);
        self.after(pause_ms, Event::Reader);
        let to = 1 + self.random.below(self.brokers.len() as u64) as i32;
        let (connection, to_life, offset) = (self.number(), self.broker(to).life, self.reader.position);
        let line = Line { from: READER, to, connection, to_life };
        let message = if self.random.one_in(4) { Message::ListLatest } else { Message::Read { offset } };
        self.send(line, message);
    }

    /// Leaders show what is committed, followers what they know to be.
    pub fn read(&mut self, line: Line, offset: i64) {
        let broker = self.broker(line.to);
        let high_watermark = match &broker.role {
            Role::None => None,
            Role::Leader(role) => Some(role.leader.high_watermark()),
            Role::Follower(role) => role.follower.agrees().then(|| role.follower.high_watermark()),
        };
        let mut batches = broker.disk.from(offset, 20);
        batches.retain(|batch| high_watermark.is_some_and(|end| batch.end_offset() <= end));
        let error = if high_watermark.is_some() { ErrorCode::None } else { ErrorCode::NotLeaderOrFollower };
        self.checker.reads(line.to, &batches);
        self.reply(line, Message::ReadAnswer { error, batches });
    }

    pub fn read_answered(&mut self, _: Line, error: ErrorCode, batches: &[Batch]) {
        let next =
            batches.first().filter(|first| error == ErrorCode::None && first.base_offset == self.reader.position);
        if next.is_some() {
            self.reader.position = batches.last().map_or(self.reader.position, Batch::end_offset);
            self.reader.read_count += batches.len() as u64;
        }
    }

    pub fn list_latest(&mut self, line: Line) {
        let Role::Leader(role) = &self.broker(line.to).role else { return };
        if role.leader.knows_committed_end() {
            let (epoch, end_offset) = (role.leader.epoch(), role.leader.high_watermark());
            self.checker.lists(epoch, end_offset);
        }
    }
}
