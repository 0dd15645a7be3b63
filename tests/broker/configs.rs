//! Dynamic configurations through Kafka's own tool: acted upon at once, described with their origin, kept over a restart.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::{Fields, NO_SEQUENCE, RawClient, Sequence, batch};
use crate::support::tools::{output_of_class, run_class};
use crate::support::wait_for;

const DESCRIBE_CONFIGS: i16 = 32;
const BROKER: i8 = 4;
const GROUP: i8 = 32;
const STATIC_CONFIG: i8 = 4;
const DEFAULT_CONFIG: i8 = 5;
const GROUP_CONFIG: i8 = 8;
const MESSAGE_TOO_LARGE: i16 = 10;
const WITHIN: Duration = Duration::from_secs(10);

fn arguments<'a>(broker: &'a str, kind: &'a str, name: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    let entity = match name {
        "" => vec!["--entity-type", kind, "--entity-default"],
        name => vec!["--entity-type", kind, "--entity-name", name],
    };
    [&["--bootstrap-server", broker][..], &entity, rest].concat()
}

/// An empty name stands for the default of all.
fn configs(broker: &Broker, kind: &str, name: &str, rest: &[&str]) -> String {
    output_of_class("kafka.admin.ConfigCommand", &arguments(&broker.kafka(), kind, name, rest))
}

fn refused(broker: &Broker, kind: &str, name: &str, change: &str) -> String {
    let kafka = broker.kafka();
    let arguments = arguments(&kafka, kind, name, &["--alter", "--add-config", change]);
    let ended = run_class("kafka.admin.ConfigCommand", &arguments);
    assert_ne!(ended.status, 0, "{}", ended.output());
    ended.output()
}

#[test]
fn what_is_set_for_all_brokers_counts_at_once_for_topics_without_their_own() {
    let mut broker = Broker::start();
    broker.create_topic("plain", 1);
    broker.create_topic_with("own", 1, &[("max.message.bytes", "100000")]);
    let large = batch(&[&[b'x'; 5000]], NO_SEQUENCE);
    assert_eq!(broker.client().produce("plain", 0, &large).error, 0);
    configs(&broker, "brokers", "", &["--alter", "--add-config", "message.max.bytes=1000,log.retention.ms=7654321"]);
    assert_eq!(broker.client().produce("plain", 0, &large).error, MESSAGE_TOO_LARGE);
    assert_eq!(broker.client().produce("own", 0, &large).error, 0);
    let described = |broker: &Broker| configs(broker, "topics", "plain", &["--describe", "--all"]);
    let origin = "retention.ms=7654321 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=7654321, \
                  DEFAULT_CONFIG:log.retention.hours=168}";
    assert!(described(&broker).contains(origin), "{}", described(&broker));
    broker.kill();
    broker.start_again();
    assert_eq!(broker.client().produce("plain", 0, &large).error, MESSAGE_TOO_LARGE, "after a restart too");
    configs(&broker, "brokers", "", &["--alter", "--delete-config", "message.max.bytes,log.retention.ms"]);
    assert_eq!(broker.client().produce("plain", 0, &large).error, 0);
}

#[test]
fn what_kafka_cannot_change_while_it_runs_is_refused_in_its_words() {
    let broker = Broker::start();
    let output = refused(&broker, "brokers", "1", "num.partitions=3");
    assert!(output.contains("Cannot update these configs dynamically: [num.partitions]"), "{output}");
    let output = refused(&broker, "brokers", "1", "log.retention.ms=0");
    assert!(output.contains("log.retention.ms must be unlimited (-1) or, greater than or equal to 1"), "{output}");
    let output = refused(&broker, "brokers", "1", "background.threads=30");
    assert!(output.contains("value should not be greater than double the current value 10"), "{output}");
    let output = refused(&broker, "brokers", "1", "listeners=PLAINTEXT://127.0.0.1:1");
    assert!(output.contains("need a restart"), "{output}");
    configs(&broker, "brokers", "", &["--alter", "--add-config", "background.threads=20"]);
}

/// What is described is what holds.
#[test]
fn a_default_that_depends_on_the_cluster_is_described_as_it_holds() {
    let broker = Broker::start();
    let delay = |broker: &Broker| setting(broker, BROKER, "1", "group.initial.rebalance.delay.ms");
    assert_eq!(delay(&broker), ("0".to_owned(), DEFAULT_CONFIG), "one broker does not wait");
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=1500"]);
    assert_eq!(delay(&broker), ("1500".to_owned(), STATIC_CONFIG));
}

