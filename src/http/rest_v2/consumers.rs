//! Consumer instances: `POST /consumers/{group}` makes one, and every other request finds it by its name.
//!
//! An instance lives on one broker, and a request which comes to another is carried there (`carried.rs`). An id that a broker has made
//! says which (`…~n2`); of a name that a client has given, every broker knows where it belongs.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::consumer_commands::{EndInstance, InstanceError, InstanceSettings};
use capek_actors::consumer_instances::{FindInstance, FoundInstance, InstanceRefusal, StartInstance, TakeInstance};
use capek_actors::local_requests::Caller;
use capek_actors::record_reader::OffsetReset;
use capek_actors::topics::new_topic_id;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, topic_name_problem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::carried;
use super::super::doors::Doors;
use super::super::groups;
use super::super::links;
use super::super::problem::RestError;
use super::formats::Format;
use super::{answer, missing_body, read_json};

/// How long a read waits that does not say.
const READ_WITHIN_MS_DEFAULT: u64 = 1_000;
pub const READ_WITHIN_MS_MAX: u64 = 300_000;
const AUTO_COMMIT_INTERVAL: Duration = Duration::from_secs(5);

#[derive(Deserialize, Serialize, Default)]
#[serde(deny_unknown_fields)]
struct NewInstance {
    /// Older clients': stronger than the name.
    id: Option<String>,
    name: Option<String>,
    format: Option<String>,
    #[serde(rename = "auto.offset.reset")]
    auto_offset_reset: Option<String>,
    #[serde(rename = "auto.commit.enable", alias = "enable.auto.commit")]
    auto_commit_enable: Option<Value>,
    #[serde(rename = "fetch.min.bytes")]
    fetch_min_bytes: Option<Value>,
    #[serde(rename = "consumer.request.timeout.ms")]
    request_timeout_ms: Option<Value>,
    /// There is nothing yet that the two levels would read differently.
    #[serde(rename = "isolation.level")]
    isolation_level: Option<String>,
}

pub async fn create(
    request: HttpRequest,
    group: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    if let Some(problem) = groups::name_problem(&group) {
        return Err(RestError::kafka(ErrorCode::InvalidGroupId, Some(problem)));
    }
    let wanted: NewInstance = read_json(&request, payload, &doors).await?.unwrap_or_default();
    if let Some(name) = wanted.id.as_ref().or(wanted.name.as_ref())
        && !carried::is_carried(&request)
        && let Some(home) = carried::homes(&doors, &group, name).first().copied()
        && home != doors.broker().config.node_id
    {
        let body = serde_json::to_vec(&wanted).map_err(|error| RestError::new(500, error.to_string()))?;
        return carried::ask_one(&doors, home, &request, body.into()).await;
    }
    let settings = settings(&request, &doors, &group, wanted)?;
    let instance = settings.instance.clone();
    let start = StartInstance { arbiter: actix_rt::Arbiter::current(), settings };
    match doors.consumers.send(start).await {
        Ok(Ok(())) => {}
        Ok(Err(InstanceRefusal::Exists)) => {
            let message = "Consumer with specified consumer ID already exists in the specified consumer group.";
            return Err(RestError::new(40902, message));
        }
        Ok(Err(InstanceRefusal::TooMany)) => {
            return Err(RestError::new(42901, "there are too many consumer instances"));
        }
        Ok(Err(InstanceRefusal::Stopping)) | Err(_) => return Err(RestError::new(50301, "the broker stops")),
    }
    let path = format!("/consumers/{}/instances/{}", links::segment(&group), links::segment(&instance));
    let base_uri = format!("{}{path}", links::base_url(&request));
    Ok(answer(&request).body(json!({ "instance_id": instance, "base_uri": base_uri }).to_string()))
}

