//! Looking into a partition's directory from outside, for `capek log dump` and `capek log verify`. Nothing is changed, and a
//! broker may be running on it: then the last batch may be seen half-written.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use capek_wire::batch::{check, records};
use capek_wire::{BatchHeader, Record};

use crate::epochs::Epochs;
use crate::header_guard;
use crate::index::{OFFSET_ENTRY_BYTES, TIME_ENTRY_BYTES, parse_offset_entry, parse_time_entry};
use crate::producers::{ProducerBatch, Producers};
use crate::scan::{Depth, Scanner, Step};
use crate::segment::{file_name, parse_file_name};
use crate::text::{parse_epoch_checkpoint, parse_partition_metadata};
use crate::vfs::{OpenMode, RealVfs, Vfs, VfsFile, read_file, read_file_if_there};

const INFLATED_BYTES_MAX: usize = 256 << 20;

/// A segment's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    pub path: PathBuf,
    pub base_offset: i64,
    pub size_bytes: u64,
}

/// One batch of a segment.
#[derive(Clone, Debug)]
pub struct DumpedBatch {
    pub position: u64,
    pub header: BatchHeader,
    /// What is wrong with its bytes.
    pub problem: Option<String>,
    bytes: Bytes,
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub path: PathBuf,
    pub position: Option<u64>,
    pub problem: String,
}

/// What [`verify`] went through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    pub segments: u64,
    pub batches: u64,
    pub records: u64,
    pub size_bytes: u64,
    pub log_start: Option<i64>,
    pub end: i64,
    pub problems: Vec<Problem>,
}

/// The segments in a partition's directory by rising offset, or the one that `path` is.
pub fn segments(path: &Path) -> io::Result<Vec<SegmentFile>> {
    segments_in(&RealVfs, path)
}

fn segments_in(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<SegmentFile>> {
    let paths = match path.extension().is_some_and(|extension| extension == "log") {
        true => vec![path.to_owned()],
        false => vfs.read_directory(path)?.into_iter().map(|entry| path.join(entry.name)).collect(),
    };
    let mut segments = Vec::new();
    for path in paths {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some((base_offset, "log")) = parse_file_name(name) {
            segments.push(SegmentFile { base_offset, size_bytes: vfs.file_len(&path)?, path });
        }
    }
    Ok(segments)
}

impl SegmentFile {
    /// Calls `visit` with each batch; stops after one whose header makes no sense, which comes back as the problem.
    pub fn for_each_batch(&self, visit: &mut dyn FnMut(DumpedBatch)) -> io::Result<Option<Problem>> {
        self.for_each_batch_in(&RealVfs, visit)
    }

    fn for_each_batch_in(&self, vfs: &dyn Vfs, visit: &mut dyn FnMut(DumpedBatch)) -> io::Result<Option<Problem>> {
        let file = vfs.open(&self.path, OpenMode::Read)?;
        let mut scanner = Scanner::new(&*file, Depth::Headers, 0, self.size_bytes, self.base_offset);
        loop {
            match scanner.step()? {
                Step::Batch(batch) => visit(read_batch(&file, batch.position, batch.header)?),
                Step::End => return Ok(None),
                Step::Bad(bad) => {
                    let position = Some(bad.position);
                    return Ok(Some(Problem { path: self.path.clone(), position, problem: bad.problem }));
                }
            }
        }
    }
}

fn read_batch(file: &Arc<dyn VfsFile>, position: u64, header: BatchHeader) -> io::Result<DumpedBatch> {
    let bytes = Bytes::from(file.read_at(position, header.size_bytes())?);
    let problem = check(&bytes).err().map(|error| error.to_string());
    Ok(DumpedBatch { position, header, problem, bytes })
}

impl DumpedBatch {
    /// Its records, inflated; the error says which one is damaged.
    pub fn records(&self) -> Result<Vec<Record>, String> {
        let records = records(self.bytes.clone(), INFLATED_BYTES_MAX).map_err(|error| error.to_string())?;
        records.collect::<Result<_, _>>().map_err(|error| error.to_string())
    }
}

/// The producers in a `.snapshot` file; `None` when it is damaged.
pub fn snapshot(path: &Path) -> io::Result<Option<Vec<ProducerBatch>>> {
    Ok(Producers::parse_snapshot(&read_file(&RealVfs, path)?).map(|producers| producers.batches()))
}

/// Goes through everything in a partition's directory: batches, records, and whether the indexes, the epochs and the
/// snapshots say the same.
pub fn verify(path: &Path) -> io::Result<Verified> {
    verify_in(&RealVfs, path)
}

/// As [`verify`], on any file system.
pub fn verify_in(vfs: &dyn Vfs, path: &Path) -> io::Result<Verified> {
    let mut verifying = Verifying { vfs, directory: path, verified: Verified::default(), epochs: Epochs::default() };
    let segments = segments_in(vfs, path)?;
    verifying.verified.log_start = segments.first().map(|segment| segment.base_offset);
    for (at, segment) in segments.iter().enumerate() {
        let is_active = at + 1 == segments.len();
        verifying.segment(segment, is_active)?;
    }
    verifying.small_files()?;
    Ok(verifying.verified)
}

struct Verifying<'a> {
    vfs: &'a dyn Vfs,
    directory: &'a Path,
    verified: Verified,
    epochs: Epochs,
}

