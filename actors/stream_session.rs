//! StreamSession: one client that follows a topic: over a WebSocket, as Server-Sent Events or as lines of JSON.
//!
//! The actor owns the positions and the credit. It sends encoded frames through a channel of two to whoever writes the
//! socket: a client that does not read stops the channel, and with it all reading from the log. What a slow client holds is
//! two frames, not what it has missed.
//!
//! ```text
//!   credit, seek, pause ──▶ StreamSession ── data (2) ─────▶ body of the HTTP response ──▶ socket
//!                             │  ▲ high watermark moved        ▲
//!                             ▼  │                             │
//!                            log, one read at a time      control (16): heartbeat, replies, goodbye; never behind data
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use actix::{
    Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, MessageResult, SpawnHandle,
    WrapFuture,
};
use bytes::Bytes;
use capek_wire::batch::Record;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};
use log::debug;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::clock::now_ms;
use crate::local::LocalClient;
use crate::shared::PartitionShared;
use crate::stream_cursors::{Assignment, Cursors, GapReason, Look};
use crate::stream_records::{Allowance, OpenedBatches};
use crate::supervision::ExitSignal;

/// How many data frames may wait for the socket.
pub const DATA_FRAMES_MAX: usize = 2;
/// How many frames that no credit covers may wait.
pub const CONTROL_FRAMES_MAX: usize = 16;

/// What the session tells its client; the door's encoder makes a frame of it.
#[derive(Debug)]
pub enum StreamEvent {
    /// These are the positions now: at the begin, after a seek, when the topic has grown.
    Assigned(Vec<Assignment>),
    Records(StreamRecords),
    CaughtUp {
        partition: PartitionIndex,
        next: Offset,
    },
    /// Records between the two offsets will not come.
    Gap {
        partition: PartitionIndex,
        requested: Offset,
        resumed: Offset,
        reason: GapReason,
    },
    Heartbeat {
        now_ms: i64,
        lag: i64,
    },
    Problem {
        partition: PartitionIndex,
        code: ErrorCode,
        message: String,
    },
    Goodbye(Goodbye),
}

/// Records of one partition, in order.
#[derive(Debug)]
pub struct StreamRecords {
    /// Counts the frames of this session.
    pub sequence: u64,
    pub partition: PartitionIndex,
    pub records: Vec<Record>,
    pub next: Offset,
    pub high_watermark: Offset,
    /// What they cost in credit: keys, values and headers.
    pub size_bytes: u64,
}

/// Why a session ends, in the numbers of WebSocket's close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Goodbye {
    pub code: u16,
    pub reason: &'static str,
    /// None: coming back is of no use.
    pub reconnect_after_ms: Option<u64>,
}

/// What goes to the socket.
#[derive(Debug)]
pub enum Outgoing {
    Frame(Bytes),
    /// For clients that answer pings.
    Ping,
    Pong(Bytes),
    Close(Goodbye),
}

/// Makes a frame of an event; None when this kind of client is not told of it.
pub type Encoder = Box<dyn FnMut(&StreamEvent) -> Option<Bytes> + Send>;

/// What a client has not used up of what it allowed. `u64::MAX` is never used up: the socket alone holds such a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    pub records: u64,
    pub bytes: u64,
}

impl Credit {
    pub const UNLIMITED: Credit = Credit { records: u64::MAX, bytes: u64::MAX };
    /// What a client can have at most.
    const MAX: Credit = Credit { records: 1 << 20, bytes: 64 << 20 };

    pub fn is_used_up(self) -> bool {
        self.records == 0 || self.bytes == 0
    }

    fn spend(&mut self, records: u64, bytes: u64) {
        if *self != Credit::UNLIMITED {
            self.records = self.records.saturating_sub(records);
            self.bytes = self.bytes.saturating_sub(bytes);
        }
    }

    fn grant(&mut self, more: Credit) {
        if *self != Credit::UNLIMITED {
            self.records = self.records.saturating_add(more.records).min(Credit::MAX.records);
            self.bytes = self.bytes.saturating_add(more.bytes).min(Credit::MAX.bytes);
        }
    }

    /// Bounded as a grant is.
    pub fn limited(records: u64, bytes: u64) -> Credit {
        Credit { records: records.min(Credit::MAX.records), bytes: bytes.min(Credit::MAX.bytes) }
    }
}

/// Where a session begins.
pub struct StreamStart {
    pub client: LocalClient,
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    /// Partitions and the first offset of each.
    pub positions: Vec<(Arc<PartitionShared>, Offset)>,
    /// Follow partitions that are added later, from their beginning.
    pub follows_growth: bool,
    pub credit: Credit,
    pub frame_bytes: u64,
    pub heartbeat: Duration,
    pub data: Sender<Outgoing>,
    pub control: Sender<Outgoing>,
    pub encoder: Encoder,
}

