//! What the client knows of the cluster: brokers, topics, leaders.

use std::collections::BTreeMap;

use capek_wire::messages::MetadataResponse;
use capek_wire::{ErrorCode, Uuid};

/// The newest answers to Metadata, by name and id.
#[derive(Clone, Debug, Default)]
pub struct ClusterMetadata {
    pub cluster_id: Option<String>,
    pub controller_id: i32,
    pub brokers: BTreeMap<i32, Broker>,
    pub topics: BTreeMap<String, TopicMetadata>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    pub host: String,
    pub port: u16,
    pub rack: Option<String>,
}

#[derive(Clone, Debug)]
pub struct TopicMetadata {
    pub id: Uuid,
    pub error: ErrorCode,
    pub is_internal: bool,
    /// By index.
    pub partitions: BTreeMap<i32, PartitionMetadata>,
}

#[derive(Clone, Debug)]
pub struct PartitionMetadata {
    pub error: ErrorCode,
    /// Negative where there is none.
    pub leader: i32,
    pub leader_epoch: i32,
    pub replicas: Vec<i32>,
    pub isr: Vec<i32>,
    pub offline: Vec<i32>,
}

impl ClusterMetadata {
    /// Takes over an answer; topics that it does not mention stay as they were.
    pub fn update(&mut self, response: MetadataResponse) {
        self.cluster_id = response.cluster_id.map(|id| id.to_string()).or(self.cluster_id.take());
        self.controller_id = response.controller_id;
        self.brokers = response
            .brokers
            .iter()
            .map(|broker| {
                let (host, rack) = (broker.host.to_string(), broker.rack.as_ref().map(|rack| rack.to_string()));
                (broker.node_id, Broker { host, port: u16::try_from(broker.port).unwrap_or(0), rack })
            })
            .collect();
        for topic in response.topics {
            let Some(name) = topic.name else { continue };
            let partitions = topic.partitions.into_iter().map(|partition| {
                let metadata = PartitionMetadata {
                    error: ErrorCode::from_code(partition.error_code),
                    leader: partition.leader_id,
                    leader_epoch: partition.leader_epoch,
                    replicas: partition.replica_nodes,
                    isr: partition.isr_nodes,
                    offline: partition.offline_replicas,
                };
                (partition.partition_index, metadata)
            });
            let metadata = TopicMetadata {
                id: topic.topic_id,
                error: ErrorCode::from_code(topic.error_code),
                is_internal: topic.is_internal,
                partitions: partitions.collect(),
            };
            self.topics.insert(name.to_string(), metadata);
        }
    }
}
