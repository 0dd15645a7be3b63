//! What the followers of a partition have said of themselves: the data lane writes it, the leader reads it.
//!
//! A board instead of messages: however often followers fetch, at most one poke is on its way to the leader, and a leader that
//! starts again after a panic finds here what its followers will not repeat.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use capek_state::cluster::ReplicaView;
use capek_state::partition::{FollowerReport, FollowerReports, FollowerVoice};
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset};

#[derive(Default)]
pub struct FollowerBoard {
    reports: Mutex<FollowerReports>,
    is_poked: AtomicBool,
}

impl FollowerBoard {
    /// The follower holds everything below `fetch_offset`. True: tell the leader that there is news.
    pub fn fetched(&self, voice: FollowerVoice, fetch_offset: Offset, now_ms: i64) -> bool {
        let is_news = self.lock().fetched(voice, fetch_offset, now_ms);
        is_news && self.wants_poke()
    }

    /// The follower has everything below `end_offset` on its disk.
    pub fn flushed(&self, voice: FollowerVoice, end_offset: Offset) -> bool {
        let is_news = self.lock().flushed(voice, end_offset);
        is_news && self.wants_poke()
    }

    fn wants_poke(&self) -> bool {
        !self.is_poked.swap(true, Ordering::AcqRel)
    }

    /// The reports in this leader epoch; what comes from here on asks for another poke.
    pub fn read(&self, leader_epoch: LeaderEpoch) -> Vec<(BrokerId, FollowerReport)> {
        self.is_poked.store(false, Ordering::Release);
        self.lock().of_epoch(leader_epoch).collect()
    }

    /// Where each stands in this leader epoch; whoever asks does not want to be told of news.
    pub fn views(&self, leader_epoch: LeaderEpoch) -> Vec<ReplicaView> {
        let view =
            |(broker, report): (BrokerId, FollowerReport)| ReplicaView { broker, end_offset: report.fetch_offset };
        self.lock().of_epoch(leader_epoch).map(view).collect()
    }

    /// Another epoch begins: what was said in the last one says nothing of it.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, FollowerReports> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(connection: u64) -> FollowerVoice {
        FollowerVoice { broker: 2, broker_epoch: 20, leader_epoch: 7, connection }
    }

    /// Where broker 2 is, and what it has flushed.
    fn place(board: &FollowerBoard) -> (Offset, Offset) {
        let reports = board.read(7);
        let [(2, report)] = reports[..] else { panic!("{reports:?}") };
        (report.fetch_offset, report.flushed_end)
    }

    #[test]
    fn a_leader_is_poked_once_until_it_looks() {
        let board = FollowerBoard::default();
        assert!(board.fetched(voice(1), 5, 0));
        assert!(!board.fetched(voice(1), 6, 0) && !board.flushed(voice(1), 6), "one poke is on its way");
        assert_eq!(place(&board), (6, 6));
        assert!(!board.flushed(voice(1), 6), "that is known");
        assert!(board.fetched(voice(1), 7, 0));
    }

    #[test]
    fn word_over_a_connection_that_is_gone_takes_nothing_back() {
        let board = FollowerBoard::default();
        board.fetched(voice(1), 5, 0);
        board.fetched(voice(2), 6, 0);
        board.flushed(voice(2), 6);
        assert_eq!(place(&board), (6, 6));
        assert!(!board.fetched(voice(1), 5, 0) && !board.flushed(voice(1), 5), "no reason to look");
        assert_eq!(place(&board), (6, 6));
        assert_eq!(board.views(7), [ReplicaView { broker: 2, end_offset: 6 }]);
    }
}
