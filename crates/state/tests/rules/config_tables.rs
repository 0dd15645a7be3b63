//! The tables of configurations, and what Kafka 4.3 says to values that it does not take.

use std::collections::{BTreeMap, BTreeSet};

use capek_state::config::{
    CleanupPolicy, ConfigDef, ConfigType, Dynamic, Flush, TimestampType, TopicConfig, broker_configs,
    check_group_bounds, check_thread_count, client_metrics_configs, connection_overrides, find_broker_config,
    find_client_metrics_config, find_group_config, find_topic_config, group_configs, topic_configs,
};
use capek_wire::batch::Codec;

use crate::fixtures::{map, topic_config};

fn all() -> impl Iterator<Item = &'static ConfigDef> {
    topic_configs().iter().chain(broker_configs()).chain(group_configs()).chain(client_metrics_configs())
}

#[test]
fn every_definition_is_found_by_its_name() {
    for definition in topic_configs() {
        let found =
            find_topic_config(definition.name).unwrap_or_else(|| panic!("{} is not sorted in", definition.name));
        assert!(std::ptr::eq(found, definition));
    }
    for definition in broker_configs() {
        let found =
            find_broker_config(definition.name).unwrap_or_else(|| panic!("{} is not sorted in", definition.name));
        assert!(std::ptr::eq(found, definition), "{} is there twice", definition.name);
    }
    for definition in group_configs() {
        assert!(find_group_config(definition.name).is_some_and(|found| std::ptr::eq(found, definition)));
    }
    for definition in client_metrics_configs() {
        assert!(find_client_metrics_config(definition.name).is_some_and(|found| std::ptr::eq(found, definition)));
    }
    for only_set in ["leader.replication.throttled.rate", "follower.replication.throttled.rate"] {
        assert!(find_broker_config(only_set).is_some());
        assert!(broker_configs().all(|definition| definition.name != only_set), "nobody sees it before it is set");
    }
    assert!(find_topic_config("retention").is_none() && find_broker_config("").is_none());
}

#[test]
fn every_default_is_a_legal_value() {
    for definition in all() {
        if let Some(default) = definition.default {
            assert_eq!(definition.check(default), Ok(()), "{}", definition.name);
            assert_eq!(definition.normal(default), default, "{}", definition.name);
        }
    }
}

#[test]
fn every_topic_config_has_a_default_and_synonyms_that_exist() {
    for definition in topic_configs() {
        assert!(definition.default.is_some(), "{}", definition.name);
        for synonym in definition.synonyms {
            let behind = find_broker_config(synonym).unwrap_or_else(|| panic!("{synonym} is not defined"));
            let can_differ = definition.name.ends_with(".ms");
            assert!(can_differ || behind.default == definition.default, "{synonym} has another default");
        }
    }
}

#[test]
fn every_definition_says_what_it_is() {
    for definition in all() {
        assert!(definition.doc.len() > 10 && definition.doc.ends_with('.'), "{}: {}", definition.name, definition.doc);
        assert_eq!(definition.is_sensitive, definition.kind == ConfigType::Password, "{}", definition.name);
    }
}

#[test]
fn what_differs_from_kafka_is_only_what_has_a_reason() {
    let differing: BTreeSet<&str> =
        all().filter(|definition| definition.differs_from_kafka.is_some()).map(|definition| definition.name).collect();
    let expected = BTreeSet::from([
        "capek.flush",
        "default.replication.factor",
        "group.initial.rebalance.delay.ms",
        "inter.broker.protocol.version",
        "listeners",
        "log.cleaner.dedupe.buffer.size",
        "log.dir",
        "min.insync.replicas",
        "node.id",
        "offsets.topic.replication.factor",
        "process.roles",
        "share.coordinator.state.topic.replication.factor",
        "transaction.state.log.replication.factor",
    ]);
    assert_eq!(differing, expected);
}

#[test]
fn the_topic_configs_are_those_of_kafka_and_one_of_ours() {
    let names: Vec<&str> = topic_configs().iter().map(|definition| definition.name).collect();
    assert_eq!(names.len(), 34);
    let of_ours = names.iter().filter(|name| name.starts_with("capek.")).count();
    assert_eq!(of_ours, 1);
}

