//! Supervision seen from outside: the tree of actors, and what clients notice when one of them panics.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::crash::Load;
use crate::support::broker::Broker;
use crate::support::chaos::{CHAOS, actors, panic_actor, panic_and_wait, panic_path, path, restarts};
use crate::support::frames::{NO_SEQUENCE, RawClient, batch};
use crate::support::programs::{curl, output_of};
use crate::support::wait_for;

const PANICS: usize = 20;
const REQUEST_TIMED_OUT: i16 = 7;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const EARLIEST: i64 = -2;

#[test]
fn the_tree_of_actors_shows_each_partition_and_connection() {
    let broker = Broker::start();
    broker.create_topic("seen", 2);
    let _client = broker.client();
    let actors = actors(&broker);
    for wanted in ["broker/controller", "partition:seen-0", "partition:seen-1", "journal", "listener", "connection"] {
        assert!(actors.iter().any(|actor| path(actor).to_lowercase().contains(wanted)), "{wanted} in {actors:#?}");
    }
}

#[test]
fn chaos_is_off_by_default() {
    let broker = Broker::start();
    broker.create_topic("safe", 1);
    let status = output_of(curl(&[
        "--output",
        "/dev/null",
        "--write-out",
        "%{http_code}",
        "--json",
        r#"{"path":"broker/replica-manager/partition:safe-0"}"#,
        &broker.http("/v1/chaos/panic"),
    ]));
    assert!(["403", "404"].contains(&status.as_str()), "{status}");
    assert_eq!(broker.client().produce("safe", 0, &batch(&[b"fine"], NO_SEQUENCE)).error, 0);
}

/// The soak of the same is CAPEK_TEST_PANICS=1000.
#[test]
fn a_partition_that_panics_under_load_restarts_and_loses_nothing() {
    let mut broker = Broker::start_with(&CHAOS);
    broker.create_topic("panicking", 4);
    let load = Load::start(&broker, "panicking");
    let panics = std::env::var("CAPEK_TEST_PANICS").map_or(PANICS, |count| count.parse().expect("a number of panics"));
    for round in 0..panics {
        load.wait_for_progress();
        let name = format!("partition:panicking-{}", round % 4);
        let before = restarts(&broker, &name);
        panic_actor(&broker, &name);
        wait_for("the partition is restarted", Duration::from_secs(10), || {
            (restarts(&broker, &name) > before).then_some(())
        });
    }
    load.wait_for_progress();
    assert!(broker.is_running());
    load.stop_and_check(&broker);
}

/// A connection is temporary: its client reconnects, nobody else notices.
#[test]
fn a_connection_that_panics_takes_only_its_own_client_along() {
    let broker = Broker::start_with(&CHAOS);
    broker.create_topic("others", 1);
    let mut victim = broker.client();
    assert_eq!(victim.produce("others", 0, &batch(&[b"before"], NO_SEQUENCE)).base_offset, 0);
    let only = actors(&broker).into_iter().find(|actor| path(actor).contains("connection")).expect("one is connected");
    let mut other = broker.client();
    assert_eq!(other.produce("others", 0, &batch(&[b"other"], NO_SEQUENCE)).base_offset, 1);
    panic_path(&broker, path(&only));
    assert!(victim.is_closed_within(Duration::from_secs(10)));
    assert_eq!(other.produce("others", 0, &batch(&[b"after"], NO_SEQUENCE)).base_offset, 2);
}

/// What was committed is in the metadata log: the next controller reads it.
#[test]
fn a_controller_that_panics_comes_back_with_all_its_topics() {
    let mut broker = Broker::start_with(&CHAOS);
    for round in 0..5 {
        assert_eq!(broker.client().create_topic(&format!("before-{round}"), 2, &[]), 0);
        panic_and_wait(&broker, "broker/controller");
        let topic = format!("before-{round}");
        assert_eq!(broker.client().create_topic(&topic, 2, &[]), TOPIC_ALREADY_EXISTS, "it knows {topic}");
        assert_eq!(broker.client().produce(&topic, 1, &batch(&[b"x"], NO_SEQUENCE)).error, 0);
    }
    let ids: Vec<i64> = (0..3)
        .map(|_| {
            panic_and_wait(&broker, "broker/controller");
            broker.client().init_producer_id().0
        })
        .collect();
    assert!(ids.is_sorted() && ids[0] != ids[2], "{ids:?}");
    broker.kill();
    broker.start_again();
    assert_eq!(broker.client().create_topic("before-4", 2, &[]), TOPIC_ALREADY_EXISTS);
}

