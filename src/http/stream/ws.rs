//! The upgrade to a WebSocket: `/v1/stream/ws` for everything, and the paths that say in their query what they are for.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use actix_http::ws::handshake;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::stream_events::{Encoder, Outgoing};
use capek_actors::stream_group::{GroupStart, new_id};
use capek_state::stream::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use serde_json::{Value, json};

use super::super::doors::Doors;
use super::super::guard;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::rest_v2::caller;
use super::super::v1::check_topic_name;
use super::body::{Framing, StreamBody};
use super::commands::FIRST_SUBSCRIPTION;
use super::open::{NewSession, heartbeat};
use super::options::Options;
use super::wanted::Wanted;
use super::ws_client::{Client, FRAME_BYTES_MAX, SILENCE_MAX};
use super::{bin_frames, frames};

const HEARTBEAT: Duration = Duration::from_secs(20);
const SESSION_NAME_BYTES_MAX: usize = 64;

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Json,
    Bin,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Json => "capek.v1.json",
            Protocol::Bin => "capek.v1.bin",
        }
    }

    /// Whether it has a form for all that is wanted.
    pub fn check(self, wanted: &Wanted) -> Result<(), Problem> {
        match self {
            Protocol::Json if wanted.is_raw => {
                Err(Problem::bad_request("raw batches are for the sub-protocol capek.v1.bin"))
            }
            Protocol::Bin if wanted.tells_positions => Err(Problem::bad_request(
                "include=resume is for the sub-protocol capek.v1.json: here tokens come with heartbeats",
            )),
            _ => Ok(()),
        }
    }

    pub fn encoder(self, subscription: u64, wanted: &Wanted, greeting: Value) -> Encoder {
        match self {
            Protocol::Json => frames::of_subscription(subscription, wanted.formats, greeting),
            Protocol::Bin => bin_frames::of_subscription(subscription, wanted.formats, greeting),
        }
    }
}

/// The full protocol: everything is said in frames.
pub async fn open(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    connect(request, payload, doors, None, None).await
}

/// Subscribed to the topic from the begin.
pub async fn open_topic(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let options = Options::of(&QueryPairs::of(&request)?)?;
    if options.group.is_some() {
        return Err(Problem::bad_request("a group has a path of its own: /v1/groups/{group}/ws?topics="));
    }
    let options = options.for_topic(&topic);
    connect(request, payload, doors, Some(topic.into_inner()), Some(options)).await
}

/// A member of the group from the begin.
pub async fn open_group(
    request: HttpRequest,
    group: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    let options = Options::of(&QueryPairs::of(&request)?)?.for_group(group.into_inner());
    let topic = if let [only] = &options.topics[..] { Some(only.clone()) } else { None };
    connect(request, payload, doors, topic, Some(options)).await
}

/// Only for records to store.
pub async fn open_producer(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    check_topic_name(&topic)?;
    connect(request, payload, doors, Some(topic.into_inner()), None).await
}

