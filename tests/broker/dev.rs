//! `capek dev`: what it starts, what it says, and that nothing of it is left when it ends.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::support::broker::{Broker, Directory, binary, free_port};
use crate::support::frames::{LATEST, NO_SEQUENCE, RawClient, batch};
use crate::support::programs::{Background, output_of, output_with_input};
use crate::support::wait_for;

const CLEAN_MARK: &str = ".kafka_cleanshutdown";

/// Where a `capek dev` runs, over several runs.
struct Place {
    _directory: Directory,
    data_dir: PathBuf,
    brokers: u16,
    kafka_port: u16,
    http_port: u16,
    peer_port: u16,
}

impl Place {
    fn new() -> Place {
        let directory = Directory::new();
        Place {
            data_dir: directory.path().join("dev"),
            _directory: directory,
            brokers: 1,
            kafka_port: free_port(),
            http_port: free_port(),
            peer_port: free_port(),
        }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = ours();
        command.args(["dev", "--brokers", &self.brokers.to_string()]).arg("--data-dir").arg(&self.data_dir);
        for (flag, port) in
            [("--kafka-port", self.kafka_port), ("--http-port", self.http_port), ("--peer-port", self.peer_port)]
        {
            command.args([flag, &port.to_string()]);
        }
        command.args(more);
        command
    }

    /// Started, and past the line that says that its broker is up.
    fn start(&self, more: &[&str]) -> Background {
        let mut dev = Background::start(self.command(more));
        self.wait_for_broker(&mut dev);
        dev
    }

    fn wait_for_broker(&self, dev: &mut Background) {
        let up = format!(
            "broker 1 is up: Kafka localhost:{}, HTTP http://localhost:{} after ",
            self.kafka_port, self.http_port
        );
        while !dev.line().starts_with(&up) {}
    }

    fn client(&self) -> RawClient {
        RawClient::try_connect(&format!("127.0.0.1:{}", self.kafka_port)).expect("the broker listens")
    }

    fn has_clean_mark(&self) -> bool {
        self.data_dir.join("1").join(CLEAN_MARK).exists()
    }
}

/// Our binary; what steers the tests is no configuration of it.
fn ours() -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("CAPEK_") || name.starts_with("KAFKA_")) {
        command.env_remove(name);
    }
    command
}

/// The processes that it has started, in that order.
fn children_of(dev: &Background) -> Vec<u32> {
    let id = dev.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).expect("it runs");
    children.split_whitespace().map(|child| child.parse().expect("an id is a number")).collect()
}

fn child_of(dev: &Background) -> u32 {
    let children = children_of(dev);
    assert_eq!(children.len(), 1, "it has one child");
    children[0]
}

fn kill(id: u32) {
    assert!(was_sent("KILL", id));
}

/// False when the process is not there any more.
fn was_sent(signal: &str, id: u32) -> bool {
    let sent = Command::new("kill").args(["-s", signal, &id.to_string()]).stderr(Stdio::null()).status();
    sent.expect("kill(1) is there").success()
}

/// The rest of its standard output, what it ended with, and its standard error.
fn end_of(mut dev: Background) -> (String, ExitStatus, String) {
    let lines = std::iter::from_fn(|| dev.next_line()).map(|line| line + "\n").collect();
    let (status, errors) = dev.wait();
    (lines, status, errors)
}

#[test]
fn dev_says_where_all_is_and_ctrl_c_stops_it_in_order() {
    let place = Place::new();
    let mut dev = place.start(&[]);
    let table: Vec<String> = (0..2).map(|_| dev.line()).collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&table[0]), ["BROKER", "KAFKA", "HTTP", "PEERS", "DATA"]);
    let expected = [
        "1".to_owned(),
        format!("localhost:{}", place.kafka_port),
        format!("http://localhost:{}", place.http_port),
        format!("localhost:{}", place.peer_port),
        place.data_dir.join("1").display().to_string(),
    ];
    assert_eq!(words(&table[1]), expected);
    assert_eq!(dev.line(), "Try it (Ctrl-C stops it):");
    let mut paste = || {
        let mut shell = Command::new("sh");
        shell.args(["-c", dev.line().trim()]);
        shell
    };
    assert!(output_of(paste()).contains("\"offset\":0"));
    assert_eq!(output_of(paste()), "hello, world\n");
    let mut stream = Background::start(paste());
    while !stream.line().contains("hello, world") {}
    drop(stream);

    assert!(!place.has_clean_mark());
    dev.interrupt();
    let (output, status, errors) = end_of(dev);
    assert!(status.success(), "{output}{errors}");
    assert_eq!(output, "SIGINT: stopping\n");
    assert!(errors.lines().any(|line| line.starts_with("1 | ") && line.contains("is ready")), "{errors}");
    assert!(errors.ends_with("broker 1 is down\n"), "{errors}");
    assert!(place.has_clean_mark());
}

#[test]
fn a_broker_that_dies_is_started_again_with_its_data() {
    let place = Place::new();
    let mut dev = place.start(&["--set", "num.partitions=2"]);
    assert_eq!(place.client().create_topic("kept", -1, &[]), 0);
    assert_eq!(place.client().produce("kept", 1, &batch(&[b"value"], NO_SEQUENCE)).error, 0);
    for _ in 0..2 {
        kill(child_of(&dev));
        place.wait_for_broker(&mut dev);
        assert_eq!(place.client().list_offset("kept", 1, LATEST), (0, 1));
    }
    dev.interrupt();
    let (_, status, errors) = end_of(dev);
    assert!(status.success(), "{errors}");
    let told = "broker 1 has ended (signal: 9 (SIGKILL)): starting it again";
    assert_eq!(errors.lines().filter(|line| *line == told).count(), 2, "{errors}");
}

