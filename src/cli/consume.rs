//! `capek consume`: reads partitions from one place to another, or as a member of a group, and prints what is there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use capek_wire::batch::{BatchHeader, Record};
use clap::{Args, ValueEnum};

use super::connect::Connect;
use super::decode::for_each_record;
use super::format::{Format, Shown};
use super::offsets::{self, OffsetRange, Until};
use super::topic::resolve;
use super::{Failure, record_json};
use crate::client::{
    Assignor, Client, Consumer, ConsumerOptions, Fetched, GroupConsumer, GroupConsumerOptions, MemberOptions,
    OffsetReset,
};
use crate::expression::{Expression, Subject};

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
  %d{strftime[%F %T]}, %h headers, %h{%k=%v;} each header, %H their number, %e leader epoch, %i count,
  %R the length of the value in four bytes (kcat's);
  {hex} {base64} after a text, {big32} {hex64}… after a number; \\n \\t \\xNN. Or the word jsonl.

Expressions (--where): key, value, topic, partition, offset, timestamp, header.NAME, and paths into a JSON value:
  value.items[0].price > 10 && (key startsWith 'eu-' || header.kind == \"test\") && !(value.name =~ '^a.*')
  operators: == != < <= > >= contains startsWith ^= =~ !~ && || ! ( ); null is what is not there.

Groups (-g): partitions are shared with the group's other members; goes on where the group has committed, and where it
  has not with -o start (default) or -o end. What was printed is committed every 5 seconds and at the end (Ctrl-C).";

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
    /// Read as a member of this group: it decides the partitions and keeps the offsets
    #[arg(short, long, value_name = "GROUP", conflicts_with = "partitions")]
    group: Option<String>,
    /// How the members share partitions
    #[arg(long, value_enum, requires = "group", value_name = "NAME")]
    assignor: Option<AssignorName>,
    /// Print only records for which this is true (see --help)
    #[arg(long = "where", value_name = "EXPR", value_parser = parse_filter)]
    filter: Option<Arc<Expression>>,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AssignorName {
    /// A run of every topic's partitions for each
    Range,
    /// Equally many for each, and as few changes as possible
    Sticky,
}

/// How records are printed.
enum Printer {
    Value,
    Jsonl,
    Format(Format),
}

fn parse_filter(text: &str) -> Result<Arc<Expression>, String> {
    Expression::parse(text).map(Arc::new)
}

/// How far one partition is read.
struct Goal {
    /// Exclusive; None goes on for ever.
    end_offset: Option<i64>,
    /// A time in the future: the first record at or after it ends the partition.
    end_time: Option<i64>,
}

/// How often a member of a group commits what it has printed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(5);

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
    let left = arguments.num.unwrap_or(u64::MAX);
    let filter = arguments.filter.clone();
    let mut reading =
        Reading { goals: BTreeMap::new(), printer, filter, left, shown: 0, exit_at_end: arguments.exit_at_end };
    if let Some(group) = &arguments.group {
        return run_in_group(client, &arguments, group, options, range, reading).await;
    }
    let mut consumer = Consumer::new(client.clone(), options);
    reading.goals = assign(&client, &mut consumer, &arguments, range).await?;
    let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
    while !consumer.is_done() && reading.left > 0 {
        for fetched in consumer.poll().await? {
            if reading.take(&fetched, &mut out)?.is_done {
                consumer.unassign(&fetched.topic, fetched.partition);
            }
        }
        out.flush()?;
    }
    Ok(out.flush()?)
}

async fn run_in_group(
    client: Client,
    arguments: &ConsumeArguments,
    group: &str,
    consumer: ConsumerOptions,
    range: OffsetRange,
    mut reading: Reading,
) -> Result<(), Failure> {
    let reset = match range {
        OffsetRange { from: offsets::From::Earliest, until: Until::Never } => OffsetReset::Earliest,
        OffsetRange { from: offsets::From::Latest, until: Until::Never } => OffsetReset::Latest,
        _ => return Err(Failure::usage("with -g, -o is start or end: capek group reset-offsets goes anywhere else")),
    };
    let mut member = MemberOptions::new(group, arguments.topics.clone());
    match arguments.assignor {
        Some(AssignorName::Range) => member.assignors = vec![Assignor::Range],
        Some(AssignorName::Sticky) => member.assignors = vec![Assignor::Sticky],
        None => {}
    }
    for topic in &arguments.topics {
        // One that is not there is told now rather than waited for.
        client.topic(topic).await?;
    }
    let options =
        GroupConsumerOptions { member, consumer, reset, commit_interval: Some(COMMIT_INTERVAL), pattern: None };
    let mut consumer = GroupConsumer::new(client, options);
    let read = read_in_group(&mut consumer, &mut reading).await;
    let closed = consumer.close().await;
    read?;
    Ok(closed?)
}

/// Until enough was read, the end is reached, or Ctrl-C.
async fn read_in_group(consumer: &mut GroupConsumer, reading: &mut Reading) -> Result<(), Failure> {
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    let mut at_end: BTreeSet<(String, i32)> = BTreeSet::new();
    while reading.left > 0 {
        let fetched = tokio::select! {
            fetched = consumer.poll() => fetched?,
            _ = &mut stop => return Ok(()),
        };
        let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
        for one in &fetched {
            let place = (one.topic.to_string(), one.partition);
            let taken = reading.take(one, &mut out)?;
            consumer.processed(&one.topic, one.partition, taken.next_offset);
            match taken.is_done {
                true => at_end.insert(place),
                false => at_end.remove(&place),
            };
        }
        out.flush()?;
        let assigned = consumer.assigned();
        if reading.exit_at_end && !assigned.is_empty() && assigned.is_subset(&at_end) {
            return Ok(());
        }
    }
    Ok(())
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
    /// A partition without one is read for ever.
    goals: BTreeMap<(Arc<str>, i32), Goal>,
    printer: Printer,
    filter: Option<Arc<Expression>>,
    /// How many records may still be printed.
    left: u64,
    shown: u64,
    exit_at_end: bool,
}

/// What was done with one answer for a partition.
struct Taken {
    /// The next offset to do anything with.
    next_offset: i64,
    /// The partition has been read as far as it shall be.
    is_done: bool,
}

impl Reading {
    /// Prints what was fetched.
    fn take(&mut self, fetched: &Fetched, out: &mut impl Write) -> Result<Taken, Failure> {
        let goal = self.goals.get(&(fetched.topic.clone(), fetched.partition));
        let (end_offset, end_time) = goal.map_or((None, None), |goal| (goal.end_offset, goal.end_time));
        let mut line = Vec::new();
        let mut next_offset = fetched.fetch_offset;
        let read = for_each_record(fetched, |header, record| {
            let is_beyond = end_offset.is_some_and(|end| record.offset >= end)
                || end_time.is_some_and(|time| record.timestamp >= time);
            if is_beyond || self.left == 0 {
                return Ok(ControlFlow::Break(()));
            }
            next_offset = record.offset + 1;
            if self.print(fetched, header, &record, &mut line) {
                out.write_all(&line)?;
                self.left -= 1;
                self.shown += 1;
            }
            line.clear();
            Ok(ControlFlow::Continue(()))
        })?;
        if read.is_break() {
            return Ok(Taken { next_offset, is_done: true });
        }
        let end_offset = if self.exit_at_end { Some(fetched.high_watermark) } else { end_offset };
        let is_done = end_offset.is_some_and(|end| fetched.next_offset >= end);
        Ok(Taken { next_offset: fetched.next_offset, is_done })
    }

    /// Appends the record to `line`, if it is wanted.
    fn print(&self, fetched: &Fetched, header: &BatchHeader, record: &Record, line: &mut Vec<u8>) -> bool {
        if let (Printer::Value, None) = (&self.printer, &self.filter) {
            line.extend_from_slice(record.value.as_deref().unwrap_or_default());
            line.push(b'\n');
            return true;
        }
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            record.headers.iter().map(|header| (header.key.as_ref(), header.value.as_deref())).collect();
        let subject = Subject {
            topic: &fetched.topic,
            partition: fetched.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: &headers,
        };
        if self.filter.as_ref().is_some_and(|filter| !filter.accepts(&subject)) {
            return false;
        }
        let shown = Shown {
            topic: subject.topic,
            partition: subject.partition,
            offset: subject.offset,
            timestamp: subject.timestamp,
            leader_epoch: header.leader_epoch,
            key: subject.key,
            value: subject.value,
            headers: &headers,
            index: self.shown,
        };
        match &self.printer {
            Printer::Value => {
                line.extend_from_slice(record.value.as_deref().unwrap_or_default());
                line.push(b'\n');
            }
            Printer::Format(format) => format.write(&shown, line),
            Printer::Jsonl => record_json::write(&shown, line),
        }
        true
    }
}
