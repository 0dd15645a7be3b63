//! A small Kafka client over `capek-wire`: what the command line speaks through, against our broker or any other.
//!
//! [`Connection`] is one socket; [`Client`] knows the cluster, finds leaders and tries again; [`Producer`] and
//! [`Consumer`] stream records; `admin` has the calls that manage topics and configs, `groups` those about groups;
//! [`GroupConsumer`] reads as a member of one.

mod admin;
mod assignor;
mod cluster;
mod connection;
mod consumer;
mod describe;
mod error;
mod group_consumer;
mod group_member;
mod groups;
mod lane;
mod metadata;
mod producer;
mod quorum;
mod records;
#[cfg(test)]
mod tests;

pub use admin::{ConfigChange, ConfigEntry, NewTopic, Resource, TopicOutcome};
pub use cluster::{Client, ClientOptions};
pub use connection::{Answer, Connection};
pub use consumer::{Consumer, ConsumerOptions, Fetched};
pub use error::ClientError;
pub use group_consumer::{GroupConsumer, GroupConsumerOptions, OffsetReset};
pub use group_member::{Assignor, MemberOptions};
#[cfg(test)]
pub use groups::CoordinatorAddress;
pub use groups::{Committed, GroupDescription, GroupMember, Place, assigned};
pub use metadata::{ClusterMetadata, PartitionMetadata, TopicMetadata};
pub use producer::{Delivery, Producer, ProducerOptions, ProducerRecord};
pub use records::{OffsetQuery, ProduceCall, read_produced, send_produce};
