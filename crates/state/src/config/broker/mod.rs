//! The configurations of a broker: Kafka's that we act upon or that tools read, and our own `capek.*`.

mod capek;

use super::definition::ConfigDef;

/// Each sorted by name.
pub(super) static SECTIONS: &[&[ConfigDef]] = &[capek::CAPEK];

/// Every configuration that a broker can have.
pub fn broker_configs() -> impl Iterator<Item = &'static ConfigDef> {
    SECTIONS.iter().copied().flatten()
}
