//! What comes in over one WebSocket: read, understood, handed to the session or stored. A client that sends and does not read
//! waits here for room in the control channel; one that has too much in flight waits for answers.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use actix::Addr;
use actix_http::ws::{Codec, Frame, Item, ProtocolError};
use actix_web::error::PayloadError;
use actix_web::web;
use bytes::{Bytes, BytesMut};
use capek_actors::budget::BudgetPermit;
use capek_actors::local_requests::Caller;
use capek_actors::stream_commands::{Acknowledge, Ponged, StartSubscription};
use capek_actors::stream_events::{Goodbye, Outgoing};
use capek_actors::stream_session::{EndStream, StreamSession};
use capek_state::stream::InFlight;
use futures_core::Stream;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;
use tokio_util::codec::Decoder;

use super::super::doors::Doors;
use super::super::problem::Problem;
use super::super::v1::check_topic_name;
use super::acks::{self, GroupAck};
use super::commands::{self, FIRST_SUBSCRIPTION, Wish};
use super::options::Options;
use super::produce_frames::{self, ProduceFrame};
use super::values::Formats;
use super::ws::{Protocol, subscribed};
use super::{bin_frames, frames};

/// After a ping, an answer is due within this.
pub const SILENCE_MAX: Duration = Duration::from_secs(10);
/// The largest frame that a client may send, and the largest message in pieces.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// What a client may have sent of a message before it is paid for.
const FREE_BYTES: usize = 64 << 10;
/// An acknowledgement counts as so much that is in flight.
const ACK_BYTES: usize = 64;

/// See the head of this file.
pub struct Client {
    pub doors: web::Data<Doors>,
    pub session: Addr<StreamSession>,
    pub control: Sender<Outgoing>,
    pub caller: Caller,
    pub protocol: Protocol,
    /// Of the producer.
    pub name: String,
    pub topic: Option<String>,
    /// The path said what this socket is for.
    pub is_for_one: bool,
    pub next_subscription: Cell<u64>,
    pub is_throttle_told: Cell<bool>,
    pub in_flight: Rc<RefCell<InFlight>>,
    pub answered: Rc<Notify>,
}

/// The socket or the session has gone.
struct Gone;

/// By what its head says: the codec looks at that only when all of the frame has come, and would wait for a terabyte.
fn is_too_large(frame: &[u8]) -> bool {
    const LENGTH_OF_64_BITS: u8 = 127;
    let Some((head, rest)) = frame.split_at_checked(2) else { return false };
    let length = rest.first_chunk().map(|length| u64::from_be_bytes(*length));
    head[1] & LENGTH_OF_64_BITS == LENGTH_OF_64_BITS && length.is_some_and(|length| length > FRAME_BYTES_MAX as u64)
}

impl Client {
    pub async fn listen(self, payload: web::Payload, silence_max: Duration) {
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
        let mut paid = Paid::default();
        loop {
            loop {
                match codec.decode(&mut bytes) {
                    Ok(Some(frame)) => {
                        if is_end_of_message(&frame) {
                            // What is done with it is paid for by itself: those who held both would wait for each other.
                            paid = Paid::default();
                        }
                        if let Some(goodbye) = self.received(frame, &mut message).await? {
                            return Ok(goodbye);
                        }
                    }
                    Ok(None) if is_too_large(&bytes) => return Ok(close(1009, "the frame is too big")),
                    Ok(None) => break,
                    Err(ProtocolError::Overflow) => return Ok(close(1009, "the frame is too big")),
                    Err(_) => return Ok(close(1002, "this is not the WebSocket protocol")),
                }
            }
            let held_bytes = bytes.len() + message.bytes.len();
            paid.pay(&self.doors, held_bytes).await;
            let (silent, due) = (Instant::now() + silence_max, paid.due(&self.doors, held_bytes));
            match tokio::time::timeout_at(due.map_or(silent, |due| due.min(silent)), next(&mut payload)).await {
                // However slowly it comes.
                _ if due.is_some_and(|due| Instant::now() >= due) => {
                    return Ok(close(4008, "the message takes too long"));
                }
                Ok(Some(Ok(chunk))) => bytes.extend_from_slice(&chunk),
                Ok(Some(Err(_)) | None) => return Ok(close(1001, "the client has gone")),
                Err(_) => return Ok(close(4008, "no answer to pings")),
            }
        }
    }

    async fn received(&self, frame: Frame, message: &mut Aggregate) -> Result<Option<Goodbye>, Gone> {
        match frame {
            Frame::Text(text) => return self.text(&text).await,
            Frame::Binary(bytes) => self.binary(bytes).await?,
            Frame::Continuation(item) => match message.add(item) {
                Ok(Some(Whole::Text(text))) => return self.text(&text).await,
                Ok(Some(Whole::Binary(bytes))) => self.binary(bytes).await?,
                Ok(None) => {}
                Err(goodbye) => return Ok(Some(goodbye)),
            },
            Frame::Ping(payload) => self.tell(Outgoing::Pong(payload)).await?,
            Frame::Pong(payload) => self.session.send(Ponged(payload)).await.map_err(|_| Gone)?,
            Frame::Close(_) => return Ok(Some(close(1000, ""))),
        }
        Ok(None)
    }

