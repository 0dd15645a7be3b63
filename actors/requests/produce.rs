//! Produce (key 0, versions 3–13; 0–2 are advertised and refused, KAFKA-18659).
//!
//! The records are split off the frame as mutable slices that nobody else holds, so that the partition patches them in place.
//! Nothing here waits: each partition gets one message, and the answer is collected as their rounds complete.

use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use capek_state::partition::RecordError;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::{self, RequestHeader};
use capek_wire::messages::ProduceResponse;
use capek_wire::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use capek_wire::produce_view::{PartitionView, ProduceView, TopicRef, TopicView};

use super::leader_hints::{self, LeaderHints};
use super::{Dispatch, RequestContext, Response};
use crate::budget::BudgetPermit;
use crate::partition::Append;
use crate::produce::{Acks, AppendReply, PartitionAnswer, PendingProduce};
use crate::routes::TopicRoute;
use crate::topics;

/// A produce request whose partitions are being written.
pub struct PendingResponse {
    header: RequestHeader,
    acks: Option<Acks>,
    call: Arc<PendingProduce>,
    topics: Vec<(TopicRef, Vec<i32>)>,
    deadline: Instant,
    has_timed_out: bool,
}

/// Produce below this version may not carry zstd.
const ZSTD_VERSION_MIN: i16 = 7;

/// Produce from this version on says who leads instead (KIP-951).
const HINTS_VERSION_MIN: i16 = 10;

/// Hands each batch to its partition.
pub fn start(context: &Rc<RequestContext>, frame: BytesMut, permit: Option<BudgetPermit>) -> Dispatch {
    let mut view = match ProduceView::decode(frame) {
        Ok(view) => view,
        Err(error) => return Dispatch::Close(format!("Produce: {error}")),
    };
    drop_repeats(&mut view.topics);
    let count = view.topics.iter().map(|topic| topic.partitions.len()).sum();
    let call = PendingProduce::new(count, context.waker.clone(), permit);
    let acks = Acks::from_wire(view.acks);
    let refusal = match acks {
        None => Some(ErrorCode::InvalidRequiredAcks),
        // Final for the client; an error it could retry would hang it for a minute.
        Some(_) if view.transactional_id.is_some() => Some(ErrorCode::TransactionalIdAuthorizationFailed),
        Some(_) => None,
    };
    let is_zstd_allowed = view.header.api_version >= ZSTD_VERSION_MIN;
    let mut topics = Vec::with_capacity(view.topics.len());
    let mut slot = 0;
    for topic in view.topics {
        let route = find_topic(context, &topic.topic);
        let mut indexes = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            indexes.push(partition.index);
            let reply = AppendReply::new(call.clone(), slot);
            match (refusal, acks, &route) {
                (None, Some(acks), Ok(route)) => append(route, partition, acks, is_zstd_allowed, reply),
                (Some(code), ..) | (None, _, &Err(code)) => reply.answer(PartitionAnswer::error(code)),
                (None, None, Ok(_)) => reply.answer(PartitionAnswer::error(ErrorCode::InvalidRequiredAcks)),
            }
            slot += 1;
        }
        topics.push((topic.topic, indexes));
    }
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(view.timeout_ms).unwrap_or(0).max(1));
    let header = view.header;
    Dispatch::Produce(PendingResponse { header, acks, call, topics, deadline, has_timed_out: false })
}

/// Of a partition that is named again the last batch counts and is answered, as with Kafka; a topic of which no partition is
/// named is not.
fn drop_repeats(topics: &mut Vec<TopicView>) {
    topics.retain(|topic| !topic.partitions.is_empty());
    if let [topic] = &topics[..]
        && topic.partitions.len() == 1
    {
        return;
    }
    let mut seen = BTreeSet::new();
    for TopicView { topic, partitions } in topics.iter_mut().rev() {
        let topic: &TopicRef = topic;
        partitions.reverse();
        partitions.retain(|partition| seen.insert((topic, partition.index)));
        partitions.reverse();
    }
    topics.retain(|topic| !topic.partitions.is_empty());
}

fn find_topic(context: &RequestContext, topic: &TopicRef) -> Result<Arc<TopicRoute>, ErrorCode> {
    let routes = &context.broker.routes;
    let route = match topic {
        TopicRef::Name(name) => routes.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition),
        TopicRef::Id(id) => routes.topic_by_id(*id).ok_or(ErrorCode::UnknownTopicId),
    }?;
    if topics::is_internal(&route.name) { Err(ErrorCode::InvalidTopicException) } else { Ok(route) }
}

