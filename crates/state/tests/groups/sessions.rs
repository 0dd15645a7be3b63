//! Heartbeats, leaving, sessions that end, and static members, whose place is kept.

use bytes::Bytes;
use capek_state::group::{Effects, GroupMetadata, JoinRequest, SyncAnswer};
use capek_wire::error_code::ErrorCode;

use crate::fixtures::{GROUP, SESSION_MS, Shard, group_record, protocol, refused_join, text};

#[test]
fn a_heartbeat_tells_each_member_how_it_stands() {
    let mut shard = Shard::new();
    assert_eq!(shard.heartbeat("member-1", 1), ErrorCode::UnknownMemberId);
    let ids = shard.stable(2);
    assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::None);
    assert_eq!(shard.heartbeat(&ids[0], 2), ErrorCode::IllegalGeneration);
    assert_eq!(shard.heartbeat(&ids[0], 0), ErrorCode::IllegalGeneration);
    assert_eq!(shard.heartbeat("nobody", 1), ErrorCode::UnknownMemberId);
    assert_eq!(shard.heartbeat_of(&ids[0], Some("instance"), 1), ErrorCode::UnknownMemberId);
    let request = shard.newcomer();
    shard.join(request);
    assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
    for id in &ids {
        let request = shard.known(id);
        shard.join(request);
    }
    assert_eq!(shard.state(), "CompletingRebalance");
    assert_eq!(shard.heartbeat(&ids[0], 2), ErrorCode::None);
    let mut request = capek_state::group::HeartbeatRequest::default();
    assert_eq!(shard.coordinator.heartbeat(0, &request), ErrorCode::InvalidGroupId);
    request.group = text("other");
    assert_eq!(shard.coordinator.heartbeat(0, &request), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_whose_session_ends_is_removed_and_the_others_rebalance() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    shard.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::None);
    assert_eq!(shard.pass(1), Effects::default());
    assert_eq!(shard.state(), "PreparingRebalance");
    assert_eq!(shard.heartbeat(&ids[1], 1), ErrorCode::UnknownMemberId);
    let request = shard.known(&ids[0]);
    assert_eq!(shard.join(request).1.joins.len(), 1);
}

#[test]
fn a_group_whose_last_session_ends_is_empty_and_the_log_knows() {
    let mut shard = Shard::new();
    shard.stable(2);
    let effects = shard.pass(i64::from(SESSION_MS));
    let expected = GroupMetadata {
        protocol_type: text("consumer"),
        generation: 2,
        state_timestamp_ms: Some(shard.now_ms),
        ..GroupMetadata::default()
    };
    assert_eq!(group_record(&effects), expected);
    assert_eq!(shard.state(), "Empty");
    assert_eq!(shard.reloaded().state(), "Empty");
}

#[test]
fn whoever_waits_for_the_others_is_alive() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    // The first waits in the join phase, for longer than a session.
    let request = shard.known(&ids[0]);
    shard.join(request);
    for _ in 0..5 {
        shard.pass(5_000);
        assert_eq!(shard.heartbeat(&ids[1], 1), ErrorCode::RebalanceInProgress);
    }
    let request = shard.known(&ids[1]);
    assert_eq!(shard.join(request).1.joins.len(), 2);
    // And now for the assignment.
    shard.sync(&ids[1], 2, &[]);
    for _ in 0..5 {
        shard.pass(5_000);
        assert_eq!(shard.heartbeat(&ids[0], 2), ErrorCode::None);
    }
    assert_eq!(shard.sync(&ids[0], 2, &[]).1.syncs.len(), 2);
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut shard = Shard::new();
    let ids = shard.stable(1);
    for offset in 0..10 {
        shard.pass(5_000);
        let request = shard.commit_request(&ids[0], 1, offset);
        assert_eq!(shard.commit(request).0, Ok(vec![ErrorCode::None]));
    }
    assert_eq!(shard.state(), "Stable");
}

#[test]
fn leaving_is_answered_for_each_member() {
    let mut shard = Shard::new();
    assert_eq!(shard.leave(&[("member-1", None)]).0, Ok(vec![ErrorCode::UnknownMemberId]));
    let ids = shard.stable(3);
    let (left, effects) =
        shard.leave(&[(&ids[0], None), ("nobody", None), ("", None), ("", Some("i")), (&ids[1], Some("i"))]);
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(left, Ok(vec![ErrorCode::None, unknown, unknown, unknown, unknown]));
    assert_eq!(effects, Effects::default());
    assert_eq!(shard.state(), "PreparingRebalance");
    let request = capek_state::group::LeaveRequest::default();
    let left = shard.coordinator.leave(0, &request, &mut Effects::default());
    assert_eq!(left, Err(ErrorCode::InvalidGroupId));
}

