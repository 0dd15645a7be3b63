//! ReplicaManager: supervises this broker's replicas and keeps [`Routes`] true.
//!
//! It acts on metadata deltas: logs are made by the journal, a Partition is started for each, and only then is the delta
//! answered, so that whoever created a topic finds its leaders. A Partition that ends is restarted from disk after the journal
//! has drained, one for one, within its budget; a spent budget takes that replica offline and leaves the others alone.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{
    Actor, ActorFutureExt, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture,
};
use capek_log::{Log, LogConfig, LogError, LogId, LogSpec};
use capek_state::cluster::{ConfigKind, ConfigResource, Delta, Image, Topic};
use capek_state::config::{Flush, TopicConfig};
use capek_wire::ids::TopicId;
use log::{error, info, warn};
use tokio::sync::oneshot;

use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::config::BrokerConfig;
use crate::journal::{Attach, Detach, JournalHandle, RoundDispatcher};
use crate::partition::{ConfigChanged, Partition, PartitionStart, StopPartition};
use crate::routes::{PartitionRoute, Routes};
use crate::shared::{PartitionKey, PartitionShared};
use crate::supervision::{ChildExited, ExitCause, ExitSignal, Incarnation, Restart, RestartBudget, Verdict};

/// Follow the metadata: start, stop and reconfigure replicas. Answered when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ApplyDelta {
    pub image: Arc<Image>,
    pub delta: Arc<Delta>,
}

/// Stop every replica. Answered when the last has gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopReplicas;

/// A replica could not be kept alive here: its budget is spent, or its log cannot be opened. In a cluster the controller
/// elects another; alone it stays offline until the broker is restarted.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct ReplicaFailed {
    pub partition: PartitionKey,
    pub reason: String,
}

/// A data arbiter: where partitions and connections live.
#[derive(Clone)]
pub struct DataArbiter {
    pub handle: ArbiterHandle,
    pub dispatcher: Addr<RoundDispatcher>,
}

/// A data directory's journal, and how many replicas it has (a new one goes where there are fewest).
pub struct DataDir {
    pub journal: JournalHandle,
    pub replicas: usize,
}

struct Child {
    shared: Arc<PartitionShared>,
    dir: usize,
    arbiter: usize,
    incarnation: Incarnation,
    budget: RestartBudget,
    entry: Arc<ActorEntry>,
    addr: Option<Addr<Partition>>,
    /// Someone waits for it to be gone for good.
    stopped: Vec<oneshot::Sender<()>>,
    is_stopping: bool,
}

pub struct ReplicaManager {
    config: Arc<BrokerConfig>,
    routes: Arc<Routes>,
    census: Census,
    arbiters: Vec<DataArbiter>,
    dirs: Vec<DataDir>,
    /// Where the logs that recovery found are.
    found: HashMap<(TopicId, i32), usize>,
    children: BTreeMap<(TopicId, i32), Child>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

/// What the manager begins with.
pub struct ReplicaManagerStart {
    pub config: Arc<BrokerConfig>,
    pub routes: Arc<Routes>,
    pub census: Census,
    pub arbiters: Vec<DataArbiter>,
    pub dirs: Vec<DataDir>,
    /// The data directory of each log that recovery found.
    pub found: HashMap<(TopicId, i32), usize>,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<&'static str>,
}

/// The part of a topic's configuration that the log needs.
pub fn log_config(config: &TopicConfig) -> LogConfig {
    // What may not wait for longer to be compacted must leave the active segment by then.
    let lag_ms = if config.cleanup_policy.compact { config.max_compaction_lag_ms.max(1) } else { i64::MAX };
    LogConfig {
        segment_bytes: config.segment_bytes,
        segment_ms: config.segment_ms.min(lag_ms),
        segment_index_bytes: config.segment_index_bytes,
        index_interval_bytes: config.index_interval_bytes,
        file_delete_delay_ms: config.file_delete_delay_ms,
        producer_expiration_ms: config.producer_id_expiration_ms,
        flush: match config.flush {
            Flush::Group => capek_log::Flush::Group,
            Flush::Async => capek_log::Flush::Async,
        },
    }
}

/// A replica that shall exist here.
struct Wanted {
    key: PartitionKey,
    config: Arc<TopicConfig>,
    leader_epoch: i32,
    dir: usize,
}

impl ReplicaManager {
    pub fn new(start: ReplicaManagerStart) -> Self {
        Self {
            config: start.config,
            routes: start.routes,
            census: start.census,
            arbiters: start.arbiters,
            dirs: start.dirs,
            found: start.found,
            children: BTreeMap::new(),
            entry: start.entry,
            _exit: start.exit,
        }
    }

