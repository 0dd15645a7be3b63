//! Step 1: the journal is read. Only whole rounds above the recovery point count; from there to the last whole one none may
//! be missing, and what follows the last is a torn tail.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::super::format::{BLOCK_BYTES, EntryHeader, Kind, RoundId, parse_round};
use super::super::points::{Point, Points};
use super::super::ring::{FILES, file_path};
use crate::error::OpenError;
use crate::ids::LogKey;
use crate::vfs::{OpenMode, Vfs, VfsFile};

/// An entry of one log, and where its bytes are.
#[derive(Clone, Copy, Debug)]
pub(super) struct LogEntry {
    pub sequence: u64,
    pub header: EntryHeader,
    pub file: usize,
    pub position: u64,
    pub length: usize,
}

/// All entries of one log, in their order.
#[derive(Default)]
pub(super) struct LogEntries {
    entries: Vec<LogEntry>,
}

/// What the entries say without looking at the log's files.
pub(super) struct Outline {
    pub log_start: i64,
    /// Everything below is confirmed; the log must be whole up to there when recovery is done.
    pub flushed_end: i64,
    /// What the log's own files must hold: below the recovery point, as far as no later cut took it.
    pub required_end: i64,
    /// All cuts together: from here on the files hold nothing that counts, all that came after is in the journal.
    pub cut: i64,
    /// What the files hold does not count at all.
    pub is_reset: bool,
    /// Index of the first entry after the last Delete or reset.
    pub first_entry: usize,
    /// For each entry from there: no later cut is below this.
    pub kept_below: Vec<i64>,
}

#[derive(Default)]
pub(super) struct Rounds {
    files: Vec<Arc<dyn VfsFile>>,
    pub logs: BTreeMap<LogKey, LogEntries>,
    pub rounds_count: u64,
    pub entries_count: u64,
}

/// A whole round found in a file.
struct FoundRound {
    attempt: u32,
    entries: Vec<LogEntry>,
}

impl Rounds {
    pub fn read(vfs: &dyn Vfs, directory: &Path, points: &Points, root: &Path) -> Result<Rounds, OpenError> {
        let at = OpenError::at(root);
        let mut rounds = Rounds::default();
        let mut found = BTreeMap::new();
        for index in 0..FILES {
            match vfs.open(&file_path(directory, index), OpenMode::Write) {
                Ok(file) => {
                    // What is judged now must not be lost later.
                    file.sync_data().map_err(&at)?;
                    read_file(&*file, index, points, &mut found).map_err(&at)?;
                    rounds.files.push(file);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                Err(error) => return Err(at(error)),
            }
        }
        // Rounds are numbered from the directory's recovery point on without a gap.
        let mut expected = points.sequence;
        for (sequence, round) in found {
            expected += 1;
            if sequence != expected {
                let problem =
                    format!("round {expected} of the journal is missing or damaged, round {sequence} is there");
                return Err(OpenError::Corrupt { path: root.to_owned(), problem });
            }
            rounds.note(round, points);
        }
        Ok(rounds)
    }

    fn note(&mut self, round: FoundRound, points: &Points) {
        self.rounds_count += 1;
        for entry in round.entries {
            let after = points.logs.get(&entry.header.key).map_or(0, |point| point.sequence);
            if entry.sequence > after {
                self.entries_count += 1;
                self.logs.entry(entry.header.key).or_default().entries.push(entry);
            }
        }
    }

    pub fn payload(&self, entry: &LogEntry) -> io::Result<Vec<u8>> {
        self.files[entry.file].read_at(entry.position, entry.length)
    }
}

fn read_file(
    file: &dyn VfsFile,
    index: usize,
    points: &Points,
    found: &mut BTreeMap<u64, FoundRound>,
) -> io::Result<()> {
    let bytes = file.read_at(0, file.len()? as usize)?;
    let mut start = 0;
    while start + BLOCK_BYTES <= bytes.len() {
        let Some((id, entries, end)) = parse_round(&bytes, start, points.salt) else {
            start += BLOCK_BYTES;
            continue;
        };
        start = end.next_multiple_of(BLOCK_BYTES);
        let RoundId { sequence, attempt } = id;
        let is_better = found.get(&sequence).is_none_or(|other| other.attempt < attempt);
        if sequence > points.sequence && is_better {
            let to_entry = |entry: super::super::format::FoundEntry| LogEntry {
                sequence,
                header: entry.header,
                file: index,
                position: entry.payload_start as u64,
                length: entry.payload_end - entry.payload_start,
            };
            found.insert(sequence, FoundRound { attempt, entries: entries.into_iter().map(to_entry).collect() });
        }
    }
    Ok(())
}

impl LogEntries {
    /// A Delete is the last that is said of this log.
    pub fn ends_deleted(&self) -> bool {
        self.entries.last().is_some_and(|entry| entry.header.kind == Kind::Delete)
    }

    /// The entries that count, with the bound that later cuts leave of each.
    pub fn kept<'a>(&'a self, outline: &'a Outline) -> impl Iterator<Item = (&'a LogEntry, i64)> {
        self.entries[outline.first_entry..].iter().zip(outline.kept_below.iter().copied())
    }

    pub fn outline(&self, point: Point) -> Outline {
        let mut outline = Outline {
            log_start: point.log_start,
            flushed_end: point.end,
            required_end: point.end,
            cut: i64::MAX,
            is_reset: false,
            first_entry: 0,
            kept_below: Vec::new(),
        };
        for (index, entry) in self.entries.iter().enumerate() {
            outline.note(index, &entry.header);
        }
        let mut kept_below = i64::MAX;
        for entry in self.entries[outline.first_entry..].iter().rev() {
            outline.kept_below.push(kept_below);
            if entry.header.kind == Kind::Truncate {
                kept_below = kept_below.min(entry.header.end_offset);
            }
        }
        outline.kept_below.reverse();
        outline.cut = kept_below;
        outline.required_end = if outline.is_reset { i64::MIN } else { point.end.min(kept_below) };
        outline
    }
}

impl Outline {
    fn note(&mut self, index: usize, header: &EntryHeader) {
        match header.kind {
            Kind::Append | Kind::Flushed => self.flushed_end = header.end_offset,
            Kind::Truncate => {
                self.flushed_end = self.flushed_end.min(header.end_offset);
                self.log_start = self.log_start.min(header.end_offset);
            }
            Kind::Delete => self.reset(index, 0),
            // Beyond the end: all is dropped, and the log begins there. `previous_end` is the end that it met.
            Kind::LogStart if header.end_offset > header.previous_end => self.reset(index, header.end_offset),
            Kind::LogStart => self.log_start = self.log_start.max(header.end_offset),
        }
    }

    fn reset(&mut self, index: usize, offset: i64) {
        self.flushed_end = offset;
        self.log_start = offset;
        self.is_reset = true;
        self.first_entry = index + 1;
    }
}
