//! `kafka-producer-perf-test`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;

use super::super::output::say;
use super::super::produce::Chooser;
use super::ToolError;
use super::options::{OptionSpec, Options, flag, value};
use super::properties::Properties;
use crate::client::{Delivery, Producer, ProducerRecord};

pub const OPTIONS: &[OptionSpec] = &[
    value("bootstrap-server", "BOOTSTRAP-SERVER", "The server(s) to connect to."),
    value("command-config", "CONFIG-FILE", "A property file with configs of the producer."),
    value("command-property", "PROP-NAME=PROP-VALUE", "Configs of the producer; several may follow."),
    value("num-records", "NUM-RECORDS", "REQUIRED: How many records are sent."),
    value("payload-delimiter", "DELIMITER", "What separates records in the payload file (a line's end)."),
    value("payload-file", "PAYLOAD-FILE", "A file with the values of records, of which each is a random one."),
    flag("payload-monotonic", "Values are the numbers from 0 on."),
    value("producer-props", "PROP-NAME=PROP-VALUE", "Deprecated: --command-property."),
    value("producer.config", "CONFIG-FILE", "Deprecated: --command-config."),
    value("record-size", "RECORD-SIZE", "The size of a value, which is random capital letters."),
    value("reporting-interval", "INTERVAL-MS", "How often a line is printed (5000)."),
    value("throughput", "THROUGHPUT", "REQUIRED: At most so many records a second; -1 for as many as can be."),
    value("topic", "TOPIC", "REQUIRED: The topic."),
    value("warmup-records", "WARMUP-RECORDS", "The first records, of which the result is told without."),
];

/// Options after which several values stand, as this tool's parser has them.
const SEVERAL: [&str; 2] = ["--producer-props", "--command-property"];

/// Repeats such an option before each of its values.
pub fn spread(arguments: Vec<String>) -> Vec<String> {
    let mut spread = Vec::new();
    let mut several: Option<String> = None;
    for argument in arguments {
        if argument.starts_with("--") {
            several = SEVERAL.contains(&argument.as_str()).then(|| argument.clone());
            if several.is_some() {
                continue;
            }
            spread.push(argument);
            continue;
        }
        spread.extend(several.clone());
        spread.push(argument);
    }
    spread
}

enum Payload {
    Random { size_bytes: usize, state: u64 },
    Lines { lines: Vec<Bytes>, state: u64 },
    Numbers,
}

pub async fn run(options: Options) -> Result<(), ToolError> {
    let usage = ToolError::usage;
    options.require(&["topic", "num-records", "throughput"]).map_err(usage)?;
    let count = options.number::<u64>("num-records").map_err(usage)?.unwrap_or(0);
    if count == 0 {
        return Err(ToolError::usage("--num-records should be greater than zero"));
    }
    let throughput = options.number::<f64>("throughput").map_err(usage)?.unwrap_or(-1.0);
    let warmup = options.number::<u64>("warmup-records").map_err(usage)?.unwrap_or(0);
    if warmup >= count {
        return Err(ToolError::usage(
            "The value for --warmup-records must be strictly fewer than the number of records in the test",
        ));
    }
    let interval = options.number::<u64>("reporting-interval").map_err(usage)?.unwrap_or(5000);
    let mut payload = payload(&options)?;
    let (bootstrap, properties) = properties(&options)?;
    let producer_options = properties.producer_options()?;
    let client = properties.connect(&bootstrap, |client| client.auto_create_topics = true).await?;
    let topic: Arc<str> = Arc::from(options.value("topic").map_err(usage)?.unwrap_or_default());
    let mut chooser = Chooser::new(&client, &topic, producer_options.batch_bytes_max).await?;
    let (mut producer, deliveries) = Producer::new(client, producer_options).await?;
    let (sent_at, times) = mpsc::unbounded_channel();
    let stats = Stats::new(Duration::from_millis(interval.max(1)), warmup);
    let stats = tokio::spawn(stats.gather(deliveries, times));
    let started = Instant::now();
    for index in 0..count {
        if throughput > 0.0 {
            // Behind the schedule nothing waits.
            tokio::time::sleep_until((started + Duration::from_secs_f64(index as f64 / throughput)).into()).await;
        }
        let value = payload.next(index);
        let record = ProducerRecord { value: Some(value.clone()), ..ProducerRecord::default() };
        let partition = chooser.choose(None, &record)?;
        // Whoever measures has not ended before all is confirmed.
        let _ = sent_at.send(Sent { partition, at: Instant::now(), size_bytes: value.len() });
        producer.send(&topic, partition, record).await?;
    }
    producer.close().await;
    drop(sent_at);
    let stats = stats.await.map_err(|error| ToolError::failed(error.to_string()))??;
    stats.print_total()
}

