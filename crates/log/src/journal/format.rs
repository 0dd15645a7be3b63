//! What a round looks like in a journal file. Everything is big-endian; a round begins on a 4 KiB boundary and is padded
//! with zeros to the next.
//!
//! ```text
//! round    entry × count | zeros
//! entry    length u32 (of all after the checksum) | crc u32 (CRC-32C of the salt and all after it)
//!          sequence u64 | attempt u32 | index u32 | count u32 | kind u8 | 3 zeros
//!          topic id 16 | partition i32 | leader epoch i32 | previous end i64 | base offset i64 | end offset i64
//!          Append: batches; Flushed: crc u32 of the batch headers
//! ```
//!
//! The salt is the directory's own and random: no producer can write records that look like a round. The attempt tells a
//! round that had to be written again from what is left of the first try.

use capek_wire::{BatchHeader, Uuid};

use crate::ids::LogKey;
pub(crate) use crate::vfs::BLOCK_BYTES;

pub(crate) const ENTRY_HEADER_BYTES: usize = 80;
const PREFIX_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Append = 1,
    /// The range was synced in its segment.
    Flushed = 2,
    Truncate = 3,
    LogStart = 4,
    Delete = 5,
}

impl Kind {
    fn from_code(code: u8) -> Option<Kind> {
        Some(match code {
            1 => Kind::Append,
            2 => Kind::Flushed,
            3 => Kind::Truncate,
            4 => Kind::LogStart,
            5 => Kind::Delete,
            _ => return None,
        })
    }
}

/// An entry without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct EntryHeader {
    pub kind: Kind,
    pub key: LogKey,
    pub leader_epoch: i32,
    /// The end of the log before an append.
    pub previous_end: i64,
    pub base_offset: i64,
    pub end_offset: i64,
}

/// Keeps the checksums of one directory apart from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Salt(pub [u8; 16]);

impl Salt {
    fn crc(self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.0), bytes)
    }
}

/// A round being put together in a buffer that is used again and again. In memory it begins on a block's boundary once it is
/// sealed, as writes past the cache want it.
#[derive(Default)]
pub(crate) struct RoundBuffer {
    bytes: Vec<u8>,
    /// Where the round begins in `bytes`.
    start: usize,
    /// Where each entry begins.
    entries: Vec<usize>,
}

/// Which round, and which try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RoundId {
    pub sequence: u64,
    pub attempt: u32,
}

impl RoundBuffer {
    pub fn clear(&mut self) {
        self.entries.clear();
        self.start = bytes_to_boundary(&self.bytes);
        self.bytes.resize(self.start, 0);
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives back what a large round took.
    pub fn shrink(&mut self, capacity_bytes: usize) {
        if self.bytes.capacity() > capacity_bytes {
            *self = RoundBuffer::default();
        }
    }

    /// Adds an entry; its bytes follow with [`RoundBuffer::extend`].
    pub fn begin(&mut self, header: &EntryHeader) {
        self.entries.push(self.bytes.len());
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&[0; PREFIX_BYTES + 20]);
        bytes.extend_from_slice(&[header.kind as u8, 0, 0, 0]);
        bytes.extend_from_slice(&header.key.topic_id.0);
        bytes.extend_from_slice(&header.key.partition.to_be_bytes());
        bytes.extend_from_slice(&header.leader_epoch.to_be_bytes());
        bytes.extend_from_slice(&header.previous_end.to_be_bytes());
        bytes.extend_from_slice(&header.base_offset.to_be_bytes());
        bytes.extend_from_slice(&header.end_offset.to_be_bytes());
    }

