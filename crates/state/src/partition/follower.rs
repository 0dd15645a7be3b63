//! The follower replica of a partition, for one leader epoch: it makes its log agree with the leader's, then copies on.
//!
//! ```text
//!   fetch (end, last epoch) ──▶ diverging (epoch, end) ──▶ truncate ──▶ fetch again …
//!                            └▶ records: append ──▶ flushed: report it          high watermark: only in agreement
//! ```
//!
//! A log agrees with the leader's when a fetch from its end is answered without a divergence: both then have the same batch
//! last, and the same leader epochs wrote all before (KIP-101, KIP-595). The leader's high watermark means nothing before.

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset};
use capek_wire::peer::replication::EpochEnd;

/// Where a follower begins: what its log holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FollowerStart {
    /// Of the leader that is followed.
    pub epoch: LeaderEpoch,
    pub log_start: Offset,
    pub log_end: Offset,
    pub flushed_end: Offset,
    /// The epoch of the last batch; -1 for an empty log.
    pub last_epoch: LeaderEpoch,
    pub high_watermark: Offset,
}

/// What an answer says of this partition, and what the log knows about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fetched {
    pub leader_epoch: LeaderEpoch,
    /// The fetch that is answered.
    pub fetch_offset: Offset,
    pub error: ErrorCode,
    pub high_watermark: Offset,
    pub log_start: Offset,
    pub diverging: Option<Divergence>,
    pub records: Option<FetchedRecords>,
}

/// The leader's word, and what our log has for the same epoch: the largest that is not above it, and where that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Divergence {
    pub leader: EpochEnd,
    pub local: EpochEnd,
}

/// Whole batches, in the order of their offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FetchedRecords {
    pub base_offset: Offset,
    pub end_offset: Offset,
    /// Of the last batch.
    pub last_epoch: LeaderEpoch,
}

/// What the actor must do, in the order given.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum FollowerEffect {
    /// Hand the records to the journal; they begin at the log's end (or behind it, in a compacted log).
    Append,
    /// Cut the log; then call [`Follower::truncated`].
    Truncate { end_offset: Offset },
    /// The leader's log begins behind our end: drop everything and begin there; then call [`Follower::truncated`].
    Reset { log_start: Offset },
    /// What is below is gone at the leader too.
    MoveLogStart { log_start: Offset },
    /// Readers of this replica may see everything below.
    AdvanceHighWatermark(Offset),
    /// Tell the leader: the log is durable up to here, and agrees.
    ReportFlushed(Offset),
    /// Go on fetching from [`Follower::position`].
    Fetch,
    /// The leader is another one, or not ready yet: ask again a little later.
    FetchLater,
    /// The log cannot be trusted: the records do not follow what we have.
    Fail(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Fetching,
    /// The journal is at work on a cut; answers to earlier fetches mean nothing.
    Cutting,
}

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Follower {
    epoch: LeaderEpoch,
    log_start: Offset,
    log_end: Offset,
    flushed_end: Offset,
    last_epoch: LeaderEpoch,
    high_watermark: Offset,
    phase: Phase,
    /// A fetch was answered without a divergence.
    agrees: bool,
}

impl Follower {
    pub fn new(start: FollowerStart) -> Follower {
        assert!(start.log_start <= start.log_end, "the log starts behind its end");
        Follower {
            epoch: start.epoch,
            log_start: start.log_start,
            log_end: start.log_end,
            flushed_end: start.flushed_end,
            last_epoch: start.last_epoch,
            high_watermark: start.high_watermark,
            phase: Phase::Fetching,
            agrees: false,
        }
    }

    pub fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    pub fn log_end(&self) -> Offset {
        self.log_end
    }

    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    pub fn last_epoch(&self) -> LeaderEpoch {
        self.last_epoch
    }

    pub fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// Whether the log is known to agree with the leader's.
    pub fn agrees(&self) -> bool {
        self.agrees
    }

    /// The connection to the leader is a new one: what was said over the earlier one may never have arrived, so it is said
    /// again when a fetch has shown that the logs still agree.
    pub fn reconnected(&mut self) {
        self.agrees = false;
    }

