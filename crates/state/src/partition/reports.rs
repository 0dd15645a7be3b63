//! What the followers of a partition have said of themselves: of each the latest word.
//!
//! A follower speaks over one connection at a time, and each keeps its order. But what is on its way over one that is gone may
//! be taken up after what was said over the next: it would take back where the follower is and what it has flushed, and the
//! follower would not repeat that before it moves again. So the connections of a broker are numbered as they come in, and
//! what comes over an earlier one than the last that was heard is dropped. Nothing is missed by that: over a new connection a
//! follower says again all that it has to say.

use std::collections::BTreeMap;

use capek_wire::ids::{BrokerId, LeaderEpoch, Offset};

/// Who speaks, of which leader's log, and over which connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FollowerVoice {
    pub broker: BrokerId,
    pub broker_epoch: i64,
    pub leader_epoch: LeaderEpoch,
    /// Higher than that of every connection that its broker had used before this one was made.
    pub connection: u64,
}

/// One follower's place, in agreement with the leader of this epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FollowerReport {
    pub leader_epoch: LeaderEpoch,
    pub broker_epoch: i64,
    /// The last over which anything was heard.
    pub connection: u64,
    pub fetch_offset: Offset,
    /// -1: it has not said.
    pub flushed_end: Offset,
    pub fetch_ms: i64,
}

/// See the head of this file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FollowerReports(BTreeMap<BrokerId, FollowerReport>);

impl FollowerReports {
    /// The follower holds everything below `fetch_offset`. False: it is a late word, and says nothing.
    pub fn fetched(&mut self, voice: FollowerVoice, fetch_offset: Offset, now_ms: i64) -> bool {
        let FollowerVoice { broker, broker_epoch, leader_epoch, connection } = voice;
        let known = self.0.get(&broker);
        if known.is_some_and(|known| known.connection > connection) {
            return false;
        }
        let known = known.filter(|known| known.is_about_the_same(voice));
        let flushed_end = known.map_or(-1, |known| known.flushed_end.min(fetch_offset));
        let fetch_ms = now_ms;
        let report = FollowerReport { leader_epoch, broker_epoch, connection, fetch_offset, flushed_end, fetch_ms };
        self.0.insert(broker, report);
        true
    }

    /// The follower has everything below `end_offset` on its disk. False: that is no news, or a late word.
    pub fn flushed(&mut self, voice: FollowerVoice, end_offset: Offset) -> bool {
        let Some(known) = self.0.get_mut(&voice.broker) else { return false };
        if !known.is_about_the_same(voice) || known.connection > voice.connection {
            return false;
        }
        known.connection = voice.connection;
        let is_news = known.flushed_end < end_offset;
        known.flushed_end = known.flushed_end.max(end_offset);
        is_news
    }

    /// The reports about this leader's log.
    pub fn of_epoch(&self, leader_epoch: LeaderEpoch) -> impl Iterator<Item = (BrokerId, FollowerReport)> + '_ {
        let current = self.0.iter().filter(move |(_, report)| report.leader_epoch == leader_epoch);
        current.map(|(broker, report)| (*broker, *report))
    }

    /// Another epoch begins: what was said in the last one says nothing of it.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl FollowerReport {
    /// From the same life of its broker, about the same leader's log.
    fn is_about_the_same(&self, voice: FollowerVoice) -> bool {
        (self.leader_epoch, self.broker_epoch) == (voice.leader_epoch, voice.broker_epoch)
    }
}
