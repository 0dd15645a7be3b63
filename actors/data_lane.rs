//! The data lane of the peer listener: what this broker leads goes out to those who follow.
//!
//! One task for each connection. A session remembers where each follower stands, so that requests and answers name only what
//! has changed; partitions mark their slots in [`ReadySlots`] when they have news, and nobody looks at the others. Followers are
//! given what is written here, durable or not: both disks work at the same time.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_log::{ReadError, ReadOutcome, ReadRequest};
use capek_state::partition::FollowerVoice;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, LeaderEpoch};
use capek_wire::peer::replication::{
    DataOneWay, DataRequest, DataResponse, EpochEnd, FETCHES_MAX, FetchPartition, FetchPosition, FetchRequest,
    FetchResponse, FetchedPartition, Flushed, SessionSlot,
};
use capek_wire::peer::{Frame, FrameKind, Hello, decode_head, encode_head, frame};
use log::{debug, warn};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::Instant;

use crate::broker::BrokerShared;
use crate::clock::now_ms;
use crate::partition::FollowersMoved;
use crate::peer_metrics::PeerRefusal;
use crate::peer_transport::PeerStream;
use crate::replica_watch::{ReadySlots, ReplicaWatch};
use crate::routes::TopicRoute;
use crate::shared::PartitionShared;

/// News of nothing but a high watermark wait so long for records to travel with.
const HIGH_WATERMARK_WAIT: Duration = Duration::from_millis(5);
/// Kafka's `replica.fetch.max.bytes`: of one partition in one answer.
const PARTITION_BYTES_MAX: usize = 1 << 20;
/// A follower asks for no more at once.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Partitions in one session.
const SLOTS_MAX: usize = 1 << 20;
const READ_BYTES: usize = 64 << 10;

/// One partition that is followed over this connection.
struct SlotState {
    asked: FetchPartition,
    topic: Option<Arc<TopicRoute>>,
    shared: Option<Arc<PartitionShared>>,
    watch: Arc<ReplicaWatch>,
    /// What the follower was told last.
    high_watermark: i64,
    /// It has an answer that it has not dealt with: until it moves nothing new is said.
    is_answered: bool,
}

/// A fetch that waits for news.
struct Waiting {
    id: u64,
    bytes_max: usize,
    deadline: Instant,
}

struct Session {
    broker: Arc<BrokerShared>,
    from: BrokerId,
    /// See [`FollowerVoice`].
    connection: u64,
    broker_epoch: i64,
    slots: Vec<Option<SlotState>>,
    ready: Arc<ReadySlots>,
    /// To be looked at, in turn.
    backlog: VecDeque<SessionSlot>,
    /// They have a new high watermark and nothing else.
    lazy: BTreeSet<SessionSlot>,
    lazy_since: Option<Instant>,
    /// There are records for them, and they wait for the quota.
    throttled: BTreeSet<SessionSlot>,
}

/// An answer in the making.
#[derive(Default)]
struct Answer {
    partitions: Vec<FetchedPartition>,
    records: Vec<Bytes>,
    size_bytes: usize,
}

enum News {
    None,
    HighWatermark,
    /// There are records, and the quota says not yet.
    Throttled,
    Say(FetchedPartition),
    Read(FetchedPartition, ReadRequest),
}

/// Serves one connection until it ends, on an arbiter where records move: the one it was accepted on carries none.
pub async fn serve(stream: PeerStream, hello: Hello, connection: u64, broker: Arc<BrokerShared>) {
    let from = hello.from;
    let arbiters = &broker.data_arbiters;
    let arbiter = arbiters[from.unsigned_abs() as usize % arbiters.len()].clone();
    let moving = match stream.leave() {
        Ok(moving) => moving,
        Err(error) => return warn!("the data connection of broker {from} cannot be moved: {error}"),
    };
    arbiter.spawn(async move {
        match moving.arrive() {
            Ok(socket) => carry(socket, from, connection, broker).await,
            Err(error) => warn!("the data connection of broker {from} cannot be moved: {error}"),
        }
    });
}

