//! The frames of a WebSocket in JSON: what a session tells its client.

use bytes::Bytes;
use capek_actors::stream_cursors::GapReason;
use capek_actors::stream_events::{
    Assignment, Encoder, Outgoing, Position, RevokeReason, StreamEvent, StreamPlace, StreamRecords,
};
use capek_state::stream::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use capek_wire::ids::Offset;
use serde_json::{Map, Value, json};

use super::super::json;
use super::super::problem::{RestError, goodbye_body};
use super::token;
use super::values::{Formats, put_record};

/// What is said to a command: with its `id`, if it has one.
fn answer(id: Option<&Value>, mut frame: Value) -> Outgoing {
    if let Some(id) = id {
        frame["id"] = id.clone();
    }
    text(&frame)
}

/// An error that a client may go on after.
pub fn error(id: Option<&Value>, error_code: u32, message: &str, is_retriable: bool) -> Outgoing {
    answer(id, json!({ "type": "error", "error_code": error_code, "message": message, "retriable": is_retriable }))
}

/// The answer to a command that has none of its own.
pub fn done(id: &Value) -> Outgoing {
    answer(Some(id), json!({ "type": "done" }))
}

pub fn pong(id: Option<&Value>, t: &Value) -> Outgoing {
    answer(id, json!({ "type": "pong", "t": t }))
}

pub fn acked(id: Option<&Value>, subscription: u64, committed: &[(StreamPlace, Offset)], formats: Formats) -> Outgoing {
    answer(id, json!({ "type": "acked", "sub": subscription, "committed": places(committed, formats) }))
}

/// The same of a member that reads elsewhere.
pub fn acked_for(id: Option<&Value>, group: &str, committed: &[Value]) -> Outgoing {
    answer(id, json!({ "type": "acked", "group": group, "committed": committed }))
}

/// More is in flight than may be: nothing is read of the client until something is answered.
pub fn throttle() -> Outgoing {
    let (count, bytes) = (IN_FLIGHT_MAX, IN_FLIGHT_BYTES_MAX);
    text(&json!({ "type": "throttle", "reason": "inflight", "inflight": count, "inflight_bytes": bytes }))
}

pub fn text(frame: &Value) -> Outgoing {
    Outgoing::Text(Bytes::from(frame.to_string()))
}

/// Makes frames of what the session tells of itself.
pub fn of_session() -> Encoder {
    Box::new(|event| session_frame(event).as_ref().map(text))
}

fn session_frame(event: &StreamEvent) -> Option<Value> {
    match event {
        StreamEvent::Heartbeat { now_ms, lag, positions } => {
            let lag: Map<String, Value> = lag.iter().map(|(id, lag)| (id.to_string(), json!(lag))).collect();
            let mut frame = json!({ "type": "heartbeat", "t": now_ms, "lag": lag });
            put_tokens(&mut frame, positions);
            Some(frame)
        }
        StreamEvent::Goodbye { goodbye, positions } => {
            let mut frame = json!({ "type": "goodbye" });
            if let (Some(frame), Value::Object(body)) = (frame.as_object_mut(), goodbye_body(goodbye)) {
                frame.extend(body);
            }
            put_tokens(&mut frame, positions);
            Some(frame)
        }
        _ => None,
    }
}

fn put_tokens(frame: &mut Value, positions: &[(u64, Vec<Position>)]) {
    let token = |(id, positions): &(u64, Vec<Position>)| Some((id.to_string(), json!(token::of(positions)?)));
    let tokens: Map<String, Value> = positions.iter().filter_map(token).collect();
    if !tokens.is_empty() {
        frame["resume"] = Value::Object(tokens);
    }
}

/// Makes frames of what happens to a subscription, the first of them `greeting`.
pub fn of_subscription(subscription: u64, formats: Formats, greeting: Value) -> Encoder {
    Box::new(move |event| match event {
        StreamEvent::Subscribed => Some(text(&greeting)),
        StreamEvent::Records(records) => Some(records_frame(subscription, records, formats)),
        other => event_frame(subscription, other, formats).as_ref().map(text),
    })
}

