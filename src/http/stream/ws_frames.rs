//! The frames of a WebSocket stream in JSON: what the session tells, and what the client wants.

use std::sync::Arc;

use bytes::Bytes;
use capek_actors::stream_cursors::Assignment;
use capek_actors::stream_session::{Credit, Encoder, StreamCommand, StreamEvent, StreamRecords};
use capek_wire::ids::{Offset, PartitionIndex};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::json;
use super::super::problem::goodbye_body;
use super::sse::reason_name;
use super::values::{Formats, put_record};

/// The only subscription of a socket that was opened for one topic.
pub const SUBSCRIPTION: u64 = 1;

/// What a client sent.
#[derive(Debug)]
pub struct ClientFrame {
    /// Answered exactly once if it is there.
    pub id: Option<Value>,
    pub wish: Wish,
}

/// What it wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    Session(StreamCommand),
    Ping { t: Value },
}

/// Why a frame was not understood; the connection stays.
#[derive(Debug, PartialEq, Eq)]
pub struct FrameError {
    pub id: Option<Value>,
    pub message: String,
}

#[derive(Deserialize)]
struct RawFrame<'a> {
    #[serde(rename = "type")]
    kind: String,
    id: Option<Value>,
    sub: Option<u64>,
    #[serde(default)]
    records: Option<u64>,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    to: Vec<Place>,
    #[serde(borrow)]
    t: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Place {
    topic: Option<String>,
    partition: PartitionIndex,
    offset: Offset,
}

/// Understands a frame of a client that reads `topic`. Unknown fields are passed over.
pub fn parse(text: &[u8], topic: &str) -> Result<ClientFrame, FrameError> {
    let frame: RawFrame = serde_json::from_slice(text)
        .map_err(|error| FrameError { id: None, message: format!("this is no frame: {error}") })?;
    let id = frame.id.clone();
    let wish = wish(frame, topic).map_err(|message| FrameError { id: id.clone(), message })?;
    Ok(ClientFrame { id, wish })
}

fn wish(frame: RawFrame, topic: &str) -> Result<Wish, String> {
    if frame.sub.is_some_and(|sub| sub != SUBSCRIPTION) {
        return Err(format!("there is no subscription {}", frame.sub.unwrap_or_default()));
    }
    let command = match frame.kind.as_str() {
        "credit" => {
            StreamCommand::Credit(Credit { records: frame.records.unwrap_or(0), bytes: frame.bytes.unwrap_or(0) })
        }
        "pause" => StreamCommand::Pause,
        "resume" => StreamCommand::Resume,
        "unsubscribe" => StreamCommand::Unsubscribe,
        "seek" if frame.to.is_empty() => return Err("seek needs to=[{partition, offset}]".to_owned()),
        "seek" => {
            if let Some(other) = frame.to.iter().find_map(|place| place.topic.as_deref().filter(|name| *name != topic))
            {
                return Err(format!("this socket reads {topic}, not {other}"));
            }
            StreamCommand::Seek(frame.to.iter().map(|place| (place.partition, place.offset)).collect())
        }
        "ping" => {
            let t = frame.t.and_then(|t| serde_json::from_str(t.get()).ok());
            return Ok(Wish::Ping { t: t.unwrap_or(Value::Null) });
        }
        "subscribe" => return Err("this socket was opened for one topic and is subscribed to it".to_owned()),
        "ack" | "produce" | "auth" => return Err(format!("{} is not built yet", frame.kind)),
        _ => return Err(format!("unknown type {}", Value::from(frame.kind))),
    };
    Ok(Wish::Session(command))
}

pub fn error(id: Option<&Value>, error_code: u32, message: &str, is_retriable: bool) -> Bytes {
    let mut frame = json!({ "type": "error", "error_code": error_code, "message": message, "retriable": is_retriable });
    if let Some(id) = id {
        frame["id"] = id.clone();
    }
    frame.to_string().into()
}

/// The answer to a command that has none of its own.
pub fn done(id: &Value) -> Bytes {
    json!({ "type": "done", "id": id }).to_string().into()
}

pub fn pong(id: Option<&Value>, t: &Value) -> Bytes {
    let mut frame = json!({ "type": "pong", "t": t });
    if let Some(id) = id {
        frame["id"] = id.clone();
    }
    frame.to_string().into()
}

/// Makes frames of what the session tells.
pub fn encoder(topic: Arc<str>, formats: Formats) -> Encoder {
    Box::new(move |event| Some(frame(event, &topic, formats)))
}

fn frame(event: &StreamEvent, topic: &str, formats: Formats) -> Bytes {
    let frame = match event {
        StreamEvent::Records(records) => return records_frame(records, topic, formats),
        StreamEvent::Assigned(assignments) => {
            let partitions: Vec<_> = assignments.iter().map(|assignment| place(assignment, topic)).collect();
            json!({ "type": "assigned", "sub": SUBSCRIPTION, "partitions": partitions })
        }
        StreamEvent::CaughtUp { partition, next } => {
            json!({ "type": "caught_up", "sub": SUBSCRIPTION, "topic": topic, "partition": partition, "next": next })
        }
        StreamEvent::Gap { partition, requested, resumed, reason } => json!({
            "type": "gap",
            "sub": SUBSCRIPTION,
            "topic": topic,
            "partition": partition,
            "requested": requested,
            "resumed": resumed,
            "reason": reason_name(*reason),
        }),
        StreamEvent::Heartbeat { now_ms, lag } => {
            json!({ "type": "heartbeat", "t": now_ms, "lag": { SUBSCRIPTION.to_string(): lag } })
        }
        StreamEvent::Problem { code, message, .. } => {
            return error(None, super::super::problem::record_code(*code), message, code.is_retriable());
        }
        StreamEvent::Goodbye(goodbye) => {
            let mut frame = json!({ "type": "goodbye" });
            if let (Some(frame), Value::Object(body)) = (frame.as_object_mut(), goodbye_body(goodbye)) {
                frame.extend(body);
            }
            frame
        }
    };
    frame.to_string().into()
}

