//! Topics: listed, made, grown and deleted.

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::topics::is_internal;
use capek_wire::error_code::ErrorCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::cluster_admin::{NewTopic, Refused};
use super::super::doors::Doors;
use super::super::problem::RestError;
use super::super::rest_v2::caller;
use super::read_body;
use super::resource::{Answer, Cluster, no_content, no_such_partition, ok};

#[derive(Deserialize)]
struct WantedTopic {
    topic_name: String,
    partitions_count: Option<i32>,
    replication_factor: Option<i16>,
    #[serde(default)]
    replicas_assignments: Vec<WantedReplicas>,
    #[serde(default)]
    configs: Vec<WantedConfig>,
    #[serde(default)]
    validate_only: bool,
}

#[derive(Deserialize)]
struct WantedReplicas {
    partition_id: i32,
    broker_ids: Vec<i32>,
}

#[derive(Deserialize)]
struct WantedConfig {
    name: String,
    value: Option<String>,
}

#[derive(Deserialize)]
struct WantedSize {
    partitions_count: i32,
}

pub async fn list(cluster: Cluster, doors: web::Data<Doors>) -> Answer {
    let image = doors.client.image();
    let describe = |topic: &std::sync::Arc<capek_state::cluster::Topic>| {
        describe(&cluster, &topic.name, topic.replication_factor(), topic.partitions.len() as i32)
    };
    let topics = image.topics().map(describe).collect();
    Ok(ok(&cluster.list("KafkaTopicList", &["topics"], topics)))
}

pub async fn get(cluster: Cluster, path: web::Path<(String, String)>, doors: web::Data<Doors>) -> Answer {
    let (_, name) = path.into_inner();
    Ok(ok(&describe_known(&cluster, &doors, &name)?))
}

fn describe_known(cluster: &Cluster, doors: &Doors, name: &str) -> Result<Value, RestError> {
    let image = doors.client.image();
    let topic = image.topic_by_name(name).ok_or_else(no_such_partition)?;
    Ok(describe(cluster, name, topic.replication_factor(), topic.partitions.len() as i32))
}

fn describe(cluster: &Cluster, name: &str, replication_factor: i32, partitions: i32) -> Value {
    let fields = json!({
        "topic_name": name,
        "is_internal": is_internal(name),
        "replication_factor": replication_factor,
        "partitions_count": partitions,
        "partitions": cluster.related(&["topics", name, "partitions"]),
        "configs": cluster.related(&["topics", name, "configs"]),
        "partition_reassignments": cluster.related(&["topics", name, "partitions", "-", "reassignment"]),
    });
    cluster.resource("KafkaTopic", &["topics", name], &[("topic", name)], fields)
}

pub async fn create(cluster: Cluster, request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> Answer {
    let wanted: WantedTopic = read_body(&request, payload, &doors).await?;
    let validate_only = wanted.validate_only;
    let topic = NewTopic {
        name: wanted.topic_name.clone(),
        partitions: wanted.partitions_count.unwrap_or(-1),
        replication_factor: wanted.replication_factor.unwrap_or(-1),
        assignments: wanted.replicas_assignments.into_iter().map(|one| (one.partition_id, one.broker_ids)).collect(),
        configs: wanted.configs.into_iter().map(|config| (config.name, config.value)).collect(),
        validate_only,
    };
    let made = doors.create_topic(&caller(&request), topic).await?;
    let name = &wanted.topic_name;
    let body = describe(&cluster, name, i32::from(made.replication_factor), made.num_partitions);
    if validate_only {
        return Ok(ok(&body));
    }
    let location = cluster.link(&["topics", name]);
    let created = HttpResponse::build(StatusCode::CREATED)
        .insert_header((header::LOCATION, location))
        .content_type("application/json")
        .body(body.to_string());
    Ok(created)
}

/// More partitions; there are never fewer.
pub async fn grow(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    let wanted: WantedSize = read_body(&request, payload, &doors).await?;
    doors.grow_topic(&caller(&request), &name, wanted.partitions_count).await.map_err(refused)?;
    Ok(ok(&describe_known(&cluster, &doors, &name)?))
}

pub async fn delete(
    _: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    doors.delete_topic(&caller(&request), &name).await.map_err(refused)?;
    Ok(no_content())
}

/// REST v3 has one code for a topic and for a partition that there is not.
pub fn refused(refused: Refused) -> RestError {
    match refused.code {
        ErrorCode::UnknownTopicOrPartition => no_such_partition(),
        _ => refused.into(),
    }
}
