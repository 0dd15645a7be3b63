//! CallLane: the connection over which the doors of this broker ask one other broker.
//!
//! ```text
//!   ask ──▶ queue ──▶ connected? ──written──▶ waiting ──answered──▶ the asker
//!                        │ no                    │ the connection breaks
//!                        ▼                       ▼
//!                  NotSent: nothing was done   Broken: it may have been done
//! ```
//!
//! Nothing connects until somebody asks. While the other broker is not reached everything is refused at once: whoever asks
//! looks up again who serves what it wants.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use arc_swap::ArcSwap;
use bytes::{Buf, Bytes, BytesMut};
use capek_state::cluster::Image;
use capek_wire::ids::BrokerId;
use capek_wire::peer::calls::{CallRequest, CallResponse};
use capek_wire::peer::frame::{FRAME_BYTES_MAX, encode_before_body};
use capek_wire::peer::{FrameKind, Lane, decode_head, encode_head};
use log::{debug, info};
use tokio::io::{AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::budget::BudgetPermit;
use crate::call_server::{CALLS_MAX, WATCHES_MAX};
use crate::peer_transport::{self, PeerIdentity, PeerStream, read_frame};

/// Requests that wait to be written; beyond it they are refused.
const QUEUED_MAX: usize = 1024;
/// A head is small; what is larger is no frame that the other end would take.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// A peer that takes nothing for so long is given up.
const WRITE_WITHIN: Duration = Duration::from_secs(30);
/// A connection that nobody uses.
const IDLE_MAX: Duration = Duration::from_secs(60);
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);
/// Below so many requests nobody looks who still waits.
const SWEEP_MIN: usize = 64;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The peer has not got it.
    #[error("broker {0} is not reached")]
    NotSent(BrokerId),
    /// The peer may have done it.
    #[error("the connection to broker {0} broke before it answered")]
    Broken(BrokerId),
    /// The peer may have done it, or may do it yet.
    #[error("broker {0} did not answer in time")]
    Deadline(BrokerId),
    #[error("broker {0} answered what was not asked")]
    Malformed(BrokerId),
    /// Nothing was done.
    #[error("{0}")]
    Refused(String),
}

/// What is asked.
pub struct Call<'a> {
    pub request: &'a CallRequest,
    pub body: Bytes,
    /// For the body, until it is written.
    pub paid: Option<BudgetPermit>,
    pub within: Duration,
}

type Reply = oneshot::Sender<Result<(Bytes, Bytes), CallError>>;

struct Outgoing {
    id: u64,
    head: Vec<u8>,
    body: Bytes,
    paid: Option<BudgetPermit>,
    reply: Reply,
}

enum Queued {
    Ask(Outgoing),
    /// Nobody waits for the answer any more.
    Forget(u64),
}

/// Tells the peer that whoever asked has gone, unless there is an answer.
struct Asking<'a> {
    queue: &'a mpsc::Sender<Queued>,
    id: Option<u64>,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            // With a full queue it works for nobody.
            let _ = self.queue.try_send(Queued::Forget(id));
        }
    }
}

type Waiting = Mutex<BTreeMap<u64, Reply>>;

/// See the head of this file. It ends when it is dropped.
pub struct CallLane {
    to: BrokerId,
    queue: mpsc::Sender<Queued>,
    next_id: AtomicU64,
    /// Requests that are open: long polls have places of their own, so that they cannot keep the others out.
    calls: Semaphore,
    watches: Semaphore,
}

impl CallLane {
    /// Where the other broker is is asked before each connection; None: it is not known. On an arbiter that is gone nothing is
    /// ever sent.
    pub fn new(
        to: BrokerId,
        me: Arc<PeerIdentity>,
        address: impl Fn() -> Option<String> + Send + 'static,
        arbiter: &ArbiterHandle,
    ) -> Self {
        let (queue, asked) = mpsc::channel(QUEUED_MAX);
        arbiter.spawn(run(to, me, address, asked));
        let next_id = AtomicU64::new(1);
        Self { to, queue, next_id, calls: Semaphore::new(CALLS_MAX), watches: Semaphore::new(WATCHES_MAX) }
    }

