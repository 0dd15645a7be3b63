//! Server-Sent Events, and with `Accept: application/x-ndjson` lines of JSON: of a topic, or as a member of a group. The client's
//! socket is its flow control: what it does not take is not read from the log.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use capek_actors::stream_events::{Encoder, Outgoing, StreamPlace};
use capek_actors::stream_group::Acknowledges;
use capek_state::stream::Credit;
use capek_wire::ids::Offset;

use super::super::doors::Doors;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::rest_v2::caller;
use super::body::{Framing, StreamBody};
use super::commands::FIRST_SUBSCRIPTION;
use super::events::EventWriter;
use super::last_event_id;
use super::open::{NewSession, heartbeat};
use super::options::Options;
use super::wanted::Wanted;

const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a browser waits before it comes back.
const RETRY_MS: u64 = 2000;
const NDJSON: &str = "application/x-ndjson";

pub async fn open_topic(
    request: HttpRequest,
    topic: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let query = QueryPairs::of(&request)?;
    let options = Options::of(&query)?;
    if options.group.is_some() {
        return Err(Problem::bad_request("a group has a path of its own: /v1/groups/{group}/sse?topics="));
    }
    let options = options.for_topic(&topic);
    open(&request, &query, options, doors).await
}

/// What was sent before the connection is committed when the client comes back with `Last-Event-ID`, or says so to
/// `/v1/groups/{group}/ack`.
pub async fn open_group(
    request: HttpRequest,
    group: web::Path<String>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let query = QueryPairs::of(&request)?;
    let options = Options::of(&query)?.for_group(group.into_inner());
    open(&request, &query, options, doors).await
}

async fn open(
    request: &HttpRequest,
    query: &QueryPairs,
    options: Options,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let wanted = wanted(request, query, options)?;
    let heartbeat = heartbeat(query, HEARTBEAT)?;
    let is_value_only = match query.get("envelope") {
        None | Some("record") => false,
        Some("value") => true,
        Some(other) => return Err(Problem::bad_request(format!("envelope={other} is not record or value"))),
    };
    let is_ndjson = text_header(request, "accept").is_some_and(|accept| accept.contains(NDJSON));
    let caller = caller(request);
    let opened = wanted.open(&doors, &caller).await?;
    let group = opened.group.as_ref().map(|group| group.group.clone());
    let next: BTreeMap<StreamPlace, Offset> =
        opened.cursors.iter().map(|cursor| (cursor.place.clone(), cursor.next)).collect();
    let mut resumed_from = Vec::new();
    last_event_id::put(&mut resumed_from, &next);
    let encoder = |next| {
        let writer = EventWriter { formats: wanted.formats, next, is_value_only };
        if is_ndjson { writer.into_lines() } else { writer.into_events() }
    };
    let subscription = opened.subscription(FIRST_SUBSCRIPTION, &wanted, Credit::UNLIMITED, encoder(next));
    let (body, senders) = StreamBody::new(Framing::Plain, doors.begin());
    if !is_ndjson {
        let hello = format!("retry: {RETRY_MS}\n\n");
        // The channel is new: it has room.
        let _ = senders.control.try_send(Outgoing::Text(Bytes::from(hello)));
    }
    let is_reader = group.is_none();
    let of_session: Encoder = encoder(BTreeMap::new());
    let session = NewSession {
        caller,
        subscription: Some(subscription),
        ends_with_subscription: true,
        heartbeat,
        // Whoever reads lines does not come back by itself.
        rotate_after: doors.rotate_sse_after.filter(|_| !is_ndjson),
        encoder: of_session,
        group,
    };
    session.start(&doors, senders).await?;
    let content_type = if is_ndjson { NDJSON } else { "text/event-stream; charset=utf-8" };
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, content_type))
        .insert_header((header::CACHE_CONTROL, "no-cache, no-transform"))
        .insert_header(("X-Accel-Buffering", "no"));
    if is_reader {
        response.insert_header(("Capek-Resumed-From", resumed_from));
    }
    Ok(response.body(body))
}

fn wanted(request: &HttpRequest, query: &QueryPairs, mut options: Options) -> Result<Wanted, Problem> {
    let id = text_header(request, "last-event-id").or(query.get("last_event_id"));
    if let Some(id) = id.filter(|id| !id.is_empty()) {
        options.resume = Some(id.to_owned());
    }
    let wanted = options.wanted()?;
    if wanted.is_raw {
        return Err(Problem::bad_request("raw batches are for WebSockets with the sub-protocol capek.v1.bin"));
    }
    if wanted.tells_positions {
        return Err(Problem::bad_request(
            "include=resume is for WebSockets: the id of an event is what it resumes with",
        ));
    }
    if wanted.member.as_ref().is_some_and(|member| member.acknowledges == Acknowledges::Received) {
        return Err(Problem::bad_request("ack=received needs a WebSocket: here nobody answers pings"));
    }
    Ok(wanted)
}

fn text_header<'a>(request: &'a HttpRequest, name: &str) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}
