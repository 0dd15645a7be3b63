//! Random and damaged bytes into every decoder, for `CAPEK_FUZZ_SECONDS` (10). It runs on stable Rust; `fuzz/` at the root
//! is the same with coverage feedback. A failure prints the seed that shows it again: `CAPEK_FUZZ_SEED`.

#![allow(clippy::print_stderr)]

use std::env;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use capek_wire::testing::{
    Sampler, compressed, produce_frame, record_batches, request_frame, response_body, sample_batch, sample_frame,
};

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

    let noise = s.bytes();
    let _ = request_frame(noise.clone());
    let _ = response_body(key, version, noise.clone());
    record_batches(&noise, INFLATED_BYTES_MAX);
    compressed(&noise, INFLATED_BYTES_MAX);
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
