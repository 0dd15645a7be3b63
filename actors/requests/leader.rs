//! Where a request finds the leader of a partition that it names.

use std::sync::Arc;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, PartitionIndex};

use super::RequestContext;
use crate::routes::PartitionRoute;
use crate::shared::PartitionShared;

/// The route of a partition that this broker leads and that is not offline.
pub fn route(
    context: &RequestContext,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Arc<PartitionRoute>, ErrorCode> {
    let topic = context.broker.routes.topic(topic).ok_or(ErrorCode::UnknownTopicOrPartition)?;
    Ok(topic.leading(partition)?.clone())
}

/// The partition itself, for a client that knows its leader epoch (-1: that does not care).
pub fn shared(
    context: &RequestContext,
    topic: &str,
    partition: PartitionIndex,
    leader_epoch: LeaderEpoch,
) -> Result<Arc<PartitionShared>, ErrorCode> {
    let route = route(context, topic, partition)?;
    super::check_leader_epoch(leader_epoch, route.leader_epoch)?;
    Ok(route.shared.clone())
}
