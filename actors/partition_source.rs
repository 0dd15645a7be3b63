//! A partition as a door reads it: led here, or by another broker, whose word is taken for it.

use std::sync::Arc;

use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset, PartitionIndex};
use tokio::sync::Notify;

use crate::record_reader::OffsetReset;
use crate::remote_partition::RemotePartition;
use crate::shared::PartitionShared;

/// See the head of this file. Cheap to clone.
#[derive(Clone)]
pub enum PartitionSource {
    Here(Arc<PartitionShared>),
    /// What nobody has said yet is an empty log.
    There(Arc<RemotePartition>),
}

impl PartitionSource {
    pub fn partition(&self) -> PartitionIndex {
        match self {
            PartitionSource::Here(shared) => shared.key.partition,
            PartitionSource::There(remote) => remote.partition,
        }
    }

    pub fn log_start(&self) -> Offset {
        match self {
            PartitionSource::Here(shared) => shared.log_start(),
            PartitionSource::There(remote) => remote.state().unwrap_or_default().log_start,
        }
    }

    pub fn high_watermark(&self) -> Offset {
        match self {
            PartitionSource::Here(shared) => shared.high_watermark(),
            PartitionSource::There(remote) => remote.state().unwrap_or_default().high_watermark,
        }
    }

    pub fn leader_epoch(&self) -> LeaderEpoch {
        match self {
            PartitionSource::Here(shared) => shared.leader_epoch(),
            PartitionSource::There(remote) => remote.state().unwrap_or_default().leader_epoch,
        }
    }

    pub fn is_deleted(&self) -> bool {
        match self {
            PartitionSource::Here(shared) => shared.is_deleted(),
            PartitionSource::There(remote) => remote.is_deleted(),
        }
    }

    /// Whether this offset, which is above the high watermark, is beyond the end for certain. If it is not known yet, whoever
    /// waits is woken when it is.
    pub fn is_beyond_end(&self, offset: Offset) -> bool {
        match self {
            PartitionSource::Here(_) => true,
            PartitionSource::There(remote) => remote.is_beyond_end(offset),
        }
    }

    pub fn register(&self, waiter: &Arc<Notify>) {
        match self {
            PartitionSource::Here(shared) => shared.register(waiter),
            PartitionSource::There(remote) => remote.register(waiter),
        }
    }

    /// Where reading begins without a position.
    pub fn reset(&self, reset: OffsetReset) -> Result<Offset, ErrorCode> {
        match reset {
            OffsetReset::Earliest => Ok(self.log_start()),
            OffsetReset::Latest => Ok(self.high_watermark()),
            OffsetReset::None => Err(ErrorCode::OffsetOutOfRange),
        }
    }
}

impl std::fmt::Display for PartitionSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            PartitionSource::Here(shared) => write!(f, "{}", shared.key),
            PartitionSource::There(remote) => write!(f, "{}-{}", remote.topic, remote.partition),
        }
    }
}
