//! How a member gets from what it has to what it should have, by itself, while the others do the same.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::Str;
use capek_wire::ids::TopicId;

use super::member::{Member, MemberState, Owned};
use super::{Assignment, TopicPartition};

/// What decides the next step of one member.
pub(super) struct Reconciliation<'a> {
    pub member_id: &'a Str,
    pub target_epoch: i32,
    pub target: &'a Assignment,
    /// The topics that the member wants now; the target may be older.
    pub topics: &'a BTreeSet<TopicId>,
    pub has_subscription_changed: bool,
    /// What the member says it holds; `None`: it does not say.
    pub reported: Option<&'a Assignment>,
    pub owners: &'a BTreeMap<TopicPartition, Str>,
}

impl Reconciliation<'_> {
    /// The member as it is after this step; the same if there is none to take.
    pub fn step(&self, member: &Member) -> Member {
        match member.state {
            MemberState::Stable if member.epoch == self.target_epoch && !self.has_subscription_changed => {
                member.clone()
            }
            MemberState::Stable | MemberState::UnreleasedPartitions => self.approach(member, member.epoch),
            MemberState::UnrevokedPartitions if self.still_holds(&member.revoking) => self.drop_unwanted(member),
            // It has given up what it had to, which is an epoch of its own; never beyond the target's.
            MemberState::UnrevokedPartitions => self.approach(member, (member.epoch + 1).min(self.target_epoch)),
        }
    }

    fn approach(&self, member: &Member, epoch: i32) -> Member {
        let is_target = |partition: &TopicPartition| self.is_target(partition);
        let (kept, revoking): (Owned, Owned) =
            member.assigned.iter().map(|(partition, epoch)| (*partition, *epoch)).partition(|(p, _)| is_target(p));
        let mut next = Member { assigned: kept, revoking: Owned::new(), ..member.clone() };
        if self.still_holds(&revoking) {
            next.state = MemberState::UnrevokedPartitions;
            next.revoking = revoking;
            next.move_to_epoch(epoch);
            return next;
        }
        next.state = MemberState::Stable;
        for partition in self.target.iter().filter(|partition| self.topics.contains(&partition.0)) {
            if next.assigned.contains_key(partition) {
                continue;
            }
            if self.owners.get(partition).is_some_and(|owner| owner != self.member_id) {
                next.state = MemberState::UnreleasedPartitions;
            } else {
                next.assigned.insert(*partition, self.target_epoch);
            }
        }
        next.move_to_epoch(self.target_epoch);
        next
    }

    /// It is still giving partitions back: what it does not want any more joins them.
    fn drop_unwanted(&self, member: &Member) -> Member {
        let mut next = member.clone();
        next.assigned.retain(|partition, _| self.topics.contains(&partition.0));
        let dropped = member.assigned.iter().filter(|(partition, _)| !self.topics.contains(&partition.0));
        next.revoking.extend(dropped.map(|(partition, epoch)| (*partition, *epoch)));
        next
    }

    fn is_target(&self, partition: &TopicPartition) -> bool {
        self.target.contains(partition) && self.topics.contains(&partition.0)
    }

    /// May the member still read some of these?
    fn still_holds(&self, revoking: &Owned) -> bool {
        let Some(reported) = self.reported else { return !revoking.is_empty() };
        reported.iter().any(|partition| revoking.contains_key(partition))
    }
}
