//! DescribeProducers (key 61, version 0): the idempotent producers that a partition remembers, with their last sequence.

use std::rc::Rc;

use capek_state::partition::ProducerBatch;
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{PartitionIndex, topic_name_problem};
use capek_wire::messages::describe_producers::{
    DescribeProducersRequest, DescribeProducersResponse, PartitionResponse, ProducerState, TopicResponse,
};
use tokio::sync::oneshot;

use super::{RequestContext, leader};
use crate::partition::DescribeProducers;

pub async fn answer(
    context: Rc<RequestContext>,
    request: DescribeProducersRequest,
    _version: i16,
) -> DescribeProducersResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let refusal = refusal(&context, &topic.name);
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition_index in topic.partition_indexes {
            partitions.push(match &refusal {
                Some((code, message)) => failed(partition_index, *code, Some(message.clone())),
                None => match describe(&context, &topic.name, partition_index).await {
                    Ok(producers) => described(partition_index, producers),
                    Err(code) => failed(partition_index, code, None),
                },
            });
        }
        topics.push(TopicResponse { name: topic.name, partitions });
    }
    DescribeProducersResponse { topics, ..Default::default() }
}

/// Why nothing can be said of any partition of this topic.
fn refusal(context: &RequestContext, topic: &str) -> Option<(ErrorCode, Str)> {
    if let Some(problem) = topic_name_problem(topic) {
        return Some((ErrorCode::InvalidTopicException, Str::from(format!("Topic name is invalid: {problem}"))));
    }
    let code = ErrorCode::UnknownTopicOrPartition;
    let is_known = context.broker.image.load().topic_by_name(topic).is_some();
    (!is_known).then(|| (code, Str::from_static(code.message())))
}

async fn describe(
    context: &RequestContext,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Vec<ProducerBatch>, ErrorCode> {
    let route = leader::route(context, topic, partition)?;
    let leader = route.leader.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
    let (reply, producers) = oneshot::channel();
    leader.send(DescribeProducers { reply }).await.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
    producers.await.map_err(|_| ErrorCode::NotLeaderOrFollower)
}

fn described(partition_index: PartitionIndex, producers: Vec<ProducerBatch>) -> PartitionResponse {
    let state = |producer: ProducerBatch| ProducerState {
        producer_id: producer.producer_id,
        producer_epoch: i32::from(producer.epoch),
        last_sequence: producer.last_sequence,
        last_timestamp: producer.timestamp_ms,
        // No transactions: no coordinator has written, none is open.
        coordinator_epoch: -1,
        current_txn_start_offset: -1,
    };
    let active_producers = producers.into_iter().map(state).collect();
    PartitionResponse { partition_index, error_code: 0, error_message: None, active_producers }
}

fn failed(partition_index: PartitionIndex, code: ErrorCode, error_message: Option<Str>) -> PartitionResponse {
    PartitionResponse { partition_index, error_code: code.code(), error_message, active_producers: Vec::new() }
}
