//! A broker whose disk is full or broken, while those of the others are sound.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::Duration;

use crate::cluster::Cluster;
use crate::load::{Load, PARTITIONS, rounds};
use crate::support::broker::Directory;
use crate::support::small_disk::SmallDisk;
use crate::support::wait_for;

/// Four journal files of this size leave most of the small disk to the segments.
const SMALL_JOURNAL: &str = "capek.journal.file.bytes=4194304";
/// It tries for some seconds first.
const RELIEVED_WITHIN: Duration = Duration::from_secs(30);
/// What could not be led rests for half a minute.
const BACK_WITHIN: Duration = Duration::from_secs(90);
/// Of its three replicas in that time: they try again, and do not do nothing else.
const FAILURES_MAX: usize = 100;

/// Until others lead all that broker 1 led.
fn wait_until_relieved(cluster: &Cluster, topic: &str) {
    wait_for("others lead what it led", RELIEVED_WITHIN, || {
        let view = cluster.view_of(2, topic)?;
        view.partitions.values().all(|partition| ![1, -1].contains(&partition.leader)).then_some(())
    });
}

#[test]
#[ignore = "needs root: tests/faults runs it"]
fn acked_records_survive_a_full_disk() {
    let directory = Directory::new();
    let disk = SmallDisk::mount(directory.path());
    let mut cluster = Cluster::prepare(3, &[SMALL_JOURNAL]);
    cluster.broker_mut(1).data_dir = disk.path.join("data");
    cluster.start_all();
    let load = Load::start_padded(&cluster, "full", 2000);
    for _ in 0..rounds(1) {
        let ballast = disk.path.join("ballast");
        let mut file = File::create(&ballast).expect("there is room for a file");
        while file.write_all(&[1; 4096]).is_ok() {}
        drop(file);
        wait_until_relieved(&cluster, "full");
        load.wait_for_progress();
        let output = cluster.broker(1).output();
        assert!(output.contains("no room"), "the disk was never full: that shows nothing\n{output}");
        let failures = output.matches("an append failed").count();
        assert!(failures < FAILURES_MAX, "it tried {failures} times");
        assert!(cluster.broker_mut(1).is_running(), "a full disk ends no broker\n{output}");
        std::fs::remove_file(&ballast).expect("it can be removed");
        load.wait_for_progress();
        wait_for("its replicas are in sync again", BACK_WITHIN, || {
            let view = cluster.view_of(2, "full")?;
            view.partitions.values().all(|partition| partition.in_sync.contains(&1)).then_some(())
        });
        cluster.wait_until_in_sync("full", PARTITIONS);
    }
    load.stop_and_check(&cluster, "full disk");
    cluster.stop_and_compare_replicas("full", PARTITIONS);
}

/// EIO for every sync, by libfiu, until the process is another one.
#[test]
#[ignore = "needs Debian's fiu-utils: tests/faults runs it"]
fn acked_records_survive_a_disk_that_fails() {
    const EIO: i32 = 5;
    let directory = Directory::new();
    let control = directory.path().join("fiu").to_str().expect("the path is ASCII").to_owned();
    let mut cluster = Cluster::prepare(3, &[]);
    cluster.broker_mut(1).wrapper = ["fiu-run", "-x", "-f", &control].map(str::to_owned).to_vec();
    cluster.start_all();
    let fail_syncs = format!("enable name=posix/io/sync/*,failinfo={EIO}");
    let load = Load::start(&cluster, "broken");
    for _ in 0..rounds(1) {
        let id = cluster.broker(1).process_id().to_string();
        let told = Command::new("fiu-ctrl").args(["-f", &control, "-c", &fail_syncs, &id]).status();
        assert!(told.expect("fiu-ctrl is there").success());
        wait_until_relieved(&cluster, "broken");
        load.wait_for_progress();
        let output = cluster.broker(1).output();
        assert!(output.contains("os error 5"), "the disk never failed: that shows nothing\n{output}");
        // It may have ended by itself.
        cluster.kill(1);
        cluster.start_again(1);
        load.wait_for_progress();
        cluster.wait_until_in_sync("broken", PARTITIONS);
    }
    load.stop_and_check(&cluster, "EIO of a disk");
    cluster.stop_and_compare_replicas("broken", PARTITIONS);
}
