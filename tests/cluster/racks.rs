//! Consumers that know their rack read from a replica in it (KIP-392).

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::support::broker::free_port;
use crate::support::frames::{FETCH, Fields, NO_SEQUENCE, RawClient, batch, count_records};
use crate::support::programs::{kcat, run};
use crate::support::tools::Tools;
use crate::support::wait_for;

const RECORDS: i64 = 30;
const OFFSET_NOT_AVAILABLE: i16 = 78;
const SELECTOR: &str = "replica.selector.class=org.apache.kafka.common.replica.RackAwareReplicaSelector";

/// Broker 3 is in the south, the others are in the north.
fn start(settings: &[&str]) -> Cluster {
    let peers = (1..=3).map(|id| (id, format!("127.0.0.1:{}", free_port()))).collect();
    let rack = |id: i32| vec![format!("broker.rack={}", if id == 3 { "south" } else { "north" })];
    let mut cluster = Cluster::prepare_at(peers, rack, settings);
    cluster.start_all();
    cluster
}

/// Led by broker 1, followed by 3.
fn fill(cluster: &Cluster, tools: &mut Tools) {
    tools.ok("kafka-topics", &["--create", "--topic", "near", "--replica-assignment", "1:3"]);
    cluster.wait_until_in_sync("near", 1);
    let mut leader = cluster.client(1);
    for value in 0..RECORDS {
        let batch = batch(&[format!("value-{value}").as_bytes()], NO_SEQUENCE);
        wait_for("a record is taken", HEALED_WITHIN, || (leader.produce("near", 0, &batch).error == 0).then_some(()));
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Fetched {
    error: i16,
    preferred: i32,
    records: i64,
}

/// Version 11 has the rack.
fn fetch(client: &mut RawClient, rack: &str, offset: i64) -> Fetched {
    let body = Fields::default().i32(-1).i32(0).i32(1).i32(8 << 20).i8(0).i32(0).i32(-1);
    let body = body.i32(1).string("near").i32(1).i32(0).i32(-1).i64(offset).i64(-1).i32(8 << 20);
    let mut answer = client.call(FETCH, 11, body.i32(0).string(rack));
    let (_throttle_ms, error, _session) = (answer.i32(), answer.i16(), answer.i32());
    assert_eq!(error, 0);
    let (_topics, _name, _partitions, _index) = (answer.i32(), answer.string(), answer.i32(), answer.i32());
    let error = answer.i16();
    let (_high_watermark, _last_stable, _log_start, _aborted) =
        (answer.i64(), answer.i64(), answer.i64(), answer.i32());
    let preferred = answer.i32();
    Fetched { error, preferred, records: count_records(&answer.bytes()).0 }
}

#[test]
fn a_leader_sends_consumers_to_their_rack_and_the_follower_there_serves_what_is_committed() {
    let cluster = start(&[SELECTOR]);
    let mut tools = Tools::start_at(cluster.bootstrap());
    fill(&cluster, &mut tools);
    let (mut leader, mut follower) = (cluster.client(1), cluster.client(3));
    let all = Fetched { error: 0, preferred: -1, records: RECORDS };
    let elsewhere = Fetched { error: 0, preferred: 3, records: 0 };
    wait_for("the follower has everything", HEALED_WITHIN, || (fetch(&mut follower, "south", 0) == all).then_some(()));
    assert_eq!(fetch(&mut leader, "south", 0), elsewhere);
    assert_eq!(fetch(&mut leader, "south", RECORDS), elsewhere);
    assert_eq!(fetch(&mut leader, "north", 0), all, "the leader is in that rack");
    assert_eq!(fetch(&mut leader, "", 0), all, "it has no rack");
    assert_eq!(fetch(&mut follower, "south", RECORDS), Fetched { records: 0, ..all }, "nothing yet");
    let beyond = fetch(&mut follower, "south", RECORDS + 1);
    assert_eq!(beyond, Fetched { error: OFFSET_NOT_AVAILABLE, preferred: -1, records: 0 }, "the leader may have it");
    assert_eq!(follower.fetch("near", 0, 0).0, 6, "who knows of no racks reads from the leader");

    // The leader has nothing for them: what they read they have from the follower.
    let common = ["-C", "-e", "-b", &cluster.bootstrap(), "-t", "near", "-o", "beginning", "-X", "debug=fetch,msg"];
    let (status, values, log) = run(kcat(&[&common[..], &["-X", "client.rack=south"]].concat()), "");
    assert!(status.success(), "{log}");
    assert_eq!(values.lines().count() as i64, RECORDS, "{log}");
    let taken = |node: i32| log.lines().filter(|line| line.contains(&format!("/{node}: Enqueue"))).count();
    assert!(taken(3) > 0, "from the follower: {log}");
    assert_eq!(taken(1), 0, "from the leader: {log}");
    let records = RECORDS.to_string();
    let read = ["--topic", "near", "--partition", "0", "--offset", "earliest", "--max-messages", &records];
    let near = ["--timeout-ms", "30000", "--command-property", "client.rack=south"];
    let values = tools.ok("kafka-console-consumer", &[&read[..], &near].concat());
    assert_eq!(values.lines().filter(|line| line.starts_with("value-")).count() as i64, RECORDS, "{values}");
    assert_eq!(fetch(&mut leader, "south", 0), elsewhere, "and it still has nothing for them");
}

#[test]
fn without_a_selector_consumers_of_all_racks_read_from_the_leader() {
    let cluster = start(&[]);
    let mut tools = Tools::start_at(cluster.bootstrap());
    fill(&cluster, &mut tools);
    assert_eq!(fetch(&mut cluster.client(1), "south", 0), Fetched { error: 0, preferred: -1, records: RECORDS });
}