    fn topic_config(&self, image: &Image, topic: &str) -> Arc<TopicConfig> {
        Arc::new(image.topic_config(topic, self.config.node_id, &self.config.properties))
    }

    /// The replicas that the delta adds to this broker, and a place for each.
    fn wanted(&mut self, image: &Image, delta: &Delta) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (topic_id, partitions) in &delta.partitions_changed {
            let Some(topic) = image.topic(*topic_id) else { continue };
            self.routes.enter_topic(&topic.name, *topic_id, topic.partitions.len());
            let config = self.topic_config(image, &topic.name);
            for &index in partitions {
                let Some(partition) = topic.partition(index) else { continue };
                let is_ours = partition.replicas.contains(&self.config.node_id);
                if !is_ours || self.children.contains_key(&(*topic_id, index)) {
                    continue;
                }
                let dir = self.found.get(&(*topic_id, index)).copied().unwrap_or_else(|| self.emptiest_dir());
                self.dirs[dir].replicas += 1;
                wanted.push(Wanted {
                    key: PartitionKey { topic: topic.name.clone(), topic_id: *topic_id, partition: index },
                    config: config.clone(),
                    leader_epoch: partition.leader_epoch,
                    dir,
                });
            }
        }
        wanted
    }

    fn emptiest_dir(&self) -> usize {
        let by_replicas = self.dirs.iter().enumerate().min_by_key(|(_, dir)| dir.replicas);
        by_replicas.map_or(0, |(index, _)| index)
    }

    /// A log is there (or is not): start its Partition.
    fn replica_ready(&mut self, wanted: &Wanted, log: Result<Arc<Log>, LogError>, context: &mut Context<Self>) {
        let log = match log {
            Ok(log) => log,
            Err(error) => {
                self.routes.set_unopened(&wanted.key);
                let reason = format!("its log cannot be opened: {error}");
                context.notify(ReplicaFailed { partition: wanted.key.clone(), reason });
                return;
            }
        };
        let end = log.end_offset(); // recovery has synced all that it kept
        let shared = PartitionShared::new(wanted.key.clone(), log, wanted.config.clone(), end, wanted.leader_epoch);
        let path = format!("broker/replica-manager/partition:{}", wanted.key);
        let child = Child {
            shared: Arc::new(shared),
            dir: wanted.dir,
            arbiter: self.arbiter_for(&wanted.key),
            incarnation: 0,
            budget: RestartBudget::new(self.config.restarts_max, self.config.restart_period),
            entry: self.census.enter(path, "partition"),
            addr: None,
            stopped: Vec::new(),
            is_stopping: false,
        };
        let id = (wanted.key.topic_id, wanted.key.partition);
        self.children.insert(id, child);
        self.start_incarnation(id, context);
    }

