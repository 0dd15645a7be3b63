//! Broker: the root supervisor. It starts everything in order, stops it in the reverse order, and is where escalation ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, ArbiterHandle, AsyncContext, Context, Handler, Message};
use arc_swap::ArcSwap;
use capek_log::OpenError;
use capek_state::Refusal;
use capek_state::cluster::Image;
use log::{error, info, warn};
use tokio::sync::{mpsc, oneshot};

use crate::broker_children::{
    Metadata, adopt, cluster_dir, metadata_children, proposer_child, retention_child, start_listeners,
};
use crate::broker_open::{Opened, open_alone, open_in_cluster, set_strays_aside};
use crate::budget::MemoryBudget;
use crate::call_lane::CallLanes;
use crate::call_server::CarriedHttp;
use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::children::{Children, Slot, StartChild};
use crate::cleaning::{Cleaning, CleaningStart};
use crate::cluster_start::{self, Joined};
use crate::config::BrokerConfig;
use crate::controller::Controller;
use crate::coordinator_manager::{CoordinatorManager, CoordinatorManagerStart, StopCoordinators};
use crate::coordinator_routes::CoordinatorRoutes;
use crate::departures::Departures;
use crate::fetch_sessions::FetchSessions;
use crate::heartbeat::{Heartbeat, Leave};
use crate::in_sync_proposer::{InSyncProposerStart, ProposerHandle};
use crate::journal::{self, JournalFailed, JournalHandle, RoundDispatcher};
use crate::listener::{Drain, Listener};
use crate::log_cleaner::{LogCleaner, StopCleaning};
use crate::meta_log::MetaLogError;
use crate::metadata_publisher::Watching;
use crate::metrics::Metrics;
use crate::peer_manager::PeerManager;
use crate::producer_ids::ProducerIds;
use crate::raft::quorum::{Quorum, QuorumView};
use crate::remote_partition::RemotePartitions;
use crate::replica_manager::{
    ApplyDelta, DataArbiter, DataDir, Peers, ReplicaManager, ReplicaManagerStart, StopReplicas,
};
use crate::replication_quota::ReplicationQuota;
use crate::routes::Routes;
use crate::sockets::{addresses, listen_all};
use crate::supervision::{ChildExited, ExitCause, ExitSignal, Verdict};

/// What every request may read: the published state of this broker.
pub struct BrokerShared {
    pub config: Arc<BrokerConfig>,
    pub cluster_id: String,
    pub image: Arc<ArcSwap<Image>>,
    /// From that image, lately.
    pub departures: Arc<Departures>,
    pub routes: Arc<Routes>,
    pub coordinators: Arc<CoordinatorRoutes>,
    pub controller: Arc<Slot<Controller>>,
    /// In a cluster.
    pub quorum: Option<Arc<Quorum>>,
    /// Of this process, as it registered.
    pub broker_epoch: i64,
    /// Where records move.
    pub data_arbiters: Vec<ArbiterHandle>,
    pub census: Census,
    pub metrics: Metrics,
    /// For frames: from their first byte until every partition has answered.
    pub request_budget: MemoryBudget,
    /// For what fetches hold until the client has taken it.
    pub fetch_budget: MemoryBudget,
    pub fetch_bytes_max: usize,
    pub fetch_sessions: FetchSessions,
    pub producer_ids: Arc<ProducerIds>,
    /// For followers that are throttled.
    pub replication_quota: ReplicationQuota,
    /// In a cluster: to the others, for what they serve.
    pub calls: Option<CallLanes>,
    /// What readers here know of partitions that others lead.
    pub remote_partitions: RemotePartitions,
    /// Set when HTTP is served: takes what clients of other brokers want of what lives here.
    pub carried_http: OnceLock<mpsc::Sender<CarriedHttp>>,
}

impl BrokerShared {
    /// Whom clients are told to take changes of metadata to; -1: nobody, for now.
    pub fn controller_id(&self) -> i32 {
        match &self.quorum {
            None => self.config.node_id,
            Some(quorum) => quorum.controller().unwrap_or(-1),
        }
    }

    pub fn is_controller(&self) -> bool {
        self.quorum.as_ref().is_none_or(|quorum| quorum.is_controller())
    }

