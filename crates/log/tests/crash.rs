//! The power goes at every write and every sync of a script, comes back, goes again during recovery, and comes back.
//! What was confirmed must be there, what was cut must stay cut, and nothing may be there that was never asked for.
//!
//! `CAPEK_CRASH_SEEDS=n` runs n seeds instead of a few, `CAPEK_CRASH_SEED=s` a single one,
//! `CAPEK_CRASH_AT=k` begins at that operation.

#![allow(clippy::print_stdout, reason = "it tells which seed fails")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use std::path::PathBuf;

use bytes::Bytes;
use capek_log::vfs::{SimVfs, read_file};
use capek_log::{Clean, CleanError, CleanOptions, Entry, Flush, JournalOptions, Log, LogConfig, LogId, RecoveredLog};
use capek_wire::{BatchBuilder, Codec};
use common::model::Model;
use common::{Driver, NoWatch, append, batch, clean_options, id, options, place, query};

const STEPS: usize = 200;
/// Appends only: the logs grow, and with them the time of each check.
const APPENDS: usize = 110;
/// Two logs only, that are cleaned again and again.
const CLEANING: usize = 70;
const SEEDS: u64 = 2;
const LOGS: [&str; 5] = ["first", "second", "third", "async", "keyed"];

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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Script {
    Everything,
    Appends,
    Cleaning,
}

