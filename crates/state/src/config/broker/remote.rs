//! Tiered storage, which there is none of: files that name these are taken, and tools see Kafka's defaults. Sorted by name.

use crate::config::definition::{ConfigDef, boolean, int, long, string};

const METADATA_MANAGER: &str = "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager";

#[rustfmt::skip] // a table, one definition after the other
pub(super) static REMOTE: &[ConfigDef] = &[
    boolean("follower.fetch.last.tiered.offset.enable", "false", "Whether a new follower begins where remote storage ends.")
        .cluster_wide(),
    int("remote.fetch.max.wait.ms", "500", "The longest wait for an answer of remote storage.").at_least(1).cluster_wide(),
    long("remote.list.offsets.request.timeout.ms", "30000", "The longest wait for offsets from remote storage.")
        .at_least(1).cluster_wide(),
    long("remote.log.index.file.cache.total.size.bytes", "1073741824", "Disk for indexes that were fetched from remote storage.")
        .at_least(1).cluster_wide(),
    int("remote.log.manager.copier.thread.pool.size", "10", "Threads that copy segments to remote storage.")
        .at_least(1).cluster_wide(),
    long("remote.log.manager.copy.max.bytes.per.second", "9223372036854775807", "How fast segments are copied to remote storage.")
        .at_least(1).cluster_wide(),
    int("remote.log.manager.copy.quota.window.num", "11", "Samples of the quota for copies to remote storage.").at_least(1),
    int("remote.log.manager.copy.quota.window.size.seconds", "1", "Length of a sample of the quota for copies to remote storage.")
        .at_least(1),
    int("remote.log.manager.expiration.thread.pool.size", "10", "Threads that delete what has expired in remote storage.")
        .at_least(1).cluster_wide(),
    long("remote.log.manager.fetch.max.bytes.per.second", "9223372036854775807", "How fast records are fetched from remote storage.")
        .at_least(1).cluster_wide(),
    int("remote.log.manager.fetch.quota.window.num", "11", "Samples of the quota for fetches from remote storage.").at_least(1),
    int("remote.log.manager.fetch.quota.window.size.seconds", "1", "Length of a sample of the quota for fetches from remote storage.")
        .at_least(1),
    int("remote.log.manager.follower.thread.pool.size", "2", "Threads of followers that work for remote storage.")
        .at_least(1).cluster_wide(),
    long("remote.log.manager.task.interval.ms", "30000", "How often remote storage is tended to.").at_least(1),
    int("remote.log.manager.thread.pool.size", "2", "The older setting for the threads of remote storage.").at_least(1),
    int("remote.log.metadata.custom.metadata.max.bytes", "128", "The most bytes that a plug-in may add to a segment's description.")
        .at_least(0),
    string("remote.log.metadata.manager.class.name", METADATA_MANAGER, "A Java class that keeps track of remote segments."),
    string("remote.log.metadata.manager.class.path", "", "Where that class is found.").unset(),
    string("remote.log.metadata.manager.impl.prefix", "rlmm.config.", "The prefix of that class's own settings."),
    string("remote.log.metadata.manager.listener.name", "", "The listener that it reaches the broker by.").unset(),
    int("remote.log.reader.max.pending.tasks", "100", "Reads from remote storage that may wait.").at_least(1),
    int("remote.log.reader.threads", "10", "Threads that read from remote storage.").at_least(1).cluster_wide(),
    string("remote.log.storage.manager.class.name", "", "A Java class that stores segments elsewhere.").unset(),
    string("remote.log.storage.manager.class.path", "", "Where that class is found.").unset(),
    string("remote.log.storage.manager.impl.prefix", "rsm.config.", "The prefix of that class's own settings."),
];
