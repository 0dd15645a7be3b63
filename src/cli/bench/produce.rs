//! `capek bench produce`: N producers, each with requests in flight on a connection of its own.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use capek_wire::messages::ProduceRequest;
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::JoinSet;

use super::report::{Latencies, Report, Watched};
use super::{BenchProducer, Common, STAMP_BYTES, Sending, consume, new_run_id, prepare_topic};
use crate::cli::output::progress;
use crate::cli::{Exit, Failure};
use crate::client::{Answer, ProduceCall, read_produced, send_produce};

#[derive(Args)]
pub struct ProduceBench {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    sending: Sending,
    /// Records in all
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1_000_000)]
    records: u64,
    /// Requests of each producer on their way at once
    #[arg(long, value_name = "N", default_value_t = 5)]
    in_flight: usize,
    /// Records in a request; 1 is a producer that does not linger
    #[arg(long, value_name = "N", conflicts_with = "batch_bytes")]
    batch: Option<usize>,
    /// Records in a request, by their size
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    batch_bytes: usize,
    /// Read everything back and check it
    #[arg(long)]
    verify: bool,
}

#[derive(Default)]
struct Sent {
    records: u64,
    latencies: Option<Latencies>,
}

type Waiting = VecDeque<(Answer<ProduceRequest>, Instant, usize)>;

pub async fn run(bench: ProduceBench) -> Result<(), Failure> {
    let sending = &bench.sending;
    if bench.verify && (sending.record_size < STAMP_BYTES || sending.acks == 0) {
        return Err(Failure::usage(format!(
            "--verify needs records of {STAMP_BYTES} bytes or more, and acks 1 or all"
        )));
    }
    let batch = bench.batch.unwrap_or(bench.batch_bytes / sending.record_size.max(1)).max(1);
    let in_flight = bench.in_flight.max(1);
    let client = bench.common.connect.client_with(|options| options.connection.in_flight_max = in_flight).await?;
    let leaders = prepare_topic(&client, &bench.common.topic, sending).await?;
    let run_id = new_run_id();
    let mut producers = Vec::new();
    for number in 0..sending.producers.clamp(1, usize::from(u16::MAX)) {
        let began = Instant::now();
        producers
            .push(BenchProducer::open(&client, &bench.common, sending, number as u16, run_id, &leaders, began).await?);
    }

    let bar = progress(bench.records, "producing");
    let watched = Watched::start(bench.common.broker_pid)?;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    let count = producers.len() as u64;
    for (number, producer) in producers.into_iter().enumerate() {
        // The first ones take what does not divide.
        let records = bench.records / count + u64::from((number as u64) < bench.records % count);
        tasks.spawn(work(producer, records, batch, in_flight, bar.clone()));
    }
    let mut all = Latencies::new();
    let mut records = 0;
    while let Some(joined) = tasks.join_next().await {
        let sent = joined.map_err(|error| Failure::usage(error.to_string()))??;
        records += sent.records;
        sent.latencies.iter().try_for_each(|latencies| all.add(latencies))?;
    }
    let took = started.elapsed();
    bar.finish_and_clear();

    let bytes = records * sending.record_size as u64;
    let mut report = Report::default();
    report.set("work", json!("produce"));
    report.throughput("produced", records, bytes, took);
    report.latency("request", &all);
    if let Some(watched) = watched {
        report.broker(&watched.spent(), bytes);
    }
    let mut verdict = Ok(());
    if bench.verify {
        let verifier = consume::read_back(&client, &bench.common.topic, None).await?;
        let found = verifier.of_run(run_id);
        let text = format!("read back {found} of {records} records, {} problems", verifier.problem_count);
        report.verified(text, &verifier.problems);
        if found != records || verifier.problem_count > 0 {
            verdict = Err(Failure::new(Exit::Partial, "what was read is not what was confirmed"));
        }
    }
    report.print(bench.common.json)?;
    verdict
}

async fn work(
    mut producer: BenchProducer,
    records: u64,
    batch: usize,
    in_flight: usize,
    bar: ProgressBar,
) -> Result<Sent, Failure> {
    let mut latencies = Latencies::new();
    let mut waiting: Waiting = VecDeque::with_capacity(in_flight);
    let mut left = records;
    // Producers begin on different partitions, so that they do not move over them in step.
    let mut turn = usize::from(producer.number);
    while left > 0 || !waiting.is_empty() {
        while left > 0 && waiting.len() < in_flight {
            let count = (batch as u64).min(left) as usize;
            let index = turn % producer.partitions.len();
            turn += 1;
            left -= count as u64;
            if let Some(answer) = send(&mut producer, index, count).await? {
                waiting.push_back(answer);
            } else {
                bar.inc(count as u64);
            }
        }
        if let Some((answer, sent_at, count)) = waiting.pop_front() {
            let response = answer.get().await?;
            latencies.record(sent_at.elapsed());
            read_produced("the broker", "Produce", response)?;
            bar.inc(count as u64);
        }
    }
    Ok(Sent { records, latencies: Some(latencies) })
}

/// Puts one request on its way.
async fn send(
    producer: &mut BenchProducer,
    index: usize,
    count: usize,
) -> Result<Option<(Answer<ProduceRequest>, Instant, usize)>, Failure> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let records = producer.batch(index, count, Instant::now());
    let (partition, connection, _) = &producer.partitions[index];
    let call = ProduceCall {
        topic: &producer.topic,
        topic_id: producer.topic_id,
        partition: *partition,
        records,
        acks: producer.acks,
        timeout: TIMEOUT,
    };
    let sent_at = Instant::now();
    let answer = send_produce(connection, call).await?;
    Ok(answer.map(|answer| (answer, sent_at, count)))
}
