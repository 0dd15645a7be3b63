//! Partitions, their replicas, and how they move.

use actix_web::{HttpRequest, web};
use capek_actors::local_requests::Destination;
use capek_state::cluster::Partition;
use capek_wire::codec::Str;
use capek_wire::messages::ListPartitionReassignmentsRequest;
use capek_wire::messages::list_partition_reassignments::ListPartitionReassignmentsTopics;
use serde_json::{Value, json};

use super::super::cluster_admin::Refused;
use super::super::doors::Doors;
use super::super::problem::RestError;
use super::super::query::QueryPairs;
use super::super::rest_v2::caller;
use super::super::v1;
use super::resource::{Answer, Cluster, no_such_partition, ok};

pub async fn list(cluster: Cluster, path: web::Path<(String, String)>, doors: web::Data<Doors>) -> Answer {
    let (_, name) = path.into_inner();
    let image = doors.client.image();
    let topic = image.topic_by_name(&name).ok_or_else(no_such_partition)?;
    let partitions = topic.partitions.iter().enumerate();
    let partitions = partitions.map(|(index, partition)| describe(&cluster, &name, index as i32, partition)).collect();
    Ok(ok(&cluster.list("KafkaPartitionList", &["topics", &name, "partitions"], partitions)))
}

pub async fn get(cluster: Cluster, path: web::Path<(String, String, i32)>, doors: web::Data<Doors>) -> Answer {
    let (_, name, index) = path.into_inner();
    Ok(ok(&describe(&cluster, &name, index, &find(&doors, &name, index)?)))
}

/// Confluent's interface has no way to read; this is ours, as of `/v1/topics/{topic}/records`.
pub async fn records(
    _: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, topic, partition) = path.into_inner();
    find(&doors, &topic, partition)?;
    let query = QueryPairs::of(&request)?;
    Ok(v1::read_lines(&request, &query, &topic, vec![partition], &doors).await?)
}

fn find(doors: &Doors, topic: &str, index: i32) -> Result<Partition, RestError> {
    let image = doors.client.image();
    let found = image.topic_by_name(topic).and_then(|topic| topic.partition(index));
    found.cloned().ok_or_else(no_such_partition)
}

fn describe(cluster: &Cluster, topic: &str, index: i32, partition: &Partition) -> Value {
    let number = index.to_string();
    let path = ["topics", topic, "partitions", &number];
    let below = |more: &[&str]| cluster.related(&[&path[..], more].concat());
    let leader = (partition.leader >= 0).then(|| below(&["replicas", &partition.leader.to_string()]));
    let fields = json!({
        "topic_name": topic,
        "partition_id": index,
        "leader": leader,
        "replicas": below(&["replicas"]),
        "reassignment": below(&["reassignment"]),
    });
    cluster.resource("KafkaPartition", &path, &[("topic", topic), ("partition", &number)], fields)
}

/// Where it begins or ends: `?offset_type=earliest|latest`, or from which record on it is as young as `?offset_type=TIME_MS`.
pub async fn offset(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, index) = path.into_inner();
    let partition = find(&doors, &name, index)?;
    let query = QueryPairs::of(&request)?;
    let caller = caller(&request);
    let offset_type = query.get("offset_type").unwrap_or("latest");
    let offset = match (offset_type.to_ascii_lowercase().as_str(), offset_type.parse::<i64>()) {
        ("earliest", _) => Some(doors.ends(&caller, &name, index).await?.start),
        ("latest", _) => Some(doors.ends(&caller, &name, index).await?.end),
        (_, Ok(time_ms)) if time_ms >= 0 => doors.listed_offset(&caller, &name, index, time_ms).await?,
        _ => {
            let message = format!("Bad Request: offset_type={offset_type} is not earliest, latest or a time in ms");
            return Err(RestError::new(400, message));
        }
    };
    let mut body = describe(&cluster, &name, index, &partition);
    body["offset"] = json!(offset);
    body["offset_type"] = json!(offset_type);
    Ok(ok(&body))
}

