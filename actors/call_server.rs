//! The answering side of the calls lane: what the doors of other brokers ask of this one, answered by the code that answers
//! its own.
//!
//! What bounds it: a frame is paid for before its body is read, and what is read from a log before it is read, both from a
//! budget of the connection ([`HELD_BYTES_MAX`]); at most [`IN_FLIGHT_MAX`] requests of it are open, until their answers are
//! written. Who does not take its answers gets no more of them, holds up nobody else, and is given up after a while. A budget
//! that those share who ask other brokers could not be this one: two brokers would wait for each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use capek_wire::api::ApiKey;
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::SIZE_BYTES;
use capek_wire::peer::calls::{
    AppendAnswer, AppendCall, CallRequest, CallResponse, HttpAnswer, HttpCall, ReadAnswer, ReadCall,
};
use capek_wire::peer::frame::{FRAME_BYTES_MAX, encode_before_body, frame_bytes, take_frame_mut};
use capek_wire::peer::{FrameKind, Hello, decode_head, encode_head};
use log::{debug, warn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::{AbortHandle, JoinSet};

use crate::broker::BrokerShared;
use crate::budget::{BudgetPermit, MemoryBudget};
use crate::call_lane::{HEAD_BYTES_MAX, write_in_time};
use crate::local::LocalClient;
use crate::local_requests::{Caller, joined};
use crate::peer_metrics::PeerRefusal;
use crate::peer_transport::PeerStream;
use crate::produce::{Acks, AppendOptions, PartitionAnswer};
use crate::remote_partition;

/// Requests of one broker that are open at a time, but for long polls.
pub const CALLS_MAX: usize = 1024;
/// Long polls of one broker that are open at a time.
pub const WATCHES_MAX: usize = 1024;
/// Both, and those whose asker has lost patience.
const IN_FLIGHT_MAX: usize = 2 * (CALLS_MAX + WATCHES_MAX);
/// What the requests of one connection and the records of its answers take; one that is larger goes alone.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Of the broker's whole budget, when that is small.
const HELD_SHARE: usize = 8;
/// A frame that has begun must be whole by then.
const FRAME_WITHIN: Duration = Duration::from_secs(60);
const READ_BYTES: usize = 64 << 10;
/// One read of a log for a reader elsewhere.
const READ_ANSWER_BYTES_MAX: usize = 16 << 20;

/// A client's request that another broker has carried here, for this broker's HTTP server.
pub struct CarriedHttp {
    pub call: HttpCall,
    pub body: Bytes,
    /// Closed when nobody waits for the answer any more.
    pub reply: oneshot::Sender<(HttpAnswer, Bytes)>,
}

/// One request as it came.
struct Asked {
    kind: FrameKind,
    id: u64,
    head: Bytes,
    body: BytesMut,
    paid: BudgetPermit,
}

/// Its answer, and what it holds until it is written.
struct Answered {
    id: u64,
    head: Vec<u8>,
    body: Bytes,
    _paid: Option<BudgetPermit>,
    _place: OwnedSemaphorePermit,
}

/// Serves one connection until it ends, on an arbiter where records move: the one it was accepted on carries none.
pub async fn serve(stream: PeerStream, hello: Hello, broker: Arc<BrokerShared>) {
    let from = hello.from;
    let arbiter = broker.data_arbiters[from.unsigned_abs() as usize % broker.data_arbiters.len()].clone();
    let moving = match stream.leave() {
        Ok(moving) => moving,
        Err(error) => return warn!("the calls of broker {from} cannot be moved: {error}"),
    };
    let (running, ended) = oneshot::channel::<()>();
    arbiter.spawn_fn(move || {
        actix_rt::spawn(async move {
            let _running = running;
            match moving.arrive() {
                Ok(socket) => {
                    let reason = carry(socket, broker).await;
                    debug!("the calls of broker {from} have ended: {reason}");
                }
                Err(error) => warn!("the calls of broker {from} cannot be moved: {error}"),
            }
        });
    });
    // It keeps its place among the connections. An error is how it says that it has ended.
    let _ = ended.await;
}

/// Serves what comes over a connection whose hello is said, until it ends; says why it did.
pub async fn carry<S: AsyncRead + AsyncWrite + 'static>(stream: S, broker: Arc<BrokerShared>) -> String {
    let (reader, writer) = tokio::io::split(stream);
    let (answers, to_write) = mpsc::channel(IN_FLIGHT_MAX);
    // Those who still work end with their connection: a long poll must not outlive its client.
    let mut working = JoinSet::new();
    tokio::select! {
        reason = read_requests(reader, answers, &broker, &mut working) => reason,
        reason = write_answers(writer, to_write) => reason,
    }
}

