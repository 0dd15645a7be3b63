//! One connection to a broker: frames out, answers in the order of the requests, several requests in flight.
//!
//! ```text
//! send() ── bounded queue ──▶ write loop ──▶ socket ──▶ read loop ──▶ waiting (front first) ──▶ Answer
//! ```
//!
//! Both loops run in one task that ends with the first of them; whoever still waits then learns why.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use capek_wire::messages::{ApiVersionsRequest, ApiVersionsResponse};
use capek_wire::{ApiKey, ErrorCode, Message, Reader, Request, RequestHeader, Str, Writer, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::error::{ClientError, check};

/// An answer longer than this is not one: the largest fetch that we ask for is far below.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Answers longer than this are read exactly to their end, so that nothing behind them has to be moved.
const READ_BYTES: usize = 64 << 10;
const WRITE_FRAMES_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct ConnectionOptions {
    pub client_id: String,
    pub connect_timeout: Duration,
    pub request_timeout: Duration,
    /// Requests sent and not answered yet; more wait for their turn.
    pub in_flight_max: usize,
}

/// A connection whose versions are negotiated. Clones share it; the last one to go closes it.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Outgoing>,
    in_flight: Arc<Semaphore>,
}

struct Shared {
    /// For messages: `broker 1 (localhost:9092)`.
    whom: String,
    client_id: Str,
    options: ConnectionOptions,
    versions: OnceLock<BTreeMap<i16, (i16, i16)>>,
    next_correlation_id: AtomicI32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Requests on the wire, in order.
    waiting: VecDeque<Waiting>,
    /// Why the connection ended.
    ended: Option<String>,
}

struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Bytes>,
}

struct Outgoing {
    frame: Vec<Bytes>,
    /// None where no answer comes (acks=0).
    waiting: Option<Waiting>,
}

/// The answer to a request that is on its way.
pub struct Answer<R: Request> {
    shared: Arc<Shared>,
    receiver: oneshot::Receiver<Bytes>,
    version: i16,
    timeout: Duration,
    _permit: OwnedSemaphorePermit,
    request: PhantomData<fn() -> R>,
}

impl Connection {
    /// Connects and negotiates. `whom` names the broker in messages, `hint` says what to do when it is not there.
    pub async fn open(
        address: (&str, u16),
        whom: String,
        hint: &(dyn Fn(&std::io::Error) -> Option<String> + Sync),
        options: ConnectionOptions,
    ) -> Result<Connection, ClientError> {
        let failed = |problem: String, hint| ClientError::Connect { whom: whom.clone(), problem, hint };
        let stream = match tokio::time::timeout(options.connect_timeout, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(failed(error.to_string(), hint(&error))),
            Err(_) => {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(failed(format!("no answer within {:?}", options.connect_timeout), hint(&error)));
            }
        };
        stream.set_nodelay(true).map_err(|error| failed(error.to_string(), None))?;
        let connection = Connection::start(stream, whom, options);
        connection.negotiate().await?;
        Ok(connection)
    }

    fn start(stream: TcpStream, whom: String, options: ConnectionOptions) -> Connection {
        let (queue, outgoing) = mpsc::channel(options.in_flight_max.max(1));
        let in_flight = Arc::new(Semaphore::new(options.in_flight_max.max(1)));
        let shared = Arc::new(Shared {
            whom,
            client_id: Str::from(&options.client_id),
            options,
            versions: OnceLock::new(),
            next_correlation_id: AtomicI32::new(1),
            state: Mutex::default(),
        });
        tokio::spawn(run(stream, outgoing, shared.clone()));
        Connection { shared, queue, in_flight }
    }

    async fn negotiate(&self) -> Result<(), ClientError> {
        let (_, newest) = ApiKey::ApiVersions.versions();
        let answer = match self.ask_versions(newest).await? {
            // A broker older than us says so in the oldest form, and what it has instead.
            response if response.error_code == ErrorCode::UnsupportedVersion.code() => {
                let own = response.api_keys.iter().find(|api| api.api_key == ApiKey::ApiVersions.code());
                self.ask_versions(own.map_or(0, |api| api.max_version.clamp(0, newest))).await?
            }
            response => response,
        };
        check(self.whom(), "ApiVersions", answer.error_code, None)?;
        let versions = answer.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        // Set once: nobody else has this connection yet.
        let _ = self.shared.versions.set(versions);
        Ok(())
    }

    async fn ask_versions(&self, version: i16) -> Result<ApiVersionsResponse, ClientError> {
        let request = match version {
            ..3 => ApiVersionsRequest::default(),
            _ => ApiVersionsRequest {
                client_software_name: Str::from("capek"),
                client_software_version: Str::from(env!("CARGO_PKG_VERSION")),
            },
        };
        let mut answer = self.send_version(&request, version).await?;
        // Whoever does not speak Kafka here mostly says nothing at all.
        answer.timeout = self.shared.options.connect_timeout;
        let bytes = answer.bytes().await?;
        let refused = bytes.get(4..6).is_some_and(|code| code == ErrorCode::UnsupportedVersion.code().to_be_bytes());
        let version = if refused { 0 } else { version };
        let mut reader = Reader::new(bytes.slice(4.min(bytes.len())..));
        ApiVersionsResponse::decode(&mut reader, version)
            .map_err(|error| self.shared.malformed("ApiVersions", &error.to_string()))
    }