async fn carry<S: AsyncRead + AsyncWrite + 'static>(
    stream: S,
    from: BrokerId,
    connection: u64,
    broker: Arc<BrokerShared>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let session = Session {
        broker,
        from,
        connection,
        broker_epoch: -1,
        slots: Vec::new(),
        ready: Arc::default(),
        backlog: VecDeque::new(),
        lazy: BTreeSet::new(),
        lazy_since: None,
        throttled: BTreeSet::new(),
    };
    let reason = session.run(reader, writer).await;
    debug!("the data connection of broker {from} has ended: {reason}");
}

impl Session {
    async fn run<S: AsyncRead + AsyncWrite>(mut self, mut reader: ReadHalf<S>, mut writer: WriteHalf<S>) -> String {
        let mut buffer = BytesMut::new();
        let mut waiting: VecDeque<Waiting> = VecDeque::new();
        let ready = self.ready.clone();
        loop {
            loop {
                match frame::take_frame(&mut buffer) {
                    Ok(Some(frame)) => match self.take(frame).await {
                        Ok(Some(_)) if waiting.len() >= FETCHES_MAX => return "more fetches than may wait".to_owned(),
                        Ok(Some(fetch)) => waiting.push_back(fetch),
                        Ok(None) => {}
                        Err(reason) => return reason,
                    },
                    Ok(None) => break,
                    Err(error) => {
                        self.broker.metrics.peers.refused(PeerRefusal::Malformed);
                        return error.to_string();
                    }
                }
            }
            if let Some(fetch) = waiting.front() {
                let is_due = waiting.len() > 1 || Instant::now() >= fetch.deadline;
                if let Some(answer) = self.collect(fetch.bytes_max, is_due).await {
                    let id = fetch.id;
                    waiting.pop_front();
                    if let Err(error) = send(&mut writer, id, answer).await {
                        return error.to_string();
                    }
                    continue;
                }
            }
            let wake_at = self.wake_at(waiting.front());
            buffer.reserve(READ_BYTES);
            tokio::select! {
                read = reader.read_buf(&mut buffer) => match read {
                    Ok(0) => return "the other end has closed it".to_owned(),
                    Ok(_) => {}
                    Err(error) => return error.to_string(),
                },
                () = ready.changed(), if !waiting.is_empty() => {}
                () = tokio::time::sleep_until(wake_at), if !waiting.is_empty() => {}
            }
        }
    }

    fn wake_at(&self, fetch: Option<&Waiting>) -> Instant {
        let deadline = fetch.map_or_else(Instant::now, |fetch| fetch.deadline);
        let wake_at = self.lazy_since.map_or(deadline, |since| deadline.min(since + HIGH_WATERMARK_WAIT));
        let pause = (!self.throttled.is_empty()).then(|| self.broker.replication_quota.pause().unwrap_or_default());
        pause.map_or(wake_at, |pause| wake_at.min(Instant::now() + pause))
    }

    /// Whether what this follower is given counts against the quota.
    fn is_throttled(&self, state: &SlotState, shared: &PartitionShared) -> bool {
        let (topic_id, partition) = (state.asked.topic_id, state.asked.partition);
        let is_in_sync = || {
            let image = self.broker.image.load();
            image.partition(topic_id, partition).is_some_and(|found| found.isr.contains(&self.from))
        };
        self.broker.replication_quota.is_for(&shared.config().leader_throttled, partition) && !is_in_sync()
    }

    /// A frame; `Some` when it is a fetch that wants an answer.
    async fn take(&mut self, frame: Frame) -> Result<Option<Waiting>, String> {
        match frame.kind {
            FrameKind::OneWay => {
                let DataOneWay::Flushed(reports) = decode_head(&frame.head).map_err(|error| error.to_string())?;
                self.flushed(&reports);
                Ok(None)
            }
            FrameKind::Request => {
                let DataRequest::Fetch(request) = decode_head(&frame.head).map_err(|error| error.to_string())?;
                let wait = Duration::from_millis(u64::from(request.max_wait_ms));
                let bytes_max = (request.max_bytes as usize).min(RESPONSE_BYTES_MAX);
                self.fetch(request).await?;
                Ok(Some(Waiting { id: frame.id, bytes_max, deadline: Instant::now() + wait }))
            }
            FrameKind::Response => Err("an answer to nothing".to_owned()),
        }
    }

    fn voice(&self, leader_epoch: LeaderEpoch) -> FollowerVoice {
        let Session { from: broker, broker_epoch, connection, .. } = *self;
        FollowerVoice { broker, broker_epoch, leader_epoch, connection }
    }

