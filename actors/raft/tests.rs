//! The store is held to openraft's own promises; and to ours: a decision never meets another image than its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use capek_state::cluster::{Image, Record};
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{EntryPayload, RaftLogReader as _};

use super::applied::Applied;
use super::log_store::LogStore;
use super::patient_file::Room;
use super::snapshot::{SnapshotFile, decode_image, encode_image};
use super::state_machine::StateMachine;
use super::types::{Entry, LogId, MetadataEntry, SnapshotMeta, StorageError, TypeConfig};

/// Removed when it is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("capek-raft-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).expect("the directory for temporary files is writable");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct OnDisk;

impl StoreBuilder<TypeConfig, LogStore, StateMachine, Directory> for OnDisk {
    async fn build(&self) -> Result<(Directory, LogStore, StateMachine), StorageError> {
        let directory = Directory::new();
        let log =
            LogStore::open(&directory.0.join("raft.redb"), &Room::default()).expect("a fresh directory takes a log");
        let machine =
            StateMachine::open(&directory.0, Arc::default(), Room::default()).expect("there is no snapshot yet");
        Ok((directory, log, machine))
    }
}

#[test]
fn the_store_passes_openrafts_own_suite() {
    Suite::test_all(OnDisk).expect("every promise of the suite");
}

/// Entries from 1 on, each with a record of so many bytes.
fn entries(count: u64, record_bytes: usize) -> Vec<Entry> {
    let entry = |index| Entry {
        log_id: LogId::new(openraft::CommittedLeaderId::new(1, 1), index),
        payload: EntryPayload::Normal(MetadataEntry { base: 0, records: [feature(&"x".repeat(record_bytes))].into() }),
    };
    (1..=count).map(entry).collect()
}

async fn indexes(reader: &mut LogStore, start: u64, end: u64) -> Vec<u64> {
    let entries = reader.limited_get_log_entries(start, end).await.expect("the log can be read");
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[actix_rt::test]
async fn a_peer_is_offered_a_bounded_piece_of_the_log_and_the_same_again() {
    let (_directory, mut log, _) = OnDisk.build().await.expect("a fresh store");
    log.blocking_append(entries(5, 400 << 10)).await.expect("there is room");
    let mut reader = log.get_log_reader().await;
    // Also while nobody takes it, and others are appended.
    for _ in 0..3 {
        assert_eq!(indexes(&mut reader, 1, 6).await, [1, 2]);
    }
    assert_eq!(indexes(&mut reader, 1, 2).await, [1], "no more than was asked for");
    assert_eq!(indexes(&mut reader, 3, 6).await, [3, 4]);
    assert_eq!(indexes(&mut reader, 5, 6).await, [5]);
    log.blocking_append(entries(6, 2 << 20).split_off(5)).await.expect("there is room");
    assert_eq!(indexes(&mut reader, 6, 7).await, [6], "one that is larger goes alone");
    assert_eq!(indexes(&mut reader, 1, 7).await, [1, 2]);
}

fn feature(name: &str) -> Record {
    Record::Feature { name: name.to_owned(), level: 1 }
}

#[test]
fn a_decision_is_never_applied_to_another_image_than_its_own() {
    let applied = Applied::default();
    assert_eq!(applied.apply(0, &[feature("a"), feature("b")]), (true, 2));
    assert_eq!(applied.apply(0, &[feature("c")]), (false, 2));
    assert_eq!(applied.apply(3, &[feature("c")]), (false, 2));
    assert_eq!(applied.image().feature_level("c"), None);
    assert_eq!(applied.apply(2, &[feature("c")]), (true, 3));
    assert_eq!(applied.image().feature_level("c"), Some(1));
}

#[test]
fn news_name_what_changed_since_the_last_ones() {
    let applied = Applied::default();
    applied.apply(0, &[feature("a")]);
    applied.apply(1, &[feature("b")]);
    let step = applied.take_news().step.expect("every record was seen");
    assert_eq!((step.from, step.delta.features_changed.len()), (0, 2));
    let step = applied.take_news().step.expect("nothing happened");
    assert!(step.from == 2 && step.delta.is_empty());
    applied.replace(Image::from_records(9, &[feature("z")]));
    let news = applied.take_news();
    assert!(news.step.is_none() && news.image.records_applied() == 9);
    applied.apply(9, &[feature("y")]);
    assert_eq!(applied.take_news().step.expect("known again").from, 9);
}

#[test]
fn a_snapshot_that_was_cut_or_flipped_is_refused() {
    let directory = Directory::new();
    let file = SnapshotFile::new(&directory.0, Room::default());
    assert!(file.read().expect("nothing is there").is_none());
    let image = Image::from_records(7, &[feature("a")]);
    let meta = SnapshotMeta { snapshot_id: "one".to_owned(), ..SnapshotMeta::default() };
    file.write(&meta, &encode_image(&image)).expect("it is written");
    let (read, body) = file.read().expect("it is whole").expect("it is there");
    assert_eq!((read, decode_image(&body).expect("it decodes")), (meta, image));

    let path = directory.0.join("snapshot");
    let whole = std::fs::read(&path).expect("it is there");
    for length in 0..whole.len() {
        std::fs::write(&path, &whole[..length]).expect("it can be cut");
        assert!(file.read().is_err(), "cut at {length}");
    }
    for place in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        std::fs::write(&path, flipped).expect("it can be damaged");
        assert!(file.read().is_err(), "flipped at {place}");
    }
}

#[test]
fn an_older_snapshot_never_takes_the_place_of_a_newer() {
    let directory = Directory::new();
    let file = SnapshotFile::new(&directory.0, Room::default());
    let at = |index: u64| {
        let log_id = openraft::LogId::new(openraft::CommittedLeaderId::new(1, 1), index);
        SnapshotMeta { last_log_id: Some(log_id), snapshot_id: index.to_string(), ..SnapshotMeta::default() }
    };
    for index in [5, 9, 7] {
        file.write(&at(index), &encode_image(&Image::default())).expect("it is written, or needless");
    }
    assert_eq!(file.read().expect("it is whole").expect("it is there").0, at(9));
}
