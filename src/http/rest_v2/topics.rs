//! What there is: topics, their partitions and offsets, brokers.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use capek_state::cluster::{Image, Partition, Topic};
use capek_state::config::{resolve_with_origin, topic_configs};
use capek_wire::error_code::ErrorCode;
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::offsets::Ends;
use super::super::problem::RestError;
use super::{answer, caller};

pub async fn list(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let image = doors.client.image();
    let names: Vec<&str> = image.topic_names_from("").collect();
    answer(&request).body(json!(names).to_string())
}

pub async fn describe(
    request: HttpRequest,
    name: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let image = doors.client.image();
    let topic = find(&image, &name)?;
    let body = json!({
        "name": *name,
        "configs": configs(&doors, &image, &name),
        "partitions": all_partitions(topic),
    });
    Ok(answer(&request).body(body.to_string()))
}

pub async fn partitions(
    request: HttpRequest,
    name: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let image = doors.client.image();
    let body = Value::from(all_partitions(find(&image, &name)?));
    Ok(answer(&request).body(body.to_string()))
}

pub async fn partition(
    request: HttpRequest,
    path: web::Path<(String, i32)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (name, index) = path.into_inner();
    let image = doors.client.image();
    let found = find(&image, &name)?.partition(index).ok_or_else(RestError::partition_not_found)?;
    Ok(answer(&request).body(describe_partition(index, found).to_string()))
}

pub async fn offsets(
    request: HttpRequest,
    path: web::Path<(String, i32)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (name, index) = path.into_inner();
    let image = doors.client.image();
    find(&image, &name)?.partition(index).ok_or_else(RestError::partition_not_found)?;
    let Ends { start, end } =
        doors.ends(&caller(&request), &name, index).await.map_err(|refused| match refused.code {
            ErrorCode::UnknownTopicOrPartition => RestError::partition_not_found(),
            code => RestError::kafka(code, Some(refused.message)),
        })?;
    let body = json!({ "beginning_offset": start, "end_offset": end });
    Ok(answer(&request).body(body.to_string()))
}

pub async fn brokers(request: HttpRequest, doors: web::Data<Doors>) -> HttpResponse {
    let image = doors.client.image();
    let ids: Vec<i32> = image.brokers().map(|broker| broker.id).collect();
    answer(&request).body(json!({ "brokers": ids }).to_string())
}

fn find<'a>(image: &'a Image, name: &str) -> Result<&'a Arc<Topic>, RestError> {
    image.topic_by_name(name).ok_or_else(RestError::topic_not_found)
}

fn configs(doors: &Doors, image: &Image, topic: &str) -> serde_json::Map<String, Value> {
    let config = &doors.broker().config;
    image.with_sources(Some(topic), config.node_id, &config.properties, |sources| {
        let resolved = topic_configs().iter().map(|definition| resolve_with_origin(definition, sources));
        resolved.map(|config| (config.definition.name.to_owned(), config.value.into())).collect()
    })
}

fn all_partitions(topic: &Topic) -> Vec<Value> {
    let partitions = topic.partitions.iter().enumerate();
    partitions.map(|(index, partition)| describe_partition(index as i32, partition)).collect()
}

fn describe_partition(index: i32, partition: &Partition) -> Value {
    let replica = |broker: &i32| json!({ "broker": broker, "leader": *broker == partition.leader, "in_sync": partition.isr.contains(broker) });
    let replicas: Vec<Value> = partition.replicas.iter().map(replica).collect();
    json!({ "partition": index, "leader": partition.leader, "replicas": replicas })
}
