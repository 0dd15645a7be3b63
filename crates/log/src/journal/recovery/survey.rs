//! Step 2, first half: what the files of a log hold, up to the first batch that is not whole.

use std::io;
use std::path::Path;

use super::rounds::Outline;
use crate::epochs::Epochs;
use crate::header_guard::{self, GuardEntry};
use crate::index::MemoryIndex;
use crate::scan::{Depth, Scanner, Step};
use crate::segment::{file_name, parse_file_name};
use crate::vfs::{OpenMode, Vfs};

/// Kafka's default of `index.interval.bytes`: the topic's own is not known here, and any will do.
const INDEX_INTERVAL_BYTES: u32 = 4096;

/// The whole batches of one segment.
pub(super) struct SurveyedSegment {
    pub base_offset: i64,
    pub size_bytes: u64,
    pub next_offset: i64,
    pub memory: MemoryIndex,
    /// The entries of its `.headercrc` that agree with it.
    pub guards: Vec<GuardEntry>,
}

/// What a log's directory holds.
pub(super) struct Survey {
    /// Those that count, in order, without a gap between them.
    pub segments: Vec<SurveyedSegment>,
    /// The bases of all segment files.
    pub bases: Vec<i64>,
    pub snapshots: Vec<i64>,
    pub leftovers: Vec<String>,
    /// Indexes and the like, by the segment that they belong or belonged to.
    pub side_files: Vec<(i64, String)>,
    /// Below, every batch is whole.
    pub valid_end: i64,
    /// Why it ends there.
    pub problem: String,
    pub epochs: Epochs,
}

pub(super) fn survey(vfs: &dyn Vfs, directory: &Path, outline: &Outline) -> io::Result<Survey> {
    let mut survey = Survey {
        segments: Vec::new(),
        bases: Vec::new(),
        snapshots: Vec::new(),
        leftovers: Vec::new(),
        side_files: Vec::new(),
        valid_end: i64::MIN,
        problem: "the files end there".to_owned(),
        epochs: Epochs::default(),
    };
    for entry in vfs.read_directory(directory)? {
        match parse_file_name(&entry.name) {
            Some((base, "log")) => survey.bases.push(base),
            Some((offset, "snapshot")) => survey.snapshots.push(offset),
            Some((_, extension)) if extension.ends_with(".deleted") => survey.leftovers.push(entry.name),
            Some((base, _)) => survey.side_files.push((base, entry.name)),
            _ => {}
        }
    }
    if outline.is_reset {
        return Ok(survey);
    }
    // Segments wholly below the log start were on their way out.
    let holds_start = survey.bases.partition_point(|base| *base <= outline.log_start);
    let Some(first) = holds_start.checked_sub(1) else { return Ok(survey) };
    survey.valid_end = survey.bases[first];
    let bases = survey.bases.clone();
    for base in bases.into_iter().skip(first) {
        if !survey.add_segment(vfs, directory, base, outline)? {
            break;
        }
    }
    Ok(survey)
}

impl SurveyedSegment {
    fn agrees_with(&self, guard: &GuardEntry) -> bool {
        let found = (self.size_bytes, self.next_offset, self.memory.headers_crc);
        found == (u64::from(guard.end_position), guard.end_offset, guard.crc)
    }
}

