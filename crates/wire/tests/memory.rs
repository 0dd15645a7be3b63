//! Hostile bytes cannot make a decoder allocate much: this counts what is allocated while it runs.

#![allow(unsafe_code)] // a global allocator cannot be had without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use capek_wire::batch::{self, Codec};
use capek_wire::frame;
use capek_wire::messages::{DeleteTopicsRequest, MetadataRequest, ProduceRequest};
use capek_wire::produce_view::ProduceView;
use capek_wire::testing::{Sampler, request_frame, response_body, sample_batch, sample_frame};
use capek_wire::{ApiKey, DecodeError, Message, Reader, Request};
use proptest::prelude::*;

/// Counts for each thread what is allocated and not yet freed, and the most of it.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let live = LIVE.get() + bytes;
    LIVE.set(live);
    PEAK.set(PEAK.get().max(live));
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Old and new are there at once while the bytes move.
        count(new_size as isize);
        let moved = unsafe { System.realloc(pointer, layout, new_size) };
        count(-(layout.size() as isize));
        moved
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most that was allocated at once while `work` ran.
fn peak_bytes<T>(work: impl FnOnce() -> T) -> usize {
    let before = LIVE.get();
    PEAK.set(before);
    drop(work());
    (PEAK.get() - before) as usize
}

/// The budget of a reader, and some bytes for errors and the like.
fn allowed_bytes(input_bytes: usize) -> usize {
    32 * 1024 + 16 * input_bytes
}

fn decode_any<M: Message>(bytes: &Bytes, version: i16) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(bytes.clone()), version)
}

/// Decodes `bytes` as every message of every version and gives the largest peak.
struct Everything<'a> {
    bytes: &'a Bytes,
    peak_bytes: usize,
}

impl capek_wire::messages::ApiVisitor for Everything<'_> {
    fn visit<R: Request>(&mut self) {
        for version in R::KEY.versions().0..=R::KEY.versions().1 {
            let request = peak_bytes(|| decode_any::<R>(self.bytes, version));
            let response = peak_bytes(|| decode_any::<R::Response>(self.bytes, version));
            self.peak_bytes = self.peak_bytes.max(request).max(response);
        }
    }
}

fn assert_bounded(bytes: Vec<u8>) {
    let bytes = Bytes::from(bytes);
    let mut everything = Everything { bytes: &bytes, peak_bytes: 0 };
    capek_wire::messages::visit_apis(&mut everything);
    assert!(everything.peak_bytes <= allowed_bytes(bytes.len()), "{} for {} bytes", everything.peak_bytes, bytes.len());
}

#[test]
fn the_same_byte_over_and_over_is_bounded() {
    // Lists of empty lists, of empty strings, of zeros: what takes most memory for a byte.
    for byte in [0, 1, 2, 3, 0x0f, 0x7f, 0x80, 0xff] {
        assert_bounded(vec![byte; 20_000]);
    }
}

#[test]
fn a_list_of_nothings_is_refused_however_long_its_frame_is() {
    // A million topics, each without a name, an id or tags: a byte or two on the wire, dozens in memory.
    let count: i32 = 1_000_000;
    let mut body = BytesMut::from(&count.to_be_bytes()[..]);
    body.resize(4 + 2 * count as usize, 0);
    let bytes = body.freeze();
    let peak = peak_bytes(|| decode_any::<MetadataRequest>(&bytes, 1));
    assert!(peak <= 33 << 20, "{peak}");

    let mut body = vec![0xc1, 0x84, 0x3d]; // the same count in compact form
    body.resize(18 * count as usize, 0);
    let bytes = Bytes::from(body);
    let peak = peak_bytes(|| decode_any::<DeleteTopicsRequest>(&bytes, 6));
    assert!(peak <= 33 << 20, "{peak}");
}

#[test]
fn a_count_that_the_bytes_cannot_hold_allocates_nothing() {
    let bytes = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 1]);
    let peak =
        peak_bytes(|| assert!(matches!(decode_any::<MetadataRequest>(&bytes, 0), Err(DecodeError::Count { .. }))));
    assert_eq!(peak, 0);
}

