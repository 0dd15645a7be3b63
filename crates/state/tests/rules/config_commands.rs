//! Changing configurations. The codes and words were taken from a Kafka 4.3.

use std::collections::BTreeMap;

use capek_state::Refusal;
use capek_state::cluster::{
    AlterConfigs, Command, ConfigKind, ConfigOperation, ConfigOperationKind, ConfigResource, Image, Record, decide,
};
use capek_wire::ErrorCode;

use crate::fixtures::{apply, assert_refused, cluster, map, run, topic};
use ConfigOperationKind::{Append, Delete, Set, Subtract};

type Operation<'a> = (&'a str, ConfigOperationKind, Option<&'a str>);

/// A broker 1 and a topic `t`.
fn image() -> Image {
    let mut image = cluster(1);
    run(&mut image, &Command::CreateTopic(topic("t", 1, 1)));
    image
}

fn alter(image: &Image, resource: &ConfigResource, operations: &[Operation<'_>]) -> Result<Vec<Record>, Refusal> {
    let of = |(name, kind, value): &Operation<'_>| ConfigOperation {
        name: (*name).to_owned(),
        kind: *kind,
        value: value.map(str::to_owned),
    };
    let operations = operations.iter().map(of).collect();
    let command = Command::AlterConfigs(AlterConfigs { resource: resource.clone(), operations });
    decide(image, &command).map(|decision| decision.records)
}

