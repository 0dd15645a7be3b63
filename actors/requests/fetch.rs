//! Fetch (key 1, versions 4–18), sessionless: a session is answered with id 0, which tells the client to go without (KIP-227).
//!
//! A fetch does not pass the Partition. It reads the log on its connection's thread, below the high watermark, and only what
//! the page cache holds; cold ranges go to the blocking pool. A fetch that finds too little waits on its partitions'
//! high watermarks.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_log::{ReadError, ReadOutcome, ReadRequest};
use capek_wire::codec::Reader;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::fetch::{EpochEndOffset, FetchPartition, FetchableTopicResponse, PartitionData};
use capek_wire::messages::{FetchRequest, FetchResponse};
use log::warn;

use super::{Call, Dispatch, RequestContext, Response};
use crate::budget::BudgetPermit;
use crate::routes::TopicRoute;
use crate::shared::PartitionShared;

/// Versions from here name topics by id only.
const TOPIC_ID_VERSION_MIN: i16 = 13;
/// However little of the budget is free, a fetch gets this much: one slow consumer must not starve the others.
const RESPONSE_BYTES_MIN: usize = 64 << 10;
/// One response takes at most this share of what is free.
const RESPONSE_SHARE: usize = 16;

/// One partition of the request.
struct Wanted {
    topic_index: usize,
    request: FetchPartition,
    target: Result<Arc<PartitionShared>, ErrorCode>,
}

struct Fetch {
    context: Rc<RequestContext>,
    request: FetchRequest,
    wanted: Vec<Wanted>,
    bytes_max: usize,
}

/// What the partitions hold for this fetch right now.
enum Readiness {
    Answer,
    Wait,
}

pub fn start(mut call: Call, reader: Reader) -> Dispatch {
    let request = match call.decode::<FetchRequest>(reader) {
        Ok(request) => request,
        Err(reason) => return Dispatch::Close(reason),
    };
    // The request's own bytes are decoded; what its answer holds is paid for apart.
    call.permit = None;
    if let Some(code) = refusal(&request) {
        let response = FetchResponse { error_code: code.code(), ..Default::default() };
        return match call.encode(&response) {
            Ok(response) => Dispatch::Ready(response),
            Err(reason) => Dispatch::Close(reason),
        };
    }
    let fetch = Fetch::new(call.context.clone(), request, call.header.api_version);
    if matches!(fetch.readiness(), Readiness::Answer)
        && let Some(permit) =
            fetch.context.broker.fetch_budget.try_acquire(fetch.bytes_max.min(fetch.available_bytes()))
        && let Some(response) = fetch.read_cached()
    {
        return match call.encode(&response) {
            Ok(Response { chunks, .. }) => Dispatch::Ready(Response { chunks, permit: Some(permit) }),
            Err(reason) => Dispatch::Close(reason),
        };
    }
    Dispatch::Later(Box::pin(async move {
        let (response, permit) = fetch.wait_and_read().await;
        let Response { chunks, .. } = call.encode(&response)?;
        Ok(Response { chunks, permit: Some(permit) })
    }))
}

/// There are no sessions to go on with: only a full fetch (0 would begin a session, -1 ends one or does without) is served.
fn refusal(request: &FetchRequest) -> Option<ErrorCode> {
    let is_full = matches!(request.session_epoch, 0 | -1);
    (!is_full).then_some(ErrorCode::FetchSessionIdNotFound)
}

impl Fetch {
    fn new(context: Rc<RequestContext>, mut request: FetchRequest, version: i16) -> Self {
        let mut wanted = Vec::new();
        // Replicas have a listener of their own: here nobody is one.
        let is_replica = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
        for (topic_index, topic) in request.topics.iter_mut().enumerate() {
            let routes = &context.broker.routes;
            let (route, unknown) = if version >= TOPIC_ID_VERSION_MIN {
                (routes.topic_by_id(topic.topic_id), ErrorCode::UnknownTopicId)
            } else {
                (routes.topic(&topic.topic), ErrorCode::UnknownTopicOrPartition)
            };
            for partition in std::mem::take(&mut topic.partitions) {
                let found = route.as_ref().ok_or(unknown).and_then(|route| find(route, &partition));
                let target = if is_replica { found.and(Err(ErrorCode::NotLeaderOrFollower)) } else { found };
                wanted.push(Wanted { topic_index, request: partition, target });
            }
        }
        let broker = &context.broker;
        let asked = usize::try_from(request.max_bytes).unwrap_or(0).min(broker.fetch_bytes_max);
        let budget = &broker.fetch_budget;
        let free = budget.size_bytes().saturating_sub(budget.used_bytes());
        let bytes_max = asked.min((free / RESPONSE_SHARE).max(RESPONSE_BYTES_MIN));
        Self { context, request, wanted, bytes_max }
    }

