//! One record of a REST v3 produce request, and the report on it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use capek_wire::error_code::ErrorCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::super::json;
use super::super::objects;
use super::super::problem::record_code;
use super::super::produce::{NewRecord, NotStored, Stored};

/// A record as the request has it.
#[derive(Deserialize)]
pub struct RequestRecord<'a> {
    partition_id: Option<i32>,
    #[serde(default)]
    headers: Vec<RequestHeader>,
    #[serde(borrow)]
    key: Option<RequestData<'a>>,
    #[serde(borrow)]
    value: Option<RequestData<'a>>,
    timestamp: Option<String>,
}

#[derive(Deserialize)]
struct RequestHeader {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
struct RequestData<'a> {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    schema_id: Option<i64>,
    #[serde(borrow)]
    schema_version: Option<&'a RawValue>,
    subject: Option<String>,
    subject_name_strategy: Option<String>,
}

/// Why there is no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRecord {
    pub code: u32,
    pub message: String,
}

/// A record that can be stored, and what its report says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyRecord {
    pub record: NewRecord,
    key: Option<Described>,
    value: Option<Described>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Described {
    kind: &'static str,
    size: usize,
}

const NO_SCHEMAS: &str = "Payload error. Schema Registry must be configured when using schemas.";
const SCHEMA_PAYLOAD: u32 = 42206;

fn bad(what: impl std::fmt::Display) -> BadRecord {
    BadRecord { code: 400, message: format!("Bad Request: {what}") }
}

/// The text is JSON already.
pub fn parse(text: &[u8]) -> Result<ReadyRecord, BadRecord> {
    let record: RequestRecord<'_> = objects::from_slice(text).map_err(bad)?;
    ready(record)
}

pub fn ready(record: RequestRecord<'_>) -> Result<ReadyRecord, BadRecord> {
    let mut headers = Vec::with_capacity(record.headers.len());
    for header in record.headers {
        let value = header.value.map(|text| decode(&text).ok_or_else(|| not_base64(&json!(text)))).transpose()?;
        headers.push((Bytes::from(header.name), value));
    }
    let timestamp_ms = match &record.timestamp {
        None => None,
        Some(text) => {
            let time: Timestamp = text.parse().map_err(|error| bad(format!("timestamp={text}: {error}")))?;
            Some(time.as_millisecond()).filter(|ms| *ms >= 0)
        }
    };
    if record.timestamp.is_some() && timestamp_ms.is_none() {
        return Err(bad("timestamp is before 1970"));
    }
    let (key_bytes, key) = data(record.key)?;
    let (value_bytes, value) = data(record.value)?;
    let partition = record.partition_id;
    let record = NewRecord { partition, key: key_bytes, value: value_bytes, headers, timestamp_ms };
    Ok(ReadyRecord { record, key, value })
}

/// The bytes to store. Nothing at all, and data that is null, are null: as a value that deletes the key.
fn data(data: Option<RequestData<'_>>) -> Result<(Option<Bytes>, Option<Described>), BadRecord> {
    let Some(data) = data else { return Ok((None, None)) };
    let Some(kind) = schemaless_kind(&data)? else {
        return Err(BadRecord { code: SCHEMA_PAYLOAD, message: NO_SCHEMAS.to_owned() });
    };
    let Some(raw) = data.data.filter(|raw| raw.get() != "null") else {
        return Ok((None, None));
    };
    let bytes = match kind {
        "JSON" => {
            let mut compact = Vec::with_capacity(raw.get().len());
            json::put_compact(&mut compact, raw.get());
            Bytes::from(compact)
        }
        "STRING" => {
            let text: String =
                serde_json::from_str(raw.get()).map_err(|_| bad(format!("data={raw} is not a string.")))?;
            Bytes::from(text)
        }
        _ => {
            let text = serde_json::from_str::<String>(raw.get()).ok();
            text.and_then(|text| decode(&text)).ok_or_else(|| not_base64(&raw))?
        }
    };
    let size = bytes.len();
    Ok((Some(bytes), Some(Described { kind, size })))
}

