//! A disk that is full is an answer, not a failure; and what is on the disk is Kafka's own format.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::broker::{Broker, Directory};
use crate::support::frames::{Fields, LATEST, NO_SEQUENCE, batch, count_records};
use crate::support::programs::{curl, kcat, output_of, output_with_input, python};
use crate::support::small_disk::{SMALL_DISK_BYTES, SmallDisk};
use crate::support::tools::output_of_class;
use crate::support::wait_for;

const KAFKA_STORAGE_ERROR: i16 = 56;
/// Four journal files of this size leave most of the small disk to the segments.
const SMALL_JOURNAL: &str = "capek.journal.file.bytes=4194304";

/// Needs root: it mounts a small file system.
#[test]
fn a_full_disk_refuses_produce_serves_reads_and_recovers_when_there_is_room() {
    let directory = Directory::new();
    let disk = SmallDisk::mount(directory.path());
    let broker = Broker::start_in(directory, disk.path.join("data"), &[SMALL_JOURNAL]);
    broker.create_topic("filling", 1);
    let ballast = disk.path.join("ballast");
    fs::write(&ballast, vec![1; SMALL_DISK_BYTES as usize / 2]).expect("there is room for the ballast");

    let mut client = broker.client();
    client.try_api_versions().expect("the first request of a connection is a small one");
    let value = vec![b'x'; 500 << 10];
    let big = batch(&[&value], NO_SEQUENCE);
    let mut confirmed = 0;
    let refusal = loop {
        let produced = client.produce("filling", 0, &big);
        if produced.error != 0 {
            break produced.error;
        }
        assert_eq!(produced.base_offset, confirmed);
        confirmed += 1;
        assert!(confirmed < 200, "the disk never fills");
    };
    assert_eq!(refusal, KAFKA_STORAGE_ERROR);
    assert!(confirmed > 5, "only {confirmed} fitted");
    assert_eq!(client.fetch("filling", 0, confirmed - 1).0, 0, "reads go on");
    assert_eq!(client.list_offset("filling", 0, LATEST), (0, confirmed));

    fs::remove_file(&ballast).expect("the ballast can be removed");
    let produced = wait_for("produce works again", Duration::from_secs(30), || {
        let produced = client.produce("filling", 0, &batch(&[b"room"], NO_SEQUENCE));
        (produced.error == 0).then_some(produced)
    });
    assert_eq!(produced.base_offset, confirmed, "nothing was lost and nothing refused was kept");
    let (error, high_watermark, batches) = client.fetch("filling", 0, confirmed);
    assert_eq!((error, high_watermark, count_records(&batches)), (0, confirmed + 1, (1, confirmed + 1)));
}

/// Deleting is how an operator makes room: it must need none.
#[test]
fn records_that_are_deleted_on_a_full_disk_make_room() {
    const DELETE_RECORDS: i16 = 21;
    let directory = Directory::new();
    let disk = SmallDisk::mount(directory.path());
    let mut broker = Broker::start_in(directory, disk.path.join("data"), &[SMALL_JOURNAL]);
    broker.create_topic_with("filling", 1, &[("file.delete.delay.ms", "1000")]);
    let mut client = broker.client();
    client.try_api_versions().expect("the first request of a connection is a small one");
    let value = vec![b'x'; 500 << 10];
    let big = batch(&[&value], NO_SEQUENCE);
    let mut confirmed = 0;
    while client.produce("filling", 0, &big).error == 0 {
        confirmed += 1;
        assert!(confirmed < 200, "the disk never fills");
    }
    // Nothing is left of the last page either.
    while client.produce("filling", 0, &batch(&[&[b'x'; 512]], NO_SEQUENCE)).error == 0 {
        confirmed += 1;
    }
    let low_watermark =
        wait_for("the partition is there again after the last refusal", Duration::from_secs(10), || {
            let everything = Fields::default().i32(1).string("filling").i32(1).i32(0).i64(-1).i32(10_000);
            let mut answer = client.try_call(DELETE_RECORDS, 1, everything)?;
            let (_throttle_ms, _topics, _topic, _partitions) =
                (answer.i32(), answer.i32(), answer.string(), answer.i32());
            let (_partition, low_watermark, error) = (answer.i32(), answer.i64(), answer.i16());
            (error == 0).then_some(low_watermark)
        });
    assert_eq!(low_watermark, confirmed);
    let produced = wait_for("there is room again", Duration::from_secs(30), || {
        let produced = client.produce("filling", 0, &big);
        (produced.error == 0).then_some(produced)
    });
    assert_eq!(produced.base_offset, confirmed);
    assert!(broker.terminate().success(), "{}", broker.output());
    let output = broker.output();
    let told = output.matches("an append failed").count();
    assert!((1..5).contains(&told), "it is said once in a while: {told} times\n{output}");
}

