//! What a stream of a group has sent is done, said somewhere else than over its own socket: `POST /v1/groups/{group}/ack`, and a frame
//! `ack` that names the group. For members that have no way back to their broker of their own (Server-Sent Events and lines of JSON),
//! and for whoever does the work of one that has.

use std::net::IpAddr;
use std::time::Duration;

use actix_web::http::{Method, StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::http::StreamsOfGroup;
use capek_actors::stream_commands::Acknowledge;
use capek_actors::stream_events::StreamPlace;
use capek_wire::ids::{BrokerId, Offset};
use capek_wire::peer::calls::HttpCall;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::carried;
use super::super::doors::Doors;
use super::super::groups;
use super::super::links;
use super::super::objects;
use super::super::problem::Problem;
use super::super::rest_v2::caller;
use super::super::v1::read_body;
use super::commands::{RawPlace, answered_as, places};
use super::frames;
use super::values::Formats;

/// Longer waits are for the client, which says it again.
const COMMITTED_WITHIN: Duration = Duration::from_secs(30);

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupAck {
    pub group: String,
    /// Only what this member holds.
    pub member: Option<String>,
    pub through: Vec<(StreamPlace, Offset)>,
    pub records: Vec<(StreamPlace, Offset)>,
    pub formats: Formats,
}

impl GroupAck {
    /// What is named in it is short enough to be carried to other brokers.
    pub fn check(&self) -> Result<(), String> {
        const MEMBER_BYTES_MAX: usize = 249;
        if let Some(problem) = groups::name_problem(&self.group) {
            return Err(problem);
        }
        match &self.member {
            Some(member) if member.len() > MEMBER_BYTES_MAX => {
                Err(format!("a member has {MEMBER_BYTES_MAX} bytes at most"))
            }
            _ => Ok(()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAcks {
    member: Option<String>,
    #[serde(default)]
    through: Vec<RawPlace>,
    #[serde(default)]
    records: Vec<RawPlace>,
}

/// See the head of this file.
pub async fn post(
    request: HttpRequest,
    group: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let asked = read_body::<Value>(&request, payload, &doors).await?.to_string();
    let RawAcks { member, through, records } =
        objects::from_str(&asked).map_err(|error| Problem::bad_request(error.to_string()))?;
    let formats = answered_as(&through, &records);
    let through = places(through, None).map_err(Problem::bad_request)?;
    let records = places(records, None).map_err(Problem::bad_request)?;
    if through.is_empty() && records.is_empty() {
        return Err(Problem::bad_request(
            "through=[{topic, partition, offset}] is missing, or records of the same kind",
        ));
    }
    let ack = GroupAck { group: group.into_inner(), member, through, records, formats };
    ack.check().map_err(Problem::bad_request)?;
    let committed = if carried::is_carried(&request) {
        committed_here(&doors, &ack).await?
    } else {
        committed_anywhere(&doors, caller(&request).ip, &ack).await?
    };
    Ok(HttpResponse::Ok().json(json!({ "committed": committed })))
}

/// What is read here is committed here; for the rest the other brokers are asked, for a member's stream may be with any of them.
pub async fn committed_anywhere(doors: &Doors, client: IpAddr, ack: &GroupAck) -> Result<Vec<Value>, Problem> {
    let mut committed = committed_here(doors, ack).await?;
    let wanted: Vec<&StreamPlace> = ack.through.iter().chain(&ack.records).map(|(place, _)| place).collect();
    let mut unasked = None;
    for broker in doors.other_brokers() {
        if missing(&wanted, &committed).is_none() {
            break;
        }
        match committed_at(doors, broker, client, ack).await {
            Ok(places) => committed.extend(places),
            Err(problem) if problem.status == StatusCode::CONFLICT => return Err(problem),
            Err(problem) => unasked = Some(format!("broker {broker} gave no answer: {}", problem.detail)),
        }
    }
    let Some(place) = missing(&wanted, &committed) else { return Ok(committed) };
    let whose = if ack.member.is_some() {
        "is not held by this member of the group"
    } else {
        "is read by no stream of this group"
    };
    let what = format!("partition {} of {} {whose}", place.partition, place.topic);
    Err(match unasked {
        None => Problem::new(StatusCode::CONFLICT, what),
        Some(why) => Problem::unavailable(format!("{what} that was found; {why}")),
    })
}

async fn committed_here(doors: &Doors, ack: &GroupAck) -> Result<Vec<Value>, Problem> {
    let sessions = doors.sessions.send(StreamsOfGroup(ack.group.clone())).await;
    let sessions = sessions.map_err(|_| Problem::unavailable("the broker stops"))?;
    let mut held = Vec::new();
    for session in sessions {
        let GroupAck { member, through, records, .. } = ack.clone();
        // One that has gone meanwhile holds nothing.
        let Ok(answer) = session.send(Acknowledge { subscription: None, member, through, records }).await else {
            continue;
        };
        held.extend(answer.map_err(|problem| Problem::new(StatusCode::CONFLICT, problem))?);
    }
    Ok(values(frames::places(&held, ack.formats)))
}

/// The first that is not among those.
fn missing<'a>(wanted: &[&'a StreamPlace], committed: &[Value]) -> Option<&'a StreamPlace> {
    let is_there = |place: &StreamPlace| {
        committed.iter().any(|held| held["topic"] == *place.topic && held["partition"] == place.partition)
    };
    wanted.iter().copied().find(|place| !is_there(place))
}

/// What another broker's streams of the group had of it.
async fn committed_at(doors: &Doors, broker: BrokerId, client: IpAddr, ack: &GroupAck) -> Result<Vec<Value>, Problem> {
    let places = |places| frames::places(places, ack.formats);
    let mut body = json!({ "through": places(&ack.through), "records": places(&ack.records) });
    if let Some(member) = &ack.member {
        body["member"] = json!(member);
    }
    let call = HttpCall {
        ip: client,
        method: Method::POST.to_string(),
        target: format!("/v1/groups/{}/ack", links::segment(&ack.group)),
        headers: vec![(header::CONTENT_TYPE.to_string(), "application/json".to_owned())],
    };
    let carried = doors.client.carry_http(broker, call, body.to_string().into(), COMMITTED_WITHIN).await;
    let (answer, body) = carried.map_err(|error| Problem::unavailable(error.to_string()))?;
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
