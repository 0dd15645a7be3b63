//! `capek consume`: reads partitions from one place to another and prints what is there.

use std::collections::BTreeMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use capek_wire::batch::{self, Record};
use clap::Args;

use super::connect::Connect;
use super::format::{Format, Shown};
use super::offsets::{self, OffsetRange, Until};
use super::topic::resolve;
use super::{Exit, Failure, record_json};
use crate::client::{Client, Consumer, ConsumerOptions, Fetched};

/// How a range of offsets is written, for the long help.
const OFFSETS_HELP: &str = "\
Offsets (-o):
  start, end       from the beginning (default); only what comes from now on
  :end             what is there now, then stop
  42  42:100  :100 from an offset; up to another, exclusive
  +5  -10          5 after the first; the last 10 of each partition
  @-1h  @-2h:-1h   by time: back from now; a span
  @2026-02-14  @2026-02-14T10:00:00Z:30m  @1700000000000  a day, a time and a length, milliseconds

Format (-f): %t topic, %p partition, %o offset, %k key, %v value (%s too), %K %V (%S) their lengths, %T timestamp,
  %d{strftime[%F %T]}, %h headers, %h{%k=%v;} each header, %H their number, %e leader epoch, %i count;
  {hex} {base64} after a text, {big32} {hex64}… after a number; \\n \\t \\xNN. Or the word jsonl.";

#[derive(Args)]
#[command(after_long_help = OFFSETS_HELP)]
pub struct ConsumeArguments {
    #[arg(required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    /// Where to begin, and perhaps to end: start, end, :end, 42, -10, @-1h, … (see --help)
    #[arg(short, long = "offset", value_name = "OFFSET", allow_hyphen_values = true)]
    offsets: Vec<String>,
    /// Only these partitions
    #[arg(short, long, value_name = "N,N", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Stop after this many records
    #[arg(short, long, value_name = "COUNT")]
    num: Option<u64>,
    /// Stop at the end of each partition
    #[arg(short = 'e', long)]
    exit_at_end: bool,
    /// How a record is printed: tokens like '%k: %v\n', or jsonl (see --help)
    #[arg(short, long, value_name = "FORMAT")]
    format: Option<String>,
    /// The most bytes of one answer
    #[arg(long, value_name = "BYTES", default_value_t = 16 << 20, hide = true)]
    fetch_bytes: i32,
}

/// How records are printed.
enum Printer {
    Value,
    Jsonl,
    Format(Format),
}

/// How far one partition is read.
struct Goal {
    /// Exclusive; None goes on for ever.
    end_offset: Option<i64>,
    /// A time in the future: the first record at or after it ends the partition.
    end_time: Option<i64>,
}

/// What one batch of records may inflate to.
const INFLATED_BYTES_MAX: usize = 1 << 30;

pub async fn run(arguments: ConsumeArguments) -> Result<(), Failure> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let range = offsets::parse_all(&arguments.offsets, OffsetRange::default(), now_ms).map_err(Failure::usage)?;
    let printer = match arguments.format.as_deref() {
        None => Printer::Value,
        Some("jsonl" | "json") => Printer::Jsonl,
        Some(text) => Printer::Format(Format::parse(text).map_err(Failure::usage)?),
    };
    if arguments.num == Some(0) {
        return Ok(());
    }
    let client = arguments.connect.client().await?;
    let options = ConsumerOptions {
        max_bytes: arguments.fetch_bytes,
        partition_max_bytes: arguments.fetch_bytes,
        ..ConsumerOptions::default()
    };
    let mut consumer = Consumer::new(client.clone(), options);
    let goals = assign(&client, &mut consumer, &arguments, range).await?;
    let left = arguments.num.unwrap_or(u64::MAX);
    let mut reading = Reading { goals, printer, left, shown: 0, exit_at_end: arguments.exit_at_end };
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    while !consumer.is_done() && reading.left > 0 {
        for fetched in consumer.poll().await? {
            if reading.take(&fetched, &mut out)? {
                consumer.unassign(&fetched.topic, fetched.partition);
            }
        }
        out.flush()?;
    }
    Ok(out.flush()?)
}