    /// The name for messages.
    pub fn whom(&self) -> &str {
        &self.shared.whom
    }

    /// Whether requests can still be sent.
    pub fn is_open(&self) -> bool {
        self.shared.state().ended.is_none()
    }

    /// What the broker speaks, by key.
    pub fn versions(&self) -> &BTreeMap<i16, (i16, i16)> {
        static NONE: BTreeMap<i16, (i16, i16)> = BTreeMap::new();
        self.shared.versions.get().unwrap_or(&NONE)
    }

    /// The newest version that both sides have.
    pub fn version<R: Request>(&self) -> Result<i16, ClientError> {
        let (own_low, own_high) = R::KEY.versions();
        let theirs = self.versions().get(&R::KEY.code());
        match theirs {
            Some(&(low, high)) if low <= own_high && own_low <= high => Ok(own_high.min(high)),
            _ => Err(ClientError::Version {
                whom: self.whom().to_owned(),
                api: R::KEY.name(),
                ours: format!("{own_low}-{own_high}"),
                theirs: theirs.map_or("not at all".to_owned(), |(low, high)| format!("{low}-{high}")),
            }),
        }
    }

    /// Sends a request in the newest common version and waits for its answer.
    pub async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.send(request).await?.get().await
    }

    /// Puts a request on its way. Requests leave in the order in which this returns.
    pub async fn send<R: Request>(&self, request: &R) -> Result<Answer<R>, ClientError> {
        self.send_version(request, self.version::<R>()?).await
    }

    /// As [`Connection::send`], in a version of the caller's choice.
    pub async fn send_version<R: Request>(&self, request: &R, version: i16) -> Result<Answer<R>, ClientError> {
        let permit = self.in_flight.clone().acquire_owned().await;
        let permit = permit.map_err(|_| self.shared.closed(R::KEY.name()))?;
        let (frame, correlation_id) = self.frame(request, version)?;
        let (sender, receiver) = oneshot::channel();
        let waiting = Some(Waiting { correlation_id, answer: sender });
        self.enqueue(Outgoing { frame, waiting }, R::KEY.name()).await?;
        let timeout = self.shared.options.request_timeout;
        let shared = self.shared.clone();
        Ok(Answer { shared, receiver, version, timeout, _permit: permit, request: PhantomData })
    }

    /// Sends a request that has no answer (Produce with acks=0).
    pub async fn send_unanswered<R: Request>(&self, request: &R) -> Result<(), ClientError> {
        let (frame, _) = self.frame(request, self.version::<R>()?)?;
        self.enqueue(Outgoing { frame, waiting: None }, R::KEY.name()).await
    }

    /// The frame in chunks: large records are not copied.
    fn frame<R: Request>(&self, request: &R, version: i16) -> Result<(Vec<Bytes>, i32), ClientError> {
        const USUAL_BYTES: usize = 256;
        let correlation_id = self.shared.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let client_id = Some(self.shared.client_id.clone());
        let header = RequestHeader { api_key: R::KEY.code(), api_version: version, correlation_id, client_id };
        let mut writer = Writer::with_capacity(USUAL_BYTES);
        let encoded = header.encode(&mut writer).and_then(|()| request.encode(&mut writer, version));
        encoded.map_err(|error| ClientError::Invalid(format!("{}: {error}", R::KEY.name())))?;
        let size_bytes = i32::try_from(writer.len());
        let size_bytes = size_bytes.map_err(|_| ClientError::Invalid("a request of more than 2 GiB".to_owned()))?;
        let mut chunks = vec![Bytes::copy_from_slice(&size_bytes.to_be_bytes())];
        chunks.extend(writer.into_chunks());
        Ok((chunks, correlation_id))
    }

    async fn enqueue(&self, outgoing: Outgoing, doing: &str) -> Result<(), ClientError> {
        self.queue.send(outgoing).await.map_err(|_| self.shared.closed(doing))
    }
}

impl<R: Request> Answer<R> {
    /// Gives the broker this much longer than usual: it was asked to wait.
    pub fn patience(mut self, longer: Duration) -> Self {
        self.timeout += longer;
        self
    }

    /// Waits for the answer and decodes it.
    pub async fn get(self) -> Result<R::Response, ClientError> {
        let (shared, version) = (self.shared.clone(), self.version);
        let bytes = self.bytes().await?;
        frame::decode_response::<R>(bytes, version)
            .map(|(_, response)| response)
            .map_err(|error| shared.malformed(R::KEY.name(), &error.to_string()))
    }

