//! CoordinatorManager: supervises the group coordinators of this broker, one for each partition of `__consumer_offsets` that
//! it leads, and keeps [`CoordinatorRoutes`] true.
//!
//! It acts on metadata after ReplicaManager has: a coordinator finds its partition's leader running. A coordinator lives for
//! one leader epoch; one that ends before its time is started again and reads its log, within its budget. A spent budget takes
//! its groups offline and leaves the others alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseFuture};
use capek_state::cluster::{Delta, Image, Topic};
use capek_state::group::consumer::{Assignor, ConsumerGroupConfig, MigrationPolicy};
use capek_state::group::{GroupConfig, OFFSETS_TOPIC};
use capek_wire::batch::Codec;
use capek_wire::ids::{LeaderEpoch, PartitionIndex, TopicId};
use log::{error, info, warn};
use tokio::sync::{Semaphore, oneshot};

use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::config::BrokerConfig;
use crate::coordinator_routes::{CoordinatorRoutes, Shard, ShardRoute};
use crate::group_beats::GroupBeats;
use crate::group_coordinator::{GroupCoordinator, GroupCoordinatorStart, ImageChanged, StopCoordinator, TopicsDeleted};
use crate::group_log::{self, GroupLog};
use crate::replica_manager::ApplyDelta;
use crate::routes::Routes;
use crate::shared::PartitionKey;
use crate::supervision::{ChildExited, ExitCause, ExitSignal, Incarnation, Restart, RestartBudget, Verdict};

/// Shards that load at a time: each reads and holds a slice of its log.
const LOADS_MAX: usize = 4;

/// Stop every coordinator. Answered when the last has gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopCoordinators;

struct Child {
    key: PartitionKey,
    leader_epoch: LeaderEpoch,
    incarnation: Incarnation,
    budget: RestartBudget,
    entry: Arc<ActorEntry>,
    beats: Arc<GroupBeats>,
    addr: Option<Addr<GroupCoordinator>>,
    is_offline: bool,
    is_stopping: bool,
    /// Someone waits for it to be gone for good.
    stopped: Vec<oneshot::Sender<()>>,
}

/// What the manager begins with.
pub struct CoordinatorManagerStart {
    pub config: Arc<BrokerConfig>,
    pub routes: Arc<Routes>,
    pub coordinators: Arc<CoordinatorRoutes>,
    pub census: Census,
    /// Where coordinators live: apart from the data, so that no flood of records delays a heartbeat.
    pub arbiter: ArbiterHandle,
    pub image: Arc<Image>,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<&'static str>,
}

pub struct CoordinatorManager {
    config: Arc<BrokerConfig>,
    routes: Arc<Routes>,
    coordinators: Arc<CoordinatorRoutes>,
    census: Census,
    arbiter: ArbiterHandle,
    image: Arc<Image>,
    loads: Arc<Semaphore>,
    children: BTreeMap<(TopicId, PartitionIndex), Child>,
    is_stopping: bool,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

impl CoordinatorManager {
    pub fn new(start: CoordinatorManagerStart) -> Self {
        Self {
            config: start.config,
            routes: start.routes,
            coordinators: start.coordinators,
            census: start.census,
            arbiter: start.arbiter,
            image: start.image,
            loads: Arc::new(Semaphore::new(LOADS_MAX)),
            children: BTreeMap::new(),
            is_stopping: false,
            entry: start.entry,
            _exit: start.exit,
        }
    }

    /// Starts and stops coordinators until they are those of the image.
    fn follow(&mut self, context: &mut Context<Self>) {
        let topic = self.image.topic_by_name(OFFSETS_TOPIC).cloned();
        let wanted = topic.as_deref().map(|topic| self.led_here(topic)).unwrap_or_default();
        for (id, child) in &mut self.children {
            if wanted.get(id).is_none_or(|(_, leader_epoch)| *leader_epoch != child.leader_epoch) {
                stop(child);
            }
        }
        for (_, gone) in self.children.extract_if(.., |_, child| child.is_stopping && child.addr.is_none()) {
            self.census.leave(&gone.entry.path);
        }
        if self.is_stopping {
            return;
        }
        for (id, (key, leader_epoch)) in wanted {
            // One that still stops is followed by the next when it has gone.
            if !self.children.contains_key(&id) {
                self.add_child(id, key, leader_epoch, context);
            }
        }
        self.publish();
    }

    fn led_here(&self, topic: &Topic) -> BTreeMap<(TopicId, PartitionIndex), (PartitionKey, LeaderEpoch)> {
        let mut led = BTreeMap::new();
        for (index, partition) in topic.partitions.iter().enumerate() {
            if partition.leader == self.config.node_id {
                let partition_index = index as PartitionIndex;
                let key = PartitionKey { topic: topic.name.clone(), topic_id: topic.id, partition: partition_index };
                led.insert((topic.id, partition_index), (key, partition.leader_epoch));
            }
        }
        led
    }