    /// Whether to answer now: enough bytes, an error, nothing asked, or no wish to wait.
    fn readiness(&self) -> Readiness {
        if self.request.max_wait_ms <= 0 || self.wanted.is_empty() || self.context.is_draining.get() {
            return Readiness::Answer;
        }
        let has_error = self.wanted.iter().any(|wanted| wanted.position_error().is_some());
        let min_bytes = usize::try_from(self.request.min_bytes).unwrap_or(0).min(self.bytes_max);
        if has_error || self.available_bytes() >= min_bytes { Readiness::Answer } else { Readiness::Wait }
    }

    fn available_bytes(&self) -> usize {
        let mut available = 0;
        for wanted in &self.wanted {
            let Ok(shared) = &wanted.target else { continue };
            let bytes = shared.log.bytes_between(wanted.request.fetch_offset, shared.high_watermark());
            available += usize::try_from(bytes).unwrap_or(usize::MAX).min(wanted.bytes_max());
            if available >= self.bytes_max {
                break;
            }
        }
        available
    }

    async fn wait_and_read(&self) -> (FetchResponse, BudgetPermit) {
        let wait = Duration::from_millis(u64::try_from(self.request.max_wait_ms).unwrap_or(0));
        let deadline = tokio::time::Instant::now() + wait;
        for wanted in &self.wanted {
            if let Ok(shared) = &wanted.target {
                shared.register(&self.context.fetch_waiter);
            }
        }
        loop {
            let mut changed = std::pin::pin!(self.context.fetch_waiter.notified());
            changed.as_mut().enable(); // from here on no change is missed, even before the await
            if matches!(self.readiness(), Readiness::Answer) {
                break;
            }
            if tokio::time::timeout_at(deadline, changed).await.is_err() {
                break;
            }
        }
        let budget = &self.context.broker.fetch_budget;
        let permit = budget.acquire(self.bytes_max.min(self.available_bytes())).await;
        (self.read_all().await, permit)
    }

    /// The whole answer from the page cache; None when something has to come from the disk.
    fn read_cached(&self) -> Option<FetchResponse> {
        let mut answer = Answer::new(&self.request);
        for wanted in &self.wanted {
            let data = match wanted.prepare(self.remaining(&answer), answer.size_bytes == 0) {
                Err(data) => *data,
                Ok((shared, read)) => {
                    let outcome = shared.log.read(ReadRequest { may_block: false, ..read });
                    if matches!(outcome, Ok(ReadOutcome::WouldBlock)) {
                        return None;
                    }
                    wanted.partition_data(shared, outcome, self.request.isolation_level)
                }
            };
            answer.push(wanted.topic_index, data);
        }
        self.count(&answer);
        Some(answer.response)
    }

    async fn read_all(&self) -> FetchResponse {
        let mut answer = Answer::new(&self.request);
        for wanted in &self.wanted {
            let data = match wanted.prepare(self.remaining(&answer), answer.size_bytes == 0) {
                Err(data) => *data,
                Ok((shared, read)) => {
                    let mut outcome = shared.log.read(ReadRequest { may_block: false, ..read });
                    if matches!(outcome, Ok(ReadOutcome::WouldBlock)) {
                        outcome = read_cold(shared.clone(), read).await;
                    }
                    wanted.partition_data(shared, outcome, self.request.isolation_level)
                }
            };
            answer.push(wanted.topic_index, data);
        }
        self.count(&answer);
        answer.response
    }

    fn remaining(&self, answer: &Answer) -> usize {
        self.bytes_max.saturating_sub(answer.size_bytes)
    }

    fn count(&self, answer: &Answer) {
        self.context.broker.metrics.fetched(answer.size_bytes);
    }
}

/// The disk may take long; the arbiter does not wait for it.
async fn read_cold(shared: Arc<PartitionShared>, read: ReadRequest) -> Result<ReadOutcome, ReadError> {
    /// One cold read at most, so that a pool thread is soon free for the next.
    const COLD_READ_BYTES_MAX: usize = 1 << 20;
    let read = ReadRequest { may_block: true, max_bytes: read.max_bytes.min(COLD_READ_BYTES_MAX), ..read };
    match tokio::task::spawn_blocking(move || shared.log.read(read)).await {
        Ok(outcome) => outcome,
        // The pool is gone only when the process stops.
        Err(_) => Ok(ReadOutcome::Empty),
    }
}

fn find(route: &TopicRoute, partition: &FetchPartition) -> Result<Arc<PartitionShared>, ErrorCode> {
    let found = route.serving(partition.partition)?;
    super::check_leader_epoch(partition.current_leader_epoch, found.leader_epoch)?;
    Ok(found.shared.clone())
}

impl Wanted {
    fn bytes_max(&self) -> usize {
        usize::try_from(self.request.partition_max_bytes).unwrap_or(0)
    }

