//! The configurations of a client metrics subscription (KIP-714). As on a Kafka without a metrics plug-in they are kept and
//! described, and no client is asked for metrics. Sorted by name.

use super::definition::{ConfigDef, int, list};
use super::list::list_values;

/// Every configuration that a subscription can have, by name.
pub fn client_metrics_configs() -> &'static [ConfigDef] {
    CLIENT_METRICS
}

#[rustfmt::skip] // a table, one definition after the other
static CLIENT_METRICS: &[ConfigDef] = &[
    int("interval.ms", "300000", "How often a client reports.").cluster_wide(),
    list("match", "", "Which clients report: `key=pattern` pairs, comma-separated; nothing is all.").cluster_wide(),
    list("metrics", "", "The prefixes of the metrics that they report; `*` is all.").cluster_wide(),
];

pub(crate) const INTERVAL_MS_MIN: i64 = 100;
pub(crate) const INTERVAL_MS_MAX: i64 = 3_600_000;

const MATCH_KEYS: [&str; 6] = [
    "client_id",
    "client_instance_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// The first member that is no `key=pattern` with a known key.
pub(crate) fn illegal_match(value: &str) -> Option<&str> {
    let is_legal = |member: &&str| {
        let pair = member.split_once('=');
        pair.is_some_and(|(key, pattern)| MATCH_KEYS.contains(&key.trim()) && !pattern.trim().is_empty())
    };
    list_values(value).into_iter().find(|member| !is_legal(member))
}
