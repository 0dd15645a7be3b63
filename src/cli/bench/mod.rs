//! `capek bench`: drives any Kafka-compatible broker, measures it, and checks that it gives back what it was given.
//!
//! ```text
//! a record's value: magic u16 | producer u16 | run u32 | sequence u64 | time u64 | letters
//! ```
//!
//! The sequence counts from 0 for each producer and partition of a run, so that a reader sees what is missing, doubled or
//! out of order. The time is when the record should have been sent, in nanoseconds since the run began.

mod consume;
mod e2e;
mod produce;
mod report;
mod verify;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use capek_wire::Uuid;
use capek_wire::batch::{BatchBuilder, Codec};
use capek_wire::error_code::ErrorCode;
use clap::{Args, Subcommand};

use super::Failure;
use super::connect::Connect;
use super::produce::{parse_acks, parse_codec};
use crate::client::{Client, ClientError, Connection, NewTopic};

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Send records as fast as the broker confirms them
    Produce(produce::ProduceBench),
    /// Read a topic from its start to its end, as fast as it comes
    Consume(consume::ConsumeBench),
    /// Send at a fixed rate and measure until a consumer has each record
    E2e(e2e::E2eBench),
}

/// What all kinds of work share.
#[derive(Args, Clone, Debug)]
pub struct Common {
    #[command(flatten)]
    connect: Connect,
    #[arg(short, long, default_value = "capek-bench")]
    topic: String,
    /// Print the result as one JSON object
    #[arg(long)]
    json: bool,
    /// Also tell the CPU time and peak memory of this process: the broker, if it runs here
    #[arg(long, value_name = "PID")]
    broker_pid: Option<u32>,
}

/// What the kinds that send share.
#[derive(Args, Clone, Debug)]
pub struct Sending {
    /// Partitions of the topic, if it has to be created
    #[arg(long, value_name = "N", default_value_t = 6)]
    partitions: i32,
    /// Replication factor of the topic, if it has to be created; without it the broker decides
    #[arg(long, value_name = "N", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    replicas: i16,
    /// Bytes of a record's value
    #[arg(long, value_name = "BYTES", default_value_t = 1024)]
    record_size: usize,
    /// Producers, each with a connection of its own
    #[arg(long, visible_alias = "connections", value_name = "N", default_value_t = 4)]
    producers: usize,
    /// Who must have a record before it is confirmed: 0, 1 or all
    #[arg(long, default_value = "all", value_parser = parse_acks, allow_negative_numbers = true)]
    acks: i16,
    /// none, gzip, snappy, lz4 or zstd
    #[arg(long, value_name = "CODEC", default_value = "none", value_parser = parse_codec)]
    codec: Codec,
    /// Give each producer an id, as Java's producers do
    #[arg(long)]
    idempotent: bool,
}

const MAGIC: u16 = 0xcab1;
/// What a value needs to be verified.
const STAMP_BYTES: usize = 24;

pub async fn run(command: BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Produce(bench) => produce::run(bench).await,
        BenchCommand::Consume(bench) => consume::run(bench).await,
        BenchCommand::E2e(bench) => e2e::run(bench).await,
    }
}

/// Who sent a record, which, and when it should have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    run: u32,
    producer: u16,
    sequence: u64,
    time_ns: u64,
}

impl Stamp {
    fn write(&self, value: &mut [u8]) {
        let Some(room) = value.get_mut(..STAMP_BYTES) else { return };
        room[..2].copy_from_slice(&MAGIC.to_be_bytes());
        room[2..4].copy_from_slice(&self.producer.to_be_bytes());
        room[4..8].copy_from_slice(&self.run.to_be_bytes());
        room[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        room[16..].copy_from_slice(&self.time_ns.to_be_bytes());
    }

    fn read(value: &[u8]) -> Option<Stamp> {
        let room: &[u8; STAMP_BYTES] = value.first_chunk()?;
        let number =
            |range: std::ops::Range<usize>| room[range].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        (number(0..2) == u64::from(MAGIC)).then(|| Stamp {
            producer: number(2..4) as u16,
            run: number(4..8) as u32,
            sequence: number(8..16),
            time_ns: number(16..24),
        })
    }
}

/// Different runs on one topic are told apart by this.
fn new_run_id() -> u32 {
    let nanos = jiff::Timestamp::now().as_nanosecond() as u64;
    (nanos ^ (nanos >> 32)) as u32 ^ std::process::id()
}

/// Letters as Kafka's own tool sends: they compress a little, as real text does.
fn letters(size_bytes: usize) -> Vec<u8> {
    let mut state: u32 = 0x2545_f491;
    let mut letter = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'A' + ((state >> 16) % 26) as u8
    };
    (0..size_bytes).map(|_| letter()).collect()
}

