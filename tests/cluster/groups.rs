//! A consumer group whose coordinator dies.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::load::rounds;
use crate::support::frames::{Fields, LATEST, RawClient};
use crate::support::group::{GroupClient, PARTITIONS};
use crate::support::programs::python;
use crate::support::wait_for;

const FIND_COORDINATOR: i16 = 10;

/// Commits survive, members go on; where they begin to read again is checked by [`GroupClient`].
#[test]
fn a_group_moves_with_its_coordinator_and_keeps_its_commits() {
    let mut cluster = Cluster::start();
    cluster.create_topic("orders", PARTITIONS);
    let mut group = GroupClient::start(python("confluent_group.py", &[&cluster.bootstrap()]), "orders", "workers");
    group.join("one");
    group.join("two");
    group.wait_for_holders(&["one", "two"]);
    let mut produced = 0;
    let mut more = |group: &mut GroupClient| {
        group.produce(produced..produced + 30);
        produced += 30;
        group.wait_for_all_seen();
    };
    more(&mut group);
    for _ in 0..rounds(1) {
        let coordinator = coordinator(&cluster, &[]);
        let before = committed_everything(&cluster, &mut group);
        cluster.kill(coordinator);
        let killed = Instant::now();
        let next = self::coordinator(&cluster, &[coordinator]);
        println!("broker {next} is the coordinator {} ms after the death of the last", killed.elapsed().as_millis());
        let after = group.committed();
        assert!(before.iter().all(|(partition, offset)| after[partition] >= *offset), "{before:?}, then {after:?}");
        more(&mut group);
        group.wait_for_holders(&["one", "two"]);
        cluster.start_again(coordinator);
        cluster.wait_until_in_sync("orders", PARTITIONS);
    }
    more(&mut group);
    committed_everything(&cluster, &mut group);
    group.finish();
}

/// Until the members have committed all that there is.
fn committed_everything(cluster: &Cluster, group: &mut GroupClient) -> BTreeMap<i32, i64> {
    let ends: BTreeMap<i32, i64> = (0..PARTITIONS)
        .map(|partition| {
            let (error, end) =
                cluster.client(cluster.leader("orders", partition)).list_offset("orders", partition, LATEST);
            assert_eq!(error, 0);
            (partition, end)
        })
        .collect();
    let written: BTreeMap<i32, i64> = ends.into_iter().filter(|(_, end)| *end > 0).collect();
    wait_for("everything is committed", HEALED_WITHIN, || (group.committed() == written).then_some(()));
    written
}

/// None of these.
fn coordinator(cluster: &Cluster, not: &[i32]) -> i32 {
    wait_for("the group has a coordinator", HEALED_WITHIN, || {
        let asked = cluster.others(not)[0];
        let mut client = RawClient::try_connect(&cluster.broker(asked).kafka())?;
        let mut answer = client.try_call(FIND_COORDINATOR, 1, Fields::default().string("workers").i8(0))?;
        let (_throttle_ms, error, _message, id) = (answer.i32(), answer.i16(), answer.string(), answer.i32());
        (error == 0 && !not.contains(&id)).then_some(id)
    })
}
