//! `POST /topics/{topic}` and `POST /topics/{topic}/partitions/{partition}`: records as JSON values or as base64.

use actix_web::{HttpRequest, HttpResponse, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::super::body::{self, Size};
use super::super::doors::Doors;
use super::super::json;
use super::super::objects;
use super::super::problem::{RestError, record_code};
use super::super::produce::{self, NewRecord, NotStored, ProduceOptions, Stored};
use super::super::query::QueryPairs;
use super::formats::Format;
use super::{answer, media_type};

/// Of a record that is not what the format says it is.
const CONVERSION: u32 = 42203;

pub async fn post(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    store(&request, &topic, None, payload, &doors).await
}

pub async fn post_to_partition(
    request: HttpRequest,
    path: web::Path<(String, i32)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (topic, partition) = path.into_inner();
    store(&request, &topic, Some(partition), payload, &doors).await
}

async fn store(
    request: &HttpRequest,
    topic: &str,
    partition: Option<i32>,
    payload: web::Payload,
    doors: &web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let format = Format::of_content_type(media_type(request))?;
    let is_async = QueryPairs::of(request)?.get("async").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let body = body::read(request, payload, Size::Records, &doors.bodies).await?;
    let mut records = parse(&body.bytes, format)?;
    if let Some(Err(bad)) = records.first()
        && records.iter().all(Result::is_err)
    {
        return Err(bad.clone()); // there is nothing to store
    }
    if let Some(partition) = partition {
        let refused = |refusal: capek_state::Refusal| RestError::kafka(refusal.code, None);
        let partition_count = doors.client.partition_count(topic).await.map_err(refused)?;
        if !(0..partition_count).contains(&partition) {
            return Err(RestError::partition_not_found());
        }
        records.iter_mut().flatten().for_each(|record| record.partition = Some(partition));
    }
    if is_async {
        // Strimzi's: told to nobody, so that whether the topic is there is all that is looked at first.
        doors.client.partition_count(topic).await.map_err(|refusal| RestError::kafka(refusal.code, None))?;
        let (doors, topic) = (doors.clone(), topic.to_owned());
        actix_rt::spawn(async move {
            let _body = body;
            let records = records.into_iter().flatten().collect();
            if let Err(refusal) = produce::produce(&doors, &topic, records, ProduceOptions::default()).await {
                log::info!("records of an asynchronous request were not stored in {topic}: {refusal}");
            }
        });
        return Ok(HttpResponse::NoContent().finish());
    }
    let outcomes = produce::produce_good(doors, topic, records, ProduceOptions::default()).await;
    let outcomes = outcomes.map_err(|refusal| {
        let message = refusal.message.map(|message| message.into_owned());
        RestError::kafka(refusal.code, message)
    })?;
    let offsets: Vec<_> = outcomes.iter().map(result).collect();
    let body = json!({ "offsets": offsets, "key_schema_id": null, "value_schema_id": null });
    Ok(answer(request).body(body.to_string()))
}

#[derive(Deserialize)]
struct RequestBody<R> {
    records: Option<Vec<R>>,
}

#[derive(Deserialize)]
struct RequestRecord<'a> {
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
    partition: Option<i32>,
    /// Strimzi's, and welcome here.
    #[serde(default)]
    headers: Vec<RequestHeader>,
    timestamp: Option<i64>,
}

#[derive(Deserialize)]
struct RequestHeader {
    key: String,
    value: Option<String>,
}

/// A bad record is told in its place, and does not keep the others from being stored.
pub(super) fn parse(body: &[u8], format: Format) -> Result<Vec<Result<NewRecord, RestError>>, RestError> {
    let records = read(body).map_err(|error| RestError::new(400, error.to_string()))?;
    let records = records.filter(|records| !records.is_empty());
    let records = records.ok_or_else(|| RestError::new(422, "records must not be empty"))?;
    let record = |(index, record): (usize, Result<_, serde_json::Error>)| {
        let bad = |error| RestError::new(400, format!("records[{index}]: {}", json::what_is_wrong(&error)));
        new_record(index, record.map_err(bad)?, format)
    };
    Ok(records.into_iter().enumerate().map(record).collect())
}

