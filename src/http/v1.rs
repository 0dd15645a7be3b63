//! `POST /v1/topics/{topic}`: the body is the record. `curl -d hello …?key=k&partition=0&header.trace=1`.
//!
//! The value is stored as it came, whatever its type; what says it is JSON is checked first. `application/x-ndjson` is one
//! record a line, all of them or none if one is no JSON, and an answer a line.

use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use capek_actors::produce::Acks;
use serde_json::json;

use super::body::{self, RECORDS_BYTES_MAX};
use super::doors::Doors;
use super::json;
use super::problem::{self, Problem};
use super::produce::{NewRecord, NotStored, ProduceOptions, Stored, produce};
use super::query::QueryPairs;

pub fn routes(config: &mut web::ServiceConfig) {
    let topic = web::resource("/v1/topics/{topic}").post(post);
    config.service(topic.default_service(web::to(problem::no_such_method)));
}

const NDJSON: &str = "application/x-ndjson";

async fn post(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    let query = QueryPairs::of(&request)?;
    let options = options(&query)?;
    let template = template(&query, &request)?;
    let body = body::read(&request, payload, RECORDS_BYTES_MAX, &doors.body_budget).await?;
    match content_type(&request) {
        NDJSON | "application/ndjson" | "application/jsonl" => {
            let records = lines(&body.bytes, &template)?;
            let outcomes = produce(&doors, &topic, records, options).await?;
            Ok(answer_lines(&outcomes))
        }
        content_type => {
            if content_type == "application/json" {
                json::parse(&body.bytes).map_err(|error| Problem::json(&error, 0))?;
            }
            let record = NewRecord { value: Some(body.bytes.clone()), ..template };
            let outcomes = produce(&doors, &topic, vec![record], options).await?;
            match outcomes.into_iter().next() {
                Some(Ok(stored)) => Ok(HttpResponse::Ok().json(stored_body(&stored))),
                Some(Err(not_stored)) => Err(problem_of(&not_stored)),
                None => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the record has no outcome")),
            }
        }
    }
}

pub fn check_topic_name(topic: &str) -> Result<(), Problem> {
    match capek_wire::ids::topic_name_problem(topic) {
        Some(problem) => Err(Problem::bad_request(format!("this is no name of a topic: {problem}"))),
        None => Ok(()),
    }
}

/// Without its parameters, in lower case where it matters to us.
fn content_type(request: &HttpRequest) -> &str {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    value.split(';').next().unwrap_or("").trim()
}

fn options(query: &QueryPairs) -> Result<ProduceOptions, Problem> {
    const TIMEOUT_MS_MAX: u64 = 300_000;
    let default = ProduceOptions::default();
    let acks = match query.get("acks") {
        None => default.acks,
        Some("all" | "-1") => Acks::All,
        Some("1") => Acks::Leader,
        Some("0") => Acks::None,
        Some(other) => return Err(Problem::bad_request(format!("acks={other} is not 0, 1 or all"))),
    };
    let timeout = query.number("timeout_ms")?.map(|ms: u64| Duration::from_millis(ms.min(TIMEOUT_MS_MAX)));
    Ok(ProduceOptions { acks, timeout: timeout.unwrap_or(default.timeout) })
}

/// What the query and our headers say of the record, or of each record: `key`, `partition`, `timestamp` and `header.X`, or
/// `Capek-Key`, `Capek-Partition` and `Capek-Header-X`.
fn template(query: &QueryPairs, request: &HttpRequest) -> Result<NewRecord, Problem> {
    const HEADER_PREFIX: &str = "capek-header-";
    let headers = request.headers();
    let key = query.get("key").map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let key = key.or_else(|| headers.get("capek-key").map(|key| Bytes::copy_from_slice(key.as_bytes())));
    let partition = match query.number("partition")? {
        Some(partition) => Some(partition),
        None => match headers.get("capek-partition") {
            Some(value) => Some(number_of(value)?),
            None => None,
        },
    };
    let own = |(name, value): (&str, &str)| (copy(name.as_bytes()), Some(copy(value.as_bytes())));
    let mut record_headers: Vec<_> = query.with_prefix("header.").map(own).collect();
    for (name, value) in headers {
        if let Some(name) = name.as_str().strip_prefix(HEADER_PREFIX) {
            record_headers.push((copy(name.as_bytes()), Some(copy(value.as_bytes()))));
        }
    }
    let timestamp_ms = query.number("timestamp")?;
    if timestamp_ms.is_some_and(|timestamp_ms: i64| timestamp_ms < 0) {
        return Err(Problem::bad_request("timestamp is in milliseconds since 1970, and not negative"));
    }
    Ok(NewRecord { partition, key, value: None, headers: record_headers, timestamp_ms })
}

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn number_of(value: &header::HeaderValue) -> Result<i32, Problem> {
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Problem::bad_request("Capek-Partition is not a number that fits"))
}

