//! What a benchmark tells: throughput, percentiles, what the broker spent. As text for people or as one JSON object.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use crate::cli::Failure;
use crate::cli::output::say;

/// Latencies in nanoseconds, to three digits, up to ten minutes.
pub struct Latencies(Histogram<u64>);

impl Latencies {
    pub fn new() -> Latencies {
        const LONGEST_NS: u64 = 600_000_000_000;
        Latencies(
            Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("bounds and digits are within the histogram's own"),
        )
    }

    pub fn record(&mut self, latency: Duration) {
        self.0.saturating_record(latency.as_nanos() as u64);
    }

    pub fn add(&mut self, other: &Latencies) -> Result<(), Failure> {
        self.0.add(&other.0).map_err(|error| Failure::usage(error.to_string()))
    }

    pub fn len(&self) -> u64 {
        self.0.len()
    }

    fn percentiles(&self) -> [(&'static str, Duration); 4] {
        let at = |quantile| Duration::from_nanos(self.0.value_at_quantile(quantile));
        let max = Duration::from_nanos(self.0.max());
        [("p50", at(0.5)), ("p99", at(0.99)), ("p99_9", at(0.999)), ("max", max)]
    }
}

/// What one run found. Every field is one line of text and one or more of JSON.
#[derive(Default)]
pub struct Report {
    lines: Vec<String>,
    json: Map<String, Value>,
}

impl Report {
    pub fn throughput(&mut self, verb: &str, records: u64, bytes: u64, took: Duration) {
        let seconds = took.as_secs_f64().max(1e-9);
        let mebibytes = bytes as f64 / 1_048_576.0;
        let per_second = records as f64 / seconds;
        self.lines.push(format!(
            "{verb} {records} records ({mebibytes:.1} MiB) in {seconds:.2} s: {per_second:.0} records/s, {:.1} MiB/s",
            mebibytes / seconds
        ));
        self.set("records", json!(records));
        self.set("bytes", json!(bytes));
        self.set("seconds", json!(seconds));
        self.set("records_per_second", json!(per_second));
        self.set("mebibytes_per_second", json!(mebibytes / seconds));
    }

    pub fn latency(&mut self, what: &str, latencies: &Latencies) {
        if latencies.len() == 0 {
            return;
        }
        let shown: Vec<String> = latencies
            .percentiles()
            .iter()
            .map(|(name, value)| format!("{} {value:.1?}", name.replace('_', ".")))
            .collect();
        self.lines.push(format!("{what} latency of {}: {}", latencies.len(), shown.join(", ")));
        for (name, value) in latencies.percentiles() {
            self.set(&format!("latency_{name}_us"), json!(value.as_nanos() as f64 / 1000.0));
        }
    }

    pub fn verified(&mut self, text: String, problems: &[String]) {
        self.lines.push(text);
        self.lines.extend(problems.iter().map(|problem| format!("  {problem}")));
        self.set("problems", json!(problems));
    }

    pub fn broker(&mut self, spent: &Spent, bytes: u64) {
        let gibibytes = bytes as f64 / (1u64 << 30) as f64;
        let per_gibibyte = if gibibytes > 0.0 { spent.cpu_seconds / gibibytes } else { 0.0 };
        let peak = spent.peak_bytes as f64 / 1_048_576.0;
        self.lines.push(format!(
            "broker: {:.2} CPU-s, {per_gibibyte:.2} CPU-s/GiB, peak memory {peak:.1} MiB",
            spent.cpu_seconds
        ));
        self.set("broker_cpu_seconds", json!(spent.cpu_seconds));
        self.set("broker_cpu_seconds_per_gib", json!(per_gibibyte));
        self.set("broker_peak_mebibytes", json!(peak));
    }

    pub fn set(&mut self, name: &str, value: Value) {
        self.json.insert(name.to_owned(), value);
    }

    pub fn print(self, as_json: bool) -> Result<(), Failure> {
        if as_json { say(Value::Object(self.json)) } else { say(self.lines.join("\n")) }
    }
}

/// What a process spent between two looks at it.
pub struct Spent {
    pub cpu_seconds: f64,
    pub peak_bytes: u64,
}

/// A process that is watched while the work runs.
pub struct Watched {
    pid: u32,
    ticks: u64,
}

impl Watched {
    pub fn start(pid: Option<u32>) -> Result<Option<Watched>, Failure> {
        let Some(pid) = pid else { return Ok(None) };
        let ticks = cpu_ticks(pid).ok_or_else(|| Failure::not_found(format!("there is no process {pid}")))?;
        Ok(Some(Watched { pid, ticks }))
    }

    pub fn spent(&self) -> Spent {
        let ticks_per_second = rustix::param::clock_ticks_per_second() as f64;
        let ticks = cpu_ticks(self.pid).unwrap_or(self.ticks) - self.ticks;
        Spent { cpu_seconds: ticks as f64 / ticks_per_second, peak_bytes: peak_bytes(self.pid).unwrap_or(0) }
    }
}

/// User and system time: fields 14 and 15 of `stat`, counted behind the name, which may hold blanks.
fn cpu_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

fn peak_bytes(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_come_out_as_they_went_in() {
        let mut latencies = Latencies::new();
        (1..=1000).for_each(|ms| latencies.record(Duration::from_millis(ms)));
        let [(_, p50), (_, p99), _, (_, max)] = latencies.percentiles();
        let near = |found: Duration, ms: f64| (found.as_secs_f64() * 1000.0 - ms).abs() < ms / 100.0;
        assert!(near(p50, 500.0) && near(p99, 990.0) && near(max, 1000.0), "{p50:?} {p99:?} {max:?}");
    }

    #[test]
    fn our_own_process_spends_something() {
        let pid = std::process::id();
        assert!(cpu_ticks(pid).is_some() && peak_bytes(pid).is_some_and(|bytes| bytes > 100_000));
        assert!(Watched::start(Some(u32::MAX)).is_err());
    }
}
