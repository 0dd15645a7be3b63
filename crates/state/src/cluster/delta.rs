//! What changed between two images: managers act on this instead of comparing everything.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capek_wire::ids::{BrokerId, PartitionIndex, TopicId};

use super::image::Topic;
use super::record::ConfigResource;

/// The changes of some records in a row. What was created and deleted in between does not appear.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Delta {
    pub topics_created: BTreeSet<TopicId>,
    /// As they were last.
    pub topics_deleted: BTreeMap<TopicId, Arc<Topic>>,
    /// New and changed partitions, of created topics too.
    pub partitions_changed: BTreeMap<TopicId, BTreeSet<PartitionIndex>>,
    pub configs_changed: BTreeSet<ConfigResource>,
    pub brokers_changed: BTreeSet<BrokerId>,
    pub features_changed: BTreeSet<String>,
    pub producer_ids_allocated: bool,
    pub cluster_created: bool,
}

impl Delta {
    /// True when the records said nothing new.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    pub(super) fn topic_created(&mut self, topic_id: TopicId) {
        self.topics_created.insert(topic_id);
    }

    pub(super) fn topic_deleted(&mut self, topic: Arc<Topic>) {
        self.partitions_changed.remove(&topic.id);
        if !self.topics_created.remove(&topic.id) {
            self.topics_deleted.insert(topic.id, topic);
        }
    }

    pub(super) fn partition_changed(&mut self, topic_id: TopicId, partition: PartitionIndex) {
        self.partitions_changed.entry(topic_id).or_default().insert(partition);
    }
}
