//! `POST /v1/topics/{topic}`: the body is the record. `curl -d hello …?key=k&partition=0&header.trace=1`.
//!
//! The value is stored as it came, whatever its type; what says it is JSON is checked first. `application/x-ndjson` is one
//! record a line, `text/csv` one a row: the good ones are stored, and each has a line in the answer.

use std::fmt::{Display, Write as _};
use std::time::{Duration, Instant};

use actix_web::dev::{RequestHead, ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode, header};
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, web};
use bytes::Bytes;
use capek_actors::produce::Acks;
use capek_wire::error_code::ErrorCode;

use super::super::body::{self, Body, Size};
use super::super::doors::Doors;
use super::super::gather::Gatherer;
use super::super::idempotency::{self, IdempotencyKey};
use super::super::json;
use super::super::problem::{JsonPosition, Problem};
use super::super::produce::{NewRecord, NotStored, ProduceOptions, Stored, produce};
use super::super::query::QueryPairs;
use super::{NDJSON, check_topic_name, csv};

pub async fn post(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    store(&request, &topic, payload, &doors).await
}

/// The topic of a request for [`post`], when that is as plain as it nearly always is.
pub fn posted_topic(request: &RequestHead) -> Option<&str> {
    let topic = request.uri.path().strip_prefix("/v1/topics/")?;
    (request.method == Method::POST && check_topic_name(topic).is_ok()).then_some(topic)
}

/// [`post`] of a [`posted_topic`], without the router and the layers behind it: they take longer than all that is done here.
pub async fn post_directly(request: ServiceRequest, doors: &web::Data<Doors>) -> ServiceResponse {
    let (request, mut payload) = request.into_parts();
    let payload = match web::Payload::from_request(&request, &mut payload).await {
        Ok(payload) => payload,
        Err(error) => return ServiceResponse::from_err(error, request),
    };
    let topic = posted_topic(request.head()).unwrap_or("");
    let answer = store(&request, topic, payload, doors).await;
    let mut answer = answer.unwrap_or_else(HttpResponse::from_error);
    answer.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    ServiceResponse::new(request, answer)
}

async fn store(
    request: &HttpRequest,
    topic: &str,
    payload: web::Payload,
    doors: &web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(topic)?;
    let query = QueryPairs::of(request)?;
    let options = options(&query, request)?;
    let template = template(&query, request)?;
    let mut body = body::read(request, payload, Size::Records, &doors.bodies).await?;
    let media_type = media_type(request);
    match split(media_type, &body.bytes) {
        None => {
            let value = one_value(media_type.0, std::mem::take(&mut body.bytes))?;
            let record = NewRecord { value: Some(value), ..template };
            store_one(doors, request, topic, record, options, body).await
        }
        // What is done once for many records may cost an allocation: the others' futures stay small.
        Some(values) => Box::pin(store_many(doors, request, topic, (values, template), options, body)).await,
    }
}

async fn store_one(
    doors: &web::Data<Doors>,
    request: &HttpRequest,
    topic: &str,
    record: NewRecord,
    options: ProduceOptions,
    body: Body,
) -> Result<HttpResponse, Problem> {
    if prefers_no_wait(request) {
        return Box::pin(store_later(doors, topic, vec![record], options, body)).await;
    }
    let began = Instant::now();
    let stored = Gatherer::of(request).produce(doors, topic, record, options, body).await?;
    let mut text = String::with_capacity(ANSWER_BYTES);
    put_stored(&mut text, &stored.map_err(|not_stored| Problem::from(&not_stored))?);
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(timed(HttpResponse::Ok().insert_header(json).body(text), began))
}

