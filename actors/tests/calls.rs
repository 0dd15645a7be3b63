//! The answering side of the calls lane: a real broker behind a pipe, asked soundly and otherwise.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_actors::broker::{self, BrokerShared, RunningBroker};
use capek_actors::call_server;
use capek_actors::local::LocalClient;
use capek_actors::peer_transport::read_frame;
use capek_wire::batch::{BatchBuilder, Codec};
use capek_wire::error_code::ErrorCode;
use capek_wire::frame::{self, SIZE_BYTES};
use capek_wire::ids::{TopicId, Uuid};
use capek_wire::keyed::KEYED_PRODUCER_ID_FIRST;
use capek_wire::messages::{ListGroupsRequest, ProduceRequest};
use capek_wire::peer::calls::{
    AppendCall, CallRequest, CallResponse, FindKeyedCall, KeyedAppendCall, KeyedBatch, PartitionState, ReadAnswer,
    ReadCall, WatchCall,
};
use capek_wire::peer::frame::{FRAME_BYTES_MAX, encode_before_body};
use capek_wire::peer::{FrameKind, decode_head, encode_head};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::task::JoinHandle;

use common::{config, one_record};

mod common;

const TOPIC: &str = "asked";
const ENDS_WITHIN: Duration = Duration::from_secs(30);
const KAFKA: CallRequest = CallRequest::Kafka { ip: std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST) };

/// The asking end of a connection.
struct Asker {
    pipe: DuplexStream,
    buffer: BytesMut,
    served: JoinHandle<String>,
}

impl Asker {
    fn connect(broker: &Arc<BrokerShared>) -> Asker {
        let (pipe, far) = tokio::io::duplex(64 << 10);
        Asker { pipe, buffer: BytesMut::new(), served: actix::spawn(call_server::carry(far, broker.clone())) }
    }

    async fn send(&mut self, id: u64, request: &CallRequest, body: &[u8]) {
        self.send_bytes(&whole(FrameKind::Request, id, &encode_head(request), body)).await.expect("the broker reads");
    }

    async fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.pipe.write_all(bytes).await
    }

    async fn answer(&mut self) -> (u64, CallResponse, Bytes) {
        let next = read_frame(&mut self.pipe, &mut self.buffer, FRAME_BYTES_MAX);
        let next = tokio::time::timeout(ENDS_WITHIN, next).await.expect("the broker answers");
        let frame = next.expect("it is a frame").expect("the connection goes on");
        assert_eq!(frame.kind, FrameKind::Response);
        (frame.id, decode_head(&frame.head).expect("an answer"), frame.body)
    }

    async fn ask(&mut self, request: &CallRequest, body: &[u8]) -> (CallResponse, Bytes) {
        self.send(9, request, body).await;
        let (id, response, body) = self.answer().await;
        assert_eq!(id, 9);
        (response, body)
    }

    async fn append(&mut self, topic_id: TopicId, acks: i16, value: &str) -> (ErrorCode, i64) {
        let call = AppendCall { topic_id, partition: 0, acks, timeout_ms: 30_000 };
        match self.ask(&CallRequest::Append(call), &one_record(value)).await {
            (CallResponse::Appended(answer), _) => (answer.error, answer.base_offset),
            other => panic!("{other:?}"),
        }
    }

    /// Says nothing more; the reason why the broker ends the connection.
    async fn end(mut self) -> String {
        // It may have been closed already.
        let _ = self.pipe.shutdown().await;
        let served = tokio::time::timeout(ENDS_WITHIN, self.served).await.expect("it ends");
        served.expect("whatever came, it does not panic")
    }
}

fn whole(kind: FrameKind, id: u64, head: &[u8], body: &[u8]) -> Vec<u8> {
    [&encode_before_body(kind, id, head, body.len())[..], body].concat()
}

fn with_broker<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Arc<BrokerShared>, TopicId) -> F) {
    let dir = std::env::temp_dir().join(format!("capek-calls-{name}-{}", std::process::id()));
    actix::System::new().block_on(async {
        let running: RunningBroker = broker::start(config(dir.clone())).await.expect("the broker starts");
        let client = LocalClient::new(running.shared.clone());
        client.create_topic(TOPIC).await.expect("the topic is created");
        let topic_id = client.image().topic_by_name(TOPIC).expect("it is there").id;
        test(running.shared.clone(), topic_id).await;
        running.stop().await.expect("a clean stop");
    });
    std::fs::remove_dir_all(&dir).expect("the test may delete its own directory");
}

