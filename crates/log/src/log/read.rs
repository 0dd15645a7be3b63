//! Reading by offset: whole batches, straight from the file into one buffer.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use capek_wire::BatchHeader;
use capek_wire::batch::HEADER_BYTES;

use super::{Log, View, lock};
use crate::error::ReadError;
use crate::segment::Segment;
use crate::vfs::ReadAt;

/// Readers whose next position is remembered for each log.
const HINTS_MAX: usize = 8;

/// What is wanted.
#[derive(Clone, Copy, Debug)]
pub struct ReadRequest {
    pub offset: i64,
    pub max_bytes: usize,
    /// Exclusive: for consumers the high watermark.
    pub end_offset: i64,
    /// The first batch comes even when it is larger than `max_bytes`.
    pub at_least_one: bool,
    /// Without it the answer is `WouldBlock` where the disk would be needed.
    pub may_block: bool,
}

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Whole batches; the first may begin before the offset that was asked for.
    Data {
        bytes: Bytes,
        next_offset: i64,
    },
    Empty,
    WouldBlock,
}

/// Where readers go on: a sequential reader needs no index.
#[derive(Default)]
pub(super) struct Hints {
    entries: [Option<Hint>; HINTS_MAX],
    next: usize,
}

#[derive(Clone, Copy)]
struct Hint {
    generation: u64,
    offset: i64,
    segment_base: i64,
    position: u64,
}

impl Hints {
    fn find(&self, generation: u64, offset: i64) -> Option<Hint> {
        self.entries.iter().flatten().find(|hint| hint.offset == offset && hint.generation == generation).copied()
    }

    /// `from` is where the same reader was before, if it was known.
    fn note(&mut self, from: i64, hint: Hint) {
        let same = self.entries.iter().position(|entry| entry.is_some_and(|entry| entry.offset == from));
        let at = same.unwrap_or_else(|| {
            self.next = (self.next + 1) % HINTS_MAX;
            self.next
        });
        self.entries[at] = Some(hint);
    }
}

/// Where to look in a segment.
struct Place<'a> {
    segment: &'a Arc<Segment>,
    position: u64,
    /// A batch that begins at or holds the offset stands exactly there.
    is_exact: bool,
}

/// What was found in one segment.
enum Found {
    Data {
        bytes: Bytes,
        next_offset: i64,
        end_position: u64,
    },
    /// No batch here reaches the offset.
    NothingMore,
    Empty,
    WouldBlock,
}

impl Log {
    /// Reads batches from `offset` on, up to `end_offset` or the end of a segment.
    pub fn read(&self, request: ReadRequest) -> Result<ReadOutcome, ReadError> {
        let view = match self.view.load_full() {
            Some(view) => view,
            None if request.may_block => self.opened()?,
            None => return Ok(ReadOutcome::WouldBlock),
        };
        let (start, end) = (self.log_start(), self.end_offset());
        if request.offset < start || request.offset > end {
            return Err(ReadError::OutOfRange { start, end });
        }
        let request = ReadRequest { end_offset: request.end_offset.min(end), ..request };
        if request.offset >= request.end_offset {
            return Ok(ReadOutcome::Empty);
        }
        match self.read_view(&view, request) {
            // What was cut in the meantime looks like damage.
            Err(ReadError::Corrupt(_) | ReadError::Io(_)) if self.view_changed(&view) => {
                let view = self.opened()?;
                self.read_view(&view, request)
            }
            other => other,
        }
    }

    fn view_changed(&self, view: &Arc<View>) -> bool {
        self.view.load_full().is_none_or(|now| !Arc::ptr_eq(&now, view))
    }

