//! The records of `__consumer_offsets`: bytes from a real Kafka 4.3, there and back.

use bytes::Bytes;
use capek_state::group::{CommittedOffset, GroupMember, GroupMetadata, Record};
use capek_wire::codec::Str;
use capek_wire::ids::Uuid;

const TOPIC_ID: &str = "28e0cd58957b40a6af7f6e2df82b264d";
const MEMBER_ID: &str = "raw-78a5d1e7-3f5f-48ff-8a24-66963c4b1f74";

fn bytes(hex: &str) -> Bytes {
    let digits: Vec<char> = hex.chars().filter(|digit| !digit.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn text(text: &str) -> Str {
    Str::from(text)
}

/// What Kafka wrote reads as `record`, and `record` is written as Kafka wrote it.
fn check(key: &str, value: Option<&str>, record: Record) {
    let (key, value) = (bytes(key), value.map(bytes));
    assert_eq!(Record::decode(key.clone(), value.clone()), Ok(Some(record.clone())));
    assert_eq!(record.encode(), Ok((key, value)));
}

#[test]
fn a_committed_offset_is_kafkas_byte_for_byte() {
    let topic_id = Uuid(bytes(TOPIC_ID).as_ref().try_into().unwrap());
    check(
        "0001 0002 6773 0001 74 00000001",
        Some(&format!("0004 0000000000000005 ffffffff 0278 000001a21372723d 01 00 10 {TOPIC_ID}")),
        Record::OffsetCommit {
            group: text("gs"),
            topic: text("t"),
            partition: 1,
            value: Some(CommittedOffset {
                offset: 5,
                leader_epoch: -1,
                metadata: text("x"),
                commit_timestamp_ms: 0x01a2_1372_723d,
                expire_timestamp_ms: None,
                topic_id,
            }),
        },
    );
}

#[test]
fn an_offset_with_a_lifetime_of_its_own_is_kafkas_byte_for_byte() {
    check(
        "0001 0002 6773 0001 74 00000002",
        Some("0001 0000000000000005 0001 78 000001a213727248 000001a213735ca8"),
        Record::OffsetCommit {
            group: text("gs"),
            topic: text("t"),
            partition: 2,
            value: Some(CommittedOffset {
                offset: 5,
                leader_epoch: -1,
                metadata: text("x"),
                commit_timestamp_ms: 0x01a2_1372_7248,
                expire_timestamp_ms: Some(0x01a2_1373_5ca8),
                topic_id: Uuid::ZERO,
            }),
        },
    );
}

#[test]
fn a_group_with_a_member_is_kafkas_byte_for_byte() {
    let member_hex: String = MEMBER_ID.bytes().map(|byte| format!("{byte:02x}")).collect();
    check(
        "0002 0002 6778",
        Some(&format!(
            "0003 0008 636f6e73756d6572 00000001 0005 72616e6765 0028 {member_hex} 000001a213727181 00000001 \
             0028 {member_hex} ffff 0003 726177 000a 2f3132372e302e302e31 0000ea60 00002710 \
             00000004 00004142 00000003 415347"
        )),
        Record::GroupMetadata {
            group: text("gx"),
            value: Some(GroupMetadata {
                protocol_type: text("consumer"),
                generation: 1,
                protocol: Some(text("range")),
                leader: Some(text(MEMBER_ID)),
                state_timestamp_ms: Some(0x01a2_1372_7181),
                members: vec![GroupMember {
                    member_id: text(MEMBER_ID),
                    instance_id: None,
                    client_id: text("raw"),
                    client_host: text("/127.0.0.1"),
                    rebalance_timeout_ms: 60_000,
                    session_timeout_ms: 10_000,
                    subscription: Bytes::from_static(b"\0\0AB"),
                    assignment: Bytes::from_static(b"ASG"),
                }],
            }),
        },
    );
}

#[test]
fn an_empty_group_is_kafkas_byte_for_byte() {
    let empty = GroupMetadata {
        protocol_type: text("consumer"),
        generation: 2,
        state_timestamp_ms: Some(0x01a2_1372_728e),
        ..GroupMetadata::default()
    };
    let value = "0003 0008 636f6e73756d6572 00000002 ffff ffff 000001a21372728e 00000000";
    check("0002 0002 6778", Some(value), Record::GroupMetadata { group: text("gx"), value: Some(empty) });
}

#[test]
fn tombstones_are_kafkas_byte_for_byte() {
    let offset = Record::OffsetCommit { group: text(""), topic: text("t"), partition: 1, value: None };
    check("0001 0000 0001 74 00000001", None, offset);
    check("0002 0000", None, Record::GroupMetadata { group: text(""), value: None });
}

/// Of Kafka before 0.11, and of every later one that added fields.
#[test]
fn older_versions_are_read() {
    let offset = |leader_epoch, expire_timestamp_ms| CommittedOffset {
        offset: 7,
        leader_epoch,
        metadata: text("m"),
        commit_timestamp_ms: 1000,
        expire_timestamp_ms,
        topic_id: Uuid::ZERO,
    };
    let cases = [
        ("0000 0000000000000007 0001 6d 00000000000003e8", offset(-1, None)),
        ("0001 0000000000000007 0001 6d 00000000000003e8 00000000000007d0", offset(-1, Some(2000))),
        ("0001 0000000000000007 0001 6d 00000000000003e8 ffffffffffffffff", offset(-1, None)),
        ("0002 0000000000000007 0001 6d 00000000000003e8", offset(-1, None)),
        ("0003 0000000000000007 00000009 0001 6d 00000000000003e8", offset(9, None)),
        ("0004 0000000000000007 00000009 02 6d 00000000000003e8 00", offset(9, None)),
    ];
    for key_version in ["0000", "0001"] {
        for (value, committed) in &cases {
            let key = bytes(&format!("{key_version} 0001 67 0001 74 00000003"));
            let record = Record::decode(key, Some(bytes(value))).unwrap().unwrap();
            let value = Some(committed.clone());
            assert_eq!(record, Record::OffsetCommit { group: text("g"), topic: text("t"), partition: 3, value });
        }
    }
    // A group of version 0: one timeout for both, no timestamp.
    let value = "0000 0001 63 00000004 0001 70 0001 6d 00000001 0001 6d 0001 63 0001 68 00000bb8 00000000 00000001 61";
    let Some(Record::GroupMetadata { value: Some(group), .. }) =
        Record::decode(bytes("0002 0001 67"), Some(bytes(value))).unwrap()
    else {
        panic!("it is a group with a value");
    };
    assert_eq!((group.generation, group.state_timestamp_ms), (4, None));
    assert_eq!((group.members[0].rebalance_timeout_ms, group.members[0].session_timeout_ms), (3000, 3000));
}

/// Records of other kinds of groups may stand in the same log: share and streams groups for instance.
#[test]
fn a_record_of_an_unknown_kind_is_passed_over() {
    for version in [9, 15, 17, 99, i16::MAX] {
        let key: Bytes = [&version.to_be_bytes()[..], b"whatever"].concat().into();
        assert_eq!(Record::decode(key, Some(Bytes::from_static(b"x"))), Ok(None));
    }
}

#[test]
fn a_corrupt_record_is_an_error_that_names_what_is_wrong() {
    let problem = |key: &str, value: Option<&str>| {
        Record::decode(bytes(key), value.map(bytes)).expect_err("it is damaged").to_string()
    };
    assert_eq!(
        problem("00", None),
        "the key's version of a group record cannot be read: 1 more bytes expected at byte 0"
    );
    assert!(problem("0001 0005 67", None).contains("key of an offset"));
    assert!(problem("0001 0001 67 0001 74 00000001", Some("0003 00")).contains("value of an offset"));
    assert!(problem("0001 0001 67 0001 74 00000001", Some("0009 00")).contains("no version 9"));
    assert!(problem("0002 0001 67", Some("0003 0001 63 00000001")).contains("value of a group"));
}

/// Cut off anywhere it is an error, never a panic.
#[test]
fn a_record_cut_off_anywhere_is_refused() {
    let value = bytes(
        "0003 0001 63 00000004 ffff ffff 0000000000000000 00000001 0001 6d ffff 0001 63 0001 68 00000bb8 00000bb8 00000000 00000001 61",
    );
    let key = bytes("0002 0001 67");
    assert!(Record::decode(key.clone(), Some(value.clone())).is_ok());
    for length in 0..value.len() {
        assert!(Record::decode(key.clone(), Some(value.slice(..length))).is_err(), "cut off at {length}");
    }
    for length in 0..key.len() {
        assert!(Record::decode(key.slice(..length), None).is_err(), "key cut off at {length}");
    }
}