#[test]
fn without_restarts_the_first_death_ends_it() {
    let place = Place::new();
    let dev = place.start(&["--no-restart"]);
    kill(child_of(&dev));
    let (_, status, errors) = end_of(dev);
    assert_eq!(status.code(), Some(1));
    assert!(errors.ends_with("capek: broker 1 ended (signal: 9 (SIGKILL))\n"), "{errors}");
}

/// A start that fails for a reason fails again: it is told, not repeated.
#[test]
fn a_broker_that_cannot_start_ends_it() {
    let place = Place::new();
    let command = place.command(&["--set", "capek.journal.file.bytes=1"]);
    let (status, output) = Broker::run_to_refusal(command);
    assert_eq!(status.code(), Some(1));
    assert!(
        output.lines().any(|line| line.starts_with("1 | ") && line.contains("capek.journal.file.bytes")),
        "{output}"
    );
    assert!(output.contains("capek: broker 1 did not start (exit status: 1): see its log above\n"), "{output}");
}

#[test]
fn a_port_that_is_taken_is_told_before_anything_starts() {
    let place = Place::new();
    let _taken = TcpListener::bind(("127.0.0.1", place.http_port)).expect("the port was free");
    let (status, output) = Broker::run_to_refusal(place.command(&[]));
    assert_eq!(status.code(), Some(1));
    let expected =
        format!("capek: port {} (HTTP of broker 1): is taken: choose another with --http-port\n", place.http_port);
    assert_eq!(output, expected);
    assert!(!place.data_dir.exists());
}

#[test]
fn no_broker_outlives_a_dev_that_was_killed() {
    let place = Place::new();
    let dev = place.start(&[]);
    let broker = child_of(&dev);
    kill(dev.id());
    // The kernel may send what it sends more than once: for each thread of the one that ended.
    for _ in 0..3 {
        was_sent("USR1", broker);
    }
    wait_for("the broker has stopped", Duration::from_secs(60), || {
        (!PathBuf::from(format!("/proc/{broker}")).exists() || is_zombie(broker)).then_some(())
    });
    assert!(place.has_clean_mark(), "it stopped in order");
}

/// Ended; whoever inherited it has not asked yet.
fn is_zombie(id: u32) -> bool {
    fs::read_to_string(format!("/proc/{id}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}

#[test]
fn clean_begins_without_what_was_there() {
    let place = Place::new();
    let mut dev = place.start(&[]);
    assert_eq!(place.client().create_topic("old", 1, &[]), 0);
    let other = Place { data_dir: place.data_dir.clone(), ..Place::new() };
    let (_, in_use) = Broker::run_to_refusal(other.command(&["--clean"]));
    assert!(in_use.contains("1 is in use by a running broker"), "{in_use}");
    dev.interrupt();
    end_of(dev);

    let mut dev = Background::start(place.command(&["--clean"]));
    assert_eq!(dev.line(), format!("removed {}", place.data_dir.join("1").display()));
    place.wait_for_broker(&mut dev);
    // With the old one there it would exist already.
    assert_eq!(place.client().create_topic("old", 1, &[]), 0);
}

/// A port that is free with the two that are two and four higher.
fn first_of_three(from: u16) -> u16 {
    let is_free = |port: &u16| (0..3).all(|index| TcpListener::bind(("127.0.0.1", port + 2 * index)).is_ok());
    (from..from + 400).step_by(6).find(is_free).expect("three ports are free")
}

#[test]
fn three_brokers_are_one_cluster_and_stop_one_after_the_other() {
    let first = 17_000 + (std::process::id() % 1_000) as u16;
    let ports = [first, first + 2_000, first + 4_000].map(first_of_three);
    let place = Place { brokers: 3, kafka_port: ports[0], http_port: ports[1], peer_port: ports[2], ..Place::new() };
    let mut dev = Background::start(place.command(&[]));
    let mut up: Vec<String> = (0..3).map(|_| dev.line()).collect();
    up.sort();
    for (index, line) in up.iter().enumerate() {
        let (id, kafka, http) = (index + 1, ports[0] + 2 * index as u16, ports[1] + 2 * index as u16);
        assert!(
            line.starts_with(&format!("broker {id} is up: Kafka localhost:{kafka}, HTTP http://localhost:{http} "))
        );
    }
    while dev.line() != "Try it (Ctrl-C stops all):" {}

    let bootstrap = format!("localhost:{},localhost:{}", ports[0], ports[0] + 4);
    let capek = |words: &[&str]| {
        let mut command = ours();
        command.args(words).args(["-b", &bootstrap]);
        command
    };
    output_of(capek(&["topic", "create", "kept", "--partitions", "3", "--replicas", "3"]));
    let records: String = (0..300).map(|number| format!("{number}\n")).collect();
    output_with_input(capek(&["produce", "kept", "--acks", "all"]), &records);
    kill(children_of(&dev)[1]);
    let mut read: Vec<u32> = output_of(capek(&["consume", "kept", "-o", "earliest", "-e", "-f", "%s\n"]))
        .lines()
        .map(|line| line.parse().expect("a number"))
        .collect();
    read.sort_unstable();
    assert_eq!(read, (0..300).collect::<Vec<_>>());
    while !dev.line().starts_with("broker 2 is up") {}

    dev.interrupt();
    let (_, status, errors) = end_of(dev);
    assert!(status.success(), "{errors}");
    let down: Vec<&str> = errors.lines().filter(|line| line.ends_with(" is down")).collect();
    assert_eq!(down, ["broker 3 is down", "broker 2 is down", "broker 1 is down"]);
}
