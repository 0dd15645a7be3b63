//! Leaderships go back to where they were placed: a cluster whose brokers were restarted one after the other is led by few of
//! them. Whoever has the timer (Kafka's `leader.imbalance.check.interval.seconds`) asks for these elections.

use super::command::{Command, ElectLeaders, ElectionKind, PartitionName};
use super::image::{Image, Partition};

/// The most elections that one command asks for: followers have to find their new leaders.
const ELECTIONS_MAX: usize = 1000;

/// The command that gives partitions back to their preferred leaders, where those are in sync and active. None: all are led
/// by whom they should be.
pub fn preferred_leaders_to_return(image: &Image) -> Option<Command> {
    let is_due = |partition: &Partition| {
        partition.replicas.first().is_some_and(|preferred| {
            partition.leader != *preferred
                && partition.isr.contains(preferred)
                && !partition.offline.contains(preferred)
                && image.broker(*preferred).is_some_and(|broker| broker.is_active())
        })
    };
    let mut partitions = Vec::new();
    for topic in image.topics() {
        let due = (0..).zip(&topic.partitions).filter(|(_, partition)| is_due(partition));
        let names = due.map(|(partition, _)| PartitionName { topic: topic.name.to_string(), partition });
        partitions.extend(names.take(ELECTIONS_MAX - partitions.len()));
    }
    if partitions.is_empty() {
        return None;
    }
    Some(Command::ElectLeaders(ElectLeaders { kind: ElectionKind::Preferred, partitions }))
}
