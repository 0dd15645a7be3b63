//! Logs come into being: opened (not their files yet) or made, with one sync for all.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::checkpoint::SYNCS_MAX;
use super::{Journal, Known, PARTITION_METADATA};
use crate::error::LogError;
use crate::ids::{Flush, LogId, LogKey, LogSpec};
use crate::log::{Log, LogStart};
use crate::text::partition_metadata_text;
use crate::vfs::{VfsFile, write_file};

/// What the name of a directory that was set aside ends with.
const STRAY: &str = "stray";

/// A directory that was just made and is not synced yet.
struct Made {
    at: usize,
    directory: PathBuf,
    metadata: Arc<dyn VfsFile>,
}

impl Journal {
    /// For each spec the log, opened as it is on disk, or made. When this returns, its directory is durable.
    pub fn create(&mut self, specs: Vec<LogSpec>) -> Vec<Result<Arc<Log>, LogError>> {
        let mut made = Vec::new();
        let mut results: Vec<_> =
            specs.iter().enumerate().map(|(at, spec)| self.open_or_make(at, spec, &mut made)).collect();
        if let Err(error) = self.sync_made(&made) {
            let error = LogError::from(error);
            for new in &made {
                self.forget(&specs[new.at].id);
                results[new.at] = Err(error.clone());
            }
        }
        results
    }

    /// Renames the directory of a log that nobody wants (or that is damaged) aside, durably; it is removed later. What was
    /// known of it is forgotten, and once the journal has taken that (a round of its own), the log can be made again.
    pub fn set_aside(&mut self, id: &LogId) -> Result<(), LogError> {
        self.wait_for_checkpoint()?;
        let Some(known) = self.known.remove(&id.key()) else { return Ok(()) };
        if let Some(log) = &known.log {
            log.mark_deleted();
            self.forget_cleaned(log)?;
            self.dirty.retain(|other| !Arc::ptr_eq(other, log));
            self.flushed_pending.retain(|flushed| !Arc::ptr_eq(&flushed.log, log));
        }
        let name = known.id.directory_name();
        self.names.remove(&name);
        self.forget_pending.push(id.key());
        self.rename_aside(&name, STRAY)?;
        self.vfs.sync_directory(&self.options.path)?;
        Ok(())
    }

    fn open_or_make(&mut self, at: usize, spec: &LogSpec, made: &mut Vec<Made>) -> Result<Arc<Log>, LogError> {
        let key = spec.id.key();
        let Some(known) = self.known.get_mut(&key) else {
            return self.make(at, spec, made);
        };
        if let Some(problem) = &known.damaged {
            return Err(LogError::Damaged(problem.clone()));
        }
        if let Some(log) = &known.log {
            let becomes_durable = log.config().flush == Flush::Async && spec.config.flush == Flush::Group;
            self.round.needs_checkpoint |= becomes_durable;
            log.set_config(spec.config);
            return Ok(log.clone());
        }
        let start = LogStart {
            directory: self.options.path.join(known.id.directory_name()),
            id: spec.id.clone(),
            config: spec.config,
            log_start: known.log_start,
            end_offset: known.end,
            cleaned_end: known.cleaned_end,
            high_watermark: known.high_watermark,
        };
        let log = Arc::new(Log::new(self.vfs.clone(), self.files.clone(), start));
        known.log = Some(log.clone());
        Ok(log)
    }

    fn make(&mut self, at: usize, spec: &LogSpec, made: &mut Vec<Made>) -> Result<Arc<Log>, LogError> {
        let key = spec.id.key();
        let name = spec.id.directory_name();
        if self.forget_pending.contains(&key) {
            // Replay would take the new log for the one that was set aside.
            return Err(LogError::NoSpace);
        }
        self.clear_name(&name, key)?;
        let directory = self.options.path.join(&name);
        self.vfs.create_directory(&directory)?;
        self.names.insert(name.clone(), Some(key));
        let text = partition_metadata_text(spec.id.topic_id);
        let metadata = match write_file(&*self.vfs, &directory.join(PARTITION_METADATA), text.as_bytes()) {
            Ok(metadata) => metadata,
            Err(error) => {
                // What is left has no id that can be read: the next try renames it aside.
                self.names.insert(name, None);
                return Err(error.into());
            }
        };
        made.push(Made { at, directory: directory.clone(), metadata });
        let start = LogStart {
            id: spec.id.clone(),
            config: spec.config,
            directory,
            log_start: 0,
            end_offset: 0,
            cleaned_end: 0,
            high_watermark: 0,
        };
        let log = Arc::new(Log::new_empty(self.vfs.clone(), self.files.clone(), start));
        if let Some(writer) = log.writer().as_mut() {
            // Replay may delete an earlier log of this id once more: until it cannot, all goes through the journal.
            writer.cut_sequence = self.deleted.get(&key).copied().unwrap_or(0);
        }
        let (id, sequence) = (spec.id.clone(), self.sequence);
        let log_known = Known {
            id,
            log_start: 0,
            end: 0,
            cleaned_end: 0,
            high_watermark: 0,
            sequence,
            damaged: None,
            log: Some(log.clone()),
        };
        self.known.insert(key, log_known);
        Ok(log)
    }

    /// A directory of this name that belongs to another topic, or to none that can be read, goes aside.
    fn clear_name(&mut self, name: &str, key: LogKey) -> Result<(), LogError> {
        match self.names.get(name).copied() {
            None => Ok(()),
            Some(None) => Ok(self.rename_aside(name, STRAY).map(|_| ())?),
            Some(Some(other)) => {
                if self.known.get(&other).is_some_and(|known| known.log.is_some()) {
                    let problem = format!("the directory {name} is in use by topic id {}", other.topic_id);
                    return Err(LogError::Io(Arc::new(io::Error::other(problem))));
                }
                ::log::warn!("{name} belongs to topic id {}, not {}: renamed aside", other.topic_id, key.topic_id);
                self.known.remove(&other);
                self.forget_pending.push(other);
                Ok(self.rename_aside(name, STRAY).map(|_| ())?)
            }
        }
    }

    /// Kafka's names for what is on its way out: `NAME.UNIQUE-delete`, `NAME.UNIQUE-stray`. The parent is not synced.
    pub(super) fn rename_aside(&mut self, name: &str, suffix: &str) -> io::Result<PathBuf> {
        let unique: String = self.vfs.unique_id().iter().map(|byte| format!("{byte:02x}")).collect();
        let from = self.options.path.join(name);
        let to = self.options.path.join(format!("{name}.{unique}-{suffix}"));
        self.names.remove(name);
        if suffix == STRAY {
            self.strays.push(to.clone());
        }
        match self.vfs.rename(&from, &to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(to),
            other => other.map(|()| to),
        }
    }

    /// `partition.metadata`, the directory and its parent, before anybody may append.
    fn sync_made(&self, made: &[Made]) -> io::Result<()> {
        if made.is_empty() {
            return Ok(());
        }
        if made.len() > SYNCS_MAX {
            return self.vfs.sync_filesystem(&self.options.path);
        }
        for new in made {
            new.metadata.sync_data()?;
            self.vfs.sync_directory(&new.directory)?;
        }
        self.vfs.sync_directory(&self.options.path)
    }

    fn forget(&mut self, id: &LogId) {
        self.known.remove(&id.key());
        self.names.insert(id.directory_name(), None);
    }
}
