//! Configurations that only a tool sets, while the broker runs: no file has them, and they are described only when they are
//! set. Sorted by name.

use crate::config::definition::{ConfigDef, long};

const NO_LIMIT: &str = "9223372036854775807";

#[rustfmt::skip] // a table, one definition after the other
pub(in crate::config) static THROTTLES: &[ConfigDef] = &[
    long("follower.replication.throttled.rate", NO_LIMIT, "How fast followers here fetch the throttled replicas, in bytes a second.")
        .at_least(0).cluster_wide().honoured(),
    long("leader.replication.throttled.rate", NO_LIMIT, "How fast leaders here serve the throttled replicas, in bytes a second.")
        .at_least(0).cluster_wide().honoured(),
    long("replica.alter.log.dirs.io.max.bytes.per.second", NO_LIMIT, "How fast replicas move between data directories.")
        .at_least(0).cluster_wide(),
];
