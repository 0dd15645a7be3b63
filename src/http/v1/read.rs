//! `GET /v1/topics/{topic}/records`: what a topic holds, as lines of JSON, up to an end that is known when it begins.
//! `?from=-1h&to=latest&partitions=0,1&limit=100&format=auto`.
//!
//! The client's socket is its flow control: what it does not take is not read from the log. What cannot be read is told on a
//! line of its own, and is never passed over in silence.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use capek_actors::partition_source::PartitionSource;
use capek_actors::record_reader::{self, OffsetReset, ReadCursor, ReadLimits};
use capek_wire::batch::Record;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex};
use serde_json::json;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use super::super::chunks::Chunks;
use super::super::doors::Doors;
use super::super::json;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::rest_v2::caller;
use super::super::stream::{Formats, StartAt, put_record, put_value};
use super::{NDJSON, check_topic_name, partitions_of, place_of};

/// What is read at a time, and what a client that does not read holds.
const CHUNK_BYTES: u64 = 64 << 10;
/// A read that brings nothing, although there is something, is tried again.
const TRY_FOR: Duration = Duration::from_millis(100);
const TRIES_MAX: usize = 50;

pub async fn get(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    let query = QueryPairs::of(&request)?;
    let partitions = partitions_of(&doors, &topic, &query)?;
    lines(&request, &query, &topic, partitions, &doors).await
}

/// What these partitions hold, as the query has it.
pub async fn lines(
    request: &HttpRequest,
    query: &QueryPairs,
    topic: &str,
    partitions: Vec<PartitionIndex>,
    doors: &web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let (from, to) = (place_of(query, "from", "earliest")?, place_of(query, "to", "latest")?);
    let formats = Formats::of(query).map_err(Problem::bad_request)?;
    let is_value_only = match query.get("envelope") {
        None | Some("record") => false,
        Some("value") => true,
        Some(other) => return Err(Problem::bad_request(format!("envelope={other} is not record or value"))),
    };
    let left = query.number("limit")?.unwrap_or(u64::MAX);
    let mut cursors = Vec::with_capacity(partitions.len());
    for partition in partitions {
        let source = doors.client.known_partition(topic, partition).await?;
        let caller = caller(request);
        let next = match from {
            // One that is not in the log any more is a gap, and told.
            StartAt::Offset(offset) => offset,
            _ => doors.offset_from(&caller, topic, partition, from).await?,
        };
        let end = doors.offset_from(&caller, topic, partition, to).await?;
        // What is told of gaps is as young as the ends.
        doors.client.refresh(&source).await?;
        cursors.push(Cursor { source, partition, next, end, tried: 0 });
    }
    let (lines, body) = Chunks::new(doors.begin());
    let reading =
        Reading { doors: doors.clone(), topic: topic.to_owned(), formats, is_value_only, left, cursors, lines };
    actix_rt::spawn(reading.run());
    Ok(HttpResponse::Ok().content_type(NDJSON).insert_header(("X-Accel-Buffering", "no")).body(body))
}

/// A partition that is being read, up to `end`.
struct Cursor {
    source: PartitionSource,
    partition: PartitionIndex,
    next: Offset,
    end: Offset,
    /// How often it has brought nothing.
    tried: usize,
}

struct Reading {
    doors: web::Data<Doors>,
    topic: String,
    formats: Formats,
    is_value_only: bool,
    /// How many records the client still wants.
    left: u64,
    cursors: Vec<Cursor>,
    lines: Sender<Bytes>,
}

impl Reading {
    /// A chunk of each partition in turn; those of one partition are in order.
    async fn run(mut self) {
        let mut turn = 0;
        while self.left > 0 && !self.lines.is_closed() {
            self.cursors.retain(|cursor| cursor.next < cursor.end);
            if self.cursors.is_empty() {
                return;
            }
            turn = (turn + 1) % self.cursors.len();
            let lines = self.read(turn).await;
            if !lines.is_empty() && self.lines.send(lines.into()).await.is_err() {
                return; // the client has gone
            }
        }
    }

    /// The next lines of this partition.
    async fn read(&mut self, index: usize) -> Vec<u8> {
        let cursor = &self.cursors[index];
        let limits = ReadLimits { max_bytes: CHUNK_BYTES, min_bytes: 0, deadline: Instant::now() + TRY_FOR };
        let wanted = vec![ReadCursor { source: cursor.source.clone(), next: cursor.next }];
        let read = record_reader::read(&self.doors.client, wanted, 0, OffsetReset::None, limits).await;
        let mut out = Vec::new();
        if let Some(code) = read.failed {
            self.failed(index, code, &mut out);
            return out;
        }
        let end = cursor.end;
        for (_, record) in read.records.iter().filter(|(_, record)| record.offset < end) {
            if self.left == 0 {
                break;
            }
            self.left -= 1;
            self.put_line(&mut out, index, record);
        }
        let cursor = &mut self.cursors[index];
        let next = read.next.first().copied().unwrap_or(cursor.next);
        cursor.tried = if next > cursor.next { 0 } else { cursor.tried + 1 };
        cursor.next = next;
        if self.cursors[index].tried > TRIES_MAX {
            self.failed(index, ErrorCode::RequestTimedOut, &mut out);
        }
        out
    }

    /// What retention has taken is a gap; anything else ends the partition.
    fn failed(&mut self, index: usize, code: ErrorCode, out: &mut Vec<u8>) {
        let cursor = &mut self.cursors[index];
        let (partition, requested, log_start) = (cursor.partition, cursor.next, cursor.source.log_start());
        let line = if code == ErrorCode::OffsetOutOfRange && requested < log_start {
            cursor.next = log_start;
            let gap = json!({ "topic": self.topic, "partition": partition, "requested": requested, "resumed": log_start, "reason": "retention" });
            json!({ "gap": gap })
        } else {
            cursor.next = cursor.end;
            let error = json!({ "topic": self.topic, "partition": partition, "offset": requested, "error": code.name(), "message": code.message() });
            json!({ "error": error })
        };
        out.extend_from_slice(format!("{line}\n").as_bytes());
    }

    fn put_line(&self, out: &mut Vec<u8>, index: usize, record: &Record) {
        if self.is_value_only {
            put_value(out, record.value.as_deref(), self.formats.value);
        } else {
            out.extend_from_slice(b"{\"topic\":");
            json::put_string(out, &self.topic);
            out.extend_from_slice(format!(",\"partition\":{},", self.cursors[index].partition).as_bytes());
            put_record(out, record, self.formats);
            out.push(b'}');
        }
        out.push(b'\n');
    }
}
