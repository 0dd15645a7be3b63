//! Broker: the root supervisor. It starts everything in order, stops it in the reverse order, and is where escalation ends.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, Arbiter, AsyncContext, Context, Handler, Message};
use arc_swap::ArcSwap;
use capek_log::vfs::RealVfs;
use capek_log::{JournalOptions, LogId, LogSpec, OpenError};
use capek_state::Refusal;
use capek_state::cluster::{Command, Delta, Endpoint, Image, PartitionRecord, Record, RegisterBroker, decide};
use capek_state::config::Flush;
use capek_wire::ids::Uuid;
use log::{error, info, warn};
use tokio::sync::oneshot;

use crate::broker_children::{Metadata, adopt, cluster_dir, metadata_children, retention_child, start_listeners};
use crate::budget::MemoryBudget;
use crate::census::{ActorEntry, Census, Chaos, bring_about};
use crate::children::{Children, Slot, StartChild};
use crate::cleaning::{Cleaning, CleaningStart};
use crate::config::{BrokerConfig, ListenerConfig};
use crate::controller::Controller;
use crate::coordinator_manager::{CoordinatorManager, CoordinatorManagerStart, StopCoordinators};
use crate::coordinator_routes::CoordinatorRoutes;
use crate::features;
use crate::fetch_sessions::FetchSessions;
use crate::journal::{self, JournalFailed, JournalHandle, RoundDispatcher};
use crate::listener::{Drain, Listener};
use crate::log_cleaner::{LogCleaner, StopCleaning};
use crate::meta_log::{MetaLog, MetaLogError};
use crate::metrics::Metrics;
use crate::replica_manager::{ApplyDelta, DataArbiter, DataDir, ReplicaManager, ReplicaManagerStart, StopReplicas};
use crate::routes::Routes;
use crate::sockets::{addresses, bind_all, with_bound_ports};
use crate::supervision::{ChildExited, ExitCause, ExitSignal, Verdict};

/// What every request may read: the published state of this broker.
pub struct BrokerShared {
    pub config: Arc<BrokerConfig>,
    pub cluster_id: String,
    pub image: Arc<ArcSwap<Image>>,
    pub routes: Arc<Routes>,
    pub coordinators: Arc<CoordinatorRoutes>,
    pub controller: Arc<Slot<Controller>>,
    pub census: Census,
    pub metrics: Metrics,
    /// For frames: from their first byte until every partition has answered.
    pub request_budget: MemoryBudget,
    /// For what fetches hold until the client has taken it.
    pub fetch_budget: MemoryBudget,
    pub fetch_bytes_max: usize,
    pub fetch_sessions: FetchSessions,
    pub producer_ids: crate::producer_ids::ProducerIds,
}

