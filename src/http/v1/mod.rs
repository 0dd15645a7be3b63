//! `/v1`: records in and out as they are, and small JSON for scripts.
//!
//! ```text
//!   produce   POST /v1/topics/{topic}: the body is the record, or each of its lines     topics   listed, made, changed, deleted
//!   csv       rows of text/csv                                                          groups   members, offsets, lag
//!   read      GET …/records: lines of JSON, up to an end
//! ```

mod csv;
mod groups;
mod produce;
mod read;
mod topics;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::PartitionIndex;
use serde::de::DeserializeOwned;

use super::body::{self, Size};
use super::doors::Doors;
use super::objects;
use super::problem::Problem;
use super::query::QueryPairs;
use super::routes::{self, Answer, Endpoint};
use super::stream::{StartAt, now_ms, parse_place as parse_words};

pub use produce::{post_directly, posted_topic};
pub use read::lines as read_lines;

pub const NDJSON: &str = "application/x-ndjson";
const J: &str = "application/json";
const JSON: &[&str] = &[J];

/// To lines and rows, and to who does not wait.
const OF_MANY: &[Answer] = &[
    Answer { status: 200, media_type: Some(NDJSON), schema: "Text" },
    Answer { status: 202, media_type: None, schema: "" },
    Answer { status: 207, media_type: Some(NDJSON), schema: "Text" },
];

#[rustfmt::skip] // a table, one endpoint after the other
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/v1/topics", || routes::get().to(topics::list), "The topics").query(&["internal"]).answers(200, J, "V1Topics"),
    Endpoint::post("/v1/topics", || web::post().to(topics::create), "Makes a topic").body(JSON, "V1NewTopic").answers(201, J, "V1Topic")
        .also(&[Answer { status: 200, media_type: Some(J), schema: "V1Topic" }]),
    Endpoint::get("/v1/topics/{topic}", || routes::get().to(topics::describe), "A topic, its partitions and where they end").answers(200, J, "V1Topic"),
    Endpoint::patch("/v1/topics/{topic}", || web::patch().to(topics::change), "Changes configs, adds partitions")
        .body(JSON, "V1TopicChanges").answers(200, J, "V1Topic"),
    Endpoint::delete("/v1/topics/{topic}", || web::delete().to(topics::delete), "Deletes a topic"),
    Endpoint::post("/v1/topics/{topic}", || web::post().to(produce::post), "The body is the record, or each of its lines is")
        .query(&["key", "partition", "timestamp", "acks", "timeout_ms"]).headers(&["Idempotency-Key", "Prefer", "Capek-Key", "Capek-Partition"])
        .body(&["text/plain", "application/json", "application/octet-stream", NDJSON, "text/csv"], "Any").answers(200, J, "V1Stored").also(OF_MANY),
    Endpoint::get("/v1/topics/{topic}/configs", || routes::get().to(topics::list_configs), "A topic's configs, whoever has set them").answers(200, J, "V1Configs"),
    Endpoint::get("/v1/topics/{topic}/offsets", || routes::get().to(topics::list_offsets), "The offset of a time in each partition")
        .query(&["at", "partitions"]).answers(200, J, "V1Offsets"),
    Endpoint::get("/v1/topics/{topic}/records", || routes::get().to(read::get), "What a topic holds, as lines of JSON, up to an end")
        .query(&["from", "to", "partitions", "limit", "format", "key_format", "envelope"]).answers(200, NDJSON, "Text"),
    Endpoint::get("/v1/groups", || routes::get().to(groups::list), "The consumer groups").answers(200, J, "V1Groups"),
    Endpoint::get("/v1/groups/{group}", || routes::get().to(groups::describe), "A group and its members").answers(200, J, "V1Group"),
    Endpoint::delete("/v1/groups/{group}", || web::delete().to(groups::delete), "Deletes a group that has no members"),
    Endpoint::get("/v1/groups/{group}/offsets", || routes::get().to(groups::offsets), "What a group has committed, and how far it is behind")
        .answers(200, J, "V1GroupOffsets"),
    Endpoint::post("/v1/groups/{group}/offsets", || web::post().to(groups::reset), "Puts the offsets of a group without members elsewhere")
        .body(JSON, "V1Reset").answers(200, J, "V1GroupOffsets"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

pub fn check_topic_name(topic: &str) -> Result<(), Problem> {
    match capek_wire::ids::topic_name_problem(topic) {
        Some(problem) => Err(Problem::bad_request(format!("this is no name of a topic: {problem}"))),
        None => Ok(()),
    }
}

pub fn no_such_topic() -> Problem {
    Problem::kafka(ErrorCode::UnknownTopicOrPartition, Some("Topic not found.".to_owned()))
}

/// A place in the log, in the words of a stream's `from`.
fn place_of(query: &QueryPairs, name: &str, default: &str) -> Result<StartAt, Problem> {
    parse_place(name, query.get(name).unwrap_or(default))
}

fn parse_place(name: &str, text: &str) -> Result<StartAt, Problem> {
    let place = parse_words(text, now_ms());
    place.map_err(|problem| Problem::bad_request(problem.replacen("from=", &format!("{name}="), 1)))
}

/// Those that `partitions` names (`0,3`), each once; all of the topic's when it names none.
fn partitions_of(doors: &Doors, topic: &str, query: &QueryPairs) -> Result<Vec<PartitionIndex>, Problem> {
    let image = doors.client.image();
    let count = image.topic_by_name(topic).ok_or_else(no_such_topic)?.partitions.len() as PartitionIndex;
    let Some(list) = query.get("partitions") else { return Ok((0..count).collect()) };
    let mut partitions = Vec::new();
    for item in list.split(',') {
        let partition: Option<PartitionIndex> = item.trim().parse().ok();
        let partition =
            partition.ok_or_else(|| Problem::bad_request(format!("partitions={list}: '{item}' is no partition")))?;
        if !(0..count).contains(&partition) {
            let detail = format!("topic {topic} has no partition {partition}: it has {count}");
            return Err(Problem::no_such_partition(detail));
        }
        if !partitions.contains(&partition) {
            partitions.push(partition);
        }
    }
    Ok(partitions)
}

/// The body of anything but records. It must say that it is JSON: what a page of another origin may send without asking does not.
pub async fn read_body<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    doors: &Doors,
) -> Result<T, Problem> {
    let media_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = media_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if !media_type.ends_with("json") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is application/json here, and says so"));
    }
    let body = body::read(request, payload, Size::Small, &doors.bodies).await?;
    objects::from_slice(&body.bytes).map_err(|error| Problem::json(&error, 0))
}

/// For the fuzzer: whatever this is, it is answered.
#[cfg(test)]
pub fn read_any(input: &[u8]) {
    let body = bytes::Bytes::copy_from_slice(input);
    let _ = (produce::lines(&body), csv::rows(&body, true), csv::rows(&body, false));
}
