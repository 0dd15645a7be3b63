//! StreamSession: one client that follows topics: over a WebSocket, as Server-Sent Events or as lines of JSON.
//!
//! The actor owns the positions and the credit of all its subscriptions. It sends encoded frames through a channel of two to whoever writes the
//! socket: a client that does not read stops the channel, and with it all reading from the log. What a slow client holds is
//! two frames, not what it has missed.
//!
//! ```text
//!   credit, seek, ack ──▶ StreamSession ── data (2) ─────▶ body of the HTTP response ──▶ socket
//!                             │  ▲ high watermark moved        ▲
//!                             ▼  │                             │
//!                log, one read at a time for each      control (16): replies and pings; never behind data
//!                subscription
//! ```
//!
//! Subscriptions take turns (`stream_subscription.rs`); those that are members of groups have their heartbeats and commits in
//! `stream_membership.rs`. What clients ask for is in `stream_commands.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use bytes::Bytes;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use log::debug;
use tokio::sync::Notify;
use tokio::sync::mpsc::Sender;
use tokio::time::Instant;

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::clock::now_ms;
use crate::local::LocalClient;
use crate::local_requests::Caller;
use crate::stream_batches::StoredBatches;
use crate::stream_events::{Encoder, GOODBYE_FRAMES, Goodbye, Outgoing, RevokeReason, StreamEvent, StreamPlace};
use crate::stream_places::Source;
use crate::stream_records::OpenedBatches;
use crate::stream_subscription::{ReadAhead, Step, Subscription, SubscriptionStart};
use crate::supervision::ExitSignal;

/// How many subscriptions one client may have.
pub const SUBSCRIPTIONS_MAX: usize = 64;

/// Where a session begins.
pub struct StreamStart {
    pub client: LocalClient,
    pub caller: Caller,
    pub subscriptions: Vec<SubscriptionStart>,
    /// With its last subscription the session ends too.
    pub ends_with_subscription: bool,
    pub heartbeat: Duration,
    /// Then the session ends, and its client comes back.
    pub rotate_after: Option<Duration>,
    /// What it says of itself: heartbeats and the goodbye.
    pub encoder: Encoder,
    pub data: Sender<Outgoing>,
    pub control: Sender<Outgoing>,
}

/// Say goodbye and end.
#[derive(Message, Debug, Clone, Copy)]
#[rtype(result = "()")]
pub struct EndStream(pub Goodbye);

/// Others had their turn.
#[derive(Message)]
#[rtype(result = "()")]
struct PumpAgain;

/// The pause after a read that should have brought something and did not.
const RETRY_AFTER: Duration = Duration::from_millis(20);
/// How long a client may leave its channel full before what was read for it is given up.
const KEEP_FOR: Duration = Duration::from_millis(200);
/// The pause after the disk has failed.
const OFFLINE_RETRY_AFTER: Duration = Duration::from_secs(1);
/// After so many steps others on this arbiter have their turn: a filter may pass over much.
const STEPS_MAX: usize = 64;

/// See the head of this file.
pub struct StreamSession {
    pub(crate) client: LocalClient,
    pub(crate) caller: Caller,
    pub(crate) subscriptions: BTreeMap<u64, Subscription>,
    /// The subscription that is asked first.
    turn: u64,
    ends_with_subscription: bool,
    /// Counts the frames of records.
    sequence: u64,
    /// The frame behind which a ping was sent that has no answer yet.
    receipt_asked: Option<u64>,
    receipt_heard: u64,
    heartbeat: Duration,
    rotate_after: Option<Duration>,
    encoder: Encoder,
    data: Sender<Outgoing>,
    pub(crate) control: Sender<Outgoing>,
    pub(crate) waiter: Arc<Notify>,
    /// Wakes this session when a partition has news.
    watching: Option<SpawnHandle>,
    /// What is gathered is due then; `began` is the zero of that time.
    gathering: Option<(u64, SpawnHandle)>,
    began: Instant,
    /// The wait for room in the channel.
    room: Option<SpawnHandle>,
    is_again_due: bool,
    pub(crate) entry: Arc<ActorEntry>,
    _exit: ExitSignal<u64>,
}

enum Stepped {
    Sent,
    Nothing,
    Ended,
}

