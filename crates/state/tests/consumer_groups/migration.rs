//! Members of both protocols in one group, and groups that change their protocol. As seen on a real Kafka 4.3.

use capek_wire::messages::ConsumerGroupHeartbeatRequest;
use capek_wire::{ErrorCode, Str};

use crate::shard::{Shard, assignment, subscription};
use crate::world::{assigned, beat, beat_holding, code, epoch, join, partitions};

fn t1(indexes: impl IntoIterator<Item = i32>) -> Vec<(String, Vec<i32>)> {
    vec![("t1".to_owned(), indexes.into_iter().collect())]
}

/// `k` of the classic protocol reads all six partitions in generation 1.
fn classic_group() -> Shard {
    let mut shard = Shard::new();
    let joined = shard.join("", subscription(&["t1"], &[])).expect("it is alone");
    assert_eq!((joined.error, joined.generation, joined.leader.as_str()), (ErrorCode::None, 1, "k"));
    let all = capek_bytes(&t1(0..6));
    shard.sync("k", 1, vec![("k".into(), all)]).expect("it is its own leader");
    assert_eq!(shard.listed(), Some(("classic", "Stable")));
    shard
}

/// The bytes of an assignment, version 1.
fn capek_bytes(topics: &[(String, Vec<i32>)]) -> bytes::Bytes {
    use capek_wire::messages::ConsumerProtocolAssignment;
    use capek_wire::messages::consumer_protocol_assignment::TopicPartition;
    use capek_wire::{Message, Writer};
    let topic = |(topic, partitions): &(String, Vec<i32>)| TopicPartition {
        topic: Str::from(topic),
        partitions: partitions.clone(),
    };
    let message =
        ConsumerProtocolAssignment { assigned_partitions: topics.iter().map(topic).collect(), user_data: None };
    let mut writer = Writer::new();
    writer.put_i16(1);
    message.encode(&mut writer, 1).expect("it can be written");
    writer.into_bytes()
}

/// A consumer group with `a`, then `k` of the classic protocol joins and both settle.
fn mixed_group() -> Shard {
    let mut shard = Shard::new();
    shard.send(join("a", &["t1"])).expect("a joins");
    shard.wait(1_000);
    let joined = shard.join("", subscription(&["t1"], &[])).expect("nobody waits in a consumer group");
    assert_eq!((joined.error, joined.generation, joined.member_id.as_str()), (ErrorCode::None, 3, "k"));
    assert_eq!((joined.leader.as_str(), joined.protocol.as_deref()), ("", Some("range")));
    let synced = shard.sync("k", 3, Vec::new()).expect("at once");
    assert_eq!(assignment(&synced), [], "nothing is free");
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::None, "it waits for a");
    assert_eq!(assigned(&shard.send(beat("a", 2))), Some(partitions(1, 0..3)));
    shard.send(beat_holding("a", 2, &partitions(1, 0..3))).expect("a has revoked");
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::RebalanceInProgress, "there is something to take");
    let joined = shard.join("k", subscription(&["t1"], &[])).expect("at once");
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 3));
    assert_eq!(assignment(&shard.sync("k", 3, Vec::new()).expect("at once")), t1(3..6));
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::None);
    assert_eq!(shard.listed(), Some(("consumer", "Stable")));
    shard
}

#[test]
fn a_classic_member_moves_along_in_a_consumer_group() {
    let mut shard = mixed_group();
    let described = shard.describe();
    let types: Vec<i8> = described.members.iter().map(|member| member.member_type).collect();
    assert_eq!(types, [1, 0], "a and k");
    shard.reload();
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::None);
    shard.wait(1_000);
    shard.send(beat("a", -1)).expect("a leaves");
    assert_eq!(shard.listed(), Some(("classic", "PreparingRebalance")), "only classic members are left");
}

#[test]
fn a_classic_member_gives_partitions_back_before_others_get_them() {
    let mut shard = mixed_group();
    shard.wait(1_000);
    shard.send(join("b", &["t1"])).expect("b joins");
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::RebalanceInProgress);
    let joined = shard.join("k", subscription(&["t1"], &[("t1", &[3, 4, 5])])).expect("at once");
    assert_eq!(joined.generation, 3, "it has something to give back");
    assert_eq!(assignment(&shard.sync("k", 3, Vec::new()).expect("at once")), t1(3..5));
    assert_eq!(assigned(&shard.send(beat("b", 4))), None);
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::RebalanceInProgress);
    let joined = shard.join("k", subscription(&["t1"], &[("t1", &[3, 4])])).expect("at once");
    assert_eq!(joined.generation, 4);
    assert_eq!(assignment(&shard.sync("k", 4, Vec::new()).expect("at once")), t1(3..5));
    assert_eq!(shard.heartbeat("k", 4), ErrorCode::None);
    assert_eq!(assigned(&shard.send(beat("b", 4))), Some(partitions(1, [5])));
}