/// Each line is a record; empty lines are not.
fn lines(body: &Bytes, template: &NewRecord) -> Result<Vec<NewRecord>, Problem> {
    let mut records = Vec::new();
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() {
            json::parse(line).map_err(|error| Problem::json(&error, index))?;
            records.push(NewRecord { value: Some(body.slice_ref(line)), ..template.clone() });
        }
    }
    if records.is_empty() { Err(Problem::bad_request("there is no record in the body")) } else { Ok(records) }
}

fn stored_body(stored: &Stored) -> serde_json::Value {
    // acks=0 does not wait to learn the offset.
    let offset = (stored.offset >= 0).then_some(stored.offset);
    json!({ "partition": stored.partition, "offset": offset, "timestamp": stored.timestamp_ms })
}

fn problem_of(not_stored: &NotStored) -> Problem {
    Problem::kafka(not_stored.code, not_stored.message.clone())
}

/// The status is that of the first failure when nothing at all was stored.
fn answer_lines(outcomes: &[Result<Stored, NotStored>]) -> HttpResponse {
    let mut status = StatusCode::OK;
    if let (true, Some(Err(first))) = (outcomes.iter().all(Result::is_err), outcomes.first()) {
        status = problem::status_of(first.code);
    }
    let mut text = String::new();
    for outcome in outcomes {
        let line = match outcome {
            Ok(stored) => stored_body(stored),
            Err(not_stored) => problem_of(not_stored).body(),
        };
        text.push_str(&line.to_string());
        text.push('\n');
    }
    HttpResponse::build(status).content_type(NDJSON).body(text)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_line_is_a_record_and_a_bad_one_is_told_by_its_number() {
        let template = NewRecord { partition: Some(3), ..Default::default() };
        let records = lines(&Bytes::from_static(b"{\"n\":1}\r\n\n 2 \n"), &template).unwrap();
        let values: Vec<_> = records.iter().map(|record| record.value.clone().unwrap()).collect();
        assert_eq!(values, ["{\"n\":1}", "2"]);
        assert!(records.iter().all(|record| record.partition == Some(3)));
        let problem = lines(&Bytes::from_static(b"1\n\n{\"n\":\n"), &template).unwrap_err();
        assert_eq!(problem.position.map(|position| position.line), Some(3));
        assert!(lines(&Bytes::from_static(b"\n\n"), &template).is_err());
    }

    #[test]
    fn the_query_and_headers_of_ours_describe_the_record() {
        let request = TestRequest::with_uri("/v1/topics/t?key=k&partition=1&header.a=1&header.a=2&timestamp=5")
            .insert_header(("Capek-Header-Trace", "x"))
            .to_http_request();
        let record = template(&QueryPairs::of(&request).unwrap(), &request).unwrap();
        let header = |key: &'static str, value: &'static str| (Bytes::from(key), Some(Bytes::from(value)));
        assert_eq!(record.headers, [header("a", "1"), header("a", "2"), header("trace", "x")]);
        assert_eq!((record.partition, record.timestamp_ms), (Some(1), Some(5)));
        assert_eq!(record.key, Some(Bytes::from_static(b"k")));
        let request = TestRequest::with_uri("/v1/topics/t").insert_header(("Capek-Key", "h")).to_http_request();
        let record = template(&QueryPairs::of(&request).unwrap(), &request).unwrap();
        assert_eq!(record.key, Some(Bytes::from_static(b"h")));
    }

    #[test]
    fn acks_are_kafkas_words() {
        let check = |query: &str, expected: Option<Acks>| {
            let request = TestRequest::with_uri(&format!("/?{query}")).to_http_request();
            let found = options(&QueryPairs::of(&request).unwrap()).ok().map(|options| options.acks);
            assert_eq!(found, expected, "{query}");
        };
        check("", Some(Acks::All));
        check("acks=all", Some(Acks::All));
        check("acks=1", Some(Acks::Leader));
        check("acks=0", Some(Acks::None));
        check("acks=2", None);
        check("timeout_ms=x", None);
    }
}