/// Everything but records.
pub fn event_frame(subscription: u64, event: &StreamEvent, formats: Formats) -> Option<Value> {
    let sub = ("sub", json!(subscription));
    Some(match event {
        StreamEvent::Assigned { generation, partitions } => {
            let partitions: Vec<_> = partitions.iter().map(|assigned| assignment(assigned, formats)).collect();
            let mut frame = json!({ "type": "assigned", "sub": subscription, "partitions": partitions });
            if let Some(generation) = generation {
                frame["generation"] = json!(generation);
            }
            frame
        }
        StreamEvent::Revoked { partitions, deadline, reason } => {
            let partitions: Vec<_> = partitions.iter().map(|place| with_place(place, [])).collect();
            json!({
                "type": "revoked",
                "sub": subscription,
                "partitions": partitions,
                "deadline_ms": deadline.as_millis() as u64,
                "reason": revoke_name(*reason),
            })
        }
        StreamEvent::CaughtUp { place, next } => {
            typed("caught_up", with_place(place, [sub, ("next", formats.offset(*next))]))
        }
        StreamEvent::Gap { place, requested, resumed, reason } => {
            let fields = gap_fields(*requested, *resumed, *reason, formats);
            typed("gap", with_place(place, [sub].into_iter().chain(fields)))
        }
        StreamEvent::End => json!({ "type": "end", "sub": subscription }),
        StreamEvent::Problem { place, code, message } => {
            let error_code = RestError::kafka(*code, None).error_code;
            let fields = [sub, ("error_code", json!(error_code)), ("message", json!(message))];
            let fields = fields.into_iter().chain([("retriable", json!(code.is_retriable()))]);
            typed(
                "error",
                place.as_ref().map_or_else(|| object(fields.clone()), |place| with_place(place, fields.clone())),
            )
        }
        StreamEvent::Subscribed
        | StreamEvent::Records(_)
        | StreamEvent::Batches(_)
        | StreamEvent::Heartbeat { .. }
        | StreamEvent::Goodbye { .. } => return None,
    })
}

fn typed(kind: &str, fields: Value) -> Value {
    let mut frame = json!({ "type": kind });
    if let (Some(frame), Value::Object(fields)) = (frame.as_object_mut(), fields) {
        frame.extend(fields);
    }
    frame
}

fn object<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

/// Each with its offset.
pub fn places(places: &[(StreamPlace, Offset)], formats: Formats) -> Value {
    places.iter().map(|(place, offset)| with_place(place, [("offset", formats.offset(*offset))])).collect()
}

/// `{"topic":…,"partition":…}` and more.
pub fn with_place<'a>(place: &StreamPlace, more: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    let place = [("topic", json!(*place.topic)), ("partition", json!(place.partition))];
    object(place.into_iter().chain(more))
}

pub fn assignment(assignment: &Assignment, formats: Formats) -> Value {
    let Assignment { place, next, end, leader_epoch } = assignment;
    let offsets = [("next", formats.offset(*next)), ("end", formats.offset(*end))];
    with_place(place, offsets.into_iter().chain([("epoch", json!(leader_epoch))]))
}

/// What is told of a gap besides its place.
pub fn gap_fields(
    requested: Offset,
    resumed: Offset,
    reason: GapReason,
    formats: Formats,
) -> impl Iterator<Item = (&'static str, Value)> {
    let count = match reason {
        GapReason::Filtered { count } => Some(("count", json!(count))),
        _ => None,
    };
    let bounds = [("requested", formats.offset(requested)), ("resumed", formats.offset(resumed))];
    bounds.into_iter().chain([("reason", json!(gap_name(reason)))]).chain(count)
}

