//! Heartbeat: tells the controller that this broker lives, and takes it out before it stops.
//!
//! Its connection to the controller is a sign of life of its own: when the process dies it breaks, and the controller looks.
//! It keeps nothing: when it ends, the next one goes on within the session. Only where another process has taken this broker's
//! place does its end mean the end of the broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use log::{info, warn};
use tokio::sync::watch;

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::raft::heartbeats::Heartbeats;
use crate::raft::messages::{self, ControlRequest, ControlResponse, HeartbeatReply};
use crate::raft::quorum::Quorum;
use crate::supervision::ExitSignal;

/// How often it is sent while this broker is fenced: nothing is served meanwhile.
const FENCED_INTERVAL: Duration = Duration::from_millis(100);
/// Before a heartbeat is sent again that reached no controller.
const RETRY: Duration = Duration::from_millis(50);
const ANSWER_DEADLINE: Duration = Duration::from_secs(1);

/// This broker stops: its leaderships shall go elsewhere. Answered when it leads nothing that another could lead, or after
/// `patience`; true: in time.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Leave {
    pub patience: Duration,
}

/// What a heartbeat says and to whom.
#[derive(Clone)]
pub struct HeartbeatStart {
    pub quorum: Arc<Quorum>,
    /// Where it goes when this node is the controller.
    pub here: Arc<Heartbeats>,
    pub broker: i32,
    pub epoch: i64,
    /// `broker.heartbeat.interval.ms`.
    pub interval: Duration,
    pub standing: watch::Sender<Standing>,
}

/// What the controller last said of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Fenced,
    /// It counts on this broker.
    Active,
    /// Another process has this broker's id.
    Replaced,
}

pub struct Heartbeat {
    start: HeartbeatStart,
    is_leaving: watch::Sender<bool>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

impl Heartbeat {
    pub fn new(start: HeartbeatStart, entry: Arc<ActorEntry>, exit: ExitSignal<ChildId>) -> Self {
        Self { start, is_leaving: watch::Sender::new(false), entry, exit }
    }
}

impl Actor for Heartbeat {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
        let beating = beat(self.start.clone(), self.is_leaving.subscribe());
        context.spawn(beating.into_actor(self).map(|ended, actor, context| {
            if ended == Ended::Replaced {
                // Two processes of one id: the younger one is right.
                actor.start.standing.send_replace(Standing::Replaced);
                actor.exit.give_up();
                context.stop();
            }
        }));
    }
}

impl Handler<Leave> for Heartbeat {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, leave: Leave, _: &mut Self::Context) -> Self::Result {
        self.is_leaving.send_replace(true);
        let start = self.start.clone();
        Box::pin(async move { tokio::time::timeout(leave.patience, start.leave()).await.is_ok() })
    }
}

impl Handler<Chaos> for Heartbeat {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Leaving,
    Replaced,
}

async fn beat(start: HeartbeatStart, mut is_leaving: watch::Receiver<bool>) -> Ended {
    let mut silent_since = None;
    loop {
        let controller = start.quorum.controller();
        let reply = tokio::select! {
            reply = start.send(false) => reply,
            _ = is_leaving.wait_for(|is_leaving| *is_leaving) => return Ended::Leaving,
        };
        let is_answered = !matches!(reply, None | Some(HeartbeatReply::NotController { .. }));
        start.quorum.note_heartbeat(is_answered);
        let pause = match reply {
            Some(HeartbeatReply::Known { is_fenced, .. }) => {
                silent_since = None;
                start.note(is_fenced);
                if is_fenced { FENCED_INTERVAL } else { start.interval }
            }
            Some(HeartbeatReply::StaleEpoch) => {
                warn!("another process has registered as broker {}, or it was unregistered", start.broker);
                return Ended::Replaced;
            }
            Some(HeartbeatReply::NotController { .. }) | None => {
                let since = silent_since.get_or_insert_with(|| (Instant::now(), false));
                if !since.1 && since.0.elapsed() > ANSWER_DEADLINE {
                    since.1 = true;
                    warn!("no controller has answered a heartbeat for {ANSWER_DEADLINE:?}; trying on");
                }
                RETRY
            }
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = start.quorum.controller_is_not(controller) => {}
            _ = is_leaving.wait_for(|is_leaving| *is_leaving) => return Ended::Leaving,
        }
    }
}

impl HeartbeatStart {
    fn note(&self, is_fenced: bool) {
        let now = if is_fenced { Standing::Fenced } else { Standing::Active };
        let changed = self.standing.send_if_modified(|standing| std::mem::replace(standing, now) != now);
        if changed && is_fenced {
            info!("broker {} is fenced: it leads nothing until it has caught up", self.broker);
        }
    }

    async fn leave(&self) {
        loop {
            match self.send(true).await {
                Some(HeartbeatReply::Known { may_shut_down: true, .. } | HeartbeatReply::StaleEpoch) => return,
                _ => tokio::time::sleep(RETRY).await,
            }
        }
    }

    async fn send(&self, wants_shutdown: bool) -> Option<HeartbeatReply> {
        let place = self.quorum.published();
        let heartbeat = messages::Heartbeat { broker: self.broker, epoch: self.epoch, place, wants_shutdown };
        let controller = self.quorum.controller()?;
        if controller == self.broker {
            return Some(self.here.received(heartbeat).await);
        }
        let lane = self.quorum.lane(controller)?;
        match lane.request(&ControlRequest::Heartbeat(heartbeat), ANSWER_DEADLINE).await {
            Ok(ControlResponse::Heartbeat(reply)) => Some(reply),
            Ok(_) | Err(_) => None,
        }
    }
}