#[test]
fn kafkas_defaults_are_ours() {
    let check = |name: &str, default: Option<&str>, kind: ConfigType, dynamic: Dynamic| {
        let definition = find_broker_config(name).unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!((definition.default, definition.kind, definition.dynamic), (default, kind, dynamic), "{name}");
    };
    check("log.retention.hours", Some("168"), ConfigType::Int, Dynamic::ReadOnly);
    check("log.retention.ms", None, ConfigType::Long, Dynamic::ClusterWide);
    check("message.max.bytes", Some("1048588"), ConfigType::Int, Dynamic::ClusterWide);
    check("socket.request.max.bytes", Some("104857600"), ConfigType::Int, Dynamic::ReadOnly);
    check("fetch.max.bytes", Some("57671680"), ConfigType::Int, Dynamic::ReadOnly);
    check("connections.max.idle.ms", Some("600000"), ConfigType::Long, Dynamic::ReadOnly);
    check("offsets.topic.replication.factor", Some("3"), ConfigType::Short, Dynamic::ReadOnly);
    check("log.cleaner.min.cleanable.ratio", Some("0.5"), ConfigType::Double, Dynamic::ClusterWide);
    check("ssl.keystore.password", None, ConfigType::Password, Dynamic::PerBroker);
    check("zookeeper.connect", None, ConfigType::String, Dynamic::ReadOnly);
    check("advertised.listeners", None, ConfigType::List, Dynamic::ReadOnly);
}

#[test]
fn wire_codes_are_the_protocols() {
    let codes = [
        (ConfigType::Boolean, 1),
        (ConfigType::String, 2),
        (ConfigType::Int, 3),
        (ConfigType::Short, 4),
        (ConfigType::Long, 5),
        (ConfigType::Double, 6),
        (ConfigType::List, 7),
        (ConfigType::Class, 8),
        (ConfigType::Password, 9),
    ];
    for (kind, code) in codes {
        assert_eq!(kind.wire_code(), code);
    }
}

#[track_caller]
fn refused(name: &str, value: &str, why: &str) {
    let definition = find_topic_config(name).or_else(|| find_broker_config(name)).expect("it is known");
    let message = format!("Invalid value {value} for configuration {name}: {why}");
    assert_eq!(definition.check(value), Err(message));
}

#[track_caller]
fn taken(name: &str, value: &str) {
    let definition = find_topic_config(name).or_else(|| find_broker_config(name)).expect("it is known");
    assert_eq!(definition.check(value), Ok(()));
}

#[test]
fn numbers_are_judged_by_type_and_bounds() {
    refused("retention.ms", "abc", "Not a number of type LONG");
    refused("retention.ms", "", "Not a number of type LONG");
    refused("retention.ms", "0x10", "Not a number of type LONG");
    refused("retention.ms", "1_000", "Not a number of type LONG");
    refused("retention.ms", "-5", "Value must be at least -1");
    refused("max.message.bytes", "3000000000", "Not a number of type INT");
    refused("max.message.bytes", "1.0", "Not a number of type INT");
    refused("offsets.topic.replication.factor", "40000", "Not a number of type SHORT");
    refused("segment.bytes", "100", "Value must be at least 1048576");
    refused("compression.lz4.level", "18", "Value must be no more than 17");
    refused("compression.zstd.level", "23", "Value must be no more than 22");
    refused("compression.gzip.level", "0", "Value must be between 1 and 9 or equal to -1");
    refused("min.cleanable.dirty.ratio", "1.5", "Value must be no more than 1");
    refused("min.cleanable.dirty.ratio", "-0.5", "Value must be at least 0");
    refused("min.cleanable.dirty.ratio", "x", "Not a number of type DOUBLE");
    refused("min.cleanable.dirty.ratio", "NaN", "Not a number of type DOUBLE");
    for value in ["+5", " 5000 ", "-1", "9223372036854775807"] {
        taken("retention.ms", value);
    }
    taken("retention.bytes", "-7");
    taken("compression.gzip.level", "-1");
    taken("min.cleanable.dirty.ratio", "5e-1");
}

#[test]
fn words_and_lists_are_judged_by_what_is_known() {
    let codecs = "String must be one of: uncompressed, zstd, lz4, snappy, gzip, producer";
    refused("compression.type", "none", codecs);
    refused("compression.type", "", codecs);
    refused("message.timestamp.type", "createtime", "String must be one of: CreateTime, LogAppendTime");
    refused("preallocate", "maybe", "Expected value to be either true or false");
    refused("cleanup.policy", "Delete", "String must be one of: compact, delete");
    refused(
        "group.consumer.migration.policy",
        "x",
        "String must be one of (case insensitive): DISABLED, DOWNGRADE, UPGRADE, BIDIRECTIONAL",
    );
    let policy = find_topic_config("cleanup.policy").expect("it is known");
    let member = "Invalid value foo for configuration cleanup.policy: String must be one of: compact, delete";
    assert_eq!(policy.check("delete,foo"), Err(member.to_owned()));
    assert_eq!(policy.check("compact,"), Err("Configuration 'cleanup.policy' values must not be empty.".to_owned()));
    for value in ["", " compact ", "compact , delete", "delete,delete"] {
        taken("cleanup.policy", value);
    }
    taken("preallocate", " TRUE ");
    taken("group.consumer.migration.policy", "Upgrade");
}

