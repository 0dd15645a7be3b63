//! Journal: one durable round for all partitions of a data directory.
//!
//! The engine is `capek_log::Journal`; here is the thread that turns it and the queue in front of it. The loop is
//! self-clocking: while one round syncs, the next gathers. Each round wakes an arbiter once, with all of its partitions.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use actix::{Actor, Context, Handler, Message, Recipient};
use capek_log::{Cleaned, Completion, Entry, Log, LogError, LogId, LogSpec, Outcome};
use capek_wire::ids::Offset;
use tokio::sync::oneshot;

use crate::clock::now_ms;
use crate::metrics::JournalMetrics;
use crate::partition::RoundDone;

/// What a finished round has for the partitions of one arbiter.
#[derive(Message)]
#[rtype(result = "()")]
pub struct RoundCompletions(pub Vec<Completion>);

/// The journal thread has ended: its directory failed, or it panicked. Broker decides what that means.
#[derive(Message, Debug)]
#[rtype(result = "()")]
pub struct JournalFailed {
    pub reason: String,
}

enum Command {
    Create {
        specs: Vec<LogSpec>,
        reply: oneshot::Sender<Vec<Result<Arc<Log>, LogError>>>,
    },
    SetAside {
        logs: Vec<LogId>,
        reply: oneshot::Sender<Vec<Result<(), LogError>>>,
    },
    /// Recovery points, beside what else is to be done.
    Checkpoint,
    Close {
        reply: oneshot::Sender<Result<(), String>>,
    },
}

struct Queue {
    entries: VecDeque<Entry>,
    commands: VecDeque<Command>,
    /// The arbiter that hears of a log's completions.
    owners: HashMap<usize, Recipient<RoundCompletions>>,
    barriers: HashMap<u64, oneshot::Sender<Offset>>,
    deletions: HashMap<usize, oneshot::Sender<()>>,
    swaps: HashMap<usize, oneshot::Sender<bool>>,
    next_barrier: u64,
    is_asleep: bool,
    has_ended: bool,
}

/// How others reach the journal of a data directory.
#[derive(Clone)]
pub struct JournalHandle {
    shared: Arc<(Mutex<Queue>, Condvar)>,
    pub metrics: Arc<JournalMetrics>,
}

impl JournalHandle {
    fn new() -> Self {
        let queue = Queue {
            entries: VecDeque::new(),
            commands: VecDeque::new(),
            owners: HashMap::new(),
            barriers: HashMap::new(),
            deletions: HashMap::new(),
            swaps: HashMap::new(),
            next_barrier: 0,
            is_asleep: false,
            has_ended: false,
        };
        Self { shared: Arc::new((Mutex::new(queue), Condvar::new())), metrics: Arc::default() }
    }

    /// Queues an entry; entries take effect in this order. What it holds is bounded by the byte budget of the requests.
    pub fn submit(&self, entry: Entry) {
        let mut queue = self.lock();
        queue.entries.push_back(entry);
        self.wake(queue);
    }

    /// Opens or creates logs, all with one sync.
    pub async fn create(&self, specs: Vec<LogSpec>) -> Vec<Result<Arc<Log>, LogError>> {
        let (reply, created) = oneshot::channel();
        self.command(Command::Create { specs, reply });
        // A dropped reply means that the directory failed, which Broker hears of on its own.
        created.await.unwrap_or_default()
    }

    /// Renames the directories of logs that nobody has open aside; they are removed later. Once answered, the same logs can be
    /// made anew.
    pub async fn set_aside(&self, logs: Vec<LogId>) -> Vec<Result<(), LogError>> {
        let (reply, done) = oneshot::channel();
        self.command(Command::SetAside { logs, reply });
        done.await.unwrap_or_default()
    }

    /// From now on completions of `log` go to `owner`.
    pub fn set_owner(&self, log: &Arc<Log>, owner: Recipient<RoundCompletions>) {
        self.lock().owners.insert(address_of(log), owner);
    }

    /// Everything queued for `log` before this call is done when it answers with the log's end; None if the directory failed.
    pub async fn drain(&self, log: &Arc<Log>) -> Option<Offset> {
        let drained = {
            let mut queue = self.lock();
            let token = queue.next_barrier;
            queue.next_barrier += 1;
            let (reply, drained) = oneshot::channel();
            queue.barriers.insert(token, reply);
            queue.entries.push_back(Entry::Barrier { log: log.clone(), token });
            self.wake(queue);
            drained
        };
        drained.await.ok()
    }

    /// Deletes a log; answered when the deletion is durable.
    pub async fn delete(&self, log: &Arc<Log>) {
        let deleted = {
            let mut queue = self.lock();
            let (reply, deleted) = oneshot::channel();
            queue.deletions.insert(address_of(log), reply);
            queue.owners.remove(&address_of(log));
            queue.entries.push_back(Entry::Delete { log: log.clone() });
            self.wake(queue);
            deleted
        };
        // Only a failed directory leaves this unanswered, and Broker hears of that on its own.
        let _ = deleted.await;
    }

