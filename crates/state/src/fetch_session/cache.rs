//! Which fetch sessions are kept. A new one takes a free slot; else it takes that of a session that nobody used for two
//! minutes; else that of one which has had its two minutes and is smaller. Else there is no session, which is legal.

use std::collections::{BTreeMap, BTreeSet};

use super::NO_SESSION;

/// How long a session is safe from larger ones, and unused.
const EVICTION_MS: i64 = 120_000;

/// What a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// `max.incremental.fetch.session.cache.slots`
    pub sessions_max: usize,
    /// Of all sessions together. Kafka has no such limit; a client could fill the memory with partitions that do not exist.
    pub partitions_max: usize,
}

/// The sessions by id; `S` is whatever holds one.
#[derive(Debug)]
pub struct FetchSessionCache<S> {
    limits: SessionLimits,
    sessions: BTreeMap<i32, Slot<S>>,
    partitions: usize,
    /// (last use, id)
    by_last_use: BTreeSet<(i64, i32)>,
    /// (partitions, id) of those old enough to be replaced.
    replaceable: BTreeSet<(usize, i32)>,
}

#[derive(Debug)]
struct Slot<S> {
    session: S,
    created_ms: i64,
    last_used_ms: i64,
    partitions: usize,
}

impl<S> FetchSessionCache<S> {
    pub fn new(limits: SessionLimits) -> FetchSessionCache<S> {
        FetchSessionCache {
            limits,
            sessions: BTreeMap::new(),
            partitions: 0,
            by_last_use: BTreeSet::new(),
            replaceable: BTreeSet::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Partitions of all sessions.
    pub fn partitions(&self) -> usize {
        self.partitions
    }

    pub fn get(&self, id: i32) -> Option<&S> {
        self.sessions.get(&id).map(|slot| &slot.session)
    }

    /// Room for a session of so many partitions: its id, or None. `seed` makes ids hard to guess.
    pub fn create(&mut self, now_ms: i64, seed: u32, partitions: usize, session: S) -> Option<i32> {
        let is_free = self.sessions.len() < self.limits.sessions_max;
        if !is_free && !self.evict_for(now_ms, partitions) {
            return None;
        }
        if self.partitions.saturating_add(partitions) > self.limits.partitions_max {
            return None;
        }
        let id = self.free_id(seed);
        let slot = Slot { session, created_ms: now_ms, last_used_ms: now_ms, partitions };
        self.by_last_use.insert((now_ms, id));
        self.partitions += partitions;
        self.sessions.insert(id, slot);
        Some(id)
    }

    /// The session was used, and has so many partitions now; false when it has grown beyond what is kept, and is gone.
    pub fn touch(&mut self, id: i32, now_ms: i64, partitions: usize) -> bool {
        let Some(slot) = self.sessions.get_mut(&id) else { return false };
        self.by_last_use.remove(&(slot.last_used_ms, id));
        self.replaceable.remove(&(slot.partitions, id));
        self.partitions = self.partitions - slot.partitions + partitions;
        slot.last_used_ms = now_ms;
        slot.partitions = partitions;
        self.by_last_use.insert((now_ms, id));
        if now_ms - slot.created_ms > EVICTION_MS {
            self.replaceable.insert((partitions, id));
        }
        let fits = self.partitions <= self.limits.partitions_max;
        if !fits {
            self.remove(id);
        }
        fits
    }

    pub fn remove(&mut self, id: i32) -> Option<S> {
        let slot = self.sessions.remove(&id)?;
        self.by_last_use.remove(&(slot.last_used_ms, id));
        self.replaceable.remove(&(slot.partitions, id));
        self.partitions -= slot.partitions;
        Some(slot.session)
    }

    fn evict_for(&mut self, now_ms: i64, partitions: usize) -> bool {
        let unused = self.by_last_use.first().filter(|(last_used_ms, _)| now_ms - last_used_ms > EVICTION_MS);
        let smaller = self.replaceable.first().filter(|(size, _)| *size < partitions);
        let evicted = unused.map(|(_, id)| *id).or(smaller.map(|(_, id)| *id));
        evicted.is_some_and(|id| self.remove(id).is_some())
    }

    /// Positive, not 0, not taken.
    fn free_id(&self, seed: u32) -> i32 {
        let mut id = (seed & 0x7fff_ffff) as i32;
        while id == NO_SESSION || self.sessions.contains_key(&id) {
            id = if id == i32::MAX { 1 } else { id + 1 };
        }
        id
    }
}