    fn flushed(&mut self, reports: &[Flushed]) {
        for report in reports {
            let Some(slot) = self.slots.get(report.slot as usize).and_then(Option::as_ref) else { continue };
            let Some(shared) = &slot.shared else { continue };
            if slot.asked.leader_epoch != report.leader_epoch || shared.leader_epoch() != report.leader_epoch {
                continue;
            }
            let board = &shared.followers;
            if board.flushed(self.voice(report.leader_epoch), report.end_offset) {
                poke(slot);
            }
        }
    }

    async fn fetch(&mut self, request: FetchRequest) -> Result<(), String> {
        if request.broker_epoch != self.broker_epoch && !self.slots.is_empty() {
            return Err("its broker has registered anew".to_owned());
        }
        self.broker_epoch = request.broker_epoch;
        for slot in request.forgotten {
            if let Some(gone) = self.slots.get_mut(slot as usize).and_then(Option::take)
                && let Some(shared) = &gone.shared
            {
                shared.unwatch(&gone.watch);
            }
        }
        let added: Vec<_> = request.added.iter().map(|added| added.slot).collect();
        for added in request.added {
            self.add(added)?;
        }
        self.open_logs(&added).await;
        added.into_iter().for_each(|slot| self.backlog.push_back(slot));
        for position in request.moved {
            self.moved(position)?;
        }
        Ok(())
    }

    fn add(&mut self, asked: FetchPartition) -> Result<(), String> {
        let index = asked.slot as usize;
        if index >= SLOTS_MAX {
            return Err(format!("slot {index} is beyond the most partitions of a session"));
        }
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        let topic = self.broker.routes.topic_by_id(asked.topic_id);
        let shared = topic.as_ref().and_then(|topic| topic.serving(asked.partition).ok());
        let shared = shared.map(|route| route.shared.clone());
        let watch = ReplicaWatch::new(&self.ready, asked.slot);
        if let Some(before) = self.slots[index].take()
            && let Some(shared) = &before.shared
        {
            shared.unwatch(&before.watch);
        }
        if let Some(shared) = &shared {
            shared.watch(watch.clone());
        }
        self.slots[index] = Some(SlotState { asked, topic, shared, watch, high_watermark: -1, is_answered: false });
        Ok(())
    }

    /// Logs that nobody has used yet are opened in the pool.
    async fn open_logs(&self, slots: &[SessionSlot]) {
        let shared_of = |slot: &SessionSlot| self.slots.get(*slot as usize)?.as_ref()?.shared.clone();
        let logs: Vec<_> = slots.iter().filter_map(shared_of).map(|shared| shared.log.clone()).collect();
        if !logs.is_empty() {
            // What cannot be read says so again when it is looked at.
            let open = move || logs.iter().for_each(|log| drop(log.latest_epoch()));
            let _ = tokio::task::spawn_blocking(open).await;
        }
    }

    fn moved(&mut self, position: FetchPosition) -> Result<(), String> {
        let slot = self.slots.get_mut(position.slot as usize).and_then(Option::as_mut);
        let slot = slot.ok_or_else(|| format!("slot {} is not known", position.slot))?;
        slot.asked.position = position;
        slot.is_answered = false;
        self.backlog.push_back(position.slot);
        Ok(())
    }

    /// The answer to a fetch, or None while there is nothing worth one. Due: whatever there is.
    async fn collect(&mut self, bytes_max: usize, is_due: bool) -> Option<Answer> {
        self.backlog.extend(self.ready.take());
        if !self.throttled.is_empty() && self.broker.replication_quota.pause().is_none() {
            self.backlog.extend(std::mem::take(&mut self.throttled));
        }
        let mut answer = Answer::default();
        while answer.size_bytes < bytes_max
            && let Some(slot) = self.backlog.pop_front()
        {
            match self.look(slot) {
                News::None => {}
                News::HighWatermark => {
                    self.lazy.insert(slot);
                    self.lazy_since.get_or_insert_with(Instant::now);
                }
                News::Throttled => {
                    self.throttled.insert(slot);
                }
                News::Say(said) => self.say(slot, said, Bytes::new(), &mut answer),
                News::Read(said, read) => {
                    let room = (bytes_max - answer.size_bytes).min(read.max_bytes);
                    let read = ReadRequest { max_bytes: room, at_least_one: true, ..read };
                    self.read(slot, said, read, &mut answer).await;
                }
            }
        }
        let is_lazy_due = self.lazy_since.is_some_and(|since| since.elapsed() >= HIGH_WATERMARK_WAIT);
        if answer.partitions.is_empty() && !is_due && !is_lazy_due {
            return None;
        }
        self.lazy_since = None;
        for slot in std::mem::take(&mut self.lazy) {
            // Its records may have been said meanwhile, and the high watermark with them.
            if let Some(said) = self.high_watermark_news(slot) {
                self.say(slot, said, Bytes::new(), &mut answer);
            }
        }
        Some(answer)
    }

