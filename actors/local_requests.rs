//! Kafka's own requests, asked by the broker's own doors: the same code as over a socket answers them, so that HTTP has the
//! same rules, the same errors and the same words.
//!
//! A request goes where its [`Destination`] says. [`LocalClient::broker_of`] is the one place that knows which broker that is,
//! and [`LocalClient::ask`] the one place where a request for another broker is handed on.

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_state::cluster::Image;
use capek_state::group::{OFFSETS_TOPIC, shard_of};
use capek_wire::codec::Request;
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::{self, SIZE_BYTES};
use capek_wire::ids::{BrokerId, PartitionIndex};
use capek_wire::peer::calls::{CallRequest, CallResponse};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::call_lane::{Call, CallError};
use crate::local::{LEADER_WITHIN, LocalClient};
use crate::requests::{Dispatch, RequestContext, dispatch};

/// What another broker is asked and does not answer by then may be done yet.
const ANSWERED_WITHIN: Duration = Duration::from_secs(30);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(320);

/// Who can answer a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    /// Every broker: it is about the cluster's metadata, or changes it.
    Anyone,
    /// The coordinator of the group.
    Coordinator(&'a str),
    Leader(&'a str, PartitionIndex),
    Broker(BrokerId),
}

impl Destination<'_> {
    /// What Kafka says when nobody is there.
    fn missing(self) -> ErrorCode {
        match self {
            Destination::Anyone | Destination::Broker(_) => ErrorCode::NetworkException,
            Destination::Coordinator(_) => ErrorCode::CoordinatorNotAvailable,
            Destination::Leader(..) => ErrorCode::LeaderNotAvailable,
        }
    }
}

/// Why there is no answer; an answer that holds an error is one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Nothing was done.
    #[error("no broker serves this now")]
    Nowhere(ErrorCode),
    /// Nothing was done.
    #[error("broker {broker} serves this, and is not reached")]
    NotReached { broker: BrokerId, code: ErrorCode },
    /// Broker and reason: it may have been done.
    #[error("{0}")]
    Unknown(CallError),
    #[error("{0}")]
    Failed(String),
}

impl AskError {
    pub fn code(&self) -> ErrorCode {
        match self {
            AskError::Nowhere(code) | AskError::NotReached { code, .. } => *code,
            AskError::Unknown(_) => ErrorCode::RequestTimedOut,
            AskError::Failed(_) => ErrorCode::UnknownServerError,
        }
    }

    /// Nothing was done, and whoever is asked next may be there.
    fn is_passing(&self, destination: Destination<'_>) -> bool {
        let has_another = !matches!(destination, Destination::Broker(_));
        has_another && matches!(self, AskError::Nowhere(_) | AskError::NotReached { .. })
    }
}

/// Who asks, as groups and logs show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    pub client_id: String,
    pub ip: IpAddr,
}

impl Default for Caller {
    fn default() -> Caller {
        Caller { client_id: "capek-http".to_string(), ip: IpAddr::V4(Ipv4Addr::LOCALHOST) }
    }
}

impl LocalClient {
    /// Which broker answers what goes there. What nobody has yet (`__consumer_offsets` is made on first use) is ours.
    pub fn broker_of(&self, destination: Destination<'_>) -> Result<BrokerId, AskError> {
        let own = self.broker.config.node_id;
        let image = self.broker.image.load();
        let led = |topic, partition| match leader_of(&image, topic, partition) {
            Some(leader) if leader < 0 => Err(AskError::Nowhere(destination.missing())),
            leader => Ok(leader.unwrap_or(own)),
        };
        match destination {
            Destination::Anyone => Ok(own),
            Destination::Broker(broker) => Ok(broker),
            Destination::Leader(topic, partition) => led(topic, partition),
            Destination::Coordinator(group) => {
                let shards = image.topic_by_name(OFFSETS_TOPIC).map_or(0, |topic| topic.partitions.len() as i32);
                if shards == 0 { Ok(own) } else { led(OFFSETS_TOPIC, shard_of(group, shards)) }
            }
        }
    }