pub async fn list_replicas(
    cluster: Cluster,
    path: web::Path<(String, String, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, index) = path.into_inner();
    let partition = find(&doors, &name, index)?;
    let replicas = partition.replicas.iter();
    let replicas = replicas.map(|broker| describe_replica(&cluster, &name, index, &partition, *broker)).collect();
    let number = index.to_string();
    Ok(ok(&cluster.list("KafkaReplicaList", &["topics", &name, "partitions", &number, "replicas"], replicas)))
}

pub async fn get_replica(
    cluster: Cluster,
    path: web::Path<(String, String, i32, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, index, broker) = path.into_inner();
    let partition = find(&doors, &name, index)?;
    if !partition.replicas.contains(&broker) {
        let message = format!("Replica {broker} of partition {name}-{index} cannot be found.");
        return Err(RestError::new(404, message));
    }
    Ok(ok(&describe_replica(&cluster, &name, index, &partition, broker)))
}

pub fn describe_replica(cluster: &Cluster, topic: &str, index: i32, partition: &Partition, broker: i32) -> Value {
    let (number, replica) = (index.to_string(), broker.to_string());
    let fields = json!({
        "topic_name": topic,
        "partition_id": index,
        "broker_id": broker,
        "is_leader": partition.leader == broker,
        "is_in_sync": partition.isr.contains(&broker),
        "broker": cluster.related(&["brokers", &replica]),
    });
    let names = [("topic", topic), ("partition", number.as_str()), ("replica", replica.as_str())];
    cluster.resource("KafkaReplica", &["topics", topic, "partitions", &number, "replicas", &replica], &names, fields)
}

pub async fn all_reassignments(cluster: Cluster, request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let found = reassignments(&request, &doors, &cluster, None).await?;
    let path = ["topics", "-", "partitions", "-", "reassignment"];
    Ok(ok(&cluster.list("KafkaReassignmentList", &path, found)))
}

pub async fn topic_reassignments(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    let image = doors.client.image();
    let count = image.topic_by_name(&name).ok_or_else(no_such_partition)?.partitions.len() as i32;
    let found = reassignments(&request, &doors, &cluster, Some((&name, (0..count).collect()))).await?;
    Ok(ok(&cluster.list("KafkaReassignmentList", &["topics", &name, "partitions", "-", "reassignment"], found)))
}

pub async fn get_reassignment(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, index) = path.into_inner();
    find(&doors, &name, index)?;
    let found = reassignments(&request, &doors, &cluster, Some((&name, vec![index]))).await?;
    let none = || RestError::new(404, format!("Reassignment of partition {name}-{index} cannot be found."));
    Ok(ok(found.first().ok_or_else(none)?))
}

async fn reassignments(
    request: &HttpRequest,
    doors: &Doors,
    cluster: &Cluster,
    of: Option<(&str, Vec<i32>)>,
) -> Result<Vec<Value>, RestError> {
    let topics = of.map(|(name, partition_indexes)| {
        vec![ListPartitionReassignmentsTopics { name: Str::from(name), partition_indexes }]
    });
    let asked = ListPartitionReassignmentsRequest { topics, ..Default::default() };
    let answer = doors.client.ask(Destination::Anyone, &caller(request), &asked, 0).await.map_err(Refused::from)?;
    let mut found = Vec::new();
    for topic in &answer.topics {
        for moving in &topic.partitions {
            let number = moving.partition_index.to_string();
            let path = ["topics", &topic.name, "partitions", &number, "reassignment"];
            let fields = json!({
                "topic_name": topic.name.as_str(),
                "partition_id": moving.partition_index,
                "adding_replicas": moving.adding_replicas,
                "removing_replicas": moving.removing_replicas,
                "replicas": cluster.related(&["topics", &topic.name, "partitions", &number, "replicas"]),
            });
            let names = [("topic", topic.name.as_str()), ("partition", number.as_str())];
            found.push(cluster.resource("KafkaReassignment", &path, &names, fields));
        }
    }
    Ok(found)
}
