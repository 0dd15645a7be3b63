//! Which log is meant, and what may be set for it.

use std::sync::Arc;

use capek_wire::Uuid;

/// A partition's log: the name is for people and for the directory, the topic id is what counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogId {
    pub topic: Arc<str>,
    pub topic_id: Uuid,
    pub partition: i32,
}

/// What the journal and the recovery points know a log by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogKey {
    pub topic_id: Uuid,
    pub partition: i32,
}

impl LogId {
    pub fn key(&self) -> LogKey {
        LogKey { topic_id: self.topic_id, partition: self.partition }
    }

    /// `TOPIC-PARTITION`, as Kafka names the directory.
    pub fn directory_name(&self) -> String {
        format!("{}-{}", self.topic, self.partition)
    }
}

/// Topic and partition of a directory name; `None` for what is no partition's directory.
pub fn parse_directory_name(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let is_number = !partition.is_empty() && partition.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || capek_wire::topic_name_problem(topic).is_some() {
        return None;
    }
    Some((topic, partition.parse().ok()?))
}

/// When an append is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Flush {
    /// After a sync that it shares with all that wait.
    #[default]
    Group,
    /// When it is in the page cache, as Kafka does.
    Async,
}

/// The part of a topic's configuration that its log needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogConfig {
    pub segment_bytes: u32,
    pub segment_ms: i64,
    pub segment_index_bytes: u32,
    pub index_interval_bytes: u32,
    pub file_delete_delay_ms: i64,
    /// Idempotent producers that did not write for so long are forgotten.
    pub producer_expiration_ms: i64,
    pub flush: Flush,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> LogConfig {
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            file_delete_delay_ms: 60_000,
            producer_expiration_ms: 24 * 3_600_000,
            flush: Flush::Group,
        }
    }
}

/// A log to be opened, or made when it is not there.
#[derive(Clone, Debug)]
pub struct LogSpec {
    pub id: LogId,
    pub config: LogConfig,
}

#[cfg(test)]
mod tests {
    use super::parse_directory_name;

    #[test]
    fn directory_names_are_split_at_the_last_dash() {
        assert_eq!(parse_directory_name("orders-0"), Some(("orders", 0)));
        assert_eq!(parse_directory_name("my-topic-12"), Some(("my-topic", 12)));
        for other in ["__journal", "orders-", "-1", "orders-x", "orders-1.abc-delete", "a/b-1"] {
            assert_eq!(parse_directory_name(other), None, "{other}");
        }
    }
}