/// The topic's id and the leader of each partition; creates the topic if need be.
async fn prepare_topic(client: &Client, topic: &str, sending: &Sending) -> Result<(Uuid, BTreeMap<i32, i32>), Failure> {
    let missing = matches!(client.topic(topic).await, Err(ClientError::NotFound(_)));
    if missing {
        let (partitions, replication_factor) = (sending.partitions, sending.replicas);
        let (configs, assignments) = (Vec::new(), Vec::new());
        let new_topic = NewTopic { name: topic.to_owned(), partitions, replication_factor, configs, assignments };
        for outcome in client.create_topics(&[new_topic], false).await? {
            match outcome.result {
                // Another one has just made it; or this request, whose first answer was lost.
                Err(error) if error.code() == Some(ErrorCode::TopicAlreadyExists) => {}
                result => result?,
            }
        }
        client.wait_for_topic(topic).await?;
        // Batches do not go again here, so that their times are those of one request: until each leader knows that it leads.
        client.offset_bounds(topic).await?;
    }
    let metadata = client.topic(topic).await?;
    Ok((metadata.id, metadata.partitions.iter().map(|(index, partition)| (*index, partition.leader)).collect()))
}

/// One producer: a connection to each leader, and where its sequences stand.
struct BenchProducer {
    number: u16,
    run: u32,
    topic: Arc<str>,
    topic_id: Uuid,
    /// By partition: its number, the way to its leader, the next sequence.
    partitions: Vec<(i32, Connection, u64)>,
    producer_id: Option<(i64, i16)>,
    value: Vec<u8>,
    acks: i16,
    codec: Codec,
    began: Instant,
}

impl BenchProducer {
    async fn open(
        client: &Client,
        common: &Common,
        sending: &Sending,
        number: u16,
        run: u32,
        leaders: &(Uuid, BTreeMap<i32, i32>),
        began: Instant,
    ) -> Result<BenchProducer, Failure> {
        let mut connections: BTreeMap<i32, Connection> = BTreeMap::new();
        let mut partitions = Vec::new();
        for (partition, leader) in &leaders.1 {
            let connection = match connections.get(leader) {
                Some(connection) => connection.clone(),
                None => client.open_broker(*leader).await?,
            };
            connections.insert(*leader, connection.clone());
            partitions.push((*partition, connection, 0));
        }
        let producer_id = if sending.idempotent { Some(client.init_producer_id().await?) } else { None };
        Ok(BenchProducer {
            number,
            run,
            topic: Arc::from(common.topic.as_str()),
            topic_id: leaders.0,
            partitions,
            producer_id,
            value: letters(sending.record_size),
            acks: sending.acks,
            codec: sending.codec,
            began,
        })
    }

    /// A batch of `count` records for the partition at `index`, that should have been sent at `intended`.
    fn batch(&mut self, index: usize, count: usize, intended: Instant) -> Bytes {
        let now_ms = jiff::Timestamp::now().as_millisecond();
        let time_ns = intended.saturating_duration_since(self.began).as_nanos() as u64;
        let next = &mut self.partitions[index].2;
        let mut builder = BatchBuilder::new(self.codec);
        if let Some((id, epoch)) = self.producer_id {
            builder.producer(id, epoch, (*next & i32::MAX as u64) as i32);
        }
        for _ in 0..count {
            Stamp { run: self.run, producer: self.number, sequence: *next, time_ns }.write(&mut self.value);
            builder.push(now_ms, None, Some(&self.value), &[]);
            *next += 1;
        }
        builder.build().expect("a batch with records in it, far below 2 GiB").freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_go_there_and_back() {
        let stamp = Stamp { run: 7, producer: 65535, sequence: 1 << 40, time_ns: 12345 };
        let mut value = letters(30);
        stamp.write(&mut value);
        assert_eq!(Stamp::read(&value), Some(stamp));
        assert_eq!(Stamp::read(&letters(30)), None);
        assert_eq!(Stamp::read(&[]), None);
        stamp.write(&mut [0; 3]);
    }
}
