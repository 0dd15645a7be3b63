//! Some of a batch's records are taken out of it, as compaction does: what stays keeps its place, byte for byte where it can.
//!
//! Base offset, last offset delta and sequences are kept, so offsets do not change and gaps say what went. A batch that
//! loses all of its records may stay as an empty one, for what its header says. A **delete horizon** is the time until
//! which the tombstones of a batch stay; it stands in the place of the base timestamp, which its records count from.

use std::borrow::Cow;

use super::header::{CODEC_MASK, DELETE_HORIZON, set_crc};
use super::{BatchError, BatchHeader, Codec, HEADER_BYTES, compress, decompress, varint};

/// What Kafka writes where an empty batch has no first timestamp.
const NO_TIMESTAMP: i64 = -1;

/// A whole batch with its records inflated.
#[derive(Clone, Debug)]
pub struct BatchContent<'a> {
    header: BatchHeader,
    body: Cow<'a, [u8]>,
}

/// A record where it stands, taken apart only as far as it must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct RecordView<'a> {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<&'a [u8]>,
    /// It has no value: its key is deleted.
    pub is_tombstone: bool,
    /// All of it, its length included.
    bytes: &'a [u8],
    /// From its offset delta on.
    rest: &'a [u8],
    attributes: u8,
}

impl<'a> BatchContent<'a> {
    /// Of the batch that `batch` begins with, inflated to at most `inflated_bytes_max` bytes. The checksum is the caller's
    /// matter, see [`super::check`].
    pub fn open(batch: &'a [u8], inflated_bytes_max: usize) -> Result<BatchContent<'a>, BatchError> {
        let header = BatchHeader::parse(batch)?;
        let size_bytes = header.size_bytes();
        let body =
            batch.get(HEADER_BYTES..size_bytes).ok_or(BatchError::Truncated { have: batch.len(), need: size_bytes })?;
        let body = match header.codec()? {
            Codec::None => Cow::Borrowed(body),
            codec => Cow::Owned(decompress(codec, body, inflated_bytes_max)?),
        };
        Ok(BatchContent { header, body })
    }

    /// The batch's header.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Its records, in order. After an error it ends.
    pub fn views(&self) -> RecordViews<'_> {
        RecordViews { header: self.header, body: &self.body, at: 0, index: 0 }
    }
}

/// See [`BatchContent::views`].
#[derive(Clone, Debug)]
pub struct RecordViews<'a> {
    header: BatchHeader,
    body: &'a [u8],
    at: usize,
    index: i32,
}

impl<'a> Iterator for RecordViews<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.header.record_count {
            return None;
        }
        let index = self.index;
        self.index += 1;
        let view = self.view().ok_or(BatchError::Record { index, problem: "it is not what its lengths say" });
        if view.is_err() {
            self.index = i32::MAX;
        }
        Some(view)
    }
}

impl<'a> RecordViews<'a> {
    fn view(&mut self) -> Option<RecordView<'a>> {
        let (body, start) = (self.body, self.at);
        let at = &mut self.at;
        let length = usize::try_from(varint::get_i32(body, at)?).ok()?;
        let end = at.checked_add(length).filter(|end| *end <= body.len())?;
        let attributes = *body[..end].get(*at)?;
        *at += 1;
        let timestamp_delta = varint::get_i64(&body[..end], at)?;
        let rest = *at;
        let offset_delta = varint::get_i32(&body[..end], at)?;
        let key = field(&body[..end], at)?;
        let is_tombstone = varint::get_i32(&body[..end], &mut { *at })? == -1;
        let timestamp = match self.header.is_log_append_time() {
            true => self.header.max_timestamp,
            false => self.header.base_timestamp.wrapping_add(timestamp_delta),
        };
        self.at = end;
        Some(RecordView {
            offset: self.header.base_offset.wrapping_add(i64::from(offset_delta)),
            timestamp,
            key,
            is_tombstone,
            bytes: &body[start..end],
            rest: &body[rest..end],
            attributes,
        })
    }
}

/// A key: `Some(None)` is a null one.
fn field<'a>(bytes: &'a [u8], at: &mut usize) -> Option<Option<&'a [u8]>> {
    let length = varint::get_i32(bytes, at)?;
    if length == -1 {
        return Some(None);
    }
    let start = *at;
    *at = start.checked_add(usize::try_from(length).ok()?)?;
    bytes.get(start..*at).map(Some)
}

/// Puts the records that stay together again. [`SiftedBatch::keep`] them in order.
#[derive(Debug)]
pub struct SiftedBatch {
    header: BatchHeader,
    /// The base timestamp becomes another one: each record's distance to it is written anew.
    moves_timestamps: bool,
    records: Vec<u8>,
    count: i32,
    max_timestamp: i64,
}

impl SiftedBatch {
    /// `delete_horizon_ms`: one that the batch did not have before.
    pub fn new(content: &BatchContent<'_>, delete_horizon_ms: Option<i64>) -> SiftedBatch {
        let mut header = content.header;
        if let Some(horizon_ms) = delete_horizon_ms {
            header.attributes |= DELETE_HORIZON;
            header.base_timestamp = horizon_ms;
        }
        let moves_timestamps = delete_horizon_ms.is_some();
        SiftedBatch { header, moves_timestamps, records: Vec::new(), count: 0, max_timestamp: NO_TIMESTAMP }
    }

