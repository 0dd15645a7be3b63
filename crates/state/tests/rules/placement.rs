//! Where replicas go.

use std::collections::{BTreeMap, BTreeSet};

use capek_state::cluster::placement::{Candidate, Wanted, place};
use capek_wire::ErrorCode;
use proptest::prelude::*;

use crate::fixtures::assert_refused;

fn brokers(racks: &[Option<&str>]) -> Vec<Candidate> {
    let of = |(index, rack): (usize, &Option<&str>)| Candidate {
        broker: index as i32 + 1,
        rack: rack.map(str::to_owned),
        fenced: false,
    };
    racks.iter().enumerate().map(of).collect()
}

fn wanted(partitions: usize, replication_factor: usize) -> Wanted {
    Wanted { partitions, replication_factor }
}

#[test]
fn one_broker_gets_everything() {
    assert_eq!(place(&brokers(&[None]), wanted(3, 1), 42), Ok(vec![vec![1], vec![1], vec![1]]));
}

#[test]
fn leaders_take_turns_and_the_seed_says_who_begins() {
    let leaders = |seed| -> Vec<i32> {
        let placed = place(&brokers(&[None; 3]), wanted(3, 1), seed).expect("there are enough");
        placed.into_iter().map(|replicas| replicas[0]).collect()
    };
    assert_eq!(leaders(0), [1, 2, 3]);
    assert_eq!(leaders(1), [2, 3, 1]);
    assert_eq!(leaders(5), [3, 1, 2]);
}

#[test]
fn replicas_of_a_partition_are_in_different_racks() {
    let candidates = brokers(&[Some("a"), Some("a"), Some("b"), Some("b"), Some("c"), Some("c")]);
    for replicas in place(&candidates, wanted(30, 3), 7).expect("there are enough") {
        let racks: BTreeSet<_> = replicas.iter().map(|broker| (broker - 1) / 2).collect();
        assert_eq!(racks.len(), 3, "{replicas:?}");
    }
}

#[test]
fn fenced_brokers_come_last_and_never_lead() {
    let mut candidates = brokers(&[None; 3]);
    candidates[1].fenced = true;
    for replicas in place(&candidates, wanted(6, 3), 0).expect("there are enough") {
        assert_eq!(replicas[2], 2);
    }
    let placed = place(&candidates, wanted(6, 2), 0).expect("there are enough");
    assert!(placed.iter().flatten().all(|broker| *broker != 2));
}

#[test]
fn what_cannot_be_placed_is_refused() {
    assert_refused(
        place(&brokers(&[None; 2]), wanted(1, 3), 0),
        ErrorCode::InvalidReplicationFactor,
        "The target replication factor of 3 cannot be reached because only 2 broker(s) are registered or some brokers \
         have all their log directories cordoned.",
    );
    let mut candidates = brokers(&[None]);
    candidates[0].fenced = true;
    let all_fenced = "All brokers are currently fenced.";
    assert_refused(place(&candidates, wanted(1, 1), 0), ErrorCode::InvalidReplicationFactor, all_fenced);
    assert_refused(place(&[], wanted(1, 1), 0), ErrorCode::InvalidReplicationFactor, all_fenced);
}

proptest! {
    #[test]
    fn leaders_and_replicas_are_spread_evenly(
        broker_count in 1usize..8, partitions in 1usize..60, factor in 1usize..8, seed: u64,
    ) {
        let replication_factor = factor.min(broker_count);
        let placed = place(&brokers(&vec![None; broker_count]), wanted(partitions, replication_factor), seed);
        let placed = placed.expect("there are enough");
        prop_assert_eq!(placed.len(), partitions);
        let mut leaders: BTreeMap<i32, usize> = (1..=broker_count as i32).map(|broker| (broker, 0)).collect();
        let mut replicas = leaders.clone();
        for chosen in &placed {
            prop_assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), replication_factor, "a broker twice");
            *leaders.get_mut(&chosen[0]).expect("a broker of the cluster") += 1;
            chosen.iter().for_each(|broker| *replicas.get_mut(broker).expect("a broker of the cluster") += 1);
        }
        let spread = |counts: &BTreeMap<i32, usize>| counts.values().max().unwrap_or(&0) - counts.values().min().unwrap_or(&0);
        prop_assert!(spread(&leaders) <= 1, "leaders {:?}", leaders);
        prop_assert!(spread(&replicas) <= 2, "replicas {:?}", replicas);
    }
}
