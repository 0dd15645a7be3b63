//! Who may commit and fetch offsets. As seen on a real Kafka 4.3.

use capek_state::group::consumer::{Committer, TopicPartition};
use capek_wire::{ErrorCode, Str};

use crate::world::{World, beat, beat_holding, join, partitions, settle, topic_id};

const TOOL: Committer<'_> = Committer {
    member_id: "",
    member_epoch: -1,
    instance_id: None,
    is_transactional: false,
    knows_member_epochs: true,
};

fn member(member_id: &str, member_epoch: i32) -> Committer<'_> {
    Committer { member_id, member_epoch, ..TOOL }
}

fn commit(world: &World, committer: Committer<'_>, indexes: &[i32]) -> ErrorCode {
    let partitions = indexes.iter().map(|index| Some((topic_id(1), *index)));
    world.group.check_commit(committer, partitions).map_or_else(|refusal| refusal.code, |()| ErrorCode::None)
}

fn fetch(world: &World, member_id: Option<&str>, epoch: i32) -> ErrorCode {
    let member_id = member_id.map(Str::from);
    world.group.check_fetch(member_id.as_ref(), epoch).map_or_else(|refusal| refusal.code, |()| ErrorCode::None)
}

#[test]
fn a_member_commits_and_fetches_with_its_epoch() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    assert_eq!(commit(&world, member("a", 2), &[0]), ErrorCode::None);
    for epoch in [1, 3] {
        assert_eq!(commit(&world, member("a", epoch), &[0]), ErrorCode::StaleMemberEpoch, "{epoch}");
        assert_eq!(fetch(&world, Some("a"), epoch), ErrorCode::StaleMemberEpoch, "{epoch}");
    }
    assert_eq!(fetch(&world, Some("a"), 2), ErrorCode::None);
    assert_eq!(commit(&world, member("z", 2), &[0]), ErrorCode::UnknownMemberId);
    assert_eq!(fetch(&world, Some("z"), 2), ErrorCode::UnknownMemberId);
    assert_eq!(
        commit(&world, Committer { knows_member_epochs: false, ..member("a", 2) }, &[0]),
        ErrorCode::UnsupportedVersion
    );
}

#[test]
fn tools_fetch_always_and_commit_while_nobody_is_there() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    assert_eq!(fetch(&world, None, -1), ErrorCode::None);
    assert_eq!(commit(&world, TOOL, &[0]), ErrorCode::UnknownMemberId);
    assert_eq!(commit(&world, member("", 2), &[0]), ErrorCode::UnknownMemberId);
    let transactional = Committer { is_transactional: true, ..TOOL };
    assert_eq!(commit(&world, transactional, &[0]), ErrorCode::None);
    world.send(&beat("a", -1)).expect("a leaves");
    assert_eq!(commit(&world, TOOL, &[0]), ErrorCode::None);
    assert_eq!(commit(&world, member("z", -1), &[0]), ErrorCode::None);
    assert_eq!(commit(&world, member("a", 3), &[0]), ErrorCode::UnknownMemberId);
}

#[test]
fn an_older_epoch_is_good_for_what_a_member_has_had_since() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    world.let_assign();
    world.send(&join("b", &["t1"])).expect("b joins");
    world.send(&beat("a", 2)).expect("a is told to revoke");
    assert_eq!(commit(&world, member("a", 2), &[0, 5]), ErrorCode::None, "what it gives up, too");
    world.send(&beat_holding("a", 2, &partitions(1, 0..3))).expect("a has revoked");
    assert_eq!(commit(&world, member("a", 2), &[0, 1]), ErrorCode::None);
    assert_eq!(commit(&world, member("a", 2), &[5]), ErrorCode::StaleMemberEpoch);
    assert_eq!(commit(&world, member("a", 2), &[0, 5]), ErrorCode::StaleMemberEpoch, "all or nothing");
    assert_eq!(commit(&world, member("a", 1), &[0]), ErrorCode::StaleMemberEpoch);
    settle(&mut world, &["a", "b"]);
    world.send(&beat("a", -1)).expect("a leaves");
    world.let_assign();
    world.send(&beat("b", 3)).expect("b gets the rest");
    assert_eq!(commit(&world, member("b", 3), &[4]), ErrorCode::None);
    assert_eq!(commit(&world, member("b", 3), &[0]), ErrorCode::StaleMemberEpoch, "b did not have it then");
}

#[test]
fn a_topic_that_does_not_exist_needs_the_current_epoch() {
    let mut world = World::new();
    world.send(&join("a", &["t1"])).expect("a joins");
    let unknown: [Option<TopicPartition>; 1] = [None];
    assert_eq!(world.group.check_commit(member("a", 2), unknown.into_iter()), Ok(()));
    let refused = world.group.check_commit(member("a", 1), unknown.into_iter()).expect_err("it is stale");
    assert_eq!(refused.code, ErrorCode::StaleMemberEpoch);
}
