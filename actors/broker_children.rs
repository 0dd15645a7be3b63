//! How the Broker's own children are started, for the first time and again: the controller and the metadata publisher,
//! retention, and the listeners.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::{Actor, Addr};
use arc_swap::ArcSwap;
use capek_state::cluster::Image;

use crate::broker::{Adopt, Broker, BrokerShared, ChildId, StartError};
use crate::census::Census;
use crate::children::Slot;
use crate::config::BrokerConfig;
use crate::controller::{Alone, CatchUp, Controller, ControllerStart, Ledger};
use crate::coordinator_manager::CoordinatorManager;
use crate::in_sync_proposer::{InSyncProposer, InSyncProposerStart, ProposerHandle};
use crate::listener::Listener;
use crate::meta_log::{MetaLog, MetaLogError};
use crate::metadata_publisher::{MetadataPublisher, Watching};
use crate::raft::quorum::Quorum;
use crate::replica_manager::{DataArbiter, ReplicaManager};
use crate::request_metrics::ErrorCounts;
use crate::retention::Retention;
use crate::routes::Routes;
use crate::sockets::Bound;

pub async fn start_listeners(
    shared: &Arc<BrokerShared>,
    sockets: Bound,
    arbiters: &[DataArbiter],
    broker: &Addr<Broker>,
) -> Result<Vec<Arc<Slot<Listener>>>, StartError> {
    let mut listeners = Vec::new();
    for (index, (config, (name, sockets))) in shared.config.listeners.iter().zip(sockets).enumerate() {
        let slot = Arc::<Slot<Listener>>::default();
        listeners.push(slot.clone());
        let shared = shared.clone();
        let config = Arc::new(config.clone());
        let arbiters = arbiters.to_vec();
        let entry = shared.census.enter(format!("broker/listener:{name}"), "listener");
        let child_entry = entry.clone();
        let start = move |exit| {
            // The sockets stay open between two lives: whoever connects meanwhile is accepted by the next.
            let sockets = sockets.iter().map(std::net::TcpListener::try_clone).collect::<Result<Vec<_>, _>>();
            let sockets = sockets.map_err(|error| error.to_string())?;
            let (shared, config, all) = (shared.clone(), config.clone(), arbiters.clone());
            let entry = child_entry.clone();
            slot.set(Listener::start_in_arbiter(&arbiters[0].handle, move |_| {
                let register = |socket| {
                    let registered = tokio::net::TcpListener::from_std(socket);
                    registered.expect("a bound socket can be registered with its arbiter")
                };
                let sockets = sockets.into_iter().map(register).collect();
                Listener::new(shared, config, sockets, all, entry, exit)
            }));
            Ok(())
        };
        adopt(broker, Adopt { id: ChildId::Listener(index), entry, start: Box::new(start) }).await?;
    }
    Ok(listeners)
}

pub async fn adopt(broker: &Addr<Broker>, child: Adopt) -> Result<(), StartError> {
    let started = broker.send(child).await.map_err(|error| error.to_string()).flatten();
    started.map_err(|reason| StartError::Io(std::io::Error::other(reason)))
}

pub fn cluster_dir(config: &BrokerConfig) -> PathBuf {
    config.data_dirs[0].join("__cluster")
}

/// What the controller and the publisher share.
pub struct Metadata {
    pub published: Arc<ArcSwap<Image>>,
    pub publisher: Arc<Slot<MetadataPublisher>>,
    pub controller: Arc<Slot<Controller>>,
    pub replica_manager: Addr<ReplicaManager>,
    pub coordinator_manager: Addr<CoordinatorManager>,
    /// For the first controller; the next ones of a broker alone read the log again.
    pub first: Option<Ledger>,
    /// In a cluster.
    pub quorum: Option<Arc<Quorum>>,
    pub cluster_dir: PathBuf,
    pub watching: Watching,
    pub refusals: Arc<ErrorCounts>,
}

pub fn metadata_children(mut metadata: Metadata, census: &Census) -> [Adopt; 2] {
    let entry = census.enter("broker/metadata-publisher".to_string(), "metadata-publisher");
    let (published, slot) = (metadata.published.clone(), metadata.publisher.clone());
    let (replicas, coordinators) = (metadata.replica_manager.clone(), metadata.coordinator_manager.clone());
    let (controller, child_entry) = (metadata.controller.clone(), entry.clone());
    let watching = metadata.watching.clone();
    let start_publisher = move |exit| {
        let (replicas, coordinators, entry) = (replicas.clone(), coordinators.clone(), child_entry.clone());
        let publisher =
            MetadataPublisher::new(published.clone(), replicas, coordinators, watching.clone(), entry, exit);
        slot.set(publisher.start());
        if let Some(controller) = controller.get() {
            controller.do_send(CatchUp);
        }
        Ok(())
    };
    let publisher = Adopt { id: ChildId::MetadataPublisher, entry, start: Box::new(start_publisher) };

    let entry = census.enter("broker/controller".to_string(), "controller");
    let child_entry = entry.clone();
    let start_controller = move |exit| {
        let ledger = match (metadata.first.take(), &metadata.quorum) {
            (Some(first), _) => first,
            (None, Some(quorum)) => Ledger::Quorum(quorum.clone()),
            (None, None) => read_metadata(&metadata.cluster_dir).map_err(|error| error.to_string())?,
        };
        let (publisher, refusals) = (metadata.publisher.clone(), metadata.refusals.clone());
        let start = ControllerStart { ledger, publisher, refusals, entry: child_entry.clone(), exit };
        metadata.controller.set(Controller::new(start).start());
        Ok(())
    };
    [publisher, Adopt { id: ChildId::Controller, entry, start: Box::new(start_controller) }]
}

fn read_metadata(cluster_dir: &Path) -> Result<Ledger, MetaLogError> {
    let (log, records) = MetaLog::open(cluster_dir)?;
    let mut image = Image::default();
    records.iter().for_each(|record| image.apply(record));
    Ok(Ledger::Alone(Alone { log, image: Arc::new(image) }))
}

pub fn proposer_child(start: InSyncProposerStart, handle: ProposerHandle, census: &Census) -> Adopt {
    let entry = census.enter("broker/in-sync-proposer".to_string(), "in-sync-proposer");
    let child_entry = entry.clone();
    let start_proposer = move |exit| {
        handle.start(InSyncProposer::new(start.clone(), &handle, child_entry.clone(), exit));
        Ok(())
    };
    Adopt { id: ChildId::InSyncProposer, entry, start: Box::new(start_proposer) }
}

pub fn retention_child(config: &BrokerConfig, routes: &Arc<Routes>, census: &Census) -> Adopt {
    let entry = census.enter("broker/retention".to_string(), "retention");
    let (routes, interval, child_entry) = (routes.clone(), config.retention_check_interval, entry.clone());
    let start = move |exit| {
        Retention::new(routes.clone(), interval, child_entry.clone(), exit).start();
        Ok(())
    };
    Adopt { id: ChildId::Retention, entry, start: Box::new(start) }
}
