//! What a leader does when the journal answers: exact effects.

use capek_state::config::TopicConfig;
use capek_state::partition::{Admitted, Effect, Leader, LeaderStart, ReplicaSet, ReplyId, Trim, Wait};
use capek_wire::ErrorCode;

use crate::fixtures::{From, batch, context, idempotent, leader_at};

const FIRST: ReplyId = ReplyId(1);
const SECOND: ReplyId = ReplyId(2);
const THIRD: ReplyId = ReplyId(3);

fn append(leader: &mut Leader, record_count: i32) -> i64 {
    let config = TopicConfig::default();
    match leader.admit(&batch(record_count), &context(&config)) {
        Ok(Admitted::Append { end_offset, .. }) => end_offset,
        other => panic!("{other:?}"),
    }
}

/// Appends one batch as an entry of its own.
fn append_entry(leader: &mut Leader, record_count: i32) -> i64 {
    let end_offset = append(leader, record_count);
    leader.submitted(0);
    end_offset
}

fn flushed(leader: &mut Leader, end_offset: i64) -> Vec<Effect> {
    let mut effects = Vec::new();
    leader.flushed(end_offset, &mut effects);
    effects
}

fn failed(leader: &mut Leader, end_offset: i64) -> Vec<Effect> {
    let mut effects = Vec::new();
    leader.append_failed(end_offset, &mut effects);
    effects
}

#[test]
fn a_flush_advances_the_high_watermark_and_answers_what_it_covers() {
    let mut leader = leader_at(0);
    let first_end = append(&mut leader, 3);
    assert!(leader.park(first_end, FIRST, Wait::Committed));
    let second_end = append(&mut leader, 2);
    assert!(leader.park(second_end, SECOND, Wait::Committed));
    assert_eq!(flushed(&mut leader, 3), [Effect::AdvanceHighWatermark(3), Effect::Reply(FIRST)]);
    assert_eq!(leader.parked_count(), 1);
    assert_eq!(flushed(&mut leader, 5), [Effect::AdvanceHighWatermark(5), Effect::Reply(SECOND)]);
    assert_eq!((leader.high_watermark(), leader.flushed_end(), leader.log_end()), (5, 5, 5));
}

#[test]
fn one_flush_answers_many_in_offset_order() {
    let mut leader = leader_at(0);
    let ends: Vec<i64> = (0..3).map(|_| append(&mut leader, 1)).collect();
    assert!(leader.park(ends[1], SECOND, Wait::Committed));
    assert!(leader.park(ends[2], FIRST, Wait::Committed));
    assert!(leader.park(ends[0], THIRD, Wait::Committed));
    let replies = [Effect::Reply(THIRD), Effect::Reply(SECOND), Effect::Reply(FIRST)];
    let effects = flushed(&mut leader, 3);
    assert_eq!(effects[0], Effect::AdvanceHighWatermark(3));
    assert_eq!(effects[1..], replies);
}

#[test]
fn a_flush_in_the_middle_of_a_batch_answers_it_not() {
    let mut leader = leader_at(0);
    let end = append(&mut leader, 4);
    leader.park(end, FIRST, Wait::Committed);
    assert_eq!(flushed(&mut leader, 2), [Effect::AdvanceHighWatermark(2)]);
}

#[test]
fn an_old_flush_is_no_news() {
    let mut leader = leader_at(5);
    assert_eq!(flushed(&mut leader, 5), []);
    assert_eq!(flushed(&mut leader, 3), []);
    assert_eq!((leader.high_watermark(), leader.flushed_end()), (5, 5));
}

#[test]
fn what_is_committed_need_not_wait() {
    let mut leader = leader_at(5);
    assert!(!leader.park(5, FIRST, Wait::Committed));
    assert_eq!(leader.parked_count(), 0);
}

#[test]
fn a_reply_that_timed_out_is_answered_no_more() {
    let mut leader = leader_at(0);
    let end = append(&mut leader, 1);
    leader.park(end, FIRST, Wait::Committed);
    leader.park(end, SECOND, Wait::Committed);
    assert!(leader.unpark(end, FIRST));
    assert!(!leader.unpark(end, FIRST));
    assert_eq!(flushed(&mut leader, 1), [Effect::AdvanceHighWatermark(1), Effect::Reply(SECOND)]);
    assert!(!leader.unpark(end, SECOND), "it was answered");
}

#[test]
#[should_panic(expected = "never admitted")]
fn a_reply_cannot_wait_for_what_was_never_admitted() {
    leader_at(5).park(6, FIRST, Wait::Committed);
}

#[test]
#[should_panic(expected = "more was flushed than was admitted")]
fn the_journal_cannot_flush_what_was_never_admitted() {
    flushed(&mut leader_at(5), 6);
}

#[test]
fn a_failed_append_is_cut_back_with_all_that_followed() {
    let mut leader = leader_at(0);
    let ends: Vec<i64> = (0..3).map(|_| append_entry(&mut leader, 2)).collect();
    leader.park(ends[0], FIRST, Wait::Committed);
    leader.park(ends[1], SECOND, Wait::Committed);
    leader.park(ends[2], THIRD, Wait::Committed);
    let refused = [SECOND, THIRD].map(|reply| Effect::Refuse(reply, ErrorCode::KafkaStorageError));
    assert_eq!(failed(&mut leader, ends[1]), refused);
    assert_eq!(failed(&mut leader, ends[2]), [], "the later entries of the incarnation fail too, and are gone already");
    assert_eq!((leader.log_end(), leader.has_failed()), (2, true));
    // The first was written before the failure and is answered when its round is synced.
    assert_eq!(flushed(&mut leader, ends[0]), [Effect::AdvanceHighWatermark(2), Effect::Reply(FIRST)]);
}

