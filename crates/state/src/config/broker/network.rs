//! Who may connect, where, and how much one connection may ask for. Sorted by name.

use crate::config::definition::{ConfigDef, int, list, long, string};

#[rustfmt::skip] // a table, one definition after the other
pub(super) static NETWORK: &[ConfigDef] = &[
    list("advertised.listeners", "", "The addresses that clients are told, by listener name.").unset().honoured(),
    int("connection.failed.authentication.delay.ms", "100", "How long a failed authentication is left unanswered.")
        .at_least(0),
    long("connections.max.idle.ms", "600000", "After how long an idle connection is closed.").honoured(),
    long("connections.max.reauth.ms", "0", "How long an authenticated session may last before the client must prove itself again."),
    list("early.start.listeners", "", "Listeners that open before the broker is ready.").unset(),
    int("fetch.purgatory.purge.interval.requests", "1000", "Kafka's clean-up of parked fetches; ours leave at once."),
    string("inter.broker.listener.name", "", "The listener by which brokers reach each other.").unset(),
    string("listener.security.protocol.map", "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT", "Which protocol each listener name speaks.")
        .per_broker().honoured(),
    list("listeners", "PLAINTEXT://localhost:9092", "Where the broker listens: `NAME://host:port`, comma-separated.")
        .differs("on loopback only: to listen beyond it without authentication takes capek.insecure").per_broker().honoured(),
    int("max.connection.creation.rate", "2147483647", "How many connections may come in a second.")
        .at_least(0).cluster_wide(),
    int("max.connections", "2147483647", "How many connections may be open at a time.")
        .at_least(0).cluster_wide().honoured(),
    int("max.connections.per.ip", "2147483647", "How many connections one address may have open.")
        .at_least(0).cluster_wide().honoured(),
    string("max.connections.per.ip.overrides", "", "Another limit for some addresses: `host:count` pairs.")
        .cluster_wide(),
    int("max.incremental.fetch.session.cache.slots", "1000", "How many fetch sessions are kept.").at_least(0).honoured(),
    int("num.io.threads", "8", "Kafka's threads for requests.").at_least(1).cluster_wide(),
    int("num.network.threads", "3", "Kafka's threads for the network.").at_least(1).cluster_wide(),
    int("producer.purgatory.purge.interval.requests", "1000", "Kafka's clean-up of parked produce requests; ours leave at once."),
    long("queued.max.request.bytes", "-1", "How many bytes of requests may wait; ours is capek.memory.budget.bytes."),
    int("queued.max.requests", "500", "How many requests may wait.").at_least(1),
    int("request.timeout.ms", "30000", "How long one broker waits for another's answer."),
    long("socket.connection.setup.timeout.max.ms", "30000", "The longest wait for a connection to another broker."),
    long("socket.connection.setup.timeout.ms", "10000", "The first wait for a connection to another broker."),
    int("socket.listen.backlog.size", "50", "How many connections may wait to be accepted.").at_least(1),
    int("socket.receive.buffer.bytes", "102400", "The receive buffer of a socket."),
    int("socket.request.max.bytes", "104857600", "The largest request that is read.").at_least(1).honoured(),
    int("socket.send.buffer.bytes", "102400", "The send buffer of a socket."),
];
