//! Walks over the batches of a segment file, from a position, a window at a time.

use std::io;

use capek_wire::BatchHeader;
use capek_wire::batch::{HEADER_BYTES, check};

use crate::vfs::ReadAt;

/// Enough for many small batches; a larger batch makes its own window.
const WINDOW_BYTES: usize = 256 * 1024;
/// For walks that need only the headers: batches larger than this are stepped over.
const HEADER_WINDOW_BYTES: usize = 16 * 1024;

/// How much of a batch is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Lengths and offsets.
    Headers,
    /// The checksum too; the bytes of the batch are at hand.
    Whole,
}

/// One batch that the scanner stands on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScannedBatch {
    pub position: u64,
    pub header: BatchHeader,
}

impl ScannedBatch {
    pub fn end_position(&self) -> u64 {
        self.position + self.header.size_bytes() as u64
    }
}

/// Where and why a walk ended before the end of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadBatch {
    pub position: u64,
    pub problem: String,
}

/// What the next step found.
pub(crate) enum Step {
    Batch(ScannedBatch),
    End,
    Bad(BadBatch),
}

pub(crate) struct Scanner<'a> {
    file: &'a dyn ReadAt,
    depth: Depth,
    end: u64,
    position: u64,
    /// The least offset that the next batch may begin with.
    offset_min: i64,
    window: Vec<u8>,
    window_position: u64,
}

impl<'a> Scanner<'a> {
    /// From `position` (where a batch begins) up to `end`, the end of what is to be read.
    pub fn new(file: &'a dyn ReadAt, depth: Depth, position: u64, end: u64, offset_min: i64) -> Scanner<'a> {
        Scanner { file, depth, end, position, offset_min, window: Vec::new(), window_position: 0 }
    }

    pub fn step(&mut self) -> io::Result<Step> {
        if self.position >= self.end {
            return Ok(Step::End);
        }
        if !self.fill(HEADER_BYTES)? {
            return Ok(self.bad("the file ends within a batch header"));
        }
        let start = self.offset_in_window();
        let header = match BatchHeader::parse(&self.window[start..]) {
            Ok(header) => header,
            Err(error) => return Ok(self.bad(error)),
        };
        let size = header.size_bytes();
        if self.position + size as u64 > self.end {
            return Ok(self.bad("the file ends within a batch"));
        }
        if header.magic != 2 || header.base_offset < self.offset_min || header.last_offset_delta < 0 {
            return Ok(self.bad(format!("unlikely header: {header:?}")));
        }
        if self.depth == Depth::Whole {
            if !self.fill(size)? {
                return Ok(self.bad("the file ends within a batch"));
            }
            let start = self.offset_in_window();
            if let Err(error) = check(&self.window[start..start + size]) {
                return Ok(self.bad(error));
            }
        }
        let batch = ScannedBatch { position: self.position, header };
        self.position = batch.end_position();
        self.offset_min = header.next_offset();
        Ok(Step::Batch(batch))
    }

    /// The bytes of the batch that the last step found, which looked at all of it.
    pub fn bytes(&self, batch: &ScannedBatch) -> &[u8] {
        assert!(self.depth == Depth::Whole, "only the header was read");
        let start = (batch.position - self.window_position) as usize;
        &self.window[start..start + batch.header.size_bytes()]
    }

    fn bad(&self, problem: impl ToString) -> Step {
        Step::Bad(BadBatch { position: self.position, problem: problem.to_string() })
    }

    fn offset_in_window(&self) -> usize {
        (self.position - self.window_position) as usize
    }

    /// Makes the window hold `length` bytes from the position on; `false` when the file has fewer.
    fn fill(&mut self, length: usize) -> io::Result<bool> {
        let window_end = self.window_position + self.window.len() as u64;
        let is_inside = self.position >= self.window_position && self.position + length as u64 <= window_end;
        if !is_inside {
            let window = if self.depth == Depth::Whole { WINDOW_BYTES } else { HEADER_WINDOW_BYTES };
            let wanted = (window.max(length) as u64).min(self.end - self.position);
            self.window = self.file.read_at(self.position, wanted as usize)?;
            self.window_position = self.position;
        }
        Ok(self.window.len() - self.offset_in_window() >= length)
    }
}
