//! Kafka's own command-line tools, unchanged.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::{LATEST, NO_SEQUENCE, batch};
use crate::support::programs::{java, output_of};
use crate::support::wait_for;

const EARLIEST: i64 = -2;

#[test]
fn kafka_topics_creates_describes_changes_and_deletes() {
    let broker = Broker::start();
    let topics = |arguments: &[&str]| tool(&broker, "org.apache.kafka.tools.TopicCommand", arguments);
    topics(&["--create", "--topic", "managed", "--partitions", "3", "--config", "retention.ms=1234567"]);
    let described = topics(&["--describe", "--topic", "managed"]);
    for wanted in ["PartitionCount: 3", "ReplicationFactor: 1", "retention.ms=1234567", "Leader: 1"] {
        assert!(described.contains(wanted), "{wanted} in {described}");
    }
    topics(&["--alter", "--topic", "managed", "--partitions", "5"]);
    assert!(topics(&["--describe", "--topic", "managed"]).contains("PartitionCount: 5"));
    topics(&["--delete", "--topic", "managed"]);
    assert!(!topics(&["--list"]).contains("managed"));
}

#[test]
fn kafka_configs_sets_and_shows_a_topics_configuration() {
    let broker = Broker::start();
    broker.create_topic("configured", 1);
    let entity = ["--entity-type", "topics", "--entity-name", "configured"];
    let configs = |arguments: &[&str]| tool(&broker, "kafka.admin.ConfigCommand", &[&entity[..], arguments].concat());
    configs(&["--alter", "--add-config", "retention.ms=7654321,cleanup.policy=[delete]"]);
    assert!(configs(&["--describe"]).contains("retention.ms=7654321"));
    configs(&["--alter", "--delete-config", "retention.ms"]);
    assert!(!configs(&["--describe"]).contains("7654321"));
    assert!(configs(&["--describe", "--all"]).contains("retention.ms=604800000"));
}

#[test]
fn kafka_delete_records_and_get_offsets_move_and_see_the_log_start() {
    let broker = Broker::start();
    broker.create_topic("trimmed", 1);
    for _ in 0..10 {
        assert_eq!(broker.client().produce("trimmed", 0, &batch(&[b"x"], NO_SEQUENCE)).error, 0);
    }
    let request = broker.data_dir.with_file_name("delete.json");
    let body = r#"{"partitions":[{"topic":"trimmed","partition":0,"offset":4}],"version":1}"#;
    std::fs::write(&request, body).expect("the test's directory is writable");
    let request = request.to_str().expect("the path is ASCII");
    tool(&broker, "org.apache.kafka.tools.DeleteRecordsCommand", &["--offset-json-file", request]);
    assert_eq!(broker.client().list_offset("trimmed", 0, EARLIEST), (0, 4));
    let offsets = tool(&broker, "org.apache.kafka.tools.GetOffsetShell", &["--topic", "trimmed"]);
    assert!(offsets.contains("trimmed:0:10"), "{offsets}");
    assert!(tool(&broker, "org.apache.kafka.tools.LogDirsCommand", &["--describe"]).contains("trimmed-0"));
    let versions = tool(&broker, "org.apache.kafka.tools.BrokerApiVersionsCommand", &[]);
    assert!(versions.contains("Produce(0): 0 to 13"), "{versions}");
}

#[test]
fn old_segments_go_by_size_and_what_is_left_is_whole() {
    let broker = Broker::start_with(&["log.retention.check.interval.ms=200"]);
    let configs = [("segment.bytes", "1048576"), ("retention.bytes", "2097152"), ("file.delete.delay.ms", "0")];
    broker.create_topic_with("short-lived", 1, &configs);
    let value = vec![b'x'; 100 << 10];
    let mut client = broker.client();
    client.try_api_versions().expect("the first request of a connection is a small one");
    for _ in 0..80 {
        assert_eq!(client.produce("short-lived", 0, &batch(&[&value], NO_SEQUENCE)).error, 0);
    }
    let log_start = wait_for("old segments to go", Duration::from_secs(30), || {
        let (error, log_start) = client.list_offset("short-lived", 0, EARLIEST);
        assert_eq!(error, 0);
        (log_start >= 40).then_some(log_start)
    });
    assert_eq!(client.list_offset("short-lived", 0, LATEST), (0, 80));
    let (error, high_watermark, batches) = client.fetch("short-lived", 0, log_start);
    assert_eq!((error, high_watermark), (0, 80));
    assert!(!batches.is_empty());
    assert_eq!(client.fetch("short-lived", 0, 0).0, 1, "OFFSET_OUT_OF_RANGE below the log's start");
    wait_for("files to go", Duration::from_secs(30), || {
        let files = std::fs::read_dir(broker.data_dir.join("short-lived-0")).expect("the partition has a directory");
        (files.flatten().filter(|file| file.path().extension().is_some_and(|found| found == "log")).count() <= 4)
            .then_some(())
    });
}

fn tool(broker: &Broker, class: &str, arguments: &[&str]) -> String {
    output_of(java(class, &[&["--bootstrap-server", &broker.kafka()], arguments].concat()))
}
