//! How fast the processors are while a load runs.
//!
//! A virtual machine may be slowed at times by whom it shares the hardware with: for a tenth of a second the same arithmetic takes five
//! or ten times as long, though nobody else runs here. What is late then is not the broker's doing. So a thread does a
//! little arithmetic every few milliseconds, and what lives while that takes half as long again as usual, or before what piled up
//! meanwhile can have gone, is told apart.

use std::hint::black_box;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::{new_histogram, percentiles};

const INTERVAL: Duration = Duration::from_millis(5);
/// About twelve microseconds of a processor; the shortest of three counts, so that it does not matter who else had a turn.
const STEPS: u64 = 8_000;
const ATTEMPTS: usize = 3;
/// Slowed is who needs more than so many per cent of the median.
const SLOWED_PERCENT: u128 = 150;

/// Looks at the processors until it is stopped.
pub struct Probe {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<(Instant, Duration)>>,
}

impl Probe {
    pub fn start() -> Probe {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = is_over.clone();
        let thread = std::thread::spawn(move || {
            let mut probes = Vec::new();
            while !seen.load(Ordering::Relaxed) {
                probes.push((Instant::now(), arithmetic()));
                std::thread::sleep(INTERVAL);
            }
            probes.push((Instant::now(), arithmetic()));
            probes
        });
        Probe { is_over, thread }
    }

    pub fn stop(self) -> io::Result<Speed> {
        self.is_over.store(true, Ordering::Relaxed);
        Ok(Speed::of(&self.thread.join().map_err(|_| io::Error::other("the probe panicked"))?))
    }
}

fn arithmetic() -> Duration {
    let attempt = |_| {
        let began = Instant::now();
        let mut x = black_box(1u64);
        for _ in 0..STEPS {
            x = (x ^ (x >> 7)).wrapping_mul(6_364_136_223_846_793_005);
        }
        black_box(x);
        began.elapsed()
    };
    (0..ATTEMPTS).map(attempt).min().unwrap_or_default()
}

/// When the processors were slowed.
pub struct Speed {
    slowed: Vec<(Instant, Instant)>,
    slowed_percent: f64,
    slowest_percent: u128,
}

impl Speed {
    fn of(probes: &[(Instant, Duration)]) -> Speed {
        let mut durations: Vec<_> = probes.iter().map(|(_, duration)| duration.as_nanos().max(1)).collect();
        durations.sort_unstable();
        let usual = durations.get(durations.len() / 2).copied().unwrap_or(1);
        let is_slow = |(_, duration): &(Instant, Duration)| duration.as_nanos() * 100 > usual * SLOWED_PERCENT;
        // A probe speaks for the time since the one before, and for that up to the next.
        let mut slowed: Vec<(Instant, Instant)> = Vec::new();
        for pair in probes.windows(2).filter(|pair| pair.iter().any(is_slow)) {
            match slowed.last_mut() {
                Some(last) if last.1 == pair[0].0 => last.1 = pair[1].0,
                _ => slowed.push((pair[0].0, pair[1].0)),
            }
        }
        let total = probes.first().zip(probes.last()).map_or(0.0, |(first, last)| (last.0 - first.0).as_secs_f64());
        let in_slowed: f64 = slowed.iter().map(|(from, to)| (*to - *from).as_secs_f64()).sum();
        let slowest = durations.last().copied().unwrap_or(1);
        Speed { slowed, slowed_percent: in_slowed * 100.0 / total.max(1e-9), slowest_percent: usual * 100 / slowest }
    }

    /// What piles up while half of the speed is missing goes in as long again at most, where half of it is enough.
    fn was_slowed(&self, from: Instant, to: Instant) -> bool {
        let after = self.slowed.partition_point(|(begin, end)| *end + (*end - *begin) < from);
        self.slowed.get(after).is_some_and(|(begin, _)| *begin <= to)
    }

    fn json(&self) -> String {
        format!("\"slowed_percent\": {:.1}, \"slowest_percent\": {}", self.slowed_percent, self.slowest_percent)
    }
}

/// Times that something took, and when.
pub struct Latencies {
    origin: Instant,
    /// Microseconds after the origin: since when, until when.
    samples: Vec<(u32, u32)>,
}

impl Latencies {
    /// Nothing begins before `origin`.
    pub fn new(origin: Instant) -> Latencies {
        Latencies { origin, samples: Vec::new() }
    }

    pub fn note(&mut self, from: Instant, to: Instant) {
        let micros = |at: Instant| u32::try_from((at - self.origin).as_micros()).unwrap_or(u32::MAX);
        self.samples.push((micros(from), micros(to)));
    }

    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Percentiles of all, and of those that did not live while the processors were slowed.
    pub fn json(&self, speed: &Speed) -> String {
        let (mut all, mut at_speed) = (new_histogram(), new_histogram());
        for &(from, to) in &self.samples {
            let record =
                |histogram: &mut Histogram<u64>| histogram.saturating_record(u64::from(to.saturating_sub(from).max(1)));
            record(&mut all);
            let at = |micros: u32| self.origin + Duration::from_micros(micros.into());
            if !speed.was_slowed(at(from), at(to)) {
                record(&mut at_speed);
            }
        }
        format!("{}, \"at_speed\": {{{}}}, {}", percentiles(&all), percentiles(&at_speed), speed.json())
    }
}

/// The machine alone.
pub fn run(seconds: u64) -> io::Result<()> {
    let probe = Probe::start();
    std::thread::sleep(Duration::from_secs(seconds));
    let speed = probe.stop()?;
    println!("{{{}, \"times\": {}}}", speed.json(), speed.slowed.len());
    Ok(())
}
