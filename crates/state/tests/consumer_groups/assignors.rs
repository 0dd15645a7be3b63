//! The assignors: complete, balanced, sticky, and the same on every run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use capek_state::group::consumer::{Assignment, Assignor, MemberSpec};
use capek_wire::{Str, TopicId};
use proptest::prelude::*;

use crate::world::{partitions, topic_id};

type Members = BTreeMap<Str, MemberSpec>;
type Targets = BTreeMap<Str, Assignment>;

fn spec(topics: &[u8]) -> MemberSpec {
    MemberSpec { topics: Arc::new(topics.iter().map(|topic| topic_id(*topic)).collect()), ..Default::default() }
}

fn owning(mut spec: MemberSpec, owned: Assignment) -> MemberSpec {
    spec.owned = owned;
    spec
}

fn members(specs: Vec<(&str, MemberSpec)>) -> Members {
    specs.into_iter().map(|(member_id, spec)| (Str::from(member_id), spec)).collect()
}

fn counts(topics: &[(u8, i32)]) -> BTreeMap<TopicId, i32> {
    topics.iter().map(|(topic, count)| (topic_id(*topic), *count)).collect()
}

fn both(first: Assignment, second: Assignment) -> Assignment {
    first.into_iter().chain(second).collect()
}

#[track_caller]
fn check(assignor: Assignor, specs: Vec<(&str, MemberSpec)>, topics: &[(u8, i32)], expected: Vec<(&str, Assignment)>) {
    let expected: Targets = expected.into_iter().map(|(member_id, target)| (Str::from(member_id), target)).collect();
    assert_eq!(assignor.assign(&members(specs), &counts(topics)), expected);
}

#[test]
fn uniform_gives_everything_to_the_only_member() {
    check(Assignor::Uniform, vec![("a", spec(&[1]))], &[(1, 3)], vec![("a", partitions(1, 0..3))]);
    check(Assignor::Uniform, vec![], &[(1, 3)], vec![]);
    check(Assignor::Uniform, vec![("a", spec(&[]))], &[], vec![("a", partitions(1, []))]);
}

#[test]
fn uniform_spreads_every_topic_over_the_members() {
    let specs = vec![("a", spec(&[1, 2])), ("b", spec(&[1, 2]))];
    let expected = vec![
        ("a", both(partitions(1, [0, 2]), partitions(2, [1]))),
        ("b", both(partitions(1, [1]), partitions(2, [0, 2]))),
    ];
    check(Assignor::Uniform, specs, &[(1, 3), (2, 3)], expected);
}

#[test]
fn uniform_takes_from_a_member_only_what_a_new_one_needs() {
    let specs = vec![("a", owning(spec(&[1]), partitions(1, 0..6))), ("b", spec(&[1]))];
    check(Assignor::Uniform, specs, &[(1, 6)], vec![("a", partitions(1, 0..3)), ("b", partitions(1, 3..6))]);
}

#[test]
fn uniform_leaves_one_more_with_those_who_have_it() {
    let specs = vec![
        ("a", owning(spec(&[1]), partitions(1, [0, 1]))),
        ("b", owning(spec(&[1]), partitions(1, [2, 3, 4]))),
        ("c", spec(&[1])),
    ];
    let expected = vec![("a", partitions(1, [0, 1])), ("b", partitions(1, [2, 3, 4])), ("c", partitions(1, [5, 6]))];
    check(Assignor::Uniform, specs, &[(1, 7)], expected);
}

#[test]
fn uniform_forgets_partitions_that_are_gone_or_not_wanted() {
    let specs = vec![("a", owning(spec(&[1]), both(partitions(1, [0, 9]), partitions(2, [0]))))];
    check(Assignor::Uniform, specs, &[(1, 2), (2, 1)], vec![("a", partitions(1, [0, 1]))]);
}

#[test]
fn uniform_balances_members_that_want_different_topics() {
    let specs = vec![("a", spec(&[1, 2])), ("b", spec(&[1])), ("c", spec(&[2]))];
    let expected = vec![
        ("a", both(partitions(1, [0]), partitions(2, [2]))),
        ("b", partitions(1, [1, 2])),
        ("c", partitions(2, [0, 1])),
    ];
    let targets = Assignor::Uniform.assign(&members(specs.clone()), &counts(&[(1, 3), (2, 3)]));
    assert!(targets.values().all(|target| target.len() == 2), "{targets:?}");
    check(Assignor::Uniform, specs, &[(1, 3), (2, 3)], expected);
}

