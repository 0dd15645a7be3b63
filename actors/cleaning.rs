//! What all CleanerThreads share: which log is the dirtiest, who cleans it, how fast, and what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use capek_log::{Clean, CleanError, CleanOptions, CleanWatch, Cleanable, CleanableQuery};
use capek_state::cluster::Image;
use capek_state::config::find_broker_config;
use log::{error, info, warn};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::census::ActorEntry;
use crate::clock::now_ms;
use crate::config::BrokerConfig;
use crate::journal::JournalHandle;
use crate::metrics::CleanerMetrics;
use crate::routes::{PartitionRoute, Routes};
use crate::shared::{PartitionKey, PartitionShared};
use crate::throttle::Throttle;

/// The cleaner's part of the configuration, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct CleanerSettings {
    pub threads: usize,
    pub backoff: Duration,
    dedupe_bytes_max: usize,
    load_factor: f64,
    buffer_bytes: usize,
    bytes_per_second_max: f64,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    Done,
    Nothing,
}

/// See the head of this file.
pub struct Cleaning {
    config: Arc<BrokerConfig>,
    image: Arc<ArcSwap<Image>>,
    routes: Arc<Routes>,
    /// The journal of each data directory.
    journals: Vec<(PathBuf, JournalHandle)>,
    metrics: Arc<CleanerMetrics>,
    busy: Mutex<BTreeSet<PartitionKey>>,
    /// Logs that could not be cleaned, and why: they are not tried again before the next start.
    uncleanable: Mutex<BTreeMap<PartitionKey, String>>,
    throttle: Mutex<Throttle>,
    /// One permit for each piece of work on the pool.
    permits: Arc<Semaphore>,
}

/// What [`Cleaning`] begins with.
pub struct CleaningStart {
    pub config: Arc<BrokerConfig>,
    pub image: Arc<ArcSwap<Image>>,
    pub routes: Arc<Routes>,
    pub journals: Vec<(PathBuf, JournalHandle)>,
    pub metrics: Arc<CleanerMetrics>,
}

const PERMITS: u32 = 1024;