#[test]
fn batches_are_appended_read_and_watched() {
    with_broker("records", async |broker, topic_id| {
        let mut asker = Asker::connect(&broker);
        assert_eq!(asker.append(topic_id, -1, "one").await, (ErrorCode::None, 0));
        assert_eq!(asker.append(topic_id, 1, "two").await, (ErrorCode::None, 1));
        assert_eq!(asker.append(topic_id, 7, "three").await, (ErrorCode::InvalidRequiredAcks, -1));
        let nowhere = Uuid([9; 16]);
        assert_eq!(asker.append(nowhere, -1, "three").await, (ErrorCode::UnknownTopicOrPartition, -1));

        let watch = |known| CallRequest::Watch(WatchCall { topic_id, partition: 0, known, max_wait_ms: 30_000 });
        let CallResponse::Watched(Ok(state)) = asker.ask(&watch(None), b"").await.0 else { panic!("it is led here") };
        assert_eq!((state.log_start, state.high_watermark), (0, 2));

        let read = |offset| CallRequest::Read(ReadCall { topic_id, partition: 0, offset, max_bytes: 1 });
        let (first, bytes) = asker.ask(&read(0), b"").await;
        assert_eq!(first, CallResponse::Read(Ok(ReadAnswer { state, next_offset: 1 })), "a batch comes whole");
        assert!(bytes.len() > 61);
        let nothing_yet = CallResponse::Read(Ok(ReadAnswer { state, next_offset: 2 }));
        assert_eq!(asker.ask(&read(2), b"").await, (nothing_yet, Bytes::new()));
        assert_eq!(asker.ask(&read(3), b"").await.0, CallResponse::Read(Err(ErrorCode::OffsetOutOfRange)));

        // A question for news waits for them, and nobody behind it does.
        asker.send(1, &watch(Some(state)), b"").await;
        let call = AppendCall { topic_id, partition: 0, acks: -1, timeout_ms: 30_000 };
        asker.send(2, &CallRequest::Append(call), &one_record("three")).await;
        let mut answers = [asker.answer().await, asker.answer().await];
        answers.sort_by_key(|(id, ..)| *id);
        let news = PartitionState { high_watermark: 3, ..state };
        assert_eq!(answers[0].1, CallResponse::Watched(Ok(news)));
        assert!(matches!(&answers[1].1, CallResponse::Appended(answer) if answer.base_offset == 2), "{answers:?}");
        assert_eq!(asker.end().await, "the other end has closed it");
    });
}

