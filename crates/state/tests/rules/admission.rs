//! What may enter a log, and in which order the reasons not to are looked for.

use capek_state::config::TopicConfig;
use capek_state::partition::{
    AdmitContext, Admitted, RecordError, check_before_checksum, check_bytes, check_keys, timestamp_errors,
};
use capek_wire::ErrorCode;
use capek_wire::batch::{BatchBuilder, BatchHeader, Codec};

use crate::fixtures::{From, NOW_MS, batch, context, idempotent, leader_at, topic_config};

const ZSTD: i16 = 4;
const UNKNOWN_CODEC: i16 = 5;
const TRANSACTIONAL: i16 = 1 << 4;
const CONTROL: i16 = 1 << 5;

fn code_of(header: &BatchHeader, context: &AdmitContext<'_>) -> ErrorCode {
    let mut leader = leader_at(10);
    let before = leader.clone();
    let refusal = leader.admit(header, context).expect_err("it should have been refused");
    assert_eq!(leader, before, "a refusal changes nothing");
    refusal.code
}

fn check(header: BatchHeader, expected: ErrorCode) {
    let config = TopicConfig::default();
    assert_eq!(code_of(&header, &context(&config)), expected, "{header:?}");
}

#[test]
fn a_batch_gets_the_offsets_behind_the_log_end() {
    let config = TopicConfig::default();
    let mut leader = leader_at(10);
    let admitted = leader.admit(&batch(3), &context(&config));
    assert_eq!(admitted, Ok(Admitted::Append { base_offset: 10, end_offset: 13 }));
    let admitted = leader.admit(&batch(1), &context(&config));
    assert_eq!(admitted, Ok(Admitted::Append { base_offset: 13, end_offset: 14 }));
    assert_eq!(leader.log_end(), 14);
}

