//! LogCleaner: supervises the CleanerThreads that compact this broker's logs, `log.cleaner.threads` of them.
//!
//! A thread that panics is started again within its budget; one whose budget is spent comes back when the budget's period is
//! over: a broker that does not compact for a while is no reason to stop it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use log::error;

use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::cleaner_thread::{CleanerThread, StopCleanerThread};
use crate::cleaning::Cleaning;
use crate::supervision::{ChildExited, ExitSignal, Incarnation, Restart, RestartBudget, Verdict};

/// End what is being cleaned. Answered when nothing is written any more.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopCleaning;

/// As many threads as are configured now.
#[derive(Message)]
#[rtype(result = "()")]
struct CountThreads;

/// Start a thread, after the back-off of its last end.
#[derive(Message)]
#[rtype(result = "()")]
struct StartThread(usize);

/// `log.cleaner.threads` may change while the broker runs.
const COUNT_INTERVAL: Duration = Duration::from_secs(5);
const THREADS_MAX: usize = 64;

struct Child {
    incarnation: Incarnation,
    budget: RestartBudget,
    entry: Arc<ActorEntry>,
    addr: Option<Addr<CleanerThread>>,
}

/// See the head of this file.
pub struct LogCleaner {
    cleaning: Arc<Cleaning>,
    census: Census,
    restart: RestartBudget,
    restart_period: Duration,
    children: BTreeMap<usize, Child>,
    is_stopping: bool,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

impl LogCleaner {
    pub fn new(
        cleaning: Arc<Cleaning>,
        census: Census,
        restarts_max: usize,
        restart_period: Duration,
        exit: ExitSignal<&'static str>,
    ) -> Self {
        Self {
            cleaning,
            entry: census.enter("broker/log-cleaner".to_string(), "log-cleaner"),
            census,
            restart: RestartBudget::new(restarts_max, restart_period),
            restart_period,
            children: BTreeMap::new(),
            is_stopping: false,
            _exit: exit,
        }
    }

    fn path(&self, index: usize) -> String {
        format!("{}/thread:{index}", self.entry.path)
    }

    fn start_thread(&mut self, index: usize, context: &mut Context<Self>) {
        if self.is_stopping {
            return;
        }
        let path = self.path(index);
        let child = self.children.entry(index).or_insert_with(|| Child {
            incarnation: 0,
            budget: self.restart.clone(),
            entry: self.census.enter(path, "cleaner-thread"),
            addr: None,
        });
        if child.addr.is_some() {
            return;
        }
        child.incarnation += 1;
        let exit = ExitSignal::new(context.address().recipient(), index, child.incarnation);
        let thread =
            CleanerThread::new(self.cleaning.clone(), index, child.incarnation, child.entry.clone(), exit).start();
        child.addr = Some(thread);
    }
}

impl Actor for LogCleaner {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
        context.notify(CountThreads);
        context.run_interval(COUNT_INTERVAL, |_, context| context.notify(CountThreads));
    }
}

impl Handler<CountThreads> for LogCleaner {
    type Result = ();

    fn handle(&mut self, _: CountThreads, context: &mut Self::Context) {
        let wanted = self.cleaning.settings().threads.min(THREADS_MAX);
        for index in (0..wanted).filter(|index| !self.children.contains_key(index)).collect::<Vec<_>>() {
            self.start_thread(index, context);
        }
        // Those that are too many end of their own accord: they ask the same settings.
    }
}

impl Handler<StartThread> for LogCleaner {
    type Result = ();

    fn handle(&mut self, StartThread(index): StartThread, context: &mut Self::Context) {
        self.start_thread(index, context);
    }
}

impl Handler<ChildExited<usize>> for LogCleaner {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<usize>, context: &mut Self::Context) {
        let index = exited.child;
        let Some(child) = self.children.get_mut(&index) else { return };
        if child.incarnation != exited.incarnation {
            return;
        }
        child.addr = None;
        if self.is_stopping || !Restart::Transient.wants(exited.cause) {
            self.children.remove(&index);
            self.census.leave(&self.path(index));
            return;
        }
        child.entry.restarts.fetch_add(1, Ordering::Relaxed);
        let backoff = match child.budget.spend(Instant::now()) {
            Verdict::RestartAfter(backoff) => backoff,
            Verdict::Escalate => {
                let period = self.restart_period;
                error!("log cleaner thread {index} fails again and again: nothing is compacted by it for {period:?}");
                period
            }
        };
        context.notify_later(StartThread(index), backoff);
    }
}

impl Handler<StopCleaning> for LogCleaner {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: StopCleaning, _: &mut Self::Context) -> Self::Result {
        self.is_stopping = true;
        for thread in self.children.values().filter_map(|child| child.addr.as_ref()) {
            thread.do_send(StopCleanerThread);
        }
        let cleaning = self.cleaning.clone();
        Box::pin(async move { cleaning.end().await })
    }
}

impl Handler<Chaos> for LogCleaner {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
