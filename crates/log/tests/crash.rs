//! The power goes at every write and every sync of a script, comes back, goes again during recovery, and comes back.
//! What was confirmed must be there, what was cut must stay cut, and nothing may be there that was never asked for.
//!
//! `CAPEK_CRASH_SEEDS=n` runs n seeds instead of a few, `CAPEK_CRASH_SEED=s` a single one,
//! `CAPEK_CRASH_AT=k` begins at that operation.

#![allow(clippy::print_stdout, reason = "it tells which seed fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use capek_log::vfs::SimVfs;
use capek_log::{Entry, Flush, JournalOptions, Log, LogConfig, LogId, RecoveredLog};
use common::model::Model;
use common::{Driver, append, batch, id, options};

const STEPS: usize = 200;
/// Appends only: the logs grow, and with them the time of each check.
const APPENDS: usize = 110;
const SEEDS: u64 = 2;
const LOGS: [&str; 4] = ["first", "second", "third", "async"];

struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)) % below
    }
}

fn config(name: &str) -> LogConfig {
    let flush = if name == "async" { Flush::Async } else { Flush::Group };
    LogConfig { segment_bytes: 5000, index_interval_bytes: 500, file_delete_delay_ms: 5, flush, ..LogConfig::default() }
}

struct World {
    seed: u64,
    sim: SimVfs,
    random: Random,
    models: BTreeMap<&'static str, Model>,
    logs: BTreeMap<&'static str, Arc<Log>>,
    epoch: i32,
    token: u64,
    appends_only: bool,
}

/// The power went.
struct Crashed;

impl World {
    fn new(seed: u64) -> World {
        let models = LOGS.iter().map(|name| (*name, Model::new(*name == "async"))).collect();
        World {
            seed,
            sim: SimVfs::new(seed),
            random: Random(seed),
            models,
            logs: BTreeMap::new(),
            epoch: 0,
            token: 0,
            appends_only: false,
        }
    }

    /// Everything small, so that 200 steps roll, bypass and recycle.
    fn options(&self) -> JournalOptions {
        // By turns: all small appends gather before they are written, some do, none does.
        let pending_bytes_max = [usize::MAX, 3000, 0][(self.seed % 3) as usize];
        JournalOptions {
            file_bytes: 48 << 10,
            bypass_bytes: 4000,
            round_bytes_max: 12_000,
            pending_bytes_max,
            ..options("/data")
        }
    }

    fn script_steps(&self) -> usize {
        if self.appends_only { APPENDS } else { STEPS }
    }

    fn run(&mut self, steps: usize) -> Result<(), Crashed> {
        let (mut driver, _) = Driver::open(Arc::new(self.sim.clone()), self.options()).map_err(|_| Crashed)?;
        self.create_missing(&mut driver)?;
        self.steps(&mut driver, steps)?;
        self.settle(&mut driver)?;
        driver.journal.close().map_err(|_| Crashed)
    }

    fn steps(&mut self, driver: &mut Driver, steps: usize) -> Result<(), Crashed> {
        for _ in 0..steps {
            driver.now_ms += 1;
            let name = LOGS[self.random.next(LOGS.len() as u64) as usize];
            // Cuts wait for a checkpoint that is on its way: without them it overlaps with many rounds.
            let kinds = if self.appends_only { 11 } else { 20 };
            match self.random.next(kinds) {
                0..8 => self.append(driver, name, 1, 150),
                8 => self.append(driver, name, 6, 60),
                9..11 => self.append(driver, name, 5, 1100),
                11..13 => self.truncate(driver, name),
                13..15 => self.move_log_start(driver, name),
                15 => self.reset(driver, name),
                16 => self.delete(driver, name),
                17 => self.barrier(driver, name),
                _ => {
                    driver.journal.background(driver.now_ms).map_err(|_| Crashed)?;
                }
            }
            if self.random.next(2) == 0 {
                self.settle(driver)?;
            }
        }
        Ok(())
    }

    fn issue(&mut self, driver: &mut Driver, name: &'static str, entry: Entry) {
        self.models.get_mut(name).unwrap().issue(&entry);
        driver.push(entry);
    }

    fn append(&mut self, driver: &mut Driver, name: &'static str, count: u64, value_bytes: usize) {
        let Some(log) = self.logs.get(name).cloned() else { return };
        let mut end = self.models[name].last().end;
        let mut batches = Vec::new();
        self.epoch += i32::from(self.random.next(10) == 0);
        for _ in 0..=self.random.next(count) {
            let records = 1 + self.random.next(3) as usize;
            let timestamp = 1000 + self.random.next(1000) as i64;
            batches.push(batch(end, self.epoch, records, value_bytes, timestamp));
            end += records as i64;
        }
        self.issue(driver, name, append(&log, 0, batches));
    }

    fn truncate(&mut self, driver: &mut Driver, name: &'static str) {
        let Some(log) = self.logs.get(name).cloned() else { return };
        let state = self.models[name].last();
        let back = self.random.next(12) as i64;
        let end_offset = (state.end - back).max(state.log_start);
        self.epoch += 1;
        self.issue(driver, name, Entry::Truncate { log, end_offset });
    }

    fn move_log_start(&mut self, driver: &mut Driver, name: &'static str) {
        let Some(log) = self.logs.get(name).cloned() else { return };
        let state = self.models[name].last();
        let span = (state.end - state.log_start) as u64;
        let offset = state.log_start + self.random.next(span + 1) as i64;
        self.issue(driver, name, Entry::LogStart { log, offset });
    }

