//! The assignment: who brings it, who waits for it, what of it is written.

use bytes::Bytes;
use capek_state::group::{Effects, GroupMember, GroupMetadata, SyncAnswer, SyncRequest};
use capek_wire::error_code::ErrorCode;

use crate::fixtures::{GROUP, REBALANCE_MS, SESSION_MS, START_MS, Shard, group_record, subscription, text};

fn assigned(assignment: &str) -> SyncAnswer {
    SyncAnswer {
        error: ErrorCode::None,
        protocol_type: Some(text("consumer")),
        protocol: Some(text("range")),
        assignment: Bytes::from(assignment.to_string()),
    }
}

/// Two have joined, nobody has synced.
fn completing() -> Shard {
    let mut shard = Shard::new();
    let (first, second) = (shard.newcomer(), shard.newcomer());
    shard.join(first);
    shard.join(second);
    assert_eq!(shard.pass(0).joins.len(), 2);
    shard
}

#[test]
fn everybody_is_answered_when_the_group_leader_has_assigned_and_one_record_says_so() {
    let mut shard = completing();
    let (follower, effects) = shard.sync("member-2", 1, &[]);
    assert_eq!(effects, Effects::default());
    let (leader, effects) = shard.sync("member-1", 1, &[("member-1", "1"), ("member-2", "2"), ("ghost", "3")]);
    assert_eq!(effects.syncs, [(leader, assigned("1")), (follower, assigned("2"))]);
    assert_eq!(effects.joins, []);
    let member = |id: &str, assignment: &'static str| GroupMember {
        member_id: text(id),
        instance_id: None,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        rebalance_timeout_ms: REBALANCE_MS,
        session_timeout_ms: SESSION_MS,
        subscription: subscription(&["orders"]),
        assignment: Bytes::from_static(assignment.as_bytes()),
    };
    let expected = GroupMetadata {
        protocol_type: text("consumer"),
        generation: 1,
        protocol: Some(text("range")),
        leader: Some(text("member-1")),
        state_timestamp_ms: Some(START_MS),
        members: vec![member("member-1", "1"), member("member-2", "2")],
    };
    assert_eq!(group_record(&effects), expected);
    assert_eq!(shard.state(), "Stable");
}

#[test]
fn a_member_that_syncs_late_or_again_is_answered_at_once() {
    let mut shard = completing();
    shard.sync("member-1", 1, &[("member-1", "1"), ("member-2", "2")]);
    assert_eq!(shard.sync_now("member-2", 1), assigned("2"));
    assert_eq!(shard.sync_now("member-2", 1), assigned("2"));
    assert_eq!(shard.sync_now("member-1", 1), assigned("1"));
}

#[test]
fn a_member_that_the_group_leader_forgot_has_nothing() {
    let mut shard = completing();
    let (leader, effects) = shard.sync("member-1", 1, &[]);
    assert_eq!(effects.syncs, [(leader, assigned(""))]);
    assert_eq!(shard.sync_now("member-2", 1), assigned(""));
}

