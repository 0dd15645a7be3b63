//! ElectLeaders (key 43, versions 0–2): leadership back to the preferred replicas or, from version 1, an unclean election.
//!
//! Null topics mean all; then only what was elected or failed is told of, as Kafka does.

use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::{Command, ElectLeaders, ElectionKind, Image, Outcome, PartitionName};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult, TopicPartitions,
};

use super::{RequestContext, change};
use crate::topics;

/// Versions before this one know one kind of election and no error for the whole.
const KIND_VERSION_MIN: i16 = 1;

pub async fn answer(context: Rc<RequestContext>, request: ElectLeadersRequest, version: i16) -> ElectLeadersResponse {
    let code = if version < KIND_VERSION_MIN { 0 } else { request.election_type };
    let is_for_all = request.topic_partitions.is_none();
    let asked = request.topic_partitions.unwrap_or_else(|| all(&context.broker.image.load()));
    let decided = match ElectionKind::from_code(code) {
        Some(kind) => elect(&context, kind, &asked).await,
        None => Err(Refusal::new(ErrorCode::InvalidRequest, format!("Unknown election type {code}"))),
    };
    let mut response = ElectLeadersResponse::default();
    let mut outcomes = match decided {
        Ok(outcomes) => outcomes.into_iter(),
        Err(refusal) => {
            if version >= KIND_VERSION_MIN && (is_for_all || !asked.is_empty()) {
                response.error_code = refusal.code.code();
            }
            if is_for_all {
                return response;
            }
            let count = asked.iter().map(|topic| topic.partitions.len()).sum();
            vec![Err(refusal); count].into_iter()
        }
    };
    for topic in asked {
        let mut results = Vec::new();
        for partition_id in topic.partitions {
            let outcome = outcomes.next().unwrap_or(Ok(()));
            let is_told = !is_for_all || !is_not_needed(&outcome);
            if is_told {
                let (error_code, error_message) = change::error_of(&outcome);
                results.push(PartitionResult { partition_id, error_code, error_message });
            }
        }
        response.replica_election_results.push(ReplicaElectionResult { topic: topic.topic, partition_result: results });
    }
    response
}

fn is_not_needed(outcome: &Result<(), Refusal>) -> bool {
    matches!(outcome, Err(refusal) if refusal.code == ErrorCode::ElectionNotNeeded)
}

fn all(image: &Image) -> Vec<TopicPartitions> {
    let partitions = |count: usize| (0..count as i32).collect();
    let of = |topic: &std::sync::Arc<capek_state::cluster::Topic>| TopicPartitions {
        topic: Str::from(&*topic.name),
        partitions: partitions(topic.partitions.len()),
    };
    image.topics().map(of).collect()
}

async fn elect(
    context: &RequestContext,
    kind: ElectionKind,
    asked: &[TopicPartitions],
) -> Result<Vec<Result<(), Refusal>>, Refusal> {
    let mut partitions = Vec::new();
    for topic in asked {
        let name = |&partition| PartitionName { topic: topic.topic.to_string(), partition };
        partitions.extend(topic.partitions.iter().map(name));
    }
    let command = Command::ElectLeaders(ElectLeaders { kind, partitions });
    match topics::propose(&context.broker, command).await? {
        Outcome::Each(outcomes) => Ok(outcomes),
        _ => Ok(Vec::new()),
    }
}
