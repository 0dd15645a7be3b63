//! ClusterChanges: what this broker has seen change in the cluster since its start: elections, in-sync sets.

use std::sync::atomic::{AtomicU64, Ordering};

use capek_state::cluster::{Delta, Image, Partition};
use capek_wire::ids::BrokerId;

/// See the head of this file.
#[derive(Debug, Default)]
pub struct ClusterChanges {
    /// Of partitions that this broker leads.
    pub isr_shrinks: AtomicU64,
    pub isr_expands: AtomicU64,
    /// Counted by whoever was the controller then, so that the sum over the brokers is right.
    pub elections: AtomicU64,
    pub unclean_elections: AtomicU64,
}

/// Who looks.
#[derive(Debug, Clone, Copy)]
pub struct Observer {
    pub broker: BrokerId,
    pub is_controller: bool,
}

impl ClusterChanges {
    /// `delta` leads from the first image to the second.
    pub fn observe(&self, before: &Image, after: &Image, delta: &Delta, observer: Observer) {
        for (topic_id, partitions) in &delta.partitions_changed {
            for &index in partitions {
                let (old, new) = (before.partition(*topic_id, index), after.partition(*topic_id, index));
                if let (Some(old), Some(new)) = (old, new) {
                    self.compare(old, new, observer);
                }
            }
        }
    }

    fn compare(&self, old: &Partition, new: &Partition, observer: Observer) {
        if observer.is_controller && new.leader >= 0 && new.leader != old.leader {
            count(&self.elections);
            if !old.isr.contains(&new.leader) && !old.elr.contains(&new.leader) {
                count(&self.unclean_elections);
            }
        }
        if new.leader == observer.broker {
            if old.isr.iter().any(|broker| !new.isr.contains(broker)) {
                count(&self.isr_shrinks);
            }
            if new.isr.iter().any(|broker| !old.isr.contains(broker)) {
                count(&self.isr_expands);
            }
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(leader: BrokerId, isr: &[BrokerId], elr: &[BrokerId]) -> Partition {
        Partition {
            replicas: vec![1, 2, 3],
            isr: isr.to_vec(),
            leader,
            leader_epoch: 0,
            partition_epoch: 0,
            dirs: Vec::new(),
            elr: elr.to_vec(),
            last_known_elr: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            offline: Vec::new(),
        }
    }

    #[test]
    fn each_change_is_counted_by_the_one_whom_it_concerns() {
        let check = |old: &Partition, new: &Partition, is_controller, expected: [u64; 4]| {
            let changes = ClusterChanges::default();
            changes.compare(old, new, Observer { broker: 1, is_controller });
            let seen = [&changes.isr_shrinks, &changes.isr_expands, &changes.elections, &changes.unclean_elections];
            assert_eq!(seen.map(|counter| counter.load(Ordering::Relaxed)), expected, "{old:?} {new:?}");
        };
        let whole = partition(1, &[1, 2, 3], &[]);
        check(&whole, &partition(1, &[1, 2], &[]), false, [1, 0, 0, 0]);
        check(&partition(1, &[1, 2], &[]), &whole, false, [0, 1, 0, 0]);
        check(&partition(2, &[1, 2], &[]), &partition(2, &[2], &[]), false, [0, 0, 0, 0]);
        check(&whole, &partition(2, &[2, 3], &[]), true, [0, 0, 1, 0]);
        check(&whole, &partition(2, &[2, 3], &[]), false, [0, 0, 0, 0]);
        check(&whole, &partition(-1, &[1], &[]), true, [0, 0, 0, 0]);
        check(&partition(-1, &[3], &[]), &partition(2, &[2], &[]), true, [0, 0, 1, 1]);
        check(&partition(-1, &[], &[2]), &partition(2, &[2], &[]), true, [0, 0, 1, 0]);
    }
}