#[test]
fn throttled_replicas_are_a_star_or_pairs() {
    let name = "leader.replication.throttled.replicas";
    let why = "must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...";
    let definition = find_topic_config(name).expect("it is known");
    for (value, shown) in
        [("x", "[x]"), ("0:1,*", "[0:1, *]"), ("none", "[none]"), ("1:", "[1:]"), ("1:2:3", "[1:2:3]")]
    {
        let message = format!("Invalid value {shown} for configuration {name}: {name} {why}");
        assert_eq!(definition.check(value), Err(message));
    }
    for value in ["", "*", "0:1, 1:1"] {
        taken(name, value);
    }
}

#[test]
fn values_are_shown_without_what_their_reading_ignores() {
    let check = |name: &str, value: &str, shown: &str| {
        assert_eq!(find_topic_config(name).expect("it is known").normal(value), shown);
    };
    check("retention.ms", " +7 ", "7");
    check("preallocate", "TRUE", "true");
    check("cleanup.policy", "compact , delete", "compact,delete");
    check("compression.type", " gzip", "gzip");
}

#[test]
fn the_defaults_of_a_topic_are_these() {
    let config = TopicConfig::default();
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: false });
    assert_eq!((config.retention_ms, config.retention_bytes), (604_800_000, -1));
    assert_eq!((config.segment_bytes, config.segment_ms), (1 << 30, 604_800_000));
    assert_eq!((config.segment_index_bytes, config.index_interval_bytes), (10_485_760, 4096));
    assert_eq!((config.max_message_bytes, config.min_insync_replicas), (1_048_588, 1));
    assert_eq!((config.compression_type, config.flush), (None, Flush::Group));
    assert_eq!(config.message_timestamp_type, TimestampType::CreateTime);
    assert_eq!((config.timestamp_before_max_ms, config.timestamp_after_max_ms), (i64::MAX, 3_600_000));
    assert_eq!((config.file_delete_delay_ms, config.delete_retention_ms), (60_000, 86_400_000));
    assert!(!config.min_insync_replicas_is_set && !config.unclean_leader_election && !config.preallocate);
}

#[test]
fn a_topic_is_what_its_overrides_say() {
    let config = topic_config(&[
        ("cleanup.policy", "compact , delete"),
        ("compression.type", "zstd"),
        ("capek.flush", "async"),
        ("segment.bytes", " 2097152 "),
        ("message.timestamp.type", "LogAppendTime"),
        ("preallocate", "TRUE"),
    ]);
    assert_eq!(config.cleanup_policy, CleanupPolicy { delete: true, compact: true });
    assert_eq!((config.compression_type, config.flush), (Some(Codec::Zstd), Flush::Async));
    assert_eq!((config.segment_bytes, config.preallocate), (2_097_152, true));
    assert_eq!(config.message_timestamp_type, TimestampType::LogAppendTime);
    assert_eq!(topic_config(&[("compression.type", "uncompressed")]).compression_type, Some(Codec::None));
}

#[test]
fn the_nearest_broker_name_wins_and_units_are_converted() {
    let resolve = |fixed: &[(&str, &str)]| {
        let fixed = map(fixed);
        TopicConfig::resolve(&BTreeMap::new(), &|name| fixed.get(name).cloned())
    };
    assert_eq!(resolve(&[("log.retention.hours", "1")]).retention_ms, 3_600_000);
    assert_eq!(resolve(&[("log.retention.hours", "1"), ("log.retention.minutes", "1")]).retention_ms, 60_000);
    let all = [("log.retention.hours", "1"), ("log.retention.minutes", "1"), ("log.retention.ms", "1")];
    assert_eq!(resolve(&all).retention_ms, 1);
    assert_eq!(resolve(&[("log.retention.hours", "-1")]).retention_ms, -1);
    assert_eq!(resolve(&[("log.roll.hours", "2")]).segment_ms, 7_200_000);
    assert_eq!(resolve(&[("retention.ms", "5")]).retention_ms, 604_800_000, "that is no name of a broker's");
    assert_eq!(resolve(&[("message.max.bytes", "nonsense")]).max_message_bytes, 1_048_588, "passed over");
}

