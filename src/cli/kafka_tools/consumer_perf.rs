//! `kafka-consumer-perf-test`.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::decode::for_each_record;
use super::super::output::say;
use super::ToolError;
use super::admin::BOOTSTRAP;
use super::options::{OptionSpec, Options, flag, value};
use super::properties::{Properties, milliseconds};
use super::topic_filter::TopicFilter;
use crate::client::{
    Client, ConsumerOptions, Fetched, GroupConsumer, GroupConsumerOptions, MemberOptions, OffsetReset,
};

pub const OPTIONS: &[OptionSpec] = &[
    BOOTSTRAP,
    value("command-config", "String: config file", "A property file with configs of the consumer."),
    value("command-property", "String: name=value", "A config of the consumer. May repeat."),
    value("consumer.config", "String: config file", "Deprecated: --command-config."),
    value("date-format", "String: format", "How times are printed: only the default is known."),
    value("fetch-size", "Integer: bytes", "The most bytes of one answer (1048576)."),
    flag("from-latest", "Begin at the end where nothing was committed."),
    value("group", "String: gid", "The group."),
    flag("hide-header", "Leave out the names of the columns."),
    value("include", "String: regex", "All topics that match this regular expression."),
    value("messages", "Long: count", "Deprecated: --num-records."),
    value("num-records", "Long: count", "REQUIRED: How many records are read."),
    value("reporting-interval", "Long: ms", "With --show-detailed-stats: how often a line is printed (5000)."),
    flag("show-detailed-stats", "A line for each interval instead of one at the end."),
    value("socket-buffer-size", "Integer: bytes", "The size of the socket's buffer."),
    value("timeout", "Long: ms", "How long nothing may come (10000)."),
    value("topic", "String: topic", "The topic."),
];

#[derive(Clone, Copy, Default)]
struct Read {
    records: u64,
    bytes: u64,
}

pub async fn run(options: Options) -> Result<(), ToolError> {
    let usage = ToolError::usage;
    if options.given(&["topic", "include"]).len() != 1 {
        return Err(ToolError::usage("Exactly one of the following arguments is required: [topic], [include]"));
    }
    if options.given(&["messages", "num-records"]).len() != 1 {
        return Err(ToolError::usage("Exactly one of the following arguments is required: [messages], [num-records]"));
    }
    options.require(&["bootstrap-server"]).map_err(usage)?;
    if options.has("messages") {
        say("Warning: --messages is deprecated. Use --num-records instead.")?;
    }
    let wanted = options.number::<u64>("num-records").map_err(usage)?;
    let wanted = wanted.or(options.number("messages").map_err(usage)?).unwrap_or(0);
    let timeout = milliseconds(options.number("timeout").map_err(usage)?.unwrap_or(10_000));
    let interval = milliseconds(options.number::<i64>("reporting-interval").map_err(usage)?.unwrap_or(5000).max(1));
    let detailed = options.has("show-detailed-stats");
    if !options.has("hide-header") {
        let times = if detailed { "time, threadId" } else { "start.time, end.time" };
        let columns = "data.consumed.in.MB, MB.sec, data.consumed.in.nMsg, nMsg.sec, rebalance.time.ms, fetch.time.ms, \
                       fetch.MB.sec, fetch.nMsg.sec";
        say(format_args!("{times}, {columns}"))?;
    }
    let (client, mut consumer) = open(&options).await?;
    let mut run = Run::new(detailed.then_some(interval));
    let result = run.read(&mut consumer, wanted, timeout).await;
    consumer.close().await?;
    drop(client);
    result?;
    if run.read.records < wanted {
        say(format_args!(
            "WARNING: Exiting before consuming the expected number of records: timeout ({} ms) exceeded. You can use the \
             --timeout option to increase the timeout.",
            timeout.as_millis()
        ))?;
    }
    if detailed { Ok(()) } else { run.print_total() }
}

async fn open(options: &Options) -> Result<(Client, GroupConsumer), ToolError> {
    let usage = ToolError::usage;
    let mut properties = Properties::default();
    properties.set("client.id", "perf-consumer-client");
    for path in [options.values("consumer.config"), options.values("command-config")].concat() {
        properties.extend(Properties::from_file(path)?);
    }
    properties.extend(Properties::from_pairs(&options.values("command-property"))?);
    let bootstrap = options.value("bootstrap-server").map_err(usage)?.unwrap_or_default();
    let client = properties.connect(bootstrap, |_| {}).await?;
    let seed = jiff::Timestamp::now().subsec_nanosecond() as u32 ^ std::process::id();
    let group = options
        .value("group")
        .map_err(usage)?
        .map_or_else(|| format!("perf-consumer-{}", seed % 100_000), str::to_owned);
    let topics = options.values("topic").into_iter().map(str::to_owned).collect();
    let filter =
        options.value("include").map_err(usage)?.map(TopicFilter::new).transpose().map_err(ToolError::failed)?;
    let fetch_size = options.number::<i32>("fetch-size").map_err(usage)?.unwrap_or(1 << 20).max(1);
    let consumer = ConsumerOptions { partition_max_bytes: fetch_size, ..ConsumerOptions::default() };
    let reset = if options.has("from-latest") { OffsetReset::Latest } else { OffsetReset::Earliest };
    let options = GroupConsumerOptions {
        member: MemberOptions::new(&group, topics),
        consumer,
        reset,
        commit_interval: Some(Duration::from_secs(5)),
        pattern: filter.map(|filter| Box::new(move |name: &str| filter.matches(name)) as _),
    };
    Ok((client.clone(), GroupConsumer::new(client, options)))
}

