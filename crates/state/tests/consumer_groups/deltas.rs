//! What a heartbeat must say, and what it may leave out.

use capek_state::group::consumer::{Assignor, check_heartbeat};
use capek_wire::ErrorCode;
use capek_wire::messages::ConsumerGroupHeartbeatRequest;

use crate::world::{World, beat, join, names, partitions, wire};

#[track_caller]
fn refused(request: ConsumerGroupHeartbeatRequest, version: i16, code: ErrorCode, message: &str) {
    let refusal = check_heartbeat(&request, version, &Assignor::ALL).expect_err("it is refused");
    assert_eq!((refusal.code, refusal.message.as_deref()), (code, Some(message)));
}

/// Codes and texts are those of a real Kafka 4.3.
#[test]
fn requests_that_no_group_can_accept_are_refused() {
    let invalid = |change: fn(&mut ConsumerGroupHeartbeatRequest), message: &str| {
        let mut request = join("a", &["t1"]);
        change(&mut request);
        refused(request, 1, ErrorCode::InvalidRequest, message);
    };
    invalid(|request| request.group_id = "".into(), "GroupId can't be empty.");
    invalid(|request| request.member_id = "".into(), "MemberId can't be empty.");
    invalid(|request| request.member_id = " \t".into(), "MemberId can't be empty.");
    invalid(|request| request.instance_id = Some("".into()), "InstanceId can't be empty.");
    invalid(|request| request.rack_id = Some("".into()), "RackId can't be empty.");
    invalid(|request| request.rebalance_timeout_ms = -1, "RebalanceTimeoutMs must be provided in first request.");
    invalid(|request| request.topic_partitions = None, "TopicPartitions must be empty when (re-)joining.");
    let owns = |request: &mut ConsumerGroupHeartbeatRequest| request.topic_partitions = Some(wire(&partitions(1, [1])));
    invalid(owns, "TopicPartitions must be empty when (re-)joining.");
    invalid(
        |request| request.subscribed_topic_names = None,
        "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
    );
    invalid(|request| request.member_epoch = -2, "InstanceId can't be null.");
    invalid(|request| request.member_epoch = -3, "MemberEpoch is invalid.");
    let mut request = join("a", &["t1"]);
    request.server_assignor = Some("nope".into());
    let message = "ServerAssignor nope is not supported. Supported assignors: uniform, range.";
    refused(request, 1, ErrorCode::UnsupportedAssignor, message);
}

#[test]
fn a_member_of_version_0_may_join_without_an_id() {
    assert_eq!(check_heartbeat(&join("", &["t1"]), 0, &Assignor::ALL), Ok(()));
    refused(beat("", 1), 0, ErrorCode::InvalidRequest, "MemberId can't be empty.");
    refused(beat("", -1), 0, ErrorCode::InvalidRequest, "MemberId can't be empty.");
}

#[test]
fn what_a_heartbeat_leaves_out_stays_as_it_was() {
    let mut world = World::new();
    let mut first = join("a", &["t1"]);
    first.rack_id = Some("r1".into());
    first.server_assignor = Some("range".into());
    world.send(&first).expect("a joins");
    let before = world.group.member("a").cloned();
    world.send(&beat("a", 2)).expect("it reports");
    assert_eq!(world.group.member("a").cloned(), before);
    let mut changed = beat("a", 2);
    changed.subscribed_topic_names = names(&["u"]);
    changed.rebalance_timeout_ms = 5;
    world.send(&changed).expect("it wants something else");
    let metadata = &world.group.member("a").expect("it is there").metadata;
    assert_eq!(metadata.topic_names, ["u".into()].into());
    assert_eq!((metadata.rebalance_timeout_ms, metadata.rack_id.as_deref()), (5, Some("r1")));
    assert_eq!(metadata.server_assignor.as_deref(), Some("range"));
}
