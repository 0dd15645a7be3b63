//! Messages and headers against bytes made by hand, and what is refused.

use bytes::Bytes;
use capek_wire::frame::{decode_response, encode_request, encode_response};
use capek_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, DescribeTopicPartitionsRequest, FetchRequest,
    InitProducerIdRequest, MetadataRequest, MetadataResponse, OffsetFetchRequest, ProduceRequest, ProduceResponse,
    SaslHandshakeRequest, describe_topic_partitions, fetch, metadata, produce,
};
use capek_wire::{ApiKey, DecodeError, EncodeError, Message, Reader, RequestHeader, Str, Uuid, Writer};

fn encode<M: Message>(message: &M, version: i16) -> Result<Vec<u8>, EncodeError> {
    let mut w = Writer::new();
    message.encode(&mut w, version)?;
    Ok(w.into_bytes().to_vec())
}

fn decode<M: Message>(bytes: &[u8], version: i16) -> Result<M, DecodeError> {
    let mut r = Reader::new(Bytes::copy_from_slice(bytes));
    let message = M::decode(&mut r, version)?;
    r.finish()?;
    Ok(message)
}

/// The message is these bytes, in both directions.
fn check<M: Message>(message: M, version: i16, parts: &[&[u8]]) {
    let bytes = parts.concat();
    assert_eq!(encode(&message, version).as_deref(), Ok(&bytes[..]), "{message:?}");
    assert_eq!(decode::<M>(&bytes, version), Ok(message));
    for length in 0..bytes.len() {
        assert!(decode::<M>(&bytes[..length], version).is_err(), "cut off at {length}");
    }
}

