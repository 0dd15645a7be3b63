//! `/openapi.json` in the hands of Schemathesis: whatever the document allows, and what it does not, is answered without a
//! server error.

use crate::support::broker::{Broker, Directory};
use crate::support::programs::{output_of, schemathesis};
use crate::support::rest::{V2, call};

/// Streams have no end, and what hurts actors is not for everyone.
const NOT_THESE: &str = "/(ws|sse)$|/v1/chaos";

/// Names of all kinds: what is asked for is mostly not there.
#[test]
fn no_request_to_unknown_places_is_a_server_error() {
    let broker = Broker::start();
    broker.wait_for_http();
    check(&broker, "");
}

/// A topic, a group and a consumer instance that are there: requests come to what is behind the names.
#[test]
fn no_request_to_known_places_is_a_server_error() {
    let broker = Broker::start();
    broker.create_topic("orders", 1);
    broker.wait_for_http();
    call("POST", &broker.http("/v1/topics/orders"), &[], "x").expect(200);
    let instance = r#"{"name":"one","format":"binary","auto.offset.reset":"earliest"}"#;
    call("POST", &broker.http("/consumers/readers"), &[V2], instance).expect(200);
    let clusters = broker.get("/v3/clusters").expect(200);
    let cluster = clusters["data"][0]["cluster_id"].as_str().expect("it has an id");
    let cluster = format!("\"{cluster}\"");
    let known = [
        ("topic", "\"orders\""),
        ("cluster_id", cluster.as_str()),
        ("partition", "0"),
        ("broker_id", "1"),
        ("group", "\"readers\""),
        ("instance", "\"one\""),
    ];
    let lines: String = known.iter().map(|(name, value)| format!("\"path.{name}\" = {value}\n")).collect();
    check(&broker, &format!("[parameters]\n{lines}"));
}

fn check(broker: &Broker, config: &str) {
    let directory = Directory::new();
    let file = directory.path().join("schemathesis.toml");
    std::fs::write(&file, config).expect("the directory is there");
    let document = broker.http("/openapi.json");
    let mut command = schemathesis(&["--config-file", file.to_str().expect("ASCII"), "run", &document]);
    command.args(["--checks", "not_a_server_error", "--phases", "coverage,fuzzing", "--mode", "all"]);
    command.args(["--max-time", "30", "--max-examples", "10", "--request-timeout", "60"]);
    command.arg("--generation-deterministic");
    command.args(["--exclude-path-regex", NOT_THESE, "--suppress-health-check", "all", "--no-shrink"]);
    command.args(["--continue-on-failure", "--warnings", "off", "--no-color"]).current_dir(directory.path());
    let report = output_of(command);
    assert!(report.contains("Coverage") && report.contains(" passed"), "{report}");
}
