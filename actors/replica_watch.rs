//! How a fetch session of the data lane learns which of its partitions have news, without looking at all of them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use capek_wire::peer::replication::SessionSlot;
use tokio::sync::Notify;

/// The slots of one session that have news, each named once.
#[derive(Default)]
pub struct ReadySlots {
    slots: Mutex<Vec<SessionSlot>>,
    changed: Notify,
}

impl ReadySlots {
    pub fn take(&self) -> Vec<SessionSlot> {
        std::mem::take(&mut self.slots.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves when a slot has become ready since the last time.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    fn push(&self, slot: SessionSlot) {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).push(slot);
        self.changed.notify_one();
    }
}

/// One partition's place in one session; the partition keeps it and marks it.
pub struct ReplicaWatch {
    session: Weak<ReadySlots>,
    slot: SessionSlot,
    is_marked: AtomicBool,
}

impl ReplicaWatch {
    pub fn new(session: &Arc<ReadySlots>, slot: SessionSlot) -> Arc<ReplicaWatch> {
        Arc::new(ReplicaWatch { session: Arc::downgrade(session), slot, is_marked: AtomicBool::new(false) })
    }

    /// There is news. Cheap when the session has not looked at the last ones yet.
    pub fn mark(&self) {
        if !self.is_marked.swap(true, Ordering::AcqRel)
            && let Some(session) = self.session.upgrade()
        {
            session.push(self.slot);
        }
    }

    /// The session is about to look: what comes from here on marks again.
    pub fn look(&self) {
        self.is_marked.store(false, Ordering::Release);
    }

    pub fn is_gone(&self) -> bool {
        self.session.strong_count() == 0
    }
}
