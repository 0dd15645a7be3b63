//! The recovery points: up to where each log is known to be whole, and from which round the journal must be replayed.
//!
//! ```text
//! magic 8 | clean u8 | 7 zeros | starts u64 | sequence u64 | salt 16 | count u32
//! count × (topic id 16 | partition i32 | end i64 | log start i64 | sequence u64)
//! crc u32 (CRC-32C of all before)
//! ```
//!
//! Each start of the process has a number, and the journal's sequences begin with it: so no round can be taken for one that
//! an earlier start left behind, torn or stale.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use capek_wire::Uuid;

use super::format::{Salt, u32_at, u64_at};
use crate::ids::LogKey;
use crate::vfs::{Vfs, read_file_if_there, replace_file};

const MAGIC: [u8; 8] = *b"capekrp1";
const MAGIC_PREFIX: &[u8] = b"capekrp";
const FILE_NAME: &str = "recovery-points";
const HEADER_BYTES: usize = 52;
const POINT_BYTES: usize = 44;
/// Rounds of one start: a thousand billion.
const ROUND_BITS: u32 = 40;

/// One log's recovery point: below `end` its files are whole, as the rounds up to `sequence` left them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub end: i64,
    pub log_start: i64,
    pub sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Points {
    pub is_clean: bool,
    /// How often this directory was opened.
    pub starts: u64,
    /// Rounds up to this one are not needed any more.
    pub sequence: u64,
    pub salt: Salt,
    pub logs: BTreeMap<LogKey, Point>,
}

/// Why there are no points.
#[derive(Debug)]
pub(crate) enum PointsError {
    Newer(String),
    Corrupt,
    Io(io::Error),
}

impl Points {
    /// Before the first start.
    pub fn fresh(salt: Salt) -> Points {
        Points { is_clean: true, starts: 0, sequence: 0, salt, logs: BTreeMap::new() }
    }

    /// The sequence that all rounds of start `starts` are above.
    pub fn first_sequence(starts: u64) -> u64 {
        starts << ROUND_BITS
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.logs.len() * POINT_BYTES + 4);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[u8::from(self.is_clean), 0, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.starts.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.salt.0);
        bytes.extend_from_slice(&(self.logs.len() as u32).to_be_bytes());
        for (key, point) in &self.logs {
            bytes.extend_from_slice(&key.topic_id.0);
            bytes.extend_from_slice(&key.partition.to_be_bytes());
            bytes.extend_from_slice(&point.end.to_be_bytes());
            bytes.extend_from_slice(&point.log_start.to_be_bytes());
            bytes.extend_from_slice(&point.sequence.to_be_bytes());
        }
        let crc = crc32c::crc32c(&bytes);
        bytes.extend_from_slice(&crc.to_be_bytes());
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Result<Points, PointsError> {
        if bytes.starts_with(MAGIC_PREFIX) && !bytes.starts_with(&MAGIC) {
            let version = String::from_utf8_lossy(&bytes[..MAGIC.len().min(bytes.len())]).into_owned();
            return Err(PointsError::Newer(version));
        }
        Points::decode_current(bytes).ok_or(PointsError::Corrupt)
    }

    fn decode_current(bytes: &[u8]) -> Option<Points> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        let count = u32_at(body, 48)? as usize;
        let is_whole = body.len() == HEADER_BYTES + count.checked_mul(POINT_BYTES)?;
        if !body.starts_with(&MAGIC) || !is_whole || crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return None;
        }
        let mut logs = BTreeMap::new();
        for entry in body[HEADER_BYTES..].as_chunks::<POINT_BYTES>().0 {
            let key = LogKey { topic_id: Uuid(*entry.first_chunk()?), partition: u32_at(entry, 16)? as i32 };
            let point = Point {
                end: u64_at(entry, 20)? as i64,
                log_start: u64_at(entry, 28)? as i64,
                sequence: u64_at(entry, 36)?,
            };
            logs.insert(key, point);
        }
        Some(Points {
            is_clean: body[8] == 1,
            starts: u64_at(body, 16)?,
            sequence: u64_at(body, 24)?,
            salt: Salt(*body[32..].first_chunk()?),
            logs,
        })
    }

    /// `None` when there is no such file.
    pub fn read(vfs: &dyn Vfs, directory: &Path) -> Result<Option<Points>, PointsError> {
        match read_file_if_there(vfs, &directory.join(FILE_NAME)).map_err(PointsError::Io)? {
            Some(bytes) => Points::decode(&bytes).map(Some),
            None => Ok(None),
        }
    }
}

/// Writes recovery points so that after a crash the old or the new ones are there.
#[derive(Clone)]
pub(crate) struct PointsWriter {
    directory: PathBuf,
}

impl PointsWriter {
    pub fn new(directory: PathBuf) -> PointsWriter {
        PointsWriter { directory }
    }

    pub fn write(&self, vfs: &dyn Vfs, points: &Points) -> io::Result<()> {
        // A name that was never used before: an unsynced rename of an earlier file cannot come between.
        let unique = Uuid(vfs.unique_id());
        let temporary = self.directory.join(format!("{FILE_NAME}.{unique}.tmp"));
        replace_file(vfs, &self.directory.join(FILE_NAME), &temporary, &points.encode())?;
        vfs.sync_directory(&self.directory)
    }

    /// Removes what a crash left.
    pub fn remove_temporaries(vfs: &dyn Vfs, directory: &Path) -> io::Result<()> {
        for entry in vfs.read_directory(directory)? {
            if entry.name.starts_with(FILE_NAME) && entry.name.ends_with(".tmp") {
                vfs.remove_file(&directory.join(entry.name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_back_and_damage_is_seen() {
        let key = LogKey { topic_id: Uuid([5; 16]), partition: 3 };
        let point = Point { end: 10, log_start: 2, sequence: 99 };
        let logs = BTreeMap::from([(key, point)]);
        let points = Points { is_clean: true, starts: 4, sequence: 99, salt: Salt([8; 16]), logs };
        let bytes = points.encode();
        assert_eq!(Points::decode(&bytes).unwrap(), points);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Points::decode(&bad).is_err(), "bit {bit}");
        }
    }
}