/// Sends one batch to its leader, or answers at once when there is none.
fn append(topic: &TopicRoute, partition: PartitionView, acks: Acks, is_zstd_allowed: bool, reply: AppendReply) {
    let route = match topic.serving(partition.index) {
        Ok(route) => route,
        Err(code) => return reply.answer(PartitionAnswer::error(code)),
    };
    let Some(leader) = &route.leader else {
        return reply.answer(PartitionAnswer::error(ErrorCode::NotLeaderOrFollower));
    };
    let batch = partition.records.unwrap_or_default();
    route.entry.mailbox.fetch_add(1, Ordering::Relaxed);
    // What this queues is bounded by the byte budget that the frame has paid from.
    leader.do_send(Append { batch, acks, is_zstd_allowed, partition_count: None, reply });
}

impl PendingResponse {
    pub fn is_complete(&self) -> bool {
        self.has_timed_out || self.call.is_complete()
    }

    /// What has no answer by `now` is answered REQUEST_TIMED_OUT; the data stays.
    pub fn time_out(&mut self, now: Instant) {
        self.has_timed_out |= now >= self.deadline;
    }

    /// The encoded answer; an error closes the connection, which is how a producer with acks=0 learns of one.
    pub fn into_response(self, context: &RequestContext) -> Result<Response, String> {
        let answers = self.call.take_answers();
        context.broker.metrics.produced(&answers);
        if self.acks == Some(Acks::None) {
            return match answers.iter().find(|answer| answer.error != ErrorCode::None) {
                Some(failed) => Err(format!("a produce request with acks=0 failed: {}", failed.error)),
                None => Ok(Response { chunks: Vec::new(), permit: None }),
            };
        }
        let mut answers = answers.into_iter();
        let image = context.broker.image.load();
        let mut hints = LeaderHints::default();
        let topic_response = |(topic, indexes): (TopicRef, Vec<i32>)| {
            let mut partition_responses: Vec<_> =
                indexes.into_iter().zip(&mut answers).map(partition_response).collect();
            let has_errors = partition_responses.iter().any(|partition| partition.error_code != 0);
            if has_errors && self.header.api_version >= HINTS_VERSION_MIN {
                let known = match &topic {
                    TopicRef::Name(name) => image.topic_by_name(name),
                    TopicRef::Id(id) => image.topic(*id),
                };
                for partition in &mut partition_responses {
                    let found = known.and_then(|topic| topic.partition(partition.index));
                    let hint = hints.note(&image, &context.listener.name, partition.error_code, found);
                    if let Some((leader_id, leader_epoch)) = hint {
                        partition.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
                    }
                }
            }
            match topic {
                TopicRef::Name(name) => TopicProduceResponse { name, partition_responses, ..Default::default() },
                TopicRef::Id(topic_id) => TopicProduceResponse { topic_id, partition_responses, ..Default::default() },
            }
        };
        let responses = self.topics.into_iter().map(topic_response).collect();
        let endpoint = |endpoint: leader_hints::Endpoint| NodeEndpoint {
            node_id: endpoint.node_id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            ..Default::default()
        };
        let node_endpoints = hints.into_endpoints().map(endpoint).collect();
        let response = ProduceResponse { responses, node_endpoints, ..Default::default() };
        let RequestHeader { api_key, api_version, correlation_id, .. } = self.header;
        let chunks = frame::encode_response(api_key, api_version, correlation_id, &response)
            .map_err(|error| format!("a Produce answer cannot be encoded: {error}"))?;
        Ok(Response { chunks, permit: None })
    }
}

fn partition_response((index, answer): (i32, PartitionAnswer)) -> PartitionProduceResponse {
    let record_error = |error: RecordError| BatchIndexAndErrorMessage {
        batch_index: error.batch_index,
        batch_index_error_message: Some(Str::from(error.message)),
        ..Default::default()
    };
    PartitionProduceResponse {
        index,
        error_code: answer.error.code(),
        base_offset: answer.base_offset,
        log_append_time_ms: answer.log_append_time_ms,
        log_start_offset: answer.log_start_offset,
        record_errors: answer.record_errors.into_iter().map(record_error).collect(),
        error_message: answer.message.map(Str::from),
        ..Default::default()
    }
}