struct Run {
    interval: Option<Duration>,
    started: Instant,
    started_ms: i64,
    /// Time in which there was nothing to read yet.
    joining: Duration,
    read: Read,
    reported: Read,
    reported_at: Instant,
}

impl Run {
    fn new(interval: Option<Duration>) -> Run {
        let now = Instant::now();
        Run {
            interval,
            started: now,
            started_ms: jiff::Timestamp::now().as_millisecond(),
            joining: Duration::ZERO,
            read: Read::default(),
            reported: Read::default(),
            reported_at: now,
        }
    }

    async fn read(&mut self, consumer: &mut GroupConsumer, wanted: u64, timeout: Duration) -> Result<(), ToolError> {
        let mut last = Instant::now();
        while self.read.records < wanted && last.elapsed() < timeout {
            let began = Instant::now();
            let was_assigned = !consumer.assigned().is_empty();
            for fetched in consumer.poll().await? {
                let before = self.read.records;
                self.read.add(&fetched, wanted)?;
                if self.read.records > before {
                    last = Instant::now();
                }
                consumer.processed(&fetched.topic, fetched.partition, fetched.next_offset);
            }
            if !was_assigned {
                self.joining += began.elapsed();
            }
            if self.interval.is_some_and(|interval| self.reported_at.elapsed() >= interval) {
                self.print_interval()?;
            }
        }
        Ok(())
    }

    fn print_interval(&mut self) -> Result<(), ToolError> {
        let seconds = self.reported_at.elapsed().as_secs_f64();
        let megabytes = megabytes(self.read.bytes - self.reported.bytes);
        let records = self.read.records - self.reported.records;
        let now = shown(jiff::Timestamp::now().as_millisecond());
        let joining = self.joining.as_millis() as u64;
        let (rate, record_rate) = (megabytes / seconds, records as f64 / seconds);
        (self.reported, self.reported_at) = (self.read, Instant::now());
        Ok(say(format_args!(
            "{now}, 0, {:.4}, {rate:.4}, {}, {record_rate:.4}, {joining}, {}, {rate:.4}, {record_rate:.4}",
            self::megabytes(self.read.bytes),
            self.read.records,
            (seconds * 1000.0) as u64,
        ))?)
    }

    fn print_total(&self) -> Result<(), ToolError> {
        let elapsed = self.started.elapsed();
        let fetching = elapsed.saturating_sub(self.joining);
        let (megabytes, records) = (megabytes(self.read.bytes), self.read.records as f64);
        let (seconds, fetch_seconds) = (elapsed.as_secs_f64(), fetching.as_secs_f64().max(0.001));
        Ok(say(format_args!(
            "{}, {}, {megabytes:.4}, {:.4}, {}, {:.4}, {}, {}, {:.4}, {:.4}",
            shown(self.started_ms),
            shown(self.started_ms + elapsed.as_millis() as i64),
            megabytes / seconds,
            self.read.records,
            records / seconds,
            self.joining.as_millis(),
            fetching.as_millis(),
            megabytes / fetch_seconds,
            records / fetch_seconds,
        ))?)
    }
}

impl Read {
    /// Keys and values count, as Kafka counts them, of no more records than are wanted.
    fn add(&mut self, fetched: &Fetched, wanted: u64) -> Result<(), ToolError> {
        let _ = for_each_record(fetched, |_, record| {
            if self.records >= wanted {
                return Ok(ControlFlow::Break(()));
            }
            let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
            self.records += 1;
            self.bytes += length(&record.key) + length(&record.value);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(())
    }
}

fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

fn shown(time_ms: i64) -> String {
    let time = jiff::Timestamp::from_millisecond(time_ms).unwrap_or_default();
    let seconds = jiff::fmt::strtime::format("%Y-%m-%d %H:%M:%S", time).unwrap_or_default();
    format!("{seconds}:{:03}", time_ms.rem_euclid(1000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_behind_a_colon() {
        assert_eq!(shown(1_644_796_800_250), "2022-02-14 00:00:00:250");
    }
}
