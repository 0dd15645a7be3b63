//! The replicas of a partition as its leader sees them: who is in sync, who is proposed to be, and how far each has got.
//!
//! ```text
//!   in sync           what the controller has committed: acks=all is admitted while it has min.insync.replicas members
//!   maximal in sync   in sync ∪ proposed: the high watermark waits for all of them, so that whatever the controller
//!                     commits, every member has what was confirmed (KIP-966)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::ids::{BrokerId, Offset};

use super::leader::Effect;

/// How long a refused proposal is not made again: the controller knows something that will reach us too.
const RETRY_MS: i64 = 500;

/// The partition's replicas as its record in the image has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReplicaSet {
    /// This broker, the leader.
    pub me: BrokerId,
    pub replicas: Vec<BrokerId>,
    pub in_sync: Vec<BrokerId>,
    pub partition_epoch: i32,
}

impl ReplicaSet {
    /// A partition with one replica, this one.
    pub fn alone(me: BrokerId) -> ReplicaSet {
        ReplicaSet { me, replicas: vec![me], in_sync: vec![me], partition_epoch: 0 }
    }
}

/// How far a follower has got, from its own word in this leader epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Follower {
    /// Of its broker, with its last fetch; None before the first.
    broker_epoch: Option<i64>,
    log_end: Offset,
    flushed_end: Offset,
    /// The last time that it had everything there was.
    caught_up_ms: i64,
    /// Our log end at its last fetch, and when that was: having that much at the next one is having kept up.
    fetch_end: Offset,
    fetch_ms: i64,
    /// The last time that it had made everything durable, and the like of the two above for that: a follower whose disk
    /// hangs goes on fetching, and the high watermark would wait for it without end.
    durable_ms: i64,
    durable_mark: (Offset, i64),
    /// How often the controller has refused a proposal that would have brought it in.
    refusals: u32,
}

impl Follower {
    fn new(now_ms: i64) -> Follower {
        Follower {
            broker_epoch: None,
            log_end: -1,
            flushed_end: -1,
            caught_up_ms: now_ms,
            fetch_end: -1,
            fetch_ms: now_ms,
            durable_ms: now_ms,
            durable_mark: (Offset::MAX, now_ms),
            refusals: 0,
        }
    }

    fn has_fallen_behind(&self, log_end: Offset, lag_max_ms: i64, now_ms: i64) -> bool {
        let is_late = |since_ms: i64| now_ms.saturating_sub(since_ms) > lag_max_ms;
        (self.log_end != log_end && is_late(self.caught_up_ms))
            || (self.flushed_end < log_end && is_late(self.durable_ms))
    }

    /// Has what it needs to lead whenever it is asked to, and cannot lose it: all that is committed, and all that an earlier
    /// leader may have committed, of which our high watermark does not know yet.
    fn may_join(&self, ends: Ends) -> bool {
        let needed = ends.high_watermark.max(ends.epoch_start);
        self.broker_epoch.is_some() && self.log_end >= needed && self.flushed_end >= needed
    }
}

/// What the leader must know to judge its followers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub epoch_start: Offset,
    pub log_end: Offset,
    pub high_watermark: Offset,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Replicas {
    me: BrokerId,
    /// All replicas but this one.
    followers: BTreeMap<BrokerId, Follower>,
    in_sync: BTreeSet<BrokerId>,
    /// Sent to the controller and not answered.
    proposed: Option<BTreeSet<BrokerId>>,
    partition_epoch: i32,
    /// After a refusal nothing is proposed before.
    propose_after_ms: i64,
}

impl Replicas {
    pub fn new(set: &ReplicaSet, proposed: &[BrokerId], now_ms: i64) -> Replicas {
        let others = set.replicas.iter().filter(|replica| **replica != set.me);
        Replicas {
            me: set.me,
            followers: others.map(|replica| (*replica, Follower::new(now_ms))).collect(),
            in_sync: set.in_sync.iter().copied().collect(),
            proposed: (!proposed.is_empty()).then(|| proposed.iter().copied().collect()),
            partition_epoch: set.partition_epoch,
            propose_after_ms: 0,
        }
    }

    /// Replicas, this one among them.
    pub fn count(&self) -> usize {
        1 + self.followers.len()
    }

    pub fn in_sync_count(&self) -> usize {
        self.in_sync.len()
    }

    pub fn in_sync(&self) -> &BTreeSet<BrokerId> {
        &self.in_sync
    }

    pub fn partition_epoch(&self) -> i32 {
        self.partition_epoch
    }

    pub fn is_proposing(&self) -> bool {
        self.proposed.is_some()
    }

    /// What every member of the maximal in-sync set holds durably.
    pub fn committed_end(&self, own_flushed_end: Offset) -> Offset {
        let proposed = self.proposed.iter().flatten();
        let members = self.in_sync.iter().chain(proposed).filter(|member| **member != self.me);
        let flushed_end = |member: &BrokerId| self.followers.get(member).map_or(-1, |follower| follower.flushed_end);
        members.map(flushed_end).fold(own_flushed_end, Offset::min)
    }

    /// The leader has appended: who had everything until now has kept up until now.
    pub fn appended(&mut self, previous_end: Offset, now_ms: i64) {
        for follower in self.followers.values_mut() {
            if follower.log_end >= previous_end {
                follower.caught_up_ms = follower.caught_up_ms.max(now_ms);
            }
            if follower.flushed_end >= previous_end {
                follower.durable_ms = follower.durable_ms.max(now_ms);
            }
        }
    }