    /// A cleaned segment shall take its place; the answer says whether it did. A log is cleaned by one at a time.
    pub fn swap(&self, log: &Arc<Log>, cleaned: Arc<Cleaned>) -> oneshot::Receiver<bool> {
        let mut queue = self.lock();
        let (reply, swapped) = oneshot::channel();
        if !queue.has_ended {
            queue.swaps.insert(address_of(log), reply);
            queue.entries.push_back(Entry::Swap { log: log.clone(), cleaned });
            self.wake(queue);
        }
        swapped
    }

    /// Compaction of `log` has gone up to `end_offset`.
    pub fn cleaned_to(&self, log: &Arc<Log>, end_offset: Offset) {
        self.submit(Entry::CleanedTo { log: log.clone(), end_offset });
    }

    /// Recovery points soon: what needs them later need not wait.
    pub fn checkpoint_soon(&self) {
        self.command(Command::Checkpoint);
    }

    /// A clean stop: everything is synced and the mark is left.
    pub async fn close(&self) -> Result<(), String> {
        let (reply, closed) = oneshot::channel();
        self.command(Command::Close { reply });
        closed.await.unwrap_or_else(|_| Err("the journal has ended already".to_string()))
    }

    /// Entries that wait for their round.
    pub fn queued_count(&self) -> usize {
        self.lock().entries.len()
    }

    fn command(&self, command: Command) {
        let mut queue = self.lock();
        if queue.has_ended {
            return; // dropping the command drops its reply, and that tells the caller
        }
        queue.commands.push_back(command);
        self.wake(queue);
    }

