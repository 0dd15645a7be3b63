//! Idempotent producers: the rules of the sequence, and a log that holds every record once whatever the network does.

use capek_state::config::TopicConfig;
use capek_state::partition::{Admitted, Leader, NewProducers, PRODUCER_BATCHES_MAX, ProducerBatch, ProducerMoments};
use capek_wire::ErrorCode;
use capek_wire::batch::BatchHeader;
use capek_wire::keyed::{KEYED_PRODUCER_ID_FIRST, KEYED_PRODUCERS_MAX};
use proptest::prelude::*;

use crate::fixtures::{From, NOW_MS, context, idempotent, leader_at, leader_with, topic_config};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

fn admit(leader: &mut Leader, from: From, record_count: i32) -> Result<Admitted, ErrorCode> {
    let config = TopicConfig::default();
    leader.admit(&idempotent(from, record_count), &context(&config)).map_err(|refusal| refusal.code)
}

fn at(sequence: i32) -> From {
    From { producer: 9, epoch: 3, sequence }
}

fn appended(base_offset: i64, end_offset: i64) -> Result<Admitted, ErrorCode> {
    Ok(Admitted::Append { base_offset, end_offset })
}

fn duplicate(base_offset: i64, end_offset: i64) -> Result<Admitted, ErrorCode> {
    Ok(Admitted::Duplicate { base_offset, end_offset, log_append_time_ms: NOW_MS })
}

#[test]
fn sequences_follow_one_another() {
    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(0), 3), appended(0, 3));
    assert_eq!(admit(&mut leader, at(3), 2), appended(3, 5));
    assert_eq!(admit(&mut leader, at(6), 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, at(5), 1), appended(5, 6));
}

#[test]
fn an_unknown_producer_may_begin_anywhere() {
    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(77), 1), appended(0, 1));
    assert_eq!(admit(&mut leader, at(77), 1), duplicate(0, 1));
}

/// A leader whose replica was there when the producers with this id and larger ones were given theirs, just now.
fn leader_there_before(id_min: i64) -> Leader {
    let mut leader = leader_at(0);
    leader.set_new_producers(Some(NewProducers { id_min, since_ms: NOW_MS }));
    leader
}

/// Its first batch may wait at a leader that was cut off, and come here after the second.
#[test]
fn a_new_producer_begins_at_zero() {
    let mut leader = leader_there_before(9);
    assert_eq!(admit(&mut leader, at(2), 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, at(0), 2), appended(0, 2));
    assert_eq!(admit(&mut leader, at(2), 1), appended(2, 3));
    let bumped = From { producer: 10, epoch: 4, sequence: 1 };
    assert_eq!(admit(&mut leader, bumped, 1), Err(ErrorCode::OutOfOrderSequenceNumber), "in whichever epoch");
}

#[test]
fn who_may_have_been_forgotten_may_begin_anywhere() {
    let older = From { producer: 8, epoch: 0, sequence: 77 };
    assert_eq!(admit(&mut leader_there_before(9), older, 1), appended(0, 1));
    let key = From { producer: KEYED_PRODUCER_ID_FIRST, epoch: 0, sequence: 77 };
    assert_eq!(admit(&mut leader_there_before(9), key, 1), appended(0, 1));

    let mut leader = leader_there_before(9);
    leader.expire_producers(NOW_MS + DAY_MS - 1);
    assert_eq!(admit(&mut leader, at(77), 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    leader.expire_producers(NOW_MS + DAY_MS);
    assert_eq!(admit(&mut leader, at(77), 1), appended(0, 1));
}

/// What was forgotten in the meantime does not come back when producers are remembered for longer again.
#[test]
fn a_longer_expiration_makes_no_producer_new_again() {
    let mut moments = ProducerMoments::since(moment(9, 0));
    assert_eq!(moments.new_producers(NOW_MS + 1000, 1000), None);
    assert_eq!(moments.new_producers(NOW_MS + 1000, DAY_MS), None);
    let mut moments = ProducerMoments::since(moment(9, 0));
    moments.note(moment(10, 1), 1000);
    assert_eq!(moments.new_producers(NOW_MS + HOUR_MS, DAY_MS), Some(moment(10, 1)));
}

fn moment(id_min: i64, hours: i64) -> NewProducers {
    NewProducers { id_min, since_ms: NOW_MS + hours * HOUR_MS }
}

#[test]
fn producers_stay_new_for_most_of_a_day() {
    let mut moments = ProducerMoments::since(moment(0, 0));
    for hours in 0..100 {
        moments.note(moment(hours * 1000, hours), DAY_MS);
        let new = moments.new_producers(NOW_MS + hours * HOUR_MS, DAY_MS).expect("moments were noted");
        let age_hours = (NOW_MS + hours * HOUR_MS - new.since_ms) / HOUR_MS;
        assert!(age_hours < 24 && age_hours >= 17.min(hours), "after {hours} hours: {age_hours}");
        assert_eq!(new.id_min, (hours - age_hours) * 1000);
    }
}

#[test]
fn a_replica_that_begins_anew_has_no_new_producers_until_time_goes_on() {
    let mut moments = ProducerMoments::since(moment(0, 0));
    moments.note(moment(1000, 7), DAY_MS);
    moments.begin_anew();
    assert_eq!(moments.new_producers(NOW_MS + 7 * HOUR_MS, DAY_MS), None);
    moments.note(moment(2000, 8), DAY_MS);
    assert_eq!(moments.new_producers(NOW_MS + 9 * HOUR_MS, DAY_MS), Some(moment(2000, 8)));
}

#[test]
fn sequences_wrap_at_the_largest_number() {
    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(i32::MAX - 1), 2), appended(0, 2));
    assert_eq!(admit(&mut leader, at(i32::MAX), 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, at(0), 1), appended(2, 3));

    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(i32::MAX - 1), 4), appended(0, 4), "a batch can wrap inside");
    assert_eq!(admit(&mut leader, at(i32::MAX - 1), 4), duplicate(0, 4));
    assert_eq!(admit(&mut leader, at(2), 1), appended(4, 5));
}

