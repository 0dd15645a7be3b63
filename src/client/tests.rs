//! The client against brokers that misbehave on purpose.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use capek_wire::batch::{BatchBuilder, BatchHeader, Codec, patch};
use capek_wire::messages::api_versions::ApiVersion;
use capek_wire::messages::fetch::{FetchableTopicResponse, PartitionData};
use capek_wire::messages::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use capek_wire::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use capek_wire::messages::produce::{PartitionProduceResponse, TopicProduceResponse};
use capek_wire::messages::{
    ApiVersionsResponse, FetchRequest, FetchResponse, InitProducerIdResponse, ListOffsetsRequest, ListOffsetsResponse,
    MetadataResponse, ProduceRequest, ProduceResponse,
};
use capek_wire::{ApiKey, ErrorCode, Message, Reader, RequestHeader, Str, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What a broker does with a request: bytes to write, and whether to hang up afterwards.
type Handler = dyn Fn(RequestHeader, Reader, u16) -> (Vec<Bytes>, bool) + Send + Sync;

/// Serves every connection with the handler; returns the port.
async fn broker(handler: Arc<Handler>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, handler.clone(), port));
        }
    });
    port
}

async fn serve(mut stream: TcpStream, handler: Arc<Handler>, port: u16) {
    while let Ok(size) = stream.read_i32().await {
        let mut body = vec![0; size as usize];
        stream.read_exact(&mut body).await.unwrap();
        let mut reader = Reader::new(body.into());
        let header = RequestHeader::decode(&mut reader).unwrap();
        let (chunks, hangs_up) = handler(header, reader, port);
        for chunk in chunks {
            stream.write_all(&chunk).await.unwrap();
        }
        if hangs_up {
            return;
        }
    }
}

fn answer<M: Message>(header: &RequestHeader, response: &M) -> (Vec<Bytes>, bool) {
    (frame::encode_response(header.api_key, header.api_version, header.correlation_id, response).unwrap(), false)
}

fn all_versions() -> ApiVersionsResponse {
    let version = |key: ApiKey| {
        let (min_version, max_version) = key.versions();
        ApiVersion { api_key: key.code(), min_version, max_version }
    };
    ApiVersionsResponse { api_keys: ApiKey::all().map(version).collect(), ..Default::default() }
}

/// One topic `t` with one partition, led by the only broker.
fn metadata(port: u16) -> MetadataResponse {
    let broker =
        MetadataResponseBroker { node_id: 1, host: "127.0.0.1".into(), port: port.into(), ..Default::default() };
    let partition = MetadataResponsePartition { leader_id: 1, leader_epoch: 0, ..Default::default() };
    let topic = MetadataResponseTopic { name: Some("t".into()), partitions: vec![partition], ..Default::default() };
    MetadataResponse { brokers: vec![broker], controller_id: 1, topics: vec![topic], ..Default::default() }
}

async fn connect(port: u16) -> Result<Client, ClientError> {
    Client::connect(ClientOptions::new(&format!("127.0.0.1:{port}"), Duration::from_millis(500))).await
}

async fn failure(handler: Arc<Handler>) -> String {
    connect(broker(handler).await).await.err().expect("it cannot work").to_string()
}

#[tokio::test]
async fn an_older_broker_is_asked_again_in_its_version() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = asked.clone();
    let port = broker(Arc::new(move |header, _, _| {
        seen.lock().unwrap().push(header.api_version);
        if header.api_version <= 2 {
            return answer(&header, &all_versions());
        }
        let own = ApiVersion { api_key: 18, min_version: 0, max_version: 2 };
        let error_code = ErrorCode::UnsupportedVersion.code();
        let response = ApiVersionsResponse { error_code, api_keys: vec![own], ..Default::default() };
        (frame::encode_response(18, 0, header.correlation_id, &response).unwrap(), false)
    }))
    .await;
    let client = connect(port).await.unwrap();
    assert!(client.any().await.unwrap().versions().len() > 50);
    assert_eq!(*asked.lock().unwrap(), [4, 2]);
}

#[tokio::test]
async fn what_is_no_kafka_listener_is_told() {
    let http = failure(Arc::new(|_, _, _| (vec![Bytes::from_static(b"HTTP/1.1 400 Bad Request\r\n\r\n")], true))).await;
    assert!(http.contains("it speaks HTTP"), "{http}");
    let hung_up = failure(Arc::new(|_, _, _| (Vec::new(), true))).await;
    assert!(hung_up.contains("is this the port of a Kafka listener"), "{hung_up}");
    let silent = failure(Arc::new(|_, _, _| (Vec::new(), false))).await;
    assert!(silent.contains("did not answer ApiVersions within 500ms"), "{silent}");
    let stranger = failure(Arc::new(|_, _, _| (vec![Bytes::from_static(b"\0\0\0\x04\0\0\0\x63")], false))).await;
    assert!(stranger.contains("answered a request that was not sent"), "{stranger}");
}

