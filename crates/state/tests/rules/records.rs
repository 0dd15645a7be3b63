//! Metadata records on the disk: what was written once is read for ever.

use capek_state::cluster::{
    BrokerRecord, ConfigKind, ConfigResource, Endpoint, PartitionRecord, PartitionStateRecord, Record, RecordError,
};
use capek_wire::ids::Uuid;
use proptest::prelude::*;

fn partition_state() -> PartitionStateRecord {
    PartitionStateRecord {
        topic_id: Uuid([3; 16]),
        partition: 7,
        replicas: vec![1, 2, 3],
        isr: vec![2],
        elr: vec![3],
        last_known_elr: vec![1],
        leader: 2,
        leader_epoch: 5,
        partition_epoch: 9,
        adding: vec![3],
        removing: vec![1],
        dirs: vec![Uuid::ZERO],
        offline: vec![3],
    }
}

/// Every record with the bytes that the first release with it wrote. Never change a line: add new ones.
fn golden() -> Vec<(Record, &'static str)> {
    let endpoint =
        Endpoint { name: "EXTERNAL".to_owned(), protocol: "PLAINTEXT".to_owned(), host: "h".to_owned(), port: 9092 };
    let broker = BrokerRecord {
        broker: 1,
        epoch: 300,
        incarnation: Uuid([1; 16]),
        listeners: vec![endpoint],
        rack: Some("r".to_owned()),
        dirs: vec![Uuid([2; 16])],
        fenced: true,
    };
    let partition = PartitionRecord {
        topic_id: Uuid([3; 16]),
        partition: 7,
        replicas: vec![1, 2],
        isr: vec![2],
        leader: 2,
        leader_epoch: 5,
        partition_epoch: 9,
        dirs: vec![Uuid::ZERO],
    };
    let resource = |kind, name: &str| ConfigResource { kind, name: name.to_owned() };
    let changed = |resource, value: Option<&str>| Record::ConfigChanged {
        resource,
        name: "retention.ms".to_owned(),
        value: value.map(str::to_owned),
    };
    vec![
        (Record::ClusterCreated { cluster_id: "abc".to_owned() }, "01010003616263"),
        (
            Record::BrokerRegistered(broker),
            "01010102d80401010101010101010101010101010101010845585445524e414c09504c41494e5445585401688447010172010202020202020202020202020202020201",
        ),
        (Record::BrokerUnregistered { broker: 1, epoch: 300 }, "01010202d804"),
        (Record::BrokerFenced { broker: 2, epoch: 3 }, "0101030406"),
        (Record::BrokerUnfenced { broker: 2, epoch: 3 }, "0101040406"),
        (Record::Topic { topic_id: Uuid([4; 16]), name: "t".to_owned() }, "010105040404040404040404040404040404040174"),
        (
            Record::Partition(partition),
            "010106030303030303030303030303030303030e0202040104040a120100000000000000000000000000000000",
        ),
        (Record::TopicDeleted { topic_id: Uuid([4; 16]) }, "01010704040404040404040404040404040404"),
        (changed(resource(ConfigKind::Topic, "t"), Some("5")), "0101080001740c726574656e74696f6e2e6d73010135"),
        (changed(resource(ConfigKind::Broker, ""), None), "01010801000c726574656e74696f6e2e6d7300"),
        (changed(resource(ConfigKind::Group, "g"), None), "0101080201670c726574656e74696f6e2e6d7300"),
        (changed(resource(ConfigKind::ClientMetrics, "m"), None), "01010803016d0c726574656e74696f6e2e6d7300"),
        (Record::ProducerIdsAllocated { next: 1000 }, "010109d00f"),
        (Record::Feature { name: "f".to_owned(), level: -1 }, "01010a016601"),
        (Record::BrokerInControlledShutdown { broker: 2, epoch: 3 }, "01010b0406"),
        (
            Record::PartitionState(partition_state()),
            "01010c030303030303030303030303030303030e03020406010401060102040a120106010201000000000000000000000000000000000106",
        ),
        (
            Record::TopicGrew { topic_id: Uuid([4; 16]), partitions: 3, at_ms: 5 },
            "02020d04040404040404040404040404040404060a",
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().map(|digit| (digit as char).to_digit(16).expect("hex") as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

#[test]
fn records_are_written_as_the_first_release_wrote_them() {
    for (record, written) in golden() {
        assert_eq!(hex(&record.encode()), written, "{record:?}");
    }
}

#[test]
fn records_of_the_first_release_are_read() {
    for (record, written) in golden() {
        assert_eq!(Record::decode(&bytes(written)), Ok(record), "{written}");
    }
}

#[test]
fn a_later_writer_whose_records_we_understand_is_read() {
    let mut bytes = Record::BrokerFenced { broker: 1, epoch: 2 }.encode();
    bytes[0] = 200;
    assert_eq!(Record::decode(&bytes), Ok(Record::BrokerFenced { broker: 1, epoch: 2 }));
}

#[test]
fn a_record_for_later_readers_is_refused_with_a_way_out() {
    let mut bytes = Record::BrokerFenced { broker: 1, epoch: 2 }.encode();
    bytes[1] = 3;
    let error = Record::decode(&bytes).expect_err("it says that it needs version 3");
    assert_eq!(error, RecordError::TooNew { needed: 3 });
    let sentence = "a metadata record needs a reader of version 3, this is 2: start a newer release";
    assert_eq!(error.to_string(), sentence);
}

#[test]
fn a_record_cut_anywhere_is_no_record() {
    for (record, written) in golden() {
        let whole = bytes(written);
        for length in 0..whole.len() {
            assert!(Record::decode(&whole[..length]).is_err(), "{record:?} cut at {length}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        assert_eq!(Record::decode(&longer), Err(RecordError::Malformed("1 bytes follow the record".to_owned())));
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_an_error_or_a_record(body in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = [&[1, 1], body.as_slice()].concat();
        if let Ok(record) = Record::decode(&bytes) {
            prop_assert_eq!(Record::decode(&record.encode()), Ok(record));
        }
    }
}
