//! MetadataPublisher: applies committed records to the image, publishes it, and hands what changed to the managers.
//!
//! All it knows is what it has published. When it ends, the next one goes on from there: the controller tells it again what
//! was committed since.

use std::sync::Arc;

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture};
use arc_swap::ArcSwap;
use capek_state::cluster::{Delta, Image, Record};
use log::warn;

use crate::broker::ChildId;
use crate::census::{ActorEntry, Chaos, bring_about};
use crate::coordinator_manager::CoordinatorManager;
use crate::replica_manager::{ApplyDelta, ReplicaManager};
use crate::supervision::ExitSignal;

/// These records are committed, in this order. Answered when this broker's replicas and coordinators have followed; false when
/// what comes before them is missing.
#[derive(Message)]
#[rtype(result = "bool")]
pub struct Committed {
    /// The place of the first in the metadata log.
    pub first: u64,
    pub records: Vec<Record>,
}

pub struct MetadataPublisher {
    image: Arc<ArcSwap<Image>>,
    replica_manager: Addr<ReplicaManager>,
    coordinator_manager: Addr<CoordinatorManager>,
    entry: Arc<ActorEntry>,
    exit: ExitSignal<ChildId>,
}

impl MetadataPublisher {
    pub fn new(
        image: Arc<ArcSwap<Image>>,
        replica_manager: Addr<ReplicaManager>,
        coordinator_manager: Addr<CoordinatorManager>,
        entry: Arc<ActorEntry>,
        exit: ExitSignal<ChildId>,
    ) -> Self {
        Self { image, replica_manager, coordinator_manager, entry, exit }
    }
}

impl Actor for MetadataPublisher {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(self.exit.incarnation(), Some(context.address().recipient()));
    }
}

impl Handler<Committed> for MetadataPublisher {
    type Result = ResponseFuture<bool>;

    fn handle(&mut self, committed: Committed, _: &mut Self::Context) -> Self::Result {
        let mut image = Image::clone(&self.image.load());
        let mut delta = Delta::default();
        let published = image.records_applied();
        if committed.first > published {
            // What lies between was lost with an earlier incarnation: the controller sends all of it again.
            warn!("metadata records {published} to {} are missing; waiting for them", committed.first);
            return Box::pin(async { false });
        }
        for record in committed.records.iter().skip((published - committed.first) as usize) {
            image.apply_into(record, &mut delta);
        }
        let image = Arc::new(image);
        self.image.store(image.clone());
        let delta = Arc::new(delta);
        let applied = self.replica_manager.send(ApplyDelta { image: image.clone(), delta: delta.clone() });
        let coordinator_manager = self.coordinator_manager.clone();
        Box::pin(async move {
            // An error says that the manager stops, and the broker with it.
            let _ = applied.await;
            let _ = coordinator_manager.send(ApplyDelta { image, delta }).await;
            true
        })
    }
}

impl Handler<Chaos> for MetadataPublisher {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}
