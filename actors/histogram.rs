//! Histogram: how long something took, counted without a lock. Four buckets to each doubling, so that a quantile is right to
//! about a fifth, from a microsecond to a minute.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Buckets to a doubling.
const STEPS: usize = 4;
/// 2^26 µs is 67 s; what takes longer falls in the last bucket.
const DOUBLINGS: usize = 26;
const BUCKETS: usize = STEPS * DOUBLINGS + 1;
/// Quantiles are those of the last minute or two, if somebody looks each minute.
const WINDOW: Duration = Duration::from_secs(60);

/// See the head of this file.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
    window: Mutex<Window>,
}

/// What had been counted when the present window began, and when the one before it did. Only who reads takes its lock.
#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    before: Vec<u64>,
    present: Vec<u64>,
}

impl Default for Histogram {
    fn default() -> Self {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Self { buckets, sum_us: AtomicU64::new(0), window: Mutex::default() }
    }
}

/// What was counted since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    buckets: Vec<u64>,
    pub sum_us: u64,
    pub count: u64,
}

impl Histogram {
    pub fn record(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket_of(us)].fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.load(Ordering::Relaxed) == 0)
    }

    pub fn counted(&self) -> Counted {
        let sum_us = self.sum_us.load(Ordering::Relaxed);
        let buckets = self.load();
        Counted { count: buckets.iter().sum(), buckets, sum_us }
    }

    /// The values below which these parts of what was recorded lately lie; None when nothing was.
    pub fn quantiles<const N: usize>(&self, wanted: [f64; N], now: Instant) -> Option<[Duration; N]> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that nobody else's look at it is later than ours.
        let buckets = self.load();
        if window.began.is_none_or(|began| now.duration_since(began) >= WINDOW) {
            window.began = Some(now);
            window.before = std::mem::replace(&mut window.present, buckets.clone());
        }
        let before = |index: usize| window.before.get(index).copied().unwrap_or(0);
        let lately: Vec<u64> = buckets.iter().enumerate().map(|(index, count)| count - before(index)).collect();
        let count: u64 = lately.iter().sum();
        (count > 0).then(|| wanted.map(|part| quantile(&lately, (part * count as f64).ceil() as u64)))
    }

    fn load(&self) -> Vec<u64> {
        self.buckets.iter().map(|bucket| bucket.load(Ordering::Relaxed)).collect()
    }
}

impl Counted {
    /// How many took less than so many microseconds, for each power of four: bounds that lie between two buckets.
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut below = 0;
        let mut next = 0;
        (3..=DOUBLINGS).step_by(2).map(move |doubling| {
            let end = doubling * STEPS;
            below += self.buckets[next..end].iter().sum::<u64>();
            next = end;
            (1 << doubling, below)
        })
    }
}

fn bucket_of(us: u64) -> usize {
    let Some(doubling) = us.checked_ilog2() else { return 0 };
    // The two bits below the highest say which quarter of its doubling it is in.
    let quarter = (((us - (1 << doubling)) << 2) >> doubling) as usize;
    (doubling as usize * STEPS + quarter).min(BUCKETS - 1)
}

/// Where the bucket ends.
fn end_us(index: usize) -> f64 {
    let base = (1_u64 << (index / STEPS)) as f64;
    base * (1.0 + (index % STEPS + 1) as f64 / STEPS as f64)
}

fn quantile(buckets: &[u64], rank: u64) -> Duration {
    let mut below = 0;
    let reached = buckets.iter().position(|count| {
        below += count;
        below >= rank.max(1)
    });
    Duration::from_secs_f64(end_us(reached.unwrap_or(BUCKETS - 1)) / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lies_in_the_bucket_whose_end_is_just_above_it() {
        for us in [1, 2, 3, 5, 7, 100, 1023, 1024, 1025, 999_999, 60_000_000] {
            let index = bucket_of(us);
            assert!((us as f64) < end_us(index), "{us} in bucket {index}");
            assert!(index == 0 || us as f64 >= end_us(index - 1), "{us} in bucket {index}");
        }
        assert_eq!((bucket_of(0), bucket_of(u64::MAX)), (0, BUCKETS - 1));
    }

    #[test]
    fn what_is_counted_below_a_bound_is_all_that_is_smaller() {
        let histogram = Histogram::default();
        for us in [1, 7, 8, 31, 32, 2_000_000, 90_000_000] {
            histogram.record(Duration::from_micros(us));
        }
        let counted = histogram.counted();
        assert_eq!((counted.count, counted.sum_us), (7, 92_000_079));
        let cumulative: Vec<_> = counted.cumulative().collect();
        assert_eq!(cumulative[..2], [(8, 2), (32, 4)]);
        assert_eq!(cumulative.last(), Some(&(1 << 25, 6)));
    }

    #[test]
    fn quantiles_forget_what_was_long_ago() {
        let (histogram, start) = (Histogram::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(histogram.quantiles([0.5], at(0)), None);
        histogram.record(Duration::from_secs(5));
        let [slow] = histogram.quantiles([0.5], at(1)).expect("one was recorded");
        assert!((5.0..6.3).contains(&slow.as_secs_f64()), "{slow:?}");
        histogram.quantiles([0.5], at(61));
        histogram.record(Duration::from_millis(1));
        histogram.quantiles([0.5], at(122));
        let [fast] = histogram.quantiles([0.99], at(123)).expect("one was recorded");
        assert!(fast < Duration::from_millis(2), "{fast:?}");
        histogram.quantiles([0.5], at(200));
        assert_eq!(histogram.quantiles([0.5], at(201)), None);
    }
}