async fn store_many(
    doors: &web::Data<Doors>,
    request: &HttpRequest,
    topic: &str,
    (values, template): (Vec<Result<Bytes, Problem>>, NewRecord),
    options: ProduceOptions,
    body: Body,
) -> Result<HttpResponse, Problem> {
    if values.is_empty() {
        return Err(Problem::bad_request("there is no record in the body"));
    }
    let good = values.iter().flatten();
    let records: Vec<_> = good.map(|value| NewRecord { value: Some(value.clone()), ..template.clone() }).collect();
    if records.len() == values.len() && prefers_no_wait(request) {
        return store_later(doors, topic, records, options, body).await;
    }
    let began = Instant::now();
    let stored = if records.is_empty() { Vec::new() } else { produce(doors, topic, records, options).await? };
    Ok(timed(answer_lines(&outcomes(values, stored)), began))
}

/// Says how long storing took.
fn timed(mut answer: HttpResponse, began: Instant) -> HttpResponse {
    let took = began.elapsed();
    let (ms, us) = (took.as_millis(), took.subsec_micros() % 1_000);
    let timing = format!("store;dur={ms}.{us:03}");
    answer.headers_mut().insert(SERVER_TIMING, HeaderValue::try_from(timing).expect("digits are legal in a header"));
    answer
}

/// About as long is the answer to a record.
const ANSWER_BYTES: usize = 80;
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const KEY: HeaderName = HeaderName::from_static("capek-key");
const PARTITION: HeaderName = HeaderName::from_static("capek-partition");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The records of a body that holds many; None: it is one.
fn split((media_type, parameters): (&str, &str), body: &Bytes) -> Option<Vec<Result<Bytes, Problem>>> {
    match media_type {
        NDJSON | "application/ndjson" | "application/jsonl" => Some(lines(body)),
        "text/csv" => {
            let has_names = parameters.split(';').any(|one| one.trim().eq_ignore_ascii_case("header=present"));
            Some(rows(body, has_names))
        }
        _ => None,
    }
}

fn one_value(media_type: &str, body: Bytes) -> Result<Bytes, Problem> {
    if media_type == "application/json" {
        json::parse(&body).map_err(|error| Problem::json(&error, 0))?;
    }
    Ok(body)
}

/// `Prefer: respond-async` (RFC 7240).
fn prefers_no_wait(request: &HttpRequest) -> bool {
    let mut preferences = request.headers().get_all(PREFER).filter_map(|value| value.to_str().ok());
    preferences.any(|list| list.split(',').any(|one| one.trim().eq_ignore_ascii_case("respond-async")))
}

/// Answered before it is stored, and stored all the same, as far as it can be: nobody is told when not. What it holds in memory
/// stays paid for.
async fn store_later(
    doors: &web::Data<Doors>,
    topic: &str,
    records: Vec<NewRecord>,
    options: ProduceOptions,
    body: Body,
) -> Result<HttpResponse, Problem> {
    doors.client.partition_count(topic).await?;
    let (doors, topic, in_flight) = (doors.clone(), topic.to_owned(), doors.begin());
    actix_rt::spawn(async move {
        let stored = produce(&doors, &topic, records, options).await;
        if let Some(problem) = stored.map_or_else(|refusal| Some(refusal.code), |stored| first_failure(&stored)) {
            log::debug!("what was to be stored in {topic} later was not: {problem}");
        }
        drop((body, in_flight));
    });
    Ok(HttpResponse::Accepted().insert_header(("Preference-Applied", "respond-async")).finish())
}

fn first_failure(stored: &[Result<Stored, NotStored>]) -> Option<ErrorCode> {
    stored.iter().find_map(|outcome| outcome.as_ref().err().map(|not_stored| not_stored.code))
}

/// An outcome for each value, in their order; what is bad does not keep the others from being stored.
fn outcomes(
    values: Vec<Result<Bytes, Problem>>,
    stored: Vec<Result<Stored, NotStored>>,
) -> Vec<Result<Stored, Problem>> {
    let mut stored = stored.into_iter();
    let missing = || Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the record has no outcome");
    let outcome = |value: Result<Bytes, Problem>| {
        value.and_then(|_| stored.next().ok_or_else(missing)?.map_err(|not_stored| Problem::from(&not_stored)))
    };
    values.into_iter().map(outcome).collect()
}

/// The type of the body and its parameters.
fn media_type(request: &HttpRequest) -> (&str, &str) {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let (media_type, parameters) = value.split_once(';').unwrap_or((value, ""));
    (media_type.trim(), parameters)
}

