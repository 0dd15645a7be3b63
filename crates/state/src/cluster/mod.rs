//! The cluster's metadata: what is decided once and known to every broker.
//!
//! ```text
//!   Command ──decide(image)──▶ Records ──committed to the metadata log──▶ Image::apply ──▶ Delta
//!      │                                                                    (live and at reload alike)
//!      └──▶ Refusal: Kafka's error code and message
//! ```
//!
//! Topics, partitions, configurations, producer-id blocks and brokers change only by records applied to an image.

mod chunked_map;
mod command;
mod config_commands;
mod decide;
mod delta;
mod feature_commands;
mod image;
pub mod placement;
mod record;
mod replica_commands;
mod topic_commands;

pub use command::{
    AlterConfigs, Assignment, Command, ConfigOperation, ConfigOperationKind, CreatePartitions, CreateTopic, Decision,
    ElectLeaders, ElectionKind, FeatureUpdate, Outcome, PartitionName, ProducerIdBlock, Reassignment, RegisterBroker,
    SupportedFeature, TopicDefaults, TopicReference, UpdateFeatures,
};
pub use decide::{PRODUCER_ID_BLOCK, decide};
pub use delta::Delta;
pub use image::{Broker, Image, Partition, Topic};
pub use record::{BrokerRecord, ConfigKind, ConfigResource, Endpoint, PartitionRecord, Record, RecordError};
