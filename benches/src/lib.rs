//! What the measurements share: batches as a producer sends them, and a journal in a directory of its own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::{Bytes, BytesMut};
use capek_log::vfs::RealVfs;
use capek_log::{Journal, JournalOptions, Log, LogConfig, LogId, LogSpec};
use capek_wire::Uuid;
use capek_wire::batch::{BatchBuilder, Codec, patch};

/// One uncompressed batch of `records` values of `value_bytes`.
pub fn batch(records: usize, value_bytes: usize) -> BytesMut {
    let value = vec![b'x'; value_bytes];
    let mut builder = BatchBuilder::new(Codec::None);
    for _ in 0..records {
        builder.push(1_700_000_000_000, None, Some(&value), &[]);
    }
    builder.build().expect("an uncompressed batch of moderate size can be built")
}

/// At its place in the log.
pub fn patched(batch: &BytesMut, base_offset: i64) -> Bytes {
    let mut batch = batch.clone();
    patch(&mut batch, base_offset, 0);
    batch.freeze()
}

/// A journal with some empty logs, removed with all that it wrote.
pub struct Scratch {
    pub journal: Journal,
    pub logs: Vec<Arc<Log>>,
    directory: PathBuf,
}

impl Scratch {
    pub fn new(log_count: i32, config: LogConfig) -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("benches-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // Beside the build: `/tmp` may be memory.
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target").join(name);
        std::fs::create_dir_all(&directory).expect("the target directory is writable");
        let options = JournalOptions::new(&directory, 1, "benches");
        let (mut journal, _) = Journal::open(Arc::new(RealVfs), options).expect("an empty directory can be opened");
        let id = |partition| LogId { topic: Arc::from("bench"), topic_id: Uuid([1; 16]), partition };
        let specs = (0..log_count).map(|partition| LogSpec { id: id(partition), config }).collect();
        let created = journal.create(specs).into_iter();
        let logs = created.map(|log| log.expect("a log can be made in an empty directory")).collect();
        Scratch { journal, logs, directory }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