fn options(query: &QueryPairs, request: &HttpRequest) -> Result<ProduceOptions, Problem> {
    /// Less is no time at all for a disk that is busy.
    const TIMEOUT_MS_MIN: u64 = 1_000;
    const TIMEOUT_MS_MAX: u64 = 300_000;
    let default = ProduceOptions::default();
    let acks = match query.get("acks") {
        None => default.acks,
        Some("all" | "-1") => Acks::All,
        Some("1") => Acks::Leader,
        Some("0") => Acks::None,
        Some(other) => return Err(Problem::bad_request(format!("acks={other} is not 0, 1 or all"))),
    };
    let timeout =
        query.number("timeout_ms")?.map(|ms: u64| Duration::from_millis(ms.clamp(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX)));
    let idempotency = idempotency_key(request)?.map(IdempotencyKey::new);
    Ok(ProduceOptions { acks, timeout: timeout.unwrap_or(default.timeout), idempotency })
}

fn idempotency_key(request: &HttpRequest) -> Result<Option<&[u8]>, Problem> {
    const KEY_BYTES_MAX: usize = 255;
    let Some(key) = request.headers().get(IDEMPOTENCY_KEY) else { return Ok(None) };
    let key = key.as_bytes();
    let is_legal = (1..=KEY_BYTES_MAX).contains(&key.len()) && key.iter().all(|byte| (b' '..=b'~').contains(byte));
    let refused = || Problem::bad_request(format!("{} is 1 to {KEY_BYTES_MAX} letters of ASCII", idempotency::HEADER));
    if is_legal { Ok(Some(key)) } else { Err(refused()) }
}