    fn high_watermark_news(&self, slot: SessionSlot) -> Option<FetchedPartition> {
        let state = self.slots.get(slot as usize)?.as_ref()?;
        let shared = state.shared.as_ref()?;
        let is_news = !state.is_answered && shared.high_watermark() != state.high_watermark;
        (is_news && shared.is_leader() && shared.leader_epoch() == state.asked.leader_epoch)
            .then(|| said(state, shared))
    }

    /// What there is to say of a slot.
    fn look(&self, slot: SessionSlot) -> News {
        let Some(state) = self.slots.get(slot as usize).and_then(Option::as_ref) else { return News::None };
        state.watch.look();
        if state.is_answered {
            return News::None;
        }
        let Some(shared) = &state.shared else {
            return News::Say(error(state, ErrorCode::NotLeaderOrFollower));
        };
        if let Some(code) = epoch_error(state, shared) {
            self.broker.metrics.peers.fetch_errors.add(code);
            return News::Say(error(state, code));
        }
        let written_end = shared.written_end();
        let FetchPosition { fetch_offset, last_fetched_epoch, .. } = state.asked.position;
        if fetch_offset < shared.log_start() {
            return News::Say(FetchedPartition { error: ErrorCode::OffsetOutOfRange, ..said(state, shared) });
        }
        match diverging(shared, fetch_offset, last_fetched_epoch, written_end) {
            Ok(None) => {}
            Ok(Some(end)) => return News::Say(FetchedPartition { diverging: Some(end), ..said(state, shared) }),
            Err(error_of_log) => {
                warn!("{}: its epochs cannot be read: {error_of_log}", shared.key);
                return News::Say(error(state, ErrorCode::KafkaStorageError));
            }
        }
        if fetch_offset > written_end {
            return News::Say(FetchedPartition { error: ErrorCode::OffsetOutOfRange, ..said(state, shared) });
        }
        let board = &shared.followers;
        let is_first = state.high_watermark < 0;
        if board.fetched(self.voice(state.asked.leader_epoch), fetch_offset, now_ms()) {
            poke(state);
        }
        if fetch_offset < written_end {
            let mut max_bytes = PARTITION_BYTES_MAX;
            if self.is_throttled(state, shared) {
                if self.broker.replication_quota.pause().is_some() {
                    return News::Throttled;
                }
                max_bytes = max_bytes.min(self.broker.replication_quota.burst_bytes());
            }
            let read = ReadRequest {
                offset: fetch_offset,
                max_bytes,
                end_offset: written_end,
                at_least_one: true,
                may_block: false,
            };
            return News::Read(said(state, shared), read);
        }
        match shared.high_watermark() != state.high_watermark {
            true if is_first => News::Say(said(state, shared)),
            true => News::HighWatermark,
            false => News::None,
        }
    }

    async fn read(&mut self, slot: SessionSlot, said: FetchedPartition, read: ReadRequest, answer: &mut Answer) {
        let shared = self.slots.get(slot as usize).and_then(Option::as_ref).and_then(|state| state.shared.clone());
        let Some(shared) = shared else { return };
        match shared.read(read).await {
            Ok(ReadOutcome::Data { bytes, .. }) => {
                let state = self.slots.get(slot as usize).and_then(Option::as_ref);
                if state.is_some_and(|state| self.is_throttled(state, &shared)) {
                    self.broker.replication_quota.take(bytes.len());
                }
                self.say(slot, said, bytes, answer);
            }
            Ok(ReadOutcome::Empty | ReadOutcome::WouldBlock) => {}
            Err(ReadError::OutOfRange { .. }) => {
                let said = FetchedPartition { error: ErrorCode::OffsetOutOfRange, ..said };
                self.say(slot, said, Bytes::new(), answer);
            }
            Err(error) => {
                warn!("{}: a follower cannot be given its records: {error}", shared.key);
                let said = FetchedPartition { error: ErrorCode::KafkaStorageError, ..said };
                self.say(slot, said, Bytes::new(), answer);
            }
        }
    }

