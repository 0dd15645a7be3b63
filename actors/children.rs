//! The children that a supervisor starts again, one for one: each with a way to start it, its incarnation and its budget.
//!
//! A child that others talk to is reached through a [`Slot`]: the address changes with every life, the slot stays.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Handler, MailboxError, Message, Recipient};
use arc_swap::ArcSwapOption;

use crate::census::ActorEntry;
use crate::supervision::{ChildExited, ExitSignal, Incarnation, RestartBudget, Verdict};

/// Starts the next incarnation; an error says why it cannot be.
pub type StartChild<Id> = Box<dyn FnMut(ExitSignal<Id>) -> Result<(), String> + Send>;

struct Child<Id: Clone + Send + Unpin + 'static> {
    start: StartChild<Id>,
    incarnation: Incarnation,
    budget: RestartBudget,
    entry: Arc<ActorEntry>,
}

/// See the head of this file.
pub struct Children<Id: Clone + Send + Unpin + 'static> {
    restarts_max: usize,
    period: Duration,
    by_id: BTreeMap<Id, Child<Id>>,
}

impl<Id: Clone + Ord + Send + Unpin + 'static> Children<Id> {
    pub fn new(restarts_max: usize, period: Duration) -> Self {
        Self { restarts_max, period, by_id: BTreeMap::new() }
    }

    /// A new child, which is started.
    pub fn adopt(
        &mut self,
        id: Id,
        entry: Arc<ActorEntry>,
        start: StartChild<Id>,
        parent: Recipient<ChildExited<Id>>,
    ) -> Result<(), String> {
        let budget = RestartBudget::new(self.restarts_max, self.period);
        self.by_id.insert(id.clone(), Child { start, incarnation: 0, budget, entry });
        self.start(&id, parent)
    }

    /// What its budget allows a child that has ended; None: it is no news of its present life.
    pub fn exited(&mut self, exited: &ChildExited<Id>, now: Instant) -> Option<Verdict> {
        let child = self.by_id.get_mut(&exited.child)?;
        (child.incarnation == exited.incarnation).then(|| child.budget.spend(now))
    }

    pub fn restart(&mut self, id: &Id, parent: Recipient<ChildExited<Id>>) -> Result<(), String> {
        self.start(id, parent)?;
        // Counted once it can be reached: whoever waits for the count may use it.
        if let Some(child) = self.by_id.get(id) {
            child.entry.restarts.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    fn start(&mut self, id: &Id, parent: Recipient<ChildExited<Id>>) -> Result<(), String> {
        let Some(child) = self.by_id.get_mut(id) else { return Ok(()) };
        child.incarnation += 1;
        (child.start)(ExitSignal::new(parent, id.clone(), child.incarnation))
    }
}

/// Where the present incarnation of an actor is reached.
pub struct Slot<A: Actor>(ArcSwapOption<Addr<A>>);

impl<A: Actor> Default for Slot<A> {
    fn default() -> Self {
        Self(ArcSwapOption::empty())
    }
}

impl<A: Actor> Slot<A> {
    pub fn set(&self, addr: Addr<A>) {
        self.0.store(Some(Arc::new(addr)));
    }

    pub fn get(&self) -> Option<Addr<A>> {
        self.0.load().as_deref().cloned()
    }

    /// Queued before this returns. Between two lives the answer is that the mailbox is closed.
    pub fn send<M>(&self, message: M) -> impl Future<Output = Result<M::Result, MailboxError>> + use<A, M>
    where
        M: Message + Send + 'static,
        M::Result: Send,
        A: Handler<M>,
        A::Context: actix::dev::ToEnvelope<A, M>,
    {
        let sent = self.get().map(|addr| addr.send(message));
        async move {
            match sent {
                Some(sent) => sent.await,
                None => Err(MailboxError::Closed),
            }
        }
    }
}
