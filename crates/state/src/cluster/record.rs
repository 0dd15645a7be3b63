//! The records of the metadata log. Append-only: a variant that was ever written keeps its place and its fields.
//!
//! ```text
//!   written by   readable from   record
//!   u8           u8              postcard of `Record`
//! ```
//!
//! To change a record, add a variant at the end, with the next version. A reader refuses what says that it needs a newer
//! one, instead of misreading it.

use capek_wire::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, Uuid};
use serde::{Deserialize, Serialize};

/// The newest version that this code understands.
const VERSION: u8 = 2;

/// One fact about the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Record {
    /// The first record of every log.
    ClusterCreated {
        cluster_id: String,
    },
    /// The broker lives, with these endpoints; its epoch fences its earlier lives.
    BrokerRegistered(BrokerRecord),
    BrokerUnregistered {
        broker: BrokerId,
        epoch: i64,
    },
    /// A fenced broker leads nothing and gets no new replicas.
    BrokerFenced {
        broker: BrokerId,
        epoch: i64,
    },
    BrokerUnfenced {
        broker: BrokerId,
        epoch: i64,
    },
    /// A topic exists; its partitions follow.
    Topic {
        topic_id: TopicId,
        name: String,
    },
    /// The state of one partition, whole.
    Partition(PartitionRecord),
    /// The topic, its partitions and its configuration are gone. Its id does not come back.
    TopicDeleted {
        topic_id: TopicId,
    },
    /// None: back to the default.
    ConfigChanged {
        resource: ConfigResource,
        name: String,
        value: Option<String>,
    },
    /// Producer ids below `next` may be in use.
    ProducerIdsAllocated {
        next: ProducerId,
    },
    /// 0: not finalised.
    Feature {
        name: String,
        level: i16,
    },
    /// The broker is about to stop: it leads nothing new until it registers again.
    BrokerInControlledShutdown {
        broker: BrokerId,
        epoch: i64,
    },
    /// The state of one partition, whole, with what only a cluster needs.
    PartitionState(PartitionStateRecord),
    /// The topic had `partitions` partitions until now; those that are added follow. Since version 2.
    TopicGrew {
        topic_id: TopicId,
        partitions: i32,
        at_ms: i64,
    },
}

/// One life of a broker.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BrokerRecord {
    pub broker: BrokerId,
    pub epoch: i64,
    pub incarnation: Uuid,
    pub listeners: Vec<Endpoint>,
    pub rack: Option<String>,
    /// The ids of its data directories.
    pub dirs: Vec<Uuid>,
    pub fenced: bool,
}

/// Where a listener of a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    /// The listener's name: clients are told the address of the listener that they came in on.
    pub name: String,
    pub protocol: String,
    pub host: String,
    pub port: u16,
}

/// Who has a partition, who leads it, who is in sync.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionRecord {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    /// The first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    /// -1: none.
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// The data directory of each replica, zero where it is not chosen yet.
    pub dirs: Vec<Uuid>,
}

/// [`PartitionRecord`] and who may lead besides (KIP-966), what a reassignment adds and removes, whose log is offline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionStateRecord {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub replicas: Vec<BrokerId>,
    pub isr: Vec<BrokerId>,
    pub elr: Vec<BrokerId>,
    pub last_known_elr: Vec<BrokerId>,
    pub leader: BrokerId,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    pub adding: Vec<BrokerId>,
    pub removing: Vec<BrokerId>,
    pub dirs: Vec<Uuid>,
    /// Brokers that live and cannot use their log of it.
    pub offline: Vec<BrokerId>,
}

/// What a configuration belongs to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConfigResource {
    pub kind: ConfigKind,
    /// A topic's name, a broker's id, empty for the default of all brokers.
    pub name: String,
}

/// Kinds of configured things.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ConfigKind {
    Topic,
    Broker,
    Group,
    ClientMetrics,
}

impl ConfigResource {
    pub fn topic(name: impl Into<String>) -> ConfigResource {
        ConfigResource { kind: ConfigKind::Topic, name: name.into() }
    }

    pub fn broker(broker: BrokerId) -> ConfigResource {
        ConfigResource { kind: ConfigKind::Broker, name: broker.to_string() }
    }

    /// The default of all brokers.
    pub fn brokers() -> ConfigResource {
        ConfigResource { kind: ConfigKind::Broker, name: String::new() }
    }
}

/// Bytes that are no record of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("a metadata record is cut short")]
    Truncated,
    #[error("a metadata record needs a reader of version {needed}, this is {VERSION}: start a newer release")]
    TooNew { needed: u8 },
    #[error("a metadata record does not decode: {0}")]
    Malformed(String),
}

impl Record {
    /// The bytes for the metadata log.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = vec![self.version(); 2];
        postcard::to_extend(self, bytes).expect("a record is made of plain data and a vector takes any length")
    }

    /// That in which it was new.
    fn version(&self) -> u8 {
        if matches!(self, Record::TopicGrew { .. }) { 2 } else { 1 }
    }

    /// The record of these bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Record, RecordError> {
        let [_written_by, readable_from, body @ ..] = bytes else {
            return Err(RecordError::Truncated);
        };
        if *readable_from > VERSION {
            return Err(RecordError::TooNew { needed: *readable_from });
        }
        let decoded = postcard::take_from_bytes::<Record>(body);
        let (record, rest) = decoded.map_err(|error| RecordError::Malformed(error.to_string()))?;
        if !rest.is_empty() {
            return Err(RecordError::Malformed(format!("{} bytes follow the record", rest.len())));
        }
        Ok(record)
    }
}