#[test]
fn uniform_moves_partitions_of_unlike_members_only_as_far_as_it_helps() {
    let specs = vec![
        ("a", owning(spec(&[1, 2]), both(partitions(1, 0..3), partitions(2, 0..3)))),
        ("b", spec(&[1])),
        ("c", spec(&[2])),
    ];
    let expected = vec![
        ("a", both(partitions(1, [2]), partitions(2, [0]))),
        ("b", partitions(1, [0, 1])),
        ("c", partitions(2, [1, 2])),
    ];
    let targets = Assignor::Uniform.assign(&members(specs.clone()), &counts(&[(1, 3), (2, 3)]));
    assert_eq!(targets.values().map(BTreeSet::len).collect::<Vec<_>>(), [2, 2, 2]);
    check(Assignor::Uniform, specs, &[(1, 3), (2, 3)], expected);
}

#[test]
fn range_cuts_each_topic_into_ranges() {
    let specs = vec![("a", spec(&[1])), ("b", spec(&[1]))];
    check(Assignor::Range, specs, &[(1, 5)], vec![("a", partitions(1, 0..3)), ("b", partitions(1, 3..5))]);
}

#[test]
fn range_gives_the_first_members_what_does_not_go_round() {
    let specs = vec![("a", spec(&[1])), ("b", spec(&[1])), ("c", spec(&[1]))];
    let expected = vec![("a", partitions(1, [0])), ("b", partitions(1, [1])), ("c", partitions(1, []))];
    check(Assignor::Range, specs, &[(1, 2)], expected);
}

#[test]
fn range_cuts_topics_of_the_same_size_alike() {
    // `b` has lost its place in topic 2 only: the cut of topic 1 holds for both.
    let specs = vec![
        ("a", owning(spec(&[1, 2]), both(partitions(1, 0..2), partitions(2, 0..4)))),
        ("b", owning(spec(&[1, 2]), partitions(1, 2..4))),
    ];
    let expected = vec![
        ("a", both(partitions(1, 0..2), partitions(2, 0..2))),
        ("b", both(partitions(1, 2..4), partitions(2, 2..4))),
    ];
    check(Assignor::Range, specs, &[(1, 4), (2, 4)], expected);
}

#[test]
fn range_orders_static_members_by_their_instance_ids() {
    let with_instance = |id: &str| MemberSpec { instance_id: Some(Str::from(id)), ..spec(&[1]) };
    let specs = vec![("a", spec(&[1])), ("y", with_instance("i2")), ("z", with_instance("i1"))];
    let expected = vec![("a", partitions(1, [2])), ("y", partitions(1, [1])), ("z", partitions(1, [0]))];
    check(Assignor::Range, specs, &[(1, 3)], expected);
}

#[test]
fn range_keeps_what_members_have_when_one_leaves() {
    let specs =
        vec![("b", owning(spec(&[1]), partitions(1, [2, 3]))), ("c", owning(spec(&[1]), partitions(1, [4, 5])))];
    let expected = vec![("b", partitions(1, [0, 2, 3])), ("c", partitions(1, [1, 4, 5]))];
    check(Assignor::Range, specs, &[(1, 6)], expected);
}

#[test]
fn range_cuts_topics_of_different_subscribers_apart() {
    let specs = vec![("a", spec(&[1, 2])), ("b", spec(&[2]))];
    let expected = vec![("a", both(partitions(1, 0..2), partitions(2, [0]))), ("b", partitions(2, [1]))];
    check(Assignor::Range, specs, &[(1, 2), (2, 2)], expected);
}

/// Topics that a member wants, and partitions that it has.
type Wishes = (BTreeSet<u8>, BTreeSet<(u8, i32)>);

/// Members with any subscriptions, who own what they like, even what others own.
fn any_group(is_homogeneous: bool) -> impl Strategy<Value = (Members, BTreeMap<TopicId, i32>)> {
    let topics = prop::collection::btree_map(1u8..6, 0i32..8, 0..5);
    let member = (prop::collection::btree_set(1u8..7, 0..5), prop::collection::btree_set((1u8..7, 0i32..9), 0..12));
    (topics, prop::collection::vec(member, 0..7)).prop_map(move |(topics, specs)| {
        let all: BTreeSet<u8> = topics.keys().copied().collect();
        let counts = topics.iter().map(|(topic, count)| (topic_id(*topic), *count)).collect();
        let spec = |(index, (wanted, owned)): (usize, Wishes)| {
            let wanted = if is_homogeneous { all.clone() } else { wanted };
            let spec = MemberSpec {
                instance_id: (index % 3 == 0).then(|| Str::from(format!("i{}", 9 - index))),
                topics: Arc::new(wanted.into_iter().map(topic_id).collect()),
                owned: owned.into_iter().map(|(topic, index)| (topic_id(topic), index)).collect(),
            };
            (Str::from(format!("m{index}")), spec)
        };
        (specs.into_iter().enumerate().map(spec).collect(), counts)
    })
}

