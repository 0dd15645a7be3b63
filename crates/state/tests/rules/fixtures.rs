//! Small makers of the things that the tests talk about.

use std::collections::BTreeMap;

use capek_state::Refusal;
use capek_state::cluster::{Command, CreateTopic, Decision, Image, Record, RegisterBroker, decide};
use capek_state::config::TopicConfig;
use capek_state::partition::{AdmitContext, Leader, LeaderStart, ProducerBatch, ReplicaSet};
use capek_wire::ErrorCode;
use capek_wire::batch::BatchHeader;
use capek_wire::ids::{BrokerId, Uuid};

pub const NOW_MS: i64 = 1_700_000_000_000;

/// The header of a batch without a producer id, as a well-behaved client sends it.
pub fn batch(record_count: i32) -> BatchHeader {
    BatchHeader {
        base_offset: 0,
        batch_length: 49 + 10 * record_count,
        leader_epoch: -1,
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: record_count - 1,
        base_timestamp: NOW_MS,
        max_timestamp: NOW_MS,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        record_count,
    }
}

/// A producer's place: who, in which life, from which sequence on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct From {
    pub producer: i64,
    pub epoch: i16,
    pub sequence: i32,
}

pub fn idempotent(from: From, record_count: i32) -> BatchHeader {
    BatchHeader {
        producer_id: from.producer,
        producer_epoch: from.epoch,
        base_sequence: from.sequence,
        ..batch(record_count)
    }
}

pub fn context(config: &TopicConfig) -> AdmitContext<'_> {
    AdmitContext { now_ms: NOW_MS, config, acks: -1, accepts_zstd: true }
}

pub fn topic_config(overrides: &[(&str, &str)]) -> TopicConfig {
    TopicConfig::resolve(&map(overrides), &|_| None)
}

pub fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// A leader in epoch 7 whose log holds `log_end` records, all committed.
pub fn leader_at(log_end: i64) -> Leader {
    leader_with(log_end, Vec::new())
}

pub fn leader_with(log_end: i64, producers: Vec<ProducerBatch>) -> Leader {
    Leader::new(LeaderStart {
        epoch: 7,
        replicas: ReplicaSet::alone(1),
        proposed: Vec::new(),
        in_sync_min: 1,
        now_ms: 0,
        log_start: 0,
        epoch_start: log_end,
        log_end,
        flushed_end: log_end,
        high_watermark: log_end,
        producers,
    })
}

pub fn uuid(number: u64) -> Uuid {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&number.to_be_bytes());
    Uuid(bytes)
}

/// A cluster of brokers 1 to `count`, none of them fenced.
pub fn cluster(count: BrokerId) -> Image {
    let mut image = Image::default();
    run(&mut image, &Command::CreateCluster { cluster_id: "test-cluster".to_owned() });
    for broker in 1..=count {
        let command = RegisterBroker { broker, incarnation: uuid(broker as u64), ..RegisterBroker::default() };
        run(&mut image, &Command::RegisterBroker(command));
    }
    image
}

/// Decides and applies; the command must not be refused.
pub fn run(image: &mut Image, command: &Command) -> Decision {
    let decision = decide(image, command).unwrap_or_else(|refusal| panic!("{command:?}: {refusal}"));
    apply(image, &decision.records);
    decision
}

pub fn apply(image: &mut Image, records: &[Record]) {
    records.iter().for_each(|record| image.apply(record));
}

pub fn topic(name: &str, partitions: i32, replication_factor: i16) -> CreateTopic {
    let id = name.bytes().fold(1u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte)));
    CreateTopic { name: name.to_owned(), id: uuid(id), partitions, replication_factor, ..CreateTopic::default() }
}

#[track_caller]
pub fn assert_refused<T: std::fmt::Debug>(result: Result<T, Refusal>, code: ErrorCode, message: &str) {
    let refusal = result.expect_err("it should have been refused");
    assert_eq!((refusal.code, refusal.message.as_deref().unwrap_or_default()), (code, message));
}
