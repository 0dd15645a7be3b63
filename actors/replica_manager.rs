//! ReplicaManager: supervises this broker's replicas and keeps [`Routes`] true.
//!
//! It acts on metadata deltas: logs are made by the journal, a Partition is started for each, and only then is the delta
//! answered, so that whoever created a topic finds its leaders. A Partition that ends is restarted from disk after the journal
//! has drained, one for one, within its budget; a spent budget takes that replica offline and leaves the others alone.

mod lives;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use capek_log::{Log, LogError, LogId};
use capek_state::cluster::{ConfigKind, ConfigResource, Delta, Image, Topic};
use capek_state::config::TopicConfig;
use capek_state::partition::{NewProducers, ReplicaSet};
use capek_wire::ids::{BrokerId, TopicId};
use log::info;
use tokio::sync::oneshot;

use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::clock::now_ms;
use crate::config::BrokerConfig;
use crate::follower_replica::{FollowerReplica, FollowerReplicaStart};
use crate::journal::{Attach, Detach};
use crate::partition::{self, PRODUCER_CHECK_MS, PartitionStart, ReplicasChanged, ReviewInSync};
pub use crate::replica::log_config;
use crate::replica::{Assignment, Child, Replica, Wanted, begin_epoch, publish_route};
use crate::replica_logs;
pub use crate::replica_messages::{
    ApplyDelta, DataArbiter, DataDir, Peers, ReplicaFailed, ReplicaManagerStart, StopReplicas,
};
use crate::routes::Routes;
use crate::shared::{PartitionKey, PartitionShared, Role};
use crate::supervision::{ExitSignal, RestartBudget};
use lives::OFFLINE_RETRY;

/// How often a leader meets a full disk before another one leads: some seconds, as the back-off grows.
const FULL_DISK_TRIES: usize = 10;

const LAG_MAX: &str = "replica.lag.time.max.ms";