    fn read_view(&self, view: &View, request: ReadRequest) -> Result<ReadOutcome, ReadError> {
        let hint = lock(&self.hints).find(view.generation, request.offset);
        let first = match hint {
            Some(hint) => view.segments.binary_search_by_key(&hint.segment_base, |segment| segment.base_offset).ok(),
            None => None,
        };
        let first = first.or_else(|| view.segment_at(request.offset)).unwrap_or(0);
        for segment in &view.segments[first.min(view.segments.len())..] {
            let hint = hint.filter(|hint| hint.segment_base == segment.base_offset);
            let position = match hint {
                Some(hint) => hint.position,
                None if request.offset <= segment.base_offset => 0,
                None => match segment.floor_position(&self.files, request.offset, request.may_block)? {
                    Some(position) => position,
                    None => return Ok(ReadOutcome::WouldBlock),
                },
            };
            match self.read_segment(Place { segment, position, is_exact: hint.is_some() }, request)? {
                Found::NothingMore => {}
                Found::Empty => return Ok(ReadOutcome::Empty),
                Found::WouldBlock => return Ok(ReadOutcome::WouldBlock),
                Found::Data { bytes, next_offset, end_position } => {
                    let hint = Hint {
                        generation: view.generation,
                        offset: next_offset,
                        segment_base: segment.base_offset,
                        position: end_position,
                    };
                    lock(&self.hints).note(request.offset, hint);
                    return Ok(ReadOutcome::Data { bytes, next_offset });
                }
            }
        }
        Ok(ReadOutcome::Empty)
    }

    fn read_segment(&self, place: Place<'_>, request: ReadRequest) -> Result<Found, ReadError> {
        let size = place.segment.size_bytes();
        let mut position = place.position;
        // From an index entry it is up to one interval to the batch that is wanted.
        let slack = if place.is_exact { 0 } else { self.config().index_interval_bytes as usize };
        let mut wanted = request.max_bytes.saturating_add(slack).max(HEADER_BYTES);
        while position < size {
            let length = (wanted as u64).min(size - position) as usize;
            let Some(bytes) = self.read_bytes(place.segment, position, length, request.may_block)? else {
                return Ok(Found::WouldBlock);
            };
            match select(&bytes, place.segment.base_offset, request)? {
                Selected::Batches { from, to, next_offset } => {
                    let bytes = Bytes::from(bytes).slice(from..to);
                    return Ok(Found::Data { bytes, next_offset, end_position: position + to as u64 });
                }
                Selected::None => return Ok(Found::Empty),
                Selected::Incomplete { at, size: batch } => {
                    let is_all = length as u64 == size - position || bytes.len() < length;
                    if at == 0 && is_all {
                        return Err(ReadError::Corrupt(format!("a batch at {position} reaches beyond {size}")));
                    }
                    position += at as u64;
                    wanted = batch.max(HEADER_BYTES).max(request.max_bytes);
                }
            }
        }
        Ok(Found::NothingMore)
    }

    fn read_bytes(
        &self,
        segment: &Segment,
        position: u64,
        length: usize,
        may_block: bool,
    ) -> io::Result<Option<Vec<u8>>> {
        if may_block {
            return segment.reader(&self.files)?.read_at(position, length).map(Some);
        }
        segment.read_at_cached(position, length)
    }
}

/// What a buffer of batches has for a request.
enum Selected {
    Batches {
        from: usize,
        to: usize,
        next_offset: i64,
    },
    None,
    /// Nothing yet: go on with `at`, where a batch of `size` bytes (0: not known) begins.
    Incomplete {
        at: usize,
        size: usize,
    },
}

fn select(bytes: &[u8], offset_min: i64, request: ReadRequest) -> Result<Selected, ReadError> {
    let (mut at, mut from, mut next_offset) = (0, None, offset_min);
    while bytes.len() - at >= HEADER_BYTES {
        let header = BatchHeader::parse(&bytes[at..]).map_err(|error| ReadError::Corrupt(error.to_string()))?;
        if header.base_offset < next_offset || header.magic != 2 {
            return Err(ReadError::Corrupt(format!("unlikely batch header {header:?}")));
        }
        let size = header.size_bytes();
        if header.next_offset() <= request.offset {
            next_offset = header.next_offset();
            at += size;
            if at > bytes.len() {
                return Ok(Selected::Incomplete { at, size: 0 });
            }
            continue;
        }
        if header.base_offset >= request.end_offset {
            break;
        }
        let used = from.map_or(0, |from| at - from);
        let is_too_much = used + size > request.max_bytes;
        if is_too_much && (from.is_some() || !request.at_least_one) {
            break;
        }
        if at + size > bytes.len() {
            return Ok(match from {
                Some(from) => Selected::Batches { from, to: at, next_offset },
                None => Selected::Incomplete { at, size },
            });
        }
        from.get_or_insert(at);
        next_offset = header.next_offset();
        at += size;
    }
    Ok(match from {
        Some(from) => Selected::Batches { from, to: at, next_offset },
        None if bytes.len() - at < HEADER_BYTES => Selected::Incomplete { at, size: 0 },
        None => Selected::None,
    })
}
