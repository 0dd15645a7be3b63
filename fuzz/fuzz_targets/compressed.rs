//! Compressed records, inflated with every codec.
#![no_main]

use capek_wire::testing::compressed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| compressed(input, 1 << 20));
