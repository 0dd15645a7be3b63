//! `capek bench consume`: reads every partition from its start to where its end was when the work began.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio::task::JoinSet;

use super::Common;
use super::report::{Report, Watched};
use super::verify::Verifier;
use crate::cli::output::progress;
use crate::cli::{Exit, Failure};
use crate::client::{Client, Consumer, ConsumerOptions};

#[derive(Args)]
pub struct ConsumeBench {
    #[command(flatten)]
    common: Common,
    /// Consumers, each with connections and partitions of its own
    #[arg(long, value_name = "N", default_value_t = 1)]
    connections: usize,
    /// Decode every record and check each producer's sequence, not only checksums and offsets
    #[arg(long)]
    deep: bool,
    /// Stop after this many records
    #[arg(short = 'n', long, value_name = "N")]
    records: Option<u64>,
    /// The most bytes of one answer
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20)]
    fetch_bytes: i32,
    /// The most bytes of one partition in an answer
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 20)]
    partition_bytes: i32,
    /// It is an error if there are not this many records
    #[arg(long, value_name = "N")]
    expect: Option<u64>,
}

pub async fn run(bench: ConsumeBench) -> Result<(), Failure> {
    let client = bench.common.connect.client().await?;
    let bounds = client.offset_bounds(&bench.common.topic).await?;
    let there: i64 = bounds.values().map(|(start, end)| end - start).sum();
    let wanted = bench.records.unwrap_or(u64::MAX);
    let bar = progress((there as u64).min(wanted), "consuming");
    let options = ConsumerOptions {
        max_bytes: bench.fetch_bytes,
        partition_max_bytes: bench.partition_bytes,
        ..ConsumerOptions::default()
    };
    let connections = bench.connections.clamp(1, bounds.len().max(1));
    let watched = Watched::start(bench.common.broker_pid)?;
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..connections {
        let mine = bounds.iter().skip(number).step_by(connections).map(|(partition, bounds)| (*partition, *bounds));
        let reader = Reader {
            client: client.clone(),
            topic: Arc::from(bench.common.topic.as_str()),
            bounds: mine.collect(),
            options: options.clone(),
            records_max: wanted / connections as u64,
        };
        tasks.spawn(reader.read(Verifier::new(bench.deep), bar.clone()));
    }
    let mut verifiers = Vec::new();
    while let Some(joined) = tasks.join_next().await {
        verifiers.push(joined.map_err(|error| Failure::usage(error.to_string()))??);
    }
    let took = started.elapsed();
    bar.finish_and_clear();

    let sum = |of: fn(&Verifier) -> u64| verifiers.iter().map(of).sum::<u64>();
    let (records, bytes, problem_count) = (sum(|one| one.records), sum(|one| one.bytes), sum(|one| one.problem_count));
    let problems: Vec<String> = verifiers.into_iter().flat_map(|verifier| verifier.problems).collect();
    let mut report = Report::default();
    report.set("work", json!("consume"));
    report.throughput("consumed", records, bytes, took);
    if let Some(watched) = watched {
        report.broker(&watched.spent(), bytes);
    }
    let depth = if bench.deep { "checksums, offsets and sequences" } else { "checksums and offsets" };
    report.verified(format!("verified {depth}: {problem_count} problems"), &problems);
    report.print(bench.common.json)?;
    match bench.expect.filter(|expected| *expected != records) {
        Some(expected) => Err(Failure::partial(format!("{records} records where {expected} were expected"))),
        None if problem_count > 0 => Err(Failure::new(Exit::Partial, "what was read is damaged")),
        None => Ok(()),
    }
}

/// Reads the whole topic, every record decoded; with `records` only until there are so many.
pub async fn read_back(client: &Client, topic: &str, records: Option<u64>) -> Result<Verifier, Failure> {
    let bounds = client.offset_bounds(topic).await?;
    let there: i64 = bounds.values().map(|(start, end)| end - start).sum();
    let bar = progress(there as u64, "verifying");
    let reader = Reader {
        client: client.clone(),
        topic: Arc::from(topic),
        bounds,
        options: ConsumerOptions::default(),
        records_max: records.unwrap_or(u64::MAX),
    };
    let verifier = reader.read(Verifier::new(true), bar.clone()).await?;
    bar.finish_and_clear();
    Ok(verifier)
}

/// One consumer and what it shall read.
struct Reader {
    client: Client,
    topic: Arc<str>,
    /// By partition: from where, and to where, exclusive.
    bounds: BTreeMap<i32, (i64, i64)>,
    options: ConsumerOptions,
    records_max: u64,
}

impl Reader {
    async fn read(self, mut verifier: Verifier, bar: ProgressBar) -> Result<Verifier, Failure> {
        /// A broker that sends nothing for so long has lost what it said it has.
        const PATIENCE: Duration = Duration::from_secs(30);
        let mut consumer = Consumer::new(self.client, self.options);
        for (partition, (start, end)) in &self.bounds {
            if start < end {
                consumer.assign(&self.topic, *partition, *start);
            }
        }
        while !consumer.is_done() && verifier.records < self.records_max {
            let polled = tokio::time::timeout(PATIENCE, consumer.poll()).await;
            let polled = polled.map_err(|_| Failure::new(Exit::TimedOut, "nothing came for 30 s"))?;
            for fetched in polled? {
                verifier.take(&fetched, |_| {});
                let end = self.bounds.get(&fetched.partition).map_or(0, |(_, end)| *end);
                if fetched.next_offset >= end {
                    consumer.unassign(&fetched.topic, fetched.partition);
                }
            }
            bar.set_position(verifier.records);
        }
        Ok(verifier)
    }
}