#[track_caller]
fn refused(resource: &ConfigResource, operations: &[Operation<'_>], code: ErrorCode, message: &str) {
    assert_refused(alter(&image(), resource, operations), code, message);
}

/// What the configuration of `t` is after these operations, one request each.
fn after(operations: &[Operation<'_>]) -> BTreeMap<String, String> {
    let mut image = image();
    let resource = ConfigResource::topic("t");
    for operation in operations {
        let records =
            alter(&image, &resource, &[*operation]).unwrap_or_else(|refusal| panic!("{operation:?}: {refusal}"));
        apply(&mut image, &records);
    }
    image.configs(&resource).clone()
}

#[test]
fn a_change_is_a_record_and_no_change_is_none() {
    let mut image = image();
    let resource = ConfigResource::topic("t");
    let records = alter(&image, &resource, &[("retention.ms", Set, Some("5000"))]).expect("it is legal");
    let expected = Record::ConfigChanged {
        resource: resource.clone(),
        name: "retention.ms".to_owned(),
        value: Some("5000".to_owned()),
    };
    assert_eq!(records, [expected]);
    apply(&mut image, &records);
    assert_eq!(alter(&image, &resource, &[("retention.ms", Set, Some("5000"))]), Ok(vec![]));
    assert_eq!(alter(&image, &resource, &[("segment.ms", Delete, None)]), Ok(vec![]));
    assert_eq!(alter(&image, &resource, &[]), Ok(vec![]));
}

#[test]
fn values_are_set_and_taken_back() {
    assert_eq!(after(&[("retention.ms", Set, Some("1"))]), map(&[("retention.ms", "1")]));
    assert_eq!(after(&[("retention.ms", Set, Some("1")), ("retention.ms", Delete, Some("9"))]), map(&[]));
    assert_eq!(after(&[("foo", Delete, None)]), map(&[]), "taking back what never was is fine");
}

#[test]
fn lists_grow_and_shrink_from_their_default() {
    let appended = after(&[("cleanup.policy", Append, Some("compact"))]);
    assert_eq!(appended, map(&[("cleanup.policy", "delete,compact")]));
    let twice = after(&[("cleanup.policy", Append, Some("compact")), ("cleanup.policy", Append, Some("compact"))]);
    assert_eq!(twice, appended);
    let without = after(&[("cleanup.policy", Append, Some("compact")), ("cleanup.policy", Subtract, Some("delete"))]);
    assert_eq!(without, map(&[("cleanup.policy", "compact")]));
    assert_eq!(after(&[("cleanup.policy", Subtract, Some("delete"))]), map(&[("cleanup.policy", "")]));
}

#[test]
fn what_a_topic_cannot_be_told_is_refused() {
    let t = ConfigResource::topic("t");
    let invalid = ErrorCode::InvalidConfig;
    refused(&t, &[("foo", Set, Some("1"))], invalid, "Unknown topic config name: foo");
    refused(&t, &[("", Set, Some("1"))], invalid, "Unknown topic config name: ");
    refused(&t, &[("foo", Append, Some("1"))], invalid, "Can't APPEND to key foo because its type is not LIST.");
    let long = "Can't SUBTRACT to key retention.ms because its type is not LIST.";
    refused(&t, &[("retention.ms", Subtract, Some("1"))], invalid, long);
    let policy = "Invalid value zip for configuration cleanup.policy: String must be one of: compact, delete";
    refused(&t, &[("cleanup.policy", Append, Some("zip"))], invalid, policy);
    let remote =
        "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log storage.";
    refused(&t, &[("remote.storage.enable", Set, Some("true"))], invalid, remote);
    let request = ErrorCode::InvalidRequest;
    refused(&t, &[("retention.ms", Set, None)], request, "Null value not supported for : retention.ms");
    refused(&t, &[("cleanup.policy", Append, None)], request, "Null value not supported for : cleanup.policy");
    let twice = [("retention.ms", Set, Some("1")), ("retention.ms", Set, Some("2"))];
    refused(&t, &twice, request, "Error due to duplicate config keys");
}

#[test]
fn one_wrong_value_refuses_the_whole_request() {
    let operations = [("segment.ms", Set, Some("70000")), ("retention.ms", Set, Some("abc"))];
    let message = "Invalid value abc for configuration retention.ms: Not a number of type LONG";
    refused(&ConfigResource::topic("t"), &operations, ErrorCode::InvalidConfig, message);
}

#[test]
fn values_are_judged_together_with_what_is_set_already() {
    let mut image = image();
    let t = ConfigResource::topic("t");
    let records = alter(&image, &t, &[("min.compaction.lag.ms", Set, Some("10"))]).expect("it is legal");
    apply(&mut image, &records);
    let conflict = alter(&image, &t, &[("max.compaction.lag.ms", Set, Some("5"))]);
    let message = "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)";
    assert_refused(conflict, ErrorCode::InvalidConfig, message);
}

#[test]
fn what_is_not_there_has_no_configuration() {
    let set = [("retention.ms", Set, Some("1"))];
    let unknown = ErrorCode::UnknownTopicOrPartition;
    refused(&ConfigResource::topic("nope"), &set, unknown, "The topic 'nope' does not exist.");
    refused(&ConfigResource::topic(""), &set, ErrorCode::InvalidRequest, "Default topic resources are not allowed.");
    let dot = "Topic name is invalid: '.' is not allowed";
    refused(&ConfigResource::topic("."), &set, ErrorCode::InvalidTopicException, dot);
    refused(&ConfigResource::broker(9), &set, ErrorCode::BrokerIdNotRegistered, "No broker with id 9 found.");
    let named = ConfigResource { kind: ConfigKind::Broker, name: "x".to_owned() };
    refused(&named, &set, ErrorCode::InvalidRequest, "Invalid broker name x");
}

#[test]
fn a_running_broker_takes_what_is_dynamic() {
    let (one, all) = (ConfigResource::broker(1), ConfigResource::brokers());
    for resource in [&one, &all] {
        assert!(alter(&image(), resource, &[("log.retention.ms", Set, Some("60000"))]).is_ok());
        assert!(alter(&image(), resource, &[("log.cleanup.policy", Append, Some("compact"))]).is_ok());
        assert!(alter(&image(), resource, &[("foo.bar", Set, Some("5"))]).is_ok(), "as Kafka");
        assert!(alter(&image(), resource, &[("log.dirs", Delete, None)]).is_ok());
    }
    assert!(alter(&image(), &one, &[("listener.name.external.ssl.keystore.location", Set, Some("/k"))]).is_ok());
}

#[test]
fn a_running_broker_refuses_what_is_not() {
    let (one, all) = (ConfigResource::broker(1), ConfigResource::brokers());
    let code = ErrorCode::InvalidRequest;
    let both = [("node.id", Set, Some("5")), ("log.dirs", Set, Some("/x"))];
    refused(&one, &both, code, "Cannot update these configs dynamically: [node.id, log.dirs]");
    refused(&all, &both[1..], code, "Cannot update these configs dynamically: [log.dirs]");
    let listeners = [("listeners", Set, Some("PLAINTEXT://:1"))];
    let default_level =
        "Cannot update these configs at default cluster level, broker id must be specified: [listeners]";
    refused(&all, &listeners, code, default_level);
    let of_listener = [("listener.name.external.ssl.keystore.location", Set, Some("/k"))];
    let default_level = "Cannot update these configs at default cluster level, broker id must be specified: [listener.name.external.ssl.keystore.location]";
    refused(&all, &of_listener, code, default_level);
    let security = [("ssl.keystore.location", Set, Some("/k"))];
    let message = "These security configs can be dynamically updated only per-listener using the listener prefix: [ssl.keystore.location]";
    refused(&one, &security, code, message);
    refused(&all, &security, code, message);
    let value = [("log.retention.ms", Set, Some("abc"))];
    let message = "Invalid value abc for configuration log.retention.ms: Not a number of type LONG";
    refused(&one, &value, code, message);
    let zero = [("log.retention.ms", Set, Some("0"))];
    let message = "requirement failed: log.retention.ms must be unlimited (-1) or, greater than or equal to 1";
    refused(&one, &zero, code, message);
}

#[test]
fn replacing_takes_back_what_is_not_named() {
    let mut image = image();
    let resource = ConfigResource::topic("t");
    let operations = [("retention.ms", Set, Some("1")), ("segment.ms", Set, Some("2"))];
    let records = alter(&image, &resource, &operations).expect("it is legal");
    apply(&mut image, &records);
    let configs = BTreeMap::from([
        ("segment.ms".to_owned(), Some("2".to_owned())),
        ("cleanup.policy".to_owned(), Some("compact".to_owned())),
    ]);
    run(&mut image, &Command::ReplaceConfigs { resource: resource.clone(), configs });
    assert_eq!(image.configs(&resource), &map(&[("segment.ms", "2"), ("cleanup.policy", "compact")]));
    run(&mut image, &Command::ReplaceConfigs { resource: resource.clone(), configs: BTreeMap::new() });
    assert!(image.configs(&resource).is_empty());
    let null = BTreeMap::from([("segment.ms".to_owned(), None)]);
    let refusal = decide(&image, &Command::ReplaceConfigs { resource, configs: null });
    assert_refused(refusal, ErrorCode::InvalidRequest, "Null value not supported for : segment.ms");
}

fn of_kind(kind: ConfigKind, name: &str) -> ConfigResource {
    ConfigResource { kind, name: name.to_owned() }
}

#[test]
fn groups_are_configured_in_kafkas_words() {
    let group = of_kind(ConfigKind::Group, "g");
    let set = |value: &'static str| [("consumer.session.timeout.ms", Set, Some(value))];
    assert_eq!(alter(&image(), &group, &set("50000")).expect("it is legal").len(), 1);
    let invalid = ErrorCode::InvalidConfig;
    refused(&group, &[("nope", Set, Some("1"))], invalid, "Unknown group config name: nope");
    let number = "Invalid value x for configuration consumer.session.timeout.ms: Not a number of type INT";
    refused(&group, &set("x"), invalid, number);
    let append = "Can't APPEND to key consumer.session.timeout.ms because its type is not LIST.";
    refused(&group, &[("consumer.session.timeout.ms", Append, Some("1"))], invalid, append);
    let nameless = of_kind(ConfigKind::Group, "");
    refused(&nameless, &set("50000"), ErrorCode::InvalidRequest, "Default group resources are not allowed.");
}

#[test]
fn a_group_has_its_own_value_else_the_brokers_else_the_default() {
    let mut image = image();
    let setting = |image: &Image, fixed: &[(&str, &str)], name: &str| image.group_setting("g", 1, &map(fixed), name);
    let name = "consumer.session.timeout.ms";
    assert_eq!(setting(&image, &[], name).as_deref(), Some("45000"));
    assert_eq!(setting(&image, &[("group.consumer.session.timeout.ms", "46000")], name).as_deref(), Some("46000"));
    let records = alter(&image, &of_kind(ConfigKind::Group, "g"), &[(name, Set, Some("50000"))]).expect("it is legal");
    apply(&mut image, &records);
    assert_eq!(setting(&image, &[("group.consumer.session.timeout.ms", "46000")], name).as_deref(), Some("50000"));
    assert_eq!(setting(&image, &[], "nope"), None);
}

#[test]
fn client_metrics_subscriptions_are_configured_in_kafkas_words() {
    let subscription = of_kind(ConfigKind::ClientMetrics, "m");
    let legal = [
        ("metrics", Set, Some("org.apache.kafka.")),
        ("interval.ms", Set, Some("5000")),
        ("match", Set, Some("client_id=x.*,client_source_port=9.*")),
    ];
    assert_eq!(alter(&image(), &subscription, &legal).expect("it is legal").len(), 3);
    let (invalid, request) = (ErrorCode::InvalidConfig, ErrorCode::InvalidRequest);
    refused(&subscription, &[("nope", Set, Some("1"))], request, "Unknown client metrics configuration: nope");
    let interval = "Invalid value 1 for interval.ms, interval must be between 100 and 3600000 (1 hour)";
    refused(&subscription, &[("interval.ms", Set, Some("1"))], request, interval);
    let number = "Invalid value x for configuration interval.ms: Not a number of type INT";
    refused(&subscription, &[("interval.ms", Set, Some("x"))], invalid, number);
    refused(&subscription, &[("match", Set, Some("nope=x"))], invalid, "Illegal client matching pattern: nope=x");
    refused(&subscription, &[("match", Set, Some("x"))], invalid, "Illegal client matching pattern: x");
    let append = "Can't APPEND to key metrics because its type is not LIST.";
    refused(&subscription, &[("metrics", Append, Some("x"))], invalid, append);
    let nameless = of_kind(ConfigKind::ClientMetrics, "");
    refused(&nameless, &[("metrics", Set, Some("*"))], request, "Subscription name can't be empty");
}

#[test]
fn limits_that_fit_no_connection_or_cleaner_are_refused() {
    let brokers = ConfigResource::brokers();
    let request = ErrorCode::InvalidRequest;
    let zero = "requirement failed: max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides \
                property is set.";
    refused(&brokers, &[("max.connections.per.ip", Set, Some("0"))], request, zero);
    let with_overrides =
        [("max.connections.per.ip", Set, Some("0")), ("max.connections.per.ip.overrides", Set, Some("::1:5"))];
    assert_eq!(alter(&image(), &brokers, &with_overrides).expect("somebody may connect").len(), 2);
    let bad =
        "Error parsing configuration property 'max.connections.per.ip.overrides': bad is not of the form host:count";
    refused(&brokers, &[("max.connections.per.ip.overrides", Set, Some("bad"))], request, bad);
    let memory = "requirement failed: log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.";
    refused(&brokers, &[("log.cleaner.dedupe.buffer.size", Set, Some("1"))], request, memory);
    let rate = "Invalid value -1 for configuration leader.replication.throttled.rate: Value must be at least 0";
    refused(&brokers, &[("leader.replication.throttled.rate", Set, Some("-1"))], request, rate);
    let append = "Config value append is not allowed for config key: num.io.threads";
    refused(&brokers, &[("num.io.threads", Append, Some("1"))], ErrorCode::InvalidConfig, append);
}

#[test]
fn what_a_running_broker_does_not_act_upon_is_refused() {
    let broker = ConfigResource::broker(1);
    let request = ErrorCode::InvalidRequest;
    for name in ["listeners", "listener.security.protocol.map"] {
        let message = format!(
            "Cannot update these configs dynamically: [{name}]. Here they need a restart: set them in the broker's file, \
             environment or flags"
        );
        refused(&broker, &[(name, Set, Some("PLAINTEXT:PLAINTEXT"))], request, &message);
    }
    let cordoned = "cordoned.log.dirs is without effect in this version: no directory can be cordoned";
    refused(&broker, &[("cordoned.log.dirs", Set, Some("*"))], request, cordoned);
    for (name, value) in [("min.insync.replicas", "2"), ("unclean.leader.election.enable", "true")] {
        let message = format!(
            "These configs decide elections and cannot be altered for one broker: [{name}]. Set them for all brokers, or \
             for a topic"
        );
        refused(&broker, &[(name, Set, Some(value))], ErrorCode::InvalidConfig, &message);
        alter(&image(), &ConfigResource::brokers(), &[(name, Set, Some(value))]).expect("it holds for all brokers");
    }
    alter(&image(), &broker, &[("listeners", Delete, None)]).expect("what an older version kept can be taken back");
}

#[test]
fn classes_that_cannot_be_loaded_are_refused() {
    let broker = ConfigResource::broker(1);
    for (name, value) in [
        ("principal.builder.class", "org.example.Builder"),
        ("metric.reporters", "org.example.Builder"),
        ("listener.name.plaintext.principal.builder.class", "org.example.Builder"),
    ] {
        let base = name.trim_start_matches("listener.name.plaintext.");
        let message =
            format!("Invalid value {value} for configuration {base}: Class org.example.Builder could not be found.");
        refused(&broker, &[(name, Set, Some(value))], ErrorCode::InvalidRequest, &message);
    }
    let built_in = [("metric.reporters", Set, Some("org.apache.kafka.common.metrics.JmxReporter"))];
    assert_eq!(alter(&image(), &broker, &built_in).expect("it is the default").len(), 1);
    alter(&image(), &broker, &[("metric.reporters", Set, Some(""))]).expect("there may be none");
}
