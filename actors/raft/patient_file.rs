//! The file of the raft log, where a full disk is waited out: raft takes a write that failed for the end of its node.
//!
//! redb makes its file longer in large steps and writes within it. A step is written out when it is taken, so that what comes
//! later has its room. Without room for a step the writer waits, and with it raft on this node: the others elect another
//! controller meanwhile. Nothing that was promised is lost, for nothing is promised until it is written.

use std::io::{self, ErrorKind};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::{info, warn};
use redb::{BackendError, StorageBackend};

/// Between two tries.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
static PIECE: [u8; 64 << 10] = [0; 64 << 10];

/// Whether there is room for what raft has to keep. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct Room {
    waits: Arc<AtomicBool>,
    is_full: Arc<AtomicBool>,
}

impl Room {
    /// From now on a full disk is waited out; before it is an error, and so it is after [`Room::give_up`].
    pub fn begin_waiting(&self) {
        self.waits.store(true, Ordering::Release);
    }

    /// For what is not in raft's way: it waits and gives up with this, and whether it waits is seen by itself.
    pub fn beside(&self) -> Room {
        Room { waits: self.waits.clone(), is_full: Arc::default() }
    }

    /// The node stops: whoever waits fails.
    pub fn give_up(&self) {
        self.waits.store(false, Ordering::Release);
    }

    /// Somebody waits just now: raft does not go on.
    pub fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Acquire)
    }

    /// Works until there is room. What it does may have been done in part before.
    pub fn wait_for<T>(&self, mut work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut is_waiting = false;
        let result = loop {
            match work() {
                Err(error) if is_no_space(&error) && self.waits.load(Ordering::Acquire) => {
                    if !std::mem::replace(&mut is_waiting, true) {
                        warn!("the metadata has no room on its disk: it waits until there is some");
                        self.is_full.store(true, Ordering::Release);
                    }
                    std::thread::sleep(LOOK_AGAIN);
                }
                result => break result,
            }
        };
        if is_waiting {
            self.is_full.store(false, Ordering::Release);
            info!("there is room for the metadata again");
        }
        result
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// See the head of this file.
#[derive(Debug)]
pub struct PatientFile<B> {
    inner: B,
    room: Room,
}

impl<B: StorageBackend> PatientFile<B> {
    pub fn new(inner: B, room: Room) -> Self {
        Self { inner, room }
    }
}

impl<B: StorageBackend> StorageBackend for PatientFile<B> {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut place = self.inner.len()?;
        self.room.wait_for(|| self.inner.set_len(len))?;
        // A file that only says that it is longer has no room for that yet.
        while place < len {
            let piece = &PIECE[..PIECE.len().min((len - place) as usize)];
            self.room.wait_for(|| self.inner.write(place, piece))?;
            place += piece.len() as u64;
        }
        Ok(())
    }

    /// A sync that failed is not tried again: what it should have kept may be gone, and the next one would not say so.
    fn sync_data(&self) -> io::Result<()> {
        self.inner.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.room.wait_for(|| self.inner.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}

/// A disk that is soon full, in memory.
#[cfg(test)]
pub mod testing {
    use std::io::{self, ErrorKind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use redb::StorageBackend;
    use redb::backends::InMemoryBackend;

    /// Takes so many bytes, and more when it is told.
    #[derive(Clone, Debug)]
    pub struct SmallDisk(Arc<(InMemoryBackend, AtomicU64)>);

    impl SmallDisk {
        pub fn new(bytes: u64) -> SmallDisk {
            SmallDisk(Arc::new((InMemoryBackend::new(), AtomicU64::new(bytes))))
        }

        /// Its size from now on.
        pub fn resize(&self, bytes: u64) {
            self.0.1.store(bytes, Ordering::Release);
        }
    }

    impl StorageBackend for SmallDisk {
        fn len(&self) -> io::Result<u64> {
            self.0.0.len()
        }

        fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
            self.0.0.read(offset, out)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            self.0.0.set_len(len)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.0.0.sync_data()
        }

        fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
            if offset + data.len() as u64 > self.0.1.load(Ordering::Acquire) {
                return Err(ErrorKind::StorageFull.into());
            }
            self.0.0.write(offset, data)
        }
    }
}

#[cfg(test)]
mod tests {
    use redb::{Database, Durability, TableDefinition};

    use super::testing::SmallDisk;
    use super::*;

    const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("table");

    fn put(database: &Database, key: u64) -> Result<(), redb::Error> {
        let mut transaction = database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.open_table(TABLE)?.insert(key, &[7; 1 << 20][..])?;
        Ok(transaction.commit()?)
    }

    fn database(disk: &SmallDisk, room: &Room) -> Database {
        let file = PatientFile::new(disk.clone(), room.clone());
        Database::builder().create_with_backend(file).expect("there is room for a beginning")
    }

    #[test]
    fn a_log_without_room_goes_on_when_there_is_some() {
        let disk = SmallDisk::new(8 << 20);
        let room = Room::default();
        let database = Arc::new(database(&disk, &room));
        room.begin_waiting();
        let writer = std::thread::spawn({
            let database = database.clone();
            move || (0..20).try_for_each(|key| put(&database, key))
        });
        while !room.is_full() {
            assert!(!writer.is_finished(), "it waits");
            std::thread::sleep(Duration::from_millis(1));
        }
        disk.resize(u64::MAX);
        writer.join().expect("it does not panic").expect("it waited for room");
        assert!(!room.is_full());
    }

    #[test]
    fn a_node_that_stops_waits_for_no_room() {
        let disk = SmallDisk::new(8 << 20);
        let room = Room::default();
        let database = database(&disk, &room);
        room.begin_waiting();
        let writer = std::thread::spawn(move || (0..20).try_for_each(|key| put(&database, key)));
        while !room.is_full() {
            assert!(!writer.is_finished(), "it waits");
            std::thread::sleep(Duration::from_millis(1));
        }
        room.give_up();
        assert!(writer.join().expect("it does not panic").is_err());
    }

    #[test]
    fn what_was_taken_is_there_when_the_disk_is_full() {
        let disk = SmallDisk::new(u64::MAX);
        let room = Room::default();
        let file = PatientFile::new(disk.clone(), room);
        file.set_len(1 << 20).expect("there is room");
        assert_eq!(disk.len().expect("it is in memory"), 1 << 20);
        disk.resize(1 << 20);
        file.write((1 << 20) - 4, b"last").expect("it was taken");
        assert!(file.set_len((1 << 20) + 1).is_err(), "nobody waits here");
    }
}
