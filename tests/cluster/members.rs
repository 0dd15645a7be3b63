//! Who votes: `capek cluster status`, `remove`, `add`.

use std::fs;
use std::process::Command;

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::support::broker::{Broker, binary};
use crate::support::wait_for;

/// What the command prints when it succeeds, or what it complains of.
fn capek_cluster(broker: &Broker, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(binary()).arg("cluster").args(arguments).args(["-b", &broker.kafka()]).output();
    let output = output.expect("the binary can be started");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

#[test]
fn the_status_names_brokers_voters_and_the_controller() {
    let cluster = Cluster::with_usual_times();
    let controller = cluster.controller();
    for id in cluster.ids() {
        let status = capek_cluster(cluster.broker(id), &["status", "-o", "csv"]).expect("it is told");
        let roles: Vec<(i32, &str)> = status
            .lines()
            .skip(1)
            .map(|line| line.split(',').collect::<Vec<_>>())
            .map(|cells| (cells[0].parse().expect("an id"), cells[1]))
            .collect();
        let role = |id| if id == controller { "controller" } else { "voter" };
        assert_eq!(roles, [1, 2, 3].map(|id| (id, role(id))), "{status}");
    }
}

#[test]
fn a_broker_with_a_new_disk_is_taken_out_and_in_again() {
    let mut cluster = Cluster::with_usual_times();
    assert_eq!(cluster.broker(1).client().create_topic("before", 1, &[]), 0);
    cluster.kill(3);
    wait_for("it is taken out", HEALED_WITHIN, || capek_cluster(cluster.broker(1), &["remove", "3"]).ok());
    let again = capek_cluster(cluster.broker(1), &["remove", "3"]).expect_err("it is out");
    assert!(again.contains("not currently registered"), "{again}");

    fs::remove_dir_all(&cluster.broker(3).data_dir).expect("nobody uses it");
    cluster.broker_mut(3).spawn();
    wait_for("it waits to be taken in", HEALED_WITHIN, || {
        cluster.broker(3).output().contains("waiting for the controller to take this broker in").then_some(())
    });
    let peer = cluster.peer(3);
    capek_cluster(cluster.broker(2), &["add", &peer]).expect("it is taken in");
    cluster.wait_until_settled();
    let known = cluster.topics_of(3).expect("it answers");
    assert!(known.contains(&"before".to_owned()), "{known:?}");
    let twice = capek_cluster(cluster.broker(2), &["add", &peer]).expect_err("it votes already");
    assert!(twice.contains("is a voter already"), "{twice}");

    // It counts: with another one dead there is still a majority.
    cluster.kill(1);
    wait_for("metadata can be changed", HEALED_WITHIN, || {
        (cluster.broker(3).client().try_create_topic("after", 1, &[])? == 0).then_some(())
    });
}

#[test]
fn a_broker_by_itself_has_no_voters_to_change() {
    let broker = Broker::start();
    let refused = capek_cluster(&broker, &["add", "2@127.0.0.1:9"]).expect_err("there is no quorum");
    assert!(refused.contains("capek.cluster.peers"), "{refused}");
    let status = capek_cluster(&broker, &["status"]).expect("it is told");
    assert!(status.contains("controller"), "{status}");
}
