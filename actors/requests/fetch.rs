//! Fetch (key 1, versions 4–18), with or without a session (KIP-227; see [`super::fetch_session`]).
//!
//! A fetch does not pass the Partition. It reads the log on its connection's thread, below the high watermark, and only what
//! the page cache holds; cold ranges go to the blocking pool. A fetch that finds too little waits on its partitions'
//! high watermarks.
//!
//! Consumers that know of racks (from version 11 on) may read from followers too, and a leader sends them to one in their own
//! rack when `replica.selector.class` says so (KIP-392).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use capek_log::{ReadError, ReadOutcome, ReadRequest};
use capek_state::cluster::nearest_follower;
use capek_state::config::RACK_AWARE_SELECTOR;
use capek_wire::codec::Reader;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;
use capek_wire::messages::fetch::{
    EpochEndOffset, FetchPartition, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use capek_wire::messages::{FetchRequest, FetchResponse};
use log::warn;

use super::fetch_session::{self, Answered, Asked, SessionUse, TopicName};
use super::leader_hints::{self, LeaderHints};
use super::{Call, Dispatch, RequestContext, Response};
use crate::budget::BudgetPermit;
use crate::routes::TopicRoute;
use crate::shared::PartitionShared;

/// However little of the budget is free, a fetch gets this much: one slow consumer must not starve the others.
const RESPONSE_BYTES_MIN: usize = 64 << 10;
/// One response takes at most this share of what is free.
const RESPONSE_SHARE: usize = 16;

/// Fetch from this version on says who leads instead (KIP-951), and names topics by id.
const HINTS_VERSION_MIN: i16 = 16;

/// From this version on consumers name their rack, and followers serve them.
const FOLLOWERS_VERSION_MIN: i16 = 11;

/// One partition that is asked for.
struct Wanted {
    asked: Asked,
    target: Result<Arc<PartitionShared>, ErrorCode>,
    /// A follower serves this consumer, too.
    may_follow: bool,
    /// The follower that the consumer shall read from instead.
    nearer: Option<BrokerId>,
}

struct Fetch {
    context: Rc<RequestContext>,
    request: FetchRequest,
    session: SessionUse,
    topics: Vec<TopicName>,
    wanted: Vec<Wanted>,
    bytes_max: usize,
    version: i16,
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
    let version = call.header.api_version;
    let session = match fetch_session::open(&call.context.broker.fetch_sessions, &request, version) {
        Ok(session) => session,
        Err(code) => {
            let response = FetchResponse { error_code: code.code(), ..Default::default() };
            return match call.encode(&response) {
                Ok(response) => Dispatch::Ready(response),
                Err(reason) => Dispatch::Close(reason),
            };
        }
    };
    let fetch = Fetch::new(call.context.clone(), request, session, version);
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

impl Fetch {
    fn new(context: Rc<RequestContext>, mut request: FetchRequest, session: SessionUse, version: i16) -> Self {
        // Replicas have a listener of their own: here nobody is one.
        let is_replica = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
        let (topics, asked) = fetch_session::asked(&mut request, &session);
        let may_follow = version >= FOLLOWERS_VERSION_MIN;
        let rack = rack_to_stay_in(&context, &request, may_follow);
        let mut wanted = Vec::with_capacity(asked.len());
        let mut route = None;
        for asked in asked {
            let (_, found) = match route.take().filter(|(topic, _)| *topic == asked.topic) {
                Some(known) => route.insert(known),
                None => route.insert((asked.topic, find_topic(&context, &topics[asked.topic], version))),
            };
            let found = found.as_ref().map_err(|code| *code).and_then(|topic| find(topic, &asked.request, may_follow));
            let target = if is_replica { found.and(Err(ErrorCode::NotLeaderOrFollower)) } else { found };
            let nearer = match (&target, &rack) {
                (Ok(shared), Some(rack)) => nearer(&context, shared, rack, asked.request.fetch_offset),
                _ => None,
            };
            wanted.push(Wanted { asked, target, may_follow, nearer });
        }
        let broker = &context.broker;
        let asked = usize::try_from(request.max_bytes).unwrap_or(0).min(broker.fetch_bytes_max);
        let budget = &broker.fetch_budget;
        let free = budget.size_bytes().saturating_sub(budget.used_bytes());
        let bytes_max = asked.min((free / RESPONSE_SHARE).max(RESPONSE_BYTES_MIN));
        Self { context, request, session, topics, wanted, bytes_max, version }
    }

    /// Whether to answer now: enough bytes, an error, nothing asked, or no wish to wait.
    fn readiness(&self) -> Readiness {
        if self.request.max_wait_ms <= 0 || self.wanted.is_empty() || self.context.is_draining.get() {
            return Readiness::Answer;
        }
        let is_due = self
            .wanted
            .iter()
            .any(|wanted| wanted.nearer.is_some() || wanted.position_error().is_some() || wanted.is_in_older_segment());
        let min_bytes = usize::try_from(self.request.min_bytes).unwrap_or(0).min(self.bytes_max);
        if is_due || self.available_bytes() >= min_bytes { Readiness::Answer } else { Readiness::Wait }
    }

    fn available_bytes(&self) -> usize {
        let mut available = 0;
        for wanted in &self.wanted {
            let Ok(shared) = &wanted.target else { continue };
            let bytes = shared.log.bytes_between(wanted.asked.request.fetch_offset, shared.high_watermark());
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
        let mut answer = Answer::with_capacity(self.wanted.len());
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
            answer.push(&wanted.asked, data);
        }
        Some(self.response(answer))
    }

    async fn read_all(&self) -> FetchResponse {
        let mut answer = Answer::with_capacity(self.wanted.len());
        for wanted in &self.wanted {
            let data = match wanted.prepare(self.remaining(&answer), answer.size_bytes == 0) {
                Err(data) => *data,
                Ok((shared, read)) => {
                    let outcome = shared.read(read).await;
                    wanted.partition_data(shared, outcome, self.request.isolation_level)
                }
            };
            answer.push(&wanted.asked, data);
        }
        self.response(answer)
    }

    fn remaining(&self, answer: &Answer<'_>) -> usize {
        self.bytes_max.saturating_sub(answer.size_bytes)
    }

    /// Neighbours of one topic stand together: in a session the order of service mixes the topics.
    fn response(&self, answer: Answer<'_>) -> FetchResponse {
        let broker = &self.context.broker;
        let Answer { mut answered, .. } = answer;
        let session_id = match self.session.close(&broker.fetch_sessions, &self.topics, &mut answered) {
            Ok(session_id) => session_id,
            Err(code) => return FetchResponse { error_code: code.code(), ..Default::default() },
        };
        let mut responses: Vec<FetchableTopicResponse> = Vec::new();
        let mut last_topic = None;
        for Answered { asked, data } in answered {
            broker.metrics.fetch_failed(data.error_code);
            if last_topic != Some(asked.topic) {
                last_topic = Some(asked.topic);
                let TopicName { name, id } = self.topics[asked.topic].clone();
                responses.push(FetchableTopicResponse { topic: name, topic_id: id, ..Default::default() });
            }
            if let Some(topic) = responses.last_mut() {
                topic.partitions.push(data);
            }
        }
        let mut response = FetchResponse { session_id, responses, ..Default::default() };
        if self.version >= HINTS_VERSION_MIN {
            self.name_leaders(&mut response);
        }
        response
    }

    fn name_leaders(&self, response: &mut FetchResponse) {
        let image = self.context.broker.image.load();
        let mut hints = LeaderHints::default();
        for topic in &mut response.responses {
            for partition in topic.partitions.iter_mut().filter(|partition| partition.error_code != 0) {
                let found = image.partition(topic.topic_id, partition.partition_index);
                let hint = hints.note(&image, &self.context.listener.name, partition.error_code, found);
                if let Some((leader_id, leader_epoch)) = hint {
                    partition.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
                }
            }
        }
        let endpoint = |endpoint: leader_hints::Endpoint| NodeEndpoint {
            node_id: endpoint.node_id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            ..Default::default()
        };
        response.node_endpoints = hints.into_endpoints().map(endpoint).collect();
    }
}

fn find_topic(context: &RequestContext, topic: &TopicName, version: i16) -> Result<Arc<TopicRoute>, ErrorCode> {
    let routes = &context.broker.routes;
    if fetch_session::uses_topic_ids(version) {
        routes.topic_by_id(topic.id).ok_or(ErrorCode::UnknownTopicId)
    } else {
        routes.topic(&topic.name).ok_or(ErrorCode::UnknownTopicOrPartition)
    }
}

/// The rack that followers are chosen in; None: everybody reads from leaders.
fn rack_to_stay_in(context: &RequestContext, request: &FetchRequest, may_follow: bool) -> Option<String> {
    let is_rack_aware = || {
        let selector = context.broker.config.properties.get("replica.selector.class");
        selector.is_some_and(|selector| selector.trim() == RACK_AWARE_SELECTOR)
    };
    (may_follow && !request.rack_id.is_empty() && is_rack_aware()).then(|| request.rack_id.to_string())
}

fn nearer(context: &RequestContext, shared: &PartitionShared, rack: &str, offset: i64) -> Option<BrokerId> {
    if !shared.is_leader() {
        return None; // it has come to where it was sent
    }
    let image = context.broker.image.load();
    let partition = image.partition(shared.key.topic_id, shared.key.partition)?;
    let followers = shared.followers.views(shared.leader_epoch());
    nearest_follower(&image, partition, rack, offset, &followers)
}

fn check_role(shared: &PartitionShared, may_follow: bool) -> Result<(), ErrorCode> {
    let may_answer = shared.is_leader() || (may_follow && shared.is_readable_follower());
    if may_answer { Ok(()) } else { Err(ErrorCode::NotLeaderOrFollower) }
}

fn find(route: &TopicRoute, partition: &FetchPartition, may_follow: bool) -> Result<Arc<PartitionShared>, ErrorCode> {
    let found = route.serving(partition.partition)?;
    check_role(&found.shared, may_follow)?;
    super::check_leader_epoch(partition.current_leader_epoch, found.leader_epoch)?;
    Ok(found.shared.clone())
}

impl Wanted {
    fn bytes_max(&self) -> usize {
        usize::try_from(self.asked.request.partition_max_bytes).unwrap_or(0)
    }

    /// A read ends with its segment, so there is nothing to wait for when a later one has begun.
    fn is_in_older_segment(&self) -> bool {
        let Ok(shared) = &self.target else { return false };
        shared.log.is_in_older_segment(self.asked.request.fetch_offset, shared.high_watermark())
    }

    /// What makes an answer due at once.
    fn position_error(&self) -> Option<ErrorCode> {
        let shared = match &self.target {
            Ok(shared) => shared,
            Err(code) => return Some(*code),
        };
        let offset = self.asked.request.fetch_offset;
        if shared.is_deleted() {
            return Some(ErrorCode::UnknownTopicOrPartition);
        }
        if shared.is_offline() {
            return Some(ErrorCode::KafkaStorageError);
        }
        if let Err(code) = check_role(shared, self.may_follow) {
            return Some(code);
        }
        if let Err(code) = super::check_leader_epoch(self.asked.request.current_leader_epoch, shared.leader_epoch()) {
            return Some(code);
        }
        if offset > shared.log.end_offset() && !shared.is_leader() {
            return Some(ErrorCode::OffsetNotAvailable); // the leader may have it: nobody shall start over because of this
        }
        if offset < shared.log_start() || offset > shared.log.end_offset() {
            return Some(ErrorCode::OffsetOutOfRange);
        }
        self.diverging_epoch(shared).transpose()?.err().or(Some(ErrorCode::None))
    }

    /// The log has a record at the fetch offset only if its history agrees with the reader's last epoch (KIP-595).
    fn diverging_epoch(&self, shared: &PartitionShared) -> Result<Option<EpochEndOffset>, ErrorCode> {
        let last_fetched = self.asked.request.last_fetched_epoch;
        if last_fetched < 0 {
            return Ok(None);
        }
        let end = shared.log.epoch_end_offset(last_fetched, shared.leader_epoch());
        let (epoch, end_offset) = end.map_err(|_| ErrorCode::KafkaStorageError)?;
        if epoch < 0 {
            return Err(ErrorCode::OffsetOutOfRange); // an epoch that is yet to come
        }
        let is_diverging = epoch < last_fetched || end_offset < self.asked.request.fetch_offset;
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
        if let Some(nearer) = self.nearer {
            return Err(Box::new(PartitionData { preferred_read_replica: nearer, ..self.empty(shared) }));
        }
        let read = ReadRequest {
            offset: self.asked.request.fetch_offset,
            max_bytes: self.bytes_max().min(remaining),
            end_offset: shared.high_watermark(),
            at_least_one: is_first,
            may_block: false,
        };
        Ok((shared, read))
    }

    fn error(&self, code: ErrorCode) -> PartitionData {
        if let Ok(shared) = &self.target {
            shared.traffic.fetch_failed();
        }
        // As Kafka has it: empty where the partition is unknown, null where it was looked at.
        let is_unknown = matches!(code, ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId);
        PartitionData {
            partition_index: self.asked.request.partition,
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
            partition_index: self.asked.request.partition,
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
                warn!("{}: a read at {} failed: {error}", shared.key, self.asked.request.fetch_offset);
                return self.error(ErrorCode::KafkaStorageError);
            }
        };
        shared.traffic.fetched(records.len());
        PartitionData { records: Some(records), aborted_transactions, ..self.empty(shared) }
    }
}

/// What was read so far.
struct Answer<'a> {
    answered: Vec<Answered<'a>>,
    size_bytes: usize,
}

impl<'a> Answer<'a> {
    fn with_capacity(partitions: usize) -> Self {
        Self { answered: Vec::with_capacity(partitions), size_bytes: 0 }
    }

    fn push(&mut self, asked: &'a Asked, data: PartitionData) {
        self.size_bytes += data.records.as_ref().map_or(0, Bytes::len);
        self.answered.push(Answered { asked, data });
    }
}
