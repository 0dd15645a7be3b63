//! The supervision tree seen from outside: every actor has an entry here from its start to its end.
//!
//! `GET /v1/actors` and `capek actors` read it; the chaos calls find their victim in it. Entries are plain counters that the
//! actor itself keeps, so that a look at 50,000 partitions sends no message to any of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix::{Message, Recipient};

/// A fault that a user or a test brings about, to see supervision work. Answered by what it does.
#[derive(Message, Debug, Clone, Copy, PartialEq, Eq)]
#[rtype(result = "()")]
pub enum Chaos {
    /// Panic while handling this message.
    Panic,
    /// Hold the actor's thread for so long: everything on its arbiter stands still.
    StallMs(u64),
}

/// What every handler of [`Chaos`] does.
pub fn bring_about(chaos: Chaos) {
    match chaos {
        Chaos::Panic => panic!("a chaos call asked for this panic"),
        Chaos::StallMs(stall_ms) => std::thread::sleep(std::time::Duration::from_millis(stall_ms)),
    }
}

/// One actor as others see it.
pub struct ActorEntry {
    pub path: String,
    pub kind: &'static str,
    pub incarnation: AtomicU32,
    pub restarts: AtomicU32,
    /// Messages sent and not yet handled, for the actors whose senders count.
    pub mailbox: AtomicI64,
    /// Replies that wait for a condition.
    pub parked: AtomicU64,
    pub bytes_held: AtomicU64,
    started: Mutex<Instant>,
    chaos: Mutex<Option<Recipient<Chaos>>>,
}

impl ActorEntry {
    /// A new life begins: how to reach it.
    pub fn begin(&self, incarnation: u32, chaos: Option<Recipient<Chaos>>) {
        self.incarnation.store(incarnation, Ordering::Relaxed);
        self.mailbox.store(0, Ordering::Relaxed);
        self.parked.store(0, Ordering::Relaxed);
        self.bytes_held.store(0, Ordering::Relaxed);
        *lock(&self.started) = Instant::now();
        *lock(&self.chaos) = chaos;
    }

    pub fn age_ms(&self) -> u64 {
        u64::try_from(lock(&self.started).elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Sends the fault to the actor; `false` when it cannot be reached.
    pub fn send_chaos(&self, chaos: Chaos) -> bool {
        let recipient = lock(&self.chaos).clone();
        recipient.is_some_and(|recipient| {
            recipient.do_send(chaos);
            true
        })
    }
}

/// All living actors by path.
#[derive(Clone, Default)]
pub struct Census {
    entries: Arc<Mutex<BTreeMap<String, Arc<ActorEntry>>>>,
    /// Restarts of actors that are gone, by kind.
    past_restarts: Arc<Mutex<BTreeMap<&'static str, u64>>>,
}

/// All actors of a kind together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KindSummary {
    pub count: u64,
    /// Since the start, of those that are gone too.
    pub restarts: u64,
    pub mailbox: u64,
    /// The fullest.
    pub mailbox_max: u64,
    pub parked: u64,
    pub bytes_held: u64,
}

impl Census {
    /// Enters an actor, or finds its entry from an earlier incarnation.
    pub fn enter(&self, path: String, kind: &'static str) -> Arc<ActorEntry> {
        let mut entries = lock(&self.entries);
        let entry = entries.entry(path).or_insert_with_key(|path| {
            Arc::new(ActorEntry {
                path: path.clone(),
                kind,
                incarnation: AtomicU32::new(0),
                restarts: AtomicU32::new(0),
                mailbox: AtomicI64::new(0),
                parked: AtomicU64::new(0),
                bytes_held: AtomicU64::new(0),
                started: Mutex::new(Instant::now()),
                chaos: Mutex::new(None),
            })
        });
        entry.clone()
    }

    /// The actor has gone for good.
    pub fn leave(&self, path: &str) {
        let Some(gone) = lock(&self.entries).remove(path) else { return };
        let restarts = gone.restarts.load(Ordering::Relaxed);
        if restarts > 0 {
            *lock(&self.past_restarts).entry(gone.kind).or_default() += u64::from(restarts);
        }
    }

