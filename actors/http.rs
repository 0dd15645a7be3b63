//! Http: supervises the sessions of all streams that HTTP serves. The server that accepts and parses is actix-web's; what
//! lives longer than a request is an actor here.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, MessageResult, ResponseFuture};
use actix_rt::ArbiterHandle;
use tokio::sync::oneshot;

use crate::broker::BrokerShared;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::stream_events::Goodbye;
use crate::stream_session::{EndStream, StreamSession, StreamStart};
use crate::supervision::{ChildExited, ExitSignal};

/// How many streams there may be.
const SESSIONS_MAX: usize = 10_000;

/// Starts a session on the arbiter of the worker that serves its socket.
#[derive(Message)]
#[rtype(result = "Result<Addr<StreamSession>, StreamRefusal>")]
pub struct StartStream {
    pub arbiter: ArbiterHandle,
    /// Whoever acknowledges for this group from elsewhere finds the session.
    pub group: Option<String>,
    pub start: Box<StreamStart>,
}

/// The sessions that were started for a group.
#[derive(Message)]
#[rtype(result = "Vec<Addr<StreamSession>>")]
pub struct StreamsOfGroup(pub String);

/// Why there is no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamRefusal {
    TooMany,
    Stopping,
}

/// Every session says goodbye and ends. Answered when all have, or after `grace`.
#[derive(Message)]
#[rtype(result = "()")]
pub struct EndAllStreams {
    pub goodbye: Goodbye,
    pub grace: Duration,
}

struct Session {
    address: Addr<StreamSession>,
    group: Option<String>,
}

/// See the head of this file.
pub struct Http {
    broker: Arc<BrokerShared>,
    sessions: HashMap<u64, Session>,
    next_id: u64,
    is_stopping: bool,
    ended: Vec<oneshot::Sender<()>>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

impl Http {
    pub fn new(broker: Arc<BrokerShared>, exit: ExitSignal<&'static str>) -> Self {
        let entry = broker.census.enter("broker/http".to_string(), "http");
        Self { broker, sessions: HashMap::new(), next_id: 1, is_stopping: false, ended: Vec::new(), entry, _exit: exit }
    }

    fn path(&self, id: u64) -> String {
        format!("{}/stream-session:{id}", self.entry.path)
    }
}

impl Actor for Http {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
    }
}

impl Handler<StartStream> for Http {
    type Result = Result<Addr<StreamSession>, StreamRefusal>;

    fn handle(&mut self, message: StartStream, context: &mut Self::Context) -> Self::Result {
        if self.is_stopping {
            return Err(StreamRefusal::Stopping);
        }
        if self.sessions.len() >= SESSIONS_MAX {
            return Err(StreamRefusal::TooMany);
        }
        let id = self.next_id;
        self.next_id += 1;
        let entry = self.broker.census.enter(self.path(id), "stream-session");
        let exit = ExitSignal::new(context.address().recipient(), id, 1);
        let mut start = *message.start;
        start.rotate_after = start.rotate_after.map(|after| jittered(after, id));
        let session =
            StreamSession::start_in_arbiter(&message.arbiter, move |_| StreamSession::new(start, entry, exit));
        self.sessions.insert(id, Session { address: session.clone(), group: message.group });
        Ok(session)
    }
}

impl Handler<StreamsOfGroup> for Http {
    type Result = MessageResult<StreamsOfGroup>;

    fn handle(&mut self, message: StreamsOfGroup, _: &mut Self::Context) -> Self::Result {
        let of_group = self.sessions.values().filter(|session| session.group.as_deref() == Some(message.0.as_str()));
        MessageResult(of_group.map(|session| session.address.clone()).collect())
    }
}

impl Handler<ChildExited<u64>> for Http {
    type Result = ();

    /// A session is temporary: its client comes back by itself, with the position it has reached.
    fn handle(&mut self, exited: ChildExited<u64>, _: &mut Self::Context) {
        self.sessions.remove(&exited.child);
        self.broker.census.leave(&self.path(exited.child));
        if self.sessions.is_empty() {
            for ended in self.ended.drain(..) {
                // Whoever waited may have lost patience.
                let _ = ended.send(());
            }
        }
    }
}

impl Handler<EndAllStreams> for Http {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: EndAllStreams, _: &mut Self::Context) -> Self::Result {
        self.is_stopping = true;
        if self.sessions.is_empty() {
            return Box::pin(async {});
        }
        let (sender, ended) = oneshot::channel();
        self.ended.push(sender);
        for (id, session) in &self.sessions {
            let goodbye = spread(message.goodbye, *id);
            session.address.do_send(EndStream(goodbye));
        }
        Box::pin(async move {
            let _ = tokio::time::timeout(message.grace, ended).await;
        })
    }
}

/// A thousand clients that come back in the same millisecond would be the next problem.
fn spread(mut goodbye: Goodbye, id: u64) -> Goodbye {
    const STEP_MS: u64 = 37;
    const SPREAD_MS: u64 = 1000;
    goodbye.reconnect_after_ms = goodbye.reconnect_after_ms.map(|after_ms| after_ms + id * STEP_MS % SPREAD_MS);
    goodbye
}

/// A tenth more or less: those that came together shall not come again together.
fn jittered(after: Duration, id: u64) -> Duration {
    const STEP: u64 = 8;
    const PERCENT_MIN: u32 = 90;
    const PERCENT_SPREAD: u64 = 21;
    let more = u32::try_from(id * STEP % PERCENT_SPREAD).unwrap_or(0);
    after * (PERCENT_MIN + more) / 100
}

impl Handler<Chaos> for Http {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
