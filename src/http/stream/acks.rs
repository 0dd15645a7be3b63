//! `POST /v1/groups/{group}/ack`: what a stream of the group has sent is done. For members that have no way back to their broker
//! of their own: Server-Sent Events and lines of JSON.

use actix_web::http::StatusCode;
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::http::StreamsOfGroup;
use capek_actors::stream_commands::Acknowledge;
use serde::Deserialize;
use serde_json::json;

use super::super::doors::Doors;
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

pub async fn post(
    request: HttpRequest,
    group: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let acks: Acks = read_body(&request, payload, &doors).await?;
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
    let mut committed = Vec::new();
    for session in sessions {
        let (through, records) = (through.clone(), records.clone());
        // One that has gone meanwhile holds nothing.
        let Ok(answer) = session.send(Acknowledge { subscription: None, through, records }).await else { continue };
        committed.extend(answer.map_err(|problem| Problem::new(StatusCode::CONFLICT, problem))?);
    }
    let asked = through.iter().chain(&records).map(|(place, _)| place);
    if let Some(missing) = asked.into_iter().find(|place| !committed.iter().any(|(held, _)| held == *place)) {
        let detail =
            format!("partition {} of {} is read by no stream of this group here", missing.partition, missing.topic);
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    Ok(HttpResponse::Ok().json(json!({ "committed": frames::places(&committed, formats) })))
}
