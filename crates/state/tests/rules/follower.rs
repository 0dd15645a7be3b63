//! A follower that is answered by its leader and by its journal: exact effects.

use capek_state::partition::{Divergence, Fetched, FetchedRecords, Follower, FollowerEffect as Effect, FollowerStart};
use capek_wire::ErrorCode;
use capek_wire::peer::replication::EpochEnd;

/// It follows the leader of epoch 5; its log holds offsets 2 to 10, the last of epoch 4; 8 are flushed, 6 committed.
fn follower() -> Follower {
    Follower::new(FollowerStart {
        epoch: 5,
        log_start: 2,
        log_end: 10,
        flushed_end: 8,
        last_epoch: 4,
        high_watermark: 6,
    })
}

/// One that agrees with its leader already, all flushed and committed.
fn in_agreement() -> Follower {
    let mut follower = follower();
    flushed(&mut follower, 10);
    answered(&mut follower, &nothing_new(10, 10));
    follower
}

/// The leader has nothing after this offset.
fn nothing_new(fetch_offset: i64, high_watermark: i64) -> Fetched {
    Fetched {
        leader_epoch: 5,
        fetch_offset,
        error: ErrorCode::None,
        high_watermark,
        log_start: 0,
        diverging: None,
        records: None,
    }
}

fn records(base_offset: i64, end_offset: i64, high_watermark: i64) -> Fetched {
    let records = Some(FetchedRecords { base_offset, end_offset, last_epoch: 5 });
    Fetched { records, ..nothing_new(base_offset, high_watermark) }
}

fn diverging(fetch_offset: i64, leader: (i32, i64), local: (i32, i64)) -> Fetched {
    let end = |(epoch, end_offset)| EpochEnd { epoch, end_offset };
    Fetched { diverging: Some(Divergence { leader: end(leader), local: end(local) }), ..nothing_new(fetch_offset, 9) }
}

fn error(error: ErrorCode) -> Fetched {
    Fetched { error, ..nothing_new(10, -1) }
}

fn answered(follower: &mut Follower, fetched: &Fetched) -> Vec<Effect> {
    let mut effects = Vec::new();
    follower.fetched(fetched, &mut effects);
    effects
}

fn flushed(follower: &mut Follower, end_offset: i64) -> Vec<Effect> {
    let mut effects = Vec::new();
    follower.flushed(end_offset, &mut effects);
    effects
}

fn truncated(follower: &mut Follower, log_end: i64, last_epoch: i32) -> Vec<Effect> {
    let mut effects = Vec::new();
    follower.truncated(follower.log_start().min(log_end), log_end, last_epoch, &mut effects);
    effects
}

#[test]
fn records_that_follow_are_appended_and_the_high_watermark_is_learnt() {
    let mut follower = in_agreement();
    let effects = answered(&mut follower, &records(10, 13, 12));
    assert_eq!(effects, [Effect::Append, Effect::AdvanceHighWatermark(12), Effect::Fetch]);
    assert_eq!((follower.log_end(), follower.last_epoch(), follower.high_watermark()), (13, 5, 12));
}

#[test]
fn what_is_flushed_is_said_once_the_logs_agree() {
    let mut follower = follower();
    assert_eq!(flushed(&mut follower, 9), [], "who knows what the leader has there");
    let effects = answered(&mut follower, &nothing_new(10, 6));
    assert_eq!(effects, [Effect::ReportFlushed(9), Effect::Fetch]);
    assert_eq!(flushed(&mut follower, 10), [Effect::ReportFlushed(10)]);
    assert_eq!(flushed(&mut follower, 10), [], "it is no news");
    assert_eq!(answered(&mut follower, &nothing_new(10, 6)), [Effect::Fetch], "said once");
}

