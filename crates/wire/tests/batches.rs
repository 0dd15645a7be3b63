//! Record batches against bytes made by hand, what is refused, and what a broker writes in place.

use bytes::{Bytes, BytesMut};
use capek_wire::batch::{self, BatchBuilder, BatchError, BatchHeader, Codec, HEADER_BYTES, Record, RecordHeader};
use capek_wire::{ErrorCode, testing::Sampler};
use proptest::prelude::*;

const LIMIT: usize = 1 << 20;

/// Two records, the second with a null key and two headers of one name.
fn builder(codec: Codec) -> BatchBuilder {
    let mut builder = BatchBuilder::new(codec);
    builder.push(1000, Some(b"k"), Some(b"v"), &[]);
    builder.push(1005, None, Some(b""), &[(b"h", Some(b"1")), (b"h", None)]);
    builder
}

fn batch(codec: Codec) -> BytesMut {
    builder(codec).build().unwrap()
}

#[test]
fn a_batch_has_kafkas_bytes() {
    let bytes = batch(Codec::None);
    // Lengths are zigzag: 16 says 8 bytes, 1 says null.
    let first = [16, 0, 0, 0, 2, b'k', 2, b'v', 0];
    let second = [26, 0, 10, 2, 1, 0, 4, 2, b'h', 2, b'1', 2, b'h', 1];
    assert_eq!(bytes[HEADER_BYTES..], [&first[..], &second[..]].concat());
    assert_eq!(bytes[..8], [0; 8], "base offset");
    assert_eq!(bytes[8..12], (49 + 9 + 14i32).to_be_bytes());
    assert_eq!(bytes[12..17], [0xff, 0xff, 0xff, 0xff, 2], "leader epoch and magic");
    assert_eq!(bytes[21..27], [0, 0, 0, 0, 0, 1], "attributes and last offset delta");
    assert_eq!((&bytes[27..35], &bytes[35..43]), (&1000i64.to_be_bytes()[..], &1005i64.to_be_bytes()[..]));
    assert_eq!(bytes[43..57], [0xff; 14], "no producer");
    assert_eq!(bytes[57..61], [0, 0, 0, 2]);
}

#[test]
fn records_come_back_from_every_codec() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut bytes = batch(codec);
        batch::patch(&mut bytes, 40, 7);
        let header = batch::check(&bytes).unwrap();
        assert_eq!((header.base_offset, header.leader_epoch, header.codec()), (40, 7, Ok(codec)));
        assert_eq!((header.last_offset(), header.next_offset(), header.size_bytes()), (41, 42, bytes.len()));
        let records: Result<Vec<_>, _> = batch::records(bytes.freeze(), LIMIT).unwrap().collect();
        let header = |value: Option<&'static [u8]>| RecordHeader {
            key: Bytes::from_static(b"h"),
            value: value.map(Bytes::from_static),
        };
        let first =
            Record { offset: 40, timestamp: 1000, key: Some("k".into()), value: Some("v".into()), headers: vec![] };
        let headers = vec![header(Some(b"1")), header(None)];
        let second = Record { offset: 41, timestamp: 1005, key: None, value: Some(Bytes::new()), headers };
        assert_eq!(records, Ok(vec![first, second]), "{codec}");
    }
}

#[test]
fn what_a_broker_patches_is_outside_of_the_checksum() {
    let mut bytes = batch(Codec::None);
    let before = batch::check(&bytes).unwrap();
    batch::patch(&mut bytes, i64::MAX - 5, i32::MAX);
    assert_eq!(batch::check(&bytes).map(|header| header.crc), Ok(before.crc));
    for position in (HEADER_BYTES - 40..bytes.len()).step_by(3) {
        let mut damaged = bytes.clone();
        damaged[position] ^= 4;
        assert!(matches!(batch::check(&damaged), Err(BatchError::Crc { .. })), "byte {position}");
    }
}

#[test]
fn log_append_time_is_the_time_of_every_record() {
    let mut bytes = batch(Codec::Lz4);
    batch::set_log_append_time(&mut bytes, 77_000);
    let header = batch::check(&bytes).unwrap();
    assert!(header.is_log_append_time() && header.max_timestamp == 77_000 && header.base_timestamp == 1000);
    assert_eq!(header.codec(), Ok(Codec::Lz4));
    assert!(batch::records(bytes.freeze(), LIMIT).unwrap().all(|record| record.unwrap().timestamp == 77_000));
}

#[test]
fn exactly_one_whole_batch_passes_the_check() {
    let one = batch(Codec::None);
    for length in 0..one.len() {
        assert!(matches!(batch::check(&one[..length]), Err(BatchError::Truncated { .. })), "{length} bytes");
    }
    let two = [&one[..], &one[..]].concat();
    assert_eq!(batch::check(&two), Err(BatchError::Trailing(one.len())));
    assert_eq!(batch::check(&two).unwrap_err().error_code(), ErrorCode::InvalidRecord);
    let mut short = one.clone();
    short[8..12].copy_from_slice(&48i32.to_be_bytes());
    assert_eq!(batch::check(&short), Err(BatchError::Length(48)));
    short[8..12].copy_from_slice(&i32::MIN.to_be_bytes());
    assert_eq!(batch::check(&short), Err(BatchError::Length(i32::MIN.into())));
    let mut long = one.clone();
    long[8..12].copy_from_slice(&i32::MAX.to_be_bytes());
    assert!(matches!(batch::check(&long), Err(BatchError::Truncated { .. })));
    let mut old = one.clone();
    old[16] = 1;
    assert_eq!(batch::check(&old[..40]), Err(BatchError::Magic(1)));
    assert_eq!(BatchError::Magic(1).error_code(), ErrorCode::InvalidRecord);
}

