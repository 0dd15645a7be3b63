//! Consumer groups and the offsets that they commit. Sorted by name.

use super::CAPPED_REASON;
use crate::config::definition::{ConfigDef, int, list, long, short, string};
use crate::config::valid::Valid;

#[rustfmt::skip] // a table, one definition after the other
pub(super) static GROUPS: &[ConfigDef] = &[
    int("delete.records.purgatory.purge.interval.requests", "1", "Kafka's clean-up of parked DeleteRecords requests."),
    int("group.consumer.assignment.interval.ms", "1000", "The shortest time between two assignments of a consumer group.")
        .at_least(0).cluster_wide().honoured(),
    list("group.consumer.assignors", "uniform,range", "The assignors that a consumer group can use; the first is the default.").honoured(),
    int("group.consumer.heartbeat.interval.ms", "5000", "How often a member of a consumer group is told to report.")
        .at_least(1).honoured(),
    int("group.consumer.max.assignment.interval.ms", "15000", "The largest group.consumer.assignment.interval.ms that a group may set.")
        .at_least(0).honoured(),
    int("group.consumer.max.heartbeat.interval.ms", "15000", "The largest heartbeat interval that a group may set.")
        .at_least(1).honoured(),
    int("group.consumer.max.session.timeout.ms", "60000", "The largest session timeout that a group may set.")
        .at_least(1).honoured(),
    int("group.consumer.max.size", "2147483647", "The most members of a consumer group.").at_least(1).honoured(),
    string("group.consumer.migration.policy", "bidirectional", "Whether groups move between the classic and the consumer protocol while they run.")
        .valid(Valid::OneOfIgnoringCase(&["DISABLED", "DOWNGRADE", "UPGRADE", "BIDIRECTIONAL"])).honoured(),
    int("group.consumer.min.assignment.interval.ms", "0", "The smallest group.consumer.assignment.interval.ms that a group may set.")
        .at_least(0).honoured(),
    int("group.consumer.min.heartbeat.interval.ms", "5000", "The smallest heartbeat interval that a group may set.")
        .at_least(1).honoured(),
    int("group.consumer.min.session.timeout.ms", "45000", "The smallest session timeout that a group may set.")
        .at_least(1).honoured(),
    int("group.consumer.session.timeout.ms", "45000", "After how long without a report a member of a consumer group is removed.")
        .at_least(1).honoured(),
    int("group.coordinator.append.linger.ms", "-1", "How long the coordinator gathers records before it writes them.")
        .at_least(-1),
    int("group.coordinator.background.threads", "2", "Kafka's threads for work beside the coordinator.").at_least(1),
    int("group.coordinator.cached.buffer.max.bytes", "1048588", "The largest buffer that the coordinator keeps for reuse.")
        .at_least(524288).cluster_wide(),
    list("group.coordinator.rebalance.protocols", "classic,consumer,streams", "The group protocols that are on.")
        .valid(Valid::ListOf(&["consumer", "classic", "share", "streams"])).honoured(),
    int("group.coordinator.threads", "4", "Kafka's threads for group coordination.").at_least(1),
    int("group.initial.rebalance.delay.ms", "3000", "How long an empty group waits for more members before its first rebalance.")
        .differs("0 while there is one broker: nobody waits for members who come as fast as they can").honoured(),
    int("group.max.session.timeout.ms", "1800000", "The largest session timeout that a member of a classic group may ask for.").honoured(),
    int("group.max.size", "2147483647", "The most members of a classic group.").at_least(1).honoured(),
    int("group.min.session.timeout.ms", "6000", "The smallest session timeout that a member of a classic group may ask for.").honoured(),
    int("group.share.assignment.interval.ms", "1000", "The shortest time between two assignments of a share group.")
        .at_least(0).cluster_wide(),
    list("group.share.assignors", "simple", "The assignors that a share group can use."),
    int("group.share.delivery.count.limit", "5", "How often a record is delivered to a share group before it is given up.")
        .valid(Valid::Between(2, 10)),
    int("group.share.heartbeat.interval.ms", "5000", "How often a member of a share group is told to report.")
        .at_least(1),
    int("group.share.max.assignment.interval.ms", "15000", "The largest assignment interval that a share group may set.")
        .at_least(0),
    int("group.share.max.delivery.count.limit", "10", "The largest delivery count limit that a share group may set.")
        .valid(Valid::Between(5, 25)),
    int("group.share.max.heartbeat.interval.ms", "15000", "The largest heartbeat interval that a share group may set.")
        .at_least(1),
    int("group.share.max.partition.max.record.locks", "4000", "The most record locks that a share group may set.")
        .at_least(100),
    int("group.share.max.record.lock.duration.ms", "60000", "The longest record lock that a share group may set.")
        .valid(Valid::Between(30000, 3600000)),
    int("group.share.max.session.timeout.ms", "60000", "The largest session timeout that a share group may set.")
        .at_least(1),
    int("group.share.max.share.sessions", "2000", "The most share sessions of a broker.").at_least(1),
    int("group.share.max.size", "200", "The most members of a share group.").valid(Valid::Between(1, 1000)),
    int("group.share.min.assignment.interval.ms", "0", "The smallest assignment interval that a share group may set.")
        .at_least(0),
    int("group.share.min.delivery.count.limit", "2", "The smallest delivery count limit that a share group may set.")
        .valid(Valid::Between(2, 5)),
    int("group.share.min.heartbeat.interval.ms", "5000", "The smallest heartbeat interval that a share group may set.")
        .at_least(1),
    int("group.share.min.partition.max.record.locks", "100", "The fewest record locks that a share group may set.")
        .at_least(100),
    int("group.share.min.record.lock.duration.ms", "15000", "The shortest record lock that a share group may set.")
        .valid(Valid::Between(1000, 30000)),
    int("group.share.min.session.timeout.ms", "45000", "The smallest session timeout that a share group may set.")
        .at_least(1),
    int("group.share.partition.max.record.locks", "2000", "The most records of a partition that may be locked at a time.")
        .valid(Valid::Between(100, 10000)),
    int("group.share.record.lock.duration.ms", "30000", "How long a delivered record is locked for the member that got it.")
        .valid(Valid::Between(1000, 3600000)),
    int("group.share.session.timeout.ms", "45000", "After how long without a report a member of a share group is removed.")
        .at_least(1),
    int("group.streams.assignment.interval.ms", "1000", "The shortest time between two assignments of a streams group.")
        .at_least(0).cluster_wide(),
    int("group.streams.heartbeat.interval.ms", "5000", "How often a member of a streams group is told to report.")
        .at_least(1),
    int("group.streams.initial.rebalance.delay.ms", "3000", "How long an empty streams group waits for more members.")
        .at_least(0),
    int("group.streams.max.assignment.interval.ms", "15000", "The largest assignment interval that a streams group may set.")
        .at_least(0),
    int("group.streams.max.heartbeat.interval.ms", "15000", "The largest heartbeat interval that a streams group may set.")
        .at_least(1),
    int("group.streams.max.session.timeout.ms", "60000", "The largest session timeout that a streams group may set.")
        .at_least(1),
    int("group.streams.max.size", "2147483647", "The most members of a streams group.").at_least(1),
    int("group.streams.max.standby.replicas", "2", "The most standby replicas that a streams group may ask for.")
        .at_least(0),
    int("group.streams.min.assignment.interval.ms", "0", "The smallest assignment interval that a streams group may set.")
        .at_least(0),
    int("group.streams.min.heartbeat.interval.ms", "5000", "The smallest heartbeat interval that a streams group may set.")
        .at_least(1),
    int("group.streams.min.session.timeout.ms", "45000", "The smallest session timeout that a streams group may set.")
        .at_least(1),
    int("group.streams.num.standby.replicas", "0", "How many standby replicas a streams group has.").at_least(0),
    int("group.streams.session.timeout.ms", "45000", "After how long without a report a member of a streams group is removed.")
        .at_least(1),
    int("offset.metadata.max.bytes", "4096", "The longest text that a committed offset may carry.").honoured(),
    int("offsets.commit.timeout.ms", "5000", "How long a commit waits for its replicas.").at_least(1),
    int("offsets.load.buffer.size", "5242880", "How much is read at a time when a coordinator loads its offsets.")
        .at_least(1),
    long("offsets.retention.check.interval.ms", "600000", "How often expired offsets are looked for.").at_least(1).honoured(),
    int("offsets.retention.minutes", "10080", "How long the offsets of an empty group are kept.").at_least(1).honoured(),
    int("offsets.topic.compression.codec", "0", "The codec of __consumer_offsets, by its number.").honoured(),
    int("offsets.topic.num.partitions", "50", "The partitions of __consumer_offsets; never change it later.")
        .at_least(1).honoured(),
    short("offsets.topic.replication.factor", "3", "The replicas of __consumer_offsets.")
        .at_least(1).differs(CAPPED_REASON).honoured(),
    int("offsets.topic.segment.bytes", "104857600", "The segment size of __consumer_offsets.").at_least(1).honoured(),
    int("share.coordinator.append.linger.ms", "-1", "How long the share coordinator gathers records before it writes them.")
        .at_least(-1),
    int("share.coordinator.cached.buffer.max.bytes", "1048588", "The largest buffer that the share coordinator keeps for reuse.")
        .at_least(524288).cluster_wide(),
    int("share.coordinator.load.buffer.size", "5242880", "How much is read at a time when a share coordinator loads.")
        .at_least(1),
    int("share.coordinator.snapshot.update.records.per.snapshot", "500", "How many updates follow a snapshot of a share partition.")
        .valid(Valid::Between(0, 500)),
    int("share.coordinator.state.topic.compression.codec", "0", "The codec of __share_group_state, by its number."),
    short("share.coordinator.state.topic.min.isr", "2", "The min.insync.replicas of __share_group_state.")
        .at_least(1),
    int("share.coordinator.state.topic.num.partitions", "50", "The partitions of __share_group_state.").at_least(1),
    short("share.coordinator.state.topic.replication.factor", "3", "The replicas of __share_group_state.")
        .at_least(1).differs(CAPPED_REASON),
    int("share.coordinator.state.topic.segment.bytes", "104857600", "The segment size of __share_group_state.")
        .at_least(1),
    int("share.coordinator.threads", "1", "Kafka's threads for share coordination.").at_least(1),
    int("share.coordinator.write.timeout.ms", "5000", "How long a write of the share coordinator waits for its replicas.")
        .at_least(1),
    int("share.fetch.purgatory.purge.interval.requests", "1000", "Kafka's clean-up of parked share fetches."),
];
