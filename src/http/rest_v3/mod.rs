//! Confluent's REST v3, as an interface from its public description; under `/v3`, and under `/kafka/v3` as in their server.
//!
//! ```text
//!   clusters    the cluster and its brokers        records     records in: a stream with reports, or a batch
//!   topics      made, grown, deleted               record      one record and its report
//!   configs     of topics, brokers, the cluster    splitter    JSON values that follow each other, cut apart
//!   partitions  replicas and reassignments         resource    the envelope of every answer
//!   groups      members, assignments, lag
//! ```

mod clusters;
mod configs;
mod groups;
mod partitions;
mod record;
mod records;
mod resource;
mod splitter;
mod topics;

use actix_web::http::header;
use actix_web::{HttpRequest, web};
use serde::de::DeserializeOwned;

use super::body::{self, Size};
use super::doors::Doors;
use super::objects;
use super::problem::RestError;
use super::routes::{self, Endpoint};
use super::v1::NDJSON;

pub const PREFIXES: [&str; 2] = ["/v3", "/kafka/v3"];

const JSON: &[&str] = &["application/json"];
const J: &str = "application/json";

macro_rules! below {
    ($rest:literal) => {
        concat!("/clusters/{cluster_id}", $rest)
    };
}

/// A path with a dash in a place where others have a name stands before them.
#[rustfmt::skip] // a table, one endpoint after the other
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/clusters", || routes::get().to(clusters::list_clusters), "The cluster, as a list of one")
        .answers(200, J, "V3List"),
    Endpoint::get(below!(""), || routes::get().to(clusters::get_cluster), "The cluster").answers(200, J, "V3Resource"),
    Endpoint::get(below!("/acls"), || routes::get().to(clusters::acls), "Access control lists; there is no authorizer").answers(200, J, "V3List"),
    Endpoint::post(below!("/acls"), || web::post().to(clusters::acls), "Makes an access control list").answers(201, J, "Any"),
    Endpoint::delete(below!("/acls"), || web::delete().to(clusters::acls), "Deletes access control lists"),
    Endpoint::post(below!("/acls:batch"), || web::post().to(clusters::acls), "Makes access control lists").answers(201, J, "Any"),

    Endpoint::get(below!("/brokers"), || routes::get().to(clusters::list_brokers), "The brokers").answers(200, J, "V3List"),
    Endpoint::get(below!("/brokers/-/configs"), || routes::get().to(configs::list_of_all_brokers), "The configs of all brokers")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/brokers/{broker_id}"), || routes::get().to(clusters::get_broker), "A broker").answers(200, J, "V3Resource"),
    Endpoint::get(below!("/brokers/{broker_id}/partition-replicas"), || routes::get().to(clusters::broker_replicas), "The replicas on a broker")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/brokers/{broker_id}/configs"), || routes::get().to(configs::list_of_broker), "A broker's configs").answers(200, J, "V3List"),
    Endpoint::post(below!("/brokers/{broker_id}/configs:alter"), || web::post().to(configs::alter_of_broker), "Changes some of a broker's configs")
        .body(JSON, "V3AlterConfigs").nothing(),
    Endpoint::get(below!("/brokers/{broker_id}/configs/{name}"), || routes::get().to(configs::get_of_broker), "A config of a broker")
        .answers(200, J, "V3Resource"),
    Endpoint::put(below!("/brokers/{broker_id}/configs/{name}"), || web::put().to(configs::put_of_broker), "Sets a config of a broker")
        .body(JSON, "V3Value").nothing(),
    Endpoint::delete(below!("/brokers/{broker_id}/configs/{name}"), || web::delete().to(configs::reset_of_broker), "Resets a config of a broker"),
    Endpoint::get(below!("/broker-configs"), || routes::get().to(configs::list_of_cluster), "The configs of all brokers together").answers(200, J, "V3List"),
    Endpoint::post(below!("/broker-configs:alter"), || web::post().to(configs::alter_of_cluster), "Changes some configs of all brokers together")
        .body(JSON, "V3AlterConfigs").nothing(),
    Endpoint::get(below!("/broker-configs/{name}"), || routes::get().to(configs::get_of_cluster), "A config of all brokers together")
        .answers(200, J, "V3Resource"),
    Endpoint::put(below!("/broker-configs/{name}"), || web::put().to(configs::put_of_cluster), "Sets a config of all brokers together")
        .body(JSON, "V3Value").nothing(),
    Endpoint::delete(below!("/broker-configs/{name}"), || web::delete().to(configs::reset_of_cluster), "Resets a config of all brokers together"),

    Endpoint::get(below!("/topics"), || routes::get().to(topics::list), "The topics").answers(200, J, "V3List"),
    Endpoint::post(below!("/topics"), || web::post().to(topics::create), "Makes a topic").body(JSON, "V3CreateTopic").answers(201, J, "V3Resource"),
    Endpoint::get(below!("/topics/-/configs"), || routes::get().to(configs::list_of_all_topics), "The configs of all topics").answers(200, J, "V3List"),
    Endpoint::get(below!("/topics/-/partitions/-/reassignment"), || routes::get().to(partitions::all_reassignments), "The partitions that move")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/topics/{topic}"), || routes::get().to(topics::get), "A topic").answers(200, J, "V3Resource"),
    Endpoint::patch(below!("/topics/{topic}"), || web::patch().to(topics::grow), "Adds partitions to a topic")
        .body(JSON, "V3GrowTopic").answers(200, J, "V3Resource"),
    Endpoint::delete(below!("/topics/{topic}"), || web::delete().to(topics::delete), "Deletes a topic"),
    Endpoint::post(below!("/topics/{topic}/records"), || web::post().to(records::post), "Stores records, with a report for each while the request is open")
        .body(JSON, "V3Record").answers(200, J, "V3Report"),
    Endpoint::post(below!("/topics/{topic}/records:batch"), || web::post().to(records::post_batch), "Stores records that have ids")
        .body(JSON, "V3Batch").answers(207, J, "V3BatchReport"),
    Endpoint::get(below!("/topics/{topic}/configs"), || routes::get().to(configs::list_of_topic), "A topic's configs").answers(200, J, "V3List"),
    Endpoint::post(below!("/topics/{topic}/configs:alter"), || web::post().to(configs::alter_of_topic), "Changes some of a topic's configs")
        .body(JSON, "V3AlterConfigs").nothing(),
    Endpoint::get(below!("/topics/{topic}/configs/{name}"), || routes::get().to(configs::get_of_topic), "A config of a topic").answers(200, J, "V3Resource"),
    Endpoint::put(below!("/topics/{topic}/configs/{name}"), || web::put().to(configs::put_of_topic), "Sets a config of a topic")
        .body(JSON, "V3Value").nothing(),
    Endpoint::delete(below!("/topics/{topic}/configs/{name}"), || web::delete().to(configs::reset_of_topic), "Resets a config of a topic"),
    Endpoint::get(below!("/topics/{topic}/partitions"), || routes::get().to(partitions::list), "A topic's partitions").answers(200, J, "V3List"),
    Endpoint::get(below!("/topics/{topic}/partitions/-/reassignment"), || routes::get().to(partitions::topic_reassignments), "Its partitions that move")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/topics/{topic}/partitions/{partition}"), || routes::get().to(partitions::get), "A partition").answers(200, J, "V3Resource"),
    Endpoint::get(below!("/topics/{topic}/partitions/{partition}/offset"), || routes::get().to(partitions::offset), "Where a partition begins or ends")
        .query(&["offset_type"]).answers(200, J, "V3Resource"),
    Endpoint::get(below!("/topics/{topic}/partitions/{partition}/records"), || routes::get().to(partitions::records), "What a partition holds, as lines of JSON, up to an end")
        .query(&["from", "to", "limit", "format", "key_format", "envelope"]).answers(200, NDJSON, "Text"),
    Endpoint::get(below!("/topics/{topic}/partitions/{partition}/reassignment"), || routes::get().to(partitions::get_reassignment), "How a partition moves")
        .answers(200, J, "V3Resource"),
    Endpoint::get(below!("/topics/{topic}/partitions/{partition}/replicas"), || routes::get().to(partitions::list_replicas), "A partition's replicas")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/topics/{topic}/partitions/{partition}/replicas/{broker_id}"), || routes::get().to(partitions::get_replica), "A replica")
        .answers(200, J, "V3Resource"),

    Endpoint::get(below!("/consumer-groups"), || routes::get().to(groups::list), "The consumer groups").answers(200, J, "V3List"),
    Endpoint::get(below!("/consumer-groups/{group}"), || routes::get().to(groups::get), "A consumer group").answers(200, J, "V3Resource"),
    Endpoint::get(below!("/consumer-groups/{group}/lag-summary"), || routes::get().to(groups::lag_summary), "How far a group is behind")
        .answers(200, J, "V3Resource"),
    Endpoint::get(below!("/consumer-groups/{group}/lags"), || routes::get().to(groups::list_lags), "How far a group is behind in each partition")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/consumer-groups/{group}/lags/{topic}/partitions/{partition}"), || routes::get().to(groups::get_lag), "How far it is behind in one")
        .answers(200, J, "V3Resource"),
    Endpoint::get(below!("/consumer-groups/{group}/consumers"), || routes::get().to(groups::list_members), "A group's members").answers(200, J, "V3List"),
    Endpoint::get(below!("/consumer-groups/{group}/consumers/{consumer}"), || routes::get().to(groups::get_member), "A member").answers(200, J, "V3Resource"),
    Endpoint::get(below!("/consumer-groups/{group}/consumers/{consumer}/assignments"), || routes::get().to(groups::list_assignments), "What a member reads")
        .answers(200, J, "V3List"),
    Endpoint::get(below!("/consumer-groups/{group}/consumers/{consumer}/assignments/{topic}/partitions/{partition}"),
        || routes::get().to(groups::get_assignment), "A partition that a member reads").answers(200, J, "V3Resource"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    for prefix in PREFIXES {
        routes::serve(config, prefix, ENDPOINTS);
    }
}