#[test]
fn the_last_five_batches_are_known_again() {
    let mut leader = leader_at(0);
    for sequence in 0..6 {
        assert!(admit(&mut leader, at(sequence), 1).is_ok());
    }
    for sequence in 1..6 {
        assert_eq!(admit(&mut leader, at(sequence), 1), duplicate(sequence.into(), i64::from(sequence) + 1));
    }
    assert_eq!(admit(&mut leader, at(0), 1), Err(ErrorCode::OutOfOrderSequenceNumber), "the sixth is forgotten");
    assert_eq!(leader.log_end(), 6);
}

/// What stands for a key is written once and never again: without a limit a partition would remember all of them for a day.
#[test]
fn only_the_newest_keys_of_a_partition_are_known_again() {
    let key = |index: usize| From { producer: KEYED_PRODUCER_ID_FIRST + index as i64, epoch: 0, sequence: 77 };
    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(0), 1), appended(0, 1));
    for index in 0..=KEYED_PRODUCERS_MAX {
        assert!(admit(&mut leader, key(index), 1).is_ok());
    }
    let end = leader.log_end();
    assert_eq!(admit(&mut leader, key(1), 1), duplicate(2, 3), "the oldest that is remembered");
    assert_eq!(admit(&mut leader, key(KEYED_PRODUCERS_MAX), 1), duplicate(end - 1, end));
    assert_eq!(admit(&mut leader, at(0), 1), duplicate(0, 1), "a client's producer is no key");
    assert_eq!(admit(&mut leader, key(0), 1), appended(end, end + 1), "forgotten");
}

#[test]
fn a_duplicate_is_the_whole_batch_or_none() {
    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(0), 3), appended(0, 3));
    assert_eq!(admit(&mut leader, at(0), 2), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, at(1), 2), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, at(0), 3), duplicate(0, 3));
}

#[test]
fn a_duplicate_in_flight_is_a_duplicate() {
    let mut leader = leader_at(0);
    assert_eq!(admit(&mut leader, at(0), 1), appended(0, 1));
    assert_eq!(admit(&mut leader, at(1), 1), appended(1, 2));
    assert_eq!(leader.flushed_end(), 0, "nothing is on the disk yet");
    assert_eq!(admit(&mut leader, at(0), 1), duplicate(0, 1));
    assert_eq!(admit(&mut leader, at(1), 1), duplicate(1, 2));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    let mut leader = leader_at(0);
    let epoch = |epoch, sequence| From { producer: 9, epoch, sequence };
    assert_eq!(admit(&mut leader, epoch(3, 40), 2), appended(0, 2));
    assert_eq!(admit(&mut leader, epoch(4, 42), 1), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, epoch(4, 0), 1), appended(2, 3));
    assert_eq!(admit(&mut leader, epoch(3, 42), 1), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(admit(&mut leader, epoch(3, 40), 2), Err(ErrorCode::InvalidProducerEpoch), "even a duplicate");
    assert_eq!(admit(&mut leader, epoch(4, 1), 1), appended(3, 4));
}

