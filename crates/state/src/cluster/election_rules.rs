//! The settings that decide elections, as the image knows them. What a broker has in its own file does not count: the
//! controller and a leader that took min.insync.replicas for different numbers would lose what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use capek_wire::ids::{BrokerId, PartitionIndex, TopicId};

use super::command::{AlterConfigs, Command, ConfigOperation, ConfigOperationKind, Decision};
use super::image::{Image, Topic};
use super::partition_change::PartitionChange;
use super::record::{ConfigKind, ConfigResource, Record};
use crate::config::ElectionConfig;

/// What decides elections: set for a topic or for all, never by one broker.
pub(super) const DECISIVE_SETTINGS: [&str; 2] = ["min.insync.replicas", "unclean.leader.election.enable"];

/// The command that makes a rule for all of what one broker's file says about elections. None: it says nothing.
pub fn elections_by_file(properties: &BTreeMap<String, String>) -> Option<Command> {
    let set = DECISIVE_SETTINGS.iter().filter_map(|name| Some((*name, properties.get(*name)?)));
    let kind = ConfigOperationKind::Set;
    let operation =
        |(name, value): (&str, &String)| ConfigOperation { name: name.to_owned(), kind, value: Some(value.clone()) };
    let operations: Vec<_> = set.map(operation).collect();
    if operations.is_empty() {
        return None;
    }
    Some(Command::AlterConfigs(AlterConfigs { resource: ConfigResource::brokers(), operations }))
}

/// The settings of one topic, in an image.
#[derive(Clone, Copy)]
pub(super) struct ElectionRules<'a> {
    pub image: &'a Image,
    pub config: ElectionConfig,
}

impl<'a> ElectionRules<'a> {
    /// Of topics that have none of their own.
    fn common(image: &'a Image) -> Self {
        ElectionRules { image, config: ElectionConfig::resolve(&BTreeMap::new(), &set_for_all(image)) }
    }

    fn of(self, topic: &Topic) -> Self {
        let overrides = self.image.configs(&ConfigResource::topic(&*topic.name));
        if overrides.is_empty() {
            return self;
        }
        let config = ElectionConfig::resolve(overrides, &set_for_all(self.image));
        ElectionRules { config, ..self }
    }
}

fn set_for_all(image: &Image) -> impl Fn(&str) -> Option<String> {
    let values = image.configs(&ConfigResource::brokers());
    |name| values.get(name).cloned()
}

/// A change of this partition; None where there is none.
pub(super) fn change_of(image: &Image, topic_id: TopicId, index: PartitionIndex) -> Option<PartitionChange<'_>> {
    let topic = image.topic(topic_id)?;
    let partition = topic.partition(index)?;
    Some(PartitionChange::new(&ElectionRules::common(image).of(topic), topic.id, index, partition))
}

/// The records of all partitions that have this broker among their replicas, each changed.
pub(super) fn for_each_replica_of<'a>(
    image: &'a Image,
    broker: BrokerId,
    mut change: impl FnMut(PartitionChange<'a>) -> Option<Record>,
) -> Vec<Record> {
    let common = ElectionRules::common(image);
    let mut records = Vec::new();
    for topic in image.topics() {
        let with_it = (0..).zip(&topic.partitions).filter(|(_, partition)| partition.replicas.contains(&broker));
        let mut rules = None;
        for (index, partition) in with_it {
            let rules = rules.get_or_insert_with(|| common.of(topic));
            records.extend(change(PartitionChange::new(rules, topic.id, index, partition)));
        }
    }
    records
}

/// The decision with what follows from it, if it changes what elections go by: who is eligible, who may lead.
pub(super) fn with_elections(image: &Image, resource: &ConfigResource, mut decision: Decision) -> Decision {
    let decides = |record: &Record| match record {
        Record::ConfigChanged { name, .. } => DECISIVE_SETTINGS.contains(&name.as_str()),
        _ => false,
    };
    if !decision.records.iter().any(decides) {
        return decision;
    }
    let mut next = image.clone();
    decision.records.iter().for_each(|record| next.apply(record));
    let follow_up = match resource.kind {
        ConfigKind::Topic => resettled(&next, next.topic_by_name(&resource.name).into_iter()),
        ConfigKind::Broker if resource.name.is_empty() => resettled(&next, next.topics()),
        _ => Vec::new(),
    };
    decision.records.extend(follow_up);
    decision
}

fn resettled<'a>(image: &'a Image, topics: impl Iterator<Item = &'a Arc<Topic>>) -> Vec<Record> {
    let common = ElectionRules::common(image);
    let mut records = Vec::new();
    for topic in topics {
        let rules = common.of(topic);
        let changes = (0..).zip(&topic.partitions);
        records.extend(
            changes.filter_map(|(index, partition)| PartitionChange::new(&rules, topic.id, index, partition).record()),
        );
    }
    records
}
