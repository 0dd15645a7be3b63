//! How keys and values stand in JSON: as JSON, as base64, or (Strimzi's) as text.

use actix_web::HttpRequest;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use capek_actors::consumer_commands::ReadRecord;

use super::super::json;
use super::super::problem::RestError;
use super::{V2_JSON, accepted};

/// See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Json,
    Binary,
    Text,
}

const NO_SCHEMAS: &str = "Payload error. Schema Registry must be configured when using schemas.";
const MISMATCH: &str = "The requested embedded data format does not match the deserializer for this consumer instance";
/// The code of a record that is not what the reader takes it for.
const SERIALIZATION: u32 = 40801;

impl Format {
    pub fn of_name(name: &str) -> Result<Format, RestError> {
        match name.to_ascii_lowercase().as_str() {
            "json" => Ok(Format::Json),
            "binary" => Ok(Format::Binary),
            "text" => Ok(Format::Text),
            "avro" | "jsonschema" | "protobuf" => Err(RestError::new(42206, NO_SCHEMAS)),
            other => {
                Err(RestError::new(42204, format!("Invalid consumer configuration: Invalid format type: {other}")))
            }
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Binary => "binary",
            Format::Text => "text",
        }
    }

    /// `application/json` is JSON too: that it is not with Confluent is what its users complain of.
    pub fn of_content_type(content_type: &str) -> Result<Format, RestError> {
        match content_type {
            "application/vnd.kafka.json.v2+json" | "application/json" => Ok(Format::Json),
            "application/vnd.kafka.binary.v2+json" | V2_JSON => Ok(Format::Binary),
            "application/vnd.kafka.text.v2+json" => Ok(Format::Text),
            "application/vnd.kafka.avro.v2+json"
            | "application/vnd.kafka.jsonschema.v2+json"
            | "application/vnd.kafka.protobuf.v2+json" => Err(RestError::new(42206, NO_SCHEMAS)),
            _ => Err(RestError::new(415, "HTTP 415 Unsupported Media Type")),
        }
    }

    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/vnd.kafka.json.v2+json",
            Format::Binary => "application/vnd.kafka.binary.v2+json",
            Format::Text => "application/vnd.kafka.text.v2+json",
        }
    }

    /// The one of an instance, if the client takes it: whoever asks for a format by its name wants no other.
    pub fn accepted_of(self, request: &HttpRequest) -> Result<Format, RestError> {
        let mut is_named = false;
        for item in accepted(request).split(',') {
            match item.split(';').next().unwrap_or("").trim() {
                "" => {}
                "*/*" | "application/*" | "application/json" => return Ok(self),
                name => {
                    is_named = true;
                    if name == self.media_type() || (name == V2_JSON && self == Format::Binary) {
                        return Ok(self);
                    }
                }
            }
        }
        if is_named { Err(RestError::new(40601, MISMATCH)) } else { Ok(self) }
    }

    /// Where there is no instance, the client chooses; binary unless it does.
    pub fn accepted(request: &HttpRequest) -> Result<Format, RestError> {
        let all = [Format::Binary, Format::Json, Format::Text];
        let found = all.into_iter().find_map(|format| format.accepted_of(request).ok());
        found.ok_or_else(|| RestError::new(406, "HTTP 406 Not Acceptable"))
    }
}

/// The records as one JSON array. One that cannot be written in this format is null, and says why.
pub fn records_body(records: &[ReadRecord], format: Format) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + records.len() * 128);
    out.push(b'[');
    for (index, record) in records.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        put_record(&mut out, record, format);
    }
    out.push(b']');
    out
}

