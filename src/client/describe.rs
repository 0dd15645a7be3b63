//! What the cluster knows beyond what routing needs: a topic's partitions, page by page, and ACLs.

use capek_wire::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, TopicRequest,
};
use capek_wire::messages::{DescribeAclsRequest, DescribeAclsResponse, DescribeTopicPartitionsRequest};
use capek_wire::{ErrorCode, Str};

use super::cluster::Client;
use super::error::{ClientError, check};

impl Client {
    /// Topics with all their partitions, in the order of their names; those that are not there are left out.
    pub async fn describe_topics(
        &self,
        names: &[String],
    ) -> Result<Vec<DescribeTopicPartitionsResponseTopic>, ClientError> {
        let mut described: Vec<DescribeTopicPartitionsResponseTopic> = Vec::new();
        let mut cursor: Option<Cursor> = None;
        if names.is_empty() {
            return Ok(described);
        }
        let connection = self.any().await?;
        if connection.version::<DescribeTopicPartitionsRequest>().is_err() {
            return self.describe_by_metadata(names).await;
        }
        loop {
            let from = cursor.as_ref().map_or("", |cursor| cursor.topic_name.as_str());
            let wanted = names.iter().filter(|name| name.as_str() >= from);
            let request = DescribeTopicPartitionsRequest {
                topics: wanted.map(|name| TopicRequest { name: Str::from(name) }).collect(),
                cursor: cursor.take(),
                ..Default::default()
            };
            let response = connection.call(&request).await?;
            for topic in response.topics {
                if ErrorCode::from_code(topic.error_code) == ErrorCode::UnknownTopicOrPartition {
                    continue;
                }
                check(connection.whom(), "DescribeTopicPartitions", topic.error_code, None)?;
                match described.last_mut().filter(|last| last.name == topic.name) {
                    Some(last) => last.partitions.extend(topic.partitions),
                    None => described.push(topic),
                }
            }
            match response.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(described),
            }
        }
    }

    /// Older brokers tell less: no eligible leaders outside the ISR.
    async fn describe_by_metadata(
        &self,
        names: &[String],
    ) -> Result<Vec<DescribeTopicPartitionsResponseTopic>, ClientError> {
        let metadata = self.refresh(Some(names)).await?;
        let mut described = Vec::new();
        for name in names {
            let Some(topic) = metadata.topics.get(name).filter(|topic| topic.error == ErrorCode::None) else {
                continue;
            };
            let partition =
                |(index, partition): (&i32, &super::PartitionMetadata)| DescribeTopicPartitionsResponsePartition {
                    partition_index: *index,
                    leader_id: partition.leader,
                    leader_epoch: partition.leader_epoch,
                    replica_nodes: partition.replicas.clone(),
                    isr_nodes: partition.isr.clone(),
                    offline_replicas: partition.offline.clone(),
                    eligible_leader_replicas: None,
                    last_known_elr: None,
                    ..Default::default()
                };
            described.push(DescribeTopicPartitionsResponseTopic {
                name: Some(Str::from(name)),
                topic_id: topic.id,
                is_internal: topic.is_internal,
                partitions: topic.partitions.iter().map(partition).collect(),
                ..Default::default()
            });
        }
        Ok(described)
    }

    /// The ACLs that a filter fits; a broker without an authorizer answers SECURITY_DISABLED.
    pub async fn describe_acls(&self, request: &DescribeAclsRequest) -> Result<DescribeAclsResponse, ClientError> {
        let connection = self.any().await?;
        let response = connection.call(request).await?;
        check(connection.whom(), "DescribeAcls", response.error_code, response.error_message.as_deref())?;
        Ok(response)
    }
}