#[test]
fn when_the_last_member_leaves_the_group_is_empty_and_the_log_knows() {
    let mut shard = Shard::new();
    let ids = shard.stable(1);
    let (left, effects) = shard.leave(&[(&ids[0], None)]);
    assert_eq!(left, Ok(vec![ErrorCode::None]));
    assert_eq!((group_record(&effects).generation, group_record(&effects).members), (2, vec![]));
    assert_eq!(shard.state(), "Empty");
}

#[test]
fn a_member_that_leaves_lets_the_join_phase_end() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.known(&ids[0]);
    let (waiting, _) = shard.join(request);
    let (_, effects) = shard.leave(&[(&ids[1], None)]);
    assert_eq!(effects.joins.len(), 1);
    assert_eq!((effects.joins[0].0, effects.joins[0].1.generation), (waiting, 2));
}

#[test]
fn what_a_removed_member_waits_for_is_answered() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.known(&ids[0]);
    let (waiting, _) = shard.join(request);
    let (_, effects) = shard.leave(&[(&ids[0], None)]);
    assert_eq!(effects.joins, [(waiting, refused_join(ErrorCode::UnknownMemberId, ""))]);
    let mut shard = Shard::new();
    let (first, second) = (shard.newcomer(), shard.newcomer());
    shard.join(first);
    shard.join(second);
    shard.pass(0);
    let (waiting, _) = shard.sync("member-2", 1, &[]);
    let (_, effects) = shard.leave(&[("member-2", None)]);
    assert_eq!(effects.syncs, [(waiting, SyncAnswer::refused(ErrorCode::UnknownMemberId))]);
}

#[test]
fn an_id_that_was_given_out_can_be_given_back() {
    let mut shard = Shard::new();
    let request = JoinRequest { requires_known_member: true, ..shard.newcomer() };
    shard.join_now(request);
    assert_eq!(shard.leave(&[("member-1", None)]).0, Ok(vec![ErrorCode::None]));
    assert_eq!(shard.coordinator.group_count(), 0);
}

/// One static member with its assignment.
fn with_static_member() -> Shard {
    let mut shard = Shard::new();
    let request = shard.static_member("instance");
    shard.join(request);
    assert_eq!(shard.pass(0).joins.len(), 1);
    let (_, effects) = shard.sync("member-1", 1, &[("member-1", "mine")]);
    assert_eq!(effects.records.len(), 1);
    shard
}

#[test]
fn a_static_member_that_comes_back_keeps_its_place_without_a_rebalance() {
    let mut shard = with_static_member();
    let request = JoinRequest { client_id: text("restarted"), ..shard.static_member("instance") };
    let (reply, effects) = shard.join(request);
    let record = group_record(&effects);
    assert_eq!((record.generation, record.leader), (1, Some(text("member-2"))));
    assert_eq!((record.members.len(), &record.members[0].assignment[..]), (1, &b"mine"[..]));
    let (answered, answer) = &effects.joins[0];
    assert_eq!((*answered, answer.generation, answer.error), (reply, 1, ErrorCode::None));
    // Old clients would take their own id as an order to assign.
    assert_eq!((&answer.leader, answer.members.len(), answer.skip_assignment), (&text("member-1"), 0, false));
    assert_eq!(shard.state(), "Stable");
    let described = shard.coordinator.describe(GROUP).expect("the group is there");
    assert_eq!((&described.members[0].client_id, &record.members[0].client_id), (&text("client"), &text("client")));
    assert_eq!(&shard.sync_now("member-2", 1).assignment[..], b"mine");
    // The old self is fenced wherever it shows up.
    assert_eq!(shard.heartbeat_of("member-1", Some("instance"), 1), ErrorCode::FencedInstanceId);
    assert_eq!(shard.heartbeat_of("member-2", Some("instance"), 1), ErrorCode::None);
    assert_eq!(shard.leave(&[("member-1", Some("instance"))]).0, Ok(vec![ErrorCode::FencedInstanceId]));
    let request = JoinRequest { member_id: text("member-1"), ..shard.static_member("instance") };
    assert_eq!(shard.join_now(request), refused_join(ErrorCode::FencedInstanceId, "member-1"));
    let mut request = shard.commit_request("member-1", 1, 5);
    request.instance_id = Some(text("instance"));
    assert_eq!(shard.commit(request).0, Err(ErrorCode::FencedInstanceId));
    assert_eq!(shard.reloaded().heartbeat_of("member-2", Some("instance"), 1), ErrorCode::None);
}

