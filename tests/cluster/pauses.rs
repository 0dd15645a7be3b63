//! Brokers that stop for a while and do not know it, and brokers that stop in peace.

use std::time::Duration;

use crate::cluster::{Cluster, SESSION};
use crate::load::{Load, PARTITIONS, rounds};

/// Another leads meanwhile; when it wakes up it still believes that it does, and clients are connected to it.
#[test]
fn acked_records_survive_a_leader_that_was_paused_beyond_its_session() {
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "zombies");
    for round in 0..rounds(2) {
        let partition = round as i32 % PARTITIONS;
        let leader = cluster.leader("zombies", partition);
        cluster.broker(leader).signal("STOP");
        std::thread::sleep(SESSION + Duration::from_millis(500));
        let next = cluster.leader_but("zombies", partition, &[leader]);
        assert_ne!(next, leader);
        load.wait_for_progress();
        cluster.broker(leader).signal("CONT");
        load.wait_for_progress();
        cluster.wait_until_in_sync("zombies", PARTITIONS);
    }
    load.stop_and_check(&cluster, "SIGSTOP of a leader");
    cluster.stop_and_compare_replicas("zombies", PARTITIONS);
}

/// Whoever stops in peace hands over first.
#[test]
fn a_rolling_restart_is_seen_by_no_client() {
    // Far above what bench/cluster measures, and below what would make an application give up.
    const HARDLY_NOTICED_MS: u64 = 15_000;
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster, "rolling");
    for _ in 0..rounds(1) {
        for id in cluster.ids() {
            assert!(cluster.broker_mut(id).terminate().success());
            load.wait_for_progress();
            cluster.start_again(id);
            cluster.wait_until_in_sync("rolling", PARTITIONS);
        }
    }
    let verdict = load.stop_and_check(&cluster, "rolling restart");
    assert!(verdict.longest_silence_ms < HARDLY_NOTICED_MS, "silent for {} ms", verdict.longest_silence_ms);
    cluster.stop_and_compare_replicas("rolling", PARTITIONS);
}
