//! The high watermarks of replicated logs, kept in Kafka's `replication-offset-checkpoint`: where a replica that starts again
//! may let readers see before it has heard from the others.
//!
//! What it says is allowed to be old, never to be newer than the truth: it is a hint that is taken within the log's bounds.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use super::{Journal, Known};
use crate::ids::LogKey;
use crate::text::{offset_checkpoint_text, parse_offset_checkpoint};
use crate::vfs::{Vfs, is_no_space, read_file_if_there, replace_file};

pub(super) const FILE_NAME: &str = "replication-offset-checkpoint";
const TEMPORARY: &str = "replication-offset-checkpoint.tmp";
/// Kafka's `replica.high.watermark.checkpoint.interval.ms`.
const INTERVAL_MS: i64 = 5_000;

impl Journal {
    /// Writes the file if some high watermark has moved since, and not too often.
    pub(super) fn write_changed_high_watermarks(&mut self, now_ms: i64) -> io::Result<()> {
        if now_ms < self.high_watermarks_due_ms {
            return Ok(());
        }
        self.high_watermarks_due_ms = now_ms.saturating_add(INTERVAL_MS);
        if !self.files.take_high_watermark_moved() {
            return Ok(());
        }
        let path = self.options.path.join(FILE_NAME);
        let text = self.high_watermarks_text();
        match replace_file(&*self.vfs, &path, &self.options.path.join(TEMPORARY), text.as_bytes()) {
            // What the file says may be old.
            Err(error) if is_no_space(&error) => Ok(()),
            result => result,
        }
    }

    pub(super) fn high_watermarks_text(&self) -> String {
        let lines: Vec<_> = self.known.values().map(|known| (&known.id, high_watermark_of(known))).collect();
        offset_checkpoint_text(lines.iter().map(|(id, offset)| (&*id.topic, id.partition, *offset)))
    }
}

/// A log that nobody replicates is committed to its end.
fn high_watermark_of(known: &Known) -> i64 {
    match &known.log {
        Some(log) => log.high_watermark().unwrap_or_else(|| log.end_offset()),
        None => known.high_watermark,
    }
}

/// Fills in what the file says of the logs that are known, within their bounds.
pub(super) fn note_high_watermarks(
    known: &mut BTreeMap<LogKey, Known>,
    vfs: &dyn Vfs,
    directory: &Path,
) -> io::Result<()> {
    let bytes = read_file_if_there(vfs, &directory.join(FILE_NAME))?;
    let entries = bytes.and_then(|bytes| parse_offset_checkpoint(std::str::from_utf8(&bytes).ok()?));
    let entries: BTreeMap<_, _> =
        entries.unwrap_or_default().into_iter().map(|(t, p, offset)| ((t, p), offset)).collect();
    for log in known.values_mut() {
        let offset = entries.get(&(log.id.topic.to_string(), log.id.partition)).copied().unwrap_or(log.log_start);
        log.high_watermark = offset.clamp(log.log_start.min(log.end), log.end);
    }
    Ok(())
}
