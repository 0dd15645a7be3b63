//! What can be asked of the controller, and what it answers. Ids and seeds come with the command.

use std::collections::BTreeMap;

use capek_wire::ids::{BrokerId, PartitionIndex, ProducerId, TopicId, Uuid};

use super::record::{ConfigResource, Endpoint, Record};
use crate::Refusal;

/// Something to decide.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
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
}

/// What UpdateFeatures asks, and what this broker can do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpdateFeatures {
    pub broker: BrokerId,
    pub supported: Vec<SupportedFeature>,
    pub updates: Vec<FeatureUpdate>,
}

/// The levels of a feature that a broker can run at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SupportedFeature {
    pub name: &'static str,
    pub lowest: i16,
    pub highest: i16,
}

/// One feature of an UpdateFeatures request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FeatureUpdate {
    pub name: String,
    pub level: i16,
    /// 1 only up, 2 down where nothing is lost, 3 down.
    pub upgrade_type: i8,
}

/// Which replicas may be elected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ElectLeaders {
    pub kind: ElectionKind,
    pub partitions: Vec<PartitionName>,
}

/// A partition as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PartitionName {
    pub topic: String,
    pub partition: PartitionIndex,
}

/// Where the replicas of a partition shall be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reassignment {
    pub name: PartitionName,
    /// None: what is under way shall be taken back.
    pub replicas: Option<Vec<BrokerId>>,
}

/// One topic of a CreateTopics request, or one that is created on first use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Assignment {
    pub partition: PartitionIndex,
    pub brokers: Vec<BrokerId>,
}

/// A topic as a request names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TopicReference {
    Name(String),
    Id(TopicId),
}

/// One topic of a CreatePartitions request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct CreatePartitions {
    pub topic: String,
    /// In all, not more.
    pub count: i32,
    /// Replicas of the new partitions by hand.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
    pub seed: u64,
}

/// Changes to the configuration of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AlterConfigs {
    pub resource: ConfigResource,
    pub operations: Vec<ConfigOperation>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConfigOperation {
    pub name: String,
    pub kind: ConfigOperationKind,
    pub value: Option<String>,
}

/// What to do with the value; the numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
}

/// What follows from a command that was not refused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Decision {
    /// To be committed together, in this order. Empty: everything is as asked already.
    pub records: Vec<Record>,
    pub outcome: Outcome,
    /// For the log: where a configuration could not be followed to the letter.
    pub warnings: Vec<String>,
}

/// What the asker wants to know, true once the records are committed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
    /// Of a command about many partitions, in its order.
    Each(Vec<Result<(), Refusal>>),
}

/// Producer ids that nobody else has or will have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerIdBlock {
    pub first: ProducerId,
    pub count: i32,
}
