//! The first message each way: who is there, and what both understand.

use serde::{Deserialize, Serialize};

use crate::ids::{BrokerId, Uuid};

/// What this code speaks; a rolling upgrade needs one version that neighbours share.
pub const VERSION_MIN: u16 = 1;
/// See [`VERSION_MIN`].
pub const VERSION_MAX: u16 = 1;

/// The name, among the endpoints of a registered broker, of the one that peers connect to. Clients are never told of it.
pub const PEER_LISTENER: &str = "CAPEK_PEER";

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Lane {
    /// Raft, commands to the controller, heartbeats.
    Control,
    /// Replication.
    Data,
    /// What doors ask for their clients. A broker that does not know this lane hangs up on its hello.
    Calls,
}

/// From the broker that connects.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Hello {
    pub version_min: u16,
    pub version_max: u16,
    /// None: it does not know its cluster yet.
    pub cluster_id: Option<String>,
    pub from: BrokerId,
    /// Whom it believes to have reached.
    pub to: BrokerId,
    /// New with each process.
    pub incarnation: Uuid,
    pub lane: Lane,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum HelloReply {
    Welcome { version: u16, cluster_id: Option<String>, broker: BrokerId, incarnation: Uuid },
    Refused(HelloRefusal),
}

/// Why two brokers do not talk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
pub enum HelloRefusal {
    #[error(
        "it speaks versions {min} to {max} of the peer protocol, which are not ours: upgrade one release at a time"
    )]
    NoCommonVersion { min: u16, max: u16 },
    #[error("it belongs to the cluster {cluster_id}: check capek.cluster.peers, or the data directory")]
    OtherCluster { cluster_id: String },
    #[error("it is broker {broker}, not the one that was looked for: check capek.cluster.peers")]
    OtherBroker { broker: BrokerId },
}

impl Hello {
    /// The highest version that both speak.
    pub fn common_version(&self) -> Result<u16, HelloRefusal> {
        let highest = self.version_max.min(VERSION_MAX);
        if highest >= self.version_min.max(VERSION_MIN) {
            Ok(highest)
        } else {
            Err(HelloRefusal::NoCommonVersion { min: VERSION_MIN, max: VERSION_MAX })
        }
    }
}
