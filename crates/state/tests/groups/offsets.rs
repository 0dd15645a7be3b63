//! Committed offsets: who may commit, what comes back, what is forgotten when.

use std::sync::Arc;

use capek_state::group::{
    CommitRequest, CommittedOffset, DeleteOffsetsRequest, Effects, FetchRequest, FetchTopic, ListFilter,
    OffsetToCommit, Record,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Uuid;

use crate::fixtures::{GROUP, SESSION_MS, Shard, TOPIC_ID, text};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[test]
fn a_commit_of_nobody_makes_a_group_and_what_it_said_comes_back() {
    let mut shard = Shard::new();
    let mut request = shard.commit_request("", -1, 42);
    request.offsets[0].leader_epoch = 3;
    request.offsets[0].metadata = text("note");
    let (committed, effects) = shard.commit(request);
    assert_eq!(committed, Ok(vec![ErrorCode::None]));
    let value = CommittedOffset {
        offset: 42,
        leader_epoch: 3,
        metadata: text("note"),
        commit_timestamp_ms: shard.now_ms,
        expire_timestamp_ms: None,
        topic_id: TOPIC_ID,
    };
    let record =
        Record::OffsetCommit { group: text(GROUP), topic: text("orders"), partition: 0, value: Some(value.clone()) };
    assert_eq!(effects, Effects { records: vec![record], ..Effects::default() });
    assert_eq!(shard.committed(0), Some(value.clone()));
    assert_eq!(shard.committed(1), None);
    assert_eq!(shard.state(), "Empty");
    assert_eq!(shard.reloaded().committed(0), Some(value));
}

#[test]
fn members_commit_with_their_generation_and_nobody_else_while_there_are_any() {
    let mut shard = Shard::new();
    let ids = shard.stable(1);
    let check = |shard: &mut Shard, member_id: &str, generation, expected| {
        let request = shard.commit_request(member_id, generation, 1);
        assert_eq!(shard.commit(request).0, expected, "{member_id} in generation {generation}");
    };
    let good = Ok(vec![ErrorCode::None]);
    check(&mut shard, &ids[0], 1, good.clone());
    check(&mut shard, &ids[0], 2, Err(ErrorCode::IllegalGeneration));
    check(&mut shard, &ids[0], -1, Err(ErrorCode::IllegalGeneration));
    check(&mut shard, "nobody", 1, Err(ErrorCode::UnknownMemberId));
    check(&mut shard, "", -1, Err(ErrorCode::UnknownMemberId));
    // In a join phase the old generation still may; once the new one has begun, only after its assignment.
    let request = shard.newcomer();
    shard.join(request);
    check(&mut shard, &ids[0], 1, good.clone());
    let request = shard.known(&ids[0]);
    shard.join(request);
    check(&mut shard, &ids[0], 1, Err(ErrorCode::IllegalGeneration));
    check(&mut shard, &ids[0], 2, Err(ErrorCode::RebalanceInProgress));
    // In an empty group everybody who belongs to no generation may.
    shard.gone(&[&ids[0], "member-2"]);
    assert_eq!(shard.state(), "Empty");
    check(&mut shard, "", -1, good.clone());
    check(&mut shard, "anybody", -1, good);
    check(&mut shard, &ids[0], 3, Err(ErrorCode::UnknownMemberId));
}

#[test]
fn a_generation_of_a_group_that_is_not_there_is_refused_as_each_client_understands_it() {
    let mut shard = Shard::new();
    let request = shard.commit_request("member", 1, 1);
    assert_eq!(shard.commit(request.clone()).0, Err(ErrorCode::IllegalGeneration));
    let request = CommitRequest { knows_missing_groups: true, ..request };
    assert_eq!(shard.commit(request).0, Err(ErrorCode::GroupIdNotFound));
    assert_eq!(shard.coordinator.group_count(), 0);
}

/// Kafka counts UTF-16 units, as Java does.
#[test]
fn metadata_that_is_too_long_is_refused_and_the_rest_is_committed() {
    let mut shard = Shard::new();
    let mut request = shard.commit_request("", -1, 1);
    let texts = ["x".repeat(4096), "x".repeat(4097), "ü".repeat(4096), "😀".repeat(2048), "😀".repeat(2049)];
    request.offsets = texts
        .iter()
        .enumerate()
        .map(|(partition, metadata)| OffsetToCommit {
            topic: text("orders"),
            partition: partition as i32,
            metadata: Str::from(metadata),
            ..OffsetToCommit::default()
        })
        .collect();
    let (good, large) = (ErrorCode::None, ErrorCode::OffsetMetadataTooLarge);
    let (committed, effects) = shard.commit(request);
    assert_eq!(committed, Ok(vec![good, large, good, good, large]));
    assert_eq!(effects.records.len(), 3);
    assert_eq!(shard.committed(3).unwrap().metadata, Str::from("😀".repeat(2048)));
    assert_eq!(shard.committed(1), None);
}

#[test]
fn offsets_are_fetched_as_asked_or_all_of_them() {
    let mut shard = Shard::new();
    for (topic, partition) in [("orders", 1), ("orders", 0), ("users", 5)] {
        let mut request = shard.commit_request("", -1, 10 + i64::from(partition));
        request.offsets[0].topic = text(topic);
        request.offsets[0].partition = partition;
        shard.commit(request).0.unwrap();
    }
    let fetch = |topics: Option<Vec<(&str, Uuid, Vec<i32>)>>| {
        let topic = |(topic, topic_id, partitions): (&str, Uuid, Vec<i32>)| FetchTopic {
            topic: text(topic),
            topic_id,
            partitions,
        };
        let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
        let fetched = shard
            .coordinator
            .fetch_offsets(FetchRequest { group: text(GROUP), topics, ..Default::default() })
            .expect("nobody is asked who he is");
        let offset = |(partition, committed): (i32, Option<CommittedOffset>)| {
            (partition, committed.map_or(-1, |committed| committed.offset))
        };
        let topics = fetched.into_iter();
        topics
            .map(|topic| (topic.topic.to_string(), topic.partitions.into_iter().map(offset).collect::<Vec<_>>()))
            .collect::<Vec<_>>()
    };
    assert_eq!(fetch(None), [("orders".into(), vec![(0, 10), (1, 11)]), ("users".into(), vec![(5, 15)])]);
    let asked = Some(vec![("users", Uuid::ZERO, vec![6, 5]), ("nothing", Uuid::ZERO, vec![0])]);
    assert_eq!(fetch(asked), [("users".into(), vec![(6, -1), (5, 15)]), ("nothing".into(), vec![(0, -1)])]);
    // A topic of the same name that is another one has nothing.
    assert_eq!(fetch(Some(vec![("users", TOPIC_ID, vec![5])])), [("users".into(), vec![(5, 15)])]);
    assert_eq!(fetch(Some(vec![("users", Uuid([9; 16]), vec![5])])), [("users".into(), vec![(5, -1)])]);
    assert_eq!(
        shard.coordinator.fetch_offsets(FetchRequest { group: text("other"), ..Default::default() }),
        Ok(Vec::new())
    );
}

#[test]
fn offsets_of_topics_that_members_consume_are_not_deleted() {
    let mut shard = Shard::new();
    let delete = |shard: &mut Shard, group: &str| {
        let offsets = vec![(text("orders"), 0), (text("users"), 0), (text("users"), 9)];
        let mut effects = Effects::default();
        let request = DeleteOffsetsRequest { group: text(group), offsets };
        let deleted = shard.coordinator.delete_offsets(request, &mut effects);
        (deleted, effects.records.len())
    };
    assert_eq!(delete(&mut shard, ""), (Err(ErrorCode::InvalidGroupId), 0));
    assert_eq!(delete(&mut shard, GROUP), (Err(ErrorCode::GroupIdNotFound), 0));
    let ids = shard.stable(1);
    for topic in ["orders", "users"] {
        let mut request = shard.commit_request(&ids[0], 1, 1);
        request.offsets[0].topic = text(topic);
        shard.commit(request).0.unwrap();
    }
    let (none, subscribed) = (ErrorCode::None, ErrorCode::GroupSubscribedToTopic);
    assert_eq!(delete(&mut shard, GROUP), (Ok(vec![subscribed, none, none]), 1));
    shard.gone(&[&ids[0]]);
    assert_eq!(delete(&mut shard, GROUP), (Ok(vec![none, none, none]), 1));
}

#[test]
fn offsets_of_a_group_that_is_not_of_consumers_are_deleted_only_without_members() {
    let mut shard = Shard::new();
    let request = capek_state::group::JoinRequest { protocol_type: text("connect"), ..shard.newcomer() };
    shard.join(request);
    shard.pass(0);
    let request = DeleteOffsetsRequest { group: text(GROUP), offsets: vec![(text("orders"), 0)] };
    let deleted = shard.coordinator.delete_offsets(request.clone(), &mut Effects::default());
    assert_eq!(deleted, Err(ErrorCode::NonEmptyGroup));
    shard.gone(&["member-1"]);
    let deleted = shard.coordinator.delete_offsets(request, &mut Effects::default());
    assert_eq!(deleted, Ok(vec![ErrorCode::None]));
}

#[test]
fn a_group_without_members_is_deleted_with_all_its_offsets() {
    let mut shard = Shard::new();
    let mut effects = Effects::default();
    assert_eq!(shard.coordinator.delete_group(&text(GROUP), &mut effects), ErrorCode::GroupIdNotFound);
    let ids = shard.stable(1);
    let request = shard.commit_request(&ids[0], 1, 1);
    shard.commit(request).0.unwrap();
    assert_eq!(shard.coordinator.delete_group(&text(GROUP), &mut effects), ErrorCode::NonEmptyGroup);
    assert_eq!(effects, Effects::default());
    shard.gone(&[&ids[0]]);
    assert_eq!(shard.coordinator.delete_group(&text(GROUP), &mut effects), ErrorCode::None);
    let tombstones = [
        Record::OffsetCommit { group: text(GROUP), topic: text("orders"), partition: 0, value: None },
        Record::GroupMetadata { group: text(GROUP), value: None },
    ];
    assert_eq!(effects.records, tombstones);
    assert_eq!(shard.coordinator.group_count(), 0);
    shard.log.extend(effects.records);
    assert_eq!(shard.reloaded().coordinator.group_count(), 0);
}

#[test]
fn groups_are_listed_by_state_and_type_whatever_the_case() {
    let mut shard = Shard::new();
    shard.stable(1);
    let mut request = shard.commit_request("", -1, 1);
    request.group = text("simple");
    shard.commit(request).0.unwrap();
    let list = |states: &[&str], kinds: &[&str]| -> Vec<String> {
        let texts = |names: &[&str]| names.iter().map(|name| text(name)).collect();
        let filter = ListFilter { states: texts(states), kinds: texts(kinds) };
        let listed = shard.coordinator.list(&filter).into_iter();
        listed.map(|group| format!("{} {} {} {}", group.group, group.protocol_type, group.state, group.kind)).collect()
    };
    let (stable, simple) = ("group consumer Stable classic", "simple  Empty classic");
    assert_eq!(list(&[], &[]), [stable, simple]);
    assert_eq!(list(&["sTABLE"], &[]), [stable]);
    assert_eq!(list(&["Empty", "unheard-of"], &["Classic"]), [simple]);
    assert!(list(&["unheard-of"], &[]).is_empty());
    assert!(list(&[], &["consumer"]).is_empty());
}

#[test]
fn offsets_of_an_empty_group_expire_when_it_has_been_empty_for_the_retention_time() {
    let mut shard = Shard::new();
    let ids = shard.stable(1);
    let request = shard.commit_request(&ids[0], 1, 1);
    shard.commit(request).0.unwrap();
    // The members stay for long: nothing expires however old it is.
    for _ in 0..10 * DAY_MS / 5_000 / 100 {
        assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::None);
        shard.pass(5_000);
    }
    let emptied = shard.pass(i64::from(SESSION_MS));
    assert_eq!(emptied.records.len(), 1);
    let margin_ms = 11 * 60 * 1000; // it is looked at every ten minutes
    assert_eq!(shard.pass(7 * DAY_MS - margin_ms), Effects::default());
    assert!(shard.committed(0).is_some());
    let expired = shard.pass(2 * margin_ms).records;
    let tombstones = [
        Record::OffsetCommit { group: text(GROUP), topic: text("orders"), partition: 0, value: None },
        Record::GroupMetadata { group: text(GROUP), value: None },
    ];
    assert_eq!(expired, tombstones);
    assert_eq!(shard.coordinator.group_count(), 0);
}

