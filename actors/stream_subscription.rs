//! One subscription of a stream: where it stands, what its client has allowed, and what it sends next. Its session reads for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use actix::SpawnHandle;
use capek_state::stream::Credit;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};
use tokio::sync::Notify;

use crate::local::LocalClient;
use crate::stream_batches::StoredBatches;
use crate::stream_cursors::{Cursor, Cursors, Look};
use crate::stream_events::{Assignment, Encoder, Filter, Position, StreamEvent, StreamPlace};
use crate::stream_group::{GroupSide, GroupStart};
use crate::stream_places::{self, Source};
use crate::stream_records::OpenedBatches;
use crate::stream_taking::Sweep;

/// How many events may wait that keep their place among the records; a client that asks for more of them is refused.
const PENDING_EVENTS_MAX: usize = 64;

/// How much of a partition comes in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameLimits {
    pub records: u64,
    pub bytes: u64,
}

/// What a client subscribes to.
pub struct SubscriptionStart {
    /// Chosen by whoever opens it; a session has each once.
    pub id: u64,
    pub cursors: Vec<Cursor<Source>>,
    /// What the client shall hear first: gaps between where it was and where it goes on.
    pub gaps: Vec<StreamEvent>,
    /// Topics whose later partitions are read too, from their beginning.
    pub grows: Vec<(Arc<str>, TopicId)>,
    pub credit: Credit,
    /// How often the credit of subscriptions was used up.
    pub credit_stalls: Arc<AtomicU64>,
    pub frame: FrameLimits,
    /// How long a record waits for others that go with it.
    pub linger_ms: u64,
    /// Of each key only the newest record that came meanwhile.
    pub conflates: bool,
    pub filter: Option<Filter>,
    /// Each frame of records says where all partitions stand.
    pub tells_positions: bool,
    /// Batches are sent as they are stored.
    pub is_raw: bool,
    /// A member of a group has its partitions from there.
    pub group: Option<GroupStart>,
    pub encoder: Encoder,
}

/// What was read for a subscription.
pub enum ReadAhead {
    Opened(OpenedBatches),
    Stored(StoredBatches),
}

/// What a subscription wants next.
pub enum Step {
    Send(StreamEvent),
    /// A read of this one from there on.
    Read {
        index: usize,
        source: Source,
        offset: Offset,
    },
    /// Nothing before this time.
    Later {
        until_ms: u64,
    },
    /// Something was passed over that is not for this client.
    Passed,
    Deleted(StreamPlace),
    Finished,
    /// Nothing, until something changes.
    Idle,
}

/// See the head of this file.
pub struct Subscription {
    pub(crate) cursors: Cursors<Source>,
    grows: Vec<(Arc<str>, TopicId)>,
    pub(crate) credit: Credit,
    credit_stalls: Arc<AtomicU64>,
    pub frame: FrameLimits,
    pub(crate) linger_ms: u64,
    pub(crate) conflates: bool,
    pub(crate) filter: Option<Filter>,
    pub(crate) tells_positions: bool,
    pub is_raw: bool,
    pub is_paused: bool,
    pub group: Option<GroupSide>,
    /// What was read and not yet sent, and of which cursor. Dropped when the client cannot take more now: it can be read again.
    pub(crate) opened: Option<(usize, ReadAhead)>,
    /// What the newest of it are; begun anew when the client cannot take more now.
    pub(crate) sweep: Option<Sweep>,
    /// The read that is under way, or the pause before the next.
    pub reading: Option<SpawnHandle>,
    /// Events that keep their place among the records.
    pub(crate) pending: VecDeque<StreamEvent>,
    pub encoder: Encoder,
}

