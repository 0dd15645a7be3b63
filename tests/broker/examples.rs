//! What an introduction to Kafka shows, unchanged, on this broker: Scala, Kafdrop, Kafka Streams, Kafka Connect.

use std::path::Path;
use std::time::Duration;

use crate::support::broker::{Broker, Directory, free_port};
use crate::support::frames::{NO_SEQUENCE, batch};
use crate::support::programs::{Background, java, output_of};
use crate::support::rest::call;
use crate::support::tools::class_of;
use crate::support::wait_for;

const SETTINGS: [&str; 2] = ["group.initial.rebalance.delay.ms=0", "num.partitions=3"];

#[test]
fn a_producer_and_a_consumer_in_scala_work() {
    let broker = Broker::start_with(&SETTINGS);
    let confirmed = output_of(java("QuickProducer", &[&broker.kafka(), "greetings", "10"]));
    let read = output_of(java("QuickConsumer", &[&broker.kafka(), "greetings", "scala", "10"]));
    let mut places: Vec<&str> = confirmed.lines().collect();
    let mut seen: Vec<(String, &str)> = read.lines().map(place_and_rest).collect();
    seen.sort();
    places.sort();
    assert_eq!(seen.iter().map(|(place, _)| place.as_str()).collect::<Vec<_>>(), places);
    let mut greetings: Vec<&str> = seen.iter().map(|(_, rest)| *rest).collect();
    greetings.sort();
    let expected: Vec<String> = (0..10).map(|index| format!("key-{index} hello {index}")).collect();
    assert_eq!(greetings, expected);
    // It has committed when it closed.
    assert_eq!(broker.client().produce("greetings", 0, &batch(&[b"later"], NO_SEQUENCE)).error, 0);
    let later = output_of(java("QuickConsumer", &[&broker.kafka(), "greetings", "scala", "1"]));
    assert_eq!(later.lines().map(|line| place_and_rest(line).1).collect::<Vec<_>>(), ["null later"]);
}

fn place_and_rest(line: &str) -> (String, &str) {
    let mut words = line.splitn(3, ' ');
    let mut next = || words.next().unwrap_or_else(|| panic!("a word is missing: {line}"));
    (format!("{} {}", next(), next()), next())
}

#[test]
fn kafdrops_calls_are_answered() {
    let broker = Broker::start_with(&SETTINGS);
    let output = output_of(java("KafdropCalls", &[&broker.kafka(), "dropped"]));
    let answer = |call: &str| {
        let found = output.lines().find_map(|line| line.strip_prefix(call)?.strip_prefix(' '));
        found.unwrap_or_else(|| panic!("no {call} in\n{output}"))
    };
    assert_eq!(answer("brokers"), format!("[1@{}]", broker.kafka()));
    assert_eq!(answer("controller"), "1");
    assert_eq!(answer("cluster-id").len(), 22);
    assert_eq!(answer("broker-config"), "3");
    assert_eq!(answer("listed"), "true");
    assert_eq!(answer("partitions"), "[0:1:1, 1:1:1, 2:1:1]");
    assert_eq!(answer("topic-config"), "delete");
    assert_eq!(answer("beginning"), "{0=0, 1=0, 2=0}");
    assert_eq!(answer("end"), "{0=4, 1=4, 2=4}");
    assert_eq!(answer("at-time"), "{0=2, 1=2, 2=2}");
    assert_eq!(answer("messages"), "[2=value-7, 3=value-10]");
    assert_eq!(answer("groups"), "[seen-by-kafdrop]");
    assert_eq!(answer("committed"), "{1=3}");
    assert_eq!(answer("acls"), "SecurityDisabledException");
    assert_eq!(answer("after-delete"), "false");
}

/// The second round has lost its local state and begins with what the changelog topic holds.
#[test]
fn a_word_count_of_kafka_streams_goes_on_from_its_changelog() {
    let broker = Broker::start_with(&SETTINGS);
    let state = Directory::new();
    let state = state.path().to_str().expect("the path is ASCII");
    let output = output_of(java("WordCount", &[&broker.kafka(), state]));
    let expected = "1 {all=1, hello=1, join=1, kafka=3, lead=1, streams=2, summit=1, to=1}\n\
                    2 {all=2, hello=2, join=2, kafka=6, lead=2, streams=4, summit=2, to=2}\n\
                    word-count-counted-changelog compact\n\
                    word-count-counted-repartition delete\n";
    assert_eq!(output, expected);
}

/// A worker in standalone mode copies one file into a topic and the topic into another file, and resumes both when it is killed.
#[test]
fn connect_copies_a_file_through_a_topic_and_resumes() {
    let broker = Broker::start_with(&SETTINGS);
    let directory = Directory::new();
    let arguments = write_connect_configuration(directory.path(), &broker);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (source, sink) = (directory.path().join("in.txt"), directory.path().join("out.txt"));
    let mut expected = String::new();
    for round in 0..2 {
        expected.extend((0..5).map(|index| format!("line {}\n", round * 5 + index)));
        std::fs::write(&source, &expected).expect("the test's directory is writable");
        let worker = Background::start(java(class_of("connect-standalone"), &arguments));
        wait_for("the lines to arrive", Duration::from_secs(60), || {
            (std::fs::read_to_string(&sink).unwrap_or_default().len() >= expected.len()).then_some(())
        });
        wait_for("both ends have noted where they are", Duration::from_secs(60), || {
            let noted = std::fs::read(directory.path().join("offsets")).unwrap_or_default();
            let position = format!("\"position\":{}}}", expected.len());
            let committed = call("GET", &broker.http("/v1/groups/connect-Sink/offsets"), &[], "").body;
            let read =
                committed["offsets"].as_array()?.iter().filter_map(|offset| offset["offset"].as_i64()).sum::<i64>();
            let is_noted = noted.windows(position.len()).any(|window| window == position.as_bytes());
            (is_noted && read == expected.lines().count() as i64).then_some(())
        });
        drop(worker);
    }
    assert_eq!(std::fs::read_to_string(&sink).expect("it was waited for"), expected);
}

fn write_connect_configuration(directory: &Path, broker: &Broker) -> Vec<String> {
    let place = |name: &str| directory.join(name).to_str().expect("the path is ASCII").to_owned();
    let converter = "org.apache.kafka.connect.storage.StringConverter";
    let worker = format!(
        "bootstrap.servers={}\nlisteners=http://127.0.0.1:{}\nkey.converter={converter}\nvalue.converter={converter}\n\
         offset.storage.file.filename={}\noffset.flush.interval.ms=200\nplugin.discovery=service_load\n\
         consumer.session.timeout.ms=6000\n",
        broker.kafka(),
        free_port(),
        place("offsets"),
    );
    let connector = |kind: &str, topic: &str, file: &str| {
        format!("name={kind}\nconnector.class=FileStream{kind}\ntasks.max=1\n{topic}=copied\nfile={}\n", place(file))
    };
    let files = [
        ("worker", worker),
        ("source", connector("Source", "topic", "in.txt")),
        ("sink", connector("Sink", "topics", "out.txt")),
    ];
    let written = files.map(|(name, text)| {
        let path = place(name);
        std::fs::write(&path, text).expect("the test's directory is writable");
        path
    });
    written.to_vec()
}
