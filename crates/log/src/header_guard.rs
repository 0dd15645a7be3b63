//! `.headercrc`: a checksum over the fields of the batch headers that a batch's own checksum leaves out (base offset, length,
//! leader epoch, magic), so that a flipped bit there is seen, too.
//!
//! ```text
//! entry    end position u32 | end offset i64 | crc u32 | check u32 (CRC-32C of the entry before it)
//! ```
//!
//! The checksum of an entry goes over all batches from the beginning of the segment up to its end position. An entry is
//! added when the segment is synced, and synced with it; until then the journal vouches for the headers.

use std::io;
use std::path::Path;
use std::sync::Arc;

use capek_wire::BatchHeader;

use crate::vfs::{OpenMode, Vfs, VfsFile, read_file_if_there, write_file};

pub(crate) const EXTENSION: &str = "headercrc";
const ENTRY_BYTES: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GuardEntry {
    pub end_position: u32,
    pub end_offset: i64,
    pub crc: u32,
}

/// Goes on with the checksum over one more batch.
pub(crate) fn extend(crc: u32, header: &BatchHeader) -> u32 {
    let mut bytes = [0; 17];
    bytes[..8].copy_from_slice(&header.base_offset.to_be_bytes());
    bytes[8..12].copy_from_slice(&header.batch_length.to_be_bytes());
    bytes[12..16].copy_from_slice(&header.leader_epoch.to_be_bytes());
    bytes[16] = header.magic as u8;
    crc32c::crc32c_append(crc, &bytes)
}

impl GuardEntry {
    fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.end_position.to_be_bytes());
        bytes[4..12].copy_from_slice(&self.end_offset.to_be_bytes());
        bytes[12..16].copy_from_slice(&self.crc.to_be_bytes());
        let check = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&check.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Option<GuardEntry> {
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let end_offset = (u64::from(word(4)) << 32 | u64::from(word(8))) as i64;
        let is_whole = crc32c::crc32c(&bytes[..16]) == word(16);
        is_whole.then_some(GuardEntry { end_position: word(0), end_offset, crc: word(12) })
    }
}

fn decode_all(bytes: &[u8]) -> Vec<GuardEntry> {
    bytes.as_chunks::<ENTRY_BYTES>().0.iter().map_while(GuardEntry::decode).collect()
}

/// The entries of a file, up to one that is torn; none when it is not there.
pub(crate) fn read(vfs: &dyn Vfs, path: &Path) -> io::Result<Vec<GuardEntry>> {
    Ok(read_file_if_there(vfs, path)?.map(|bytes| decode_all(&bytes)).unwrap_or_default())
}

/// Adds an entry if it is news. Not synced: the file comes back for that.
pub(crate) fn append(vfs: &dyn Vfs, path: &Path, entry: GuardEntry) -> io::Result<Arc<dyn VfsFile>> {
    let file = vfs.open(path, OpenMode::Create)?;
    let length = file.len()? / ENTRY_BYTES as u64 * ENTRY_BYTES as u64;
    let last = match length.checked_sub(ENTRY_BYTES as u64) {
        Some(position) => decode_all(&file.read_at(position, ENTRY_BYTES)?).first().copied(),
        None => None,
    };
    if last.is_none_or(|last| last.end_position < entry.end_position) {
        file.write_all_at(length, &entry.encode())?;
    }
    Ok(file)
}

/// Takes back what was said of batches beyond a position.
pub(crate) fn cut(vfs: &dyn Vfs, path: &Path, position: u64) -> io::Result<()> {
    let guards = read(vfs, path)?;
    let kept = guards.iter().take_while(|guard| u64::from(guard.end_position) <= position).count();
    match kept == guards.len() {
        true => Ok(()),
        false => vfs.open(path, OpenMode::Write)?.set_len((kept * ENTRY_BYTES) as u64),
    }
}

/// Makes the file hold exactly these entries.
pub(crate) fn set(vfs: &dyn Vfs, path: &Path, entries: &[GuardEntry]) -> io::Result<()> {
    let content: Vec<u8> = entries.iter().flat_map(GuardEntry::encode).collect();
    let found = read_file_if_there(vfs, path)?;
    let is_nothing = found.is_none() && entries.is_empty();
    if !is_nothing && found.as_ref() != Some(&content) {
        write_file(vfs, path, &content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vfs::SimVfs;

    #[test]
    fn entries_are_added_once_and_torn_ones_are_not_believed() {
        let (vfs, path) = (SimVfs::new(1), Path::new("/0.headercrc"));
        let entry = |at: u32| GuardEntry { end_position: at, end_offset: i64::from(at) * 2, crc: at * 3 };
        for at in [10, 20, 20, 30] {
            append(&vfs, path, entry(at)).unwrap();
        }
        assert_eq!(read(&vfs, path).unwrap(), [entry(10), entry(20), entry(30)]);
        vfs.flip_bit(path, 8 * 25).unwrap();
        assert_eq!(read(&vfs, path).unwrap(), [entry(10)]);
        set(&vfs, path, &[entry(10)]).unwrap();
        assert_eq!(vfs.file_len(path).unwrap(), 20);
    }
}
