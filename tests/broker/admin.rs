//! The administration of a cluster through Kafka's own tools, unchanged, and what no tool sends by hand-made frames.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::{Fields, NO_SEQUENCE, Sequence, batch};
use crate::support::tools::{output_of_class, run_class};

const SASL_HANDSHAKE: i16 = 17;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const ALTER_REPLICA_LOG_DIRS: i16 = 34;
const ELECT_LEADERS: i16 = 43;
const API_VERSIONS: i16 = 18;
const CONSUMER_GROUP_HEARTBEAT: i16 = 68;
const UNSUPPORTED_VERSION: i16 = 35;
const WITHIN: Duration = Duration::from_secs(10);

#[test]
fn kafka_reassign_partitions_finds_that_everything_is_in_its_place() {
    let broker = Broker::start();
    broker.create_topic("placed", 2);
    let file = |name: &str, body: &str| {
        let path = broker.data_dir.with_file_name(name);
        std::fs::write(&path, body).expect("the test's directory is writable");
        path.to_str().expect("the path is ASCII").to_owned()
    };
    let tool =
        |arguments: &[&str]| tool(&broker, "org.apache.kafka.tools.reassign.ReassignPartitionsCommand", arguments);
    let topics = file("topics.json", r#"{"version":1,"topics":[{"topic":"placed"}]}"#);
    let plan = tool(&["--topics-to-move-json-file", &topics, "--broker-list", "1", "--generate"]);
    let proposed = plan.lines().last().expect("the plan comes last").to_owned();
    assert!(proposed.contains(r#""partition":1,"replicas":[1]"#), "{plan}");
    let plan = file("plan.json", &proposed);
    let executed = tool(&["--reassignment-json-file", &plan, "--execute", "--throttle", "1000000"]);
    assert!(executed.contains("Successfully started partition reassignments for placed-0,placed-1"), "{executed}");
    let verified = tool(&["--reassignment-json-file", &plan, "--verify"]);
    assert!(verified.contains("Reassignment of partition placed-1 is completed."), "{verified}");
    assert!(tool(&["--list"]).contains("No partition reassignments found."));
}

#[test]
fn kafka_reassign_partitions_cannot_move_a_replica_to_a_broker_that_is_not_there() {
    let broker = Broker::start();
    broker.create_topic("placed", 1);
    let path = broker.data_dir.with_file_name("plan.json");
    let plan = r#"{"version":1,"partitions":[{"topic":"placed","partition":0,"replicas":[9]}]}"#;
    std::fs::write(&path, plan).expect("the test's directory is writable");
    let path = path.to_str().expect("the path is ASCII");
    let arguments = ["--bootstrap-server", &broker.kafka(), "--reassignment-json-file", path, "--execute"];
    let ended = run_class("org.apache.kafka.tools.reassign.ReassignPartitionsCommand", &arguments);
    assert_ne!(ended.status, 0, "{}", ended.output());
    assert!(ended.output().contains("Unknown broker id 9"), "{}", ended.output());
}

#[test]
fn kafka_leader_election_finds_the_preferred_leaders_in_office() {
    let broker = Broker::start();
    broker.create_topic("led", 2);
    let tool = |arguments: &[&str]| tool(&broker, "org.apache.kafka.tools.LeaderElectionCommand", arguments);
    tool(&["--election-type", "preferred", "--all-topic-partitions"]);
    let one = tool(&["--election-type", "unclean", "--topic", "led", "--partition", "1"]);
    assert!(one.contains("Valid replica already elected for partitions led-1"), "{one}");
}

#[test]
fn an_unknown_kind_of_election_is_refused_for_each_partition() {
    let broker = Broker::start();
    broker.create_topic("led", 1);
    let body = Fields::default().i8(7).i32(1).string("led").i32(1).i32(0).i32(1000);
    let mut answer = broker.client().call(ELECT_LEADERS, 1, body);
    let (_throttle_ms, error) = (answer.i32(), answer.i16());
    assert_eq!(error, 42);
    assert_eq!((answer.i32(), answer.string(), answer.i32()), (1, "led".to_owned(), 1));
    assert_eq!((answer.i32(), answer.i16(), answer.string()), (0, 42, "Unknown election type 7".to_owned()));
}

#[test]
fn kafka_features_shows_the_level_of_the_metadata() {
    let mut broker = Broker::start();
    let described = |broker: &Broker| {
        let output = tool(broker, "org.apache.kafka.tools.FeatureCommand", &["describe"]);
        let line = output.lines().find(|line| line.contains("metadata.version"));
        line.unwrap_or_else(|| panic!("{output}")).to_owned()
    };
    assert!(described(&broker).contains("FinalizedVersionLevel: 4.3-IV0"), "{}", described(&broker));
    let arguments = ["--bootstrap-server", &broker.kafka(), "downgrade", "--feature", "metadata.version=20"];
    let ended = run_class("org.apache.kafka.tools.FeatureCommand", &arguments);
    assert_ne!(ended.status, 0, "{}", ended.output());
    assert!(ended.output().contains("only supports versions 30-30"), "{}", ended.output());
    broker.kill();
    broker.start_again();
    assert!(described(&broker).contains("FinalizedVersionLevel: 4.3-IV0"));
}

/// KAFKA-17011, and the clients that skip one byte too few of a tagged field: nothing at its default, nothing from level 0.
#[test]
fn features_travel_from_version_three_on() {
    let broker = Broker::start();
    let software = Fields::default().raw(&[0, 2, b'x', 2, b'1', 0]);
    for version in [3, 4] {
        let mut answer = broker.client().call(API_VERSIONS, version, software.clone());
        assert_eq!(answer.i16(), 0);
        let rest = answer.rest();
        let name = b"\x11metadata.version";
        let supported = [&name[..], &[0, 30, 0, 30, 0]].concat();
        let found = rest.windows(supported.len()).filter(|window| *window == supported).count();
        assert_eq!(found, 2, "once as supported, once as finalised: {rest:?}");
    }
}

#[test]
fn without_the_feature_members_of_the_consumer_protocol_are_sent_away() {
    let broker = Broker::start();
    // An empty tag section of the header; then group g, no member id, epoch 0, and nothing else said.
    let body = Fields::default().raw(&[0, 2, b'g', 1]).i32(0).raw(&[0, 0]).i32(1000).raw(&[0, 0, 0, 0]);
    let error = || {
        let mut answer = broker.client().call(CONSUMER_GROUP_HEARTBEAT, 0, body.clone());
        let (_tags, _throttle_ms) = (answer.i8(), answer.i32());
        answer.i16()
    };
    assert_ne!(error(), UNSUPPORTED_VERSION);
    let tool = |arguments: &[&str]| tool(&broker, "org.apache.kafka.tools.FeatureCommand", arguments);
    tool(&["downgrade", "--feature", "group.version=0"]);
    assert_eq!(error(), UNSUPPORTED_VERSION);
    tool(&["upgrade", "--feature", "group.version=1"]);
    assert_ne!(error(), UNSUPPORTED_VERSION);
}

#[test]
fn kafka_metadata_quorum_shows_a_quorum_of_one() {
    let broker = Broker::start();
    let tool = |of: &str| tool(&broker, "org.apache.kafka.tools.MetadataQuorumCommand", &["describe", of]);
    let status = tool("--status");
    for wanted in ["LeaderId:               1", "MaxFollowerLag:         0", "\"id\": 1", "CurrentObservers:       []"]
    {
        assert!(status.contains(wanted), "{wanted} in {status}");
    }
    let replication = tool("--replication");
    assert!(replication.lines().any(|line| line.starts_with('1') && line.contains("Leader")), "{replication}");
}

#[test]
fn kafka_transactions_shows_the_idempotent_producers_of_a_partition() {
    let mut broker = Broker::start();
    broker.create_topic("written", 1);
    let describe = |broker: &Broker| -> Vec<String> {
        let arguments = ["describe-producers", "--topic", "written", "--partition", "0"];
        let output = tool(broker, "org.apache.kafka.tools.TransactionsCommand", &arguments);
        let row = |line: &str| line.split_whitespace().take(4).collect::<Vec<_>>().join(" ");
        output.lines().skip(1).map(row).collect()
    };
    assert_eq!(describe(&broker), [] as [&str; 0]);
    let (producer_id, producer_epoch) = broker.client().init_producer_id();
    for base_sequence in [0, 2] {
        let sequence = Sequence { producer_id, producer_epoch, base_sequence };
        assert_eq!(broker.client().produce("written", 0, &batch(&[b"a", b"b"], sequence)).error, 0);
    }
    assert_eq!(broker.client().produce("written", 0, &batch(&[b"nobody"], NO_SEQUENCE)).error, 0);
    let expected = [format!("{producer_id} {producer_epoch} -1 3")];
    assert_eq!(describe(&broker), expected);
    broker.kill();
    broker.start_again();
    assert_eq!(describe(&broker), expected, "read from the log");
}

#[test]
fn a_replica_is_already_in_the_one_data_directory_and_in_no_other() {
    let broker = Broker::start();
    broker.create_topic("moved", 1);
    let move_to = |path: &str, topic: &str| {
        let body = Fields::default().i32(1).string(path).i32(1).string(topic).i32(1).i32(0);
        let mut answer = broker.client().call(ALTER_REPLICA_LOG_DIRS, 1, body);
        let (_throttle_ms, _topics, _name, _partitions, _index) =
            (answer.i32(), answer.i32(), answer.string(), answer.i32(), answer.i32());
        answer.i16()
    };
    let own = broker.data_dir.to_str().expect("the path is ASCII");
    assert_eq!(move_to(own, "moved"), 0);
    assert_eq!(move_to("/somewhere/else", "moved"), 57, "LOG_DIR_NOT_FOUND");
    assert_eq!(move_to(own, "unknown"), 3, "UNKNOWN_TOPIC_OR_PARTITION");
}

#[test]
fn kafka_cluster_lists_the_broker_and_unregisters_no_running_one() {
    let broker = Broker::start();
    let listed = tool(&broker, "org.apache.kafka.tools.ClusterTool", &["list-endpoints"]);
    assert!(listed.contains(&broker.kafka_port.to_string()), "{listed}");
    for (id, reason) in [("1", "is running"), ("9", "Broker ID 9 is not currently registered")] {
        let arguments = ["unregister", "--bootstrap-server", &broker.kafka(), "--id", id];
        let ended = run_class("org.apache.kafka.tools.ClusterTool", &arguments);
        assert!(ended.output().contains(reason), "{}", ended.output());
    }
    assert_eq!(broker.client().create_topic("still-here", 1, &[]), 0);
}

#[test]
fn kafka_configs_finds_no_users_quotas_or_metrics_subscriptions() {
    let broker = Broker::start();
    for kind in ["users", "clients", "ips", "client-metrics"] {
        let output = tool(&broker, "kafka.admin.ConfigCommand", &["--describe", "--entity-type", kind]);
        assert_eq!(output.trim(), "", "{kind}");
    }
}

/// Tools take SECURITY_DISABLED for "there are no ACLs"; a connection that closes, they take for a broker that is gone.
#[test]
fn acls_and_sasl_are_answered_as_switched_off() {
    const DISABLED: i16 = 54;
    const ILLEGAL_SASL_STATE: i16 = 34;
    let broker = Broker::start();
    let mut client = broker.client();
    let acl = |literal: i8| {
        // A topic `t`, for User:a, from everywhere, may be read.
        Fields::default().i8(2).string("t").i8(literal).string("User:a").string("*").i8(3).i8(3)
    };
    for api in [CREATE_ACLS, DELETE_ACLS] {
        let body = Fields::default().i32(2).raw(&acl(3).0).raw(&acl(4).0);
        let mut answer = client.call(api, 1, body);
        let (_throttle_ms, results) = (answer.i32(), answer.i32());
        assert_eq!(results, 2, "{api}");
        for _ in 0..results {
            assert_eq!((answer.i16(), answer.string()), (DISABLED, "No Authorizer is configured.".to_owned()), "{api}");
            if api == DELETE_ACLS {
                assert_eq!(answer.i32(), 0, "no ACL was deleted");
            }
        }
        let mut unknown = broker.client();
        unknown.send(api, 1, Fields::default().i32(1).raw(&acl(0).0));
        assert!(unknown.is_closed_within(WITHIN), "{api}: an unknown type of pattern is no request");
    }
    for version in [0, 1] {
        let mut answer = client.call(SASL_HANDSHAKE, version, Fields::default().string("PLAIN"));
        assert_eq!((answer.i16(), answer.i32()), (ILLEGAL_SASL_STATE, 0));
    }
    client.try_api_versions().expect("the connection goes on");
}

#[test]
fn kafka_acls_says_that_there_is_no_authorizer() {
    let broker = Broker::start();
    let kafka = broker.kafka();
    for (action, message) in [
        (&["--list"][..], "SecurityDisabledException: No Authorizer is configured on the broker"),
        (&["--remove", "--topic", "t", "--force"], "SecurityDisabledException: No Authorizer is configured."),
    ] {
        let arguments = [&["--bootstrap-server", kafka.as_str()][..], action].concat();
        let ended = run_class("org.apache.kafka.tools.AclCommand", &arguments);
        assert!(ended.stdout.contains(message), "{}", ended.output());
    }
}

/// The tool's first argument may have to be a verb.
fn tool(broker: &Broker, class: &str, arguments: &[&str]) -> String {
    let server = ["--bootstrap-server", &broker.kafka()];
    let is_verb_first = class.ends_with("ClusterTool");
    let arguments = if is_verb_first { [arguments, &server[..]].concat() } else { [&server[..], arguments].concat() };
    output_of_class(class, &arguments)
}
