//! A replica that panics comes back from its disk, whoever it was.

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::load::{Load, PARTITIONS, rounds};
use crate::support::chaos::{CHAOS, panic_path, restarts};
use crate::support::wait_for;

#[test]
fn acked_records_survive_panics_of_leaders_and_followers() {
    let mut cluster = Cluster::start_with(3, &CHAOS);
    let load = Load::start(&cluster, "panics");
    for round in 0..rounds(6) {
        let partition = round as i32 % PARTITIONS;
        let leader = cluster.leader("panics", partition);
        let follower = cluster.others(&[leader])[round / 2 % 2];
        let victim = cluster.broker(if round % 2 == 0 { leader } else { follower });
        let path = format!("broker/replica-manager/partition:panics-{partition}");
        let before = restarts(victim, &path);
        panic_path(victim, &path);
        wait_for("the replica is started again", HEALED_WITHIN, || (restarts(victim, &path) > before).then_some(()));
        load.wait_for_progress();
    }
    cluster.wait_until_in_sync("panics", PARTITIONS);
    load.stop_and_check(&cluster, "panic of a replica");
    assert!(cluster.ids().into_iter().all(|id| cluster.broker_mut(id).is_running()), "no broker ended of it");
    cluster.stop_and_compare_replicas("panics", PARTITIONS);
}

const DECIDERS: [&str; 5] = [
    "broker/controller",
    "broker/heartbeat",
    "broker/in-sync-proposer",
    "broker/metadata-publisher",
    "broker/peer-listener",
];

/// What decides goes on deciding.
#[test]
fn topics_are_made_after_panics_of_all_that_decides() {
    let mut cluster = Cluster::start_with(3, &CHAOS);
    cluster.create_topic("before", 1);
    for round in 0..rounds(3) {
        for id in cluster.ids() {
            for path in DECIDERS {
                let broker = cluster.broker(id);
                let before = restarts(broker, path);
                panic_path(broker, path);
                wait_for(path, HEALED_WITHIN, || (restarts(broker, path) > before).then_some(()));
            }
            cluster.create_topic(&format!("after-{round}-{id}"), 1);
        }
    }
    assert!(cluster.ids().into_iter().all(|id| cluster.broker_mut(id).is_running()), "no broker ended of it");
}
