//! Our own configurations, which have no twin in Kafka. Sorted by name.

use crate::config::definition::{ConfigDef, boolean, int, list, long, string};
use crate::config::topic::{FLUSH_MODES, FLUSH_REASON};
use crate::config::valid::Valid;

/// The smallest journal file that still takes a round of the largest batches.
const JOURNAL_FILE_BYTES_MIN: i64 = 4 * 1024 * 1024;

#[rustfmt::skip] // a table, one definition after the other
pub(super) static CAPEK: &[ConfigDef] = &[
    boolean("capek.chaos", "false", "Whether actors can be made to panic or stall over HTTP; only with every HTTP listener on loopback.")
        .honoured(),
    list("capek.cluster.peers", "", "The brokers of the cluster: `1@host:9190,2@host:9190`; also taken from controller.quorum.voters."),
    string("capek.flush", "group", "When an append is acknowledged: `group` after a sync that all waiting appends share, `async` once it is in the page cache. Also a topic's.")
        .one_of(FLUSH_MODES).cluster_wide().honoured().differs(FLUSH_REASON),
    list("capek.http.listeners", "http://localhost:8080", "Where HTTP, WebSocket, SSE, metrics and health are served; a list opens more ports.")
        .honoured(),
    boolean("capek.insecure", "false", "Allows listening beyond loopback without authentication.")
        .honoured(),
    long("capek.journal.file.bytes", "67108864", "The size of one of the four journal files of a data directory.")
        .valid(Valid::AtLeast(JOURNAL_FILE_BYTES_MIN)).honoured(),
    long("capek.memory.budget.bytes", "", "Requests, responses and tail cache together; a quarter of the memory when it is not set.")
        .unset().at_least(16 * 1024 * 1024).honoured(),
    string("capek.peer.listener", "localhost:9190", "Where brokers reach each other: raft and replication.")
        .valid(Valid::NonEmpty),
    int("capek.restart.max", "3", "How often a failed actor is restarted within capek.restart.period.ms before its supervisor gives up.")
        .at_least(0).honoured(),
    long("capek.restart.period.ms", "30000", "The time in which capek.restart.max is counted.")
        .at_least(1).honoured(),
];
