//! Supervision seen from outside: the tree of actors, and what clients notice when one of them panics.

use std::time::Duration;

use serde_json::Value;

use crate::crash::Load;
use crate::support::broker::Broker;
use crate::support::frames::{NO_SEQUENCE, batch};
use crate::support::programs::{curl, output_of};
use crate::support::wait_for;

const CHAOS: [&str; 3] = ["capek.chaos=true", "capek.restart.max=100000", "capek.restart.period.ms=1000"];
const PANICS: usize = 20;

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

fn panic_actor(broker: &Broker, name: &str) {
    panic_path(broker, path(&actor(broker, name)));
}

fn panic_path(broker: &Broker, path: &str) {
    let body = serde_json::json!({ "path": path }).to_string();
    output_of(curl(&["--fail-with-body", "--json", &body, &broker.http("/v1/chaos/panic")]));
}

fn restarts(broker: &Broker, name: &str) -> u64 {
    let actor = actor(broker, name);
    actor["restarts"].as_u64().unwrap_or_else(|| panic!("an actor tells its restarts: {actor}"))
}

/// It may be between two lives just now.
fn actor(broker: &Broker, name: &str) -> Value {
    wait_for(name, Duration::from_secs(10), || actors(broker).into_iter().find(|actor| path(actor).contains(name)))
}

/// Every actor of the tree, whether it comes as a list or nested.
fn actors(broker: &Broker) -> Vec<Value> {
    let answer = output_of(curl(&["--fail-with-body", &broker.http("/v1/actors?limit=1000")]));
    let mut found = Vec::new();
    collect(&serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer}")), &mut found);
    found
}

fn collect(value: &Value, found: &mut Vec<Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, found)),
        Value::Object(fields) => {
            if fields.get("path").is_some_and(Value::is_string) {
                found.push(value.clone());
            }
            fields.values().for_each(|field| collect(field, found));
        }
        _ => {}
    }
}

fn path(actor: &Value) -> &str {
    actor["path"].as_str().expect("only objects with a path are collected")
}
