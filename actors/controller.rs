//! Controller: has changes of the cluster decided and committed to the metadata log, and answers once every manager of this
//! broker has acted on them; `propose` is all that others know of it. A broker alone decides here; in a cluster the quorum's
//! leader does, wherever it is.
//!
//! All it knows is in the metadata log: a new incarnation reads it, and tells the publisher what that has missed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use capek_state::Refusal;
use capek_state::cluster::{Command, Decision, Delta, Image, Outcome, decide};
use capek_wire::error_code::ErrorCode;
use log::{error, warn};

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::children::Slot;
use crate::meta_log::MetaLog;
use crate::metadata_publisher::{Committed, MetadataPublisher, Step};
use crate::raft::quorum::Quorum;
use crate::request_metrics::ErrorCounts;
use crate::supervision::ExitSignal;

/// Decide this command, and make it so. Answered when it is committed and this broker acts accordingly.
#[derive(Message)]
#[rtype(result = "Result<Outcome, Refusal>")]
pub struct Propose(pub Command);

/// What would [`Propose`] answer? Nothing changes (`validate_only`).
#[derive(Message)]
#[rtype(result = "Result<Decision, Refusal>")]
pub struct Validate(pub Command);

/// A publisher has started: it may have missed something.
#[derive(Message)]
#[rtype(result = "()")]
pub struct CatchUp;

pub struct Controller {
    ledger: Ledger,
    publisher: Arc<Slot<MetadataPublisher>>,
    refusals: Arc<ErrorCounts>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

/// Where the metadata is recorded.
pub enum Ledger {
    /// By this broker alone: what its file has is committed.
    Alone(Alone),
    /// By a majority of the voters.
    Quorum(Arc<Quorum>),
}

/// The metadata of a broker by itself.
pub struct Alone {
    pub log: MetaLog,
    /// All that `log` has.
    pub image: Arc<Image>,
}

/// What a new incarnation begins with.
pub struct ControllerStart {
    pub ledger: Ledger,
    pub publisher: Arc<Slot<MetadataPublisher>>,
    /// Of a broker alone; those of a quorum are counted where it decides.
    pub refusals: Arc<ErrorCounts>,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<ChildId>,
}

impl Controller {
    pub fn new(start: ControllerStart) -> Self {
        let ControllerStart { ledger, publisher, refusals, entry, exit } = start;
        Self { ledger, publisher, refusals, entry, exit }
    }

    /// Tells the publisher the newest image. In a quorum the publication does.
    fn catch_up(&mut self, context: &mut Context<Self>) {
        let Ledger::Alone(alone) = &self.ledger else { return };
        let published = self.publisher.send(Committed { image: alone.image.clone(), step: None });
        // An error says that it has ended again: its next incarnation asks again.
        let published = async move {
            let _ = published.await;
        };
        context.spawn(published.into_actor(self));
    }
}

impl Alone {
    /// What there is to publish, and the outcome. None: nothing has changed.
    fn commit(&mut self, command: &Command) -> Result<(Option<Committed>, Outcome), Refusal> {
        let decision = decide(&self.image, command)?;
        for warning in &decision.warnings {
            warn!("{warning}");
        }
        if decision.records.is_empty() {
            return Ok((None, decision.outcome));
        }
        // The log is as it was before a failed commit (redb rolls back), so the next command may be tried.
        self.log.append(&decision.records).map_err(|error| {
            error!("a metadata change was not committed: {error}");
            Refusal::new(ErrorCode::KafkaStorageError, "the metadata log cannot be written")
        })?;
        let from = self.image.records_applied();
        let mut image = Image::clone(&self.image);
        let mut delta = Delta::default();
        decision.records.iter().for_each(|record| image.apply_into(record, &mut delta));
        self.image = Arc::new(image);
        let step = Some(Step { from, delta: Arc::new(delta) });
        Ok((Some(Committed { image: self.image.clone(), step }), decision.outcome))
    }
}

impl Actor for Controller {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        self.catch_up(context);
    }
}

impl Handler<Propose> for Controller {
    type Result = ResponseFuture<Result<Outcome, Refusal>>;

    fn handle(&mut self, propose: Propose, _: &mut Self::Context) -> Self::Result {
        self.entry.mailbox.fetch_sub(1, Ordering::Relaxed);
        let alone = match &mut self.ledger {
            Ledger::Quorum(quorum) => {
                let quorum = quorum.clone();
                return Box::pin(async move { quorum.propose(propose.0).await });
            }
            Ledger::Alone(alone) => alone,
        };
        let (committed, outcome) = match alone.commit(&propose.0) {
            Ok(committed) => committed,
            Err(refusal) => {
                self.refusals.add(refusal.code);
                return Box::pin(async { Err(refusal) });
            }
        };
        // Queued at once, so that the publisher sees images in the order of their commits.
        let published = committed.map(|committed| self.publisher.send(committed));
        Box::pin(async move {
            if let Some(published) = published
                && published.await.is_err()
            {
                // The change is durable; the next publisher will be told of it, or the next start of the broker acts on it.
                return Err(Refusal::bare(ErrorCode::RequestTimedOut));
            }
            Ok(outcome)
        })
    }
}

impl Handler<CatchUp> for Controller {
    type Result = ();

    fn handle(&mut self, _: CatchUp, context: &mut Self::Context) {
        self.catch_up(context);
    }
}

impl Handler<Validate> for Controller {
    type Result = Result<Decision, Refusal>;

    fn handle(&mut self, validate: Validate, _: &mut Self::Context) -> Self::Result {
        match &self.ledger {
            Ledger::Alone(alone) => decide(&alone.image, &validate.0),
            Ledger::Quorum(quorum) => quorum.validate(&validate.0),
        }
    }
}

impl Handler<Chaos> for Controller {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
