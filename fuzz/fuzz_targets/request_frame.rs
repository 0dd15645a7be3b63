//! A request frame of any API and version, without its size: key, version, correlation id, client id, body.
#![no_main]

use bytes::Bytes;
use capek_wire::testing::{produce_frame, request_frame};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let _ = request_frame(Bytes::copy_from_slice(input));
    produce_frame(input);
});
