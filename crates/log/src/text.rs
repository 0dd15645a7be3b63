//! Kafka's small text files: `meta.properties`, `partition.metadata` and the offset and epoch checkpoints.

use std::fmt::Write;
use std::str::FromStr;

use capek_wire::Uuid;

/// What `meta.properties` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MetaProperties {
    pub version: String,
    pub node_id: Option<i32>,
    pub cluster_id: Option<String>,
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    pub fn parse(text: &str) -> MetaProperties {
        let mut meta = MetaProperties { version: String::new(), node_id: None, cluster_id: None, directory_id: None };
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim().to_owned();
            match name.trim() {
                "version" => meta.version = value,
                "node.id" => meta.node_id = value.parse().ok(),
                "cluster.id" => meta.cluster_id = Some(value),
                "directory.id" => meta.directory_id = value.parse().ok(),
                _ => {}
            }
        }
        meta
    }

    pub fn text(node_id: i32, cluster_id: &str, directory_id: Uuid) -> String {
        format!("#\ncluster.id={cluster_id}\ndirectory.id={directory_id}\nnode.id={node_id}\nversion=1\n")
    }
}

/// `partition.metadata`: which topic the directory belongs to.
pub(crate) fn partition_metadata_text(topic_id: Uuid) -> String {
    format!("version: 0\ntopic_id: {topic_id}")
}

pub(crate) fn parse_partition_metadata(text: &str) -> Option<Uuid> {
    let mut lines = text.lines();
    (lines.next()?.trim() == "version: 0").then_some(())?;
    Uuid::from_str(lines.next()?.strip_prefix("topic_id:")?.trim()).ok()
}

/// `*-offset-checkpoint`: version, count, then `topic partition offset`.
pub(crate) fn offset_checkpoint_text<'a>(lines: impl ExactSizeIterator<Item = (&'a str, i32, i64)>) -> String {
    let mut text = format!("0\n{}\n", lines.len());
    for (topic, partition, offset) in lines {
        writeln!(text, "{topic} {partition} {offset}").expect("writing to a string cannot fail");
    }
    text
}

/// `None` when it is torn or not one.
pub(crate) fn parse_offset_checkpoint(text: &str) -> Option<Vec<(String, i32, i64)>> {
    let mut lines = text.lines();
    (lines.next()?.trim() == "0").then_some(())?;
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut entries = Vec::new();
    for line in lines.take(count) {
        let mut fields = line.split_whitespace();
        let topic = fields.next()?.to_owned();
        entries.push((topic, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?));
    }
    (entries.len() == count).then_some(entries)
}

/// `leader-epoch-checkpoint`: version, count, then `epoch start-offset`.
pub(crate) fn epoch_checkpoint_text(entries: &[(i32, i64)]) -> String {
    let mut text = format!("0\n{}\n", entries.len());
    for (epoch, start) in entries {
        writeln!(text, "{epoch} {start}").expect("writing to a string cannot fail");
    }
    text
}

/// `None` when it is torn or not one.
pub(crate) fn parse_epoch_checkpoint(text: &str) -> Option<Vec<(i32, i64)>> {
    let mut lines = text.lines();
    (lines.next()?.trim() == "0").then_some(())?;
    let count: usize = lines.next()?.trim().parse().ok()?;
    let mut entries = Vec::new();
    for line in lines.by_ref().take(count) {
        let (epoch, start) = line.trim().split_once(' ')?;
        entries.push((epoch.parse().ok()?, start.parse().ok()?));
    }
    (entries.len() == count).then_some(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let id = Uuid([7; 16]);
        let meta = MetaProperties::parse(&MetaProperties::text(3, "abc", id));
        assert_eq!(
            meta,
            MetaProperties {
                version: "1".into(),
                node_id: Some(3),
                cluster_id: Some("abc".into()),
                directory_id: Some(id)
            }
        );
        assert_eq!(parse_partition_metadata(&partition_metadata_text(id)), Some(id));
        let epochs = vec![(0, 0), (3, 17)];
        assert_eq!(parse_epoch_checkpoint(&epoch_checkpoint_text(&epochs)), Some(epochs));
        let offsets = offset_checkpoint_text([("orders", 0, 17), ("my.topic", 3, 0)].into_iter());
        assert_eq!(
            parse_offset_checkpoint(&offsets),
            Some(vec![("orders".to_owned(), 0, 17), ("my.topic".to_owned(), 3, 0)])
        );
    }

    #[test]
    fn torn_files_are_not_believed() {
        assert_eq!(parse_partition_metadata("version: 0\ntopic_id: AAAA"), None);
        assert_eq!(parse_partition_metadata(""), None);
        assert_eq!(parse_epoch_checkpoint("0\n2\n0 0\n"), None);
        assert_eq!(parse_epoch_checkpoint("\0\0\0\0"), None);
        assert_eq!(parse_offset_checkpoint("0\n2\norders 0 17\n"), None);
        assert_eq!(parse_offset_checkpoint(""), None);
    }
}