#[test]
fn a_static_group_leader_of_a_new_client_is_told_not_to_assign_again() {
    let mut shard = with_static_member();
    let request = JoinRequest { can_skip_assignment: true, ..shard.static_member("instance") };
    let answer = shard.join_now(request);
    assert_eq!((&answer.leader, answer.members.len(), answer.skip_assignment), (&text("member-2"), 1, true));
}

#[test]
fn a_static_member_with_another_choice_of_protocol_begins_a_rebalance() {
    let mut shard = Shard::new();
    let protocols = vec![protocol("range", ""), protocol("sticky", "")];
    let request = JoinRequest { protocols: protocols.clone(), ..shard.static_member("instance") };
    shard.join(request);
    shard.pass(0);
    shard.sync("member-1", 1, &[]);
    let swapped = vec![protocols[1].clone(), protocols[0].clone()];
    let request = JoinRequest { protocols: swapped, ..shard.static_member("instance") };
    let answer = shard.join_now(request);
    assert_eq!((answer.generation, answer.protocol), (2, Some(text("sticky"))));
    assert_eq!(shard.state(), "CompletingRebalance");
}

#[test]
fn a_static_member_that_comes_back_while_the_assignment_is_awaited_begins_a_rebalance() {
    let mut shard = Shard::new();
    let (first, second) = (shard.static_member("a"), shard.static_member("b"));
    shard.join(first);
    shard.join(second);
    shard.pass(0);
    let (waiting, _) = shard.sync("member-2", 1, &[]);
    let request = shard.static_member("b");
    let (_, effects) = shard.join(request);
    assert_eq!(effects.syncs, [(waiting, SyncAnswer::refused(ErrorCode::FencedInstanceId))]);
    assert_eq!(shard.state(), "PreparingRebalance");
}

#[test]
fn a_static_member_that_is_away_in_a_rebalance_is_kept_until_its_session_ends() {
    let mut shard = Shard::new();
    let request = shard.static_member("away");
    shard.join(request);
    let request = shard.newcomer();
    shard.join(request);
    shard.pass(0);
    shard.sync("member-1", 1, &[]);
    shard.sync_now("member-2", 1);
    // The dynamic one joins again and waits: the static one is away, and its session is short.
    let request = JoinRequest { protocols: vec![protocol("range", "new")], ..shard.known("member-2") };
    let (waiting, _) = shard.join(request);
    assert_eq!(shard.pass(i64::from(SESSION_MS) - 1), Effects::default());
    let effects = shard.pass(1);
    assert_eq!((effects.joins.len(), effects.joins[0].0), (1, waiting));
    assert_eq!(effects.joins[0].1.members.len(), 1);
}

#[test]
fn tools_remove_static_members_by_their_instance_id() {
    let mut shard = with_static_member();
    let (left, effects) = shard.leave(&[("", Some("instance"))]);
    assert_eq!(left, Ok(vec![ErrorCode::None]));
    assert_eq!(effects.records.len(), 1);
    assert_eq!(shard.state(), "Empty");
}

#[test]
fn a_group_is_described_with_its_members_and_with_what_they_say_while_it_is_stable() {
    let assignments = |shard: &Shard| -> Vec<Bytes> {
        let described = shard.coordinator.describe(GROUP).expect("the group is there");
        described.members.into_iter().map(|member| member.assignment).collect()
    };
    let mut shard = with_static_member();
    let described = shard.coordinator.describe(GROUP).unwrap();
    assert_eq!((described.state, &described.protocol), ("Stable", &text("range")));
    assert_eq!(&described.members[0].assignment[..], b"mine");
    assert_eq!(described.members[0].instance_id, Some(text("instance")));
    let request = shard.newcomer();
    shard.join(request);
    let described = shard.coordinator.describe(GROUP).unwrap();
    assert_eq!((described.state, &described.protocol), ("PreparingRebalance", &text("")));
    assert!(described.members.iter().all(|member| member.metadata.is_empty()));
    assert_eq!(assignments(&shard), ["mine", ""], "what a member had last, it may still be at work on");
    let again = JoinRequest { instance_id: Some(text("instance")), ..shard.known("member-1") };
    shard.join(again);
    assert_eq!(shard.state(), "CompletingRebalance");
    assert_eq!(assignments(&shard), ["mine", ""]);
    assert_eq!(shard.coordinator.describe("other"), None);
}
