//! `GET /v1/topics/{topic}/ws`: a topic over a WebSocket, in frames of JSON, under the client's credit.

use std::pin::Pin;
use std::time::Duration;

use actix::Addr;
use actix_http::ws::{Codec, Frame, Item, ProtocolError, handshake};
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use capek_actors::stream_session::{Credit, EndStream, Goodbye, Outgoing, StreamCommand, StreamSession};
use futures_core::Stream;
use serde_json::json;
use tokio::sync::mpsc::Sender;
use tokio_util::codec::Decoder;

use super::super::doors::Doors;
use super::super::guard;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::body::{Framing, StreamBody};
use super::open::Wanted;
use super::ws_frames::{self, SUBSCRIPTION, Wish};

const PROTOCOL: &str = "capek.v1.json";
const HEARTBEAT: Duration = Duration::from_secs(20);
/// After a ping, an answer is due within this.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const CREDIT_RECORDS: u64 = 500;
const CREDIT_BYTES: u64 = 1 << 20;
/// The largest frame that a client may send, and the largest message in pieces.
const FRAME_BYTES_MAX: usize = 64 << 10;
const MESSAGE_BYTES_MAX: usize = 256 << 10;

pub async fn open(
    request: HttpRequest,
    topic: web::Path<String>,
    payload: web::Payload,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, Problem> {
    guard::check_origin(&doors, request.head())?;
    let query = QueryPairs::of(&request)?;
    let wanted = Wanted::of(&topic, &query, HEARTBEAT)?;
    let credit = Credit::limited(
        query.number("credit_records")?.unwrap_or(CREDIT_RECORDS),
        query.number("credit_bytes")?.unwrap_or(CREDIT_BYTES),
    );
    let mut response = handshake(request.head()).map_err(|error| {
        let status = StatusCode::UPGRADE_REQUIRED;
        Problem::new(status, format!("this path is for WebSockets (for curl there is /v1/topics/{topic}/sse): {error}"))
    })?;
    if let Some(protocol) = sub_protocol(&request)? {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, protocol));
    }
    let opened = wanted.open(&doors).await?;
    let topic = opened.topic.clone();
    let (body, senders) = StreamBody::new(Framing::WebSocket, doors.begin());
    for hello in hello(&doors, &wanted, &topic, credit) {
        // The channel is new: it has room.
        let _ = senders.control.try_send(Outgoing::Frame(hello));
    }
    let control = senders.control.clone();
    let encoder = ws_frames::encoder(topic.clone(), wanted.formats);
    let session = opened.start(&doors, &wanted, credit, senders, encoder).await?;
    let client = Client { topic: topic.to_string(), session, control };
    actix_rt::spawn(client.listen(payload, wanted.heartbeat + SILENCE_MAX));
    let response = response.message_body(body);
    let response = response.map_err(|error| Problem::bad_request(error.to_string()))?;
    Ok(response.map_into_boxed_body().into())
}

/// Who offers sub-protocols must be answered with one of them; who offers none gets JSON.
fn sub_protocol(request: &HttpRequest) -> Result<Option<&'static str>, Problem> {
    let values = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    let offered: Vec<&str> =
        values.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim).collect();
    if offered.is_empty() {
        return Ok(None);
    }
    if offered.contains(&PROTOCOL) {
        return Ok(Some(PROTOCOL));
    }
    Err(Problem::bad_request(format!("of the sub-protocols only {PROTOCOL} is built")))
}

fn hello(doors: &Doors, wanted: &Wanted, topic: &str, credit: Credit) -> [Bytes; 2] {
    let broker = doors.broker();
    let welcome = json!({
        "type": "welcome",
        "node": broker.config.node_id,
        "cluster": broker.cluster_id,
        "heartbeat_ms": wanted.heartbeat.as_millis() as u64,
        "max_frame": FRAME_BYTES_MAX,
    });
    let subscribed = json!({
        "type": "subscribed",
        "sub": SUBSCRIPTION,
        "topics": [topic],
        "credit": { "records": credit.records, "bytes": credit.bytes },
    });
    [welcome.to_string().into(), subscribed.to_string().into()]
}

/// What comes in over one socket. A client that sends and does not read waits here for room in the control channel.
struct Client {
    topic: String,
    session: Addr<StreamSession>,
    control: Sender<Outgoing>,
}

/// The socket or the session has gone.
struct Gone;

impl Client {
    async fn listen(self, payload: web::Payload, silence_max: Duration) {
        let goodbye = match self.read(payload, silence_max).await {
            Ok(goodbye) => goodbye,
            Err(Gone) => return,
        };
        // The session may have ended already.
        let _ = self.control.send(Outgoing::Close(goodbye)).await;
        self.session.do_send(EndStream(goodbye));
    }

