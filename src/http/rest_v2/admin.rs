//! What Strimzi's bridge and Redpanda's proxy have beside Confluent's REST v2.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::cluster_admin::NewTopic;
use super::super::doors::Doors;
use super::super::health;
use super::super::problem::RestError;
use super::answer;
use super::consumers::{caller, read_body};

#[derive(Deserialize)]
struct WantedTopic {
    topic_name: String,
    partitions_count: Option<i32>,
    replication_factor: Option<i16>,
    #[serde(default)]
    config: Map<String, Value>,
}

pub async fn create_topic(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let wanted: WantedTopic = read_body(&request, payload, &doors).await?;
    let text = |value: Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    };
    let topic = NewTopic {
        name: wanted.topic_name,
        partitions: wanted.partitions_count.unwrap_or(-1),
        replication_factor: wanted.replication_factor.unwrap_or(-1),
        configs: wanted.config.into_iter().map(|(name, value)| (name, text(value))).collect(),
        ..Default::default()
    };
    doors.create_topic(&caller(&request), topic).await?;
    let mut created = answer(&request);
    Ok(created.status(actix_web::http::StatusCode::CREATED).body("{}"))
}

pub async fn healthy() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

pub async fn ready(doors: web::Data<Doors>) -> HttpResponse {
    if health::is_ready(&doors) {
        HttpResponse::NoContent().finish()
    } else {
        HttpResponse::InternalServerError().finish()
    }
}

pub async fn status_ready(doors: web::Data<Doors>) -> HttpResponse {
    match (health::is_ready(&doors), doors.is_stopping()) {
        (true, _) => HttpResponse::Ok().json(json!({ "status": "ready" })),
        (false, true) => HttpResponse::ServiceUnavailable().json(json!({ "status": "stopping" })),
        (false, false) => HttpResponse::ServiceUnavailable().json(json!({ "status": "unready" })),
    }
}