pub struct ReplicaManager {
    config: Arc<BrokerConfig>,
    routes: Arc<Routes>,
    census: Census,
    arbiters: Vec<DataArbiter>,
    dirs: Vec<DataDir>,
    /// Where the logs that recovery found are.
    found: HashMap<(TopicId, i32), usize>,
    children: BTreeMap<(TopicId, i32), Child>,
    /// Their logs are being opened or made.
    being_made: BTreeSet<(TopicId, i32)>,
    /// Offline, and tried again when their rest is over.
    to_be_retried: BTreeSet<(TopicId, i32)>,
    /// In a cluster.
    peers: Option<Peers>,
    image: Arc<Image>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

/// How often leaders look for followers that have fallen behind, at most.
const REVIEW_INTERVAL_MIN: Duration = Duration::from_millis(250);

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
            being_made: BTreeSet::new(),
            to_be_retried: BTreeSet::new(),
            peers: start.peers,
            image: Arc::default(),
            entry: start.entry,
            _exit: start.exit,
        }
    }

    fn topic_config(&self, image: &Image, topic: &str) -> Arc<TopicConfig> {
        Arc::new(image.topic_config(topic, self.config.node_id, &self.config.properties))
    }

    /// The replicas that the delta adds to this broker, and a place for each; those that it has follow the delta.
    fn wanted(&mut self, image: &Image, delta: &Delta, context: &mut Context<Self>) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        for (topic_id, partitions) in &delta.partitions_changed {
            let Some(topic) = image.topic(*topic_id) else { continue };
            self.routes.enter_topic(&topic.name, *topic_id, topic.partitions.len());
            let config = self.topic_config(image, &topic.name);
            for &index in partitions {
                let Some(partition) = topic.partition(index) else { continue };
                let is_ours = partition.replicas.contains(&self.config.node_id);
                let id = (*topic_id, index);
                match (is_ours, self.children.contains_key(&id)) {
                    (false, false) => self.forget_unopened(id, &topic.name),
                    (false, true) => self.remove_replica(id, context),
                    (true, true) => self.assign(id, Assignment::of(partition, self.config.node_id), context),
                    (true, false) if self.being_made.contains(&id) => {} // it is looked at when it is made
                    (true, false) => {
                        let key = PartitionKey { topic: topic.name.clone(), topic_id: *topic_id, partition: index };
                        let assignment = Assignment::of(partition, self.config.node_id);
                        wanted.push(self.place(key, config.clone(), assignment));
                    }
                }
            }
        }
        wanted
    }

    /// A place for a replica's log: where it was found, or where there are fewest.
    fn place(&mut self, key: PartitionKey, config: Arc<TopicConfig>, assignment: Assignment) -> Wanted {
        let id = (key.topic_id, key.partition);
        let dir = self.found.get(&id).copied().unwrap_or_else(|| self.emptiest_dir());
        self.dirs[dir].replicas += 1;
        Wanted { key, config, assignment, dir, new_producers: self.newest_producers() }
    }

    /// The image has another record of a replica that is here.
    fn assign(&mut self, id: (TopicId, i32), assignment: Assignment, context: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(&id) else { return };
        if child.is_stopping {
            return;
        }
        let is_same_life = child.assignment.is_same_life(&assignment);
        let is_newer = assignment.replicas.partition_epoch > child.assignment.replicas.partition_epoch;
        if !is_newer && is_same_life {
            return;
        }
        child.assignment = assignment;
        match &child.replica {
            Some(Replica::Leader(leader)) if is_same_life => {
                leader.do_send(ReplicasChanged(child.assignment.replicas.clone()));
            }
            _ if is_same_life => {}
            // Its end brings the next life.
            Some(replica) => {
                replica.stop();
                publish_route(&self.routes, child, true);
            }
            None if child.is_restarting => {}
            None => self.restart_later(id, None, context),
        }
    }

    /// A replica that another broker has now: stop it and delete its log.
    fn remove_replica(&mut self, id: (TopicId, i32), context: &mut Context<Self>) {
        let stopped = self.stop_child(id);
        let Some(child) = self.children.get(&id) else { return };
        info!("{}: this broker has no replica of it any more", child.shared.key);
        self.routes.clear(&child.shared.key);
        child.shared.delete();
        let deleted = self.delete_log(id, stopped);
        context.spawn(deleted.into_actor(self));
    }

    fn emptiest_dir(&self) -> usize {
        let by_replicas = self.dirs.iter().enumerate().min_by_key(|(_, dir)| dir.replicas);
        by_replicas.map_or(0, |(index, _)| index)
    }

    /// Opens or makes the logs of these replicas, and starts them. Whoever has the receiver hears when that is done.
    fn make(&mut self, wanted: Vec<Wanted>, context: &mut Context<Self>) -> oneshot::Receiver<()> {
        self.being_made.extend(wanted.iter().map(|wanted| (wanted.key.topic_id, wanted.key.partition)));
        let journals: Vec<_> = self.dirs.iter().map(|dir| dir.journal.clone()).collect();
        let (image, me) = (self.image.clone(), self.config.node_id);
        let (done, is_done) = oneshot::channel();
        let made = async move { replica_logs::open_or_make(&journals, wanted, &image, me).await };
        context.spawn(made.into_actor(self).map(move |made, manager, context| {
            for (wanted, log) in made {
                manager.replica_ready(&wanted, log, context);
            }
            // Nobody waits any more when the broker stops.
            let _ = done.send(());
        }));
        is_done
    }

    /// A log is there (or is not): start its Partition.
    fn replica_ready(&mut self, wanted: &Wanted, log: Result<Arc<Log>, LogError>, context: &mut Context<Self>) {
        self.being_made.remove(&(wanted.key.topic_id, wanted.key.partition));
        let log = match log {
            Ok(log) => log,
            Err(error) => {
                self.dirs[wanted.dir].replicas = self.dirs[wanted.dir].replicas.saturating_sub(1);
                let (topic_id, partition) = (wanted.key.topic_id, wanted.key.partition);
                if !self.is_held(topic_id, partition) {
                    return self.forget_unopened((topic_id, partition), &wanted.key.topic);
                }
                self.routes.set_unopened(&wanted.key);
                let reason = format!("its log cannot be opened: {error}");
                context.notify(ReplicaFailed { partition: wanted.key.clone(), reason });
                return;
            }
        };
        let id = (wanted.key.topic_id, wanted.key.partition);
        self.found.insert(id, wanted.dir);
        let traffic = self.routes.topic_by_id(wanted.key.topic_id).map(|topic| topic.traffic.clone());
        let traffic = traffic.unwrap_or_default();
        let shared =
            PartitionShared::new(wanted.key.clone(), log, wanted.config.clone(), traffic, wanted.new_producers);
        let path = format!("broker/replica-manager/partition:{}", wanted.key);
        let child = Child {
            shared: Arc::new(shared),
            assignment: wanted.assignment.clone(),
            dir: wanted.dir,
            arbiter: self.arbiter_for(&wanted.key),
            incarnation: 0,
            budget: RestartBudget::new(self.config.restarts_max, self.config.restart_period),
            patience: RestartBudget::new(FULL_DISK_TRIES, OFFLINE_RETRY),
            entry: self.census.enter(path, "partition"),
            replica: None,
            is_restarting: false,
            stopped: Vec::new(),
            is_stopping: false,
        };
        self.children.insert(id, child);
        self.start_incarnation(id, context);
        // The image may have moved on while the log was made.
        let partition = self.image.partition(id.0, id.1).filter(|_| self.is_held(id.0, id.1));
        match partition {
            Some(partition) => self.assign(id, Assignment::of(partition, self.config.node_id), context),
            None => self.remove_replica(id, context),
        }
    }

    fn arbiter_for(&self, key: &PartitionKey) -> usize {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((key.topic_id, key.partition));
        (hash % self.arbiters.len() as u64) as usize
    }

    fn start_incarnation(&mut self, id: (TopicId, i32), context: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(&id) else { return };
        child.is_restarting = false;
        begin_epoch(child);
        child.incarnation += 1;
        let arbiter = &self.arbiters[child.arbiter];
        let journal = self.dirs[child.dir].journal.clone();
        let log = child.shared.log.clone();
        let (shared, entry, incarnation) = (child.shared.clone(), child.entry.clone(), child.incarnation);
        let exit = ExitSignal::new(context.address().recipient(), child.shared.key.clone(), child.incarnation);
        let replica = match (child.assignment.role, &self.peers) {
            (Role::Leader, peers) => {
                let replicas = child.assignment.replicas.clone();
                let proposer = peers.as_ref().map(|peers| peers.proposer.clone());
                let lag_max_ms = self.config.number(&self.image, LAG_MAX);
                let start = PartitionStart {
                    shared,
                    incarnation,
                    replicas,
                    lag_max_ms,
                    proposer,
                    journal: journal.clone(),
                    entry,
                    exit,
                };
                let start_partition = move |_: &mut Context<_>| partition::Partition::new(start);
                Replica::Leader(partition::Partition::start_in_arbiter(&arbiter.handle, start_partition))
            }
            (Role::Follower, Some(Peers { peer_manager, .. })) => {
                let (leader, peer_manager) = (child.assignment.leader, peer_manager.clone());
                let start = FollowerReplicaStart {
                    shared,
                    incarnation,
                    leader,
                    peer_manager,
                    journal: journal.clone(),
                    entry,
                    exit,
                };
                let start_follower = move |_: &mut Context<_>| FollowerReplica::new(start);
                Replica::Follower(FollowerReplica::start_in_arbiter(&arbiter.handle, start_follower))
            }
            (Role::Follower | Role::Idle, _) => {
                drop(exit); // nothing lives here until there is a leader; what it says is taken for an old life's word
                child.incarnation += 1;
                return publish_route(&self.routes, child, false);
            }
        };
        let recipient = match &replica {
            Replica::Leader(addr) => addr.clone().recipient(),
            Replica::Follower(addr) => addr.clone().recipient(),
        };
        journal.set_owner(&log, arbiter.dispatcher.clone().recipient());
        arbiter.dispatcher.do_send(Attach { log, replica: recipient });
        child.replica = Some(replica);
        publish_route(&self.routes, child, false);
    }

    fn stop_child(&mut self, id: (TopicId, i32)) -> Option<oneshot::Receiver<()>> {
        let child = self.children.get_mut(&id)?;
        child.is_stopping = true;
        let Some(replica) = &child.replica else {
            return None; // offline, or between two incarnations: nothing runs
        };
        let (sender, stopped) = oneshot::channel();
        child.stopped.push(sender);
        replica.stop();
        Some(stopped)
    }

    /// Stops the topic's replicas here and deletes their logs.
    fn delete_topic(&mut self, topic: &Topic) -> impl Future<Output = ()> + use<> {
        self.routes.leave_topic(&topic.name, topic.id);
        let mut deletions = Vec::new();
        for index in 0..topic.partitions.len() as i32 {
            let id = (topic.id, index);
            let stopped = self.stop_child(id);
            if let Some(child) = self.children.get(&id) {
                child.shared.delete();
                deletions.push(self.delete_log(id, stopped));
            } else {
                self.forget_unopened(id, &topic.name);
            }
        }
        async move {
            for deletion in deletions {
                deletion.await;
            }
        }
    }

    /// Deletes the log of a child that stops.
    fn delete_log(
        &mut self,
        id: (TopicId, i32),
        stopped: Option<oneshot::Receiver<()>>,
    ) -> impl Future<Output = ()> + use<> {
        let child = self.children.get(&id).expect("the caller looked");
        let journal = self.dirs[child.dir].journal.clone();
        let (log, arbiter) = (child.shared.log.clone(), self.arbiters[child.arbiter].clone());
        self.census.leave(&child.entry.path);
        self.found.remove(&id);
        self.dirs[child.dir].replicas = self.dirs[child.dir].replicas.saturating_sub(1);
        if child.replica.is_none() {
            self.children.remove(&id);
        }
        async move {
            if let Some(stopped) = stopped {
                // A dropped sender says the same: it is gone.
                let _ = stopped.await;
            }
            journal.delete(&log).await;
            arbiter.dispatcher.do_send(Detach { log });
        }
    }

    fn reconfigure(&mut self, image: &Image, changed: &ConfigResource) {
        for child in self.children.values() {
            let topic = &child.shared.key.topic;
            if changed.kind == ConfigKind::Topic && *changed.name != **topic {
                continue;
            }
            child.shared.set_config(self.topic_config(image, topic));
            if let Some(replica) = &child.replica {
                replica.reconfigure();
            }
        }
    }

    fn is_held(&self, topic_id: TopicId, partition: i32) -> bool {
        let partition = self.image.partition(topic_id, partition);
        partition.is_some_and(|partition| partition.replicas.contains(&self.config.node_id))
    }

    /// A log that was found and never opened belongs to a partition that this broker has no part in any more.
    fn forget_unopened(&mut self, id: (TopicId, i32), topic: &Arc<str>) {
        if let Some(dir) = self.found.remove(&id) {
            let stray = LogId { topic: topic.clone(), topic_id: id.0, partition: id.1 };
            let journal = self.dirs[dir].journal.clone();
            actix::spawn(async move { replica_logs::set_aside(&journal, vec![stray]).await });
        }
    }

    /// The controller takes a replica for offline until it hears otherwise.
    fn tell_what_is_back(&self, id: (TopicId, i32)) {
        let works = self.children.get(&id).is_some_and(|child| !child.shared.is_offline() && !child.is_stopping);
        let me = &self.config.node_id;
        if let Some(peers) = self.peers.as_ref().filter(|_| works)
            && self.image.partition(id.0, id.1).is_some_and(|partition| partition.offline.contains(me))
        {
            peers.proposer.replica_back(id.0, id.1);
        }
    }

    /// Brokers have come: what their replicas said before the image knew them counts now.
    fn review_for(&self, delta: &Delta) {
        let is_active = |id: &&BrokerId| self.image.broker(**id).is_some_and(|broker| broker.is_active());
        let come: Vec<_> = delta.brokers_changed.iter().filter(is_active).collect();
        if come.is_empty() {
            return;
        }
        let lag_max_ms = self.config.number(&self.image, LAG_MAX);
        for child in self.children.values() {
            let ReplicaSet { replicas, in_sync, .. } = &child.assignment.replicas;
            let is_concerned = come.iter().any(|broker| replicas.contains(broker) && !in_sync.contains(broker));
            if is_concerned && let Some(Replica::Leader(leader)) = &child.replica {
                leader.do_send(ReviewInSync { lag_max_ms });
            }
        }
    }

    /// Twice in `replica.lag.time.max.ms`, as Kafka does.
    fn review_later(&self, context: &mut Context<Self>) {
        let lag_max_ms = self.config.number(&self.image, LAG_MAX);
        let interval = Duration::from_millis(u64::try_from(lag_max_ms / 2).unwrap_or(0)).max(REVIEW_INTERVAL_MIN);
        context.run_later(interval, move |manager, context| {
            for child in manager.children.values().filter(|child| child.assignment.replicas.replicas.len() > 1) {
                if let Some(Replica::Leader(leader)) = &child.replica {
                    leader.do_send(ReviewInSync { lag_max_ms });
                }
            }
            manager.children.keys().for_each(|id| manager.tell_what_is_back(*id));
            manager.review_later(context);
        });
    }

    fn newest_producers(&self) -> NewProducers {
        NewProducers { id_min: self.image.next_producer_id(), since_ms: now_ms() }
    }

    fn note_newest_producers(&self) {
        let now = self.newest_producers();
        for child in self.children.values() {
            let expiration_ms = child.shared.config().producer_id_expiration_ms;
            child.shared.producer_moments().note(now, expiration_ms);
        }
    }
}

impl Actor for ReplicaManager {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(1024);
        self.entry.begin(1, Some(context.address().recipient()));
        // As often as leaders look whom they may forget.
        let interval = Duration::from_millis(PRODUCER_CHECK_MS as u64);
        context.run_interval(interval, |manager, _| manager.note_newest_producers());
        if self.peers.is_some() {
            self.review_later(context);
        }
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
        self.image = image.clone();
        let wanted = self.wanted(&image, &delta, context);
        self.review_for(&delta);
        let is_done = self.make(wanted, context);
        Box::pin(async move {
            for deletion in deletions {
                deletion.await;
            }
            // A dropped sender says that the manager stops.
            let _ = is_done.await;
        })
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
