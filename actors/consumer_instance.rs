//! ConsumerInstance: a consumer that lives in the broker on behalf of a REST v2 client: a member of its group, the positions
//! it has reached, and the read that waits.
//!
//! ```text
//!   subscribe ──▶ Membership ◀──heartbeats──▶ group coordinator          one read at a time; the next ones queue
//!                    │ assigned, lost                                     (READS_MAX)
//!                    ▼
//!                 positions ──resolve (committed, or auto.offset.reset)──▶ read ──▶ positions move, the client is answered
//! ```
//!
//! What a read handed over counts as received when the client comes back: with `auto.commit.enable` that is what is committed.
//! What it reads is asked for in `consumer_sources.rs`. It ends when it is deleted, when nobody has used it for its time-out, or when the broker stops; it leaves its group first.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, SpawnHandle, WrapFuture};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex, Uuid};
use capek_wire::messages::ConsumerGroupHeartbeatResponse;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::consumer_commands::{
    Commit, EndInstance, InstanceError, InstanceSettings, OffsetToStore, Place, ReadBatch, ReadInstance, ReadRecord,
    Seek,
};
use crate::consumer_membership::{Heard, Membership};
use crate::group_offsets::{self, GroupMember};
use crate::local::LocalClient;
use crate::local_requests::{Caller, Destination};
use crate::record_reader::{self, ReadCursor, ReadLimits, ReadRecords};
use crate::supervision::ExitSignal;

/// How many reads may wait for each other.
const READS_MAX: usize = 16;
const HEARTBEAT_VERSION: i16 = 1;
/// Before the coordinator is asked again that could not answer.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// How often somebody looks whether the instance is still used.
const EXPIRY_CHECKS_PER_TIMEOUT: u32 = 4;

/// How it comes by its partitions.
#[derive(Debug)]
pub(crate) enum Source {
    Nothing,
    Subscribed(Membership),
    /// Chosen by the client; there is no member.
    Assigned(BTreeSet<Place>),
}

/// See the head of this file.
pub struct ConsumerInstance {
    client: LocalClient,
    pub(crate) settings: InstanceSettings,
    pub(crate) source: Source,
    /// What it may read; None: not known yet.
    pub(crate) positions: BTreeMap<Place, Option<Offset>>,
    /// Delivered, and not yet known to be received.
    unconfirmed: BTreeMap<Place, Offset>,
    /// Received, and not yet committed.
    to_commit: BTreeMap<Place, Offset>,
    reads: VecDeque<ReadInstance>,
    /// The resolving or the reading for the first of `reads`.
    working: Option<SpawnHandle>,
    /// Whoever waits for the first assignment.
    pub(crate) waiting_for_assignment: Vec<oneshot::Sender<()>>,
    /// Which partition has its turn.
    turn: usize,
    /// The member's, for those who commit while it moves.
    pub(crate) epoch: Arc<AtomicI32>,
    /// The next heartbeat: under way, or in the future.
    heartbeat: Option<SpawnHandle>,
    /// The group does not take it.
    pub(crate) refused: Option<InstanceError>,
    /// Why it cannot read now; told when a read runs out of time.
    last_problem: Option<ErrorCode>,
    last_used: Instant,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<u64>,
}

impl ConsumerInstance {
    pub fn new(client: LocalClient, settings: InstanceSettings, entry: Arc<ActorEntry>, exit: ExitSignal<u64>) -> Self {
        Self {
            client,
            settings,
            source: Source::Nothing,
            positions: BTreeMap::new(),
            unconfirmed: BTreeMap::new(),
            to_commit: BTreeMap::new(),
            reads: VecDeque::new(),
            working: None,
            waiting_for_assignment: Vec::new(),
            turn: 0,
            epoch: Arc::default(),
            heartbeat: None,
            refused: None,
            last_problem: None,
            last_used: Instant::now(),
            entry,
            _exit: exit,
        }
    }

    pub(crate) fn used(&mut self) {
        self.last_used = Instant::now();
    }

    fn asking(&self) -> (LocalClient, Caller, String) {
        (self.client.clone(), self.settings.caller.clone(), self.settings.group.clone())
    }

    // The member.

    pub(crate) fn beat(&mut self, context: &mut Context<Self>) {
        self.stop_heartbeat(context);
        let Source::Subscribed(membership) = &self.source else { return };
        let request = membership.heartbeat();
        let (client, caller, group) = self.asking();
        let asked = request.clone();
        let answer =
            async move { client.ask(Destination::Coordinator(&group), &caller, &request, HEARTBEAT_VERSION).await };
        let done = answer.into_actor(self).map(move |answer, instance, context| {
            instance.heartbeat = None;
            let answer = answer.unwrap_or_else(|error| ConsumerGroupHeartbeatResponse {
                error_code: error.code().code(),
                error_message: Some(error.to_string().into()),
                ..Default::default()
            });
            let Source::Subscribed(membership) = &mut instance.source else { return };
            let heard = membership.hear(&asked, &answer);
            instance.epoch.store(membership.epoch, Ordering::Release);
            let interval = Duration::from_millis(u64::try_from(answer.heartbeat_interval_ms).unwrap_or(0));
            instance.heard(heard, interval.max(ASK_AGAIN_AFTER), context);
        });
        self.heartbeat = Some(context.spawn(done));
    }

