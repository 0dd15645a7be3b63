//! The configurations of a group: Kafka 4.3's. Behind each stands the broker's default for all groups. Sorted by name.

use super::definition::{ConfigDef, boolean, int, string};
use super::origin::Lookup;
use super::valid::Valid;

/// Every configuration that a group can have, by name.
pub fn group_configs() -> &'static [ConfigDef] {
    GROUP
}

#[rustfmt::skip] // a table, one definition after the other
static GROUP: &[ConfigDef] = &[
    int("consumer.assignment.interval.ms", "1000", "The shortest time between two assignments of the group.")
        .at_least(0).synonyms(&["group.consumer.assignment.interval.ms"]).cluster_wide().honoured(),
    int("consumer.heartbeat.interval.ms", "5000", "How often a member is told to report.")
        .at_least(1).synonyms(&["group.consumer.heartbeat.interval.ms"]).cluster_wide().honoured(),
    int("consumer.session.timeout.ms", "45000", "After how long without a report a member is removed.")
        .at_least(1).synonyms(&["group.consumer.session.timeout.ms"]).cluster_wide().honoured(),
    int("share.assignment.interval.ms", "1000", "The shortest time between two assignments of the share group.")
        .at_least(0).synonyms(&["group.share.assignment.interval.ms"]).cluster_wide(),
    string("share.auto.offset.reset", "latest", "Where a share group begins in a partition: `earliest`, `latest` or `by_duration:PnDTnHnMn.nS`.")
        .valid(Valid::OffsetReset).cluster_wide(),
    int("share.delivery.count.limit", "5", "How often a record is delivered before it is given up.")
        .valid(Valid::Between(2, 10)).synonyms(&["group.share.delivery.count.limit"]).cluster_wide(),
    int("share.heartbeat.interval.ms", "5000", "How often a member of the share group is told to report.")
        .at_least(1).synonyms(&["group.share.heartbeat.interval.ms"]).cluster_wide(),
    string("share.isolation.level", "read_uncommitted", "Whether the share group sees records of open transactions.")
        .one_of(&["read_committed", "read_uncommitted"]).cluster_wide(),
    int("share.partition.max.record.locks", "2000", "The most records of a partition that may be locked at a time.")
        .valid(Valid::Between(100, 10_000)).synonyms(&["group.share.partition.max.record.locks"]).cluster_wide(),
    int("share.record.lock.duration.ms", "30000", "How long a delivered record is locked for the member that got it.")
        .valid(Valid::Between(1000, 3_600_000)).synonyms(&["group.share.record.lock.duration.ms"]).cluster_wide(),
    boolean("share.renew.acknowledge.enable", "true", "Whether a member may prolong its locks.").cluster_wide(),
    int("share.session.timeout.ms", "45000", "After how long without a report a member of the share group is removed.")
        .at_least(1).synonyms(&["group.share.session.timeout.ms"]).cluster_wide(),
    int("streams.assignment.interval.ms", "1000", "The shortest time between two assignments of the streams group.")
        .at_least(0).synonyms(&["group.streams.assignment.interval.ms"]).cluster_wide(),
    int("streams.heartbeat.interval.ms", "5000", "How often a member of the streams group is told to report.")
        .at_least(1).synonyms(&["group.streams.heartbeat.interval.ms"]).cluster_wide(),
    int("streams.initial.rebalance.delay.ms", "3000", "How long an empty streams group waits for more members.")
        .at_least(0).synonyms(&["group.streams.initial.rebalance.delay.ms"]).cluster_wide(),
    int("streams.num.standby.replicas", "0", "How many standby replicas the streams group has.")
        .at_least(0).synonyms(&["group.streams.num.standby.replicas"]).cluster_wide(),
    int("streams.session.timeout.ms", "45000", "After how long without a report a member of the streams group is removed.")
        .at_least(1).synonyms(&["group.streams.session.timeout.ms"]).cluster_wide(),
];

/// A broker bounds what its groups may set: `group.consumer.min.session.timeout.ms` is the least for
/// `consumer.session.timeout.ms`. `broker` answers with the value that holds. The words are Kafka's.
pub fn check_group_bounds(name: &str, value: &str, broker: Lookup<'_>) -> Result<(), String> {
    let (Some((protocol, rest)), Ok(number)) = (name.split_once('.'), value.trim().parse::<i64>()) else {
        return Ok(());
    };
    let bound = |bound: &str| {
        let name = match rest.strip_prefix("num.") {
            // `group.streams.max.standby.replicas`
            Some(counted) => format!("group.{protocol}.{bound}.{counted}"),
            None => format!("group.{protocol}.{bound}.{rest}"),
        };
        let value = broker(&name)?.trim().parse::<i64>().ok()?;
        Some((name, value))
    };
    match (bound("min"), bound("max")) {
        (Some((least, value)), _) if number < value => Err(format!("{name} must be greater than or equal to {least}")),
        (_, Some((most, value))) if number > value => Err(format!("{name} must be less than or equal to {most}")),
        _ => Ok(()),
    }
}
