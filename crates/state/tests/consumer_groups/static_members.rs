//! Static members: an instance id keeps its place. As seen on a real Kafka 4.3.

use capek_wire::ErrorCode;
use capek_wire::messages::ConsumerGroupHeartbeatRequest;

use crate::world::{World, assigned, beat, code, epoch, join, names, partitions};

fn instance(mut request: ConsumerGroupHeartbeatRequest, id: &str) -> ConsumerGroupHeartbeatRequest {
    request.instance_id = Some(id.into());
    request
}

fn with_static_a() -> World {
    let mut world = World::new();
    world.send(&instance(join("a", &["t1"]), "i1")).expect("a joins");
    world
}

#[test]
fn an_instance_id_has_one_member_at_a_time() {
    let mut world = with_static_a();
    let message =
        "Static member b with instance id i1 cannot join the group because the instance id is owned by a member.";
    let taken = Err((ErrorCode::UnreleasedInstanceId, message.to_owned()));
    assert_eq!(world.send(&instance(join("b", &["t1"]), "i1")), taken);
    let fenced =
        Err((ErrorCode::FencedInstanceId, "Static member b with instance id i1 was fenced by member a.".to_owned()));
    assert_eq!(world.send(&instance(beat("b", 2), "i1")), fenced);
    assert_eq!(world.send(&instance(beat("b", -1), "i1")), fenced);
    let unknown = Err((ErrorCode::UnknownMemberId, "Instance id i9 is unknown.".to_owned()));
    assert_eq!(world.send(&instance(beat("a", 2), "i9")), unknown);
    assert_eq!(world.send(&instance(beat("a", -1), "i9")), unknown);
}

#[test]
fn a_static_member_comes_back_to_what_it_had() {
    let mut world = with_static_a();
    let away = world.send(&instance(beat("a", -2), "i1"));
    assert_eq!(epoch(&away), -2);
    assert_eq!(code(&world.send(&instance(beat("a", 2), "i1"))), ErrorCode::FencedMemberEpoch);
    assert_eq!(world.group.state().name(), "Reconciling");
    world.wait(44_999);

    let back = world.send(&instance(join("b", &["t1"]), "i1"));
    assert_eq!((epoch(&back), assigned(&back)), (2, Some(partitions(1, 0..6))));
    assert_eq!((world.group.epoch(), world.group.state().name()), (2, "Stable"), "there was no rebalance");
    assert!(world.group.member("a").is_none());
    assert_eq!(code(&world.send(&instance(beat("a", 2), "i1"))), ErrorCode::FencedInstanceId);
}

#[test]
fn a_static_member_may_come_back_under_the_same_id() {
    let mut world = with_static_a();
    world.send(&instance(beat("a", -2), "i1")).expect("it leaves for a while");
    let back = world.send(&instance(join("a", &["t1"]), "i1"));
    assert_eq!((epoch(&back), assigned(&back)), (2, Some(partitions(1, 0..6))));
}

#[test]
fn a_static_member_that_stays_away_is_removed() {
    let mut world = with_static_a();
    world.wait(20_000);
    world.send(&instance(beat("a", -2), "i1")).expect("it leaves for a while");
    world.wait(25_000);
    assert!(world.group.is_empty(), "45 s after it was last heard before it left");
    let joined = world.send(&instance(join("b", &["t1"]), "i1"));
    assert_eq!((epoch(&joined), assigned(&joined)), (4, Some(partitions(1, 0..6))));
}

#[test]
fn a_static_member_that_leaves_for_good_is_gone() {
    let mut world = with_static_a();
    world.send(&instance(beat("a", -1), "i1")).expect("it leaves");
    assert!(world.group.is_empty());
    assert_eq!(world.group.static_member("i1"), None);
}

#[test]
fn who_comes_back_wanting_something_else_starts_a_rebalance() {
    let mut world = with_static_a();
    world.send(&instance(beat("a", -2), "i1")).expect("it leaves for a while");
    let back = world.send(&instance(join("c", &["t1", "t2"]), "i1"));
    assert_eq!((epoch(&back), assigned(&back)), (2, Some(partitions(1, 0..6))));
    assert_eq!((world.group.epoch(), world.group.state().name()), (3, "Assigning"));
}

#[test]
fn who_leaves_for_a_while_gives_up_what_it_was_giving_up() {
    let mut world = with_static_a();
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    world.send(&instance(beat("a", -2), "i1")).expect("it leaves for a while");
    assert_eq!(assigned(&world.send(&beat("b", 3))), Some(partitions(1, 3..6)));
    let back = world.send(&instance(join("a2", &["t1"]), "i1"));
    assert_eq!((epoch(&back), assigned(&back)), (3, Some(partitions(1, 0..3))));
}

#[test]
fn a_member_may_take_an_instance_id_later() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.send(&instance(join("a", &["t1"]), "i1")).expect("it joins again, as i1");
    assert_eq!(world.group.static_member("i1").map(|id| id.as_str()), Some("a"));
    world.send(&instance(join("a", &["t1"]), "i2")).expect("and as i2");
    assert_eq!(world.group.static_member("i1"), None);
    assert_eq!(world.group.members().len(), 1);
    let mut changed = instance(beat("a", 2), "i2");
    changed.subscribed_topic_names = names(&["u"]);
    world.send(&changed).expect("it is still itself");
}
