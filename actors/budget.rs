//! Memory as permits: actix honours no mailbox limit for messages that are sent from many places, so what bounds memory is a
//! budget in bytes. A frame's bytes are paid for before they are read and given back when nothing holds them any more.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The broker's budget for requests, responses and what waits for the disk; shared by all connections.
#[derive(Clone)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    size_bytes: usize,
}

/// Bytes that are paid for; dropping gives them back.
#[derive(Debug)]
pub struct BudgetPermit(#[allow(dead_code, reason = "held for its drop")] Option<OwnedSemaphorePermit>);

/// One permit stands for this many bytes, so that a semaphore can count a large budget in `u32` steps.
const PERMIT_BYTES: usize = 64;

impl MemoryBudget {
    pub fn new(size_bytes: usize) -> Self {
        let permits = (size_bytes / PERMIT_BYTES).clamp(1, Semaphore::MAX_PERMITS);
        Self { permits: Arc::new(Semaphore::new(permits)), size_bytes }
    }

    /// How many bytes are in use, in steps of a permit.
    pub fn used_bytes(&self) -> usize {
        self.size_bytes.saturating_sub(self.permits.available_permits() * PERMIT_BYTES)
    }

    pub fn size_bytes(&self) -> usize {
        self.size_bytes
    }

    /// Pays for `size_bytes` if they are free now.
    pub fn try_acquire(&self, size_bytes: usize) -> Option<BudgetPermit> {
        let permit = self.permits.clone().try_acquire_many_owned(self.permits_for(size_bytes)).ok()?;
        Some(BudgetPermit(Some(permit)))
    }

    /// Pays for `size_bytes`, waiting until others have given theirs back.
    pub async fn acquire(&self, size_bytes: usize) -> BudgetPermit {
        let permit = self.permits.clone().acquire_many_owned(self.permits_for(size_bytes)).await;
        BudgetPermit(permit.ok())
    }

    /// One request larger than the whole budget may still go, alone.
    fn permits_for(&self, size_bytes: usize) -> u32 {
        let all = (self.size_bytes / PERMIT_BYTES).max(1);
        u32::try_from(size_bytes.div_ceil(PERMIT_BYTES).min(all)).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_can_be_had_again() {
        let budget = MemoryBudget::new(1024);
        let first = budget.try_acquire(600).expect("there is room");
        assert!(budget.try_acquire(600).is_none());
        drop(first);
        assert!(budget.try_acquire(600).is_some());
    }

    #[test]
    fn a_request_larger_than_the_budget_goes_alone() {
        let budget = MemoryBudget::new(1024);
        let all = budget.try_acquire(1 << 30).expect("alone");
        assert!(budget.try_acquire(1).is_none());
        assert_eq!(budget.used_bytes(), 1024);
        drop(all);
        assert_eq!(budget.used_bytes(), 0);
    }
}
