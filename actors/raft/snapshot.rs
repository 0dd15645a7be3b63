//! The snapshot of the metadata: the image as records, in one file that is replaced as a whole.
//!
//! ```text
//!   "CAPEKSNP" | version u8 | crc32c u32 of what follows | meta size u32 | meta | body
//!   body: postcard of { records_applied, records in their own encoding }         (what raft carries between nodes)
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use capek_state::cluster::{Image, Record};
use serde::{Deserialize, Serialize};

use super::patient_file::Room;
use super::types::SnapshotMeta;

const MAGIC: &[u8; 8] = b"CAPEKSNP";
const VERSION: u8 = 1;
const HEAD_BYTES: usize = MAGIC.len() + 1 + 4 + 4;
const NAME: &str = "snapshot";

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("the metadata snapshot {path}: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("the metadata snapshot {path} is damaged: {problem}")]
    Damaged { path: PathBuf, problem: String },
    #[error("a metadata snapshot cannot be read: {0}")]
    Body(String),
}

#[derive(Serialize, Deserialize)]
struct Body {
    records_applied: u64,
    records: Vec<Vec<u8>>,
}

/// The body of a snapshot of this image.
pub fn encode_image(image: &Image) -> Vec<u8> {
    let records = image.to_records().iter().map(Record::encode).collect();
    let body = Body { records_applied: image.records_applied(), records };
    postcard::to_extend(&body, Vec::new()).expect("records are plain data and a vector takes any length")
}

/// The image of a body.
pub fn decode_image(body: &[u8]) -> Result<Image, SnapshotError> {
    let body: Body = postcard::from_bytes(body).map_err(|error| SnapshotError::Body(error.to_string()))?;
    let records: Result<Vec<_>, _> = body.records.iter().map(|bytes| Record::decode(bytes)).collect();
    let records = records.map_err(|error| SnapshotError::Body(error.to_string()))?;
    Ok(Image::from_records(body.records_applied, &records))
}

/// Where the snapshot is kept. Clones are one.
#[derive(Clone)]
pub struct SnapshotFile {
    directory: PathBuf,
    room: Room,
    /// Held while it is written, with the index of what is there: an older one never takes the place of a newer.
    newest: Arc<Mutex<Option<u64>>>,
}

impl SnapshotFile {
    pub fn new(directory: &Path, room: Room) -> Self {
        Self { directory: directory.to_owned(), room, newest: Arc::default() }
    }

    /// Durable when it returns.
    pub fn write(&self, meta: &SnapshotMeta, body: &[u8]) -> Result<(), SnapshotError> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let index = meta.last_log_id.map(|log_id| log_id.index);
        if index < *newest {
            return Ok(());
        }
        let path = self.path();
        let replaced = self.room.wait_for(|| self.replace(&path, meta, body));
        replaced.map_err(|error| SnapshotError::Io { path, error })?;
        *newest = index;
        Ok(())
    }

    fn replace(&self, path: &Path, meta: &SnapshotMeta, body: &[u8]) -> io::Result<()> {
        let temporary = self.directory.join(format!("{NAME}.tmp"));
        let mut file = File::create(&temporary)?;
        file.write_all(&encode_file(meta, body))?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(&self.directory)?.sync_all()
    }

    /// What was written last, if anything was.
    pub fn read(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, SnapshotError> {
        let path = self.path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(SnapshotError::Io { path, error }),
        };
        decode_file(&bytes).map(Some).map_err(|problem| SnapshotError::Damaged { path, problem })
    }

    fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }
}

fn encode_file(meta: &SnapshotMeta, body: &[u8]) -> Vec<u8> {
    let meta = postcard::to_extend(meta, Vec::new()).expect("a snapshot's meta is plain data");
    let meta_size = u32::try_from(meta.len()).expect("a membership is small");
    let mut checked = Vec::with_capacity(4 + meta.len() + body.len());
    checked.extend_from_slice(&meta_size.to_be_bytes());
    checked.extend_from_slice(&meta);
    checked.extend_from_slice(body);
    let mut file = Vec::with_capacity(HEAD_BYTES + checked.len());
    file.extend_from_slice(MAGIC);
    file.push(VERSION);
    file.extend_from_slice(&crc32c::crc32c(&checked).to_be_bytes());
    file.extend_from_slice(&checked);
    file
}

fn decode_file(bytes: &[u8]) -> Result<(SnapshotMeta, Vec<u8>), String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("it does not begin as a snapshot does")?;
    let rest = match rest {
        [VERSION, rest @ ..] => rest,
        [version, ..] => return Err(format!("its version is {version}: start a newer release")),
        [] => return Err("it is cut short".to_owned()),
    };
    let (crc, checked) = rest.split_first_chunk::<4>().ok_or("it is cut short")?;
    if crc32c::crc32c(checked) != u32::from_be_bytes(*crc) {
        return Err("its checksum does not fit".to_owned());
    }
    let (meta_size, rest) = checked.split_first_chunk::<4>().ok_or("it is cut short")?;
    let meta_size = u32::from_be_bytes(*meta_size) as usize;
    let (meta, body) = rest.split_at_checked(meta_size).ok_or("it is cut short")?;
    let meta = postcard::from_bytes(meta).map_err(|error| error.to_string())?;
    Ok((meta, body.to_vec()))
}
