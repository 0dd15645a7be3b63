//! Random and damaged bytes into every decoder, for `CAPEK_FUZZ_SECONDS` (10). It runs on stable Rust; `fuzz/` at the root
//! is the same with coverage feedback. A failure prints the seed that shows it again: `CAPEK_FUZZ_SEED`.

#![allow(clippy::print_stderr)]

use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use capek_wire::ErrorCode;
use capek_wire::ids::Uuid;
use capek_wire::peer::calls::{
    AppendAnswer, AppendCall, CallRequest, CallResponse, PartitionState, ReadAnswer, ReadCall, WatchCall,
};
use capek_wire::peer::frame::{encode_before_body, take_frame};
use capek_wire::peer::replication::{DataOneWay, DataRequest, DataResponse};
use capek_wire::peer::{FrameKind, Hello, HelloReply, decode_head, encode_head};
use capek_wire::testing::{
    Sampler, compressed, produce_frame, record_batches, request_frame, response_body, sample_batch, sample_frame,
};

use serde::Serialize;
use serde::de::DeserializeOwned;

const INFLATED_BYTES_MAX: usize = 1 << 20;

#[test]
#[expect(clippy::disallowed_methods, reason = "the test runs for a time, and prints its seed")]
fn any_bytes_are_answered_and_never_a_panic() {
    let seconds =
        env::var("CAPEK_FUZZ_SECONDS").map_or(10, |text| text.parse().expect("CAPEK_FUZZ_SECONDS is a number"));
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as u64;
    let first =
        env::var("CAPEK_FUZZ_SEED").map_or_else(|_| now(), |text| text.parse().expect("CAPEK_FUZZ_SEED is a number"));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < deadline {
        for seed in first + rounds..first + rounds + 100 {
            let _seed = SeedOfFailure(seed);
            round(&mut Sampler::new(seed));
        }
        rounds += 100;
    }
    eprintln!("{rounds} rounds from seed {first}");
}

fn round(s: &mut Sampler) {
    let (mut request, mut response) = sample_frame(s);
    let (key, version) = (i16::from_be_bytes([request[0], request[1]]), i16::from_be_bytes([request[2], request[3]]));
    request_frame(request.clone()).expect("a sound request is read");
    response_body(key, version, response.clone()).expect("a sound response is read");
    for _ in 0..8 {
        request = damaged(s, &request);
        response = damaged(s, &response);
        let _ = request_frame(request.clone());
        let _ = response_body(key, version, response.clone());
        produce_frame(&request);
    }

    let mut batches = sample_batch(s);
    record_batches(&batches, INFLATED_BYTES_MAX);
    for _ in 0..4 {
        s.mutate(&mut batches);
        record_batches(&batches, INFLATED_BYTES_MAX);
        compressed(batches.get(61..).unwrap_or_default(), INFLATED_BYTES_MAX);
    }

    peer_frames(s);
    let noise = s.bytes();
    let _ = request_frame(noise.clone());
    let _ = response_body(key, version, noise.clone());
    record_batches(&noise, INFLATED_BYTES_MAX);
    compressed(&noise, INFLATED_BYTES_MAX);
}

/// What another broker may send on any lane: read as the frame and the heads that it could be.
fn peer_frames(s: &mut Sampler) {
    let heads = peer_heads();
    let head = &heads[s.below(heads.len() as u64) as usize];
    let body = s.bytes();
    let mut frame = encode_before_body(FrameKind::Request, 7, head, body.len()).to_vec();
    frame.extend_from_slice(&body);
    let taken = take_frame(&mut BytesMut::from(&frame[..])).expect("a sound frame").expect("all of it");
    assert_eq!((&taken.head[..], &taken.body), (&head[..], &body));
    for _ in 0..8 {
        s.mutate(&mut frame);
        if let Ok(Some(frame)) = take_frame(&mut BytesMut::from(&frame[..])) {
            peer_head(&frame.head);
        }
    }
    peer_head(&s.bytes());
}

/// Whatever is read is written as it was, or is refused.
fn peer_head(head: &[u8]) {
    fn check<T: Serialize + DeserializeOwned>(head: &[u8]) {
        if let Ok(read) = decode_head::<T>(head) {
            decode_head::<T>(&encode_head(&read)).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    check::<Hello>(head);
    check::<HelloReply>(head);
    check::<DataRequest>(head);
    check::<DataResponse>(head);
    check::<DataOneWay>(head);
    check::<CallRequest>(head);
    check::<CallResponse>(head);
}

fn peer_heads() -> Vec<Vec<u8>> {
    let (topic_id, partition) = (Uuid([3; 16]), 5);
    let state = PartitionState { leader_epoch: 1, log_start: 2, high_watermark: 300 };
    let append = AppendCall { topic_id, partition, acks: -1, timeout_ms: 30_000 };
    let read = ReadCall { topic_id, partition, offset: 9, max_bytes: 1 << 20 };
    let watch = WatchCall { topic_id, partition, known: Some(state), max_wait_ms: 500 };
    let answer = AppendAnswer {
        error: ErrorCode::InvalidRecord,
        message: Some("why".to_owned()),
        base_offset: -1,
        log_append_time_ms: -1,
        log_start: 0,
        record_errors: vec![(0, "no key".to_owned())],
    };
    let requests = [
        CallRequest::Kafka { ip: [127, 0, 0, 1].into() },
        CallRequest::Append(append),
        CallRequest::Read(read),
        CallRequest::Watch(watch),
    ];
    let responses = [
        CallResponse::Kafka,
        CallResponse::Appended(answer),
        CallResponse::Read(Ok(ReadAnswer { state, next_offset: 10 })),
        CallResponse::Watched(Err(ErrorCode::NotLeaderOrFollower)),
        CallResponse::Refused("no".to_owned()),
    ];
    requests.iter().map(encode_head).chain(responses.iter().map(encode_head)).collect()
}

fn damaged(s: &mut Sampler, bytes: &Bytes) -> Bytes {
    let mut bytes = bytes.to_vec();
    s.mutate(&mut bytes);
    Bytes::from(bytes)
}

/// Says which seed was at work when a panic passes.
struct SeedOfFailure(u64);

impl Drop for SeedOfFailure {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("again with CAPEK_FUZZ_SEED={}", self.0);
        }
    }
}