fn settings(
    request: &HttpRequest,
    doors: &Doors,
    group: &str,
    wanted: NewInstance,
) -> Result<InstanceSettings, RestError> {
    let bad = |what: String| RestError::new(42204, format!("Invalid consumer configuration: {what}"));
    let offset_reset = match wanted.auto_offset_reset.as_deref() {
        Some("earliest" | "smallest") => OffsetReset::Earliest,
        None | Some("latest" | "largest") => OffsetReset::Latest,
        Some("none") => OffsetReset::None,
        Some(other) => return Err(bad(format!("auto.offset.reset={other} is not earliest, latest or none"))),
    };
    let auto_commits = match wanted.auto_commit_enable {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_on)) => is_on,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
        Some(other) => return Err(bad(format!("auto.commit.enable={other} is not true or false"))),
    };
    if let Some(level) = wanted.isolation_level.as_deref()
        && !["read_committed", "read_uncommitted"].contains(&level)
    {
        return Err(bad(format!("isolation.level={level} is not read_committed or read_uncommitted")));
    }
    let number = |name: &str, value: Option<Value>, default: u64| match value {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Number(number)) if number.as_i64() == Some(-1) => Ok(default),
        Some(Value::Number(number)) if number.as_u64().is_some() => Ok(number.as_u64().unwrap_or(default)),
        Some(Value::String(text)) => text.parse().map_err(|_| bad(format!("{name}={text} is not a number that fits"))),
        Some(other) => Err(bad(format!("{name}={other} is not a number that fits"))),
    };
    let read_within_ms = number("consumer.request.timeout.ms", wanted.request_timeout_ms, READ_WITHIN_MS_DEFAULT)?;
    let config = &doors.broker().config;
    let idle_ms = config.number(&doors.client.image(), "capek.rest.consumer.instance.timeout.ms");
    Ok(InstanceSettings {
        group: group.to_owned(),
        instance: instance_id(doors, wanted.id.or(wanted.name))?,
        caller: caller(request),
        offset_reset,
        auto_commit_interval: auto_commits.then_some(AUTO_COMMIT_INTERVAL),
        idle_timeout: Duration::from_millis(u64::try_from(idle_ms).unwrap_or(1)),
        format: Format::of_name(wanted.format.as_deref().unwrap_or("binary"))?.name(),
        min_bytes: number("fetch.min.bytes", wanted.fetch_min_bytes, 1)?,
        read_within: Duration::from_millis(read_within_ms.min(READ_WITHIN_MS_MAX)),
    })
}

fn instance_id(doors: &Doors, name: Option<String>) -> Result<String, RestError> {
    let Some(name) = name else {
        return Ok(format!("rest-consumer-{}~n{}", new_topic_id(), doors.broker().config.node_id));
    };
    // There is one rule for what stands in paths. It knows no `~`: a name is never taken for an id of ours.
    match topic_name_problem(&name) {
        Some(problem) => Err(RestError::new(422, format!("this is no name of an instance: {problem}"))),
        None => Ok(name),
    }
}

pub fn caller(request: &HttpRequest) -> Caller {
    let default = Caller::default();
    Caller { ip: request.peer_addr().map_or(default.ip, |peer| peer.ip()), ..default }
}

pub async fn delete(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (group, instance) = path.into_inner();
    let taken = doors.consumers.send(TakeInstance { group, instance }).await;
    let Ok(Some(instance)) = taken else { return Err(not_found()) };
    // One that is gone already has ended too.
    let _ = instance.send(EndInstance).await;
    drop(request);
    Ok(HttpResponse::NoContent().finish())
}

/// The instance of a request.
pub async fn find(doors: &Doors, group: String, instance: String) -> Result<FoundInstance, RestError> {
    match doors.consumers.send(FindInstance { group, instance }).await {
        Ok(Some(found)) => Ok(found),
        _ => Err(not_found()),
    }
}

/// The broker that an instance's id names.
pub fn owner_of(instance: &str) -> Option<BrokerId> {
    instance.rsplit_once("~n").and_then(|(_, node)| node.parse().ok())
}

