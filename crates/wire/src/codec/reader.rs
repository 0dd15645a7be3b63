//! Reads values from bytes that nobody has checked.
//!
//! Every read is bounded by the bytes that remain. Lists are bounded twice: by the fewest bytes that their elements
//! can take, and by a budget for the whole message, because an element of one byte can be a struct of hundreds.

use std::mem::size_of;

use bytes::Bytes;

use super::{DecodeError, STRING_BYTES_MAX, Str};
use crate::Uuid;

/// A place in immutable bytes. Strings and byte arrays that it hands out share them.
#[derive(Clone, Debug)]
pub struct Reader {
    bytes: Bytes,
    at: usize,
    /// Where reading ends: the end of `bytes`, or of the tagged field that is being read.
    end: usize,
    /// What lists may still allocate.
    budget_bytes: usize,
}

/// Real messages take about four times their bytes in memory, at most eight.
const BUDGET_FACTOR: usize = 16;
const BUDGET_BYTES_MIN: usize = 16 * 1024;
/// What [`Reader::new`] grants at most: enough for a request that names 100,000 partitions.
const BUDGET_BYTES_MAX: usize = 32 * 1024 * 1024;
/// What an allocation costs beside its elements.
const ALLOCATION_BYTES: usize = 16;

/// What the lists of a message may allocate that came in a frame of this size.
pub(crate) fn budget_bytes(frame_bytes: usize) -> usize {
    frame_bytes.saturating_mul(BUDGET_FACTOR).saturating_add(BUDGET_BYTES_MIN).min(BUDGET_BYTES_MAX)
}

impl Reader {
    /// Reads `bytes`, and allocates at most 16 KiB + 16 times as much, and at most 32 MiB.
    pub fn new(bytes: Bytes) -> Reader {
        let budget_bytes = budget_bytes(bytes.len());
        Reader::with_budget(bytes, budget_bytes)
    }

    /// Reads `bytes`, and lists may take `budget_bytes` of memory in all.
    pub fn with_budget(bytes: Bytes, budget_bytes: usize) -> Reader {
        let end = bytes.len();
        Reader { bytes, at: 0, end, budget_bytes }
    }

    /// How many bytes have not been read.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// How many bytes have been read.
    pub fn position(&self) -> usize {
        self.at
    }

    /// What has not been read, shared.
    pub fn rest(&self) -> Bytes {
        self.bytes.slice(self.at..self.end)
    }

    /// An error unless all has been read.
    pub fn finish(&self) -> Result<(), DecodeError> {
        if self.remaining() == 0 { Ok(()) } else { Err(DecodeError::Trailing { left: self.remaining() }) }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(value) = self.bytes[self.at..self.end].first_chunk::<N>() else {
            return Err(self.truncated(N));
        };
        self.at += N;
        Ok(*value)
    }

    fn truncated(&self, length: usize) -> DecodeError {
        DecodeError::Truncated { at: self.at, needed: length - self.remaining() }
    }

    /// Passes over `length` bytes and gives their place.
    fn skip(&mut self, length: usize) -> Result<std::ops::Range<usize>, DecodeError> {
        if length > self.remaining() {
            return Err(self.truncated(length));
        }
        let start = self.at;
        self.at += length;
        Ok(start..self.at)
    }

