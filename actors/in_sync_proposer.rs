//! InSyncProposer: carries the in-sync sets that this broker's leaders propose to the controller, many in one command.
//!
//! A proposal is repeated until its fate is certain: the image shows another record of the partition, or the controller has
//! refused it. Until then the leader counts the proposed members as in sync (KIP-966).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};
use arc_swap::ArcSwap;
use capek_state::Refusal;
use capek_state::cluster::{AlterPartition, AlterPartitions, Command, Image, Outcome};
use capek_state::partition::in_sync_refusal_is_final;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use log::{debug, info};

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::children::Slot;
use crate::controller::{Controller, Propose};
use crate::partition::InSyncRefused;
use crate::routes::Routes;
use crate::shared::PartitionShared;
use crate::supervision::{ExitSignal, Incarnation};

/// After an answer that says nothing for certain.
const RETRY_AFTER: Duration = Duration::from_millis(100);
/// Proposals in one command.
const BATCH_MAX: usize = 1000;

/// A leader's wish.
#[derive(Clone)]
pub struct ProposeInSync {
    pub partition: Arc<PartitionShared>,
    pub incarnation: Incarnation,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// With each follower's broker epoch; -1 is ours.
    pub members: Vec<(BrokerId, i64)>,
}

/// How leaders reach it, in whichever life it is.
#[derive(Clone)]
pub struct ProposerHandle {
    image: Arc<ArcSwap<Image>>,
    slot: Arc<Slot<InSyncProposer>>,
    unsettled: Arc<Mutex<Unsettled>>,
}

/// What is not answered for certain. A leader waits for its wish and does not repeat it, so this outlives an incarnation.
#[derive(Default)]
struct Unsettled {
    /// The latest of each partition.
    wishes: BTreeMap<Id, ProposeInSync>,
    /// It is told of wishes and has not looked yet: thousands of leaders wish at once when a broker comes.
    is_woken: bool,
    /// Offline here (or back), and the controller has not been heard to know.
    offline: BTreeMap<Id, bool>,
}

impl ProposerHandle {
    /// `image` is the published one.
    pub fn new(image: Arc<ArcSwap<Image>>) -> Self {
        Self { image, slot: Arc::default(), unsettled: Arc::default() }
    }

    /// Whether the controller would hear of this follower: in the life that it speaks of, it takes part in the cluster.
    pub fn may_be_in_sync(&self, follower: BrokerId, broker_epoch: i64) -> bool {
        self.image.load().broker(follower).is_some_and(|known| known.epoch == broker_epoch && known.is_active())
    }

    pub fn propose(&self, wish: ProposeInSync) {
        let id = (wish.partition.key.topic_id, wish.partition.key.partition);
        let mut unsettled = lock(&self.unsettled);
        unsettled.wishes.insert(id, wish);
        let is_woken = std::mem::replace(&mut unsettled.is_woken, true);
        drop(unsettled);
        if !is_woken {
            self.wake(Wake::Wishes);
        }
    }

    /// The replica here cannot be used: another broker shall lead the partition.
    pub fn replica_failed(&self, topic_id: TopicId, partition: PartitionIndex) {
        self.tell((topic_id, partition), true);
    }

    /// It can be used again: it may be in sync, and lead.
    pub fn replica_back(&self, topic_id: TopicId, partition: PartitionIndex) {
        self.tell((topic_id, partition), false);
    }

    /// Its next incarnation, which begins with what is not settled.
    pub fn start(&self, proposer: InSyncProposer) {
        self.slot.set(proposer.start());
    }

    fn tell(&self, id: Id, is_offline: bool) {
        lock(&self.unsettled).offline.insert(id, is_offline);
        self.wake(Wake::Offline);
    }

    /// Between two lives nobody hears it: the next one looks by itself.
    fn wake(&self, wake: Wake) {
        if let Some(proposer) = self.slot.get() {
            proposer.do_send(wake);
        }
    }
}

fn lock(unsettled: &Mutex<Unsettled>) -> MutexGuard<'_, Unsettled> {
    // Whoever panicked with it has changed one entry or none.
    unsettled.lock().unwrap_or_else(PoisonError::into_inner)
}

