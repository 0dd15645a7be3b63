//! GroupCoordinator: the groups of one partition of `__consumer_offsets`, while this broker leads it.
//!
//! What is decided is `state::group::Coordinator`; this actor gives it the time, writes its records through [`GroupLog`], and
//! gives its answers when what they rest on is committed. Until the log is replayed everything is COORDINATOR_LOAD_IN_PROGRESS.
//!
//! A write that fails may or may not be in the log: the state is thrown away, whatever waits is told so, and the log is read
//! again. So nothing half-applied remains; after a panic the next incarnation does the same. Members are not thrown out by
//! either: they are in the log, and their sessions begin afresh.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use actix::fut::ActorFuture;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use capek_state::cluster::Image;
use capek_state::group::{
    CommitRequest, ConsumerHeartbeat, Coordinator, DeleteOffsetsRequest, DescribedGroup, Effects, FetchRequest,
    FetchedTopic, GroupConfig, HeartbeatRequest, JoinAnswer, JoinRequest, LeaveRequest, ListFilter, ListedGroup,
    ReplyId, SurveyedGroup, SyncAnswer, SyncRequest,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::TopicId;
use capek_wire::messages::ConsumerGroupHeartbeatResponse;
use capek_wire::messages::consumer_group_describe::DescribedGroup as DescribedConsumerGroup;
use log::{error, warn};
use tokio::sync::{Semaphore, oneshot};

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::clock::now_ms;
use crate::group_beats::GroupBeats;
use crate::group_loader::{self, LoadError};
use crate::group_log::{GiveAnswer, GroupLog};
use crate::routes::Routes;
use crate::shared::PartitionKey;
use crate::supervision::{ExitSignal, Incarnation};

/// Where an answer goes. Dropped without one: the coordinator has ended or loads again, and what was asked is perhaps done.
pub type Reply<T> = oneshot::Sender<Result<T, ErrorCode>>;

/// A request for the shard, and where its answer goes.
pub struct Ask<Request, Answer> {
    pub request: Request,
    pub reply: Reply<Answer>,
}

impl<Request, Answer> Message for Ask<Request, Answer> {
    type Result = ();
}

/// Deletes a group that has no members. Answered when that is committed.
pub struct DeleteGroup(pub Str);

/// What groups are there, and how far is each? At most so many offsets in all.
pub struct SurveyGroups {
    pub offsets_max: usize,
}

/// How does the group look, to those who know the classic protocol?
pub struct DescribeGroup(pub Str);

/// The answer to [`DescribeGroup`].
pub enum Described {
    Classic(DescribedGroup),
    /// It is of the consumer protocol.
    Consumer,
    Missing,
}

/// How does the group look, to those who know the consumer protocol?
pub struct DescribeConsumerGroup(pub Str);

/// Topics of these names and ids are gone, and with them what was committed to them.
#[derive(Message)]
#[rtype(result = "()")]
pub struct TopicsDeleted(pub Arc<Vec<(Arc<str>, TopicId)>>);

/// Topics came, went or grew, or a configuration changed: this is how it is now.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ImageChanged {
    pub image: Arc<Image>,
    pub config: GroupConfig,
}

/// Stop: the leadership, the topic or the broker goes.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopCoordinator;

/// What a new incarnation begins with.
pub struct GroupCoordinatorStart {
    pub key: PartitionKey,
    pub incarnation: Incarnation,
    pub routes: Arc<Routes>,
    pub config: GroupConfig,
    pub image: Arc<Image>,
    pub log: GroupLog,
    /// Bounds how many shards of the broker load at a time.
    pub loads: Arc<Semaphore>,
    pub entry: Arc<ActorEntry>,
    pub(crate) beats: Arc<GroupBeats>,
    pub exit: ExitSignal<PartitionKey>,
}

pub struct GroupCoordinator {
    key: PartitionKey,
    incarnation: Incarnation,
    routes: Arc<Routes>,
    config: GroupConfig,
    /// As far as topics and configurations go.
    image: Arc<Image>,
    loads: Arc<Semaphore>,
    /// None until the log is replayed.
    groups: Option<Coordinator>,
    log: GroupLog,
    /// What connections note of steady groups.
    beats: Arc<GroupBeats>,
    /// Groups that may be steady when this drain of the mailbox is over, and are not in `beats` now.
    unsettled: BTreeSet<Str>,
    /// Topics that were deleted while the log was being replayed.
    deletions: Vec<TopicsDeleted>,
    /// JoinGroups and SyncGroups that wait for other members.
    joins: BTreeMap<ReplyId, Reply<JoinAnswer>>,
    syncs: BTreeMap<ReplyId, Reply<SyncAnswer>>,
    next_reply: u64,
    timer: Option<(i64, SpawnHandle)>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<PartitionKey>,
}

