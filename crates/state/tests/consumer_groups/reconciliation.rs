//! How members move towards their targets, step by step.

use capek_state::group::consumer::MemberState;
use capek_wire::ErrorCode;

use crate::world::{World, assigned, beat, beat_holding, code, epoch, join, partitions, settle, topic_id};

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut world = World::new();
    let answer = world.send(&join("a", &["t1"]));
    assert_eq!(epoch(&answer), 2);
    assert_eq!(assigned(&answer), Some(partitions(1, 0..6)));
    let answer = answer.expect("it was accepted");
    assert_eq!((answer.member_id.as_deref(), answer.heartbeat_interval_ms), (Some("a"), 5000));
    assert_eq!(world.group.state().name(), "Stable");
}

#[test]
fn a_heartbeat_without_news_is_answered_without_an_assignment() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("it joins");
    let log_length = world.log.len();
    let answer = world.send(&beat("a", 2));
    assert_eq!((epoch(&answer), assigned(&answer)), (2, None));
    assert_eq!(world.log.len(), log_length, "nothing is written");
}

#[test]
fn a_full_request_is_answered_in_full() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("it joins");
    let mut full = join("a", &["t1"]);
    full.member_epoch = 2;
    assert_eq!(assigned(&world.send(&full)), Some(partitions(1, 0..6)));
}

/// The whole way of six partitions from one member to two, as seen on a real Kafka.
#[test]
fn a_partition_is_revoked_acknowledged_and_only_then_given_away() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();

    let joined = world.send(&join("b", &["t1"]));
    assert_eq!((epoch(&joined), assigned(&joined)), (3, Some(partitions(1, []))), "nothing is free");
    assert_eq!(world.group.member("b").expect("it joined").state, MemberState::UnreleasedPartitions);
    assert_eq!(world.group.state().name(), "Reconciling");

    let told = world.send(&beat("a", 2));
    assert_eq!((epoch(&told), assigned(&told)), (2, Some(partitions(1, 0..3))), "a must revoke");
    assert_eq!(world.group.member("a").expect("it joined").state, MemberState::UnrevokedPartitions);

    let waits = world.send(&beat("b", 3));
    assert_eq!((epoch(&waits), assigned(&waits)), (3, None));
    let still_holds = world.send(&beat_holding("a", 2, &partitions(1, 0..6)));
    assert_eq!((epoch(&still_holds), assigned(&still_holds)), (2, None));
    assert_eq!(assigned(&world.send(&beat("b", 3))), None);

    let acknowledged = world.send(&beat_holding("a", 2, &partitions(1, 0..3)));
    assert_eq!((epoch(&acknowledged), assigned(&acknowledged)), (3, None));
    assert_eq!(assigned(&world.send(&beat("b", 3))), Some(partitions(1, 3..6)));
    assert_eq!(world.group.state().name(), "Stable");
}

#[test]
fn the_next_assignment_waits_for_its_interval() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.wait(999);
    let early = world.send(&join("b", &["t1"]));
    assert_eq!((epoch(&early), assigned(&early)), (2, Some(partitions(1, []))));
    assert_eq!(world.group.state().name(), "Assigning");
    world.wait(1);
    assert_eq!(epoch(&world.send(&beat("b", 2))), 3);
    assert_eq!(world.group.state().name(), "Reconciling");
}

#[test]
fn a_member_that_waits_is_asked_to_report_sooner() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.wait(400);
    let interval = |world: &mut World, request| world.send(&request).expect("it is accepted").heartbeat_interval_ms;
    assert_eq!(interval(&mut world, join("b", &["t1"])), 600, "then there is a target");
    world.wait(590);
    assert_eq!(interval(&mut world, beat("b", 2)), 100);
    world.wait(10);
    assert_eq!(interval(&mut world, beat("b", 2)), 1_000, "a has not given anything back");
    assert_eq!(interval(&mut world, beat("a", 2)), 5_000);
    world.config.heartbeat_interval_ms = 700;
    assert_eq!(interval(&mut world, beat("b", 3)), 700);
}

#[test]
fn a_clock_that_went_back_does_not_stop_assignments() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.now_ms -= 3_600_000;
    assert_eq!(epoch(&world.send(&join("b", &["t1"]))), 3);
}

#[test]
fn what_the_leaver_had_goes_to_the_others() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    settle(&mut world, &["a", "b"]);
    world.let_assign();
    world.send(&beat("a", -1)).expect("a leaves");
    let answer = world.send(&beat("b", 3));
    assert_eq!((epoch(&answer), assigned(&answer)), (4, Some(partitions(1, 0..6))));
}

#[test]
fn a_member_drops_a_topic_at_once_when_it_no_longer_wants_it() {
    let mut world = World::new();
    world.send(&join("a", &["t1", "t2"])).expect("a joins");
    let mut narrowed = beat("a", 2);
    narrowed.subscribed_topic_names = crate::world::names(&["t2"]);
    let told = world.send(&narrowed);
    assert_eq!((epoch(&told), assigned(&told)), (2, Some(partitions(2, 0..6))), "before there is a new target");
    assert_eq!(world.group.state().name(), "Assigning");
    world.let_assign();
    let settled = world.send(&beat_holding("a", 2, &partitions(2, 0..6)));
    assert_eq!((epoch(&settled), assigned(&settled)), (3, None));
    assert_eq!(world.group.state().name(), "Stable");
}

