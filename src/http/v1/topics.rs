//! Topics as small JSON for scripts: listed, made, described, changed, deleted.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::local_requests::Caller;
use capek_actors::topics::is_internal;
use capek_state::cluster::Topic;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::cluster_admin::{ConfigChange, NewTopic, ResourceKind};
use super::super::doors::Doors;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::rest_v2::caller;
use super::{check_topic_name, no_such_topic, partitions_of, place_of, read_body};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedTopic {
    topic: String,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    #[serde(default)]
    configs: Map<String, Value>,
    #[serde(default)]
    validate_only: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    /// More than there are.
    partitions: Option<i32>,
    /// null: what the broker says.
    #[serde(default)]
    configs: Map<String, Value>,
    #[serde(default)]
    validate_only: bool,
}

/// Those that are the broker's own only with `internal=true`.
pub async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let query = QueryPairs::of(&request)?;
    let with_internal = query.flag("internal")?;
    let image = doors.client.image();
    let topics = image.topics().filter(|topic| with_internal || !is_internal(&topic.name));
    let topics: Vec<Value> = topics.map(|topic| summary(topic)).collect();
    Ok(HttpResponse::Ok().json(json!({ "topics": topics })))
}

fn summary(topic: &Topic) -> Value {
    json!({
        "topic": &*topic.name,
        "id": topic.id.to_string(),
        "partitions": topic.partitions.len(),
        "replication_factor": topic.replication_factor(),
        "internal": is_internal(&topic.name),
    })
}

pub async fn create(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let wanted: WantedTopic = read_body(&request, payload, &doors).await?;
    check_topic_name(&wanted.topic)?;
    let topic = NewTopic {
        name: wanted.topic.clone(),
        partitions: wanted.partitions.unwrap_or(-1),
        replication_factor: wanted.replication_factor.unwrap_or(-1),
        configs: wanted.configs.into_iter().map(|(name, value)| (name, config_text(value))).collect(),
        validate_only: wanted.validate_only,
        ..Default::default()
    };
    let made = doors.create_topic(&caller(&request), topic).await?;
    let status = if wanted.validate_only { StatusCode::OK } else { StatusCode::CREATED };
    let body = json!({
        "topic": wanted.topic,
        "partitions": made.num_partitions,
        "replication_factor": made.replication_factor,
    });
    Ok(HttpResponse::build(status).insert_header((header::LOCATION, format!("/v1/topics/{}", wanted.topic))).json(body))
}

/// Configs are text to Kafka; `{"retention.ms":1000}` is as good.
fn config_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

pub async fn describe(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    Ok(HttpResponse::Ok().json(described(&doors, &caller(&request), &topic).await?))
}

async fn described(doors: &Doors, caller: &Caller, name: &str) -> Result<Value, Problem> {
    let image = doors.client.image();
    let topic = image.topic_by_name(name).ok_or_else(no_such_topic)?;
    let mut partitions = Vec::with_capacity(topic.partitions.len());
    for (index, partition) in topic.partitions.iter().enumerate() {
        // A partition without a leader has its place in the list all the same.
        let ends = doors.ends(caller, name, index as i32).await.ok();
        partitions.push(json!({
            "partition": index,
            "leader": partition.leader,
            "replicas": partition.replicas,
            "in_sync": partition.isr,
            "start_offset": ends.map(|ends| ends.start),
            "end_offset": ends.map(|ends| ends.end),
        }));
    }
    let mut body = summary(topic);
    body["partitions"] = partitions.into();
    body["configs"] = configs(doors, caller, name, |source| source == TOPICS_OWN).await?.into();
    Ok(body)
}

/// Kafka's number for where a config of a topic comes from.
const TOPICS_OWN: i8 = 1;

async fn configs(
    doors: &Doors,
    caller: &Caller,
    topic: &str,
    is_wanted: impl Fn(i8) -> bool,
) -> Result<Map<String, Value>, Problem> {
    let found = doors.describe_configs(caller, ResourceKind::Topic, &[topic.to_owned()], None).await?;
    let configs = found.into_iter().flat_map(|found| found.configs);
    let configs = configs.filter(|config| is_wanted(config.config_source));
    Ok(configs
        .map(|config| (config.name.to_string(), config.value.as_ref().map(|value| value.as_str()).into()))
        .collect())
}

/// All of them, whoever has set them.
pub async fn list_configs(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    let configs = configs(&doors, &caller(&request), &topic, |_| true).await?;
    Ok(HttpResponse::Ok().json(json!({ "topic": *topic, "configs": configs })))
}

/// The offset of `at` in each partition: `earliest`, `latest`, a time.
pub async fn list_offsets(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    let query = QueryPairs::of(&request)?;
    let at = place_of(&query, "at", "latest")?;
    let mut offsets = Vec::new();
    for partition in partitions_of(&doors, &topic, &query)? {
        let offset = doors.offset_from(&caller(&request), &topic, partition, at).await?;
        offsets.push(json!({ "partition": partition, "offset": offset }));
    }
    Ok(HttpResponse::Ok().json(json!({ "topic": *topic, "offsets": offsets })))
}

pub async fn change(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    let caller = caller(&request);
    let changes: Changes = read_body(&request, payload, &doors).await?;
    let configs: Vec<_> =
        changes.configs.into_iter().map(|(name, value)| change_of(name, config_text(value))).collect();
    if !configs.is_empty() {
        doors.alter_configs(&caller, ResourceKind::Topic, &topic, &configs, changes.validate_only).await?;
    }
    if let Some(partitions) = changes.partitions.filter(|_| !changes.validate_only) {
        doors.grow_topic(&caller, &topic, partitions).await?;
    }
    Ok(HttpResponse::Ok().json(described(&doors, &caller, &topic).await?))
}

fn change_of(name: String, value: Option<String>) -> ConfigChange {
    match value {
        None => ConfigChange::Delete(name),
        value => ConfigChange::Set(name, value),
    }
}

pub async fn delete(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    doors.delete_topic(&caller(&request), &topic).await?;
    Ok(HttpResponse::NoContent().finish())
}