impl GroupCoordinator {
    pub fn new(start: GroupCoordinatorStart) -> Self {
        Self {
            key: start.key,
            incarnation: start.incarnation,
            routes: start.routes,
            config: start.config,
            image: start.image,
            loads: start.loads,
            groups: None,
            log: start.log,
            beats: start.beats,
            unsettled: BTreeSet::new(),
            deletions: Vec::new(),
            joins: BTreeMap::new(),
            syncs: BTreeMap::new(),
            next_reply: 0,
            timer: None,
            entry: start.entry,
            exit: start.exit,
        }
    }

    fn load(&mut self, context: &mut Context<Self>) {
        let loaded = group_loader::load(self.routes.clone(), self.key.clone(), self.config.clone(), self.loads.clone());
        context.spawn(loaded.into_actor(self).map(|loaded, coordinator, context| match loaded {
            Ok(groups) => coordinator.begin(groups, context),
            Err(error) => coordinator.give_up(&error, context),
        }));
    }

    fn begin(&mut self, mut groups: Coordinator, context: &mut Context<Self>) {
        let mut effects = Effects::default();
        groups.set_image(&self.image);
        groups.set_config(self.config.clone());
        groups.loaded(now_ms(), &mut effects);
        for deleted in self.deletions.drain(..) {
            groups.topics_deleted(&deleted.0, &mut effects);
        }
        self.groups = Some(groups);
        self.carry_out(effects);
        self.end_drain(context);
    }

    fn give_up(&mut self, error: &LoadError, context: &mut Context<Self>) {
        error!("{}: the groups of this shard cannot be loaded: {error}", self.key);
        self.exit.give_up();
        context.stop();
    }

    /// Something that was written is not (or perhaps not) in the log: only the log knows what is.
    fn load_again(&mut self, error: ErrorCode, context: &mut Context<Self>) {
        warn!("{}: a write of the group coordinator failed ({error}): loading again from the log", self.key);
        self.groups = None;
        self.beats.end_all();
        self.unsettled.clear();
        self.log = self.log.fresh();
        self.joins.clear();
        self.syncs.clear();
        self.set_timer(None, context);
        self.load(context);
    }

    /// Something may change in the group: its heartbeats come here again, until the drain of the mailbox is over.
    fn unsettle(&mut self, group: &Str) {
        let Some(groups) = &mut self.groups else { return };
        if let Some(steady) = self.beats.end(group) {
            groups.beaten(group, &steady);
        }
        self.unsettled.insert(group.clone());
    }

    fn settle(&mut self) {
        let Some(groups) = &self.groups else { return };
        for group in std::mem::take(&mut self.unsettled) {
            if let Some(steady) = groups.steady(&group) {
                self.beats.begin(group.detached(), steady);
            }
        }
    }

    /// The state of the shard and the time, or the answer that it is loading.
    fn with_groups<T>(
        &mut self,
        reply: Reply<T>,
        work: impl FnOnce(&mut Coordinator, i64, &mut Effects) -> Result<T, ErrorCode>,
    ) where
        T: Send + 'static,
    {
        self.taken();
        let Some(groups) = &mut self.groups else {
            return answer(reply, Err(ErrorCode::CoordinatorLoadInProgress));
        };
        let mut effects = Effects::default();
        let outcome = work(groups, now_ms(), &mut effects);
        self.carry_out(effects);
        self.log.answer_when_committed(give(reply, outcome));
    }

    fn taken(&self) {
        self.entry.mailbox.fetch_sub(1, Ordering::Relaxed);
    }

    fn next_reply(&mut self) -> ReplyId {
        self.next_reply += 1;
        ReplyId(self.next_reply)
    }

    /// Writes the records, and gives the answers when everything so far is committed. A refusal that nothing was written for
    /// rests on nothing and waits for nothing.
    fn carry_out(&mut self, effects: Effects) {
        let is_writing = !effects.records.is_empty();
        self.log.write(effects.records);
        for (id, outcome) in effects.joins {
            let Some(reply) = self.joins.remove(&id) else { continue };
            let waits = is_writing || outcome.error == ErrorCode::None;
            self.give(waits, give(reply, Ok(outcome)));
        }
        for (id, outcome) in effects.syncs {
            let Some(reply) = self.syncs.remove(&id) else { continue };
            let waits = is_writing || outcome.error == ErrorCode::None;
            self.give(waits, give(reply, Ok(outcome)));
        }
    }

    fn give(&mut self, waits: bool, answer: GiveAnswer) {
        if waits { self.log.answer_when_committed(answer) } else { answer() }
    }

