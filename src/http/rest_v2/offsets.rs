//! What a group has committed, and where an instance reads on.

use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::consumer_commands::{Commit, InstanceError, OffsetToStore, Place, Seek};
use capek_actors::group_offsets::{self, GroupMember};
use capek_wire::ids::Offset;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::cluster_admin::Refused;
use super::super::doors::Doors;
use super::super::problem::RestError;
use super::super::query::QueryPairs;
use super::super::stream::StartAt;
use super::consumers::{ask, find, read_body, refused};
use super::subscription::{Places, await_assignment};
use super::{answer, read_json};

#[derive(Deserialize)]
struct NamedOffset {
    topic: String,
    partition: i32,
    offset: Offset,
    metadata: Option<String>,
}

#[derive(Deserialize)]
struct Offsets {
    offsets: Vec<NamedOffset>,
}

#[derive(Deserialize)]
struct NamedTime {
    topic: String,
    partition: i32,
    timestamp: String,
}

#[derive(Deserialize)]
struct Positions {
    #[serde(default)]
    offsets: Vec<NamedOffset>,
    #[serde(default)]
    timestamps: Vec<NamedTime>,
}

/// An empty body commits wherever reading goes on.
pub async fn commit(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let offsets: Option<Offsets> = read_json(&request, payload, &doors).await?;
    let is_async = QueryPairs::of(&request)?.get("async").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    let offsets = offsets.map(|named| to_store(&doors, named.offsets)).transpose()?;
    await_assignment(&found).await?;
    let committed = found.addr.send(Commit(offsets));
    if is_async {
        actix_rt::spawn(async move {
            if let Ok(Err(error)) = committed.await {
                log::info!("an asynchronous commit of REST v2 was not stored: {error}");
            }
        });
    } else {
        committed.await.map_err(|_| refused(InstanceError::Gone))?.map_err(refused)?;
    }
    Ok(answer(&request).body("[]"))
}

/// Confluent's clients name the last record that they have seen, and what is stored is the next.
fn to_store(doors: &Doors, named: Vec<NamedOffset>) -> Result<Vec<OffsetToStore>, RestError> {
    let semantics = doors.broker().config.text(&doors.client.image(), "capek.rest.v2.commit.semantics");
    let added = Offset::from(semantics != "literal");
    let store = |named: NamedOffset| {
        if named.offset < 0 || named.offset == Offset::MAX {
            return Err(RestError::new(422, format!("offset {} is no offset of a record", named.offset)));
        }
        let metadata = named.metadata.unwrap_or_default();
        Ok(OffsetToStore { place: (named.topic, named.partition), offset: named.offset + added, metadata })
    };
    named.into_iter().map(store).collect()
}

/// Proxies strip the body of a GET: the query may name the partitions as well, `?partitions=t:0,t:1`.
pub async fn committed(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let in_body: Option<Places> = read_json(&request, payload, &doors).await?;
    let query = QueryPairs::of(&request)?;
    let places = match (in_body, query.get("partitions")) {
        (Some(places), _) => places.into_places(),
        (None, Some(text)) => text.split(',').map(place).collect::<Result<_, _>>()?,
        (None, None) => return Err(RestError::new(422, "partitions must not be empty")),
    };
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    if !places.iter().all(|place| group_offsets::is_there(&doors.client, place)) {
        return Err(RestError::new(40403, "This server does not host this topic-partition."));
    }
    let (caller, group) = (&found.settings.caller, &found.settings.group);
    let stored = group_offsets::committed(&doors.client, caller, group, &GroupMember::nobody(), &places).await;
    let stored = stored.map_err(refused)?;
    let offsets: Vec<Value> = stored
        .iter()
        .map(|((topic, partition), stored)| {
            json!({ "topic": topic, "partition": partition, "offset": stored.offset, "metadata": stored.metadata })
        })
        .collect();
    Ok(answer(&request).body(json!({ "offsets": offsets }).to_string()))
}

/// `topic:partition`.
fn place(text: &str) -> Result<Place, RestError> {
    let found = text.trim().rsplit_once(':').and_then(|(topic, index)| Some((topic.to_owned(), index.parse().ok()?)));
    found.ok_or_else(|| RestError::new(422, format!("partitions: '{text}' is not TOPIC:PARTITION")))
}

pub async fn seek(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let positions: Positions = read_body(&request, payload, &doors).await?;
    let mut wanted = Vec::new();
    for NamedOffset { topic, partition, offset, .. } in positions.offsets {
        if offset < 0 {
            return Err(RestError::new(422, format!("offset {offset} must not be negative")));
        }
        wanted.push(((topic, partition), StartAt::Offset(offset)));
    }
    for NamedTime { topic, partition, timestamp } in positions.timestamps {
        wanted.push(((topic, partition), at_time(&timestamp)?));
    }
    seek_all(&doors, path.into_inner(), wanted).await
}

fn at_time(timestamp: &str) -> Result<StartAt, RestError> {
    let time: jiff::Timestamp = timestamp.parse().map_err(|error| {
        RestError::new(422, format!("timestamp '{timestamp}' is not like 2026-01-02T03:04:05Z: {error}"))
    })?;
    Ok(StartAt::Time(time.as_millisecond()))
}

pub async fn seek_to_beginning(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let places: Places = read_body(&request, payload, &doors).await?;
    let wanted = places.into_places().into_iter().map(|place| (place, StartAt::Earliest)).collect();
    seek_all(&doors, path.into_inner(), wanted).await
}

pub async fn seek_to_end(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let places: Places = read_body(&request, payload, &doors).await?;
    let wanted = places.into_places().into_iter().map(|place| (place, StartAt::Latest)).collect();
    seek_all(&doors, path.into_inner(), wanted).await
}

async fn seek_all(
    doors: &Doors,
    (group, instance): (String, String),
    wanted: Vec<(Place, StartAt)>,
) -> Result<HttpResponse, RestError> {
    let found = find(doors, group, instance).await?;
    await_assignment(&found).await?;
    let mut places = Vec::with_capacity(wanted.len());
    for ((topic, partition), from) in wanted {
        let offset = match from {
            // Where it is not in the log, auto.offset.reset decides.
            StartAt::Offset(offset) => offset,
            from => doors.offset_from(&found.settings.caller, &topic, partition, from).await.map_err(not_sought)?,
        };
        places.push(((topic, partition), offset));
    }
    ask(&found, Seek(places)).await?.map_err(refused)?;
    Ok(HttpResponse::NoContent().finish())
}

fn not_sought(error: Refused) -> RestError {
    refused(InstanceError::Kafka(error.code, Some(error.message)))
}
