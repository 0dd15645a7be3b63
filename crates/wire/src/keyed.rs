//! Producers that stand for a key: a request with an `Idempotency-Key` is written as the only batch of a producer whose id
//! is made of the key, so that what a partition remembers of producers also tells that the request was stored before, on
//! whichever broker and after whatever failure.
//!
//! A client's producers are few and come back; keys are many and do not: only the newest of a partition are remembered.

use std::collections::BTreeMap;

use crate::ids::{Offset, ProducerId};

/// Ids from here on stand for keys; those that brokers give to clients count from zero and never come this far.
pub const KEYED_PRODUCER_ID_FIRST: ProducerId = 1 << 62;

/// How many keys of a partition are remembered.
pub const KEYED_PRODUCERS_MAX: usize = 10_000;

/// The producers of a partition that stand for keys, in the order of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct KeyedProducers {
    by_last_offset: BTreeMap<Offset, ProducerId>,
}

impl KeyedProducers {
    /// A batch was appended whose producer wrote `earlier` before. Some is a producer to be forgotten.
    pub fn note(
        &mut self,
        producer_id: ProducerId,
        earlier: Option<Offset>,
        last_offset: Offset,
    ) -> Option<ProducerId> {
        if producer_id < KEYED_PRODUCER_ID_FIRST {
            return None;
        }
        if let Some(earlier) = earlier {
            self.by_last_offset.remove(&earlier);
        }
        self.by_last_offset.insert(last_offset, producer_id);
        if self.by_last_offset.len() <= KEYED_PRODUCERS_MAX {
            return None;
        }
        self.by_last_offset.pop_first().map(|(_, oldest)| oldest)
    }

    /// Those that were forgotten for other reasons are no longer counted.
    pub fn retain(&mut self, is_known: impl Fn(ProducerId) -> bool) {
        self.by_last_offset.retain(|_, producer_id| is_known(*producer_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_key_is_forgotten_when_there_are_too_many() {
        let mut keyed = KeyedProducers::default();
        let id = |index: usize| KEYED_PRODUCER_ID_FIRST + index as i64;
        for index in 0..KEYED_PRODUCERS_MAX {
            assert_eq!(keyed.note(id(index), None, index as i64), None);
        }
        // The first writes again: now the second is the oldest.
        let end = KEYED_PRODUCERS_MAX as i64;
        assert_eq!(keyed.note(id(0), Some(0), end), None);
        assert_eq!(keyed.note(id(KEYED_PRODUCERS_MAX), None, end + 1), Some(id(1)));
        keyed.retain(|known| known != id(2));
        assert_eq!(keyed.note(id(KEYED_PRODUCERS_MAX + 1), None, end + 2), None);
    }

    #[test]
    fn a_clients_producers_are_not_counted() {
        let mut keyed = KeyedProducers::default();
        for offset in 0..2 * KEYED_PRODUCERS_MAX as i64 {
            assert_eq!(keyed.note(offset, None, offset), None);
        }
        assert_eq!(keyed, KeyedProducers::default());
    }
}