    /// A drain of the mailbox is over: what is due is done, what was written goes out as one, the timer is set.
    fn end_drain(&mut self, context: &mut Context<Self>) {
        let Some(groups) = &mut self.groups else { return };
        let now_ms = now_ms();
        if groups.next_deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms) {
            self.tick(now_ms);
        }
        self.settle();
        if let Err(error) = self.log.submit(now_ms) {
            return self.load_again(error, context);
        }
        let deadline_ms = self.groups.as_ref().and_then(Coordinator::next_deadline_ms);
        self.set_timer(deadline_ms, context);
        let parked_count = self.joins.len() + self.syncs.len() + self.log.parked_count();
        self.entry.parked.store(parked_count as u64, Ordering::Relaxed);
    }

    fn tick(&mut self, now_ms: i64) {
        // No member is taken for dead that was told it lives.
        for group in self.groups.as_ref().map(|groups| groups.due(now_ms)).unwrap_or_default() {
            self.unsettle(&group);
        }
        let mut effects = Effects::default();
        if let Some(groups) = &mut self.groups {
            groups.tick(now_ms, &mut effects);
        }
        self.carry_out(effects);
    }

    fn set_timer(&mut self, deadline_ms: Option<i64>, context: &mut Context<Self>) {
        if self.timer.as_ref().map(|(armed_ms, _)| *armed_ms) == deadline_ms {
            return;
        }
        if let Some((_, handle)) = self.timer.take() {
            context.cancel_future(handle);
        }
        let Some(deadline_ms) = deadline_ms else { return };
        let wait = Duration::from_millis(u64::try_from(deadline_ms.saturating_sub(now_ms())).unwrap_or(0));
        let handle = context.run_later(wait, |coordinator, context| {
            coordinator.timer = None;
            coordinator.end_drain(context);
        });
        self.timer = Some((deadline_ms, handle));
    }
}

fn answer<T>(reply: Reply<T>, outcome: Result<T, ErrorCode>) {
    // Whoever asked may have gone.
    let _ = reply.send(outcome);
}

fn give<T: Send + 'static>(reply: Reply<T>, outcome: Result<T, ErrorCode>) -> GiveAnswer {
    Box::new(move || answer(reply, outcome))
}

/// Polled by actix after each drain of the mailbox, and when an append is done; never ready.
struct Gather;

impl ActorFuture<GroupCoordinator> for Gather {
    type Output = ();

    fn poll(
        self: Pin<&mut Self>,
        coordinator: &mut GroupCoordinator,
        context: &mut Context<GroupCoordinator>,
        task: &mut TaskContext<'_>,
    ) -> Poll<()> {
        coordinator.end_drain(context);
        if let Err(error) = coordinator.log.collect(task.waker()) {
            coordinator.load_again(error, context);
        }
        Poll::Pending
    }
}

impl Actor for GroupCoordinator {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.incarnation, Some(context.address().recipient()));
        context.spawn(Gather);
        self.load(context);
    }
}

/// Whatever ends it: nobody is told any more what only it could know.
impl Drop for GroupCoordinator {
    fn drop(&mut self) {
        self.beats.end_all();
    }
}

impl Handler<Ask<JoinRequest, JoinAnswer>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<JoinRequest, JoinAnswer>, _: &mut Self::Context) {
        self.taken();
        let id = self.next_reply();
        self.unsettle(&ask.request.group);
        let Some(groups) = &mut self.groups else {
            return answer(ask.reply, Err(ErrorCode::CoordinatorLoadInProgress));
        };
        self.joins.insert(id, ask.reply);
        let mut effects = Effects::default();
        groups.join(now_ms(), ask.request, id, &mut effects);
        self.carry_out(effects);
    }
}

impl Handler<Ask<SyncRequest, SyncAnswer>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<SyncRequest, SyncAnswer>, _: &mut Self::Context) {
        self.taken();
        let id = self.next_reply();
        self.unsettle(&ask.request.group);
        let Some(groups) = &mut self.groups else {
            return answer(ask.reply, Err(ErrorCode::CoordinatorLoadInProgress));
        };
        self.syncs.insert(id, ask.reply);
        let mut effects = Effects::default();
        groups.sync(now_ms(), ask.request, id, &mut effects);
        self.carry_out(effects);
    }
}

impl Handler<Ask<HeartbeatRequest, ()>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<HeartbeatRequest, ()>, _: &mut Self::Context) {
        self.taken();
        // While loading nobody is thrown out, so everybody may take himself for alive (as Kafka says, too).
        let error = match &mut self.groups {
            Some(groups) => groups.heartbeat(now_ms(), &ask.request),
            None => ErrorCode::None,
        };
        // The next may be noted without asking.
        if error == ErrorCode::None && !self.beats.is_steady(&ask.request.group) {
            self.unsettled.insert(ask.request.group);
        }
        // It says nothing that a write could take back for long: it never waits.
        answer(ask.reply, if error == ErrorCode::None { Ok(()) } else { Err(error) });
    }
}

