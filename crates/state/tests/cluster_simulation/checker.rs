//! What was promised, and whether it holds: the invariants of replication, looked at after every event.

use std::collections::{BTreeMap, BTreeSet};

use capek_state::partition::Leader;

use crate::controller::{Image, Partition};
use crate::disk::{Batch, Disk};

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Checker {
    /// What any leader has ever called committed.
    pub committed: Vec<Batch>,
    values: BTreeSet<u64>,
    /// What a producer with acks=all was told, by value.
    pub acked: BTreeMap<u64, i64>,
    /// The highest of them.
    pub acked_end: i64,
    /// Refused before the append, for certain.
    pub failed: BTreeSet<u64>,
    /// Who appends in an epoch: broker and life.
    appenders: BTreeMap<i32, (i32, u32)>,
    /// What readers were told of the log's end, by leader epoch.
    listed: BTreeMap<i32, i64>,
    pub counts: Counts,
}

/// Did the run exercise anything?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Counts {
    pub events: u64,
    pub elections: u64,
    pub truncations: u64,
    pub acked: u64,
    pub unknown: u64,
    pub refused: u64,
    pub crashes: u64,
    pub joins: u64,
    /// Word of followers that came after what they had said over their next connection.
    pub late_words: u64,
    /// Leaders that made the refusal of a proposal certain.
    pub withdrawals: u64,
}

impl Checker {
    pub fn true_high_watermark(&self) -> i64 {
        self.committed.last().map_or(0, Batch::end_offset)
    }

    /// B1: one broker, in one life, appends in a leader epoch.
    pub fn appends(&mut self, epoch: i32, broker: i32, life: u32) {
        let appender = *self.appenders.entry(epoch).or_insert((broker, life));
        assert_eq!(appender, (broker, life), "two append in epoch {epoch}");
    }

    /// B2, A1, A2, A4: what is committed is the same for all, each value once, and nothing that was refused.
    pub fn commits(&mut self, broker: i32, disk: &Disk, high_watermark: i64) {
        let unchecked = disk.batches.iter().enumerate().skip(disk.checked);
        for (index, batch) in unchecked.take_while(|(_, batch)| batch.end_offset() <= high_watermark) {
            if let Some(known) = self.committed.get(index) {
                assert_eq!(known, batch, "broker {broker} commits another batch at {}", batch.base_offset);
                continue;
            }
            assert!(self.values.insert(batch.value), "value {} is committed twice", batch.value);
            assert!(!self.failed.contains(&batch.value), "value {} was refused, and is committed", batch.value);
            self.committed.push(*batch);
        }
        assert!(
            self.true_high_watermark() >= high_watermark,
            "the high watermark lies within a batch, or beyond the log"
        );
    }

    /// A3, A7, A8: an acknowledged write is committed where its producer was told, behind all that were acknowledged before
    /// it was asked for.
    pub fn acks(&mut self, value: u64, base_offset: i64, floor: i64) {
        let index = self.committed.partition_point(|batch| batch.base_offset < base_offset);
        let found = self.committed.get(index).filter(|batch| batch.base_offset == base_offset);
        let found = found.map(|batch| batch.value);
        assert_eq!(found, Some(value), "value {value} was acknowledged at {base_offset} and is not committed there");
        assert!(
            base_offset >= floor,
            "value {value} went to {base_offset}, before {floor}, which was acknowledged earlier"
        );
        self.acked.insert(value, base_offset);
        self.acked_end = self.acked_end.max(base_offset + 1);
        self.counts.acked += 1;
    }

    /// A9: what is read is committed.
    pub fn reads(&self, broker: i32, batches: &[Batch]) {
        for batch in batches {
            let index = self.committed.partition_point(|known| known.base_offset < batch.base_offset);
            assert_eq!(self.committed.get(index), Some(batch), "broker {broker} shows what is not committed");
        }
    }