    /// A broker by itself is its own quorum, and reigns over the metadata since it registered.
    pub fn quorum_view(&self) -> QuorumView {
        if let Some(quorum) = &self.quorum {
            return quorum.view();
        }
        let log_end = self.image.load().records_applied();
        QuorumView {
            controller: Some(self.config.node_id),
            term: u64::try_from(self.broker_epoch).unwrap_or(0),
            log_end,
            committed: log_end,
            voters: [(self.config.node_id, String::new())].into(),
            ..QuorumView::default()
        }
    }
}

/// Why a broker cannot start; each is a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    DataDirectory(#[from] OpenError),
    #[error("{0}")]
    MetaLog(#[from] MetaLogError),
    /// It cannot take its part in the cluster.
    #[error("{0}")]
    Quorum(String),
    #[error(
        "listener {listener} cannot listen on {address}: {error}. Is another broker running there? Choose another address with --kafka HOST:PORT"
    )]
    Bind { listener: String, address: SocketAddr, error: std::io::Error },
    #[error("the first metadata records were refused: {0}")]
    Metadata(Refusal),
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// A broker that runs. Dropping it does not stop it; [`RunningBroker::stop`] does.
pub struct RunningBroker {
    pub shared: Arc<BrokerShared>,
    /// Where each listener is bound, with its port.
    pub bound: Vec<(String, Vec<SocketAddr>)>,
    /// Whether the last stop was clean: nothing had to be replayed.
    pub was_clean: bool,
    listeners: Vec<Arc<Slot<Listener>>>,
    replica_manager: Addr<ReplicaManager>,
    coordinator_manager: Addr<CoordinatorManager>,
    log_cleaner: Addr<LogCleaner>,
    journals: Vec<JournalHandle>,
    arbiters: Vec<Arbiter>,
    cluster: Option<(Joined, Arc<Slot<Heartbeat>>)>,
    broker: Addr<Broker>,
    failed: oneshot::Receiver<String>,
}

/// How long the controller may take to move this broker's leaderships elsewhere, at a stop.
const LEAVE_PATIENCE: Duration = Duration::from_secs(5);
/// For how long clients are still told who leads instead, at a stop: they connect there before this broker hangs up. A client that
/// loses the only connection it has starts all over (librdkafka's re-bootstrap: a second or two). Longer than a client waits
/// before it asks again, `retry.backoff.ms`.
const FAREWELL: Duration = Duration::from_millis(300);
/// How long connections may take to answer what they have begun, at a stop.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// The children that are started again when they end; that of any other stops the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChildId {
    MetadataPublisher,
    Controller,
    Retention,
    PeerListener,
    InSyncProposer,
    Heartbeat,
    /// By its place in the configuration.
    Listener(usize),
}

/// The root of the tree.
pub struct Broker {
    failed: Option<oneshot::Sender<String>>,
    is_stopping: bool,
    children: Children<ChildId>,
    entry: Arc<ActorEntry>,
}

/// Start this child now, and again whenever it ends, within its budget. Answered when it has started for the first time.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub struct Adopt {
    pub id: ChildId,
    pub entry: Arc<ActorEntry>,
    pub start: StartChild<ChildId>,
}

/// The back-off of a child is over.
#[derive(Message)]
#[rtype(result = "()")]
struct RestartDue(ChildId);

/// The stop has begun: children may end.
#[derive(Message)]
#[rtype(result = "()")]
struct Stopping;

impl Broker {
    fn escalate(&mut self, reason: String) {
        if self.is_stopping {
            return;
        }
        error!("the broker stops: {reason}");
        if let Some(failed) = self.failed.take() {
            // Nobody listens only when the process is going down anyway.
            let _ = failed.send(reason);
        }
    }
}

impl Actor for Broker {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.entry.begin(1, Some(context.address().recipient()));
    }
}

impl Handler<ChildExited<&'static str>> for Broker {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<&'static str>, _: &mut Self::Context) {
        let what = match exited.cause {
            ExitCause::Panicked => "panicked",
            ExitCause::Failed => "gave up",
            ExitCause::Stopped | ExitCause::Refresh => "stopped",
        };
        self.escalate(format!("{} {what}", exited.child));
    }
}

