//! The checker itself: it must find what is wrong, else its silence means nothing.

use crate::checker::{History, Verdict};

/// Two records of one producer, both confirmed and read.
const SOUND: &str = "S 1 a0 0\nS 2 a1 0\nA 3 a0 0 0\nA 4 a1 0 1\nR 5 0 0 a0\nR 6 0 1 a1\nH 8 7 0 2\n";
const DRAINED: &str = "0 0 a0\n0 1 a1\n";

fn check(history: &str, drained: &str) -> Verdict {
    History::parse(history).check(drained)
}

fn broken(history: &str, drained: &str) -> Vec<&'static str> {
    check(history, drained).broken().iter().map(|(name, _)| *name).collect()
}

#[test]
fn a_sound_history_is_sound() {
    let verdict = check(SOUND, DRAINED);
    verdict.assert_sound();
    assert_eq!((verdict.sent, verdict.acked, verdict.found, verdict.unknown), (2, 2, 2, 0));
}

#[test]
fn a_confirmed_record_that_is_gone_is_lost() {
    let unread = SOUND.replace("R 6 0 1 a1\n", "");
    assert_eq!(broken(&unread, "0 0 a0\n"), ["lost"]);
}

#[test]
fn a_record_that_was_confirmed_without_its_place_must_be_somewhere() {
    let placeless = SOUND.replace("A 4 a1 0 1\n", "A 4 a1 0 -\n");
    let verdict = check(&placeless, DRAINED);
    verdict.assert_sound();
    assert_eq!((verdict.acked, verdict.found, verdict.unknown), (2, 2, 0));
    let unread = placeless.replace("R 6 0 1 a1\n", "");
    assert_eq!(broken(&unread, "0 0 a0\n"), ["lost"]);
    assert_eq!(broken(&unread, "0 0 a0\n1 0 a1\n"), ["lost"], "not where it was sent");
}

#[test]
fn a_record_that_was_read_and_is_gone_is_inconsistent() {
    let unconfirmed = SOUND.replace("A 4 a1 0 1\n", "");
    assert_eq!(broken(&unconfirmed, "0 0 a0\n"), ["inconsistent offsets"]);
}

#[test]
fn a_value_at_two_places_is_doubled() {
    assert_eq!(broken(SOUND, "0 0 a0\n0 1 a1\n0 2 a0\n"), ["doubled"]);
}

#[test]
fn an_offset_with_two_values_is_inconsistent() {
    assert_eq!(broken(SOUND, "0 0 a1\n0 1 a0\n"), ["inconsistent offsets"]);
}

#[test]
fn a_value_that_nobody_sent_is_inconsistent() {
    assert_eq!(broken(SOUND, "0 0 a0\n0 1 a1\n0 2 z9\n"), ["inconsistent offsets"]);
}

#[test]
fn a_gap_in_what_was_read_is_a_skipped_read() {
    assert_eq!(broken(&SOUND.replace("R 5 0 0 a0\n", ""), DRAINED), ["skipped reads"]);
}

#[test]
fn a_record_that_overtakes_an_earlier_one_of_its_producer_is_disordered() {
    let swapped = "S 1 a0 0\nS 2 a1 0\nA 3 a0 0 1\nA 4 a1 0 0\n";
    assert_eq!(broken(swapped, "0 0 a1\n0 1 a0\n"), ["disordered sends"]);
}

#[test]
fn a_record_before_one_that_was_confirmed_before_it_was_sent_is_disordered() {
    let swapped = "S 1 a0 0\nA 2 a0 0 1\nS 3 b0 0\nA 4 b0 0 0\n";
    assert_eq!(broken(swapped, "0 0 b0\n0 1 a0\n"), ["disordered sends"]);
}

#[test]
fn an_end_that_goes_back_is_found() {
    assert_eq!(broken(&format!("{SOUND}H 10 9 0 1\n"), DRAINED), ["ends that went back"]);
    // Asked at the same time as another: either may be older.
    assert!(broken(&format!("{SOUND}H 10 7 0 1\n"), DRAINED).is_empty());
}
