//! CleanerThread: cleans one log after the other, the dirtiest first; the work itself is done on the blocking pool.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, WrapFuture};

use crate::census::{ActorEntry, Chaos, bring_about};
use crate::cleaning::{Cleaning, Work};
use crate::supervision::{ExitSignal, Incarnation};

/// Clean the dirtiest log, if one is dirty enough.
#[derive(Message)]
#[rtype(result = "()")]
struct CleanDue;

/// Stop: what is being cleaned is given up.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopCleanerThread;

/// See the head of this file.
pub struct CleanerThread {
    cleaning: Arc<Cleaning>,
    index: usize,
    incarnation: Incarnation,
    /// Tells the work on the pool that nobody wants it any more.
    has_ended: Arc<AtomicBool>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<usize>,
}

impl CleanerThread {
    pub fn new(
        cleaning: Arc<Cleaning>,
        index: usize,
        incarnation: Incarnation,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<usize>,
    ) -> Self {
        Self { cleaning, index, incarnation, has_ended: Arc::default(), entry, _exit: exit }
    }
}

impl Drop for CleanerThread {
    fn drop(&mut self) {
        self.has_ended.store(true, Ordering::Release);
    }
}

impl Actor for CleanerThread {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.incarnation, Some(context.address().recipient()));
        context.notify(CleanDue);
    }
}

impl Handler<CleanDue> for CleanerThread {
    type Result = ();

    fn handle(&mut self, _: CleanDue, context: &mut Self::Context) {
        let settings = self.cleaning.settings();
        if self.index >= settings.threads {
            return context.stop();
        }
        let Some(permit) = self.cleaning.permit() else { return context.stop() };
        let (cleaning, has_ended, entry) = (self.cleaning.clone(), self.has_ended.clone(), self.entry.clone());
        let worked = async move {
            let work = move || {
                let work = cleaning.clean_dirtiest(&settings, has_ended, &entry);
                drop(permit);
                work
            };
            tokio::task::spawn_blocking(work).await
        };
        context.spawn(worked.into_actor(self).map(move |worked, _, context| match worked {
            Ok(Work::Done) => context.notify(CleanDue),
            Ok(Work::Nothing) => drop(context.notify_later(CleanDue, settings.backoff)),
            // The log that it happened to is not tried again.
            Err(error) => panic!("cleaning a log panicked: {error}"),
        }));
    }
}

impl Handler<StopCleanerThread> for CleanerThread {
    type Result = ();

    fn handle(&mut self, _: StopCleanerThread, context: &mut Self::Context) {
        context.stop();
    }
}

impl Handler<Chaos> for CleanerThread {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