#[test]
fn producers_do_not_know_one_another() {
    let mut leader = leader_at(0);
    let of = |producer, sequence| From { producer, epoch: 0, sequence };
    assert_eq!(admit(&mut leader, of(1, 0), 1), appended(0, 1));
    assert_eq!(admit(&mut leader, of(2, 0), 1), appended(1, 2));
    assert_eq!(admit(&mut leader, of(1, 1), 1), appended(2, 3));
    assert_eq!(leader.producer_count(), 2);
}

#[test]
fn a_duplicate_is_answered_with_the_time_of_the_first() {
    let config = topic_config(&[("message.timestamp.type", "LogAppendTime")]);
    let mut leader = leader_at(0);
    let header = BatchHeader { base_timestamp: 5, max_timestamp: 5, ..idempotent(at(0), 1) };
    assert!(leader.admit(&header, &context(&config)).is_ok());
    let later = capek_state::partition::AdmitContext { now_ms: NOW_MS + 900, ..context(&config) };
    let again = leader.admit(&header, &later);
    assert_eq!(again, Ok(Admitted::Duplicate { base_offset: 0, end_offset: 1, log_append_time_ms: NOW_MS }));
}

#[test]
fn a_producer_found_in_the_log_goes_on_where_it_was() {
    let of = |first_sequence: i32, last_offset| ProducerBatch {
        producer_id: 9,
        epoch: 3,
        first_sequence,
        last_sequence: first_sequence + 1,
        last_offset,
        offset_delta: 1,
        timestamp_ms: NOW_MS,
    };
    let recovered: Vec<ProducerBatch> = (0..7).map(|index| of(index * 2, i64::from(index) * 2 + 1)).collect();
    let mut leader = leader_with(14, recovered.clone());
    assert_eq!(admit(&mut leader, at(2), 2), Err(ErrorCode::OutOfOrderSequenceNumber));
    assert_eq!(admit(&mut leader, at(4), 2), duplicate(4, 6), "five are remembered");
    assert_eq!(leader.producers().collect::<Vec<_>>(), recovered[6..]);
    assert_eq!(admit(&mut leader, at(14), 1), appended(14, 15));
}

#[test]
fn a_newer_epoch_in_the_log_replaces_the_older() {
    let of = |epoch, first_sequence, last_offset| ProducerBatch {
        producer_id: 9,
        epoch,
        first_sequence,
        last_sequence: first_sequence,
        last_offset,
        offset_delta: 0,
        timestamp_ms: NOW_MS,
    };
    let mut leader = leader_with(3, vec![of(2, 50, 0), of(2, 51, 1), of(3, 0, 2)]);
    let older = From { producer: 9, epoch: 2, sequence: 51 };
    assert_eq!(admit(&mut leader, older, 1), Err(ErrorCode::InvalidProducerEpoch));
    assert_eq!(admit(&mut leader, at(1), 1), appended(3, 4));
}

#[test]
fn an_idle_producer_is_forgotten_after_a_day() {
    let mut leader = leader_at(0);
    assert!(admit(&mut leader, at(5), 1).is_ok());
    leader.expire_producers(NOW_MS + DAY_MS - 1);
    assert_eq!(leader.producer_count(), 1);
    leader.expire_producers(NOW_MS + DAY_MS);
    assert_eq!(leader.producer_count(), 0);
    assert_eq!(admit(&mut leader, at(500), 1), appended(1, 2), "as if it were new");
}

#[test]
fn expiration_is_configurable() {
    let mut leader = leader_at(0);
    leader.set_producer_expiration_ms(1000);
    assert!(admit(&mut leader, at(5), 1).is_ok());
    leader.expire_producers(NOW_MS + 1000);
    assert_eq!(leader.producer_count(), 0);
}

#[test]
fn a_producer_of_old_records_is_not_forgotten_while_it_writes() {
    let config = TopicConfig::default();
    let mut leader = leader_at(0);
    let old = BatchHeader { base_timestamp: 5, max_timestamp: 5, ..idempotent(at(0), 1) };
    assert!(leader.admit(&old, &context(&config)).is_ok());
    leader.expire_producers(NOW_MS + HOUR_MS);
    assert_eq!(leader.producer_count(), 1);
}

#[test]
fn a_recovered_producer_has_an_hour_to_come_back() {
    let batch = ProducerBatch {
        producer_id: 9,
        epoch: 3,
        first_sequence: 0,
        last_sequence: 0,
        last_offset: 0,
        offset_delta: 0,
        timestamp_ms: 5,
    };
    let mut leader = leader_with(1, vec![batch]);
    leader.expire_producers(NOW_MS);
    leader.expire_producers(NOW_MS + HOUR_MS - 1);
    assert_eq!(leader.producer_count(), 1);
    leader.expire_producers(NOW_MS + HOUR_MS);
    assert_eq!(leader.producer_count(), 0);
}

