//! Records as JSON lines, the same form in and out: what `consume --format jsonl` prints `produce --format jsonl` takes.
//!
//! ```json
//! {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":"k","value":"v","headers":[["h","1"]]}
//! ```
//!
//! Bytes that are no text stand as `{"$b64":"…"}`. On the way in `topic`, `partition`, `timestamp`, `key` and `headers` may
//! be missing, `offset` is ignored, and a value that is another JSON value is sent as it is written.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::format::Shown;
use crate::client::ProducerRecord;

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub struct InputRecord {
    pub partition: Option<i32>,
    pub record: ProducerRecord,
}

/// Appends the record as one line.
pub fn write(record: &Shown, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"topic\":");
    write_text(record.topic, out);
    let numbers = format!(
        ",\"partition\":{},\"offset\":{},\"timestamp\":{},\"key\":",
        record.partition, record.offset, record.timestamp
    );
    out.extend_from_slice(numbers.as_bytes());
    write_bytes(record.key, out);
    out.extend_from_slice(b",\"value\":");
    write_bytes(record.value, out);
    out.extend_from_slice(b",\"headers\":[");
    for (index, (key, value)) in record.headers.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"[" } else { b",[" });
        write_bytes(Some(key), out);
        out.push(b',');
        write_bytes(*value, out);
        out.push(b']');
    }
    out.extend_from_slice(b"]}\n");
}

fn write_bytes(bytes: Option<&[u8]>, out: &mut Vec<u8>) {
    match bytes.map(std::str::from_utf8) {
        None => out.extend_from_slice(b"null"),
        Some(Ok(text)) => write_text(text, out),
        Some(Err(_)) => {
            let encoded = STANDARD.encode(bytes.unwrap_or_default());
            out.extend_from_slice(format!("{{\"$b64\":\"{encoded}\"}}").as_bytes());
        }
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("text is always JSON, and a Vec takes it");
}

#[derive(Deserialize)]
struct Line<'a> {
    partition: Option<i32>,
    timestamp: Option<i64>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    #[serde(borrow, default)]
    headers: Vec<(&'a RawValue, &'a RawValue)>,
}

#[derive(Deserialize)]
struct Base64Value {
    #[serde(rename = "$b64")]
    encoded: String,
}

/// Reads one line.
pub fn read(line: &[u8]) -> Result<InputRecord, String> {
    let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let mut headers = Vec::new();
    for (key, value) in line.headers {
        let key = bytes_of(key)?.ok_or("a header's key is null")?;
        headers.push((key, bytes_of(value)?));
    }
    let optional = |value: Option<&RawValue>| value.map_or(Ok(None), bytes_of);
    let record =
        ProducerRecord { timestamp: line.timestamp, key: optional(line.key)?, value: optional(line.value)?, headers };
    Ok(InputRecord { partition: line.partition, record })
}

fn bytes_of(value: &RawValue) -> Result<Option<Bytes>, String> {
    let text = value.get();
    if text == "null" {
        return Ok(None);
    }
    if text.starts_with('"') {
        let text: String = serde_json::from_str(text).map_err(|error| error.to_string())?;
        return Ok(Some(Bytes::from(text)));
    }
    if text.starts_with('{')
        && let Ok(Base64Value { encoded }) = serde_json::from_str(text)
    {
        let decoded = STANDARD.decode(encoded).map_err(|error| format!("$b64: {error}"))?;
        return Ok(Some(Bytes::from(decoded)));
    }
    Ok(Some(Bytes::copy_from_slice(text.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_go_there_and_back() {
        let shown = Shown {
            topic: "t",
            partition: 2,
            offset: 9,
            timestamp: 5,
            leader_epoch: 0,
            key: Some(b"\xff\x00"),
            value: Some("ž\"\n".as_bytes()),
            headers: &[(b"a", Some(b"1")), (b"a", None)],
            index: 0,
        };
        let mut line = Vec::new();
        write(&shown, &mut line);
        assert_eq!(
            String::from_utf8(line.clone()).unwrap(),
            "{\"topic\":\"t\",\"partition\":2,\"offset\":9,\"timestamp\":5,\"key\":{\"$b64\":\"/wA=\"},\"value\":\"ž\\\"\\n\",\
             \"headers\":[[\"a\",\"1\"],[\"a\",null]]}\n"
        );
        let read = read(&line).unwrap();
        assert_eq!(read.partition, Some(2));
        assert_eq!(read.record.key.as_deref(), Some(&b"\xff\x00"[..]));
        assert_eq!(read.record.value.as_deref(), Some("ž\"\n".as_bytes()));
        assert_eq!(read.record.headers, [("a".into(), Some("1".into())), ("a".into(), None)]);
    }

    #[test]
    fn other_json_is_sent_as_it_is_written() {
        let value = |line: &str| read(line.as_bytes()).unwrap().record.value;
        assert_eq!(value(r#"{"value":{"a": 1.0}}"#), Some(r#"{"a": 1.0}"#.into()));
        assert_eq!(value(r#"{"value":[1,2]}"#), Some("[1,2]".into()));
        assert_eq!(value(r#"{"value":null}"#), None);
        assert_eq!(value(r#"{}"#), None);
    }

    #[test]
    fn mistakes_are_told() {
        assert!(read(b"{\"value\":").is_err());
        assert!(read(b"[]").is_err());
        assert!(read(b"{\"value\":{\"$b64\":\"?\"}}").unwrap_err().contains("$b64"));
    }
}
