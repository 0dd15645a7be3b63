//! Partitions move to other brokers and leaders go back to where they were placed, while producers go on.

use std::time::Duration;

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::support::frames::{Fields, NO_SEQUENCE, RawClient, batch, count_records};
use crate::support::wait_for;

const ALTER_PARTITION_REASSIGNMENTS: i16 = 45;
const LIST_PARTITION_REASSIGNMENTS: i16 = 46;
const RECORDS: i64 = 50;

#[test]
fn leaders_go_back_to_where_they_were_placed() {
    let mut cluster = Cluster::start_with(3, &["leader.imbalance.check.interval.seconds=1"]);
    cluster.create_topic("back", 3);
    let leader = cluster.leader("back", 0);
    cluster.kill(leader);
    cluster.leader_but("back", 0, &[leader]);
    cluster.start_again(leader);
    wait_for("every partition is led by its first replica", HEALED_WITHIN, || {
        let view = cluster.view("back")?;
        let is_back = view.partitions.values().all(|partition| partition.leader == partition.replicas[0]);
        (is_back && view.partitions.len() == 3).then_some(())
    });
}

/// Moves partition 0 to these brokers; the error code of the request or else of the partition. Lengths of compact arrays and
/// strings are one more than they say; behind each structure comes the number of its tagged fields, here none.
fn reassign(client: &mut RawClient, topic: &str, brokers: &[i32]) -> i16 {
    let name = Fields::default().i8(topic.len() as i8 + 1).raw(topic.as_bytes());
    let body = Fields::default().i8(0).i32(30_000).i8(2).raw(&name.0).i8(2).i32(0).i8(brokers.len() as i8 + 1);
    let body = brokers.iter().fold(body, |body, broker| body.i32(*broker));
    let mut answer = client.call(ALTER_PARTITION_REASSIGNMENTS, 0, body.i8(0).i8(0).i8(0));
    let (_tags, _throttle_ms, error, _message, _topics) =
        (answer.i8(), answer.i32(), answer.i16(), answer.i8(), answer.i8());
    if error != 0 {
        return error;
    }
    for _ in 1..answer.i8() {
        answer.i8();
    }
    let (_partitions, _index) = (answer.i8(), answer.i32());
    answer.i16()
}

/// How many topics have partitions on their way.
fn moving(client: &mut RawClient) -> i8 {
    let body = Fields::default().i8(0).i32(5_000).i8(0).i8(0);
    let mut answer = client.call(LIST_PARTITION_REASSIGNMENTS, 0, body);
    let (_tags, _throttle_ms, _error, _message) = (answer.i8(), answer.i32(), answer.i16(), answer.i8());
    answer.i8() - 1
}

#[test]
fn a_partition_moves_with_all_its_records() {
    let cluster = Cluster::start();
    let mut client = cluster.client(1);
    cluster.create_topic_at(1, "moves", (1, 1), &[]);
    let from = cluster.leader("moves", 0);
    let to = cluster.others(&[from]);
    let mut leader = cluster.client(from);
    for value in 0..RECORDS {
        let batch = batch(&[value.to_string().as_bytes()], NO_SEQUENCE);
        // It may not know yet that it leads.
        wait_for("a record is taken", HEALED_WITHIN, || (leader.produce("moves", 0, &batch).error == 0).then_some(()));
    }
    assert_eq!(reassign(&mut client, "moves", &to), 0);
    wait_for("the partition is where it shall be", HEALED_WITHIN, || {
        let view = cluster.view("moves")?;
        let partition = view.partitions.get(&0)?;
        (partition.replicas == to && partition.in_sync == to && to.contains(&partition.leader)).then_some(())
    });
    wait_for("nothing is said to be on its way", Duration::from_secs(5), || (moving(&mut client) == 0).then_some(()));
    let (high_watermark, batches) = wait_for("the new leader knows that it leads", HEALED_WITHIN, || {
        let (error, high_watermark, batches) = cluster.client(cluster.leader("moves", 0)).fetch("moves", 0, 0);
        (error == 0).then_some((high_watermark, batches))
    });
    assert_eq!(high_watermark, RECORDS);
    assert_eq!(count_records(&batches).0, RECORDS);
    let old = cluster.broker(from).data_dir.join("moves-0");
    wait_for("the old replica is deleted", HEALED_WITHIN, || (!old.exists()).then_some(()));
}