    /// What makes an answer due at once.
    fn position_error(&self) -> Option<ErrorCode> {
        let shared = match &self.target {
            Ok(shared) => shared,
            Err(code) => return Some(*code),
        };
        let offset = self.request.fetch_offset;
        if shared.is_deleted() {
            return Some(ErrorCode::UnknownTopicOrPartition);
        }
        if offset < shared.log_start() || offset > shared.log.end_offset() {
            return Some(ErrorCode::OffsetOutOfRange);
        }
        self.diverging_epoch(shared).transpose()?.err().or(Some(ErrorCode::None))
    }

    /// The log has a record at the fetch offset only if its history agrees with the reader's last epoch (KIP-595).
    fn diverging_epoch(&self, shared: &PartitionShared) -> Result<Option<EpochEndOffset>, ErrorCode> {
        let last_fetched = self.request.last_fetched_epoch;
        if last_fetched < 0 {
            return Ok(None);
        }
        let end = shared.log.epoch_end_offset(last_fetched, shared.log.end_offset());
        let (epoch, end_offset) = end.map_err(|_| ErrorCode::KafkaStorageError)?;
        if epoch < 0 {
            return Err(ErrorCode::OffsetOutOfRange); // an epoch that the log knows nothing of
        }
        let is_diverging = epoch < last_fetched || end_offset < self.request.fetch_offset;
        Ok(is_diverging.then(|| EpochEndOffset { epoch, end_offset, ..Default::default() }))
    }

    /// What to read, or the answer when there is nothing to read.
    fn prepare(
        &self,
        remaining: usize,
        is_first: bool,
    ) -> Result<(&Arc<PartitionShared>, ReadRequest), Box<PartitionData>> {
        let error = self.position_error();
        let shared = match (&self.target, error) {
            (Ok(shared), None) => shared,
            (Ok(shared), Some(ErrorCode::None)) => {
                let diverging_epoch = self.diverging_epoch(shared).ok().flatten().unwrap_or_default();
                return Err(Box::new(PartitionData { diverging_epoch, ..self.empty(shared) }));
            }
            (_, Some(code)) | (&Err(code), None) => return Err(Box::new(self.error(code))),
        };
        let read = ReadRequest {
            offset: self.request.fetch_offset,
            max_bytes: self.bytes_max().min(remaining),
            end_offset: shared.high_watermark(),
            at_least_one: is_first,
            may_block: false,
        };
        Ok((shared, read))
    }

    fn error(&self, code: ErrorCode) -> PartitionData {
        // As Kafka has it: empty where the partition is unknown, null where it was looked at.
        let is_unknown = matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId);
        PartitionData {
            partition_index: self.request.partition,
            error_code: code.code(),
            high_watermark: -1,
            aborted_transactions: is_unknown.then(Vec::new),
            records: Some(Bytes::new()),
            ..Default::default()
        }
    }

    fn empty(&self, shared: &PartitionShared) -> PartitionData {
        let high_watermark = shared.high_watermark();
        PartitionData {
            partition_index: self.request.partition,
            high_watermark,
            last_stable_offset: high_watermark,
            log_start_offset: shared.log_start(),
            records: Some(Bytes::new()),
            ..Default::default()
        }
    }

    fn partition_data(
        &self,
        shared: &PartitionShared,
        outcome: Result<ReadOutcome, ReadError>,
        isolation_level: i8,
    ) -> PartitionData {
        // Null tells read_uncommitted clients that nobody looked; empty tells read_committed ones that there are none.
        let aborted_transactions = (isolation_level == 1).then(Vec::new);
        let records = match outcome {
            Ok(ReadOutcome::Data { bytes, .. }) => bytes,
            Ok(ReadOutcome::Empty | ReadOutcome::WouldBlock) => Bytes::new(),
            Err(ReadError::OutOfRange { .. }) => return self.error(ErrorCode::OffsetOutOfRange),
            Err(error) => {
                warn!("{}: a read at {} failed: {error}", shared.key, self.request.fetch_offset);
                return self.error(ErrorCode::KafkaStorageError);
            }
        };
        PartitionData { records: Some(records), aborted_transactions, ..self.empty(shared) }
    }
}

/// The response as it grows, partitions under the topics of the request.
struct Answer {
    response: FetchResponse,
    size_bytes: usize,
}

impl Answer {
    fn new(request: &FetchRequest) -> Self {
        let topic = |topic: &capek_wire::messages::fetch::FetchTopic| FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            ..Default::default()
        };
        let responses = request.topics.iter().map(topic).collect();
        Self { response: FetchResponse { responses, ..Default::default() }, size_bytes: 0 }
    }

    fn push(&mut self, topic_index: usize, data: PartitionData) {
        self.size_bytes += data.records.as_ref().map_or(0, Bytes::len);
        self.response.responses[topic_index].partitions.push(data);
    }
}
