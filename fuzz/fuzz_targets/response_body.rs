//! A response of any API and version: one byte of key, one of version, then the body.
#![no_main]

use bytes::Bytes;
use capek_wire::testing::response_body;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let [key, version, body @ ..] = input {
        let _ = response_body((*key).into(), (*version).into(), Bytes::copy_from_slice(body));
    }
});