/// None: a schema says what the data is, and which one it is, is said as it may be: by `type` and `schema`, by `schema_id` or
/// `schema_version`, or not at all: it is the subject's latest.
fn schemaless_kind(data: &RequestData<'_>) -> Result<Option<&'static str>, BadRecord> {
    let kind = data.kind.as_deref();
    let said = [
        ("schema", data.schema.is_some()),
        ("schema_id", data.schema_id.is_some()),
        ("schema_version", data.schema_version.is_some()),
        ("subject", data.subject.is_some()),
        ("subject_name_strategy", data.subject_name_strategy.is_some()),
    ];
    if let Some(schemaless) = ["BINARY", "JSON", "STRING"].into_iter().find(|schemaless| kind == Some(schemaless)) {
        return match said.iter().find(|(_, is_said)| *is_said) {
            Some((name, _)) => Err(bad(format!("type={schemaless} has no schema: {name} is not for it"))),
            None => Ok(Some(schemaless)),
        };
    }
    if let Some(other) = kind.filter(|kind| !["AVRO", "JSONSCHEMA", "PROTOBUF"].contains(kind)) {
        return Err(bad(format!("type={other} is not BINARY, JSON, STRING, AVRO, JSONSCHEMA or PROTOBUF")));
    }
    let [(_, has_schema), (_, has_id), (_, has_version), (_, has_subject), (_, has_strategy)] = said;
    match (kind.is_some(), has_schema, has_id, has_version) {
        _ if has_subject && has_strategy => Err(bad("subject and subject_name_strategy exclude each other")),
        (true, true, false, false) | (false, false, false, _) | (false, false, true, false) => Ok(None),
        (true, false, false, false) => Err(bad(format!("type={} comes with its schema", kind.unwrap_or_default()))),
        _ => Err(bad("a schema is said by type and schema, by schema_id alone or by schema_version alone")),
    }
}

fn not_base64(data: &dyn std::fmt::Display) -> BadRecord {
    bad(format!("data={data} is not a base64 string."))
}

fn decode(base64: &str) -> Option<Bytes> {
    STANDARD.decode(base64).ok().map(Bytes::from)
}

/// What is told of a record that is stored.
pub fn report(cluster_id: &str, topic: &str, ready: &Reported, stored: &Stored) -> Map<String, Value> {
    let time = Timestamp::from_millisecond(stored.timestamp_ms).unwrap_or_default();
    let mut report = Map::new();
    report.insert("error_code".to_owned(), json!(200));
    report.insert("cluster_id".to_owned(), json!(cluster_id));
    report.insert("topic_name".to_owned(), json!(topic));
    report.insert("partition_id".to_owned(), json!(stored.partition));
    report.insert("offset".to_owned(), json!(stored.offset));
    report.insert("timestamp".to_owned(), json!(time.to_string()));
    for (name, described) in [("key", &ready.key), ("value", &ready.value)] {
        if let Some(Described { kind, size }) = described {
            report.insert(name.to_owned(), json!({ "type": kind, "size": size }));
        }
    }
    report
}

/// What remains of a record when it is on its way.
pub struct Reported {
    key: Option<Described>,
    value: Option<Described>,
}

impl ReadyRecord {
    pub fn split(self) -> (NewRecord, Reported) {
        (self.record, Reported { key: self.key, value: self.value })
    }
}

/// A record that was not stored, in the numbers of REST.
pub fn not_stored(NotStored { code, message, .. }: &NotStored) -> BadRecord {
    let message = message.clone().unwrap_or_else(|| code.message().to_owned());
    match code {
        ErrorCode::UnknownTopicOrPartition => {
            BadRecord { code: 40403, message: "This server does not host this topic-partition.".to_owned() }
        }
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge => BadRecord { code: 413, message },
        ErrorCode::InvalidTopicException | ErrorCode::InvalidRecord | ErrorCode::InvalidTimestamp => {
            BadRecord { code: 40002, message }
        }
        code => BadRecord { code: record_code(code.is_retriable()), message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_stored_as_it_says() {
        let record = br#"{"partition_id":1,"headers":[{"name":"h","value":"dg=="},{"name":"n","value":null}],
            "key":{"type":"BINARY","data":"Zm9vYmFy"},"value":{"type":"JSON","data":{"foo": "bar"}},
            "timestamp":"2021-02-05T19:14:42Z"}"#;
        let ready = parse(record).unwrap();
        let headers = vec![(Bytes::from("h"), Some(Bytes::from("v"))), (Bytes::from("n"), None)];
        let expected = NewRecord {
            partition: Some(1),
            key: Some(Bytes::from("foobar")),
            value: Some(Bytes::from(r#"{"foo":"bar"}"#)),
            headers,
            timestamp_ms: Some(1_612_552_482_000),
        };
        assert_eq!(ready.record, expected);
        let stored = Stored { partition: 1, offset: 7, timestamp_ms: 1_612_552_482_000 };
        let report = Value::Object(report("C", "t", &ready.split().1, &stored));
        let expected = json!({"error_code": 200, "cluster_id": "C", "topic_name": "t", "partition_id": 1, "offset": 7,
            "timestamp": "2021-02-05T19:14:42Z", "key": {"type": "BINARY", "size": 6}, "value": {"type": "JSON", "size": 13}});
        assert_eq!(report, expected);
    }

    #[test]
    fn no_data_deletes_the_key() {
        for text in [r#"{}"#, r#"{"value":null}"#, r#"{"value":{"type":"JSON","data":null}}"#] {
            let ready = parse(text.as_bytes()).unwrap();
            assert_eq!((ready.record.value, ready.value), (None, None), "{text}");
        }
    }

    #[test]
    fn a_schema_is_said_in_one_way() {
        let check = |fields: &str, code: u32| {
            for field in ["key", "value"] {
                let text = format!(r#"{{"{field}":{{{fields}"data":1}}}}"#);
                assert_eq!(parse(text.as_bytes()).unwrap_err().code, code, "{text}");
            }
        };
        // As far as it is legal there is no registry to ask.
        for strategy in ["", r#""subject":"s","#, r#""subject_name_strategy":"TOPIC_NAME","#] {
            check(strategy, 42206);
            check(&format!(r#"{strategy}"type":"AVRO","schema":"{{}}","#), 42206);
            check(&format!(r#"{strategy}"schema_id":1,"#), 42206);
            check(&format!(r#"{strategy}"schema_version":1,"#), 42206);
            check(&format!(r#"{strategy}"schema_id":1,"schema_version":null,"#), 42206);
        }
        check(r#""type":"AVRO","#, 400);
        check(r#""schema":"{}","#, 400);
        check(r#""type":"PROTOBUF","schema_id":1,"#, 400);
        check(r#""type":"JSONSCHEMA","schema_version":1,"#, 400);
        check(r#""type":"AVRO","schema":"{}","schema_id":1,"#, 400);
        check(r#""schema_id":1,"schema_version":1,"#, 400);
        check(r#""schema":"{}","schema_id":1,"#, 400);
        check(r#""subject":"s","subject_name_strategy":"TOPIC_NAME","#, 400);
        check(r#""type":"JSON","subject":"s","#, 400);
    }

    #[test]
    fn what_is_wrong_is_told() {
        let check = |text: &str, code: u32, part: &str| {
            let error = parse(text.as_bytes()).unwrap_err();
            assert_eq!(error.code, code, "{text}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(r#"{"value":{"type":"BINARY","data":1}}"#, 400, "Bad Request: data=1 is not a base64 string.");
        check(r#"{"value":{"type":"STRING","data":1}}"#, 400, "data=1 is not a string.");
        check(r#"{"value":{"type":"JSON","schema_id":1,"data":1}}"#, 400, "has no schema");
        check(r#"{"value":{"type":"XML","data":1}}"#, 400, "type=XML");
        check(r#"{"value":1}"#, 400, "Bad Request: ");
        check(r#"{"timestamp":"yesterday"}"#, 400, "timestamp=yesterday");
        let list = r#"[0,[],null,["STRING","x",null,null,null,null,null],null]"#;
        check(list, 400, "Bad Request: invalid type: sequence, expected an object");
        check(r#"{"value":["STRING","x",null,null,null,null,null]}"#, 400, "expected an object");
        check(r#"{"headers":[["h","dg=="]]}"#, 400, "expected an object");
    }
}
