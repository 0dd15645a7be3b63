//! Where a value comes from, as DescribeConfigs tells it.

use std::collections::BTreeMap;

use capek_state::config::{ConfigSource, ConfigSources, find_broker_config, find_topic_config, resolve_with_origin};

use crate::fixtures::map;

#[derive(Default)]
struct Layers {
    topic: BTreeMap<String, String>,
    broker: BTreeMap<String, String>,
    brokers: BTreeMap<String, String>,
    fixed: BTreeMap<String, String>,
    replication_factor: i32,
}

impl Layers {
    /// Value, source and the synonyms as `name=value@source`.
    fn resolve(&self, name: &str, of_broker: bool) -> (Option<String>, ConfigSource, Vec<String>) {
        let definition = if of_broker { find_broker_config(name) } else { find_topic_config(name) };
        let sources = ConfigSources {
            topic: &self.topic,
            dynamic_broker: &|name| self.broker.get(name).cloned(),
            dynamic_default: &|name| self.brokers.get(name).cloned(),
            static_broker: &|name| self.fixed.get(name).cloned(),
            replication_factor: self.replication_factor,
        };
        let resolved = resolve_with_origin(definition.expect("it is known"), &sources);
        let synonym = |synonym: &capek_state::config::Synonym| {
            let value = synonym.value.as_deref().unwrap_or("null");
            format!("{}={value}@{}", synonym.name, synonym.source.wire_code())
        };
        (resolved.value, resolved.source, resolved.synonyms.iter().map(synonym).collect())
    }
}

#[test]
fn a_default_names_the_brokers_configuration_behind_it() {
    let layers = Layers::default();
    let (value, source, synonyms) = layers.resolve("retention.ms", false);
    assert_eq!((value.as_deref(), source), (Some("604800000"), ConfigSource::Default));
    assert_eq!(synonyms, ["log.retention.hours=168@5"]);
    let (_, _, synonyms) = layers.resolve("delete.retention.ms", false);
    assert_eq!(synonyms, ["log.cleaner.delete.retention.ms=86400000@5"]);
    let (value, source, synonyms) = layers.resolve("remote.storage.enable", false);
    assert_eq!((value.as_deref(), source), (Some("false"), ConfigSource::Default));
    assert_eq!(synonyms, ["remote.storage.enable=false@5"]);
}

#[test]
fn the_first_layer_that_speaks_counts() {
    let layers = Layers {
        topic: map(&[("min.insync.replicas", "7")]),
        brokers: map(&[("min.insync.replicas", "2")]),
        replication_factor: 1,
        ..Layers::default()
    };
    let (value, source, synonyms) = layers.resolve("min.insync.replicas", false);
    assert_eq!((value.as_deref(), source), (Some("7"), ConfigSource::Topic));
    assert_eq!(synonyms, ["min.insync.replicas=7@1", "min.insync.replicas=2@3", "min.insync.replicas=1@5"]);
}

#[test]
fn min_insync_replicas_is_described_as_it_will_be_judged() {
    let layers = Layers { replication_factor: 3, ..Layers::default() };
    let (value, source, _) = layers.resolve("min.insync.replicas", false);
    assert_eq!((value.as_deref(), source), (Some("2"), ConfigSource::Default));
}

#[test]
fn values_are_shown_in_the_unit_asked_for() {
    let layers = Layers { fixed: map(&[("log.retention.hours", "2")]), ..Layers::default() };
    let (value, source, synonyms) = layers.resolve("retention.ms", false);
    assert_eq!((value.as_deref(), source), (Some("7200000"), ConfigSource::StaticBroker));
    assert_eq!(synonyms, ["log.retention.hours=2@4", "log.retention.hours=168@5"]);
}

#[test]
fn a_broker_is_described_by_its_own_names() {
    let layers = Layers {
        broker: map(&[("log.retention.ms", "60")]),
        fixed: map(&[("log.retention.ms", "70"), ("num.partitions", "6")]),
        ..Layers::default()
    };
    let (value, source, synonyms) = layers.resolve("log.retention.ms", true);
    assert_eq!((value.as_deref(), source), (Some("60"), ConfigSource::DynamicBroker));
    assert_eq!(synonyms, ["log.retention.ms=60@2", "log.retention.ms=70@4"]);
    let (value, source, synonyms) = layers.resolve("num.partitions", true);
    assert_eq!((value.as_deref(), source), (Some("6"), ConfigSource::StaticBroker));
    assert_eq!(synonyms, ["num.partitions=6@4", "num.partitions=1@5"]);
    let (value, source, synonyms) = layers.resolve("log.roll.ms", true);
    assert_eq!((value, source, synonyms), (None, ConfigSource::Default, vec![]));
}

#[test]
fn older_names_are_asked_too() {
    let layers = Layers { fixed: map(&[("broker.id", "5")]), ..Layers::default() };
    let (value, source, _) = layers.resolve("node.id", true);
    assert_eq!((value.as_deref(), source), (Some("5"), ConfigSource::StaticBroker));
    let (value, _, synonyms) = Layers::default().resolve("node.id", true);
    assert_eq!((value.as_deref(), synonyms), (Some("1"), vec!["node.id=1@5".to_owned()]));
    let (value, _, synonyms) = Layers::default().resolve("log.dirs", true);
    assert_eq!((value.as_deref(), synonyms), (Some("./capek-data"), vec!["log.dir=./capek-data@5".to_owned()]));
}

#[test]
fn secrets_are_not_told() {
    let layers = Layers { fixed: map(&[("ssl.keystore.password", "hunter2")]), ..Layers::default() };
    let (value, source, synonyms) = layers.resolve("ssl.keystore.password", true);
    assert_eq!((value, source), (None, ConfigSource::StaticBroker));
    assert_eq!(synonyms, ["ssl.keystore.password=null@4"]);
}
