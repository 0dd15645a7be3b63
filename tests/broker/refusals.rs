//! What must not start does not, and says in a sentence what to do.

use std::fs;

use crate::support::broker::Broker;

#[test]
fn a_data_directory_in_use_is_refused() {
    let broker = Broker::start();
    let mut second = Broker::start();
    second.terminate();
    second.data_dir = broker.data_dir.clone();
    check_refused(&second, &["in use", "another"]);
}

#[test]
fn a_data_directory_of_another_node_is_refused() {
    let mut broker = Broker::start();
    broker.terminate();
    broker.set_node_id(2);
    check_refused(&broker, &["node"]);
}

#[test]
fn a_data_directory_of_a_newer_version_is_refused() {
    let mut broker = Broker::start();
    broker.terminate();
    let path = broker.data_dir.join("meta.properties");
    let properties = fs::read_to_string(&path).expect("the broker wrote meta.properties");
    assert!(properties.contains("version=1"), "{properties}");
    fs::write(&path, properties.replace("version=1", "version=99")).expect("the directory is writable");
    check_refused(&broker, &["version"]);
}

#[test]
fn a_data_directory_that_does_not_say_whose_it_is_is_refused() {
    let mut broker = Broker::start();
    broker.terminate();
    fs::write(broker.data_dir.join("meta.properties"), "garbage").expect("the directory is writable");
    check_refused(&broker, &["meta.properties says no version"]);
    broker.data_dir = "/proc/nowhere".into();
    check_refused(&broker, &["the data directory /proc/nowhere cannot be opened"]);
}

#[test]
fn a_kafka_port_in_use_is_refused() {
    let broker = Broker::start();
    let mut second = Broker::start();
    second.terminate();
    second.kafka_port = broker.kafka_port;
    check_refused(&second, &[&broker.kafka_port.to_string(), "in use"]);
}

#[test]
fn an_http_port_in_use_is_refused() {
    let broker = Broker::start();
    let mut second = Broker::start();
    second.terminate();
    second.http_port = broker.http_port;
    check_refused(&second, &[&broker.http_port.to_string(), "in use"]);
}

#[test]
fn chaos_is_refused_beyond_loopback() {
    let mut broker = Broker::start();
    broker.terminate();
    broker.set(&["capek.chaos=true", "capek.insecure=true", "capek.http.listeners=http://0.0.0.0:0"]);
    let mut command = broker.command();
    let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
    // The HTTP address comes from the setting here.
    let kept = arguments
        .iter()
        .enumerate()
        .filter(|(index, argument)| *argument != "--http" && (*index == 0 || arguments[index - 1] != "--http"));
    let mut without_http = std::process::Command::new(command.get_program());
    without_http.args(kept.map(|(_, argument)| argument));
    command = without_http;
    let (status, output) = Broker::run_to_refusal(command);
    assert!(!status.success(), "{output}");
    assert!(output.to_lowercase().contains("chaos"), "{output}");
}

fn check_refused(broker: &Broker, words: &[&str]) {
    let (status, output) = Broker::run_to_refusal(broker.command());
    assert!(!status.success(), "it ended well?\n{output}");
    assert!(!output.contains("panicked"), "{output}");
    let lower = output.to_lowercase();
    assert!(words.iter().any(|word| lower.contains(word)), "none of {words:?} in:\n{output}");
}
