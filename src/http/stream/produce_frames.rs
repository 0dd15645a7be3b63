//! Records that come in over a WebSocket: understood, stored, answered. A frame with a `seq` is stored once, however often it
//! comes and over whichever connection of its session.

use std::time::Duration;

use actix_web::web;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use capek_actors::produce::Acks;
use capek_actors::stream_events::Outgoing;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::PartitionIndex;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::idempotency::IdempotencyKey;
use super::super::json;
use super::super::objects;
use super::super::problem::{Problem, RestError};
use super::super::produce::{NewRecord, NotStored, ProduceOptions, Stored, produce_good};
use super::frames;
use super::values::Formats;

/// Longer waits are for the client, which sends it again.
const STORED_WITHIN: Duration = Duration::from_secs(30);

/// A frame of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProduceFrame {
    pub id: Option<Value>,
    pub sequence: Option<u64>,
    pub acks: Acks,
    /// None: that of the socket.
    pub topic: Option<String>,
    /// What is wrong with one is told in its place.
    pub records: Vec<Result<NewRecord, String>>,
    /// Of the answer.
    pub formats: Formats,
}

#[derive(Deserialize)]
struct RawProduce<R> {
    topic: Option<String>,
    seq: Option<u64>,
    #[serde(default)]
    offset_str: bool,
    #[serde(default)]
    acks: Value,
    records: Vec<R>,
}

impl<R> RawProduce<R> {
    fn map<S>(self, read: impl FnMut(R) -> S) -> RawProduce<S> {
        let RawProduce { topic, seq, offset_str, acks, records } = self;
        RawProduce { topic, seq, offset_str, acks, records: records.into_iter().map(read).collect() }
    }
}

#[derive(Deserialize)]
struct RawRecord<'a> {
    partition: Option<PartitionIndex>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Vec<(String, Option<&'a RawValue>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrapped {
    #[serde(rename = "$b64")]
    base64: String,
}

/// Reads the fields of a `produce` in JSON; its `id` has been read already.
pub fn parse(text: &[u8], id: Option<Value>) -> Result<ProduceFrame, String> {
    let raw = read(text).map_err(|error| format!("produce: {error}"))?;
    let acks = match &raw.acks {
        Value::Null => Acks::All,
        acks if *acks == json!("all") || *acks == json!(-1) => Acks::All,
        acks if *acks == json!("1") || *acks == json!(1) => Acks::Leader,
        acks if *acks == json!("0") || *acks == json!(0) => Acks::None,
        acks => return Err(format!("acks={acks} is not all, 1 or 0")),
    };
    let new_record = |raw: ReadRecord| raw.map_err(|error| json::what_is_wrong(&error)).and_then(record);
    let records = raw.records.into_iter().map(new_record).collect();
    let formats = Formats { has_text_offsets: raw.offset_str, ..Formats::default() };
    Ok(ProduceFrame { id, sequence: raw.seq, acks, topic: raw.topic, records, formats })
}

type ReadRecord<'a> = Result<RawRecord<'a>, serde_json::Error>;

/// Nearly always all records are good, and read in one go.
fn read(text: &[u8]) -> Result<RawProduce<ReadRecord<'_>>, serde_json::Error> {
    if let Ok(raw) = objects::from_slice::<RawProduce<RawRecord>>(text) {
        return Ok(raw.map(Ok));
    }
    let raw: RawProduce<&RawValue> = objects::from_slice(text)?;
    Ok(raw.map(|record| objects::from_str(record.get())))
}

fn record(raw: RawRecord) -> Result<NewRecord, String> {
    if raw.timestamp.is_some_and(|timestamp_ms| timestamp_ms < 0) {
        return Err("timestamp is in milliseconds since 1970, and not negative".to_owned());
    }
    let header = |(name, value): (String, Option<&RawValue>)| Ok::<_, String>((Bytes::from(name), bytes_of(value)?));
    Ok(NewRecord {
        partition: raw.partition,
        key: bytes_of(raw.key)?,
        value: bytes_of(raw.value)?,
        headers: raw.headers.into_iter().map(header).collect::<Result<_, _>>()?,
        timestamp_ms: raw.timestamp,
    })
}

/// The other way round as `format=auto` shows bytes: a string is its text, `{"$b64":"…"}` its bytes, other JSON is stored as it
/// was written.
fn bytes_of(value: Option<&RawValue>) -> Result<Option<Bytes>, String> {
    let Some(text) = value.map(RawValue::get).filter(|text| *text != "null") else { return Ok(None) };
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return Ok(Some(Bytes::from(text)));
    }
    if text.starts_with('{')
        && let Ok(wrapped) = objects::from_str::<Wrapped>(text)
    {
        let bytes = STANDARD.decode(&wrapped.base64).map_err(|error| format!("$b64 is not base64: {error}"))?;
        return Ok(Some(Bytes::from(bytes)));
    }
    let mut out = Vec::with_capacity(text.len());
    json::put_compact(&mut out, text);
    Ok(Some(Bytes::from(out)))
}

