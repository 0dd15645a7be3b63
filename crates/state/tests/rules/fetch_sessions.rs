//! What a fetch session remembers, what it tells, and which sessions are kept.

use capek_state::fetch_session::{
    AnswerFacts, FetchSession, FetchSessionCache, PartitionRequest, SessionLimits, SessionRefused, SessionTopic,
    next_epoch,
};
use capek_wire::codec::Str;
use capek_wire::ids::Uuid;

fn topic(name: &str) -> SessionTopic {
    SessionTopic::Name(Str::from(name))
}

fn request(partition: i32, fetch_offset: i64) -> PartitionRequest {
    PartitionRequest { partition, current_leader_epoch: -1, fetch_offset, last_fetched_epoch: -1, bytes_max: 1024 }
}

fn facts(high_watermark: i64) -> AnswerFacts {
    AnswerFacts {
        has_records: false,
        is_error: false,
        is_diverging: false,
        is_redirected: false,
        high_watermark,
        last_stable_offset: high_watermark,
        log_start_offset: 0,
    }
}

fn with_records(high_watermark: i64) -> AnswerFacts {
    AnswerFacts { has_records: true, ..facts(high_watermark) }
}

/// A session over partitions 0, 1 and 2 of `t`, all of them told with high watermark 5.
fn session() -> FetchSession {
    let mut session = FetchSession::new(false);
    for partition in 0..3 {
        session.begin_with(topic("t"), request(partition, 0), &facts(5));
    }
    session
}

fn order(session: &FetchSession) -> Vec<i32> {
    session.partitions().map(|(_, partition)| partition.request.partition).collect()
}

/// Which partitions an answer with these facts for all would hold.
fn told(session: &mut FetchSession, of: impl Fn(i32) -> AnswerFacts) -> Vec<i32> {
    let places: Vec<_> = session.partitions().map(|(place, partition)| (place, partition.request.partition)).collect();
    let told = places.into_iter().filter(|(place, partition)| session.answer(*place, &of(*partition)));
    told.map(|(_, partition)| partition).collect()
}

#[test]
fn epochs_rise_from_one_and_never_come_back_to_zero() {
    let mut session = session();
    assert_eq!(session.epoch(), 1);
    session.advance();
    assert_eq!(session.epoch(), 2);
    assert_eq!((next_epoch(0), next_epoch(7), next_epoch(i32::MAX), next_epoch(-1)), (1, 8, 1, -1));
}

#[test]
fn only_the_next_request_is_taken() {
    let session = session();
    assert_eq!(session.check(1, false), Ok(()));
    assert_eq!(session.check(2, false), Err(SessionRefused::Epoch));
    assert_eq!(session.check(0, false), Err(SessionRefused::Epoch));
    assert_eq!(session.check(1, true), Err(SessionRefused::TopicIds));
    assert_eq!(SessionRefused::Epoch.code().code(), 71);
    assert_eq!(SessionRefused::TopicIds.code().code(), 106);
}

#[test]
fn an_answer_holds_only_what_changed() {
    let mut session = session();
    assert_eq!(told(&mut session, |_| facts(5)), []);
    assert_eq!(told(&mut session, |partition| facts(if partition == 1 { 6 } else { 5 })), [1]);
    assert_eq!(told(&mut session, |partition| facts(if partition == 1 { 6 } else { 5 })), []);
    let stable = |partition| AnswerFacts { last_stable_offset: 4, ..facts(if partition == 1 { 6 } else { 5 }) };
    assert_eq!(told(&mut session, stable), [0, 1, 2]);
    assert_eq!(told(&mut session, stable), []);
    let trimmed = |partition| AnswerFacts { log_start_offset: i64::from(partition == 2), ..stable(partition) };
    assert_eq!(told(&mut session, trimmed), [2]);
    let diverging = |partition| AnswerFacts { is_diverging: partition == 0, ..trimmed(partition) };
    assert_eq!(told(&mut session, diverging), [0]);
    assert_eq!(told(&mut session, diverging), [0], "until the client has truncated");
}

#[test]
fn a_client_is_sent_elsewhere_each_time_it_asks() {
    let mut session = session();
    let elsewhere = |partition| AnswerFacts { is_redirected: partition == 2, ..facts(5) };
    assert_eq!(told(&mut session, |_| facts(5)), []);
    assert_eq!(told(&mut session, elsewhere), [2]);
    assert_eq!(told(&mut session, elsewhere), [2]);
}

#[test]
fn an_error_is_told_each_time_and_its_end_too() {
    let mut session = session();
    let failed = |_| AnswerFacts { is_error: true, ..facts(-1) };
    assert_eq!(told(&mut session, failed), [0, 1, 2]);
    assert_eq!(told(&mut session, failed), [0, 1, 2]);
    assert_eq!(told(&mut session, |_| facts(5)), [0, 1, 2]);
    assert_eq!(told(&mut session, |_| facts(5)), []);
}

