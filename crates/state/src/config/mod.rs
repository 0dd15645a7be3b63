//! Every configuration as data: its name, type, default, bounds, and whether we act upon it.
//!
//! Names, types and defaults are Kafka's, because tools read and write them; a default that differs says why.
//! [`TopicConfig`] is the typed, resolved form that the rest of the broker works with.

mod broker;
mod client_metrics;
mod definition;
mod election_config;
mod group;
mod list;
mod nearest;
mod origin;
mod thread_counts;
mod throttled_replicas;
mod topic;
mod topic_config;
mod valid;

pub use broker::{RACK_AWARE_SELECTOR, broker_configs};
pub use client_metrics::client_metrics_configs;
pub(crate) use client_metrics::{INTERVAL_MS_MAX, INTERVAL_MS_MIN, illegal_match};
pub use definition::{ConfigDef, ConfigType, Dynamic};
pub use election_config::ElectionConfig;
pub use group::{check_group_bounds, group_configs};
pub use list::{connection_overrides, list_values, subtract_values, union_values};
pub use nearest::nearest_name;
pub use origin::{ConfigSource, ConfigSources, Lookup, Resolved, Synonym, resolve_with_origin};
pub use thread_counts::check_thread_count;
pub use throttled_replicas::ThrottledReplicas;
pub use topic::topic_configs;
pub use topic_config::{CleanupPolicy, Flush, TimestampType, TopicConfig};
pub use valid::Valid;

/// The definition of a topic configuration, by its exact name.
pub fn find_topic_config(name: &str) -> Option<&'static ConfigDef> {
    find(topic_configs(), name)
}

/// The definition of a broker configuration, by its exact name; of one too that only tools set.
pub fn find_broker_config(name: &str) -> Option<&'static ConfigDef> {
    let mut sections = broker::SECTIONS.iter().copied().chain([broker::THROTTLES]);
    sections.find_map(|section| find(section, name))
}

/// The definition of a group's configuration, by its exact name.
pub fn find_group_config(name: &str) -> Option<&'static ConfigDef> {
    find(group_configs(), name)
}

/// The definition of a configuration of a client metrics subscription, by its exact name.
pub fn find_client_metrics_config(name: &str) -> Option<&'static ConfigDef> {
    find(client_metrics_configs(), name)
}

/// Tables are sorted by name: a test holds that.
fn find(table: &'static [ConfigDef], name: &str) -> Option<&'static ConfigDef> {
    let index = table.binary_search_by(|definition| definition.name.cmp(name)).ok()?;
    Some(&table[index])
}