    /// The leader's answer to a fetch.
    pub fn fetched(&mut self, fetched: &Fetched, effects: &mut Vec<FollowerEffect>) {
        let is_late = fetched.leader_epoch != self.epoch || fetched.fetch_offset != self.log_end;
        if is_late || self.phase == Phase::Cutting {
            return;
        }
        match fetched.error {
            ErrorCode::None => {}
            ErrorCode::OffsetOutOfRange => return self.out_of_range(fetched.log_start, effects),
            _ => return effects.push(FollowerEffect::FetchLater),
        }
        if let Some(divergence) = fetched.diverging {
            return self.diverges(divergence, effects);
        }
        let is_first = !std::mem::replace(&mut self.agrees, true);
        if is_first && self.flushed_end >= 0 {
            effects.push(FollowerEffect::ReportFlushed(self.flushed_end.min(self.log_end)));
        }
        if let Some(records) = fetched.records {
            // A gap is what compaction leaves; what overlaps does not follow.
            if records.base_offset < self.log_end || records.end_offset <= records.base_offset {
                return effects.push(FollowerEffect::Fail("the leader sent records that do not follow ours"));
            }
            self.log_end = records.end_offset;
            self.last_epoch = records.last_epoch;
            effects.push(FollowerEffect::Append);
        }
        self.follow_leader(fetched, effects);
        effects.push(FollowerEffect::Fetch);
    }

    fn follow_leader(&mut self, fetched: &Fetched, effects: &mut Vec<FollowerEffect>) {
        let high_watermark = fetched.high_watermark.min(self.log_end);
        if high_watermark > self.high_watermark {
            self.high_watermark = high_watermark;
            effects.push(FollowerEffect::AdvanceHighWatermark(high_watermark));
        }
        // Never beyond what is committed: a leader that deletes has committed it.
        if fetched.log_start > self.log_start && fetched.log_start <= self.high_watermark {
            self.log_start = fetched.log_start;
            effects.push(FollowerEffect::MoveLogStart { log_start: fetched.log_start });
        }
    }

    fn diverges(&mut self, divergence: Divergence, effects: &mut Vec<FollowerEffect>) {
        if self.agrees {
            // A leader only adds to its log: it is a late answer, or not the leader that we agreed with.
            return effects.push(FollowerEffect::Fail("the leader's log diverges from what it agreed to"));
        }
        let Divergence { leader, local } = divergence;
        let agreed = if local.epoch < 0 { self.log_start } else { leader.end_offset.min(local.end_offset) };
        let end_offset = agreed.clamp(self.log_start, self.log_end);
        if end_offset == self.log_end {
            // The leader's word would change nothing: it must have meant another log.
            return effects.push(FollowerEffect::Fail("the leader's log diverges, but not within ours"));
        }
        self.begin_cut();
        effects.push(FollowerEffect::Truncate { end_offset });
    }

    /// Our end is not within the leader's log, and no divergence was named: the leader has deleted what we lack.
    fn out_of_range(&mut self, leader_log_start: Offset, effects: &mut Vec<FollowerEffect>) {
        if leader_log_start <= self.log_end {
            return effects.push(FollowerEffect::FetchLater);
        }
        self.begin_cut();
        effects.push(FollowerEffect::Reset { log_start: leader_log_start });
    }

    fn begin_cut(&mut self) {
        self.phase = Phase::Cutting;
        self.agrees = false;
    }

    /// The cut is done and durable; this is what the log holds now.
    pub fn truncated(
        &mut self,
        log_start: Offset,
        log_end: Offset,
        last_epoch: LeaderEpoch,
        effects: &mut Vec<FollowerEffect>,
    ) {
        assert!(self.phase == Phase::Cutting, "nobody asked for a cut");
        self.phase = Phase::Fetching;
        self.log_start = log_start;
        self.log_end = log_end;
        self.last_epoch = last_epoch;
        self.flushed_end = self.flushed_end.min(log_end).max(log_start);
        self.high_watermark = self.high_watermark.clamp(log_start, log_end);
        effects.push(FollowerEffect::Fetch);
    }

    /// The journal has everything below `end_offset`.
    pub fn flushed(&mut self, end_offset: Offset, effects: &mut Vec<FollowerEffect>) {
        let end_offset = end_offset.min(self.log_end);
        if end_offset > self.flushed_end {
            self.flushed_end = end_offset;
            if self.agrees {
                effects.push(FollowerEffect::ReportFlushed(end_offset));
            }
        }
    }
}