#[test]
fn a_classic_member_is_turned_away_with_the_codes_of_its_protocol() {
    let mut shard = mixed_group();
    assert_eq!(shard.heartbeat("k", 4), ErrorCode::IllegalGeneration);
    assert_eq!(shard.heartbeat("k", 2), ErrorCode::IllegalGeneration);
    assert_eq!(shard.heartbeat("a", 3), ErrorCode::UnknownMemberId, "a does not speak it");
    assert_eq!(shard.heartbeat("z", 3), ErrorCode::UnknownMemberId);
    let error = |shard: &mut Shard, generation| shard.sync("k", generation, Vec::new()).expect("at once").error;
    assert_eq!(error(&mut shard, 4), ErrorCode::IllegalGeneration);
    let mut other = subscription(&["t1"], &[]);
    other.name = "sticky".into();
    assert_eq!(shard.join("", other).expect("at once").error, ErrorCode::InconsistentGroupProtocol);
    let mut broken = subscription(&["t1"], &[]);
    broken.metadata = bytes::Bytes::from_static(b"\0\x01x");
    assert_eq!(shard.join("k", broken).expect("at once").error, ErrorCode::InconsistentGroupProtocol);
    assert_eq!(shard.commit("k", 3, 3, 7), Ok(()));
    assert_eq!(shard.commit("k", 2, 3, 8), Err(ErrorCode::IllegalGeneration));
    assert_eq!(shard.commit("k", 4, 3, 8), Err(ErrorCode::IllegalGeneration));
}

#[test]
fn a_classic_member_that_does_not_join_again_in_time_is_removed() {
    let mut shard = mixed_group();
    shard.wait(1_000);
    shard.send(join("b", &["t1"])).expect("b joins");
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::RebalanceInProgress);
    for _ in 0..3 {
        shard.wait(9_999);
        assert_eq!(shard.heartbeat("k", 3), ErrorCode::RebalanceInProgress);
        for (member_id, epoch) in [("a", 3), ("b", 4)] {
            shard.send(beat(member_id, epoch)).ok();
        }
    }
    shard.wait(3);
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::UnknownMemberId);
}

#[test]
fn a_classic_member_that_does_not_sync_in_time_is_removed() {
    let mut shard = Shard::new();
    shard.send(join("a", &["t1"])).expect("a joins");
    shard.join("", subscription(&["t1"], &[])).expect("at once");
    shard.wait(29_999);
    assert_eq!(shard.describe().members.len(), 2);
    shard.wait(1);
    assert_eq!(shard.describe().members.len(), 1);
}

#[test]
fn members_of_both_protocols_can_be_removed_by_leave_group() {
    let mut shard = mixed_group();
    assert_eq!(shard.leave("k"), [ErrorCode::None]);
    assert_eq!(shard.leave("k"), [ErrorCode::UnknownMemberId]);
    assert_eq!(shard.leave("a"), [ErrorCode::None]);
    assert_eq!(shard.listed(), Some(("consumer", "Empty")));
}

#[test]
fn a_classic_group_is_upgraded_when_a_consumer_member_joins() {
    let mut shard = classic_group();
    shard.commit("k", 1, 2, 42).expect("k is a member");
    let joined = shard.send(join("n", &["t1"]));
    assert_eq!((epoch(&joined), assigned(&joined)), (2, Some(partitions(1, []))));
    assert_eq!(shard.listed(), Some(("consumer", "Reconciling")));
    assert_eq!(shard.committed(), [(2, 42)], "offsets stay");
    shard.reload();
    assert_eq!(shard.committed(), [(2, 42)]);
    assert_eq!(shard.listed(), Some(("consumer", "Reconciling")));

    assert_eq!(shard.heartbeat("k", 1), ErrorCode::RebalanceInProgress);
    let all = [0, 1, 2, 3, 4, 5];
    let joined = shard.join("k", subscription(&["t1"], &[("t1", &all)])).expect("at once");
    assert_eq!(joined.generation, 1);
    assert_eq!(assignment(&shard.sync("k", 1, Vec::new()).expect("at once")), t1(0..3));
    assert_eq!(assigned(&shard.send(beat("n", 2))), None, "k has them until it says otherwise");
    let joined = shard.join("k", subscription(&["t1"], &[("t1", &[0, 1, 2])])).expect("at once");
    assert_eq!(joined.generation, 2);
    assert_eq!(assigned(&shard.send(beat("n", 2))), Some(partitions(1, 3..6)));
    assert_eq!(shard.describe().group_state, "Stable");
}

