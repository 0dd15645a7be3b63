//! What brokers tell of the replicas that they have: who is in sync, which logs are offline.

use std::collections::BTreeSet;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, PartitionIndex, TopicId};

use super::broker_commands::current;
use super::command::{AlterPartition, AlterPartitions, Decision, Outcome};
use super::decide::records;
use super::election_rules::change_of;
use super::image::{Image, Partition};
use super::partition_change::PartitionChange;
use super::record::{PartitionStateRecord, Record};
use crate::Refusal;

/// Leaders say who is in sync (Kafka's AlterPartition). Each is judged by itself. Who proposes the set that is wants the next
/// partition epoch: whatever was proposed about this one, and is on its way yet, is void then.
pub(super) fn alter_partitions(image: &Image, command: &AlterPartitions) -> Result<Decision, Refusal> {
    current(image, command.broker, command.broker_epoch)?;
    let mut altered = BTreeSet::new();
    let mut made = Vec::new();
    let mut outcomes = Vec::with_capacity(command.partitions.len());
    for wanted in &command.partitions {
        // The partition epoch of one that is named again is that of before its first change.
        let is_again = altered.contains(&(wanted.topic_id, wanted.partition));
        let judged = if is_again { Err(stale()) } else { alter_partition(image, command.broker, wanted) };
        outcomes.push(judged.and_then(|state| {
            altered.insert((wanted.topic_id, wanted.partition));
            let leader = state.leader;
            made.push(Record::PartitionState(state));
            if leader == command.broker { Ok(()) } else { Err(Refusal::bare(ErrorCode::NewLeaderElected)) }
        }));
    }
    Ok(Decision { outcome: Outcome::Each(outcomes), ..records(made) })
}

fn alter_partition(image: &Image, broker: BrokerId, wanted: &AlterPartition) -> Result<PartitionStateRecord, Refusal> {
    if image.topic(wanted.topic_id).is_none() {
        return Err(Refusal::bare(ErrorCode::UnknownTopicId));
    }
    let Some(change) = change_of(image, wanted.topic_id, wanted.partition) else {
        return Err(Refusal::bare(ErrorCode::UnknownTopicOrPartition));
    };
    let partition = change.before();
    check_epochs(partition, broker, wanted)?;
    let in_sync: Vec<BrokerId> = wanted.isr.iter().map(|(member, _)| *member).collect();
    check_members(partition, broker, &in_sync)?;
    for (member, epoch) in &wanted.isr {
        check_eligible(image, partition, *member, *epoch)?;
    }
    Ok(change.with_in_sync(in_sync).renewed().state().expect("a renewed partition has a record"))
}

fn check_epochs(partition: &Partition, broker: BrokerId, wanted: &AlterPartition) -> Result<(), Refusal> {
    if wanted.leader_epoch > partition.leader_epoch || wanted.partition_epoch > partition.partition_epoch {
        return Err(Refusal::new(ErrorCode::NotController, "the leader knows more than this controller"));
    }
    if wanted.leader_epoch < partition.leader_epoch {
        let message = format!("the leader is {} in epoch {}", partition.leader, partition.leader_epoch);
        return Err(Refusal::new(ErrorCode::FencedLeaderEpoch, message));
    }
    if partition.leader != broker {
        let message = format!("broker {broker} does not lead, {} does", partition.leader);
        return Err(Refusal::new(ErrorCode::InvalidRequest, message));
    }
    if wanted.partition_epoch < partition.partition_epoch {
        return Err(stale());
    }
    Ok(())
}

fn stale() -> Refusal {
    Refusal::bare(ErrorCode::InvalidUpdateVersion)
}

fn check_members(partition: &Partition, broker: BrokerId, in_sync: &[BrokerId]) -> Result<(), Refusal> {
    let is_set = in_sync.iter().collect::<BTreeSet<_>>().len() == in_sync.len();
    if !is_set || !in_sync.contains(&broker) || !in_sync.iter().all(|member| partition.replicas.contains(member)) {
        return Err(Refusal::new(
            ErrorCode::InvalidRequest,
            "an in-sync set is made of replicas, each once, the leader among them",
        ));
    }
    Ok(())
}

/// Whoever joins must be active in the life that fetched. A member may be about to shut down: it is in sync until it goes.
fn check_eligible(image: &Image, partition: &Partition, member: BrokerId, epoch: i64) -> Result<(), Refusal> {
    let is_member = partition.isr.contains(&member);
    let known = image.broker(member).filter(|known| known.epoch == epoch);
    let is_there = known.is_some_and(|known| if is_member { !known.fenced } else { known.is_active() });
    if is_there && !partition.offline.contains(&member) {
        return Ok(());
    }
    let message = format!("broker {member} is not active with epoch {epoch}, or its log is offline");
    Err(Refusal::new(ErrorCode::IneligibleReplica, message))
}

/// These replicas of a living broker are offline: others lead.
pub(super) fn replicas_failed(
    image: &Image,
    broker: BrokerId,
    epoch: i64,
    partitions: &[(TopicId, PartitionIndex)],
) -> Result<Decision, Refusal> {
    current(image, broker, epoch)?;
    Ok(each_named(image, partitions, |change| change.offline(broker).record()))
}

/// They are back: they may lead where they are eligible, and catch up elsewhere.
pub(super) fn replicas_back(
    image: &Image,
    broker: BrokerId,
    epoch: i64,
    partitions: &[(TopicId, PartitionIndex)],
) -> Result<Decision, Refusal> {
    current(image, broker, epoch)?;
    Ok(each_named(image, partitions, |change| change.online(broker).record()))
}

/// Each once; one that is deleted meanwhile needs nothing.
fn each_named<'a>(
    image: &'a Image,
    partitions: &[(TopicId, PartitionIndex)],
    change: impl Fn(PartitionChange<'a>) -> Option<Record>,
) -> Decision {
    let named: BTreeSet<_> = partitions.iter().collect();
    let changes = named.into_iter().filter_map(|(topic_id, index)| change_of(image, *topic_id, *index));
    records(changes.filter_map(change).collect())
}