    /// One byte; anything but 0 is true.
    pub fn get_bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.get_i8()? != 0)
    }

    /// One byte.
    pub fn get_i8(&mut self) -> Result<i8, DecodeError> {
        self.take().map(i8::from_be_bytes)
    }

    /// Two bytes.
    pub fn get_i16(&mut self) -> Result<i16, DecodeError> {
        self.take().map(i16::from_be_bytes)
    }

    /// Two bytes.
    pub fn get_u16(&mut self) -> Result<u16, DecodeError> {
        self.take().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub fn get_i32(&mut self) -> Result<i32, DecodeError> {
        self.take().map(i32::from_be_bytes)
    }

    /// Four bytes.
    pub fn get_u32(&mut self) -> Result<u32, DecodeError> {
        self.take().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    pub fn get_i64(&mut self) -> Result<i64, DecodeError> {
        self.take().map(i64::from_be_bytes)
    }

    /// Eight bytes.
    pub fn get_f64(&mut self) -> Result<f64, DecodeError> {
        self.take().map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn get_uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.take().map(Uuid)
    }

    /// Seven bits a byte, the low ones first; at most five bytes.
    pub fn get_uvarint(&mut self) -> Result<u32, DecodeError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint { at: start });
            }
        }
        Err(DecodeError::Varint { at: start })
    }

    /// The length of a string, `None` for null.
    fn string_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let length = if flexible { i64::from(self.get_uvarint()?) - 1 } else { i64::from(self.get_i16()?) };
        self.checked_length(length, STRING_BYTES_MAX)
    }

    /// The length of a byte array or the count of a list, `None` for null.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let length = if flexible { i64::from(self.get_uvarint()?) - 1 } else { i64::from(self.get_i32()?) };
        self.checked_length(length, i32::MAX as usize)
    }

    fn checked_length(&self, length: i64, length_max: usize) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) if length <= length_max => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            _ => Err(DecodeError::Length { at: self.at, length }),
        }
    }

    fn not_null<T>(&self, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or(DecodeError::Null { at: self.at })
    }

    /// A string, which may not be null.
    pub fn get_str(&mut self, flexible: bool) -> Result<Str, DecodeError> {
        let text = self.get_nullable_str(flexible)?;
        self.not_null(text)
    }

    /// A string or null.
    pub fn get_nullable_str(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let Some(length) = self.string_length(flexible)? else { return Ok(None) };
        let range = self.skip(length)?;
        let at = range.start;
        Str::try_from(self.bytes.slice(range)).map(Some).map_err(|_| DecodeError::Utf8 { at })
    }

    /// A byte array, which may not be null.
    pub fn get_bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        let bytes = self.get_nullable_bytes(flexible)?;
        self.not_null(bytes)
    }

    /// A byte array or null.
    pub fn get_nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(flexible)? else { return Ok(None) };
        let range = self.skip(length)?;
        Ok(Some(self.bytes.slice(range)))
    }

    /// A list, which may not be null. `element_bytes_min` is the least that an element can take on the wire.
    pub fn get_array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        element: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let list = self.get_nullable_array(flexible, element_bytes_min, element)?;
        self.not_null(list)
    }

    /// A list or null.
    pub fn get_nullable_array<T>(
        &mut self,
        flexible: bool,
        element_bytes_min: usize,
        mut element: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.length(flexible)? else { return Ok(None) };
        if count > self.remaining() / element_bytes_min {
            return Err(DecodeError::Count { at: self.at, count });
        }
        let mut list = Vec::new();
        if count > 0 {
            // The count fits the bytes, so this product cannot overflow.
            let cost_bytes = count * size_of::<T>() + ALLOCATION_BYTES;
            self.budget_bytes = self.budget_bytes.checked_sub(cost_bytes).ok_or(DecodeError::Memory { at: self.at })?;
            list.reserve_exact(count);
        }
        for _ in 0..count {
            list.push(element(self)?);
        }
        Ok(Some(list))
    }

    /// A struct, or null: a byte says which.
    pub fn get_nullable_struct<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.get_i8()? < 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// A struct in a tagged field, or null: a number says which, 0 for null.
    pub fn get_nullable_tagged_struct<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.get_uvarint()? == 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// The tagged fields of a struct. `known` reads the field with a tag, or says `false` to have it skipped.
    pub fn get_tags(
        &mut self,
        mut known: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.get_uvarint()?;
        for _ in 0..count {
            let tag = self.get_uvarint()?;
            let length = self.get_uvarint()? as usize;
            let end = self.end_of(length)?;
            let outer_end = std::mem::replace(&mut self.end, end);
            let was_known = known(self, tag);
            self.end = outer_end;
            if !was_known? {
                self.at = end;
            }
            if self.at != end {
                return Err(DecodeError::Tag { at: end, left: end - self.at });
            }
        }
        Ok(())
    }

    /// Where `length` bytes from here end.
    fn end_of(&self, length: usize) -> Result<usize, DecodeError> {
        if length > self.remaining() { Err(self.truncated(length)) } else { Ok(self.at + length) }
    }
}