async fn read_requests<S: AsyncRead>(
    mut reader: ReadHalf<S>,
    answers: mpsc::Sender<Answered>,
    broker: &Arc<BrokerShared>,
    working: &mut JoinSet<()>,
) -> String {
    let places = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    let budget = MemoryBudget::new(HELD_BYTES_MAX.min(broker.config.memory_budget_bytes / HELD_SHARE));
    let mut buffer = BytesMut::new();
    let mut running: HashMap<u64, AbortHandle> = HashMap::new();
    loop {
        let next = async {
            let place = places.clone().acquire_owned().await.map_err(|error| error.to_string())?;
            Ok::<_, String>((place, next_request(&mut reader, &mut buffer, broker, &budget).await?))
        };
        let mut next = std::pin::pin!(next);
        let (place, asked) = loop {
            tokio::select! {
                next = &mut next => match next {
                    Ok((place, Some(asked))) => break (place, asked),
                    Ok((_, None)) => return "the other end has closed it".to_owned(),
                    Err(reason) => return reason,
                },
                // Whoever asked must not wait for an answer that nobody makes: that it is not known is an answer too.
                Some(ended) = working.join_next() => if ended.is_err_and(|error| error.is_panic()) {
                    return "a request handler panicked".to_owned();
                },
            }
        };
        if asked.kind == FrameKind::OneWay {
            // What has its answer already is not found.
            if let Some(forgotten) = running.remove(&asked.id) {
                forgotten.abort();
            }
            continue;
        }
        let id = asked.id;
        let (client, answers, budget) = (LocalClient::new(broker.clone()), answers.clone(), budget.clone());
        let task = working.spawn_local(async move {
            let (response, body, paid) = answer(&client, asked, &budget).await;
            let answered = Answered { id, head: encode_head(&response), body, _paid: paid, _place: place };
            // There is room: a place is held by each. Nobody writes only when the connection ends.
            let _ = answers.send(answered).await;
        });
        if running.len() >= IN_FLIGHT_MAX {
            running.retain(|_, task| !task.is_finished());
        }
        running.insert(id, task);
    }
}

/// None: the peer has hung up between two.
async fn next_request<S: AsyncRead>(
    reader: &mut ReadHalf<S>,
    buffer: &mut BytesMut,
    broker: &BrokerShared,
    budget: &MemoryBudget,
) -> Result<Option<Asked>, String> {
    let size = loop {
        if let Some(size) = frame_bytes(buffer).map_err(|error| malformed(broker, error))? {
            break size;
        }
        buffer.reserve(READ_BYTES);
        if reader.read_buf(buffer).await.map_err(|error| error.to_string())? == 0 {
            return if buffer.is_empty() { Ok(None) } else { Err("it hung up within a frame".to_owned()) };
        }
    };
    let paid = budget.acquire(size).await;
    let rest = read_to(reader, buffer, size);
    tokio::time::timeout(FRAME_WITHIN, rest).await.map_err(|_| "a frame was not whole in time".to_owned())??;
    let (kind, id, head, body) = take_frame_mut(buffer)
        .map_err(|error| malformed(broker, error))?
        .ok_or_else(|| malformed(broker, "a frame that is shorter than it says"))?;
    if kind == FrameKind::Response {
        return Err(malformed(broker, "what is no request"));
    }
    Ok(Some(Asked { kind, id, head, body, paid }))
}

/// Grows with what arrives: a length that is only claimed must not cost its memory. A large frame has a buffer of its own.
async fn read_to<S: AsyncRead>(reader: &mut ReadHalf<S>, buffer: &mut BytesMut, size: usize) -> Result<(), String> {
    while buffer.len() < size {
        let missing = size - buffer.len();
        let count = if size > READ_BYTES {
            buffer.reserve(missing.min(buffer.len().max(READ_BYTES)));
            reader.read_buf(&mut buffer.limit(missing)).await
        } else {
            buffer.reserve(READ_BYTES);
            reader.read_buf(buffer).await
        };
        if count.map_err(|error| error.to_string())? == 0 {
            return Err("it hung up within a frame".to_owned());
        }
    }
    Ok(())
}

fn malformed(broker: &BrokerShared, what: impl ToString) -> String {
    broker.metrics.peers.refused(PeerRefusal::Malformed);
    what.to_string()
}

async fn write_answers<S: AsyncWrite>(mut writer: WriteHalf<S>, mut answers: mpsc::Receiver<Answered>) -> String {
    while let Some(answered) = answers.recv().await {
        let before = encode_before_body(FrameKind::Response, answered.id, &answered.head, answered.body.len());
        if let Err(reason) = write_in_time(&mut writer, before, answered.body.clone()).await {
            return reason;
        }
    }
    "nobody answers any more".to_owned()
}

type Answer = (CallResponse, Bytes, Option<BudgetPermit>);

