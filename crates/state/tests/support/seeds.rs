//! Which seeds a simulation runs.

use std::ops::Range;

/// Those of `CAPEK_TEST_SEEDS=FIRST..END`, or the usual ones.
pub fn seeds_or(usual: Range<u64>) -> Range<u64> {
    std::env::var("CAPEK_TEST_SEEDS").map_or(usual, |seeds| {
        let (first, end) = seeds.split_once("..").expect("CAPEK_TEST_SEEDS is FIRST..END");
        first.parse().expect("a number")..end.parse().expect("a number")
    })
}
