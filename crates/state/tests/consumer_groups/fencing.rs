//! Who is turned away, and with which words. Codes and texts are those of a real Kafka 4.3.

use capek_wire::ErrorCode;

use crate::world::{World, assigned, beat, beat_holding, epoch, join, partitions};

/// `a` has moved from epoch 2 to 3, where it keeps the first three partitions.
fn moved_on() -> World {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    world.send(&beat_holding("a", 2, &partitions(1, 0..3))).expect("a has revoked");
    world
}

#[test]
fn a_member_that_is_unknown_is_told_so() {
    let mut world = moved_on();
    let expected = Err((ErrorCode::UnknownMemberId, "Member z is not a member of group g.".to_owned()));
    assert_eq!(world.send(&beat("z", 2)), expected);
    assert_eq!(world.send(&beat("z", -1)), expected);
}

#[test]
fn an_epoch_from_the_future_is_fenced() {
    let message = "The consumer group member has a greater member epoch (9) than the one known by the group \
                   coordinator (3). The member must abandon all its partitions and rejoin.";
    assert_eq!(moved_on().send(&beat("a", 9)), Err((ErrorCode::FencedMemberEpoch, message.to_owned())));
}

#[test]
fn the_previous_epoch_is_good_for_who_holds_no_more_than_it_should() {
    let mut world = moved_on();
    let repeated = world.send(&beat_holding("a", 2, &partitions(1, 0..3)));
    assert_eq!((epoch(&repeated), assigned(&repeated)), (3, None), "the answer was lost");
    world.send(&beat_holding("a", 2, &partitions(1, []))).expect("it holds even less");
    let message = "The consumer group member has a smaller member epoch (2) than the one known by the group \
                   coordinator (3). The member must abandon all its partitions and rejoin.";
    let fenced = Err((ErrorCode::FencedMemberEpoch, message.to_owned()));
    assert_eq!(world.send(&beat_holding("a", 2, &partitions(1, 0..6))), fenced);
    assert_eq!(world.send(&beat("a", 2)), fenced, "it does not say what it holds");
}

#[test]
fn an_epoch_before_the_previous_one_is_fenced() {
    let refused = moved_on().send(&beat_holding("a", 1, &partitions(1, [])));
    assert_eq!(refused.expect_err("it is fenced").0, ErrorCode::FencedMemberEpoch);
}

#[test]
fn who_is_fenced_may_join_again() {
    let mut world = moved_on();
    world.send(&beat("a", 9)).expect_err("it is fenced");
    let again = world.send(&join("a", &["t1"]));
    assert_eq!((epoch(&again), assigned(&again)), (3, Some(partitions(1, 0..3))));
}
