//! How a broker of a cluster starts: peers are let in, raft runs, a controller is there, the broker is registered (fenced) and
//! its image has got that far. Then the replicas open, heartbeats begin, and when it is unfenced clients are let in.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actix::{Actor, Addr, Arbiter};
use capek_state::cluster::{Command, Image, Outcome, RegisterBroker, elections_by_file};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Uuid;
use log::{info, warn};
use tokio::sync::{oneshot, watch};

use crate::broker::{Adopt, Broker, BrokerShared, ChildId, StartError};
use crate::broker_children::adopt;
use crate::census::Census;
use crate::children::Slot;
use crate::config::{BrokerConfig, ClusterConfig};
use crate::features;
use crate::heartbeat::{Heartbeat, HeartbeatStart, Standing};
use crate::metadata_publisher::MetadataPublisher;
use crate::peer_listener::{PeerListener, PeerService};
use crate::peer_metrics::PeerMetrics;
use crate::peer_tls::PeerTls;
use crate::peer_transport::PeerIdentity;
use crate::raft;
use crate::raft::control_lane::ControlLanes;
use crate::raft::formation::{self, Place};
use crate::raft::heartbeats::Heartbeats;
use crate::raft::leader_balance;
use crate::raft::messages::ProposeReply;
use crate::raft::publication;
use crate::raft::quorum::{Quorum, QuorumError};
use crate::raft::server::ControlServer;
use crate::supervision::ExitSignal;

/// Between two tries to register.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);
/// The file of a broker that was by itself.
const ALONE_LOG: &str = "metadata.redb";

/// This broker's part in its cluster.
pub struct Joined {
    pub quorum: Arc<Quorum>,
    pub me: Arc<PeerIdentity>,
    pub cluster_id: String,
    /// Where the data lanes find the replicas.
    pub shared: Arc<OnceLock<Arc<BrokerShared>>>,
    pub heartbeats: Arc<Heartbeats>,
    pub peers: Arc<PeerMetrics>,
    pub arbiter: Arbiter,
}

/// From nothing to a known controller and cluster id.
pub async fn join(
    config: &BrokerConfig,
    cluster: &ClusterConfig,
    known_cluster_id: Option<String>,
    sockets: Vec<std::net::TcpListener>,
    broker: &Addr<Broker>,
    census: &Census,
) -> Result<Joined, StartError> {
    let directory = crate::broker_children::cluster_dir(config);
    std::fs::create_dir_all(&directory)?;
    check_directory(&directory)?;
    let is_new = raft::is_new(&directory).map_err(refused)?;
    let me = Arc::new(identity(config, cluster, known_cluster_id)?);
    let control = Arc::new(ControlServer::new(me.clone(), !is_new));
    let service =
        PeerService { me: me.clone(), control: control.clone(), shared: Arc::default(), connections: Arc::default() };
    let (shared, peers) = (service.shared.clone(), control.peers.clone());
    // Raft, its timers and all control lanes are here, and no data.
    let arbiter = Arbiter::new();
    adopt(broker, peer_listener_child(sockets, service, &arbiter, census)).await?;

    let lanes = Arc::new(ControlLanes::new(me.clone()));
    let begin = Begin {
        directory,
        voters: cluster.peers.clone(),
        is_new,
        me: me.clone(),
        lanes,
        cluster_id: config.cluster_id.clone(),
        settings: elections_by_file(&config.properties),
    };
    let peer_lost = control.clone();
    let begun = run_in(&arbiter, async move {
        let quorum = begin.start(&control).await?;
        let cluster_id = begin.wait_for_cluster(&quorum).await?;
        Ok::<_, QuorumError>((quorum, cluster_id))
    });
    let (quorum, cluster_id) = begun.await?.map_err(refused)?;
    me.learn_cluster_id(&cluster_id);
    warn_of_other_voters(&quorum, cluster);

    let heartbeats = Arc::new(Heartbeats::new(quorum.clone(), me.clone(), cluster.session_timeout));
    quorum.set_heartbeats(heartbeats.clone());
    let watching = heartbeats.clone();
    peer_lost.on_peer_lost(Box::new(move |broker, incarnation| watching.peer_lost(broker, incarnation)));
    Ok(Joined { quorum, me, cluster_id, shared, heartbeats, peers, arbiter })
}

/// Who this process is to the other brokers.
fn identity(
    config: &BrokerConfig,
    cluster: &ClusterConfig,
    known_cluster_id: Option<String>,
) -> Result<PeerIdentity, StartError> {
    let me = PeerIdentity::new(config.node_id, Uuid(crate::random::bytes()), known_cluster_id);
    let Some(files) = cluster.tls.clone() else { return Ok(me) };
    Ok(me.with_tls(PeerTls::load(files, &cluster.listener.advertised_host).map_err(refused)?))
}

