//! Timers as data: what is due when. Nothing here is written to the log; after a reload everything starts afresh.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::Str;

/// What a group waits for, by member id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Timer {
    /// The member has not reported for its session.
    Session(Str),
    /// The member was told to revoke partitions and has not said that it has.
    Rebalance(Str),
    /// A classic member was told to join again and has not.
    Join(Str),
    /// A classic member has joined and has not fetched its assignment.
    Sync(Str),
}

/// At most one deadline for each key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Deadlines<K: Ord> {
    by_key: BTreeMap<K, i64>,
    by_time: BTreeSet<(i64, K)>,
}

impl<K: Ord> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Instead of the deadline that the key had.
    pub fn set(&mut self, key: K, deadline_ms: i64) {
        self.cancel(&key);
        self.by_time.insert((deadline_ms, key.clone()));
        self.by_key.insert(key, deadline_ms);
    }

    pub fn cancel(&mut self, key: &K) {
        if let Some(deadline_ms) = self.by_key.remove(key) {
            self.by_time.remove(&(deadline_ms, key.clone()));
        }
    }

    pub fn is_set(&self, key: &K) -> bool {
        self.by_key.contains_key(key)
    }

    /// When something is due next.
    pub fn next(&self) -> Option<i64> {
        self.by_time.first().map(|(deadline_ms, _)| *deadline_ms)
    }

    /// Takes one that is due, the earliest first.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<K> {
        if self.next()? > now_ms {
            return None;
        }
        let (_, key) = self.by_time.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub fn clear(&mut self) {
        self.by_key.clear();
        self.by_time.clear();
    }
}
