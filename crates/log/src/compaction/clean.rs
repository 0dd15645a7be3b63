//! One clean of a log: the map of its dirty keys, then group after group written again.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use capek_wire::batch::BatchContent;

use super::cleanable::Cleanable;
use super::filter::{Filter, INFLATED_BYTES_MAX, NeededBatches, Verdict};
use super::offset_map::{MapLimits, OffsetMap};
use super::output::{Cleaned, Output, remove_cleaned};
use super::{CleanError, CleanWatch};
use crate::log::Log;
use crate::scan::{BadBatch, Depth, ScannedBatch, Scanner, Step};
use crate::segment::{Segment, file_name};
use crate::vfs::OpenMode;

/// Segments that become one, at most: the files of all of them are open while they are replaced.
const GROUP_SEGMENTS_MAX: usize = 64;

#[derive(Clone, Copy, Debug)]
pub struct CleanOptions {
    pub now_ms: i64,
    /// How long tombstones stay from their first clean on.
    pub delete_retention_ms: i64,
    /// Memory for keys: 24 bytes each.
    pub dedupe_bytes_max: usize,
    /// How full that memory may get, above 0 and at most 1.
    pub load_factor: f64,
    /// Memory for what is written.
    pub buffer_bytes: usize,
}

/// What a clean has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanStats {
    pub read_bytes: u64,
    pub written_bytes: u64,
    pub keys: u64,
    /// Of the segments that were gone through, before and after.
    pub before_bytes: u64,
    pub after_bytes: u64,
}

/// A clean that is on its way. Its steps block, and belong on a thread of their own.
pub struct Clean {
    log: Arc<Log>,
    options: CleanOptions,
    map: OffsetMap,
    groups: VecDeque<Vec<Arc<Segment>>>,
    needed: NeededBatches,
    stats: CleanStats,
}

impl Clean {
    /// Goes through the dirty part of the log, as far as the memory for its keys reaches. A log is cleaned by one at a time.
    pub fn begin(
        log: &Arc<Log>,
        cleanable: Cleanable,
        options: CleanOptions,
        watch: &mut dyn CleanWatch,
    ) -> Result<Clean, CleanError> {
        if !log.begin_clean() {
            return Err(CleanError::Ended);
        }
        let keys_max = (cleanable.end_offset - cleanable.first_dirty).max(0) as u64;
        let limits = MapLimits { memory_bytes: options.dedupe_bytes_max, keys_max, load_factor: options.load_factor };
        let mut clean = Clean {
            map: OffsetMap::new(log.vfs.unique_id(), limits, cleanable.first_dirty),
            log: log.clone(),
            options,
            groups: VecDeque::new(),
            needed: log.needed_batches()?,
            stats: CleanStats::default(),
        };
        let view = log.opened()?;
        let closed = view.segments.len().saturating_sub(1);
        let is_cleanable = |segment: &&Arc<Segment>| segment.next_offset() <= cleanable.end_offset;
        let segments: Vec<_> = view.segments[..closed].iter().take_while(is_cleanable).cloned().collect();
        let read = clean.read_keys(&segments, cleanable.first_dirty, watch);
        read.map_err(|error| clean.explain(error, &segments))?;
        clean.group(&segments)?;
        Ok(clean)
    }

    /// Writes the next group whose records change: it goes to the journal, and when that has answered comes the next.
    /// `None`: nothing is left to do.
    pub fn next_group(&mut self, watch: &mut dyn CleanWatch) -> Result<Option<Arc<Cleaned>>, CleanError> {
        while let Some(group) = self.groups.pop_front() {
            let base_offset = group[0].base_offset;
            match self.clean_group(&group, watch) {
                Ok(None) => {}
                Ok(Some(cleaned)) => return Ok(Some(Arc::new(cleaned))),
                Err(error) => {
                    // What remains is removed by the next start.
                    let _ = remove_cleaned(&self.log, base_offset);
                    return Err(self.explain(error, &group));
                }
            }
        }
        Ok(None)
    }

    /// When all groups are in place, the dirty part of the log begins here.
    pub fn end_offset(&self) -> i64 {
        self.map.end_offset()
    }

    pub fn stats(&self) -> CleanStats {
        CleanStats { keys: self.map.len() as u64, ..self.stats }
    }

    /// What was cut, dropped or deleted in the meantime looks like damage.
    fn explain(&self, error: CleanError, segments: &[Arc<Segment>]) -> CleanError {
        if self.log.holds(segments) { error } else { CleanError::Ended }
    }

    /// The keys of the dirty part and their last offsets, until the map is full.
    fn read_keys(
        &mut self,
        segments: &[Arc<Segment>],
        first_dirty: i64,
        watch: &mut dyn CleanWatch,
    ) -> Result<(), CleanError> {
        for segment in segments.iter().filter(|segment| segment.next_offset() > first_dirty) {
            let position = segment.floor_position(&self.log.files, first_dirty, true)?.unwrap_or(0);
            let file = segment.log_file(&self.log.files, OpenMode::Write)?;
            let mut scanner = Scanner::new(&*file, Depth::Whole, position, segment.size_bytes(), segment.base_offset);
            while let Some(batch) = next_batch(&mut scanner, segment)? {
                let is_whole = self.read_batch(&batch, scanner.bytes(&batch), first_dirty)?;
                self.note_read(&batch, watch)?;
                if !is_whole {
                    return Ok(());
                }
                self.map.advance(batch.header.next_offset());
            }
        }
        Ok(())
    }

