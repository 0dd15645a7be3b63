//! PeerManager: one [`Peer`] for each broker that this one follows, started when the first follower joins.
//!
//! A peer that panics is started again, and told to its followers: they say anew where they stand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use actix::{Actor, Addr, ArbiterHandle, AsyncContext, Context, Handler, Message};
use arc_swap::ArcSwap;
use capek_state::cluster::Image;
use capek_wire::ids::{BrokerId, PartitionIndex, TopicId};
use log::{error, warn};

use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::config::BrokerConfig;
use crate::follower_replica::{FollowerReplica, PeerStarted};
use crate::peer::{Peer, PeerStart};
use crate::peer_transport::PeerIdentity;
use crate::replication_quota::ReplicationQuota;
use crate::supervision::{ChildExited, ExitSignal, Incarnation, RestartBudget, Verdict};

/// This follower wants a peer to its leader's broker.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Join {
    pub leader: BrokerId,
    pub partition: (TopicId, PartitionIndex),
    pub follower: Addr<FollowerReplica>,
}

struct Child {
    incarnation: Incarnation,
    addr: Option<Addr<Peer>>,
    budget: RestartBudget,
    entry: Arc<ActorEntry>,
    followers: BTreeMap<(TopicId, PartitionIndex), Addr<FollowerReplica>>,
    /// With so many of them those that have gone make room: not at each join, for with a broker's death thousands join at once.
    followers_max: usize,
}

const FOLLOWERS_MAX_FIRST: usize = 64;

impl Child {
    fn join(&mut self, partition: (TopicId, PartitionIndex), follower: Addr<FollowerReplica>) {
        if self.followers.len() >= self.followers_max {
            self.followers.retain(|_, follower| follower.connected());
            self.followers_max = (2 * self.followers.len()).max(FOLLOWERS_MAX_FIRST);
        }
        self.followers.insert(partition, follower);
    }
}

pub struct PeerManager {
    config: Arc<BrokerConfig>,
    image: Arc<ArcSwap<Image>>,
    me: Arc<PeerIdentity>,
    census: Census,
    /// Where peers live, in turn.
    arbiters: Vec<ArbiterHandle>,
    children: BTreeMap<BrokerId, Child>,
    quota: Arc<ReplicationQuota>,
    entry: Arc<ActorEntry>,
    _exit: ExitSignal<&'static str>,
}

impl PeerManager {
    pub fn new(
        config: Arc<BrokerConfig>,
        image: Arc<ArcSwap<Image>>,
        me: Arc<PeerIdentity>,
        census: Census,
        arbiters: Vec<ArbiterHandle>,
        exit: ExitSignal<&'static str>,
    ) -> Self {
        let entry = census.enter("broker/peer-manager".to_string(), "peer-manager");
        let quota = Arc::new(ReplicationQuota::of_followers(config.clone(), image.clone()));
        Self { config, image, me, census, arbiters, children: BTreeMap::new(), quota, entry, _exit: exit }
    }

    fn start_peer(&mut self, broker: BrokerId, context: &mut Context<Self>) {
        let Some(child) = self.children.get_mut(&broker) else { return };
        child.incarnation += 1;
        let start = PeerStart {
            me: self.me.clone(),
            broker,
            image: self.image.clone(),
            entry: child.entry.clone(),
            exit: ExitSignal::new(context.address().recipient(), broker, child.incarnation),
        };
        let arbiter = &self.arbiters[broker.unsigned_abs() as usize % self.arbiters.len()];
        let addr = Peer::start_in_arbiter(arbiter, move |_| Peer::new(start));
        for follower in child.followers.values() {
            follower.do_send(PeerStarted { peer: addr.clone(), quota: self.quota.clone() });
        }
        child.addr = Some(addr);
    }
}

impl Actor for PeerManager {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
    }
}

impl Handler<Join> for PeerManager {
    type Result = ();

    fn handle(&mut self, join: Join, context: &mut Self::Context) {
        let (census, config) = (&self.census, &self.config);
        let child = self.children.entry(join.leader).or_insert_with(|| Child {
            incarnation: 0,
            addr: None,
            budget: RestartBudget::new(config.restarts_max, config.restart_period),
            entry: census.enter(format!("broker/peer-manager/peer:{}", join.leader), "peer"),
            followers: BTreeMap::new(),
            followers_max: FOLLOWERS_MAX_FIRST,
        });
        child.join(join.partition, join.follower.clone());
        match &child.addr {
            Some(peer) => {
                join.follower.do_send(PeerStarted { peer: peer.clone(), quota: self.quota.clone() });
            }
            None if child.incarnation == 0 => self.start_peer(join.leader, context),
            None => {} // it is about to be started again
        }
    }
}

impl Handler<ChildExited<BrokerId>> for PeerManager {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<BrokerId>, context: &mut Self::Context) {
        let Some(child) = self.children.get_mut(&exited.child) else { return };
        if child.incarnation != exited.incarnation {
            return;
        }
        child.addr = None;
        let backoff = match child.budget.spend(Instant::now()) {
            Verdict::RestartAfter(backoff) => backoff,
            // Without its peers a broker follows nobody: go on trying, slowly.
            Verdict::Escalate => {
                error!("the peer of broker {} has spent its restarts (capek.restart.max)", exited.child);
                self.config.restart_period
            }
        };
        warn!("the peer of broker {} ended ({:?}), restarting after {backoff:?}", exited.child, exited.cause);
        context.run_later(backoff, move |manager, context| {
            if let Some(child) = manager.children.get(&exited.child) {
                child.entry.restarts.fetch_add(1, Ordering::Relaxed);
            }
            manager.start_peer(exited.child, context);
        });
    }
}

impl Handler<Chaos> for PeerManager {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
