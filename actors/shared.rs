//! What outlives a Partition's incarnations and is read without asking it: the log, the high watermark, who waits for more.
//!
//! Nothing in here goes back within a leader epoch. Fetches read it on their connection's own thread; only the Partition
//! (the one writer) moves it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwap;
use capek_log::Log;
use capek_state::config::TopicConfig;
use capek_wire::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use tokio::sync::Notify;

/// A partition of one topic's life: the id differs when a topic of the same name is made again.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PartitionKey {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
}

impl std::fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// See the head of this file.
pub struct PartitionShared {
    pub key: PartitionKey,
    pub log: Arc<Log>,
    config: ArcSwap<TopicConfig>,
    high_watermark: AtomicI64,
    leader_epoch: AtomicI32,
    is_deleted: AtomicBool,
    is_offline: AtomicBool,
    waiters: Mutex<Vec<Weak<Notify>>>,
}

impl PartitionShared {
    pub fn new(
        key: PartitionKey,
        log: Arc<Log>,
        config: Arc<TopicConfig>,
        high_watermark: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Self {
        Self {
            key,
            log,
            config: ArcSwap::new(config),
            high_watermark: AtomicI64::new(high_watermark),
            leader_epoch: AtomicI32::new(leader_epoch),
            is_deleted: AtomicBool::new(false),
            is_offline: AtomicBool::new(false),
            waiters: Mutex::new(Vec::new()),
        }
    }

    /// Consumers read below this offset; it covers what is flushed (or, in `async` mode, written).
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.load(Ordering::Acquire)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.load(Ordering::Acquire)
    }

    pub fn log_start(&self) -> Offset {
        self.log.log_start()
    }

    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    pub fn set_config(&self, config: Arc<TopicConfig>) {
        self.config.store(config);
    }

    /// The one writer publishes a new high watermark, and whoever waits looks again.
    pub fn advance_high_watermark(&self, high_watermark: Offset) {
        let before = self.high_watermark.fetch_max(high_watermark, Ordering::AcqRel);
        assert!(
            before <= high_watermark,
            "the high watermark of {} would go back from {before} to {high_watermark}",
            self.key
        );
        self.wake_waiters();
    }

    /// The partition is gone: whoever waits shall look again and find out.
    pub fn delete(&self) {
        self.is_deleted.store(true, Ordering::Release);
        self.wake_waiters();
    }

    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// The replica cannot be used: whoever waits shall look again and find out.
    pub fn set_offline(&self) {
        self.is_offline.store(true, Ordering::Release);
        self.wake_waiters();
    }

    pub fn is_offline(&self) -> bool {
        self.is_offline.load(Ordering::Acquire)
    }

    /// `waiter` is notified once for each change from now on, until it is dropped. Registering twice is registering once.
    pub fn register(&self, waiter: &Arc<Notify>) {
        let mut waiters = self.lock_waiters();
        let is_known = waiters.iter().any(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(waiter)));
        if !is_known {
            // A connection that has gone leaves its place here; it is taken away before the list grows.
            waiters.retain(|known| known.strong_count() > 0);
            waiters.push(Arc::downgrade(waiter));
        }
    }

    pub fn wake_waiters(&self) {
        for waiter in self.lock_waiters().iter().filter_map(Weak::upgrade) {
            waiter.notify_waiters();
        }
    }

    fn lock_waiters(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Notify>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
