//! A pace in bytes a second, shared by all who ask: each is told how long to pause before it goes on.

use std::time::{Duration, Instant};

/// What was taken is spread over the time that it may take; time that passed unused is not saved up.
#[derive(Debug)]
pub struct Throttle {
    /// Everything that was taken is paid for at this time.
    paid_at: Instant,
}

/// However slow the pace: nobody pauses for longer at once.
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Throttle {
    pub fn new(now: Instant) -> Self {
        Self { paid_at: now }
    }

    /// Takes so many bytes; the pause that keeps the pace.
    pub fn take(&mut self, bytes: u64, bytes_per_second: f64, now: Instant) -> Duration {
        let seconds = bytes as f64 / bytes_per_second.max(1.0);
        let cost = Duration::try_from_secs_f64(seconds).unwrap_or(PAUSE_MAX).min(PAUSE_MAX);
        self.paid_at = self.paid_at.max(now) + cost;
        self.paid_at.duration_since(now).min(PAUSE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_who_take_pause_for_as_long_as_the_pace_asks() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        assert_eq!(throttle.take(1000, 1000.0, start), Duration::from_secs(1));
        assert_eq!(throttle.take(500, 1000.0, start), Duration::from_millis(1500), "the second waits for the first");
        let later = start + Duration::from_secs(10);
        assert_eq!(throttle.take(1000, 1000.0, later), Duration::from_secs(1), "what was not used is not saved up");
    }

    #[test]
    fn no_limit_is_no_pause_and_no_pause_is_endless() {
        let start = Instant::now();
        assert_eq!(Throttle::new(start).take(u64::MAX, f64::MAX, start), Duration::ZERO);
        assert_eq!(Throttle::new(start).take(1 << 40, 0.0, start), PAUSE_MAX);
    }
}