#[test]
fn records_of_a_produce_request_are_not_copied() {
    let records = Bytes::from(vec![7; 1 << 20]);
    let mut request = ProduceRequest { acks: -1, timeout_ms: 1000, ..Default::default() };
    request.topic_data.resize_with(1, Default::default);
    request.topic_data[0].name = "orders".into();
    request.topic_data[0].partition_data.resize_with(1, Default::default);
    request.topic_data[0].partition_data[0].records = Some(records.clone());
    let framed = frame::encode_request(1, None, &request, 12).unwrap();
    let frame_bytes = framed.slice(frame::SIZE_BYTES..);

    assert!(peak_bytes(|| request_body(&frame_bytes)) < 1024, "decoding shares the frame");
    let own = BytesMut::from(&frame_bytes[..]);
    assert!(peak_bytes(|| ProduceView::decode(own).unwrap()) < 1024, "splitting the frame shares it too");

    let mut response = capek_wire::messages::FetchResponse::default();
    response.responses.resize_with(1, Default::default);
    response.responses[0].partitions.resize_with(1, Default::default);
    response.responses[0].partitions[0].records = Some(records);
    let encode = || frame::encode_response(ApiKey::Fetch.code(), 11, 1, &response).unwrap();
    assert!(peak_bytes(encode) < 2048, "a response is a list of chunks");
    assert_eq!(encode().len(), 2, "the records are the last thing before nothing but the end");
}

fn request_body(frame_bytes: &Bytes) -> ProduceRequest {
    let mut r = Reader::new(frame_bytes.clone());
    let header = capek_wire::RequestHeader::decode(&mut r).unwrap();
    ProduceRequest::decode(&mut r, header.api_version).unwrap()
}

#[test]
fn inflating_allocates_little_more_than_comes_out() {
    // 64 MiB of zeros in a few KiB, and a limit of 1 MiB.
    const LIMIT: usize = 1 << 20;
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = batch::compress(codec, &vec![0; 64 << 20]).unwrap();
        let peak = peak_bytes(|| assert!(batch::decompress(codec, &bomb, LIMIT).is_err(), "{codec}"));
        assert!(peak <= 4 * LIMIT, "{codec}: {peak}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_bounded(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
        assert_bounded(bytes);
    }

    #[test]
    fn bytes_of_few_values_are_bounded(bytes in proptest::collection::vec(0u8..4, 0..2000)) {
        assert_bounded(bytes);
    }

    #[test]
    fn damaged_frames_are_bounded(seed in any::<u64>()) {
        let mut s = Sampler::new(seed);
        let (request, response) = sample_frame(&mut s);
        let (key, version) = (i16::from_be_bytes([request[0], request[1]]), i16::from_be_bytes([request[2], request[3]]));
        for body in [request, response] {
            let mut bytes = body.to_vec();
            s.mutate(&mut bytes);
            let bytes = Bytes::from(bytes);
            // What is read is written twice and read once more, so the bound is the fourfold.
            let allowed = 4 * allowed_bytes(bytes.len());
            prop_assert!(peak_bytes(|| request_frame(bytes.clone())) <= allowed);
            prop_assert!(peak_bytes(|| response_body(key, version, bytes.clone())) <= allowed);
            prop_assert!(peak_bytes(|| ProduceView::decode(BytesMut::from(&bytes[..]))) <= allowed);
        }
    }

    #[test]
    fn damaged_batches_are_bounded(seed in any::<u64>()) {
        let mut s = Sampler::new(seed);
        let mut bytes = sample_batch(&mut s);
        s.mutate(&mut bytes);
        let bytes = Bytes::from(bytes);
        const LIMIT: usize = 64 * 1024;
        // A header of two bytes takes 64 in memory, and a list of them is doubled as it grows.
        const RECORD_FACTOR: usize = 96;
        // The LZ4 frame says how large its blocks are: up to 4 MiB, twice.
        const DECODER_BYTES: usize = 13 << 20;
        let peak = peak_bytes(|| {
            for record in batch::records(bytes.clone(), LIMIT).into_iter().flatten() {
                drop(record);
            }
        });
        prop_assert!(peak <= DECODER_BYTES + RECORD_FACTOR * LIMIT.max(bytes.len()), "{peak} for {} bytes", bytes.len());
    }
}
