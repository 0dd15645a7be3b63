//! Kafka's own command-line tools, unchanged.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::{LATEST, NO_SEQUENCE, batch};
use crate::support::tools::{Tools, rows};
use crate::support::wait_for;

const EARLIEST: i64 = -2;

#[test]
fn kafka_topics_creates_describes_changes_and_deletes() {
    let broker = Broker::start();
    let mut tools = Tools::start(&broker);
    let mut topics = |arguments: &[&str]| tools.ok("kafka-topics", arguments);
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
    let mut tools = Tools::start(&broker);
    let mut configs = |arguments: &[&str]| tools.ok("kafka-configs", &[&entity[..], arguments].concat());
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
    let mut tools = Tools::start(&broker);
    tools.ok("kafka-delete-records", &["--offset-json-file", request]);
    assert_eq!(broker.client().list_offset("trimmed", 0, EARLIEST), (0, 4));
    let offsets = tools.ok("kafka-get-offsets", &["--topic", "trimmed"]);
    assert!(offsets.contains("trimmed:0:10"), "{offsets}");
    assert!(tools.ok("kafka-log-dirs", &["--describe"]).contains("trimmed-0"));
    let versions = tools.ok("kafka-broker-api-versions", &[]);
    assert!(versions.contains("Produce(0): 0 to 13"), "{versions}");
}

/// The records of an introduction: typed with keys, read from the beginning, each key in one partition and in order.
#[test]
fn the_console_tools_write_with_keys_and_a_group_reads_from_the_beginning_once() {
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0"]);
    let mut tools = Tools::start(&broker);
    tools.ok("kafka-topics", &["--create", "--topic", "typed", "--partitions", "3"]);
    let input: String = (0..20).map(|index| format!("key-{}:value-{index}\n", index % 5)).collect();
    let with_keys = ["--topic", "typed", "--property", "parse.key=true", "--property", "key.separator=:"];
    tools.ok_with_input("kafka-console-producer", &with_keys, &input);

    let reading = ["--topic", "typed", "--group", "readers", "--from-beginning", "--property", "print.key=true"];
    let until = |more: &[&'static str]| [&reading[..], more].concat();
    let read = tools.ok("kafka-console-consumer", &until(&["--max-messages", "20", "--timeout-ms", "30000"]));
    for key in 0..5 {
        let values: Vec<_> = rows(&read, &[&format!("key-{key}")]).into_iter().map(|mut row| row.remove(1)).collect();
        assert_eq!(values, (0..4).map(|round| format!("value-{}", round * 5 + key)).collect::<Vec<_>>(), "{read}");
    }
    // The group goes on where it stopped.
    tools.ok_with_input("kafka-console-producer", &with_keys, "key-9:later\n");
    let read = tools.ok("kafka-console-consumer", &until(&["--max-messages", "1", "--timeout-ms", "30000"]));
    assert_eq!(rows(&read, &["key-9"]), [["key-9", "later"]], "{read}");
}

#[test]
fn kafka_consumer_groups_describes_resets_and_deletes() {
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0"]);
    let mut tools = Tools::start(&broker);
    broker.create_topic("watched", 3);
    let input: String = (0..30).map(|index| format!("key-{index}:value-{index}\n")).collect();
    let with_keys = ["--topic", "watched", "--property", "parse.key=true", "--property", "key.separator=:"];
    tools.ok_with_input("kafka-console-producer", &with_keys, &input);
    let all = ["--max-messages", "30", "--timeout-ms", "30000"];
    let reading = [&["--topic", "watched", "--group", "readers", "--from-beginning"], &all[..]].concat();
    tools.ok("kafka-console-consumer", &reading);
    let ends: Vec<i64> = (0..3).map(|partition| broker.client().list_offset("watched", partition, LATEST).1).collect();
    assert_eq!(ends.iter().sum::<i64>(), 30);

    let mut groups = |arguments: &[&str]| tools.ok("kafka-consumer-groups", arguments);
    assert!(groups(&["--list"]).lines().any(|line| line == "readers"));
    assert_eq!(rows(&groups(&["--list", "--state"]), &["readers"]), [["readers", "Empty"]]);
    let state = groups(&["--describe", "--group", "readers", "--state"]);
    assert!(rows(&state, &["readers"])[0].ends_with(&["Empty".to_owned(), "0".to_owned()]), "{state}");
    assert_eq!(positions(&groups(&["--describe", "--group", "readers"])), ends);

    let mut reset = |arguments: &[&str]| groups(&[&["--reset-offsets", "--group", "readers"], arguments].concat());
    let plan = reset(&["--topic", "watched", "--to-earliest", "--dry-run"]);
    assert_eq!(rows(&plan, &["readers", "watched"]).len(), 3, "{plan}");
    assert_eq!(positions(&groups(&["--describe", "--group", "readers"])), ends, "a dry run changes nothing");
    let mut reset = |arguments: &[&str]| groups(&[&["--reset-offsets", "--group", "readers"], arguments].concat());
    reset(&["--topic", "watched:0", "--to-earliest", "--execute"]);
    reset(&["--topic", "watched:1", "--shift-by", "-2", "--execute"]);
    reset(&["--topic", "watched:2", "--to-datetime", "2000-01-01T00:00:00.000", "--execute"]);
    assert_eq!(positions(&groups(&["--describe", "--group", "readers"])), [0, ends[1] - 2, 0]);

    groups(&["--delete-offsets", "--group", "readers", "--topic", "watched:0"]);
    assert_eq!(positions(&groups(&["--describe", "--group", "readers"])), [ends[1] - 2, 0]);
    groups(&["--delete", "--group", "readers"]);
    assert!(!groups(&["--list"]).contains("readers"));
    assert!(groups(&["--describe", "--group", "readers"]).contains("GroupIdNotFoundException"));
    assert!(groups(&["--delete", "--group", "readers"]).contains("GroupIdNotFoundException"));
}

/// CURRENT-OFFSET of each partition that has one; the other columns must fit.
fn positions(described: &str) -> Vec<i64> {
    let rows = rows(described, &["readers", "watched"]);
    rows.iter()
        .map(|row| {
            let number = |column: usize| row[column].parse::<i64>().unwrap_or_else(|_| panic!("{described}"));
            assert_eq!(number(4) - number(3), number(5), "the lag is what is left\n{described}");
            number(3)
        })
        .collect()
}

#[test]
fn the_performance_tools_write_and_read_every_record() {
    let broker = Broker::start_with(&["group.initial.rebalance.delay.ms=0"]);
    broker.create_topic("measured", 3);
    let mut tools = Tools::start(&broker);
    let size = ["--topic", "measured", "--num-records", "20000"];
    let producing = [&size[..], &["--record-size", "200", "--throughput", "-1"]].concat();
    let sent = tools.ok("kafka-producer-perf-test", &producing);
    assert!(sent.contains("20000 records sent"), "{sent}");
    let read = tools.ok("kafka-consumer-perf-test", &[&size[..], &["--timeout", "30000"]].concat());
    let figures: Vec<&str> = read.lines().nth(1).expect("figures stand below their names").split(", ").collect();
    assert_eq!(figures[4], "20000", "{read}");
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