/// A broker that answers the produce request with the given number with `script`'s error code, and notes each batch.
async fn producing_broker(
    script: impl Fn(usize) -> Option<ErrorCode> + Send + Sync + 'static,
) -> (u16, Arc<Mutex<Vec<i32>>>) {
    let sequences = Arc::new(Mutex::new(Vec::new()));
    let (seen, count) = (sequences.clone(), AtomicUsize::new(0));
    let handler = move |header: RequestHeader, mut reader: Reader, port: u16| match ApiKey::from_code(header.api_key) {
        Some(ApiKey::ApiVersions) => answer(&header, &all_versions()),
        Some(ApiKey::Metadata) => answer(&header, &metadata(port)),
        Some(ApiKey::InitProducerId) => {
            answer(&header, &InitProducerIdResponse { producer_id: 9, ..Default::default() })
        }
        Some(ApiKey::Produce) => {
            let request = ProduceRequest::decode(&mut reader, header.api_version).unwrap();
            let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
            let sequence = BatchHeader::parse(&records).unwrap().base_sequence;
            let Some(code) = script(count.fetch_add(1, Ordering::Relaxed)) else { return (Vec::new(), true) };
            if code == ErrorCode::None {
                seen.lock().unwrap().push(sequence);
            }
            let partition = PartitionProduceResponse { error_code: code.code(), ..Default::default() };
            let topic = TopicProduceResponse {
                name: Str::from("t"),
                partition_responses: vec![partition],
                ..Default::default()
            };
            answer(&header, &ProduceResponse { responses: vec![topic], ..Default::default() })
        }
        other => panic!("{other:?} was not expected"),
    };
    (broker(Arc::new(handler)).await, sequences)
}

/// Sends ten records, one a batch; how many were confirmed, and the first error.
async fn send_ten(port: u16) -> (usize, Option<ClientError>) {
    let options = ProducerOptions { batch_bytes_max: 1, linger: Duration::ZERO, ..ProducerOptions::default() };
    let (mut producer, mut deliveries) = Producer::new(connect(port).await.unwrap(), options).await.unwrap();
    let topic: Arc<str> = Arc::from("t");
    for _ in 0..10 {
        let record = ProducerRecord { value: Some("v".into()), ..ProducerRecord::default() };
        if producer.send(&topic, 0, record).await.is_err() {
            break;
        }
    }
    producer.close().await;
    let (mut confirmed, mut error) = (0, None);
    while let Some(delivery) = deliveries.recv().await {
        match delivery.result {
            Ok(_) => confirmed += delivery.count,
            Err(problem) => error = error.or(Some(problem)),
        }
    }
    (confirmed, error)
}

