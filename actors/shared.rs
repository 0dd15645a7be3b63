//! What outlives a Partition's incarnations and is read without asking it: the log, the high watermark, who waits for more.
//!
//! Nothing in here goes back within a leader epoch. Fetches read it on their connection's own thread; only the Partition
//! (the one writer) moves it.

use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use capek_log::{Log, ReadError, ReadOutcome, ReadRequest};
use capek_state::config::TopicConfig;
use capek_state::partition::{NewProducers, ProducerMoments};
use capek_wire::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};
use tokio::sync::Notify;

use crate::follower_board::FollowerBoard;
use crate::replica_watch::ReplicaWatch;
use crate::traffic::TopicTraffic;
use crate::waiters::Waiters;

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

/// What this broker is to a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It has a replica, and there is no leader.
    Idle,
    Follower,
    Leader,
}

/// Where an epoch begins on this broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochBegin {
    pub role: Role,
    pub leader_epoch: LeaderEpoch,
    pub high_watermark: Offset,
    pub log_end: Offset,
}

/// One cold read at most, so that a pool thread is soon free for the next.
const COLD_READ_BYTES_MAX: usize = 1 << 20;

/// An in-sync set that the controller was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposedInSync {
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub members: Vec<(BrokerId, i64)>,
}

/// See the head of this file.
pub struct PartitionShared {
    pub key: PartitionKey,
    pub log: Arc<Log>,
    /// All of the topic's partitions here share it.
    pub traffic: Arc<TopicTraffic>,
    config: ArcSwap<TopicConfig>,
    high_watermark: AtomicI64,
    leader_epoch: AtomicI32,
    role: AtomicU8,
    /// Where the log ended when this broker became the leader.
    epoch_start: AtomicI64,
    /// In this epoch the follower's log agrees with its leader's: what it knows to be committed, is.
    is_agreed: AtomicBool,
    /// What followers may be given: it is written, and not taken back.
    written_end: AtomicI64,
    pub followers: FollowerBoard,
    /// The in-sync set that was last proposed, with the leader and partition epochs that it is about. The controller may commit
    /// it after the incarnation that wanted it has ended.
    proposed: Mutex<Option<ProposedInSync>>,
    replica_watches: Mutex<Vec<Arc<ReplicaWatch>>>,
    /// Most partitions have none most of the time, and then nobody takes the lock.
    is_watched: AtomicBool,
    is_deleted: AtomicBool,
    is_offline: AtomicBool,
    /// When the log last said that an append failed.
    failure_told_ms: AtomicI64,
    waiters: Waiters,
    producer_moments: Mutex<ProducerMoments>,
    /// See [`PartitionShared::partition_count_min`].
    partition_count_min: AtomicI32,
}

impl PartitionShared {
    /// Of a replica whose first epoch has not begun.
    pub fn new(
        key: PartitionKey,
        log: Arc<Log>,
        config: Arc<TopicConfig>,
        traffic: Arc<TopicTraffic>,
        new_producers: NewProducers,
    ) -> Self {
        Self {
            producer_moments: Mutex::new(ProducerMoments::since(new_producers)),
            partition_count_min: AtomicI32::new(0),
            key,
            log,
            traffic,
            config: ArcSwap::new(config),
            high_watermark: AtomicI64::new(0),
            leader_epoch: AtomicI32::new(-1),
            role: AtomicU8::new(0),
            epoch_start: AtomicI64::new(0),
            is_agreed: AtomicBool::new(false),
            written_end: AtomicI64::new(0),
            followers: FollowerBoard::default(),
            proposed: Mutex::new(None),
            replica_watches: Mutex::new(Vec::new()),
            is_watched: AtomicBool::new(false),
            is_deleted: AtomicBool::new(false),
            is_offline: AtomicBool::new(false),
            failure_told_ms: AtomicI64::new(i64::MIN),
            waiters: Waiters::default(),
        }
    }

    /// Consumers read below this offset; it covers what is flushed (or, in `async` mode, written).
    pub fn high_watermark(&self) -> Offset {
        self.high_watermark.load(Ordering::Acquire)
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch.load(Ordering::Acquire)
    }

    /// A new leader epoch, or another role in it. Here, and only here, may anything go back: the next leader may know less.
    pub fn begin_epoch(&self, begin: EpochBegin) {
        self.followers.clear();
        self.role.store(Role::Idle as u8, Ordering::Release);
        self.is_agreed.store(false, Ordering::Release);
        self.leader_epoch.store(begin.leader_epoch, Ordering::Release);
        self.high_watermark.store(begin.high_watermark, Ordering::Release);
        self.written_end.store(begin.log_end, Ordering::Release);
        self.epoch_start.store(begin.log_end, Ordering::Release);
        self.role.store(begin.role as u8, Ordering::Release);
        self.is_offline.store(false, Ordering::Release);
        self.wake_waiters();
        self.wake_followers();
    }

    /// Takes note of what is proposed, or that it was refused for certain.
    pub fn set_proposed(&self, proposed: Option<ProposedInSync>) {
        *self.proposed.lock().unwrap_or_else(PoisonError::into_inner) = proposed;
    }

    /// What is proposed about this partition epoch of the present leader epoch, and may be committed yet.
    pub fn proposed(&self, partition_epoch: i32) -> Option<ProposedInSync> {
        let proposed = self.proposed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let about = (self.leader_epoch(), partition_epoch);
        proposed.filter(|proposed| (proposed.leader_epoch, proposed.partition_epoch) == about)
    }

