//! Consumer groups: members, what each reads, and how far behind they are.

use actix_web::{HttpRequest, web};
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::groups::{Group, Lag, Member};
use super::super::problem::RestError;
use super::super::rest_v2::caller;
use super::resource::{Answer, Cluster, ok};

pub async fn list(cluster: Cluster, request: HttpRequest, doors: web::Data<Doors>) -> Answer {
    let groups = doors.groups(&caller(&request)).await?;
    let groups = groups.iter().map(|group| describe(&cluster, group)).collect();
    Ok(ok(&cluster.list("KafkaConsumerGroupList", &["consumer-groups"], groups)))
}

pub async fn get(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    Ok(ok(&describe(&cluster, &find(&request, &doors, &name).await?)))
}

async fn find(request: &HttpRequest, doors: &Doors, name: &str) -> Result<Group, RestError> {
    let found = doors.group(&caller(request), name).await?;
    found.ok_or_else(|| RestError::new(404, format!("Consumer Group {name} could not be found.")))
}

fn describe(cluster: &Cluster, group: &Group) -> Value {
    let id = group.id.as_str();
    let below = |leaf: &str| cluster.related(&["consumer-groups", id, leaf]);
    let fields = json!({
        "consumer_group_id": id,
        "is_simple": group.is_simple,
        "partition_assignor": group.assignor,
        "state": group.state,
        "type": group.kind,
        "coordinator": cluster.related(&["brokers", &group.coordinator.to_string()]),
        "consumers": below("consumers"),
        "lag_summary": below("lag-summary"),
        "lags": below("lags"),
    });
    cluster.resource("KafkaConsumerGroup", &["consumer-groups", id], &[("consumer-group", id)], fields)
}

pub async fn list_members(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    let members = group.members.iter().map(|member| describe_member(&cluster, &name, member)).collect();
    Ok(ok(&cluster.list("KafkaConsumerList", &["consumer-groups", &name, "consumers"], members)))
}

pub async fn get_member(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, member) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    Ok(ok(&describe_member(&cluster, &name, find_member(&group, &member)?)))
}

fn find_member<'a>(group: &'a Group, id: &str) -> Result<&'a Member, RestError> {
    let found = group.members.iter().find(|member| member.id == id);
    found.ok_or_else(|| RestError::new(404, format!("Consumer {id} could not be found.")))
}

fn describe_member(cluster: &Cluster, group: &str, member: &Member) -> Value {
    let path = ["consumer-groups", group, "consumers", &member.id];
    let fields = json!({
        "consumer_group_id": group,
        "consumer_id": member.id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "assignments": cluster.related(&[&path[..], &["assignments"]].concat()),
    });
    cluster.resource("KafkaConsumer", &path, &[("consumer-group", group), ("consumer", &member.id)], fields)
}

pub async fn list_assignments(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, member) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    let found = find_member(&group, &member)?;
    let assigned = found.assigned.iter();
    let assigned =
        assigned.map(|(topic, index)| describe_assignment(&cluster, &name, &member, topic, *index)).collect();
    let path = ["consumer-groups", &name, "consumers", &member, "assignments"];
    Ok(ok(&cluster.list("KafkaConsumerAssignmentList", &path, assigned)))
}

pub async fn get_assignment(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, String, String, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, member, topic, index) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    let place = (topic, index);
    if !find_member(&group, &member)?.assigned.contains(&place) {
        let message = format!("Consumer {member} does not read partition {}-{index}.", place.0);
        return Err(RestError::new(404, message));
    }
    Ok(ok(&describe_assignment(&cluster, &name, &member, &place.0, index)))
}

fn describe_assignment(cluster: &Cluster, group: &str, member: &str, topic: &str, index: i32) -> Value {
    let number = index.to_string();
    let path = ["consumer-groups", group, "consumers", member, "assignments", topic, "partitions", &number];
    let fields = json!({
        "consumer_group_id": group,
        "consumer_id": member,
        "topic_name": topic,
        "partition_id": index,
        "partition": cluster.related(&["topics", topic, "partitions", &number]),
        "lag": cluster.related(&["consumer-groups", group, "lags", topic, "partitions", &number]),
    });
    let names =
        [("consumer-group", group), ("consumer", member), ("assignment", topic), ("partition", number.as_str())];
    cluster.resource("KafkaConsumerAssignment", &path, &names, fields)
}

pub async fn list_lags(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    let lags = doors.lags(&caller(&request), &group).await?;
    let lags = lags.iter().map(|lag| describe_lag(&cluster, &name, lag)).collect();
    Ok(ok(&cluster.list("KafkaConsumerLagList", &["consumer-groups", &name, "lags"], lags)))
}

pub async fn get_lag(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String, String, i32)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name, topic, index) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    let lags = doors.lags(&caller(&request), &group).await?;
    let found = lags.iter().find(|lag| lag.place == (topic.clone(), index));
    let none = || RestError::new(404, format!("Group {name} has committed nothing for {topic}-{index}."));
    Ok(ok(&describe_lag(&cluster, &name, found.ok_or_else(none)?)))
}

fn describe_lag(cluster: &Cluster, group: &str, lag: &Lag) -> Value {
    let (topic, number) = (lag.place.0.as_str(), lag.place.1.to_string());
    let fields = json!({
        "consumer_group_id": group,
        "topic_name": topic,
        "partition_id": lag.place.1,
        "consumer_id": lag.member_id,
        "instance_id": lag.instance_id,
        "client_id": lag.client_id,
        "current_offset": lag.current_offset,
        "log_end_offset": lag.log_end_offset,
        "lag": lag.lag(),
    });
    let path = ["consumer-groups", group, "lags", topic, "partitions", &number];
    let names = [("consumer-group", group), ("lag", topic), ("partition", number.as_str())];
    cluster.resource("KafkaConsumerLag", &path, &names, fields)
}

pub async fn lag_summary(
    cluster: Cluster,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Answer {
    let (_, name) = path.into_inner();
    let group = find(&request, &doors, &name).await?;
    let lags = doors.lags(&caller(&request), &group).await?;
    let none = || RestError::new(404, format!("Consumer group {name} has committed no offsets."));
    // The first of those that are equally far behind.
    let worst = lags.iter().rev().max_by_key(|lag| lag.lag()).ok_or_else(none)?;
    let number = worst.place.1.to_string();
    let consumer = worst.member_id.as_str();
    let fields = json!({
        "consumer_group_id": name,
        "max_lag_consumer_id": consumer,
        "max_lag_instance_id": worst.instance_id,
        "max_lag_client_id": worst.client_id,
        "max_lag_topic_name": worst.place.0,
        "max_lag_partition_id": worst.place.1,
        "max_lag": worst.lag(),
        "total_lag": lags.iter().map(Lag::lag).sum::<i64>(),
        "max_lag_consumer": cluster.related(&["consumer-groups", &name, "consumers", consumer]),
        "max_lag_partition": cluster.related(&["topics", &worst.place.0, "partitions", &number]),
    });
    let path = ["consumer-groups", &name, "lag-summary"];
    Ok(ok(&cluster.resource("KafkaConsumerGroupLagSummary", &path, &[("consumer-group", &name)], fields)))
}