    fn wake(&self, mut queue: MutexGuard<'_, Queue>) {
        // A thread that is at work looks at the queue before it sleeps; waking one that sleeps costs a system call.
        if std::mem::take(&mut queue.is_asleep) {
            drop(queue);
            self.shared.1.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn address_of(log: &Arc<Log>) -> usize {
    Arc::as_ptr(log) as usize
}

/// How long the thread sleeps before it looks after deleted files and spare journal files.
const BACKGROUND_INTERVAL: Duration = Duration::from_millis(200);

/// Starts the thread of a directory's journal.
pub fn start(engine: capek_log::Journal, failed: Recipient<JournalFailed>) -> (JournalHandle, JoinHandle<()>) {
    let handle = JournalHandle::new();
    let thread_handle = handle.clone();
    let thread = std::thread::Builder::new()
        .name("journal".to_string())
        .spawn(move || {
            let mut guard = EndGuard { handle: thread_handle.clone(), failed: Some(failed) };
            match (JournalThread { handle: thread_handle, done: Vec::new() }).run(engine) {
                Ok(()) => guard.failed = None,
                Err(reason) => guard.report(&reason),
            }
        })
        .expect("the system can start a thread");
    (handle, thread)
}

/// Tells Broker and everyone who waits, even when the thread panics.
struct EndGuard {
    handle: JournalHandle,
    failed: Option<Recipient<JournalFailed>>,
}

impl EndGuard {
    fn report(&mut self, reason: &str) {
        if let Some(failed) = self.failed.take() {
            failed.do_send(JournalFailed { reason: reason.to_string() });
        }
    }
}

impl Drop for EndGuard {
    fn drop(&mut self) {
        let mut queue = self.handle.lock();
        queue.has_ended = true;
        queue.entries.clear();
        queue.commands.clear();
        queue.barriers.clear();
        queue.deletions.clear();
        queue.swaps.clear();
        drop(queue);
        self.report("the journal thread panicked");
    }
}

struct JournalThread {
    handle: JournalHandle,
    done: Vec<Completion>,
}

impl JournalThread {
    fn run(mut self, mut engine: capek_log::Journal) -> Result<(), String> {
        let mut entries: VecDeque<Entry> = VecDeque::new();
        loop {
            let commands = self.take_work(&mut entries, engine.wants_round());
            for command in commands {
                match command {
                    Command::Create { specs, reply } => {
                        // The caller may have gone; the logs are there all the same.
                        let _ = reply.send(engine.create(specs));
                    }
                    Command::SetAside { logs, reply } => {
                        let results = logs.iter().map(|log| engine.set_aside(log)).collect();
                        // In a round of its own: replay must not take what is made next for what was there.
                        while engine.wants_round() && self.round(&mut engine, &mut VecDeque::new())? {}
                        let _ = reply.send(results);
                    }
                    Command::Checkpoint => engine.checkpoint_soon().map_err(|error| error.to_string())?,
                    Command::Close { reply } => {
                        // What is queued was accepted before: it is written before the mark.
                        while !entries.is_empty() || engine.wants_round() {
                            if !self.round(&mut engine, &mut entries)? {
                                break; // a full disk takes no more; what was confirmed is on it
                            }
                        }
                        let closed = engine.close().map_err(|error| error.to_string());
                        let _ = reply.send(closed);
                        return Ok(());
                    }
                }
            }
            if entries.is_empty() && !engine.wants_round() {
                engine.background(now_ms()).map_err(|error| error.to_string())?;
            } else if !self.round(&mut engine, &mut entries)? {
                // A full disk: what needs room waits until there is some, and reads go on.
                engine.background(now_ms()).map_err(|error| error.to_string())?;
                std::thread::sleep(BACKGROUND_INTERVAL);
            }
        }
    }

    /// Writes and syncs a round; `false` when nothing could be taken.
    fn round(&mut self, engine: &mut capek_log::Journal, entries: &mut VecDeque<Entry>) -> Result<bool, String> {
        let queued = entries.len();
        let needs_sync = engine.write(entries, now_ms(), &mut self.done).map_err(|error| error.to_string())?;
        self.deliver();
        let metrics = self.handle.metrics.clone();
        metrics.rounds.fetch_add(1, Ordering::Relaxed);
        metrics.queued.store(entries.len() as u64, Ordering::Relaxed);
        if needs_sync {
            let began = Instant::now();
            engine.sync(now_ms(), &mut self.done).map_err(|error| error.to_string())?;
            metrics.synced.record(began.elapsed());
            self.deliver();
        }
        Ok(needs_sync || entries.len() < queued)
    }

    /// Waits until there is something to do, or it is time to look after the files.
    fn take_work(&self, entries: &mut VecDeque<Entry>, has_work: bool) -> VecDeque<Command> {
        let (_, condvar) = &*self.handle.shared;
        // Those who were just answered are about to come back: let them join this round instead of waiting for the next.
        std::thread::yield_now();
        let mut queue = self.handle.lock();
        if queue.entries.is_empty() && queue.commands.is_empty() && entries.is_empty() && !has_work {
            queue.is_asleep = true;
            queue = condvar.wait_timeout(queue, BACKGROUND_INTERVAL).unwrap_or_else(PoisonError::into_inner).0;
            queue.is_asleep = false;
        }
        if entries.is_empty() {
            std::mem::swap(entries, &mut queue.entries);
        } else {
            entries.append(&mut queue.entries);
        }
        std::mem::take(&mut queue.commands)
    }

    /// One message for each arbiter that has a part in what is done.
    fn deliver(&mut self) {
        if self.done.is_empty() {
            return;
        }
        let mut by_owner: Vec<(Recipient<RoundCompletions>, Vec<Completion>)> = Vec::new();
        {
            let mut queue = self.handle.lock();
            for completion in self.done.drain(..) {
                match &completion.outcome {
                    Outcome::Drained { token, end_offset } => {
                        if let Some(reply) = queue.barriers.remove(token) {
                            let _ = reply.send(*end_offset);
                        }
                        continue;
                    }
                    Outcome::Deleted => {
                        if let Some(reply) = queue.deletions.remove(&address_of(&completion.log)) {
                            let _ = reply.send(());
                        }
                        continue;
                    }
                    outcome @ (Outcome::Swapped | Outcome::SwapRefused) => {
                        if let Some(reply) = queue.swaps.remove(&address_of(&completion.log)) {
                            let _ = reply.send(matches!(outcome, Outcome::Swapped));
                        }
                        continue;
                    }
                    _ => {}
                }
                let Some(owner) = queue.owners.get(&address_of(&completion.log)) else { continue };
                match by_owner.iter_mut().find(|(known, _)| known == owner) {
                    Some((_, completions)) => completions.push(completion),
                    None => by_owner.push((owner.clone(), vec![completion])),
                }
            }
        }
        for (owner, completions) in by_owner {
            owner.do_send(RoundCompletions(completions));
        }
    }
}

/// RoundDispatcher: one on each data arbiter; hands a round's completions to the replicas beside it.
#[derive(Default)]
pub struct RoundDispatcher {
    replicas: HashMap<usize, Recipient<RoundDone>>,
}

/// A new incarnation of a replica on this arbiter hears of its log from now on.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Attach {
    pub log: Arc<Log>,
    pub replica: Recipient<RoundDone>,
}

/// The log is gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Detach {
    pub log: Arc<Log>,
}

impl Actor for RoundDispatcher {
    type Context = Context<Self>;
}

impl Handler<Attach> for RoundDispatcher {
    type Result = ();

    fn handle(&mut self, attach: Attach, _: &mut Self::Context) {
        self.replicas.insert(address_of(&attach.log), attach.replica);
    }
}

impl Handler<Detach> for RoundDispatcher {
    type Result = ();

    fn handle(&mut self, detach: Detach, _: &mut Self::Context) {
        self.replicas.remove(&address_of(&detach.log));
    }
}

impl Handler<RoundCompletions> for RoundDispatcher {
    type Result = ();

    fn handle(&mut self, round: RoundCompletions, _: &mut Self::Context) {
        for completion in round.0 {
            if let Some(replica) = self.replicas.get(&address_of(&completion.log)) {
                replica.do_send(RoundDone { incarnation: completion.incarnation, outcome: completion.outcome });
            }
        }
    }
}