fn refused(error: impl ToString) -> StartError {
    StartError::Quorum(error.to_string())
}

/// Runs it on that arbiter, and waits for what it gives.
async fn run_in<T: Send + 'static>(
    arbiter: &Arbiter,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, StartError> {
    let (done, outcome) = oneshot::channel();
    arbiter.spawn(async move {
        // Nobody waits only when the process is going down.
        let _ = done.send(work.await);
    });
    outcome.await.map_err(|_| StartError::Quorum("its start panicked".to_owned()))
}

/// A broker by itself does not become a member by a change of its configuration: what it has would be lost.
fn check_directory(directory: &Path) -> Result<(), StartError> {
    if !directory.join(ALONE_LOG).exists() {
        return Ok(());
    }
    Err(StartError::Quorum(format!(
        "{} holds the metadata of a broker by itself, which cannot become a member of a cluster: start it without \
         capek.cluster.peers (and controller.quorum.voters), or give the member a new directory (log.dirs)",
        directory.display()
    )))
}

/// And the other way round.
pub fn check_alone(directory: &Path) -> Result<(), StartError> {
    if !raft::has_log(directory) {
        return Ok(());
    }
    Err(StartError::Quorum(format!(
        "{} belongs to a member of a cluster: set capek.cluster.peers, or give this broker a new directory (log.dirs)",
        directory.display()
    )))
}

fn peer_listener_child(
    sockets: Vec<std::net::TcpListener>,
    service: PeerService,
    arbiter: &Arbiter,
    census: &Census,
) -> Adopt {
    let entry = census.enter("broker/peer-listener".to_string(), "peer-listener");
    let (child_entry, handle) = (entry.clone(), arbiter.handle());
    let start = move |exit| {
        // The sockets stay open between two lives: whoever connects meanwhile is accepted by the next.
        let sockets = sockets.iter().map(std::net::TcpListener::try_clone).collect::<Result<Vec<_>, _>>();
        let sockets = sockets.map_err(|error| error.to_string())?;
        let (service, entry) = (service.clone(), child_entry.clone());
        PeerListener::start_in_arbiter(&handle, move |_| {
            let register = |socket| {
                let registered = tokio::net::TcpListener::from_std(socket);
                registered.expect("a bound socket can be registered with its arbiter")
            };
            PeerListener::new(sockets.into_iter().map(register).collect(), service, entry, exit)
        });
        Ok(())
    };
    Adopt { id: ChildId::PeerListener, entry, start: Box::new(start) }
}

/// What raft begins with.
struct Begin {
    directory: std::path::PathBuf,
    voters: BTreeMap<i32, String>,
    is_new: bool,
    me: Arc<PeerIdentity>,
    lanes: Arc<ControlLanes>,
    cluster_id: Option<String>,
    /// What this broker's file says about elections: the cluster that it begins goes by it.
    settings: Option<Command>,
}

impl Begin {
    async fn start(&self, control: &ControlServer) -> Result<Arc<Quorum>, QuorumError> {
        let place = match self.is_new {
            true => Some(formation::find_place(&self.me, &self.voters, &self.lanes).await?),
            false => None,
        };
        if let Some(Place::Join(Some(cluster_id))) = &place {
            info!("joining the cluster {cluster_id}");
        }
        let quorum = Quorum::start(&self.directory, self.me.broker, self.lanes.clone()).await?;
        control.set_quorum(quorum.clone());
        if place == Some(Place::Begin) {
            quorum.begin(self.voters.clone()).await?;
        }
        Ok(quorum)
    }

