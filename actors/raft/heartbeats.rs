//! Which brokers live: heartbeats as soft state of the controller. What follows from them, and only that, is recorded.
//!
//! ```text
//!   heartbeat of a fenced broker that has caught up ──▶ UnfenceBroker
//!   heartbeat of one that wants to stop             ──▶ ControlledShutdown, until it leads nothing; then FenceBroker
//!   no heartbeat for a session                      ──▶ FenceBroker
//!   its connection broke, or a controller is new    ──▶ look: nobody listens there, or another process ──▶ FenceBroker
//!                                                       (of the controller itself: the others elect another)
//! ```

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use capek_state::cluster::{Broker, Command, Outcome};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, Uuid};
use capek_wire::peer::Lane;
use log::{debug, info, warn};

use super::messages::{Heartbeat, HeartbeatReply, ProposeReply};
use super::quorum::Quorum;
use crate::peer_transport::{PeerError, PeerIdentity, connect};

/// How often sessions are looked at.
const TICK: Duration = Duration::from_millis(100);

/// How often a broker is looked for whose connection has broken.
const LOOKS_MAX: usize = 50;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

struct Session {
    epoch: i64,
    last: Instant,
}

/// See the head of this file.
pub struct Heartbeats {
    quorum: Arc<Quorum>,
    me: Arc<PeerIdentity>,
    session_timeout: Duration,
    sessions: Mutex<BTreeMap<BrokerId, Session>>,
}

impl Heartbeats {
    pub fn new(quorum: Arc<Quorum>, me: Arc<PeerIdentity>, session_timeout: Duration) -> Self {
        Self { quorum, me, session_timeout, sessions: Mutex::default() }
    }

    /// A broker lives, at this place.
    pub async fn received(&self, heartbeat: Heartbeat) -> HeartbeatReply {
        if !self.quorum.is_controller() {
            return HeartbeatReply::NotController { controller: self.quorum.controller() };
        }
        let image = self.quorum.image();
        let Some(broker) = image.broker(heartbeat.broker).filter(|broker| broker.epoch == heartbeat.epoch) else {
            // A controller that has just been elected may not have applied the registration yet.
            let is_behind = (image.records_applied() as i64) <= heartbeat.epoch;
            let controller = None;
            if is_behind {
                return HeartbeatReply::NotController { controller };
            }
            self.quorum.refusals.add(ErrorCode::StaleBrokerEpoch);
            return HeartbeatReply::StaleEpoch;
        };
        self.touch(broker);
        if heartbeat.wants_shutdown {
            let may_shut_down = broker.fenced || self.has_handed_over(broker).await;
            return HeartbeatReply::Known { is_fenced: broker.fenced, may_shut_down };
        }
        let has_caught_up = heartbeat.place as i64 > broker.epoch;
        let is_fenced = broker.fenced && !(has_caught_up && self.unfence(broker).await);
        HeartbeatReply::Known { is_fenced, may_shut_down: false }
    }

    fn touch(&self, broker: &Broker) {
        let session = Session { epoch: broker.epoch, last: Instant::now() };
        self.lock().insert(broker.id, session);
    }

    /// It leads nothing any more that another could lead; then it is fenced, so that nobody looks for it.
    async fn has_handed_over(&self, broker: &Broker) -> bool {
        let command = Command::ControlledShutdown { broker: broker.id, epoch: broker.epoch };
        match self.quorum.decide_here(command).await {
            ProposeReply::Decided { outcome: Outcome::Done, .. } => self.fence(broker, "it shuts down").await,
            ProposeReply::Decided { outcome: Outcome::StillLeading { count }, .. } => {
                debug!("broker {} shuts down and still leads {count} partitions", broker.id);
                false
            }
            _ => false,
        }
    }

    async fn unfence(&self, broker: &Broker) -> bool {
        let command = Command::UnfenceBroker { broker: broker.id, epoch: broker.epoch };
        let is_done = self.decided(command).await;
        if is_done {
            info!("broker {} is in the cluster", broker.id);
        }
        is_done
    }

