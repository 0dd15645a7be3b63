//! The control lanes to the other brokers: one connection each, requests and answers told apart by id.
//!
//! A lane keeps its connection up by itself, with a back-off. While it is down a request fails at once, and when it breaks
//! everything that waits on it fails at once: a lost peer is known in the time of a TCP reset, not of a deadline.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_wire::ids::BrokerId;
use capek_wire::peer::frame::encode_before_body;
use capek_wire::peer::{Frame, FrameKind, Lane, decode_head, encode_head};
use log::{debug, info, warn};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, oneshot, watch};

use super::messages::{CONTROL_FRAME_BYTES_MAX, ControlRequest, ControlResponse};
use crate::peer_transport::{PeerError, PeerIdentity, PeerStream, connect, read_frame};
use crate::pulses::Pulses;

/// Requests of one lane that wait to be sent.
const QUEUED_MAX: usize = 256;
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MAX: Duration = Duration::from_millis(500);

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// The peer has not got it.
    #[error("broker {0} is not reached")]
    NotSent(BrokerId),
    /// The peer may have acted on it.
    #[error("the connection to broker {0} broke before it answered")]
    Broken(BrokerId),
    #[error("broker {0} did not answer in time")]
    Deadline(BrokerId),
    #[error("broker {0} answered what does not decode")]
    Malformed(BrokerId),
}

struct Outgoing {
    head: Vec<u8>,
    reply: oneshot::Sender<Frame>,
}

type Waiting = Arc<Mutex<BTreeMap<u64, oneshot::Sender<Frame>>>>;

/// How a lane is seen from outside.
#[derive(Clone, Default)]
struct State {
    /// Some: connected.
    sender: Option<mpsc::Sender<Outgoing>>,
    /// Why not, when it was last tried.
    problem: Option<String>,
}

/// One lane. It ends when it is dropped.
pub struct ControlLane {
    to: BrokerId,
    state: watch::Receiver<State>,
    task: tokio::task::JoinHandle<()>,
}

impl ControlLane {
    /// Begins to connect; needs a tokio runtime.
    pub fn open(to: BrokerId, address: String, me: Arc<PeerIdentity>) -> Self {
        let (sender, state) = watch::channel(State::default());
        let task = tokio::spawn(keep_connected(to, address, me, sender));
        Self { to, state, task }
    }

    /// Sends a request and waits for its answer.
    pub async fn request(&self, request: &ControlRequest, deadline: Duration) -> Result<ControlResponse, LaneError> {
        self.request_encoded(encode_head(request), deadline).await
    }

    pub async fn request_encoded(&self, head: Vec<u8>, deadline: Duration) -> Result<ControlResponse, LaneError> {
        let sender = self.state.borrow().sender.clone().ok_or(LaneError::NotSent(self.to))?;
        let (reply, replied) = oneshot::channel();
        sender.try_send(Outgoing { head, reply }).map_err(|_| LaneError::NotSent(self.to))?;
        let frame = match tokio::time::timeout(deadline, replied).await {
            Ok(Ok(frame)) => frame,
            Ok(Err(_)) => return Err(LaneError::Broken(self.to)),
            Err(_) => return Err(LaneError::Deadline(self.to)),
        };
        decode_head(&frame.head).map_err(|_| LaneError::Malformed(self.to))
    }

    /// Waits until it is connected, or cannot be within `patience`.
    pub async fn connected(&self, patience: Duration) -> bool {
        let mut state = self.state.clone();
        let waiting = state.wait_for(|state| state.sender.is_some());
        matches!(tokio::time::timeout(patience, waiting).await, Ok(Ok(_)))
    }

    pub fn is_connected(&self) -> bool {
        self.state.borrow().sender.is_some()
    }

    /// The error that a request would get now.
    pub fn check_connected(&self) -> Result<(), LaneError> {
        if self.is_connected() { Ok(()) } else { Err(LaneError::NotSent(self.to)) }
    }

    /// Why it is not connected, as far as is known.
    pub fn problem(&self) -> Option<String> {
        self.state.borrow().problem.clone()
    }
}

