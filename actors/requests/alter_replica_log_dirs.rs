//! AlterReplicaLogDirs (key 34, versions 1–2): moves replicas between data directories. A replica cannot be moved yet, so
//! the API is served only where there is one directory: to that every replica can go, it is there.

use std::path::{Path, PathBuf};

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::alter_replica_log_dirs::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult, AlterReplicaLogDirsRequest,
    AlterReplicaLogDirsResponse,
};

use super::{RequestContext, leader};
use crate::config::BrokerConfig;

/// See the head of this file.
pub fn is_served(config: &BrokerConfig) -> bool {
    config.data_dirs.len() == 1
}

pub fn answer(
    context: &RequestContext,
    request: AlterReplicaLogDirsRequest,
    _version: i16,
) -> AlterReplicaLogDirsResponse {
    let dirs: Vec<PathBuf> = context.broker.config.data_dirs.iter().map(|dir| absolute(dir)).collect();
    let mut results = Vec::new();
    for dir in request.dirs {
        let is_known = dirs.iter().any(|known| known == Path::new(&*dir.path));
        for topic in dir.topics {
            let result = |&partition_index: &i32| AlterReplicaLogDirPartitionResult {
                partition_index,
                error_code: judge(context, &topic.name, partition_index, is_known).code(),
            };
            let partitions = topic.partitions.iter().map(result).collect();
            results.push(AlterReplicaLogDirTopicResult { topic_name: topic.name.clone(), partitions });
        }
    }
    AlterReplicaLogDirsResponse { results, ..Default::default() }
}

fn judge(context: &RequestContext, topic: &Str, partition: i32, is_known: bool) -> ErrorCode {
    if !is_known {
        return ErrorCode::LogDirNotFound;
    }
    leader::route(context, topic, partition).err().unwrap_or(ErrorCode::None)
}

/// As DescribeLogDirs names it.
fn absolute(dir: &Path) -> PathBuf {
    std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf())
}
