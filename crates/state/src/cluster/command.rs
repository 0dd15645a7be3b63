//! What can be asked of the controller, and what it answers. Ids and seeds come with the command.

use std::borrow::Cow;
use std::collections::BTreeMap;

use capek_wire::ids::{BrokerId, LeaderEpoch, PartitionIndex, ProducerId, TopicId, Uuid};
use serde::{Deserialize, Serialize};

use super::record::{ConfigResource, Endpoint, Record};
use crate::Refusal;

/// Something to decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Command {
    /// The first of all.
    CreateCluster {
        cluster_id: String,
    },
    CreateTopic(CreateTopic),
    DeleteTopic(TopicReference),
    CreatePartitions(CreatePartitions),
    /// IncrementalAlterConfigs for one resource.
    AlterConfigs(AlterConfigs),
    /// AlterConfigs, the legacy one: what is not named goes back to its default.
    ReplaceConfigs {
        resource: ConfigResource,
        configs: BTreeMap<String, Option<String>>,
    },
    /// A block of producer ids for one broker.
    AllocateProducerIds {
        broker: BrokerId,
    },
    RegisterBroker(RegisterBroker),
    UnregisterBroker {
        broker: BrokerId,
        /// The life that whoever asks has seen: one that begins meanwhile is not meant.
        epoch: i64,
    },
    FenceBroker {
        broker: BrokerId,
        epoch: i64,
    },
    UnfenceBroker {
        broker: BrokerId,
        epoch: i64,
    },
    /// 0 takes it back.
    SetFeature {
        name: String,
        level: i16,
    },
    UpdateFeatures(UpdateFeatures),
    ElectLeaders(ElectLeaders),
    ReassignPartitions {
        reassignments: Vec<Reassignment>,
        may_change_replication_factor: bool,
    },
    /// The broker is about to stop: others shall lead what it leads.
    ControlledShutdown {
        broker: BrokerId,
        epoch: i64,
    },
    /// Leaders say who is in sync.
    AlterPartitions(AlterPartitions),
    /// Replicas of a living broker are offline: their logs cannot be used there.
    ReplicasFailed {
        broker: BrokerId,
        broker_epoch: i64,
        partitions: Vec<(TopicId, PartitionIndex)>,
    },
    /// The opposite of `ReplicasFailed`.
    ReplicasBack {
        broker: BrokerId,
        broker_epoch: i64,
        partitions: Vec<(TopicId, PartitionIndex)>,
    },
}

/// Kafka's AlterPartition: the in-sync sets that one broker's leaders propose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AlterPartitions {
    pub broker: BrokerId,
    pub broker_epoch: i64,
    pub partitions: Vec<AlterPartition>,
}

/// One leader's proposal about the record of this partition epoch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AlterPartition {
    pub topic_id: TopicId,
    pub partition: PartitionIndex,
    pub leader_epoch: LeaderEpoch,
    pub partition_epoch: i32,
    /// With the epoch of each broker (KIP-903).
    pub isr: Vec<(BrokerId, i64)>,
}

/// What UpdateFeatures asks, and what this broker can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct UpdateFeatures {
    pub broker: BrokerId,
    pub supported: Vec<SupportedFeature>,
    pub updates: Vec<FeatureUpdate>,
}

/// The levels of a feature that a broker can run at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SupportedFeature {
    pub name: Cow<'static, str>,
    pub lowest: i16,
    pub highest: i16,
}

/// One feature of an UpdateFeatures request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    /// 1 only up, 2 down where nothing is lost, 3 down.
    pub upgrade_type: i8,
}

/// Which replicas may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ElectionKind {
    /// The first replica, if it is in sync.
    Preferred,
    /// Any that lives, where there is no leader.
    Unclean,
}

impl ElectionKind {
    /// From ElectLeaders.
    pub fn from_code(code: i8) -> Option<ElectionKind> {
        match code {
            0 => Some(ElectionKind::Preferred),
            1 => Some(ElectionKind::Unclean),
            _ => None,
        }
    }
}

/// Elections of one kind, each judged by itself.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ElectLeaders {
    pub kind: ElectionKind,
    pub partitions: Vec<PartitionName>,
}

/// A partition as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PartitionName {
    pub topic: String,
    pub partition: PartitionIndex,
}

