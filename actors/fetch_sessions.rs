//! The fetch sessions of this broker, where any connection finds them: a client that reconnects may go on with its own.
//!
//! The cache is locked for a look-up, never while anything is read or waited for; a session has a lock of its own, which
//! only its client's requests take.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use capek_state::fetch_session::{FetchSession, FetchSessionCache, NO_SESSION, SessionLimits};

use crate::clock::now_ms;

/// Partitions that all sessions together may have, at about 300 bytes each.
const PARTITIONS_MAX: usize = 300_000;

pub type SharedSession = Arc<Mutex<FetchSession>>;

pub struct FetchSessions {
    cache: Mutex<FetchSessionCache<SharedSession>>,
}

impl FetchSessions {
    /// `sessions_max`: `max.incremental.fetch.session.cache.slots`.
    pub fn new(sessions_max: usize) -> Self {
        let limits = SessionLimits { sessions_max, partitions_max: PARTITIONS_MAX };
        Self { cache: Mutex::new(FetchSessionCache::new(limits)) }
    }

    /// Keeps the session if there is room; 0 otherwise.
    pub fn begin(&self, session: FetchSession) -> i32 {
        let partitions = session.len();
        let seed = u32::from_le_bytes(crate::random::bytes());
        let session = Arc::new(Mutex::new(session));
        lock(&self.cache).create(now_ms(), seed, partitions, session).unwrap_or(NO_SESSION)
    }

    pub fn find(&self, id: i32) -> Option<SharedSession> {
        lock(&self.cache).get(id).cloned()
    }

    /// The session was used and has so many partitions now; false when it is not kept any more.
    pub fn used(&self, id: i32, partitions: usize) -> bool {
        lock(&self.cache).touch(id, now_ms(), partitions)
    }

    pub fn end(&self, id: i32) {
        lock(&self.cache).remove(id);
    }
}

/// Every operation on what these locks guard leaves it whole, so a panic elsewhere does not spoil it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
