//! What followers say of themselves, over connections that come and go.

use capek_state::partition::{FollowerReport, FollowerReports, FollowerVoice};

const EPOCH: i32 = 7;

/// Broker 2 in its life 20.
fn over(connection: u64) -> FollowerVoice {
    FollowerVoice { broker: 2, broker_epoch: 20, leader_epoch: EPOCH, connection }
}

fn report(connection: u64, fetch_offset: i64, flushed_end: i64) -> FollowerReport {
    FollowerReport { leader_epoch: EPOCH, broker_epoch: 20, connection, fetch_offset, flushed_end, fetch_ms: 0 }
}

#[track_caller]
fn assert_known(reports: &FollowerReports, expected: FollowerReport) {
    let known: Vec<_> = reports.of_epoch(expected.leader_epoch).collect();
    assert_eq!(known, [(2, expected)]);
}

/// It fetched at 10 over its first connection, and over the second at 12, of which it has flushed all.
fn connected_again() -> FollowerReports {
    let mut reports = FollowerReports::default();
    assert!(reports.fetched(over(1), 10, 0));
    assert!(reports.fetched(over(2), 12, 0));
    assert!(reports.flushed(over(2), 12));
    assert_known(&reports, report(2, 12, 12));
    reports
}

#[test]
fn a_fetch_over_a_connection_that_is_gone_takes_nothing_back() {
    let mut reports = connected_again();
    assert!(!reports.fetched(over(1), 10, 0));
    assert_known(&reports, report(2, 12, 12));
    assert!(reports.fetched(over(2), 13, 0), "the next one is heard");
    assert_known(&reports, report(2, 13, 12));
}

#[test]
fn a_report_over_a_connection_that_is_gone_is_not_heard() {
    let mut reports = connected_again();
    assert!(reports.fetched(over(2), 15, 0));
    assert!(!reports.flushed(over(1), 14));
    assert_known(&reports, report(2, 15, 12));
}

#[test]
fn a_report_that_comes_before_the_first_fetch_of_its_connection_makes_the_earlier_ones_late() {
    let mut reports = FollowerReports::default();
    assert!(reports.fetched(over(1), 12, 0));
    assert!(reports.flushed(over(2), 12));
    assert!(!reports.fetched(over(1), 10, 0));
    assert_known(&reports, report(2, 12, 12));
}

#[test]
fn a_report_that_says_nothing_new_makes_the_earlier_connections_late_too() {
    let mut reports = FollowerReports::default();
    assert!(reports.fetched(over(1), 12, 0) && reports.flushed(over(1), 12));
    assert!(!reports.flushed(over(2), 12));
    assert!(!reports.fetched(over(1), 10, 0));
    assert_known(&reports, report(2, 12, 12));
}

#[test]
fn over_one_connection_a_follower_that_begins_again_may_go_back() {
    let mut reports = connected_again();
    assert!(reports.fetched(over(2), 11, 0));
    assert_known(&reports, report(2, 11, 11));
}

#[test]
fn another_life_of_a_broker_begins_with_nothing_flushed() {
    let mut reports = connected_again();
    let reborn = FollowerVoice { broker_epoch: 21, ..over(3) };
    assert!(!reports.flushed(reborn, 12), "it has not fetched yet");
    assert!(reports.fetched(reborn, 11, 0));
    assert!(!reports.fetched(over(2), 12, 0), "word of the earlier life");
    assert!(!reports.flushed(over(2), 12));
    assert_known(&reports, FollowerReport { broker_epoch: 21, ..report(3, 11, -1) });
}

#[test]
fn what_was_said_of_an_earlier_leaders_log_says_nothing_of_this_one() {
    let mut reports = connected_again();
    let next = FollowerVoice { leader_epoch: EPOCH + 1, ..over(2) };
    assert!(!reports.flushed(next, 12));
    assert_eq!(reports.of_epoch(EPOCH + 1).count(), 0);
    assert!(reports.fetched(next, 12, 0));
    assert_known(&reports, FollowerReport { leader_epoch: EPOCH + 1, ..report(2, 12, -1) });
    reports.clear();
    assert_eq!(reports.of_epoch(EPOCH + 1).count(), 0);
}