#[test]
fn a_target_that_changes_during_a_revocation_is_followed() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke three");
    world.let_assign();
    world.send(&join("c", &["t1"])).expect("c joins");
    let told = world.send(&beat_holding("a", 2, &partitions(1, 0..3)));
    assert_eq!((epoch(&told), assigned(&told)), (3, Some(partitions(1, 0..2))), "one epoch on, one more to revoke");
    settle(&mut world, &["a", "b", "c"]);
    for (member_id, expected) in [("a", partitions(1, 0..2)), ("b", partitions(1, 3..5)), ("c", partitions(1, [2, 5]))]
    {
        let held = world.group.member(member_id).expect("it is there").assigned.keys().copied().collect();
        assert_eq!(expected, held, "{member_id}");
    }
}

#[test]
fn a_member_that_comes_back_with_epoch_zero_hears_what_it_has() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    // It holds nothing after a restart: that acknowledges the revocation.
    let again = world.send(&join("a", &["t1"]));
    assert_eq!((epoch(&again), assigned(&again)), (3, Some(partitions(1, 0..3))));
    assert_eq!(world.group.owner((topic_id(1), 4)), None);
}

#[test]
fn a_new_partition_of_a_topic_is_assigned() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    let info = capek_state::group::consumer::TopicInfo { id: topic_id(1), partition_count: 8 };
    world.topics.put("t1", info);
    world.let_assign();
    let answer = world.send(&beat("a", 2));
    assert_eq!((epoch(&answer), assigned(&answer)), (3, Some(partitions(1, 0..8))));
}

#[test]
fn a_topic_that_is_made_anew_is_another_topic() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.topics.put("t1", capek_state::group::consumer::TopicInfo { id: topic_id(9), partition_count: 2 });
    world.let_assign();
    assert_eq!(assigned(&world.send(&beat("a", 2))), Some(partitions(1, [])), "the old one is revoked first");
    assert_eq!(assigned(&world.send(&beat_holding("a", 2, &partitions(1, [])))), Some(partitions(9, 0..2)));
}

#[test]
fn a_topic_that_comes_later_is_assigned_when_it_comes() {
    let mut world = World::new();
    let early = world.send(&join("a", &["later"]));
    assert_eq!((epoch(&early), assigned(&early)), (2, Some(partitions(1, []))));
    world.topics.put("later", capek_state::group::consumer::TopicInfo { id: topic_id(7), partition_count: 1 });
    world.let_assign();
    assert_eq!(assigned(&world.send(&beat("a", 2))), Some(partitions(7, [0])));
}

#[test]
fn a_change_of_another_topic_is_none_of_the_groups_business() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.topics.remove("u");
    world.let_assign();
    let log_length = world.log.len();
    assert_eq!(epoch(&world.send(&beat("a", 2))), 2);
    assert_eq!(world.log.len(), log_length);
}

#[test]
fn members_may_want_nothing() {
    let mut world = World::new();
    let answer = world.send(&join("a", &[]));
    assert_eq!((epoch(&answer), assigned(&answer)), (1, Some(partitions(1, []))));
    assert_eq!(epoch(&world.send(&join("b", &[]))), 1);
    assert_eq!(world.group.state().name(), "Stable");
}

#[test]
fn the_assignor_that_most_ask_for_is_used() {
    let mut world = World::new();
    let asking = |member_id: &str, assignor: &str| {
        let mut request = join(member_id, &["t1", "t2"]);
        request.server_assignor = Some(assignor.into());
        request
    };
    world.send(&asking("a", "range")).expect("a joins");
    world.let_assign();
    world.send(&asking("b", "range")).expect("b joins");
    let held = settle(&mut world, &["a", "b"]);
    let expected: capek_state::group::consumer::Assignment =
        partitions(1, 0..3).into_iter().chain(partitions(2, 0..3)).collect();
    assert_eq!(held["a"], expected);
    let described = world.group.describe(&world.config, &world.topics);
    assert_eq!(described.assignor_name, "range");
}

#[test]
fn a_group_that_is_full_takes_nobody_else() {
    let mut world = World::new();
    world.config.members_max = 1;
    world.send(&join("a", &["t1"])).expect("a joins");
    assert_eq!(code(&world.send(&join("b", &["t1"]))), ErrorCode::GroupMaxSizeReached);
    world.send(&join("a", &["t1"])).expect("a is in it");
}

#[test]
fn a_member_without_an_id_gets_one() {
    let mut world = World::new();
    let answer = world.send(&join("", &["t1"])).expect("version 0 may");
    assert_eq!(answer.member_id.as_deref(), Some("made-here"));
    assert!(world.group.member("made-here").is_some());
}
