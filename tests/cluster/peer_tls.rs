//! Brokers that talk TLS to each other: the cluster works as any other, and whoever has no certificate of its CA stays outside.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::certificates::{Authority, Files, replace};
use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::load::{Load, PARTITIONS};
use crate::support::broker::{Broker, Directory, free_port};
use crate::support::rest::call;
use crate::support::scrape::Scrape;
use crate::support::wait_for;

const HOST: &str = "127.0.0.1";

/// Three brokers with certificates of this CA; they do not run yet.
fn prepare(directory: &Path, authority: &Authority) -> Cluster {
    let peers: BTreeMap<i32, String> = (1..=3).map(|id| (id, format!("{HOST}:{}", free_port()))).collect();
    let own = |id: i32| files(directory, id, authority).settings().to_vec();
    Cluster::prepare_at(peers, own, &[])
}

/// Given anew to this broker.
fn files(directory: &Path, id: i32, authority: &Authority) -> Files {
    Files::write(directory, &id.to_string(), &authority.issue(HOST), &authority.pem())
}

fn refused(cluster: &Cluster, id: i32, reason: &str) -> f64 {
    Scrape::of(cluster.broker(id)).value(&format!("capek_peers_refused_total{{reason=\"{reason}\"}}"))
}

fn wait_until_said(cluster: &Cluster, id: i32, sentence: &str) {
    let is_said = || cluster.broker(id).output().contains(sentence).then_some(());
    wait_for(sentence, HEALED_WITHIN, is_said);
}

#[test]
fn acked_records_survive_a_leader_kill_between_brokers_with_tls() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let mut cluster = prepare(directory.path(), &authority);
    cluster.start_all();
    let load = Load::start(&cluster, "sealed");
    let leader = cluster.leader("sealed", 0);
    cluster.kill(leader);
    load.wait_for_progress();
    // Meanwhile all are given new certificates: this one reads them at its start, the others before they connect to it.
    cluster.ids().into_iter().for_each(|id| drop(files(directory.path(), id, &authority)));
    cluster.start_again(leader);
    cluster.wait_until_in_sync("sealed", PARTITIONS);
    load.stop_and_check(&cluster, "kill -9 of a leader, with TLS between brokers");
    for id in cluster.others(&[leader]) {
        wait_until_said(&cluster, id, "-cert.pem: read again, and used from now on");
    }
    cluster.stop_and_compare_replicas("sealed", PARTITIONS);
}

/// What a door asks of another broker comes and goes sealed, also when it is large.
#[test]
fn records_over_http_reach_their_leader_with_tls_between_brokers() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let mut cluster = prepare(directory.path(), &authority);
    cluster.start_all();
    cluster.create_topic("doors", 1);
    let leader = cluster.leader("doors", 0);
    let values = ["small".to_owned(), "large".repeat(20_000)];
    for door in cluster.others(&[leader]) {
        let broker = cluster.broker(door);
        for value in &values {
            call("POST", &broker.http("/v1/topics/doors"), &[], value).expect(200);
        }
    }
    for door in cluster.ids() {
        let lines = call("GET", &cluster.broker(door).http("/v1/topics/doors/records?envelope=value"), &[], "").text;
        let found: Vec<&str> = lines.lines().map(|line| line.trim_matches('"')).collect();
        assert_eq!(found, [&*values[0], &*values[1], &*values[0], &*values[1]], "through broker {door}");
    }
}

#[test]
fn a_broker_with_a_certificate_of_another_ca_or_without_tls_stays_outside() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let mut cluster = prepare(directory.path(), &authority);
    cluster.start_all();
    let load = Load::start(&cluster, "outside");
    let stranger = cluster.others(&[cluster.controller()])[0];
    let others = cluster.others(&[stranger]);
    let settings = cluster.broker(stranger).settings().to_vec();
    cluster.kill(stranger);

    files(directory.path(), stranger, &Authority::new("another"));
    cluster.broker_mut(stranger).spawn();
    for id in &others {
        wait_until_said(&cluster, *id, "not let in as a broker: it does not accept our certificate (UnknownCA)");
        wait_until_said(
            &cluster,
            *id,
            "does not let us in: its certificate is not accepted: no CA of capek.peer.tls.ca",
        );
        assert!(refused(&cluster, *id, "certificate") >= 1.0, "it is counted");
    }
    load.wait_for_progress();
    cluster.kill(stranger);

    let in_the_clear: Vec<&str> =
        settings.iter().map(String::as_str).filter(|setting| !setting.starts_with("capek.peer.tls.")).collect();
    cluster.broker_mut(stranger).set(&in_the_clear);
    cluster.broker_mut(stranger).spawn();
    for id in &others {
        wait_until_said(&cluster, *id, "not let in as a broker: it does not speak TLS, and this broker does");
        assert!(refused(&cluster, *id, "tls_mismatch") >= 1.0, "it is counted");
        wait_for("it is outside", HEALED_WITHIN, || (cluster.view_of(*id, "")?.brokers == others).then_some(()));
    }
    wait_until_said(&cluster, stranger, "it speaks TLS, and this broker does not");
    load.wait_for_progress();
    cluster.kill(stranger);

    files(directory.path(), stranger, &authority);
    cluster.broker_mut(stranger).set(&settings.iter().map(String::as_str).collect::<Vec<_>>());
    cluster.start_again(stranger);
    load.stop_and_check(&cluster, "strangers to a cluster with TLS");
}

#[test]
fn what_is_no_tls_at_the_peer_port_is_refused_and_counted() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let mut cluster = prepare(directory.path(), &authority);
    cluster.start_all();
    assert_eq!(refused(&cluster, 1, "tls_mismatch"), 0.0);
    let address = cluster.peer(1);
    let address = address.split('@').nth(1).expect("a peer is named ID@ADDRESS");
    for _ in 0..2 {
        let mut stranger = TcpStream::connect(address).expect("the peer listener is there");
        stranger.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").expect("it reads");
        stranger.set_read_timeout(Some(Duration::from_secs(10))).expect("the time is not zero");
        // It says no in the words of TLS, or hangs up.
        let _ = stranger.read(&mut [0; 64]);
    }
    wait_for("both are counted", HEALED_WITHIN, || (refused(&cluster, 1, "tls_mismatch") == 2.0).then_some(()));
    let said = cluster.broker(1).output().matches("it does not speak TLS").count();
    assert_eq!(said, 1, "one line is enough\n{}", cluster.broker(1).output());
}

#[test]
fn a_broker_that_cannot_show_its_certificate_does_not_start() {
    let (directory, authority) = (Directory::new(), Authority::new("ours"));
    let mut cluster = prepare(directory.path(), &authority);
    let check = |broker: &Broker, expected: &str| {
        let (status, output) = Broker::run_to_refusal(broker.command());
        assert!(!status.success() && output.contains(expected), "{status}, not '{expected}':\n{output}");
    };
    let own = files(directory.path(), 1, &authority);
    replace(&own.key, &authority.issue(HOST).key);
    check(cluster.broker(1), "1-key.pem): it is not the key of capek.peer.tls.cert (");
    files(directory.path(), 1, &authority);
    std::fs::remove_file(&own.authority).expect("it was written");
    check(cluster.broker(1), "1-ca.pem): it cannot be read: No such file");
    let settings = cluster.broker(1).settings().to_vec();
    let some: Vec<&str> = settings.iter().map(String::as_str).filter(|one| !one.contains("tls.key")).collect();
    cluster.broker_mut(1).set(&some);
    check(cluster.broker(1), "without capek.peer.tls.key: brokers talk TLS to each other with all three");
}
