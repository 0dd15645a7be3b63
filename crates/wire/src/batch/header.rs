//! The fixed part of a batch: read, checked, and written in place.

use super::{BatchError, Codec};

/// Size of a batch without records.
pub const HEADER_BYTES: usize = 61;

/// What `batch_length` does not count: base offset and itself.
const LENGTH_OVERHEAD: usize = 12;
const LENGTH_MIN: i32 = (HEADER_BYTES - LENGTH_OVERHEAD) as i32;
const MAGIC: i8 = 2;

const LEADER_EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

pub(super) const CODEC_MASK: i16 = 0b111;
const LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;
pub(super) const DELETE_HORIZON: i16 = 1 << 6;

/// The header of a batch, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub batch_length: i32,
    pub leader_epoch: i32,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Reads the header of a batch that `bytes` begin with; the rest of it need not be there.
    pub fn parse(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
        // An older format has a shorter header: it is named for what it is, however short.
        match bytes.get(MAGIC_AT) {
            Some(magic) if *magic as i8 != MAGIC => return Err(BatchError::Magic(*magic as i8)),
            _ if bytes.len() < HEADER_BYTES => {
                return Err(BatchError::Truncated { have: bytes.len(), need: HEADER_BYTES });
            }
            _ => {}
        }
        let header = BatchHeader {
            base_offset: i64::from_be_bytes(at(bytes, 0)),
            batch_length: i32::from_be_bytes(at(bytes, 8)),
            leader_epoch: i32::from_be_bytes(at(bytes, LEADER_EPOCH_AT)),
            magic: MAGIC,
            crc: u32::from_be_bytes(at(bytes, CRC_AT)),
            attributes: i16::from_be_bytes(at(bytes, ATTRIBUTES_AT)),
            last_offset_delta: i32::from_be_bytes(at(bytes, 23)),
            base_timestamp: i64::from_be_bytes(at(bytes, 27)),
            max_timestamp: i64::from_be_bytes(at(bytes, MAX_TIMESTAMP_AT)),
            producer_id: i64::from_be_bytes(at(bytes, 43)),
            producer_epoch: i16::from_be_bytes(at(bytes, 51)),
            base_sequence: i32::from_be_bytes(at(bytes, 53)),
            record_count: i32::from_be_bytes(at(bytes, 57)),
        };
        if header.batch_length < LENGTH_MIN {
            return Err(BatchError::Length(header.batch_length.into()));
        }
        Ok(header)
    }

    pub(super) fn write(&self, bytes: &mut [u8]) {
        put(bytes, 0, self.base_offset.to_be_bytes());
        put(bytes, 8, self.batch_length.to_be_bytes());
        put(bytes, LEADER_EPOCH_AT, self.leader_epoch.to_be_bytes());
        put(bytes, MAGIC_AT, self.magic.to_be_bytes());
        put(bytes, CRC_AT, self.crc.to_be_bytes());
        put(bytes, ATTRIBUTES_AT, self.attributes.to_be_bytes());
        put(bytes, 23, self.last_offset_delta.to_be_bytes());
        put(bytes, 27, self.base_timestamp.to_be_bytes());
        put(bytes, MAX_TIMESTAMP_AT, self.max_timestamp.to_be_bytes());
        put(bytes, 43, self.producer_id.to_be_bytes());
        put(bytes, 51, self.producer_epoch.to_be_bytes());
        put(bytes, 53, self.base_sequence.to_be_bytes());
        put(bytes, 57, self.record_count.to_be_bytes());
    }

    /// The whole batch, header included.
    pub fn size_bytes(&self) -> usize {
        LENGTH_OVERHEAD + usize::try_from(self.batch_length).unwrap_or(0)
    }

    /// Offset of the last record that was in the batch when it was written.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.wrapping_add(i64::from(self.last_offset_delta))
    }

    /// Where the batch after this one begins.
    pub fn next_offset(&self) -> i64 {
        self.last_offset().wrapping_add(1)
    }

    /// Sequence of the last record, or -1 without one. After `i32::MAX` comes 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        let sequence = i64::from(self.base_sequence) + i64::from(self.last_offset_delta);
        sequence.rem_euclid(1 << 31) as i32
    }

    /// How the records are compressed.
    pub fn codec(&self) -> Result<Codec, BatchError> {
        Codec::from_code(self.attributes & CODEC_MASK)
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Holds a marker of the broker instead of a client's records.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// Until when the tombstones in it stay; it stands where the base timestamp was.
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes & DELETE_HORIZON != 0).then_some(self.base_timestamp)
    }

    /// Every record has the batch's maximum timestamp, which the broker set.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME != 0
    }
}

/// That `bytes` are one whole batch, no more and no less, and its checksum is right.
pub fn check(bytes: &[u8]) -> Result<BatchHeader, BatchError> {
    let header = BatchHeader::parse(bytes)?;
    let size_bytes = header.size_bytes();
    if bytes.len() < size_bytes {
        return Err(BatchError::Truncated { have: bytes.len(), need: size_bytes });
    }
    if bytes.len() > size_bytes {
        return Err(BatchError::Trailing(bytes.len() - size_bytes));
    }
    let computed = crc(bytes);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    Ok(header)
}

/// Writes what the broker decides into a whole batch; the checksum does not cover it.
pub fn patch(bytes: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(bytes.len() >= HEADER_BYTES, "a batch has a header");
    put(bytes, 0, base_offset.to_be_bytes());
    put(bytes, LEADER_EPOCH_AT, leader_epoch.to_be_bytes());
}

/// Gives every record of a whole batch the broker's time: readers take the maximum timestamp for all of them.
pub fn set_log_append_time(bytes: &mut [u8], now_ms: i64) {
    assert!(bytes.len() >= HEADER_BYTES, "a batch has a header");
    let attributes = i16::from_be_bytes(at(bytes, ATTRIBUTES_AT)) | LOG_APPEND_TIME;
    put(bytes, ATTRIBUTES_AT, attributes.to_be_bytes());
    put(bytes, MAX_TIMESTAMP_AT, now_ms.to_be_bytes());
    set_crc(bytes);
}

/// Writes the checksum of a whole batch into it.
pub(super) fn set_crc(bytes: &mut [u8]) {
    let crc = crc(bytes);
    put(bytes, CRC_AT, crc.to_be_bytes());
}

fn crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(&bytes[ATTRIBUTES_AT..])
}

/// The batches that stand one after the other in `bytes`; ends at one that is not whole, or after an error.
pub fn batches(bytes: &[u8]) -> Batches<'_> {
    Batches { bytes, position: 0 }
}

/// Positions and headers, see [`batches`].
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl Batches<'_> {
    /// Where the batch after the last whole one begins.
    pub fn position(&self) -> usize {
        self.position
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<(usize, BatchHeader), BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        match BatchHeader::parse(rest) {
            Ok(header) if rest.len() < header.size_bytes() => None,
            Ok(header) => {
                let position = self.position;
                self.position += header.size_bytes();
                Some(Ok((position, header)))
            }
            Err(BatchError::Truncated { .. }) => None,
            Err(error) => {
                // Nobody knows where the next batch would begin.
                self.bytes = &self.bytes[..self.position];
                Some(Err(error))
            }
        }
    }
}

fn at<const N: usize>(bytes: &[u8], position: usize) -> [u8; N] {
    *bytes[position..].first_chunk().expect("the caller has checked that a header is there")
}

fn put<const N: usize>(bytes: &mut [u8], position: usize, value: [u8; N]) {
    bytes[position..position + N].copy_from_slice(&value);
}
