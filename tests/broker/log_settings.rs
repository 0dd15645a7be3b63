//! What topics and brokers may say of their logs, seen by real clients.

use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::LATEST;
use crate::support::programs::{kcat, output_of, output_with_input, python, run};
use crate::support::tools::output_of_class;
use crate::support::wait_for;

const EARLIEST: i64 = -2;
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// `compression.type` other than `producer`: whatever comes, one codec is stored, and every client reads it.
#[test]
fn a_topic_with_a_codec_of_its_own_stores_every_batch_in_it() {
    let mut broker = Broker::start();
    for stored in ["uncompressed", "gzip", "snappy", "lz4", "zstd"] {
        let topic = format!("as-{stored}");
        let level = [("compression.type", stored), ("compression.gzip.level", "9"), ("compression.zstd.level", "10")];
        broker.create_topic_with(&topic, 1, &level);
        for codec in CODECS {
            let lines: String = (0..20).map(|index| format!("{codec}-{index}:{}\n", "value ".repeat(50))).collect();
            output_with_input(kcat(&["-P", "-b", &broker.kafka(), "-t", &topic, "-K", ":", "-z", codec]), &lines);
        }
        output_of(python("kafka_client.py", &["produce", &broker.kafka(), &topic, "20", "lz4"]));
        let read = output_of(kcat(&[
            "-C",
            "-b",
            &broker.kafka(),
            "-t",
            &topic,
            "-e",
            "-q",
            "-f",
            "%k %S\\n",
            "-o",
            "beginning",
        ]));
        assert_eq!(read.lines().count(), 120);
        for codec in CODECS {
            assert_eq!(read.lines().filter(|line| line.starts_with(&format!("{codec}-"))).count(), 20, "{codec}");
        }
        let drained = output_of(python("kafka_client.py", &["drain", &broker.kafka(), &topic]));
        assert_eq!(drained.lines().count(), 120);
    }
    broker.terminate();
    for (stored, named) in
        [("uncompressed", "none"), ("gzip", "gzip"), ("snappy", "snappy"), ("lz4", "lz4"), ("zstd", "zstd")]
    {
        let log = broker.data_dir.join(format!("as-{stored}-0/00000000000000000000.log"));
        let arguments = ["--files", log.to_str().expect("ASCII"), "--deep-iteration"];
        let dump = output_of_class("org.apache.kafka.tools.DumpLogSegments", &arguments);
        let batches: Vec<&str> = dump.lines().filter(|line| line.starts_with("baseOffset:")).collect();
        assert!(batches.len() >= 6, "{dump}");
        for batch in batches {
            assert!(batch.contains(&format!("compresscodec: {named} ")) && batch.contains("isvalid: true"), "{batch}");
        }
    }
}

/// Both policies at once: the last value of each key, and no more than so many bytes.
#[test]
fn a_topic_that_is_compacted_and_deleted_loses_old_segments_by_size() {
    let broker = Broker::start_with(&["log.retention.check.interval.ms=100", "log.cleaner.backoff.ms=100"]);
    let configs = [
        ("cleanup.policy", "compact,delete"),
        ("segment.bytes", "1048576"),
        ("retention.bytes", "2097152"),
        ("min.cleanable.dirty.ratio", "0.01"),
    ];
    broker.create_topic_with("both", 1, &configs);
    // Keys that do not repeat: compaction alone would keep them all.
    fill(&broker, "both", 6000);
    let mut client = broker.client();
    let earliest = wait_for("the log start moves", Duration::from_secs(30), || {
        let (error, offset) = client.list_offset("both", 0, EARLIEST);
        (error == 0 && offset > 2000).then_some(offset)
    });
    let read =
        output_of(kcat(&["-C", "-b", &broker.kafka(), "-t", "both", "-e", "-q", "-f", "%o\\n", "-o", "beginning"]));
    // More may have gone since; what is left is left without a gap.
    let read: Vec<i64> = read.lines().map(|offset| offset.parse().expect("an offset")).collect();
    assert!(read[0] >= earliest, "{} came back after {earliest}", read[0]);
    assert_eq!(read, (read[0]..6000).collect::<Vec<_>>());
}

/// The broker's milliseconds come before its minutes, and these before its hours.
#[test]
fn retention_falls_back_on_the_brokers_nearest_setting() {
    let settings = [
        "log.retention.check.interval.ms=100",
        "log.retention.hours=1",
        "log.retention.minutes=2",
        "log.retention.ms=1500",
        "log.segment.bytes=1048576",
    ];
    let broker = Broker::start_with(&settings);
    broker.create_topic("by-the-broker", 1);
    broker.create_topic_with("its-own", 1, &[("retention.ms", "3600000")]);
    for topic in ["by-the-broker", "its-own"] {
        fill(&broker, topic, 3000);
    }
    let mut client = broker.client();
    wait_for("everything is too old", Duration::from_secs(30), || {
        (client.list_offset("by-the-broker", 0, EARLIEST) == (0, 3000)).then_some(())
    });
    assert_eq!(client.list_offset("its-own", 0, EARLIEST), (0, 0));
    assert_eq!(client.list_offset("its-own", 0, LATEST), (0, 3000));
}

/// The Python client stamps its records in the year 2023.
#[test]
fn records_that_are_too_old_for_their_topic_are_refused() {
    let broker = Broker::start();
    broker.create_topic_with("fresh", 1, &[("message.timestamp.before.max.ms", "60000")]);
    let old = ["produce", &broker.kafka(), "fresh", "3", "gzip"];
    let (status, _, stderr) = run(python("kafka_client.py", &old), "");
    // librdkafka says INVALID_RECORD of each record that the broker names in its answer.
    assert!(!status.success() && stderr.contains("not delivered: INVALID_RECORD"), "{stderr}");
    output_with_input(kcat(&["-P", "-b", &broker.kafka(), "-t", "fresh", "-z", "gzip"]), "of today\n");
    assert_eq!(broker.client().list_offset("fresh", 0, LATEST), (0, 1));
}

/// About a kilobyte each, with keys that count.
fn fill(broker: &Broker, topic: &str, count: usize) {
    let lines: String = (0..count).map(|index| format!("{index}:{}\n", "v".repeat(1000))).collect();
    let arguments = ["-P", "-b", &broker.kafka(), "-t", topic, "-K", ":", "-X", "batch.size=50000"];
    output_with_input(kcat(&arguments), &lines);
}