fn put_record(out: &mut Vec<u8>, ReadRecord { place: (topic, partition), record }: &ReadRecord, format: Format) {
    out.extend_from_slice(b"{\"topic\":");
    json::put_string(out, topic);
    let mut problem = None;
    for (name, bytes) in [("key", &record.key), ("value", &record.value)] {
        out.extend_from_slice(format!(",\"{name}\":").as_bytes());
        if let Err(why) = put_value(out, bytes.as_ref(), format) {
            out.extend_from_slice(b"null");
            problem.get_or_insert(format!("the {name} {why}"));
        }
    }
    out.extend_from_slice(format!(",\"partition\":{partition},\"offset\":{}", record.offset).as_bytes());
    if !record.headers.is_empty() {
        out.extend_from_slice(b",\"headers\":[");
        for (index, header) in record.headers.iter().enumerate() {
            out.extend_from_slice(if index > 0 { b",{\"key\":" } else { b"{\"key\":" });
            json::put_string(out, &String::from_utf8_lossy(&header.key));
            out.extend_from_slice(b",\"value\":");
            put_base64(out, header.value.as_ref());
            out.push(b'}');
        }
        out.push(b']');
    }
    if let Some(problem) = problem {
        out.extend_from_slice(format!(",\"error_code\":{SERIALIZATION},\"error\":").as_bytes());
        json::put_string(out, &problem);
    }
    out.push(b'}');
}

fn put_value(out: &mut Vec<u8>, bytes: Option<&Bytes>, format: Format) -> Result<(), String> {
    let Some(value) = bytes else {
        out.extend_from_slice(b"null");
        return Ok(());
    };
    match format {
        Format::Json => {
            let parsed = json::parse(value).map_err(|error| format!("is not JSON: {error}"))?;
            json::put_compact(out, parsed.get());
        }
        Format::Binary => put_base64(out, bytes),
        Format::Text => {
            let text = std::str::from_utf8(value).map_err(|error| format!("is not text: {error}"))?;
            json::put_string(out, text);
        }
    }
    Ok(())
}

fn put_base64(out: &mut Vec<u8>, bytes: Option<&Bytes>) {
    match bytes {
        None => out.extend_from_slice(b"null"),
        Some(bytes) => {
            out.push(b'"');
            out.extend_from_slice(STANDARD.encode(bytes).as_bytes());
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use capek_wire::batch::{Record, RecordHeader};

    use super::*;

    fn record(value: &'static [u8]) -> ReadRecord {
        let headers = vec![RecordHeader { key: Bytes::from_static(b"h"), value: Some(Bytes::from_static(b"v")) }];
        let value = Some(Bytes::from_static(value));
        ReadRecord { place: ("t".to_owned(), 1), record: Record { offset: 7, timestamp: 0, key: None, value, headers } }
    }

    #[test]
    fn each_format_writes_the_same_record_its_own_way() {
        let check = |format, value: &'static [u8], expected: &str| {
            let body = String::from_utf8(records_body(&[record(value)], format)).unwrap();
            let head = format!("[{{\"topic\":\"t\",\"key\":null,\"value\":{expected}");
            assert!(body.starts_with(&head), "{body}");
            assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{body}");
        };
        let rest = ",\"partition\":1,\"offset\":7,\"headers\":[{\"key\":\"h\",\"value\":\"dg==\"}]}]";
        check(Format::Json, b" {\"a\": 1.0} ", &format!("{{\"a\":1.0}}{rest}"));
        check(Format::Binary, b"Kafka", &format!("\"S2Fma2E=\"{rest}"));
        check(Format::Text, b"a\"b", &format!("\"a\\\"b\"{rest}"));
        check(
            Format::Json,
            b"not",
            "null,\"partition\":1,\"offset\":7,\"headers\":[{\"key\":\"h\",\"value\":\"dg==\"}],\"error_code\":40801,\"error\":\"the value is not JSON",
        );
        check(Format::Text, b"\xff", "null,");
    }

    #[test]
    fn who_asks_for_another_format_by_name_is_refused() {
        let check = |accept: &str, format: Format, is_accepted: bool| {
            let request = TestRequest::get().insert_header(("Accept", accept)).to_http_request();
            assert_eq!(format.accepted_of(&request).is_ok(), is_accepted, "{accept} for {format:?}");
        };
        check("application/vnd.kafka.json.v2+json", Format::Json, true);
        check("application/vnd.kafka.json.v2+json", Format::Binary, false);
        check("application/vnd.kafka.v2+json", Format::Binary, true);
        check("application/vnd.kafka.v2+json", Format::Json, false);
        check("*/*", Format::Json, true);
        check("", Format::Text, true);
        check("application/vnd.kafka.v2+json, application/json; q=0.5", Format::Json, true);
    }
}