/// JSON, whatever it is called; nothing said is JSON too, and so is what curl says of `-d` by itself.
fn check_json(request: &HttpRequest) -> Result<(), RestError> {
    let value = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    let is_json =
        media_type.is_empty() || media_type.ends_with("json") || media_type == "application/x-www-form-urlencoded";
    if is_json { Ok(()) } else { Err(RestError::new(415, "HTTP 415 Unsupported Media Type")) }
}

/// The body of anything but records.
async fn read_body<T: DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    doors: &Doors,
) -> Result<T, RestError> {
    check_json(request)?;
    let body = body::read(request, payload, Size::Small, &doors.bodies).await?;
    objects::from_slice(&body.bytes).map_err(|error| RestError::new(400, format!("Bad Request: {error}")))
}

/// For the fuzzer: whatever this is, it is answered, however it is cut.
#[cfg(test)]
pub fn read_any(input: &[u8]) {
    let mut splitter = splitter::Splitter::default();
    for chunk in input.chunks(7) {
        splitter.push(chunk);
        while let Some(value) = splitter.next_value() {
            let _ = record::parse(&value);
        }
    }
    if let Some(value) = splitter.last_value() {
        let _ = record::parse(&value);
    }
    assert_eq!(splitter.held_bytes(), 0);
}
