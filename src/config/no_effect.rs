//! Names that Kafka 4.3 itself no longer has, or that only other distributions have: files and environments written for
//! them bring these along, and a warning for each would hide the ones that matter.

const NAMES: &[&str] = &[
    "advertised.host.name",
    "advertised.port",
    "broker.id.generation.enable",
    // Ours to set a cluster's id; Kafka formats the directory with it.
    "cluster.id",
    "control.plane.listener.name",
    "host.name",
    "log.message.format.version",
    "port",
    "reserved.broker.max.id",
];

const PREFIXES: &[&str] = &["confluent.", "listener.name.", "password.encoder.", "zookeeper."];

/// A name that is accepted without a word.
pub fn is_known(name: &str) -> bool {
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