/// `topic` is meant by frames that name none; with `options` there is a subscription from the begin, and no other.
async fn connect(
    request: HttpRequest,
    payload: web::Payload,
    doors: web::Data<Doors>,
    topic: Option<String>,
    options: Option<Options>,
) -> Result<HttpResponse, Problem> {
    guard::check_origin(&doors, request.head())?;
    let query = QueryPairs::of(&request)?;
    let heartbeat = heartbeat(&query, HEARTBEAT)?;
    let name = session_name(&query)?;
    let wanted = options.map(Options::wanted).transpose()?;
    let (protocol, is_named) = sub_protocol(&request)?;
    wanted.as_ref().map_or(Ok(()), |wanted| protocol.check(wanted))?;
    let mut response = handshake(request.head()).map_err(|error| {
        let status = StatusCode::UPGRADE_REQUIRED;
        Problem::new(
            status,
            format!("this path is for WebSockets (for curl there are those that end in /sse): {error}"),
        )
    })?;
    if is_named {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol.name()));
    }
    let caller = caller(&request);
    let subscription = match &wanted {
        None => None,
        Some(wanted) => {
            let opened = wanted.open(&doors, &caller).await?;
            let greeting = subscribed(None, FIRST_SUBSCRIPTION, wanted, opened.group.as_ref());
            let encoder = protocol.encoder(FIRST_SUBSCRIPTION, wanted, greeting);
            Some(opened.subscription(FIRST_SUBSCRIPTION, wanted, wanted.credit, encoder))
        }
    };
    let group = wanted.as_ref().and_then(|wanted| wanted.member.as_ref()).map(|member| member.group.clone());
    let (body, senders) = StreamBody::new(Framing::WebSocket, doors.begin());
    // The channel is new: it has room.
    let _ = senders.control.try_send(welcome(&doors, &name, heartbeat));
    let control = senders.control.clone();
    let has_subscription = subscription.is_some();
    let session = NewSession {
        caller: caller.clone(),
        subscription,
        ends_with_subscription: has_subscription,
        heartbeat,
        rotate_after: None,
        encoder: frames::of_session(),
        group,
    };
    let session = session.start(&doors, senders).await?;
    let client = Client {
        doors,
        session,
        control,
        caller,
        protocol,
        name,
        topic,
        is_for_one: has_subscription,
        next_subscription: Cell::new(FIRST_SUBSCRIPTION),
        is_throttle_told: Cell::default(),
        in_flight: Rc::default(),
        answered: Rc::default(),
    };
    actix_rt::spawn(client.listen(payload, heartbeat + SILENCE_MAX));
    let response = response.message_body(body);
    let response = response.map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(response.map_into_boxed_body().into())
}

/// Under which a producer is known again. Whoever brings none gets one.
fn session_name(query: &QueryPairs) -> Result<String, Problem> {
    let Some(name) = query.get("session") else { return Ok(format!("s-{}", new_id())) };
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=SESSION_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_legal) {
        return Ok(name.to_owned());
    }
    Err(Problem::bad_request(format!("session is 1 to {SESSION_NAME_BYTES_MAX} of a-z A-Z 0-9 . _ -")))
}

/// Who offers sub-protocols must be answered with one of them; who offers none gets JSON.
fn sub_protocol(request: &HttpRequest) -> Result<(Protocol, bool), Problem> {
    let values = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let mut offered =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim).peekable();
    if offered.peek().is_none() {
        return Ok((Protocol::Json, false));
    }
    let known = |name: &str| [Protocol::Json, Protocol::Bin].into_iter().find(|protocol| protocol.name() == name);
    let found = offered.find_map(known);
    let refused = || Problem::bad_request("of the sub-protocols there are capek.v1.json and capek.v1.bin");
    Ok((found.ok_or_else(refused)?, true))
}

fn welcome(doors: &Doors, session: &str, heartbeat: Duration) -> Outgoing {
    let broker = doors.broker();
    frames::text(&json!({
        "type": "welcome",
        "session": session,
        "node": broker.config.node_id,
        "cluster": broker.cluster_id,
        "heartbeat_ms": heartbeat.as_millis() as u64,
        "max_frame": FRAME_BYTES_MAX,
        "limits": { "inflight": IN_FLIGHT_MAX, "inflight_bytes": IN_FLIGHT_BYTES_MAX },
    }))
}

pub fn subscribed(id: Option<&Value>, subscription: u64, wanted: &Wanted, group: Option<&GroupStart>) -> Value {
    let mut frame = json!({ "type": "subscribed" });
    if let Some(id) = id {
        frame["id"] = id.clone();
    }
    frame["sub"] = json!(subscription);
    frame["topics"] = json!(wanted.topics);
    frame["credit"] = json!({ "records": wanted.credit.records, "bytes": wanted.credit.bytes });
    if let Some(group) = group {
        frame["group"] = json!(group.group);
        frame["member"] = json!(group.member_id);
    }
    frame
}