#[tokio::test]
async fn after_a_retriable_error_batches_go_again_in_order() {
    // The third request fails; those behind it, already on their way, are out of order.
    let script = |number| match number {
        2 => Some(ErrorCode::NotLeaderOrFollower),
        3..=6 => Some(ErrorCode::OutOfOrderSequenceNumber),
        _ => Some(ErrorCode::None),
    };
    let (port, sequences) = producing_broker(script).await;
    let (confirmed, error) = send_ten(port).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(confirmed, 10);
    assert_eq!(*sequences.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_broken_connection_loses_nothing() {
    // The connection ends in the middle, without an answer to what is on its way.
    let (port, sequences) = producing_broker(|number| (number != 4).then_some(ErrorCode::None)).await;
    let (confirmed, error) = send_ten(port).await;
    assert!(error.is_none(), "{error:?}");
    assert_eq!(confirmed, 10);
    assert_eq!(*sequences.lock().unwrap(), (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_cannot_be_mended_is_given_up_with_the_reason() {
    let script = |number| Some(if number == 1 { ErrorCode::MessageTooLarge } else { ErrorCode::None });
    let (port, _) = producing_broker(script).await;
    let (confirmed, error) = send_ten(port).await;
    let error = error.expect("the second batch was refused");
    assert_eq!(error.code(), Some(ErrorCode::MessageTooLarge));
    assert!(error.to_string().contains("hint: raise the topic's max.message.bytes"), "{error}");
    assert!(confirmed < 10, "{confirmed}");
}

#[tokio::test]
async fn a_duplicate_is_a_success() {
    let script = |number| Some(if number == 0 { ErrorCode::DuplicateSequenceNumber } else { ErrorCode::None });
    let (port, _) = producing_broker(script).await;
    assert_eq!(send_ten(port).await.0, 10);
}

#[tokio::test]
async fn an_advertised_address_that_does_not_work_is_named() {
    let handler = |header: RequestHeader, _, _| match ApiKey::from_code(header.api_key) {
        Some(ApiKey::ApiVersions) => answer(&header, &all_versions()),
        // Port 1 of this host: nothing listens there.
        _ => answer(&header, &metadata(1)),
    };
    let client = connect(broker(Arc::new(handler)).await).await.unwrap();
    client.refresh(None).await.unwrap();
    let error = client.broker(1).await.err().expect("it cannot work").to_string();
    assert!(error.contains("broker 1 advertised 127.0.0.1:1, where nothing listens"), "{error}");
}

/// A broker with ten batches of one record each, at the offsets 100 to 109; `script` may say what else happens at a fetch.
async fn fetching_broker(script: impl Fn(usize) -> Option<ErrorCode> + Send + Sync + 'static) -> u16 {
    let count = AtomicUsize::new(0);
    let handler = move |header: RequestHeader, mut reader: Reader, port: u16| match ApiKey::from_code(header.api_key) {
        Some(ApiKey::ApiVersions) => answer(&header, &all_versions()),
        Some(ApiKey::Metadata) => answer(&header, &metadata(port)),
        Some(ApiKey::ListOffsets) => {
            let request = ListOffsetsRequest::decode(&mut reader, header.api_version).unwrap();
            let timestamp = request.topics[0].partitions[0].timestamp;
            let offset = if timestamp == -2 { 100 } else { 110 };
            let partition = ListOffsetsPartitionResponse { offset, ..Default::default() };
            let topic = ListOffsetsTopicResponse { name: "t".into(), partitions: vec![partition] };
            answer(&header, &ListOffsetsResponse { topics: vec![topic], ..Default::default() })
        }
        Some(ApiKey::Fetch) => {
            let request = FetchRequest::decode(&mut reader, header.api_version).unwrap();
            let offset = request.topics[0].partitions[0].fetch_offset;
            let Some(mut code) = script(count.fetch_add(1, Ordering::Relaxed)) else { return (Vec::new(), true) };
            if !(100..=110).contains(&offset) {
                code = ErrorCode::OffsetOutOfRange;
            }
            let records = (code == ErrorCode::None).then(|| records_at(offset));
            let partition =
                PartitionData { error_code: code.code(), high_watermark: 110, records, ..Default::default() };
            let topic = FetchableTopicResponse { topic: "t".into(), partitions: vec![partition], ..Default::default() };
            answer(&header, &FetchResponse { responses: vec![topic], ..Default::default() })
        }
        other => panic!("{other:?} was not expected"),
    };
    broker(Arc::new(handler)).await
}

/// Two batches of those from `offset` on, and half of the next, as brokers send when an answer is full.
fn records_at(offset: i64) -> Bytes {
    let batch = |offset: i64| {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(0, None, Some(b"v"), &[]);
        let mut batch = builder.build().unwrap();
        patch(&mut batch, offset, 0);
        batch
    };
    let mut records = Vec::new();
    (offset..110).take(3).for_each(|offset| records.extend_from_slice(&batch(offset)));
    let half = if offset + 3 <= 110 { 30 } else { 0 };
    records.truncate(records.len() - half);
    records.into()
}

/// Reads from `offset` to the end; the offsets that came.
async fn read_from(port: u16, offset: i64) -> Result<Vec<i64>, ClientError> {
    let mut consumer = Consumer::new(connect(port).await?, ConsumerOptions::default());
    let topic: Arc<str> = Arc::from("t");
    consumer.assign(&topic, 0, offset);
    let mut offsets = Vec::new();
    while !consumer.is_done() {
        for fetched in consumer.poll().await? {
            for found in capek_wire::batch::batches(&fetched.records) {
                offsets.push(found.unwrap().1.base_offset);
            }
            if fetched.next_offset >= fetched.high_watermark {
                consumer.unassign(&topic, 0);
            }
        }
    }
    Ok(offsets)
}

#[tokio::test]
async fn a_consumer_reads_on_after_errors_and_broken_connections() {
    let script = |number| match number {
        1 => None,
        3 => Some(ErrorCode::NotLeaderOrFollower),
        _ => Some(ErrorCode::None),
    };
    assert_eq!(read_from(fetching_broker(script).await, 100).await.unwrap(), (100..110).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_consumer_goes_to_the_nearest_offset_there_is() {
    let port = fetching_broker(|_| Some(ErrorCode::None)).await;
    assert_eq!(read_from(port, 7).await.unwrap(), (100..110).collect::<Vec<_>>());
    assert_eq!(read_from(port, 999).await.unwrap(), [] as [i64; 0]);
}

#[tokio::test]
async fn a_consumer_ends_with_what_it_may_not_read() {
    let port = fetching_broker(|_| Some(ErrorCode::TopicAuthorizationFailed)).await;
    let error = read_from(port, 100).await.expect_err("it is not allowed");
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
}