    async fn fence(&self, broker: &Broker, why: &str) -> bool {
        let command = Command::FenceBroker { broker: broker.id, epoch: broker.epoch };
        let is_done = self.decided(command).await;
        if is_done {
            info!("broker {} is fenced: {why}", broker.id);
        }
        is_done
    }

    async fn decided(&self, command: Command) -> bool {
        matches!(self.quorum.decide_here(command).await, ProposeReply::Decided { outcome: Outcome::Done, .. })
    }

    /// Watches the sessions while this node leads.
    pub async fn watch(self: Arc<Self>) {
        let (mut controller, mut was_controller) = (None, false);
        loop {
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                // A new controller does not wait to look who lives.
                () = self.quorum.controller_is_not(controller) => {}
            }
            controller = self.quorum.controller();
            let is_controller = self.quorum.is_controller();
            if is_controller && !was_controller {
                self.quorum.elections_won.fetch_add(1, Ordering::Relaxed);
                self.take_over();
            }
            was_controller = is_controller;
            if is_controller {
                self.fence_the_silent().await;
            }
        }
    }

    /// A new controller gives every broker a fresh session, and looks at once whether it is there.
    fn take_over(self: &Arc<Self>) {
        let image = self.quorum.image();
        self.lock().clear();
        for broker in image.brokers().filter(|broker| !broker.fenced) {
            self.touch(broker);
            tokio::spawn(self.clone().look_after(broker.id));
        }
    }

    async fn fence_the_silent(&self) {
        let image = self.quorum.image();
        for broker in image.brokers().filter(|broker| !broker.fenced) {
            let last = self.lock().get(&broker.id).filter(|session| session.epoch == broker.epoch).map(|it| it.last);
            match last {
                None => self.touch(broker),
                Some(last) if last.elapsed() > self.session_timeout => {
                    warn!("broker {} has not been heard of for {:?}", broker.id, self.session_timeout);
                    self.fence(broker, "its session is over").await;
                }
                Some(_) => {}
            }
        }
    }

    /// The connection of this process has broken: is it there?
    pub fn peer_lost(self: &Arc<Self>, broker: BrokerId, incarnation: Uuid) {
        let image = self.quorum.image();
        let is_current = image.broker(broker).is_some_and(|broker| broker.incarnation == incarnation);
        let is_controller = self.quorum.is_controller();
        if is_current && (is_controller || self.quorum.controller() == Some(broker)) {
            tokio::spawn(self.clone().look_after(broker));
        }
    }

    async fn look_after(self: Arc<Self>, broker: BrokerId) {
        let image = self.quorum.image();
        let Some(broker) = image.broker(broker).filter(|broker| broker.id != self.me.broker) else { return };
        let Some(why) = self.why_dead(broker).await else { return };
        if !self.quorum.is_controller() {
            if self.quorum.controller() == Some(broker.id) {
                self.quorum.succeed(broker.id).await;
            }
        } else if self.quorum.image().broker(broker.id).is_some_and(|now| now.epoch == broker.epoch && !now.fenced) {
            self.fence(broker, why).await;
        }
    }

    /// Why the process that has registered is gone for sure; None: it is there, or there is only silence, which may pass: that
    /// is for its session.
    async fn why_dead(&self, broker: &Broker) -> Option<&'static str> {
        let address = broker.peer_address()?;
        for _ in 0..LOOKS_MAX {
            match connect(&address, &self.me, broker.id, Lane::Control).await {
                Ok(stream) if stream.incarnation == broker.incarnation => return None,
                Ok(_) => return Some("another process has its place"),
                Err(PeerError::Io(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    return Some("nobody listens there");
                }
                // A process that is being killed hangs up before it stops listening.
                Err(_) => tokio::time::sleep(LOOK_AGAIN).await,
            }
        }
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<BrokerId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