fn properties(options: &Options) -> Result<(String, Properties), ToolError> {
    let usage = ToolError::usage;
    let mut properties = Properties::default();
    properties.set("client.id", "perf-producer-client");
    properties.set("batch.size", "16384");
    properties.set("linger.ms", "5");
    for (old, new) in [("producer-props", "command-property"), ("producer.config", "command-config")] {
        if options.has(old) {
            let warning = "has been deprecated and will be removed in a future version.";
            say(format_args!("Option --{old} {warning} Use --{new} instead."))?;
        }
    }
    for path in [options.values("producer.config"), options.values("command-config")].concat() {
        properties.extend(Properties::from_file(path)?);
    }
    let pairs = [options.values("producer-props"), options.values("command-property")].concat();
    properties.extend(Properties::from_pairs(&pairs)?);
    let bootstrap = options.value("bootstrap-server").map_err(usage)?.or(properties.get("bootstrap.servers"));
    match bootstrap {
        Some(bootstrap) => Ok((bootstrap.to_owned(), properties.clone())),
        None => Err(ToolError::usage("--bootstrap-server, or bootstrap.servers in the properties, must be given")),
    }
}

fn payload(options: &Options) -> Result<Payload, ToolError> {
    let usage = ToolError::usage;
    let kinds = options.given(&["record-size", "payload-file", "payload-monotonic"]);
    let state = 0;
    match kinds.as_slice() {
        ["record-size"] => {
            let size_bytes = options.number::<usize>("record-size").map_err(usage)?.unwrap_or(0);
            if size_bytes == 0 {
                return Err(ToolError::usage("--record-size should be greater than zero"));
            }
            Ok(Payload::Random { size_bytes, state })
        }
        ["payload-file"] => {
            let path = options.value("payload-file").map_err(usage)?.unwrap_or_default();
            let delimiter = options.value("payload-delimiter").map_err(usage)?.unwrap_or("\n").replace("\\n", "\n");
            let text = std::fs::read_to_string(path).map_err(|error| ToolError::failed(format!("{path}: {error}")))?;
            let lines = text.split(delimiter.as_str()).filter(|line| !line.is_empty());
            let lines: Vec<Bytes> = lines.map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
            match lines.is_empty() {
                true => Err(ToolError::failed(format!("{path} holds no records"))),
                false => Ok(Payload::Lines { lines, state }),
            }
        }
        ["payload-monotonic"] => Ok(Payload::Numbers),
        _ => Err(ToolError::usage("one of the arguments --record-size --payload-file --payload-monotonic is required")),
    }
}

impl Payload {
    fn next(&mut self, index: u64) -> Bytes {
        match self {
            Payload::Numbers => Bytes::from(index.to_string()),
            Payload::Lines { lines, state } => lines[(next_random(state) % lines.len() as u64) as usize].clone(),
            Payload::Random { size_bytes, state } => {
                let letters = (0..*size_bytes).map(|_| b'A' + ((next_random(state) >> 33) % 26) as u8);
                Bytes::from(letters.collect::<Vec<u8>>())
            }
        }
    }
}

/// Good enough for letters that do not compress.
fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state
}

/// A record on its way.
struct Sent {
    partition: i32,
    at: Instant,
    size_bytes: usize,
}

struct Stats {
    interval: Duration,
    warmup: u64,
    seen: u64,
    started: Instant,
    total: Window,
    window: Window,
}

struct Window {
    began: Instant,
    count: u64,
    bytes: u64,
    latency_ms_total: u64,
    latencies_ms: Histogram<u64>,
}

impl Window {
    fn new() -> Window {
        /// An hour is longer than any delivery.
        const LATENCY_MS_MAX: u64 = 3_600_000;
        let latencies_ms = Histogram::new_with_bounds(1, LATENCY_MS_MAX, 3).expect("the bounds are sound");
        Window { began: Instant::now(), count: 0, bytes: 0, latency_ms_total: 0, latencies_ms }
    }

