//! Retention: looks at every partition now and then, and moves the log start of those that have grown too old or too large.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler, Message};
use log::{info, warn};
use tokio::sync::oneshot;

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::clock::now_ms;
use crate::partition::AdvanceLogStart;
use crate::routes::{PartitionRoute, Routes};
use crate::supervision::ExitSignal;

/// Look at all partitions now.
#[derive(Message)]
#[rtype(result = "()")]
struct CheckDue;

pub struct Retention {
    routes: Arc<Routes>,
    check_interval: Duration,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

impl Retention {
    pub fn new(
        routes: Arc<Routes>,
        check_interval: Duration,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<ChildId>,
    ) -> Self {
        Self { routes, check_interval, entry, exit }
    }
}

/// Only `cleanup.policy=delete` loses old records.
fn check(route: &PartitionRoute, now_ms: i64) {
    let config = route.shared.config();
    let (true, Some(leader)) = (config.cleanup_policy.delete, &route.leader) else { return };
    let log = &route.shared.log;
    let high_watermark = route.shared.high_watermark();
    let candidate = log.retention_candidates(now_ms, config.retention_ms, config.retention_bytes, high_watermark);
    let offset = match candidate {
        Ok(Some(offset)) => offset,
        Ok(None) => return,
        Err(error) => return warn!("{}: retention cannot look at the log: {error}", route.shared.key),
    };
    info!("{}: retention moves the log start to {offset}", route.shared.key);
    let (reply, _nobody_waits) = oneshot::channel();
    leader.do_send(AdvanceLogStart { offset, reply });
}

impl Actor for Retention {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        context.run_interval(self.check_interval, |_, context| context.notify(CheckDue));
    }
}

impl Handler<CheckDue> for Retention {
    type Result = ();

    fn handle(&mut self, _: CheckDue, _: &mut Self::Context) {
        let routes = self.routes.clone();
        // A look at a log that nobody has used yet opens it, and that is work for the pool.
        tokio::task::spawn_blocking(move || {
            let now_ms = now_ms();
            for topic in routes.topics() {
                for route in topic.partitions() {
                    check(&route, now_ms);
                }
            }
        });
    }
}

impl Handler<Chaos> for Retention {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