    fn heard(&mut self, heard: Heard, interval: Duration, context: &mut Context<Self>) {
        match heard {
            Heard::Nothing => self.beat_after(interval, context),
            Heard::Again => self.beat_after(ASK_AGAIN_AFTER, context),
            Heard::Assigned => {
                self.take_over_assignment(context);
                self.beat_after(Duration::ZERO, context);
            }
            Heard::Lost => {
                self.set_places(BTreeSet::new(), context);
                self.beat_after(Duration::ZERO, context);
            }
            Heard::Refused(code, message) => {
                self.refused = Some(InstanceError::Kafka(code, message));
                self.waiting_for_assignment.clear();
                self.pump(context);
            }
        }
    }

    fn beat_after(&mut self, after: Duration, context: &mut Context<Self>) {
        self.heartbeat = Some(context.run_later(after, |instance, context| {
            instance.heartbeat = None;
            instance.beat(context);
        }));
    }

    fn stop_heartbeat(&mut self, context: &mut Context<Self>) {
        if let Some(heartbeat) = self.heartbeat.take() {
            context.cancel_future(heartbeat);
        }
    }

    fn take_over_assignment(&mut self, context: &mut Context<Self>) {
        // On its way before the group hears that we give anything up.
        self.auto_commit(context);
        let Source::Subscribed(membership) = &self.source else { return };
        let image = self.client.image();
        // A topic that has no name any more has nothing to read either.
        let named = |(topic_id, partition): &(Uuid, PartitionIndex)| {
            image.topic(*topic_id).map(|topic| (topic.name.to_string(), *partition))
        };
        let places = membership.held().into_iter().flatten().filter_map(named).collect();
        self.set_places(places, context);
        for waiting in self.waiting_for_assignment.drain(..) {
            let _ = waiting.send(());
        }
    }

    /// Reads these from now on. What it keeps goes on where it was.
    pub(crate) fn set_places(&mut self, places: BTreeSet<Place>, context: &mut Context<Self>) {
        self.stop_working(context);
        self.positions.retain(|place, _| places.contains(place));
        // Nobody else may commit for what is not ours any more; the group has given it to someone who reads it again.
        self.unconfirmed.retain(|place, _| places.contains(place));
        self.to_commit.retain(|place, _| places.contains(place));
        for place in places {
            self.positions.entry(place).or_insert(None);
        }
        self.pump(context);
    }

    /// The member that commits, if there is one.
    fn member(&self) -> GroupMember {
        match &self.source {
            Source::Subscribed(membership) => {
                GroupMember { member_id: membership.member_id.clone(), epoch: self.epoch.clone() }
            }
            _ => GroupMember::nobody(),
        }
    }

    /// Gives up what it reads. Answered when the group knows.
    pub(crate) fn leave(&mut self, context: &mut Context<Self>) -> impl Future<Output = ()> + use<> {
        self.stop_heartbeat(context);
        self.stop_working(context);
        let commit = self.commit_received();
        let source = std::mem::replace(&mut self.source, Source::Nothing);
        self.positions.clear();
        self.unconfirmed.clear();
        self.refused = None;
        let (client, caller, group) = self.asking();
        async move {
            // What cannot be committed is read again by whoever comes next.
            let _ = commit.await;
            if let Source::Subscribed(membership) = source {
                let destination = Destination::Coordinator(&group);
                let _ = client.ask(destination, &caller, &membership.leave(), HEARTBEAT_VERSION).await;
            }
        }
    }

    fn commit_received(&mut self) -> impl Future<Output = Result<(), InstanceError>> + use<> {
        let member = self.member();
        let offsets: Vec<OffsetToStore> = std::mem::take(&mut self.to_commit)
            .into_iter()
            .map(|(place, offset)| OffsetToStore { place, offset, metadata: String::new() })
            .collect();
        let (client, caller, group) = self.asking();
        async move { group_offsets::commit(&client, &caller, &group, &member, &offsets).await }
    }

    fn auto_commit(&mut self, context: &mut Context<Self>) {
        if self.settings.auto_commit_interval.is_some() && !self.to_commit.is_empty() {
            let commit = self.commit_received();
            context.spawn(commit.into_actor(self).map(|outcome, instance, _| {
                if let Err(error) = outcome {
                    log::info!("{} does not commit: {error}", instance.entry.path);
                }
            }));
        }
    }