/// Where the replicas of a partition shall be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Reassignment {
    pub name: PartitionName,
    /// None: what is under way shall be taken back.
    pub replicas: Option<Vec<BrokerId>>,
}

/// One topic of a CreateTopics request, or one that is created on first use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreateTopic {
    pub name: String,
    /// New, never used before.
    pub id: TopicId,
    /// -1: as `defaults` say.
    pub partitions: i32,
    /// -1: as `defaults` say.
    pub replication_factor: i16,
    /// Replicas by hand; then both numbers above must be -1.
    pub assignments: Vec<Assignment>,
    pub configs: Vec<(String, Option<String>)>,
    pub defaults: TopicDefaults,
    /// Where the placement begins.
    pub seed: u64,
}

/// What the broker's configuration says about new topics: `num.partitions` and `default.replication.factor`, or
/// `offsets.topic.num.partitions` and its like for internal ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TopicDefaults {
    pub partitions: i32,
    pub replication_factor: i16,
}

impl Default for TopicDefaults {
    fn default() -> TopicDefaults {
        TopicDefaults { partitions: 1, replication_factor: 1 }
    }
}

/// The replicas of one partition, the preferred leader first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Assignment {
    pub partition: PartitionIndex,
    pub brokers: Vec<BrokerId>,
}

/// A topic as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TopicReference {
    Name(String),
    Id(TopicId),
}

/// One topic of a CreatePartitions request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CreatePartitions {
    pub topic: String,
    /// In all, not more.
    pub count: i32,
    /// Replicas of the new partitions by hand.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
    pub seed: u64,
    pub now_ms: i64,
}

/// Changes to the configuration of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AlterConfigs {
    pub resource: ConfigResource,
    pub operations: Vec<ConfigOperation>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConfigOperation {
    pub name: String,
    pub kind: ConfigOperationKind,
    pub value: Option<String>,
}

/// What to do with the value; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ConfigOperationKind {
    Set,
    Delete,
    Append,
    Subtract,
}

impl ConfigOperationKind {
    /// From IncrementalAlterConfigs.
    pub fn from_code(code: i8) -> Option<ConfigOperationKind> {
        match code {
            0 => Some(ConfigOperationKind::Set),
            1 => Some(ConfigOperationKind::Delete),
            2 => Some(ConfigOperationKind::Append),
            3 => Some(ConfigOperationKind::Subtract),
            _ => None,
        }
    }
}

/// A broker says that it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RegisterBroker {
    pub broker: BrokerId,
    /// New with each process, the same in a retry.
    pub incarnation: Uuid,
    pub listeners: Vec<Endpoint>,
    pub rack: Option<String>,
    pub dirs: Vec<Uuid>,
    pub fenced: bool,
    /// Whoever asks knows that the earlier process of this id is gone (it holds the lock of the data directory).
    pub previous_is_gone: bool,
    /// The epoch of the registration before, as far as whoever asks knows; -1: there is none. Another one came between, so this
    /// is late: its process may be gone already. None: not known.
    pub previous_epoch: Option<i64>,
    /// Its last life ended without a sync of everything: topics with `flush=async` may have lost records there.
    pub unclean: bool,
    /// Where its log was found damaged, or cut below what it had promised.
    pub damaged: Vec<(TopicId, PartitionIndex)>,
}

/// What follows from a command that was not refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Decision {
    /// To be committed together, in this order. Empty: everything is as asked already.
    pub records: Vec<Record>,
    pub outcome: Outcome,
    /// For the log: where a configuration could not be followed to the letter.
    pub warnings: Vec<String>,
}

/// What the asker wants to know, true once the records are committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    #[default]
    Done,
    TopicCreated {
        topic_id: TopicId,
        partitions: i32,
        replication_factor: i16,
    },
    TopicDeleted {
        topic_id: TopicId,
        name: String,
    },
    ProducerIds(ProducerIdBlock),
    BrokerRegistered {
        epoch: i64,
    },
    /// So many of its partitions have no other leader yet, but a replica that lives and may catch up.
    StillLeading {
        count: usize,
    },
    /// Of a command about many partitions, in its order.
    Each(Vec<Result<(), Refusal>>),
}

/// Producer ids that nobody else has or will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: i32,
}