    /// Reads until there is a reason to close.
    async fn read(&self, mut payload: web::Payload, silence_max: Duration) -> Result<Goodbye, Gone> {
        let mut codec = Codec::new().max_size(FRAME_BYTES_MAX);
        let mut bytes = BytesMut::new();
        let mut message = Aggregate::default();
        loop {
            loop {
                match codec.decode(&mut bytes) {
                    Ok(Some(frame)) => {
                        if let Some(goodbye) = self.received(frame, &mut message).await? {
                            return Ok(goodbye);
                        }
                    }
                    Ok(None) => break,
                    Err(ProtocolError::Overflow) => return Ok(close(1009, "the frame is too big")),
                    Err(_) => return Ok(close(1002, "this is not the WebSocket protocol")),
                }
            }
            match tokio::time::timeout(silence_max, next(&mut payload)).await {
                Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
                Ok(Some(Err(_)) | None) => return Ok(close(1001, "the client has gone")),
                Err(_) => return Ok(close(4008, "no answer to pings")),
            }
        }
    }

    async fn received(&self, frame: Frame, message: &mut Aggregate) -> Result<Option<Goodbye>, Gone> {
        match frame {
            Frame::Text(text) => self.text(&text).await?,
            Frame::Binary(_) => self.tell(ws_frames::error(None, 400, "frames are text here", false)).await?,
            Frame::Continuation(item) => match message.add(item) {
                Ok(Some(text)) => self.text(&text).await?,
                Ok(None) => {}
                Err(goodbye) => return Ok(Some(goodbye)),
            },
            Frame::Ping(payload) => self.send(Outgoing::Pong(payload)).await?,
            Frame::Pong(_) => {}
            Frame::Close(_) => return Ok(Some(close(1000, ""))),
        }
        Ok(None)
    }

    async fn text(&self, text: &[u8]) -> Result<(), Gone> {
        let frame = match ws_frames::parse(text, &self.topic) {
            Ok(frame) => frame,
            Err(error) => return self.tell(ws_frames::error(error.id.as_ref(), 400, &error.message, false)).await,
        };
        let id = frame.id.as_ref();
        match frame.wish {
            Wish::Ping { t } => self.tell(ws_frames::pong(id, &t)).await,
            Wish::Session(command) => match (self.ask(command).await?, id) {
                (Ok(()), None) => Ok(()),
                (Ok(()), Some(id)) => self.tell(ws_frames::done(id)).await,
                (Err(message), id) => self.tell(ws_frames::error(id, 400, message, false)).await,
            },
        }
    }

    async fn ask(&self, command: StreamCommand) -> Result<Result<(), &'static str>, Gone> {
        self.session.send(command).await.map_err(|_| Gone)
    }

    async fn tell(&self, frame: Bytes) -> Result<(), Gone> {
        self.send(Outgoing::Frame(frame)).await
    }

    async fn send(&self, outgoing: Outgoing) -> Result<(), Gone> {
        self.control.send(outgoing).await.map_err(|_| Gone)
    }
}

/// A message that comes in pieces.
#[derive(Default)]
struct Aggregate {
    bytes: BytesMut,
    is_text: bool,
}

impl Aggregate {
    /// The whole message when `item` is its end. The codec has seen to the order of first, next and last.
    fn add(&mut self, item: Item) -> Result<Option<Bytes>, Goodbye> {
        let (piece, is_last) = match item {
            Item::FirstText(piece) => {
                self.is_text = true;
                (piece, false)
            }
            Item::FirstBinary(piece) => {
                self.is_text = false;
                (piece, false)
            }
            Item::Continue(piece) => (piece, false),
            Item::Last(piece) => (piece, true),
        };
        if self.bytes.len() + piece.len() > MESSAGE_BYTES_MAX {
            return Err(close(1009, "the message is too big"));
        }
        self.bytes.extend_from_slice(&piece);
        if !is_last {
            return Ok(None);
        }
        let whole = self.bytes.split().freeze();
        if self.is_text { Ok(Some(whole)) } else { Err(close(1003, "frames are text here")) }
    }
}

async fn next(payload: &mut web::Payload) -> Option<Result<Bytes, PayloadError>> {
    std::future::poll_fn(|task| Pin::new(&mut *payload).poll_next(task)).await
}

fn close(code: u16, reason: &'static str) -> Goodbye {
    Goodbye { code, reason, reconnect_after_ms: None }
}
