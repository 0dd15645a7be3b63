//! Groups as other people's clients make them: members join and leave, commit, live through a `kill -9` of the broker and resume.

use std::process::Command;

use crate::support::broker::Broker;
use crate::support::group::{GroupClient, PARTITIONS};
use crate::support::programs::{franz, go, java, java_3_9, node, python};
use crate::support::tools::{Tools, rows};

const TOPIC: &str = "scenario";
const GROUP: &str = "readers";
const SETTINGS: [&str; 2] = ["group.initial.rebalance.delay.ms=0", "num.partitions=3"];
const CONSUMER_PROTOCOL: [&str; 3] =
    ["num.partitions=3", "group.consumer.min.heartbeat.interval.ms=300", "group.consumer.heartbeat.interval.ms=300"];

#[test]
fn librdkafka_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| python("confluent_group.py", &[&broker.kafka()]));
}

/// Debian's librdkafka 2.0.2; kcat commits by itself, and each member is a process.
#[test]
fn kcat_resumes_after_joins_leaves_and_a_kill() {
    let mut broker = Broker::start_with(&SETTINGS);
    let client = GroupClient::start(python("kcat_group.py", &[&broker.kafka()]), TOPIC, GROUP).unordered();
    run_scenario(&mut broker, client);
}

#[test]
fn kafka_python_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| python("kafka_python_group.py", &[&broker.kafka()]));
}

#[test]
fn aiokafka_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| python("aiokafka_group.py", &[&broker.kafka()]));
}

/// Cooperative rebalances: members keep what stays theirs.
#[test]
fn franz_go_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| franz(&["group", &broker.kafka()]));
}

#[test]
fn sarama_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| go("sarama", &[&broker.kafka()]));
}

#[test]
fn kafka_go_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| go("kafkago", &[&broker.kafka()]));
}

#[test]
fn kafkajs_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| node("group.js", &[&broker.kafka()]));
}

#[test]
fn java_4_3_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| java("GroupClient", &[&broker.kafka()]));
}

#[test]
fn java_3_9_resumes_after_joins_leaves_and_a_kill() {
    check_scenario(|broker| java_3_9("GroupClient", &[&broker.kafka()]));
}

/// The protocol of KIP-848: the broker assigns, and says how often it wants to hear of a member.
#[test]
fn librdkafka_of_the_consumer_protocol_resumes_after_joins_leaves_and_a_kill() {
    check_scenario_with(&CONSUMER_PROTOCOL, |broker| {
        python("confluent_group.py", &[&broker.kafka(), "group.protocol=consumer"])
    });
}

#[test]
fn java_4_3_of_the_consumer_protocol_resumes_after_joins_leaves_and_a_kill() {
    check_scenario_with(&CONSUMER_PROTOCOL, |broker| {
        java("GroupClient", &[&broker.kafka(), "group.protocol=consumer"])
    });
}

fn check_scenario(command: impl FnOnce(&Broker) -> Command) {
    check_scenario_with(&SETTINGS, command);
}

fn check_scenario_with(settings: &[&str], command: impl FnOnce(&Broker) -> Command) {
    let mut broker = Broker::start_with(settings);
    let client = GroupClient::start(command(&broker), TOPIC, GROUP);
    run_scenario(&mut broker, client);
}

fn run_scenario(broker: &mut Broker, mut client: GroupClient) {
    client.create_topic();
    client.produce(0..60);
    client.join("a");
    client.wait_for_holders(&["a"]);
    client.wait_for_all_seen();

    client.join("b");
    client.wait_for_holders(&["a", "b"]);
    client.join("c");
    client.wait_for_holders(&["a", "b", "c"]);
    client.produce(60..120);
    client.wait_for_all_seen();
    client.leave("a");
    client.wait_for_holders(&["b", "c"]);

    client.start_producing(120..180);
    client.wait_for_confirmed(130);
    broker.kill();
    broker.start_again();
    client.wait_for_confirmed(180);
    client.wait_for_all_seen();
    client.wait_for_holders(&["b", "c"]);
    client.wait_for_all_committed(broker);
    client.leave("b");
    client.leave("c");

    assert_eq!(client.committed(), client.end_offsets(broker), "all was read and committed");
    let reads = client.reads;
    client.produce(180..190);
    client.join("d");
    client.wait_for_all_seen();
    assert_eq!(client.reads, reads + 10, "a member that comes later reads only what is new");
    client.finish();
}