    fn arbiter_for(&self, key: &PartitionKey) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((key.topic_id, key.partition));
        (hash % self.arbiters.len() as u64) as usize
    }

    fn start_incarnation(&mut self, id: (TopicId, i32), context: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.incarnation += 1;
        let arbiter = &self.arbiters[child.arbiter];
        let journal = self.dirs[child.dir].journal.clone();
        let log = child.shared.log.clone();
        let start = PartitionStart {
            shared: child.shared.clone(),
            incarnation: child.incarnation,
            journal: journal.clone(),
            entry: child.entry.clone(),
            exit: ExitSignal::new(context.address().recipient(), child.shared.key.clone(), child.incarnation),
        };
        let addr = Partition::start_in_arbiter(&arbiter.handle, move |_| Partition::new(start));
        journal.set_owner(&log, arbiter.dispatcher.clone().recipient());
        arbiter.dispatcher.do_send(Attach { log, partition: addr.clone() });
        child.addr = Some(addr);
        publish_route(&self.routes, child, false);
    }

    fn stop_child(&mut self, id: (TopicId, i32)) -> Option<oneshot::Receiver<()>> {
        let child = self.children.get_mut(&id)?;
        child.is_stopping = true;
        let Some(addr) = &child.addr else {
            return None; // offline, or between two incarnations: nothing runs
        };
        let (sender, stopped) = oneshot::channel();
        child.stopped.push(sender);
        addr.do_send(StopPartition);
        Some(stopped)
    }

    /// Stops the topic's replicas here and deletes their logs.
    fn delete_topic(&mut self, topic: &Topic) -> impl Future<Output = ()> + use<> {
        self.routes.leave_topic(&topic.name, topic.id);
        let mut deletions = Vec::new();
        for index in 0..topic.partitions.len() as i32 {
            let id = (topic.id, index);
            let stopped = self.stop_child(id);
            let Some(child) = self.children.get(&id) else { continue };
            child.shared.delete();
            let journal = self.dirs[child.dir].journal.clone();
            deletions.push((stopped, journal, child.shared.log.clone(), self.arbiters[child.arbiter].clone()));
            self.census.leave(&child.entry.path);
            self.dirs[child.dir].replicas = self.dirs[child.dir].replicas.saturating_sub(1);
            if child.addr.is_none() {
                self.children.remove(&id);
            }
        }
        async move {
            for (stopped, journal, log, arbiter) in deletions {
                if let Some(stopped) = stopped {
                    // A dropped sender says the same: it is gone.
                    let _ = stopped.await;
                }
                journal.delete(&log).await;
                arbiter.dispatcher.do_send(Detach { log });
            }
        }
    }

    fn reconfigure(&mut self, image: &Image, changed: &ConfigResource) {
        for child in self.children.values() {
            let topic = &child.shared.key.topic;
            if changed.kind == ConfigKind::Topic && *changed.name != **topic {
                continue;
            }
            child.shared.set_config(self.topic_config(image, topic));
            if let Some(addr) = &child.addr {
                addr.do_send(ConfigChanged);
            }
        }
    }

    /// Everything that was queued for the dead incarnation is done before the next one opens the log.
    fn restart_later(&mut self, id: (TopicId, i32), backoff: Duration, context: &mut Context<Self>) {
        let Some(child) = self.children.get(&id) else { return };
        let journal = self.dirs[child.dir].journal.clone();
        let log = child.shared.log.clone();
        let drained = async move {
            let drained = journal.drain(&log).await;
            tokio::time::sleep(backoff).await;
            drained
        };
        context.spawn(drained.into_actor(self).map(move |drained, manager, context| {
            let is_wanted = manager.children.get(&id).is_some_and(|child| !child.is_stopping);
            match drained {
                Some(end_offset) if is_wanted => {
                    if let Some(child) = manager.children.get(&id) {
                        child.entry.restarts.fetch_add(1, Ordering::Relaxed);
                        info!("{}: restarting from disk at offset {end_offset}", child.shared.key);
                    }
                    manager.start_incarnation(id, context);
                }
                Some(_) => {
                    manager.children.remove(&id);
                }
                None => warn!("the journal has ended; its replicas stay offline"),
            }
        }));
    }
}

fn publish_route(routes: &Routes, child: &Child, is_offline: bool) {
    routes.set(PartitionRoute {
        shared: child.shared.clone(),
        leader_epoch: child.shared.leader_epoch(),
        incarnation: child.incarnation,
        leader: child.addr.clone(),
        entry: child.entry.clone(),
        is_offline,
    });
}

impl Actor for ReplicaManager {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        self.entry.begin(1, Some(context.address().recipient()));
    }
}

