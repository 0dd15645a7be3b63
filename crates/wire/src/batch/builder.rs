//! Makes a batch out of records, as a producer does.

use bytes::BytesMut;

use super::header::{CONTROL, TRANSACTIONAL, set_crc};
use super::{BatchError, BatchHeader, Codec, HEADER_BYTES, compress, varint};

/// Gathers records. Their offsets count from 0; a broker patches the batch's base offset.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    codec: Codec,
    records: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    attributes: i16,
}

/// What Kafka writes for "no timestamp", "no producer" and "no epoch".
const NONE: i64 = -1;

impl BatchBuilder {
    /// An empty batch.
    pub fn new(codec: Codec) -> BatchBuilder {
        BatchBuilder {
            codec,
            records: Vec::new(),
            count: 0,
            base_timestamp: NONE,
            max_timestamp: NONE,
            producer_id: NONE,
            producer_epoch: -1,
            base_sequence: -1,
            attributes: codec.code(),
        }
    }

    /// Adds a record.
    pub fn push(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let timestamp_delta = timestamp_ms.wrapping_sub(self.base_timestamp);
        let offset_delta = i64::from(self.count);
        let headers_bytes: usize = headers.iter().map(|(key, value)| field_size(Some(key)) + field_size(*value)).sum();
        let length = 1 // attributes
            + varint::size(timestamp_delta)
            + varint::size(offset_delta)
            + field_size(key)
            + field_size(value)
            + varint::size(headers.len() as i64)
            + headers_bytes;

        let out = &mut self.records;
        varint::put(out, length as i64);
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, offset_delta);
        put_field(out, key);
        put_field(out, value);
        varint::put(out, headers.len() as i64);
        for (key, value) in headers {
            put_field(out, Some(key));
            put_field(out, *value);
        }
        self.count += 1;
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The batch's size before compression.
    pub fn size_estimate_bytes(&self) -> usize {
        HEADER_BYTES + self.records.len()
    }

    /// Makes the batch an idempotent producer's.
    pub fn producer(&mut self, producer_id: i64, epoch: i16, base_sequence: i32) {
        self.producer_id = producer_id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
    }

    /// Makes the batch part of a transaction.
    pub fn transactional(&mut self) {
        self.attributes |= TRANSACTIONAL;
    }

    /// Makes the batch a marker of the broker.
    pub fn control(&mut self) {
        self.attributes |= CONTROL;
    }

    /// The batch with base offset 0, leader epoch -1 and its checksum.
    pub fn build(self) -> Result<BytesMut, BatchError> {
        if self.is_empty() {
            return Err(BatchError::Empty);
        }
        let records = match self.codec {
            Codec::None => self.records,
            codec => compress(codec, &self.records)?,
        };
        let size_bytes = HEADER_BYTES + records.len();
        let batch_length = size_bytes - 12;
        let header = BatchHeader {
            base_offset: 0,
            batch_length: i32::try_from(batch_length).map_err(|_| BatchError::Length(batch_length as i64))?,
            leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.count,
        };
        let mut batch = BytesMut::with_capacity(size_bytes);
        batch.resize(HEADER_BYTES, 0);
        header.write(&mut batch);
        batch.extend_from_slice(&records);
        set_crc(&mut batch);
        Ok(batch)
    }
}

fn field_size(field: Option<&[u8]>) -> usize {
    field.map_or(varint::size(NONE), |bytes| varint::size(bytes.len() as i64) + bytes.len())
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    let Some(bytes) = field else {
        return varint::put(out, NONE);
    };
    varint::put(out, bytes.len() as i64);
    out.extend_from_slice(bytes);
}