impl Drop for ControlLane {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep_connected(to: BrokerId, address: String, me: Arc<PeerIdentity>, state: watch::Sender<State>) {
    let mut backoff = BACKOFF_FIRST;
    let mut last_problem = None;
    loop {
        match connect(&address, &me, to, Lane::Control).await {
            Ok(stream) => {
                info!("connected to broker {to} at {address}");
                (backoff, last_problem) = (BACKOFF_FIRST, None);
                let watched = stream.watch(&me);
                let problem = serve(stream, &state).await;
                drop(watched);
                state.send_replace(State { sender: None, problem: Some(problem.clone()) });
                info!("the connection to broker {to} at {address} is gone: {problem}");
            }
            Err(error) => {
                let problem = error.to_string();
                // Once each: a peer that is down for an hour is one line, not thousands.
                if last_problem.as_ref() != Some(&problem) {
                    match error {
                        PeerError::Refused(_) | PeerError::Tls(_) => {
                            warn!("broker {to} at {address} does not let us in: {problem}")
                        }
                        _ => debug!("broker {to} at {address} is not reached: {problem}"),
                    }
                    last_problem = Some(problem.clone());
                }
                state.send_replace(State { sender: None, problem: Some(problem) });
            }
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Until the connection breaks; says why it did.
async fn serve(stream: PeerStream, state: &watch::Sender<State>) -> String {
    let (sender, outgoing) = mpsc::channel(QUEUED_MAX);
    let waiting = Waiting::default();
    let (reader, writer) = tokio::io::split(stream);
    state.send_replace(State { sender: Some(sender), problem: None });
    let ended = tokio::select! {
        ended = write_requests(writer, outgoing, waiting.clone()) => ended,
        ended = read_responses(reader, waiting) => ended,
    };
    // Those who wait are told by the drop of their senders.
    ended.err().unwrap_or(PeerError::Closed).to_string()
}

async fn write_requests(
    mut writer: WriteHalf<PeerStream>,
    mut outgoing: mpsc::Receiver<Outgoing>,
    waiting: Waiting,
) -> Result<(), PeerError> {
    let mut id = 0;
    while let Some(Outgoing { head, reply }) = outgoing.recv().await {
        id += 1;
        {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever lost patience is forgotten here, so that the map is no longer than the requests in flight.
            waiting.retain(|_, reply| !reply.is_closed());
            waiting.insert(id, reply);
        }
        let frame: Bytes = encode_before_body(FrameKind::Request, id, &head, 0);
        writer.write_all(&frame).await?;
        writer.flush().await?;
    }
    Ok(())
}

async fn read_responses(mut reader: ReadHalf<PeerStream>, waiting: Waiting) -> Result<(), PeerError> {
    let mut buffer = BytesMut::new();
    while let Some(frame) = read_frame(&mut reader, &mut buffer, CONTROL_FRAME_BYTES_MAX).await? {
        let reply = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.id);
        if let Some(reply) = reply {
            // Nobody waits any more when the deadline has passed.
            let _ = reply.send(frame);
        }
    }
    Ok(())
}

/// All lanes of this broker, by the broker that they lead to.
pub struct ControlLanes {
    me: Arc<PeerIdentity>,
    lanes: Mutex<BTreeMap<BrokerId, (String, Arc<ControlLane>)>>,
}

impl ControlLanes {
    pub fn new(me: Arc<PeerIdentity>) -> Self {
        Self { me, lanes: Mutex::default() }
    }

    /// The lane to this broker at this address; opened if there is none, or one to another address. Needs a tokio runtime.
    pub fn lane(&self, to: BrokerId, address: &str) -> Arc<ControlLane> {
        let mut lanes = self.lock();
        if let Some((_, lane)) = lanes.get(&to).filter(|(known, _)| known == address) {
            return lane.clone();
        }
        let lane = Arc::new(ControlLane::open(to, address.to_owned(), self.me.clone()));
        lanes.insert(to, (address.to_owned(), lane.clone()));
        lane
    }

    pub fn pulses(&self) -> &Pulses {
        &self.me.pulses
    }

    /// The lane to this broker if one was opened.
    pub fn find(&self, to: BrokerId) -> Option<Arc<ControlLane>> {
        self.lock().get(&to).map(|(_, lane)| lane.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<BrokerId, (String, Arc<ControlLane>)>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
