//! What a start after a crash does. In this order, and each step may be cut off and done again:
//!
//! 1. the journal's files are synced and read: which rounds are there, whole, above the directory's recovery point;
//! 2. each log is scanned (after a swap of compaction that was committed is finished), and with the journal's entries for it a plan is made: what its files keep, what is written again;
//! 3. only a log whose plan holds is changed; a damaged one stays as it is, offline, with a message;
//! 4. the caller syncs everything and writes recovery points before any log opens.

mod apply;
mod plan;
mod rounds;
mod survey;

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use super::directory::Names;
use super::points::{Point, Points};
use super::{JOURNAL_DIRECTORY, JournalOptions};
use crate::compaction::finish_swaps;
use crate::error::OpenError;
use crate::file_cache::FileCache;
use crate::ids::{LogId, LogKey};
use crate::vfs::Vfs;

use rounds::{LogEntries, Outline, Rounds};

/// From so many logs on it is told how far recovery is.
const TOLD_TASKS_MIN: usize = 100;
/// Where no log ends: the point of one that is damaged.
const DAMAGED_END: i64 = i64::MAX;

/// One log after recovery.
pub(in crate::journal) struct RecoveredState {
    pub id: LogId,
    pub end: i64,
    pub log_start: i64,
    pub damaged: Option<String>,
}

impl RecoveredState {
    pub fn point(&self, sequence: u64) -> Point {
        // What showed the damage may be gone by the next start, which must find it damaged again.
        let end = if self.damaged.is_some() { DAMAGED_END } else { self.end };
        Point { end, log_start: self.log_start, sequence }
    }
}

/// All of them.
#[derive(Default)]
pub(in crate::journal) struct Recovered {
    pub is_clean: bool,
    pub logs: Vec<RecoveredState>,
    pub rounds: u64,
    pub entries: u64,
}

impl Recovered {
    pub fn points(&self, sequence: u64) -> BTreeMap<LogKey, Point> {
        self.logs.iter().map(|log| (log.id.key(), log.point(sequence))).collect()
    }
}

/// One log, and what is known of it before its files are looked at.
struct Task<'a> {
    id: &'a LogId,
    point: Point,
    entries: LogEntries,
}

/// What recovery works with.
struct Recovering<'a> {
    vfs: &'a Arc<dyn Vfs>,
    files: &'a Arc<FileCache>,
    options: &'a JournalOptions,
    rounds: Rounds,
}

pub(in crate::journal) fn recover(
    vfs: &Arc<dyn Vfs>,
    files: &Arc<FileCache>,
    options: &JournalOptions,
    points: &Points,
    names: &Names,
) -> Result<Recovered, OpenError> {
    let is_fresh = points.starts == 0;
    let mut recovered = Recovered { is_clean: points.is_clean, ..Recovered::default() };
    let rounds = match points.is_clean {
        true => Rounds::default(),
        false => Rounds::read(&**vfs, &options.path.join(JOURNAL_DIRECTORY), points, &options.path)?,
    };
    (recovered.rounds, recovered.entries) = (rounds.rounds_count, rounds.entries_count);
    let mut recovering = Recovering { vfs, files, options, rounds };
    let mut logs = std::mem::take(&mut recovering.rounds.logs);
    let mut tasks = Vec::new();
    for (key, id) in &names.ids {
        let point = points.logs.get(key).copied();
        let entries = logs.remove(key).unwrap_or_default();
        match point {
            // Closed in good order: it is opened when somebody needs it.
            Some(point) if points.is_clean && !is_fresh => {
                let (end, log_start) = (point.end, point.log_start);
                recovered.logs.push(RecoveredState { id: id.clone(), end, log_start, damaged: None });
            }
            _ => tasks.push(Task { id, point: point.unwrap_or_default(), entries }),
        }
    }
    recovered.logs.extend(recovering.recover_logs(&tasks)?);
    recovered.logs.sort_by_key(|log| log.id.key());
    for (key, entries) in logs {
        note_missing(&key, points, &entries);
    }
    Ok(recovered)
}