/// What the dead publisher had not told anybody is told by the next.
#[test]
fn topics_made_while_the_publisher_panics_get_their_leaders() {
    let broker = Broker::start_with(&CHAOS);
    let stop = AtomicBool::new(false);
    let created = std::thread::scope(|scope| {
        let creator = scope.spawn(|| {
            let mut created = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let topic = format!("topic-{}", created.len());
                let error = broker.client().create_topic(&topic, 1, &[]);
                assert!([0, REQUEST_TIMED_OUT, TOPIC_ALREADY_EXISTS].contains(&error), "{topic}: {error}");
                created.push(topic);
            }
            created
        });
        for _ in 0..5 {
            panic_and_wait(&broker, "broker/metadata-publisher");
        }
        stop.store(true, Ordering::Relaxed);
        creator.join().expect("the creator ends well")
    });
    assert!(created.len() > 5, "{created:?}");
    for topic in created {
        wait_for("the topic has a leader", Duration::from_secs(10), || {
            (broker.client().produce(&topic, 0, &batch(&[b"x"], NO_SEQUENCE)).error == 0).then_some(())
        });
    }
}

#[test]
fn a_listener_that_panics_drops_its_clients_and_serves_the_next() {
    let broker = Broker::start_with(&[&CHAOS[..], &["max.connections=3"]].concat());
    broker.create_topic("served", 1);
    for round in 0..5 {
        let mut clients: Vec<_> = (0..3).map(|_| connected(&broker)).collect();
        panic_and_wait(&broker, "broker/listener:PLAINTEXT");
        for client in &mut clients {
            assert!(client.is_closed_within(Duration::from_secs(10)), "its connections end with it");
        }
        let produced = connected(&broker).produce("served", 0, &batch(&[b"x"], NO_SEQUENCE));
        assert_eq!((produced.error, produced.base_offset), (0, round));
    }
}

/// Connections that have gone may still be counted for a moment.
fn connected(broker: &Broker) -> RawClient {
    wait_for("a connection that is served", Duration::from_secs(10), || {
        let mut client = RawClient::try_connect(&broker.kafka())?;
        client.try_api_versions().map(|()| client)
    })
}

#[test]
fn retention_that_panics_goes_on() {
    let broker = Broker::start_with(&[&CHAOS[..], &["log.retention.check.interval.ms=200"]].concat());
    panic_and_wait(&broker, "broker/retention");
    broker.create_topic_with("short", 1, &[("retention.ms", "1000"), ("segment.ms", "500")]);
    assert_eq!(broker.client().produce("short", 0, &batch(&[b"old"], NO_SEQUENCE)).error, 0);
    wait_for("the old record to go", Duration::from_secs(20), || {
        (broker.client().list_offset("short", 0, EARLIEST) == (0, 1)).then_some(())
    });
}

/// Somebody else starts it again, on a clean slate.
#[test]
fn a_broker_whose_controller_has_spent_its_restarts_ends() {
    let mut broker = Broker::start_with(&["capek.chaos=true", "capek.restart.max=2", "capek.restart.period.ms=60000"]);
    for _ in 0..2 {
        panic_and_wait(&broker, "broker/controller");
    }
    assert!(broker.is_running());
    panic_path(&broker, "broker/controller");
    wait_for("the broker to end", Duration::from_secs(20), || (!broker.is_running()).then_some(()));
    assert!(broker.output().contains("Controller has spent its restarts (capek.restart.max)"), "{}", broker.output());
}
