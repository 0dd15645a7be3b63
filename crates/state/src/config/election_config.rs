//! The settings that decide elections, resolved by themselves: a controller asks for thousands of topics at once.

use std::collections::BTreeMap;

use super::topic_config::{Flush, Settings, default_min_insync_replicas};

/// See the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElectionConfig {
    /// None: nobody has set it.
    min_insync_replicas: Option<i32>,
    pub unclean_leader_election: bool,
    pub flush: Flush,
}

impl ElectionConfig {
    /// From a topic's overrides, and from what `broker` says that somebody has set for all topics.
    pub fn resolve(overrides: &BTreeMap<String, String>, broker: &dyn Fn(&str) -> Option<String>) -> ElectionConfig {
        let settings = Settings::new(overrides, broker);
        ElectionConfig {
            min_insync_replicas: settings.explicit("min.insync.replicas").and_then(|value| value.trim().parse().ok()),
            unclean_leader_election: settings.boolean("unclean.leader.election.enable"),
            flush: settings.flush(),
        }
    }

    /// How many of so many replicas must be in sync.
    pub fn in_sync_min(&self, replica_count: usize) -> usize {
        let factor = i32::try_from(replica_count).unwrap_or(i32::MAX);
        let wanted = self.min_insync_replicas.unwrap_or_else(|| default_min_insync_replicas(factor));
        usize::try_from(wanted.min(factor)).unwrap_or(0)
    }
}
