//! What HTTP reads that has no crate of its own: JSON as text, values that follow each other, rows of CSV, where a stream begins.
#![no_main]

#[allow(dead_code)]
#[path = "../../src/http/v1/csv.rs"]
mod csv;
#[allow(dead_code)]
#[path = "../../src/http/stream/from.rs"]
mod from;
#[allow(dead_code)]
#[path = "../../src/http/json.rs"]
mod json;
#[allow(dead_code)]
#[path = "../../src/http/rest_v3/splitter.rs"]
mod splitter;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(raw) = json::parse(input) {
        let mut compact = Vec::new();
        json::put_compact(&mut compact, raw.get());
        assert!(json::parse(&compact).is_ok() && !compact.contains(&b'\n'));
    }
    let mut splitter = splitter::Splitter::default();
    for chunk in input.chunks(7) {
        splitter.push(chunk);
        while splitter.next_value().is_some() {}
    }
    let _ = splitter.last_value();
    assert_eq!(splitter.held_bytes(), 0);
    let body = Bytes::copy_from_slice(input);
    let _ = (csv::rows(&body, true), csv::rows(&body, false));
    if let Ok(text) = std::str::from_utf8(input) {
        let _ = from::From::parse(text, 1_700_000_000_000);
    }
});