impl Handler<Adopt> for Broker {
    type Result = Result<(), String>;

    fn handle(&mut self, adopt: Adopt, context: &mut Self::Context) -> Self::Result {
        self.children.adopt(adopt.id, adopt.entry, adopt.start, context.address().recipient())
    }
}

impl Handler<ChildExited<ChildId>> for Broker {
    type Result = ();

    fn handle(&mut self, exited: ChildExited<ChildId>, context: &mut Self::Context) {
        if self.is_stopping {
            return;
        }
        match self.children.exited(&exited, Instant::now()) {
            None => {}
            // A panic is mended by the next life; this is not.
            Some(_) if exited.cause == ExitCause::Failed => self.escalate(format!("{:?} gave up", exited.child)),
            Some(Verdict::RestartAfter(backoff)) => {
                warn!("{:?} ended ({:?}), restarting after {backoff:?}", exited.child, exited.cause);
                context.notify_later(RestartDue(exited.child), backoff);
            }
            Some(Verdict::Escalate) => {
                self.escalate(format!("{:?} has spent its restarts (capek.restart.max)", exited.child));
            }
        }
    }
}

impl Handler<RestartDue> for Broker {
    type Result = ();

    fn handle(&mut self, due: RestartDue, context: &mut Self::Context) {
        if self.is_stopping {
            return;
        }
        if let Err(reason) = self.children.restart(&due.0, context.address().recipient()) {
            self.escalate(format!("{:?} cannot be started again: {reason}", due.0));
        }
    }
}

impl Handler<JournalFailed> for Broker {
    type Result = ();

    fn handle(&mut self, failed: JournalFailed, _: &mut Self::Context) {
        self.escalate(format!("its data directory failed: {}", failed.reason));
    }
}

impl Handler<Stopping> for Broker {
    type Result = ();

    fn handle(&mut self, _: Stopping, _: &mut Self::Context) {
        self.is_stopping = true;
    }
}

impl Handler<Chaos> for Broker {
    type Result = ();

    fn handle(&mut self, chaos: Chaos, _: &mut Self::Context) {
        bring_about(chaos);
    }
}

