//! The records in a batch, one after the other. Nothing is copied unless the batch is compressed.

use std::iter::FusedIterator;
use std::ops::Range;

use bytes::Bytes;

use super::{BatchError, BatchHeader, Codec, HEADER_BYTES, decompress, varint};

/// What a producer sent. Its bytes are shared with the batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Record {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    /// In the producer's order; keys may repeat.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RecordHeader {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// The records of the batch that `batch` begins with, inflated to at most `inflated_bytes_max` bytes. The checksum is
/// the caller's matter, see [`super::check`].
pub fn records(batch: Bytes, inflated_bytes_max: usize) -> Result<Records, BatchError> {
    let header = BatchHeader::parse(&batch)?;
    let size_bytes = header.size_bytes();
    if batch.len() < size_bytes {
        return Err(BatchError::Truncated { have: batch.len(), need: size_bytes });
    }
    let body = batch.slice(HEADER_BYTES..size_bytes);
    let body = match header.codec()? {
        Codec::None => body,
        codec => Bytes::from(decompress(codec, &body, inflated_bytes_max)?),
    };
    Ok(Records { header, body, at: 0, index: 0, is_done: false })
}

/// See [`records`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    body: Bytes,
    at: usize,
    index: i32,
    is_done: bool,
}

impl Records {
    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    fn record(&mut self) -> Result<Record, &'static str> {
        let length = self.varint().ok_or("no length")?;
        let length = usize::try_from(length).map_err(|_| "negative length")?;
        let end = self.at + length;
        if length > self.body.len() - self.at {
            return Err("longer than the batch");
        }
        // The attributes of a record are unused.
        self.at += 1;
        let timestamp_delta = varint::get_i64(&self.body, &mut self.at).ok_or("no timestamp")?;
        let offset_delta = self.varint().ok_or("no offset")?;
        let key = self.field()?;
        let value = self.field()?;
        let headers = self.headers(end)?;
        if self.at != end {
            return Err("not as long as it says");
        }
        let timestamp = match self.header.is_log_append_time() {
            true => self.header.max_timestamp,
            false => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        Ok(Record {
            offset: self.header.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp,
            key: key.map(|range| self.body.slice(range)),
            value: value.map(|range| self.body.slice(range)),
            headers,
        })
    }

    fn varint(&mut self) -> Option<i32> {
        varint::get_i32(&self.body, &mut self.at)
    }

    /// Where a key or value is, `None` for null.
    fn field(&mut self) -> Result<Option<Range<usize>>, &'static str> {
        let length = self.varint().ok_or("no length of a key or value")?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| "negative length of a key or value")?;
        let start = self.at;
        if length > self.body.len().saturating_sub(start) {
            return Err("a key or value is longer than the batch");
        }
        self.at = start + length;
        Ok(Some(start..self.at))
    }

    fn headers(&mut self, end: usize) -> Result<Vec<RecordHeader>, &'static str> {
        /// Two lengths.
        const HEADER_BYTES_MIN: usize = 2;
        let count = self.varint().ok_or("no header count")?;
        let count = usize::try_from(count).map_err(|_| "negative header count")?;
        if count > end.saturating_sub(self.at) / HEADER_BYTES_MIN {
            return Err("more headers than the record can hold");
        }
        // Grows as headers are really there: one takes far more memory than the two bytes that it may be.
        let mut headers = Vec::new();
        for _ in 0..count {
            let key = self.field()?.ok_or("a header without a key")?;
            let value = self.field()?;
            headers.push(RecordHeader { key: self.body.slice(key), value: value.map(|range| self.body.slice(range)) });
        }
        Ok(headers)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let index = self.index;
        if index >= self.header.record_count {
            self.is_done = true;
            let is_all = self.at == self.body.len() && self.header.record_count >= 0;
            let problem = "the batch holds more than its count says";
            return if is_all { None } else { Some(Err(BatchError::Record { index, problem })) };
        }
        self.index += 1;
        let record = self.record().map_err(|problem| BatchError::Record { index, problem });
        self.is_done = record.is_err();
        Some(record)
    }
}

impl FusedIterator for Records {}
