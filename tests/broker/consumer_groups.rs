//! Groups of the consumer protocol (KIP-848), with the clients that speak it: Java's and librdkafka's.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::frames::{NO_SEQUENCE, batch};
use crate::support::programs::{Background, java, python};
use crate::support::tools::Tools;

/// Short times, so that a test does not wait for the usual five seconds of a heartbeat and 45 of a session.
const SETTINGS: [&str; 3] = [
    "group.consumer.heartbeat.interval.ms=300",
    "group.consumer.session.timeout.ms=6000",
    "group.consumer.assignment.interval.ms=100",
];
const SETTLE_WITHIN: Duration = Duration::from_secs(60);

/// A member as its program tells of it.
struct Member {
    program: Background,
    assigned: BTreeSet<String>,
    /// "TOPIC PARTITION OFFSET VALUE", each committed.
    records: Vec<String>,
}

#[derive(Clone, Copy)]
enum Client {
    Java,
    Librdkafka,
}

impl Client {
    fn command(self, arguments: &[&str]) -> Command {
        match self {
            Client::Java => java("GroupMember", arguments),
            Client::Librdkafka => python("group_member.py", arguments),
        }
    }

    fn join(self, broker: &Broker, protocol: &str, topics: &str, more: &[&str]) -> Member {
        let bootstrap = broker.kafka();
        let arguments = [&[bootstrap.as_str(), "g", protocol, topics], more].concat();
        Member { program: Background::start(self.command(&arguments)), assigned: BTreeSet::new(), records: Vec::new() }
    }
}

impl Member {
    /// Takes in a line, or stops waiting for one. False when nothing came.
    fn hear(&mut self, within: Duration) -> bool {
        let Some(line) = self.program.line_within(within) else { return false };
        match line.split_once(' ') {
            Some(("record", record)) => self.records.push(record.to_owned()),
            Some(("assigned", all)) => self.assigned = all.split_whitespace().map(str::to_owned).collect(),
            _ => panic!("a line that no member says: {line}"),
        }
        true
    }

    /// Closes its consumer and ends.
    fn leave(mut self) -> Vec<String> {
        self.program.close_input();
        while let Some(line) = self.program.next_line() {
            if let Some(record) = line.strip_prefix("record ") {
                self.records.push(record.to_owned());
            }
        }
        self.records
    }
}

/// A broker with a topic, and the partitions of that.
fn shared(settings: &[&str]) -> (Broker, BTreeSet<String>) {
    let broker = Broker::start_with(settings);
    broker.create_topic("shared", 6);
    (broker, partitions("shared", 6))
}

/// Two members that come one after the other, and share.
#[track_caller]
fn pair(broker: &Broker, all: &BTreeSet<String>, [first, second]: [Client; 2]) -> (Member, Member) {
    let mut first = first.join(broker, "consumer", "shared", &[]);
    settle(&mut [&mut first], all, &[6]);
    let mut second = second.join(broker, "consumer", "shared", &[]);
    settle(&mut [&mut first, &mut second], all, &[3, 3]);
    (first, second)
}

fn partitions(topic: &str, count: i32) -> BTreeSet<String> {
    (0..count).map(|partition| format!("{topic}-{partition}")).collect()
}

/// Waits until the members have these counts of partitions, and all of them together, each one once.
#[track_caller]
fn settle(members: &mut [&mut Member], all: &BTreeSet<String>, counts: &[usize]) {
    let deadline = Instant::now() + SETTLE_WITHIN;
    loop {
        let held: Vec<usize> = members.iter().map(|member| member.assigned.len()).collect();
        let union: BTreeSet<String> = members.iter().flat_map(|member| member.assigned.iter().cloned()).collect();
        let mut sorted = held.clone();
        sorted.sort();
        if sorted == counts && union == *all {
            return;
        }
        assert!(Instant::now() < deadline, "the members have {held:?} partitions, {union:?} in all");
        for member in members.iter_mut() {
            while member.hear(Duration::from_millis(20)) {}
        }
    }
}

