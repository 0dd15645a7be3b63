//! `capek bench e2e`: records leave at a fixed rate, one a request; the latency of each is from when it should have left to
//! when a consumer has it. A broker that stalls is charged for all that should have been sent meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::report::{Latencies, Report, Watched};
use super::verify::Verifier;
use super::{BenchProducer, Common, STAMP_BYTES, Sending, new_run_id, prepare_topic};
use crate::cli::offsets::parse_duration;
use crate::cli::output::progress;
use crate::cli::{Exit, Failure};
use crate::client::{Client, Consumer, ConsumerOptions, ProduceCall, read_produced, send_produce};

#[derive(Args)]
pub struct E2eBench {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    sending: Sending,
    /// Records a second, all producers together
    #[arg(long, value_name = "N", default_value_t = 1000)]
    rate: u64,
    /// How long to send
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    duration: Duration,
    /// How much of the beginning is not measured
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_duration)]
    warmup: Duration,
}

/// After the last record was sent: what has not come by then is lost.
const PATIENCE: Duration = Duration::from_secs(10);
const IN_FLIGHT_MAX: usize = 10_000;

pub async fn run(bench: E2eBench) -> Result<(), Failure> {
    let sending = &bench.sending;
    if sending.record_size < STAMP_BYTES {
        return Err(Failure::usage(format!("a record must be at least {STAMP_BYTES} bytes")));
    }
    if bench.rate == 0 {
        return Err(Failure::usage("the rate must be above 0"));
    }
    let client = bench.common.connect.client_with(|options| options.connection.in_flight_max = IN_FLIGHT_MAX).await?;
    let leaders = prepare_topic(&client, &bench.common.topic, sending).await?;
    let (run_id, began) = (new_run_id(), Instant::now());
    let mut producers = Vec::new();
    for number in 0..sending.producers.clamp(1, usize::from(u16::MAX)) {
        producers
            .push(BenchProducer::open(&client, &bench.common, sending, number as u16, run_id, &leaders, began).await?);
    }
    let total = ((bench.warmup + bench.duration).as_secs_f64() * bench.rate as f64) as u64;
    let (received_sender, mut received) = mpsc::channel(1000);
    let reader = tokio::spawn(receive(client, bench.common.topic.clone(), run_id, began, received_sender));
    // The consumer is waiting at the broker before the first record leaves.
    tokio::time::sleep(Duration::from_millis(300)).await;

    let bar = progress(total, "sending");
    let watched = Watched::start(bench.common.broker_pid)?;
    let first_at = Instant::now() + Duration::from_millis(50);
    let mut senders = send_all(producers, total, bench.rate, first_at);
    let mut latencies = Latencies::new();
    let mut count = 0;
    let measured_from = first_at + bench.warmup;
    let deadline = first_at + bench.warmup + bench.duration + PATIENCE;
    while count < total {
        tokio::select! {
            arrived = received.recv() => match arrived {
                Some(arrivals) => {
                    for Arrival { intended, latency } in arrivals {
                        count += 1;
                        if intended >= measured_from {
                            latencies.record(latency);
                        }
                    }
                    bar.set_position(count);
                }
                None => break,
            },
            Some(joined) = senders.join_next() => joined.map_err(|error| Failure::usage(error.to_string()))??,
            () = tokio::time::sleep_until(deadline.into()) => break,
        }
    }
    bar.finish_and_clear();
    let took = first_at.elapsed();
    if count < total && reader.is_finished() {
        reader.await.map_err(|error| Failure::usage(error.to_string()))??;
        return Err(Failure::partial("the consumer stopped early"));
    }

    let mut report = Report::default();
    report.set("work", json!("e2e"));
    report.set("rate", json!(bench.rate));
    report.throughput("passed through", count, count * sending.record_size as u64, took);
    report.latency("end-to-end", &latencies);
    if let Some(watched) = watched {
        report.broker(&watched.spent(), count * sending.record_size as u64);
    }
    report.print(bench.common.json)?;
    match count == total {
        true => Ok(()),
        false => Err(Failure::new(Exit::Partial, format!("{} of {total} records did not arrive", total - count))),
    }
}

/// A record that came, with the time when it should have been sent.
struct Arrival {
    intended: Instant,
    latency: Duration,
}

/// Spreads the records over the producers, each at its time.
fn send_all(producers: Vec<BenchProducer>, total: u64, rate: u64, first_at: Instant) -> JoinSet<Result<(), Failure>> {
    let count = producers.len() as u64;
    let mut tasks = JoinSet::new();
    let mut queues = Vec::new();
    for producer in producers {
        let (queue, due) = mpsc::channel(IN_FLIGHT_MAX);
        queues.push(queue);
        tasks.spawn(send_due(producer, due));
    }
    // The runtime's timers tick in milliseconds: a thread that sleeps is far more exact.
    std::thread::spawn(move || {
        for number in 0..total {
            let intended = first_at + Duration::from_nanos((number as u128 * 1_000_000_000 / u128::from(rate)) as u64);
            std::thread::sleep(intended.saturating_duration_since(Instant::now()));
            if queues[(number % count) as usize].blocking_send(intended).is_err() {
                return;
            }
        }
    });
    tasks
}

async fn send_due(mut producer: BenchProducer, mut due: mpsc::Receiver<Instant>) -> Result<(), Failure> {
    const TIMEOUT: Duration = Duration::from_secs(30);
    let mut turn = usize::from(producer.number);
    let mut answers = JoinSet::new();
    while let Some(intended) = due.recv().await {
        let index = turn % producer.partitions.len();
        turn += 1;
        let records = producer.batch(index, 1, intended);
        let (partition, connection, _) = &producer.partitions[index];
        let call = ProduceCall {
            topic: &producer.topic,
            topic_id: producer.topic_id,
            partition: *partition,
            records,
            acks: producer.acks,
            timeout: TIMEOUT,
        };
        if let Some(answer) = send_produce(connection, call).await? {
            answers.spawn(async move { read_produced("the broker", "Produce", answer.get().await?) });
        }
        while let Some(answered) = answers.try_join_next() {
            answered.map_err(|error| Failure::usage(error.to_string()))??;
        }
    }
    while let Some(answered) = answers.join_next().await {
        answered.map_err(|error| Failure::usage(error.to_string()))??;
    }
    Ok(())
}

/// Reads from the end of every partition on.
async fn receive(
    client: Client,
    topic: String,
    run_id: u32,
    began: Instant,
    sender: mpsc::Sender<Vec<Arrival>>,
) -> Result<(), Failure> {
    let name: Arc<str> = Arc::from(topic.as_str());
    let mut consumer = Consumer::new(client.clone(), ConsumerOptions::default());
    for (partition, (_, end)) in client.offset_bounds(&topic).await? {
        consumer.assign(&name, partition, end);
    }
    let mut verifier = Verifier::new(true);
    loop {
        let polled = consumer.poll().await?;
        let arrived = Instant::now();
        let mut arrivals = Vec::new();
        for fetched in polled {
            verifier.take(&fetched, |stamp| {
                if stamp.run == run_id {
                    let intended = began + Duration::from_nanos(stamp.time_ns);
                    arrivals.push(Arrival { intended, latency: arrived.saturating_duration_since(intended) });
                }
            });
        }
        if let Some(problem) = verifier.problems.first() {
            return Err(Failure::new(Exit::Partial, problem.clone()));
        }
        if !arrivals.is_empty() && sender.send(arrivals).await.is_err() {
            return Ok(());
        }
    }
}
