//! Who this broker is, its controller, its replicas, quotas and metrics. Sorted by name.

use crate::config::definition::{ConfigDef, boolean, class, int, list, long, string};
use crate::config::valid::Valid;

/// Kafka would load any class; these two are built in.
const REPLICA_SELECTORS: &[&str] = &[RACK_AWARE_SELECTOR, "org.apache.kafka.common.replica.LeaderSelector"];
/// Sends consumers to the replicas of their rack.
pub const RACK_AWARE_SELECTOR: &str = "org.apache.kafka.common.replica.RackAwareReplicaSelector";

#[rustfmt::skip] // a table, one definition after the other
pub(super) static CLUSTER: &[ConfigDef] = &[
    class("alter.config.policy.class.name", "A Java class that judges changed configurations."),
    int("alter.log.dirs.replication.quota.window.num", "11", "Samples of the quota for moves between directories.")
        .at_least(1),
    int("alter.log.dirs.replication.quota.window.size.seconds", "1", "Length of a sample of the quota for moves between directories.")
        .at_least(1),
    boolean("auto.leader.rebalance.enable", "true", "Whether leadership goes back to the preferred replicas by itself.").honoured(),
    int("background.threads", "10", "Kafka's threads for background work.").at_least(1).cluster_wide(),
    int("broker.heartbeat.interval.ms", "2000", "How often a broker reports to the controller.").honoured(),
    int("broker.id", "-1", "The older name of node.id.").honoured(),
    string("broker.rack", "", "The rack or zone of this broker; replicas are spread over them.").unset().honoured(),
    int("broker.session.timeout.ms", "9000", "After how long without a report a broker is fenced.").honoured(),
    class("client.quota.callback.class", "A Java class that computes quotas."),
    list("config.providers", "", "Where values of the form ${provider:key} come from.").cluster_wide(),
    boolean("controlled.shutdown.enable", "true", "Whether a stopping broker hands over its leaders first."),
    list("controller.listener.names", "", "The listener by which controllers are reached; ours is the peer listener and serves no clients.").unset()
        .honoured(),
    int("controller.quorum.append.linger.ms", "25", "How long the active controller gathers records.").at_least(0),
    boolean("controller.quorum.auto.join.enable", "false", "Whether a new controller joins the quorum by itself."),
    list("controller.quorum.bootstrap.servers", "", "Where Kafka looks for its quorum. Brokers are named here: two or more without capek.cluster.peers are refused.").honoured(),
    int("controller.quorum.election.backoff.max.ms", "1000", "The longest pause after a failed election.")
        .at_least(0),
    int("controller.quorum.election.timeout.ms", "1000", "How long an election may take.").at_least(0),
    int("controller.quorum.fetch.max.bytes", "1048576", "The most bytes of the metadata log in one fetch.")
        .at_least(1),
    int("controller.quorum.fetch.snapshot.max.bytes", "1048576", "The most bytes of a snapshot of the metadata in one fetch.")
        .at_least(1),
    int("controller.quorum.fetch.timeout.ms", "2000", "After how long without the leader a controller stands for election.")
        .at_least(0),
    int("controller.quorum.request.timeout.ms", "2000", "How long a controller waits for an answer.").at_least(0),
    int("controller.quorum.retry.backoff.ms", "20", "The pause before a request is repeated.").at_least(0),
    list("controller.quorum.voters", "", "The quorum: `id@host:port`, comma-separated; see capek.cluster.peers.").honoured(),
    int("controller.quota.window.num", "11", "Samples of the quota for topic changes.").at_least(1),
    int("controller.quota.window.size.seconds", "1", "Length of a sample of the quota for topic changes.")
        .at_least(1),
    int("controller.socket.timeout.ms", "30000", "How long a broker waits for the controller."),
    list("cordoned.log.dirs", "", "Data directories that get no new partitions.").per_broker(),
    class("create.topic.policy.class.name", "A Java class that judges new topics."),
    int("initial.broker.registration.timeout.ms", "60000", "How long a starting broker tries to register."),
    string("inter.broker.protocol.version", "4.3-IV0", "The level of Kafka that this broker speaks. Tools read it to learn what they may ask.")
        .differs("Kafka 4 dropped it; tools that still read it learn what we speak"),
    int("kafka.metrics.polling.interval.secs", "10", "How often Kafka's older metrics are polled.").at_least(1),
    list("kafka.metrics.reporters", "", "Java classes that report Kafka's older metrics."),
    long("leader.imbalance.check.interval.seconds", "300", "How often leadership is compared with the preferred replicas.")
        .at_least(1).honoured(),
    string("metadata.log.dir", "", "Where the metadata log lies; ours is in the first data directory.").unset(),
    long("metadata.log.max.record.bytes.between.snapshots", "20971520", "How much metadata log is written between snapshots.")
        .at_least(1),
    long("metadata.log.max.snapshot.interval.ms", "3600000", "The longest time between snapshots of the metadata.")
        .at_least(0),
    int("metadata.log.segment.bytes", "1073741824", "The segment size of the metadata log.").at_least(8388608),
    long("metadata.log.segment.ms", "604800000", "The age at which a segment of the metadata log ends."),
    int("metadata.max.idle.interval.ms", "500", "How often an idle controller writes a record.").at_least(0),
    long("metadata.max.retention.bytes", "104857600", "How large the metadata log may grow."),
    long("metadata.max.retention.ms", "604800000", "How old the metadata log may grow."),
    list("metric.reporters", "org.apache.kafka.common.metrics.JmxReporter", "Java classes that report metrics; ours are at /metrics.")
        .cluster_wide(),
    int("metrics.num.samples", "2", "Samples of a metric.").at_least(1),
    string("metrics.recording.level", "INFO", "How much is measured."),
    long("metrics.sample.window.ms", "30000", "Length of a sample of a metric.").at_least(1),
    int("node.id", "1", "Who this broker is: unique in the cluster, never reused.")
        .at_least(0).synonyms(&["broker.id"]).differs("Kafka has none; one broker needs no number of its own choosing").honoured(),
    int("num.replica.alter.log.dirs.threads", "", "Threads that move replicas between directories.").unset(),
    int("num.replica.fetchers", "1", "Kafka's fetching threads for each leader broker.").at_least(1).cluster_wide(),
    list("process.roles", "broker,controller", "What the process is: broker, controller or both; ours is both.")
        .valid(Valid::ListOf(&["broker", "controller"])).differs("Kafka has none; every process here is both"),
    int("quota.window.num", "11", "Samples of a client quota.").at_least(1),
    int("quota.window.size.seconds", "1", "Length of a sample of a client quota.").at_least(1),
    boolean("remote.log.storage.system.enable", "false", "Whether segments can move to remote storage."),
    int("replica.fetch.backoff.ms", "1000", "How long a follower waits after a failed fetch.").at_least(0),
    int("replica.fetch.max.bytes", "1048576", "The most bytes of one partition in a follower's fetch.").at_least(0),
    int("replica.fetch.min.bytes", "1", "The least bytes that a follower's fetch waits for."),
    int("replica.fetch.response.max.bytes", "10485760", "The most bytes of a whole answer to a follower.")
        .at_least(0),
    int("replica.fetch.wait.max.ms", "500", "How long a follower's fetch waits for them."),
    long("replica.high.watermark.checkpoint.interval.ms", "5000", "How often high watermarks are written down."),
    long("replica.lag.time.max.ms", "30000", "How long a follower may lag before it leaves the in-sync replicas.").honoured(),
    string("replica.selector.class", "", "Whom consumers read from: Kafka's RackAwareReplicaSelector sends them to an in-sync follower in their own rack (client.rack, broker.rack), its LeaderSelector to the leader.").unset()
        .valid(Valid::OneOf(REPLICA_SELECTORS)).honoured(),
    int("replica.socket.receive.buffer.bytes", "65536", "The receive buffer towards a leader."),
    int("replica.socket.timeout.ms", "30000", "How long a follower waits for an answer."),
    int("replication.quota.window.num", "11", "Samples of the replication quota.").at_least(1),
    int("replication.quota.window.size.seconds", "1", "Length of a sample of the replication quota.").at_least(1),
    int("telemetry.max.bytes", "1048576", "The most bytes of metrics that a client may push.").at_least(1),
    string("zookeeper.connect", "", "Accepted for the sake of older files, and ignored: there is no ZooKeeper.").unset(),
];