/// What stands behind a group's configuration has the same type and default, and its bounds exist.
#[test]
fn a_group_inherits_what_the_broker_has_for_all_groups() {
    for definition in group_configs() {
        for synonym in definition.synonyms {
            let behind = find_broker_config(synonym).unwrap_or_else(|| panic!("{synonym} is not defined"));
            assert_eq!((behind.kind, behind.default), (definition.kind, definition.default), "{synonym}");
        }
    }
}

#[test]
fn a_broker_bounds_what_its_groups_may_set() {
    let broker = |name: &str| find_broker_config(name).and_then(|found| found.default).map(str::to_owned);
    let check = |name: &str, value: &str| check_group_bounds(name, value, &broker);
    assert_eq!(check("consumer.session.timeout.ms", "50000"), Ok(()));
    let refused = |name: &str, value: &str, message: &str| {
        assert_eq!(check(name, value), Err(format!("{name} must be {message}")));
    };
    let least = "greater than or equal to group.consumer.min.session.timeout.ms";
    refused("consumer.session.timeout.ms", "1", least);
    let most = "less than or equal to group.consumer.max.heartbeat.interval.ms";
    refused("consumer.heartbeat.interval.ms", "60000", most);
    let most = "less than or equal to group.streams.max.standby.replicas";
    refused("streams.num.standby.replicas", "99", most);
    assert_eq!(check("share.auto.offset.reset", "latest"), Ok(()), "what is no number has no bounds");
    assert_eq!(check("streams.initial.rebalance.delay.ms", "1"), Ok(()), "what has no bounds has none");
}

#[test]
fn a_share_group_begins_where_it_is_told() {
    let definition = find_group_config("share.auto.offset.reset").expect("it is Kafka's");
    for good in
        ["earliest", "latest", "by_duration:PT1H", "by_duration:P1DT2H3M4.5S", "by_duration:P2D", "by_duration:pt5s"]
    {
        assert_eq!(definition.check(good), Ok(()), "{good}");
    }
    let bad = [
        "",
        "x",
        "by_duration:",
        "by_duration:P",
        "by_duration:PT",
        "by_duration:1H",
        "by_duration:PT1S1H",
        "by_duration:PT1.5H",
    ];
    for bad in bad {
        assert!(definition.check(bad).is_err(), "{bad}");
    }
    let message = "Invalid value x for configuration share.auto.offset.reset: Invalid value `x` for configuration \
                   share.auto.offset.reset. The value must be either 'earliest', 'latest' or of the format \
                   'by_duration:<PnDTnHnMn.nS>'.";
    assert_eq!(definition.check("x"), Err(message.to_owned()));
}

#[test]
fn addresses_may_have_connection_limits_of_their_own() {
    assert_eq!(connection_overrides(""), Ok(vec![]));
    assert_eq!(connection_overrides("127.0.0.1:100, ::1:5"), Ok(vec![("127.0.0.1", 100), ("::1", 5)]));
    assert_eq!(connection_overrides("127.0.0.1:1,bad"), Err("bad is not of the form host:count".to_owned()));
}

#[test]
fn producers_are_remembered_for_as_long_as_the_broker_says() {
    let of = |value: Option<&str>| {
        let asked = |name: &str| (name == "producer.id.expiration.ms").then(|| value.map(str::to_owned)).flatten();
        TopicConfig::resolve(&BTreeMap::new(), &asked).producer_id_expiration_ms
    };
    assert_eq!((of(None), of(Some("5000")), of(Some("0"))), (86_400_000, 5000, 86_400_000));
}

#[test]
fn thread_pools_are_halved_or_doubled_at_most() {
    let check = |value: &str| check_thread_count("background.threads", value, "10");
    for good in ["5", "10", "20", "x", "0"] {
        assert_eq!(check(good), Ok(()), "{good}"); // what is no legal number is refused for that
    }
    let refused = |value: &str, rest: &str| {
        let start =
            format!("Dynamic thread count update validation failed for background.threads={value}, value should");
        assert_eq!(check(value), Err(format!("{start} {rest} the current value 10")));
    };
    refused("4", "be at least half");
    refused("21", "not be greater than double");
    let cleaner = "Log cleaner threads cannot be increased to more than double the current value 1";
    assert_eq!(check_thread_count("log.cleaner.threads", "3", "1"), Err(cleaner.to_owned()));
    assert_eq!(check_thread_count("num.partitions", "30", "1"), Ok(()), "no pool of threads");
}
