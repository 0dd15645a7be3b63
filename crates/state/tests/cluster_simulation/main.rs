//! Brokers with plain state, disks that lose what was not synced and a network that delays, loses and parts, under a seeded
//! schedule. The invariants of replication are looked at after every event; when the trouble is over everyone must be back in
//! sync and nothing that was confirmed may be missing.
//!
//! `CAPEK_TEST_SEEDS=FIRST..END` runs other seeds than the usual ones. A failure names its seed and prints what happened.

mod broker;
mod checker;
mod client;
mod controller;
mod disk;
mod lifecycle;
mod messages;
mod random;
mod replication;
#[path = "../support/seeds.rs"]
mod seeds;
mod trouble;
mod world;

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use checker::Counts;
use seeds::for_each_seed;
use world::World;

const SEEDS: Range<u64> = 0..6_000;
const TROUBLE_MS: i64 = 15_000;
const QUIET_MS: i64 = 8_000;
/// How much of the end of a failed run is printed.
const TRACE_LINES: usize = 150;

fn simulate(world: &mut World) {
    world.run(TROUBLE_MS);
    world.heal();
    world.run(QUIET_MS / 2);
    let acked = world.checker.counts.acked;
    world.run(QUIET_MS / 2);
    world.check_healed(acked);
}

/// The same run again, this time writing down what happens.
fn trace(seed: u64) -> String {
    let mut world = World::new(seed, true);
    let outcome = catch_unwind(AssertUnwindSafe(|| simulate(&mut world)));
    let why = outcome.err().map_or(String::new(), |panic| match panic.downcast::<String>() {
        Ok(why) => *why,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(),
    });
    let lines = world.trace.take().unwrap_or_default();
    format!("{}\n{why}", lines[lines.len().saturating_sub(TRACE_LINES)..].join("\n"))
}

/// For `--nocapture`: the figures of a campaign.
#[allow(clippy::print_stdout)]
fn report(runs: u64, total: &Counts) {
    println!("{runs} seeds, none failed: {total:?}");
}

#[test]
fn what_was_confirmed_survives_whatever_happens_to_brokers_disks_and_network() {
    let total = Mutex::new(Counts::default());
    let seeds = for_each_seed(SEEDS, |seed| {
        let mut world = World::new(seed, false);
        let outcome = catch_unwind(AssertUnwindSafe(|| simulate(&mut world)));
        assert!(outcome.is_ok(), "{}\nseed {seed} failed: CAPEK_TEST_SEEDS={seed}..{}", trace(seed), seed + 1);
        total.lock().unwrap().add(&world.checker.counts);
    });
    let total = total.into_inner().unwrap();
    // A run that met no trouble shows nothing.
    let runs = seeds.end - seeds.start;
    report(runs, &total);
    assert!(total.elections >= runs && total.crashes >= runs && total.acked >= 50 * runs, "{runs} runs: {total:?}");
    if runs >= 100 {
        assert!(total.truncations > 0 && total.unknown > 0 && total.refused > 0 && total.joins > 0, "{total:?}");
        assert!(total.late_words > 0 && total.withdrawals > 0, "{total:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed, true);
        simulate(&mut world);
        world.trace
    };
    for seed in 0..3 {
        assert!(run(seed) == run(seed), "seed {seed} gave two runs");
    }
}
