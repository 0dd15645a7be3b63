//! What the followers of a partition have said of themselves, latest word each: the data lane writes it, the leader reads it.
//!
//! A board instead of messages: however often followers fetch, at most one poke is on its way to the leader, and a leader that
//! starts again after a panic finds here what its followers will not repeat.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use capek_state::cluster::ReplicaView;
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset};

/// One follower's place, in agreement with the leader of this epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FollowerReport {
    pub leader_epoch: LeaderEpoch,
    pub broker_epoch: i64,
    pub fetch_offset: Offset,
    /// -1: it has not said.
    pub flushed_end: Offset,
    pub fetch_ms: i64,
}

#[derive(Default)]
pub struct FollowerBoard {
    reports: Mutex<BTreeMap<BrokerId, FollowerReport>>,
    is_poked: AtomicBool,
}

impl FollowerBoard {
    /// `from` holds everything below `fetch_offset`. True: tell the leader that there is news.
    pub fn fetched(
        &self,
        from: BrokerId,
        broker_epoch: i64,
        leader_epoch: LeaderEpoch,
        fetch_offset: Offset,
        now_ms: i64,
    ) -> bool {
        let mut reports = self.lock();
        let known =
            reports.get(&from).filter(|known| (known.leader_epoch, known.broker_epoch) == (leader_epoch, broker_epoch));
        let flushed_end = known.map_or(-1, |known| known.flushed_end.min(fetch_offset));
        reports
            .insert(from, FollowerReport { leader_epoch, broker_epoch, fetch_offset, flushed_end, fetch_ms: now_ms });
        !self.is_poked.swap(true, Ordering::AcqRel)
    }

    /// `from` has everything below `end_offset` on its disk.
    pub fn flushed(&self, from: BrokerId, broker_epoch: i64, leader_epoch: LeaderEpoch, end_offset: Offset) -> bool {
        let mut reports = self.lock();
        let Some(known) = reports.get_mut(&from) else { return false };
        if (known.leader_epoch, known.broker_epoch) != (leader_epoch, broker_epoch) || known.flushed_end >= end_offset {
            return false;
        }
        known.flushed_end = end_offset;
        !self.is_poked.swap(true, Ordering::AcqRel)
    }

    /// The reports in this leader epoch; what comes from here on asks for another poke.
    pub fn read(&self, leader_epoch: LeaderEpoch) -> Vec<(BrokerId, FollowerReport)> {
        self.is_poked.store(false, Ordering::Release);
        let reports = self.lock();
        let current = reports.iter().filter(|(_, report)| report.leader_epoch == leader_epoch);
        current.map(|(from, report)| (*from, *report)).collect()
    }

    /// Where each stands in this leader epoch; whoever asks does not want to be told of news.
    pub fn views(&self, leader_epoch: LeaderEpoch) -> Vec<ReplicaView> {
        let reports = self.lock();
        let current = reports.iter().filter(|(_, report)| report.leader_epoch == leader_epoch);
        current.map(|(from, report)| ReplicaView { broker: *from, end_offset: report.fetch_offset }).collect()
    }

    /// Another epoch begins: what was said in the last one says nothing of it.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<BrokerId, FollowerReport>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