    /// `false`: the map is full, and ends at the record that did not fit.
    fn read_batch(&mut self, batch: &ScannedBatch, bytes: &[u8], first_dirty: i64) -> Result<bool, CleanError> {
        if batch.header.is_control() || batch.header.next_offset() <= first_dirty {
            return Ok(true);
        }
        for record in BatchContent::open(bytes, INFLATED_BYTES_MAX)?.views() {
            let record = record?;
            let Some(key) = record.key.filter(|_| record.offset >= first_dirty) else { continue };
            if !self.map.put(key, record.offset) {
                self.map.advance(record.offset);
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Small segments become one, up to the size of a segment.
    fn group(&mut self, segments: &[Arc<Segment>]) -> io::Result<()> {
        let config = self.log.config();
        let (mut group, mut size_bytes, mut index_bytes) = (Vec::<Arc<Segment>>::new(), 0, 0);
        for segment in segments.iter().filter(|segment| segment.base_offset < self.map.end_offset()) {
            let index_name = file_name(segment.base_offset, "index");
            let index_size = self.log.vfs.file_len(&self.log.directory().join(index_name)).unwrap_or(0);
            let fits = group.first().is_some_and(|first| {
                size_bytes + segment.size_bytes() <= u64::from(config.segment_bytes)
                    && index_bytes + index_size <= u64::from(config.segment_index_bytes)
                    && segment.next_offset() - first.base_offset <= i64::from(i32::MAX)
                    && group.len() < GROUP_SEGMENTS_MAX
            });
            if !fits && !group.is_empty() {
                self.groups.push_back(std::mem::take(&mut group));
                (size_bytes, index_bytes) = (0, 0);
            }
            size_bytes += segment.size_bytes();
            index_bytes += index_size;
            group.push(segment.clone());
        }
        if !group.is_empty() {
            self.groups.push_back(group);
        }
        Ok(())
    }

    /// `None`: it is one segment and stays as it is.
    fn clean_group(
        &mut self,
        group: &[Arc<Segment>],
        watch: &mut dyn CleanWatch,
    ) -> Result<Option<Cleaned>, CleanError> {
        let log = self.log.clone();
        let end_offset = group.last().expect("a group has a segment").next_offset();
        self.needed.segment_end = end_offset;
        let mut output = Output::new(&log, group[0].base_offset, self.options.buffer_bytes);
        if group.len() > 1 {
            output.begin(&*group[0].log_file(&log.files, OpenMode::Write)?, watch)?;
        }
        let mut before_bytes = 0;
        for segment in group {
            before_bytes += segment.size_bytes();
            self.clean_segment(segment, &mut output, watch)?;
        }
        self.stats.before_bytes += before_bytes;
        self.stats.after_bytes += output.size_bytes();
        if !output.is_written() {
            return Ok(None);
        }
        let cleaned = output.finish(group.to_vec(), end_offset, watch)?;
        self.stats.written_bytes += cleaned.size_bytes;
        Ok(Some(cleaned))
    }

    fn clean_segment(
        &mut self,
        segment: &Segment,
        output: &mut Output<'_>,
        watch: &mut dyn CleanWatch,
    ) -> Result<(), CleanError> {
        let log = self.log.clone();
        let file = segment.log_file(&log.files, OpenMode::Write)?;
        let mut scanner = Scanner::new(&*file, Depth::Whole, 0, segment.size_bytes(), segment.base_offset);
        while let Some(batch) = next_batch(&mut scanner, segment)? {
            self.note_read(&batch, watch)?;
            let bytes = scanner.bytes(&batch);
            let filter = Filter {
                map: &self.map,
                now_ms: self.options.now_ms,
                delete_retention_ms: self.options.delete_retention_ms,
                needed: &self.needed,
            };
            let verdict = filter.sift(&batch.header, bytes)?;
            if verdict != Verdict::Unchanged && !output.is_written() {
                output.begin(&*file, watch)?;
            }
            match verdict {
                Verdict::Unchanged => output.push(&batch.header, bytes, watch)?,
                Verdict::Changed(changed) => {
                    output.push(&capek_wire::BatchHeader::parse(&changed)?, &changed, watch)?;
                }
                Verdict::Gone => {}
            }
        }
        Ok(())
    }

    fn note_read(&mut self, batch: &ScannedBatch, watch: &mut dyn CleanWatch) -> Result<(), CleanError> {
        let read_bytes = batch.header.size_bytes() as u64;
        self.stats.read_bytes += read_bytes;
        let goes_on = watch.progress(read_bytes, 0) && !self.log.is_deleted();
        if goes_on { Ok(()) } else { Err(CleanError::Ended) }
    }
}

impl Drop for Clean {
    fn drop(&mut self) {
        self.log.end_clean();
    }
}

fn next_batch(scanner: &mut Scanner<'_>, segment: &Segment) -> Result<Option<ScannedBatch>, CleanError> {
    match scanner.step()? {
        Step::Batch(batch) => Ok(Some(batch)),
        Step::End => Ok(None),
        Step::Bad(BadBatch { position, problem }) => {
            Err(CleanError::Uncleanable(format!("segment {} at {position}: {problem}", segment.base_offset)))
        }
    }
}
