//! Logs that a broker finds damaged when it starts, or that are not its own any more.

use std::fs;
use std::path::{Path, PathBuf};

use crate::cluster::{Cluster, HEALED_WITHIN, PartitionView};
use crate::support::frames::{Fields, NO_SEQUENCE, batch};
use crate::support::wait_for;

const DELETE_TOPICS: i16 = 20;
/// So large that it goes past the journal: what is damaged in the segment is not there a second time.
const LARGE_BYTES: usize = 600 << 10;

#[test]
fn a_damaged_replica_is_fetched_from_its_leader_again() {
    let mut cluster = Cluster::start();
    cluster.create_topic("mended", 1);
    let mut next = 0;
    for round in 1..=2 {
        next = produce(&cluster, "mended", next);
        let damaged = cluster.leader("mended", 0);
        // First one of three, then all: who leads next must have everything.
        let killed = if round == 1 { vec![damaged] } else { cluster.ids() };
        killed.iter().for_each(|id| cluster.kill(*id));
        flip_a_bit(&cluster.broker(damaged).data_dir.join("mended-0"));
        if round == 1 {
            cluster.leader_but("mended", 0, &[damaged]);
            next = produce(&cluster, "mended", next);
        }
        cluster.start_all();
        next = produce(&cluster, "mended", next);
        cluster.wait_until_in_sync("mended", 1);
        let output = cluster.broker(damaged).output();
        assert!(output.contains("mended-0 is damaged"), "it was never damaged: that shows nothing\n{output}");
        assert!(!strays(&cluster, damaged, "mended-0").is_empty(), "what was damaged is kept for a while");
    }
    cluster.stop_and_compare_replicas("mended", 1);
}

#[test]
fn a_damaged_log_that_is_the_only_one_stays_as_it_is() {
    let mut cluster = Cluster::start();
    cluster.create_topic_at(1, "only", (2, 1), &[]);
    let holder = cluster.leader("only", 0);
    produce(&cluster, "only", 0);
    cluster.kill(holder);
    let directory = cluster.broker(holder).data_dir.join("only-0");
    let damaged = flip_a_bit(&directory);
    cluster.start_again(holder);
    wait_for("nobody leads it", HEALED_WITHIN, || {
        let nobody = PartitionView { leader: -1, replicas: vec![holder], ..PartitionView::default() };
        let partition = cluster.view("only")?.partitions.remove(&0)?;
        (PartitionView { in_sync: Vec::new(), ..partition } == nobody).then_some(())
    });
    let record = batch(&[b"more"], NO_SEQUENCE);
    assert_ne!(cluster.client(holder).produce("only", 0, &record).error, 0, "what is missing is not passed over");
    let segment = segment(&directory);
    assert!(fs::read(segment).expect("it is there") == damaged, "not a byte of it is touched");
    assert_eq!(strays(&cluster, holder, "only-0").len(), 0);
    let neighbour = cluster.leader("only", 1);
    assert_eq!(cluster.client(neighbour).produce("only", 1, &record).error, 0);
}

#[test]
fn a_log_whose_topic_was_deleted_while_its_broker_was_away_is_set_aside_and_no_other() {
    let mut cluster = Cluster::start();
    cluster.create_topic("gone", 1);
    cluster.create_topic("kept", 1);
    produce(&cluster, "gone", 0);
    produce(&cluster, "kept", 0);
    let away = cluster.others(&[cluster.controller()])[0];
    cluster.kill(away);
    let other = cluster.others(&[away])[0];
    wait_for("the topic is deleted", HEALED_WITHIN, || {
        let body = Fields::default().i32(1).string("gone").i32(10_000);
        let mut answer = cluster.client(other).call(DELETE_TOPICS, 1, body);
        let (_throttle_ms, _topics, _name) = (answer.i32(), answer.i32(), answer.string());
        (answer.i16() == 0).then_some(())
    });
    cluster.start_again(away);
    cluster.wait_until_in_sync("kept", 1);
    assert!(!cluster.broker(away).data_dir.join("gone-0").exists());
    assert_eq!((strays(&cluster, away, "gone-0").len(), strays(&cluster, away, "kept-0").len()), (1, 0));
    cluster.stop_and_compare_replicas("kept", 1);
}

/// A large batch and a small one, which are confirmed by all that are in sync; gives the next offset. With the second the
/// journal says that the first is on the disk: before that, damage cannot be told from a write that was cut short.
fn produce(cluster: &Cluster, topic: &str, mut next: i64) -> i64 {
    for bytes in [LARGE_BYTES, 1] {
        let value = batch(&[&vec![b'x'; bytes]], NO_SEQUENCE);
        let produced = wait_for("a record is taken", HEALED_WITHIN, || {
            let mut client = cluster.client(cluster.leader(topic, 0));
            client.try_api_versions()?;
            let produced = client.produce(topic, 0, &value);
            (produced.error == 0).then_some(produced)
        });
        assert_eq!(produced.base_offset, next, "nothing that was confirmed is gone");
        next += 1;
    }
    next
}

fn segment(directory: &Path) -> PathBuf {
    directory.join("00000000000000000000.log")
}

/// In the first batch of the log; gives its bytes from then on.
fn flip_a_bit(directory: &Path) -> Vec<u8> {
    let segment = segment(directory);
    let mut bytes = fs::read(&segment).expect("the segment can be read");
    bytes[5000] ^= 1;
    fs::write(&segment, &bytes).expect("the segment can be written");
    bytes
}

/// Directories of this partition that were set aside.
fn strays(cluster: &Cluster, id: i32, partition: &str) -> Vec<String> {
    let entries = fs::read_dir(&cluster.broker(id).data_dir).expect("the broker has a data directory");
    let names = entries.map(|entry| entry.expect("it can be listed").file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with(&format!("{partition}.")) && name.ends_with("-stray")).collect()
}