async fn answer(client: &LocalClient, asked: Asked, budget: &MemoryBudget) -> Answer {
    let Asked { head, body, paid, .. } = asked;
    let Ok(request) = decode_head::<CallRequest>(&head) else {
        client.broker.metrics.peers.refused(PeerRefusal::Malformed);
        return refused("a request that this broker does not know".to_owned());
    };
    match request {
        CallRequest::Kafka { ip } => kafka(client, Caller { ip, ..Caller::default() }, body, paid).await,
        CallRequest::Append(call) => {
            (CallResponse::Appended(append(client, call, None, body, paid).await), Bytes::new(), None)
        }
        CallRequest::KeyedAppend(call) => {
            let appended = append(client, call.append, Some(call.partition_count), body, paid).await;
            (CallResponse::Appended(appended), Bytes::new(), None)
        }
        CallRequest::FindKeyed(call) => {
            (CallResponse::FoundKeyed(client.find_keyed_here(&call).await), Bytes::new(), Some(paid))
        }
        CallRequest::Read(call) => {
            drop(paid); // or requests could wait for what the others hold
            read(client, call, budget).await
        }
        // Long polls must not keep out what comes behind them: their frames are small.
        CallRequest::Watch(call) => {
            drop(paid);
            let watched = remote_partition::watch_here(&client.broker, call).await;
            (CallResponse::Watched(watched), Bytes::new(), None)
        }
        CallRequest::Http(call) => {
            drop(paid);
            http(client, call, body.freeze()).await
        }
    }
}

/// The server of this broker answers it as if its client had come here.
async fn http(client: &LocalClient, call: HttpCall, body: Bytes) -> Answer {
    let Some(server) = client.broker.carried_http.get() else {
        return refused("this broker serves no HTTP".to_owned());
    };
    let (reply, answered) = oneshot::channel();
    if server.try_send(CarriedHttp { call, body, reply }).is_err() {
        return refused("this broker has too many requests that others carried to it".to_owned());
    }
    match answered.await {
        Ok((answer, body)) if body.len() <= FRAME_BYTES_MAX - HEAD_BYTES_MAX => {
            (CallResponse::Http(answer), body, None)
        }
        Ok((_, body)) => refused(format!("an answer of {} bytes is too large to be carried", body.len())),
        Err(_) => refused("this broker stops".to_owned()),
    }
}

fn refused(reason: String) -> Answer {
    (CallResponse::Refused(reason), Bytes::new(), None)
}

async fn kafka(client: &LocalClient, caller: Caller, frame: BytesMut, paid: BudgetPermit) -> Answer {
    let key = frame.first_chunk().and_then(|code| ApiKey::from_code(i16::from_be_bytes(*code)));
    if matches!(key, Some(ApiKey::Produce | ApiKey::Fetch)) {
        return refused("records have requests of their own on this lane".to_owned());
    }
    match client.answer_here(&caller, frame).await {
        Ok(chunks) => {
            let mut body = joined(chunks);
            if body.len() > FRAME_BYTES_MAX - HEAD_BYTES_MAX {
                return refused(format!("an answer of {} bytes is too large to be carried", body.len()));
            }
            body.advance(SIZE_BYTES.min(body.len()));
            (CallResponse::Kafka, body, Some(paid))
        }
        Err(error) => refused(error.to_string()),
    }
}

async fn append(
    client: &LocalClient,
    call: AppendCall,
    partition_count: Option<i32>,
    batch: BytesMut,
    paid: BudgetPermit,
) -> AppendAnswer {
    let timeout = Duration::from_millis(u64::from(call.timeout_ms));
    let options = |acks| AppendOptions { acks, timeout, partition_count };
    let answer = match Acks::from_wire(call.acks) {
        Some(acks) => client.append_here(call.topic_id, call.partition, batch, options(acks), paid).await,
        None => PartitionAnswer::error(ErrorCode::InvalidRequiredAcks),
    };
    client.broker.metrics.produced(std::slice::from_ref(&answer));
    AppendAnswer {
        error: answer.error,
        message: answer.message,
        base_offset: answer.base_offset,
        log_append_time_ms: answer.log_append_time_ms,
        log_start: answer.log_start_offset,
        record_errors: answer.record_errors.into_iter().map(|error| (error.batch_index, error.message)).collect(),
    }
}

async fn read(client: &LocalClient, call: ReadCall, budget: &MemoryBudget) -> Answer {
    let failed = |code| (CallResponse::Read(Err(code)), Bytes::new(), None);
    let shared = match remote_partition::led_here(&client.broker, call.topic_id, call.partition) {
        Ok(shared) => shared,
        Err(code) => return failed(code),
    };
    let max_bytes = (call.max_bytes as usize).clamp(1, READ_ANSWER_BYTES_MAX);
    let read = match client.read_here(&shared, call.offset, max_bytes, budget).await {
        Ok(read) => read,
        Err(code) => return failed(code),
    };
    let state = remote_partition::state_of(&shared);
    match read {
        Some(read) => {
            let answer = ReadAnswer { state, next_offset: read.next_offset };
            (CallResponse::Read(Ok(answer)), read.bytes, Some(read.permit))
        }
        None => (CallResponse::Read(Ok(ReadAnswer { state, next_offset: call.offset })), Bytes::new(), None),
    }
}
