//! Three brokers in containers: killed, frozen out of their network, restarted one after the other, all killed at once. What
//! was confirmed with acks=all on three replicas is read afterwards, once each.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::engine::{Compose, docker};
use crate::support::programs::{kcat, output_of, output_with_input};
use crate::support::wait_for;

const BROKERS: [&str; 3] = ["broker1", "broker2", "broker3"];
const IN_SYNC_WITHIN: Duration = Duration::from_secs(60);
const RECORDS: usize = 200;

struct Cluster {
    compose: Compose,
    /// All that was confirmed.
    confirmed: Vec<String>,
}

impl Cluster {
    /// With the topic `kept`: six partitions on all three.
    fn start() -> Cluster {
        let compose = Compose::start("compose.yaml", &[9092, 9094, 9096], &[8080, 8082, 8084]);
        for broker in BROKERS {
            compose.wait_until_ready(broker);
        }
        let cluster = Cluster { compose, confirmed: Vec::new() };
        cluster.tool(0, "kafka-topics --create --topic kept --partitions 6 --replication-factor 3");
        cluster
    }

    /// One of Kafka's tools in a broker's container.
    fn tool(&self, index: usize, line: &str) -> String {
        let server = format!("{}:29092", BROKERS[index]);
        let mut words: Vec<&str> = line.split_whitespace().collect();
        words.splice(1..1, ["--bootstrap-server", &server]);
        self.compose.exec(BROKERS[index], &words)
    }

    fn bootstrap(&self, indexes: &[usize]) -> String {
        indexes.iter().map(|index| self.compose.kafka(*index)).collect::<Vec<_>>().join(",")
    }

    /// Sends further records through these brokers, each confirmed by all in-sync replicas.
    fn produce(&mut self, through: &[usize]) {
        let first = self.confirmed.len();
        let records: Vec<String> = (first..first + RECORDS).map(|number| format!("record-{number}")).collect();
        let bootstrap = self.bootstrap(through);
        let settings = ["-X", "acks=all", "-X", "enable.idempotence=true", "-X", "message.timeout.ms=60000"];
        let arguments = [&["-P", "-b", &bootstrap, "-t", "kept"], &settings[..]].concat();
        output_with_input(kcat(&arguments), &(records.join("\n") + "\n"));
        self.confirmed.extend(records);
    }

    /// Demands that these brokers give every confirmed record exactly once.
    fn check(&self, through: &[usize]) {
        let bootstrap = self.bootstrap(through);
        let read = output_of(kcat(&["-C", "-b", &bootstrap, "-t", "kept", "-o", "beginning", "-e", "-q"]));
        let mut times_read: BTreeMap<&str, usize> = BTreeMap::new();
        for record in read.lines() {
            *times_read.entry(record).or_default() += 1;
        }
        let lost: Vec<&String> =
            self.confirmed.iter().filter(|record| !times_read.contains_key(record.as_str())).collect();
        assert!(lost.is_empty(), "{} of {} are lost: {lost:?}", lost.len(), self.confirmed.len());
        let doubled: Vec<_> = times_read.iter().filter(|(_, times)| **times > 1).collect();
        assert!(doubled.is_empty(), "read more than once: {doubled:?}");
        assert_eq!(times_read.len(), self.confirmed.len());
    }

    /// Every replica of every partition is in sync, as all three brokers see it.
    fn wait_until_in_sync(&self) {
        for broker in BROKERS {
            self.compose.wait_until_ready(broker);
        }
        wait_for("all replicas are in sync", IN_SYNC_WITHIN, || {
            let is_behind =
                |index| !self.tool(index, "kafka-topics --describe --under-replicated-partitions").trim().is_empty();
            (!(0..3).any(is_behind)).then_some(())
        });
    }

    fn container(&self, index: usize) -> String {
        self.compose.container(BROKERS[index])
    }

    fn docker(&self, command: &str, index: usize) {
        docker(&[command, &self.container(index)]);
    }
}

#[test]
fn a_killed_broker_loses_nothing_and_comes_back() {
    let mut cluster = Cluster::start();
    cluster.produce(&[0, 1, 2]);
    for victim in 0..3 {
        let others: Vec<usize> = (0..3).filter(|index| *index != victim).collect();
        cluster.docker("kill", victim);
        cluster.produce(&others);
        cluster.check(&others);
        cluster.docker("start", victim);
        cluster.wait_until_in_sync();
        cluster.check(&[victim]);
    }
}

/// Cut off, a broker confirms nothing; back in the network it follows the others.
#[test]
fn a_broker_cut_off_its_network_loses_nothing_and_follows_again() {
    let mut cluster = Cluster::start();
    cluster.produce(&[0, 1, 2]);
    let (network, container) = (cluster.compose.network(), cluster.container(2));
    docker(&["network", "disconnect", &network, &container]);
    cluster.produce(&[0, 1]);
    cluster.check(&[0, 1]);
    docker(&["network", "connect", "--alias", "broker3", &network, &container]);
    cluster.wait_until_in_sync();
    cluster.check(&[2]);
    cluster.produce(&[2]);
    cluster.check(&[0, 1, 2]);
}

#[test]
fn all_killed_at_once_lose_nothing() {
    let mut cluster = Cluster::start();
    for _ in 0..2 {
        cluster.produce(&[0, 1, 2]);
        let containers = [0, 1, 2].map(|index| cluster.container(index));
        docker(&["kill", &containers[0], &containers[1], &containers[2]]);
        docker(&["start", &containers[0], &containers[1], &containers[2]]);
        cluster.wait_until_in_sync();
        cluster.check(&[0, 1, 2]);
    }
}

/// With SIGTERM each hands its leaders over; a client that retries sees no error meanwhile.
#[test]
fn a_rolling_restart_is_not_seen_by_a_client_that_retries() {
    let mut cluster = Cluster::start();
    for index in 0..3 {
        cluster.docker("stop", index);
        let status = docker(&["inspect", "--format", "{{.State.ExitCode}}", &cluster.container(index)]);
        assert_eq!(status.trim(), "0", "broker {} stopped in order", index + 1);
        cluster.produce(&[0, 1, 2]);
        cluster.docker("start", index);
        cluster.wait_until_in_sync();
        cluster.check(&[0, 1, 2]);
    }
}