    /// The answer and its body.
    pub async fn ask(&self, call: Call<'_>) -> Result<(CallResponse, Bytes), CallError> {
        let to = self.to;
        if call.body.len() > FRAME_BYTES_MAX - HEAD_BYTES_MAX {
            return Err(CallError::Refused(format!(
                "a request of {} bytes is too large to be carried",
                call.body.len()
            )));
        }
        let head = encode_head(call.request);
        if head.len() > HEAD_BYTES_MAX {
            return Err(CallError::Refused(format!(
                "a request of {} bytes before its body cannot be carried",
                head.len()
            )));
        }
        let deadline = Instant::now() + call.within;
        let is_long = matches!(call.request, CallRequest::Watch(_) | CallRequest::Http(_));
        let places = if is_long { &self.watches } else { &self.calls };
        let Ok(place) = tokio::time::timeout_at(deadline, places.acquire()).await else {
            return Err(CallError::NotSent(to));
        };
        let (reply, replied) = oneshot::channel();
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let outgoing = Outgoing { id, head, body: call.body, paid: call.paid, reply };
        self.queue.try_send(Queued::Ask(outgoing)).map_err(|_| CallError::NotSent(to))?;
        let mut asking = Asking { queue: &self.queue, id: Some(id) };
        let answered = match tokio::time::timeout_at(deadline, replied).await {
            Ok(Ok(answered)) => answered,
            // Its task has ended, before it was written or after.
            Ok(Err(_)) => Err(CallError::Broken(to)),
            Err(_) => Err(CallError::Deadline(to)),
        };
        if !matches!(answered, Err(CallError::Deadline(_))) {
            asking.id = None;
        }
        drop((asking, place));
        let (head, body) = answered?;
        match decode_head(&head) {
            Ok(CallResponse::Refused(reason)) => Err(CallError::Refused(reason)),
            Ok(response) => Ok((response, body)),
            Err(_) => Err(CallError::Malformed(to)),
        }
    }
}

async fn run(
    to: BrokerId,
    me: Arc<PeerIdentity>,
    address: impl Fn() -> Option<String>,
    mut asked: mpsc::Receiver<Queued>,
) {
    let mut backoff = BACKOFF_FIRST;
    let mut not_before = Instant::now();
    let refuse = |outgoing: Outgoing| drop(outgoing.reply.send(Err(CallError::NotSent(to))));
    while let Some(first) = asked.recv().await {
        let Queued::Ask(first) = first else { continue };
        if first.reply.is_closed() {
            continue;
        }
        if Instant::now() < not_before {
            refuse(first);
            continue;
        }
        match connect(&me, to, address()).await {
            Ok(stream) => {
                backoff = BACKOFF_FIRST;
                let reason = serve(to, stream, first, &mut asked).await;
                info!("the calls to broker {to} end: {reason}");
            }
            Err(reason) => {
                debug!("broker {to} is not reached for calls: {reason}");
                not_before = Instant::now() + backoff;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                refuse(first);
                while let Ok(next) = asked.try_recv() {
                    if let Queued::Ask(next) = next {
                        refuse(next);
                    }
                }
            }
        }
    }
}

async fn connect(me: &PeerIdentity, to: BrokerId, address: Option<String>) -> Result<PeerStream, String> {
    let address = address.ok_or("it is not registered")?;
    peer_transport::connect(&address, me, to, Lane::Calls).await.map_err(|error| error.to_string())
}

/// Until the connection ends; says why it did.
async fn serve(to: BrokerId, stream: PeerStream, first: Outgoing, asked: &mut mpsc::Receiver<Queued>) -> String {
    let waiting = Waiting::default();
    let (reader, writer) = tokio::io::split(stream);
    let reason = tokio::select! {
        reason = write_requests(writer, first, asked, &waiting) => reason,
        reason = read_answers(reader, &waiting) => reason,
    };
    let waiting = waiting.into_inner().unwrap_or_else(PoisonError::into_inner);
    for reply in waiting.into_values() {
        // Nobody waits any more when the deadline has passed.
        let _ = reply.send(Err(CallError::Broken(to)));
    }
    reason
}