    fn add_child(
        &mut self,
        id: (TopicId, PartitionIndex),
        key: PartitionKey,
        leader_epoch: LeaderEpoch,
        context: &mut Context<Self>,
    ) {
        let path = format!("broker/coordinator-manager/group-coordinator:{key}");
        let child = Child {
            key,
            leader_epoch,
            incarnation: 0,
            budget: RestartBudget::new(self.config.restarts_max, self.config.restart_period),
            entry: self.census.enter(path, "group-coordinator"),
            beats: Arc::default(),
            addr: None,
            is_offline: false,
            is_stopping: false,
            stopped: Vec::new(),
        };
        self.children.insert(id, child);
        self.start_incarnation(id, context);
    }

    fn start_incarnation(&mut self, id: (TopicId, PartitionIndex), context: &mut Context<Self>) {
        let config = self.group_config();
        let codec = offsets_codec(&self.image, &self.config);
        let Some(child) = self.children.get_mut(&id) else { return };
        child.incarnation += 1;
        let start = GroupCoordinatorStart {
            key: child.key.clone(),
            incarnation: child.incarnation,
            routes: self.routes.clone(),
            config,
            image: self.image.clone(),
            log: GroupLog::new(child.key.clone(), self.routes.clone(), codec),
            loads: self.loads.clone(),
            entry: child.entry.clone(),
            beats: child.beats.clone(),
            exit: ExitSignal::new(context.address().recipient(), child.key.clone(), child.incarnation),
        };
        let addr = GroupCoordinator::start_in_arbiter(&self.arbiter, move |_| GroupCoordinator::new(start));
        child.addr = Some(addr);
    }

    fn group_config(&self) -> GroupConfig {
        let batch_bytes_max = self.image.topic_config(OFFSETS_TOPIC, self.config.node_id, &self.config.properties);
        let batch_bytes_max = usize::try_from(batch_bytes_max.max_message_bytes).unwrap_or(0);
        group_config(&self.image, &self.config, group_log::record_bytes_max(batch_bytes_max))
    }

    fn publish(&self) {
        let topic = self.image.topic_by_name(OFFSETS_TOPIC);
        let route = |topic: &Topic, index: usize| match self.children.get(&(topic.id, index as PartitionIndex)) {
            None => ShardRoute::NotHere,
            Some(child) if child.is_offline => ShardRoute::Offline,
            Some(child) => match &child.addr {
                Some(addr) if !child.is_stopping => {
                    let (addr, entry, beats) = (addr.clone(), child.entry.clone(), child.beats.clone());
                    ShardRoute::Here(Shard { addr, entry, beats })
                }
                _ => ShardRoute::Restarting,
            },
        };
        let shards = topic.map(|topic| (0..topic.partitions.len()).map(|index| route(topic, index)).collect());
        self.coordinators.publish(shards.unwrap_or_default());
    }

    fn tell_deletions(&self, delta: &Delta) {
        let deleted: Vec<_> = delta.topics_deleted.values().map(|topic| (topic.name.clone(), topic.id)).collect();
        if deleted.is_empty() {
            return;
        }
        let deleted = Arc::new(deleted);
        for child in self.children.values() {
            if let Some(addr) = &child.addr {
                addr.do_send(TopicsDeleted(deleted.clone()));
            }
        }
    }

    fn tell_changes(&self) {
        let config = self.group_config();
        for child in self.children.values() {
            if let Some(addr) = &child.addr {
                addr.do_send(ImageChanged { image: self.image.clone(), config: config.clone() });
            }
        }
    }