    /// What there is, by kind.
    pub fn summary(&self) -> BTreeMap<&'static str, KindSummary> {
        let mut kinds: BTreeMap<&'static str, KindSummary> = BTreeMap::new();
        for (kind, restarts) in lock(&self.past_restarts).iter() {
            kinds.entry(kind).or_default().restarts = *restarts;
        }
        for entry in lock(&self.entries).values() {
            let kind = kinds.entry(entry.kind).or_default();
            let mailbox = u64::try_from(entry.mailbox.load(Ordering::Relaxed)).unwrap_or(0);
            kind.count += 1;
            kind.restarts += u64::from(entry.restarts.load(Ordering::Relaxed));
            kind.mailbox += mailbox;
            kind.mailbox_max = kind.mailbox_max.max(mailbox);
            kind.parked += entry.parked.load(Ordering::Relaxed);
            kind.bytes_held += entry.bytes_held.load(Ordering::Relaxed);
        }
        kinds
    }

    /// How many children the actor of this path has.
    pub fn children_count(&self, path: &str) -> usize {
        let below = format!("{path}/");
        let entries = lock(&self.entries);
        entries.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below)).count()
    }

    pub fn find(&self, path: &str) -> Option<Arc<ActorEntry>> {
        lock(&self.entries).get(path).cloned()
    }

    /// The entries at and below `under`, at most `depth` levels below it, at most `limit`; and whether there were more.
    pub fn list(&self, under: &str, depth: usize, limit: usize) -> (Vec<Arc<ActorEntry>>, bool) {
        let entries = lock(&self.entries);
        let levels_above = if under.is_empty() { 0 } else { under.matches('/').count() + 1 };
        let is_under = |path: &str| {
            path.strip_prefix(under).is_some_and(|rest| under.is_empty() || rest.is_empty() || rest.starts_with('/'))
        };
        let mut found = entries
            .range(under.to_string()..)
            .take_while(|(path, _)| path.starts_with(under))
            .filter(|(path, _)| is_under(path) && path.matches('/').count() < levels_above + depth);
        let listed: Vec<_> = found.by_ref().take(limit).map(|(_, entry)| entry.clone()).collect();
        let has_more = found.next().is_some();
        (listed, has_more)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The guarded values are valid after every single operation, so a panic elsewhere does not spoil them.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_is_listed_by_path_depth_and_limit() {
        let census = Census::default();
        for path in ["broker", "broker/http", "broker/replica-manager", "broker/replica-manager/partition:a-0"] {
            census.enter(path.to_string(), "test");
        }
        let paths = |under: &str, depth, limit| {
            let (entries, has_more) = census.list(under, depth, limit);
            (entries.iter().map(|entry| entry.path.clone()).collect::<Vec<_>>().join(" "), has_more)
        };
        assert_eq!(paths("", 2, 10), ("broker broker/http broker/replica-manager".into(), false));
        assert_eq!(
            paths("broker/replica-manager", 1, 10),
            ("broker/replica-manager broker/replica-manager/partition:a-0".into(), false)
        );
        assert_eq!(paths("", 9, 1), ("broker".into(), true));
        census.leave("broker/http");
        assert!(census.find("broker/http").is_none());
    }

    #[test]
    fn restarts_are_remembered_when_their_actor_is_gone() {
        let census = Census::default();
        for path in ["broker/a:1", "broker/a:2"] {
            census.enter(path.to_string(), "a").restarts.store(2, Ordering::Relaxed);
        }
        census.find("broker/a:1").unwrap().mailbox.store(7, Ordering::Relaxed);
        census.leave("broker/a:2");
        let summary = census.summary()["a"];
        assert_eq!((summary.count, summary.restarts), (1, 4));
        assert_eq!((summary.mailbox, summary.mailbox_max), (7, 7));
        assert_eq!((census.children_count("broker"), census.children_count("broker/a")), (1, 0));
    }
}