    fn add(&mut self, size_bytes: usize, latency_ms: u64) {
        self.count += 1;
        self.bytes += size_bytes as u64;
        self.latency_ms_total += latency_ms;
        self.latencies_ms.saturating_record(latency_ms);
    }

    /// Records and megabytes a second, mean and greatest latency.
    fn figures(&self, seconds: f64) -> (f64, f64, f64, f64) {
        let rate = self.count as f64 / seconds;
        let megabytes = self.bytes as f64 / seconds / (1024.0 * 1024.0);
        let mean = self.latency_ms_total as f64 / self.count.max(1) as f64;
        (rate, megabytes, mean, self.latencies_ms.max() as f64)
    }
}

impl Stats {
    fn new(interval: Duration, warmup: u64) -> Stats {
        let (total, window) = (Window::new(), Window::new());
        Stats { interval, warmup, seen: 0, started: Instant::now(), total, window }
    }

    /// Deliveries of a partition come in the order in which its records were sent.
    async fn gather(
        mut self,
        mut deliveries: mpsc::Receiver<Delivery>,
        mut times: mpsc::UnboundedReceiver<Sent>,
    ) -> Result<Stats, ToolError> {
        let mut waiting: std::collections::BTreeMap<i32, VecDeque<Sent>> = std::collections::BTreeMap::new();
        while let Some(delivery) = deliveries.recv().await {
            delivery.result?;
            while let Ok(sent) = times.try_recv() {
                waiting.entry(sent.partition).or_default().push_back(sent);
            }
            let now = Instant::now();
            let queue = waiting.entry(delivery.partition).or_default();
            for sent in queue.drain(..delivery.count.min(queue.len())) {
                let latency_ms = now.duration_since(sent.at).as_millis() as u64;
                self.seen += 1;
                if self.seen == self.warmup + 1 {
                    (self.started, self.total) = (now, Window::new());
                }
                self.total.add(sent.size_bytes, latency_ms);
                self.window.add(sent.size_bytes, latency_ms);
            }
            if self.window.began.elapsed() >= self.interval {
                self.print_window()?;
            }
        }
        if self.warmup == 0 {
            self.started = self.total.began;
        }
        Ok(self)
    }

    fn print_window(&mut self) -> Result<(), ToolError> {
        let window = std::mem::replace(&mut self.window, Window::new());
        let (rate, megabytes, mean, max) = window.figures(window.began.elapsed().as_secs_f64());
        let count = window.count;
        Ok(say(format_args!(
            "{count} records sent, {rate:.1} records/sec ({megabytes:.2} MB/sec), {mean:.1} ms avg latency, {max:.1} ms max latency."
        ))?)
    }

    fn print_total(&self) -> Result<(), ToolError> {
        let seconds = self.started.elapsed().as_secs_f64();
        let (rate, megabytes, mean, max) = self.total.figures(seconds);
        let quantile = |fraction: f64| self.total.latencies_ms.value_at_quantile(fraction);
        Ok(say(format_args!(
            "{} records sent, {rate:.6} records/sec ({megabytes:.2} MB/sec), {mean:.2} ms avg latency, {max:.2} ms max latency, \
             {} ms 50th, {} ms 95th, {} ms 99th, {} ms 99.9th.",
            self.total.count,
            quantile(0.5),
            quantile(0.95),
            quantile(0.99),
            quantile(0.999)
        ))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_values_follow_one_option() {
        let words = |text: &str| -> Vec<String> { text.split(' ').map(str::to_owned).collect() };
        assert_eq!(
            spread(words("--topic t --producer-props a=1 b=2 --num-records 3")),
            words("--topic t --producer-props a=1 --producer-props b=2 --num-records 3")
        );
    }

    #[test]
    fn payloads_have_the_size_that_was_asked_for() {
        let mut random = Payload::Random { size_bytes: 10, state: 0 };
        let (first, second) = (random.next(0), random.next(1));
        assert_eq!((first.len(), second.len()), (10, 10));
        assert_ne!(first, second);
        assert!(first.iter().all(u8::is_ascii_uppercase));
        assert_eq!(Payload::Numbers.next(7), "7");
    }
}