impl Handler<ApplyDelta> for ReplicaManager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, apply: ApplyDelta, context: &mut Self::Context) -> Self::Result {
        let ApplyDelta { image, delta } = apply;
        let deletions: Vec<_> = delta.topics_deleted.values().map(|topic| self.delete_topic(topic)).collect();
        for changed in &delta.configs_changed {
            self.reconfigure(&image, changed);
        }
        let wanted = self.wanted(&image, &delta);
        let mut by_dir: BTreeMap<usize, Vec<Wanted>> = BTreeMap::new();
        for replica in wanted {
            by_dir.entry(replica.dir).or_default().push(replica);
        }
        let (done, is_done) = oneshot::channel();
        let journals: Vec<_> =
            by_dir.into_iter().map(|(dir, wanted)| (self.dirs[dir].journal.clone(), wanted)).collect();
        let made = async move {
            let mut made = Vec::new();
            for (journal, wanted) in journals {
                let specs = wanted.iter().map(spec).collect();
                let logs = journal.create(specs).await;
                made.extend(wanted.into_iter().zip(logs));
            }
            made
        };
        context.spawn(made.into_actor(self).map(move |made, manager, context| {
            for (wanted, log) in made {
                manager.replica_ready(&wanted, log, context);
            }
            // Nobody waits any more when the broker stops.
            let _ = done.send(());
        }));
        Box::pin(async move {
            for deletion in deletions {
                deletion.await;
            }
            // A dropped sender says that the manager stops.
            let _ = is_done.await;
        })
    }
}

fn spec(wanted: &Wanted) -> LogSpec {
    let PartitionKey { topic, topic_id, partition } = &wanted.key;
    LogSpec {
        id: LogId { topic: topic.clone(), topic_id: *topic_id, partition: *partition },
        config: log_config(&wanted.config),
    }
}

impl Handler<ChildExited<PartitionKey>> for ReplicaManager {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<PartitionKey>, context: &mut Self::Context) {
        let id = (exited.child.topic_id, exited.child.partition);
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.incarnation != exited.incarnation {
            return;
        }
        child.addr = None;
        if child.is_stopping {
            if let Some(child) = self.children.remove(&id) {
                for stopped in child.stopped {
                    // Whoever waited may have gone.
                    let _ = stopped.send(());
                }
            }
            return;
        }
        publish_route(&self.routes, child, false);
        let verdict = match exited.cause {
            cause if !Restart::Transient.wants(cause) => return,
            ExitCause::Refresh => Verdict::RestartAfter(Duration::from_millis(10)),
            ExitCause::Stopped | ExitCause::Failed | ExitCause::Panicked => child.budget.spend(Instant::now()),
        };
        match verdict {
            Verdict::RestartAfter(backoff) => {
                warn!("{} ended ({:?}), restarting after {backoff:?}", exited.child, exited.cause);
                self.restart_later(id, backoff, context);
            }
            Verdict::Escalate => {
                let reason = "its restart budget is spent (capek.restart.max)".to_string();
                context.notify(ReplicaFailed { partition: exited.child, reason });
            }
        }
    }
}

impl Handler<ReplicaFailed> for ReplicaManager {
    type Result = ();

    fn handle(&mut self, failed: ReplicaFailed, _: &mut Self::Context) {
        error!("{} is offline: {}", failed.partition, failed.reason);
        if let Some(child) = self.children.get(&(failed.partition.topic_id, failed.partition.partition)) {
            publish_route(&self.routes, child, true);
            child.shared.set_offline();
        }
    }
}

impl Handler<StopReplicas> for ReplicaManager {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopReplicas, _: &mut Self::Context) -> Self::Result {
        let ids: Vec<_> = self.children.keys().copied().collect();
        let stopped: Vec<_> = ids.into_iter().filter_map(|id| self.stop_child(id)).collect();
        Box::pin(async move {
            for stopped in stopped {
                // A dropped sender says the same: it is gone.
                let _ = stopped.await;
            }
        })
    }
}

impl Handler<Chaos> for ReplicaManager {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
