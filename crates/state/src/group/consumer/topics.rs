//! What a group needs to know of the cluster's topics.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::ConsumerGroupConfig;
use crate::cluster::{ConfigKind, ConfigResource, Image};

/// A topic, as far as groups care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TopicInfo {
    pub id: TopicId,
    pub partition_count: i32,
}

/// The topics of an image. Groups look anew when `version` has changed.
pub trait Topics {
    /// Another one whenever topics came, went or grew.
    fn version(&self) -> u64;
    fn topic(&self, name: &str) -> Option<TopicInfo>;
    fn name(&self, id: TopicId) -> Option<Str>;
    /// Calls `visit` with every name, in order.
    fn visit_names(&self, visit: &mut dyn FnMut(&str));
}

/// Topics as a plain table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TopicTable {
    version: u64,
    topics: BTreeMap<Str, TopicInfo>,
    names: BTreeMap<TopicId, Str>,
}

impl TopicTable {
    /// Creates the topic, or changes it.
    pub fn put(&mut self, name: &str, info: TopicInfo) {
        self.remove(name);
        self.topics.insert(Str::from(name), info);
        self.names.insert(info.id, Str::from(name));
        self.version += 1;
    }

    pub fn remove(&mut self, name: &str) {
        if let Some(info) = self.topics.remove(name) {
            self.names.remove(&info.id);
            self.version += 1;
        }
    }
}

impl Topics for TopicTable {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.topics.get(name).copied()
    }

    fn name(&self, id: TopicId) -> Option<Str> {
        self.names.get(&id).cloned()
    }

    fn visit_names(&self, visit: &mut dyn FnMut(&str)) {
        self.topics.keys().for_each(|name| visit(name));
    }
}

/// The topics of the cluster's image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ImageTopics {
    version: u64,
    image: Image,
}

impl ImageTopics {
    /// Topics came, went or grew, or groups were configured: takes over the image that says so.
    pub fn set(&mut self, image: &Image) {
        self.version += 1;
        self.image = image.clone();
    }
}

impl ImageTopics {
    /// The broker's configuration, with what the group has set for itself.
    pub fn configured<'a>(&self, group_id: &str, config: &'a ConsumerGroupConfig) -> Cow<'a, ConsumerGroupConfig> {
        let resource = ConfigResource { kind: ConfigKind::Group, name: group_id.to_owned() };
        let own = self.image.configs(&resource);
        if own.is_empty() {
            return Cow::Borrowed(config);
        }
        let number = |name: &str| own.get(name).and_then(|text| text.trim().parse().ok());
        Cow::Owned(ConsumerGroupConfig {
            session_timeout_ms: number("consumer.session.timeout.ms").unwrap_or(config.session_timeout_ms),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms").unwrap_or(config.heartbeat_interval_ms),
            assignment_interval_ms: number("consumer.assignment.interval.ms").unwrap_or(config.assignment_interval_ms),
            ..config.clone()
        })
    }
}

impl Topics for ImageTopics {
    fn version(&self) -> u64 {
        self.version
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        let topic = self.image.topic_by_name(name)?;
        Some(TopicInfo { id: topic.id, partition_count: topic.partitions.len() as i32 })
    }

    fn name(&self, id: TopicId) -> Option<Str> {
        self.image.topic(id).map(|topic| Str::from(&*topic.name))
    }

    fn visit_names(&self, visit: &mut dyn FnMut(&str)) {
        self.image.topic_names_from("").for_each(visit);
    }
}

/// A number that differs when one of these topics came, went, grew or was made anew. None of them: 0.
pub(super) fn metadata_hash(names: &BTreeSet<Str>, topics: &dyn Topics) -> i64 {
    const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
    let known = names.iter().filter_map(|name| Some((name, topics.topic(name)?)));
    let mut hash = None;
    for (name, info) in known {
        let name_bytes = (name.len() as u32).to_be_bytes().into_iter().chain(name.bytes());
        let bytes = name_bytes.chain(info.id.0).chain(info.partition_count.to_be_bytes());
        let so_far = hash.unwrap_or(FNV_OFFSET);
        hash = Some(bytes.fold(so_far, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)));
    }
    hash.unwrap_or(0) as i64
}
