//! `POST /v1/groups/{group}/ack`: what a stream of the group has sent is done. For members that have no way back to their broker
//! of their own (Server-Sent Events and lines of JSON), and for whoever does the work of one that has.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::http::StreamsOfGroup;
use capek_actors::stream_commands::Acknowledge;
use capek_actors::stream_events::StreamPlace;
use capek_wire::ids::BrokerId;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::carried;
use super::super::doors::Doors;
use super::super::objects;
use super::super::problem::Problem;
use super::super::v1::read_body;
use super::commands::{RawPlace, answered_as, places};
use super::frames;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acks {
    #[serde(default)]
    through: Vec<RawPlace>,
    #[serde(default)]
    records: Vec<RawPlace>,
}

/// What is read here is committed here; for the rest the other brokers are asked, for a member's stream may be with any of them.
pub async fn post(
    request: HttpRequest,
    group: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let asked = read_body::<Value>(&request, payload, &doors).await?.to_string();
    let acks: Acks = objects::from_str(&asked).map_err(|error| Problem::bad_request(error.to_string()))?;
    let formats = answered_as(&acks.through, &acks.records);
    let through = places(acks.through, None).map_err(Problem::bad_request)?;
    let records = places(acks.records, None).map_err(Problem::bad_request)?;
    if through.is_empty() && records.is_empty() {
        return Err(Problem::bad_request(
            "through=[{topic, partition, offset}] is missing, or records of the same kind",
        ));
    }
    let sessions = doors.sessions.send(StreamsOfGroup(group.into_inner())).await;
    let sessions = sessions.map_err(|_| Problem::unavailable("the broker stops"))?;
    let mut held = Vec::new();
    for session in sessions {
        let (through, records) = (through.clone(), records.clone());
        // One that has gone meanwhile holds nothing.
        let Ok(answer) = session.send(Acknowledge { subscription: None, through, records }).await else { continue };
        held.extend(answer.map_err(|problem| Problem::new(StatusCode::CONFLICT, problem))?);
    }
    let mut committed: Vec<Value> = values(frames::places(&held, formats));
    if carried::is_carried(&request) {
        return Ok(HttpResponse::Ok().json(json!({ "committed": committed })));
    }
    let wanted: Vec<StreamPlace> = through.into_iter().chain(records).map(|(place, _)| place).collect();
    let mut unasked = None;
    for broker in doors.other_brokers() {
        if missing(&wanted, &committed).is_none() {
            break;
        }
        match committed_at(&doors, broker, &request, &asked).await {
            Ok(places) => committed.extend(places),
            Err(problem) if problem.status == StatusCode::CONFLICT => return Err(problem),
            Err(problem) => unasked = Some(format!("broker {broker} gave no answer: {}", problem.detail)),
        }
    }
    match (missing(&wanted, &committed), unasked) {
        (None, _) => Ok(HttpResponse::Ok().json(json!({ "committed": committed }))),
        (Some(place), None) => {
            let detail = format!("partition {} of {} is read by no stream of this group", place.partition, place.topic);
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        (Some(place), Some(why)) => {
            let what = format!("partition {} of {} is read by no stream that was found", place.partition, place.topic);
            Err(Problem::unavailable(format!("{what}; {why}")))
        }
    }
}

/// The first that is not among those.
fn missing<'a>(wanted: &'a [StreamPlace], committed: &[Value]) -> Option<&'a StreamPlace> {
    let is_there = |place: &StreamPlace| {
        committed.iter().any(|held| held["topic"] == *place.topic && held["partition"] == place.partition)
    };
    wanted.iter().find(|place| !is_there(place))
}

/// What another broker's streams of the group had of it.
async fn committed_at(
    doors: &Doors,
    broker: BrokerId,
    request: &HttpRequest,
    asked: &str,
) -> Result<Vec<Value>, Problem> {
    let carried = carried::ask(doors, broker, request, asked.to_owned().into()).await;
    let (answer, body) = carried.map_err(|error| Problem::unavailable(error.message))?;
    let mut read: Value = serde_json::from_slice(&body).unwrap_or_default();
    if answer.status == StatusCode::OK.as_u16() {
        return Ok(values(read["committed"].take()));
    }
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    Err(Problem::new(status, read["detail"].as_str().unwrap_or("it said no more").to_owned()))
}

fn values(array: Value) -> Vec<Value> {
    if let Value::Array(values) = array { values } else { Vec::new() }
}