    /// Asks whoever can answer, wherever that is; waits a while for it to be there. Neither Produce nor Fetch: they have doors
    /// of their own.
    pub async fn ask<R: Request>(
        &self,
        destination: Destination<'_>,
        caller: &Caller,
        request: &R,
        version: i16,
    ) -> Result<R::Response, AskError> {
        let encoded = frame::encode_request(0, Some(&caller.client_id), request, version);
        let encoded = encoded.map_err(|error| AskError::Failed(error.to_string()))?.slice(SIZE_BYTES..);
        let deadline = Instant::now() + LEADER_WITHIN;
        let mut backoff = BACKOFF_FIRST;
        let answer = loop {
            match self.ask_once(destination, caller, encoded.clone()).await {
                Err(error) if error.is_passing(destination) && Instant::now() + backoff < deadline => {
                    tokio::time::sleep(backoff).await;
                    backoff = (backoff * 2).min(BACKOFF_MAX);
                }
                outcome => break outcome?,
            }
        };
        let decoded = frame::decode_response::<R>(answer, version);
        decoded.map(|(_, response)| response).map_err(|error| AskError::Failed(error.to_string()))
    }

    /// The answer without its size.
    async fn ask_once(&self, destination: Destination<'_>, caller: &Caller, frame: Bytes) -> Result<Bytes, AskError> {
        let broker = self.broker_of(destination)?;
        if broker == self.broker.config.node_id {
            let chunks = self.answer_here(caller, BytesMut::from(frame)).await?;
            return Ok(joined(chunks).slice(SIZE_BYTES..));
        }
        let request = CallRequest::Kafka { ip: caller.ip };
        let paid = Some(self.broker.request_budget.acquire(frame.len()).await);
        match self.call(broker, Call { request: &request, body: frame, paid, within: ANSWERED_WITHIN }).await {
            Ok((CallResponse::Kafka, answer)) => Ok(answer),
            Ok(_) => Err(AskError::Failed(CallError::Malformed(broker).to_string())),
            Err(CallError::NotSent(_)) => Err(AskError::NotReached { broker, code: destination.missing() }),
            Err(error @ (CallError::Broken(_) | CallError::Deadline(_))) => Err(AskError::Unknown(error)),
            Err(error) => Err(AskError::Failed(error.to_string())),
        }
    }

    /// `frame` is without its size, the answer with it.
    pub(crate) async fn answer_here(&self, caller: &Caller, frame: BytesMut) -> Result<Vec<Bytes>, AskError> {
        let listener = self.broker.config.listeners.first().ok_or(AskError::Nowhere(ErrorCode::BrokerNotAvailable))?;
        let context = Rc::new(RequestContext {
            broker: self.broker.clone(),
            listener: Arc::new(listener.clone()),
            peer: SocketAddr::new(caller.ip, 0),
            waker: Arc::default(),
            is_draining: Cell::new(false),
            fetch_waiter: Arc::new(Notify::new()),
            waiting_count: Cell::new(0),
        });
        match dispatch(&context, frame, None) {
            Dispatch::Ready(response) => Ok(response.chunks),
            Dispatch::Later(later) => Ok(later.await.map_err(AskError::Failed)?.chunks),
            Dispatch::Produce(_) => Err(AskError::Failed("produce has a door of its own".to_string())),
            Dispatch::Close(reason) => Err(AskError::Failed(reason)),
        }
    }
}

/// None: there is no such partition. -1: it has no leader now.
fn leader_of(image: &Image, topic: &str, partition: PartitionIndex) -> Option<BrokerId> {
    Some(image.topic_by_name(topic)?.partition(partition)?.leader)
}

pub(crate) fn joined(mut chunks: Vec<Bytes>) -> Bytes {
    match (chunks.pop(), chunks.is_empty()) {
        (Some(only), true) => only,
        (last, _) => {
            let mut bytes = BytesMut::new();
            chunks.iter().chain(&last).for_each(|chunk| bytes.extend_from_slice(chunk));
            bytes.freeze()
        }
    }
}