#[test]
fn appended_records_are_reported_when_the_journal_has_them() {
    let mut follower = in_agreement();
    answered(&mut follower, &records(10, 13, 10));
    answered(&mut follower, &records(13, 15, 10));
    assert_eq!(flushed(&mut follower, 13), [Effect::ReportFlushed(13)]);
    assert_eq!(flushed(&mut follower, 15), [Effect::ReportFlushed(15)]);
}

#[test]
fn the_high_watermark_is_not_taken_beyond_our_own_end() {
    let mut follower = in_agreement();
    assert_eq!(answered(&mut follower, &nothing_new(10, 99)), [Effect::Fetch]);
    assert_eq!(follower.high_watermark(), 10);
}

#[test]
fn the_high_watermark_does_not_go_back() {
    let mut follower = in_agreement();
    assert_eq!(answered(&mut follower, &nothing_new(10, 4)), [Effect::Fetch]);
    assert_eq!(follower.high_watermark(), 10);
}

#[test]
fn a_log_that_diverges_is_cut_before_the_high_watermark_is_taken() {
    let mut follower = follower();
    assert_eq!(answered(&mut follower, &diverging(10, (3, 8), (3, 7))), [Effect::Truncate { end_offset: 7 }]);
    assert_eq!((follower.high_watermark(), follower.agrees()), (6, false));
    assert_eq!(truncated(&mut follower, 7, 3), [Effect::Fetch]);
    assert_eq!(
        answered(&mut follower, &records(7, 9, 9)),
        [Effect::ReportFlushed(7), Effect::Append, Effect::AdvanceHighWatermark(9), Effect::Fetch]
    );
}

#[test]
fn the_cut_is_where_the_shorter_of_both_ends_that_epoch() {
    for (leader, local, cut) in [((4, 9), (4, 10), 9), ((3, 9), (3, 6), 6), ((3, 5), (3, 6), 5)] {
        let effects = answered(&mut follower(), &diverging(10, leader, local));
        assert_eq!(effects, [Effect::Truncate { end_offset: cut }]);
    }
}

#[test]
fn logs_that_share_no_epoch_are_cut_to_their_start() {
    let effects = answered(&mut follower(), &diverging(10, (1, 4), (-1, -1)));
    assert_eq!(effects, [Effect::Truncate { end_offset: 2 }]);
}

#[test]
fn a_cut_may_take_several_answers() {
    let mut follower = follower();
    assert_eq!(answered(&mut follower, &diverging(10, (3, 9), (3, 8))), [Effect::Truncate { end_offset: 8 }]);
    truncated(&mut follower, 8, 3);
    assert_eq!(answered(&mut follower, &diverging(8, (2, 5), (2, 4))), [Effect::Truncate { end_offset: 4 }]);
    assert_eq!(truncated(&mut follower, 4, 2), [Effect::Fetch]);
    assert_eq!(follower.high_watermark(), 4);
}

#[test]
fn while_the_log_is_cut_no_answer_counts_and_no_flush_is_reported() {
    let mut follower = follower();
    answered(&mut follower, &diverging(10, (3, 8), (3, 7)));
    assert_eq!(answered(&mut follower, &records(10, 12, 12)), []);
    assert_eq!(flushed(&mut follower, 10), []);
    truncated(&mut follower, 7, 3);
    let effects = answered(&mut follower, &nothing_new(7, 7));
    assert_eq!(effects, [Effect::ReportFlushed(7), Effect::AdvanceHighWatermark(7), Effect::Fetch]);
}

#[test]
fn a_late_answer_means_nothing() {
    let mut follower = in_agreement();
    answered(&mut follower, &records(10, 12, 10));
    assert_eq!(answered(&mut follower, &records(10, 12, 12)), [], "it was to an earlier fetch");
    let of_another_epoch = Fetched { leader_epoch: 4, ..records(12, 14, 14) };
    assert_eq!(answered(&mut follower, &of_another_epoch), []);
    assert_eq!((follower.log_end(), follower.high_watermark()), (12, 10));
}

