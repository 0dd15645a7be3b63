//! Who gets into a group, and when that means a rebalance.

use capek_state::group::{Effects, JoinAnswer, JoinRequest, JoinedMember};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;

use crate::fixtures::{REBALANCE_MS, SESSION_MS, Shard, protocol, refused_join, subscription, text};

fn member(id: &str) -> JoinedMember {
    JoinedMember { member_id: text(id), instance_id: None, metadata: subscription(&["orders"]) }
}

fn joined(generation: i32, id: &str, leader: &str, members: &[&str]) -> JoinAnswer {
    JoinAnswer {
        error: ErrorCode::None,
        generation,
        protocol_type: Some(text("consumer")),
        protocol: Some(text("range")),
        leader: text(leader),
        skip_assignment: false,
        member_id: text(id),
        members: members.iter().map(|id| member(id)).collect(),
    }
}

#[test]
fn a_newcomer_of_a_new_client_comes_twice() {
    let mut shard = Shard::new();
    let request = JoinRequest { requires_known_member: true, ..shard.newcomer() };
    assert_eq!(shard.join_now(request), refused_join(ErrorCode::MemberIdRequired, "member-1"));
    assert_eq!(shard.state(), "Empty");
    let request = shard.known("member-1");
    let (reply, effects) = shard.join(request);
    assert_eq!(effects, Effects::default());
    let effects = shard.pass(0);
    assert_eq!(effects.joins, [(reply, joined(1, "member-1", "member-1", &["member-1"]))]);
    assert_eq!(effects.records, []);
    assert_eq!(shard.state(), "CompletingRebalance");
}

#[test]
fn a_newcomer_of_an_old_client_or_with_an_instance_id_is_let_in_at_once() {
    let mut shard = Shard::new();
    let request = shard.newcomer();
    let (reply, _) = shard.join(request);
    assert_eq!(shard.pass(0).joins[0].0, reply);
    let mut shard = Shard::new();
    let request = shard.static_member("instance");
    let (reply, _) = shard.join(request);
    assert_eq!(shard.pass(0).joins[0].0, reply);
}