/// Starts a broker on the current actix system; ready to use when it returns.
pub async fn start(config: BrokerConfig) -> Result<RunningBroker, StartError> {
    let census = Census::default();
    let (failed_sender, failed) = oneshot::channel();
    let entry = census.enter("broker".to_string(), "broker");
    let children = Children::new(config.restarts_max, config.restart_period);
    let broker = Broker { failed: Some(failed_sender), is_stopping: false, children, entry }.start();

    let (opened, config, sockets) = match config.cluster.clone() {
        None => open_alone(config)?,
        Some(cluster) => open_in_cluster(config, &cluster, &broker, &census).await?,
    };
    let Opened { dirs: opened_dirs, was_clean, image, delta, ledger, joined } = opened;
    let bound = sockets.iter().map(|(name, sockets)| (name.clone(), addresses(sockets))).collect();
    let cluster_id = image.cluster_id().unwrap_or_default().to_string();
    let broker_epoch = image.broker(config.node_id).map_or(-1, |broker| broker.epoch);
    let quorum = joined.as_ref().map(|joined| joined.quorum.clone());

    let routes = Arc::new(Routes::default());
    let (mut arbiters, data_arbiters) = start_arbiters(config.data_arbiter_count()).await;
    let mut dirs = Vec::new();
    let mut found = HashMap::new();
    for (index, dir) in opened_dirs.into_iter().enumerate() {
        let path = format!("broker/journal:{index}");
        census.enter(path, "journal").begin(1, None);
        let (handle, _thread) = journal::start(dir.engine, broker.clone().recipient());
        set_strays_aside(&handle, &dir.logs, &image, config.node_id).await;
        for log in &dir.logs {
            found.insert((log.topic_id, log.partition), index);
        }
        dirs.push(DataDir { journal: handle, replicas: 0 });
    }
    let journals: Vec<_> = dirs.iter().map(|dir| dir.journal.clone()).collect();
    let exit = |name: &'static str| ExitSignal::new(broker.clone().recipient(), name, 1);
    let published = Arc::new(ArcSwap::new(image.clone()));
    let controller = Arc::<Slot<Controller>>::default();
    let peers = joined.as_ref().map(|joined| {
        let handles = data_arbiters.iter().map(|arbiter| arbiter.handle.clone()).collect();
        let (image, me) = (published.clone(), joined.me.clone());
        let peer_manager = PeerManager::new(config.clone(), image, me, census.clone(), handles, exit("peer-manager"));
        Peers { peer_manager: peer_manager.start(), proposer: ProposerHandle::new(published.clone()) }
    });
    if let Some(peers) = &peers {
        let start = InSyncProposerStart {
            node_id: config.node_id,
            image: published.clone(),
            routes: routes.clone(),
            controller: controller.clone(),
        };
        adopt(&broker, proposer_child(start, peers.proposer.clone(), &census)).await?;
    }
    let replica_manager = ReplicaManager::new(ReplicaManagerStart {
        config: config.clone(),
        routes: routes.clone(),
        census: census.clone(),
        arbiters: data_arbiters.clone(),
        dirs,
        found,
        peers,
        entry: census.enter("broker/replica-manager".to_string(), "replica-manager"),
        exit: exit("replica-manager"),
    })
    .start();
    let applied = replica_manager.send(ApplyDelta { image: image.clone(), delta: Arc::new(delta) }).await;
    applied.map_err(|error| StartError::Io(std::io::Error::other(error)))?;
    let coordination = Arbiter::new();
    let coordinators = Arc::new(CoordinatorRoutes::default());
    let coordinator_manager = CoordinatorManager::new(CoordinatorManagerStart {
        config: config.clone(),
        routes: routes.clone(),
        coordinators: coordinators.clone(),
        census: census.clone(),
        arbiter: coordination.handle(),
        image: image.clone(),
        entry: census.enter("broker/coordinator-manager".to_string(), "coordinator-manager"),
        exit: exit("coordinator-manager"),
    })
    .start();
    arbiters.push(coordination);
    let metrics = Metrics {
        peers: joined.as_ref().map(|joined| joined.peers.clone()).unwrap_or_default(),
        refusals: quorum.as_ref().map(|quorum| quorum.refusals.clone()).unwrap_or_default(),
        journals: journals.iter().map(|journal| journal.metrics.clone()).collect(),
        ..Metrics::default()
    };
    let departures = Arc::<Departures>::default();
    let producer_ids = Arc::<ProducerIds>::default();
    let metadata = Metadata {
        published: published.clone(),
        publisher: Arc::default(),
        controller: controller.clone(),
        replica_manager: replica_manager.clone(),
        coordinator_manager: coordinator_manager.clone(),
        first: Some(ledger),
        quorum: quorum.clone(),
        cluster_dir: cluster_dir(&config),
        watching: Watching {
            node_id: config.node_id,
            quorum: quorum.clone(),
            changes: metrics.changes.clone(),
            departures: departures.clone(),
            producer_ids: producer_ids.clone(),
        },
        refusals: metrics.refusals.clone(),
    };
    let publisher = metadata.publisher.clone();
    for child in metadata_children(metadata, &census).into_iter().chain([retention_child(&config, &routes, &census)]) {
        adopt(&broker, child).await?;
    }
    let cleaning = Cleaning::new(CleaningStart {
        config: config.clone(),
        image: published.clone(),
        routes: routes.clone(),
        journals: config.data_dirs.iter().cloned().zip(journals.iter().cloned()).collect(),
        metrics: metrics.cleaner.clone(),
    });
    let (restarts_max, restart_period) = (config.restarts_max, config.restart_period);
    let log_cleaner =
        LogCleaner::new(Arc::new(cleaning), census.clone(), restarts_max, restart_period, exit("log-cleaner")).start();
    let handles: Vec<_> = data_arbiters.iter().map(|arbiter| arbiter.handle.clone()).collect();
    let calls = joined.as_ref().map(|joined| CallLanes::new(joined.me.clone(), published.clone(), handles.clone()));
    let shared = Arc::new(BrokerShared {
        calls,
        remote_partitions: RemotePartitions::default(),
        carried_http: OnceLock::new(),
        replication_quota: ReplicationQuota::of_leaders(config.clone(), published.clone()),
        cluster_id,
        image: published,
        departures,
        routes,
        coordinators,
        controller,
        quorum,
        broker_epoch,
        data_arbiters: handles,
        census: census.clone(),
        metrics,
        // Half each: what slow consumers hold must not keep producers out.
        request_budget: MemoryBudget::new(config.memory_budget_bytes / 2),
        fetch_budget: MemoryBudget::new(config.memory_budget_bytes / 2),
        fetch_bytes_max: config.fetch_bytes_max,
        fetch_sessions: FetchSessions::new(config.fetch_sessions_max),
        producer_ids,
        config: config.clone(),
    });
    let cluster = match joined.zip(config.cluster.as_ref()) {
        None => None,
        Some((joined, cluster)) => {
            let heartbeat = cluster_start::take_part(&joined, cluster, &shared, publisher, &broker).await?;
            Some((joined, heartbeat))
        }
    };
    listen_all(&sockets)?;
    let listeners = start_listeners(&shared, sockets, &data_arbiters, &broker).await?;
    info!("node {} of cluster {} is ready", config.node_id, shared.cluster_id);
    Ok(RunningBroker {
        shared,
        bound,
        was_clean,
        listeners,
        replica_manager,
        coordinator_manager,
        log_cleaner,
        journals,
        arbiters,
        cluster,
        broker,
        failed,
    })
}