#[test]
fn a_fixed_version_has_wide_lengths() {
    let topic = metadata::MetadataRequestTopic { name: Some("ab".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation: false, ..Default::default() };
    check(request, 4, &[&[0, 0, 0, 1], &[0, 2, b'a', b'b'], &[0]]);
}

#[test]
fn a_flexible_version_has_compact_lengths_and_tags() {
    let topic = metadata::MetadataRequestTopic { name: Some("ab".into()), topic_id: Uuid([9; 16]) };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    check(request, 12, &[&[2], &[9; 16], &[3, b'a', b'b'], &[0], &[1], &[0], &[0]]);
}

#[test]
fn null_and_empty_lists_differ() {
    let all = MetadataRequest { topics: None, ..Default::default() };
    check(all, 1, &[&[0xff; 4]]);
    let none = MetadataRequest { topics: Some(vec![]), ..Default::default() };
    check(none, 1, &[&[0; 4]]);
    check(
        OffsetFetchRequest { group_id: "g".into(), topics: None, ..Default::default() },
        5,
        &[&[0, 1, b'g'], &[0xff; 4]],
    );
}

#[test]
fn null_where_it_is_not_allowed_is_an_error() {
    assert_eq!(
        decode::<MetadataRequest>(&[0xff; 4], 0),
        Err(DecodeError::Null { at: 4 }),
        "version 0 has no null list"
    );
    let all = MetadataRequest { topics: None, ..Default::default() };
    let field = "MetadataRequest.topics";
    assert_eq!(encode(&all, 0), Err(EncodeError::Null { field, version: 0 }));
    assert_eq!(decode::<SaslHandshakeRequest>(&[0xff, 0xff], 1), Err(DecodeError::Null { at: 2 }));
    assert_eq!(decode::<SaslHandshakeRequest>(&[0xff, 0xfe], 1), Err(DecodeError::Length { at: 2, length: -2 }));
}

#[test]
fn a_struct_may_be_null() {
    let mut request = DescribeTopicPartitionsRequest::default();
    check(request.clone(), 0, &[&[1], &2000i32.to_be_bytes(), &[0xff], &[0]]);
    request.cursor = Some(describe_topic_partitions::Cursor { topic_name: "t".into(), partition_index: 7 });
    check(request, 0, &[&[1], &2000i32.to_be_bytes(), &[1], &[2, b't', 0, 0, 0, 7, 0], &[0]]);
}

#[test]
fn a_tagged_field_at_its_default_is_not_written() {
    let response = ApiVersionsResponse::default();
    check(response.clone(), 3, &[&[0, 0], &[1], &[0, 0, 0, 0], &[0]]);
    let with_epoch = ApiVersionsResponse { finalized_features_epoch: 5, zk_migration_ready: true, ..response };
    check(with_epoch, 3, &[&[0, 0], &[1], &[0, 0, 0, 0], &[2], &[1, 8, 0, 0, 0, 0, 0, 0, 0, 5], &[3, 1, 1]]);
}

#[test]
fn unknown_tags_are_passed_over() {
    let bytes = [0, 0, 1, 0, 0, 0, 0, 2, 3, 1, 1, 99, 2, 7, 7];
    let response: ApiVersionsResponse = decode(&bytes, 3).unwrap();
    assert_eq!(response, ApiVersionsResponse { zk_migration_ready: true, ..Default::default() });
}

#[test]
fn a_known_tag_of_the_wrong_length_is_an_error() {
    let long = [0, 0, 1, 0, 0, 0, 0, 1, 3, 2, 1, 1];
    assert_eq!(decode::<ApiVersionsResponse>(&long, 3), Err(DecodeError::Tag { at: 12, left: 1 }));
    let short = [0, 0, 1, 0, 0, 0, 0, 1, 1, 4, 0, 0, 0, 5, 0, 0, 0, 0];
    assert_eq!(decode::<ApiVersionsResponse>(&short, 3), Err(DecodeError::Truncated { at: 10, needed: 4 }));
    let beyond = [0, 0, 1, 0, 0, 0, 0, 1, 99, 5, 0];
    assert_eq!(decode::<ApiVersionsResponse>(&beyond, 3), Err(DecodeError::Truncated { at: 10, needed: 4 }));
}

#[test]
fn a_field_that_the_version_lacks_is_refused_or_dropped() {
    let request = InitProducerIdRequest { producer_id: 7, ..Default::default() };
    let field = "InitProducerIdRequest.producer_id";
    assert_eq!(encode(&request, 2), Err(EncodeError::Field { field, version: 2 }));
    assert!(encode(&request, 3).is_ok());

    let response = ProduceResponse { throttle_time_ms: 5, ..Default::default() };
    assert!(encode(&response, 3).is_ok());
    let cannot = ProduceResponse { node_endpoints: vec![produce::NodeEndpoint::default()], ..response };
    assert!(matches!(encode(&cannot, 9), Err(EncodeError::Field { .. })));

    let mut fetch = FetchRequest { rack_id: "rack".into(), ..Default::default() };
    assert!(encode(&fetch, 10).is_ok(), "a rack may be dropped");
    fetch.forgotten_topics_data = vec![fetch::ForgottenTopic::default()];
    assert!(encode(&fetch, 6).is_err(), "a session may not");
}

#[test]
fn a_version_that_does_not_exist_is_an_error() {
    let message = "ProduceRequest";
    for version in [-1, 0, 2, 14, i16::MAX] {
        assert_eq!(decode::<ProduceRequest>(&[0; 100], version), Err(DecodeError::Version { message, version }));
        assert_eq!(encode(&ProduceRequest::default(), version), Err(EncodeError::Version { message, version }));
    }
}

#[test]
fn defaults_are_kafkas() {
    let request = FetchRequest::default();
    assert_eq!((request.replica_id, request.max_bytes, request.session_epoch), (-1, i32::MAX, -1));
    assert!(MetadataRequest::default().allow_auto_topic_creation);
    assert_eq!(MetadataResponse::default().cluster_authorized_operations, i32::MIN);
    assert_eq!(CreateTopicsRequest::default().timeout_ms, 60_000);
    let partition = produce::PartitionProduceResponse::default();
    assert_eq!((partition.log_append_time_ms, partition.log_start_offset, partition.error_message), (-1, -1, None));
    assert_eq!(fetch::PartitionData::default().records, None);
}

#[test]
fn strings_are_utf8_and_no_longer_than_kafkas() {
    assert_eq!(decode::<SaslHandshakeRequest>(&[0, 2, 0xc3, 0x28], 1), Err(DecodeError::Utf8 { at: 2 }));
    let long = Str::from("x".repeat(32_767));
    assert!(encode(&SaslHandshakeRequest { mechanism: long.clone() }, 1).is_ok());
    let longer = SaslHandshakeRequest { mechanism: Str::from(format!("{long}x")) };
    assert_eq!(encode(&longer, 1), Err(EncodeError::Length(32_768)));
    // Compact: 32,768 + 1 in three bytes.
    let mut bytes = vec![0x81, 0x80, 0x02];
    bytes.resize(40_000, b'x');
    assert_eq!(decode::<ApiVersionsRequest>(&bytes, 3), Err(DecodeError::Length { at: 3, length: 32_768 }));
}

#[test]
fn numbers_of_variable_length_end() {
    let read = |bytes: &'static [u8]| Reader::new(Bytes::from_static(bytes)).get_uvarint();
    assert_eq!(read(&[0x7f]), Ok(127));
    assert_eq!(read(&[0x80, 1]), Ok(128));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x0f]), Ok(u32::MAX));
    assert_eq!(read(&[0xff, 0xff, 0xff, 0xff, 0x1f]), Err(DecodeError::Varint { at: 0 }));
    assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x80, 0]), Err(DecodeError::Varint { at: 0 }));
    assert_eq!(read(&[0x80]), Err(DecodeError::Truncated { at: 1, needed: 1 }));
}