#[test]
fn an_id_that_is_not_used_within_the_session_timeout_is_forgotten_with_its_group() {
    let mut shard = Shard::new();
    let request = JoinRequest { requires_known_member: true, ..shard.newcomer() };
    shard.join_now(request);
    assert_eq!(shard.pass(i64::from(SESSION_MS) - 1), Effects::default());
    assert_eq!(shard.coordinator.group_count(), 1);
    assert_eq!(shard.pass(1), Effects::default());
    assert_eq!(shard.coordinator.group_count(), 0);
    let request = shard.known("member-1");
    assert_eq!(shard.join_now(request), refused_join(ErrorCode::UnknownMemberId, "member-1"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut shard = Shard::new();
    let check = |shard: &mut Shard, request: JoinRequest, error: ErrorCode| {
        let member_id = request.member_id.to_string();
        assert_eq!(shard.join_now(request), refused_join(error, &member_id));
        assert_eq!(shard.coordinator.group_count(), 0, "it leaves no group behind");
    };
    let request = JoinRequest { group: text(""), ..shard.newcomer() };
    check(&mut shard, request, ErrorCode::InvalidGroupId);
    for session_timeout_ms in [5_999, 1_800_001, 0, -1] {
        let request = JoinRequest { session_timeout_ms, ..shard.newcomer() };
        check(&mut shard, request, ErrorCode::InvalidSessionTimeout);
    }
    let request = shard.known("nobody");
    check(&mut shard, request, ErrorCode::UnknownMemberId);
    let request = JoinRequest { protocols: vec![], ..shard.newcomer() };
    check(&mut shard, request, ErrorCode::InconsistentGroupProtocol);
    let request = JoinRequest { protocol_type: text(""), ..shard.newcomer() };
    check(&mut shard, request, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn a_group_keeps_to_its_protocol_type_and_to_a_protocol_that_all_support() {
    let mut shard = Shard::new();
    shard.stable(2);
    let request = JoinRequest { protocol_type: text("connect"), ..shard.newcomer() };
    assert_eq!(shard.join_now(request).error, ErrorCode::InconsistentGroupProtocol);
    let request = JoinRequest { protocols: vec![protocol("sticky", "")], ..shard.newcomer() };
    assert_eq!(shard.join_now(request).error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(shard.state(), "Stable");
}

#[test]
fn the_first_members_wait_for_more_as_long_as_more_come_up_to_the_rebalance_timeout() {
    let mut shard = Shard::with(|config| config.initial_rebalance_delay_ms = 3_000);
    let request = JoinRequest { rebalance_timeout_ms: 7_000, ..shard.newcomer() };
    shard.join(request);
    let mut came = 1;
    for _ in 0..2 {
        assert_eq!(shard.pass(2_500), Effects::default());
        let request = JoinRequest { rebalance_timeout_ms: 7_000, ..shard.newcomer() };
        assert_eq!(shard.join(request).1, Effects::default());
        came += 1;
    }
    // 3 s, 3 s more because the second came, and then the one second that is left.
    assert_eq!(shard.pass(1_999), Effects::default());
    assert_eq!(shard.pass(1).joins.len(), came);
    assert_eq!(shard.now_ms, crate::fixtures::START_MS + 7_000);
}

#[test]
fn without_newcomers_the_initial_delay_is_not_prolonged() {
    let mut shard = Shard::with(|config| config.initial_rebalance_delay_ms = 3_000);
    let request = shard.newcomer();
    shard.join(request);
    assert_eq!(shard.pass(2_999), Effects::default());
    assert_eq!(shard.pass(1).joins.len(), 1);
}

#[test]
fn a_newcomer_to_a_stable_group_waits_until_all_have_joined_again() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.newcomer();
    let (newcomers, effects) = shard.join(request);
    assert_eq!(effects, Effects::default());
    assert_eq!(shard.state(), "PreparingRebalance");
    let request = shard.known(&ids[0]);
    let (first, effects) = shard.join(request);
    assert_eq!(effects, Effects::default());
    let request = shard.known(&ids[1]);
    let (second, effects) = shard.join(request);
    let everybody = ["member-1", "member-2", "member-3"];
    let expected = [
        (first, joined(2, "member-1", "member-1", &everybody)),
        (second, joined(2, "member-2", "member-1", &[])),
        (newcomers, joined(2, "member-3", "member-1", &[])),
    ];
    assert_eq!(effects.joins, expected);
    assert_eq!(effects.records, [], "what is not assigned yet need not survive");
    assert_eq!(shard.state(), "CompletingRebalance");
}

#[test]
fn members_that_do_not_come_back_within_the_rebalance_timeout_are_left_out() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.newcomer();
    let (newcomers, _) = shard.join(request);
    for _ in 0..i64::from(REBALANCE_MS) / 5_000 {
        assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::RebalanceInProgress);
        assert_eq!(shard.heartbeat(&ids[1], 1), ErrorCode::RebalanceInProgress);
        let effects = shard.pass(5_000);
        if !effects.joins.is_empty() {
            assert_eq!(effects.joins, [(newcomers, joined(2, "member-3", "member-3", &["member-3"]))]);
        }
    }
    assert_eq!(shard.state(), "CompletingRebalance");
    assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_member_that_says_the_same_again_is_answered_without_a_rebalance() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.known(&ids[1]);
    assert_eq!(shard.join_now(request), joined(1, "member-2", "member-1", &[]));
    assert_eq!(shard.state(), "Stable");
    // While the assignment is awaited the group leader, too: the answer to its first request may have been lost.
    let request = shard.newcomer();
    shard.join(request);
    for id in &ids {
        let request = shard.known(id);
        shard.join(request);
    }
    assert_eq!(shard.state(), "CompletingRebalance");
    let request = shard.known("member-1");
    assert_eq!(shard.join_now(request).members.len(), 3);
    let request = shard.known("member-3");
    assert_eq!(shard.join_now(request).members.len(), 0);
    assert_eq!(shard.state(), "CompletingRebalance");
}

#[test]
fn a_follower_with_something_new_and_a_group_leader_in_any_case_begin_a_rebalance() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = JoinRequest { protocols: vec![protocol("range", "more")], ..shard.known(&ids[1]) };
    assert_eq!(shard.join(request).1, Effects::default());
    assert_eq!(shard.state(), "PreparingRebalance");
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.known(&ids[0]);
    assert_eq!(shard.join(request).1, Effects::default());
    assert_eq!(shard.state(), "PreparingRebalance");
}

#[test]
fn a_member_with_something_new_while_the_assignment_is_awaited_begins_again() {
    let mut shard = Shard::new();
    let (first, second) = (shard.newcomer(), shard.newcomer());
    shard.join(first);
    shard.join(second);
    shard.pass(0);
    let (follower, effects) = shard.sync("member-2", 1, &[]);
    assert_eq!(effects, Effects::default());
    let request = JoinRequest { protocols: vec![protocol("range", "new")], ..shard.known("member-1") };
    let (_, effects) = shard.join(request);
    assert_eq!(effects.syncs.len(), 1);
    assert_eq!((effects.syncs[0].0, effects.syncs[0].1.error), (follower, ErrorCode::RebalanceInProgress));
    assert_eq!(shard.state(), "PreparingRebalance");
}

#[test]
fn a_request_that_its_client_has_given_up_is_answered_when_the_next_comes() {
    let mut shard = Shard::new();
    let ids = shard.stable(2);
    let request = shard.known(&ids[0]);
    let (given_up, _) = shard.join(request);
    let request = shard.known(&ids[0]);
    let (next, effects) = shard.join(request);
    assert_eq!(effects.joins, [(given_up, refused_join(ErrorCode::RebalanceInProgress, &ids[0]))]);
    let request = shard.known(&ids[1]);
    let (_, effects) = shard.join(request);
    assert!(effects.joins.iter().any(|(reply, answer)| *reply == next && answer.error == ErrorCode::None));
}

#[test]
fn the_protocol_that_most_prefer_among_the_common_ones_is_chosen() {
    let check = |preferences: &[&[&str]], expected: &str| {
        let mut shard = Shard::new();
        for names in preferences {
            let protocols = names.iter().map(|name| protocol(name, "")).collect();
            let request = JoinRequest { protocols, ..shard.newcomer() };
            shard.join(request);
        }
        let joined = shard.pass(0).joins;
        assert_eq!(joined.len(), preferences.len());
        assert!(joined.iter().all(|(_, answer)| answer.protocol == Some(text(expected))), "{preferences:?}");
    };
    check(&[&["range"]], "range");
    check(&[&["range", "sticky"], &["sticky", "range"], &["sticky", "range"]], "sticky");
    check(&[&["only-mine", "range"], &["sticky", "range"]], "range");
    // Of equals the group leader's.
    check(&[&["sticky", "range"], &["range", "sticky"]], "sticky");
    check(&[&["range", "sticky"], &["sticky", "range"]], "range");
}

#[test]
fn a_full_group_takes_no_more() {
    let mut shard = Shard::with(|config| config.group_size_max = 2);
    let ids = shard.stable(2);
    let request = shard.newcomer();
    assert_eq!(shard.join_now(request), refused_join(ErrorCode::GroupMaxSizeReached, ""));
    assert_eq!(shard.state(), "Stable");
    // In a rebalance those who are here count, not those who were.
    let request = shard.known(&ids[0]);
    shard.join(request);
    let request = shard.newcomer();
    assert_eq!(shard.join(request).1, Effects::default());
    let request = shard.known(&ids[1]);
    let (_, effects) = shard.join(request);
    assert_eq!(effects.joins.iter().filter(|(_, answer)| answer.error == ErrorCode::GroupMaxSizeReached).count(), 1);
    assert_eq!(effects.joins.iter().filter(|(_, answer)| answer.error == ErrorCode::None).count(), 2);
}

#[test]
fn generations_rise_and_a_new_group_leader_is_one_that_is_here() {
    let mut shard = Shard::new();
    let ids = shard.stable(3);
    let (left, effects) = shard.leave(&[(&ids[0], None)]);
    assert_eq!((left, effects), (Ok(vec![ErrorCode::None]), Effects::default()));
    let request = shard.known(&ids[2]);
    shard.join(request);
    let request = shard.known(&ids[1]);
    let (_, effects) = shard.join(request);
    let leaders: Vec<Str> = effects.joins.iter().map(|(_, answer)| answer.leader.clone()).collect();
    assert_eq!(leaders, [text("member-2"), text("member-2")]);
    assert_eq!(shard.generation(), 2);
}

/// Nobody notices when the connection of a waiting newcomer is gone: after five minutes it is taken for gone.
#[test]
fn a_newcomer_that_waits_for_too_long_is_given_up() {
    let mut shard = Shard::new();
    let request = JoinRequest { rebalance_timeout_ms: 3_600_000, ..shard.newcomer() };
    shard.join(request);
    shard.pass(0);
    shard.sync("member-1", 1, &[]);
    let request = shard.newcomer();
    let (newcomers, _) = shard.join(request);
    let mut refused = Vec::new();
    for _ in 0..61 {
        assert_ne!(shard.heartbeat("member-1", 1), ErrorCode::UnknownMemberId);
        refused.extend(shard.pass(5_000).joins);
    }
    assert_eq!(refused, [(newcomers, refused_join(ErrorCode::UnknownMemberId, ""))]);
}
