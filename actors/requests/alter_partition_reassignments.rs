//! AlterPartitionReassignments (key 45, versions 0–1): where the replicas of partitions shall be; null takes back what is
//! under way. Partitions are judged one by one.

use std::rc::Rc;

use capek_state::cluster::{Command, Outcome, PartitionName, Reassignment};
use capek_wire::messages::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopic, ReassignableTopicResponse,
};

use super::{RequestContext, change};
use crate::topics;

pub async fn answer(
    context: Rc<RequestContext>,
    request: AlterPartitionReassignmentsRequest,
    _version: i16,
) -> AlterPartitionReassignmentsResponse {
    let may_change_replication_factor = request.allow_replication_factor_change;
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: may_change_replication_factor,
        ..Default::default()
    };
    if request.topics.is_empty() {
        return response;
    }
    let reassignments = request.topics.iter().flat_map(wishes).collect();
    let command = Command::ReassignPartitions { reassignments, may_change_replication_factor };
    let decided = topics::propose(&context.broker, command).await;
    let mut outcomes = match decided {
        Ok(Outcome::Each(outcomes)) => outcomes.into_iter(),
        Ok(_) => Vec::new().into_iter(),
        Err(refusal) => {
            let (error_code, error_message) = change::error_of::<()>(&Err(refusal));
            return AlterPartitionReassignmentsResponse { error_code, error_message, ..response };
        }
    };
    let mut responses = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let (error_code, error_message) = change::error_of(&outcomes.next().unwrap_or(Ok(())));
            let partition_index = partition.partition_index;
            partitions.push(ReassignablePartitionResponse { partition_index, error_code, error_message });
        }
        responses.push(ReassignableTopicResponse { name: topic.name, partitions });
    }
    AlterPartitionReassignmentsResponse { error_message: None, responses, ..response }
}

fn wishes(topic: &ReassignableTopic) -> impl Iterator<Item = Reassignment> + '_ {
    topic.partitions.iter().map(|partition| Reassignment {
        name: PartitionName { topic: topic.name.to_string(), partition: partition.partition_index },
        replicas: partition.replicas.clone(),
    })
}
