//! DescribeQuorum (key 55, versions 0–2): who decides on the metadata. A broker by itself is a quorum of one.
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
    let view = context.broker.quorum_view();
    let end = |end: u64| i64::try_from(end).unwrap_or(i64::MAX);
    let now_ms = now_ms();
    let replica = |broker: i32| {
        let known = view.replicated.get(&broker).copied();
        // Only the leader knows how far the others are; an end of -1 is Kafka's word for not knowing.
        let own = (broker == context.broker.config.node_id).then_some(view.log_end);
        let log_end = known.or(own);
        let heard = log_end.is_some() && view.controller.is_some();
        ReplicaState {
            replica_id: broker,
            log_end_offset: log_end.map_or(-1, end),
            last_fetch_timestamp: if heard { now_ms } else { -1 },
            last_caught_up_timestamp: if heard && log_end >= Some(view.committed) { now_ms } else { -1 },
            ..Default::default()
        }
    };
    let partition = ResponsePartitionData {
        leader_id: view.controller.unwrap_or(-1),
        leader_epoch: i32::try_from(view.term).unwrap_or(i32::MAX),
        high_watermark: end(view.committed),
        current_voters: view.voters.keys().map(|broker| replica(*broker)).collect(),
        observers: view.observers.keys().map(|broker| replica(*broker)).collect(),
        ..Default::default()
    };
    let topic = ResponseTopicData { topic_name: Str::from_static(METADATA_TOPIC), partitions: vec![partition] };
    let nodes = match version >= NODES_VERSION_MIN {
        true => view.voters.keys().filter_map(|broker| node(context, *broker)).collect(),
        false => Vec::new(),
    };
    DescribeQuorumResponse { topics: vec![topic], nodes, ..Default::default() }
}

/// Where the client that asks reaches this voter.
fn node(context: &RequestContext, broker: i32) -> Option<Node> {
    let image = context.broker.image.load();
    let endpoint = image.broker(broker)?.endpoint(&context.listener.name)?;
    let listener = Listener { name: Str::from(&endpoint.name), host: Str::from(&endpoint.host), port: endpoint.port };
    Some(Node { node_id: broker, listeners: vec![listener] })
}
