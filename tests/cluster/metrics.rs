//! `/metrics` of a cluster: what the brokers say together is true of the whole, while one of them is killed and comes back.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::support::frames::{NO_SEQUENCE, batch};
use crate::support::scrape::Scrape;
use crate::support::wait_for;

const PARTITIONS: i32 = 6;

fn scrapes(cluster: &Cluster) -> Vec<Scrape> {
    cluster.running().into_iter().map(|id| Scrape::of(cluster.broker(id))).collect()
}

/// Of all samples of this name, on all brokers that run.
fn sum(cluster: &Cluster, name: &str) -> f64 {
    scrapes(cluster).iter().map(|scrape| scrape.sum(name, "")).sum()
}

fn wait_for_sum(cluster: &Cluster, name: &str, is_right: impl Fn(f64) -> bool) {
    wait_for(name, HEALED_WITHIN, || is_right(sum(cluster, name)).then_some(()));
}

#[test]
fn the_brokers_together_tell_the_truth_about_the_cluster() {
    let mut cluster = Cluster::start();
    cluster.create_topic("told", PARTITIONS);
    let leader = cluster.leader("told", 0);
    let values: [&[u8]; 2] = [b"one", b"two"];
    // That it leads is known to others first, maybe.
    wait_for("the leader takes records", HEALED_WITHIN, || {
        (cluster.client(leader).produce("told", 0, &batch(&values, NO_SEQUENCE)).error == 0).then_some(())
    });

    let partitions = f64::from(PARTITIONS);
    for (name, expected) in [
        ("kafka_server_replicamanager_leadercount", partitions),
        ("kafka_server_replicamanager_partitioncount", 3.0 * partitions),
        ("kafka_controller_kafkacontroller_activecontrollercount", 1.0),
        ("kafka_controller_kafkacontroller_offlinepartitionscount", 0.0),
        ("kafka_controller_kafkacontroller_globalpartitioncount", partitions),
        ("kafka_controller_kafkacontroller_activebrokercount", 3.0),
        ("kafka_controller_kafkacontroller_fencedbrokercount", 0.0),
        ("kafka_server_replicamanager_underreplicatedpartitions", 0.0),
        ("kafka_topic_partitions", partitions),
        ("kafka_topic_partition_replicas", 3.0 * partitions),
        ("kafka_topic_partition_in_sync_replica", 3.0 * partitions),
        ("kafka_topic_partition_current_offset", 2.0),
        ("kafka_server_brokertopicmetrics_messagesin_total", 2.0),
        ("kafka_brokers", 9.0),
        ("capek_raft_voters", 9.0),
    ] {
        wait_for_sum(&cluster, name, |sum| sum == expected);
    }
    wait_for_sum(&cluster, "capek_raft_elections_won_total", |sum| sum >= 1.0);
    wait_for_sum(&cluster, "capek_raft_lag_entries", |sum| sum == 0.0);
    wait_for("all are in one term", HEALED_WITHIN, || {
        let terms: Vec<f64> = scrapes(&cluster).iter().map(|scrape| scrape.value("capek_raft_term")).collect();
        (terms[0] >= 1.0 && terms.iter().all(|term| *term == terms[0])).then_some(())
    });

    let victim = cluster.others(&[cluster.controller()])[0];
    let (elections, shrinks) =
        (sum(&cluster, "capek_leader_elections_total"), sum(&cluster, "kafka_server_replicamanager_isrshrinks_total"));
    let led = Scrape::of(cluster.broker(victim)).value("kafka_server_replicamanager_leadercount");
    let others_elections = elections - Scrape::of(cluster.broker(victim)).value("capek_leader_elections_total");
    let others_shrinks =
        shrinks - Scrape::of(cluster.broker(victim)).value("kafka_server_replicamanager_isrshrinks_total");
    cluster.kill(victim);
    wait_for_sum(&cluster, "kafka_server_replicamanager_leadercount", |sum| sum == partitions);
    wait_for_sum(&cluster, "kafka_server_replicamanager_underreplicatedpartitions", |sum| sum == partitions);
    wait_for_sum(&cluster, "kafka_topic_partition_under_replicated_partition", |sum| sum == partitions);
    wait_for_sum(&cluster, "kafka_server_replicamanager_atminisrpartitioncount", |sum| sum == partitions);
    wait_for_sum(&cluster, "kafka_controller_kafkacontroller_fencedbrokercount", |sum| sum == 1.0);
    wait_for_sum(&cluster, "capek_leader_elections_total", |sum| sum >= others_elections + led);
    wait_for_sum(&cluster, "kafka_server_replicamanager_isrshrinks_total", |sum| sum == others_shrinks + partitions);
    let expands = sum(&cluster, "kafka_server_replicamanager_isrexpands_total");
    cluster.start_again(victim);
    cluster.wait_until_in_sync("told", PARTITIONS);
    wait_for_sum(&cluster, "kafka_server_replicamanager_underreplicatedpartitions", |sum| sum == 0.0);
    wait_for_sum(&cluster, "kafka_server_replicamanager_isrexpands_total", |sum| sum >= expands + partitions);
    assert_eq!(sum(&cluster, "kafka_controller_controllerstats_uncleanleaderelections_total"), 0.0);
}

#[test]
fn a_stranger_at_the_peer_port_is_counted() {
    let cluster = Cluster::start();
    let refused = || Scrape::of(cluster.broker(1)).value("capek_peers_refused_total{reason=\"malformed\"}");
    assert_eq!(refused(), 0.0);
    let address = cluster.peer(1);
    let address = address.split('@').nth(1).expect("a peer is named ID@ADDRESS");
    let mut stranger = TcpStream::connect(address).expect("the peer listener is there");
    stranger.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect("it reads");
    stranger.set_read_timeout(Some(Duration::from_secs(10))).expect("the time is not zero");
    // It hangs up, one way or the other.
    let _ = stranger.read(&mut [0; 64]);
    wait_for("the stranger is counted", HEALED_WITHIN, || (refused() == 1.0).then_some(()));
}