impl Handler<Ask<LeaveRequest, Vec<ErrorCode>>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<LeaveRequest, Vec<ErrorCode>>, _: &mut Self::Context) {
        self.unsettle(&ask.request.group);
        self.with_groups(ask.reply, |groups, now_ms, effects| groups.leave(now_ms, &ask.request, effects));
    }
}

impl Handler<Ask<CommitRequest, Vec<ErrorCode>>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<CommitRequest, Vec<ErrorCode>>, _: &mut Self::Context) {
        self.with_groups(ask.reply, |groups, now_ms, effects| groups.commit_offsets(now_ms, ask.request, effects));
    }
}

impl Handler<Ask<FetchRequest, Vec<FetchedTopic>>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<FetchRequest, Vec<FetchedTopic>>, _: &mut Self::Context) {
        self.with_groups(ask.reply, |groups, _, _| groups.fetch_offsets(ask.request));
    }
}

impl Handler<Ask<DeleteOffsetsRequest, Vec<ErrorCode>>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<DeleteOffsetsRequest, Vec<ErrorCode>>, _: &mut Self::Context) {
        self.with_groups(ask.reply, |groups, _, effects| groups.delete_offsets(ask.request, effects));
    }
}

impl Handler<Ask<DeleteGroup, ()>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<DeleteGroup, ()>, _: &mut Self::Context) {
        self.with_groups(ask.reply, |groups, _, effects| match groups.delete_group(&ask.request.0, effects) {
            ErrorCode::None => Ok(()),
            error => Err(error),
        });
    }
}

impl Handler<Ask<DescribeGroup, Described>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<DescribeGroup, Described>, _: &mut Self::Context) {
        let id = ask.request.0;
        self.with_groups(ask.reply, |groups, _, _| {
            Ok(match groups.describe(&id) {
                Some(described) => Described::Classic(described),
                None if groups.is_consumer_group(&id) => Described::Consumer,
                None => Described::Missing,
            })
        });
    }
}

impl Handler<Ask<ConsumerHeartbeat, ConsumerGroupHeartbeatResponse>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<ConsumerHeartbeat, ConsumerGroupHeartbeatResponse>, _: &mut Self::Context) {
        self.unsettle(&ask.request.request.group_id);
        self.with_groups(ask.reply, |groups, now_ms, effects| {
            Ok(groups.consumer_heartbeat(now_ms, &ask.request, effects))
        });
    }
}

impl Handler<Ask<DescribeConsumerGroup, DescribedConsumerGroup>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<DescribeConsumerGroup, DescribedConsumerGroup>, _: &mut Self::Context) {
        self.with_groups(ask.reply, |groups, _, _| Ok(groups.describe_consumer_group(&ask.request.0)));
    }
}

impl Handler<Ask<ListFilter, Vec<ListedGroup>>> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, ask: Ask<ListFilter, Vec<ListedGroup>>, _: &mut Self::Context) {
        self.with_groups(ask.reply, |groups, _, _| Ok(groups.list(&ask.request)));
    }
}

impl Handler<Ask<SurveyGroups, Vec<SurveyedGroup>>> for GroupCoordinator {
    type Result = ();

    /// Who counts does not wait for what is being written.
    fn handle(&mut self, ask: Ask<SurveyGroups, Vec<SurveyedGroup>>, _: &mut Self::Context) {
        self.taken();
        let surveyed = self.groups.as_ref().map(|groups| groups.survey(ask.request.offsets_max));
        answer(ask.reply, surveyed.ok_or(ErrorCode::CoordinatorLoadInProgress));
    }
}

impl Handler<ImageChanged> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, changed: ImageChanged, _: &mut Self::Context) {
        self.image = changed.image;
        self.config = changed.config;
        if let Some(groups) = &mut self.groups {
            groups.set_image(&self.image);
            groups.set_config(self.config.clone());
        }
    }
}

impl Handler<TopicsDeleted> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, deleted: TopicsDeleted, _: &mut Self::Context) {
        let Some(groups) = &mut self.groups else { return self.deletions.push(deleted) };
        let mut effects = Effects::default();
        groups.topics_deleted(&deleted.0, &mut effects);
        self.carry_out(effects);
    }
}

impl Handler<StopCoordinator> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, _: StopCoordinator, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Chaos> for GroupCoordinator {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
