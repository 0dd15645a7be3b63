//! `GET /v1/actors`: the supervision tree as it is; and, where it is switched on, ways to hurt it.

use std::sync::atomic::Ordering;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::census::{ActorEntry, Chaos};
use serde::Deserialize;
use serde_json::json;

use super::body::{self, Size};
use super::doors::Doors;
use super::objects;
use super::problem::Problem;
use super::query::QueryPairs;
use super::routes::{self, Endpoint};

pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/v1/actors", || routes::get().to(list), "The supervision tree as it is")
        .query(&["under", "depth", "limit"]),
    Endpoint::post("/v1/chaos/panic", || web::post().to(panic), "Makes an actor panic, where that is switched on")
        .body(&["application/json"], "Any"),
    Endpoint::post("/v1/chaos/stall", || web::post().to(stall), "Makes an actor slow, where that is switched on")
        .body(&["application/json"], "Any"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

const LISTED_DEFAULT: usize = 200;
const LISTED_MAX: usize = 10_000;

/// `?under=PATH&depth=N&limit=N`, in the order of the paths: a parent comes before its children.
async fn list(request: HttpRequest, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let query = QueryPairs::of(&request)?;
    let under = query.get("under").unwrap_or("").trim_matches('/');
    let depth = query.number("depth")?.unwrap_or(usize::from(u16::MAX)).min(usize::from(u16::MAX));
    let limit = query.number("limit")?.unwrap_or(LISTED_DEFAULT).clamp(1, LISTED_MAX);
    let (entries, truncated) = doors.broker().census.list(under, depth, limit);
    if entries.is_empty() && !under.is_empty() {
        return Err(Problem::not_found(format!("there is no actor at or under {under}")));
    }
    let actors: Vec<_> = entries.iter().map(|entry| describe(entry)).collect();
    Ok(HttpResponse::Ok().json(json!({ "actors": actors, "truncated": truncated })))
}

fn describe(entry: &ActorEntry) -> serde_json::Value {
    json!({
        "path": entry.path,
        "kind": entry.kind,
        "incarnation": entry.incarnation.load(Ordering::Relaxed),
        "restarts": entry.restarts.load(Ordering::Relaxed),
        "age_ms": entry.age_ms(),
        "mailbox": entry.mailbox.load(Ordering::Relaxed).max(0),
        "parked": entry.parked.load(Ordering::Relaxed),
        "bytes_held": entry.bytes_held.load(Ordering::Relaxed),
    })
}

#[derive(Deserialize)]
struct Victim {
    path: String,
    #[serde(default)]
    ms: u64,
}

async fn panic(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    let victim = victim(&request, payload, &doors).await?;
    hurt(&doors, &victim, Chaos::Panic)
}

async fn stall(request: HttpRequest, payload: web::Payload, doors: web::Data<Doors>) -> Result<HttpResponse, Problem> {
    const STALL_MS_MAX: u64 = 60_000;
    let victim = victim(&request, payload, &doors).await?;
    hurt(&doors, &victim, Chaos::StallMs(victim.ms.min(STALL_MS_MAX)))
}

async fn victim(request: &HttpRequest, payload: web::Payload, doors: &Doors) -> Result<Victim, Problem> {
    if !doors.broker().config.chaos {
        return Err(Problem::not_found("chaos is off: start the broker with capek.chaos=true"));
    }
    // A web page can send other content types across origins without asking.
    let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|value| value.starts_with("application/json")) {
        return Err(Problem::bad_request("the body must be application/json"));
    }
    let body = body::read(request, payload, Size::Small, &doors.bodies).await?;
    objects::from_slice(&body.bytes).map_err(|error| Problem::json(&error, 0))
}

fn hurt(doors: &Doors, victim: &Victim, chaos: Chaos) -> Result<HttpResponse, Problem> {
    let entry = doors.broker().census.find(victim.path.trim_matches('/'));
    let entry = entry.ok_or_else(|| Problem::not_found(format!("there is no actor {}", victim.path)))?;
    if !entry.send_chaos(chaos) {
        return Err(Problem::bad_request(format!("{} takes no such message", entry.path)));
    }
    log::warn!("chaos: {chaos:?} for {}", entry.path);
    Ok(HttpResponse::Ok().json(json!({ "path": entry.path })))
}