fn place(assignment: &Assignment, topic: &str) -> Value {
    json!({
        "topic": topic,
        "partition": assignment.partition,
        "next": assignment.next,
        "end": assignment.end,
        "epoch": assignment.leader_epoch,
    })
}

/// `bytes` is what the frame has cost of the credit.
fn records_frame(records: &StreamRecords, topic: &str, formats: Formats) -> Bytes {
    const FIELDS_BYTES: usize = 48;
    let mut out = Vec::with_capacity(256 + records.size_bytes as usize + records.records.len() * FIELDS_BYTES);
    let StreamRecords { sequence, partition, next, high_watermark, size_bytes, .. } = records;
    out.extend_from_slice(
        format!("{{\"type\":\"records\",\"sub\":{SUBSCRIPTION},\"seq\":{sequence},\"topic\":").as_bytes(),
    );
    json::put_string(&mut out, topic);
    out.extend_from_slice(format!(",\"partition\":{partition},\"records\":[").as_bytes());
    for (index, record) in records.records.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        put_record(&mut out, record, formats);
        out.push(b'}');
    }
    out.extend_from_slice(format!("],\"next\":{next},\"hw\":{high_watermark},\"bytes\":{size_bytes}}}").as_bytes());
    out.into()
}

#[cfg(test)]
mod tests {
    use capek_actors::stream_cursors::GapReason;
    use capek_actors::stream_session::Goodbye;
    use capek_wire::batch::Record;

    use super::super::values::Format;
    use super::*;

    fn told(event: StreamEvent) -> Value {
        let formats = Formats { key: Format::String, value: Format::Auto };
        serde_json::from_slice(&frame(&event, "orders", formats)).unwrap()
    }

    #[test]
    fn records_are_told_as_the_protocol_has_them() {
        let record = Record {
            offset: 43,
            timestamp: 1_700_000_000_000,
            key: Some(Bytes::from("k")),
            value: Some(Bytes::from("{\"a\":1}")),
            headers: Vec::new(),
        };
        let records = StreamRecords {
            sequence: 7,
            partition: 0,
            records: vec![record],
            next: 44,
            high_watermark: 50,
            size_bytes: 8,
        };
        let expected = json!({
            "type": "records", "sub": 1, "seq": 7, "topic": "orders", "partition": 0,
            "records": [{"offset": 43, "ts": 1_700_000_000_000_i64, "key": "k", "value": {"a": 1}}],
            "next": 44, "hw": 50, "bytes": 8
        });
        assert_eq!(told(StreamEvent::Records(records)), expected);
    }

    #[test]
    fn the_other_events_have_their_frames() {
        let gap = StreamEvent::Gap { partition: 0, requested: 10, resumed: 100, reason: GapReason::Retention };
        assert_eq!(
            told(gap),
            json!({"type": "gap", "sub": 1, "topic": "orders", "partition": 0, "requested": 10, "resumed": 100,
                   "reason": "retention"})
        );
        assert_eq!(
            told(StreamEvent::Heartbeat { now_ms: 5, lag: 12 }),
            json!({"type": "heartbeat", "t": 5, "lag": {"1": 12}})
        );
        let goodbye = Goodbye { code: 1012, reason: "the broker stops", reconnect_after_ms: Some(850) };
        assert_eq!(
            told(StreamEvent::Goodbye(goodbye)),
            json!({"type": "goodbye", "code": 1012, "reason": "the broker stops", "reconnect_after_ms": 850})
        );
    }

    #[test]
    fn commands_are_understood_and_unknown_fields_passed_over() {
        let check = |text: &str, expected: Wish| assert_eq!(parse(text.as_bytes(), "orders").unwrap().wish, expected);
        let credit = StreamCommand::Credit(Credit { records: 500, bytes: 0 });
        check(r#"{"type":"credit","sub":1,"records":500,"later":[]}"#, Wish::Session(credit));
        check(r#"{"type":"pause","sub":1}"#, Wish::Session(StreamCommand::Pause));
        let seek = Wish::Session(StreamCommand::Seek(vec![(0, 10)]));
        check(r#"{"type":"seek","sub":1,"to":[{"topic":"orders","partition":0,"offset":10}]}"#, seek);
        check(r#"{"type":"ping","t":123}"#, Wish::Ping { t: json!(123) });
        assert_eq!(parse(br#"{"type":"resume","id":"x"}"#, "orders").unwrap().id, Some(json!("x")));
    }

    #[test]
    fn what_is_not_understood_is_told_with_its_id() {
        let check = |text: &str, id: Option<Value>, part: &str| {
            let error = parse(text.as_bytes(), "orders").unwrap_err();
            assert_eq!(error.id, id, "{text}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check("{", None, "no frame");
        check("[]", None, "no frame");
        check(r#"{"type":"dance","id":4}"#, Some(json!(4)), r#"unknown type "dance""#);
        check(r#"{"type":"pause","sub":2}"#, None, "no subscription 2");
        check(r#"{"type":"seek","to":[{"topic":"other","partition":0,"offset":1}]}"#, None, "not other");
        check(r#"{"type":"seek"}"#, None, "needs to");
        check(r#"{"type":"credit","records":-1}"#, None, "no frame");
    }
}
