//! Electing leaders and moving replicas. Partitions are judged one by one; the words are Kafka's.

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, PartitionIndex};

use super::command::{Decision, ElectLeaders, ElectionKind, Outcome, PartitionName, Reassignment};
use super::image::{Image, Partition, Topic};
use super::record::{PartitionRecord, Record};
use super::topic_commands::check_assignment;
use crate::Refusal;

pub(super) fn elect_leaders(image: &Image, command: &ElectLeaders) -> Decision {
    each(image, &command.partitions, |image, name| elect(image, command.kind, name))
}

pub(super) fn reassign(image: &Image, reassignments: &[Reassignment], may_change_factor: bool) -> Decision {
    each(image, reassignments, |image, wanted| reassign_one(image, wanted, may_change_factor))
}

/// One after the other: of a partition that is named twice the second wish is judged after the first.
fn each<T>(image: &Image, wishes: &[T], judge: impl Fn(&Image, &T) -> Result<Option<Record>, Refusal>) -> Decision {
    let mut image = image.clone();
    let mut records = Vec::new();
    let mut outcomes = Vec::with_capacity(wishes.len());
    for wish in wishes {
        let judged = judge(&image, wish);
        if let Ok(Some(record)) = &judged {
            image.apply(record);
        }
        outcomes.push(judged.map(|record| records.extend(record)));
    }
    Decision { records, outcome: Outcome::Each(outcomes), ..Decision::default() }
}

fn elect(image: &Image, kind: ElectionKind, name: &PartitionName) -> Result<Option<Record>, Refusal> {
    let PartitionName { topic, partition: index } = name;
    let unknown = |what: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, what);
    let found = image.topic_by_name(topic).ok_or_else(|| unknown(format!("No such topic as {topic}")))?;
    let partition = found.partition(*index).ok_or_else(|| unknown(format!("No such partition as {topic}-{index}")))?;
    let is_active = |broker: &BrokerId| image.broker(*broker).is_some_and(|broker| !broker.fenced);
    let preferred = partition.replicas.first().copied();
    let leader = match kind {
        ElectionKind::Preferred if Some(partition.leader) == preferred => return Err(not_needed()),
        ElectionKind::Unclean if partition.leader >= 0 => return Err(not_needed()),
        ElectionKind::Preferred => preferred.filter(|broker| partition.isr.contains(broker) && is_active(broker)),
        ElectionKind::Unclean => {
            let clean = partition.replicas.iter().find(|broker| partition.isr.contains(broker) && is_active(broker));
            clean.or_else(|| partition.replicas.iter().find(|broker| is_active(broker))).copied()
        }
    };
    let Some(leader) = leader else {
        return Err(Refusal::bare(match kind {
            ElectionKind::Preferred => ErrorCode::PreferredLeaderNotAvailable,
            ElectionKind::Unclean => ErrorCode::EligibleLeadersNotAvailable,
        }));
    };
    let isr = if partition.isr.contains(&leader) { partition.isr.clone() } else { vec![leader] };
    let leader_epoch = partition.leader_epoch + 1;
    Ok(Some(Record::Partition(PartitionRecord { isr, leader, leader_epoch, ..changed(found, *index, partition) })))
}

fn not_needed() -> Refusal {
    Refusal::new(ErrorCode::ElectionNotNeeded, ErrorCode::ElectionNotNeeded.message())
}

fn reassign_one(image: &Image, wanted: &Reassignment, may_change_factor: bool) -> Result<Option<Record>, Refusal> {
    let PartitionName { topic, partition: index } = &wanted.name;
    let unknown = |what: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, what);
    let found = image.topic_by_name(topic).ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?;
    let partition =
        found.partition(*index).ok_or_else(|| unknown(format!("Unable to find partition {topic}:{index}.")))?;
    let Some(replicas) = &wanted.replicas else {
        return Err(Refusal::bare(ErrorCode::NoReassignmentInProgress));
    };
    check_assignment(image, replicas, &mut None)?;
    if !may_change_factor && replicas.len() != partition.replicas.len() {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicationFactor,
            format!("The replication factor is changed from {} to {}", partition.replicas.len(), replicas.len()),
        ));
    }
    if *replicas == partition.replicas {
        return Ok(None);
    }
    if !replicas.iter().all(|broker| partition.replicas.contains(broker)) || replicas.len() != partition.replicas.len()
    {
        return Err(Refusal::new(
            ErrorCode::InvalidReplicaAssignment,
            "Replicas cannot move to other brokers yet; only their order can change.",
        ));
    }
    // The same brokers in another order: another one is preferred from now on.
    let dir_of = |broker: &BrokerId| {
        let index = partition.replicas.iter().position(|replica| replica == broker);
        index.and_then(|index| partition.dirs.get(index)).copied().unwrap_or_default()
    };
    let (replicas, dirs) = (replicas.clone(), replicas.iter().map(dir_of).collect());
    Ok(Some(Record::Partition(PartitionRecord { replicas, dirs, ..changed(found, *index, partition) })))
}

/// The partition as it is, about to be changed.
fn changed(topic: &Topic, index: PartitionIndex, partition: &Partition) -> PartitionRecord {
    PartitionRecord {
        topic_id: topic.id,
        partition: index,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch + 1,
        dirs: partition.dirs.clone(),
    }
}