    async fn text(&self, text: &[u8]) -> Result<Option<Goodbye>, Gone> {
        if std::str::from_utf8(text).is_err() {
            return Ok(Some(close(1007, "a frame of text is not UTF-8")));
        }
        let frame = match commands::parse(text, self.topic.as_deref()) {
            Ok(frame) => frame,
            Err(error) => {
                self.tell(frames::error(error.id.as_ref(), 400, &error.message, false)).await?;
                return Ok(None);
            }
        };
        let id = frame.id.as_ref();
        match frame.wish {
            Wish::Ping { t } => self.tell(frames::pong(id, &t)).await?,
            Wish::Session(command) => match (self.session.send(command).await.map_err(|_| Gone)?, id) {
                (Ok(()), None) => {}
                (Ok(()), Some(id)) => self.tell(frames::done(id)).await?,
                (Err(message), id) => self.tell(frames::error(id, 400, &message, false)).await?,
            },
            Wish::Subscribe(options) => self.subscribe(id, *options).await?,
            Wish::Acknowledge(acknowledge, formats) => self.acknowledge(frame.id, acknowledge, formats).await,
            Wish::AcknowledgeFor(ack) => self.acknowledge_for(frame.id, ack).await,
            Wish::Produce(frame) => self.produce(frame, text.len()).await?,
        }
        Ok(None)
    }

    async fn binary(&self, bytes: Bytes) -> Result<(), Gone> {
        if self.protocol != Protocol::Bin {
            let message = "frames are text here: binary ones are for the sub-protocol capek.v1.bin";
            return self.tell(frames::error(None, 400, message, false)).await;
        }
        let length = bytes.len();
        match bin_frames::parse(bytes) {
            Ok(frame) => self.produce(frame, length).await,
            Err(error) => self.tell(frames::error(error.id.as_ref(), 400, &error.message, false)).await,
        }
    }

    async fn subscribe(&self, id: Option<&Value>, options: Options) -> Result<(), Gone> {
        if self.is_for_one {
            let message = "the path of this socket says what it reads: /v1/stream/ws is for many";
            return self.tell(frames::error(id, 400, message, false)).await;
        }
        let subscription = self.next_subscription.get();
        let start = match self.open(id, options, subscription).await {
            Ok(start) => start,
            Err(problem) => return self.tell(problem_frame(id, &problem)).await,
        };
        match self.session.send(start).await.map_err(|_| Gone)? {
            // The session tells it, before anything else of this subscription.
            Ok(()) => self.next_subscription.set(subscription + 1),
            Err(message) => self.tell(frames::error(id, 429, &message, false)).await?,
        }
        Ok(())
    }

    async fn open(
        &self,
        id: Option<&Value>,
        options: Options,
        subscription: u64,
    ) -> Result<StartSubscription, Problem> {
        let wanted = options.wanted()?;
        self.protocol.check(&wanted)?;
        let opened = wanted.open(&self.doors, &self.caller).await?;
        let greeting = subscribed(id, subscription, &wanted, opened.group.as_ref());
        let encoder = self.protocol.encoder(subscription, &wanted, greeting);
        Ok(StartSubscription(Box::new(opened.subscription(subscription, &wanted, wanted.credit, encoder))))
    }

    /// An acknowledgement is in flight until this is dropped.
    async fn begin_acknowledgement(&self) -> Answering {
        self.wait_for_room(None).await;
        // It has no sequence that could be refused.
        let _ = self.in_flight.borrow_mut().begin(None, ACK_BYTES);
        self.answering(None, ACK_BYTES)
    }

    /// Answered when it is committed; meanwhile the client goes on.
    async fn acknowledge(&self, id: Option<Value>, acknowledge: Acknowledge, formats: Formats) {
        let answering = self.begin_acknowledgement().await;
        let (session, control) = (self.session.clone(), self.control.clone());
        actix_rt::spawn(async move {
            let subscription = acknowledge.subscription.unwrap_or(FIRST_SUBSCRIPTION);
            let answer = match session.send(acknowledge).await {
                Ok(Ok(committed)) => frames::acked(id.as_ref(), subscription, &committed, formats),
                Ok(Err(message)) => frames::error(id.as_ref(), 400, &message, false),
                Err(_) => return, // the session has gone, and with it whoever waits
            };
            let _ = control.send(answer).await;
            drop(answering);
        });
    }

    async fn acknowledge_for(&self, id: Option<Value>, ack: GroupAck) {
        let answering = self.begin_acknowledgement().await;
        let (doors, control, client) = (self.doors.clone(), self.control.clone(), self.caller.ip);
        actix_rt::spawn(async move {
            let answer = match acks::committed_anywhere(&doors, client, &ack).await {
                Ok(committed) => frames::acked_for(id.as_ref(), &ack.group, &committed),
                Err(problem) => problem_frame(id.as_ref(), &problem),
            };
            // The socket may have closed meanwhile.
            let _ = control.send(answer).await;
            drop(answering);
        });
    }