async fn write_requests(
    mut writer: WriteHalf<PeerStream>,
    first: Outgoing,
    asked: &mut mpsc::Receiver<Queued>,
    waiting: &Waiting,
) -> String {
    let mut next = Some(Queued::Ask(first));
    let mut sweep_at = SWEEP_MIN;
    loop {
        let queued = match next.take() {
            Some(queued) => queued,
            None => match tokio::time::timeout(IDLE_MAX, asked.recv()).await {
                Ok(Some(queued)) => queued,
                Ok(None) => return "this broker asks no more".to_owned(),
                Err(_) if lock(waiting).is_empty() => return "nobody asked anything for a while".to_owned(),
                Err(_) => continue,
            },
        };
        let (kind, Outgoing { id, head, body, paid, reply }) = match queued {
            Queued::Ask(outgoing) => (FrameKind::Request, outgoing),
            Queued::Forget(id) => {
                // What was never sent, or has its answer, is forgotten by both.
                if lock(waiting).remove(&id).is_none() {
                    continue;
                }
                let (reply, _) = oneshot::channel();
                (FrameKind::OneWay, Outgoing { id, head: Vec::new(), body: Bytes::new(), paid: None, reply })
            }
        };
        if kind == FrameKind::Request {
            if reply.is_closed() {
                continue; // whoever lost patience before it was sent wants it no more
            }
            let mut waiting = lock(waiting);
            // Whoever lost patience is forgotten here, so that the map is no longer than twice the requests in flight.
            if waiting.len() >= sweep_at {
                waiting.retain(|_, reply| !reply.is_closed());
                sweep_at = (waiting.len() * 2).max(SWEEP_MIN);
            }
            waiting.insert(id, reply);
        }
        let before = encode_before_body(kind, id, &head, body.len());
        if let Err(reason) = write_in_time(&mut writer, before, body).await {
            return reason;
        }
        drop(paid);
    }
}

/// Else the peer is given up.
pub async fn write_in_time(writer: &mut (impl AsyncWrite + Unpin), before: Bytes, body: Bytes) -> Result<(), String> {
    match tokio::time::timeout(WRITE_WITHIN, write_both(writer, before, body)).await {
        Ok(written) => written.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it took nothing for {WRITE_WITHIN:?}")),
    }
}

/// The body is written from where it is.
async fn write_both(writer: &mut (impl AsyncWrite + Unpin), before: Bytes, body: Bytes) -> std::io::Result<()> {
    let mut whole = before.chain(body);
    while whole.has_remaining() {
        let mut slices = [IoSlice::new(&[]); 2];
        let count = whole.chunks_vectored(&mut slices);
        let written = writer.write_vectored(&slices[..count]).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        whole.advance(written);
    }
    writer.flush().await
}