impl RunningBroker {
    /// Why the broker cannot go on; pending while it can.
    pub async fn failed(&mut self) -> String {
        match (&mut self.failed).await {
            Ok(reason) => reason,
            Err(_) => "its root actor is gone".to_string(),
        }
    }

    /// For a permanent child that is started when everything else runs: its end is escalated like that of the others.
    pub fn exit_signal(&self, name: &'static str) -> ExitSignal<&'static str> {
        ExitSignal::new(self.broker.clone().recipient(), name, 1)
    }

    /// Stops bottom to top: connections answer what they have begun, replicas stop, journals are closed with the clean mark.
    pub async fn stop(self) -> Result<(), String> {
        self.broker.do_send(Stopping);
        if let Some((_, heartbeat)) = &self.cluster {
            if heartbeat.send(Leave { patience: LEAVE_PATIENCE }).await.unwrap_or(false) {
                self.say_farewell().await;
            } else {
                warn!("the controller did not let this broker go within {LEAVE_PATIENCE:?}: it goes anyway");
            }
        }
        for listener in &self.listeners {
            // An error says that it is gone already.
            let _ = listener.send(Drain { grace: DRAIN_GRACE }).await;
        }
        let _ = self.coordinator_manager.send(StopCoordinators).await;
        let _ = self.replica_manager.send(StopReplicas).await;
        let _ = self.log_cleaner.send(StopCleaning).await;
        let mut closed = Ok(());
        for journal in &self.journals {
            closed = closed.and(journal.close().await);
        }
        if let Some((joined, _)) = &self.cluster {
            joined.stop().await;
        }
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        closed
    }

    /// It leads nothing any more, and says so to its clients for a moment, and who does, before it hangs up on them.
    async fn say_farewell(&self) {
        let me = self.shared.config.node_id;
        let has_successor = self.shared.image.load().brokers().any(|other| other.id != me && !other.fenced);
        if has_successor {
            tokio::time::sleep(FAREWELL).await;
        }
    }
}

async fn start_arbiters(count: usize) -> (Vec<Arbiter>, Vec<DataArbiter>) {
    let mut arbiters = Vec::new();
    let mut data_arbiters = Vec::new();
    for _ in 0..count {
        let arbiter = Arbiter::new();
        let handle = arbiter.handle();
        let dispatcher = RoundDispatcher::start_in_arbiter(&handle, |_| RoundDispatcher::default());
        data_arbiters.push(DataArbiter { handle, dispatcher });
        arbiters.push(arbiter);
    }
    (arbiters, data_arbiters)
}