impl Subscription {
    pub fn new(start: SubscriptionStart) -> Subscription {
        let mut cursors = Cursors::default();
        start.cursors.into_iter().for_each(|cursor| cursors.add(cursor));
        let frame = FrameLimits { records: start.frame.records.max(1), bytes: start.frame.bytes.max(1) };
        let mut subscription = Subscription {
            cursors,
            grows: start.grows,
            credit: start.credit,
            credit_stalls: start.credit_stalls,
            frame,
            linger_ms: start.linger_ms,
            conflates: start.conflates,
            filter: start.filter,
            tells_positions: start.tells_positions,
            is_raw: start.is_raw,
            is_paused: false,
            group: start.group.map(GroupSide::new),
            opened: None,
            sweep: None,
            reading: None,
            pending: VecDeque::from([StreamEvent::Subscribed]),
            encoder: start.encoder,
        };
        if subscription.group.is_none() {
            subscription.pending.push_back(subscription.assigned(|_| true));
        }
        subscription.pending.extend(start.gaps);
        subscription
    }

    pub(crate) fn spend(&mut self, records: u64, bytes: u64) {
        self.credit.spend(records, bytes);
        if self.credit.is_used_up() {
            self.credit_stalls.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `sequence` counts the frames of the session, `now_ms` its life.
    pub fn step(&mut self, sequence: &mut u64, now_ms: u64) -> Step {
        if let Some(event) = self.pending.pop_front() {
            return Step::Send(event);
        }
        if !self.may_send() {
            self.drop_read();
            return Step::Idle;
        }
        if self.reading.is_some() {
            return Step::Idle;
        }
        if self.opened.is_some() {
            return self.take_read(sequence).map_or(Step::Passed, Step::Send);
        }
        if self.sweep.is_some() {
            return self.go_on_sweeping(sequence, now_ms);
        }
        match self.cursors.look(self.linger(), now_ms) {
            Look::Readable { index, up_to } => {
                self.begin_sweep(index, up_to, now_ms);
                let cursor = self.cursors.get(index);
                Step::Read { index, source: cursor.source.clone(), offset: cursor.next }
            }
            Look::Gap { place, requested, resumed, reason } => {
                self.moved(&place, resumed);
                Step::Send(StreamEvent::Gap { place, requested, resumed, reason })
            }
            Look::CaughtUp { place, next } => Step::Send(StreamEvent::CaughtUp { place, next }),
            Look::Gathering { until_ms } => Step::Later { until_ms },
            Look::Deleted { place } => Step::Deleted(place),
            Look::Finished => Step::Finished,
            Look::Nothing => Step::Idle,
        }
    }

    fn may_send(&self) -> bool {
        let is_full = self.group.as_ref().is_some_and(GroupSide::is_full);
        !self.is_paused && !self.credit.is_used_up() && !is_full
    }

    /// The client could have more and does not take it: it has not given credit, or not acknowledged.
    pub fn is_stalled(&self) -> bool {
        !self.is_paused && !self.may_send()
    }

    /// What a read has brought; false when that was nothing.
    pub fn has_read(&mut self, index: usize, read: Option<ReadAhead>) -> bool {
        self.opened = read.map(|read| (index, read));
        self.opened.is_some()
    }

    /// The client does not take it now; it can be read again.
    pub fn drop_read(&mut self) {
        self.opened = None;
        self.sweep = None;
    }

    pub fn holds_read(&self) -> bool {
        self.opened.is_some() || self.sweep.is_some()
    }

    pub fn grant(&mut self, more: Credit) {
        self.credit.grant(more);
    }

    pub fn place(&self, index: usize) -> StreamPlace {
        self.cursors.get(index).place.clone()
    }

    pub fn lag(&self) -> i64 {
        self.cursors.lag()
    }

    pub fn has_cursors(&self) -> bool {
        !self.cursors.is_empty()
    }

    /// Where a reader stands. A group's member has its positions in the group.
    pub fn positions(&self) -> Vec<Position> {
        let cursors = self.cursors.iter().filter(|_| self.group.is_none());
        let position = |cursor: &Cursor<Source>| Position {
            place: cursor.place.clone(),
            topic_id: cursor.topic_id,
            next: cursor.next,
            leader_epoch: cursor.leader_epoch,
        };
        cursors.map(position).collect()
    }

    pub fn tell(&mut self, event: StreamEvent) {
        self.pending.push_back(event);
    }

    pub fn is_too_busy(&self) -> bool {
        self.pending.len() >= PENDING_EVENTS_MAX
    }

    pub fn assigned(&self, is_told: impl Fn(&StreamPlace) -> bool) -> StreamEvent {
        let told = self.cursors.iter().filter(|cursor| is_told(&cursor.place));
        let partitions = told.map(|cursor| Assignment {
            place: cursor.place.clone(),
            next: cursor.next,
            end: cursor.source.high_watermark(),
            leader_epoch: cursor.source.leader_epoch(),
        });
        StreamEvent::Assigned {
            generation: self.group.as_ref().map(GroupSide::epoch),
            partitions: partitions.collect(),
        }
    }

    /// Reads these too, and says so. Whoever calls watches them.
    pub fn add(&mut self, cursors: Vec<Cursor<Source>>) {
        let added: BTreeSet<StreamPlace> = cursors.iter().map(|cursor| cursor.place.clone()).collect();
        cursors.into_iter().for_each(|cursor| self.cursors.add(cursor));
        self.tell(self.assigned(|place| added.contains(place)));
    }

    /// Whoever calls stops what is being read.
    pub fn retain(&mut self, is_kept: impl Fn(&StreamPlace) -> bool) {
        self.drop_read();
        self.cursors.retain(is_kept);
    }

    /// Goes to other places, all of them or none. Whoever calls stops what is being read.
    pub fn seek(&mut self, places: &[(StreamPlace, Offset)]) -> Result<(), String> {
        if let Some((place, _)) = places.iter().find(|(place, _)| !self.cursors.contains(place)) {
            return Err(format!("partition {} of {} is not read here", place.partition, place.topic));
        }
        if places.iter().any(|(_, offset)| *offset < 0) {
            return Err("an offset is 0 or more".to_owned());
        }
        for (place, offset) in places {
            self.cursors.seek(place, *offset);
            if let Some(group) = &mut self.group {
                group.moved(place, *offset);
            }
        }
        self.drop_read();
        self.tell(self.assigned(|place| places.iter().any(|(sought, _)| sought == place)));
        Ok(())
    }

    fn moved(&mut self, place: &StreamPlace, next: Offset) {
        if let Some(group) = &mut self.group {
            group.moved(place, next);
        }
    }

    pub fn watch(&self, client: &LocalClient, waiter: &Arc<Notify>) {
        self.cursors.iter().for_each(|cursor| client.watch(&cursor.source, waiter));
    }

    /// Topics may have got more partitions; a stream of all of them follows.
    pub fn grow(&mut self, client: &LocalClient, waiter: &Arc<Notify>) {
        let image = client.image();
        let mut added = Vec::new();
        for (name, topic_id) in &self.grows {
            let Some(topic) = image.topic(*topic_id) else { continue };
            let known_count = self.cursors.iter().filter(|cursor| cursor.topic_id == *topic_id).count();
            if known_count >= topic.partitions.len() {
                continue;
            }
            let places =
                (0..topic.partitions.len() as PartitionIndex).map(|partition| StreamPlace::new(name, partition));
            for place in places.filter(|place| !self.cursors.contains(place)) {
                // One that has no leader yet is found the next time.
                let Ok(source) = stream_places::find(client, &place) else { continue };
                client.watch(&source, waiter);
                let start = source.log_start();
                added.push(Cursor::new(place, *topic_id, source, start));
            }
        }
        if !added.is_empty() {
            self.add(added);
        }
    }

    /// A topic has gone.
    pub fn forget_topic(&mut self, topic: &str) -> Vec<StreamPlace> {
        let gone: Vec<_> =
            self.cursors.iter().map(|cursor| cursor.place.clone()).filter(|place| &*place.topic == topic).collect();
        self.grows.retain(|(name, _)| &**name != topic);
        self.retain(|place| &*place.topic != topic);
        gone
    }
}
