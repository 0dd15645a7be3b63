//! Kafka's own tools on a cluster: where replicas are, who leads, who votes, and how all that is changed.

use std::fs;

use crate::cluster::{Cluster, HEALED_WITHIN, PartitionView};
use crate::support::broker::free_port;
use crate::support::frames::{NO_SEQUENCE, batch, count_records};
use crate::support::tools::Tools;
use crate::support::wait_for;

/// A request of a tool, in a file beside the data of the first broker.
fn file(cluster: &Cluster, name: &str, text: &str) -> String {
    let path = cluster.broker(1).data_dir.with_file_name(name);
    fs::write(&path, text).expect("the test's directory is writable");
    path.to_str().expect("the path is ASCII").to_owned()
}

/// Where the replicas of these partitions shall be, as `kafka-reassign-partitions` reads it.
fn plan(topic: &str, replicas: &[&[i32]]) -> String {
    let partitions = replicas
        .iter()
        .enumerate()
        .map(|(index, replicas)| format!(r#"{{"topic":"{topic}","partition":{index},"replicas":{replicas:?}}}"#));
    format!(r#"{{"version":1,"partitions":[{}]}}"#, partitions.collect::<Vec<_>>().join(","))
}

/// Until the tool says that everything is where the plan has it; what it said then.
fn wait_until_completed(tools: &mut Tools, plan: &str) -> String {
    wait_for("the reassignment is completed", HEALED_WITHIN, || {
        let said = tools.ok("kafka-reassign-partitions", &["--verify", "--reassignment-json-file", plan]);
        let is_over = said.contains("is completed") && !said.contains("in progress");
        assert!(!said.contains("There is no active reassignment"), "{said}");
        is_over.then_some(said)
    })
}

fn fill(cluster: &Cluster, topic: &str, batches: usize, value: &[u8]) {
    let mut leader = cluster.client(cluster.leader(topic, 0));
    for _ in 0..batches {
        let batch = batch(&[value], NO_SEQUENCE);
        wait_for("a record is taken", HEALED_WITHIN, || (leader.produce(topic, 0, &batch).error == 0).then_some(()));
    }
}

/// High watermark and records, from a leader that knows that it is one.
fn fetch(cluster: &Cluster, topic: &str) -> (i64, Vec<u8>) {
    wait_for("the leader answers", HEALED_WITHIN, || {
        let (error, high_watermark, records) = cluster.client(cluster.leader(topic, 0)).fetch(topic, 0, 0);
        (error == 0).then_some((high_watermark, records))
    })
}

fn partition(cluster: &Cluster, topic: &str) -> PartitionView {
    wait_for("the topic is described", HEALED_WITHIN, || cluster.view(topic)?.partitions.remove(&0))
}

#[test]
fn kafka_topics_spreads_replicas_over_racks_and_kafka_metadata_quorum_names_the_voters() {
    let peers = (1..=3).map(|id| (id, format!("127.0.0.1:{}", free_port()))).collect();
    let rack = |id: i32| vec![format!("broker.rack={}", if id == 3 { "south" } else { "north" })];
    let mut cluster = Cluster::prepare_at(peers, rack, &[]);
    cluster.start_all();
    let mut tools = Tools::start_at(cluster.bootstrap());
    tools.ok("kafka-topics", &["--create", "--topic", "spread", "--partitions", "8", "--replication-factor", "2"]);
    let view = wait_for("the topic is described", HEALED_WITHIN, || {
        cluster.view("spread").filter(|view| view.partitions.len() == 8)
    });
    for (index, partition) in &view.partitions {
        assert!(partition.replicas.contains(&3), "{index}: {partition:?}: both replicas are in the north");
    }

    // Both speak of one term, unless there was an election in between.
    let (controller, status, replication) =
        wait_for("kafka-metadata-quorum names the controller", HEALED_WITHIN, || {
            let controller = cluster.controller();
            let status = tools.ok("kafka-metadata-quorum", &["describe", "--status"]);
            let replication = tools.ok("kafka-metadata-quorum", &["describe", "--replication"]);
            let named = ["LeaderId:", &controller.to_string()];
            let is_named = status.lines().any(|line| line.split_whitespace().eq(named));
            (is_named && cluster.controller() == controller).then_some((controller, status, replication))
        });
    assert!(status.contains("CurrentVoters:"), "{status}");
    let rows: Vec<Vec<&str>> = replication.lines().map(|line| line.split_whitespace().collect()).collect();
    let role_of = |id: i32| {
        let row = rows.iter().find(|row| row.first() == Some(&&*id.to_string()));
        row.and_then(|row| row.last().copied()).unwrap_or_else(|| panic!("broker {id} in {replication}"))
    };
    for id in cluster.ids() {
        assert_eq!(role_of(id), if id == controller { "Leader" } else { "Follower" }, "{replication}");
    }
}

#[test]
fn kafka_leader_election_elects_preferred_leaders_and_unclean_ones_when_told_to() {
    let settings = ["auto.leader.rebalance.enable=false"];
    let mut cluster = Cluster::start_with(3, &settings);
    let mut tools = Tools::start_at(cluster.bootstrap());
    let create = ["--create", "--topic", "elected", "--replica-assignment", "1:2", "--config", "min.insync.replicas=1"];
    tools.ok("kafka-topics", &create);
    cluster.wait_until_in_sync("elected", 1);
    let of_topic = ["--topic", "elected", "--partition", "0"];

    cluster.kill(1);
    cluster.leader_but("elected", 0, &[1]);
    cluster.start_again(1);
    cluster.wait_until_in_sync("elected", 1);
    assert_eq!(cluster.leader("elected", 0), 2, "leaders do not go back by themselves here");
    let said = tools.ok("kafka-leader-election", &[&["--election-type", "preferred"][..], &of_topic].concat());
    assert!(said.contains("Successfully completed leader election (PREFERRED)"), "{said}");
    let again = tools.ok("kafka-leader-election", &[&["--election-type", "preferred"][..], &of_topic].concat());
    assert!(again.contains("Valid replica already elected"), "{again}");
    wait_for("the first replica leads", HEALED_WITHIN, || (cluster.leader("elected", 0) == 1).then_some(()));

    // Broker 2 misses what broker 1 confirms, and then is all that there is.
    cluster.kill(2);
    wait_for("broker 2 is out of sync", HEALED_WITHIN, || {
        (partition(&cluster, "elected").in_sync == [1]).then_some(())
    });
    fill(&cluster, "elected", 1, b"only broker 1 has it");
    cluster.kill(1);
    cluster.broker_mut(2).spawn();
    wait_for("nobody leads", HEALED_WITHIN, || {
        let view = cluster.view_of(3, "elected")?;
        (view.partitions.get(&0)?.leader == -1 && view.brokers == [2, 3]).then_some(())
    });
    let said = tools.ok("kafka-leader-election", &[&["--election-type", "unclean"][..], &of_topic].concat());
    assert!(said.contains("Successfully completed leader election (UNCLEAN)"), "{said}");
    assert_eq!(cluster.leader_but("elected", 0, &[1]), 2);
}

#[test]
fn kafka_reassign_partitions_generates_executes_verifies_and_cancels() {
    let cluster = Cluster::start();
    let mut tools = Tools::start_at(cluster.bootstrap());
    tools.ok("kafka-topics", &["--create", "--topic", "moved", "--replica-assignment", "1:2,2:1"]);
    cluster.wait_until_in_sync("moved", 2);
    fill(&cluster, "moved", 20, b"taken along");

    let topics = file(&cluster, "topics.json", r#"{"version":1,"topics":[{"topic":"moved"}]}"#);
    let arguments = ["--generate", "--topics-to-move-json-file", &topics, "--broker-list", "2,3"];
    let generated = tools.ok("kafka-reassign-partitions", &arguments);
    let proposed = generated.lines().filter(|line| line.starts_with('{')).nth(1).expect("the proposal is the second");
    let proposed = file(&cluster, "proposed.json", proposed);
    let said = tools.ok("kafka-reassign-partitions", &["--execute", "--reassignment-json-file", &proposed]);
    assert!(said.contains("Successfully started partition reassignments"), "{said}");
    wait_until_completed(&mut tools, &proposed);
    let view = cluster.view("moved").expect("a broker answers");
    assert!(view.partitions.values().all(|partition| !partition.replicas.contains(&1)), "{view:?}");
    cluster.wait_until_in_sync("moved", 2);
    let (_, records) = fetch(&cluster, "moved");
    assert_eq!(count_records(&records).0, 20);

    // Nothing leaves a broker before what takes its place is in sync, and that does not come to be at this rate.
    let before = partition(&cluster, "moved");
    let back = file(&cluster, "back.json", &plan("moved", &[&[1, 2]]));
    let execute = ["--execute", "--reassignment-json-file", &back, "--throttle", "10"];
    tools.ok("kafka-reassign-partitions", &execute);
    let listed = tools.ok("kafka-reassign-partitions", &["--list"]);
    assert!(listed.contains("moved-0: ") && listed.contains("adding: 1. removing: 3."), "{listed}");
    let said = tools.ok("kafka-reassign-partitions", &["--cancel", "--reassignment-json-file", &back]);
    assert!(said.contains("Successfully cancelled partition reassignment for: moved-0"), "{said}");
    let sorted = |mut replicas: Vec<i32>| {
        replicas.sort_unstable();
        replicas
    };
    wait_for("all is as it was", HEALED_WITHIN, || {
        (sorted(partition(&cluster, "moved").replicas) == sorted(before.replicas.clone())).then_some(())
    });
    let described = tools.ok("kafka-configs", &["--entity-type", "brokers", "--entity-name", "1", "--describe"]);
    assert!(!described.contains("throttled.rate"), "{described}");

    let nowhere = file(&cluster, "nowhere.json", &plan("moved", &[&[2, 9], &[2, 3]]));
    let refused = tools.run("kafka-reassign-partitions", &["--execute", "--reassignment-json-file", &nowhere], "");
    assert!(refused.output().contains("Unknown broker id 9"), "{refused:?}");
    let none = tools.ok("kafka-reassign-partitions", &["--list"]);
    assert!(none.contains("No partition reassignments found"), "{none}");
}

/// As long as the rate is low the new replica is not there; what is not throttled does not wait for it.
#[test]
fn a_throttled_reassignment_takes_its_time_and_the_tool_clears_the_throttle() {
    const BATCHES: usize = 8;
    let cluster = Cluster::start();
    let mut tools = Tools::start_at(cluster.bootstrap());
    for topic in ["slow", "free"] {
        tools.ok("kafka-topics", &["--create", "--topic", topic, "--replica-assignment", "1:2"]);
        cluster.wait_until_in_sync(topic, 1);
        fill(&cluster, topic, BATCHES, &[b'x'; 50_000]);
    }
    let slow = file(&cluster, "slow.json", &plan("slow", &[&[2, 3]]));
    let free = file(&cluster, "free.json", &plan("free", &[&[2, 3]]));
    let execute = ["--execute", "--reassignment-json-file", &slow, "--throttle", "1000"];
    tools.ok("kafka-reassign-partitions", &execute);
    tools.ok("kafka-reassign-partitions", &["--execute", "--reassignment-json-file", &free, "--additional"]);
    wait_for("what is not throttled has moved", HEALED_WITHIN, || {
        (partition(&cluster, "free").in_sync == [2, 3]).then_some(())
    });
    assert!(!partition(&cluster, "slow").in_sync.contains(&3), "it was not throttled");
    let configs = ["--entity-type", "brokers", "--entity-name", "3", "--describe"];
    let described = tools.ok("kafka-configs", &configs);
    assert!(described.contains("follower.replication.throttled.rate=1000"), "{described}");

    // Confirmed while it is on its way: whoever is in sync is not slowed.
    fill(&cluster, "slow", 1, b"confirmed");
    let faster = ["--execute", "--reassignment-json-file", &slow, "--throttle", "100000000", "--additional"];
    tools.ok("kafka-reassign-partitions", &faster);
    let said = wait_until_completed(&mut tools, &slow);
    assert!(said.contains("Clearing broker-level throttles"), "{said}");
    let described = tools.ok("kafka-configs", &configs);
    assert!(!described.contains("throttled.rate"), "{described}");
    let of_topic = tools.ok("kafka-topics", &["--describe", "--topic", "slow"]);
    assert!(!of_topic.contains("throttled.replicas"), "{of_topic}");
    assert_eq!(fetch(&cluster, "slow").0, BATCHES as i64 + 1);
}