/// What the batches of a segment say of the entries that its indexes may have.
#[derive(Default)]
struct Positions {
    /// Last offset and position of each batch.
    batches: Vec<(i64, u64)>,
    /// Largest timestamp so far, and the last offset of the batch that had it.
    timestamps: Vec<(i64, i64)>,
    /// Position and offset of each batch's end, and the checksum over all headers up to there.
    guards: Vec<(u64, i64, u32)>,
}

impl Verifying<'_> {
    fn problem(&mut self, path: &Path, position: Option<u64>, problem: impl Into<String>) {
        self.verified.problems.push(Problem { path: path.to_owned(), position, problem: problem.into() });
    }

    fn segment(&mut self, segment: &SegmentFile, is_active: bool) -> io::Result<()> {
        if self.verified.segments > 0 && segment.base_offset < self.verified.end {
            let problem = format!("it begins at {}, before the end of the one before", segment.base_offset);
            self.problem(&segment.path, None, problem);
        }
        let mut positions = Positions::default();
        let mut problems = Vec::new();
        let (mut batches, mut records, mut end) = (0, 0, segment.base_offset);
        let mut epochs = std::mem::take(&mut self.epochs);
        let bad = segment.for_each_batch_in(self.vfs, &mut |batch| {
            batches += 1;
            end = batch.header.next_offset();
            positions.note(&batch);
            epochs.note(batch.header.leader_epoch, batch.header.base_offset);
            match batch.problem.clone().map_or_else(|| batch.records(), Err) {
                Ok(found) => records += found.len() as u64,
                Err(problem) => problems.push((batch.position, problem)),
            }
        })?;
        self.epochs = epochs;
        problems.into_iter().for_each(|(position, problem)| self.problem(&segment.path, Some(position), problem));
        self.verified.problems.extend(bad);
        self.guards(segment, &positions)?;
        self.verified.segments += 1;
        self.verified.batches += batches;
        self.verified.records += records;
        self.verified.size_bytes += segment.size_bytes;
        self.verified.end = end;
        self.indexes(segment, &positions, is_active)
    }

    /// What `.headercrc` says of the fields that the batches' own checksums leave out.
    fn guards(&mut self, segment: &SegmentFile, positions: &Positions) -> io::Result<()> {
        let path = self.directory.join(file_name(segment.base_offset, header_guard::EXTENSION));
        for guard in header_guard::read(self.vfs, &path)? {
            let wanted = (u64::from(guard.end_position), guard.end_offset, guard.crc);
            if positions.guards.binary_search(&wanted).is_err() {
                self.problem(&path, None, format!("the batch headers before {} changed", guard.end_offset));
            }
        }
        Ok(())
    }

    fn indexes(&mut self, segment: &SegmentFile, positions: &Positions, is_active: bool) -> io::Result<()> {
        let path = self.directory.join(file_name(segment.base_offset, "index"));
        match read_file_if_there(self.vfs, &path)? {
            None if !is_active => self.problem(&path, None, "it is missing"),
            None => {}
            Some(bytes) => {
                for entry in bytes.as_chunks::<OFFSET_ENTRY_BYTES>().0.iter().map(|entry| parse_offset_entry(entry)) {
                    let wanted = (segment.base_offset + i64::from(entry.relative_offset), u64::from(entry.position));
                    if positions.batches.binary_search(&wanted).is_err() {
                        self.problem(&path, None, format!("no batch ends with {} at {}", wanted.0, wanted.1));
                    }
                }
            }
        }
        let path = self.directory.join(file_name(segment.base_offset, "timeindex"));
        let Some(bytes) = read_file_if_there(self.vfs, &path)? else { return Ok(()) };
        for entry in bytes.as_chunks::<TIME_ENTRY_BYTES>().0.iter().map(|entry| parse_time_entry(entry)) {
            let wanted = (entry.timestamp, segment.base_offset + i64::from(entry.relative_offset));
            if positions.timestamps.binary_search(&wanted).is_err() {
                self.problem(&path, None, format!("{} is not the largest timestamp up to {}", wanted.0, wanted.1));
            }
        }
        Ok(())
    }

    fn small_files(&mut self) -> io::Result<()> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap_or_default();
        let path = self.directory.join(crate::log::EPOCH_CHECKPOINT);
        if let Some(bytes) = read_file_if_there(self.vfs, &path)? {
            let Some(entries) = parse_epoch_checkpoint(&text(bytes)) else {
                self.problem(&path, None, "it is no epoch checkpoint");
                return Ok(());
            };
            let known = self.epochs.entries();
            let is_known = |entry: &(i32, i64)| known.iter().any(|other| other.0 == entry.0 && other.1 <= entry.1);
            match entries[..] {
                // Where all that was there is deleted one epoch is left, which begins where the log does, and ends.
                [(_, start @ 1..)] if self.verified.segments == 0 => {
                    (self.verified.log_start, self.verified.end) = (Some(start), start);
                }
                _ => {
                    if let Some(entry) = entries.iter().find(|entry| !is_known(entry)) {
                        self.problem(&path, None, format!("no batch begins epoch {} at {}", entry.0, entry.1));
                    }
                }
            }
        }
        let path = self.directory.join("partition.metadata");
        if let Some(bytes) = read_file_if_there(self.vfs, &path)?
            && parse_partition_metadata(&text(bytes)).is_none()
        {
            self.problem(&path, None, "no topic id can be read");
        }
        for entry in self.vfs.read_directory(self.directory)? {
            let path = self.directory.join(&entry.name);
            if matches!(parse_file_name(&entry.name), Some((_, "snapshot")))
                && Producers::parse_snapshot(&read_file(self.vfs, &path)?).is_none()
            {
                self.problem(&path, None, "the snapshot is damaged");
            }
        }
        Ok(())
    }
}

impl Positions {
    fn note(&mut self, batch: &DumpedBatch) {
        let crc = header_guard::extend(self.guards.last().map_or(0, |last| last.2), &batch.header);
        let end_position = batch.position + batch.header.size_bytes() as u64;
        self.guards.push((end_position, batch.header.next_offset(), crc));
        self.batches.push((batch.header.last_offset(), batch.position));
        if self.timestamps.last().is_none_or(|last| batch.header.max_timestamp > last.0) {
            self.timestamps.push((batch.header.max_timestamp, batch.header.last_offset()));
        }
    }
}
