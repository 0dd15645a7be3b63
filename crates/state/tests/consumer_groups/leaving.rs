//! Members that go, by saying so or by falling silent.

use capek_state::group::consumer::Change;

use crate::world::{REBALANCE_TIMEOUT_MS, World, assigned, beat, beat_holding, epoch, join, partitions};

#[test]
fn who_leaves_gets_its_epoch_back_and_is_gone() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    let answer = world.send(&beat("a", -1)).expect("a leaves");
    assert_eq!((answer.member_epoch, answer.heartbeat_interval_ms, answer.assignment), (-1, 0, None));
    assert!(world.group.is_empty());
    assert_eq!((world.group.state().name(), world.group.epoch()), ("Empty", 3));
    assert_eq!(world.group.next_deadline(), None, "nobody is waited for");
}

#[test]
fn a_member_that_is_silent_for_its_session_is_removed() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.wait(30_000);
    world.send(&beat("a", 2)).expect("it reports");
    world.wait(44_999);
    assert!(world.group.member("a").is_some());
    world.wait(1);
    assert!(world.group.is_empty());
    assert_eq!(world.group.epoch(), 3);
}

#[test]
fn a_member_that_keeps_partitions_too_long_is_removed() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    world.wait(20_000);
    world.send(&beat_holding("a", 2, &partitions(1, 0..6))).expect("it reports and still holds all");
    world.send(&beat("b", 3)).expect("b waits");
    world.wait(i64::from(REBALANCE_TIMEOUT_MS) - 20_000 - 1);
    assert!(world.group.member("a").is_some());
    world.wait(1);
    assert!(world.group.member("a").is_none());
    let answer = world.send(&beat("b", 3));
    assert_eq!((epoch(&answer), assigned(&answer)), (4, Some(partitions(1, 0..6))));
}

#[test]
fn who_revokes_in_time_stays() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    world.wait(i64::from(REBALANCE_TIMEOUT_MS) - 1);
    world.send(&beat_holding("a", 2, &partitions(1, 0..3))).expect("it has revoked");
    world.send(&beat("b", 3)).expect("b is served");
    world.wait(10_000);
    assert!(world.group.member("a").is_some());
}

#[test]
fn after_a_reload_every_member_gets_its_whole_time_again() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    world.wait(29_000);
    world.reload();
    world.wait(29_999);
    assert!(world.group.member("a").is_some(), "its rebalance timeout began anew");
    world.wait(1);
    assert!(world.group.member("a").is_none());
    world.wait(15_000);
    assert!(world.group.is_empty(), "sessions began anew, too");
}

#[test]
fn an_empty_group_is_deleted_with_all_that_it_wrote() {
    let mut world = World::new();
    let mut request = join("a", &["t1"]);
    request.subscribed_topic_regex = Some("u.*".into());
    world.send(&request).expect("a joins");
    assert_eq!(world.group.check_delete().expect_err("a is in it").code, capek_wire::ErrorCode::NonEmptyGroup);
    world.send(&beat("a", -1)).expect("a leaves");
    assert_eq!(world.group.check_delete(), Ok(()));
    let deleted: Vec<Change> = world.group.delete().into_iter().map(|record| record.change).collect();
    let expected =
        [Change::TargetEpoch(None), Change::PartitionMetadata { is_deleted: true }, Change::GroupEpoch(None)];
    assert_eq!(deleted, expected);

    // With what stands in the log before, nothing is left: a compacted log holds no trace of the group.
    let mut last = std::collections::BTreeMap::new();
    world.log.extend(world.group.delete());
    for record in &world.log {
        let (key, value) = record.encode().expect("it can be written");
        last.insert(key, value);
    }
    assert!(last.values().all(Option::is_none), "{last:?}");
}