/// The group and the instance that this path is about: `/consumers/{group}/instances/{instance}…`.
pub fn instance_of_path(path: &str) -> Option<(&str, String)> {
    let mut segments = path.strip_prefix("/consumers/")?.split('/');
    let (group, instances, instance) = (segments.next()?, segments.next()?, segments.next()?);
    // A `~` may come as it is or escaped.
    let is_one = instances == "instances" && !instance.is_empty();
    is_one.then(|| (group, instance.replace("%7E", "~").replace("%7e", "~")))
}

const UNKNOWN_INSTANCE: &str = "Consumer instance not found.";

fn not_found() -> RestError {
    RestError::new(40403, UNKNOWN_INSTANCE)
}

/// Whether an answer of a broker says that an instance is not there, and not that something else is not.
pub fn knows_no_instance(status: u16, body: &[u8]) -> bool {
    let says_so = |answer: &Value| answer["message"] == UNKNOWN_INSTANCE;
    status == 404 && serde_json::from_slice(body).is_ok_and(|answer| says_so(&answer))
}

/// Asks the instance; one that ended meanwhile is not found.
pub async fn ask<M>(found: &FoundInstance, message: M) -> Result<M::Result, RestError>
where
    M: actix::Message + Send + 'static,
    M::Result: Send,
    capek_actors::consumer_instance::ConsumerInstance: actix::Handler<M>,
{
    found.addr.send(message).await.map_err(|_| not_found())
}

pub fn refused(error: InstanceError) -> RestError {
    match &error {
        InstanceError::IllegalState(_) | InstanceError::NotAssigned(_) => {
            RestError::new(40903, format!("Illegal state: {error}"))
        }
        InstanceError::TooManyReads => RestError::new(42901, error.to_string()),
        InstanceError::Gone => not_found(),
        InstanceError::Kafka(ErrorCode::UnknownTopicOrPartition, _) => {
            RestError::new(40403, "This server does not host this topic-partition.")
        }
        InstanceError::Kafka(ErrorCode::InvalidRegularExpression, _) => RestError::new(42204, error.to_string()),
        InstanceError::Kafka(code, message) => RestError::kafka(*code, message.clone()),
    }
}

/// For bodies that must be there.
pub async fn read_body<T: serde::de::DeserializeOwned>(
    request: &HttpRequest,
    payload: web::Payload,
    doors: &Doors,
) -> Result<T, RestError> {
    read_json(request, payload, doors).await?.ok_or_else(missing_body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_an_instance_says_where_it_lives() {
        let check = |path: &str, instance: &str, owner: Option<BrokerId>| {
            assert_eq!(instance_of_path(path), Some(("g", instance.to_owned())), "{path}");
            assert_eq!(owner_of(instance), owner, "{path}");
        };
        check("/consumers/g/instances/rest-consumer-x~n2/records", "rest-consumer-x~n2", Some(2));
        check("/consumers/g/instances/rest-consumer-x%7En12", "rest-consumer-x~n12", Some(12));
        check("/consumers/g/instances/a~n1~n3/offsets", "a~n1~n3", Some(3));
        check("/consumers/g/instances/mine/records", "mine", None);
        for nowhere in ["/consumers/g~n2", "/consumers/x~n2/instances/", "/topics/g/instances/x~n2", "/"] {
            assert_eq!(instance_of_path(nowhere), None, "{nowhere}");
        }
    }

    #[test]
    fn only_an_instance_that_is_not_there_is_looked_for_elsewhere() {
        let answer = |message: &str| json!({ "error_code": 40403, "message": message }).to_string();
        assert!(knows_no_instance(404, answer(UNKNOWN_INSTANCE).as_bytes()));
        assert!(!knows_no_instance(404, answer("This server does not host this topic-partition.").as_bytes()));
        assert!(!knows_no_instance(200, b"[]"));
    }
}
