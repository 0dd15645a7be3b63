//! `range`: each topic is cut into ranges, one for each member that wants it.
//!
//! Topics with the same subscribers and the same number of partitions are cut alike: whoever has partition 3 of one has
//! partition 3 of the others, which is what joins need. Static members come first, by instance id, so a restart does not
//! change the order. A member keeps the partitions that it has, as far as its share goes.

use std::collections::BTreeMap;

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::MemberSpec;
use crate::group::consumer::Assignment;

pub(super) fn assign(
    members: &BTreeMap<Str, MemberSpec>,
    partition_counts: &BTreeMap<TopicId, i32>,
) -> BTreeMap<Str, Assignment> {
    let mut ordered: Vec<(&Str, &MemberSpec)> = members.iter().collect();
    ordered.sort_by_key(|(member_id, member)| {
        (member.instance_id.is_none(), member.instance_id.clone(), (*member_id).clone())
    });
    let mut assignments = vec![Assignment::new(); ordered.len()];
    for ((subscribers, partition_count), topics) in alike(&ordered, partition_counts) {
        let previous = previous_owners(&ordered, &subscribers, &topics, partition_count);
        let owners = cut(&previous, subscribers.len());
        for (index, place) in owners.into_iter().enumerate() {
            let partitions = topics.iter().map(|topic| (*topic, index as i32));
            assignments[subscribers[place]].extend(partitions);
        }
    }
    ordered.into_iter().map(|(member_id, _)| member_id.clone()).zip(assignments).collect()
}

/// Topics by who wants them and how many partitions they have; nobody wants nothing.
fn alike(
    ordered: &[(&Str, &MemberSpec)],
    partition_counts: &BTreeMap<TopicId, i32>,
) -> BTreeMap<(Vec<usize>, usize), Vec<TopicId>> {
    let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (index, (_, member)) in ordered.iter().enumerate() {
        for topic in member.topics.iter() {
            subscribers.entry(*topic).or_default().push(index);
        }
    }
    let mut groups: BTreeMap<(Vec<usize>, usize), Vec<TopicId>> = BTreeMap::new();
    for (topic, subscribers) in subscribers {
        let partition_count = partition_counts.get(&topic).copied().unwrap_or(0).max(0) as usize;
        groups.entry((subscribers, partition_count)).or_default().push(topic);
    }
    groups
}

/// Who had each partition, as a place among the subscribers: of the first topic in which somebody had it.
fn previous_owners(
    ordered: &[(&Str, &MemberSpec)],
    subscribers: &[usize],
    topics: &[TopicId],
    partition_count: usize,
) -> Vec<Option<usize>> {
    let mut owners = vec![None; partition_count];
    for topic in topics {
        for (place, index) in subscribers.iter().enumerate() {
            for (_, partition) in ordered[*index].1.owned.range((*topic, 0)..=(*topic, i32::MAX)) {
                if let Some(owner) = owners.get_mut(*partition as usize) {
                    owner.get_or_insert(place);
                }
            }
        }
    }
    owners
}

/// A place for each partition: first those that stay where they are, then ranges of the rest.
fn cut(previous: &[Option<usize>], member_count: usize) -> Vec<usize> {
    let quota = previous.len() / member_count;
    let mut extra_count = previous.len() % member_count;
    let mut held = vec![0; member_count];
    previous.iter().flatten().for_each(|place| held[*place] += 1);
    let mut shares = vec![quota; member_count];
    // One more for those who have more already, then for the first ones.
    for has_more in [true, false] {
        for place in 0..member_count {
            if extra_count > 0 && shares[place] == quota && (held[place] > quota) == has_more {
                shares[place] += 1;
                extra_count -= 1;
            }
        }
    }
    let mut owners = vec![None; previous.len()];
    for (owner, previous) in owners.iter_mut().zip(previous) {
        if let Some(place) = previous.filter(|place| shares[*place] > 0) {
            shares[place] -= 1;
            *owner = Some(place);
        }
    }
    let mut rest = shares.into_iter().enumerate().flat_map(|(place, share)| std::iter::repeat_n(place, share));
    let mut next = || rest.next().expect("the shares add up to the partitions");
    owners.into_iter().map(|owner| owner.unwrap_or_else(&mut next)).collect()
}
