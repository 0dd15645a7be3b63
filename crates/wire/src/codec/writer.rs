//! Writes values. Large records are not copied: the result is a list of chunks.

use bytes::{BufMut, Bytes, BytesMut};

use super::{EncodeError, STRING_BYTES_MAX, Str};
use crate::Uuid;

/// From this size on, records become a chunk of their own; below it, a copy is cheaper than another chunk.
const CHUNK_BYTES_MIN: usize = 4 * 1024;

/// What has been written so far.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: BytesMut,
    /// Chunks that go in between: before which byte of the buffer, and what.
    chunks: Vec<(usize, Bytes)>,
    chunks_bytes: usize,
}

impl Writer {
    /// An empty one.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// An empty one with room for `bytes` beside the large records.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { buffer: BytesMut::with_capacity(bytes), ..Writer::default() }
    }

    /// How many bytes have been written.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.chunks_bytes
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, without a copy of large records.
    pub fn into_chunks(mut self) -> Vec<Bytes> {
        let mut out = Vec::with_capacity(self.chunks.len() * 2 + 1);
        let mut cut = 0;
        for (position, chunk) in self.chunks {
            if position > cut {
                out.push(self.buffer.split_to(position - cut).freeze());
                cut = position;
            }
            out.push(chunk);
        }
        if !self.buffer.is_empty() {
            out.push(self.buffer.freeze());
        }
        out
    }

    /// What was written, in one piece.
    pub fn into_bytes(self) -> Bytes {
        if self.chunks.is_empty() {
            return self.buffer.freeze();
        }
        let mut out = BytesMut::with_capacity(self.len());
        for chunk in self.into_chunks() {
            out.extend_from_slice(&chunk);
        }
        out.freeze()
    }

    /// Appends what another one wrote.
    pub fn put_writer(&mut self, other: Writer) {
        for chunk in other.into_chunks() {
            self.put_records(chunk);
        }
    }

    /// Appends bytes without a length: 4 KiB or more are kept as they are, less is copied.
    pub fn put_records(&mut self, bytes: Bytes) {
        if bytes.len() < CHUNK_BYTES_MIN {
            self.buffer.extend_from_slice(&bytes);
            return;
        }
        self.chunks_bytes += bytes.len();
        self.chunks.push((self.buffer.len(), bytes));
    }

    /// Appends a copy of bytes without a length.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Writes over the first four bytes, which a caller has kept free for the size of the whole.
    pub(crate) fn set_size_prefix(&mut self) -> Result<(), EncodeError> {
        let size = self.len() - size_of::<i32>();
        let prefix = i32::try_from(size).map_err(|_| EncodeError::Length(size))?;
        self.buffer[..size_of::<i32>()].copy_from_slice(&prefix.to_be_bytes());
        Ok(())
    }

    /// One byte, 0 or 1.
    pub fn put_bool(&mut self, value: bool) {
        self.buffer.put_u8(u8::from(value));
    }

    /// One byte.
    pub fn put_i8(&mut self, value: i8) {
        self.buffer.put_i8(value);
    }

    /// Two bytes.
    pub fn put_i16(&mut self, value: i16) {
        self.buffer.put_i16(value);
    }

    /// Two bytes.
    pub fn put_u16(&mut self, value: u16) {
        self.buffer.put_u16(value);
    }

    /// Four bytes.
    pub fn put_i32(&mut self, value: i32) {
        self.buffer.put_i32(value);
    }

    /// Four bytes.
    pub fn put_u32(&mut self, value: u32) {
        self.buffer.put_u32(value);
    }

    /// Eight bytes.
    pub fn put_i64(&mut self, value: i64) {
        self.buffer.put_i64(value);
    }

    /// Eight bytes.
    pub fn put_f64(&mut self, value: f64) {
        self.buffer.put_f64(value);
    }

    /// Sixteen bytes.
    pub fn put_uuid(&mut self, value: Uuid) {
        self.buffer.extend_from_slice(&value.0);
    }

    /// Seven bits a byte, the low ones first.
    pub fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.buffer.put_u8(value as u8 | 0x80);
            value >>= 7;
        }
        self.buffer.put_u8(value as u8);
    }

    fn put_string_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        if let Some(length) = length.filter(|length| *length > STRING_BYTES_MAX) {
            return Err(EncodeError::Length(length));
        }
        match flexible {
            true => self.put_uvarint(length.map_or(0, |length| length as u32 + 1)),
            false => self.put_i16(length.map_or(-1, |length| length as i16)),
        }
        Ok(())
    }

    fn put_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        // The compact form writes one more, so the largest length is one less than i32::MAX.
        if let Some(length) = length.filter(|length| *length >= i32::MAX as usize) {
            return Err(EncodeError::Length(length));
        }
        match flexible {
            true => self.put_uvarint(length.map_or(0, |length| length as u32 + 1)),
            false => self.put_i32(length.map_or(-1, |length| length as i32)),
        }
        Ok(())
    }

    /// A string.
    pub fn put_str(&mut self, text: &Str, flexible: bool) -> Result<(), EncodeError> {
        self.put_nullable_str(Some(text), flexible)
    }

    /// A string or null.
    pub fn put_nullable_str(&mut self, text: Option<&Str>, flexible: bool) -> Result<(), EncodeError> {
        self.put_string_length(text.map(|text| text.len()), flexible)?;
        if let Some(text) = text {
            self.buffer.extend_from_slice(text.as_bytes());
        }
        Ok(())
    }

    /// A byte array.
    pub fn put_bytes(&mut self, bytes: &Bytes, flexible: bool) -> Result<(), EncodeError> {
        self.put_nullable_bytes(Some(bytes), flexible)
    }

    /// A byte array or null.
    pub fn put_nullable_bytes(&mut self, bytes: Option<&Bytes>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(bytes.map(|bytes| bytes.len()), flexible)?;
        if let Some(bytes) = bytes {
            self.buffer.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Records with their length: large ones are not copied.
    pub fn put_chunk(&mut self, bytes: &Bytes, flexible: bool) -> Result<(), EncodeError> {
        self.put_nullable_chunk(Some(bytes), flexible)
    }

    /// Records with their length, or null.
    pub fn put_nullable_chunk(&mut self, bytes: Option<&Bytes>, flexible: bool) -> Result<(), EncodeError> {
        self.put_length(bytes.map(|bytes| bytes.len()), flexible)?;
        if let Some(bytes) = bytes {
            self.put_records(bytes.clone());
        }
        Ok(())
    }

    /// A list.
    pub fn put_array<T>(
        &mut self,
        list: &Vec<T>,
        flexible: bool,
        element: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.put_nullable_array(Some(list), flexible, element)
    }

    /// A list or null.
    pub fn put_nullable_array<T>(
        &mut self,
        list: Option<&Vec<T>>,
        flexible: bool,
        mut element: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.put_length(list.map(|list| list.len()), flexible)?;
        for one in list.into_iter().flatten() {
            element(self, one)?;
        }
        Ok(())
    }

    /// A struct, or null: a byte says which.
    pub fn put_nullable_struct<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let Some(value) = value else {
            self.put_i8(-1);
            return Ok(());
        };
        self.put_i8(1);
        write(self, value)
    }

    /// A struct in a tagged field, or null: a number says which, 0 for null.
    pub fn put_nullable_tagged_struct<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.put_uvarint(u32::from(value.is_some()));
        value.map_or(Ok(()), |value| write(self, value))
    }
}

/// Gathers the tagged fields of a struct: their count and their sizes stand before them.
#[derive(Debug, Default)]
pub struct TagWriter {
    count: u32,
    fields: Writer,
}

impl TagWriter {
    /// Adds a field; tags rise from call to call.
    pub fn put(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut field = Writer::new();
        write(&mut field)?;
        self.count += 1;
        self.fields.put_uvarint(tag);
        self.fields.put_uvarint(u32::try_from(field.len()).map_err(|_| EncodeError::Length(field.len()))?);
        self.fields.put_writer(field);
        Ok(())
    }

    /// Appends them all.
    pub fn finish(self, w: &mut Writer) {
        w.put_uvarint(self.count);
        if self.count > 0 {
            w.put_writer(self.fields);
        }
    }
}