#[test]
fn a_late_divergence_does_not_cut_what_agrees() {
    let mut follower = follower();
    answered(&mut follower, &diverging(10, (3, 8), (3, 7)));
    truncated(&mut follower, 7, 3);
    answered(&mut follower, &records(7, 10, 7));
    assert_eq!(flushed(&mut follower, 10), [Effect::ReportFlushed(10)], "the leader counts on it");
    let effects = answered(&mut follower, &diverging(10, (3, 8), (3, 8)));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Truncate { .. })), "{effects:?}");
    assert_eq!(follower.log_end(), 10);
}

#[test]
fn after_a_new_connection_everything_flushed_is_said_again() {
    let mut follower = in_agreement();
    follower.reconnected();
    assert_eq!(answered(&mut follower, &nothing_new(10, 10)), [Effect::ReportFlushed(10), Effect::Fetch]);
}

#[test]
fn a_log_that_ends_before_the_leaders_begins_starts_again_there() {
    let mut follower = follower();
    let gone = Fetched { log_start: 20, ..error(ErrorCode::OffsetOutOfRange) };
    assert_eq!(answered(&mut follower, &gone), [Effect::Reset { log_start: 20 }]);
    let mut effects = Vec::new();
    follower.truncated(20, 20, -1, &mut effects);
    assert_eq!(effects, [Effect::Fetch]);
    assert_eq!((follower.log_start(), follower.log_end(), follower.high_watermark()), (20, 20, 20));
    assert_eq!(answered(&mut follower, &nothing_new(20, 20)), [Effect::ReportFlushed(20), Effect::Fetch]);
}

#[test]
fn a_leader_that_is_not_ready_is_asked_again_later() {
    for code in [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch, ErrorCode::UnknownLeaderEpoch] {
        assert_eq!(answered(&mut follower(), &error(code)), [Effect::FetchLater]);
    }
    let in_range = Fetched { log_start: 3, ..error(ErrorCode::OffsetOutOfRange) };
    assert_eq!(answered(&mut follower(), &in_range), [Effect::FetchLater]);
}

#[test]
fn an_error_brings_neither_agreement_nor_a_high_watermark() {
    let mut follower = follower();
    answered(&mut follower, &Fetched { high_watermark: 10, ..error(ErrorCode::NotLeaderOrFollower) });
    assert_eq!((follower.agrees(), follower.high_watermark()), (false, 6));
}

#[test]
fn records_that_overlap_are_not_taken() {
    let mut follower = in_agreement();
    let overlapping = Fetched { fetch_offset: 10, ..records(9, 12, 10) };
    let effects = answered(&mut follower, &overlapping);
    assert_eq!(effects, [Effect::Fail("the leader sent records that do not follow ours")]);
    assert_eq!(follower.log_end(), 10);
}

#[test]
fn a_gap_of_a_compacted_log_is_taken() {
    let mut follower = in_agreement();
    let behind_a_gap = Fetched { fetch_offset: 10, ..records(14, 15, 10) };
    assert_eq!(answered(&mut follower, &behind_a_gap), [Effect::Append, Effect::Fetch]);
    assert_eq!(follower.log_end(), 15);
}

#[test]
fn what_the_leader_has_deleted_is_deleted_here_when_it_is_known_to_be_committed() {
    let mut follower = follower();
    let deleted_to_7 = Fetched { log_start: 7, ..nothing_new(10, 6) };
    assert_eq!(answered(&mut follower, &deleted_to_7), [Effect::ReportFlushed(8), Effect::Fetch]);
    assert_eq!(follower.log_start(), 2);
    let effects = answered(&mut follower, &Fetched { high_watermark: 8, ..deleted_to_7 });
    let expected = [Effect::AdvanceHighWatermark(8), Effect::MoveLogStart { log_start: 7 }, Effect::Fetch];
    assert_eq!(effects, expected);
}

#[test]
#[should_panic(expected = "nobody asked for a cut")]
fn a_cut_that_nobody_asked_for_is_a_bug() {
    truncated(&mut follower(), 7, 3);
}
