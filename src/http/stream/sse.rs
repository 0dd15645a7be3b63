//! `GET /v1/topics/{topic}/sse`: Server-Sent Events, and with `Accept: application/x-ndjson` lines of JSON. The client's
//! socket is its flow control: what it does not take is not read from the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use capek_actors::stream_cursors::{Assignment, GapReason};
use capek_actors::stream_session::{Credit, Encoder, Outgoing, StreamEvent, StreamRecords};
use capek_wire::batch::Record;
use capek_wire::ids::{Offset, PartitionIndex};
use serde_json::json;

use super::super::doors::Doors;
use super::super::json;
use super::super::problem::{Problem, goodbye_body};
use super::super::query::QueryPairs;
use super::body::{Framing, StreamBody};
use super::last_event_id;
use super::open::Wanted;
use super::values::{Formats, put_record, put_value};

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it comes back.
const RETRY_MS: u64 = 2000;
const NDJSON: &str = "application/x-ndjson";

pub async fn open(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let query = QueryPairs::of(&request)?;
    let mut wanted = Wanted::of(&topic, &query, HEARTBEAT)?;
    let id = text_header(&request, "last-event-id").or(query.get("last_event_id"));
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        wanted.resumed = Some(last_event_id::parse(id, &topic).map_err(Problem::bad_request)?);
    }
    let is_ndjson = text_header(&request, "accept").is_some_and(|accept| accept.contains(NDJSON));
    let opened = wanted.open(&doors).await?;
    let next = opened.positions.iter().map(|(shared, offset)| (shared.key.partition, *offset)).collect();
    let mut resumed_from = Vec::new();
    last_event_id::put(&mut resumed_from, &topic, &next);
    let writer = EventWriter {
        topic: opened.topic.clone(),
        formats: wanted.formats,
        next,
        is_value_only: query.get("envelope") == Some("value"),
    };
    let (body, senders) = StreamBody::new(Framing::Plain, doors.begin());
    let encoder: Encoder = if is_ndjson { writer.into_lines() } else { writer.into_events() };
    if !is_ndjson {
        let hello = format!("retry: {RETRY_MS}\n\n");
        // The channel is new: it has room.
        let _ = senders.control.try_send(Outgoing::Frame(Bytes::from(hello)));
    }
    opened.start(&doors, &wanted, Credit::UNLIMITED, senders, encoder).await?;
    let content_type = if is_ndjson { NDJSON } else { "text/event-stream; charset=utf-8" };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"))
        .insert_header(("Capek-Resumed-From", resumed_from));
    Ok(response.body(body))
}

fn text_header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// Makes events, or lines, of what the session tells.
struct EventWriter {
    topic: Arc<str>,
    formats: Formats,
    /// What the client has is everything below.
    next: BTreeMap<PartitionIndex, Offset>,
    is_value_only: bool,
}

impl EventWriter {
    fn into_events(mut self) -> Encoder {
        Box::new(move |event| self.event(event))
    }

    fn into_lines(mut self) -> Encoder {
        Box::new(move |event| self.lines(event))
    }

    fn event(&mut self, event: &StreamEvent) -> Option<Bytes> {
        let mut out = Vec::new();
        match event {
            StreamEvent::Records(records) => self.put_messages(&mut out, records),
            StreamEvent::Assigned(assignments) => {
                self.note(assignments);
                self.put_event(&mut out, "assigned", &self.assigned(assignments));
            }
            StreamEvent::CaughtUp { partition, next } => {
                self.put_event(&mut out, "caught_up", &self.place(*partition, &[("next", *next)]));
            }
            StreamEvent::Gap { partition, requested, resumed, reason } => {
                self.next.insert(*partition, *resumed);
                self.put_id(&mut out);
                self.put_event(&mut out, "gap", &self.gap(*partition, *requested, *resumed, *reason));
            }
            StreamEvent::Heartbeat { now_ms, .. } => {
                out.extend_from_slice(format!(": hb {}\n\n", now_ms / 1000).as_bytes());
            }
            StreamEvent::Problem { partition, message, .. } => {
                let body = json!({ "topic": *self.topic, "partition": partition, "message": message });
                self.put_event(&mut out, "error", &body);
            }
            StreamEvent::Goodbye(goodbye) => self.put_event(&mut out, "end", &goodbye_body(goodbye)),
        }
        Some(out.into())
    }

    /// Records, and what must not pass in silence; each on a line.
    fn lines(&mut self, event: &StreamEvent) -> Option<Bytes> {
        let mut out = Vec::new();
        match event {
            StreamEvent::Records(records) => {
                for record in &records.records {
                    self.put_data(&mut out, records.partition, record);
                    out.push(b'\n');
                }
            }
            StreamEvent::Gap { partition, requested, resumed, reason } => {
                let line = json!({ "gap": self.gap(*partition, *requested, *resumed, *reason) });
                out.extend_from_slice(format!("{line}\n").as_bytes());
            }
            StreamEvent::Problem { partition, message, .. } => {
                let line = json!({ "error": { "topic": *self.topic, "partition": partition, "message": message } });
                out.extend_from_slice(format!("{line}\n").as_bytes());
            }
            _ => return None,
        }
        Some(out.into())
    }