/// The journal speaks of a log that has no directory. If it was not deleted, somebody removed it by hand.
fn note_missing(key: &LogKey, points: &Points, entries: &LogEntries) {
    let had_data = points.logs.get(key).is_some_and(|point| point.end > point.log_start);
    if had_data && !entries.ends_deleted() {
        ::log::error!("the directory of topic id {} partition {} is gone", key.topic_id, key.partition);
    }
}

/// Ten times: there may be much to read.
fn tell_progress(path: &Path, at: usize, tasks: usize) {
    if tasks >= TOLD_TASKS_MIN && at.is_multiple_of(tasks.div_ceil(10)) {
        ::log::info!("{}: {at} of {tasks} logs are recovered", path.display());
    }
}

impl Recovering<'_> {
    /// Several at a time: each has files of its own.
    fn recover_logs(&self, tasks: &[Task<'_>]) -> Result<Vec<RecoveredState>, OpenError> {
        let next = AtomicUsize::new(0);
        let recover_some = || {
            let mut states = Vec::new();
            while let at = next.fetch_add(1, Ordering::Relaxed)
                && let Some(task) = tasks.get(at)
            {
                tell_progress(&self.options.path, at, tasks.len());
                // Nobody goes on when one has failed.
                states.extend(self.recover_log(task).inspect_err(|_| next.store(tasks.len(), Ordering::Relaxed))?);
            }
            Ok(states)
        };
        let threads = self.options.recovery_threads.min(tasks.len());
        if threads <= 1 || !self.vfs.has_helper_threads() {
            return recover_some();
        }
        thread::scope(|scope| {
            let threads: Vec<_> = (0..threads).map(|_| scope.spawn(recover_some)).collect();
            let states = threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic)));
            states.collect::<Result<Vec<_>, _>>().map(|states| states.into_iter().flatten().collect())
        })
    }

    /// `None`: it was deleted.
    fn recover_log(&self, task: &Task<'_>) -> Result<Option<RecoveredState>, OpenError> {
        let Task { id, point, entries } = task;
        let at = OpenError::at(&self.options.path);
        if entries.ends_deleted() {
            return self.delete_again(id).map(|()| None).map_err(at);
        }
        let directory = self.options.path.join(id.directory_name());
        let outline = entries.outline(*point);
        if let Err(problem) = finish_swaps(&**self.vfs, &directory).map_err(&at)? {
            return Ok(Some(self.damaged(id, &outline, &problem)));
        }
        let survey = survey::survey(&**self.vfs, &directory, &outline).map_err(&at)?;
        let plan = plan::plan(self, id, &survey, &outline, entries).map_err(&at)?;
        match plan {
            Ok(plan) => {
                let end = apply::apply(self, id, &survey, &outline, &plan).map_err(&at)?;
                Ok(Some(RecoveredState { id: (*id).clone(), end, log_start: outline.log_start, damaged: None }))
            }
            Err(problem) => Ok(Some(self.damaged(id, &outline, &problem))),
        }
    }

    fn damaged(&self, id: &LogId, outline: &Outline, problem: &str) -> RecoveredState {
        let problem = format!("{}: {problem}", id.directory_name());
        ::log::error!("{problem}; the log stays offline, its files are not touched");
        let log_start = outline.log_start;
        let end = if outline.flushed_end == DAMAGED_END { log_start } else { outline.flushed_end };
        RecoveredState { id: id.clone(), end, log_start, damaged: Some(problem) }
    }

    /// A Delete is the last word on this log, but the directory has its name still.
    fn delete_again(&self, id: &LogId) -> std::io::Result<()> {
        let name = id.directory_name();
        let unique: String = self.vfs.unique_id().iter().map(|byte| format!("{byte:02x}")).collect();
        self.vfs.rename(&self.options.path.join(&name), &self.options.path.join(format!("{name}.{unique}-delete")))
    }
}
