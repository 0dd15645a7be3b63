//! The records as bytes: those of a real Kafka 4.3, there and back.

use bytes::Bytes;
use capek_state::group::Protocol;
use capek_state::group::consumer::{
    Change, ClassicMetadata, ConsumerRecord, CurrentAssignment, GroupEpoch, MemberMetadata, MemberState, RecordError,
    ResolvedRegex, TargetEpoch, TopicPartition,
};
use capek_wire::Uuid;

fn bytes(hex: &str) -> Bytes {
    let digit = |index: usize| u8::from_str_radix(&hex[index..index + 2], 16).expect("two hex digits");
    (0..hex.len()).step_by(2).map(digit).collect()
}

fn t1(index: i32) -> TopicPartition {
    let id: [u8; 16] = bytes("369969ed46c547cf8637782b6bc48031")[..].try_into().expect("16 bytes");
    (Uuid(id), index)
}

/// Kafka wrote these bytes for this record, and so do we.
#[track_caller]
fn same(key: &str, value: Option<&str>, group_id: &str, change: Change) {
    let record = ConsumerRecord { group_id: group_id.into(), change };
    let (key, value) = (bytes(key), value.map(bytes));
    assert_eq!(ConsumerRecord::decode(key.clone(), value.clone()), Ok(record.clone()));
    assert_eq!(record.encode(), Ok((key, value)));
}

fn probe(topic_names: &[&str]) -> MemberMetadata {
    MemberMetadata {
        client_id: "probe".into(),
        client_host: "/127.0.0.1".into(),
        topic_names: topic_names.iter().map(|name| (*name).into()).collect(),
        rebalance_timeout_ms: 30_000,
        ..Default::default()
    }
}

#[test]
fn group_epochs_are_written_as_kafka_writes_them() {
    let epoch = GroupEpoch { epoch: 2, metadata_hash: 0x112f59d6ac8d3a32 };
    same("00030003726561", Some("000000000002010008112f59d6ac8d3a32"), "rea", Change::GroupEpoch(Some(epoch)));
    let without_topics = GroupEpoch { epoch: 5, metadata_hash: 0 };
    same("000300036f6661", Some("00000000000500"), "ofa", Change::GroupEpoch(Some(without_topics)));
    same("000300036f6661", None, "ofa", Change::GroupEpoch(None));
    same("000400036f6661", None, "ofa", Change::PartitionMetadata { is_deleted: true });
}

#[test]
fn members_are_written_as_kafka_writes_them() {
    let key = "0005000367656d70747900016d".replace("00036765", "00066765");
    let value = "000000000670726f62650b2f3132372e302e302e310101000075300001000100";
    let member = |member_id: &str, metadata| Change::Member { member_id: member_id.into(), metadata: Some(metadata) };
    same(&key, Some(value), "gempty", member("m", probe(&[])));
    let value = "0000036931000670726f62650b2f3132372e302e302e310303743103743201000075300001000100";
    let static_member = MemberMetadata { instance_id: Some("i1".into()), ..probe(&["t1", "t2"]) };
    same("00050003737461000143", Some(value), "sta", member("C", static_member));
    let value = "000000000670726f62650b2f3132372e302e302e310104742e2a000075300001000100";
    let by_regex = MemberMetadata { topic_regex: Some("t.*".into()), ..probe(&[]) };
    same("00050003726561000152", Some(value), "rea", member("R", by_regex));
    let value = "000000000670726f62650b2f3132372e302e302e3102037431010000753000010021010000afc8020672616e6765\
                 1300010000000100027431ffffffff000000000000";
    let protocol = Protocol { name: "range".into(), metadata: bytes("00010000000100027431ffffffff00000000") };
    let classic = ClassicMetadata { session_timeout_ms: 45_000, protocols: vec![protocol] };
    let classic_member = MemberMetadata { classic: Some(classic), ..probe(&["t1"]) };
    same("0005000363616100014b", Some(value), "caa", member("K", classic_member));
    same("0005000363616100014b", None, "caa", Change::Member { member_id: "K".into(), metadata: None });
}

#[test]
fn targets_are_written_as_kafka_writes_them() {
    let epoch = TargetEpoch { epoch: 3, timestamp_ms: 0x1a213721894 };
    same("000600036f6661", Some("000000000003010008000001a213721894"), "ofa", Change::TargetEpoch(Some(epoch)));
    let value = "000002369969ed46c547cf8637782b6bc48031040000000300000004000000050000";
    let target = Some([t1(3), t1(4), t1(5)].into());
    same("000700036f6661000142", Some(value), "ofa", Change::Target { member_id: "B".into(), target });
}

#[test]
fn current_assignments_are_written_as_kafka_writes_them() {
    let value = "000000000002000000020102369969ed46c547cf8637782b6bc480310400000000000000010000000201000d0400000002\
                 000000020000000202369969ed46c547cf8637782b6bc480310400000003000000040000000501000d0400000002000000\
                 020000000200";
    let current = CurrentAssignment {
        epoch: 2,
        previous_epoch: 2,
        state: MemberState::UnrevokedPartitions,
        assigned: [(t1(0), 2), (t1(1), 2), (t1(2), 2)].into(),
        revoking: [(t1(3), 2), (t1(4), 2), (t1(5), 2)].into(),
    };
    let change = Change::Current { member_id: "A".into(), current: Some(current) };
    same("000800036f6661000141", Some(value), "ofa", change);
    let waiting = CurrentAssignment {
        epoch: 3,
        previous_epoch: 0,
        state: MemberState::UnreleasedPartitions,
        assigned: [].into(),
        revoking: [].into(),
    };
    let change = Change::Current { member_id: "B".into(), current: Some(waiting) };
    same("000800036f6661000142", Some("0000000000030000000002010100"), "ofa", change);
}

#[test]
fn a_partition_without_an_assignment_epoch_may_have_been_assigned_in_any() {
    let value = "00000000000200000000000236 9969ed46c547cf8637782b6bc4803102000000070001 00".replace(' ', "");
    let record = ConsumerRecord::decode(bytes("000800036f6661000141"), Some(bytes(&value))).expect("it is good");
    let Change::Current { current: Some(current), .. } = record.change else { panic!("{record:?}") };
    assert_eq!(current.assigned, [(t1(7), 0)].into());
}

#[test]
fn resolved_expressions_are_written_as_kafka_writes_them() {
    let resolved =
        ResolvedRegex { topics: ["t1".into(), "t2".into()].into(), version: 0x11f, timestamp_ms: 0x1a21371fb74 };
    let change = Change::Regex { regex: "t.*".into(), resolved: Some(resolved) };
    same("001000037265610003742e2a", Some("000003037431037432000000000000011f000001a21371fb7400"), "rea", change);
}

#[test]
fn what_is_no_record_is_an_error_that_says_what_is_wrong() {
    let decode = |key: &str, value: &str| ConsumerRecord::decode(bytes(key), Some(bytes(value)));
    assert!(matches!(decode("0003", "0000"), Err(RecordError::Key(_))));
    assert!(matches!(decode("00050001610009", "0000"), Err(RecordError::Key(_))));
    assert!(matches!(decode("0003000161", "00000000"), Err(RecordError::Value { key: 3, .. })));
    assert_eq!(decode("0003000161", "00070000"), Err(RecordError::ValueVersion { key: 3, version: 7 }));
    let value = "0000000000020000000009010100";
    assert_eq!(decode("00080001610001 62".replace(' ', "").as_str(), value), Err(RecordError::MemberState(9)));
}
