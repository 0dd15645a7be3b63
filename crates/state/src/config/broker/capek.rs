//! Our own configurations, which have no twin in Kafka. Sorted by name.

use crate::config::definition::{ConfigDef, boolean, int, list, long, string};
use crate::config::topic::{FLUSH_MODES, FLUSH_REASON};
use crate::config::valid::Valid;

/// The smallest journal file that still takes a round of the largest batches.
const JOURNAL_FILE_BYTES_MIN: i64 = 4 * 1024 * 1024;

const METRICS_LEVELS: &[&str] = &["full", "topic", "off"];
const COMMIT_SEMANTICS: &[&str] = &["confluent", "literal"];

#[rustfmt::skip] // a table, one definition after the other
pub(super) static CAPEK: &[ConfigDef] = &[
    boolean("capek.chaos", "false", "Whether actors can be made to panic or stall over HTTP; only with every HTTP listener on loopback.")
        .honoured(),
    list("capek.cluster.peers", "", "The brokers of the cluster: `1@host:9190,2@host:9190`; also taken from controller.quorum.voters.")
        .honoured(),
    string("capek.flush", "group", "When an append is acknowledged: `group` after a sync that all waiting appends share, `async` once it is in the page cache. Also a topic's.")
        .one_of(FLUSH_MODES).cluster_wide().honoured().differs(FLUSH_REASON),
    list("capek.http.allowed.origins", "", "The web pages of other origins that may read, write and open WebSockets here, as `https://app.example:8443`; `*` is all of them. None unless set. Where HTTP is on loopback only, it may be called by the names of their hosts, too.")
        .honoured(),
    long("capek.http.body.bytes.max", "16777216", "The largest body of records, also after it was inflated. Other bodies have 64 KiB at most.")
        .at_least(1024).honoured(),
    long("capek.http.body.timeout.ms", "30000", "How long the body of a request may take, and the rest of a record or a large message that was begun in a stream; each 32 KiB that came add a second.")
        .at_least(1).honoured(),
    int("capek.http.connections.per.ip", "256", "How many connections one address may have open to HTTP. Those of this host are not counted here: they may come from a proxy. max.connections.per.ip holds for them too.")
        .at_least(1).honoured(),
    long("capek.http.header.timeout.ms", "5000", "How long the first line and the headers of a request may take.")
        .at_least(1).honoured(),
    list("capek.http.listeners", "http://localhost:8080", "Where HTTP, WebSocket, SSE, metrics and health are served; a list opens more ports.")
        .honoured(),
    long("capek.http.sse.rotate.ms", "600000", "After how long, a tenth more or less, a connection of Server-Sent Events ends: its client comes back by itself, perhaps to another broker. 0 is never; lines of JSON go on.")
        .at_least(0).honoured(),
    boolean("capek.insecure", "false", "Allows listening beyond loopback without authentication.")
        .honoured(),
    long("capek.journal.file.bytes", "67108864", "The size of one of the four journal files of a data directory.")
        .valid(Valid::AtLeast(JOURNAL_FILE_BYTES_MIN)).honoured(),
    long("capek.memory.budget.bytes", "", "Requests, responses and tail cache together; a quarter of the memory when it is not set.")
        .unset().at_least(16 * 1024 * 1024).honoured(),
    list("capek.metrics.compat", "exporter,jmx-strimzi,jmx-confluent", "Whose words /metrics speaks beside our own: those of kafka_exporter, and of the JMX exporter with Strimzi's or Confluent's rules.")
        .honoured(),
    long("capek.metrics.series.max", "500000", "How many series /metrics has for partitions, and how many for groups, at most; what is left out is counted there.")
        .at_least(0).honoured(),
    string("capek.metrics.topic.partition.level", "full", "Whether /metrics has series for each partition (`full`), for topics only (`topic`), or neither (`off`).")
        .one_of(METRICS_LEVELS).honoured(),
    string("capek.peer.listener", "localhost:9190", "Where brokers reach each other: raft and replication.")
        .valid(Valid::NonEmpty).honoured(),
    string("capek.peer.tls.ca", "", "A PEM file with the CA, or several, whose certificates brokers show each other. Set with the other two of capek.peer.tls.*, on all brokers: then they talk TLS 1.3 and nobody else is let in.")
        .unset().honoured(),
    string("capek.peer.tls.cert", "", "A PEM file with this broker's certificate, then those between it and the CA. It names the host that capek.cluster.peers has for this broker, and serves both ends of a connection (serverAuth, clientAuth). A changed file is read at the next connection.")
        .unset().honoured(),
    string("capek.peer.tls.key", "", "A PEM file with the key of capek.peer.tls.cert, without a passphrase.")
        .unset().honoured(),
    long("capek.rest.consumer.instance.timeout.ms", "300000", "How long a consumer instance of REST v2 lives that nobody uses.")
        .at_least(1).honoured(),
    string("capek.rest.v2.commit.semantics", "confluent", "What REST v2 stores for a committed offset: `confluent` the one after it, `literal` the number as it is given.")
        .one_of(COMMIT_SEMANTICS).honoured(),
    int("capek.restart.max", "3", "How often a failed actor is restarted within capek.restart.period.ms before its supervisor gives up.")
        .at_least(0).honoured(),
    long("capek.restart.period.ms", "30000", "The time in which capek.restart.max is counted.")
        .at_least(1).honoured(),
];
