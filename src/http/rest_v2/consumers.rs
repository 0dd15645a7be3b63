//! Consumer instances: `POST /consumers/{group}` makes one, and every other request finds it by its name.
//!
//! An instance lives on the broker that made it. In a cluster its id says which (`…~n2`), so that a request which comes to
//! another broker is carried there (`carried.rs`).

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::consumer_commands::{EndInstance, InstanceError, InstanceSettings};
use capek_actors::consumer_instances::{FindInstance, FoundInstance, InstanceRefusal, StartInstance, TakeInstance};
use capek_actors::local_requests::Caller;
use capek_actors::record_reader::OffsetReset;
use capek_actors::topics::new_topic_id;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::links;
use super::super::problem::RestError;
use super::formats::Format;
use super::{answer, missing_body, read_json};

/// How long a read waits that does not say.
const READ_WITHIN_MS_DEFAULT: u64 = 1_000;
pub const READ_WITHIN_MS_MAX: u64 = 300_000;
const AUTO_COMMIT_INTERVAL: Duration = Duration::from_secs(5);
const NAME_CHARS_MAX: usize = 249;

#[derive(Deserialize, Default)]
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
    let wanted: NewInstance = read_json(&request, payload, &doors).await?.unwrap_or_default();
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

/// A name of the client's stays as it is where there is only one broker that it could live on.
fn instance_id(doors: &Doors, name: Option<String>) -> Result<String, RestError> {
    let node = doors.broker().config.node_id;
    match name {
        None => Ok(format!("rest-consumer-{}~n{node}", new_topic_id())),
        Some(name) if name.is_empty() || name.chars().count() > NAME_CHARS_MAX => {
            Err(RestError::new(422, format!("the name of an instance has 1 to {NAME_CHARS_MAX} characters")))
        }
        Some(name) if doors.client.image().brokers().count() > 1 => Ok(format!("{name}~n{node}")),
        Some(name) => Ok(name),
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
fn owner_of(instance: &str) -> Option<BrokerId> {
    instance.rsplit_once("~n").and_then(|(_, node)| node.parse().ok())
}

/// The broker that has the instance which this path is about: `/consumers/{group}/instances/{instance}…`.
pub fn owner_of_path(path: &str) -> Option<BrokerId> {
    let mut segments = path.split('/').skip(1);
    let is_instance = (segments.next()?, segments.nth(1)?) == ("consumers", "instances");
    // A `~` may come as it is or escaped.
    is_instance
        .then(|| segments.next().map(|instance| instance.replace("%7E", "~").replace("%7e", "~")))?
        .as_deref()
        .and_then(owner_of)
}

fn not_found() -> RestError {
    RestError::new(40403, "Consumer instance not found.")
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
        let check = |path: &str, owner: Option<BrokerId>| assert_eq!(owner_of_path(path), owner, "{path}");
        check("/consumers/g/instances/rest-consumer-x~n2/records", Some(2));
        check("/consumers/g/instances/rest-consumer-x%7En12", Some(12));
        check("/consumers/g/instances/a~n1~n3/offsets", Some(3));
        for nowhere in [
            "/consumers/g/instances/mine/records",
            "/consumers/g~n2",
            "/consumers/x~n2/instances/",
            "/topics/g/instances/x~n2",
            "/",
        ] {
            check(nowhere, None);
        }
    }
}