    async fn bytes(self) -> Result<Bytes, ClientError> {
        match tokio::time::timeout(self.timeout, self.receiver).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(_)) => Err(self.shared.closed(R::KEY.name())),
            Err(_) => {
                let (whom, doing) = (self.shared.whom.clone(), R::KEY.name().to_owned());
                Err(ClientError::TimedOut { whom, doing, after: self.timeout })
            }
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn expect_answers(&self, outgoing: impl Iterator<Item = Outgoing>) -> VecDeque<Bytes> {
        let mut state = self.state();
        let mut chunks = VecDeque::new();
        for Outgoing { frame, waiting } in outgoing {
            state.waiting.extend(waiting);
            chunks.extend(frame);
        }
        chunks
    }

    fn closed(&self, doing: &str) -> ClientError {
        let problem = self.state().ended.clone().unwrap_or_else(|| "it is gone".to_owned());
        let hint = (self.versions.get().is_none()).then(|| {
            "is this the port of a Kafka listener without TLS and SASL? HTTP is elsewhere (8080 by default)".to_owned()
        });
        ClientError::Closed { whom: self.whom.clone(), doing: doing.to_owned(), problem, hint }
    }

    fn malformed(&self, doing: &str, problem: &str) -> ClientError {
        let (whom, doing, problem) = (self.whom.clone(), doing.to_owned(), problem.to_owned());
        ClientError::Malformed { whom, doing, problem }
    }
}

/// Runs both directions until one ends, then tells everybody who waits.
async fn run(stream: TcpStream, mut outgoing: mpsc::Receiver<Outgoing>, shared: Arc<Shared>) {
    let (read_half, write_half) = stream.into_split();
    let problem = tokio::select! {
        problem = read_loop(read_half, &shared) => problem,
        problem = write_loop(write_half, &mut outgoing, &shared) => problem,
    };
    let mut state = shared.state();
    state.ended = Some(problem);
    state.waiting.clear();
}

async fn read_loop(mut socket: OwnedReadHalf, shared: &Shared) -> String {
    let mut buffer = BytesMut::with_capacity(READ_BYTES);
    loop {
        let needed_bytes = match take_answers(&mut buffer, shared) {
            Ok(needed_bytes) => needed_bytes,
            Err(problem) => return problem,
        };
        buffer.reserve(needed_bytes.max(READ_BYTES / 4));
        let read = match needed_bytes > READ_BYTES {
            // Up to the end of the long answer and no further: what follows starts a buffer of its own.
            true => (&mut socket).take(needed_bytes as u64).read_buf(&mut buffer).await,
            false => socket.read_buf(&mut buffer).await,
        };
        match read {
            Ok(0) => return "end of stream".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
    }
}

/// Hands out every whole answer; returns how many bytes the next one lacks.
fn take_answers(buffer: &mut BytesMut, shared: &Shared) -> Result<usize, String> {
    loop {
        let Some(size) = buffer.first_chunk::<4>() else { return Ok(frame::SIZE_BYTES - buffer.len()) };
        let size_bytes = match usize::try_from(i32::from_be_bytes(*size)) {
            Ok(size_bytes) if (4..=ANSWER_BYTES_MAX).contains(&size_bytes) => size_bytes,
            _ if size == b"HTTP" => return Err("it speaks HTTP, not Kafka's protocol".to_owned()),
            _ => return Err(format!("its answer begins with {size:02x?}, which is no frame of Kafka's")),
        };
        let frame_bytes = frame::SIZE_BYTES + size_bytes;
        if buffer.len() < frame_bytes {
            return Ok(frame_bytes - buffer.len());
        }
        let mut answer = buffer.split_to(frame_bytes).freeze();
        answer.advance(frame::SIZE_BYTES);
        let correlation_id = (&answer[..4]).get_i32();
        match shared.state().waiting.pop_front() {
            Some(waiting) if waiting.correlation_id == correlation_id => {
                // Whoever gave up waiting is no reason to stop.
                let _ = waiting.answer.send(answer);
            }
            _ => return Err(format!("it answered a request that was not sent (correlation id {correlation_id})")),
        }
    }
}

async fn write_loop(mut socket: OwnedWriteHalf, outgoing: &mut mpsc::Receiver<Outgoing>, shared: &Shared) -> String {
    let mut batch = Vec::with_capacity(WRITE_FRAMES_MAX);
    while outgoing.recv_many(&mut batch, WRITE_FRAMES_MAX).await > 0 {
        // Who waits is known before the first byte leaves: the answer may be here before the write returns.
        let chunks = shared.expect_answers(batch.drain(..));
        if let Err(error) = write_all(&mut socket, chunks).await {
            return error.to_string();
        }
    }
    "closed by us".to_owned()
}

async fn write_all(socket: &mut OwnedWriteHalf, mut chunks: VecDeque<Bytes>) -> std::io::Result<()> {
    /// What Linux takes at once.
    const SLICES_MAX: usize = 1024;
    while !chunks.is_empty() {
        let slices: Vec<IoSlice> = chunks.iter().take(SLICES_MAX).map(|chunk| IoSlice::new(chunk)).collect();
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(front) = chunks.front_mut() {
            if written < front.len() {
                front.advance(written);
                break;
            }
            written -= front.len();
            chunks.pop_front();
        }
    }
    Ok(())
}