/// A topic has got more partitions: what was stored is found, and who has not heard of them gets in no more.
#[test]
fn keys_are_found_and_who_counts_fewer_partitions_is_refused() {
    with_broker("keys", async |broker, topic_id| {
        let keyed = |key: i64, partition_count| {
            let append = AppendCall { topic_id, partition: 0, acks: -1, timeout_ms: 30_000 };
            let mut builder = BatchBuilder::new(Codec::None);
            builder.producer(KEYED_PRODUCER_ID_FIRST + key, 0, 7);
            builder.push(1, None, Some(b"value"), &[]);
            let batch = builder.build().expect("a batch of one record");
            (CallRequest::KeyedAppend(KeyedAppendCall { append, partition_count }), batch)
        };
        let find = |partition| {
            let producer_ids = vec![KEYED_PRODUCER_ID_FIRST + 1, KEYED_PRODUCER_ID_FIRST + 2];
            CallRequest::FindKeyed(FindKeyedCall { topic_id, partition, partition_count: 3, producer_ids })
        };
        let appended = |response: &CallResponse| match response {
            CallResponse::Appended(answer) => (answer.error, answer.base_offset),
            other => panic!("that is no answer to an append: {other:?}"),
        };
        let mut asker = Asker::connect(&broker);
        // The question is answered when what came before is in the log.
        let (request, batch) = keyed(1, 1);
        asker.send(1, &request, &batch).await;
        asker.send(2, &find(0), b"").await;
        let mut answers = [asker.answer().await, asker.answer().await];
        answers.sort_by_key(|(id, ..)| *id);
        assert_eq!(appended(&answers[0].1), (ErrorCode::None, 0));
        let known = vec![Some(KeyedBatch { epoch: 0, sequence: 7 }), None];
        assert_eq!(answers[1].1, CallResponse::FoundKeyed(Ok(known)));
        for (key, partition_count, expected) in [
            (2, 2, (ErrorCode::InvalidPartitions, -1)),
            (1, 1, (ErrorCode::InvalidPartitions, -1)),
            (1, 3, (ErrorCode::None, 0)),
            (2, 4, (ErrorCode::None, 1)),
        ] {
            let (request, batch) = keyed(key, partition_count);
            assert_eq!(appended(&asker.ask(&request, &batch).await.0), expected, "key {key} among {partition_count}");
        }
        assert_eq!(asker.append(topic_id, -1, "without a key").await, (ErrorCode::None, 2));
        let nowhere = CallResponse::FoundKeyed(Err(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(asker.ask(&find(9), b"").await.0, nowhere);
        asker.end().await;
    });
}

#[test]
fn requests_of_kafka_are_answered_but_those_that_carry_records() {
    with_broker("requests", async |broker, _| {
        let mut asker = Asker::connect(&broker);
        let version = 4;
        let request =
            frame::encode_request(5, None, &ListGroupsRequest::default(), version).expect("it can be written");
        let (response, body) = asker.ask(&KAFKA, &request[SIZE_BYTES..]).await;
        assert_eq!(response, CallResponse::Kafka);
        let (correlation, answer) =
            frame::decode_response::<ListGroupsRequest>(body, version).expect("an answer to the request");
        assert_eq!((correlation, answer.error_code), (5, 0));

        let produce = frame::encode_request(5, None, &ProduceRequest::default(), 9).expect("it can be written");
        let refused = |response: &CallResponse| matches!(response, CallResponse::Refused(_));
        for bad in [&produce[SIZE_BYTES..], b"", b"\0", b"\x7f\xff\0\0\0\0\0\0\xff\xff", &[0xff; 100]] {
            let (response, _) = asker.ask(&KAFKA, bad).await;
            assert!(refused(&response), "{bad:?}: {response:?}");
        }
        asker.send_bytes(&whole(FrameKind::Request, 3, b"\x63", b"")).await.expect("the broker reads");
        let (id, response, _) = asker.answer().await;
        assert!(id == 3 && refused(&response), "a newer broker may ask what this one does not know: {response:?}");
        asker.end().await;
    });
}

/// Whatever comes, the connection ends in peace or goes on, and others are served.
#[test]
fn hostile_bytes_cost_their_own_connection_only() {
    with_broker("hostile", async |broker, topic_id| {
        let sound: Vec<Vec<u8>> = [
            (
                CallRequest::Append(AppendCall { topic_id, partition: 0, acks: -1, timeout_ms: 100 }),
                &one_record("x")[..],
            ),
            (CallRequest::Read(ReadCall { topic_id, partition: 0, offset: 0, max_bytes: u32::MAX }), b""),
            (CallRequest::Watch(WatchCall { topic_id, partition: 0, known: None, max_wait_ms: 10 }), b""),
            (
                CallRequest::FindKeyed(FindKeyedCall {
                    topic_id,
                    partition: 0,
                    partition_count: 1,
                    producer_ids: vec![1],
                }),
                b"",
            ),
            (KAFKA, &frame::encode_request(5, None, &ListGroupsRequest::default(), 4).expect("it can be written")[4..]),
        ]
        .iter()
        .map(|(request, body)| whole(FrameKind::Request, 1, &encode_head(request), body))
        .collect();

        let whole_size = |size: u32| [&size.to_be_bytes()[..], &[0; 50]].concat();
        let too_large = u32::try_from(FRAME_BYTES_MAX + 1).expect("it fits");
        let ended = async |bytes: &[u8]| {
            let mut asker = Asker::connect(&broker);
            // The broker may have hung up already.
            let _ = asker.send_bytes(bytes).await;
            asker.end().await
        };
        assert!(ended(&whole_size(too_large)).await.contains("a frame of 134217729 bytes"));
        assert!(ended(&whole_size(0)).await.contains("a frame of 0 bytes"));
        assert_eq!(ended(&whole_size(100 << 20)).await, "it hung up within a frame");
        assert_eq!(ended(&whole(FrameKind::Response, 1, b"", b"")).await, "what is no request");
        assert_eq!(ended(&sound[0][..40]).await, "it hung up within a frame");

        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed % below as u64) as usize
        };
        for _ in 0..300 {
            let mut bytes = sound.concat();
            for _ in 0..1 + random(8) {
                let at = random(bytes.len());
                bytes[at] = random(256) as u8;
            }
            bytes.truncate(1 + random(bytes.len()));
            ended(&bytes).await;
        }
        assert!(broker.metrics.peers.refusals().map(|(_, count)| count).sum::<u64>() > 5);
        let mut asker = Asker::connect(&broker);
        assert_eq!(asker.append(topic_id, -1, "after all").await.0, ErrorCode::None);
        asker.end().await;
    });
}
