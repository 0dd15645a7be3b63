//! MetadataPublisher: publishes the committed image, and hands what changed to the managers.
//!
//! All it knows is what it has published. When it ends, the next one goes on from there: it is told the newest image again.

use std::sync::Arc;
use std::time::Instant;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use arc_swap::ArcSwap;
use capek_state::cluster::{Delta, Image};
use capek_wire::ids::BrokerId;

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::cluster_changes::{ClusterChanges, Observer};
use crate::coordinator_manager::CoordinatorManager;
use crate::departures::Departures;
use crate::producer_ids::ProducerIds;
use crate::raft::quorum::Quorum;
use crate::replica_manager::{ApplyDelta, ReplicaManager};
use crate::supervision::ExitSignal;

/// This image is committed. Answered when this broker's replicas and coordinators act on it.
#[derive(Message, Clone)]
#[rtype(result = "()")]
pub struct Committed {
    pub image: Arc<Image>,
    /// What changed on the way to it, if that is known.
    pub step: Option<Step>,
}

/// What changed between two images.
#[derive(Debug, Clone)]
pub struct Step {
    /// The place of the image before.
    pub from: u64,
    pub delta: Arc<Delta>,
}

pub struct MetadataPublisher {
    image: Arc<ArcSwap<Image>>,
    replica_manager: Addr<ReplicaManager>,
    coordinator_manager: Addr<CoordinatorManager>,
    watching: Watching,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

/// Who takes note of what changes in the cluster.
#[derive(Clone)]
pub struct Watching {
    pub node_id: BrokerId,
    /// In a cluster.
    pub quorum: Option<Arc<Quorum>>,
    pub changes: Arc<ClusterChanges>,
    pub departures: Arc<Departures>,
    pub producer_ids: Arc<ProducerIds>,
}

impl Watching {
    fn observe(&self, before: &Image, after: &Image, delta: &Delta) {
        let is_controller = self.quorum.as_ref().is_none_or(|quorum| quorum.is_controller());
        self.changes.observe(before, after, delta, Observer { broker: self.node_id, is_controller });
        self.departures.observe(before, after, delta, Instant::now());
        self.producer_ids.observe(before, after, delta);
    }
}

impl MetadataPublisher {
    pub fn new(
        image: Arc<ArcSwap<Image>>,
        replica_manager: Addr<ReplicaManager>,
        coordinator_manager: Addr<CoordinatorManager>,
        watching: Watching,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<ChildId>,
    ) -> Self {
        Self { image, replica_manager, coordinator_manager, watching, entry, exit }
    }
}

impl Actor for MetadataPublisher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
    }
}

impl Handler<Committed> for MetadataPublisher {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) -> Self::Result {
        let Committed { image, step } = committed;
        let published = self.image.load_full();
        if image.records_applied() < published.records_applied() {
            // An earlier incarnation of whoever tells us knew more.
            return Box::pin(async {});
        }
        let is_next = |step: &Step| step.from == published.records_applied();
        let delta = match step.filter(is_next) {
            Some(step) => step.delta,
            // What lies between was told to an earlier incarnation, or came as a snapshot.
            None => Arc::new(Delta::between(&published, &image)),
        };
        self.watching.observe(&published, &image, &delta);
        self.image.store(image.clone());
        let applied = self.replica_manager.send(ApplyDelta { image: image.clone(), delta: delta.clone() });
        let coordinator_manager = self.coordinator_manager.clone();
        Box::pin(async move {
            // An error says that the manager stops, and the broker with it.
            let _ = applied.await;
            let _ = coordinator_manager.send(ApplyDelta { image, delta }).await;
        })
    }
}

impl Handler<Chaos> for MetadataPublisher {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