/// Does what the client wants. Refused with a sentence.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
#[rtype(result = "Result<(), &'static str>")]
pub enum StreamCommand {
    Credit(Credit),
    Pause,
    Resume,
    Seek(Vec<(PartitionIndex, Offset)>),
    Unsubscribe,
}

/// Say goodbye and end.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct EndStream(pub Goodbye);

/// The pause after a read that should have brought something and did not.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long a client may leave its channel full before what was read for it is given up.
const KEEP_FOR: Duration = Duration::from_millis(200);
/// The pause after the disk has failed.
const OFFLINE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// See the head of this file.
pub struct StreamSession {
    client: LocalClient,
    topic: Arc<str>,
    topic_id: TopicId,
    cursors: Cursors<Arc<PartitionShared>>,
    follows_growth: bool,
    credit: Credit,
    frame_bytes: u64,
    is_paused: bool,
    /// What was read and not yet sent, and of which cursor. Dropped when the client cannot take more now: it can be read again.
    opened: Option<(usize, OpenedBatches)>,
    /// Events that keep their place among the records.
    pending: VecDeque<StreamEvent>,
    sequence: u64,
    heartbeat: Duration,
    data: Sender<Outgoing>,
    control: Sender<Outgoing>,
    encoder: Encoder,
    waiter: Arc<Notify>,
    /// The one thing that is waited for: room in the channel, a read, or more records.
    waiting: Option<SpawnHandle>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<u64>,
}

impl StreamSession {
    pub fn new(start: StreamStart, entry: Arc<ActorEntry>, exit: ExitSignal<u64>) -> Self {
        let mut cursors = Cursors::default();
        for (shared, offset) in start.positions {
            cursors.add(shared.key.partition, shared, offset);
        }
        Self {
            client: start.client,
            topic: start.topic,
            topic_id: start.topic_id,
            cursors,
            follows_growth: start.follows_growth,
            credit: start.credit,
            frame_bytes: start.frame_bytes.max(1),
            is_paused: false,
            opened: None,
            pending: VecDeque::new(),
            sequence: 0,
            heartbeat: start.heartbeat,
            data: start.data,
            control: start.control,
            encoder: start.encoder,
            waiter: Arc::new(Notify::new()),
            waiting: None,
            entry,
            _exit: exit,
        }
    }

    /// Sends what there is until the channel is full, credit is used up, or the log has no more.
    fn pump(&mut self, context: &mut Context<Self>) {
        while self.waiting.is_none() {
            let may_read = !self.is_paused && !self.credit.is_used_up();
            if !may_read {
                self.opened = None;
            }
            if self.pending.is_empty() && !may_read {
                return;
            }
            let permit = match self.data.clone().try_reserve_owned() {
                Ok(permit) => permit,
                Err(TrySendError::Full(data)) => return self.wait_for_room(data, context),
                Err(TrySendError::Closed(_)) => return context.stop(),
            };
            if let Some(event) = self.pending.pop_front() {
                if let Some(frame) = (self.encoder)(&event) {
                    permit.send(Outgoing::Frame(frame));
                }
            } else if let Some(event) = self.take_records() {
                if let Some(frame) = (self.encoder)(&event) {
                    permit.send(Outgoing::Frame(frame));
                }
            } else {
                self.look(context);
            }
        }
    }

    /// The next records of what was read.
    fn take_records(&mut self) -> Option<StreamEvent> {
        let (index, opened) = self.opened.as_mut()?;
        let index = *index;
        let allowance = Allowance { records: self.credit.records, bytes: self.credit.bytes.min(self.frame_bytes) };
        let taken = opened.take(allowance);
        let next = opened.next();
        if opened.is_empty() {
            self.opened = None;
        }
        self.cursors.advance(index, next);
        let cursor = self.cursors.get(index);
        if let Some(damaged) = taken.damaged {
            self.pending.push_back(StreamEvent::Problem {
                partition: cursor.partition,
                code: damaged.error_code(),
                message: format!("a batch before offset {next} cannot be read: {damaged}"),
            });
        }
        if taken.records.is_empty() {
            return None;
        }
        self.credit.spend(taken.records.len() as u64, taken.size_bytes);
        self.sequence += 1;
        Some(StreamEvent::Records(StreamRecords {
            sequence: self.sequence,
            partition: cursor.partition,
            records: taken.records,
            next,
            high_watermark: cursor.source.high_watermark(),
            size_bytes: taken.size_bytes,
        }))
    }