#[test]
fn what_does_not_fit_the_generation_is_refused() {
    let mut shard = completing();
    let check = |shard: &mut Shard, request: SyncRequest, error: ErrorCode| {
        let (reply, effects) = shard.sync_with(request);
        assert_eq!(effects, Effects { syncs: vec![(reply, SyncAnswer::refused(error))], ..Effects::default() });
    };
    let good = SyncRequest {
        group: text(GROUP),
        member_id: text("member-1"),
        generation: 1,
        protocol_type: Some(text("consumer")),
        protocol: Some(text("range")),
        ..SyncRequest::default()
    };
    check(&mut shard, SyncRequest { group: text(""), ..good.clone() }, ErrorCode::InvalidGroupId);
    check(&mut shard, SyncRequest { group: text("other"), ..good.clone() }, ErrorCode::UnknownMemberId);
    check(&mut shard, SyncRequest { member_id: text("nobody"), ..good.clone() }, ErrorCode::UnknownMemberId);
    check(&mut shard, SyncRequest { instance_id: Some(text("i")), ..good.clone() }, ErrorCode::UnknownMemberId);
    for generation in [0, 2, -1] {
        check(&mut shard, SyncRequest { generation, ..good.clone() }, ErrorCode::IllegalGeneration);
    }
    let other = Some(text("other"));
    check(
        &mut shard,
        SyncRequest { protocol_type: other.clone(), ..good.clone() },
        ErrorCode::InconsistentGroupProtocol,
    );
    check(&mut shard, SyncRequest { protocol: other, ..good.clone() }, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(shard.state(), "CompletingRebalance");
    shard.gone(&["member-2"]);
    assert_eq!(shard.state(), "PreparingRebalance");
    check(&mut shard, good, ErrorCode::RebalanceInProgress);
}

#[test]
fn a_rebalance_tells_those_who_wait_for_the_assignment() {
    let mut shard = completing();
    let (follower, _) = shard.sync("member-2", 1, &[]);
    let request = shard.newcomer();
    let (_, effects) = shard.join(request);
    let refused = SyncAnswer::refused(ErrorCode::RebalanceInProgress);
    assert_eq!(effects, Effects { syncs: vec![(follower, refused)], ..Effects::default() });
}

#[test]
fn members_that_never_sync_are_removed_after_the_rebalance_timeout() {
    let mut shard = completing();
    shard.sync("member-1", 1, &[]);
    for _ in 0..i64::from(REBALANCE_MS) / 5_000 - 1 {
        shard.pass(5_000);
        assert_eq!(shard.heartbeat("member-1", 1), ErrorCode::None);
        assert_eq!(shard.heartbeat("member-2", 1), ErrorCode::None);
    }
    assert_eq!(shard.state(), "Stable");
    shard.pass(5_000);
    assert_eq!(shard.state(), "PreparingRebalance");
    assert_eq!(shard.heartbeat("member-2", 1), ErrorCode::UnknownMemberId);
    assert_eq!(shard.heartbeat("member-1", 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn once_all_have_synced_nobody_is_removed() {
    let mut shard = completing();
    shard.sync("member-1", 1, &[]);
    shard.sync_now("member-2", 1);
    for _ in 0..30 {
        shard.pass(5_000);
        assert_eq!(shard.heartbeat("member-1", 1), ErrorCode::None);
        assert_eq!(shard.heartbeat("member-2", 1), ErrorCode::None);
    }
    assert_eq!(shard.state(), "Stable");
}

/// The log would refuse it: nothing is written, and everybody joins again.
#[test]
fn an_assignment_too_large_for_the_log_is_refused_before_it_changes_anything() {
    let mut shard = Shard::with(|config| config.record_bytes_max = 2_000);
    let (first, second) = (shard.newcomer(), shard.newcomer());
    shard.join(first);
    shard.join(second);
    shard.pass(0);
    let (follower, _) = shard.sync("member-2", 1, &[]);
    let (leader, effects) = shard.sync("member-1", 1, &[("member-1", &"x".repeat(2_000))]);
    let refused = SyncAnswer::refused(ErrorCode::UnknownServerError);
    assert_eq!(effects, Effects { syncs: vec![(leader, refused.clone()), (follower, refused)], ..Effects::default() });
    assert_eq!(shard.state(), "PreparingRebalance");
}

#[test]
fn after_a_crash_the_last_stable_generation_goes_on_and_what_was_under_way_begins_again() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let mut crashed = shard.reloaded();
    assert_eq!((crashed.state(), crashed.generation()), ("Stable", 1));
    assert_eq!(crashed.heartbeat(&ids[0], 1), ErrorCode::None);
    assert_eq!(crashed.sync_now(&ids[1], 1).assignment, ids[1].as_bytes());
    // Sessions begin afresh.
    crashed.pass(i64::from(SESSION_MS) - 1);
    assert_eq!(crashed.state(), "Stable");
    // A join phase is soft.
    let request = shard.newcomer();
    shard.join(request);
    let mut crashed = shard.reloaded();
    assert_eq!(crashed.state(), "Stable");
    assert_eq!(crashed.heartbeat("member-3", 2), ErrorCode::UnknownMemberId);
}
