//! The configurations of a broker: Kafka 4.3's that we act upon or that tools and existing files name, and our own
//! `capek.*`. Names, types, bounds and defaults are Kafka's unless `differs` says why not.

mod capek;
mod cluster;
mod groups;
mod log;
mod network;
mod remote;
mod sasl_client;
mod security;
mod throttles;
mod transactions;

use super::definition::ConfigDef;

pub use cluster::RACK_AWARE_SELECTOR;
pub(super) use throttles::THROTTLES;

/// Each sorted by name.
pub(super) static SECTIONS: &[&[ConfigDef]] = &[
    capek::CAPEK,
    cluster::CLUSTER,
    groups::GROUPS,
    log::LOG,
    network::NETWORK,
    remote::REMOTE,
    sasl_client::SASL_CLIENT,
    security::SECURITY,
    transactions::TRANSACTIONS,
];

const CAPPED_REASON: &str =
    "capped at the number of brokers, with a warning; one that a request asks for and cannot have is refused";

/// Every configuration that a broker can have.
pub fn broker_configs() -> impl Iterator<Item = &'static ConfigDef> {
    SECTIONS.iter().copied().flatten()
}
