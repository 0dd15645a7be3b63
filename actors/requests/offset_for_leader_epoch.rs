//! OffsetForLeaderEpoch (key 23, versions 2–4): where a leader epoch ended, so that a client finds out whether what it has
//! read was cut off since (KIP-320). -1 and -1 say that there was no such epoch yet.

use std::rc::Rc;
use std::sync::Arc;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset};
use capek_wire::messages::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, OffsetForLeaderTopicResult,
};
use log::warn;

use super::{RequestContext, leader};
use crate::shared::PartitionShared;

pub async fn answer(
    context: Rc<RequestContext>,
    request: OffsetForLeaderEpochRequest,
    _version: i16,
) -> OffsetForLeaderEpochResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let found = leader::shared(&context, &topic.topic, asked.partition, asked.current_leader_epoch);
            let end = match found {
                Ok(shared) => end_of(shared, asked.leader_epoch).await,
                Err(code) => Err(code),
            };
            partitions.push(result(asked.partition, end));
        }
        topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions, ..Default::default() });
    }
    OffsetForLeaderEpochResponse { topics, ..Default::default() }
}

async fn end_of(shared: Arc<PartitionShared>, epoch: LeaderEpoch) -> Result<(LeaderEpoch, Offset), ErrorCode> {
    let key = shared.key.clone();
    // The log may have to be opened for this.
    let looked_up =
        tokio::task::spawn_blocking(move || shared.log.epoch_end_offset(epoch, shared.leader_epoch())).await;
    match looked_up {
        Ok(Ok(end)) => Ok(end),
        Ok(Err(error)) => {
            warn!("{key}: the leader epochs cannot be read: {error}");
            Err(ErrorCode::KafkaStorageError)
        }
        Err(_) => Err(ErrorCode::KafkaStorageError),
    }
}

fn result(partition: i32, end: Result<(LeaderEpoch, Offset), ErrorCode>) -> EpochEndOffset {
    match end {
        Ok((leader_epoch, end_offset)) => EpochEndOffset { partition, leader_epoch, end_offset, ..Default::default() },
        Err(code) => EpochEndOffset { partition, error_code: code.code(), ..Default::default() },
    }
}
