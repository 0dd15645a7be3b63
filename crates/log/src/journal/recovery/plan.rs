//! Step 2, second half: what the files keep and which of the journal's appends are written again. Nothing is changed here,
//! and where the two do not add up to all that was confirmed, the log is damaged.

use std::io;

use capek_wire::batch::batches;

use super::super::format::{Kind, headers_crc_of};
use super::rounds::{LogEntries, LogEntry, Outline};
use super::survey::Survey;
use super::{DAMAGED_END, Recovering};
use crate::ids::LogId;

/// An append to be written again, without what is below the log start or what a later cut took.
pub(super) struct Replay {
    pub entry: LogEntry,
    pub kept: Kept,
}

/// A range of whole batches within a payload.
pub(super) struct Kept {
    pub start: usize,
    pub end: usize,
    pub base_offset: i64,
    pub end_offset: i64,
}

pub(super) struct Plan {
    /// The files keep what is below; `None`: nothing.
    pub keep_below: Option<i64>,
    pub replays: Vec<Replay>,
}

/// The state of the plan while it goes through the entries.
struct Planning<'a> {
    recovering: &'a Recovering<'a>,
    survey: &'a Survey,
    outline: &'a Outline,
    directory: std::path::PathBuf,
    plan: Plan,
    /// Where the log ends so far.
    end: i64,
}

pub(super) fn plan(
    recovering: &Recovering<'_>,
    id: &LogId,
    survey: &Survey,
    outline: &Outline,
    entries: &LogEntries,
) -> io::Result<Result<Plan, String>> {
    if outline.required_end == DAMAGED_END {
        return Ok(Err("it was found damaged by an earlier start".to_owned()));
    }
    if survey.valid_end < outline.required_end && outline.required_end > outline.log_start {
        let problem = format!("it must be whole up to {}, but {}", outline.required_end, survey.problem);
        return Ok(Err(problem));
    }
    // A log that ends below its start is empty at it.
    let valid_end = survey.valid_end.min(outline.cut);
    let keep_below = (valid_end >= outline.log_start && !outline.is_reset).then_some(valid_end);
    let mut planning = Planning {
        recovering,
        survey,
        outline,
        directory: recovering.options.path.join(id.directory_name()),
        end: keep_below.unwrap_or(outline.log_start),
        plan: Plan { keep_below, replays: Vec::new() },
    };
    for (entry, kept_below) in entries.kept(outline) {
        let problem = match entry.header.kind {
            Kind::Append => planning.append(entry, kept_below)?,
            Kind::Flushed => planning.flushed(entry, kept_below)?,
            _ => None,
        };
        if let Some(problem) = problem {
            return Ok(Err(problem));
        }
    }
    if planning.end < outline.flushed_end {
        let problem =
            format!("{} was confirmed, but it ends at {}: {}", outline.flushed_end, planning.end, survey.problem);
        return Ok(Err(problem));
    }
    Ok(Ok(planning.plan))
}

impl Planning<'_> {
    fn append(&mut self, entry: &LogEntry, kept_below: i64) -> io::Result<Option<String>> {
        let header = &entry.header;
        let end_offset = header.end_offset.min(kept_below);
        if header.base_offset >= kept_below || end_offset <= self.outline.log_start {
            return Ok(None);
        }
        let payload = self.recovering.rounds.payload(entry)?;
        let Some(kept) = clip(&payload, self.outline.log_start, kept_below) else { return Ok(None) };
        // What is below the log start may be gone already, with its segment.
        let previous_end = if kept.start == 0 { header.previous_end } else { kept.base_offset };
        if self.end < previous_end {
            let problem = format!("{} to {previous_end} is missing: {}", self.end, self.survey.problem);
            return Ok(Some(problem));
        }
        if !self.is_there(kept.base_offset, kept.end_offset, &payload[kept.start..kept.end])? {
            // The files are cut where this append began, and all that follows is written again.
            self.plan.keep_below = self.plan.keep_below.map(|keep_below| keep_below.min(previous_end));
            self.end = kept.end_offset;
            self.plan.replays.push(Replay { entry: *entry, kept });
        }
        Ok(None)
    }

    fn is_there(&self, base_offset: i64, end_offset: i64, payload: &[u8]) -> io::Result<bool> {
        let keeps = self.plan.keep_below.is_some_and(|keep_below| end_offset <= keep_below);
        if !keeps || !self.plan.replays.is_empty() {
            return Ok(false);
        }
        let vfs = &**self.recovering.vfs;
        let Some(place) = self.survey.locate(vfs, &self.directory, base_offset)? else { return Ok(false) };
        Ok(self.survey.read(vfs, &self.directory, place, payload.len())? == payload)
    }

    /// The range went past the journal and was synced in its segment: it must be there.
    fn flushed(&mut self, entry: &LogEntry, kept_below: i64) -> io::Result<Option<String>> {
        let header = &entry.header;
        let end_offset = header.end_offset.min(kept_below);
        if header.base_offset >= kept_below || end_offset <= self.outline.log_start {
            return Ok(None);
        }
        let keeps = self.plan.keep_below.is_some_and(|keep_below| keep_below >= end_offset);
        if !keeps || !self.plan.replays.is_empty() {
            let problem = format!("{} to {end_offset} was synced, but {}", header.base_offset, self.survey.problem);
            return Ok(Some(problem));
        }
        let is_whole_range = end_offset == header.end_offset && header.base_offset >= self.outline.log_start;
        if is_whole_range && !self.has_headers(entry)? {
            let problem = format!("the batch headers of {} to {end_offset} changed", header.base_offset);
            return Ok(Some(problem));
        }
        Ok(None)
    }

    fn has_headers(&self, entry: &LogEntry) -> io::Result<bool> {
        let vfs = &**self.recovering.vfs;
        let header = &entry.header;
        let expected = self.recovering.rounds.payload(entry)?;
        let Some(from) = self.survey.locate(vfs, &self.directory, header.base_offset)? else { return Ok(false) };
        let Some(to) = self.survey.locate(vfs, &self.directory, header.end_offset)? else { return Ok(false) };
        let length: u64 = (from.0..=to.0)
            .map(|at| {
                let start = if at == from.0 { from.1 } else { 0 };
                let end = if at == to.0 { to.1 } else { self.survey.segments[at].size_bytes };
                end.saturating_sub(start)
            })
            .sum();
        let bytes = self.survey.read(vfs, &self.directory, from, length as usize)?;
        Ok(headers_crc_of(0, &bytes).to_be_bytes()[..] == expected[..])
    }
}

/// The batches of a payload that reach beyond the log start and end at or below the bound.
fn clip(payload: &[u8], log_start: i64, kept_below: i64) -> Option<Kept> {
    let mut kept: Option<Kept> = None;
    for (position, header) in batches(payload).flatten() {
        if header.next_offset() > kept_below {
            break;
        }
        if header.next_offset() <= log_start {
            continue;
        }
        let first = kept.as_ref().map_or((position, header.base_offset), |kept| (kept.start, kept.base_offset));
        kept = Some(Kept {
            start: first.0,
            end: position + header.size_bytes(),
            base_offset: first.1,
            end_offset: header.next_offset(),
        });
    }
    kept
}