/// Hears until the members have committed so many records.
fn read(members: &mut [&mut Member], count: usize) {
    let deadline = Instant::now() + SETTLE_WITHIN;
    while members.iter().map(|member| member.records.len()).sum::<usize>() < count {
        assert!(
            Instant::now() < deadline,
            "only {:?}",
            members.iter().map(|one| one.records.len()).collect::<Vec<_>>()
        );
        for member in members.iter_mut() {
            member.hear(Duration::from_millis(20));
        }
    }
}

fn produce(broker: &Broker, topic: &str, partition_count: i32, value: &str) {
    let mut client = broker.client();
    for partition in 0..partition_count {
        let value = format!("{value}-{partition}");
        assert_eq!(client.produce(topic, partition, &batch(&[value.as_bytes()], NO_SEQUENCE)).error, 0);
    }
}

/// Every value once: nothing was skipped, and nothing was committed by two members.
#[track_caller]
fn assert_each_once(records: &[String], expected: usize) {
    let values: BTreeSet<&str> = records.iter().filter_map(|record| record.split(' ').next_back()).collect();
    assert_eq!((values.len(), records.len()), (expected, expected), "{records:?}");
}

/// Two members of one client: they share, one leaves, the other goes on where it was; then both are gone and one comes back.
fn check_sharing(client: Client) {
    let (broker, all) = shared(&SETTINGS);
    produce(&broker, "shared", 6, "first");
    let mut one = client.join(&broker, "consumer", "shared", &[]);
    settle(&mut [&mut one], &all, &[6]);
    read(&mut [&mut one], 6);
    let mut two = client.join(&broker, "consumer", "shared", &[]);
    settle(&mut [&mut one, &mut two], &all, &[3, 3]);
    produce(&broker, "shared", 6, "second");
    read(&mut [&mut one, &mut two], 12);
    let mut records = one.leave();
    settle(&mut [&mut two], &all, &[6]);
    produce(&broker, "shared", 6, "third");
    let so_far = records.len();
    read(&mut [&mut two], 18 - so_far);
    records.extend(two.leave());
    produce(&broker, "shared", 6, "fourth");
    let mut three = client.join(&broker, "consumer", "shared", &[]);
    read(&mut [&mut three], 6);
    records.extend(three.leave());
    assert_each_once(&records, 24);
}

#[test]
fn java_members_share_leave_and_resume() {
    check_sharing(Client::Java);
}

#[test]
fn librdkafka_members_share_leave_and_resume() {
    check_sharing(Client::Librdkafka);
}

#[test]
fn members_of_different_clients_share_a_group() {
    let (broker, all) = shared(&SETTINGS);
    let (mut java, mut librdkafka) = pair(&broker, &all, [Client::Java, Client::Librdkafka]);
    produce(&broker, "shared", 6, "value");
    read(&mut [&mut java, &mut librdkafka], 6);
    let described = groups(&broker, &["--describe", "--group", "g", "--state", "--verbose"]);
    assert!(described.contains("uniform") && described.contains("Stable"), "{described}");
    let members = groups(&broker, &["--describe", "--group", "g", "--members", "--verbose"]);
    assert_eq!(members.matches("shared:").count(), 4, "assignments and targets of two members: {members}");
    let offsets = groups(&broker, &["--describe", "--group", "g", "--offsets"]);
    assert_eq!(offsets.matches("shared").count(), 6, "{offsets}");
}

#[test]
fn what_a_killed_member_had_goes_to_the_others() {
    let (broker, all) = shared(&SETTINGS);
    let (mut killed, mut other) = pair(&broker, &all, [Client::Librdkafka, Client::Java]);
    produce(&broker, "shared", 6, "first");
    read(&mut [&mut killed, &mut other], 6);
    let mut records = std::mem::take(&mut killed.records);
    drop(killed); // kill -9
    settle(&mut [&mut other], &all, &[6]);
    produce(&broker, "shared", 6, "second");
    let count = other.records.len() + 6;
    read(&mut [&mut other], count);
    records.append(&mut other.records);
    assert_each_once(&records, 12);
}

