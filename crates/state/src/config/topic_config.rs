//! The settings of one topic, typed and resolved: its own overrides, else the broker's, else the defaults.

use std::collections::BTreeMap;

use capek_wire::batch::Codec;

use super::list::list_values;
use super::origin::{self, ConfigSources};
use super::throttled_replicas::ThrottledReplicas;

/// What becomes of old records; both may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CleanupPolicy {
    pub delete: bool,
    pub compact: bool,
}

/// Whose clock stamps a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    CreateTime,
    LogAppendTime,
}

/// When an append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flush {
    /// After a sync, which all that wait share.
    Group,
    /// Once it is in the page cache.
    Async,
}

/// The typed settings of a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    /// -1: for ever.
    pub retention_ms: i64,
    /// -1: without limit.
    pub retention_bytes: i64,
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub segment_jitter_ms: i64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    pub max_message_bytes: i32,
    /// What was set, or Kafka's default. Ask [`TopicConfig::min_insync_replicas_for`], which knows ours.
    pub min_insync_replicas: i32,
    /// False: nobody set `min.insync.replicas`.
    pub min_insync_replicas_is_set: bool,
    /// None: as the producer sent it.
    pub compression_type: Option<Codec>,
    pub compression_gzip_level: i32,
    pub compression_zstd_level: i32,
    pub message_timestamp_type: TimestampType,
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub file_delete_delay_ms: i64,
    pub flush: Flush,
    pub delete_retention_ms: i64,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub max_compaction_lag_ms: i64,
    pub unclean_leader_election: bool,
    pub preallocate: bool,
    /// The broker's own: how long an idempotent producer that does not write is remembered.
    pub producer_id_expiration_ms: i64,
    /// To followers of these a leader gives its records no faster than its broker says.
    pub leader_throttled: ThrottledReplicas,
    /// These fetch no faster than their broker says.
    pub follower_throttled: ThrottledReplicas,
}

impl TopicConfig {
    /// The settings that follow from a topic's overrides and the broker's configuration. `broker` answers for what
    /// somebody has set, by Kafka's broker-level name. Values were checked when they were set; one that does not
    /// parse all the same is passed over.
    pub fn resolve(overrides: &BTreeMap<String, String>, broker: &dyn Fn(&str) -> Option<String>) -> TopicConfig {
        let settings = Settings::new(overrides, broker);
        let policies = settings.text("cleanup.policy");
        let policies = list_values(&policies);
        TopicConfig {
            cleanup_policy: CleanupPolicy {
                delete: policies.contains(&"delete"),
                compact: policies.contains(&"compact"),
            },
            retention_ms: settings.number("retention.ms"),
            retention_bytes: settings.number("retention.bytes"),
            segment_bytes: settings.unsigned("segment.bytes"),
            segment_ms: settings.number("segment.ms"),
            segment_jitter_ms: settings.number("segment.jitter.ms"),
            segment_index_bytes: settings.unsigned("segment.index.bytes"),
            index_interval_bytes: settings.unsigned("index.interval.bytes"),
            max_message_bytes: settings.int("max.message.bytes"),
            min_insync_replicas: settings.int("min.insync.replicas"),
            min_insync_replicas_is_set: settings.explicit("min.insync.replicas").is_some(),
            compression_type: codec(&settings.text("compression.type")),
            compression_gzip_level: settings.int("compression.gzip.level"),
            compression_zstd_level: settings.int("compression.zstd.level"),
            message_timestamp_type: match settings.text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max_ms: settings.number("message.timestamp.before.max.ms"),
            timestamp_after_max_ms: settings.number("message.timestamp.after.max.ms"),
            file_delete_delay_ms: settings.number("file.delete.delay.ms"),
            flush: settings.flush(),
            delete_retention_ms: settings.number("delete.retention.ms"),
            min_cleanable_dirty_ratio: settings.parsed("min.cleanable.dirty.ratio"),
            min_compaction_lag_ms: settings.number("min.compaction.lag.ms"),
            max_compaction_lag_ms: settings.number("max.compaction.lag.ms"),
            unclean_leader_election: settings.boolean("unclean.leader.election.enable"),
            preallocate: settings.boolean("preallocate"),
            producer_id_expiration_ms: settings.broker_number("producer.id.expiration.ms"),
            leader_throttled: ThrottledReplicas::parse(&settings.text("leader.replication.throttled.replicas")),
            follower_throttled: ThrottledReplicas::parse(&settings.text("follower.replication.throttled.replicas")),
        }
    }

    /// How many replicas must be in sync for acks=all, for a partition of so many: never more than it has, and 2 of
    /// three or more when nobody said otherwise.
    pub fn min_insync_replicas_for(&self, replication_factor: i32) -> i32 {
        let wanted = if self.min_insync_replicas_is_set {
            self.min_insync_replicas
        } else {
            default_min_insync_replicas(replication_factor)
        };
        wanted.min(replication_factor)
    }
}

impl Default for TopicConfig {
    fn default() -> TopicConfig {
        TopicConfig::resolve(&BTreeMap::new(), &|_| None)
    }
}

/// `min.insync.replicas` where nobody has set it.
pub(super) fn default_min_insync_replicas(replication_factor: i32) -> i32 {
    if replication_factor >= 3 { 2 } else { 1 }
}

fn codec(name: &str) -> Option<Codec> {
    match name {
        "producer" => None,
        "uncompressed" => Some(Codec::None),
        name => name.parse().ok(),
    }
}

pub(super) struct Settings<'a> {
    overrides: &'a BTreeMap<String, String>,
    broker: &'a dyn Fn(&str) -> Option<String>,
}

impl<'a> Settings<'a> {
    pub(super) fn new(overrides: &'a BTreeMap<String, String>, broker: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Settings { overrides, broker }
    }

    pub(super) fn flush(&self) -> Flush {
        if self.text("capek.flush") == "async" { Flush::Async } else { Flush::Group }
    }

    pub(super) fn explicit(&self, name: &str) -> Option<String> {
        let definition = super::find_topic_config(name).expect("every setting has its definition");
        let sources = ConfigSources { topic: self.overrides, ..ConfigSources::of_static(self.broker) };
        origin::explicit_values(definition, &sources).find(|value| definition.check(value).is_ok())
    }

    fn text(&self, name: &str) -> String {
        let definition = super::find_topic_config(name).expect("every setting has its definition");
        let value = self.explicit(name);
        value.unwrap_or_else(|| definition.default.expect("every topic config has a default").to_owned())
    }

    fn parsed<T: std::str::FromStr>(&self, name: &str) -> T {
        let parsed = self.text(name).trim().parse().ok();
        parsed.expect("explicit values are checked and defaults parse: a test holds that")
    }

    /// Of a configuration that only brokers have.
    fn broker_number(&self, name: &str) -> i64 {
        let definition = super::find_broker_config(name).expect("every setting has its definition");
        let value = (self.broker)(name).filter(|value| definition.check(value).is_ok());
        let default = || definition.default.and_then(|default| default.parse().ok());
        value.and_then(|value| value.trim().parse().ok()).or_else(default).expect("defaults parse: a test holds that")
    }

    fn number(&self, name: &str) -> i64 {
        self.parsed(name)
    }

    fn int(&self, name: &str) -> i32 {
        self.parsed(name)
    }

    fn unsigned(&self, name: &str) -> u32 {
        self.parsed(name)
    }

    pub(super) fn boolean(&self, name: &str) -> bool {
        self.text(name).trim().eq_ignore_ascii_case("true")
    }
}
