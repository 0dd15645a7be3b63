//! What ReplicaManager is told, and what it begins with.

use std::collections::HashMap;
use std::sync::Arc;

use actix::{Addr, ArbiterHandle, Message};
use capek_state::cluster::{Delta, Image};
use capek_wire::ids::TopicId;

use crate::census::{ActorEntry, Census};
use crate::config::BrokerConfig;
use crate::in_sync_proposer::ProposerHandle;
use crate::journal::{JournalHandle, RoundDispatcher};
use crate::peer_manager::PeerManager;
use crate::routes::Routes;
use crate::shared::PartitionKey;
use crate::supervision::ExitSignal;

/// Follow the metadata: start, stop and reconfigure replicas. Answered when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub struct ApplyDelta {
    pub image: Arc<Image>,
    pub delta: Arc<Delta>,
}

/// Stop every replica. Answered when the last has gone.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StopReplicas;

/// A replica could not be kept alive here: its budget is spent, or its log cannot be opened. In a cluster the controller
/// elects another; alone it stays offline until the broker is restarted.
#[derive(Message, Debug, Clone)]
#[rtype(result = "()")]
pub struct ReplicaFailed {
    pub partition: PartitionKey,
    pub reason: String,
}

/// A data arbiter: where partitions and connections live.
#[derive(Clone)]
pub struct DataArbiter {
    pub handle: ArbiterHandle,
    pub dispatcher: Addr<RoundDispatcher>,
}

/// A data directory's journal, and how many replicas it has (a new one goes where there are fewest).
pub struct DataDir {
    pub journal: JournalHandle,
    pub replicas: usize,
}

/// What replicas need of the other brokers.
#[derive(Clone)]
pub struct Peers {
    pub peer_manager: Addr<PeerManager>,
    pub proposer: ProposerHandle,
}

/// What the manager begins with.
pub struct ReplicaManagerStart {
    pub config: Arc<BrokerConfig>,
    pub routes: Arc<Routes>,
    pub census: Census,
    pub arbiters: Vec<DataArbiter>,
    pub dirs: Vec<DataDir>,
    /// The data directory of each log that recovery found.
    pub found: HashMap<(TopicId, i32), usize>,
    pub peers: Option<Peers>,
    pub entry: Arc<ActorEntry>,
    pub exit: ExitSignal<&'static str>,
}
