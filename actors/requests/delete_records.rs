//! DeleteRecords (key 21, versions 0–2): moves the log start of partitions to an offset (-1: to the high watermark), and
//! answers when that is durable, with the new low watermark.

use std::rc::Rc;
use std::time::Duration;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;
use capek_wire::messages::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
    DeleteRecordsTopicResult,
};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{RequestContext, leader};
use crate::partition::AdvanceLogStart;
use crate::topics;

type Pending = Result<oneshot::Receiver<Result<Offset, ErrorCode>>, ErrorCode>;

pub async fn answer(
    context: Rc<RequestContext>,
    request: DeleteRecordsRequest,
    _version: i16,
) -> DeleteRecordsResponse {
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    // All partitions are asked before the first is waited for: their log starts move in one round of the journal.
    let mut started = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            partitions.push((partition.partition_index, start(&context, &topic.name, &partition).await));
        }
        started.push((topic.name, partitions));
    }
    let mut topics = Vec::with_capacity(started.len());
    for (name, pending) in started {
        let mut partitions = Vec::with_capacity(pending.len());
        for (index, pending) in pending {
            partitions.push(result(index, finish(pending, deadline).await));
        }
        topics.push(DeleteRecordsTopicResult { name, partitions, ..Default::default() });
    }
    DeleteRecordsResponse { topics, ..Default::default() }
}

async fn start(context: &RequestContext, topic: &str, partition: &DeleteRecordsPartition) -> Pending {
    let route = leader::route(context, topic, partition.partition_index)?;
    if topics::is_internal(topic) {
        return Err(ErrorCode::InvalidTopicException);
    }
    let leader = route.leader.as_ref().ok_or(ErrorCode::NotLeaderOrFollower)?;
    if !route.shared.config().cleanup_policy.delete {
        return Err(ErrorCode::PolicyViolation);
    }
    let (reply, pending) = oneshot::channel();
    let advance = AdvanceLogStart { offset: partition.offset, reply };
    leader.send(advance).await.map_err(|_| ErrorCode::NotLeaderOrFollower)?;
    Ok(pending)
}

async fn finish(pending: Pending, deadline: Instant) -> Result<Offset, ErrorCode> {
    match tokio::time::timeout_at(deadline, pending?).await {
        Ok(Ok(moved)) => moved,
        // The partition was restarted meanwhile. Asking again does no harm.
        Ok(Err(_)) => Err(ErrorCode::NotLeaderOrFollower),
        Err(_) => Err(ErrorCode::RequestTimedOut),
    }
}

fn result(partition_index: i32, moved: Result<Offset, ErrorCode>) -> DeleteRecordsPartitionResult {
    let (low_watermark, code) = match moved {
        Ok(low_watermark) => (low_watermark, ErrorCode::None),
        Err(code) => (-1, code),
    };
    DeleteRecordsPartitionResult { partition_index, low_watermark, error_code: code.code(), ..Default::default() }
}