type Id = (TopicId, PartitionIndex);

/// There is something new to be told to the controller.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
enum Wake {
    Wishes,
    Offline,
}

/// What every incarnation works with.
#[derive(Clone)]
pub struct InSyncProposerStart {
    pub node_id: BrokerId,
    pub image: Arc<ArcSwap<Image>>,
    pub routes: Arc<Routes>,
    pub controller: Arc<Slot<Controller>>,
}

pub struct InSyncProposer {
    node_id: BrokerId,
    image: Arc<ArcSwap<Image>>,
    routes: Arc<Routes>,
    controller: Arc<Slot<Controller>>,
    unsettled: Arc<Mutex<Unsettled>>,
    is_telling: bool,
    is_proposing: bool,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

impl InSyncProposer {
    pub fn new(
        start: InSyncProposerStart,
        handle: &ProposerHandle,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<ChildId>,
    ) -> Self {
        let InSyncProposerStart { node_id, image, routes, controller } = start;
        let unsettled = handle.unsettled.clone();
        Self { node_id, image, routes, controller, unsettled, is_telling: false, is_proposing: false, entry, exit }
    }

    /// One command at a time, with all that is wished for by now.
    fn propose_next(&mut self, context: &mut Context<Self>) {
        if self.is_proposing {
            return;
        }
        self.forget_settled();
        let wishes: Vec<_> = lock(&self.unsettled).wishes.values().take(BATCH_MAX).cloned().collect();
        if wishes.is_empty() {
            return;
        }
        let Some(broker_epoch) = self.image.load().broker(self.node_id).map(|broker| broker.epoch) else {
            return self.propose_later(context);
        };
        let id_of = |wish: &ProposeInSync| (wish.partition.key.topic_id, wish.partition.key.partition);
        let asked: Vec<_> = wishes.iter().map(|wish| (id_of(wish), wish.partition_epoch)).collect();
        let partitions = wishes.iter().map(|wish| self.alter(wish, broker_epoch)).collect();
        let command = Command::AlterPartitions(AlterPartitions { broker: self.node_id, broker_epoch, partitions });
        let Some(controller) = self.controller.get() else {
            return self.propose_later(context);
        };
        self.is_proposing = true;
        let answer = async move { controller.send(Propose(command)).await };
        context.spawn(answer.into_actor(self).map(move |answer, proposer, context| {
            proposer.is_proposing = false;
            match answer {
                Ok(answer) => proposer.answered(&asked, answer, context),
                Err(_) => proposer.propose_later(context),
            }
        }));
    }

    fn alter(&self, wish: &ProposeInSync, broker_epoch: i64) -> AlterPartition {
        let epoch_of = |(broker, epoch): &(BrokerId, i64)| {
            let epoch = if *broker == self.node_id { broker_epoch } else { *epoch };
            // One that was in sync before this leader began may not have fetched yet: it is known by the image.
            let known = || self.image.load().broker(*broker).map_or(-1, |broker| broker.epoch);
            (*broker, if epoch < 0 { known() } else { epoch })
        };
        AlterPartition {
            topic_id: wish.partition.key.topic_id,
            partition: wish.partition.key.partition,
            leader_epoch: wish.leader_epoch,
            partition_epoch: wish.partition_epoch,
            isr: wish.members.iter().map(epoch_of).collect(),
        }
    }

    fn answered(&mut self, asked: &[(Id, i32)], answer: Result<Outcome, Refusal>, context: &mut Context<Self>) {
        let Ok(Outcome::Each(outcomes)) = answer else {
            // Not for certain: the command may have been carried out, or may be yet.
            debug!("in-sync sets were not answered: {answer:?}");
            return self.propose_later(context);
        };
        // The controller has yet to learn what the leader knows.
        let mut is_early = false;
        let mut unsettled = lock(&self.unsettled);
        for ((id, partition_epoch), outcome) in asked.iter().zip(outcomes) {
            let Some(wish) = unsettled.wishes.get(id).filter(|wish| wish.partition_epoch == *partition_epoch) else {
                continue;
            };
            let key = &wish.partition.key;
            match outcome {
                Ok(()) => info!("{key}: in sync: {:?}", wish.members.iter().map(|member| member.0).collect::<Vec<_>>()),
                Err(refusal) if refusal.code == ErrorCode::NotController => {
                    is_early = true;
                    continue;
                }
                Err(refusal) => {
                    debug!("{key}: an in-sync set was refused: {refusal}");
                    // What is not final is settled by the image.
                    if in_sync_refusal_is_final(refusal.code) {
                        self.refuse(wish);
                    }
                }
            }
            unsettled.wishes.remove(id);
        }
        drop(unsettled);
        if is_early {
            return self.propose_later(context);
        }
        self.propose_next(context);
    }

