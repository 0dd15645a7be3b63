//! ListOffsets (key 2, versions 1–11): an offset for a timestamp, or for one of the special timestamps.

use std::rc::Rc;
use std::sync::Arc;

use capek_log::TimestampOffset;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use capek_wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::{RequestContext, leader, repeated};
use crate::shared::PartitionShared;

/// The high watermark.
const LATEST: i64 = -1;
/// The log start.
const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The log start as far as it is on this broker's disk: the same without tiered storage (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// The end of what is tiered (KIP-1005): nothing is.
const LATEST_TIERED: i64 = -5;
/// The first offset that is not yet tiered (KIP-1023): nothing is, so there is none pending either.
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Versions from here tell the leader epoch of what they found.
const LEADER_EPOCH_VERSION_MIN: i16 = 4;

pub async fn answer(context: Rc<RequestContext>, request: ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let twice = repeated(topic.partitions.iter().map(|partition| &partition.partition_index));
        let refused = twice.iter().map(|&index| response(index, Err(ErrorCode::InvalidRequest), version));
        let mut partitions: Vec<_> = refused.collect();
        for partition in topic.partitions.iter().filter(|partition| !twice.contains(&partition.partition_index)) {
            let found =
                leader::shared(&context, &topic.name, partition.partition_index, partition.current_leader_epoch);
            let outcome = match found {
                Ok(shared) => look_up(shared, partition.timestamp, version).await,
                Err(code) => Err(code),
            };
            partitions.push(response(partition.partition_index, outcome, version));
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions, ..Default::default() });
    }
    ListOffsetsResponse { topics, ..Default::default() }
}

/// Offset -1 means that there is none.
struct Found {
    offset: i64,
    timestamp: i64,
    leader_epoch: i32,
}

const NONE: Found = Found { offset: -1, timestamp: -1, leader_epoch: -1 };

async fn look_up(shared: Arc<PartitionShared>, timestamp: i64, version: i16) -> Result<Found, ErrorCode> {
    let leader_epoch = shared.leader_epoch();
    let is_about_the_end = timestamp == LATEST || timestamp == MAX_TIMESTAMP || timestamp >= 0;
    if is_about_the_end && !shared.knows_committed_end() {
        // A new leader's high watermark may be older than what its predecessor showed (KIP-207).
        return Err(if version >= 5 { ErrorCode::OffsetNotAvailable } else { ErrorCode::LeaderNotAvailable });
    }
    match timestamp {
        LATEST => Ok(Found { offset: shared.high_watermark(), timestamp: -1, leader_epoch }),
        EARLIEST => Ok(earliest(shared, version).await),
        EARLIEST_LOCAL if version >= 8 => Ok(earliest(shared, version).await),
        MAX_TIMESTAMP if version >= 7 => search(shared, None).await,
        LATEST_TIERED if version >= 9 => Ok(NONE),
        EARLIEST_PENDING_UPLOAD if version >= 11 => Ok(NONE),
        timestamp if timestamp >= 0 => search(shared, Some(timestamp)).await,
        _ => Err(ErrorCode::UnsupportedVersion),
    }
}

async fn earliest(shared: Arc<PartitionShared>, version: i16) -> Found {
    let offset = shared.log_start();
    let mut leader_epoch = shared.leader_epoch();
    // An epoch of 0 had none before it. The epochs of a log that nobody used yet have to be read from the disk.
    if version >= LEADER_EPOCH_VERSION_MIN && leader_epoch > 0 {
        let looked_up = tokio::task::spawn_blocking(move || shared.log.epoch_for(offset)).await;
        leader_epoch = looked_up.ok().and_then(Result::ok).flatten().unwrap_or(leader_epoch);
    }
    Found { offset, timestamp: -1, leader_epoch }
}

/// A look into the log itself may have to wait for the disk.
async fn search(shared: Arc<PartitionShared>, timestamp: Option<i64>) -> Result<Found, ErrorCode> {
    let end_offset = shared.high_watermark();
    let searched = tokio::task::spawn_blocking(move || match timestamp {
        Some(timestamp) => shared.log.offset_for_timestamp(timestamp, end_offset),
        None => shared.log.max_timestamp_offset(end_offset),
    })
    .await;
    match searched {
        Ok(Ok(Some(TimestampOffset { offset, timestamp, leader_epoch }))) => {
            Ok(Found { offset, timestamp, leader_epoch })
        }
        Ok(Ok(None)) => Ok(NONE),
        Ok(Err(_)) | Err(_) => Err(ErrorCode::KafkaStorageError),
    }
}

fn response(partition_index: i32, outcome: Result<Found, ErrorCode>, version: i16) -> ListOffsetsPartitionResponse {
    let (code, found) = match outcome {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, NONE),
    };
    ListOffsetsPartitionResponse {
        partition_index,
        error_code: code.code(),
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: if version < LEADER_EPOCH_VERSION_MIN { -1 } else { found.leader_epoch },
        ..Default::default()
    }
}