/// The rules once more, written as a search through everything that was ever appended.
#[derive(Default)]
struct NaiveLog {
    appended: Vec<(From, i32)>,
}

impl NaiveLog {
    fn admit(&mut self, from: From, record_count: i32) -> Result<(i64, bool), ErrorCode> {
        let own = self.appended.iter().enumerate().filter(|(_, (other, _))| other.producer == from.producer);
        let newest_epoch = own.clone().map(|(_, (other, _))| other.epoch).max();
        if newest_epoch.is_some_and(|epoch| from.epoch < epoch) {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let same_life = own.filter(|(_, (other, _))| other.epoch == from.epoch);
        let remembered = same_life.clone().rev().take(PRODUCER_BATCHES_MAX);
        for (index, (other, count)) in remembered {
            if other.sequence == from.sequence && *count == record_count {
                return Ok((self.offset_of(index), true));
            }
        }
        let expected = match same_life.clone().next_back() {
            Some((_, (other, count))) => Some(((i64::from(other.sequence) + i64::from(*count)) % (1 << 31)) as i32),
            None => newest_epoch.map(|_| 0),
        };
        if expected.is_some_and(|expected| expected != from.sequence) {
            return Err(ErrorCode::OutOfOrderSequenceNumber);
        }
        self.appended.push((from, record_count));
        Ok((self.offset_of(self.appended.len() - 1), false))
    }

    fn offset_of(&self, index: usize) -> i64 {
        self.appended[..index].iter().map(|(_, count)| i64::from(*count)).sum()
    }
}

proptest! {
    #[test]
    fn the_rules_agree_with_a_search_through_the_whole_log(
        start in prop_oneof![Just(0), (i32::MAX - 8)..=i32::MAX],
        steps in prop::collection::vec((0i64..2, 0i16..3, -4i32..7, 1i32..4), 1..60),
    ) {
        let mut leader = leader_at(0);
        let mut naive = NaiveLog::default();
        let mut next = [start; 2];
        for (producer, epoch, jump, record_count) in steps {
            // Near the next sequence, so that duplicates, gaps and the right one all happen.
            let near = i64::from(next[producer as usize]) + i64::from(jump.min(0)) + i64::from(jump.max(5) - 5);
            let from = From { producer, epoch, sequence: near.rem_euclid(1 << 31) as i32 };
            let result = admit(&mut leader, from, record_count);
            let expected = naive.admit(from, record_count);
            let end = |base: i64| base + i64::from(record_count);
            match expected {
                Ok((base, true)) => prop_assert_eq!(result, duplicate(base, end(base))),
                Ok((base, false)) => {
                    prop_assert_eq!(result, appended(base, end(base)));
                    next[producer as usize] = ((i64::from(from.sequence) + i64::from(record_count)) % (1 << 31)) as i32;
                }
                Err(code) => prop_assert_eq!(result, Err(code)),
            }
        }
    }

    /// A client with five requests in flight over a network that loses answers and repeats requests.
    #[test]
    fn every_record_is_stored_once_and_in_order(
        first_sequence in prop_oneof![Just(0), (i32::MAX - 30)..=i32::MAX],
        faults in prop::collection::vec(0u8..10, 200),
    ) {
        let mut leader = leader_at(0);
        let mut stored = Vec::new();
        let batches: Vec<From> = (0..40i64)
            .map(|index| at(((i64::from(first_sequence) + 2 * index) % (1 << 31)) as i32))
            .collect();
        let mut unanswered = 0usize;
        let mut faults = faults.into_iter();
        while unanswered < batches.len() {
            let window = &batches[unanswered..batches.len().min(unanswered + PRODUCER_BATCHES_MAX)];
            let mut answered = 0;
            for (place, from) in window.iter().enumerate() {
                let fault = faults.next().unwrap_or(9);
                if fault == 0 {
                    break; // The connection breaks before this one arrives: all that follow are lost too.
                }
                for _ in 0..if fault == 1 { 2 } else { 1 } {
                    match admit(&mut leader, *from, 2) {
                        Ok(Admitted::Append { base_offset, .. }) => stored.push((base_offset, *from)),
                        Ok(Admitted::Duplicate { base_offset, .. }) => {
                            prop_assert!(stored.contains(&(base_offset, *from)), "not the offset of the first time");
                        }
                        Err(code) => prop_assert!(false, "{:?} refused with {}", from, code),
                    }
                }
                // Answers come in order; a lost one loses those behind it.
                if fault != 2 && answered == place {
                    answered = place + 1;
                }
            }
            unanswered += answered;
        }
        let expected: Vec<(i64, From)> = batches.iter().enumerate().map(|(index, from)| (2 * index as i64, *from)).collect();
        prop_assert_eq!(stored, expected);
    }
}
