//! Loads that no stock client makes evenly: many connections with small requests, and end-to-end latency at a fixed rate.
//!
//!     bench-load requests ADDRESS TOPIC PARTITIONS CONNECTIONS IN_FLIGHT RECORD_BYTES SECONDS
//!     bench-load paced    ADDRESS TOPIC PARTITIONS CONNECTIONS RATE RECORD_BYTES SECONDS
//!     bench-load latency  ADDRESS TOPIC RATE RECORD_BYTES SECONDS
//!     bench-load joins    ADDRESS MEMBERS SPACING_MS HEARTBEAT_MS
//!     bench-load heartbeats ADDRESS GROUPS MEMBERS SECONDS BROKER_PID
//!     bench-load commits  ADDRESS TOPIC RATE SECONDS
//!     bench-load offsets  ADDRESS TOPIC PARTITIONS GROUPS    (each group commits each partition)
//!     bench-load reload   ADDRESS TOPIC PARTITIONS GROUPS    (until the broker knows them)
//!     bench-load sockets  ADDRESS HTTP_ADDRESS TOPIC PARTITIONS LIVE STALLED RATE RECORD_BYTES SECONDS BROKER_PID
//!     bench-load stream   ADDRESS HTTP_ADDRESS CLUSTER_ID TOPIC RECORDS RATE SECONDS BROKER_PID
//!     bench-load hostile  ADDRESS RATE                       (connections a second that mean harm, until it is ended)
//!     bench-load create   ADDRESS TOPIC PARTITIONS
//!     bench-load speed    SECONDS                            (of the machine alone: how much of the time it is slowed)
//!
//! It prints one line of JSON. It speaks any Kafka broker's protocol in old versions, by hand: see `frames.rs`.

#![allow(clippy::print_stdout, clippy::print_stderr)] // a program for developers

mod frames;
mod group_frames;
mod groups;
mod hostile;
mod latency;
mod offsets;
mod paced;
mod requests;
mod sockets;
mod speed;
mod stream;

use std::io;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    // One thread: the load shares the machine with what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match arguments.as_slice() {
        ["requests", address, topic, partitions, connections, in_flight, record_bytes, seconds] => {
            let load = requests::Load {
                address: address.to_string(),
                topic: topic.to_string(),
                partitions: number(partitions)?,
                connections: number(connections)?,
                in_flight: number(in_flight)?,
                record_bytes: number(record_bytes)?,
                seconds: number(seconds)?,
            };
            runtime.block_on(requests::run(load))
        }
        ["paced", address, topic, partitions, connections, rate, record_bytes, seconds] => {
            let load = requests::Load {
                address: address.to_string(),
                topic: topic.to_string(),
                partitions: number(partitions)?,
                connections: number(connections)?,
                in_flight: 1,
                record_bytes: number(record_bytes)?,
                seconds: number(seconds)?,
            };
            runtime.block_on(paced::run(load, number(rate)?))
        }
        ["latency", address, topic, rate, record_bytes, seconds] => {
            let load = latency::Load {
                address: address.to_string(),
                topic: topic.to_string(),
                rate: number(rate)?,
                record_bytes: number(record_bytes)?,
                seconds: number(seconds)?,
            };
            runtime.block_on(latency::run(load))
        }
        ["joins", address, members, spacing_ms, heartbeat_ms] => {
            let load = groups::JoinLoad {
                address: address.to_string(),
                members: number(members)?,
                spacing: Duration::from_millis(number(spacing_ms)?),
                heartbeat: Duration::from_millis(number(heartbeat_ms)?),
            };
            runtime.block_on(groups::join(load))
        }
        ["heartbeats", address, groups, members, seconds, broker_pid] => {
            let load = groups::HeartbeatLoad {
                address: address.to_string(),
                groups: number(groups)?,
                members: number(members)?,
                seconds: number(seconds)?,
                broker_pid: number(broker_pid)?,
            };
            runtime.block_on(groups::heartbeats(load))
        }
        ["commits", address, topic, rate, seconds] => {
            let load = groups::CommitLoad {
                address: address.to_string(),
                topic: topic.to_string(),
                rate: number(rate)?,
                seconds: number(seconds)?,
            };
            runtime.block_on(groups::commits(load))
        }
        ["offsets", address, topic, partitions, groups] => {
            runtime.block_on(offsets_load(address, topic, partitions, groups)?.commit())
        }
        ["reload", address, topic, partitions, groups] => {
            runtime.block_on(offsets_load(address, topic, partitions, groups)?.reload())
        }
        ["sockets", kafka, http, topic, partitions, live, stalled, rate, record_bytes, seconds, broker_pid] => {
            let load = sockets::Load {
                kafka: kafka.to_string(),
                http: http.to_string(),
                topic: topic.to_string(),
                partitions: number(partitions)?,
                live: number(live)?,
                stalled: number(stalled)?,
                rate: number(rate)?,
                record_bytes: number(record_bytes)?,
                seconds: number(seconds)?,
                broker_pid: number(broker_pid)?,
            };
            runtime.block_on(sockets::run(load))
        }
        ["stream", kafka, http, cluster, topic, records, rate, seconds, broker_pid] => {
            let load = stream::Load {
                kafka: kafka.to_string(),
                http: http.to_string(),
                cluster: cluster.to_string(),
                topic: topic.to_string(),
                records: number(records)?,
                rate: number(rate)?,
                seconds: number(seconds)?,
                broker_pid: number(broker_pid)?,
            };
            runtime.block_on(stream::run(load))
        }
        ["hostile", address, rate] => hostile::run(address, number(rate)?),
        ["speed", seconds] => speed::run(number(seconds)?),
        ["create", address, topic, partitions] => {
            runtime.block_on(frames::create_topic(address, topic, number(partitions)?))
        }
        _ => {
            eprintln!("usage: see the head of bench/null-broker/src/bin/load/main.rs");
            Err(io::ErrorKind::InvalidInput.into())
        }
    }
}

fn offsets_load(address: &str, topic: &str, partitions: &str, groups: &str) -> io::Result<offsets::OffsetsLoad> {
    Ok(offsets::OffsetsLoad {
        address: address.to_string(),
        topic: topic.to_string(),
        partitions: number(partitions)?,
        groups: number(groups)?,
    })
}

fn number<N: FromStr>(text: &str) -> io::Result<N> {
    text.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, format!("not a number: {text}")))
}

/// Microseconds up to a minute, three digits.
fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are valid")
}

fn percentiles(histogram: &Histogram<u64>) -> String {
    let at = |quantile| histogram.value_at_quantile(quantile);
    format!(
        "\"p50_us\": {}, \"p99_us\": {}, \"p999_us\": {}, \"max_us\": {}",
        at(0.5),
        at(0.99),
        at(0.999),
        histogram.max()
    )
}
