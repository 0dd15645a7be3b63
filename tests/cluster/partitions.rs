//! Brokers that do not reach each other, while clients reach all of them.

use std::time::Duration;

use crate::cluster::{Cluster, SESSION};
use crate::load::{Load, PARTITIONS, rounds};
use crate::network::Network;

/// What must be so while they are apart.
#[derive(PartialEq)]
enum Meanwhile {
    AnotherLeads,
    ItGoesOn,
}

/// It goes on believing that it leads, and nothing that it takes may be confirmed.
#[test]
fn acked_records_survive_a_leader_that_reaches_no_other() {
    partitioned("isolated leader", |network, leader, others| {
        others.iter().for_each(|other| network.separate(leader, *other));
        Meanwhile::AnotherLeads
    });
}

#[test]
#[ignore = "long: tests/faults runs it"]
fn acked_records_survive_a_leader_that_nobody_hears() {
    partitioned("one-way: nobody hears the leader", |network, leader, others| {
        others.iter().for_each(|other| network.cut(leader, *other));
        Meanwhile::AnotherLeads
    });
}

#[test]
#[ignore = "long: tests/faults runs it"]
fn acked_records_survive_a_leader_that_hears_nobody() {
    partitioned("one-way: the leader hears nobody", |network, leader, others| {
        others.iter().for_each(|other| network.cut(*other, leader));
        Meanwhile::AnotherLeads
    });
}

/// Two reach the third, and not each other.
#[test]
#[ignore = "long: tests/faults runs it"]
fn acked_records_survive_a_bridge() {
    partitioned("bridge", |network, leader, others| {
        network.separate(leader, others[0]);
        Meanwhile::ItGoesOn
    });
}

fn partitioned(cell: &str, cut: impl Fn(&Network, i32, &[i32]) -> Meanwhile) {
    let network = Network::between(3);
    let mut cluster = Cluster::behind(&network, &[]);
    let load = Load::start(&cluster, "cut");
    for round in 0..rounds(1) {
        let partition = round as i32 % PARTITIONS;
        let leader = cluster.leader("cut", partition);
        let others = cluster.others(&[leader]);
        let meanwhile = cut(&network, leader, &others);
        std::thread::sleep(SESSION + Duration::from_secs(1));
        if meanwhile == Meanwhile::AnotherLeads {
            // Not sooner than after two sessions, if it was the controller too: the next one begins all of them anew.
            cluster.leader_but("cut", partition, &[leader]);
        }
        load.wait_for_progress();
        network.heal();
        load.wait_for_progress();
        cluster.wait_until_in_sync("cut", PARTITIONS);
    }
    load.stop_and_check(&cluster, cell);
    cluster.stop_and_compare_replicas("cut", PARTITIONS);
}
