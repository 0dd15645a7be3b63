//! Every configuration as data: its name, type, default, bounds, and whether we act upon it.
//!
//! Names, types and defaults are Kafka's, because tools read and write them; a default that differs says why.
//! [`TopicConfig`] is the typed, resolved form that the rest of the broker works with.

mod broker;
mod definition;
mod list;
mod nearest;
mod origin;
mod topic;
mod topic_config;
mod valid;

pub use broker::broker_configs;
pub use definition::{ConfigDef, ConfigType, Dynamic};
pub use list::{list_values, subtract_values, union_values};
pub use nearest::nearest_name;
pub use origin::{ConfigSource, ConfigSources, Lookup, Resolved, Synonym, resolve_with_origin};
pub use topic::topic_configs;
pub use topic_config::{CleanupPolicy, Flush, TimestampType, TopicConfig};
pub use valid::Valid;

/// The definition of a topic configuration, by its exact name.
pub fn find_topic_config(name: &str) -> Option<&'static ConfigDef> {
    find(topic_configs(), name)
}

/// The definition of a broker configuration, by its exact name.
pub fn find_broker_config(name: &str) -> Option<&'static ConfigDef> {
    broker::SECTIONS.iter().find_map(|section| find(section, name))
}

/// Tables are sorted by name: a test holds that.
fn find(table: &'static [ConfigDef], name: &str) -> Option<&'static ConfigDef> {
    let index = table.binary_search_by(|definition| definition.name.cmp(name)).ok()?;
    Some(&table[index])
}
