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
use capek_state::partition::{Ask, Asking, Fate};
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
    wishes: BTreeMap<Id, Wish>,
    /// It is told of wishes and has not looked yet: thousands of leaders wish at once when a broker comes.
    is_woken: bool,
    /// Offline here (or back), and the controller has not been heard to know.
    offline: BTreeMap<Id, bool>,
}

#[derive(Clone)]
struct Wish {
    wanted: ProposeInSync,
    asking: Asking,
}

impl Wish {
    fn id(&self) -> Id {
        let key = &self.wanted.partition.key;
        (key.topic_id, key.partition)
    }

    fn about(&self) -> (LeaderEpoch, i32) {
        (self.wanted.leader_epoch, self.wanted.partition_epoch)
    }
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

    pub fn propose(&self, wanted: ProposeInSync) {
        let mut wish = Wish { wanted, asking: Asking::default() };
        let mut unsettled = lock(&self.unsettled);
        // A leader that has begun again wants the same; what was asked for that may be on its way.
        if let Some(known) = unsettled.wishes.get(&wish.id()).filter(|known| known.about() == wish.about()) {
            wish.asking = known.asking;
        }
        unsettled.wishes.insert(wish.id(), wish);
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
/// Of a wish, with what it is about.
type Asked = (Id, (LeaderEpoch, i32));

impl Unsettled {
    /// The wish that was asked for, unless another has taken its place.
    fn known(&mut self, (id, about): &Asked) -> Option<&mut Wish> {
        self.wishes.get_mut(id).filter(|wish| wish.about() == *about)
    }
}

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
        let mut unsettled = lock(&self.unsettled);
        if unsettled.wishes.is_empty() {
            return;
        }
        let image = self.image.load_full();
        let broker_epoch = image.broker(self.node_id).map(|broker| broker.epoch);
        let (Some(broker_epoch), Some(controller)) = (broker_epoch, self.controller.get()) else {
            drop(unsettled);
            return self.propose_later(context);
        };
        let wishes = unsettled.wishes.values_mut().take(BATCH_MAX);
        let (asked, partitions): (Vec<_>, _) =
            wishes.map(|wish| ((wish.id(), wish.about()), alter(wish, (self.node_id, broker_epoch), &image))).unzip();
        drop(unsettled);
        let command = Command::AlterPartitions(AlterPartitions { broker: self.node_id, broker_epoch, partitions });
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

    fn answered(&mut self, asked: &[Asked], answer: Result<Outcome, Refusal>, context: &mut Context<Self>) {
        let mut unsettled = lock(&self.unsettled);
        let outcomes = match answer {
            Ok(Outcome::Each(outcomes)) => outcomes,
            answer => {
                debug!("in-sync sets were not answered: {answer:?}");
                // One that was not answered in time may be carried out yet.
                if answer.is_err_and(|refusal| refusal.code != ErrorCode::RequestTimedOut) {
                    for asked in asked {
                        if let Some(wish) = unsettled.known(asked) {
                            wish.asking.unheard();
                        }
                    }
                }
                drop(unsettled);
                return self.propose_later(context);
            }
        };
        let mut is_again = false;
        for (asked, outcome) in asked.iter().zip(outcomes) {
            let Some(wish) = unsettled.known(asked) else { continue };
            let (key, members) = (&wish.wanted.partition.key, &wish.wanted.members);
            match &outcome {
                Ok(()) => info!("{key}: in sync: {:?}", members.iter().map(|member| member.0).collect::<Vec<_>>()),
                Err(refusal) => debug!("{key}: an in-sync set was refused: {refusal}"),
            }
            match wish.asking.answered(outcome.map_err(|refusal| refusal.code)) {
                Fate::AskAgain => {
                    is_again = true;
                    continue;
                }
                Fate::Refused => refuse(&self.routes, &wish.wanted),
                Fate::Shown => {}
            }
            unsettled.wishes.remove(&asked.0);
        }
        drop(unsettled);
        if is_again {
            return self.propose_later(context);
        }
        self.propose_next(context);
    }

    /// The image has a later record of the partition, or the leader is another one: its leader knows.
    fn forget_settled(&mut self) {
        let image = self.image.load();
        lock(&self.unsettled).wishes.retain(|id, wish| {
            image
                .partition(id.0, id.1)
                .is_some_and(|partition| (partition.leader_epoch, partition.partition_epoch) == wish.about())
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

/// What is asked of the controller now, by this broker in this epoch.
fn alter(wish: &mut Wish, me: (BrokerId, i64), image: &Image) -> AlterPartition {
    let epoch_of = |(broker, epoch): &(BrokerId, i64)| {
        let epoch = if *broker == me.0 { me.1 } else { *epoch };
        // One that was in sync before this leader began may not have fetched yet: it is known by the image.
        let known = || image.broker(*broker).map_or(-1, |broker| broker.epoch);
        (*broker, if epoch < 0 { known() } else { epoch })
    };
    let (topic_id, partition) = wish.id();
    let in_sync = || image.partition(topic_id, partition).map_or(&[][..], |partition| &partition.isr[..]);
    let isr = match wish.asking.ask() {
        Ask::Proposed => wish.wanted.members.iter().map(epoch_of).collect(),
        Ask::AsItIs => in_sync().iter().map(|member| epoch_of(&(*member, -1))).collect(),
    };
    let (leader_epoch, partition_epoch) = wish.about();
    AlterPartition { topic_id, partition, leader_epoch, partition_epoch, isr }
}

fn refuse(routes: &Routes, wanted: &ProposeInSync) {
    let key = &wanted.partition.key;
    let topic = routes.topic_by_id(key.topic_id);
    let route = topic.as_ref().and_then(|topic| topic.serving(key.partition).ok());
    if let Some(route) = route.filter(|route| route.incarnation == wanted.incarnation)
        && let Some(leader) = &route.leader
    {
        leader.do_send(InSyncRefused { partition_epoch: wanted.partition_epoch });
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
