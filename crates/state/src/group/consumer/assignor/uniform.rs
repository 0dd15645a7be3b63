//! `uniform`: everybody gets as many partitions as everybody else, one more or less.
//!
//! Members that want the same topics differ by at most one partition in all. Where they want different topics, a
//! partition moves only when that makes two members more equal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::MemberSpec;
use super::balance::Balance;
use crate::group::consumer::{Assignment, TopicPartition};

pub(super) fn assign(
    members: &BTreeMap<Str, MemberSpec>,
    partition_counts: &BTreeMap<TopicId, i32>,
) -> BTreeMap<Str, Assignment> {
    let Some(first) = members.values().next() else { return BTreeMap::new() };
    let is_homogeneous =
        members.values().all(|member| Arc::ptr_eq(&member.topics, &first.topics) || member.topics == first.topics);
    let assignments = if is_homogeneous {
        assign_alike(members, &first.topics, partition_counts)
    } else {
        Balance::new(members, partition_counts).assign()
    };
    members.keys().cloned().zip(assignments).collect()
}

/// Everybody wants the same: each gets the same number, and the first ones that already have more keep one more.
fn assign_alike(
    members: &BTreeMap<Str, MemberSpec>,
    topics: &BTreeSet<TopicId>,
    partition_counts: &BTreeMap<TopicId, i32>,
) -> Vec<Assignment> {
    let all = partitions_of(topics, partition_counts);
    let quota = all.len() / members.len();
    let mut extra_count = all.len() % members.len();
    let mut taken = BTreeSet::new();
    let mut assignments = Vec::with_capacity(members.len());
    for member in members.values() {
        let owned = member.owned.iter().filter(|partition| all.contains(*partition) && !taken.contains(*partition));
        let owned: Vec<TopicPartition> = spread_over_topics(owned.copied());
        let has_extra = owned.len() > quota && extra_count > 0;
        extra_count -= usize::from(has_extra);
        let kept: Assignment = owned.into_iter().take(quota + usize::from(has_extra)).collect();
        taken.extend(kept.iter().copied());
        assignments.push(kept);
    }
    fill_up(&mut assignments, all.difference(&taken).copied());
    assignments
}

pub(super) fn partitions_of(topics: &BTreeSet<TopicId>, partition_counts: &BTreeMap<TopicId, i32>) -> Assignment {
    let known = topics.iter().filter_map(|topic| Some((topic, partition_counts.get(topic)?)));
    known.flat_map(|(topic, count)| (0..*count).map(move |index| (*topic, index))).collect()
}

/// The first partition of each topic, then the second of each, and so on: a member that must give some up keeps some of
/// every topic.
fn spread_over_topics(partitions: impl Iterator<Item = TopicPartition>) -> Vec<TopicPartition> {
    let (mut ranked, mut topic, mut rank) = (Vec::new(), None, 0);
    for partition in partitions {
        rank = if topic == Some(partition.0) { rank + 1 } else { 0 };
        topic = Some(partition.0);
        ranked.push((rank, partition));
    }
    ranked.sort();
    ranked.into_iter().map(|(_, partition)| partition).collect()
}

/// Each partition goes to a member that has the fewest, to the one that waited longest among those.
fn fill_up(assignments: &mut [Assignment], free: impl Iterator<Item = TopicPartition>) {
    let counted = assignments.iter().enumerate();
    let mut waiting: BTreeSet<(usize, usize, usize)> = counted.map(|(index, held)| (held.len(), 0, index)).collect();
    for (turn, partition) in free.enumerate() {
        let (count, _, index) = waiting.pop_first().expect("there is a member, and each comes back");
        assignments[index].insert(partition);
        waiting.insert((count + 1, turn + 1, index));
    }
}
