//! A broker's tree of actors as it shows it, and panics where a test wants them (`capek.chaos=true`).

use std::time::Duration;

use serde_json::Value;

use super::broker::Broker;
use super::programs::{curl, output_of};
use super::wait_for;

pub const CHAOS: [&str; 3] = ["capek.chaos=true", "capek.restart.max=100000", "capek.restart.period.ms=1000"];

/// Panics it and waits until the next incarnation runs.
pub fn panic_and_wait(broker: &Broker, path: &str) {
    let before = restarts(broker, path);
    panic_path(broker, path);
    wait_for("the actor is restarted", Duration::from_secs(10), || (restarts(broker, path) > before).then_some(()));
}

pub fn panic_actor(broker: &Broker, name: &str) {
    panic_path(broker, path(&actor(broker, name)));
}

pub fn panic_path(broker: &Broker, path: &str) {
    let body = serde_json::json!({ "path": path }).to_string();
    output_of(curl(&["--fail-with-body", "--json", &body, &broker.http("/v1/chaos/panic")]));
}

pub fn restarts(broker: &Broker, name: &str) -> u64 {
    let actor = actor(broker, name);
    actor["restarts"].as_u64().unwrap_or_else(|| panic!("an actor tells its restarts: {actor}"))
}

/// It may be between two lives just now.
fn actor(broker: &Broker, name: &str) -> Value {
    wait_for(name, Duration::from_secs(10), || actors(broker).into_iter().find(|actor| path(actor).contains(name)))
}

/// Every actor of the tree, whether it comes as a list or nested.
pub fn actors(broker: &Broker) -> Vec<Value> {
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

pub fn path(actor: &Value) -> &str {
    actor["path"].as_str().expect("only objects with a path are collected")
}
