//! Electing leaders and moving replicas. Partitions are judged one by one; the words are Kafka's.

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, PartitionIndex, TopicId};

use super::command::{Decision, ElectLeaders, ElectionKind, Outcome, PartitionName, Reassignment};
use super::election_rules::change_of;
use super::image::Image;
use super::partition_change::PartitionChange;
use super::record::Record;
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

/// The change of a partition that is there, or a refusal with the words for what is missing.
fn find<'a>(
    image: &'a Image,
    topic_id: Option<TopicId>,
    index: PartitionIndex,
    words: (String, String),
) -> Result<PartitionChange<'a>, Refusal> {
    let (no_topic, no_partition) = words;
    let unknown = |what: String| Refusal::new(ErrorCode::UnknownTopicOrPartition, what);
    let topic_id = topic_id.ok_or_else(|| unknown(no_topic))?;
    change_of(image, topic_id, index).ok_or_else(|| unknown(no_partition))
}

fn elect(image: &Image, kind: ElectionKind, name: &PartitionName) -> Result<Option<Record>, Refusal> {
    let PartitionName { topic, partition: index } = name;
    let topic_id = image.topic_by_name(topic).map(|topic| topic.id);
    let words = (format!("No such topic as {topic}"), format!("No such partition as {topic}-{index}"));
    let change = find(image, topic_id, *index, words)?;
    let before = change.before();
    let preferred = before.replicas.first().copied();
    let (is_needed, change, failure) = match kind {
        ElectionKind::Preferred => {
            (Some(before.leader) != preferred, change.preferably(), ErrorCode::PreferredLeaderNotAvailable)
        }
        ElectionKind::Unclean => (before.leader < 0, change.uncleanly(), ErrorCode::EligibleLeadersNotAvailable),
    };
    if !is_needed {
        return Err(Refusal::new(ErrorCode::ElectionNotNeeded, ErrorCode::ElectionNotNeeded.message()));
    }
    let elected = change.state().filter(|state| match kind {
        ElectionKind::Preferred => Some(state.leader) == preferred,
        ElectionKind::Unclean => state.leader >= 0,
    });
    elected.map(|state| Some(Record::PartitionState(state))).ok_or(Refusal::bare(failure))
}

fn reassign_one(image: &Image, wanted: &Reassignment, may_change_factor: bool) -> Result<Option<Record>, Refusal> {
    let PartitionName { topic, partition: index } = &wanted.name;
    let topic_id = image.topic_by_name(topic).map(|topic| topic.id);
    let words =
        (format!("Unable to find a topic named {topic}."), format!("Unable to find partition {topic}:{index}."));
    let change = find(image, topic_id, *index, words)?;
    let before = change.before();
    let Some(target) = &wanted.replicas else {
        if !before.is_reassigning() {
            return Err(Refusal::bare(ErrorCode::NoReassignmentInProgress));
        }
        let cancelled = change.reassignment_cancelled().ok_or_else(|| cannot_cancel(&wanted.name))?;
        return Ok(cancelled.record());
    };
    check_assignment(image, target, &mut None)?;
    if !may_change_factor {
        check_factor(&before.replicas, &before.adding, target)?;
    }
    Ok(change.reassigned(target).record())
}

fn check_factor(replicas: &[BrokerId], adding: &[BrokerId], target: &[BrokerId]) -> Result<(), Refusal> {
    let factor = replicas.len() - adding.len();
    if factor == target.len() {
        return Ok(());
    }
    let message = format!("The replication factor is changed from {factor} to {}", target.len());
    Err(Refusal::new(ErrorCode::InvalidReplicationFactor, message))
}

fn cannot_cancel(name: &PartitionName) -> Refusal {
    let PartitionName { topic, partition } = name;
    let message = format!(
        "Unable to revert partition assignment for {topic}:{partition} because it would require an unclean leader \
         election."
    );
    Refusal::new(ErrorCode::InvalidReplicaAssignment, message)
}