#[test]
fn batches_are_found_one_after_the_other() {
    let (one, other) = (batch(Codec::None), batch(Codec::Zstd));
    let bytes = [&one[..], &other[..], &one[..one.len() - 1]].concat();
    let mut found = batch::batches(&bytes);
    let positions: Vec<_> = found.by_ref().map(|batch| batch.unwrap().0).collect();
    assert_eq!(positions, [0, one.len()], "the last one is not whole");
    assert_eq!(found.position(), one.len() + other.len());

    let mut damaged = [&one[..], &other[..]].concat();
    damaged[one.len() + 16] = 9;
    let all: Vec<_> = batch::batches(&damaged).map(|batch| batch.map(|found| found.0)).collect();
    assert_eq!(all, [Ok(0), Err(BatchError::Magic(9))], "and nothing after an error");
}

#[test]
fn sequences_wrap() {
    let mut header = BatchHeader::parse(&batch(Codec::None)).unwrap();
    assert_eq!(header.last_sequence(), -1, "without a producer");
    (header.base_sequence, header.last_offset_delta) = (i32::MAX, 0);
    assert_eq!(header.last_sequence(), i32::MAX);
    header.last_offset_delta = 1;
    assert_eq!(header.last_sequence(), 0);
    (header.base_sequence, header.last_offset_delta) = (i32::MAX - 1, 5);
    assert_eq!(header.last_sequence(), 3);
}

#[test]
fn flags_and_producers_are_in_the_header() {
    let mut builder = builder(Codec::Snappy);
    builder.producer(9, 3, 100);
    builder.transactional();
    assert!(builder.size_estimate_bytes() == HEADER_BYTES + 23 && builder.len() == 2);
    let header = batch::check(&builder.build().unwrap()).unwrap();
    assert!(header.is_transactional() && !header.is_control());
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (9, 3, 100));
    assert_eq!(header.last_sequence(), 101);
    assert_eq!(BatchBuilder::new(Codec::None).build(), Err(BatchError::Empty));
}

/// Reads the records of a batch whose bytes from the header on, or whose count, were changed.
fn problem(records: &[u8], count: i32) -> Option<BatchError> {
    let mut bytes = batch(Codec::None);
    bytes.truncate(HEADER_BYTES);
    bytes.extend_from_slice(records);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    batch::records(bytes.freeze(), LIMIT).unwrap().find_map(Result::err)
}

#[test]
fn damaged_records_are_an_error() {
    let sound = [14, 0, 0, 0, 2, b'k', 2, b'v', 0];
    let record = [&[16][..], &sound[1..]].concat();
    assert_eq!(problem(&record, 1), None);
    let cases: [(&str, &[u8], i32); 10] = [
        ("fewer than counted", &record, 2),
        ("more than counted", &record, 0),
        ("negative count", &record, -1),
        ("shorter than it says", &[18, 0, 0, 0, 2, b'k', 2, b'v', 0, 0], 1),
        ("longer than it says", &sound, 1),
        ("longer than the batch", &[100, 0, 0, 0, 1, 1, 0], 1),
        ("negative length", &[1, 0, 0, 0, 1, 1, 0], 1),
        ("key beyond the end", &[12, 0, 0, 0, 100, 1, 0], 1),
        ("key of length -2", &[12, 0, 0, 0, 3, 1, 0], 1),
        ("headers beyond the end", &[12, 0, 0, 0, 1, 1, 120], 1),
    ];
    for (name, bytes, count) in cases {
        assert!(
            matches!(problem(bytes, count), Some(BatchError::Record { .. })),
            "{name}: {:?}",
            problem(bytes, count)
        );
    }
}

#[test]
fn a_batch_that_inflates_beyond_the_limit_is_refused() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let mut builder = BatchBuilder::new(codec);
        builder.push(0, None, Some(&vec![0; LIMIT]), &[]);
        let bytes = builder.build().unwrap().freeze();
        assert_eq!(batch::records(bytes.clone(), LIMIT).err(), Some(BatchError::Inflated(LIMIT)), "{codec}");
        assert_eq!(batch::records(bytes, 2 * LIMIT).unwrap().count(), 1);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_records_come_back(seed in any::<u64>()) {
        let mut s = Sampler::new(seed);
        let codec = Codec::from_code(s.below(5) as i16).unwrap();
        let records: Vec<Record> = (0..1 + s.below(30) as i64)
            .map(|offset| Record {
                offset,
                timestamp: s.i64(),
                key: s.nullable(true, Sampler::bytes),
                value: s.nullable(true, Sampler::bytes),
                headers: s.array(|s| RecordHeader { key: s.str().into_bytes(), value: s.nullable(true, Sampler::bytes) }),
            })
            .collect();
        let mut builder = BatchBuilder::new(codec);
        for record in &records {
            let headers: Vec<_> = record.headers.iter().map(|one| (&one.key[..], one.value.as_deref())).collect();
            builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
        }
        let bytes = builder.build().unwrap();
        prop_assert!(batch::check(&bytes).is_ok());
        let read: Result<Vec<Record>, _> = batch::records(bytes.freeze(), LIMIT).unwrap().collect();
        prop_assert_eq!(read, Ok(records));
    }
}