    fn put_messages(&mut self, out: &mut Vec<u8>, records: &StreamRecords) {
        let count = records.records.len();
        for (index, record) in records.records.iter().enumerate() {
            let is_last = index + 1 == count;
            let next = if is_last { records.next } else { record.offset + 1 };
            self.next.insert(records.partition, next);
            self.put_id(out);
            out.extend_from_slice(b"event: message\ndata: ");
            self.put_data(out, records.partition, record);
            out.extend_from_slice(b"\n\n");
        }
    }

    fn put_data(&self, out: &mut Vec<u8>, partition: PartitionIndex, record: &Record) {
        if self.is_value_only {
            return put_value(out, record.value.as_deref(), self.formats.value);
        }
        out.extend_from_slice(b"{\"topic\":");
        json::put_string(out, &self.topic);
        out.extend_from_slice(format!(",\"partition\":{partition},").as_bytes());
        put_record(out, record, self.formats);
        out.push(b'}');
    }

    fn put_id(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"id: ");
        last_event_id::put(out, &self.topic, &self.next);
        out.push(b'\n');
    }

    fn put_event(&self, out: &mut Vec<u8>, name: &str, body: &serde_json::Value) {
        out.extend_from_slice(format!("event: {name}\ndata: {body}\n\n").as_bytes());
    }

    fn note(&mut self, assignments: &[Assignment]) {
        self.next.extend(assignments.iter().map(|assignment| (assignment.partition, assignment.next)));
    }

    fn assigned(&self, assignments: &[Assignment]) -> serde_json::Value {
        let places = assignments.iter().map(|place| {
            self.place(
                place.partition,
                &[("next", place.next), ("end", place.end), ("epoch", place.leader_epoch.into())],
            )
        });
        json!({ "partitions": places.collect::<Vec<_>>() })
    }

    fn place(&self, partition: PartitionIndex, more: &[(&str, i64)]) -> serde_json::Value {
        let mut place = json!({ "topic": *self.topic, "partition": partition });
        for (name, value) in more {
            place[*name] = json!(value);
        }
        place
    }

    fn gap(
        &self,
        partition: PartitionIndex,
        requested: Offset,
        resumed: Offset,
        reason: GapReason,
    ) -> serde_json::Value {
        let mut gap = self.place(partition, &[("requested", requested), ("resumed", resumed)]);
        gap["reason"] = json!(reason_name(reason));
        gap
    }
}

pub fn reason_name(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Retention => "retention",
        GapReason::Truncation => "truncation",
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::Format;
    use super::*;

    fn writer(is_value_only: bool) -> EventWriter {
        EventWriter {
            topic: "orders".into(),
            formats: Formats { key: Format::String, value: Format::Auto },
            next: BTreeMap::from([(0, 43), (1, 9)]),
            is_value_only,
        }
    }

    fn records() -> StreamEvent {
        let record = |offset, value: &'static str| Record {
            offset,
            timestamp: 5,
            key: Some(Bytes::from("k")),
            value: Some(Bytes::from(value)),
            headers: Vec::new(),
        };
        StreamEvent::Records(StreamRecords {
            sequence: 1,
            partition: 0,
            records: vec![record(43, "{\"a\":\n1}"), record(44, "x\ny")],
            next: 47, // a control batch came after
            high_watermark: 50,
            size_bytes: 20,
        })
    }

    fn text(bytes: Option<Bytes>) -> String {
        String::from_utf8(bytes.unwrap().to_vec()).unwrap()
    }

    #[test]
    fn an_event_has_the_next_offsets_as_its_id() {
        let expected = r#"id: [{"topic":"orders","partition":0,"offset":44},{"topic":"orders","partition":1,"offset":9}]
event: message
data: {"topic":"orders","partition":0,"offset":43,"ts":5,"key":"k","value":{"a":1}}

id: [{"topic":"orders","partition":0,"offset":47},{"topic":"orders","partition":1,"offset":9}]
event: message
data: {"topic":"orders","partition":0,"offset":44,"ts":5,"key":"k","value":"x\ny"}

"#;
        assert_eq!(text(writer(false).event(&records())), expected);
    }

    #[test]
    fn a_gap_moves_the_id() {
        let gap = StreamEvent::Gap { partition: 1, requested: 9, resumed: 30, reason: GapReason::Retention };
        let text = text(writer(false).event(&gap));
        assert!(text.contains(r#""partition":1,"offset":30"#), "{text}");
        assert!(text.contains(r#""reason":"retention""#), "{text}");
    }

    #[test]
    fn lines_and_bare_values() {
        let lines = text(writer(false).lines(&records()));
        assert_eq!(lines.lines().count(), 2);
        assert!(lines.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines}");
        assert_eq!(text(writer(true).lines(&records())), "{\"a\":1}\n\"x\\ny\"\n");
    }
}