/// Three partitions and one, two, three and four members; a second group does not disturb the first.
#[test]
fn partitions_are_shared_among_members_and_groups_stand_apart() {
    let broker = Broker::start_with(&SETTINGS);
    let mut first = GroupClient::start(java("GroupClient", &[&broker.kafka()]), TOPIC, GROUP);
    first.create_topic();
    // Kafka's range assignor deals in the order of the members' names.
    let table: [&[(&str, &[i32])]; 4] = [
        &[("a", &[0, 1, 2])],
        &[("a", &[0, 1]), ("b", &[2])],
        &[("a", &[0]), ("b", &[1]), ("c", &[2])],
        &[("a", &[0]), ("b", &[1]), ("c", &[2]), ("d", &[])],
    ];
    for row in table {
        let (newest, _) = row.last().expect("each row has a member");
        first.join(newest);
        for (member, partitions) in row {
            first.wait_until_held(member, partitions);
        }
    }
    first.produce(0..30);
    first.wait_for_all_seen();
    let assignments = ["a", "b", "c", "d"].map(|member| first.assignments_of(member));

    let mut second = GroupClient::start(python("confluent_group.py", &[&broker.kafka()]), TOPIC, "others");
    second.join("a");
    second.wait_for_holders(&["a"]);
    first.produce(30..60);
    first.wait_for_all_seen();
    second.expect_records_of(&first);
    second.wait_for_all_seen();
    assert_eq!((first.reads, second.reads), (60, 60), "each group reads each record once");

    let mut tools = Tools::start(&broker);
    let mut members = |group: &str| {
        let described = tools.ok("kafka-consumer-groups", &["--describe", "--members", "--group", group]);
        let mut held: Vec<_> =
            rows(&described, &[group]).into_iter().map(|row| (row[3].clone(), row[4].clone())).collect();
        held.sort();
        held
    };
    let held = |held: &[(&str, &str)]| {
        held.iter().map(|(name, count)| (name.to_string(), count.to_string())).collect::<Vec<_>>()
    };
    assert_eq!(members(GROUP), held(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "0")]));
    assert_eq!(members("others"), held(&[("rdkafka", "3")]));
    assert_eq!(assignments, ["a", "b", "c", "d"].map(|member| first.assignments_of(member)), "nothing moved");
    first.finish();
    second.finish();
}

#[test]
fn partitions_of_a_member_that_dies_go_to_the_others_after_its_session() {
    let broker = Broker::start_with(&SETTINGS);
    let arguments = [&broker.kafka(), "session.timeout.ms=6000"];
    let mut staying = GroupClient::start(python("confluent_group.py", &arguments), TOPIC, GROUP);
    staying.create_topic();
    staying.join("a");
    staying.wait_for_holders(&["a"]);
    let mut dying = GroupClient::start(python("confluent_group.py", &arguments), TOPIC, GROUP);
    dying.join("b");
    dying.wait_until(|client| !client.held_by("b").is_empty());
    drop(dying); // SIGKILL: it says nothing to the broker
    staying.wait_for_holders(&["a"]);
    staying.produce(0..30);
    staying.wait_for_all_seen();
    staying.finish();
}

/// A static member's place waits for it: the others notice nothing.
#[test]
fn a_static_member_that_restarts_within_its_session_gets_its_partitions_back() {
    let broker = Broker::start_with(&SETTINGS);
    let start = |instance: &str| {
        let instance = format!("group.instance.id={instance}");
        GroupClient::start(python("confluent_group.py", &[&broker.kafka(), &instance]), TOPIC, GROUP)
    };
    let mut staying = start("one");
    staying.create_topic();
    staying.join("a");
    staying.wait_for_holders(&["a"]);
    let mut restarting = start("two");
    restarting.join("b");
    restarting.wait_until(|client| !client.held_by("b").is_empty());
    let held = restarting.held_by("b");
    staying.wait_until(|client| client.held_by("a").len() + held.len() == PARTITIONS as usize);
    let assignments = staying.assignments_of("a");
    drop(restarting);

    let mut restarted = start("two");
    restarted.join("b");
    restarted.wait_until(|client| client.held_by("b") == held);
    staying.produce(0..30);
    restarted.wait_until(|client| !client.seen.is_empty());
    staying.wait_until(|client| !client.seen.is_empty());
    assert_eq!(staying.assignments_of("a"), assignments, "no rebalance reached the other member");
}