impl StreamSession {
    pub fn new(start: StreamStart, entry: Arc<ActorEntry>, exit: ExitSignal<u64>) -> Self {
        let subscriptions = start.subscriptions.into_iter().map(|start| (start.id, Subscription::new(start)));
        Self {
            client: start.client,
            caller: start.caller,
            subscriptions: subscriptions.collect(),
            turn: 0,
            ends_with_subscription: start.ends_with_subscription,
            sequence: 0,
            receipt_asked: None,
            receipt_heard: 0,
            heartbeat: start.heartbeat,
            rotate_after: start.rotate_after,
            encoder: start.encoder,
            data: start.data,
            control: start.control,
            waiter: Arc::new(Notify::new()),
            watching: None,
            gathering: None,
            began: Instant::now(),
            room: None,
            is_again_due: false,
            entry,
            _exit: exit,
        }
    }

    /// Sends what there is until the channel is full, credit is used up, or the logs have no more.
    pub(crate) fn pump(&mut self, context: &mut Context<Self>) {
        if self.room.is_some() || self.is_again_due {
            return;
        }
        self.watch_for_changes(context);
        for _ in 0..STEPS_MAX {
            if self.data.is_closed() {
                return context.stop();
            }
            if self.data.capacity() <= GOODBYE_FRAMES {
                return self.wait_for_room(context);
            }
            match self.step(context) {
                Stepped::Sent => {}
                Stepped::Nothing => return self.ask_for_receipt(),
                Stepped::Ended => return,
            }
        }
        self.is_again_due = true;
        context.notify(PumpAgain);
    }

    /// The next thing that a subscription has, beginning with the one whose turn it is.
    fn step(&mut self, context: &mut Context<Self>) -> Stepped {
        let after = self.subscriptions.range(self.turn..).map(|(id, _)| *id);
        let before = self.subscriptions.range(..self.turn).map(|(id, _)| *id);
        let order: Vec<u64> = after.chain(before).collect();
        let now_ms = self.now_ms();
        for id in order {
            let Some(subscription) = self.subscriptions.get_mut(&id) else { continue };
            match subscription.step(&mut self.sequence, now_ms) {
                Step::Idle => continue,
                Step::Later { until_ms } => {
                    self.pump_at(until_ms, context);
                    continue;
                }
                Step::Read { index, source, offset } => {
                    self.read(id, index, source, offset, context);
                    continue;
                }
                Step::Send(event) => {
                    if let Some(frame) = (subscription.encoder)(&event) {
                        self.send_data(frame);
                    }
                }
                Step::Passed => {}
                Step::Deleted(place) => self.topic_deleted(id, &place, context),
                Step::Finished => self.finished(id, context),
            }
            self.turn = id + 1;
            return if context.state().alive() { Stepped::Sent } else { Stepped::Ended };
        }
        Stepped::Nothing
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Looks again then, or earlier.
    fn pump_at(&mut self, due_ms: u64, context: &mut Context<Self>) {
        match self.gathering {
            Some((before_ms, _)) if before_ms <= due_ms => return,
            Some((_, later)) => drop(context.cancel_future(later)),
            None => {}
        }
        let after = Duration::from_millis(due_ms.saturating_sub(self.now_ms()));
        let due = context.run_later(after, |session, context| {
            session.gathering = None;
            session.pump(context);
        });
        self.gathering = Some((due_ms, due));
    }

    pub(crate) fn send_data(&self, frame: Outgoing) {
        // There is room: this session alone sends there, and has looked.
        let _ = self.data.try_send(frame);
    }

    fn read(&mut self, id: u64, index: usize, source: Source, offset: Offset, context: &mut Context<Self>) {
        let Some(subscription) = self.subscriptions.get(&id) else { return };
        let max_bytes = usize::try_from(subscription.frame.bytes).unwrap_or(usize::MAX);
        let client = self.client.clone();
        let is_raw = subscription.is_raw;
        let read = async move {
            if is_raw {
                let stored = StoredBatches::read(&client, &source, offset, max_bytes).await?;
                return Ok(stored.map(ReadAhead::Stored));
            }
            let opened = OpenedBatches::read(&client, &source, offset, max_bytes).await?;
            Ok(opened.map(ReadAhead::Opened))
        };
        let done = read.into_actor(self).map(move |outcome, session, context| {
            let Some(subscription) = session.subscriptions.get_mut(&id) else { return };
            subscription.reading = None;
            match outcome {
                Ok(opened) => {
                    if !subscription.has_read(index, opened) {
                        session.read_again_after(id, RETRY_AFTER, context);
                    }
                }
                // The log start has moved: the next look sees it. The topic may be gone: that is seen there, too.
                Err(ErrorCode::OffsetOutOfRange | ErrorCode::UnknownTopicOrPartition) => {
                    subscription.drop_read();
                    session.read_again_after(id, RETRY_AFTER, context);
                }
                Err(code) => session.read_failed(id, index, code, context),
            }
            session.pump(context);
        });
        let reading = context.spawn(done);
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.reading = Some(reading);
        }
    }

