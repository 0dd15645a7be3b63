//! What is done to the records of a batch before they are stored, in topics that ask for it.

use bytes::Bytes;
use capek_state::partition::{check_timestamps, convert};
use capek_wire::ErrorCode;
use capek_wire::batch::{BatchBuilder, Codec, check, records};

use crate::fixtures::{NOW_MS, context, topic_config};

const INFLATED_BYTES_MAX: usize = 1 << 20;

fn batch(codec: Codec, timestamps: &[i64]) -> Vec<u8> {
    let mut builder = BatchBuilder::new(codec);
    for timestamp in timestamps {
        builder.push(*timestamp, Some(b"key"), Some(&[b'v'; 2000]), &[]);
    }
    builder.build().expect("a batch").to_vec()
}

fn stored_codec(compression_type: &str, batch: &[u8]) -> Option<Codec> {
    let config = topic_config(&[("compression.type", compression_type)]);
    let header = check(batch).expect("it is sound");
    let converted = convert(&header, batch, INFLATED_BYTES_MAX, &context(&config)).expect("it is taken");
    converted.map(|converted| {
        let read = |bytes: &[u8]| -> Vec<_> {
            records(Bytes::copy_from_slice(bytes), INFLATED_BYTES_MAX).expect("sound").map(Result::unwrap).collect()
        };
        assert_eq!(read(&converted), read(batch));
        check(&converted).expect("it is sound").codec().expect("a codec")
    })
}

#[test]
fn a_batch_is_compressed_anew_only_where_the_topic_has_another_codec() {
    let gzip = batch(Codec::Gzip, &[NOW_MS, NOW_MS + 1]);
    assert_eq!(stored_codec("producer", &gzip), None);
    assert_eq!(stored_codec("gzip", &gzip), None);
    for (name, codec) in
        [("uncompressed", Codec::None), ("snappy", Codec::Snappy), ("lz4", Codec::Lz4), ("zstd", Codec::Zstd)]
    {
        assert_eq!(stored_codec(name, &gzip), Some(codec));
    }
    assert_eq!(stored_codec("zstd", &batch(Codec::None, &[NOW_MS])), Some(Codec::Zstd));
}

#[test]
fn levels_of_the_topic_count() {
    let plain = batch(Codec::None, &[NOW_MS; 20]);
    let size = |settings: &[(&str, &str)]| {
        let config = topic_config(settings);
        let header = check(&plain).expect("it is sound");
        convert(&header, &plain, INFLATED_BYTES_MAX, &context(&config)).expect("taken").expect("converted").len()
    };
    let low = size(&[("compression.type", "gzip"), ("compression.gzip.level", "1")]);
    let high = size(&[("compression.type", "gzip"), ("compression.gzip.level", "9")]);
    assert!(low > high, "{low} and {high} bytes");
    let fast = size(&[("compression.type", "zstd"), ("compression.zstd.level", "-100000")]);
    let usual = size(&[("compression.type", "zstd")]);
    assert!(fast > usual, "{fast} and {usual} bytes");
}

#[test]
fn what_outgrows_the_topic_when_it_is_stored_is_refused() {
    let config = topic_config(&[("compression.type", "uncompressed"), ("max.message.bytes", "5000")]);
    let large = batch(Codec::Zstd, &[NOW_MS; 3]);
    let header = check(&large).expect("it is sound");
    assert!(header.size_bytes() < 5000);
    let refusal = convert(&header, &large, INFLATED_BYTES_MAX, &context(&config)).expect_err("too large");
    assert_eq!(refusal.code, ErrorCode::MessageTooLarge);
}

#[test]
fn records_that_are_not_what_their_batch_says_are_refused() {
    let config = topic_config(&[("compression.type", "zstd")]);
    let sound = batch(Codec::None, &[NOW_MS; 2]);
    let header = check(&sound).expect("it is sound");
    // The offset delta of the second record: behind its length, attributes and timestamp delta.
    let second = sound.len() - (sound.len() - 61) / 2;
    let mut skipping = sound.clone();
    skipping[second + 4] = 8;
    let refusal = convert(&header, &skipping, INFLATED_BYTES_MAX, &context(&config)).expect_err("a gap");
    assert_eq!(refusal.code, ErrorCode::InvalidRecord);
    let mut torn = sound;
    torn[61] = 0x7f;
    let refusal = convert(&header, &torn, INFLATED_BYTES_MAX, &context(&config)).expect_err("torn");
    assert_eq!(refusal.code, ErrorCode::InvalidRecord);
}

#[test]
fn each_record_must_be_young_enough_where_the_topic_says_so() {
    let config = topic_config(&[("message.timestamp.before.max.ms", "1000")]);
    let hidden = Bytes::from(batch(Codec::Lz4, &[NOW_MS, NOW_MS - 1001, NOW_MS - 1000, -1, NOW_MS - 5000]));
    let refused = check_timestamps(hidden.clone(), INFLATED_BYTES_MAX, &context(&config)).expect_err("too old");
    assert_eq!(refused.refusal.code, ErrorCode::InvalidTimestamp);
    let indexes: Vec<_> = refused.record_errors.iter().map(|error| error.batch_index).collect();
    assert_eq!(indexes, [1, 4]);
    let without_bound = topic_config(&[]);
    assert_eq!(check_timestamps(hidden.clone(), INFLATED_BYTES_MAX, &context(&without_bound)), Ok(()));
    let by_the_broker =
        topic_config(&[("message.timestamp.before.max.ms", "1000"), ("message.timestamp.type", "LogAppendTime")]);
    assert_eq!(check_timestamps(hidden, INFLATED_BYTES_MAX, &context(&by_the_broker)), Ok(()));
}
