//! Who waits for news of a partition.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

/// See the head of this file.
#[derive(Default)]
pub struct Waiters(Mutex<Vec<Weak<Notify>>>);

impl Waiters {
    /// `waiter` is notified once for each change from now on, until it is dropped. Registering twice is registering once.
    pub fn register(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.lock();
        let is_known = waiters.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(waiter)));
        if !is_known {
            // A connection that has gone leaves its place here; it is taken away before the list grows.
            waiters.retain(|known| known.strong_count() > 0);
            waiters.push(Arc::downgrade(waiter));
        }
    }

    pub fn wake(&self) {
        for waiter in self.lock().iter().filter_map(Weak::upgrade) {
            waiter.notify_waiters();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
