//! A topic of a cluster gets more partitions between the first try of a request and the next, which comes in elsewhere.

use serde_json::json;

use crate::cluster::Cluster;
use crate::doors::LEADER_GONE_FOR_MAX;
use crate::support::frames::LATEST;
use crate::support::rest::call;
use crate::support::wait_for;

const TOPIC: &str = "grows";
const ORDERS: usize = 30;

/// The leaders are wherever they are: most of the questions go to another broker.
#[test]
fn a_retry_through_another_door_finds_its_record_also_when_its_leader_has_died() {
    let mut cluster = Cluster::start();
    cluster.create_topic(TOPIC, 2);
    let send = |cluster: &Cluster, door: i32, order: usize| {
        let url = cluster.broker(door).http(&format!("/v1/topics/{TOPIC}"));
        let key = format!("Idempotency-Key: order-{order}");
        wait_for("the record is taken", LEADER_GONE_FOR_MAX, || {
            let answer = call("POST", &url, &[&key], &format!("order {order}"));
            (answer.status == 200).then(|| json!([answer.body["partition"], answer.body["offset"]]))
        })
    };
    let door = |order: usize| 1 + order as i32 % 3;
    let first: Vec<_> = (0..ORDERS).map(|order| send(&cluster, door(order), order)).collect();
    // No door waits until it has heard of the new partitions: the brokers hear of them at different times.
    cluster.broker(1).grow_topic(TOPIC, 7);
    let again: Vec<_> = (0..ORDERS).map(|order| send(&cluster, door(order + 1), order)).collect();
    assert_eq!(again, first);
    cluster.wait_until_in_sync(TOPIC, 7);
    let leader = cluster.leader(TOPIC, 0);
    cluster.kill(leader);
    let doors = cluster.others(&[leader]);
    let again: Vec<_> = (0..ORDERS).map(|order| send(&cluster, doors[order % 2], order)).collect();
    assert_eq!(again, first);
    let new: Vec<_> = (ORDERS..2 * ORDERS).map(|order| send(&cluster, doors[order % 2], order)).collect();
    assert!(new.iter().any(|place| place[0].as_i64() > Some(1)), "{new:?}");
    let end = |partition| cluster.client(cluster.leader(TOPIC, partition)).list_offset(TOPIC, partition, LATEST).1;
    assert_eq!((0..7).map(end).sum::<i64>(), 2 * ORDERS as i64);
}
