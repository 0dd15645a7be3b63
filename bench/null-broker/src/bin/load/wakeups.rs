//! What the machine itself does to whoever waits: two threads wake each other, as fast as they can, and nothing else runs.
//!
//! A virtual machine may be slowed at times by what it shares with others. What is late then is not the broker's doing.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::{new_histogram, percentiles};

const SLICE: Duration = Duration::from_millis(20);
/// A slice is slow with less than this share of the median's round trips.
const SLOW_PERCENT: u64 = 60;

pub fn run(seconds: u64) -> io::Result<()> {
    let (mut here, mut there) = UnixStream::pair()?;
    let echo = std::thread::spawn(move || {
        let mut byte = [0];
        while there.read_exact(&mut byte).is_ok() && there.write_all(&byte).is_ok() {}
    });
    let (mut histogram, mut slices) = (new_histogram(), Vec::new());
    let began = Instant::now();
    let (mut slice_began, mut in_slice, mut sent) = (began, 0u64, began);
    while began.elapsed() < Duration::from_secs(seconds) {
        here.write_all(&[0])?;
        here.read_exact(&mut [0])?;
        let now = Instant::now();
        histogram.saturating_record((now - sent).as_micros().max(1) as u64);
        sent = now;
        in_slice += 1;
        if now - slice_began >= SLICE {
            slices.push(in_slice);
            (slice_began, in_slice) = (now, 0);
        }
    }
    drop(here);
    echo.join().map_err(|_| io::Error::other("the echo panicked"))?;
    let mut sorted = slices.clone();
    sorted.sort_unstable();
    let median = sorted.get(sorted.len() / 2).copied().unwrap_or(0);
    let is_slow = |slice: &&u64| **slice * 100 < median * SLOW_PERCENT;
    let slow = slices.iter().filter(is_slow).count();
    println!(
        "{{\"round_trips\": {}, {}, \"slices\": {}, \"slow_slices\": {slow}, \"slowest_of_median_percent\": {}}}",
        histogram.len(),
        percentiles(&histogram),
        slices.len(),
        sorted.first().copied().unwrap_or(0) * 100 / median.max(1)
    );
    Ok(())
}
