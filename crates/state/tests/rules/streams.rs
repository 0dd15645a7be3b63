//! Streams over HTTP: credit, what is acknowledged, and producers whose frames are stored once.

use std::collections::BTreeSet;

use capek_state::config::TopicConfig;
use capek_state::partition::{Admitted, Leader};
use capek_state::stream::{
    Conflation, Credit, DeliveryWindow, Dropped, Due, InFlight, Linger, NotDelivered, Pace, ProduceSlot, SentAgain,
};
use capek_state::stream::{IN_FLIGHT_BYTES_MAX, IN_FLIGHT_MAX};
use capek_wire::ErrorCode;
use capek_wire::keyed::KEYED_PRODUCER_ID_FIRST;
use proptest::prelude::*;

use crate::fixtures::{From, context, idempotent, leader_at};

#[test]
fn credit_is_used_up_by_whichever_comes_first() {
    let mut credit = Credit::limited(2, 100);
    credit.spend(1, 40);
    assert_eq!(credit, Credit { records: 1, bytes: 60 });
    credit.spend(0, 61);
    assert!(credit.is_used_up(), "one large record may take more than there is");
    credit.grant(Credit { records: 0, bytes: u64::MAX });
    assert_eq!(credit, Credit { records: 1, bytes: Credit::MAX.bytes });
    assert_eq!(Credit::limited(u64::MAX, u64::MAX), Credit::MAX, "unlimited is not for clients to ask for");
}

#[test]
fn unlimited_credit_stays() {
    let mut credit = Credit::UNLIMITED;
    credit.spend(1 << 40, 1 << 40);
    credit.grant(Credit { records: 1, bytes: 1 });
    assert_eq!(credit, Credit::UNLIMITED);
}

/// Records of so many bytes with these keys (`-` has none), from 0 on.
fn conflated(most: Credit, bytes: u64, keys: &str) -> (Vec<i64>, Option<Dropped>) {
    let mut conflation = Conflation::new(most);
    for (offset, key) in (0..).zip(keys.bytes()) {
        conflation.add(offset, (key != b'-').then_some(&[key][..]), bytes, offset);
    }
    conflation.finish()
}

#[test]
fn of_each_key_the_newest_record_is_shown() {
    let check = |keys, records: &[i64], dropped: Option<(i64, i64, u64)>| {
        let dropped = dropped.map(|(first, end, count)| Dropped { first, end, count });
        assert_eq!(conflated(Credit::MAX, 1, keys), (records.to_vec(), dropped), "{keys}");
    };
    check("", &[], None);
    check("abc", &[0, 1, 2], None);
    check("---", &[0, 1, 2], None);
    check("aba", &[1, 2], Some((0, 1, 1)));
    check("abbca", &[2, 3, 4], Some((0, 2, 2)));
    check("aaaa", &[3], Some((0, 3, 3)));
    check("b-a-a", &[0, 1, 3, 4], Some((2, 3, 1)));
}

#[test]
fn of_too_many_the_newest_are_shown() {
    let two = Credit { records: 2, bytes: u64::MAX };
    assert_eq!(conflated(two, 1, "abc-"), (vec![2, 3], Some(Dropped { first: 0, end: 2, count: 2 })));
    assert_eq!(conflated(two, 1, "aba-bba"), (vec![5, 6], Some(Dropped { first: 0, end: 5, count: 5 })));
    let ten_bytes = Credit { records: u64::MAX, bytes: 10 };
    assert_eq!(conflated(ten_bytes, 5, "abc").0, [1, 2]);
    assert_eq!(conflated(ten_bytes, 6, "abc").0, [2]);
    assert_eq!(conflated(ten_bytes, 11, "ab").0, [1], "one passes whatever its size");
}

#[test]
fn a_key_that_was_dropped_is_a_new_one_when_it_comes_again() {
    let mut conflation = Conflation::new(Credit { records: 1, bytes: u64::MAX });
    for (offset, key) in [(0, b"a"), (1, b"b"), (2, b"a"), (3, b"a")] {
        conflation.add(offset, Some(key), 1, offset);
        assert_eq!(conflation.kept_from(0).map(|record| *record).collect::<Vec<_>>(), [offset]);
    }
    assert_eq!(conflation.kept_from(4).count(), 0);
    assert_eq!(conflation.finish(), (vec![3], Some(Dropped { first: 0, end: 3, count: 3 })));
}

