//! Controller: decides what changes in the cluster, commits it to the metadata log, and answers once every manager of this
//! broker has acted on it. With one broker it is the quorum of one; `propose` is all that others know of it.
//!
//! All it knows is in the metadata log: a new incarnation reads it, and tells the publisher what that has missed.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, ActorContext, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use arc_swap::ArcSwap;
use capek_state::Refusal;
use capek_state::cluster::{Command, Decision, Image, Outcome, Record, decide};
use capek_wire::error_code::ErrorCode;
use log::{error, warn};

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::children::Slot;
use crate::meta_log::MetaLog;
use crate::metadata_publisher::{Committed, MetadataPublisher};
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
    log: MetaLog,
    image: Image,
    publisher: Arc<Slot<MetadataPublisher>>,
    published: Arc<ArcSwap<Image>>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

/// What a new incarnation begins with.
pub struct ControllerStart {
    pub log: MetaLog,
    /// All that `log` has.
    pub image: Image,
    pub publisher: Arc<Slot<MetadataPublisher>>,
    /// What the publisher has made known.
    pub published: Arc<ArcSwap<Image>>,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<ChildId>,
}

impl Controller {
    pub fn new(start: ControllerStart) -> Self {
        let ControllerStart { log, image, publisher, published, entry, exit } = start;
        Self { log, image, publisher, published, entry, exit }
    }

    /// Tells the publisher what is committed and not published.
    fn catch_up(&mut self, context: &mut Context<Self>) {
        let first = self.published.load().records_applied();
        if first >= self.image.records_applied() {
            return;
        }
        match self.log.read_from(first) {
            Ok(records) => {
                let published = self.publisher.send(Committed { first, records });
                // An error says that it has ended again: its next incarnation asks again.
                let published = async move {
                    let _ = published.await;
                };
                context.spawn(published.into_actor(self));
            }
            Err(error) => {
                error!("the metadata log cannot be read: {error}");
                self.exit.give_up();
                context.stop();
            }
        }
    }

    fn commit(&mut self, command: &Command) -> Result<(Vec<Record>, Outcome), Refusal> {
        let decision = decide(&self.image, command)?;
        for warning in &decision.warnings {
            warn!("{warning}");
        }
        if !decision.records.is_empty() {
            // The log is as it was before a failed commit (redb rolls back), so the next command may be tried.
            self.log.append(&decision.records).map_err(|error| {
                error!("a metadata change was not committed: {error}");
                Refusal::new(ErrorCode::KafkaStorageError, "the metadata log cannot be written")
            })?;
            for record in &decision.records {
                self.image.apply(record);
            }
        }
        Ok((decision.records, decision.outcome))
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
        let first = self.image.records_applied();
        let committed = self.commit(&propose.0);
        // Queued at once, so that the publisher sees records in the order of their commits.
        let tell = |records: &Vec<Record>| self.publisher.send(Committed { first, records: records.clone() });
        let published = committed.as_ref().ok().map(|(records, _)| tell(records));
        Box::pin(async move {
            let (_, outcome) = committed?;
            if let Some(published) = published
                && !matches!(published.await, Ok(true))
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
        decide(&self.image, &validate.0)
    }
}

impl Handler<Chaos> for Controller {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
