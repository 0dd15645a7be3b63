//! Supervision: how a parent learns that a child ended, and what it may do about it.
//!
//! `actix::Supervisor` does not survive a panic and re-runs the same value after a stop. Here a child's **last field** is an
//! [`ExitSignal`]; whatever ends the child (a stop, a panic, its arbiter going away) drops the signal, and the drop tells the
//! parent with [`ChildExited`]. The parent keeps a [`RestartBudget`] for each child and starts a fresh value from disk.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use actix::{Message, Recipient};

/// One life of an actor; the next life has the next number.
pub type Incarnation = u32;

/// A child has ended. Sent by the drop of its [`ExitSignal`]; never refused.
#[derive(Message, Debug, Clone, PartialEq, Eq)]
#[rtype(result = "()")]
pub struct ChildExited<Id: Send + 'static> {
    pub child: Id,
    pub incarnation: Incarnation,
    pub cause: ExitCause,
}

/// Why a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitCause {
    /// It stopped: by request, or because its work was done.
    Stopped,
    /// It asked for a new incarnation from disk; this costs nothing of its budget (a full disk is not a bug).
    Refresh,
    /// It gave up: what it needs from the disk could not be read.
    Failed,
    /// A handler panicked.
    Panicked,
}

/// Tells the parent when it is dropped. Keep it as the last field of the actor, so that everything else is gone by then.
pub struct ExitSignal<Id: Clone + Send + Unpin + 'static> {
    parent: Recipient<ChildExited<Id>>,
    child: Id,
    incarnation: Incarnation,
    /// What an end without a panic means.
    quiet_cause: ExitCause,
}

impl<Id: Clone + Send + Unpin + 'static> ExitSignal<Id> {
    pub fn new(parent: Recipient<ChildExited<Id>>, child: Id, incarnation: Incarnation) -> Self {
        Self { parent, child, incarnation, quiet_cause: ExitCause::Stopped }
    }

    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The coming exit is a wish for a fresh incarnation.
    pub fn ask_for_refresh(&mut self) {
        self.quiet_cause = ExitCause::Refresh;
    }

    /// The coming exit is a failure: it spends the budget as a panic does.
    pub fn give_up(&mut self) {
        self.quiet_cause = ExitCause::Failed;
    }
}

impl<Id: Clone + Send + Unpin + 'static> Drop for ExitSignal<Id> {
    fn drop(&mut self) {
        // Tokio drops a panicked task's future while it unwinds, so this tells a panic from a stop.
        let cause = if std::thread::panicking() { ExitCause::Panicked } else { self.quiet_cause };
        let exited = ChildExited { child: self.child.clone(), incarnation: self.incarnation, cause };
        self.parent.do_send(exited);
    }
}

/// When a child is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Whenever it ended.
    Permanent,
    /// Only when it did not end of its own accord.
    Transient,
    /// Never: whoever needs it makes a new one.
    Temporary,
}

impl Restart {
    pub fn wants(self, cause: ExitCause) -> bool {
        match self {
            Restart::Permanent => true,
            Restart::Transient => cause != ExitCause::Stopped,
            Restart::Temporary => false,
        }
    }
}

/// How often a child may be restarted: `restarts_max` in `period`. Back-off 10, 20, 40 ms and so on, at most a second.
#[derive(Debug, Clone)]
pub struct RestartBudget {
    restarts_max: usize,
    period: Duration,
    restarts: VecDeque<Instant>,
}

/// What the budget allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    RestartAfter(Duration),
    /// The budget is spent: escalate.
    Escalate,
}

const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

impl RestartBudget {
    pub fn new(restarts_max: usize, period: Duration) -> Self {
        Self { restarts_max, period, restarts: VecDeque::new() }
    }

    /// A child failed at `now`: restart it, and after how long?
    pub fn spend(&mut self, now: Instant) -> Verdict {
        while self.restarts.front().is_some_and(|&restart| now.duration_since(restart) >= self.period) {
            self.restarts.pop_front();
        }
        if self.restarts.len() >= self.restarts_max {
            return Verdict::Escalate;
        }
        let doublings = self.restarts.len().min(16) as u32;
        self.restarts.push_back(now);
        Verdict::RestartAfter((BACKOFF_FIRST * 2u32.pow(doublings)).min(BACKOFF_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_backs_off_and_then_escalates() {
        let mut budget = RestartBudget::new(3, Duration::from_secs(30));
        let start = Instant::now();
        for expected_ms in [10, 20, 40] {
            assert_eq!(budget.spend(start), Verdict::RestartAfter(Duration::from_millis(expected_ms)));
        }
        assert_eq!(budget.spend(start), Verdict::Escalate);
    }

    #[test]
    fn restarts_older_than_the_period_are_forgiven() {
        let mut budget = RestartBudget::new(1, Duration::from_secs(30));
        let start = Instant::now();
        assert_eq!(budget.spend(start), Verdict::RestartAfter(BACKOFF_FIRST));
        assert_eq!(budget.spend(start + Duration::from_secs(29)), Verdict::Escalate);
        assert_eq!(budget.spend(start + Duration::from_secs(30)), Verdict::RestartAfter(BACKOFF_FIRST));
    }

    #[test]
    fn a_budget_of_a_thousand_never_waits_more_than_a_second() {
        let mut budget = RestartBudget::new(1000, Duration::from_secs(30));
        let start = Instant::now();
        for _ in 0..1000 {
            assert!(matches!(budget.spend(start), Verdict::RestartAfter(wait) if wait <= BACKOFF_MAX));
        }
        assert_eq!(budget.spend(start), Verdict::Escalate);
    }

    #[test]
    fn each_kind_of_child_restarts_as_its_name_says() {
        let wants = |restart: Restart| {
            [ExitCause::Stopped, ExitCause::Refresh, ExitCause::Failed, ExitCause::Panicked]
                .map(|cause| restart.wants(cause))
        };
        assert_eq!(wants(Restart::Permanent), [true, true, true, true]);
        assert_eq!(wants(Restart::Transient), [false, true, true, true]);
        assert_eq!(wants(Restart::Temporary), [false, false, false, false]);
    }
}