    fn look(&mut self, context: &mut Context<Self>) {
        if self.opened.is_some() || !self.pending.is_empty() {
            return;
        }
        // Armed before the look, so that nothing that happens in between is missed.
        let mut changed = Box::pin(self.waiter.clone().notified_owned());
        changed.as_mut().enable();
        match self.cursors.look() {
            Look::Readable { index } => self.read(index, context),
            Look::Gap { partition, requested, resumed, reason } => {
                self.pending.push_back(StreamEvent::Gap { partition, requested, resumed, reason });
            }
            Look::CaughtUp { partition, next } => self.pending.push_back(StreamEvent::CaughtUp { partition, next }),
            Look::Deleted => self.end(TOPIC_DELETED, context),
            Look::Nothing => self.wait_for(changed, context),
        }
    }

    fn read(&mut self, index: usize, context: &mut Context<Self>) {
        let cursor = self.cursors.get(index);
        let (client, shared, offset) = (self.client.clone(), cursor.source.clone(), cursor.next);
        let max_bytes = usize::try_from(self.frame_bytes).unwrap_or(usize::MAX);
        let read = async move { OpenedBatches::read(&client, &shared, offset, max_bytes).await };
        let done = read.into_actor(self).map(move |outcome, session, context| {
            session.waiting = None;
            match outcome {
                Ok(Some(opened)) => session.opened = Some((index, opened)),
                Ok(None) => session.wait_for(tokio::time::sleep(RETRY_AFTER), context),
                // The log start has moved: the next look sees it.
                Err(ErrorCode::OffsetOutOfRange) => session.wait_for(tokio::time::sleep(RETRY_AFTER), context),
                Err(ErrorCode::UnknownTopicOrPartition) => session.end(TOPIC_DELETED, context),
                Err(code) => session.read_failed(index, code, context),
            }
            session.pump(context);
        });
        self.waiting = Some(context.spawn(done));
    }

    fn read_failed(&mut self, index: usize, code: ErrorCode, context: &mut Context<Self>) {
        let partition = self.cursors.get(index).partition;
        let message = format!("partition {partition} cannot be read: {}", code.message());
        self.tell(&StreamEvent::Problem { partition, code, message });
        self.wait_for(tokio::time::sleep(OFFLINE_RETRY_AFTER), context);
    }

    /// Goes on when `future` is done.
    fn wait_for(&mut self, future: impl Future<Output = ()> + 'static, context: &mut Context<Self>) {
        let done = future.into_actor(self).map(|(), session, context| {
            session.waiting = None;
            session.pump(context);
        });
        self.waiting = Some(context.spawn(done));
    }

    /// A client that takes its frames keeps what was read for it: inflating a batch again for each frame is dear. One that
    /// does not for a while must not hold it.
    fn wait_for_room(&mut self, data: Sender<Outgoing>, context: &mut Context<Self>) {
        if self.opened.is_none() {
            return self.wait_for(async move { drop(data.reserve_owned().await) }, context);
        }
        let room = tokio::time::timeout(KEEP_FOR, data.reserve_owned());
        let done = room.into_actor(self).map(|room, session, context| {
            session.waiting = None;
            if room.is_err() {
                session.opened = None;
            }
            drop(room);
            session.pump(context);
        });
        self.waiting = Some(context.spawn(done));
    }

    fn stop_waiting(&mut self, context: &mut Context<Self>) {
        if let Some(waiting) = self.waiting.take() {
            context.cancel_future(waiting);
        }
    }

    /// Ahead of all data; lost when even this channel is full, as then the client reads nothing.
    fn tell(&mut self, event: &StreamEvent) {
        if let Some(frame) = (self.encoder)(event) {
            let _ = self.control.try_send(Outgoing::Frame(frame));
        }
    }

    fn end(&mut self, goodbye: Goodbye, context: &mut Context<Self>) {
        self.tell(&StreamEvent::Goodbye(goodbye));
        let _ = self.control.try_send(Outgoing::Close(goodbye));
        self.stop_waiting(context);
        context.stop();
    }

    fn assignments(&self, is_told: impl Fn(PartitionIndex) -> bool) -> Vec<Assignment> {
        let told = self.cursors.iter().filter(|cursor| is_told(cursor.partition));
        told.map(|cursor| Assignment {
            partition: cursor.partition,
            next: cursor.next,
            end: cursor.source.high_watermark(),
            leader_epoch: cursor.source.leader_epoch(),
        })
        .collect()
    }

