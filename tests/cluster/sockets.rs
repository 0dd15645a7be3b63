//! WebSocket members of groups, on a broker that neither coordinates the group nor leads all that it reads.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::doors::{LEADER_GONE_FOR_MAX, coordinated_elsewhere};
use crate::support::programs::{Background, curl};
use crate::support::rest::{JSON, call};
use crate::support::socket::Socket;
use crate::support::wait_for;

const TOPIC: &str = "shared";
const PARTITIONS: i64 = 3;
/// What may come before that which is waited for, while brokers die.
const PASSES: [&str; 6] = ["subscribed", "assigned", "revoked", "caught_up", "acked", "error"];

#[test]
fn a_member_outlives_the_coordinator_of_its_group() {
    let mut cluster = Cluster::start();
    cluster.create_topic(TOPIC, PARTITIONS as i32);
    let door = 1;
    put_one_in_each(&cluster, door, "first");
    let (group, coordinator) = coordinated_elsewhere(&cluster, door);
    let path = format!("/v1/groups/{group}/ws?topics={TOPIC}");
    let mut socket = Socket::open(cluster.broker(door), &path);
    assert_eq!(read_and_acknowledge(&mut socket, 1), all_at(0));
    wait_until_committed(&cluster, door, &group, 1);
    cluster.kill(coordinator);
    put_one_in_each(&cluster, door, "second");
    assert_eq!(read_and_acknowledge(&mut socket, 2), all_at(1), "it goes on where it was");
    wait_until_committed(&cluster, door, &group, 2);
    socket.line("@close");
    put_one_in_each(&cluster, door, "third");
    let other = cluster.others(&[door, coordinator])[0];
    let mut next = Socket::open(cluster.broker(other), &path);
    assert_eq!(read_and_acknowledge(&mut next, 3), all_at(2), "through another door");
}

/// Whoever reads through a broker that stops is sent to the others, which serve the same.
#[test]
fn a_broker_that_stops_sends_its_readers_to_the_others() {
    let mut cluster = Cluster::start();
    cluster.create_topic(TOPIC, PARTITIONS as i32);
    let (door, other) = (1, 2);
    put_one_in_each(&cluster, door, "first");
    let path = format!("/v1/topics/{TOPIC}/ws?from=earliest");
    let mut socket = Socket::open(cluster.broker(door), &path);
    assert_eq!(socket.records(PARTITIONS as usize, &PASSES).len(), PARTITIONS as usize);
    assert!(cluster.broker_mut(door).terminate().success());
    let goodbye = socket.until("goodbye", &PASSES);
    assert_eq!(goodbye["code"], json!(4001), "{goodbye}");
    assert!(goodbye["reconnect_after_ms"].as_i64().is_some_and(|after_ms| (0..2000).contains(&after_ms)), "{goodbye}");
    assert_eq!(socket.closed(), 1012);
    let token = goodbye["resume"]["1"].as_str().expect("a token");
    put_one_in_each(&cluster, other, "second");
    let mut next = Socket::open(cluster.broker(other), &format!("{path}&resume={token}"));
    let read: BTreeSet<_> = next.records(PARTITIONS as usize, &PASSES).into_iter().collect();
    assert_eq!(read, all_at(1), "it goes on there");
}

/// A stream of events has no way back of its own: what it has sent is acknowledged through whichever broker its client comes to.
#[test]
fn what_streams_have_sent_is_acknowledged_through_any_broker() {
    let cluster = Cluster::start();
    cluster.create_topic(TOPIC, PARTITIONS as i32);
    put_one_in_each(&cluster, 1, "first");
    let (group, _) = coordinated_elsewhere(&cluster, 1);
    let members = [1, 2].map(|door| {
        let url = cluster.broker(door).http(&format!("/v1/groups/{group}/sse?topics={TOPIC}"));
        Background::start(curl(&["--no-buffer", "-H", "Accept: application/x-ndjson", &url]))
    });
    let through: Vec<_> =
        (0..PARTITIONS).map(|partition| json!({"topic": TOPIC, "partition": partition, "offset": 0})).collect();
    let ack = |body: Value| {
        let url = cluster.broker(3).http(&format!("/v1/groups/{group}/ack"));
        call("POST", &url, &[JSON], &body.to_string())
    };
    // While they share the partitions, nobody has sent all of them.
    wait_for("all is acknowledged", LEADER_GONE_FOR_MAX, || {
        let answer = ack(json!({ "through": through }));
        assert!([200, 409].contains(&answer.status), "{}", answer.text);
        let committed = answer.body["committed"].as_array()?;
        (committed.len() == PARTITIONS as usize).then_some(())
    });
    wait_until_committed(&cluster, 2, &group, 1);
    let nowhere = ack(json!({ "through": [{"topic": "other", "partition": 0, "offset": 0}] }));
    assert_eq!(nowhere.status, 409, "{}", nowhere.text);
    let mut socket = Socket::open(cluster.broker(3), "/v1/stream/ws");
    wait_for("all is acknowledged over another socket", LEADER_GONE_FOR_MAX, || {
        socket.send(json!({"type": "ack", "id": 1, "group": group, "through": through}));
        let answer = socket.next();
        assert!(["acked", "error", "heartbeat"].map(|kind| json!(kind)).contains(&answer["type"]), "{answer}");
        let committed = answer["committed"].as_array()?;
        (committed.len() == PARTITIONS as usize).then_some(())
    });
    drop(members);
}

fn wait_until_committed(cluster: &Cluster, door: i32, group: &str, offset: i64) {
    let url = cluster.broker(door).http(&format!("/v1/groups/{group}/offsets"));
    wait_for("all of it is committed", LEADER_GONE_FOR_MAX, || {
        let answer = call("GET", &url, &[], "");
        let offsets = answer.body["offsets"].as_array()?;
        let are_all = offsets.iter().all(|committed| committed["offset"] == json!(offset));
        (offsets.len() == PARTITIONS as usize && are_all).then_some(())
    });
}

fn all_at(offset: i64) -> BTreeSet<(i64, i64)> {
    (0..PARTITIONS).map(|partition| (partition, offset)).collect()
}

fn read_and_acknowledge(socket: &mut Socket, id: i64) -> BTreeSet<(i64, i64)> {
    let read: BTreeSet<_> = socket.records(PARTITIONS as usize, &PASSES).into_iter().collect();
    let through: Vec<_> = read
        .iter()
        .map(|(partition, offset)| json!({"topic": TOPIC, "partition": partition, "offset": offset}))
        .collect();
    socket.send(json!({"type": "ack", "id": id, "through": through}));
    read
}

/// The key says that what was stored and not answered is stored once.
fn put_one_in_each(cluster: &Cluster, door: i32, name: &str) {
    for partition in 0..PARTITIONS {
        let url = cluster.broker(door).http(&format!("/v1/topics/{TOPIC}?partition={partition}"));
        let key = format!("Idempotency-Key: {name}-{partition}");
        wait_for("the record is taken", LEADER_GONE_FOR_MAX, || {
            (call("POST", &url, &[&key], name).status == 200).then_some(())
        });
    }
}
