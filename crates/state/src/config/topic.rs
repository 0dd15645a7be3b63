//! The configurations of a topic: Kafka 4.3's, and `capek.flush`. Sorted by name.

use super::definition::{ConfigDef, boolean, double, int, list, long, string};
use super::valid::Valid;

/// Every configuration that a topic can have, by name.
pub fn topic_configs() -> &'static [ConfigDef] {
    TOPIC
}

pub(super) const CODECS: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const FLUSH_MODES: &[&str] = &["group", "async"];
pub(super) const MIN_INSYNC_REASON: &str = "with three replicas or more it is 2: Kafka's 1 lets acks=all mean one copy";
pub(super) const FLUSH_REASON: &str =
    "acknowledged means on the disk; Kafka acknowledges what is in the page cache, which `async` does too";

#[rustfmt::skip] // a table, one definition after the other
static TOPIC: &[ConfigDef] = &[
    string("capek.flush", "group", "When an append is acknowledged: `group` after a sync that all waiting appends share, `async` once it is in the page cache.")
        .one_of(FLUSH_MODES).synonyms(&["capek.flush"]).cluster_wide().honoured().differs(FLUSH_REASON),
    list("cleanup.policy", "delete", "What becomes of old segments: `delete` drops them by age and size, `compact` keeps the last value of each key; both can be named.")
        .valid(Valid::ListOf(CLEANUP_POLICIES)).synonyms(&["log.cleanup.policy"]).cluster_wide().honoured(),
    int("compression.gzip.level", "-1", "Level for gzip when the broker compresses.")
        .valid(Valid::GzipLevel).synonyms(&["compression.gzip.level"]).cluster_wide().honoured(),
    int("compression.lz4.level", "9", "Level for lz4 when the broker compresses.")
        .valid(Valid::Between(1, 17)).synonyms(&["compression.lz4.level"]).cluster_wide(),
    string("compression.type", "producer", "The codec in which batches are stored; `producer` keeps them as they come.")
        .one_of(CODECS).synonyms(&["compression.type"]).cluster_wide().honoured(),
    int("compression.zstd.level", "3", "Level for zstd when the broker compresses.")
        .valid(Valid::Between(-131_072, 22)).synonyms(&["compression.zstd.level"]).cluster_wide().honoured(),
    long("delete.retention.ms", "86400000", "How long a compacted topic keeps the tombstone of a deleted key, for consumers that read from the start.")
        .at_least(0).synonyms(&["log.cleaner.delete.retention.ms"]).cluster_wide().honoured(),
    long("file.delete.delay.ms", "60000", "How long the file of a dropped segment stays before it is unlinked.")
        .at_least(0).synonyms(&["log.segment.delete.delay.ms"]).cluster_wide().honoured(),
    long("flush.messages", "9223372036854775807", "Kafka's count of records between syncs. With `capek.flush=group` every acknowledged record is synced.")
        .at_least(1).synonyms(&["log.flush.interval.messages"]).cluster_wide(),
    long("flush.ms", "9223372036854775807", "Kafka's time between syncs. With `capek.flush=group` every acknowledged record is synced.")
        .at_least(0).synonyms(&["log.flush.interval.ms", "log.flush.scheduler.interval.ms"]).cluster_wide(),
    list("follower.replication.throttled.replicas", "", "Replicas whose fetching from leaders is throttled: `partition:broker` pairs, or `*`.")
        .valid(Valid::ThrottledReplicas).cluster_wide().honoured(),
    int("index.interval.bytes", "4096", "Bytes of records between two entries of the offset index.")
        .at_least(0).synonyms(&["log.index.interval.bytes"]).cluster_wide().honoured(),
    list("leader.replication.throttled.replicas", "", "Replicas for which leaders throttle what followers fetch: `partition:broker` pairs, or `*`.")
        .valid(Valid::ThrottledReplicas).cluster_wide().honoured(),
    long("local.retention.bytes", "-2", "Bytes kept on this machine when older segments lie in remote storage; -2 is retention.bytes.")
        .at_least(-2).synonyms(&["log.local.retention.bytes"]).cluster_wide(),
    long("local.retention.ms", "-2", "Time kept on this machine when older segments lie in remote storage; -2 is retention.ms.")
        .at_least(-2).synonyms(&["log.local.retention.ms"]).cluster_wide(),
    long("max.compaction.lag.ms", "9223372036854775807", "The longest that a record of a compacted topic may wait before it is considered for compaction.")
        .at_least(1).synonyms(&["log.cleaner.max.compaction.lag.ms"]).cluster_wide().honoured(),
    int("max.message.bytes", "1048588", "The largest record batch that is taken, compressed.")
        .at_least(0).synonyms(&["message.max.bytes"]).cluster_wide().honoured(),
    long("message.timestamp.after.max.ms", "3600000", "How far in the future the timestamp of a record may lie.")
        .at_least(0).synonyms(&["log.message.timestamp.after.max.ms"]).cluster_wide().honoured(),
    long("message.timestamp.before.max.ms", "9223372036854775807", "How far in the past the timestamp of a record may lie.")
        .at_least(0).synonyms(&["log.message.timestamp.before.max.ms"]).cluster_wide().honoured(),
    string("message.timestamp.type", "CreateTime", "Whose clock stamps a record: the producer's, or the broker's at the append.")
        .one_of(TIMESTAMP_TYPES).synonyms(&["log.message.timestamp.type"]).cluster_wide().honoured(),
    double("min.cleanable.dirty.ratio", "0.5", "The part of a compacted log that must be uncleaned before it is cleaned again.")
        .valid(Valid::BetweenDouble(0.0, 1.0)).synonyms(&["log.cleaner.min.cleanable.ratio"]).cluster_wide().honoured(),
    long("min.compaction.lag.ms", "0", "How long a record of a compacted topic stays untouched.")
        .at_least(0).synonyms(&["log.cleaner.min.compaction.lag.ms"]).cluster_wide().honoured(),
    int("min.insync.replicas", "1", "How many replicas must be in sync for acks=all to be taken, at most the replication factor.")
        .at_least(1).synonyms(&["min.insync.replicas"]).cluster_wide().honoured().differs(MIN_INSYNC_REASON),
    boolean("preallocate", "false", "Whether a new segment file is given its full size at once.")
        .synonyms(&["log.preallocate"]).cluster_wide(),
    boolean("remote.log.copy.disable", "false", "With remote storage: stop copying segments there.").cluster_wide(),
    boolean("remote.log.delete.on.disable", "false", "With remote storage: delete what lies there when it is disabled.").cluster_wide(),
    boolean("remote.storage.enable", "false", "Whether old segments of the topic move to remote storage.").cluster_wide(),
    long("retention.bytes", "-1", "How large a partition may grow before its oldest segments are dropped; -1 is no limit.")
        .synonyms(&["log.retention.bytes"]).cluster_wide().honoured(),
    long("retention.ms", "604800000", "How old the newest record of a segment may grow before the segment is dropped; -1 is no limit.")
        .at_least(-1).synonyms(&["log.retention.ms", "log.retention.minutes", "log.retention.hours"]).cluster_wide().honoured(),
    int("segment.bytes", "1073741824", "How large a segment file grows before the next one begins.")
        .at_least(1024 * 1024).synonyms(&["log.segment.bytes"]).cluster_wide().honoured(),
    int("segment.index.bytes", "10485760", "How large the offset index of a segment may grow before the next segment begins.")
        .at_least(4).synonyms(&["log.index.size.max.bytes"]).cluster_wide().honoured(),
    long("segment.jitter.ms", "0", "How much earlier, at random, a segment may roll than segment.ms says, so that not all roll together.")
        .at_least(0).synonyms(&["log.roll.jitter.ms", "log.roll.jitter.hours"]).cluster_wide(),
    long("segment.ms", "604800000", "How old a segment grows before the next one begins, full or not.")
        .at_least(1).synonyms(&["log.roll.ms", "log.roll.hours"]).cluster_wide().honoured(),
    boolean("unclean.leader.election.enable", "false", "Whether a replica that is not in sync may lead when no other can: records may be lost.")
        .synonyms(&["unclean.leader.election.enable"]).cluster_wide().honoured(),
];