async fn assign(
    client: &Client,
    consumer: &mut Consumer,
    arguments: &ConsumeArguments,
    range: OffsetRange,
) -> Result<BTreeMap<(Arc<str>, i32), Goal>, Failure> {
    let mut goals = BTreeMap::new();
    for name in &arguments.topics {
        let topic: Arc<str> = Arc::from(name.as_str());
        let bounds = client.offset_bounds(name).await?;
        let wanted = &arguments.partitions;
        if let Some(missing) = wanted.iter().find(|partition| !bounds.contains_key(partition)) {
            return Err(Failure::not_found(format!("topic '{name}' has no partition {missing}")));
        }
        for (partition, bounds) in bounds {
            if !wanted.is_empty() && !wanted.contains(&partition) {
                continue;
            }
            let from = resolve(client, name, partition, bounds, range.from).await?;
            let goal = goal(client, name, partition, bounds, range.until).await?;
            let is_read = goal.end_offset.is_some_and(|end| from >= end);
            if is_read || (arguments.exit_at_end && from >= bounds.1) {
                continue;
            }
            consumer.assign(&topic, partition, from);
            goals.insert((topic.clone(), partition), goal);
        }
    }
    Ok(goals)
}

async fn goal(client: &Client, topic: &str, partition: i32, bounds: (i64, i64), until: Until) -> Result<Goal, Failure> {
    let end_offset = match until {
        Until::Never => None,
        Until::Latest => Some(bounds.1),
        Until::Exact(offset) => Some(offset),
        Until::Time(time) => {
            if time > jiff::Timestamp::now().as_millisecond() {
                return Ok(Goal { end_offset: None, end_time: Some(time) });
            }
            Some(resolve(client, topic, partition, bounds, offsets::From::Time(time)).await?)
        }
    };
    Ok(Goal { end_offset, end_time: None })
}

struct Reading {
    goals: BTreeMap<(Arc<str>, i32), Goal>,
    printer: Printer,
    /// How many records may still be printed.
    left: u64,
    shown: u64,
    exit_at_end: bool,
}

impl Reading {
    /// Prints what was fetched; true when the partition is done.
    fn take(&mut self, fetched: &Fetched, out: &mut impl Write) -> Result<bool, Failure> {
        let Some(goal) = self.goals.get(&(fetched.topic.clone(), fetched.partition)) else { return Ok(true) };
        let Goal { end_offset, end_time } = *goal;
        let mut line = Vec::new();
        for found in batch::batches(&fetched.records) {
            let damaged = |error: batch::BatchError| {
                Failure::new(Exit::Usage, format!("{}-{}: {error}", fetched.topic, fetched.partition))
            };
            let (position, header) = found.map_err(damaged)?;
            // Markers of transactions are for clients, not for people.
            if header.is_control() {
                continue;
            }
            let bytes = fetched.records.slice(position..position + header.size_bytes());
            batch::check(&bytes).map_err(damaged)?;
            for record in batch::records(bytes, INFLATED_BYTES_MAX).map_err(damaged)? {
                let record = record.map_err(damaged)?;
                // A batch may begin before what was asked for.
                if record.offset < fetched.fetch_offset {
                    continue;
                }
                let is_beyond = end_offset.is_some_and(|end| record.offset >= end)
                    || end_time.is_some_and(|time| record.timestamp >= time);
                if is_beyond || self.left == 0 {
                    return Ok(true);
                }
                self.print(fetched, header.leader_epoch, &record, &mut line);
                out.write_all(&line)?;
                line.clear();
                self.left -= 1;
                self.shown += 1;
            }
        }
        let end_offset = if self.exit_at_end { Some(fetched.high_watermark) } else { end_offset };
        Ok(end_offset.is_some_and(|end| fetched.next_offset >= end))
    }

    fn print(&self, fetched: &Fetched, leader_epoch: i32, record: &Record, line: &mut Vec<u8>) {
        if let Printer::Value = self.printer {
            line.extend_from_slice(record.value.as_deref().unwrap_or_default());
            return line.push(b'\n');
        }
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|header| (header.key.as_ref(), header.value.as_deref())).collect();
        let shown = Shown {
            topic: &fetched.topic,
            partition: fetched.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            leader_epoch,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
            index: self.shown,
        };
        match &self.printer {
            Printer::Format(format) => format.write(&shown, line),
            _ => record_json::write(&shown, line),
        }
    }
}
