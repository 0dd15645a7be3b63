//! kill -9 under load: of a leader, of the controller, of all.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::cluster::{Cluster, PartitionView, try_create_topic};
use crate::load::{Load, PARTITIONS, rounds};
use crate::support::wait_for;

const TOPIC_ALREADY_EXISTS: i16 = 36;

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
