//! Which brokers get the replicas of new partitions.
//!
//! What Kafka's placement promises, and this one: leaders are spread evenly over the brokers, replicas of a partition
//! over as many racks as there are, fenced brokers come last and never first. Which broker begins is up to the seed.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;

use crate::Refusal;

/// A broker that can be given replicas.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Candidate {
    pub broker: BrokerId,
    pub rack: Option<String>,
    pub fenced: bool,
}

/// How many partitions of how many replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Wanted {
    pub partitions: usize,
    pub replication_factor: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Load {
    leaders: usize,
    replicas: usize,
}

/// The replicas of each partition, the preferred leader first.
pub fn place(candidates: &[Candidate], wanted: Wanted, seed: u64) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    if candidates.iter().all(|candidate| candidate.fenced) {
        return Err(impossible("All brokers are currently fenced."));
    }
    if wanted.replication_factor > candidates.len() {
        return Err(impossible(format!(
            "The target replication factor of {} cannot be reached because only {} broker(s) are registered or some \
             brokers have all their log directories cordoned.",
            wanted.replication_factor,
            candidates.len()
        )));
    }
    let mut load: BTreeMap<BrokerId, Load> = BTreeMap::new();
    let rounds = (0..wanted.partitions).map(|partition| {
        // After each full round the order turns by one, or a broker's followers would always be the same ones.
        let turn = (seed as usize).wrapping_add(partition / candidates.len()) % candidates.len();
        place_one(candidates, wanted.replication_factor, turn, &mut load)
    });
    Ok(rounds.collect())
}

fn place_one(
    candidates: &[Candidate],
    replication_factor: usize,
    turn: usize,
    load: &mut BTreeMap<BrokerId, Load>,
) -> Vec<BrokerId> {
    let (before, from) = candidates.split_at(turn);
    let in_turn = || from.iter().chain(before);
    let load_of = |load: &BTreeMap<BrokerId, Load>, candidate: &Candidate| {
        load.get(&candidate.broker).copied().unwrap_or_default()
    };

    let leader = in_turn().filter(|candidate| !candidate.fenced).min_by_key(|candidate| {
        let load = load_of(load, candidate);
        (load.leaders, load.replicas)
    });
    let leader = leader.expect("one of them is not fenced: the caller looked");
    load.entry(leader.broker).or_default().leaders += 1;
    load.entry(leader.broker).or_default().replicas += 1;

    let mut chosen = vec![leader.broker];
    let mut rack_use: BTreeMap<Option<&str>, usize> = BTreeMap::from([(leader.rack.as_deref(), 1)]);
    let mut taken = BTreeSet::from([leader.broker]);
    while chosen.len() < replication_factor {
        let left = in_turn().filter(|candidate| !taken.contains(&candidate.broker));
        let next = left.min_by_key(|candidate| {
            let in_rack = rack_use.get(&candidate.rack.as_deref()).copied().unwrap_or(0);
            (candidate.fenced, in_rack, load_of(load, candidate).replicas)
        });
        let next = next.expect("there are as many brokers as replicas: the caller looked");
        load.entry(next.broker).or_default().replicas += 1;
        *rack_use.entry(next.rack.as_deref()).or_default() += 1;
        taken.insert(next.broker);
        chosen.push(next.broker);
    }
    chosen
}

fn impossible(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::InvalidReplicationFactor, message)
}