#[test]
fn malformed_headers_are_invalid_records() {
    check(BatchHeader { base_offset: 1, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { magic: 0, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { magic: 1, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { magic: 3, ..batch(1) }, ErrorCode::CorruptMessage);
    check(BatchHeader { attributes: UNKNOWN_CODEC, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { attributes: CONTROL, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { record_count: 0, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { record_count: -1, last_offset_delta: -2, ..batch(1) }, ErrorCode::InvalidRecord);
    check(BatchHeader { record_count: 2, ..batch(3) }, ErrorCode::InvalidRecord);
    check(BatchHeader { last_offset_delta: i32::MAX, ..batch(3) }, ErrorCode::InvalidRecord);
    check(BatchHeader { last_offset_delta: i32::MIN, ..batch(3) }, ErrorCode::InvalidRecord);
    check(
        BatchHeader { base_sequence: -1, ..idempotent(From { producer: 1, epoch: 0, sequence: 0 }, 1) },
        ErrorCode::InvalidRecord,
    );
}

#[test]
fn transactions_are_refused_for_good() {
    let header = idempotent(From { producer: 1, epoch: 0, sequence: 0 }, 1);
    check(BatchHeader { attributes: TRANSACTIONAL, ..header }, ErrorCode::TransactionalIdAuthorizationFailed);
    let also_wrong = BatchHeader { attributes: TRANSACTIONAL | CONTROL, base_offset: 3, magic: 1, ..header };
    check(also_wrong, ErrorCode::TransactionalIdAuthorizationFailed);
}

#[test]
fn zstd_needs_a_request_that_may_carry_it() {
    let config = TopicConfig::default();
    let header = BatchHeader { attributes: ZSTD, ..batch(1) };
    let old = AdmitContext { accepts_zstd: false, ..context(&config) };
    assert_eq!(code_of(&header, &old), ErrorCode::UnsupportedCompressionType);
    assert!(leader_at(0).admit(&header, &context(&config)).is_ok());
    assert!(leader_at(0).admit(&batch(1), &old).is_ok(), "other codecs are not its business");
}

#[test]
fn a_batch_may_be_as_large_as_the_topic_says() {
    let config = topic_config(&[("max.message.bytes", "100")]);
    let exactly = BatchHeader { batch_length: 88, ..batch(1) };
    assert!(leader_at(0).admit(&exactly, &context(&config)).is_ok());
    let above = BatchHeader { batch_length: 89, ..batch(1) };
    assert_eq!(code_of(&above, &context(&config)), ErrorCode::MessageTooLarge);
    let huge = BatchHeader { batch_length: i32::MAX, ..batch(1) };
    assert_eq!(code_of(&huge, &context(&config)), ErrorCode::MessageTooLarge);
}

#[test]
fn a_batch_must_fit_a_segment() {
    let config = topic_config(&[("max.message.bytes", "2000000"), ("segment.bytes", "1048576")]);
    let header = BatchHeader { batch_length: 1_048_576, ..batch(1) };
    assert_eq!(code_of(&header, &context(&config)), ErrorCode::RecordListTooLarge);
}

#[test]
fn the_size_is_judged_before_the_checksum_is_computed() {
    let config = topic_config(&[("max.message.bytes", "100")]);
    let huge = BatchHeader { batch_length: 1000, ..batch(1) };
    assert_eq!(
        check_before_checksum(&huge, &context(&config)).map_err(|refusal| refusal.code),
        Err(ErrorCode::MessageTooLarge)
    );
    let control = BatchHeader { attributes: CONTROL, ..batch(1) };
    assert_eq!(check_before_checksum(&control, &context(&config)), Ok(()), "that is for later");
}

#[test]
fn the_first_reason_in_kafkas_order_is_the_one_that_is_told() {
    let config = topic_config(&[("max.message.bytes", "100")]);
    let all_wrong = BatchHeader { base_offset: 5, magic: 1, batch_length: 1000, attributes: CONTROL, ..batch(1) };
    assert_eq!(code_of(&all_wrong, &context(&config)), ErrorCode::InvalidRecord);
    let large_and_control = BatchHeader { batch_length: 1000, attributes: CONTROL, ..batch(1) };
    assert_eq!(code_of(&large_and_control, &context(&config)), ErrorCode::MessageTooLarge);
    let old = AdmitContext { accepts_zstd: false, ..context(&config) };
    let large_and_zstd = BatchHeader { batch_length: 1000, attributes: ZSTD, ..batch(1) };
    assert_eq!(code_of(&large_and_zstd, &old), ErrorCode::UnsupportedCompressionType);
}

#[test]
fn timestamps_lie_between_the_bounds_of_the_topic() {
    let hour_ms = 3_600_000;
    let config = topic_config(&[("message.timestamp.before.max.ms", "1000")]);
    let admit = |base_timestamp, max_timestamp| {
        let header = BatchHeader { base_timestamp, max_timestamp, ..batch(2) };
        leader_at(0).admit(&header, &context(&config)).map_err(|refusal| refusal.code)
    };
    assert!(admit(NOW_MS - 1000, NOW_MS + hour_ms).is_ok(), "the bounds themselves are inside");
    assert_eq!(admit(NOW_MS - 1001, NOW_MS), Err(ErrorCode::InvalidTimestamp));
    assert_eq!(admit(NOW_MS, NOW_MS + hour_ms + 1), Err(ErrorCode::InvalidTimestamp));
    assert_eq!(admit(NOW_MS + hour_ms + 1, NOW_MS), Err(ErrorCode::InvalidTimestamp), "a header that lies");
    assert!(admit(-1, -1).is_ok(), "no timestamp is no wrong timestamp");
}

#[test]
fn any_past_is_fine_by_default_and_any_time_under_log_append_time() {
    let config = TopicConfig::default();
    let old = BatchHeader { base_timestamp: 0, max_timestamp: 0, ..batch(1) };
    assert!(leader_at(0).admit(&old, &context(&config)).is_ok());
    let config = topic_config(&[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.before.max.ms", "1")]);
    let far = BatchHeader { base_timestamp: 0, max_timestamp: i64::MAX, ..batch(1) };
    assert!(leader_at(0).admit(&far, &context(&config)).is_ok());
}

#[test]
fn one_replica_is_enough_for_itself() {
    let config = topic_config(&[("min.insync.replicas", "3")]);
    let mut leader = leader_at(0);
    assert_eq!(leader.in_sync_count(), 1);
    assert!(leader.admit(&batch(1), &context(&config)).is_ok(), "never more than there are");
}

#[test]
fn min_insync_replicas_is_two_of_three_unless_it_is_set() {
    let config = TopicConfig::default();
    let needed: Vec<i32> = (1..=5).map(|replicas| config.min_insync_replicas_for(replicas)).collect();
    assert_eq!(needed, [1, 1, 2, 2, 2]);
    let config = topic_config(&[("min.insync.replicas", "1")]);
    assert_eq!(config.min_insync_replicas_for(5), 1);
    let config = topic_config(&[("min.insync.replicas", "4")]);
    assert_eq!(config.min_insync_replicas_for(3), 3);
}

fn whole_batch(keys: &[Option<&[u8]>], codec: Codec) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for (key, index) in keys.iter().zip(0..) {
        builder.push(NOW_MS + index, *key, Some(b"value"), &[]);
    }
    builder.build().expect("it is small").to_vec()
}

#[test]
fn a_request_carries_one_whole_batch_with_a_right_checksum() {
    let config = topic_config(&[("max.message.bytes", "2000")]);
    let check = |bytes: &[u8]| check_bytes(bytes, &context(&config)).map_err(|refusal| refusal.code);
    let whole = whole_batch(&[None, None], Codec::None);
    assert_eq!(check(&whole).map(|header| header.record_count), Ok(2));
    for length in 0..whole.len() {
        assert_eq!(check(&whole[..length]), Err(ErrorCode::InvalidRecord), "cut at {length}");
    }
    assert_eq!(check(&[whole.clone(), whole.clone()].concat()), Err(ErrorCode::InvalidRecord));
    let mut damaged = whole.clone();
    *damaged.last_mut().expect("it has bytes") ^= 1;
    assert_eq!(check(&damaged), Err(ErrorCode::CorruptMessage));
    damaged[7] = 5;
    assert_eq!(check(&damaged), Err(ErrorCode::InvalidRecord), "the base offset is looked at first");
    let huge = whole_batch(&[Some(&[7; 3000])], Codec::None);
    let damaged: Vec<u8> = huge[..huge.len() - 1].iter().copied().chain([0]).collect();
    assert_eq!(check(&damaged), Err(ErrorCode::MessageTooLarge), "and so is the size");
}

#[test]
fn a_compacted_topic_wants_keys_and_says_where_they_are_missing() {
    for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
        let check = |keys: &[Option<&[u8]>]| check_keys(whole_batch(keys, codec).into(), 10_000, &"orders-0");
        assert_eq!(check(&[Some(b"a"), Some(b"")]), Ok(()), "an empty key is a key");
        let refused = check(&[Some(b"a"), None, None]).expect_err("two have none");
        let message = "Compacted topic cannot accept message without key in topic partition orders-0".to_owned();
        let errors = [1, 2].map(|batch_index| RecordError { batch_index, message: message.clone() });
        assert_eq!(refused.record_errors, errors);
        assert_eq!(refused.refusal.code, ErrorCode::InvalidRecord);
        let sentence = format!(
            "One or more records have been rejected due to 2 record errors in total, and only showing the first three errors at most: \
             [RecordError(batchIndex=1, message='{message}'), RecordError(batchIndex=2, message='{message}')]"
        );
        assert_eq!(refused.refusal.message.as_deref(), Some(sentence.as_str()));
    }
}

#[test]
fn records_that_cannot_be_read_are_refused_where_they_must_be() {
    let bomb = whole_batch(&[Some(&[0; 5000])], Codec::Gzip);
    let refused = check_keys(bomb.into(), 1000, &"orders-0").expect_err("it inflates beyond the limit");
    assert_eq!((refused.refusal.code, refused.record_errors), (ErrorCode::InvalidRecord, vec![]));
}

#[test]
fn wrong_timestamps_are_told_record_by_record() {
    let config = TopicConfig::default();
    let early = AdmitContext { now_ms: NOW_MS - 3_600_000 + 1, ..context(&config) };
    let errors = timestamp_errors(whole_batch(&[None, None, None], Codec::None).into(), 10_000, &early);
    let message = format!(
        "Timestamp {} of message with offset 2 is out of range. The timestamp should be within [{}, {}]",
        NOW_MS + 2,
        early.now_ms - i64::MAX,
        NOW_MS + 1
    );
    assert_eq!(errors, [RecordError { batch_index: 2, message }]);
}