#[test]
fn a_request_header_is_read_in_both_forms() {
    let read = |bytes: &[u8]| {
        let mut r = Reader::new(Bytes::copy_from_slice(bytes));
        RequestHeader::decode(&mut r).map(|header| (header, r.remaining()))
    };
    let header = |api_key, api_version, client_id: Option<&str>| RequestHeader {
        api_key,
        api_version,
        correlation_id: 9,
        client_id: client_id.map(Str::from),
    };
    assert_eq!(read(&[0, 0, 0, 8, 0, 0, 0, 9, 0, 1, b'c', 0]), Ok((header(0, 8, Some("c")), 1)));
    assert_eq!(
        read(&[0, 0, 0, 9, 0, 0, 0, 9, 0, 1, b'c', 0]),
        Ok((header(0, 9, Some("c")), 0)),
        "flexible: a tag buffer"
    );
    assert_eq!(read(&[0, 17, 0, 1, 0, 0, 0, 9, 0xff, 0xff]), Ok((header(17, 1, None), 0)), "SaslHandshake has none");
    assert_eq!(
        read(&[0, 18, 0, 99, 0, 0, 0, 9, 0xff, 0xff, 0]),
        Ok((header(18, 99, None), 0)),
        "a version of tomorrow"
    );
    assert_eq!(read(&[0, 4, 0, 0, 0, 0, 0, 9, 0xff, 0xff]), Err(DecodeError::ApiKey(4)));
    assert_eq!(read(&[0xff, 0xff, 0, 0, 0, 0]), Err(DecodeError::ApiKey(-1)));
    assert!(read(&[0, 0, 0, 9, 0, 0, 0, 9, 0, 1, b'c']).is_err());
}

#[test]
fn frames_go_there_and_back() {
    let request = encode_request(9, Some("c"), &ApiVersionsRequest::default(), 3).unwrap();
    assert_eq!(request[..], [0, 0, 0, 15, 0, 18, 0, 3, 0, 0, 0, 9, 0, 1, b'c', 0, 1, 1, 0][..]);
    let response = MetadataResponse { controller_id: 3, ..Default::default() };
    for version in [1, 9] {
        let chunks = encode_response(ApiKey::Metadata.code(), version, 9, &response).unwrap();
        let bytes = Bytes::from(chunks.concat());
        assert_eq!(bytes[..4], (bytes.len() as i32 - 4).to_be_bytes());
        let (correlation_id, read) = decode_response::<MetadataRequest>(bytes.slice(4..), version).unwrap();
        assert_eq!((correlation_id, read.controller_id), (9, 3));
        let mut longer = bytes[4..].to_vec();
        longer.push(0);
        let left = decode_response::<MetadataRequest>(Bytes::from(longer), version);
        assert_eq!(left, Err(DecodeError::Trailing { left: 1 }));
    }
    // ApiVersions has no tags in its header, whatever its version.
    let chunks = encode_response(ApiKey::ApiVersions.code(), 3, 9, &ApiVersionsResponse::default()).unwrap();
    assert_eq!(chunks.concat()[..], [0, 0, 0, 12, 0, 0, 0, 9, 0, 0, 1, 0, 0, 0, 0, 0][..]);
}

#[test]
fn large_records_are_chunks_of_their_own_in_their_place() {
    let large = Bytes::from(vec![1; 4096]);
    let small = Bytes::from(vec![2; 4095]);
    let mut w = Writer::new();
    w.put_i8(9);
    w.put_records(large.clone());
    w.put_records(small.clone());
    w.put_records(large.clone());
    assert_eq!(w.len(), 1 + 4096 + 4095 + 4096);
    let chunks = w.into_chunks();
    assert_eq!(chunks.iter().map(Bytes::len).collect::<Vec<_>>(), [1, 4096, 4095, 4096]);
    assert_eq!(chunks[1].as_ptr(), large.as_ptr(), "not copied");
}