    fn say(&mut self, slot: SessionSlot, said: FetchedPartition, records: Bytes, answer: &mut Answer) {
        let Some(state) = self.slots.get_mut(slot as usize).and_then(Option::as_mut) else { return };
        // Whoever is told that its log does not agree asks again when it has cut it, and must hear then that it does: only so
        // does it report what it has on its disk.
        let agrees = said.error == ErrorCode::None && said.diverging.is_none();
        state.high_watermark = if agrees { said.high_watermark } else { -1 };
        state.is_answered = true;
        answer.size_bytes += records.len();
        answer.partitions.push(FetchedPartition { records_bytes: records.len() as u32, ..said });
        answer.records.push(records);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        for slot in self.slots.iter().flatten() {
            if let Some(shared) = &slot.shared {
                shared.unwatch(&slot.watch);
            }
        }
    }
}

fn said(state: &SlotState, shared: &PartitionShared) -> FetchedPartition {
    FetchedPartition {
        slot: state.asked.slot,
        leader_epoch: state.asked.leader_epoch,
        error: ErrorCode::None,
        high_watermark: shared.high_watermark(),
        log_start: shared.log_start(),
        diverging: None,
        fetch_offset: state.asked.position.fetch_offset,
        records_bytes: 0,
    }
}

fn error(state: &SlotState, code: ErrorCode) -> FetchedPartition {
    FetchedPartition {
        slot: state.asked.slot,
        leader_epoch: state.asked.leader_epoch,
        error: code,
        high_watermark: -1,
        log_start: -1,
        fetch_offset: state.asked.position.fetch_offset,
        ..Default::default()
    }
}

fn epoch_error(state: &SlotState, shared: &PartitionShared) -> Option<ErrorCode> {
    let (asked, ours) = (state.asked.leader_epoch, shared.leader_epoch());
    if shared.is_deleted() {
        Some(ErrorCode::UnknownTopicOrPartition)
    } else if shared.is_offline() {
        Some(ErrorCode::KafkaStorageError)
    } else if asked < ours {
        Some(ErrorCode::FencedLeaderEpoch)
    } else if asked > ours {
        Some(ErrorCode::UnknownLeaderEpoch)
    } else {
        (!shared.is_leader()).then_some(ErrorCode::NotLeaderOrFollower)
    }
}

/// Where the follower's history leaves the leader's, if it does (KIP-595).
fn diverging(
    shared: &PartitionShared,
    fetch_offset: i64,
    last_fetched_epoch: i32,
    written_end: i64,
) -> std::io::Result<Option<EpochEnd>> {
    if last_fetched_epoch < 0 {
        return Ok(None);
    }
    let (epoch, end_offset) = shared.log.replica_epoch_end(last_fetched_epoch, written_end)?;
    let is_diverging = epoch < last_fetched_epoch || end_offset < fetch_offset;
    Ok(is_diverging.then_some(EpochEnd { epoch, end_offset }))
}

/// The leader shall look at its board.
fn poke(slot: &SlotState) {
    let route = slot.topic.as_ref().and_then(|topic| topic.serving(slot.asked.partition).ok());
    if let Some(leader) = route.and_then(|route| route.leader.clone()) {
        leader.do_send(FollowersMoved); // one at a time: the board says when another is wanted
    }
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, id: u64, answer: Answer) -> std::io::Result<()> {
    let response = FetchResponse { error: ErrorCode::None, partitions: answer.partitions };
    let head = encode_head(&DataResponse::Fetch(response));
    writer.write_all(&frame::encode_before_body(FrameKind::Response, id, &head, answer.size_bytes)).await?;
    for records in answer.records.iter().filter(|records| !records.is_empty()) {
        writer.write_all(records).await?;
    }
    writer.flush().await
}
