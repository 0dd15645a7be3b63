//! Which producers a replica would know if they had written to it.
//!
//! A producer id is larger than all that were given out before it. Whose id was given out while a replica had all that was written to
//! the partition, and not so long ago that it may be forgotten, has a state here or has never written.

use std::collections::VecDeque;

use capek_wire::ids::ProducerId;
use capek_wire::keyed::KEYED_PRODUCER_ID_FIRST;

/// So many moments are noted before the first of them is too old.
const NOTED_COUNT: i64 = 4;

/// Producers whose state would be here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NewProducers {
    /// Their ids are not smaller; those that stand for keys are none of them.
    pub id_min: ProducerId,
    /// None of their ids was given out before.
    pub since_ms: i64,
}

impl NewProducers {
    pub(super) fn include(&self, producer_id: ProducerId) -> bool {
        (self.id_min..KEYED_PRODUCER_ID_FIRST).contains(&producer_id)
    }

    pub(super) fn may_be_forgotten(&self, now_ms: i64, expiration_ms: i64) -> bool {
        now_ms.saturating_sub(self.since_ms) >= expiration_ms
    }
}

/// Moments since which a replica has missed nothing, and the smallest producer id that was still to be given out then.
#[derive(Clone, Debug, Default)]
pub struct ProducerMoments {
    /// Oldest first.
    moments: VecDeque<NewProducers>,
}

impl ProducerMoments {
    /// The log is there, and nothing is missed from now on.
    pub fn since(moment: NewProducers) -> ProducerMoments {
        ProducerMoments { moments: [moment].into() }
    }

    /// Time has gone on. To be called a few times within `producer.id.expiration.ms`, and whenever that has changed.
    pub fn note(&mut self, now: NewProducers, expiration_ms: i64) {
        self.forget(now.since_ms, expiration_ms);
        let is_due = |last: &NewProducers| now.since_ms.saturating_sub(last.since_ms) >= expiration_ms / NOTED_COUNT;
        if self.moments.back().is_none_or(is_due) {
            self.moments.push_back(now);
        }
    }

    /// Whatever the log held is gone, and part of what it goes on with was written before.
    pub fn begin_anew(&mut self) {
        self.moments.clear();
    }

    /// As far back as no state may have been forgotten.
    pub fn new_producers(&mut self, now_ms: i64, expiration_ms: i64) -> Option<NewProducers> {
        self.forget(now_ms, expiration_ms);
        self.moments.front().copied()
    }

    /// For good: a longer expiration does not bring back what is forgotten.
    fn forget(&mut self, now_ms: i64, expiration_ms: i64) {
        while self.moments.front().is_some_and(|oldest| oldest.may_be_forgotten(now_ms, expiration_ms)) {
            self.moments.pop_front();
        }
    }
}