#[test]
fn members_go_on_after_the_broker_was_killed() {
    let (mut broker, all) = shared(&SETTINGS);
    let (mut java, mut librdkafka) = pair(&broker, &all, [Client::Java, Client::Librdkafka]);
    produce(&broker, "shared", 6, "first");
    read(&mut [&mut java, &mut librdkafka], 6);
    broker.kill();
    broker.start_again();
    produce(&broker, "shared", 6, "second");
    read(&mut [&mut java, &mut librdkafka], 12);
    settle(&mut [&mut java, &mut librdkafka], &all, &[3, 3]);
    let mut records = java.records.split_off(0);
    records.append(&mut librdkafka.records);
    assert_each_once(&records, 12);
}

fn check_pattern(client: Client) {
    let broker = Broker::start_with(&SETTINGS);
    broker.create_topic("log-a", 2);
    broker.create_topic("other", 2);
    let mut member = client.join(&broker, "consumer", "^log-.*", &[]);
    settle(&mut [&mut member], &partitions("log-a", 2), &[2]);
    broker.create_topic("log-b", 1);
    let both = partitions("log-a", 2).into_iter().chain(partitions("log-b", 1)).collect();
    settle(&mut [&mut member], &both, &[3]);
    produce(&broker, "log-b", 1, "value");
    read(&mut [&mut member], 1);
}

#[test]
fn a_java_member_by_pattern_gets_topics_that_come_later() {
    check_pattern(Client::Java);
}

#[test]
fn a_librdkafka_member_by_pattern_gets_topics_that_come_later() {
    check_pattern(Client::Librdkafka);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    // Its place must outlast the start of another program.
    let (broker, all) = shared(&[SETTINGS[0], SETTINGS[2]]);
    let mut first = Client::Java.join(&broker, "consumer", "shared", &["group.instance.id=i1"]);
    settle(&mut [&mut first], &all, &[6]);
    let mut other = Client::Java.join(&broker, "consumer", "shared", &["group.instance.id=i2"]);
    settle(&mut [&mut first, &mut other], &all, &[3, 3]);
    let held = first.assigned.clone();
    first.leave();
    let mut back = Client::Java.join(&broker, "consumer", "shared", &["group.instance.id=i1"]);
    settle(&mut [&mut back, &mut other], &all, &[3, 3]);
    assert_eq!(back.assigned, held);
}

#[test]
fn a_classic_group_is_upgraded_and_downgraded_while_it_reads() {
    let (broker, all) = shared(&SETTINGS);
    let mut classic = Client::Java.join(&broker, "classic", "shared", &[]);
    settle(&mut [&mut classic], &all, &[6]);
    produce(&broker, "shared", 6, "first");
    read(&mut [&mut classic], 6);
    assert_eq!(group_type(&broker), "Classic");

    let mut consumer = Client::Java.join(&broker, "consumer", "shared", &[]);
    settle(&mut [&mut classic, &mut consumer], &all, &[3, 3]);
    assert_eq!(group_type(&broker), "Consumer");
    produce(&broker, "shared", 6, "second");
    read(&mut [&mut classic, &mut consumer], 12);

    let mut records = consumer.leave();
    settle(&mut [&mut classic], &all, &[6]);
    assert_eq!(group_type(&broker), "Classic");
    produce(&broker, "shared", 6, "third");
    let count = 18 - records.len();
    read(&mut [&mut classic], count);
    records.append(&mut classic.records);
    assert_each_once(&records, 18);
}

fn group_type(broker: &Broker) -> String {
    let listed = groups(broker, &["--list", "--type"]);
    let line = listed.lines().find(|line| line.starts_with("g ")).unwrap_or_else(|| panic!("no g in {listed}"));
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn groups(broker: &Broker, arguments: &[&str]) -> String {
    Tools::start(broker).ok("kafka-consumer-groups", arguments)
}

#[test]
fn tools_see_that_the_consumer_protocol_is_on() {
    let broker = Broker::start();
    let features = Tools::start(&broker).ok("kafka-features", &["describe"]);
    let line = features.lines().find(|line| line.contains("group.version")).unwrap_or_default();
    assert!(line.contains("FinalizedVersionLevel: 1"), "{features}");
}
