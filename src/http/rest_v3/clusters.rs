//! The cluster, its brokers, and what hangs on a broker.

use actix_web::{HttpRequest, web};
use capek_actors::local_requests::Destination;
use capek_state::cluster::Broker;
use capek_wire::messages::DescribeClusterRequest;
use serde_json::{Value, json};

use super::super::cluster_admin::Refused;
use super::super::doors::Doors;
use super::super::problem::RestError;
use super::super::rest_v2::caller;
use super::partitions;
use super::resource::{Answer, Cluster, clusters_url, list, ok};

const DESCRIBE_CLUSTER_VERSION: i16 = 1;

pub async fn list_clusters(request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let cluster = describe(&request, &doors, &Cluster::own(&request, &doors)).await?;
    Ok(ok(&list("KafkaClusterList", &clusters_url(&request), vec![cluster])))
}

pub async fn get_cluster(cluster: Cluster, request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    Ok(ok(&describe(&request, &doors, &cluster).await?))
}

async fn describe(request: &HttpRequest, doors: &Doors, cluster: &Cluster) -> Result<Value, RestError> {
    let asked = DescribeClusterRequest::default();
    let answer = doors.client.ask(Destination::Anyone, &caller(request), &asked, DESCRIBE_CLUSTER_VERSION).await;
    let controller = answer.map_err(Refused::from)?.controller_id.to_string();
    let fields = json!({
        "controller": cluster.related(&["brokers", &controller]),
        "acls": cluster.related(&["acls"]),
        "brokers": cluster.related(&["brokers"]),
        "broker_configs": cluster.related(&["broker-configs"]),
        "consumer_groups": cluster.related(&["consumer-groups"]),
        "topics": cluster.related(&["topics"]),
        "partition_reassignments": cluster.related(&["topics", "-", "partitions", "-", "reassignment"]),
    });
    Ok(cluster.resource("KafkaCluster", &[], &[], fields))
}

pub async fn list_brokers(cluster: Cluster, doors: web::Data<Doors>) -> Answer {
    let image = doors.client.image();
    let brokers = image.brokers().map(|broker| describe_broker(&cluster, &doors, broker)).collect();
    Ok(ok(&cluster.list("KafkaBrokerList", &["brokers"], brokers)))
}

pub async fn get_broker(cluster: Cluster, path: web::Path<(String, i32)>, doors: web::Data<Doors>) -> Answer {
    let (_, broker) = path.into_inner();
    let image = doors.client.image();
    let broker = image.broker(broker).ok_or_else(|| no_such_broker(broker))?;
    Ok(ok(&describe_broker(&cluster, &doors, broker)))
}

pub fn no_such_broker(broker: i32) -> RestError {
    RestError::new(404, format!("Broker {broker} cannot be found."))
}

fn describe_broker(cluster: &Cluster, doors: &Doors, broker: &Broker) -> Value {
    let id = broker.id.to_string();
    let listener = doors.broker().config.listeners.first();
    let endpoint = listener.and_then(|listener| broker.endpoint(&listener.name)).or(broker.listeners.first());
    let fields = json!({
        "broker_id": broker.id,
        "host": endpoint.map(|endpoint| endpoint.host.as_str()),
        "port": endpoint.map(|endpoint| endpoint.port),
        "rack": broker.rack,
        "configs": cluster.related(&["brokers", &id, "configs"]),
        "partition_replicas": cluster.related(&["brokers", &id, "partition-replicas"]),
    });
    cluster.resource("KafkaBroker", &["brokers", &id], &[("broker", &id)], fields)
}

/// Every replica that lives on the broker.
pub async fn broker_replicas(cluster: Cluster, path: web::Path<(String, i32)>, doors: web::Data<Doors>) -> Answer {
    let (_, broker) = path.into_inner();
    let image = doors.client.image();
    image.broker(broker).ok_or_else(|| no_such_broker(broker))?;
    let mut replicas = Vec::new();
    for topic in image.topics() {
        for (index, partition) in topic.partitions.iter().enumerate() {
            if partition.replicas.contains(&broker) {
                replicas.push(partitions::describe_replica(&cluster, &topic.name, index as i32, partition, broker));
            }
        }
    }
    Ok(ok(&cluster.list("KafkaReplicaList", &["brokers", &broker.to_string(), "partition-replicas"], replicas)))
}

/// There is no authorizer: what Kafka calls SECURITY_DISABLED.
pub async fn acls() -> Answer {
    Err(RestError::new(40002, "No Authorizer is configured on the broker."))
}
