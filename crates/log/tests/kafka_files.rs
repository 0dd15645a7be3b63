//! The files of a directory are Kafka's: what is written is what Kafka's own tools expect, byte for byte where it is pinned.
//! With `CAPEK_LOG_KEEP=DIRECTORY` the directory is left there, for `kafka-dump-log`.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use capek_log::vfs::RealVfs;
use capek_log::{LogConfig, dump};
use capek_wire::{BatchBuilder, Codec};
use common::*;

fn directory() -> (PathBuf, bool) {
    match std::env::var_os("CAPEK_LOG_KEEP") {
        Some(kept) => (PathBuf::from(kept), true),
        None => (std::env::temp_dir().join(format!("capek-log-files-{}", std::process::id())), false),
    }
}

#[test]
fn a_closed_directory_has_kafkas_files_and_verifies() {
    let (root, is_kept) = directory();
    let _ = std::fs::remove_dir_all(&root);
    let (mut driver, _) = Driver::open(Arc::new(RealVfs), options(root.to_str().unwrap())).unwrap();
    let log = driver.log("orders", 0, LogConfig { segment_bytes: 25_000, ..LogConfig::default() });
    let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
    for round in 0..60i64 {
        let mut builder = BatchBuilder::new(codecs[round as usize % codecs.len()]);
        for record in 0..20i64 {
            let value = (0..200).map(|at| (at * 31 + round * record) as u8).collect::<Vec<_>>();
            let headers: &[(&[u8], Option<&[u8]>)] = &[(b"same", Some(b"1")), (b"same", None)];
            builder.push(1_700_000_000_000 + round * 1000 - record, Some(b"key"), Some(&value), headers);
        }
        builder.producer(4000 + round % 3, 1, (round / 3 * 20) as i32);
        let end = log.end_offset();
        driver.push(append(&log, 0, vec![place(builder.build().unwrap(), end, (round / 25) as i32)]));
        driver.run().unwrap();
    }
    assert!(log.segments_len().unwrap() > 2);
    driver.journal.close().unwrap();

    let partition = root.join("orders-0");
    let verified = dump::verify(&partition).unwrap();
    assert_eq!(verified.problems, []);
    assert_eq!((verified.batches, verified.records, verified.end), (60, 1200, 1200));
    let names: Vec<String> =
        std::fs::read_dir(&partition).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for name in [
        "00000000000000000000.log",
        "00000000000000000000.index",
        "00000000000000000000.timeindex",
        "leader-epoch-checkpoint",
        "partition.metadata",
        "00000000000000001200.snapshot",
    ] {
        assert!(names.iter().any(|other| other == name), "{name} is not in {names:?}");
    }
    let text = |name: &str| std::fs::read_to_string(root.join(name)).unwrap();
    assert_eq!(text("orders-0/leader-epoch-checkpoint"), "0\n3\n0 0\n1 500\n2 1000\n");
    assert_eq!(text("recovery-point-offset-checkpoint"), "0\n1\norders 0 1200\n");
    assert_eq!(text("log-start-offset-checkpoint"), "0\n1\norders 0 0\n");
    assert!(text("meta.properties").contains("version=1\n"));
    assert!(root.join(".kafka_cleanshutdown").exists());
    let snapshot = dump::snapshot(&partition.join("00000000000000001200.snapshot")).unwrap().unwrap();
    // As Kafka reads it: of several entries of a producer the last counts.
    let last: BTreeMap<_, _> = snapshot.iter().map(|batch| (batch.producer_id, batch.last_sequence)).collect();
    assert_eq!(last.into_iter().collect::<Vec<_>>(), [(4000, 399), (4001, 399), (4002, 399)]);
    if !is_kept {
        std::fs::remove_dir_all(root).unwrap();
    }
}