async fn read_answers(mut reader: ReadHalf<PeerStream>, waiting: &Waiting) -> String {
    let mut buffer = BytesMut::new();
    loop {
        match read_frame(&mut reader, &mut buffer, FRAME_BYTES_MAX).await {
            Ok(Some(frame)) if frame.kind == FrameKind::Response => {
                if let Some(reply) = lock(waiting).remove(&frame.id) {
                    // Nobody waits any more when the deadline has passed.
                    let _ = reply.send(Ok((frame.head, frame.body)));
                }
            }
            Ok(Some(_)) => return "it asks where it is to answer".to_owned(),
            Ok(None) => return "the other end has closed it".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

fn lock(waiting: &Waiting) -> std::sync::MutexGuard<'_, BTreeMap<u64, Reply>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All lanes of this broker, by the broker that they lead to.
pub struct CallLanes {
    me: Arc<PeerIdentity>,
    image: Arc<ArcSwap<Image>>,
    /// Where the lanes live, in turn.
    arbiters: Vec<ArbiterHandle>,
    lanes: Mutex<BTreeMap<BrokerId, Arc<CallLane>>>,
}

impl CallLanes {
    pub fn new(me: Arc<PeerIdentity>, image: Arc<ArcSwap<Image>>, arbiters: Vec<ArbiterHandle>) -> Self {
        Self { me, image, arbiters, lanes: Mutex::default() }
    }

    /// Whoever asks for a broker that there is not is told that it is not reached.
    pub fn lane(&self, to: BrokerId) -> Arc<CallLane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let open = || {
            let image = self.image.clone();
            let address = move || image.load().broker(to)?.peer_address();
            let arbiter = &self.arbiters[to.unsigned_abs() as usize % self.arbiters.len()];
            Arc::new(CallLane::new(to, self.me.clone(), address, arbiter))
        };
        lanes.entry(to).or_insert_with(open).clone()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use capek_wire::ids::Uuid;
    use capek_wire::peer::Frame;
    use tokio::net::TcpListener;

    use super::*;
    use crate::peer_transport::{accept, write_frame};

    const REQUEST: CallRequest = CallRequest::Kafka { ip: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    const LONG: Duration = Duration::from_secs(60);

    fn identity(broker: BrokerId) -> Arc<PeerIdentity> {
        Arc::new(PeerIdentity::new(broker, Uuid([broker as u8; 16]), None))
    }

    /// From broker 1 to broker 2, which listens here.
    async fn lane() -> (CallLane, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback is there");
        let address = listener.local_addr().expect("it is bound").to_string();
        let address = move || Some(address.clone());
        (CallLane::new(2, identity(1), address, &actix_rt::Arbiter::current()), listener)
    }

    fn call(body: &'static [u8], within: Duration) -> Call<'static> {
        Call { request: &REQUEST, body: Bytes::from_static(body), paid: None, within }
    }

    async fn welcome(listener: &TcpListener) -> PeerStream {
        let (stream, _) = listener.accept().await.expect("somebody connects");
        let (stream, hello) = accept(stream, &identity(2)).await.expect("it says hello");
        assert_eq!(hello.lane, Lane::Calls);
        stream
    }

    async fn next(stream: &mut PeerStream, buffer: &mut BytesMut) -> Frame {
        read_frame(stream, buffer, FRAME_BYTES_MAX).await.expect("it is a frame").expect("it is not over")
    }

    async fn respond(stream: &mut PeerStream, id: u64, response: &CallResponse, body: &'static [u8]) {
        let head = encode_head(response);
        let before = encode_before_body(FrameKind::Response, id, &head, body.len());
        write_both(stream, before, Bytes::from_static(body)).await.expect("it reads");
    }

    #[actix_rt::test]
    async fn answers_find_who_asked_in_whatever_order_they_come() {
        let (lane, listener) = lane().await;
        let asking = async { tokio::join!(lane.ask(call(b"one", LONG)), lane.ask(call(b"two", LONG))) };
        let answering = async {
            let (mut stream, mut buffer) = (welcome(&listener).await, BytesMut::new());
            let first = next(&mut stream, &mut buffer).await;
            let second = next(&mut stream, &mut buffer).await;
            assert_eq!((&first.body[..], &second.body[..]), (&b"one"[..], &b"two"[..]));
            assert_eq!(decode_head::<CallRequest>(&first.head), Ok(REQUEST));
            respond(&mut stream, 77, &CallResponse::Kafka, b"nobody asked").await;
            respond(&mut stream, second.id, &CallResponse::Kafka, b"to two").await;
            respond(&mut stream, first.id, &CallResponse::Refused("no".to_owned()), b"").await;
            stream
        };
        let ((one, two), _stream) = tokio::join!(asking, answering);
        assert_eq!(one, Err(CallError::Refused("no".to_owned())));
        assert_eq!(two, Ok((CallResponse::Kafka, Bytes::from_static(b"to two"))));
    }

    #[actix_rt::test]
    async fn what_was_sent_when_the_connection_breaks_may_have_been_done() {
        let (lane, listener) = lane().await;
        let answering = async {
            let (mut stream, mut buffer) = (welcome(&listener).await, BytesMut::new());
            next(&mut stream, &mut buffer).await;
        };
        let (asked, ()) = tokio::join!(lane.ask(call(b"x", LONG)), answering);
        assert_eq!(asked, Err(CallError::Broken(2)));
        // The next one connects again.
        let answering = async {
            let (mut stream, mut buffer) = (welcome(&listener).await, BytesMut::new());
            let asked = next(&mut stream, &mut buffer).await;
            respond(&mut stream, asked.id, &CallResponse::Kafka, b"y").await;
            stream
        };
        let (asked, _stream) = tokio::join!(lane.ask(call(b"x", LONG)), answering);
        assert_eq!(asked, Ok((CallResponse::Kafka, Bytes::from_static(b"y"))));
    }

    /// An older broker does not know the lane: it hangs up on the hello.
    #[actix_rt::test]
    async fn what_a_broker_without_the_lane_is_asked_was_not_sent() {
        let (lane, listener) = lane().await;
        let hang_up = async { drop(listener.accept().await.expect("somebody connects")) };
        let (asked, ()) = tokio::join!(lane.ask(call(b"x", LONG)), hang_up);
        assert_eq!(asked, Err(CallError::NotSent(2)));
        let nowhere = CallLane::new(2, identity(1), || None, &actix_rt::Arbiter::current());
        assert_eq!(nowhere.ask(call(b"x", LONG)).await, Err(CallError::NotSent(2)));
    }

    #[actix_rt::test]
    async fn whoever_answers_late_answers_nobody() {
        let (lane, listener) = lane().await;
        let answering = async {
            let (mut stream, mut buffer) = (welcome(&listener).await, BytesMut::new());
            let late = next(&mut stream, &mut buffer).await;
            (stream, buffer, late.id)
        };
        let (asked, (mut stream, mut buffer, late)) =
            tokio::join!(lane.ask(call(b"x", Duration::from_millis(300))), answering);
        assert_eq!(asked, Err(CallError::Deadline(2)));
        let answering = async {
            let forgotten = next(&mut stream, &mut buffer).await;
            assert_eq!((forgotten.kind, forgotten.id), (FrameKind::OneWay, late), "the peer need not go on");
            let asked = next(&mut stream, &mut buffer).await;
            respond(&mut stream, late, &CallResponse::Kafka, b"late").await;
            respond(&mut stream, asked.id, &CallResponse::Kafka, b"in time").await;
        };
        let (asked, ()) = tokio::join!(lane.ask(call(b"y", LONG)), answering);
        assert_eq!(asked, Ok((CallResponse::Kafka, Bytes::from_static(b"in time"))));
    }

    #[actix_rt::test]
    async fn an_answer_that_is_none_is_not_believed() {
        let (lane, listener) = lane().await;
        let answering = async {
            let (mut stream, mut buffer) = (welcome(&listener).await, BytesMut::new());
            let asked = next(&mut stream, &mut buffer).await;
            write_frame(&mut stream, FrameKind::Response, asked.id, b"\xff\xff\xff").await.expect("it reads");
            stream
        };
        let (asked, mut stream) = tokio::join!(lane.ask(call(b"x", LONG)), answering);
        assert_eq!(asked, Err(CallError::Malformed(2)));
        let asking = lane.ask(call(b"y", LONG));
        let answering = async {
            next(&mut stream, &mut BytesMut::new()).await;
            write_frame(&mut stream, FrameKind::Request, 1, b"").await.expect("it reads");
        };
        let (asked, ()) = tokio::join!(asking, answering);
        assert_eq!(asked, Err(CallError::Broken(2)), "it asks where it is to answer");
    }
}