    fn reset(&mut self, driver: &mut Driver, name: &'static str) {
        let Some(log) = self.logs.get(name).cloned() else { return };
        let offset = self.models[name].last().end + 1 + self.random.next(5) as i64;
        self.issue(driver, name, Entry::LogStart { log, offset });
    }

    fn delete(&mut self, driver: &mut Driver, name: &'static str) {
        let Some(log) = self.logs.remove(name) else { return };
        self.issue(driver, name, Entry::Delete { log });
    }

    fn barrier(&mut self, driver: &mut Driver, name: &'static str) {
        let Some(log) = self.logs.get(name).cloned() else { return };
        self.token += 1;
        self.issue(driver, name, Entry::Barrier { log, token: self.token });
    }

    /// Rounds until the queue is empty, and what was deleted comes back, sometimes.
    fn settle(&mut self, driver: &mut Driver) -> Result<(), Crashed> {
        let result = driver.run();
        let done = result.as_ref().map_or_else(|_| std::mem::take(&mut driver.done), Clone::clone);
        for completion in done {
            let name = &*completion.log.id().topic;
            self.models.get_mut(name).unwrap().complete(&completion);
        }
        result.map_err(|_| Crashed)?;
        if self.random.next(3) == 0 { self.create_missing(driver) } else { Ok(()) }
    }

    fn create_missing(&mut self, driver: &mut Driver) -> Result<(), Crashed> {
        for name in LOGS {
            if self.logs.contains_key(name) {
                continue;
            }
            let model = self.models.get_mut(name).unwrap();
            let is_new = !model.last().exists;
            if is_new {
                model.creating();
            }
            let spec = capek_log::LogSpec { id: id(name, 0), config: config(name) };
            let log = driver.journal.create(vec![spec]).remove(0).map_err(|_| Crashed)?;
            if is_new {
                model.created();
            }
            self.logs.insert(name, log);
        }
        Ok(())
    }

    /// Power off and on, and off again in the middle of recovery, a few times.
    fn power_cycle(&mut self) {
        self.logs.clear();
        self.sim.crash();
        for _ in 0..self.random.next(3) {
            let operations = self.sim.operations();
            self.sim.crash_at(Some(operations + 1 + self.random.next(40)));
            if let Ok((_, recovery)) = Driver::open(Arc::new(self.sim.clone()), self.options()) {
                recovery.logs.iter().for_each(|log| assert_eq!(log.damaged, None));
            }
            self.sim.crash();
        }
    }

    fn check(&mut self) {
        let (mut driver, recovery) = Driver::open(Arc::new(self.sim.clone()), self.options()).unwrap();
        for name in LOGS {
            let found = recovery.logs.iter().find(|log| *log.id.topic == *name);
            let log = found.map(|found| open_found(&mut driver, found, name));
            self.models.get_mut(name).unwrap().check_after_crash(log.as_deref());
        }
    }
}

fn open_found(driver: &mut Driver, found: &RecoveredLog, name: &str) -> Arc<Log> {
    assert_eq!(found.damaged, None, "{name}");
    assert_eq!(found.flushed_end, found.end);
    let log = driver.log(name, 0, config(name));
    let expected: LogId = id(name, 0);
    assert_eq!((log.id(), log.end_offset(), log.log_start()), (&expected, found.end, found.log_start));
    log
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|value| value.parse().ok())
}

fn seeds() -> Vec<u64> {
    match number("CAPEK_CRASH_SEED") {
        Some(seed) => vec![seed],
        None => (1..=number("CAPEK_CRASH_SEEDS").unwrap_or(SEEDS)).collect(),
    }
}

/// How many operations the script takes when nothing happens.
fn operations_of(seed: u64, appends_only: bool) -> u64 {
    let mut world = World { appends_only, ..World::new(seed) };
    assert!(world.run(world.script_steps()).is_ok());
    world.logs.clear();
    world.check();
    world.sim.operations()
}

#[test]
fn confirmed_records_survive_a_power_cut_at_any_operation() {
    seeds().into_iter().for_each(|seed| crash_everywhere(seed, false));
}

#[test]
fn the_journal_is_recycled_only_when_it_is_not_needed() {
    let seeds = seeds();
    seeds.iter().take(seeds.len().div_ceil(4)).for_each(|seed| crash_everywhere(*seed, true));
}

fn crash_everywhere(seed: u64, appends_only: bool) {
    let operations = operations_of(seed, appends_only);
    for crash_at in number("CAPEK_CRASH_AT").unwrap_or(1)..=operations {
        let result = std::panic::catch_unwind(|| crash_once(seed, crash_at, appends_only));
        if let Err(panic) = result {
            println!("failing: CAPEK_CRASH_SEED={seed}, crash at {crash_at} of {operations}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("seed {seed}: {operations} crash points");
}

fn crash_once(seed: u64, crash_at: u64, appends_only: bool) {
    let mut world = World { appends_only, ..World::new(seed) };
    world.sim.crash_at(Some(crash_at));
    let _ = world.run(world.script_steps());
    world.random.0 ^= crash_at << 20;
    world.power_cycle();
    world.check();
    // It goes on: more work, another cut somewhere, and once more.
    let operations = world.sim.operations();
    world.logs.clear();
    world.sim.crash_at(Some(operations + 1 + world.random.next(60)));
    let _ = world.run(12);
    world.power_cycle();
    world.check();
}