    // Reading.

    fn stop_working(&mut self, context: &mut Context<Self>) {
        if let Some(working) = self.working.take() {
            context.cancel_future(working);
        }
    }

    /// Works for the first read, if nothing else is worked at.
    pub(crate) fn pump(&mut self, context: &mut Context<Self>) {
        while self.working.is_none() {
            while self.reads.front().is_some_and(|read| read.reply.is_closed()) {
                self.reads.pop_front();
            }
            let Some(read) = self.reads.front() else { return };
            let limits = read.limits;
            if let Some(refused) = self.refused.clone() {
                self.answer(Err(refused));
            } else if matches!(self.source, Source::Nothing) {
                self.answer(Err(InstanceError::IllegalState(NOT_SUBSCRIBED)));
            } else if Instant::now() >= limits.deadline && self.positions.values().any(Option::is_none) {
                let problem = self.last_problem.take().filter(|code| !code.is_retriable());
                let nothing = Ok(ReadBatch::default());
                self.answer(problem.map_or(nothing, |code| Err(InstanceError::Kafka(code, None))));
            } else if self.positions.is_empty() {
                // Not assigned yet, or to be assigned nothing: either changes with a heartbeat.
                if Instant::now() >= limits.deadline {
                    self.answer(Ok(ReadBatch::default()));
                } else {
                    return self.work_until(limits.deadline, context);
                }
            } else if self.positions.values().any(Option::is_none) {
                return self.resolve(limits.deadline, context);
            } else {
                return self.read(limits, context);
            }
        }
    }

    fn answer(&mut self, answer: Result<ReadBatch, InstanceError>) {
        self.used();
        if let Some(read) = self.reads.pop_front() {
            // Whoever asked may have gone; then the positions are as if it had been read.
            let _ = read.reply.send(answer);
        }
    }

    fn work_until(&mut self, deadline: Instant, context: &mut Context<Self>) {
        let done = tokio::time::sleep_until(deadline).into_actor(self).map(|(), instance, context| {
            instance.working = None;
            instance.pump(context);
        });
        self.working = Some(context.spawn(done));
    }

    /// Finds where to begin: where the group has come, or where `auto.offset.reset` says.
    fn resolve(&mut self, deadline: Instant, context: &mut Context<Self>) {
        let unknown: Vec<Place> =
            self.positions.iter().filter(|(_, next)| next.is_none()).map(|(place, _)| place.clone()).collect();
        let (client, caller, group) = self.asking();
        let (member, reset) = (self.member(), self.settings.offset_reset);
        let resolve = async move { group_offsets::positions(&client, &caller, &group, &member, unknown, reset).await };
        let done = resolve.into_actor(self).map(move |resolved, instance, context| {
            instance.working = None;
            let mut is_late = false;
            match resolved {
                Ok(resolved) => {
                    for (place, next) in resolved {
                        match next {
                            Ok(next) => drop(instance.positions.insert(place, Some(next))),
                            Err(code) => (instance.last_problem, is_late) = (Some(code), true),
                        }
                    }
                }
                Err(error) => (instance.last_problem, is_late) = (Some(error.code()), true),
            }
            if is_late && Instant::now() < deadline {
                return instance.work_until(deadline.min(Instant::now() + ASK_AGAIN_AFTER), context);
            }
            instance.pump(context);
        });
        self.working = Some(context.spawn(done));
    }

    fn read(&mut self, limits: ReadLimits, context: &mut Context<Self>) {
        let mut places = Vec::with_capacity(self.positions.len());
        let mut cursors = Vec::with_capacity(self.positions.len());
        for (place, next) in &self.positions {
            // One that has no leader now has its turn with the next read.
            if let (Ok(source), Some(next)) = (self.client.partition(&place.0, place.1), *next) {
                places.push(place.clone());
                cursors.push(ReadCursor { source, next });
            }
        }
        if cursors.is_empty() {
            if Instant::now() >= limits.deadline {
                self.answer(Ok(ReadBatch::default()));
                return self.pump(context);
            }
            return self.work_until(limits.deadline.min(Instant::now() + ASK_AGAIN_AFTER), context);
        }
        self.turn = (self.turn + 1) % cursors.len();
        let (client, turn, reset) = (self.client.clone(), self.turn, self.settings.offset_reset);
        let read = async move { record_reader::read(&client, cursors, turn, reset, limits).await };
        let done = read.into_actor(self).map(move |read, instance, context| {
            instance.working = None;
            instance.deliver(&places, read);
            instance.pump(context);
        });
        self.working = Some(context.spawn(done));
    }