#[test]
fn offsets_of_a_consumer_without_a_group_expire_one_by_one_after_their_commit() {
    let mut shard = Shard::new();
    let request = shard.commit_request("", -1, 1);
    shard.commit(request).0.unwrap();
    shard.pass(4 * DAY_MS);
    let mut request = shard.commit_request("", -1, 1);
    request.offsets[0].partition = 1;
    shard.commit(request).0.unwrap();
    let expired = shard.pass(4 * DAY_MS).records;
    let tombstone =
        |partition| Record::OffsetCommit { group: text(GROUP), topic: text("orders"), partition, value: None };
    assert_eq!(expired, [tombstone(0)]);
    let expired = shard.pass(4 * DAY_MS).records;
    assert_eq!(expired, [tombstone(1), Record::GroupMetadata { group: text(GROUP), value: None }]);
}

#[test]
fn an_offset_with_a_lifetime_of_its_own_lives_that_long() {
    let mut shard = Shard::new();
    let request = CommitRequest { retention_ms: Some(DAY_MS), ..shard.commit_request("", -1, 1) };
    shard.commit(request).0.unwrap();
    assert_eq!(shard.committed(0).unwrap().expire_timestamp_ms, Some(shard.now_ms + DAY_MS));
    shard.pass(DAY_MS - 1);
    assert!(shard.committed(0).is_some());
    shard.pass(11 * 60 * 1000);
    assert!(shard.committed(0).is_none());
}

