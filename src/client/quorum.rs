//! The calls about the quorum: who votes, who leads it, and who shall.

use capek_wire::ErrorCode;
use capek_wire::messages::add_raft_voter::Listener;
use capek_wire::messages::describe_quorum::{PartitionData, ResponsePartitionData, TopicData};
use capek_wire::messages::{
    AddRaftVoterRequest, DescribeQuorumRequest, RemoveRaftVoterRequest, UnregisterBrokerRequest,
};
use capek_wire::{Str, peer::hello::PEER_LISTENER};

use super::cluster::Client;
use super::error::{ClientError, check};

const METADATA_TOPIC: &str = "__cluster_metadata";

impl Client {
    /// As the controller sees it; a broker that is none knows less of how far the voters are.
    pub async fn describe_quorum(&self) -> Result<ResponsePartitionData, ClientError> {
        let connection = self.controller().await?;
        let partitions = vec![PartitionData { partition_index: 0 }];
        let topics = vec![TopicData { topic_name: Str::from_static(METADATA_TOPIC), partitions }];
        let response = connection.call(&DescribeQuorumRequest { topics }).await?;
        check(connection.whom(), "DescribeQuorum", response.error_code, response.error_message.as_deref())?;
        let partition = response.topics.into_iter().flat_map(|topic| topic.partitions).next();
        let unknown = || ResponsePartitionData {
            error_code: ErrorCode::UnknownTopicOrPartition.code(),
            ..ResponsePartitionData::default()
        };
        let partition = partition.unwrap_or_else(unknown);
        check(connection.whom(), "DescribeQuorum", partition.error_code, partition.error_message.as_deref())?;
        Ok(partition)
    }

    pub async fn add_voter(&self, voter_id: i32, host: &str, port: u16) -> Result<(), ClientError> {
        let connection = self.any().await?;
        let listener = Listener { name: Str::from_static(PEER_LISTENER), host: Str::from(host), port };
        let request = AddRaftVoterRequest {
            cluster_id: None,
            timeout_ms: 30_000,
            voter_id,
            listeners: vec![listener],
            ..AddRaftVoterRequest::default()
        };
        let response = connection.call(&request).await?;
        check(connection.whom(), "AddRaftVoter", response.error_code, response.error_message.as_deref())
    }

    pub async fn remove_voter(&self, voter_id: i32) -> Result<(), ClientError> {
        let connection = self.any().await?;
        let response =
            connection.call(&RemoveRaftVoterRequest { cluster_id: None, voter_id, ..Default::default() }).await?;
        check(connection.whom(), "RemoveRaftVoter", response.error_code, response.error_message.as_deref())
    }

    pub async fn unregister_broker(&self, broker_id: i32) -> Result<(), ClientError> {
        let connection = self.any().await?;
        let response = connection.call(&UnregisterBrokerRequest { broker_id }).await?;
        check(connection.whom(), "UnregisterBroker", response.error_code, response.error_message.as_deref())
    }
}