fn gap_name(reason: GapReason) -> &'static str {
    match reason {
        GapReason::Retention => "retention",
        GapReason::Truncation => "truncation",
        GapReason::TopicRecreated => "topic_recreated",
        GapReason::Filtered { .. } => "filtered",
    }
}

pub fn revoke_name(reason: RevokeReason) -> &'static str {
    match reason {
        RevokeReason::Rebalance => "rebalance",
        RevokeReason::Lost => "lost",
        RevokeReason::TopicDeleted => "topic_deleted",
    }
}

/// `bytes` is what the frame has cost of the credit.
fn records_frame(subscription: u64, records: &StreamRecords, formats: Formats) -> Outgoing {
    const FIELDS_BYTES: usize = 48;
    let mut out = Vec::with_capacity(256 + records.size_bytes as usize + records.records.len() * FIELDS_BYTES);
    let StreamRecords { sequence, place, next, high_watermark, size_bytes, .. } = records;
    out.extend_from_slice(
        format!("{{\"type\":\"records\",\"sub\":{subscription},\"seq\":{sequence},\"topic\":").as_bytes(),
    );
    json::put_string(&mut out, &place.topic);
    out.extend_from_slice(format!(",\"partition\":{},\"records\":[", place.partition).as_bytes());
    for (index, record) in records.records.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
        put_record(&mut out, record, formats);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"next\":");
    formats.put_offset(&mut out, *next);
    out.extend_from_slice(b",\"hw\":");
    formats.put_offset(&mut out, *high_watermark);
    out.extend_from_slice(format!(",\"bytes\":{size_bytes}").as_bytes());
    if let Some(token) = records.positions.as_deref().and_then(token::of) {
        out.extend_from_slice(format!(",\"resume\":\"{token}\"").as_bytes());
    }
    out.push(b'}');
    Outgoing::Text(out.into())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use capek_actors::stream_events::Goodbye;
    use capek_wire::batch::Record;
    use capek_wire::error_code::ErrorCode;
    use capek_wire::ids::Uuid;

    use super::*;

    fn place() -> StreamPlace {
        StreamPlace::new("orders", 0)
    }

    fn parsed(frame: Option<Outgoing>) -> Value {
        let Some(Outgoing::Text(text)) = frame else { panic!("{frame:?}") };
        serde_json::from_slice(&text).unwrap()
    }

    fn told_as(formats: Formats, event: StreamEvent) -> Value {
        parsed(of_subscription(1, formats, json!({ "type": "subscribed" }))(&event))
    }

    fn told(event: StreamEvent) -> Value {
        told_as(Formats::default(), event)
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
        let position = Position { place: place(), topic_id: Uuid([1; 16]), next: 44, leader_epoch: 0 };
        let records = |positions| StreamRecords {
            sequence: 7,
            place: place(),
            records: vec![record.clone()],
            next: 44,
            high_watermark: 50,
            size_bytes: 8,
            positions,
        };
        let expected = json!({
            "type": "records", "sub": 1, "seq": 7, "topic": "orders", "partition": 0,
            "records": [{"offset": 43, "ts": 1_700_000_000_000_i64, "key": "k", "value": {"a": 1}}],
            "next": 44, "hw": 50, "bytes": 8
        });
        assert_eq!(told(StreamEvent::Records(records(None))), expected);
        let with_token = told(StreamEvent::Records(records(Some(vec![position.clone()]))));
        assert_eq!(token::parse(with_token["resume"].as_str().unwrap()), Ok(Some(vec![position])));
    }

    #[test]
    fn offsets_are_strings_for_those_who_ask_for_that() {
        let formats = Formats { has_text_offsets: true, ..Formats::default() };
        let beyond = (1 << 53) + 1;
        let text = beyond.to_string();
        let gap = StreamEvent::Gap { place: place(), requested: 1, resumed: beyond, reason: GapReason::Retention };
        let gap = told_as(formats, gap);
        assert_eq!((&gap["requested"], &gap["resumed"]), (&json!("1"), &json!(text)));
        let caught_up = told_as(formats, StreamEvent::CaughtUp { place: place(), next: beyond });
        assert_eq!(caught_up["next"], json!(text));
        let assignment = Assignment { place: place(), next: 1, end: beyond, leader_epoch: 3 };
        let assigned = StreamEvent::Assigned { generation: None, partitions: vec![assignment] };
        let assigned = &told_as(formats, assigned)["partitions"][0];
        assert_eq!((&assigned["next"], &assigned["end"], &assigned["epoch"]), (&json!("1"), &json!(text), &json!(3)));
        let committed = parsed(Some(acked(None, 1, &[(place(), beyond)], formats)));
        assert_eq!(committed["committed"][0]["offset"], json!(text));
    }

    #[test]
    fn the_other_events_of_a_subscription_have_their_frames() {
        let gap = StreamEvent::Gap { place: place(), requested: 10, resumed: 100, reason: GapReason::TopicRecreated };
        assert_eq!(
            told(gap),
            json!({"type": "gap", "topic": "orders", "partition": 0, "sub": 1, "requested": 10, "resumed": 100,
                   "reason": "topic_recreated"})
        );
        let filtered = GapReason::Filtered { count: 7 };
        assert_eq!(
            told(StreamEvent::Gap { place: place(), requested: 10, resumed: 100, reason: filtered }),
            json!({"type": "gap", "topic": "orders", "partition": 0, "sub": 1, "requested": 10, "resumed": 100,
                   "reason": "filtered", "count": 7})
        );
        let assignment = Assignment { place: place(), next: 1, end: 5, leader_epoch: 3 };
        assert_eq!(
            told(StreamEvent::Assigned { generation: Some(5), partitions: vec![assignment] }),
            json!({"type": "assigned", "sub": 1, "generation": 5,
                   "partitions": [{"topic": "orders", "partition": 0, "next": 1, "end": 5, "epoch": 3}]})
        );
        let deadline = Duration::from_secs(3);
        assert_eq!(
            told(StreamEvent::Revoked { partitions: vec![place()], deadline, reason: RevokeReason::Rebalance }),
            json!({"type": "revoked", "sub": 1, "partitions": [{"topic": "orders", "partition": 0}],
                   "deadline_ms": 3000, "reason": "rebalance"})
        );
        let problem = StreamEvent::Problem { place: None, code: ErrorCode::KafkaStorageError, message: "m".into() };
        assert_eq!(
            told(problem),
            json!({"type": "error", "sub": 1, "error_code": 50003, "message": "m", "retriable": true})
        );
        assert_eq!(told(StreamEvent::End), json!({"type": "end", "sub": 1}));
        assert_eq!(told(StreamEvent::Subscribed), json!({"type": "subscribed"}));
    }

    #[test]
    fn a_session_tells_of_its_lag_and_where_to_go_on() {
        let position = Position { place: place(), topic_id: Uuid([1; 16]), next: 44, leader_epoch: 0 };
        let positions = vec![(2, vec![position])];
        let heartbeat = StreamEvent::Heartbeat { now_ms: 5, lag: vec![(1, 12), (2, 0)], positions: positions.clone() };
        let heartbeat = parsed(of_session()(&heartbeat));
        assert_eq!((&heartbeat["t"], &heartbeat["lag"]), (&json!(5), &json!({"1": 12, "2": 0})));
        assert_eq!(token::parse(heartbeat["resume"]["2"].as_str().unwrap()), Ok(Some(positions[0].1.clone())));
        let goodbye = Goodbye { code: 1012, reason: "the broker stops", reconnect_after_ms: Some(850) };
        assert_eq!(
            parsed(of_session()(&StreamEvent::Goodbye { goodbye, positions: Vec::new() })),
            json!({"type": "goodbye", "code": 1012, "reason": "the broker stops", "reconnect_after_ms": 850})
        );
    }
}