#[test]
fn offsets_of_a_topic_that_a_stable_group_has_left_expire_after_their_commit() {
    let mut shard = Shard::new();
    let ids = shard.stable(1);
    for topic in ["orders", "left"] {
        let mut request = shard.commit_request(&ids[0], 1, 1);
        request.offsets[0].topic = text(topic);
        shard.commit(request).0.unwrap();
    }
    let mut expired = Vec::new();
    for _ in 0..8 * DAY_MS / 9_000 {
        assert_eq!(shard.heartbeat(&ids[0], 1), ErrorCode::None);
        expired.extend(shard.pass(9_000).records);
    }
    assert_eq!(expired, [Record::OffsetCommit { group: text(GROUP), topic: text("left"), partition: 0, value: None }]);
}

/// Millions of offsets are not looked at in one go.
#[test]
fn expiry_goes_in_slices_and_reaches_everything() {
    let mut shard = Shard::new();
    for group in 0..30 {
        let mut request = shard.commit_request("", -1, 1);
        request.group = Str::from(format!("group-{group}"));
        let offset = request.offsets[0].clone();
        request.offsets = (0..1_000).map(|partition| OffsetToCommit { partition, ..offset.clone() }).collect();
        shard.commit(request).0.unwrap();
    }
    shard.now_ms += 8 * DAY_MS;
    let mut slices = Vec::new();
    loop {
        let mut effects = Effects::default();
        shard.coordinator.tick(shard.now_ms, &mut effects);
        if effects.records.is_empty() {
            break;
        }
        slices.push(effects.records.len());
    }
    assert!(slices.len() > 1, "{slices:?}");
    assert_eq!(slices.iter().sum::<usize>(), 30 * 1_001);
    assert_eq!(shard.coordinator.group_count(), 0);
    assert!(shard.coordinator.next_deadline_ms().unwrap() > shard.now_ms);
}

#[test]
fn what_was_committed_to_a_deleted_topic_is_forgotten() {
    let mut shard = Shard::new();
    for (topic, topic_id) in [("orders", TOPIC_ID), ("users", TOPIC_ID), ("again", Uuid([9; 16]))] {
        let mut request = shard.commit_request("", -1, 1);
        request.offsets[0].topic = text(topic);
        request.offsets[0].topic_id = topic_id;
        shard.commit(request).0.unwrap();
    }
    let mut effects = Effects::default();
    // "again" was made again meanwhile: it is another topic.
    let deleted = [(Arc::from("orders"), TOPIC_ID), (Arc::from("again"), TOPIC_ID)];
    shard.coordinator.topics_deleted(&deleted, &mut effects);
    let tombstone = Record::OffsetCommit { group: text(GROUP), topic: text("orders"), partition: 0, value: None };
    assert_eq!(effects.records, [tombstone]);
}