/// Every partition that somebody wants goes to exactly one member that wants it.
fn assert_complete(members: &Members, counts: &BTreeMap<TopicId, i32>, targets: &Targets) {
    let mut given = BTreeMap::new();
    for (member_id, target) in targets {
        for partition in target {
            assert!(members[member_id].topics.contains(&partition.0), "{member_id} does not want {partition:?}");
            assert_eq!(given.insert(*partition, member_id.clone()), None, "{partition:?} has two owners");
        }
    }
    let wanted = |topic: &&TopicId| members.values().any(|member| member.topics.contains(*topic));
    let expected: usize = counts.keys().filter(wanted).map(|topic| counts[topic] as usize).sum();
    assert_eq!(given.len(), expected);
    assert_eq!(targets.len(), members.len());
}

fn with_targets(members: &Members, targets: &Targets) -> Members {
    members.iter().map(|(id, spec)| (id.clone(), owning(spec.clone(), targets[id].clone()))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn every_wanted_partition_has_one_owner((members, counts) in any_group(false)) {
        for assignor in Assignor::ALL {
            assert_complete(&members, &counts, &assignor.assign(&members, &counts));
        }
    }

    #[test]
    fn members_that_want_the_same_differ_by_one((members, counts) in any_group(true)) {
        let targets = Assignor::Uniform.assign(&members, &counts);
        assert_complete(&members, &counts, &targets);
        let loads: Vec<usize> = targets.values().map(BTreeSet::len).collect();
        prop_assert!(loads.iter().max() <= loads.iter().min().map(|least| least + 1).as_ref());
    }

    #[test]
    fn no_way_leads_from_a_member_to_one_with_two_less((members, counts) in any_group(false)) {
        let targets = Assignor::Uniform.assign(&members, &counts);
        for (rich, held) in &targets {
            // Everybody who would gain if members passed partitions on, beginning with this one.
            let mut reached = BTreeSet::from([rich]);
            while let Some(next) = targets.keys().find(|next| {
                let wants = |topic: &TopicId| members[*next].topics.contains(topic);
                !reached.contains(*next) && reached.iter().any(|from| targets[*from].iter().any(|(topic, _)| wants(topic)))
            }) {
                reached.insert(next);
            }
            for poor in reached {
                prop_assert!(targets[poor].len() + 2 > held.len(), "{} with {} and {}", rich, held.len(), poor);
            }
        }
    }

    #[test]
    fn an_assignment_that_is_good_stays((members, counts) in any_group(false)) {
        for assignor in Assignor::ALL {
            let targets = assignor.assign(&members, &counts);
            let again = assignor.assign(&with_targets(&members, &targets), &counts);
            prop_assert_eq!(again, targets, "{:?}", assignor);
        }
    }

    /// A member joins a balanced group: nothing moves between the old members, and only its share moves at all.
    #[test]
    fn a_new_member_of_like_members_takes_its_share_and_no_more((members, counts) in any_group(true)) {
        prop_assume!(!members.is_empty());
        let before = Assignor::Uniform.assign(&members, &counts);
        let mut joined = with_targets(&members, &before);
        let topics = members.values().next().expect("there is one").topics.clone();
        joined.insert(Str::from("z"), MemberSpec { topics, ..Default::default() });
        let after = Assignor::Uniform.assign(&joined, &counts);
        for (member_id, target) in &before {
            prop_assert!(after[member_id].is_subset(target), "{} got something from an old member", member_id);
        }
    }

    /// A member leaves: the others keep all that they had.
    #[test]
    fn those_who_stay_keep_what_they_have((members, counts) in any_group(true)) {
        prop_assume!(members.len() > 1);
        for assignor in Assignor::ALL {
            let before = assignor.assign(&members, &counts);
            let mut left = with_targets(&members, &before);
            left.pop_first();
            let after = assignor.assign(&left, &counts);
            for (member_id, target) in &after {
                prop_assert!(before[member_id].is_subset(target), "{:?}: {} lost something", assignor, member_id);
            }
        }
    }
}