    pub fn fetched(&mut self, from: BrokerId, broker_epoch: i64, fetch_offset: Offset, ends: Ends, now_ms: i64) {
        let Some(follower) = self.followers.get_mut(&from) else { return };
        if follower.broker_epoch.is_some_and(|known| known > broker_epoch) {
            return; // word of an earlier life of that broker
        }
        if follower.broker_epoch != Some(broker_epoch) {
            // Another life: what the earlier one had flushed may be gone.
            *follower = Follower { broker_epoch: Some(broker_epoch), ..Follower::new(follower.caught_up_ms) };
        }
        if fetch_offset >= ends.log_end {
            follower.caught_up_ms = follower.caught_up_ms.max(now_ms);
        } else if follower.fetch_end >= 0 && fetch_offset >= follower.fetch_end {
            follower.caught_up_ms = follower.caught_up_ms.max(follower.fetch_ms);
        }
        let (mark_end, mark_ms) = follower.durable_mark;
        if follower.flushed_end >= mark_end {
            follower.durable_ms = follower.durable_ms.max(mark_ms);
        }
        if follower.flushed_end >= mark_end || mark_end == Offset::MAX {
            follower.durable_mark = (ends.log_end, now_ms);
        }
        follower.log_end = fetch_offset;
        follower.flushed_end = follower.flushed_end.min(fetch_offset);
        follower.fetch_end = ends.log_end;
        follower.fetch_ms = now_ms;
    }

    pub fn flushed(&mut self, from: BrokerId, broker_epoch: i64, end_offset: Offset) {
        if let Some(follower) = self.followers.get_mut(&from)
            && follower.broker_epoch == Some(broker_epoch)
        {
            // A follower says so only of what agrees with this leader's log.
            follower.flushed_end = follower.flushed_end.max(end_offset.min(follower.log_end));
        }
    }

    /// Members of the maximal in-sync set stay what they are: the high watermark waits for them.
    pub fn left(&mut self, follower: BrokerId) -> bool {
        if self.in_sync.contains(&follower) || self.proposed.as_ref().is_some_and(|them| them.contains(&follower)) {
            return false;
        }
        if let Some(known) = self.followers.get_mut(&follower) {
            *known = Follower::new(known.caught_up_ms);
        }
        true
    }

    /// Proposes to the controller what the followers' places ask for, one change at a time: who has caught up comes in, who
    /// has fallen behind goes out.
    pub fn review(&mut self, ends: Ends, lag_max_ms: i64, now_ms: i64, effects: &mut Vec<Effect>) {
        if self.proposed.is_some() || now_ms < self.propose_after_ms {
            return;
        }
        let mut wanted = self.in_sync.clone();
        for (broker, follower) in &self.followers {
            if self.in_sync.contains(broker) {
                if follower.has_fallen_behind(ends.log_end, lag_max_ms, now_ms) {
                    wanted.remove(broker);
                }
            } else if follower.refusals == 0 && follower.may_join(ends) {
                wanted.insert(*broker);
            }
        }
        wanted.insert(self.me);
        if wanted == self.in_sync {
            wanted.extend(self.next_in_doubt(ends));
        }
        if wanted == self.in_sync {
            return;
        }
        let epoch_of = |broker: &BrokerId| self.followers.get(broker).and_then(|follower| follower.broker_epoch);
        let members = wanted.iter().map(|broker| (*broker, epoch_of(broker).unwrap_or(-1))).collect();
        effects.push(Effect::ProposeInSync { members, partition_epoch: self.partition_epoch });
        self.proposed = Some(wanted);
    }

    /// Whom the controller has refused, it may want later; but it is asked about one of them at a time, so that none of them
    /// keeps another out (or in).
    fn next_in_doubt(&self, ends: Ends) -> Option<BrokerId> {
        let outside = self.followers.iter().filter(|(broker, _)| !self.in_sync.contains(broker));
        let eligible = outside.filter(|(_, follower)| follower.may_join(ends));
        eligible.min_by_key(|(_, follower)| follower.refusals).map(|(broker, _)| *broker)
    }

    /// The controller has said no to what was proposed at this partition epoch: for certain nothing came of it.
    pub fn refused(&mut self, partition_epoch: i32, now_ms: i64) {
        if partition_epoch != self.partition_epoch {
            return;
        }
        for broker in self.proposed.take().unwrap_or_default().difference(&self.in_sync) {
            if let Some(follower) = self.followers.get_mut(broker) {
                follower.refusals = follower.refusals.saturating_add(1);
            }
        }
        self.propose_after_ms = now_ms.saturating_add(RETRY_MS);
    }

    /// The image has another record of the partition, in the same leader epoch.
    pub fn committed(&mut self, set: &ReplicaSet, now_ms: i64) {
        if set.partition_epoch <= self.partition_epoch {
            return;
        }
        self.partition_epoch = set.partition_epoch;
        self.in_sync = set.in_sync.iter().copied().collect();
        self.proposed = None;
        self.followers.retain(|broker, _| set.replicas.contains(broker));
        for broker in &self.in_sync {
            if let Some(follower) = self.followers.get_mut(broker) {
                follower.refusals = 0;
            }
        }
        for replica in set.replicas.iter().filter(|replica| **replica != set.me) {
            self.followers.entry(*replica).or_insert_with(|| Follower::new(now_ms));
        }
    }
}