#[test]
fn a_partition_that_had_records_is_served_last_the_next_time() {
    let mut session = session();
    let some = |partition| if partition == 0 { with_records(5) } else { facts(5) };
    assert_eq!(told(&mut session, some), [0]);
    assert_eq!(order(&session), [1, 2, 0]);
    assert_eq!(told(&mut session, |_| with_records(5)), [1, 2, 0]);
    assert_eq!(order(&session), [1, 2, 0], "all had some: the order stays");
    session.want(topic("t"), request(2, 9));
    assert_eq!(order(&session), [1, 2, 0], "a new wish does not move a partition");
}

#[test]
fn changes_are_merged_and_forgotten_partitions_leave() {
    let mut session = session();
    session.want(topic("t"), request(1, 42));
    session.want(topic("u"), request(0, 7));
    session.forget(topic("t"), 0);
    session.forget(topic("never heard of"), 0);
    let offsets: Vec<_> =
        session.partitions().map(|(_, partition)| (partition.topic.clone(), partition.request.fetch_offset)).collect();
    assert_eq!(offsets, [(topic("t"), 42), (topic("t"), 0), (topic("u"), 7)]);
    assert_eq!(told(&mut session, |_| facts(5)), [0], "only the new one: u-0, of which nothing was said");
    for (name, partition) in [("t", 1), ("t", 2), ("u", 0)] {
        session.forget(topic(name), partition);
    }
    assert!(session.is_empty());
}

#[test]
fn a_partition_that_is_named_twice_is_one() {
    let mut session = FetchSession::new(true);
    let id = SessionTopic::Id(Uuid([7; 16]));
    session.begin_with(id.clone(), request(0, 1), &facts(5));
    session.begin_with(id, request(0, 2), &facts(5));
    assert_eq!(session.len(), 1);
    assert_eq!(session.partitions().next().expect("one").1.request.fetch_offset, 2);
}

fn cache(sessions_max: usize) -> FetchSessionCache<&'static str> {
    FetchSessionCache::new(SessionLimits { sessions_max, partitions_max: 1000 })
}

#[test]
fn ids_are_positive_and_unique() {
    let mut cache = cache(10);
    assert_eq!(cache.create(0, 0, 1, "a"), Some(1));
    assert_eq!(cache.create(0, 0x8000_0001, 1, "b"), Some(2));
    assert_eq!(cache.create(0, 0x7fff_ffff, 1, "c"), Some(i32::MAX));
    assert_eq!(cache.create(0, 0xffff_ffff, 1, "d"), Some(3));
    assert_eq!((cache.get(2), cache.get(4)), (Some(&"b"), None));
}

#[test]
fn a_full_cache_keeps_its_young_sessions() {
    let mut cache = cache(2);
    cache.create(0, 1, 1, "a");
    cache.create(0, 2, 1, "b");
    assert_eq!(cache.create(120_000, 3, 100, "c"), None);
    assert_eq!(cache.len(), 2);
}

#[test]
fn a_session_that_is_not_used_makes_room() {
    let mut cache = cache(2);
    cache.create(0, 1, 50, "a");
    cache.create(0, 2, 50, "b");
    assert!(cache.touch(1, 100_000, 50));
    assert_eq!(cache.create(120_001, 3, 1, "c"), Some(3));
    assert_eq!((cache.get(1), cache.get(2)), (Some(&"a"), None));
    assert_eq!(cache.partitions(), 51);
}

#[test]
fn a_smaller_session_makes_room_once_it_is_old() {
    let mut cache = cache(2);
    cache.create(0, 1, 5, "small");
    cache.create(0, 2, 50, "large");
    cache.touch(1, 120_001, 5);
    cache.touch(2, 120_001, 50);
    assert_eq!(cache.create(120_002, 3, 5, "as small"), None, "not for one of the same size");
    assert_eq!(cache.create(120_002, 3, 6, "larger"), Some(3));
    assert_eq!((cache.get(1), cache.get(2)), (None, Some(&"large")));
}

#[test]
fn no_slots_means_no_sessions() {
    assert_eq!(cache(0).create(0, 1, 1, "a"), None);
}

#[test]
fn partitions_of_all_sessions_are_bounded() {
    let mut cache = cache(10);
    cache.create(0, 1, 600, "a");
    assert_eq!(cache.create(0, 2, 600, "b"), None);
    assert_eq!(cache.create(0, 2, 400, "b"), Some(2));
    assert!(!cache.touch(2, 1, 401), "grown beyond it");
    assert_eq!((cache.get(2), cache.partitions()), (None, 600));
    assert_eq!(cache.remove(1), Some("a"));
    assert_eq!((cache.remove(1), cache.partitions(), cache.is_empty()), (None, 0, true));
}