    /// B10: nothing that is committed is cut off a log.
    pub fn cuts(&self, broker: i32, disk: &Disk, end_offset: i64) {
        let first = disk.batches.partition_point(|batch| batch.end_offset() <= end_offset);
        for (batch, known) in disk.batches[first..].iter().zip(self.committed.iter().skip(first)) {
            assert_ne!(batch, known, "broker {broker} cuts its log back to {end_offset}, and what is committed off");
        }
    }

    /// A10: in the order of the leaders, the end that readers are told of does not go back.
    pub fn lists(&mut self, epoch: i32, end_offset: i64) {
        for (earlier, told) in self.listed.range(..=epoch) {
            assert!(*told <= end_offset, "epoch {epoch} tells {end_offset}, epoch {earlier} has told {told}");
        }
        self.listed.insert(epoch, end_offset);
    }

    /// B3, B4: every replica that the controller may let lead, as this one, holds, durably, all that is committed.
    pub fn check_candidate(&self, member: i32, disk: &mut Disk) {
        while disk.checked < self.committed.len() {
            let (ours, known) = (disk.batches.get(disk.checked), &self.committed[disk.checked]);
            assert_eq!(ours, Some(known), "broker {member} may lead, and lacks what is committed");
            disk.checked += 1;
        }
        let end_offset = self.true_high_watermark();
        assert!(disk.flushed >= end_offset, "broker {member} may lead, and could lose what is committed");
    }

    /// B5: what the leader waits for includes all that may lead after it.
    pub fn check_leader(partition: &Partition, leader: &Leader, proposed: &[(i32, i64)], in_sync_min: usize) {
        if leader.epoch() != partition.leader_epoch || leader.in_sync_count() < in_sync_min {
            return;
        }
        let proposed: &[_] = if leader.is_proposing() { proposed } else { &[] };
        for member in partition.isr.iter().chain(&partition.elr) {
            assert!(
                leader.in_sync().any(|waited_for| waited_for == *member)
                    || proposed.iter().any(|(waited_for, _)| waited_for == member),
                "broker {member} may lead, and leader {} does not wait for it",
                partition.leader
            );
        }
    }

    /// B9, B11: the shape of what the controller commits.
    pub fn check_image(before: &Image, image: &Image, in_sync_min: usize) {
        let (old, new) = (&before.partition, &image.partition);
        let in_sync_min = in_sync_min.min(new.replicas.len());
        for member in new.isr.iter().chain(&new.elr) {
            assert!(new.replicas.contains(member), "{member} is in sync without a replica: {new:?}");
        }
        assert!(new.isr.iter().all(|member| !new.elr.contains(member)), "in sync and only eligible: {new:?}");
        assert!(new.elr.is_empty() || new.isr.len() < in_sync_min, "eligible beside enough in sync: {new:?}");
        let exists = !new.replicas.is_empty();
        assert!(!(exists && new.isr.is_empty() && new.elr.is_empty()), "nobody may ever lead: {new:?}");
        assert!(new.leader == -1 || new.isr.contains(&new.leader), "a leader out of sync: {new:?}");
        let fenced = |member: &&i32| image.brokers.get(member).is_some_and(|known| known.fenced);
        assert!(!new.isr.iter().any(|member| fenced(&member)), "a fenced broker in sync: {image:?}");
        if old.replicas.is_empty() {
            return;
        }
        assert!(new.leader_epoch - old.leader_epoch <= 1 && new.leader_epoch >= old.leader_epoch, "{old:?} {new:?}");
        assert_eq!(new.partition_epoch - old.partition_epoch, i32::from(old != new), "{old:?} {new:?}");
        assert!(new.leader == old.leader || new.leader_epoch > old.leader_epoch, "{old:?} {new:?}");
    }
}

impl Counts {
    pub fn add(&mut self, other: &Counts) {
        self.events += other.events;
        self.elections += other.elections;
        self.truncations += other.truncations;
        self.acked += other.acked;
        self.unknown += other.unknown;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.joins += other.joins;
        self.late_words += other.late_words;
        self.withdrawals += other.withdrawals;
    }
}
