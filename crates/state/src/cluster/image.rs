//! The cluster as the applied records describe it.
//!
//! An image is cheap to clone: its maps stand behind `Arc`s. A publisher clones it after a batch of records; what the
//! next change then copies is a part of one map, see `chunked_map`.

use std::collections::BTreeMap;
use std::sync::Arc;

use capek_wire::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, Uuid};
use capek_wire::peer::hello::PEER_LISTENER;

use super::chunked_map::ChunkedMap;
use super::delta::Delta;
use super::election_rules::DECISIVE_SETTINGS;
use super::record::{
    BrokerRecord, ConfigKind, ConfigResource, Endpoint, PartitionRecord, PartitionStateRecord, Record,
};
use crate::config::{ConfigSources, TopicConfig, find_broker_config, find_group_config, resolve_with_origin};

/// Everything that the metadata log says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Image {
    pub(super) records_applied: u64,
    cluster_id: Option<Arc<str>>,
    topics: ChunkedMap<TopicId, Arc<Topic>>,
    topic_ids: ChunkedMap<Arc<str>, TopicId>,
    configs: ChunkedMap<ConfigResource, Arc<BTreeMap<String, String>>>,
    brokers: Arc<BTreeMap<BrokerId, Arc<Broker>>>,
    pub(super) features: Arc<BTreeMap<String, i16>>,
    next_producer_id: ProducerId,
    partition_count: usize,
}

/// A topic with its partitions, from 0 on without a gap.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Topic {
    pub id: TopicId,
    pub name: Arc<str>,
    pub partitions: Vec<Partition>,
    /// How many there were before, oldest first; the newest [`FORMER_COUNTS_MAX`].
    pub former_counts: Vec<FormerCount>,
}

/// A topic that grows more often forgets how it began.
pub const FORMER_COUNTS_MAX: usize = 16;

/// A number of partitions that a topic had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FormerCount {
    pub partitions: i32,
    /// When it got more, by the clock of the broker that was asked to add them.
    pub until_ms: i64,
}

/// One partition; the fields are those of its record.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Partition {
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// -1: none.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub dirs: Vec<Uuid>,
    /// Not in sync, but sure to hold what is committed (KIP-966).
    pub elr: Vec<BrokerId>,
    pub last_known_elr: Vec<BrokerId>,
    /// Of `replicas`, those that a reassignment adds and removes.
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    /// Brokers that live and cannot use their log of it.
    pub offline: Vec<BrokerId>,
}

/// A registered broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Broker {
    pub id: BrokerId,
    pub epoch: i64,
    pub incarnation: Uuid,
    pub listeners: Vec<Endpoint>,
    pub rack: Option<String>,
    pub dirs: Vec<Uuid>,
    pub fenced: bool,
    pub in_controlled_shutdown: bool,
}

impl Broker {
    /// Whether it may lead, and be in sync.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// Where other brokers reach it; clients are never told.
    pub fn peer(&self) -> Option<&Endpoint> {
        self.endpoint(PEER_LISTENER)
    }

    /// The same, to connect to.
    pub fn peer_address(&self) -> Option<String> {
        self.peer().map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port))
    }

    /// The listeners that clients may be told of.
    pub fn client_listeners(&self) -> impl Iterator<Item = &Endpoint> {
        self.listeners.iter().filter(|endpoint| endpoint.name != PEER_LISTENER)
    }

    /// Where the broker is reached on the listener of this name.
    pub fn endpoint(&self, listener: &str) -> Option<&Endpoint> {
        self.listeners.iter().find(|endpoint| endpoint.name == listener)
    }
}

impl Partition {
    /// Whether a replica may lose all that it has: another broker leads, and nobody counts on this one for what is committed.
    pub fn can_do_without(&self, replica: BrokerId) -> bool {
        let counts = self.isr.contains(&replica) || self.elr.contains(&replica);
        self.leader >= 0 && self.leader != replica && !counts
    }

    /// Whether it is on its way to other brokers.
    pub fn is_reassigning(&self) -> bool {
        !self.adding.is_empty() || !self.removing.is_empty()
    }
}

impl Topic {
    pub fn partition(&self, partition: PartitionIndex) -> Option<&Partition> {
        self.partitions.get(usize::try_from(partition).ok()?)
    }

    /// Of its first partition: a topic's partitions begin alike.
    pub fn replication_factor(&self) -> i32 {
        self.partitions.first().map_or(0, |partition| partition.replicas.len() as i32)
    }