    fn read_failed(&mut self, id: u64, index: usize, code: ErrorCode, context: &mut Context<Self>) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let place = subscription.place(index);
        let message = format!("partition {} of {} cannot be read: {}", place.partition, place.topic, code.message());
        subscription.tell(StreamEvent::Problem { place: Some(place), code, message });
        self.read_again_after(id, OFFLINE_RETRY_AFTER, context);
    }

    fn read_again_after(&mut self, id: u64, after: Duration, context: &mut Context<Self>) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        subscription.reading = Some(context.run_later(after, move |session, context| {
            if let Some(subscription) = session.subscriptions.get_mut(&id) {
                subscription.reading = None;
            }
            session.pump(context);
        }));
    }

    /// Its places have changed: what is being read may not be wanted any more.
    pub(crate) fn stop_reading(&mut self, id: u64, context: &mut Context<Self>) {
        let subscription = self.subscriptions.get_mut(&id);
        if let Some(reading) = subscription.and_then(|subscription| subscription.reading.take()) {
            context.cancel_future(reading);
        }
    }

    /// Armed before the logs are looked at, so that nothing that happens in between is missed.
    fn watch_for_changes(&mut self, context: &mut Context<Self>) {
        if self.watching.is_some() {
            return;
        }
        let mut changed = Box::pin(self.waiter.clone().notified_owned());
        changed.as_mut().enable();
        let done = changed.into_actor(self).map(|(), session, context| {
            session.watching = None;
            session.pump(context);
        });
        self.watching = Some(context.spawn(done));
    }

    /// A client that takes its frames keeps what was read for it: inflating a batch again for each frame is dear. One that
    /// does not for a while must not hold it.
    fn wait_for_room(&mut self, context: &mut Context<Self>) {
        let is_holding = self.subscriptions.values().any(Subscription::holds_read);
        let data = self.data.clone();
        let room = async move {
            let reserved = data.reserve_many(GOODBYE_FRAMES + 1);
            if is_holding { tokio::time::timeout(KEEP_FOR, reserved).await.is_ok() } else { reserved.await.is_ok() }
        };
        let done = room.into_actor(self).map(|has_room, session, context| {
            session.room = None;
            if !has_room {
                session.subscriptions.values_mut().for_each(Subscription::drop_read);
            }
            session.pump(context);
        });
        self.room = Some(context.spawn(done));
    }

    /// A ping behind the records: whoever answers it has received them.
    fn ask_for_receipt(&mut self) {
        let is_wanted = self
            .subscriptions
            .values()
            .any(|subscription| subscription.group.as_ref().is_some_and(crate::stream_group::GroupSide::is_received));
        if is_wanted && self.receipt_asked.is_none() && self.sequence > self.receipt_heard {
            self.receipt_asked = Some(self.sequence);
            self.send_data(Outgoing::Ping(Bytes::copy_from_slice(&self.sequence.to_be_bytes())));
        }
    }

    /// A pong has come: everything that was sent before its ping has arrived.
    pub(crate) fn receipt(&mut self, payload: &[u8], context: &mut Context<Self>) {
        let Some(sequence) = payload.first_chunk().filter(|_| payload.len() == 8).copied().map(u64::from_be_bytes)
        else {
            return; // the answer to a ping that asks only whether somebody is there
        };
        if self.receipt_asked.is_none_or(|asked| sequence != asked) {
            return; // made up
        }
        self.receipt_asked = None;
        self.receipt_heard = sequence;
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        for id in ids {
            let group = self.subscriptions.get_mut(&id).and_then(|subscription| subscription.group.as_mut());
            if let Some(group) = group.filter(|group| group.is_received()) {
                group.received(sequence);
                self.commit(id, context);
            }
        }
        self.pump(context);
    }

    /// Ahead of all data; lost when even this channel is full, as then the client reads nothing.
    pub(crate) fn tell(&self, frame: Outgoing) {
        let _ = self.control.try_send(frame);
    }

    /// Behind what was sent already, so that the positions are those that the client has reached.
    pub(crate) fn end(&mut self, goodbye: Goodbye, context: &mut Context<Self>) {
        let positions = self.positions();
        if let Some(frame) = (self.encoder)(&StreamEvent::Goodbye { goodbye, positions }) {
            self.send_data(frame);
        }
        self.send_data(Outgoing::Close(goodbye));
        context.stop();
    }

    fn positions(&self) -> Vec<(u64, Vec<crate::stream_events::Position>)> {
        let all = self.subscriptions.iter().map(|(id, subscription)| (*id, subscription.positions()));
        all.filter(|(_, positions)| !positions.is_empty()).collect()
    }

    fn topic_deleted(&mut self, id: u64, place: &StreamPlace, context: &mut Context<Self>) {
        self.stop_reading(id, context);
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        let partitions = subscription.forget_topic(&place.topic);
        if subscription.group.is_some() {
            return; // its group takes them away, and that is told
        }
        let is_empty = !subscription.has_cursors();
        if is_empty && self.ends_with_subscription {
            return self.end(Goodbye::TOPIC_DELETED, context);
        }
        let event = StreamEvent::Revoked { partitions, deadline: Duration::ZERO, reason: RevokeReason::TopicDeleted };
        if let Some(frame) = (subscription.encoder)(&event) {
            self.send_data(frame);
        }
        if is_empty {
            self.unsubscribe(id, context);
        }
    }

    fn finished(&mut self, id: u64, context: &mut Context<Self>) {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return };
        if let Some(frame) = (subscription.encoder)(&StreamEvent::End) {
            self.send_data(frame);
        }
        self.unsubscribe(id, context);
        if self.ends_with_subscription {
            self.end(Goodbye::DONE, context);
        }
    }

    /// Nothing more is read for it, and its member leaves.
    pub(crate) fn unsubscribe(&mut self, id: u64, context: &mut Context<Self>) {
        self.stop_reading(id, context);
        self.leave_group(id, context);
        self.subscriptions.remove(&id);
    }

    fn heartbeat_due(&mut self, context: &mut Context<Self>) {
        let has_room = self.data.capacity() > GOODBYE_FRAMES;
        let lag = self.subscriptions.iter().map(|(id, subscription)| (*id, subscription.lag())).collect();
        // Only behind the records can it be said what has been sent.
        let positions = if has_room { self.positions() } else { Vec::new() };
        let event = StreamEvent::Heartbeat { now_ms: now_ms(), lag, positions };
        match (self.encoder)(&event) {
            Some(frame) if has_room => self.send_data(frame),
            Some(frame) => self.tell(frame),
            None => {}
        }
        self.tell(Outgoing::Ping(Bytes::new()));
        for subscription in self.subscriptions.values_mut() {
            subscription.grow(&self.client, &self.waiter);
        }
        self.check_members(context);
        self.pump(context);
    }
}

impl Actor for StreamSession {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
        for subscription in self.subscriptions.values() {
            subscription.watch(&self.client, &self.waiter);
        }
        let data = self.data.clone();
        let client_gone = async move { data.closed().await };
        context.spawn(client_gone.into_actor(self).map(|(), _, context| context.stop()));
        context.run_interval(self.heartbeat, |session, context| session.heartbeat_due(context));
        if let Some(after) = self.rotate_after {
            context.run_later(after, |session, context| session.end(Goodbye::ROTATED, context));
        }
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.beat(id, context));
        self.pump(context);
    }

    fn stopped(&mut self, context: &mut Self::Context) {
        debug!("{} ends after {} frames", self.entry.path, self.sequence);
        let ids: Vec<u64> = self.subscriptions.keys().copied().collect();
        ids.into_iter().for_each(|id| self.leave_group(id, context));
    }
}

impl Handler<PumpAgain> for StreamSession {
    type Result = ();

    fn handle(&mut self, _: PumpAgain, context: &mut Self::Context) {
        self.is_again_due = false;
        self.pump(context);
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