proptest! {
    /// Against what the rule says word by word.
    #[test]
    fn conflation_shows_the_newest_of_the_newest(keys in "[a-d-]{0,40}", most in 1u64..6) {
        let (shown, dropped) = conflated(Credit { records: most, bytes: u64::MAX }, 1, &keys);
        let keys = keys.as_bytes();
        let is_newest = |at: usize| keys[at] == b'-' || !keys[at + 1..].contains(&keys[at]);
        let newest: Vec<i64> = (0..keys.len()).filter(|at| is_newest(*at)).map(|at| at as i64).collect();
        let from = newest.len().saturating_sub(most as usize);
        prop_assert_eq!(&shown[..], &newest[from..]);
        let gone: Vec<i64> = (0..keys.len() as i64).filter(|at| !shown.contains(at)).collect();
        let expected = gone.first().zip(gone.last())
            .map(|(first, last)| Dropped { first: *first, end: last + 1, count: gone.len() as u64 });
        prop_assert_eq!(dropped, expected);
    }
}

const LINGER: Linger = Linger { for_ms: 50, full: Credit { records: 100, bytes: 1000 } };

/// A reader that had everything up to 10, in records of `record_bytes`, at a time of 1000.
fn has_everything_up_to_10(record_bytes: u64) -> Pace {
    let mut pace = Pace::default();
    assert_eq!(pace.due(LINGER, 0, 10, 1000), Due::UpTo(10));
    pace.sent(10, 10 * record_bytes);
    pace
}

#[test]
fn whoever_is_behind_waits_for_nothing() {
    let mut pace = Pace::default();
    assert_eq!(pace.due(LINGER, 0, 10, 1000), Due::UpTo(10));
    assert_eq!(pace.due(LINGER, 5, 12, 1001), Due::UpTo(10), "what came meanwhile is gathered");
    assert_eq!(pace.due(LINGER, 10, 12, 1002), Due::At(1052));
    pace.moved();
    assert_eq!(pace.due(LINGER, 3, 12, 1003), Due::UpTo(12));
}

#[test]
fn the_first_record_of_a_frame_waits_as_long_as_it_may() {
    let mut pace = has_everything_up_to_10(1);
    assert_eq!(pace.due(LINGER, 10, 11, 2000), Due::At(2050));
    assert_eq!(pace.due(LINGER, 10, 12, 2049), Due::At(2050), "later ones wait for less");
    assert_eq!(pace.due(LINGER, 10, 13, 2050), Due::UpTo(13));
    assert_eq!(pace.due(LINGER, 13, 14, 2051), Due::At(2101));
    let at_once = Linger { for_ms: 0, ..LINGER };
    assert_eq!(has_everything_up_to_10(1).due(at_once, 10, 11, 2000), Due::UpTo(11));
}

#[test]
fn a_full_frame_does_not_wait() {
    let check = |record_bytes, end, is_full: bool| {
        let due = has_everything_up_to_10(record_bytes).due(LINGER, 10, end, 2000);
        assert_eq!(due, if is_full { Due::UpTo(end) } else { Due::At(2050) }, "{record_bytes} bytes up to {end}");
    };
    check(1, 109, false);
    check(1, 110, true);
    check(300, 13, false);
    check(300, 14, true);
    check(0, 20, false);
}

#[test]
fn the_first_records_that_a_reader_waited_for_are_gathered_too() {
    let mut pace = Pace::default();
    pace.caught_up(0);
    assert_eq!(pace.due(LINGER, 0, 1, 0), Due::At(50));
    pace.caught_up(0);
    assert_eq!(pace.due(LINGER, 0, 1, 40), Due::At(90), "what waited is not there any more");
}

#[test]
fn a_log_that_was_cut_has_no_more_than_there_is() {
    let mut pace = Pace::default();
    assert_eq!(pace.due(LINGER, 0, 10, 0), Due::UpTo(10));
    assert_eq!(pace.due(LINGER, 2, 6, 1), Due::UpTo(6));
}

