//! SIGTERM: what waits is answered, everything is synced, the clean mark is left, and the next start replays nothing.

use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::frames::{LATEST, NO_SEQUENCE, batch};

const CLEAN_MARK: &str = ".kafka_cleanshutdown";
/// What a start says that was not preceded by a clean stop.
const REPLAYED: &str = "journal entries replayed";

#[test]
fn sigterm_leaves_the_clean_mark_and_the_next_start_replays_nothing() {
    let mut broker = Broker::start();
    broker.create_topic("kept", 3);
    let mut client = broker.client();
    for partition in 0..3 {
        for offset in 0..100 {
            assert_eq!(client.produce("kept", partition, &batch(&[b"value"], NO_SEQUENCE)).base_offset, offset);
        }
    }
    assert!(!broker.data_dir.join(CLEAN_MARK).exists(), "the mark is only there while nothing runs");
    assert!(broker.terminate().success(), "{}", broker.output());
    assert!(broker.data_dir.join(CLEAN_MARK).exists());

    let lines_before = broker.output().lines().count();
    broker.start_again();
    assert!(!broker.data_dir.join(CLEAN_MARK).exists(), "a running broker has removed the mark");
    let output = broker.output();
    let replaying = output.lines().skip(lines_before).find(|line| line.contains(REPLAYED));
    assert_eq!(replaying, None);
    for partition in 0..3 {
        assert_eq!(broker.client().list_offset("kept", partition, LATEST), (0, 100));
    }
}

#[test]
fn a_killed_broker_leaves_no_clean_mark_and_loses_nothing() {
    let mut broker = Broker::start();
    broker.create_topic("kept", 1);
    for offset in 0..100 {
        assert_eq!(broker.client().produce("kept", 0, &batch(&[b"value"], NO_SEQUENCE)).base_offset, offset);
    }
    broker.kill();
    assert!(!broker.data_dir.join(CLEAN_MARK).exists());
    broker.start_again();
    assert!(broker.output().contains(REPLAYED), "{}", broker.output());
    assert_eq!(broker.client().list_offset("kept", 0, LATEST), (0, 100));
    assert_eq!(broker.client().produce("kept", 0, &batch(&[b"value"], NO_SEQUENCE)).base_offset, 100);
}

/// A consumer that waits with a long poll does not hold up the stop.
#[test]
fn sigterm_does_not_wait_for_long_polls() {
    let mut broker = Broker::start();
    broker.create_topic("quiet", 1);
    let mut consumer = broker.client();
    consumer.send(crate::support::frames::FETCH, 4, crate::support::frames::fetch_body("quiet", 0, 0, 30_000));
    std::thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    assert!(broker.terminate().success(), "{}", broker.output());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

#[test]
fn topics_and_their_configuration_are_there_after_a_restart() {
    let mut broker = Broker::start();
    broker.create_topic_with("configured", 5, &[("retention.ms", "1234567")]);
    broker.kill();
    broker.start_again();
    let listing = crate::support::programs::output_of(crate::support::programs::kcat(&["-L", "-b", &broker.kafka()]));
    assert!(listing.contains("topic \"configured\" with 5 partitions:"), "{listing}");
}
