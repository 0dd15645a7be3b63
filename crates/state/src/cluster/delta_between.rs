//! What changed between two images when the records in between are not known: after a snapshot, or for a publisher that has
//! just started. Costs a look at everything, so that a step from record to record is not taken this way.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::delta::Delta;
use super::image::{Image, Topic};
use super::record::{ConfigKind, ConfigResource};

impl Delta {
    /// The same that the records between the two would have noted.
    pub fn between(old: &Image, new: &Image) -> Delta {
        let mut delta = Delta {
            producer_ids_allocated: old.next_producer_id() != new.next_producer_id(),
            cluster_created: old.cluster_id() != new.cluster_id(),
            ..Delta::default()
        };
        for topic in new.topics() {
            topic_between(old.topic(topic.id), topic, &mut delta);
        }
        for topic in old.topics().filter(|topic| new.topic(topic.id).is_none()) {
            delta.topic_deleted(Arc::clone(topic));
        }
        let brokers: BTreeSet<_> = old.brokers().chain(new.brokers()).map(|broker| broker.id).collect();
        delta.brokers_changed = brokers.into_iter().filter(|id| old.broker(*id) != new.broker(*id)).collect();
        let features: BTreeSet<_> = old.features.keys().chain(new.features.keys()).collect();
        let differs = |name: &&&String| old.features.get(**name) != new.features.get(**name);
        delta.features_changed = features.iter().filter(differs).map(|name| (*name).clone()).collect();
        delta.configs_changed = configs_between(old, new);
        delta
    }
}

fn topic_between(old: Option<&Arc<Topic>>, new: &Arc<Topic>, delta: &mut Delta) {
    let Some(old) = old else {
        delta.topic_created(new.id);
        (0..new.partitions.len()).for_each(|index| delta.partition_changed(new.id, index as i32));
        return;
    };
    if Arc::ptr_eq(old, new) {
        return;
    }
    for (index, partition) in new.partitions.iter().enumerate() {
        if old.partitions.get(index) != Some(partition) {
            delta.partition_changed(new.id, index as i32);
        }
    }
}

fn configs_between(old: &Image, new: &Image) -> BTreeSet<ConfigResource> {
    let went_with_its_topic =
        |resource: &ConfigResource| resource.kind == ConfigKind::Topic && new.topic_by_name(&resource.name).is_none();
    let named: BTreeSet<_> = old.configured().chain(new.configured()).collect();
    let changed = named.into_iter().filter(|resource| old.configs(resource) != new.configs(resource));
    changed.filter(|resource| !went_with_its_topic(resource)).cloned().collect()
}
