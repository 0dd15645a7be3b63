//! Our own configurations, which have no twin in Kafka.

use crate::config::definition::{ConfigDef, string};

#[rustfmt::skip] // a table, one definition after the other
pub(super) static CAPEK: &[ConfigDef] = &[
    string("capek.flush", "group", "The default of the topics' capek.flush.").cluster_wide().honoured(),
];