#[test]
fn an_upgrade_that_is_refused_changes_nothing() {
    let mut shard = classic_group();
    let mut request = join("n", &["t1"]);
    request.subscribed_topic_regex = Some("(".into());
    assert_eq!(code(&shard.send(request)), ErrorCode::InvalidRegularExpression);
    assert_eq!(shard.listed(), Some(("classic", "Stable")));
    assert_eq!(shard.heartbeat("k", 1), ErrorCode::None);
}

#[test]
fn those_who_wait_in_a_classic_group_are_told_to_join_again() {
    let mut shard = classic_group();
    // A second member makes everybody join again; it waits for `k`.
    assert_eq!(shard.join("", subscription(&["t1"], &[])).map(|answer| answer.error), None);
    shard.send(join("n", &["t1"])).expect("n joins");
    let errors: Vec<ErrorCode> = shard.late_joins.iter().map(|(_, answer)| answer.error).collect();
    assert_eq!(errors, [ErrorCode::RebalanceInProgress]);
}

#[test]
fn a_group_of_something_else_is_not_upgraded() {
    let mut shard = Shard::new();
    let mut effects = capek_state::group::Effects::default();
    let request = capek_state::group::JoinRequest {
        group: "g".into(),
        session_timeout_ms: 45_000,
        protocol_type: "connect".into(),
        protocols: vec![subscription(&[], &[])],
        new_member_id: "w".into(),
        ..Default::default()
    };
    shard.groups.join(shard.now_ms, request, capek_state::group::ReplyId(99), &mut effects);
    let refused = |shard: &mut Shard, request: ConsumerGroupHeartbeatRequest, message: &str| {
        assert_eq!(shard.send(request), Err((ErrorCode::GroupIdNotFound, message.to_owned())));
    };
    let message = "Cannot upgrade classic group g to consumer group because the group does not use the consumer \
                   embedded protocol.";
    shard.wait(1);
    refused(&mut shard, join("n", &["t1"]), message);
    refused(&mut shard, beat("n", 2), "Group g is not a consumer group.");
    refused(&mut shard, beat("n", -1), "Group g is not a consumer group.");
    assert_eq!(shard.describe().error_message.as_deref(), Some("Group g is not a consumer group."));
}

#[test]
fn a_group_that_is_not_there_is_not_found() {
    let mut shard = Shard::new();
    let refused = |request, message: &str, shard: &mut Shard| {
        assert_eq!(shard.send(request), Err((ErrorCode::GroupIdNotFound, message.to_owned())));
    };
    refused(beat("a", 5), "Consumer group g not found.", &mut shard);
    refused(beat("a", -1), "Group g not found.", &mut shard);
    assert_eq!(shard.describe().error_message.as_deref(), Some("Group g not found."));
    let mut request = join("a", &["t1"]);
    request.subscribed_topic_regex = Some("(".into());
    assert_eq!(code(&shard.send(request)), ErrorCode::InvalidRegularExpression);
    assert_eq!(shard.listed(), None, "who is refused makes no group");
}

#[test]
fn a_consumer_group_is_downgraded_when_only_classic_members_are_left() {
    let mut shard = mixed_group();
    shard.commit("a", 3, 0, 5).expect("a is a member");
    shard.send(beat("a", -1)).expect("a leaves");
    assert_eq!(shard.listed(), Some(("classic", "PreparingRebalance")));
    assert_eq!(shard.heartbeat("k", 3), ErrorCode::RebalanceInProgress, "its generation is still good");
    let joined = shard.join("k", subscription(&["t1"], &[("t1", &[3, 4, 5])])).expect("it is the last one");
    assert_eq!((joined.error, joined.generation, joined.leader.as_str()), (ErrorCode::None, 4, "k"));
    shard.sync("k", 4, vec![("k".into(), capek_bytes(&t1(0..6)))]).expect("it leads");
    assert_eq!(shard.listed(), Some(("classic", "Stable")));
    assert_eq!(shard.committed(), [(0, 5)], "offsets stay");
    shard.reload();
    assert_eq!(shard.listed(), Some(("classic", "Stable")));
    assert_eq!(shard.committed(), [(0, 5)]);
    assert_eq!(shard.heartbeat("k", 4), ErrorCode::None);
}

