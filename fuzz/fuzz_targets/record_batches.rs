//! Record batches, one after the other, with the records in them.
#![no_main]

use capek_wire::testing::record_batches;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| record_batches(input, 1 << 20));