    fn child_gone(&mut self, id: (TopicId, PartitionIndex), context: &mut Context<Self>) {
        let Some(child) = self.children.remove(&id) else { return };
        self.census.leave(&child.entry.path);
        for stopped in child.stopped {
            // Whoever waited may have gone.
            let _ = stopped.send(());
        }
        self.follow(context);
    }
}

fn stop(child: &mut Child) {
    child.is_stopping = true;
    if let Some(addr) = &child.addr {
        addr.do_send(StopCoordinator);
    }
}

fn group_config(image: &Image, config: &BrokerConfig, record_bytes_max: usize) -> GroupConfig {
    let number = |name: &str| config.number(image, name);
    let int = |name: &str| i32::try_from(number(name)).unwrap_or(i32::MAX);
    let count = |name: &str| usize::try_from(number(name)).unwrap_or(0);
    GroupConfig {
        session_timeout_min_ms: int("group.min.session.timeout.ms"),
        session_timeout_max_ms: int("group.max.session.timeout.ms"),
        group_size_max: count("group.max.size"),
        initial_rebalance_delay_ms: config.initial_rebalance_delay_ms(image),
        offset_metadata_length_max: count("offset.metadata.max.bytes"),
        offsets_retention_ms: number("offsets.retention.minutes").saturating_mul(60_000),
        offsets_retention_check_interval_ms: number("offsets.retention.check.interval.ms"),
        record_bytes_max,
        consumer: consumer_config(image, config, record_bytes_max),
    }
}

fn consumer_config(image: &Image, config: &BrokerConfig, record_bytes_max: usize) -> ConsumerGroupConfig {
    let int = |name: &str| i32::try_from(config.number(image, name)).unwrap_or(i32::MAX);
    let protocols = config.text(image, "group.coordinator.rebalance.protocols");
    let assignors = config.text(image, "group.consumer.assignors");
    ConsumerGroupConfig {
        is_enabled: list(&protocols).any(|name| name == "consumer"),
        session_timeout_ms: int("group.consumer.session.timeout.ms"),
        heartbeat_interval_ms: int("group.consumer.heartbeat.interval.ms"),
        assignment_interval_ms: int("group.consumer.assignment.interval.ms"),
        members_max: usize::try_from(config.number(image, "group.consumer.max.size")).unwrap_or(usize::MAX),
        // Names of Java classes mean nothing here.
        assignors: list(&assignors).filter_map(Assignor::by_name).collect(),
        migration_policy: MigrationPolicy::by_name(&config.text(image, "group.consumer.migration.policy"))
            .unwrap_or(MigrationPolicy::Disabled),
        record_bytes_max,
    }
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim)
}

fn offsets_codec(image: &Image, config: &BrokerConfig) -> Codec {
    let code = config.number(image, "offsets.topic.compression.codec");
    i16::try_from(code).ok().and_then(|code| Codec::from_code(code).ok()).unwrap_or(Codec::None)
}

impl Actor for CoordinatorManager {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        self.entry.begin(1, Some(context.address().recipient()));
        self.follow(context);
    }
}

impl Handler<ApplyDelta> for CoordinatorManager {
    type Result = ();

    fn handle(&mut self, apply: ApplyDelta, context: &mut Self::Context) {
        // Those who wait for replicas may be overtaken: an older image says nothing new.
        let partition_count = self.image.partition_count();
        if apply.image.records_applied() > self.image.records_applied() {
            self.image = apply.image;
        }
        let has_grown = self.image.partition_count() != partition_count;
        self.follow(context);
        self.tell_deletions(&apply.delta);
        let Delta { topics_created, topics_deleted, configs_changed, .. } = &*apply.delta;
        let is_news = !topics_created.is_empty() || !topics_deleted.is_empty() || !configs_changed.is_empty();
        if has_grown || is_news {
            self.tell_changes();
        }
    }
}

impl Handler<ChildExited<PartitionKey>> for CoordinatorManager {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<PartitionKey>, context: &mut Self::Context) {
        let id = (exited.child.topic_id, exited.child.partition);
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.incarnation != exited.incarnation {
            return;
        }
        child.addr = None;
        if child.is_stopping {
            return self.child_gone(id, context);
        }
        let verdict = match exited.cause {
            cause if !Restart::Transient.wants(cause) => return self.publish(),
            ExitCause::Refresh => Verdict::RestartAfter(Default::default()),
            ExitCause::Stopped | ExitCause::Failed | ExitCause::Panicked => child.budget.spend(Instant::now()),
        };
        match verdict {
            Verdict::RestartAfter(backoff) => {
                warn!("group coordinator of {} ended ({:?}), restarting after {backoff:?}", exited.child, exited.cause);
                context.run_later(backoff, move |manager, context| {
                    let is_wanted = manager.children.get(&id).is_some_and(|child| !child.is_stopping);
                    if is_wanted {
                        manager.children[&id].entry.restarts.fetch_add(1, Ordering::Relaxed);
                        manager.start_incarnation(id, context);
                        manager.publish();
                    }
                });
            }
            Verdict::Escalate => {
                error!("the groups of {} are offline: the restart budget (capek.restart.max) is spent", exited.child);
                child.is_offline = true;
            }
        }
        self.publish();
    }
}

impl Handler<StopCoordinators> for CoordinatorManager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopCoordinators, _: &mut Self::Context) -> Self::Result {
        self.is_stopping = true;
        let mut gone = Vec::new();
        for child in self.children.values_mut() {
            stop(child);
            if child.addr.is_some() {
                let (sender, stopped) = oneshot::channel();
                child.stopped.push(sender);
                gone.push(stopped);
            }
        }
        self.publish();
        info!("stopping {} group coordinators", gone.len());
        Box::pin(async move {
            for stopped in gone {
                // A dropped sender says the same: it is gone.
                let _ = stopped.await;
            }
        })
    }
}

impl Handler<Chaos> for CoordinatorManager {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