    fn deliver(&mut self, places: &[Place], mut read: ReadRecords) {
        let has_gone = self.reads.front().is_none_or(|waiting| waiting.reply.is_closed());
        if has_gone {
            return; // the positions stay: the next read brings the same records
        }
        for (place, next) in places.iter().zip(&read.next) {
            if let Some(position) = self.positions.get_mut(place) {
                *position = Some(*next);
            }
            self.unconfirmed.insert(place.clone(), *next);
        }
        let failed = read.failed;
        let records = std::mem::take(&mut read.records);
        let records = records.into_iter().map(|(index, record)| ReadRecord { place: places[index].clone(), record });
        let batch = ReadBatch { records: records.collect(), paid: Some(Box::new(read)) };
        self.answer(failed.map_or(Ok(batch), |code| Err(InstanceError::Kafka(code, None))));
    }

    /// The client has come back: it has what it was given.
    pub(crate) fn confirm(&mut self) {
        if self.settings.auto_commit_interval.is_some() {
            self.to_commit.append(&mut self.unconfirmed);
        }
    }
}

pub const NOT_SUBSCRIBED: &str = "Consumer is not subscribed to any topics or assigned any partitions";

impl Actor for ConsumerInstance {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
        let every = (self.settings.idle_timeout / EXPIRY_CHECKS_PER_TIMEOUT).max(Duration::from_millis(50));
        context.run_interval(every, |instance, context| {
            if instance.reads.is_empty() && instance.last_used.elapsed() >= instance.settings.idle_timeout {
                log::info!(
                    "{} has not been used for {:?} and ends",
                    instance.entry.path,
                    instance.settings.idle_timeout
                );
                // What was delivered and never confirmed stays uncommitted.
                let leave = instance.leave(context);
                context.spawn(leave.into_actor(instance).map(|(), _, context| context.stop()));
            }
        });
        if let Some(interval) = self.settings.auto_commit_interval {
            context.run_interval(interval, |instance, context| instance.auto_commit(context));
        }
    }
}

impl Handler<ReadInstance> for ConsumerInstance {
    type Result = ();

    fn handle(&mut self, message: ReadInstance, context: &mut Self::Context) -> Self::Result {
        self.used();
        self.confirm();
        if self.reads.len() >= READS_MAX {
            // Whoever has gone meanwhile needs no answer.
            let _ = message.reply.send(Err(InstanceError::TooManyReads));
            return;
        }
        self.reads.push_back(message);
        self.pump(context);
    }
}

impl Handler<Commit> for ConsumerInstance {
    type Result = actix::ResponseFuture<Result<(), InstanceError>>;

    fn handle(&mut self, message: Commit, _: &mut Self::Context) -> Self::Result {
        self.used();
        let offsets = message.0.unwrap_or_else(|| {
            self.unconfirmed.clear();
            self.to_commit.clear();
            let positions = self.positions.iter().filter_map(|(place, next)| Some((place.clone(), (*next)?)));
            let offset = |(place, offset)| OffsetToStore { place, offset, metadata: String::new() };
            positions.map(offset).collect()
        });
        let (client, caller, group) = self.asking();
        let member = self.member();
        Box::pin(async move { group_offsets::commit(&client, &caller, &group, &member, &offsets).await })
    }
}

impl Handler<Seek> for ConsumerInstance {
    type Result = Result<(), InstanceError>;

    fn handle(&mut self, message: Seek, context: &mut Self::Context) -> Self::Result {
        self.used();
        let mut found = Vec::with_capacity(message.0.len());
        for (place, offset) in message.0 {
            if !group_offsets::is_there(&self.client, &place) {
                return Err(InstanceError::Kafka(ErrorCode::UnknownTopicOrPartition, None));
            }
            if !self.positions.contains_key(&place) {
                return Err(InstanceError::NotAssigned(place));
            }
            found.push((place, offset));
        }
        self.stop_working(context);
        for (place, next) in found {
            self.unconfirmed.remove(&place);
            self.positions.insert(place, Some(next));
        }
        self.pump(context);
        Ok(())
    }
}

impl Handler<EndInstance> for ConsumerInstance {
    type Result = actix::ResponseFuture<()>;

    fn handle(&mut self, _: EndInstance, context: &mut Self::Context) -> Self::Result {
        self.confirm();
        self.reads.clear();
        let leave = self.leave(context);
        let (sender, left) = oneshot::channel();
        // In the actor, so that it leaves even when nobody waits for the answer any more.
        context.spawn(leave.into_actor(self).map(|(), _, context| {
            let _ = sender.send(());
            context.stop();
        }));
        Box::pin(async move {
            let _ = left.await;
        })
    }
}

impl Handler<Chaos> for ConsumerInstance {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