/// Why a broker cannot start; each is a sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0}")]
    DataDirectory(#[from] OpenError),
    #[error("{0}")]
    MetaLog(#[from] MetaLogError),
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
    broker: Addr<Broker>,
    failed: oneshot::Receiver<String>,
}

/// How long connections may take to answer what they have begun, at a stop.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// The children that are started again when they end; that of any other stops the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChildId {
    MetadataPublisher,
    Controller,
    Retention,
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

    let opened = open_data(&config)?;
    let sockets = match bind_all(&config.listeners) {
        Ok(sockets) => sockets,
        Err(error) => {
            close_unused(opened.dirs);
            return Err(error);
        }
    };
    let config = Arc::new(with_bound_ports(config, &sockets));
    let bound = sockets.iter().map(|(name, sockets)| (name.clone(), addresses(sockets))).collect();
    let (image, delta, meta_log) = register(&config, opened.meta_log, opened.image, opened.delta, opened.was_clean)?;
    let cluster_id = image.cluster_id().unwrap_or_default().to_string();

    let routes = Arc::new(Routes::default());
    let (mut arbiters, data_arbiters) = start_arbiters(config.data_arbiter_count()).await;
    let mut dirs = Vec::new();
    let mut found = HashMap::new();
    for (index, dir) in opened.dirs.into_iter().enumerate() {
        let path = format!("broker/journal:{index}");
        census.enter(path, "journal").begin(1, None);
        let (handle, _thread) = journal::start(dir.engine, broker.clone().recipient());
        remove_strays(&handle, &dir.logs, &image).await;
        for log in &dir.logs {
            found.insert((log.topic_id, log.partition), index);
        }
        dirs.push(DataDir { journal: handle, replicas: 0 });
    }
    let journals: Vec<_> = dirs.iter().map(|dir| dir.journal.clone()).collect();
    let exit = |name: &'static str| ExitSignal::new(broker.clone().recipient(), name, 1);
    let replica_manager = ReplicaManager::new(ReplicaManagerStart {
        config: config.clone(),
        routes: routes.clone(),
        census: census.clone(),
        arbiters: data_arbiters.clone(),
        dirs,
        found,
        entry: census.enter("broker/replica-manager".to_string(), "replica-manager"),
        exit: exit("replica-manager"),
    })
    .start();
    let image = Arc::new(image);
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
    let published = Arc::new(ArcSwap::new(image.clone()));
    let controller = Arc::<Slot<Controller>>::default();
    let metadata = Metadata {
        published: published.clone(),
        publisher: Arc::default(),
        controller: controller.clone(),
        replica_manager: replica_manager.clone(),
        coordinator_manager: coordinator_manager.clone(),
        first: Some((meta_log, Image::clone(&image))),
        cluster_dir: cluster_dir(&config),
    };
    for child in metadata_children(metadata, &census).into_iter().chain([retention_child(&config, &routes, &census)]) {
        adopt(&broker, child).await?;
    }
    let metrics = Metrics::default();
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
    let shared = Arc::new(BrokerShared {
        cluster_id,
        image: published,
        routes,
        coordinators,
        controller,
        census: census.clone(),
        metrics,
        // Half each: what slow consumers hold must not keep producers out.
        request_budget: MemoryBudget::new(config.memory_budget_bytes / 2),
        fetch_budget: MemoryBudget::new(config.memory_budget_bytes / 2),
        fetch_bytes_max: config.fetch_bytes_max,
        fetch_sessions: FetchSessions::new(config.fetch_sessions_max),
        producer_ids: Default::default(),
        config: config.clone(),
    });
    let listeners = start_listeners(&shared, sockets, &data_arbiters, &broker).await?;
    info!("node {} of cluster {} is ready", config.node_id, shared.cluster_id);
    Ok(RunningBroker {
        shared,
        bound,
        was_clean: opened.was_clean,
        listeners,
        replica_manager,
        coordinator_manager,
        log_cleaner,
        journals,
        arbiters,
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
        for arbiter in &self.arbiters {
            arbiter.stop();
        }
        closed
    }
}

struct OpenedDir {
    engine: capek_log::Journal,
    logs: Vec<LogId>,
}

struct Opened {
    dirs: Vec<OpenedDir>,
    meta_log: MetaLog,
    image: Image,
    delta: Delta,
    was_clean: bool,
}

/// Opens (and if need be recovers) every data directory, and replays the metadata log.
fn open_data(config: &BrokerConfig) -> Result<Opened, StartError> {
    let vfs = Arc::new(RealVfs);
    let known = config.data_dirs.iter().find_map(|dir| cluster_id_of(dir));
    let cluster_id = config.cluster_id.clone().or(known).unwrap_or_else(|| Uuid(crate::random::bytes()).to_string());
    let mut dirs = Vec::new();
    let mut was_clean = true;
    for path in &config.data_dirs {
        let options = JournalOptions {
            file_bytes: config.journal_file_bytes,
            ..JournalOptions::new(path, config.node_id, &cluster_id)
        };
        let (engine, recovery) = capek_log::Journal::open(vfs.clone(), options)?;
        was_clean &= recovery.clean;
        for log in recovery.logs.iter().filter(|log| log.damaged.is_some()) {
            let reason = log.damaged.as_deref().unwrap_or_default();
            error!("{}-{} is damaged: {reason}", log.id.topic, log.id.partition);
        }
        if !recovery.clean {
            info!("{}: recovered, {} journal entries replayed", path.display(), recovery.replayed_entries);
        }
        dirs.push(OpenedDir { engine, logs: recovery.logs.into_iter().map(|log| log.id).collect() });
    }
    let (mut meta_log, records) = MetaLog::open(&cluster_dir(config))?;
    let mut image = Image::default();
    let mut delta = Delta::default();
    for record in &records {
        image.apply_into(record, &mut delta);
    }
    if records.is_empty() {
        change(&mut meta_log, &mut image, &mut delta, &Command::CreateCluster { cluster_id })?;
    }
    Ok(Opened { dirs, meta_log, image, delta, was_clean })
}

/// The cluster that a directory belongs to, if it was used before; `Journal::open` checks the file in full.
fn cluster_id_of(dir: &Path) -> Option<String> {
    let properties = std::fs::read_to_string(dir.join("meta.properties")).ok()?;
    properties.lines().find_map(|line| line.strip_prefix("cluster.id=")).map(|id| id.trim().to_string())
}

/// A change of metadata before there is a controller to ask.
fn change(log: &mut MetaLog, image: &mut Image, delta: &mut Delta, command: &Command) -> Result<(), StartError> {
    let decision = decide(image, command).map_err(StartError::Metadata)?;
    log.append(&decision.records)?;
    for record in &decision.records {
        image.apply_into(record, delta);
    }
    Ok(())
}

/// This process is the broker of this id from now on, with these listeners.
fn register(
    config: &BrokerConfig,
    mut meta_log: MetaLog,
    mut image: Image,
    mut delta: Delta,
    was_clean: bool,
) -> Result<(Image, Delta, MetaLog), StartError> {
    let endpoint = |listener: &ListenerConfig| Endpoint {
        name: listener.name.clone(),
        protocol: listener.protocol.clone(),
        host: listener.advertised_host.clone(),
        port: listener.advertised_port,
    };
    let command = Command::RegisterBroker(RegisterBroker {
        broker: config.node_id,
        incarnation: Uuid(crate::random::bytes()),
        listeners: config.listeners.iter().map(endpoint).collect(),
        rack: config.rack.clone(),
        dirs: Vec::new(),
        fenced: false,
        previous_is_gone: true, // the lock of the data directory says so
    });
    change(&mut meta_log, &mut image, &mut delta, &command)?;
    for command in features::undecided(&image) {
        change(&mut meta_log, &mut image, &mut delta, &command)?;
    }
    if !was_clean {
        let bumped = bumped_async_partitions(config, &image);
        meta_log.append(&bumped)?;
        bumped.iter().for_each(|record| image.apply_into(record, &mut delta));
    }
    Ok((image, delta, meta_log))
}

/// An `async` log may have lost what its readers saw: a new leader epoch, before the first append, tells them so (KIP-320).
fn bumped_async_partitions(config: &BrokerConfig, image: &Image) -> Vec<Record> {
    let mut bumped = Vec::new();
    for topic in image.topics() {
        let flush = image.topic_config(&topic.name, config.node_id, &config.properties).flush;
        if flush != Flush::Async {
            continue;
        }
        for (index, partition) in topic.partitions.iter().enumerate() {
            bumped.push(Record::Partition(PartitionRecord {
                topic_id: topic.id,
                partition: index as i32,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                leader: partition.leader,
                leader_epoch: partition.leader_epoch + 1,
                partition_epoch: partition.partition_epoch + 1,
                dirs: partition.dirs.clone(),
            }));
        }
    }
    bumped
}

/// A topic was deleted, and the process ended before its directories were: finish that.
async fn remove_strays(journal: &JournalHandle, logs: &[LogId], image: &Image) {
    let is_known = |log: &&LogId| image.partition(log.topic_id, log.partition).is_some();
    let strays: Vec<_> = logs.iter().filter(|log| !is_known(log)).cloned().collect();
    if strays.is_empty() {
        return;
    }
    warn!("deleting {} partition directories whose topic is gone", strays.len());
    let specs = strays.into_iter().map(|id| LogSpec { id, config: Default::default() }).collect();
    for log in journal.create(specs).await.into_iter().flatten() {
        journal.delete(&log).await;
    }
}

/// The start fails after the directories were opened: they were not changed, so the clean mark comes back.
fn close_unused(dirs: Vec<OpenedDir>) {
    for dir in dirs {
        if let Err(error) = dir.engine.close() {
            warn!("a data directory was not closed cleanly: {error}");
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