#[test]
fn a_limit_of_connections_counts_from_the_next_one_on() {
    let broker = Broker::start();
    configs(&broker, "brokers", "1", &["--alter", "--add-config", "max.connections.per.ip=2"]);
    let answers = |client: &mut RawClient| client.try_api_versions().is_some();
    let mut kept = Vec::new();
    wait_for("the tool's connections to go", WITHIN, || {
        kept.clear();
        kept.extend((0..2).filter_map(|_| RawClient::try_connect(&broker.kafka())));
        kept.iter_mut().all(answers).then_some(())
    });
    let mut third = broker.client();
    assert!(third.is_closed_within(WITHIN), "there are two already");
    drop(kept);
    wait_for("room for another", WITHIN, || answers(&mut broker.client()).then_some(()));
}

#[test]
fn a_group_is_configured_within_the_bounds_of_the_broker() {
    let broker = Broker::start();
    configs(&broker, "groups", "readers", &["--alter", "--add-config", "consumer.session.timeout.ms=50000"]);
    let described = || setting(&broker, GROUP, "readers", "consumer.session.timeout.ms");
    assert_eq!(described(), ("50000".to_owned(), GROUP_CONFIG));
    let output = refused(&broker, "groups", "readers", "consumer.session.timeout.ms=1");
    assert!(output.contains("must be greater than or equal to group.consumer.min.session.timeout.ms"), "{output}");
    configs(&broker, "groups", "readers", &["--alter", "--delete-config", "consumer.session.timeout.ms"]);
    assert_eq!(described(), ("45000".to_owned(), DEFAULT_CONFIG));
}

/// Value and source. (The tool would list the groups first.)
fn setting(broker: &Broker, kind: i8, resource: &str, name: &str) -> (String, i8) {
    let body = Fields::default().i32(1).i8(kind).string(resource).i32(1).string(name).i8(0);
    let mut answer = broker.client().call(DESCRIBE_CONFIGS, 1, body);
    let (_throttle_ms, _results, error, _message) = (answer.i32(), answer.i32(), answer.i16(), answer.string());
    let (_type, _name, configs, described) = (answer.i8(), answer.string(), answer.i32(), answer.string());
    assert_eq!((error, configs, described.as_str()), (0, 1, name));
    let (value, _read_only, source) = (answer.string(), answer.i8(), answer.i8());
    (value, source)
}

#[test]
fn a_client_metrics_subscription_is_kept_and_listed() {
    let broker = Broker::start();
    configs(
        &broker,
        "client-metrics",
        "basic",
        &["--alter", "--add-config", "metrics=org.apache.kafka.,interval.ms=5000"],
    );
    let kafka = broker.kafka();
    let all = ["--bootstrap-server", &kafka, "--entity-type", "client-metrics", "--describe"];
    let listed = output_of_class("kafka.admin.ConfigCommand", &all);
    assert!(listed.contains("basic") && listed.contains("interval.ms=5000"), "{listed}");
}

#[test]
fn a_log_level_counts_at_once_and_until_it_is_taken_back() {
    let broker = Broker::start();
    broker.create_topic("before", 1);
    assert!(!broker.output().contains("DEBUG"), "{}", broker.output());
    configs(&broker, "broker-loggers", "1", &["--alter", "--add-config", "capek_actors.requests=DEBUG"]);
    let described = configs(&broker, "broker-loggers", "1", &["--describe"]);
    assert!(described.contains("capek_actors.requests=DEBUG") && described.contains("root=INFO"), "{described}");
    broker.create_topic("while", 1);
    assert!(broker.output().contains("CreateTopics answered in"), "{}", broker.output());
    configs(&broker, "broker-loggers", "1", &["--alter", "--delete-config", "capek_actors.requests"]);
    let debug_lines = || broker.output().matches("DEBUG").count();
    let before = debug_lines();
    broker.create_topic("after", 1);
    assert_eq!(debug_lines(), before);
    let output = refused(&broker, "broker-loggers", "1", "org.example=DEBUG");
    assert!(output.contains("Invalid broker logger(s): org.example"), "{output}");
}

#[test]
fn an_idle_producer_is_forgotten_after_its_time() {
    let broker = Broker::start_with(&["producer.id.expiration.ms=500"]);
    broker.create_topic("expiring", 1);
    let produce = || {
        let (producer_id, producer_epoch) = broker.client().init_producer_id();
        let sequence = Sequence { producer_id, producer_epoch, base_sequence: 0 };
        assert_eq!(broker.client().produce("expiring", 0, &batch(&[b"a"], sequence)).error, 0);
        producer_id
    };
    let remembered = || -> Vec<String> {
        let kafka = broker.kafka();
        let arguments = ["--bootstrap-server", &kafka, "describe-producers", "--topic", "expiring", "--partition", "0"];
        let output = output_of_class("org.apache.kafka.tools.TransactionsCommand", &arguments);
        output.lines().skip(1).filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect()
    };
    produce();
    std::thread::sleep(Duration::from_millis(600));
    let last = produce();
    assert_eq!(remembered(), [last.to_string()]);
}