    pub fn role(&self) -> Role {
        match self.role.load(Ordering::Acquire) {
            role if role == Role::Leader as u8 => Role::Leader,
            role if role == Role::Follower as u8 => Role::Follower,
            _ => Role::Idle,
        }
    }

    pub fn is_leader(&self) -> bool {
        self.role() == Role::Leader
    }

    /// The leader has said that the follower's log agrees with its own.
    pub fn set_agreed(&self) {
        self.is_agreed.store(true, Ordering::Release);
    }

    /// Whether consumers may read here what is committed (KIP-392). A log that was not yet compared with the leader's may hold
    /// what an unclean election has undone.
    pub fn is_readable_follower(&self) -> bool {
        self.role() == Role::Follower && self.is_agreed.load(Ordering::Acquire)
    }

    /// Where the log ended when this broker became the leader.
    pub fn epoch_start(&self) -> Offset {
        self.epoch_start.load(Ordering::Acquire)
    }

    /// Whether a leader can say where the committed records end (KIP-207).
    pub fn knows_committed_end(&self) -> bool {
        self.high_watermark() >= self.epoch_start()
    }

    /// What followers may be given.
    pub fn written_end(&self) -> Offset {
        self.written_end.load(Ordering::Acquire)
    }

    /// Everything below is written for good: followers may fetch it.
    pub fn set_written_end(&self, written_end: Offset) {
        if self.written_end.fetch_max(written_end, Ordering::AcqRel) < written_end {
            self.wake_followers();
        }
    }

    /// The follower has cut its log.
    pub fn cut(&self, high_watermark: Offset, log_end: Offset) {
        self.high_watermark.store(high_watermark, Ordering::Release);
        self.written_end.store(log_end, Ordering::Release);
        self.wake_waiters();
    }

    /// A session that follows this partition hears of its news from now on.
    pub fn watch(&self, watch: Arc<ReplicaWatch>) {
        let mut watches = self.lock_watches();
        watches.retain(|known| !known.is_gone());
        watches.push(watch);
        self.is_watched.store(true, Ordering::Release);
    }

    pub fn unwatch(&self, watch: &Arc<ReplicaWatch>) {
        let mut watches = self.lock_watches();
        watches.retain(|known| !Arc::ptr_eq(known, watch) && !known.is_gone());
        self.is_watched.store(!watches.is_empty(), Ordering::Release);
    }

    pub fn wake_followers(&self) {
        if self.is_watched.load(Ordering::Acquire) {
            self.lock_watches().iter().for_each(|watch| watch.mark());
        }
    }

    fn lock_watches(&self) -> std::sync::MutexGuard<'_, Vec<Arc<ReplicaWatch>>> {
        self.replica_watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what memory holds at once, and what it does not in the pool: the disk may take long, and the arbiter does not wait
    /// for it.
    pub async fn read(self: &Arc<Self>, read: ReadRequest) -> Result<ReadOutcome, ReadError> {
        let outcome = self.log.read(ReadRequest { may_block: false, ..read });
        if !matches!(outcome, Ok(ReadOutcome::WouldBlock)) {
            return outcome;
        }
        let read = ReadRequest { may_block: true, max_bytes: read.max_bytes.min(COLD_READ_BYTES_MAX), ..read };
        let shared = self.clone();
        match tokio::task::spawn_blocking(move || shared.log.read(read)).await {
            Ok(outcome) => outcome,
            // The pool is gone only when the process stops.
            Err(_) => Ok(ReadOutcome::Empty),
        }
    }

    /// Since when, and for which producers, this replica has missed nothing.
    pub fn producer_moments(&self) -> std::sync::MutexGuard<'_, ProducerMoments> {
        self.producer_moments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A batch whose producer stands for a key, and which chose among fewer partitions of the topic, is refused: somebody who counts
    /// more has been told what is known here.
    pub fn partition_count_min(&self) -> i32 {
        self.partition_count_min.load(Ordering::Acquire)
    }

    pub fn raise_partition_count_min(&self, partition_count: i32) {
        self.partition_count_min.fetch_max(partition_count, Ordering::AcqRel);
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
        self.wake_followers();
    }

    /// The partition is gone: whoever waits shall look again and find out.
    pub fn delete(&self) {
        self.is_deleted.store(true, Ordering::Release);
        self.wake_waiters();
        self.wake_followers();
    }

    pub fn is_deleted(&self) -> bool {
        self.is_deleted.load(Ordering::Acquire)
    }

    /// The replica cannot be used: whoever waits shall look again and find out.
    pub fn set_offline(&self) {
        self.is_offline.store(true, Ordering::Release);
        self.wake_waiters();
        self.wake_followers();
    }

    /// It is tried once more.
    pub fn set_online(&self) {
        self.is_offline.store(false, Ordering::Release);
    }

    /// Whether it is time to say once more that appends fail: while a disk is full, each client's attempt is one.
    pub fn is_time_to_tell_of_failure(&self, now_ms: i64) -> bool {
        const AGAIN_AFTER_MS: i64 = 10_000;
        let is_due = now_ms.saturating_sub(self.failure_told_ms.load(Ordering::Relaxed)) >= AGAIN_AFTER_MS;
        if is_due {
            self.failure_told_ms.store(now_ms, Ordering::Relaxed);
        }
        is_due
    }

    pub fn is_offline(&self) -> bool {
        self.is_offline.load(Ordering::Acquire)
    }

    /// `waiter` is notified once for each change from now on, until it is dropped. Registering twice is registering once.
    pub fn register(&self, waiter: &Arc<Notify>) {
        self.waiters.register(waiter);
    }

    pub fn wake_waiters(&self) {
        self.waiters.wake();
    }
}