type ReadRecord<'a> = Result<RequestRecord<'a>, serde_json::Error>;

/// Nearly always all are good, and read in one go.
fn read(body: &[u8]) -> Result<Option<Vec<ReadRecord<'_>>>, serde_json::Error> {
    if let Ok(RequestBody { records }) = objects::from_slice(body) {
        return Ok(records.map(|records| records.into_iter().map(Ok).collect()));
    }
    let RequestBody::<&RawValue> { records } = objects::from_slice(body)?;
    Ok(records.map(|records| records.into_iter().map(|record| objects::from_str(record.get())).collect()))
}

fn new_record(index: usize, record: RequestRecord, format: Format) -> Result<NewRecord, RestError> {
    if record.timestamp.is_some_and(|timestamp| timestamp < 0) {
        return Err(RestError::new(422, format!("records[{index}].timestamp must not be negative")));
    }
    let header = |header: RequestHeader| {
        let value = header.value.map(|value| decode(index, "headers", &value)).transpose()?;
        Ok((Bytes::from(header.key), value))
    };
    Ok(NewRecord {
        partition: record.partition,
        key: field(index, "key", record.key, format)?,
        value: field(index, "value", record.value, format)?,
        headers: record.headers.into_iter().map(header).collect::<Result<_, RestError>>()?,
        timestamp_ms: record.timestamp,
    })
}

/// JSON is stored as it was written, without its white space; binary is what its base64 says.
fn field(index: usize, name: &str, value: Option<&RawValue>, format: Format) -> Result<Option<Bytes>, RestError> {
    let Some(value) = value.map(RawValue::get).filter(|value| *value != "null") else { return Ok(None) };
    match format {
        Format::Json => {
            let mut compact = Vec::with_capacity(value.len());
            json::put_compact(&mut compact, value);
            Ok(Some(compact.into()))
        }
        Format::Text => {
            let text: String = serde_json::from_str(value)
                .map_err(|_| RestError::new(400, format!("records[{index}].{name} is not a string")))?;
            Ok(Some(text.into()))
        }
        Format::Binary => {
            let text: String = serde_json::from_str(value)
                .map_err(|_| RestError::new(400, format!("records[{index}].{name} is not a base64 string")))?;
            decode(index, name, &text).map(Some)
        }
    }
}

fn decode(index: usize, name: &str, base64: &str) -> Result<Bytes, RestError> {
    let decoded = STANDARD.decode(base64);
    decoded
        .map(Bytes::from)
        .map_err(|error| RestError::new(400, format!("records[{index}].{name} is not a base64 string: {error}")))
}

fn result(outcome: &Result<Result<Stored, NotStored>, RestError>) -> serde_json::Value {
    let failed = |error_code: u32, message: &str| json!({ "partition": null, "offset": null, "error_code": error_code, "error": message });
    match outcome {
        Ok(Ok(stored)) => {
            json!({ "partition": stored.partition, "offset": stored.offset, "error_code": null, "error": null })
        }
        Ok(Err(NotStored { code, message, is_retriable })) => {
            failed(record_code(*is_retriable), message.as_deref().unwrap_or(code.message()))
        }
        Err(bad) => failed(CONVERSION, &bad.message),
    }
}

#[cfg(test)]
mod tests {
    use capek_wire::error_code::ErrorCode;

    use super::*;

    /// All of them are good.
    fn parsed(body: &[u8], format: Format) -> Vec<NewRecord> {
        parse(body, format).unwrap().into_iter().map(Result::unwrap).collect()
    }