/// What the query and our headers say of the record, or of each record: `key`, `partition`, `timestamp` and `header.X`, or
/// `Capek-Key`, `Capek-Partition` and `Capek-Header-X`.
fn template(query: &QueryPairs, request: &HttpRequest) -> Result<NewRecord, Problem> {
    const HEADER_PREFIX: &str = "capek-header-";
    let headers = request.headers();
    let key = query.get("key").map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let key = key.or_else(|| headers.get(KEY).map(|key| Bytes::copy_from_slice(key.as_bytes())));
    let partition = match query.number("partition")? {
        Some(partition) => Some(partition),
        None => match headers.get(PARTITION) {
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
    if let Some(key) = idempotency_key(request)? {
        // Whoever reads the log can tell, too, also when the partitions have forgotten it.
        record_headers.push((copy(idempotency::HEADER.as_bytes()), Some(copy(key))));
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

fn number_of(value: &HeaderValue) -> Result<i32, Problem> {
    let number = value.to_str().ok().and_then(|text| text.trim().parse().ok());
    number.ok_or_else(|| Problem::bad_request("Capek-Partition is not a number that fits"))
}

/// Each line is a record; empty lines are not.
pub(super) fn lines(body: &Bytes) -> Vec<Result<Bytes, Problem>> {
    let lines = body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty());
    let value = |(index, line)| match json::parse(line) {
        Ok(_) => Ok(body.slice_ref(line)),
        Err(error) => Err(Problem::json(&error, index)),
    };
    lines.map(value).collect()
}

fn rows(body: &Bytes, has_names: bool) -> Vec<Result<Bytes, Problem>> {
    let problem = |line, what| {
        let position = Some(JsonPosition { line, column: 1 });
        Problem { position, ..Problem::bad_request(format!("this is not a row of CSV: {what} (line {line})")) }
    };
    let rows = csv::rows(body, has_names).into_iter();
    rows.map(|(line, row)| row.map_err(|what| problem(line, what))).collect()
}

fn put_stored(out: &mut String, stored: &Stored) {
    let Stored { partition, offset, timestamp_ms } = stored;
    // acks=0 does not wait to learn the offset.
    let offset: &dyn Display = if *offset >= 0 { offset } else { &"null" };
    write!(out, "{{\"partition\":{partition},\"offset\":{offset},\"timestamp\":{timestamp_ms}}}")
        .expect("text is written to memory");
}

/// 207 when only some are stored; when none is, the status is that of the first failure.
fn answer_lines(outcomes: &[Result<Stored, Problem>]) -> HttpResponse {
    let first_failure = outcomes.iter().find_map(|outcome| outcome.as_ref().err());
    let status = match first_failure {
        None => StatusCode::OK,
        Some(first) if outcomes.iter().all(Result::is_err) => first.status,
        Some(_) => StatusCode::MULTI_STATUS,
    };
    let mut text = String::new();
    for outcome in outcomes {
        match outcome {
            Ok(stored) => put_stored(&mut text, stored),
            Err(problem) => text.push_str(&problem.body().to_string()),
        }
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
        let values = lines(&Bytes::from_static(b"{\"n\":1}\r\n\n 2 \n{\"n\":\n"));
        let good: Vec<_> = values.iter().flatten().collect();
        assert_eq!(good, ["{\"n\":1}", "2"]);
        let problem = values[2].as_ref().unwrap_err();
        assert_eq!(problem.position.map(|position| position.line), Some(4));
        assert!(lines(&Bytes::from_static(b"\n\n")).is_empty());
    }

    #[test]
    fn the_status_says_whether_all_some_or_none_are_stored() {
        let stored = || Ok(Stored { partition: 0, offset: 1, timestamp_ms: 2 });
        let check = |outcomes: &[Result<Stored, Problem>], expected| {
            assert_eq!(answer_lines(outcomes).status(), expected);
        };
        check(&[stored(), stored()], StatusCode::OK);
        check(&[stored(), Err(Problem::bad_request("x"))], StatusCode::MULTI_STATUS);
        check(&[Err(Problem::unavailable("x")), Err(Problem::bad_request("x"))], StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn the_query_and_headers_of_ours_describe_the_record() {
        let request = TestRequest::with_uri("/v1/topics/t?key=k&partition=1&header.a=1&header.a=2&timestamp=5")
            .insert_header(("Capek-Header-Trace", "x"))
            .insert_header(("Idempotency-Key", "once"))
            .to_http_request();
        let record = template(&QueryPairs::of(&request).unwrap(), &request).unwrap();
        let header = |key: &'static str, value: &'static str| (Bytes::from(key), Some(Bytes::from(value)));
        assert_eq!(
            record.headers,
            [header("a", "1"), header("a", "2"), header("trace", "x"), header("Idempotency-Key", "once")]
        );
        assert_eq!((record.partition, record.timestamp_ms), (Some(1), Some(5)));
        assert_eq!(record.key, Some(Bytes::from_static(b"k")));
        let request = TestRequest::with_uri("/v1/topics/t").insert_header(("Capek-Key", "h")).to_http_request();
        let record = template(&QueryPairs::of(&request).unwrap(), &request).unwrap();
        assert_eq!(record.key, Some(Bytes::from_static(b"h")));
    }

    #[test]
    fn plain_posts_are_known_without_the_router() {
        let check = |method: Method, uri: &str, expected: Option<&str>| {
            let request = TestRequest::with_uri(uri).method(method).to_http_request();
            assert_eq!(posted_topic(request.head()), expected, "{uri}");
        };
        check(Method::POST, "/v1/topics/a.b_c-9", Some("a.b_c-9"));
        check(Method::POST, "/v1/topics/t?key=/", Some("t"));
        check(Method::GET, "/v1/topics/t", None);
        for uri in
            ["/v1/topics", "/v1/topics/", "/v1/topics/t/", "/v1/topics/t/records", "/v1/topics/a%2Eb", "/topics/t"]
        {
            check(Method::POST, uri, None);
        }
    }

    #[test]
    fn acks_are_kafkas_words() {
        let check = |query: &str, expected: Option<Acks>| {
            let request = TestRequest::with_uri(&format!("/?{query}")).to_http_request();
            let found = options(&QueryPairs::of(&request).unwrap(), &request).ok().map(|options| options.acks);
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
