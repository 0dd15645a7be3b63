//! Members that want different topics: keep what they have, give out the rest, then even out.
//!
//! Evening out moves a partition from a member to one that has two less and wants its topic; where no such pair is left,
//! along a chain of members, each of which passes one on. Without such a chain the loads are as equal as they can be.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::MemberSpec;
use super::uniform::partitions_of;
use crate::group::consumer::{Assignment, TopicPartition};

/// Each round and each chain makes the loads more equal, so they end; these bound the time that a large group may take.
const ROUNDS_MAX: usize = 100;
const CHAINS_MAX: usize = 1_000;

/// The work in progress; members are counted in the order of their ids.
pub(super) struct Balance<'a> {
    partition_counts: &'a BTreeMap<TopicId, i32>,
    /// Who wants a topic, only topics that somebody wants.
    subscribers: BTreeMap<TopicId, Vec<usize>>,
    assignments: Vec<Assignment>,
    owners: BTreeMap<TopicPartition, usize>,
}

impl<'a> Balance<'a> {
    pub fn new(members: &BTreeMap<Str, MemberSpec>, partition_counts: &'a BTreeMap<TopicId, i32>) -> Balance<'a> {
        let mut subscribers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        let mut assignments = Vec::with_capacity(members.len());
        let mut owners = BTreeMap::new();
        for (index, member) in members.values().enumerate() {
            for topic in member.topics.iter().filter(|topic| partition_counts.contains_key(*topic)) {
                subscribers.entry(*topic).or_default().push(index);
            }
            let may_keep = |(topic, partition): &TopicPartition| {
                let exists = partition_counts.get(topic).is_some_and(|count| partition < count);
                exists && member.topics.contains(topic) && !owners.contains_key(&(*topic, *partition))
            };
            let kept: Assignment = member.owned.iter().filter(|partition| may_keep(partition)).copied().collect();
            owners.extend(kept.iter().map(|partition| (*partition, index)));
            assignments.push(kept);
        }
        Balance { partition_counts, subscribers, assignments, owners }
    }

    pub fn assign(mut self) -> Vec<Assignment> {
        self.give_out_free();
        for _ in 0..ROUNDS_MAX {
            let topics: Vec<TopicId> = self.subscribers.keys().copied().collect();
            let mut has_moved = false;
            for topic in topics {
                has_moved |= self.even_out(topic);
            }
            if !has_moved {
                break;
            }
        }
        for _ in 0..CHAINS_MAX {
            let Some(chain) = self.chain() else { break };
            for (from, topic, to) in chain {
                self.pass_on(from, topic, to);
            }
        }
        self.assignments
    }

    /// Who passes a partition of which topic on to whom, so that a member gets rid of one and one with two less gains it.
    fn chain(&self) -> Option<Vec<(usize, TopicId, usize)>> {
        let mut by_load: Vec<usize> = (0..self.assignments.len()).collect();
        by_load.sort_by_key(|index| std::cmp::Reverse(self.assignments[*index].len()));
        let least = self.assignments[*by_load.last()?].len();
        let rich = by_load.into_iter().take_while(|index| self.assignments[*index].len() >= least + 2);
        // Whoever is reached from a richer member and leads nowhere leads nowhere from here either.
        let mut reached = vec![false; self.assignments.len()];
        rich.into_iter().find_map(|start| self.chain_from(start, &mut reached))
    }

    /// Breadth first, so the chain is as short as can be.
    fn chain_from(&self, start: usize, reached: &mut [bool]) -> Option<Vec<(usize, TopicId, usize)>> {
        let load_max = self.assignments[start].len().checked_sub(2)?;
        let mut givers: BTreeMap<usize, (usize, TopicId)> = BTreeMap::new();
        let mut queue = VecDeque::from([start]);
        reached[start] = true;
        while let Some(from) = queue.pop_front() {
            let mut topics: Vec<TopicId> = self.assignments[from].iter().map(|(topic, _)| *topic).collect();
            topics.dedup();
            for topic in topics {
                for &to in &self.subscribers[&topic] {
                    if std::mem::replace(&mut reached[to], true) {
                        continue;
                    }
                    givers.insert(to, (from, topic));
                    if self.assignments[to].len() <= load_max {
                        return Some(links(to, &givers));
                    }
                    queue.push_back(to);
                }
            }
        }
        None
    }

    fn pass_on(&mut self, from: usize, topic: TopicId, to: usize) {
        let partition = self.last_of(topic, from).expect("it was chosen because it has one");
        self.assignments[from].remove(&partition);
        self.assignments[to].insert(partition);
        self.owners.insert(partition, to);
    }

    /// Topics that few members want come first: their partitions have the least choice.
    fn give_out_free(&mut self) {
        let mut topics: Vec<(usize, TopicId)> =
            self.subscribers.iter().map(|(topic, subscribers)| (subscribers.len(), *topic)).collect();
        topics.sort();
        for (_, topic) in topics {
            let mut loads = self.loads(topic);
            for partition in partitions_of(&BTreeSet::from([topic]), self.partition_counts) {
                if self.owners.contains_key(&partition) {
                    continue;
                }
                let (load, index) = loads.pop_first().expect("somebody wants the topic, and comes back");
                self.assignments[index].insert(partition);
                self.owners.insert(partition, index);
                loads.insert((load + 1, index));
            }
        }
    }

    /// Moves partitions of one topic from those who have most to those who have least, while it helps.
    fn even_out(&mut self, topic: TopicId) -> bool {
        let mut has_moved = false;
        let mut loads = self.loads(topic);
        while let Some((from, to)) = self.uneven_pair(topic, &loads) {
            for index in [from, to] {
                loads.remove(&(self.assignments[index].len(), index));
            }
            self.pass_on(from, topic, to);
            loads.extend([from, to].map(|index| (self.assignments[index].len(), index)));
            has_moved = true;
        }
        has_moved
    }

    /// The most loaded subscriber that has a partition of the topic, and the least loaded one, if they differ by two.
    fn uneven_pair(&self, topic: TopicId, loads: &BTreeSet<(usize, usize)>) -> Option<(usize, usize)> {
        let &(least, to) = loads.first()?;
        let candidates = loads.iter().rev().take_while(|(load, _)| *load >= least + 2);
        let mut owners = candidates.map(|(_, index)| *index).filter(|index| self.last_of(topic, *index).is_some());
        owners.next().map(|from| (from, to))
    }

    fn last_of(&self, topic: TopicId, member: usize) -> Option<TopicPartition> {
        self.assignments[member].range((topic, 0)..=(topic, i32::MAX)).next_back().copied()
    }

    fn loads(&self, topic: TopicId) -> BTreeSet<(usize, usize)> {
        self.subscribers[&topic].iter().map(|index| (self.assignments[*index].len(), *index)).collect()
    }
}

/// The chain that ends here.
fn links(mut to: usize, givers: &BTreeMap<usize, (usize, TopicId)>) -> Vec<(usize, TopicId, usize)> {
    let mut links = Vec::new();
    while let Some(&(from, topic)) = givers.get(&to) {
        links.push((from, topic, to));
        to = from;
    }
    links
}