struct World {
    seed: u64,
    sim: SimVfs,
    random: Random,
    models: BTreeMap<&'static str, Model>,
    logs: BTreeMap<&'static str, Arc<Log>>,
    epoch: i32,
    token: u64,
    swaps: u64,
    script: Script,
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
            swaps: 0,
            script: Script::Everything,
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
        match self.script {
            Script::Everything => STEPS,
            Script::Appends => APPENDS,
            Script::Cleaning => CLEANING,
        }
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
            let (name, kind) = match self.script {
                Script::Cleaning => {
                    let name = ["keyed", "keyed", "keyed", "async"][self.random.next(4) as usize];
                    let kind = [0, 0, 9, 8, 9, 0, 9, 18, 18, self.random.next(23)][self.random.next(10) as usize];
                    (name, kind)
                }
                Script::Everything => (LOGS[self.random.next(LOGS.len() as u64) as usize], self.random.next(23)),
                // Cuts wait for a checkpoint that is on its way: without them it overlaps with many rounds.
                Script::Appends => (LOGS[self.random.next(LOGS.len() as u64) as usize], self.random.next(11)),
            };
            match kind {
                0..8 => self.append(driver, name, 1, 150),
                8 => self.append(driver, name, 6, 60),
                9..11 => self.append(driver, name, 5, 1100),
                11..13 => self.truncate(driver, name),
                13..15 => self.move_log_start(driver, name),
                15 => self.reset(driver, name),
                16 => self.delete(driver, name),
                17 => self.barrier(driver, name),
                18..21 => self.clean(driver, name)?,
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
            batches.push(match name {
                "keyed" => self.keyed_batch(end, records, value_bytes),
                _ => batch(end, self.epoch, records, value_bytes, timestamp),
            });
            end += records as i64;
        }
        self.issue(driver, name, append(&log, 0, batches));
    }

    /// Few keys, tombstones among the values, every codec, idempotent or not.
    fn keyed_batch(&mut self, base_offset: i64, records: usize, value_bytes: usize) -> Bytes {
        let codecs = [Codec::None, Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        let mut builder = BatchBuilder::new(codecs[self.random.next(6) as usize]);
        for at in 0..records as i64 {
            let value: Vec<u8> = (0..value_bytes).map(|_| self.random.next(256) as u8).collect();
            let value = (self.random.next(4) > 0).then_some(&value[..]);
            let key = self.random.next(9).to_be_bytes();
            builder.push(base_offset + at, Some(&key), value, &[]);
        }
        if self.random.next(3) == 0 {
            builder.producer(5 + self.random.next(2) as i64, 0, base_offset as i32);
        }
        place(builder.build().unwrap(), base_offset, self.epoch)
    }

    /// Compacts a log, with other things going on between its steps.
    fn clean(&mut self, driver: &mut Driver, name: &'static str) -> Result<(), Crashed> {
        let Some(log) = self.logs.get(name).cloned() else { return Ok(()) };
        if self.random.next(2) == 0 {
            driver.journal.checkpoint_soon().map_err(|_| Crashed)?;
        }
        let confirmed_end = self.models[name].confirmed_end();
        let cleanable = log.cleanable(query(driver.now_ms, confirmed_end)).map_err(|_| Crashed)?;
        let Some(cleanable) = cleanable else { return Ok(()) };
        let options =
            CleanOptions { delete_retention_ms: 30, dedupe_bytes_max: 24 * 8, ..clean_options(driver.now_ms) };
        let mut clean = match Clean::begin(&log, cleanable, options, &mut NoWatch) {
            Ok(clean) => clean,
            Err(error) => return self.check_clean_error(error),
        };
        loop {
            let cleaned = match clean.next_group(&mut NoWatch) {
                Ok(Some(cleaned)) => cleaned,
                Ok(None) => break,
                Err(error) => return self.check_clean_error(error),
            };
            let file = format!("/data/{name}-0/{:020}.log.cleaned", cleaned.base_offset());
            let bytes = read_file(&self.sim, &PathBuf::from(file));
            self.step_between(driver, name);
            if self.random.next(2) == 0 {
                self.settle(driver)?;
            }
            match bytes {
                Ok(bytes) => {
                    self.swaps += 1;
                    let model = self.models.get_mut(name).unwrap();
                    model.issue_swap(cleaned.base_offset(), cleaned.end_offset(), bytes.into());
                    driver.push(Entry::Swap { log: log.clone(), cleaned });
                }
                Err(_) => return Err(Crashed),
            }
            self.step_between(driver, name);
            self.settle(driver)?;
        }
        driver.push(Entry::CleanedTo { log, end_offset: clean.end_offset() });
        Ok(())
    }

    fn check_clean_error(&self, error: CleanError) -> Result<(), Crashed> {
        match error {
            _ if self.sim.is_off() => Err(Crashed),
            CleanError::Ended => Ok(()), // it was deleted
            error => panic!("a clean failed: {error}"),
        }
    }

    fn step_between(&mut self, driver: &mut Driver, name: &'static str) {
        match self.random.next(16) {
            0..4 => self.append(driver, name, 1, 150),
            4 => self.append(driver, name, 5, 1100),
            5 => self.truncate(driver, name),
            6 => self.move_log_start(driver, name),
            7 if self.random.next(3) == 0 => self.delete(driver, name),
            _ => {}
        }
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
fn operations_of(seed: u64, script: Script) -> u64 {
    let mut world = World { script, ..World::new(seed) };
    assert!(world.run(world.script_steps()).is_ok());
    world.logs.clear();
    world.check();
    println!("seed {seed}: {} swaps in the script", world.swaps);
    world.sim.operations()
}

#[test]
fn confirmed_records_survive_a_power_cut_at_any_operation() {
    seeds().into_iter().for_each(|seed| crash_everywhere(seed, Script::Everything));
}

#[test]
fn compaction_loses_nothing_to_a_power_cut_at_any_operation() {
    let seeds = seeds();
    seeds.iter().take(seeds.len().div_ceil(2)).for_each(|seed| crash_everywhere(*seed, Script::Cleaning));
}

#[test]
fn the_journal_is_recycled_only_when_it_is_not_needed() {
    let seeds = seeds();
    seeds.iter().take(seeds.len().div_ceil(4)).for_each(|seed| crash_everywhere(*seed, Script::Appends));
}

fn crash_everywhere(seed: u64, script: Script) {
    let operations = operations_of(seed, script);
    for crash_at in number("CAPEK_CRASH_AT").unwrap_or(1)..=operations {
        let result = std::panic::catch_unwind(|| crash_once(seed, crash_at, script));
        if let Err(panic) = result {
            println!("failing: CAPEK_CRASH_SEED={seed}, crash at {crash_at} of {operations}");
            std::panic::resume_unwind(panic);
        }
    }
    println!("seed {seed}: {operations} crash points");
}

fn crash_once(seed: u64, crash_at: u64, script: Script) {
    let mut world = World { script, ..World::new(seed) };
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