/// Two frames: 10, 11, 12 and 14, 15 (13 and 16 are no records).
fn window() -> DeliveryWindow {
    let mut window = DeliveryWindow::new(10);
    window.delivered(1, 10..13, 14);
    window.delivered(2, 14..16, 17);
    window
}

#[test]
fn everything_up_to_an_acknowledged_record_is_done() {
    let mut window = window();
    assert_eq!((window.committable(), window.outstanding_count()), (10, 5));
    assert_eq!(window.acknowledge_through(11), Ok(()));
    assert_eq!((window.committable(), window.outstanding_count()), (12, 3));
    assert_eq!(window.acknowledge_through(10), Ok(()), "twice is once");
    assert_eq!((window.committable(), window.outstanding_count()), (12, 3));
    assert_eq!(window.acknowledge_through(15), Ok(()));
    assert_eq!((window.committable(), window.outstanding_count()), (17, 0), "nothing is left before 17");
}

#[test]
fn what_was_not_delivered_cannot_be_acknowledged() {
    let mut window = window();
    assert_eq!(window.acknowledge_through(17), Err(NotDelivered { next: 17 }));
    assert_eq!(window.acknowledge(40), Err(NotDelivered { next: 17 }));
    assert_eq!((window.committable(), window.outstanding_count()), (10, 5));
}

#[test]
fn records_may_be_acknowledged_in_any_order() {
    let mut window = window();
    for (offset, committable) in [(11, 10), (14, 10), (10, 12), (10, 12), (13, 12), (12, 15), (15, 17)] {
        assert_eq!(window.acknowledge(offset), Ok(()));
        assert_eq!(window.committable(), committable, "after {offset}");
    }
    assert_eq!(window.outstanding_count(), 0);
}

#[test]
fn frames_that_arrived_are_done_as_a_whole() {
    let mut window = window();
    window.received(0);
    assert_eq!(window.committable(), 10);
    window.received(1);
    assert_eq!((window.committable(), window.outstanding_count()), (14, 2));
    window.received(9);
    assert_eq!((window.committable(), window.outstanding_count()), (17, 0));
}

#[test]
fn what_is_passed_over_is_done_with_what_came_before_it() {
    let mut window = window();
    window.passed(30);
    assert_eq!(window.committable(), 10);
    assert_eq!(window.acknowledge_through(29), Ok(()));
    assert_eq!(window.committable(), 30);
}

proptest! {
    /// Against a plain set of what is outstanding.
    #[test]
    fn a_window_says_what_a_set_says(
        frames in prop::collection::vec((0..3_i64, 0..4_i64), 1..12),
        acknowledged in prop::collection::vec((any::<bool>(), 0..40_i64), 0..20),
    ) {
        let (mut window, mut outstanding, mut next) = (DeliveryWindow::new(0), BTreeSet::new(), 0);
        for (number, (count, hole)) in frames.into_iter().enumerate() {
            window.delivered(number as u64, next..next + count, next + count + hole);
            outstanding.extend(next..next + count);
            next += count + hole;
        }
        for (is_through, offset) in acknowledged {
            let expected = if offset < next { Ok(()) } else { Err(NotDelivered { next }) };
            if is_through {
                prop_assert_eq!(window.acknowledge_through(offset), expected);
            } else {
                prop_assert_eq!(window.acknowledge(offset), expected);
            }
            if offset < next {
                outstanding.retain(|other| if is_through { *other > offset } else { *other != offset });
            }
            prop_assert_eq!(window.committable(), outstanding.first().copied().unwrap_or(next));
            prop_assert_eq!(window.outstanding_count(), outstanding.len() as u64);
        }
    }
}

#[test]
fn sequences_take_turns_in_lanes_and_count_their_epochs() {
    let check = |sequence, generation, lane, epoch| {
        assert_eq!(ProduceSlot::of(sequence), ProduceSlot { generation, lane, epoch }, "{sequence}");
    };
    check(0, 0, 0, 0);
    check(63, 0, 63, 0);
    check(64, 0, 0, 1);
    check(64 * 32_768 - 1, 0, 63, i16::MAX);
    check(64 * 32_768, 1, 0, 0);
    assert_eq!(ProduceSlot::of(u64::MAX).lane, 63);
}

