//! kill -9 in the middle of acks=all load. Every value is unique, so that a reader can tell lost from doubled.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::broker::{Broker, Directory};
use crate::support::programs::{Background, output_of, python};

const PARTITIONS: i32 = 4;
const ROUNDS: usize = 20;

/// One idempotent producer of librdkafka lives through all rounds; the broker does not.
#[test]
fn confirmed_records_survive_twenty_kills_once_each() {
    let mut broker = Broker::start();
    broker.create_topic("survivors", PARTITIONS);
    let load = Load::start(&broker, "survivors");
    for round in 0..rounds() {
        load.wait_for_progress();
        // Spread over the life of a round of the journal.
        std::thread::sleep(Duration::from_millis(7 * round as u64 % 50));
        broker.kill();
        broker.start_again();
    }
    load.wait_for_progress();
    load.stop_and_check(&broker);
}

/// Kills while a restart is still recovering, too.
#[test]
fn confirmed_records_survive_kills_during_recovery() {
    let mut broker = Broker::start();
    broker.create_topic("twice-bitten", PARTITIONS);
    let load = Load::start(&broker, "twice-bitten");
    for delay_ms in [0, 2, 5, 10, 20, 40] {
        load.wait_for_progress();
        broker.kill();
        let mut recovering = broker.command().spawn().expect("the broker's binary can be started");
        std::thread::sleep(Duration::from_millis(delay_ms));
        recovering.kill().expect("a child can be killed");
        recovering.wait().expect("a child can be waited for");
        broker.start_again();
    }
    load.wait_for_progress();
    load.stop_and_check(&broker);
}

/// Kafka's page-cache mode: what the kernel has survives the death of the process.
#[test]
fn confirmed_records_of_an_async_broker_survive_kills() {
    let mut broker = Broker::start_with(&["capek.flush=async"]);
    survive_a_few_kills(&mut broker, "cached");
}

/// Each directory has a journal of its own, and all are recovered at a time.
#[test]
fn confirmed_records_of_several_directories_survive_kills() {
    let directory = Directory::new();
    let data_dirs = ["one", "two", "three"].map(|name| directory.path().join(name));
    let list = data_dirs.iter().map(|path| path.to_str().expect("the path is ASCII")).collect::<Vec<_>>().join(",");
    let mut broker = Broker::start_in(directory, list.into(), &[]);
    survive_a_few_kills(&mut broker, "spread");
    let mut partitions = 0;
    for data_dir in &data_dirs {
        let holds = |partition: &i32| data_dir.join(format!("spread-{partition}")).is_dir();
        let held = (0..PARTITIONS).filter(holds).count();
        assert!(held > 0, "{} was passed over", data_dir.display());
        partitions += held;
    }
    assert_eq!(partitions, PARTITIONS as usize, "each lies in one of them");
}

/// A start that is refused says nothing new of the directories that it had opened.
#[test]
fn a_refused_start_leaves_the_mark_of_the_last_stop_as_it_was() {
    let directory = Directory::new();
    let data_dirs = ["one", "two"].map(|name| directory.path().join(name));
    let list = format!("{},{}", data_dirs[0].display(), data_dirs[1].display());
    let mut broker = Broker::start_in(directory, list.into(), &[]);
    broker.create_topic("kept", PARTITIONS);

    assert!(broker.terminate().success());
    let meta = data_dirs[1].join("meta.properties");
    let ours = std::fs::read_to_string(&meta).expect("it was written");
    std::fs::write(&meta, ours.replace("node.id=1", "node.id=7")).expect("it can be changed");
    assert!(Broker::run_to_refusal(broker.command()).1.contains("belongs to node 7"));
    std::fs::write(&meta, ours).expect("it can be changed back");
    broker.start_again();
    assert!(!broker.output().contains("recovered, "), "{}", broker.output());

    broker.kill();
    let taken = std::net::TcpListener::bind(broker.kafka()).expect("nobody has it");
    assert!(!Broker::run_to_refusal(broker.command()).0.success());
    drop(taken);
    broker.start_again();
    assert_eq!(broker.output().matches("recovered, ").count(), 2, "{}", broker.output());
}

fn survive_a_few_kills(broker: &mut Broker, topic: &str) {
    broker.create_topic(topic, PARTITIONS);
    let load = Load::start(broker, topic);
    for _ in 0..rounds().min(5) {
        load.wait_for_progress();
        broker.kill();
        broker.start_again();
    }
    load.wait_for_progress();
    load.stop_and_check(broker);
}

fn rounds() -> usize {
    std::env::var("CAPEK_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("CAPEK_TEST_ROUNDS is a number"))
}

/// Unique values from `kafka_client.py load`, and the file in which it notes what was confirmed.
pub struct Load {
    producer: Background,
    directory: Directory,
    topic: String,
}

impl Load {
    pub fn start(broker: &Broker, topic: &str) -> Load {
        let directory = Directory::new();
        let confirmed = directory.path().join("confirmed");
        let confirmed = confirmed.to_str().expect("the path is ASCII");
        let arguments = ["load", &broker.kafka(), topic, &PARTITIONS.to_string(), confirmed];
        Load { producer: Background::start(python("kafka_client.py", &arguments)), directory, topic: topic.to_owned() }
    }

    /// Waits until a few hundred more records are confirmed.
    pub fn wait_for_progress(&self) {
        let before = self.confirmed_bytes();
        crate::support::wait_for("the load goes on", Duration::from_secs(60), || {
            (self.confirmed_bytes() > before + 4096).then_some(())
        });
    }

    fn confirmed_bytes(&self) -> u64 {
        std::fs::metadata(self.directory.path().join("confirmed")).map_or(0, |file| file.len())
    }

    /// Ends the load, reads everything back: each confirmed value is where it was confirmed, and no value is there twice.
    pub fn stop_and_check(mut self, broker: &Broker) {
        self.producer.close_input();
        let summary = self.producer.line();
        assert!(summary.contains("\"failed\": 0") && summary.contains("\"waiting\": 0"), "{summary}");
        let confirmed = std::fs::read_to_string(self.directory.path().join("confirmed")).expect("it was written");
        let stored = output_of(python("kafka_client.py", &["drain", &broker.kafka(), &self.topic]));

        let mut places: BTreeMap<&str, (&str, &str)> = BTreeMap::new();
        for line in stored.lines() {
            let (partition, offset, value) = place_and_value(line);
            let earlier = places.insert(value, (partition, offset));
            assert_eq!(earlier, None, "value {value} is stored a second time, at {partition} {offset}");
        }
        let mut confirmed_count = 0;
        for line in confirmed.lines() {
            let (partition, offset, value) = place_and_value(line);
            assert_eq!(
                places.get(value),
                Some(&(partition, offset)),
                "confirmed value {value} at {partition} {offset}"
            );
            confirmed_count += 1;
        }
        assert!(confirmed_count >= 1000, "only {confirmed_count} records were confirmed: that shows nothing");
        println!("confirmed {confirmed_count}, found {confirmed_count}; {summary}");
    }
}

fn place_and_value(line: &str) -> (&str, &str, &str) {
    let mut fields = line.split(' ');
    match (fields.next(), fields.next(), fields.next()) {
        (Some(partition), Some(offset), Some(value)) => (partition, offset, value),
        _ => panic!("not a place and a value: {line}"),
    }
}
