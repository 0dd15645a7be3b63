//! The log: segments, retention, compaction, what topics inherit. Sorted by name.

use super::CAPPED_REASON;
use crate::config::definition::{ConfigDef, boolean, double, int, list, long, string};
use crate::config::topic::{CLEANUP_POLICIES, CODECS, MIN_INSYNC_REASON, TIMESTAMP_TYPES};
use crate::config::valid::Valid;

const DEDUPE_REASON: &str =
    "compacting stays within 64 MiB of memory; what does not fit is done in several passes, as with Kafka's 128 MiB";

#[rustfmt::skip] // a table, one definition after the other
pub(super) static LOG: &[ConfigDef] = &[
    boolean("auto.create.topics.enable", "true", "Whether a topic comes into being when a client asks for it.")
        .honoured(),
    int("compression.gzip.level", "-1", "The topics' compression.gzip.level.").valid(Valid::GzipLevel).cluster_wide().honoured(),
    int("compression.lz4.level", "9", "The topics' compression.lz4.level.")
        .valid(Valid::Between(1, 17)).cluster_wide(),
    string("compression.type", "producer", "The topics' compression.type.").one_of(CODECS).cluster_wide().honoured(),
    int("compression.zstd.level", "3", "The topics' compression.zstd.level.")
        .valid(Valid::Between(-131072, 22)).cluster_wide().honoured(),
    int("default.replication.factor", "1", "How many replicas a topic gets when its creator does not say.")
        .differs(CAPPED_REASON).honoured(),
    boolean("delete.topic.enable", "true", "Whether topics can be deleted.").honoured(),
    int("fetch.max.bytes", "57671680", "The most bytes that one fetch is answered with, whatever it asks for.")
        .at_least(1024).honoured(),
    long("log.cleaner.backoff.ms", "15000", "How long the cleaner rests when there is nothing to clean.")
        .at_least(0).cluster_wide().honoured(),
    long("log.cleaner.dedupe.buffer.size", "50331648", "Memory for the keys of a log that is being compacted, 24 bytes each; all threads share it.")
        .differs(DEDUPE_REASON).cluster_wide().honoured(),
    long("log.cleaner.delete.retention.ms", "86400000", "The topics' delete.retention.ms.")
        .at_least(0).cluster_wide().honoured(),
    boolean("log.cleaner.enable", "true", "Whether compacted topics are compacted.").honoured(),
    double("log.cleaner.io.buffer.load.factor", "0.9", "How full the map of keys may get.").cluster_wide().honoured(),
    int("log.cleaner.io.buffer.size", "524288", "Memory for reading and writing while compacting.")
        .at_least(0).cluster_wide().honoured(),
    double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308", "How fast the cleaner may read and write.")
        .cluster_wide().honoured(),
    long("log.cleaner.max.compaction.lag.ms", "9223372036854775807", "The topics' max.compaction.lag.ms.")
        .at_least(1).cluster_wide().honoured(),
    double("log.cleaner.min.cleanable.ratio", "0.5", "The topics' min.cleanable.dirty.ratio.")
        .valid(Valid::BetweenDouble(0.0, 1.0)).cluster_wide().honoured(),
    long("log.cleaner.min.compaction.lag.ms", "0", "The topics' min.compaction.lag.ms.").at_least(0).cluster_wide().honoured(),
    int("log.cleaner.threads", "1", "How many logs are compacted at a time.").at_least(0).cluster_wide().honoured(),
    list("log.cleanup.policy", "delete", "The topics' cleanup.policy.")
        .valid(Valid::ListOf(CLEANUP_POLICIES)).cluster_wide().honoured(),
    list("log.dir", "./capek-data", "Where the data lies, unless log.dirs says.")
        .differs("Kafka keeps its data where a reboot deletes it").honoured(),
    long("log.dir.failure.timeout.ms", "30000", "How long a broker lives on when it cannot report a failed data directory.")
        .at_least(1),
    list("log.dirs", "", "The data directories; a new partition goes to the emptiest.").unset()
        .synonyms(&["log.dir"]).honoured(),
    long("log.flush.interval.messages", "9223372036854775807", "The topics' flush.messages.")
        .at_least(1).cluster_wide(),
    long("log.flush.interval.ms", "", "The topics' flush.ms.").unset().cluster_wide(),
    int("log.flush.offset.checkpoint.interval.ms", "60000", "How often Kafka writes its recovery points; ours follow the journal.")
        .at_least(0),
    long("log.flush.scheduler.interval.ms", "9223372036854775807", "How often Kafka looks for logs to sync."),
    int("log.flush.start.offset.checkpoint.interval.ms", "60000", "How often Kafka writes where logs start; ours is in the journal.")
        .at_least(0),
    int("log.index.interval.bytes", "4096", "The topics' index.interval.bytes.")
        .at_least(0).cluster_wide().honoured(),
    int("log.index.size.max.bytes", "10485760", "The topics' segment.index.bytes.")
        .at_least(4).cluster_wide().honoured(),
    long("log.local.retention.bytes", "-2", "The topics' local.retention.bytes.").at_least(-2).cluster_wide(),
    long("log.local.retention.ms", "-2", "The topics' local.retention.ms.").at_least(-2).cluster_wide(),
    long("log.message.timestamp.after.max.ms", "3600000", "The topics' message.timestamp.after.max.ms.")
        .at_least(0).cluster_wide().honoured(),
    long("log.message.timestamp.before.max.ms", "9223372036854775807", "The topics' message.timestamp.before.max.ms.")
        .at_least(0).cluster_wide().honoured(),
    string("log.message.timestamp.type", "CreateTime", "The topics' message.timestamp.type.")
        .one_of(TIMESTAMP_TYPES).cluster_wide().honoured(),
    boolean("log.preallocate", "false", "The topics' preallocate.").cluster_wide(),
    long("log.retention.bytes", "-1", "The topics' retention.bytes.").cluster_wide().honoured(),
    long("log.retention.check.interval.ms", "300000", "How often retention looks for segments to drop.")
        .at_least(1).honoured(),
    int("log.retention.hours", "168", "The topics' retention.ms, in hours; asked last.")
        .valid(Valid::NotZero).honoured(),
    int("log.retention.minutes", "", "The topics' retention.ms, in minutes; asked before the hours.").unset()
        .valid(Valid::NotZero).honoured(),
    long("log.retention.ms", "", "The topics' retention.ms; asked before minutes and hours.").unset()
        .valid(Valid::NotZero).cluster_wide().honoured(),
    int("log.roll.hours", "168", "The topics' segment.ms, in hours.").at_least(1).honoured(),
    int("log.roll.jitter.hours", "0", "The topics' segment.jitter.ms, in hours.").at_least(0),
    long("log.roll.jitter.ms", "", "The topics' segment.jitter.ms.").unset().cluster_wide(),
    long("log.roll.ms", "", "The topics' segment.ms; asked before the hours.").unset()
        .at_least(1).cluster_wide().honoured(),
    int("log.segment.bytes", "1073741824", "The topics' segment.bytes.").at_least(1048576).cluster_wide().honoured(),
    long("log.segment.delete.delay.ms", "60000", "The topics' file.delete.delay.ms.")
        .at_least(0).cluster_wide().honoured(),
    int("max.request.partition.size.limit", "2000", "The most partitions that one DescribeTopicPartitions answer describes.")
        .at_least(1),
    int("message.max.bytes", "1048588", "The topics' max.message.bytes.").at_least(0).cluster_wide().honoured(),
    int("min.insync.replicas", "1", "The topics' min.insync.replicas.")
        .at_least(1).differs(MIN_INSYNC_REASON).cluster_wide().honoured(),
    int("num.partitions", "1", "How many partitions a topic gets when its creator does not say.")
        .at_least(1).honoured(),
    int("num.recovery.threads.per.data.dir", "2", "How many logs of a directory are recovered at a time after a crash, as set for the broker itself.")
        .at_least(1).cluster_wide().honoured(),
    boolean("unclean.leader.election.enable", "false", "The topics' unclean.leader.election.enable.").cluster_wide().honoured(),
];
