//! The cluster's metadata: what is decided once and known to every broker.
//!
//! ```text
//!   Command ──decide(image)──▶ Records ──committed to the metadata log──▶ Image::apply ──▶ Delta
//!      │                                                                    (live and at reload alike)
//!      └──▶ Refusal: Kafka's error code and message
//! ```
//!
//! Topics, partitions, configurations, producer-id blocks and brokers change only by records applied to an image.

mod broker_commands;
mod chunked_map;
mod command;
mod config_commands;
mod decide;
mod delta;
mod delta_between;
mod election_rules;
mod feature_commands;
mod image;
mod image_records;
mod in_sync_commands;
mod partition_change;
pub mod placement;
mod preferred_leaders;
mod read_replica;
mod record;
mod replica_commands;
mod topic_commands;

pub use command::{
    AlterConfigs, AlterPartition, AlterPartitions, Assignment, Command, ConfigOperation, ConfigOperationKind,
    CreatePartitions, CreateTopic, Decision, ElectLeaders, ElectionKind, FeatureUpdate, Outcome, PartitionName,
    ProducerIdBlock, Reassignment, RegisterBroker, SupportedFeature, TopicDefaults, TopicReference, UpdateFeatures,
};
pub use decide::{PRODUCER_ID_BLOCK, decide};
pub use delta::Delta;
pub use election_rules::elections_by_file;
pub use image::{Broker, FORMER_COUNTS_MAX, FormerCount, Image, Partition, Topic};
pub use preferred_leaders::preferred_leaders_to_return;
pub use read_replica::{ReplicaView, nearest_follower};
pub use record::{
    BrokerRecord, ConfigKind, ConfigResource, Endpoint, PartitionRecord, PartitionStateRecord, Record, RecordError,
};
pub use topic_commands::CLUSTER_METADATA_TOPIC;
