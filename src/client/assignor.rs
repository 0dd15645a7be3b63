//! Who reads which partition: the assignors that a group's leader runs, as plain functions.
//!
//! `range` gives each member a run of every topic's partitions. `sticky` gives all members equally many and leaves with
//! each what it had, as far as that stays fair.

use std::collections::{BTreeMap, BTreeSet};

use super::groups::Place;

/// What one member wants, and what it held until now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscription {
    pub topics: BTreeSet<String>,
    pub owned: BTreeSet<Place>,
    /// The generation in which it held them; of two that say they own a partition the younger is right.
    pub generation: i32,
}

/// By member id.
pub type Subscriptions = BTreeMap<String, Subscription>;
pub type Assignments = BTreeMap<String, BTreeSet<Place>>;

/// Each topic's partitions in runs, to the members in the order of their ids; the first ones get one more.
pub fn range(members: &Subscriptions, partition_counts: &BTreeMap<String, i32>) -> Assignments {
    let mut assignments: Assignments = members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
    for (topic, count) in partition_counts {
        let takers: Vec<&String> =
            members.iter().filter(|(_, wants)| wants.topics.contains(topic)).map(|(id, _)| id).collect();
        let mut next = 0;
        for (index, id) in takers.iter().enumerate() {
            let members_left = (takers.len() - index) as i32;
            // Rounded up: who comes first takes what does not divide.
            let share = (count - next + members_left - 1) / members_left;
            let places = (next..next + share).map(|partition| (topic.clone(), partition));
            assignments.entry((*id).clone()).or_default().extend(places);
            next += share;
        }
    }
    assignments
}

/// Equally many for all who want them; what stays fair stays where it was.
pub fn sticky(members: &Subscriptions, partition_counts: &BTreeMap<String, i32>) -> Assignments {
    let mut assignments: Assignments = members.keys().map(|id| (id.clone(), BTreeSet::new())).collect();
    let mut free: BTreeSet<Place> =
        partition_counts.iter().flat_map(|(topic, count)| (0..*count).map(move |one| (topic.clone(), one))).collect();
    // The youngest generation first: an older claim to the same partition is out of date.
    let mut by_age: Vec<(&String, &Subscription)> = members.iter().collect();
    by_age.sort_by_key(|(_, wants)| -wants.generation);
    for (id, wants) in by_age {
        for place in wants.owned.iter().filter(|(topic, _)| wants.topics.contains(topic)) {
            if free.remove(place) {
                assignments.entry(id.clone()).or_default().insert(place.clone());
            }
        }
    }
    for place in free {
        let poorest = assignments
            .iter()
            .filter(|(id, _)| members.get(*id).is_some_and(|wants| wants.topics.contains(&place.0)))
            .min_by_key(|(_, held)| held.len())
            .map(|(id, _)| id.clone());
        if let Some(id) = poorest {
            assignments.entry(id).or_default().insert(place);
        }
    }
    while let Some((from, to, place)) = unfair_move(members, &assignments) {
        assignments.entry(from).or_default().remove(&place);
        assignments.entry(to).or_default().insert(place);
    }
    assignments
}

/// A partition that should go from one member to another that has at least two fewer.
fn unfair_move(members: &Subscriptions, assignments: &Assignments) -> Option<(String, String, Place)> {
    let mut by_wealth: Vec<(&String, &BTreeSet<Place>)> = assignments.iter().collect();
    by_wealth.sort_by_key(|(_, held)| held.len());
    for (rich, held) in by_wealth.iter().rev() {
        for (poor, has) in &by_wealth {
            if has.len() + 1 >= held.len() {
                break;
            }
            let wants = &members.get(*poor)?.topics;
            // The last one: what comes first in order stays where it is.
            if let Some(place) = held.iter().rev().find(|(topic, _)| wants.contains(topic)) {
                return Some(((*rich).clone(), (*poor).clone(), place.clone()));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(list: &[(&str, &[&str])]) -> Subscriptions {
        let subscription = |topics: &[&str]| Subscription {
            topics: topics.iter().map(|topic| topic.to_string()).collect(),
            generation: -1,
            ..Subscription::default()
        };
        list.iter().map(|(id, topics)| (id.to_string(), subscription(topics))).collect()
    }

    fn counts(list: &[(&str, i32)]) -> BTreeMap<String, i32> {
        list.iter().map(|(topic, count)| (topic.to_string(), *count)).collect()
    }

    fn shown(assignments: &Assignments) -> Vec<String> {
        let one = |(id, held): (&String, &BTreeSet<Place>)| {
            let places: Vec<String> = held.iter().map(|(topic, partition)| format!("{topic}{partition}")).collect();
            format!("{id}:{}", places.join(","))
        };
        assignments.iter().map(one).collect()
    }

    #[test]
    fn range_gives_each_member_a_run_of_every_topic() {
        let three = counts(&[("a", 3), ("b", 3)]);
        let two_members = range(&members(&[("m1", &["a", "b"]), ("m2", &["a", "b"])]), &three);
        assert_eq!(shown(&two_members), ["m1:a0,a1,b0,b1", "m2:a2,b2"]);
        let four =
            range(&members(&[("m1", &["a"]), ("m2", &["a"]), ("m3", &["a"]), ("m4", &["a"])]), &counts(&[("a", 3)]));
        assert_eq!(shown(&four), ["m1:a0", "m2:a1", "m3:a2", "m4:"]);
        let apart = range(&members(&[("m1", &["a"]), ("m2", &["b"])]), &three);
        assert_eq!(shown(&apart), ["m1:a0,a1,a2", "m2:b0,b1,b2"]);
    }

    #[test]
    fn sticky_shares_equally_and_moves_as_little_as_it_must() {
        let topics = counts(&[("a", 5)]);
        let mut group = members(&[("m1", &["a"]), ("m2", &["a"])]);
        let first = sticky(&group, &topics);
        assert_eq!(shown(&first), ["m1:a0,a2,a4", "m2:a1,a3"]);
        for (id, held) in &first {
            group.get_mut(id).unwrap().owned = held.clone();
            group.get_mut(id).unwrap().generation = 1;
        }
        group.extend(members(&[("m3", &["a"])]));
        let second = sticky(&group, &topics);
        assert_eq!(shown(&second), ["m1:a0,a2", "m2:a1,a3", "m3:a4"]);
    }

    #[test]
    fn of_two_claims_to_a_partition_the_younger_is_right() {
        let mut group = members(&[("m1", &["a"]), ("m2", &["a"])]);
        for (id, generation) in [("m1", 3), ("m2", 4)] {
            let claims = group.get_mut(id).unwrap();
            (claims.owned, claims.generation) = (BTreeSet::from([("a".to_owned(), 0)]), generation);
        }
        assert_eq!(shown(&sticky(&group, &counts(&[("a", 2)]))), ["m1:a1", "m2:a0"]);
    }

    #[test]
    fn nobody_gets_what_he_did_not_ask_for() {
        let group = members(&[("m1", &["a", "b"]), ("m2", &["b"])]);
        for assign in [range, sticky] {
            let assignments = assign(&group, &counts(&[("a", 4), ("b", 2), ("c", 1)]));
            assert!(assignments["m2"].iter().all(|(topic, _)| topic == "b"), "{assignments:?}");
            let all: usize = assignments.values().map(BTreeSet::len).sum();
            assert_eq!(all, 6, "all that somebody wants is given once: {assignments:?}");
        }
    }
}
