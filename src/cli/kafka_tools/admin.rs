//! What the tools that manage a cluster share: the connection their options name, and topics by pattern.

use capek_wire::messages::describe_topic_partitions::DescribeTopicPartitionsResponsePartition;

use super::ToolError;
use super::options::{OptionSpec, Options, value};
use super::properties::Properties;
use crate::client::{Client, ClusterMetadata};

pub const BOOTSTRAP: OptionSpec =
    value("bootstrap-server", "String: server to connect to", "REQUIRED: The server(s) to connect to.");
pub const COMMAND_CONFIG: OptionSpec =
    value("command-config", "String: config file", "A property file with configs of the client.");

/// Connects as `--bootstrap-server` and `--command-config` say.
pub async fn connect(options: &Options) -> Result<Client, ToolError> {
    let bootstrap = options.value("bootstrap-server").map_err(ToolError::usage)?.unwrap_or_default();
    let properties = match options.value("command-config").map_err(ToolError::usage)? {
        Some(path) => Properties::from_file(path)?,
        None => Properties::default(),
    };
    properties.connect(bootstrap, |_| {}).await
}

/// The names of topics, sorted; internal ones only if wanted.
pub fn topic_names(metadata: &ClusterMetadata, with_internal: bool) -> Vec<String> {
    let shown = metadata.topics.iter().filter(|(_, topic)| with_internal || !topic.is_internal);
    shown.map(|(name, _)| name.clone()).collect()
}

/// `1,2,3`
pub fn joined(ids: &[i32]) -> String {
    ids.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

pub fn is_without_leader(partition: &DescribeTopicPartitionsResponsePartition) -> bool {
    partition.leader_id < 0
}
