//! kill -9 under load: of a leader, of the controller, of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, HEALED_WITHIN, PartitionView, TOPIC_ALREADY_EXISTS, try_create_topic};
use crate::load::{Load, PARTITIONS, rounds};
use crate::support::frames::{Fields, OFFSET_FOR_LEADER_EPOCH, RawClient};
use crate::support::wait_for;

const NOT_LEADER_OR_FOLLOWER: i16 = 6;

#[test]
fn acked_records_survive_leader_kills() {
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "leaders");
    for round in 0..rounds(3) {
        let leader = cluster.leader("leaders", round as i32 % PARTITIONS);
        cluster.kill(leader);
        load.wait_for_progress();
        cluster.start_again(leader);
        cluster.wait_until_in_sync("leaders", PARTITIONS);
    }
    load.stop_and_check(&cluster, "kill -9 of a leader");
    cluster.stop_and_compare_replicas("leaders", PARTITIONS);
}

#[test]
fn acked_records_survive_a_kill_of_all_at_once() {
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "all");
    for round in 0..rounds(3) {
        load.wait_for_progress();
        let mut order = cluster.ids();
        order.iter().for_each(|id| cluster.kill(*id));
        order.rotate_left(round % 3 + 1);
        for id in order {
            cluster.broker_mut(id).spawn();
            std::thread::sleep(Duration::from_millis(150));
        }
        cluster.wait_until_whole();
        load.wait_for_progress();
    }
    load.stop_and_check(&cluster, "kill -9 of all");
    cluster.stop_and_compare_replicas("all", PARTITIONS);
}

#[test]
fn acked_records_survive_a_controller_kill_and_topics_can_be_made_again_soon() {
    const SOON: Duration = Duration::from_secs(10);
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "controllers");
    for round in 0..rounds(2) {
        let controller = cluster.controller_but(&[]);
        let asked = cluster.others(&[controller])[round % 2];
        let mut client = cluster.client(asked);
        cluster.kill(controller);
        let killed = Instant::now();
        let topic = format!("after-{round}");
        wait_for("a topic can be made", SOON, || {
            // Made, or made by an earlier try whose answer was late.
            let error = try_create_topic(&mut client, &topic, 1, 1, &[])?;
            [0, TOPIC_ALREADY_EXISTS].contains(&error).then_some(())
        });
        println!("metadata writes went on {} ms after the controller's death", killed.elapsed().as_millis());
        load.wait_for_progress();
        cluster.start_again(controller);
        cluster.wait_until_in_sync("controllers", PARTITIONS);
    }
    load.stop_and_check(&cluster, "kill -9 of the controller");
}

/// Where the others find that nobody listens in its place, nobody waits for its lease to end. A machine that is too busy for that may
/// wait after all, but not each time.
#[test]
fn a_controller_whose_death_a_majority_has_found_is_followed_at_once() {
    let mut cluster = Cluster::start();
    let is_followed_at_once = |cluster: &mut Cluster| {
        let controller = cluster.controller();
        cluster.kill(controller);
        let next = cluster.controller_but(&[controller]);
        let found = cluster.broker(next).output().contains("is dead, as a majority has found");
        cluster.start_again(controller);
        cluster.wait_until_settled();
        found
    };
    assert!((0..5).any(|_| is_followed_at_once(&mut cluster)));
}

/// -1 would tell a client that what it is about to read was cut off (KIP-320).
#[test]
fn a_partition_that_never_had_a_record_has_lost_none_to_a_new_leader() {
    let mut cluster = Cluster::start();
    cluster.create_topic("empty", 1);
    let leader = cluster.leader("empty", 0);
    cluster.kill(leader);
    let next = cluster.leader_but("empty", 0, &[leader]);
    let mut client = cluster.client(next);
    // Another broker may have known it first.
    let earlier = wait_for("it knows that it leads", HEALED_WITHIN, || {
        let answer = epoch_end(&mut client, "empty", 0);
        (answer.0 != NOT_LEADER_OR_FOLLOWER).then_some(answer)
    });
    let current = epoch_end(&mut client, "empty", 1);
    assert_eq!((earlier, current), ((0, 0, 0), (0, 1, 0)));
    let (error, epoch, end) = epoch_end(&mut client, "empty", 2);
    assert_eq!((error, epoch, end), (0, -1, -1), "that is yet to come");
}

/// Of partition 0, as its leader says: error, epoch, end offset.
fn epoch_end(client: &mut RawClient, topic: &str, epoch: i32) -> (i16, i32, i64) {
    let body = Fields::default().i32(1).string(topic).i32(1).i32(0).i32(-1).i32(epoch);
    let mut answer = client.call(OFFSET_FOR_LEADER_EPOCH, 2, body);
    let (_throttle_ms, _topics, _name, _partitions) = (answer.i32(), answer.i32(), answer.string(), answer.i32());
    let (error, _partition) = (answer.i16(), answer.i32());
    (error, answer.i32(), answer.i64())
}

/// Clients ask another broker at once, and believe it for as long as their own timers run. On a machine that is too busy for an
/// election within a second an answer may be the old one, but not each time.
#[test]
fn who_asks_right_after_a_controllers_death_is_told_who_leads_next() {
    const LED: i32 = 9;
    let mut cluster = Cluster::start();
    cluster.create_topic("asked", LED);
    let mut answers = Vec::new();
    for _ in 0..rounds(3) {
        let controller = cluster.controller_but(&[]);
        let other = cluster.others(&[controller])[0];
        let before = cluster.view_of(other, "asked").expect("it runs");
        assert!(before.partitions.values().any(|partition| partition.leader == controller), "{before:?}");
        cluster.kill(controller);
        answers.push((controller, cluster.view_of(other, "asked").expect("it runs").partitions));
        cluster.start_again(controller);
        cluster.wait_until_in_sync("asked", LED);
    }
    let is_right = |(dead, partitions): &(i32, BTreeMap<i32, PartitionView>)| {
        partitions.values().all(|partition| partition.leader >= 0 && partition.leader != *dead)
    };
    assert!(answers.iter().any(is_right), "{answers:?}");
}
