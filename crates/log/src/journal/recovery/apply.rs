//! Step 3: a log whose plan holds is brought to where it was. Each change may be cut off: the next start makes the same plan.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use super::Recovering;
use super::plan::Plan;
use super::rounds::Outline;
use super::survey::{Survey, SurveyedSegment};
use crate::header_guard::{self, GuardEntry};
use crate::ids::{LogConfig, LogId};
use crate::log::{AppendFailure, EPOCH_CHECKPOINT, Log, LogStart, WriteContext};
use crate::scan::{Depth, Scanner, Step};
use crate::segment::{file_name, remove_files};
use crate::text::epoch_checkpoint_text;
use crate::vfs::{OpenMode, Vfs, VfsFile, read_file_if_there, remove_file_if_there, write_file};

/// Returns the end of the log.
pub(super) fn apply(
    recovering: &Recovering<'_>,
    id: &LogId,
    survey: &Survey,
    outline: &Outline,
    plan: &Plan,
) -> io::Result<i64> {
    let vfs = &**recovering.vfs;
    let directory = recovering.options.path.join(id.directory_name());
    let end = plan.keep_below.unwrap_or(outline.log_start);
    cut_files(vfs, &directory, survey, plan.keep_below)?;
    for name in &survey.leftovers {
        vfs.remove_file(&directory.join(name))?;
    }
    for offset in survey.snapshots.iter().filter(|offset| **offset > end) {
        remove_file_if_there(vfs, &directory.join(file_name(*offset, "snapshot")))?;
    }
    write_epochs(vfs, &directory, survey, outline, end)?;
    if plan.replays.is_empty() {
        return Ok(end);
    }
    // Into empty files the batch that holds the log start comes with what it has below.
    let first = plan.replays[0].kept.base_offset;
    let end = if plan.keep_below.is_none() { end.min(first) } else { end };
    replay(recovering, id, directory, outline.log_start, end, plan)
}

/// The files hold what is kept, and no more; their indexes say the same.
fn cut_files(vfs: &dyn Vfs, directory: &Path, survey: &Survey, keep_below: Option<i64>) -> io::Result<()> {
    let keep_below = keep_below.unwrap_or(i64::MIN);
    let is_kept = |segment: &&SurveyedSegment| segment.base_offset < keep_below;
    let kept: Vec<&SurveyedSegment> = survey.segments.iter().filter(is_kept).collect();
    for base in survey.bases.iter().filter(|base| !kept.iter().any(|segment| segment.base_offset == **base)) {
        remove_files(vfs, directory, *base)?;
    }
    // A removal may survive a power cut in part: what is left of a segment must not speak for a later one of that name.
    for (base, name) in &survey.side_files {
        if !kept.iter().any(|segment| segment.base_offset == *base) {
            remove_file_if_there(vfs, &directory.join(name))?;
        }
    }
    for (at, segment) in kept.iter().enumerate() {
        let file = vfs.open(&directory.join(file_name(segment.base_offset, "log")), OpenMode::Write)?;
        let is_cut = segment.next_offset > keep_below;
        let size_bytes = match is_cut {
            true => survey.locate(vfs, directory, keep_below)?.map_or(0, |(_, position)| position),
            false => segment.size_bytes,
        };
        if file.len()? > size_bytes {
            file.set_len(size_bytes)?;
        }
        let is_last = at + 1 == kept.len();
        write_indexes(vfs, directory, segment, IndexCare { is_cut, is_last })?;
        write_guards(vfs, &*file, directory, segment, size_bytes)?;
    }
    Ok(())
}

/// The entries that agree with what is kept, and one for its end.
fn write_guards(
    vfs: &dyn Vfs,
    file: &dyn VfsFile,
    directory: &Path,
    segment: &SurveyedSegment,
    size_bytes: u64,
) -> io::Result<()> {
    let mut guards = segment.guards.clone();
    guards.retain(|guard| u64::from(guard.end_position) <= size_bytes);
    if size_bytes > 0 && guards.last().is_none_or(|last| u64::from(last.end_position) < size_bytes) {
        let mut last = GuardEntry {
            end_position: size_bytes as u32,
            end_offset: segment.next_offset,
            crc: segment.memory.headers_crc,
        };
        if size_bytes < segment.size_bytes {
            last.crc = 0;
            let mut scanner = Scanner::new(file, Depth::Headers, 0, size_bytes, segment.base_offset);
            while let Step::Batch(batch) = scanner.step()? {
                last.crc = header_guard::extend(last.crc, &batch.header);
                last.end_offset = batch.header.next_offset();
            }
        }
        guards.push(last);
    }
    header_guard::set(vfs, &directory.join(file_name(segment.base_offset, header_guard::EXTENSION)), &guards)
}

#[derive(Clone, Copy)]
struct IndexCare {
    is_cut: bool,
    is_last: bool,
}

/// Index files that differ from what the batches say are written again; those of a segment that was cut are removed, and
/// the last segment's may be missing: they are made when it is opened.
fn write_indexes(vfs: &dyn Vfs, directory: &Path, segment: &SurveyedSegment, care: IndexCare) -> io::Result<()> {
    let files = [("index", segment.memory.offset_file()), ("timeindex", segment.memory.time_file(segment.base_offset))];
    for (extension, content) in files {
        let path = directory.join(file_name(segment.base_offset, extension));
        match read_file_if_there(vfs, &path)? {
            Some(_) if care.is_cut => vfs.remove_file(&path)?,
            None if care.is_last => {}
            found if found.as_ref() != Some(&content) => drop(write_file(vfs, &path, &content)?),
            _ => {}
        }
    }
    Ok(())
}

fn write_epochs(vfs: &dyn Vfs, directory: &Path, survey: &Survey, outline: &Outline, end: i64) -> io::Result<()> {
    let mut epochs = survey.epochs.clone();
    epochs.cut_end(end);
    epochs.cut_start(outline.log_start);
    let text = epoch_checkpoint_text(epochs.entries()).into_bytes();
    let path = directory.join(EPOCH_CHECKPOINT);
    let found = read_file_if_there(vfs, &path)?;
    let is_nothing = found.is_none() && epochs.entries().is_empty();
    if !is_nothing && found.as_deref() != Some(&text[..]) {
        write_file(vfs, &path, &text)?;
    }
    Ok(())
}

/// The journal's appends go where they went before.
fn replay(
    recovering: &Recovering<'_>,
    id: &LogId,
    directory: std::path::PathBuf,
    log_start: i64,
    end_offset: i64,
    plan: &Plan,
) -> io::Result<i64> {
    let start = LogStart {
        id: id.clone(),
        config: LogConfig::default(),
        directory,
        log_start,
        end_offset,
        cleaned_end: 0,
        high_watermark: log_start,
    };
    let log = Log::new(Arc::clone(recovering.vfs), Arc::clone(recovering.files), start);
    let mut writer = log.writer();
    log.open_for(&mut writer)?;
    let writer = writer.as_mut().expect("it was opened");
    let context = WriteContext { round: 0, now_ms: 0, may_defer: false };
    for replay in &plan.replays {
        let payload = recovering.rounds.payload(&replay.entry)?;
        let batches = IoSlice::new(&payload[replay.kept.start..replay.kept.end]);
        log.append(writer, &[batches], context).map_err(|failure| match failure {
            AppendFailure::Io(error) => error,
            AppendFailure::Broken => io::Error::other(format!("the journal's entry for {log:?} does not fit it")),
        })?;
    }
    for (segment, _) in &writer.unsynced {
        segment.write_guard(&**recovering.vfs)?;
    }
    log.write_side_files(writer)?;
    Ok(log.end_offset())
}