    /// None: nobody has counted them.
    pub fn has_more_than(&self, partition_count: Option<i32>) -> bool {
        partition_count.is_some_and(|count| usize::try_from(count).is_ok_and(|count| count < self.partitions.len()))
    }

    /// How many partitions it had at some time since then and no longer has, newest first.
    pub fn counts_since(&self, since_ms: i64) -> impl Iterator<Item = i32> {
        let newest_first = self.former_counts.iter().rev();
        newest_first.take_while(move |former| former.until_ms >= since_ms).map(|former| former.partitions)
    }
}

static NO_CONFIGS: BTreeMap<String, String> = BTreeMap::new();

impl Image {
    /// How many records made this image: the offset in the metadata log.
    pub fn records_applied(&self) -> u64 {
        self.records_applied
    }

    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    pub fn topic(&self, topic_id: TopicId) -> Option<&Arc<Topic>> {
        self.topics.get(&topic_id)
    }

    pub fn topic_by_name(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.topic_ids.get(name)?)
    }

    pub fn partition(&self, topic_id: TopicId, partition: PartitionIndex) -> Option<&Partition> {
        self.topic(topic_id)?.partition(partition)
    }

    /// By name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<Topic>> {
        self.topic_ids.iter().filter_map(|(_, topic_id)| self.topics.get(topic_id))
    }

    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// Those on their way to other brokers, by topic name.
    pub fn reassigning(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &Partition)> {
        self.topics().flat_map(|topic| {
            let moving = (0..).zip(&topic.partitions).filter(|(_, partition)| partition.is_reassigning());
            moving.map(move |(index, partition)| (topic, index, partition))
        })
    }

    /// Names from `from` on, in order.
    pub fn topic_names_from<'a>(&'a self, from: &str) -> impl Iterator<Item = &'a str> {
        self.topic_ids.iter_from(from).map(|(name, _)| &**name)
    }

    pub fn broker(&self, broker: BrokerId) -> Option<&Arc<Broker>> {
        self.brokers.get(&broker)
    }

    /// By id, fenced ones too.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<Broker>> {
        self.brokers.values()
    }

    /// What was set for this resource; empty if nothing was.
    pub fn configs(&self, resource: &ConfigResource) -> &BTreeMap<String, String> {
        self.configs.get(resource).map_or(&NO_CONFIGS, |configs| configs)
    }

    /// Everything that has a configuration of its own.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.iter().map(|(resource, _)| resource)
    }

    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Finalised features, by name, with their levels.
    pub fn features(&self) -> impl Iterator<Item = (&str, i16)> {
        self.features.iter().filter(|(_, level)| **level > 0).map(|(name, level)| (name.as_str(), *level))
    }

    /// 0: somebody has taken it back. None: nobody has said anything about it.
    pub fn feature_level(&self, name: &str) -> Option<i16> {
        self.features.get(name).copied()
    }

    /// What is set for a broker at run time or at its start, nearest first; `static_broker` is its file, environment
    /// and flags.
    pub fn broker_value(
        &self,
        node_id: BrokerId,
        static_broker: &BTreeMap<String, String>,
        name: &str,
    ) -> Option<String> {
        let own = self.configs(&ConfigResource::broker(node_id)).get(name);
        let value = own.or_else(|| self.configs(&ConfigResource::brokers()).get(name));
        value.or_else(|| static_broker.get(name)).cloned()
    }

    /// The settings of a topic on this broker. What decides elections is the same on all.
    pub fn topic_config(
        &self,
        topic: &str,
        node_id: BrokerId,
        static_broker: &BTreeMap<String, String>,
    ) -> TopicConfig {
        let overrides = self.configs(&ConfigResource::topic(topic));
        let layers =
            [self.configs(&ConfigResource::broker(node_id)), self.configs(&ConfigResource::brokers()), static_broker];
        TopicConfig::resolve(overrides, &|name| {
            let holding = if DECISIVE_SETTINGS.contains(&name) { &layers[1..2] } else { &layers[..] };
            holding.iter().find_map(|layer| layer.get(name)).cloned()
        })
    }

    /// The value of a broker's configuration that holds, its default included; None where there is none.
    pub fn broker_setting(
        &self,
        node_id: BrokerId,
        static_broker: &BTreeMap<String, String>,
        name: &str,
    ) -> Option<String> {
        let set = self.broker_value(node_id, static_broker, name);
        set.or_else(|| Some(find_broker_config(name)?.default?.to_owned()))
    }

    /// The value of a group's configuration that holds: the group's, else the broker's for all groups, else the default.
    /// None: there is no such configuration.
    pub fn group_setting(
        &self,
        group: &str,
        node_id: BrokerId,
        static_broker: &BTreeMap<String, String>,
        name: &str,
    ) -> Option<String> {
        let definition = find_group_config(name)?;
        let resource = ConfigResource { kind: ConfigKind::Group, name: group.to_owned() };
        self.with_sources_of(Some(&resource), node_id, static_broker, |sources| {
            resolve_with_origin(definition, sources).value
        })
    }

    /// Calls `work` with everywhere that a configuration of this topic (None: of the broker) can have been set.
    pub fn with_sources<T>(
        &self,
        topic: Option<&str>,
        node_id: BrokerId,
        static_broker: &BTreeMap<String, String>,
        work: impl FnOnce(&ConfigSources<'_>) -> T,
    ) -> T {
        let resource = topic.map(ConfigResource::topic);
        self.with_sources_of(resource.as_ref(), node_id, static_broker, work)
    }

    /// The same for a resource of any kind.
    pub fn with_sources_of<T>(
        &self,
        resource: Option<&ConfigResource>,
        node_id: BrokerId,
        static_broker: &BTreeMap<String, String>,
        work: impl FnOnce(&ConfigSources<'_>) -> T,
    ) -> T {
        let own = self.configs(&ConfigResource::broker(node_id));
        let shared = self.configs(&ConfigResource::brokers());
        let overrides = resource.map_or(&NO_CONFIGS, |resource| self.configs(resource));
        let topic = resource.filter(|resource| resource.kind == ConfigKind::Topic);
        let described = topic.and_then(|topic| self.topic_by_name(&topic.name));
        work(&ConfigSources {
            topic: overrides,
            dynamic_broker: &|name| own.get(name).cloned(),
            dynamic_default: &|name| shared.get(name).cloned(),
            static_broker: &|name| static_broker.get(name).cloned(),
            replication_factor: described.map_or(1, |topic| topic.replication_factor()),
        })
    }

    /// Takes in the next record of the log. Records come from [`super::decide`] on this image, so one that does not
    /// fit is a bug or a damaged log, and panics.
    pub fn apply(&mut self, record: &Record) {
        self.apply_into(record, &mut Delta::default());
    }

    /// The same, and notes in `delta` what it changed.
    pub fn apply_into(&mut self, record: &Record, delta: &mut Delta) {
        self.records_applied += 1;
        match record {
            Record::ClusterCreated { cluster_id } => {
                self.cluster_id = Some(cluster_id.as_str().into());
                delta.cluster_created = true;
            }
            Record::BrokerRegistered(broker) => self.broker_registered(broker, delta),
            Record::BrokerUnregistered { broker, .. } => {
                Arc::make_mut(&mut self.brokers).remove(broker);
                delta.brokers_changed.insert(*broker);
            }
            Record::BrokerFenced { broker, epoch } => {
                self.change_broker(*broker, *epoch, delta, |broker| broker.fenced = true);
            }
            Record::BrokerUnfenced { broker, epoch } => {
                self.change_broker(*broker, *epoch, delta, |broker| broker.fenced = false);
            }
            Record::Topic { topic_id, name } => self.topic_created(*topic_id, name, delta),
            Record::Partition(record) => {
                self.partition_changed(record.topic_id, record.partition, Partition::from(record), delta);
            }
            Record::PartitionState(record) => {
                self.partition_changed(record.topic_id, record.partition, Partition::from(record), delta);
            }
            Record::BrokerInControlledShutdown { broker, epoch } => {
                self.change_broker(*broker, *epoch, delta, |broker| broker.in_controlled_shutdown = true);
            }
            Record::TopicGrew { topic_id, partitions, at_ms } => {
                self.topic_grew(*topic_id, FormerCount { partitions: *partitions, until_ms: *at_ms });
            }
            Record::TopicDeleted { topic_id } => self.topic_deleted(*topic_id, delta),
            Record::ConfigChanged { resource, name, value } => {
                self.config_changed(resource, name, value.as_deref(), delta);
            }
            Record::ProducerIdsAllocated { next } => {
                assert!(*next >= self.next_producer_id, "producer ids must never repeat");
                self.next_producer_id = *next;
                delta.producer_ids_allocated = true;
            }
            Record::Feature { name, level } => self.feature_changed(name, *level, delta),
        }
    }

    fn broker_registered(&mut self, record: &BrokerRecord, delta: &mut Delta) {
        let broker = Broker {
            id: record.broker,
            epoch: record.epoch,
            incarnation: record.incarnation,
            listeners: record.listeners.clone(),
            rack: record.rack.clone(),
            dirs: record.dirs.clone(),
            fenced: record.fenced,
            in_controlled_shutdown: false,
        };
        Arc::make_mut(&mut self.brokers).insert(record.broker, Arc::new(broker));
        delta.brokers_changed.insert(record.broker);
    }

    fn change_broker(&mut self, broker: BrokerId, epoch: i64, delta: &mut Delta, change: impl FnOnce(&mut Broker)) {
        let brokers = Arc::make_mut(&mut self.brokers);
        let Some(found) = brokers.get_mut(&broker).filter(|found| found.epoch == epoch) else {
            return; // News of an earlier life of the broker.
        };
        change(Arc::make_mut(found));
        delta.brokers_changed.insert(broker);
    }

    fn topic_created(&mut self, topic_id: TopicId, name: &str, delta: &mut Delta) {
        let name: Arc<str> = name.into();
        let topic = Topic { id: topic_id, name: Arc::clone(&name), partitions: Vec::new(), former_counts: Vec::new() };
        let before = self.topics.insert(topic_id, Arc::new(topic));
        assert!(before.is_none(), "topic id {topic_id} is taken");
        let before = self.topic_ids.insert(name, topic_id);
        assert!(before.is_none(), "topic id {topic_id} takes a name that another has");
        delta.topic_created(topic_id);
    }

    fn partition_changed(&mut self, topic_id: TopicId, index: PartitionIndex, partition: Partition, delta: &mut Delta) {
        let topic = self.topics.get_mut(&topic_id).expect("a partition comes after its topic");
        let partitions = &mut Arc::make_mut(topic).partitions;
        match usize::try_from(index).ok() {
            Some(index) if index < partitions.len() => partitions[index] = partition,
            Some(index) if index == partitions.len() => {
                partitions.push(partition);
                self.partition_count += 1;
            }
            _ => panic!("partition {index} of topic {topic_id} leaves a gap"),
        }
        delta.partition_changed(topic_id, index);
    }

    /// The partitions that follow are what others hear of it.
    fn topic_grew(&mut self, topic_id: TopicId, former: FormerCount) {
        let topic = self.topics.get_mut(&topic_id).expect("a topic grows after it was created");
        let former_counts = &mut Arc::make_mut(topic).former_counts;
        if former_counts.len() == FORMER_COUNTS_MAX {
            former_counts.remove(0);
        }
        former_counts.push(former);
    }

    fn topic_deleted(&mut self, topic_id: TopicId, delta: &mut Delta) {
        let topic = self.topics.remove(&topic_id).expect("a topic is deleted once");
        self.topic_ids.remove(&topic.name);
        self.partition_count -= topic.partitions.len();
        let resource = ConfigResource::topic(&*topic.name);
        self.configs.remove(&resource);
        delta.configs_changed.remove(&resource);
        delta.topic_deleted(topic);
    }

    fn config_changed(&mut self, resource: &ConfigResource, name: &str, value: Option<&str>, delta: &mut Delta) {
        let mut values = self.configs.remove(resource).unwrap_or_default();
        match value {
            Some(value) => Arc::make_mut(&mut values).insert(name.to_owned(), value.to_owned()),
            None => Arc::make_mut(&mut values).remove(name),
        };
        if !values.is_empty() {
            self.configs.insert(resource.clone(), values);
        }
        delta.configs_changed.insert(resource.clone());
    }

    fn feature_changed(&mut self, name: &str, level: i16, delta: &mut Delta) {
        Arc::make_mut(&mut self.features).insert(name.to_owned(), level);
        delta.features_changed.insert(name.to_owned());
    }
}

impl From<&PartitionRecord> for Partition {
    fn from(record: &PartitionRecord) -> Partition {
        Partition {
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            dirs: record.dirs.clone(),
            elr: Vec::new(),
            last_known_elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            offline: Vec::new(),
        }
    }
}

impl From<&PartitionStateRecord> for Partition {
    fn from(record: &PartitionStateRecord) -> Partition {
        Partition {
            replicas: record.replicas.clone(),
            isr: record.isr.clone(),
            leader: record.leader,
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            dirs: record.dirs.clone(),
            elr: record.elr.clone(),
            last_known_elr: record.last_known_elr.clone(),
            adding: record.adding.clone(),
            removing: record.removing.clone(),
            offline: record.offline.clone(),
        }
    }
}