    fn heartbeat_due(&mut self, context: &mut Context<Self>) {
        let lag = self.cursors.lag();
        self.tell(&StreamEvent::Heartbeat { now_ms: now_ms(), lag });
        let _ = self.control.try_send(Outgoing::Ping);
        if self.follows_growth {
            self.follow_growth(context);
        }
    }

    /// The topic may have got more partitions; a stream of all of them follows.
    fn follow_growth(&mut self, context: &mut Context<Self>) {
        let image = self.client.image();
        let Some(topic) = image.topic(self.topic_id) else { return };
        let new = (0..topic.partitions.len() as PartitionIndex).filter(|partition| !self.cursors.contains(*partition));
        let found: Vec<_> = new.filter_map(|partition| self.client.partition(&self.topic, partition).ok()).collect();
        if found.is_empty() {
            return;
        }
        let added: Vec<PartitionIndex> = found.iter().map(|shared| shared.key.partition).collect();
        for shared in found {
            self.client.watch(&shared, &self.waiter);
            let start = shared.log_start();
            self.cursors.add(shared.key.partition, shared, start);
        }
        let assigned = self.assignments(|partition| added.contains(&partition));
        self.pending.push_back(StreamEvent::Assigned(assigned));
        self.stop_waiting(context);
        self.pump(context);
    }

    fn seek(&mut self, places: &[(PartitionIndex, Offset)]) -> Result<(), &'static str> {
        if places.iter().any(|(partition, _)| !self.cursors.contains(*partition)) {
            return Err("this stream does not read that partition");
        }
        if places.iter().any(|(_, offset)| *offset < 0) {
            return Err("an offset is 0 or more");
        }
        for (partition, offset) in places {
            self.cursors.seek(*partition, *offset);
        }
        self.opened = None;
        let assigned = self.assignments(|partition| places.iter().any(|(sought, _)| *sought == partition));
        self.pending.push_back(StreamEvent::Assigned(assigned));
        Ok(())
    }
}

const TOPIC_DELETED: Goodbye = Goodbye { code: 4504, reason: "topic deleted", reconnect_after_ms: None };

impl Actor for StreamSession {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
        for cursor in self.cursors.iter() {
            self.client.watch(&cursor.source, &self.waiter);
        }
        let data = self.data.clone();
        let client_gone = async move { data.closed().await };
        context.spawn(client_gone.into_actor(self).map(|(), _, context| context.stop()));
        context.run_interval(self.heartbeat, |session, context| session.heartbeat_due(context));
        self.pending.push_back(StreamEvent::Assigned(self.assignments(|_| true)));
        self.pump(context);
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        debug!("{} ends after {} frames", self.entry.path, self.sequence);
    }
}

impl Handler<StreamCommand> for StreamSession {
    type Result = MessageResult<StreamCommand>;

    fn handle(&mut self, command: StreamCommand, context: &mut Self::Context) -> Self::Result {
        let outcome = match command {
            StreamCommand::Credit(more) => {
                self.credit.grant(more);
                Ok(())
            }
            StreamCommand::Pause => {
                self.is_paused = true;
                Ok(())
            }
            StreamCommand::Resume => {
                self.is_paused = false;
                Ok(())
            }
            StreamCommand::Seek(places) => {
                let outcome = self.seek(&places);
                if outcome.is_ok() {
                    self.stop_waiting(context);
                }
                outcome
            }
            StreamCommand::Unsubscribe => {
                self.stop_waiting(context);
                self.opened = None;
                self.pending.clear();
                self.cursors.clear();
                self.follows_growth = false;
                Ok(())
            }
        };
        self.pump(context);
        MessageResult(outcome)
    }
}

impl Handler<EndStream> for StreamSession {
    type Result = ();

    fn handle(&mut self, end: EndStream, context: &mut Self::Context) {
        self.end(end.0, context);
    }
}

impl Handler<Chaos> for StreamSession {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_is_used_up_by_whichever_comes_first() {
        let mut credit = Credit::limited(2, 100);
        credit.spend(1, 40);
        assert_eq!(credit, Credit { records: 1, bytes: 60 });
        credit.spend(0, 61);
        assert!(credit.is_used_up(), "one large record may take more than there is");
        credit.grant(Credit { records: 0, bytes: u64::MAX });
        assert_eq!(credit, Credit { records: 1, bytes: Credit::MAX.bytes });
    }

    #[test]
    fn unlimited_credit_stays() {
        let mut credit = Credit::UNLIMITED;
        credit.spend(1 << 40, 1 << 40);
        credit.grant(Credit { records: 1, bytes: 1 });
        assert_eq!(credit, Credit::UNLIMITED);
    }
}