impl Survey {
    /// `false`: nothing behind this segment counts.
    fn add_segment(
        &mut self,
        vfs: &dyn Vfs,
        directory: &Path,
        base_offset: i64,
        outline: &Outline,
    ) -> io::Result<bool> {
        if base_offset != self.valid_end {
            self.problem = format!("a segment begins at {base_offset}, not at {}", self.valid_end);
            return Ok(false);
        }
        let cut = outline.cut;
        if base_offset >= cut && !self.segments.is_empty() {
            return Ok(false);
        }
        let file = vfs.open(&directory.join(file_name(base_offset, "log")), OpenMode::Write)?;
        let length = file.len()?;
        let mut segment = SurveyedSegment {
            base_offset,
            size_bytes: 0,
            next_offset: base_offset,
            memory: MemoryIndex::default(),
            guards: Vec::new(),
        };
        let mut scanner = Scanner::new(&*file, Depth::Whole, 0, length, base_offset);
        let guards = header_guard::read(vfs, &directory.join(file_name(base_offset, header_guard::EXTENSION)))?;
        let mut guards = guards.into_iter().peekable();
        let mut is_whole = true;
        loop {
            match scanner.step()? {
                Step::Batch(batch) if batch.header.next_offset() > cut => {
                    is_whole = false;
                    break;
                }
                Step::Batch(batch) => {
                    segment.memory.note(base_offset, batch.position, &batch.header, INDEX_INTERVAL_BYTES);
                    segment.size_bytes = batch.end_position();
                    segment.next_offset = batch.header.next_offset();
                    self.epochs.note(batch.header.leader_epoch, batch.header.base_offset);
                    while let Some(guard) = guards.next_if(|guard| u64::from(guard.end_position) <= segment.size_bytes)
                    {
                        if segment.agrees_with(&guard) {
                            segment.guards.push(guard);
                        } else if guard.end_offset <= outline.required_end {
                            // It was synced like this, and nothing cut it since.
                            self.problem =
                                format!("segment {base_offset}: the batch headers before {} changed", guard.end_offset);
                            return Ok(false);
                        }
                    }
                }
                Step::End => break,
                Step::Bad(bad) => {
                    self.problem = format!("segment {base_offset} at {}: {}", bad.position, bad.problem);
                    is_whole = false;
                    break;
                }
            }
        }
        if let Some(guard) = guards.find(|guard| guard.end_offset <= outline.required_end) {
            self.problem = format!("segment {base_offset}: the batches up to {} are not all there", guard.end_offset);
            return Ok(false);
        }
        self.valid_end = segment.next_offset;
        self.segments.push(segment);
        Ok(is_whole)
    }

    /// The segment and the position where the first batch at or after `offset` begins.
    pub fn locate(&self, vfs: &dyn Vfs, directory: &Path, offset: i64) -> io::Result<Option<(usize, u64)>> {
        let after = self.segments.partition_point(|segment| segment.base_offset <= offset);
        let Some(at) = after.checked_sub(1) else { return Ok(None) };
        let segment = &self.segments[at];
        if offset >= segment.next_offset {
            let is_next = at + 1 < self.segments.len();
            return Ok(Some(if is_next { (at + 1, 0) } else { (at, segment.size_bytes) }));
        }
        let relative = (offset - segment.base_offset) as u32;
        let position = segment.memory.floor(relative);
        let file = vfs.open(&directory.join(file_name(segment.base_offset, "log")), OpenMode::Read)?;
        let mut scanner = Scanner::new(&*file, Depth::Headers, position, segment.size_bytes, segment.base_offset);
        while let Step::Batch(batch) = scanner.step()? {
            if batch.header.next_offset() > offset {
                return Ok(Some((at, batch.position)));
            }
        }
        Ok(Some((at, segment.size_bytes)))
    }

    /// Bytes from a place on, over the edges of segments; fewer at the end.
    pub fn read(&self, vfs: &dyn Vfs, directory: &Path, from: (usize, u64), length: usize) -> io::Result<Vec<u8>> {
        let (mut at, mut position) = from;
        let mut bytes = Vec::new();
        while bytes.len() < length && at < self.segments.len() {
            let segment = &self.segments[at];
            let left = (segment.size_bytes.saturating_sub(position) as usize).min(length - bytes.len());
            if left > 0 {
                let file = vfs.open(&directory.join(file_name(segment.base_offset, "log")), OpenMode::Read)?;
                bytes.extend_from_slice(&file.read_at(position, left)?);
            }
            (at, position) = (at + 1, 0);
        }
        Ok(bytes)
    }
}
