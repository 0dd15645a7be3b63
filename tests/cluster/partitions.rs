//! Brokers that do not reach each other, while clients reach all of them.

use std::time::Duration;

use crate::cluster::{Cluster, HEALED_WITHIN, SESSION};
use crate::load::{Load, PARTITIONS, rounds};
use crate::minority::NOT_ENOUGH_REPLICAS;
use crate::network::Network;
use crate::support::frames::{LATEST, PRODUCE, Sequence, batch, produce_body};
use crate::support::wait_for;

const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const OUT_OF_ORDER_SEQUENCE_NUMBER: i16 = 45;

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

/// A producer's first batch waits at a leader that is cut off, and its second one reaches the next leader: which may not take it, for
/// the client would take the first for stored, as it does when an answer is lost.
#[test]
fn a_second_batch_does_not_come_before_the_first() {
    let network = Network::between(3);
    let cluster = Cluster::behind(&network, &[]);
    cluster.create_topic("second", 1);
    cluster.wait_until_in_sync("second", 1);
    let leader = cluster.leader("second", 0);
    let (producer_id, producer_epoch) = cluster.client(leader).init_producer_id();
    let numbered = |base_sequence| batch(&[b"record"], Sequence { producer_id, producer_epoch, base_sequence });
    cluster.others(&[leader]).into_iter().for_each(|other| network.separate(leader, other));
    let mut waiting = cluster.client(leader);
    waiting.send(PRODUCE, 7, produce_body(-1, "second", 0, &numbered(0)));
    let next = cluster.leader_but("second", 0, &[leader]);
    let mut client = cluster.client(next);
    let mut produce = |base_sequence| {
        wait_for("the next leader leads, with enough replicas", HEALED_WITHIN, || {
            let error = client.produce("second", 0, &numbered(base_sequence)).error;
            (![NOT_LEADER_OR_FOLLOWER, NOT_ENOUGH_REPLICAS].contains(&error)).then_some(error)
        })
    };
    assert_eq!(produce(1), OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!([produce(0), produce(1)], [0, 0]);
    network.heal();
    cluster.wait_until_in_sync("second", 1);
    assert_eq!(client.list_offset("second", 0, LATEST), (0, 2));
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