/// A log that somebody cleans; nobody else does until this is dropped.
struct Claim<'a> {
    cleaning: &'a Cleaning,
    shared: Arc<PartitionShared>,
    cleanable: Cleanable,
    /// Still so at the drop: a panic.
    has_failed: bool,
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        lock(&self.cleaning.busy).remove(&self.shared.key);
        if self.has_failed {
            self.cleaning.note_uncleanable(&self.shared.key, "cleaning it panicked");
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cleaning {
    pub fn new(start: CleaningStart) -> Self {
        Self {
            config: start.config,
            image: start.image,
            routes: start.routes,
            journals: start.journals,
            metrics: start.metrics,
            busy: Mutex::default(),
            uncleanable: Mutex::default(),
            throttle: Mutex::new(Throttle::new(Instant::now())),
            permits: Arc::new(Semaphore::new(PERMITS as usize)),
        }
    }

    pub fn settings(&self) -> CleanerSettings {
        let image = self.image.load();
        let is_enabled: bool = self.setting(&image, "log.cleaner.enable");
        let threads: i32 = self.setting(&image, "log.cleaner.threads");
        let threads = if is_enabled { usize::try_from(threads).unwrap_or(0) } else { 0 };
        let dedupe_bytes: i64 = self.setting(&image, "log.cleaner.dedupe.buffer.size");
        let backoff_ms: i64 = self.setting(&image, "log.cleaner.backoff.ms");
        let buffer_bytes: i32 = self.setting(&image, "log.cleaner.io.buffer.size");
        CleanerSettings {
            threads,
            backoff: Duration::from_millis(backoff_ms.max(1) as u64),
            dedupe_bytes_max: usize::try_from(dedupe_bytes).unwrap_or(0) / threads.max(1),
            load_factor: self.setting(&image, "log.cleaner.io.buffer.load.factor"),
            buffer_bytes: usize::try_from(buffer_bytes).unwrap_or(0) / threads.max(1),
            bytes_per_second_max: self.setting(&image, "log.cleaner.io.max.bytes.per.second"),
        }
    }

    fn setting<T: FromStr>(&self, image: &Image, name: &str) -> T {
        let definition = find_broker_config(name).expect("the cleaner asks for what is defined");
        let value = image.broker_value(self.config.node_id, &self.config.properties, name);
        let value = value.filter(|value| definition.check(value).is_ok()).map(|value| definition.normal(&value));
        let parsed = value.and_then(|value| value.parse().ok());
        let default = || definition.default.and_then(|default| default.parse().ok());
        parsed.or_else(default).expect("defaults parse: a test holds that")
    }

    /// May work begin? Not once the broker stops.
    pub fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.permits.clone().try_acquire_owned().ok()
    }

    /// No work begins any more; comes back when none is left.
    pub async fn end(&self) {
        // Only `end` takes them all, and it never closes the semaphore.
        if let Ok(permits) = self.permits.acquire_many(PERMITS).await {
            permits.forget();
        }
    }

    /// Cleans the dirtiest log as far as the memory for its keys reaches. It blocks.
    pub fn clean_dirtiest(&self, settings: &CleanerSettings, has_ended: Arc<AtomicBool>, entry: &ActorEntry) -> Work {
        let Some(mut claim) = self.claim_dirtiest() else { return Work::Nothing };
        self.metrics.begin(claim.cleanable.dirty_ratio());
        entry.bytes_held.store(settings.dedupe_bytes_max as u64, Ordering::Relaxed);
        let result = self.clean(&claim, settings, &has_ended);
        entry.bytes_held.store(0, Ordering::Relaxed);
        claim.has_failed = false;
        let key = &claim.shared.key;
        match result {
            Ok(()) => Work::Done,
            Err(CleanError::Ended) => Work::Nothing,
            Err(error @ CleanError::NoSpace) => {
                warn!("{key} was not compacted: {error}");
                self.metrics.failed.fetch_add(1, Ordering::Relaxed);
                Work::Nothing
            }
            Err(error) => {
                self.note_uncleanable(key, &error.to_string());
                Work::Done
            }
        }
    }

    /// The log that needs it most, among those that need it enough.
    fn claim_dirtiest(&self) -> Option<Claim<'_>> {
        let mut best: Option<(bool, f64, Arc<PartitionShared>, Cleanable)> = None;
        let now_ms = now_ms();
        for topic in self.routes.topics() {
            for route in topic.partitions() {
                let Some(cleanable) = self.cleanable(&route, now_ms) else { continue };
                let rank = (cleanable.is_overdue, cleanable.dirty_ratio());
                if best.as_ref().is_none_or(|best| rank > (best.0, best.1)) {
                    best = Some((rank.0, rank.1, route.shared.clone(), cleanable));
                }
            }
        }
        let (_, _, shared, cleanable) = best?;
        // Another thread may have been faster: then there is another round.
        let is_free = lock(&self.busy).insert(shared.key.clone());
        is_free.then_some(Claim { cleaning: self, shared, cleanable, has_failed: true })
    }

    fn cleanable(&self, route: &PartitionRoute, now_ms: i64) -> Option<Cleanable> {
        let (shared, config) = (&route.shared, route.shared.config());
        let is_left_alone =
            || lock(&self.busy).contains(&shared.key) || lock(&self.uncleanable).contains_key(&shared.key);
        if !config.cleanup_policy.compact || shared.is_deleted() || is_left_alone() {
            return None;
        }
        let query = CleanableQuery {
            now_ms,
            high_watermark: shared.high_watermark(),
            min_lag_ms: config.min_compaction_lag_ms,
            max_lag_ms: config.max_compaction_lag_ms,
        };
        match shared.log.cleanable(query) {
            Ok(cleanable) => cleanable
                .filter(|cleanable| cleanable.is_overdue || cleanable.dirty_ratio() > config.min_cleanable_dirty_ratio),
            Err(_) if shared.is_deleted() => None,
            Err(error) => {
                self.note_uncleanable(&shared.key, &error.to_string());
                None
            }
        }
    }

    fn clean(&self, claim: &Claim<'_>, settings: &CleanerSettings, has_ended: &AtomicBool) -> Result<(), CleanError> {
        let (shared, log) = (&claim.shared, &claim.shared.log);
        let journal = self.journals.iter().find(|(path, _)| log.directory().starts_with(path));
        let (_, journal) = journal.ok_or(CleanError::Ended)?;
        // By the time that something is cleaned, nothing of it shall be needed from the journal.
        journal.checkpoint_soon();
        let options = CleanOptions {
            now_ms: now_ms(),
            delete_retention_ms: shared.config().delete_retention_ms,
            dedupe_bytes_max: settings.dedupe_bytes_max,
            load_factor: settings.load_factor,
            buffer_bytes: settings.buffer_bytes,
        };
        let mut watch = Watch { cleaning: self, settings, has_ended, gathered_bytes: 0 };
        let mut clean = Clean::begin(log, claim.cleanable, options, &mut watch)?;
        while let Some(cleaned) = clean.next_group(&mut watch)? {
            // A journal that ends drops the reply.
            if !journal.swap(log, cleaned).blocking_recv().unwrap_or(false) {
                return Err(CleanError::Ended);
            }
        }
        journal.cleaned_to(log, clean.end_offset());
        let stats = clean.stats();
        self.metrics.done(&stats);
        info!(
            "{}: compacted from {} to {}: {} keys, {} bytes became {}",
            shared.key,
            claim.cleanable.first_dirty,
            clean.end_offset(),
            stats.keys,
            stats.before_bytes,
            stats.after_bytes
        );
        Ok(())
    }

    fn note_uncleanable(&self, key: &PartitionKey, reason: &str) {
        error!("{key} is not compacted any more, until the next start: {reason}");
        self.metrics.failed.fetch_add(1, Ordering::Relaxed);
        let mut uncleanable = lock(&self.uncleanable);
        uncleanable.retain(|key, _| self.routes.topic_by_id(key.topic_id).is_some());
        uncleanable.insert(key.clone(), reason.to_string());
        self.metrics.uncleanable.store(uncleanable.len() as u64, Ordering::Relaxed);
    }
}

/// Slows a clean down to what is configured for all of them together, and ends it when its actor has gone.
struct Watch<'a> {
    cleaning: &'a Cleaning,
    settings: &'a CleanerSettings,
    has_ended: &'a AtomicBool,
    gathered_bytes: u64,
}

/// Small steps are gathered before the clock is asked.
const WATCH_BYTES: u64 = 64 << 10;
/// A stop must not wait for a long sleep.
const NAP: Duration = Duration::from_millis(50);

impl CleanWatch for Watch<'_> {
    fn progress(&mut self, read_bytes: u64, written_bytes: u64) -> bool {
        self.cleaning.metrics.moved(read_bytes, written_bytes);
        self.gathered_bytes += read_bytes + written_bytes;
        if self.gathered_bytes >= WATCH_BYTES {
            let bytes = std::mem::take(&mut self.gathered_bytes);
            let rate = self.settings.bytes_per_second_max;
            let mut pause = lock(&self.cleaning.throttle).take(bytes, rate, Instant::now());
            while !pause.is_zero() && !self.has_ended.load(Ordering::Acquire) {
                let nap = pause.min(NAP);
                std::thread::sleep(nap);
                pause -= nap;
            }
        }
        !self.has_ended.load(Ordering::Acquire)
    }
}