    /// Frames go to the partitions in the order in which they came; their answers come as they are stored.
    async fn produce(&self, frame: ProduceFrame, length: usize) -> Result<(), Gone> {
        let Some(topic) = frame.topic.clone().or_else(|| self.topic.clone()) else {
            return self.tell(frames::error(frame.id.as_ref(), 400, "produce: there is no topic", false)).await;
        };
        if let Err(problem) = check_topic_name(&topic) {
            return self.tell(problem_frame(frame.id.as_ref(), &problem)).await;
        }
        let sequence = frame.sequence;
        self.wait_for_room(sequence).await;
        let begun = self.in_flight.borrow_mut().begin(sequence, length);
        if begun.is_err() {
            return self.tell(frames::error(frame.id.as_ref(), 409, "this seq has no answer yet", true)).await;
        }
        let answering = self.answering(sequence, length);
        let permit = self.doors.bodies.budget.acquire(length).await;
        let (doors, name, control) = (self.doors.clone(), self.name.clone(), self.control.clone());
        actix_rt::spawn(async move {
            let answer = produce_frames::store(&doors, &name, &topic, frame).await;
            drop(permit);
            let _ = control.send(answer).await;
            drop(answering);
        });
        Ok(())
    }

    /// That there is too much is told once: a client that never waits for answers need not hear it each time.
    async fn wait_for_room(&self, sequence: Option<u64>) {
        if !self.in_flight.borrow().has_room(sequence) && !self.is_throttle_told.replace(true) {
            // Without a socket there is nobody to tell.
            let _ = self.tell(frames::throttle()).await;
        }
        while !self.in_flight.borrow().has_room(sequence) {
            self.answered.notified().await;
        }
    }

    fn answering(&self, sequence: Option<u64>, bytes: usize) -> Answering {
        Answering { in_flight: self.in_flight.clone(), answered: self.answered.clone(), sequence, bytes }
    }

    async fn tell(&self, outgoing: Outgoing) -> Result<(), Gone> {
        self.control.send(outgoing).await.map_err(|_| Gone)
    }
}

fn problem_frame(id: Option<&Value>, problem: &Problem) -> Outgoing {
    frames::error(id, problem.error_code(), &problem.detail, problem.is_retriable)
}

/// Something in flight: it has its answer, or will never have one, when this is dropped.
struct Answering {
    in_flight: Rc<RefCell<InFlight>>,
    answered: Rc<Notify>,
    sequence: Option<u64>,
    bytes: usize,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.in_flight.borrow_mut().answered(self.sequence, self.bytes);
        self.answered.notify_one();
    }
}

/// What a large message costs while it arrives, and since when.
#[derive(Default)]
struct Paid(Option<(BudgetPermit, Instant)>);

impl Paid {
    async fn pay(&mut self, doors: &Doors, held_bytes: usize) {
        if held_bytes <= FREE_BYTES {
            self.0 = None;
        } else if self.0.is_none() {
            // All of what it may become, so that nobody waits for more while he holds some.
            let permit = doors.bodies.budget.acquire(FRAME_BYTES_MAX).await;
            self.0 = Some((permit, Instant::now()));
        }
    }

    /// When the rest of it is due, as that of a body is.
    fn due(&self, doors: &Doors, held_bytes: usize) -> Option<Instant> {
        self.0.as_ref().map(|(_, since)| doors.bodies.due(*since, held_bytes))
    }
}

fn is_end_of_message(frame: &Frame) -> bool {
    matches!(frame, Frame::Text(_) | Frame::Binary(_) | Frame::Continuation(Item::Last(_)))
}

/// A message that comes in pieces.
#[derive(Default)]
struct Aggregate {
    bytes: BytesMut,
    is_text: bool,
}

enum Whole {
    Text(Bytes),
    Binary(Bytes),
}

impl Aggregate {
    /// The whole message when `item` is its end. The codec has seen to the order of first, next and last.
    fn add(&mut self, item: Item) -> Result<Option<Whole>, Goodbye> {
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
        if self.bytes.len() + piece.len() > FRAME_BYTES_MAX {
            return Err(close(1009, "the message is too big"));
        }
        self.bytes.extend_from_slice(&piece);
        if !is_last {
            return Ok(None);
        }
        let whole = std::mem::take(&mut self.bytes).freeze();
        Ok(Some(if self.is_text { Whole::Text(whole) } else { Whole::Binary(whole) }))
    }
}

async fn next(payload: &mut web::Payload) -> Option<Result<Bytes, PayloadError>> {
    std::future::poll_fn(|task| Pin::new(&mut *payload).poll_next(task)).await
}

fn close(code: u16, reason: &'static str) -> Goodbye {
    Goodbye { code, reason, reconnect_after_ms: None }
}
