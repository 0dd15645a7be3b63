//! Controller: decides what changes in the cluster, commits it to the metadata log, and answers once every manager of this
//! broker has acted on it. With one broker it is the quorum of one; `propose` is all that others know of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use capek_state::Refusal;
use capek_state::cluster::{Command, Decision, Image, Outcome, Record, decide};
use capek_wire::error_code::ErrorCode;
use log::{error, warn};

use crate::census::{ActorEntry, Chaos, bring_about};
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

pub struct Controller {
    log: MetaLog,
    image: Image,
    publisher: Addr<MetadataPublisher>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

impl Controller {
    /// `image` holds all that `log` has.
    pub fn new(
        log: MetaLog,
        image: Image,
        publisher: Addr<MetadataPublisher>,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<&'static str>,
    ) -> Self {
        Self { log, image, publisher, entry, _exit: exit }
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
        self.entry.begin(1, Some(context.address().recipient()));
    }
}

impl Handler<Propose> for Controller {
    type Result = ResponseFuture<Result<Outcome, Refusal>>;

    fn handle(&mut self, propose: Propose, _: &mut Self::Context) -> Self::Result {
        self.entry.mailbox.fetch_sub(1, Ordering::Relaxed);
        let committed = self.commit(&propose.0);
        let publisher = self.publisher.clone();
        // Queued at once, so that the publisher sees records in the order of their commits.
        let published = committed.as_ref().ok().map(|(records, _)| publisher.send(Committed(records.clone())));
        Box::pin(async move {
            let (_, outcome) = committed?;
            if let Some(published) = published
                && published.await.is_err()
            {
                // The change is durable; the broker is going down and will act on it at its next start.
                return Err(Refusal::bare(ErrorCode::RequestTimedOut));
            }
            Ok(outcome)
        })
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