    /// The first controller names the cluster.
    async fn wait_for_cluster(&self, quorum: &Arc<Quorum>) -> Result<String, QuorumError> {
        let naming = async {
            loop {
                if quorum.is_controller() && quorum.image().cluster_id().is_none() {
                    self.name_the_cluster(quorum).await;
                }
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
        };
        let cluster_id = tokio::select! {
            (_, cluster_id) = formation::wait_for_controller(quorum) => cluster_id,
            () = naming => unreachable!("it goes on for ever"),
            problem = quorum.failed() => return Err(QuorumError::Raft(problem)),
        };
        let expected = self.cluster_id.as_deref().or(self.me.cluster_id());
        match expected.filter(|expected| *expected != cluster_id) {
            None => Ok(cluster_id),
            Some(expected) => Err(QuorumError::Refused(format!(
                "the cluster that capek.cluster.peers leads to is {cluster_id}, but this broker belongs to {expected} \
                 (CLUSTER_ID or meta.properties)"
            ))),
        }
    }

    async fn name_the_cluster(&self, quorum: &Quorum) {
        let cluster_id = self.cluster_id.clone().unwrap_or_else(|| Uuid(crate::random::bytes()).to_string());
        if let ProposeReply::Decided { .. } = quorum.decide_here(Command::CreateCluster { cluster_id }).await {
            for command in features::undecided(&quorum.image()).into_iter().chain(self.settings.clone()) {
                quorum.decide_here(command).await;
            }
        }
    }
}

/// What is stored is what counts; a configuration that says something else is not followed.
fn warn_of_other_voters(quorum: &Quorum, cluster: &ClusterConfig) {
    let stored = quorum.view().voters;
    if !stored.is_empty() && stored != cluster.peers {
        let list = |voters: &BTreeMap<i32, String>| {
            voters.iter().map(|(broker, address)| format!("{broker}@{address}")).collect::<Vec<_>>().join(",")
        };
        warn!(
            "capek.cluster.peers is {}, but the voters of the quorum are {}: they are not changed by a configuration. \
             See 'capek cluster status'",
            list(&cluster.peers),
            list(&stored)
        );
    }
}

/// Registers this process, fenced; gives an image that has it.
pub async fn register(joined: &Joined, mut register: RegisterBroker) -> Result<Arc<Image>, StartError> {
    loop {
        // Looked up for each try: an image that lags is told so, and a try that comes late takes nobody's place.
        let known = joined.quorum.image().broker(register.broker).map(|known| known.epoch);
        register.previous_epoch = Some(known.unwrap_or(-1));
        let (quorum, command) = (joined.quorum.clone(), Command::RegisterBroker(register.clone()));
        let proposed = run_in(&joined.arbiter, async move { quorum.propose_at_start(command).await }).await?;
        match proposed {
            Ok(Outcome::BrokerRegistered { .. }) => return Ok(joined.quorum.image()),
            Ok(other) => {
                return Err(StartError::Quorum(format!("the controller answered a registration with {other:?}")));
            }
            Err(refusal) if is_passing(refusal.code) => {
                warn!("this broker is not registered yet: {refusal}");
                tokio::time::sleep(REGISTER_AGAIN).await;
            }
            Err(refusal) => return Err(StartError::Metadata(refusal)),
        }
    }
}

fn is_passing(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::NotController | ErrorCode::RequestTimedOut | ErrorCode::StaleBrokerEpoch)
}

/// Everything else runs: the image is published from now on, heartbeats begin, data lanes are served. Returns when the
/// controller counts on this broker.
pub async fn take_part(
    joined: &Joined,
    cluster: &ClusterConfig,
    shared: &Arc<BrokerShared>,
    publisher: Arc<Slot<MetadataPublisher>>,
    broker: &Addr<Broker>,
) -> Result<Arc<Slot<Heartbeat>>, StartError> {
    watch_raft(joined, broker);
    joined.arbiter.spawn(publication::run(joined.quorum.clone(), publisher));
    joined.arbiter.spawn(joined.heartbeats.clone().watch());
    joined.arbiter.spawn(leader_balance::run(joined.quorum.clone(), shared.config.clone()));
    let _ = joined.shared.set(shared.clone());
    let (standing, mut stands) = watch::channel(Standing::Fenced);
    let start = HeartbeatStart {
        quorum: joined.quorum.clone(),
        here: joined.heartbeats.clone(),
        broker: shared.config.node_id,
        epoch: shared.broker_epoch,
        interval: cluster.heartbeat_interval,
        standing,
    };
    let heartbeat = Arc::<Slot<Heartbeat>>::default();
    let entry = shared.census.enter("broker/heartbeat".to_string(), "heartbeat");
    let (slot, handle, child_entry) = (heartbeat.clone(), joined.arbiter.handle(), entry.clone());
    let start_heartbeat = move |exit| {
        let (start, entry) = (start.clone(), child_entry.clone());
        slot.set(Heartbeat::start_in_arbiter(&handle, move |_| Heartbeat::new(start, entry, exit)));
        Ok(())
    };
    adopt(broker, Adopt { id: ChildId::Heartbeat, entry, start: Box::new(start_heartbeat) }).await?;
    match stands.wait_for(|standing| *standing != Standing::Fenced).await.as_deref() {
        Ok(Standing::Active) => Ok(heartbeat),
        _ => Err(StartError::Quorum(format!("another process has registered as broker {}", shared.config.node_id))),
    }
}

impl Joined {
    /// Raft ends; whatever it said is on the disk.
    pub async fn stop(&self) {
        let quorum = self.quorum.clone();
        // An error says that its arbiter is gone already.
        let _ = run_in(&self.arbiter, async move { quorum.stop().await }).await;
        self.arbiter.stop();
    }
}

/// When raft cannot go on, neither can the broker: what it was told to keep may not be kept.
fn watch_raft(joined: &Joined, broker: &Addr<Broker>) {
    let quorum = joined.quorum.clone();
    let mut exit = ExitSignal::new(broker.clone().recipient(), "the quorum", 1);
    joined.arbiter.spawn(async move {
        let problem = quorum.failed().await;
        warn!("the quorum ends: {problem}");
        exit.give_up();
    });
}
