//! What a consumer instance reads: topics as a member of its group, or partitions that its client has chosen.

use std::borrow::Cow;
use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::consumer_commands::{
    Assign, AwaitAssignment, DescribeAssignment, DescribeSubscription, InstanceError, Place, Subscribe, Unsubscribe,
};
use capek_actors::consumer_membership::Wanted;
use capek_state::Refusal;
use capek_state::group::consumer::check_topic_regex;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::problem::RestError;
use super::answer;
use super::consumers::{ask, find, read_body, refused};

/// How long what needs an assignment waits for the first one.
const ASSIGNED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
struct Subscription {
    topics: Option<Vec<String>>,
    topic_pattern: Option<String>,
}

/// A partition as requests name it.
#[derive(Deserialize)]
pub struct NamedPlace {
    pub topic: String,
    pub partition: i32,
}

#[derive(Deserialize)]
pub struct Places {
    pub partitions: Vec<NamedPlace>,
}

impl Places {
    pub fn into_places(self) -> Vec<Place> {
        self.partitions.into_iter().map(|place| (place.topic, place.partition)).collect()
    }
}

pub async fn subscribe(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let wanted: Subscription = read_body(&request, payload, &doors).await?;
    let wanted = match (wanted.topics.filter(|topics| !topics.is_empty()), wanted.topic_pattern) {
        (Some(topics), None) => Wanted::Topics(topics),
        (None, Some(pattern)) => {
            let bad =
                |refusal: Refusal| refused(InstanceError::Kafka(refusal.code, refusal.message.map(Cow::into_owned)));
            check_topic_regex(&pattern).map_err(bad)?;
            Wanted::Pattern(pattern)
        }
        (Some(_), Some(_)) => return Err(RestError::new(422, "either topics or topic_pattern, not both")),
        (None, None) => return Err(RestError::new(422, "topics must not be empty without a topic_pattern")),
    };
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    ask(&found, Subscribe(wanted)).await?.map_err(refused)?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn describe(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    await_assignment(&found).await?;
    let topics = ask(&found, DescribeSubscription).await?;
    Ok(answer(&request).body(json!({ "topics": topics }).to_string()))
}

pub async fn unsubscribe(
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    ask(&found, Unsubscribe).await?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn assign(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let places: Places = read_body(&request, payload, &doors).await?;
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    ask(&found, Assign(places.into_places())).await?.map_err(refused)?;
    Ok(HttpResponse::NoContent().finish())
}

pub async fn assignments(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    await_assignment(&found).await?;
    let places = ask(&found, DescribeAssignment).await?;
    let partitions: Vec<Value> =
        places.iter().map(|(topic, partition)| json!({ "topic": topic, "partition": partition })).collect();
    Ok(answer(&request).body(json!({ "partitions": partitions }).to_string()))
}

/// What moves positions or tells of them waits for the group's first word.
pub async fn await_assignment(found: &capek_actors::consumer_instances::FoundInstance) -> Result<(), RestError> {
    ask(found, AwaitAssignment { at_most: ASSIGNED_WITHIN }).await
}
