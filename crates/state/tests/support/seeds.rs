//! Which seeds a simulation runs.

use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Runs them, shared by all processors; returns which they were.
pub fn for_each_seed(usual: Range<u64>, run: impl Fn(u64) + Sync) -> Range<u64> {
    let seeds = seeds_or(usual);
    let next = AtomicU64::new(seeds.start);
    let some_of_them = || {
        while let seed = next.fetch_add(1, Ordering::Relaxed)
            && seed < seeds.end
        {
            run(seed);
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let working: Vec<_> = (0..threads).map(|_| scope.spawn(some_of_them)).collect();
        for thread in working {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    });
    seeds
}

/// Those of `CAPEK_TEST_SEEDS=FIRST..END`, or the usual ones.
fn seeds_or(usual: Range<u64>) -> Range<u64> {
    std::env::var("CAPEK_TEST_SEEDS").map_or(usual, |seeds| {
        let (first, end) = seeds.split_once("..").expect("CAPEK_TEST_SEEDS is FIRST..END");
        first.parse().expect("a number")..end.parse().expect("a number")
    })
}