/// Stores the records, and says what became of each.
pub async fn store(doors: &web::Data<Doors>, session: &str, topic: &str, frame: ProduceFrame) -> Outgoing {
    let ProduceFrame { id, sequence, acks, records, formats, .. } = frame;
    if records.is_empty() {
        return frames::error(id.as_ref(), 422, "records is empty", false);
    }
    let idempotency = sequence.map(|sequence| IdempotencyKey::of_sequence(session, sequence));
    let options = ProduceOptions { acks, timeout: STORED_WITHIN, idempotency };
    let outcomes = match produce_good(doors, topic, records, options).await {
        Ok(outcomes) => outcomes,
        Err(refusal) => {
            let is_retriable = refusal.code.is_retriable();
            let error = RestError::kafka(refusal.code, refusal.message.map(|message| message.into_owned()));
            return frames::error(id.as_ref(), error.error_code, &error.message, is_retriable);
        }
    };
    let results: Vec<_> = outcomes.iter().map(|outcome| result(outcome, sequence, formats)).collect();
    let mut frame = json!({ "type": "produced" });
    if let Some(id) = id {
        frame["id"] = id;
    }
    if let Some(sequence) = sequence {
        frame["seq"] = json!(sequence);
    }
    frame["results"] = json!(results);
    frames::text(&frame)
}

fn result(outcome: &Result<Result<Stored, NotStored>, String>, sequence: Option<u64>, formats: Formats) -> Value {
    let stored = match outcome {
        Ok(stored) => stored,
        Err(message) => return json!({ "error_code": 400, "message": message, "retriable": false }),
    };
    match stored {
        Ok(Stored { partition, offset, timestamp_ms }) => {
            json!({ "partition": partition, "offset": formats.offset(*offset), "ts": timestamp_ms })
        }
        Err(NotStored { code: ErrorCode::InvalidProducerEpoch, .. }) if sequence.is_some() => json!({
            "error_code": 409,
            "message": "this seq is too old to be told whether it was stored: 64 later ones have been",
            "retriable": false,
        }),
        Err(NotStored { code: ErrorCode::OutOfOrderSequenceNumber, .. }) if sequence.is_some() => {
            json!({ "error_code": 409, "message": "this seq was used for other records", "retriable": false })
        }
        Err(not_stored) => {
            let problem = Problem::from(not_stored);
            json!({ "error_code": problem.error_code(), "message": problem.detail, "retriable": problem.is_retriable })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_records_as_they_are_shown() {
        let text = br#"{"type":"produce","topic":"t","acks":"1","seq":4,"records":[
            {"key":"k","value":{ "a": 1.0 },"headers":[["h","v"],["n",null]],"partition":2,"timestamp":5},
            {"value":{"$b64":"/wA="}},{"value":null},{"value":{"$b64":"AA==","more":1}}]}"#;
        let frame = parse(text, Some(json!(9))).unwrap();
        assert_eq!((frame.sequence, frame.acks, frame.topic.as_deref()), (Some(4), Acks::Leader, Some("t")));
        let records: Vec<_> = frame.records.into_iter().map(Result::unwrap).collect();
        let first = &records[0];
        assert_eq!((first.key.as_deref(), first.value.as_deref()), (Some(&b"k"[..]), Some(&b"{\"a\":1.0}"[..])));
        assert_eq!((first.partition, first.timestamp_ms), (Some(2), Some(5)));
        let headers = [(Bytes::from("h"), Some(Bytes::from("v"))), (Bytes::from("n"), None)];
        assert_eq!(first.headers, headers);
        let values: Vec<_> = records[1..].iter().map(|record| record.value.as_deref()).collect();
        assert_eq!(values, [Some(&b"\xff\0"[..]), None, Some(&b"{\"$b64\":\"AA==\",\"more\":1}"[..])]);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |text: &str, part: &str| {
            let problem = parse(text.as_bytes(), None).unwrap_err();
            assert!(problem.contains(part), "{problem}");
        };
        check(r#"{"records":1}"#, "produce");
        check(r#"["t",1,false,"all",[]]"#, "expected an object");
        check(r#"{}"#, "records");
        check(r#"{"acks":2,"records":[]}"#, "acks=2");
        check(r#"{"seq":-1,"records":[]}"#, "produce");
        check(r#"{"records":[{"value":}]}"#, "column 22");
    }

    #[test]
    fn a_bad_record_is_told_in_its_place() {
        let check = |bad: &str, part: &str| {
            let text = format!(r#"{{"type":"produce","seq":3,"records":[{{"value":1}},{bad},{{}}]}}"#);
            let frame = parse(text.as_bytes(), None).unwrap();
            let is_good: Vec<_> = frame.records.iter().map(Result::is_ok).collect();
            assert_eq!((frame.sequence, is_good), (Some(3), vec![true, false, true]), "{bad}");
            let message = frame.records[1].as_ref().unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        check(r#"{"value":{"$b64":"!"}}"#, "base64");
        check(r#"{"headers":[["h",{"$b64":"!"}]]}"#, "base64");
        check(r#"{"headers":[["h"]]}"#, "invalid length 1");
        check(r#"{"timestamp":-1}"#, "timestamp");
        check(r#"{"timestamp":"now"}"#, "invalid type: string \"now\"");
        check("7", "invalid type: integer `7`, expected an object");
        check("[0,1,null,null,[]]", "expected an object");
    }
}
