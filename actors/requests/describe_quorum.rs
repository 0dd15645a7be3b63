//! DescribeQuorum (key 55, versions 0–2): who decides on the metadata. With one broker that is a quorum of one.
//!
//! Versions from 1 say when a voter was last heard of, from 2 where it is reached. Anything but the one partition of the
//! metadata log is unknown, and nothing else may be asked beside it.

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::describe_quorum::{
    DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, ReplicaState, ResponsePartitionData,
    ResponseTopicData,
};

use super::RequestContext;
use crate::clock::now_ms;

/// Versions from here tell where the voters are reached.
const NODES_VERSION_MIN: i16 = 2;
const METADATA_TOPIC: &str = "__cluster_metadata";

pub fn answer(context: &RequestContext, request: DescribeQuorumRequest, version: i16) -> DescribeQuorumResponse {
    let is_metadata = match &request.topics[..] {
        [topic] => {
            &*topic.topic_name == METADATA_TOPIC && matches!(&topic.partitions[..], [only] if only.partition_index == 0)
        }
        _ => false,
    };
    if is_metadata {
        return quorum(context, version);
    }
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partitions = topic.partitions.iter().map(|partition| unknown(partition.partition_index)).collect();
        topics.push(ResponseTopicData { topic_name: topic.topic_name, partitions });
    }
    DescribeQuorumResponse { topics, ..Default::default() }
}

fn unknown(partition_index: i32) -> ResponsePartitionData {
    let code = ErrorCode::UnknownTopicOrPartition;
    ResponsePartitionData {
        partition_index,
        error_code: code.code(),
        error_message: Some(Str::from_static(code.message())),
        ..Default::default()
    }
}

fn quorum(context: &RequestContext, version: i16) -> DescribeQuorumResponse {
    let image = context.broker.image.load();
    let node_id = context.broker.config.node_id;
    let log_end_offset = i64::try_from(image.records_applied()).unwrap_or(i64::MAX);
    // This process reigns over the metadata since it registered itself.
    let reign = image.broker(node_id).map_or(0, |broker| broker.epoch);
    let now_ms = now_ms();
    let voter = ReplicaState {
        replica_id: node_id,
        log_end_offset,
        last_fetch_timestamp: now_ms,
        last_caught_up_timestamp: now_ms,
        ..Default::default()
    };
    let partition = ResponsePartitionData {
        leader_id: node_id,
        leader_epoch: i32::try_from(reign).unwrap_or(i32::MAX),
        high_watermark: log_end_offset,
        current_voters: vec![voter],
        ..Default::default()
    };
    let topic = ResponseTopicData { topic_name: Str::from_static(METADATA_TOPIC), partitions: vec![partition] };
    let listener = &context.listener;
    let listener = Listener {
        name: Str::from(&listener.name),
        host: Str::from(&listener.advertised_host),
        port: listener.advertised_port,
    };
    let nodes = match version >= NODES_VERSION_MIN {
        true => vec![Node { node_id, listeners: vec![listener] }],
        false => Vec::new(),
    };
    DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() }
}
