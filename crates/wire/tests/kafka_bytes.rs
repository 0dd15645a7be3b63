//! Responses that a real Kafka 4.3 sent, read and written again to the same bytes, and the batches in them.
//!
//! `data/KEY-vVERSION-NAME.bin` is a response frame without its size; `data/capture/` made them.

use std::path::Path;
use std::{fs, str};

use bytes::{Bytes, BytesMut};
use capek_wire::batch::{self, BatchBuilder};
use capek_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, ApiVisitor, FetchRequest, FetchResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, visit_apis,
};
use capek_wire::{ApiKey, Codec, ErrorCode, Record, Request, frame};

fn data(name: &str) -> Bytes {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(format!("{name}.bin"));
    Bytes::from(fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

/// Reads a frame and writes it again.
struct Echo<'a> {
    name: &'a str,
    key: ApiKey,
    version: i16,
    written: Option<Bytes>,
}

impl ApiVisitor for Echo<'_> {
    fn visit<R: Request>(&mut self) {
        if R::KEY != self.key {
            return;
        }
        let (correlation_id, response) = frame::decode_response::<R>(data(self.name), self.version)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let chunks = frame::encode_response(self.key.code(), self.version, correlation_id, &response)
            .unwrap_or_else(|error| panic!("{}: {error}", self.name));
        let size_prefix = frame::SIZE_BYTES;
        self.written = Some(Bytes::from(chunks.concat()).slice(size_prefix..));
    }
}

#[test]
fn what_kafka_sent_is_written_again_byte_for_byte() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".bin").map(str::to_string))
        .collect();
    names.sort();
    assert!(names.len() > 70, "the captured files are there");
    for name in &names {
        let mut parts = name.split('-');
        let key = ApiKey::from_code(parts.next().unwrap().parse().unwrap()).unwrap();
        let version = parts.next().unwrap().strip_prefix('v').unwrap().parse().unwrap();
        let mut echo = Echo { name, key, version, written: None };
        visit_apis(&mut echo);
        assert_eq!(echo.written, Some(data(name)), "{name}");
    }
}

fn answer<R: Request>(name: &str, version: i16) -> R::Response {
    frame::decode_response::<R>(data(name), version).unwrap().1
}

#[test]
fn kafkas_versions_are_ours() {
    let theirs: ApiVersionsResponse = answer::<ApiVersionsRequest>("18-v4-ApiVersions", 4);
    assert_eq!(theirs.error_code, 0);
    for api in &theirs.api_keys {
        let key = ApiKey::from_code(api.api_key).unwrap_or_else(|| panic!("Kafka has key {}", api.api_key));
        // Kafka says 0 for Produce, so that old librdkafka finds its codecs, and refuses versions 0 to 2.
        let low = if key == ApiKey::Produce { 3 } else { api.min_version };
        assert_eq!((low, api.max_version), key.versions(), "{key:?}");
    }
    let features: Vec<&str> = theirs.supported_features.iter().map(|feature| &*feature.name).collect();
    assert!(features.contains(&"metadata.version"), "{features:?}");

    let refused: ApiVersionsResponse = answer::<ApiVersionsRequest>("18-v0-ApiVersions-unsupported", 0);
    assert_eq!(ErrorCode::from_code(refused.error_code), ErrorCode::UnsupportedVersion);
    assert_eq!(refused.api_keys.len(), 1);
}

#[test]
fn fields_hold_what_kafka_meant() {
    let metadata: MetadataResponse = answer::<MetadataRequest>("3-v13-Metadata", 13);
    assert_eq!((&*metadata.brokers[0].host, metadata.brokers[0].node_id), ("127.0.0.1", 1));
    assert_eq!(metadata.cluster_id.as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAA"));
    let topic = metadata.topics.iter().find(|topic| topic.name.as_deref() == Some("capture-none")).unwrap();
    assert!(!topic.topic_id.is_zero() && topic.partitions[0].leader_id == 1 && topic.partitions[0].isr_nodes == [1]);
    let unknown = metadata.topics.iter().find(|topic| topic.name.as_deref() == Some("unknown")).unwrap();
    assert_eq!(ErrorCode::from_code(unknown.error_code), ErrorCode::UnknownTopicOrPartition);

    let produced: ProduceResponse = answer::<ProduceRequest>("0-v12-Produce-corrupt", 12);
    let partition = &produced.responses[0].partition_responses[0];
    assert_eq!(ErrorCode::from_code(partition.error_code), ErrorCode::CorruptMessage);
    assert_eq!(partition.base_offset, -1);
}

fn fetched(codec: Codec) -> Bytes {
    let name = format!("1-v11-Fetch-{codec}");
    let response: FetchResponse = answer::<FetchRequest>(&name, 11);
    response.responses[0].partitions[0].records.clone().unwrap()
}

#[test]
fn the_java_clients_batches_are_read_with_every_codec() {
    for codec in [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bytes = fetched(codec);
        let (position, header) = batch::batches(&bytes).next().unwrap().unwrap();
        assert_eq!((position, header.codec(), header.record_count), (0, Ok(codec), 10));
        let one = bytes.slice(..header.size_bytes());
        assert_eq!(batch::check(&one), Ok(header), "{codec}");
        assert!(header.producer_id >= 0 && header.base_sequence == 0 && header.last_sequence() == 9);
        let records: Result<Vec<Record>, _> = batch::records(one, 1 << 20).unwrap().collect();
        for (index, record) in records.unwrap().iter().enumerate() {
            let key = (index != 3).then(|| Bytes::from(format!("key-{index}")));
            let value = (index != 4).then(|| Bytes::from(format!("value-{index}-").repeat(100)));
            assert_eq!((record.offset, &record.key, &record.value), (index as i64, &key, &value), "{codec}");
            assert_eq!(record.timestamp, 1_700_000_000_000 + 7 * index as i64);
            let headers: Vec<_> =
                record.headers.iter().map(|header| (&header.key[..], header.value.as_deref())).collect();
            assert_eq!(headers, [(&b"h"[..], Some(&b"one"[..])), (b"h", None)]);
        }
    }
}

#[test]
fn our_batch_of_the_same_records_is_the_java_clients() {
    let theirs = fetched(Codec::None);
    let header = batch::BatchHeader::parse(&theirs).unwrap();
    let mut builder = BatchBuilder::new(Codec::None);
    for record in batch::records(theirs.slice(..header.size_bytes()), 1 << 20).unwrap() {
        let record = record.unwrap();
        let headers: Vec<_> = record.headers.iter().map(|header| (&header.key[..], header.value.as_deref())).collect();
        builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &headers);
    }
    builder.producer(header.producer_id, header.producer_epoch, header.base_sequence);
    let mut ours: BytesMut = builder.build().unwrap();
    batch::patch(&mut ours, header.base_offset, header.leader_epoch);
    assert_eq!(ours, theirs[..header.size_bytes()]);
}