    /// Keeps a record of the batch.
    pub fn keep(&mut self, record: &RecordView<'_>) {
        self.count += 1;
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        if !self.moves_timestamps {
            return self.records.extend_from_slice(record.bytes);
        }
        let timestamp_delta = record.timestamp.wrapping_sub(self.header.base_timestamp);
        let length = 1 + varint::size(timestamp_delta) + record.rest.len();
        varint::put(&mut self.records, length as i64);
        self.records.push(record.attributes);
        varint::put(&mut self.records, timestamp_delta);
        self.records.extend_from_slice(record.rest);
    }

    /// The batch with its checksum, compressed as it was.
    pub fn build(self) -> Result<Vec<u8>, BatchError> {
        if self.count == 0 {
            return Err(BatchError::Empty);
        }
        let records = match self.header.codec()? {
            Codec::None => self.records,
            codec => compress(codec, &self.records)?,
        };
        let batch_length = HEADER_BYTES + records.len() - 12;
        let max_timestamp =
            if self.header.is_log_append_time() { self.header.max_timestamp } else { self.max_timestamp };
        let header = BatchHeader {
            batch_length: i32::try_from(batch_length).map_err(|_| BatchError::Length(batch_length as i64))?,
            max_timestamp,
            record_count: self.count,
            ..self.header
        };
        let mut batch = Vec::with_capacity(HEADER_BYTES + records.len());
        batch.resize(HEADER_BYTES, 0);
        header.write(&mut batch);
        batch.extend_from_slice(&records);
        set_crc(&mut batch);
        Ok(batch)
    }
}

/// The batch without any record: what its header says of offsets, epochs, producers and sequences stays.
pub fn emptied(header: &BatchHeader) -> [u8; HEADER_BYTES] {
    let header = BatchHeader {
        batch_length: (HEADER_BYTES - 12) as i32,
        attributes: header.attributes & !(CODEC_MASK | DELETE_HORIZON),
        base_timestamp: NO_TIMESTAMP,
        record_count: 0,
        ..*header
    };
    let mut batch = [0; HEADER_BYTES];
    header.write(&mut batch);
    set_crc(&mut batch);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{BatchBuilder, Record, check, patch, records};

    fn batch(codec: Codec) -> Vec<u8> {
        let mut builder = BatchBuilder::new(codec);
        for at in 0..40i64 {
            let key = format!("key-{}", at % 7);
            let value = (at % 5 != 0).then(|| vec![at as u8; 50]);
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"same", Some(b"1")), (b"same", None)];
            builder.push(1_700_000_000_000 - at * 13, Some(key.as_bytes()), value.as_deref(), headers);
        }
        builder.push(5, None, Some(b"keyless"), &[]);
        builder.producer(9, 2, 100);
        let mut batch = builder.build().unwrap();
        patch(&mut batch, 1000, 3);
        batch.to_vec()
    }

    fn all(batch: &[u8]) -> Vec<Record> {
        records(bytes::Bytes::copy_from_slice(batch), 1 << 20).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn views_say_what_records_say() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let batch = batch(codec);
            let content = BatchContent::open(&batch, 1 << 20).unwrap();
            let views: Vec<_> = content.views().map(Result::unwrap).collect();
            let records = all(&batch);
            assert_eq!(views.len(), records.len());
            for (view, record) in views.iter().zip(&records) {
                assert_eq!((view.offset, view.timestamp), (record.offset, record.timestamp));
                assert_eq!((view.key, view.is_tombstone), (record.key.as_deref(), record.value.is_none()));
            }
        }
    }

    #[test]
    fn what_stays_is_what_it_was_with_every_codec_and_with_a_new_horizon() {
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            for horizon in [None, Some(1_800_000_000_000)] {
                let batch = batch(codec);
                let content = BatchContent::open(&batch, 1 << 20).unwrap();
                let mut sifted = SiftedBatch::new(&content, horizon);
                let kept: Vec<_> = content
                    .views()
                    .map(Result::unwrap)
                    .filter(|view| view.offset % 3 != 0 && view.offset > 1002)
                    .collect();
                kept.iter().for_each(|view| sifted.keep(view));
                let sifted = sifted.build().unwrap();
                let (before, after) = (*content.header(), check(&sifted).unwrap());
                assert_eq!((after.base_offset, after.next_offset()), (1000, 1041));
                assert_eq!((after.last_sequence(), after.leader_epoch), (before.last_sequence(), 3));
                assert_eq!((after.codec(), after.delete_horizon_ms()), (Ok(codec), horizon));
                assert_eq!(after.max_timestamp, kept.iter().map(|view| view.timestamp).max().unwrap());
                let wanted: Vec<_> =
                    all(&batch).into_iter().filter(|record| record.offset % 3 != 0 && record.offset > 1002).collect();
                assert_eq!(all(&sifted), wanted);
            }
        }
    }

    #[test]
    fn an_emptied_batch_keeps_its_offsets_and_sequences() {
        let batch = batch(Codec::Zstd);
        let before = check(&batch).unwrap();
        let empty = emptied(&before);
        let after = check(&empty).unwrap();
        assert_eq!((after.base_offset, after.next_offset(), after.record_count), (1000, 1041, 0));
        assert_eq!((after.producer_id, after.base_sequence, after.last_sequence()), (9, 100, 140));
        assert_eq!((after.max_timestamp, after.base_timestamp), (before.max_timestamp, -1));
        assert_eq!(all(&empty), []);
    }

    #[test]
    fn damaged_records_are_an_error_and_never_a_panic() {
        let batch = batch(Codec::None);
        for at in HEADER_BYTES..batch.len() {
            let mut bad = batch.clone();
            for value in [0, 0x7f, 0x80, 0xff] {
                bad[at] = value;
                let content = BatchContent::open(&bad, 1 << 20).unwrap();
                let count = content.views().count();
                assert!(count <= 41);
            }
        }
    }
}