#[test]
fn a_silent_consumer_member_leaves_the_group_to_the_classic_ones() {
    let mut shard = mixed_group();
    for _ in 0..3 {
        shard.wait(15_001);
        shard.heartbeat("k", 3);
    }
    assert_eq!(shard.listed().map(|(kind, _)| kind), Some("classic"));
}

#[test]
fn a_policy_against_it_keeps_the_protocol() {
    use capek_state::group::consumer::{ConsumerGroupConfig, MigrationPolicy};
    let with = |policy, shard: &mut Shard| {
        let consumer = ConsumerGroupConfig { migration_policy: policy, ..Default::default() };
        let config = capek_state::group::GroupConfig { consumer, ..crate::shard::config() };
        shard.groups = capek_state::group::Coordinator::new(config);
        shard.log.iter().for_each(|record| shard.groups.replay(record));
        shard.groups.loaded(shard.now_ms, &mut Default::default());
    };
    let mut shard = classic_group();
    with(MigrationPolicy::Downgrade, &mut shard);
    let message = "Cannot upgrade classic group g to consumer group because online upgrade is disabled.";
    assert_eq!(shard.send(join("n", &["t1"])), Err((ErrorCode::GroupIdNotFound, message.to_owned())));
    let mut shard = mixed_group();
    with(MigrationPolicy::Upgrade, &mut shard);
    shard.send(beat("a", -1)).expect("a leaves");
    assert_eq!(shard.listed().map(|(kind, _)| kind), Some("consumer"));
}

#[test]
fn a_classic_member_finds_an_empty_consumer_group_as_if_nobody_had_been_there() {
    let mut shard = Shard::new();
    shard.send(join("a", &["t1"])).expect("a joins");
    shard.commit("a", 2, 1, 9).expect("a is a member");
    shard.send(beat("a", -1)).expect("a leaves");
    let joined = shard.join("", subscription(&["t1"], &[])).expect("it is alone");
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 1));
    assert_eq!(shard.committed(), [(1, 9)]);
    shard.reload();
    assert_eq!(shard.committed(), [(1, 9)]);
}

#[test]
fn offsets_without_a_group_become_those_of_a_consumer_group() {
    let mut shard = Shard::new();
    shard.commit("", -1, 3, 33).expect("nobody is there");
    let joined = shard.send(join("a", &["t1"]));
    assert_eq!(epoch(&joined), 2);
    assert_eq!(shard.committed(), [(3, 33)]);
    shard.reload();
    assert_eq!((shard.committed(), shard.listed()), (vec![(3, 33)], Some(("consumer", "Stable"))));
}

#[test]
fn an_empty_consumer_group_is_deleted_with_its_offsets() {
    let mut shard = Shard::new();
    shard.send(join("a", &["t1"])).expect("a joins");
    shard.commit("a", 2, 1, 9).expect("a is a member");
    let delete = |shard: &mut Shard| {
        let mut effects = capek_state::group::Effects::default();
        let error = shard.groups.delete_group(&"g".into(), &mut effects);
        shard.log.extend(effects.records);
        error
    };
    assert_eq!(delete(&mut shard), ErrorCode::NonEmptyGroup);
    shard.send(beat("a", -1)).expect("a leaves");
    assert_eq!(delete(&mut shard), ErrorCode::None);
    assert_eq!((shard.listed(), shard.committed()), (None, Vec::new()));
    shard.reload();
    assert_eq!((shard.listed(), shard.committed()), (None, Vec::new()));
    assert_eq!(delete(&mut shard), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_group_may_have_times_of_its_own() {
    let mut shard = Shard::new();
    shard.configure_group("consumer.heartbeat.interval.ms", "7000");
    shard.configure_group("consumer.session.timeout.ms", "50000");
    let joined = shard.send(join("a", &["t1"])).expect("a joins");
    assert_eq!(joined.heartbeat_interval_ms, 7_000);
    shard.wait(49_999);
    assert_eq!(shard.describe().members.len(), 1);
    shard.wait(1);
    assert_eq!(shard.describe().members.len(), 0);
}

#[test]
fn a_timer_that_a_heartbeat_sets_is_not_forgotten() {
    let mut shard = mixed_group();
    shard.wait(1_000);
    shard.send(join("b", &["t1"])).expect("b joins");
    shard.heartbeat("k", 3);
    // It must join within its rebalance timeout, before any session ends.
    assert_eq!(shard.groups.next_deadline_ms(), Some(shard.now_ms + 30_000));
}