    fn refuse(&self, wish: &ProposeInSync) {
        let key = &wish.partition.key;
        let topic = self.routes.topic_by_id(key.topic_id);
        let route = topic.as_ref().and_then(|topic| topic.serving(key.partition).ok());
        if let Some(route) = route.filter(|route| route.incarnation == wish.incarnation)
            && let Some(leader) = &route.leader
        {
            leader.do_send(InSyncRefused { partition_epoch: wish.partition_epoch });
        }
    }

    /// The image has a later record of the partition, or the leader is another one: its leader knows.
    fn forget_settled(&mut self) {
        let image = self.image.load();
        lock(&self.unsettled).wishes.retain(|id, wish| {
            image.partition(id.0, id.1).is_some_and(|partition| {
                (partition.leader_epoch, partition.partition_epoch) == (wish.leader_epoch, wish.partition_epoch)
            })
        });
    }

    /// Until it is confirmed: a leader that nobody replaces serves nobody.
    fn tell_offline(&mut self, context: &mut Context<Self>) {
        let broker_epoch = self.image.load().broker(self.node_id).map(|broker| broker.epoch);
        let (Some(controller), Some(broker_epoch)) = (self.controller.get(), broker_epoch) else {
            return self.tell_later(context);
        };
        let unsettled = lock(&self.unsettled);
        let Some(is_offline) = unsettled.offline.values().next().copied().filter(|_| !self.is_telling) else {
            return;
        };
        let alike = unsettled.offline.iter().filter(|(_, told)| **told == is_offline);
        let told: Vec<Id> = alike.take(BATCH_MAX).map(|(id, _)| *id).collect();
        drop(unsettled);
        let (broker, partitions) = (self.node_id, told.clone());
        let command = if is_offline {
            Command::ReplicasFailed { broker, broker_epoch, partitions }
        } else {
            Command::ReplicasBack { broker, broker_epoch, partitions }
        };
        self.is_telling = true;
        let answer = async move { controller.send(Propose(command)).await };
        context.spawn(answer.into_actor(self).map(move |answer, proposer, context| {
            proposer.is_telling = false;
            match answer {
                Ok(Ok(_)) => {
                    // What has changed since is told next.
                    lock(&proposer.unsettled).offline.retain(|id, now| *now != is_offline || !told.contains(id));
                    proposer.tell_offline(context);
                }
                Ok(Err(refusal)) => {
                    debug!("offline replicas were not taken note of: {refusal}");
                    proposer.tell_later(context);
                }
                Err(_) => proposer.tell_later(context),
            }
        }));
    }

    fn tell_later(&mut self, context: &mut Context<Self>) {
        context.run_later(RETRY_AFTER, |proposer, context| proposer.tell_offline(context));
    }

    fn propose_later(&mut self, context: &mut Context<Self>) {
        context.run_later(RETRY_AFTER, |proposer, context| proposer.propose_next(context));
    }
}

impl Actor for InSyncProposer {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        context.notify(Wake::Wishes);
        context.notify(Wake::Offline);
    }
}

impl Handler<Wake> for InSyncProposer {
    type Result = ();

    fn handle(&mut self, wake: Wake, context: &mut Self::Context) {
        match wake {
            Wake::Wishes => {
                lock(&self.unsettled).is_woken = false;
                self.propose_next(context);
            }
            Wake::Offline => self.tell_offline(context),
        }
    }
}

impl Handler<Chaos> for InSyncProposer {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