    #[test]
    fn json_is_stored_as_it_was_written() {
        let body = br#"{"records":[{"key":"k","value":{"z": 1.10, "a":[ 1 ]}},{"value":null,"partition":1}],"value_schema_id":null}"#;
        let records = parsed(body, Format::Json);
        assert_eq!(records[0].key.as_deref(), Some(&b"\"k\""[..]));
        assert_eq!(records[0].value.as_deref(), Some(&br#"{"z":1.10,"a":[1]}"#[..]));
        assert_eq!((&records[1].value, records[1].partition), (&None, Some(1)));
    }

    #[test]
    fn binary_and_headers_are_base64() {
        let body =
            br#"{"records":[{"key":"a2V5","value":"Y29uZmx1ZW50","headers":[{"key":"h","value":"dg=="},{"key":"n","value":null}],"timestamp":7}]}"#;
        let records = parsed(body, Format::Binary);
        assert_eq!(records[0].value.as_deref(), Some(&b"confluent"[..]));
        let headers = [(Bytes::from("h"), Some(Bytes::from("v"))), (Bytes::from("n"), None)];
        assert_eq!((&records[0].headers[..], records[0].timestamp_ms), (&headers[..], Some(7)));
    }

    #[test]
    fn bad_bodies_have_their_codes() {
        let check = |body: &str, format, error_code: u32, part: &str| {
            let error = parse(body.as_bytes(), format).unwrap_err();
            assert_eq!(error.error_code, error_code, "{body}");
            assert!(error.message.contains(part), "{}", error.message);
        };
        check(r#"{"records":[{"value":}]}"#, Format::Json, 400, "line 1 column 22");
        check(r#"{"records":[]}"#, Format::Json, 422, "empty");
        check("{}", Format::Json, 422, "empty");
        check(r#"{"records":1}"#, Format::Json, 400, "line 1 column 12");
        check(r#"[1]"#, Format::Json, 400, "expected an object");
        check(r#"[[{"value":1}]]"#, Format::Json, 400, "expected an object");
    }

    #[test]
    fn a_bad_record_is_told_in_its_place() {
        let check = |bad: &str, format, part: &str| {
            let body = format!(r#"{{"records":[{{"value":"aGk="}},{bad},{{"value":null}}]}}"#);
            let records = parse(body.as_bytes(), format).unwrap();
            let is_good: Vec<_> = records.iter().map(Result::is_ok).collect();
            assert_eq!(is_good, [true, false, true], "{bad}");
            let message = &records[1].as_ref().unwrap_err().message;
            assert!(message.contains(part), "{message}");
        };
        check(r#"{"value":"?"}"#, Format::Binary, "records[1].value is not a base64 string");
        check(r#"{"value":1}"#, Format::Binary, "records[1].value is not a base64 string");
        check(r#"{"key":[]}"#, Format::Text, "records[1].key is not a string");
        check(r#"{"headers":[{"key":"h","value":"?"}]}"#, Format::Json, "records[1].headers is not a base64 string");
        check(r#"{"timestamp":"now"}"#, Format::Json, "records[1]: invalid type: string \"now\"");
        check(r#"{"timestamp":-1}"#, Format::Json, "records[1].timestamp must not be negative");
        check(r#"{"partition":1.5}"#, Format::Json, "records[1]: ");
        check("1", Format::Json, "records[1]: invalid type: integer `1`, expected an object");
        check("[null,1,null,[],null]", Format::Json, "records[1]: invalid type: sequence, expected an object");
        check(r#"{"headers":[["h","dg=="]]}"#, Format::Json, "records[1]: invalid type: sequence, expected an object");
    }

    #[test]
    fn an_outcome_has_every_field() {
        let stored = Ok(Ok(Stored { partition: 1, offset: 7, timestamp_ms: 0 }));
        assert_eq!(result(&stored), json!({"partition": 1, "offset": 7, "error_code": null, "error": null}));
        let failed = Ok(Err(NotStored::new(ErrorCode::NotEnoughReplicas, None)));
        assert_eq!(result(&failed)["error_code"], json!(50003));
        let failed = Ok(Err(NotStored::new(ErrorCode::MessageTooLarge, None)));
        assert_eq!(result(&failed)["error_code"], json!(50002));
        let bad = result(&Err(RestError::new(400, "m")));
        assert_eq!(bad, json!({"partition": null, "offset": null, "error_code": 42203, "error": "m"}));
    }
}