    pub fn extend(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The bytes of the last entry.
    pub fn last_payload(&self) -> &[u8] {
        self.entries.last().map_or(&[], |start| &self.bytes[start + ENTRY_HEADER_BYTES..])
    }

    /// Takes the last entry back.
    pub fn drop_last(&mut self) {
        if let Some(start) = self.entries.pop() {
            self.bytes.truncate(start);
        }
    }

    /// Numbers and seals the entries and pads the round.
    pub fn seal(&mut self, id: RoundId, salt: Salt) -> &[u8] {
        let count = self.entries.len() as u32;
        for (index, start) in self.entries.iter().copied().enumerate() {
            let end = self.entries.get(index + 1).copied().unwrap_or(self.bytes.len());
            let entry = &mut self.bytes[start..end];
            entry[8..16].copy_from_slice(&id.sequence.to_be_bytes());
            entry[16..20].copy_from_slice(&id.attempt.to_be_bytes());
            entry[20..24].copy_from_slice(&(index as u32).to_be_bytes());
            entry[24..28].copy_from_slice(&count.to_be_bytes());
            let crc = salt.crc(&entry[PREFIX_BYTES..]);
            let length = (entry.len() - PREFIX_BYTES) as u32;
            entry[..4].copy_from_slice(&length.to_be_bytes());
            entry[4..8].copy_from_slice(&crc.to_be_bytes());
        }
        let size_bytes = (self.bytes.len() - self.start).next_multiple_of(BLOCK_BYTES);
        self.bytes.resize(self.start + size_bytes, 0);
        self.align(size_bytes);
        self.sealed()
    }

    /// The round as [`RoundBuffer::seal`] left it.
    pub fn sealed(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// Where the buffer grew it is somewhere else now.
    fn align(&mut self, size_bytes: usize) {
        self.bytes.reserve(BLOCK_BYTES);
        let start = bytes_to_boundary(&self.bytes);
        if start != self.start {
            self.bytes.resize(self.bytes.len().max(start + size_bytes), 0);
            self.bytes.copy_within(self.start..self.start + size_bytes, start);
            self.bytes.truncate(start + size_bytes);
            self.start = start;
            self.entries.clear();
        }
    }
}

fn bytes_to_boundary(bytes: &[u8]) -> usize {
    (bytes.as_ptr() as usize).wrapping_neg() % BLOCK_BYTES
}

/// An entry found in a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundEntry {
    pub header: EntryHeader,
    /// Where its bytes are, in what was given to [`parse_round`].
    pub payload_start: usize,
    pub payload_end: usize,
}

/// The whole round that begins at `start`, and its end before padding.
pub(crate) fn parse_round(bytes: &[u8], start: usize, salt: Salt) -> Option<(RoundId, Vec<FoundEntry>, usize)> {
    let (first_id, count, first) = parse_entry(bytes, start, salt, 0)?;
    let mut at = first.payload_end;
    let mut entries = vec![first];
    while entries.len() < count as usize {
        let (id, other_count, entry) = parse_entry(bytes, at, salt, entries.len() as u32)?;
        if id != first_id || other_count != count {
            return None;
        }
        at = entry.payload_end;
        entries.push(entry);
    }
    Some((first_id, entries, at))
}

fn parse_entry(bytes: &[u8], start: usize, salt: Salt, index: u32) -> Option<(RoundId, u32, FoundEntry)> {
    let entry = bytes.get(start..)?;
    let length = u32_at(entry, 0)? as usize;
    if length < ENTRY_HEADER_BYTES - PREFIX_BYTES || entry.len() - PREFIX_BYTES < length {
        return None;
    }
    let entry = &entry[..PREFIX_BYTES + length];
    if u32_at(entry, 20)? != index || u32_at(entry, 4)? != salt.crc(&entry[PREFIX_BYTES..]) {
        return None;
    }
    let id = RoundId { sequence: u64_at(entry, 8)?, attempt: u32_at(entry, 16)? };
    let mut topic_id = [0; 16];
    topic_id.copy_from_slice(&entry[32..48]);
    let header = EntryHeader {
        kind: Kind::from_code(entry[28])?,
        key: LogKey { topic_id: Uuid(topic_id), partition: u32_at(entry, 48)? as i32 },
        leader_epoch: u32_at(entry, 52)? as i32,
        previous_end: u64_at(entry, 56)? as i64,
        base_offset: u64_at(entry, 64)? as i64,
        end_offset: u64_at(entry, 72)? as i64,
    };
    let found =
        FoundEntry { header, payload_start: start + ENTRY_HEADER_BYTES, payload_end: start + PREFIX_BYTES + length };
    Some((id, u32_at(entry, 24)?, found))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Goes on with the checksum over the headers of batches: what the batches' own checksums leave out.
pub(crate) fn headers_crc(crc: u32, header_bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, &header_bytes[..capek_wire::batch::HEADER_BYTES])
}

/// The same over whole batches one after the other.
pub(crate) fn headers_crc_of(mut crc: u32, batches: &[u8]) -> u32 {
    let mut at = 0;
    while let Ok(header) = BatchHeader::parse(&batches[at..]) {
        crc = headers_crc(crc, &batches[at..]);
        at += header.size_bytes();
        if at >= batches.len() {
            break;
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(partition: i32) -> EntryHeader {
        EntryHeader {
            kind: Kind::Append,
            key: LogKey { topic_id: Uuid([9; 16]), partition },
            leader_epoch: 4,
            previous_end: 10,
            base_offset: 10,
            end_offset: 12,
        }
    }

    #[test]
    fn a_round_begins_on_a_blocks_boundary_however_often_its_buffer_grew() {
        let salt = Salt([3; 16]);
        let mut buffer = RoundBuffer::default();
        for size_bytes in [10, 5000, 70_000, 20, 300_000, 40] {
            let id = RoundId { sequence: 5, attempt: 0 };
            let payload: Vec<u8> = (0..size_bytes).map(|at| at as u8).collect();
            buffer.clear();
            buffer.begin(&header(0));
            buffer.extend(&payload);
            assert!(buffer.last_payload() == payload);
            let sealed = buffer.seal(id, salt);
            assert_eq!((sealed.as_ptr() as usize % BLOCK_BYTES, sealed.len() % BLOCK_BYTES), (0, 0));
            let (found, entries, _) = parse_round(sealed, 0, salt).unwrap();
            assert_eq!((found, entries.len()), (id, 1));
            assert!(sealed[entries[0].payload_start..entries[0].payload_end] == payload);
        }
    }

    #[test]
    fn a_round_counts_as_a_whole_or_not_at_all() {
        let salt = Salt([3; 16]);
        let mut buffer = RoundBuffer::default();
        for partition in 0..3 {
            buffer.begin(&header(partition));
            buffer.extend(&[partition as u8; 100]);
        }
        let id = RoundId { sequence: 77, attempt: 1 };
        let bytes = buffer.seal(id, salt).to_vec();
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let (found, entries, end) = parse_round(&bytes, 0, salt).unwrap();
        assert_eq!((found, entries.len(), end), (id, 3, 3 * 180));
        assert_eq!(entries[2].header, header(2));
        assert_eq!(bytes[entries[2].payload_start..entries[2].payload_end], [2; 100]);
        for bit in 0..end * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(parse_round(&bad, 0, salt).is_none(), "bit {bit}");
        }
        assert!(parse_round(&bytes, 0, Salt([4; 16])).is_none());
    }
}