/// Damage below what was confirmed is never cut off in silence: the partition is offline, and its clients are told why.
#[test]
fn a_partition_whose_log_is_damaged_is_a_storage_error_and_its_neighbour_serves() {
    let mut broker = Broker::start();
    broker.create_topic("damaged", 2);
    let mut client = broker.client();
    client.try_api_versions().expect("the first request of a connection is a small one");
    let large = batch(&[&vec![b'x'; 600 << 10]], NO_SEQUENCE);
    for partition in 0..2 {
        assert_eq!(client.produce("damaged", partition, &large).error, 0);
    }
    broker.kill();
    let log = &files(&broker.data_dir.join("damaged-0"), "log")[0];
    let mut bytes = fs::read(log).expect("the segment can be read");
    bytes[5000] ^= 1;
    fs::write(log, bytes).expect("the segment can be written");
    broker.start_again();

    let mut client = broker.client();
    let small = batch(&[b"more"], NO_SEQUENCE);
    assert_eq!(client.produce("damaged", 0, &small).error, KAFKA_STORAGE_ERROR);
    assert_eq!(client.fetch("damaged", 0, 0).0, KAFKA_STORAGE_ERROR);
    assert_eq!(client.list_offset("damaged", 0, LATEST).0, KAFKA_STORAGE_ERROR);
    assert_eq!(client.produce("damaged", 1, &small).base_offset, 1);
    let ready = output_of(curl(&[&broker.http("/readyz")]));
    assert!(ready.contains("1 partitions are offline"), "{ready}");
}

/// Several segments, all codecs, an idempotent producer: DumpLogSegments finds every batch and every index entry valid.
#[test]
fn kafka_dump_log_reads_a_directory_of_ours() {
    let mut broker = Broker::start();
    broker.create_topic_with("dumped", 1, &[("segment.bytes", "1048576"), ("index.interval.bytes", "4096")]);
    let value = "v".repeat(900);
    let lines: String = (0..4000).map(|index| format!("{index}-{value}\n")).collect();
    let arguments = ["-P", "-b", &broker.kafka(), "-t", "dumped", "-X", "batch.size=20000"];
    output_with_input(kcat(&arguments), &lines);
    for codec in ["gzip", "snappy", "lz4", "zstd"] {
        output_of(python("kafka_client.py", &["produce", &broker.kafka(), "dumped", "20", codec]));
    }
    broker.terminate();

    let partition = broker.data_dir.join("dumped-0");
    let logs = files(&partition, "log");
    assert!(logs.len() >= 4, "{logs:?}");
    let mut records = 0;
    for log in &logs {
        let dump = dump(log, &["--deep-iteration"]);
        assert!(!dump.contains("isvalid: false") && !dump.contains("Found"), "{dump}");
        records += dump.lines().filter(|line| line.starts_with("| offset:")).count();
    }
    assert_eq!(records, 4080);
    for index in files(&partition, "index").iter().chain(&files(&partition, "timeindex")) {
        let dump = dump(index, &["--verify-index-only"]);
        assert!(!dump.contains("Found") && !dump.to_lowercase().contains("mismatch"), "{dump}");
    }
    let indexed =
        files(&partition, "index").into_iter().filter(|index| fs::metadata(index).is_ok_and(|file| file.len() > 0));
    assert!(indexed.count() >= 3, "a segment that was rolled has an index");
    let snapshots = files(&partition, "snapshot");
    let last = snapshots.last().expect("a clean stop leaves a producer snapshot");
    assert!(dump(last, &[]).contains("producerId: "), "{}", dump(last, &[]));
}

fn dump(file: &Path, more: &[&str]) -> String {
    let file = file.to_str().expect("the path is ASCII");
    output_of_class("org.apache.kafka.tools.DumpLogSegments", &[&["--files", file], more].concat())
}

fn files(directory: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("the partition has a directory");
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    let mut files: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}