#[test]
fn an_entry_of_several_batches_fails_as_a_whole() {
    let mut leader = leader_at(0);
    let first = append_entry(&mut leader, 1);
    let second = append(&mut leader, 1);
    let third = append_entry(&mut leader, 1);
    let replies = [(first, FIRST), (second, SECOND), (third, THIRD)];
    replies.iter().for_each(|(end, reply)| assert!(leader.park(*end, *reply, Wait::Committed)));
    let refused = [SECOND, THIRD].map(|reply| Effect::Refuse(reply, ErrorCode::KafkaStorageError));
    assert_eq!(failed(&mut leader, third), refused);
    assert_eq!(leader.log_end(), first);
}

#[test]
fn what_was_never_submitted_fails_from_the_flushed_end_on() {
    let mut leader = leader_at(0);
    let ends: Vec<i64> = (0..3).map(|_| append(&mut leader, 1)).collect();
    assert!(leader.park(ends[1], SECOND, Wait::Committed) && leader.park(ends[2], THIRD, Wait::Committed));
    assert_eq!(flushed(&mut leader, ends[0]), [Effect::AdvanceHighWatermark(1)]);
    let refused = [SECOND, THIRD].map(|reply| Effect::Refuse(reply, ErrorCode::KafkaStorageError));
    assert_eq!(failed(&mut leader, ends[2]), refused);
    assert_eq!(leader.log_end(), 1);
}

#[test]
fn after_a_failed_append_nothing_is_admitted() {
    let config = TopicConfig::default();
    let mut leader = leader_at(0);
    let end = append(&mut leader, 1);
    failed(&mut leader, end);
    let refusal = leader.admit(&batch(1), &context(&config)).expect_err("the log is being reopened");
    assert_eq!(refusal.code, ErrorCode::KafkaStorageError);
    assert!(refusal.code.is_retriable());
    assert_eq!(leader.log_end(), 0);
}

#[test]
fn a_duplicate_of_a_failed_append_is_refused_with_it() {
    let config = TopicConfig::default();
    let mut leader = leader_at(0);
    let header = idempotent(From { producer: 4, epoch: 0, sequence: 0 }, 2);
    assert_eq!(leader.admit(&header, &context(&config)), Ok(Admitted::Append { base_offset: 0, end_offset: 2 }));
    let again = leader.admit(&header, &context(&config));
    assert!(matches!(again, Ok(Admitted::Duplicate { base_offset: 0, end_offset: 2, .. })));
    assert!(leader.park(2, FIRST, Wait::Committed) && leader.park(2, SECOND, Wait::Committed));
    let refused = [FIRST, SECOND].map(|reply| Effect::Refuse(reply, ErrorCode::KafkaStorageError));
    assert_eq!(failed(&mut leader, 2), refused);
}

#[test]
fn an_older_or_newer_epoch_of_the_client_is_told_apart() {
    let leader = leader_at(0);
    let code = |epoch| leader.check_epoch(epoch).map_err(|refusal| refusal.code);
    assert_eq!(code(-1), Ok(()));
    assert_eq!(code(7), Ok(()));
    assert_eq!(code(6), Err(ErrorCode::FencedLeaderEpoch));
    assert_eq!(code(8), Err(ErrorCode::UnknownLeaderEpoch));
}

#[test]
fn records_are_deleted_up_to_the_high_watermark() {
    let mut leader = leader_at(5);
    append(&mut leader, 2);
    assert_eq!(leader.trim(3), Ok(Trim::Move { log_start: 3 }));
    assert_eq!(leader.trim(-1), Ok(Trim::Move { log_start: 5 }));
    assert_eq!(leader.trim(5), Ok(Trim::Move { log_start: 5 }));
    assert_eq!(leader.trim(6).map_err(|refusal| refusal.code), Err(ErrorCode::OffsetOutOfRange));
    assert_eq!(leader.trim(-2).map_err(|refusal| refusal.code), Err(ErrorCode::OffsetOutOfRange));
    leader.log_start_moved(4);
    assert_eq!(leader.trim(3), Ok(Trim::Done { log_start: 4 }));
    leader.log_start_moved(2);
    assert_eq!(leader.log_start(), 4, "it never goes back");
}

#[test]
fn a_leader_keeps_what_was_promised_and_commits_what_is_flushed() {
    let start = LeaderStart {
        epoch: 1,
        replicas: ReplicaSet::alone(1),
        proposed: Vec::new(),
        in_sync_min: 1,
        now_ms: 0,
        log_start: 2,
        epoch_start: 9,
        log_end: 9,
        flushed_end: 7,
        high_watermark: 4,
        producers: [],
    };
    assert_eq!(Leader::new(start.clone()).high_watermark(), 7);
    let promised = LeaderStart { high_watermark: 8, ..start.clone() };
    assert_eq!(Leader::new(promised).high_watermark(), 8, "async: seen from the page cache");
    let fresh = LeaderStart { flushed_end: 0, high_watermark: 0, ..start };
    assert_eq!(Leader::new(fresh).high_watermark(), 2, "never below the log start");
}
