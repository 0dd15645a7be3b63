//! A small Kafka client over `capek-wire`: what the command line speaks through, against our broker or any other.
//!
//! [`Connection`] is one socket; [`Client`] knows the cluster, finds leaders and tries again; [`Producer`] and
//! [`Consumer`] stream records; `admin` has the calls that manage topics and configs.

mod admin;
mod cluster;
mod connection;
mod consumer;
mod error;
mod lane;
mod metadata;
mod producer;
mod records;
#[cfg(test)]
mod tests;

pub use admin::{ConfigChange, ConfigEntry, NewTopic, Resource, TopicOutcome};
pub use cluster::{Client, ClientOptions};
pub use connection::{Answer, Connection};
pub use consumer::{Consumer, ConsumerOptions, Fetched};
pub use error::ClientError;
pub use metadata::{PartitionMetadata, TopicMetadata};
pub use producer::{Delivery, Producer, ProducerOptions, ProducerRecord};
pub use records::{OffsetQuery, ProduceCall, read_produced, send_produce};
