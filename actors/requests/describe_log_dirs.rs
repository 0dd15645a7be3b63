//! DescribeLogDirs (key 35, versions 1–5): the data directories and how much each partition takes there; from version 4 also
//! how large the volumes are.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::PartitionIndex;
use capek_wire::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use log::warn;

use super::RequestContext;
use crate::shared::PartitionShared;

/// What is asked about: None is everything.
type Filter = Option<BTreeMap<Str, BTreeSet<PartitionIndex>>>;

pub async fn answer(
    context: Rc<RequestContext>,
    request: DescribeLogDirsRequest,
    _version: i16,
) -> DescribeLogDirsResponse {
    let partitions = find(&context, &filter(request));
    let dirs = context.broker.config.data_dirs.clone();
    // Sizes open logs, and a volume may be slow to answer.
    let results = tokio::task::spawn_blocking(move || describe(dirs, partitions)).await;
    DescribeLogDirsResponse {
        error_code: if results.is_ok() { ErrorCode::None } else { ErrorCode::UnknownServerError }.code(),
        results: results.unwrap_or_default(),
        ..Default::default()
    }
}

fn filter(request: DescribeLogDirsRequest) -> Filter {
    let mut filter = BTreeMap::<Str, BTreeSet<PartitionIndex>>::new();
    for topic in request.topics? {
        filter.entry(topic.topic).or_default().extend(topic.partitions);
    }
    Some(filter)
}

fn find(context: &RequestContext, filter: &Filter) -> Vec<Arc<PartitionShared>> {
    let routes = &context.broker.routes;
    let topics = match filter {
        None => routes.topics(),
        Some(filter) => filter.keys().filter_map(|name| routes.topic(name)).collect(),
    };
    let mut found = Vec::new();
    for topic in topics {
        let wanted = filter.as_ref().and_then(|filter| filter.get(&*topic.name));
        let is_wanted = |shared: &PartitionShared| wanted.is_none_or(|wanted| wanted.contains(&shared.key.partition));
        let partitions = topic.partitions().filter(|route| !route.is_offline).map(|route| route.shared.clone());
        found.extend(partitions.filter(|shared| is_wanted(shared)));
    }
    found
}

fn describe(dirs: Vec<PathBuf>, partitions: Vec<Arc<PartitionShared>>) -> Vec<DescribeLogDirsResult> {
    let mut by_dir: BTreeMap<&Path, BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>>> = BTreeMap::new();
    for shared in &partitions {
        let size_bytes = match shared.log.size_bytes() {
            Ok(size_bytes) => size_bytes,
            Err(error) => {
                warn!("{}: its size cannot be read: {error}", shared.key);
                continue;
            }
        };
        let dir = shared.log.directory().parent().unwrap_or(Path::new(""));
        let topic = by_dir.entry(dir).or_default().entry(shared.key.topic.clone()).or_default();
        topic.push(DescribeLogDirsPartition {
            partition_index: shared.key.partition,
            partition_size: i64::try_from(size_bytes).unwrap_or(i64::MAX),
            ..Default::default()
        });
    }
    let mut results = Vec::with_capacity(dirs.len());
    for dir in &dirs {
        let topics = by_dir.remove(dir.as_path()).unwrap_or_default();
        results.push(describe_dir(dir, topics));
    }
    results
}

fn describe_dir(dir: &Path, topics: BTreeMap<Arc<str>, Vec<DescribeLogDirsPartition>>) -> DescribeLogDirsResult {
    let mut result = DescribeLogDirsResult::default();
    if let Ok(volume) = rustix::fs::statvfs(dir) {
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(volume.f_frsize)).unwrap_or(i64::MAX);
        result.total_bytes = bytes(volume.f_blocks);
        result.usable_bytes = bytes(volume.f_bavail);
    }
    let absolute = std::path::absolute(dir).unwrap_or_else(|_| dir.to_path_buf());
    result.log_dir = Str::from(absolute.to_string_lossy().into_owned());
    for (name, mut partitions) in topics {
        partitions.sort_by_key(|partition| partition.partition_index);
        result.topics.push(DescribeLogDirsTopic { name: Str::from(&*name), partitions, ..Default::default() });
    }
    result
}