#[test]
fn what_is_in_flight_is_bounded_and_cannot_overtake_itself() {
    let mut in_flight = InFlight::default();
    for sequence in 7..7 + IN_FLIGHT_MAX as u64 {
        assert!(in_flight.has_room(Some(sequence)));
        assert_eq!(in_flight.begin(Some(sequence), 10), Ok(()));
    }
    assert!(!in_flight.has_room(None));
    in_flight.answered(Some(8), 10);
    assert!(in_flight.has_room(None) && in_flight.has_room(Some(8)));
    assert_eq!(in_flight.begin(Some(7), 10), Err(SentAgain));
    assert!(!in_flight.has_room(Some(71)), "7 has no answer yet");
    in_flight.answered(Some(7), 10);
    assert!(in_flight.has_room(Some(71)));
    assert_eq!(in_flight.begin(Some(71), 10), Ok(()));
    assert_eq!(in_flight.begin(None, IN_FLIGHT_BYTES_MAX), Ok(()), "one frame passes whatever its size");
    assert!(!in_flight.has_room(None));
}

/// The records of a frame, as the broker writes them.
fn write(leader: &mut Leader, sequence: u64, records: i32) -> Result<Admitted, ErrorCode> {
    let slot = ProduceSlot::of(sequence);
    let producer = KEYED_PRODUCER_ID_FIRST + ((slot.generation << 8) + slot.lane) as i64;
    // As good as made of what the frame holds.
    let content = (sequence.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as i32 ^ records;
    let batch = idempotent(From { producer, epoch: slot.epoch, sequence: content }, records);
    let config = TopicConfig::default();
    leader.admit(&batch, &context(&config)).map_err(|refusal| refusal.code)
}

/// Its client has lost its count.
#[test]
fn another_frame_of_the_same_number_is_refused() {
    let mut leader = leader_at(0);
    for sequence in 0..100 {
        assert!(matches!(write(&mut leader, sequence, 1), Ok(Admitted::Append { .. })), "{sequence}");
    }
    for sequence in 36..100 {
        assert_eq!(write(&mut leader, sequence, 2), Err(ErrorCode::OutOfOrderSequenceNumber), "{sequence}");
    }
    assert_eq!(leader.log_end(), 100);
}

#[test]
fn a_frame_that_is_sent_again_is_answered_like_the_first_time() {
    let mut leader = leader_at(0);
    for sequence in 0..200 {
        assert!(matches!(write(&mut leader, sequence, 2), Ok(Admitted::Append { .. })), "{sequence}");
    }
    for sequence in (200 - IN_FLIGHT_MAX as u64)..200 {
        let base = sequence as i64 * 2;
        let again = write(&mut leader, sequence, 2);
        assert!(matches!(again, Ok(Admitted::Duplicate { base_offset, .. }) if base_offset == base), "{again:?}");
    }
    assert_eq!(write(&mut leader, 200 - IN_FLIGHT_MAX as u64 - 1, 2), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(leader.log_end(), 400);
}

proptest! {
    /// Frames of a client that keeps to its limit, sent again at will, on two partitions: each is stored exactly once.
    #[test]
    fn each_frame_is_stored_once_however_often_it_is_sent(
        first in prop::sample::select(vec![0_u64, 60, 64 * 32_768 - 100]),
        again in prop::collection::vec(0..IN_FLIGHT_MAX, 0..400),
    ) {
        let mut leaders = [leader_at(0), leader_at(0)];
        let mut sent = 0;
        for (step, back) in again.into_iter().enumerate() {
            // Every third time something is sent again, else the next one; a frame keeps its partition.
            let number = if step % 3 == 0 { sent.max(back as u64 + 1) - back as u64 - 1 } else { sent };
            sent = sent.max(number + 1);
            let sequence = first + number;
            let answer = write(&mut leaders[(number % 2) as usize], sequence, 1);
            prop_assert!(answer.is_ok(), "{:?} for {}", answer, sequence);
        }
        prop_assert_eq!(leaders[0].log_end() + leaders[1].log_end(), sent as i64);
    }
}
