//! What was asked over Kafka's protocol and how long it took, by API: a few atomics for each request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use capek_wire::api::ApiKey;
use capek_wire::error_code::ErrorCode;

use crate::histogram::Histogram;

/// No API has more versions.
const VERSIONS_MAX: usize = 32;
const ERRORS_MAX: usize = 256;

/// A request whose answer is being made.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    api_key: i16,
    version: i16,
    at: Instant,
}

impl Begun {
    /// Of a frame without its size.
    pub fn of(frame: &[u8], at: Instant) -> Begun {
        let number = |index: usize| match (frame.get(index), frame.get(index + 1)) {
            (Some(high), Some(low)) => i16::from_be_bytes([*high, *low]),
            _ => -1,
        };
        Begun { api_key: number(0), version: number(2), at }
    }
}

/// One API.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    by_version: [AtomicU64; VERSIONS_MAX],
    pub took: Histogram,
}

impl ApiMetrics {
    /// How often each version was answered; those that were not are left out.
    pub fn versions(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let counts = self.by_version.iter().map(|count| count.load(Ordering::Relaxed));
        counts.enumerate().filter(|(_, count)| *count > 0)
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct RequestMetrics {
    /// By the number of the API.
    by_api: Vec<ApiMetrics>,
    pub produce_errors: ErrorCounts,
    pub fetch_errors: ErrorCounts,
}

impl Default for RequestMetrics {
    fn default() -> Self {
        let count = ApiKey::all().map(|key| key.code()).max().unwrap_or(0) + 1;
        let by_api = (0..count).map(|_| ApiMetrics::default()).collect();
        Self { by_api, produce_errors: ErrorCounts::default(), fetch_errors: ErrorCounts::default() }
    }
}

impl RequestMetrics {
    /// Its answer is ready to be sent.
    pub fn answered(&self, begun: Begun) {
        let Some(api) = usize::try_from(begun.api_key).ok().and_then(|key| self.by_api.get(key)) else { return };
        if let Some(count) = usize::try_from(begun.version).ok().and_then(|version| api.by_version.get(version)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        api.took.record(begun.at.elapsed());
    }

    pub fn api(&self, key: ApiKey) -> &ApiMetrics {
        &self.by_api[key.code() as usize]
    }
}

/// How often each error was answered.
#[derive(Debug)]
pub struct ErrorCounts([AtomicU64; ERRORS_MAX]);

impl Default for ErrorCounts {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl ErrorCounts {
    /// Success is none.
    pub fn add(&self, error: ErrorCode) {
        if error != ErrorCode::None
            && let Some(count) = usize::try_from(error.code() + 1).ok().and_then(|index| self.0.get(index))
        {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that have occurred.
    pub fn all(&self) -> impl Iterator<Item = (ErrorCode, u64)> + '_ {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        let occurred = counts.enumerate().filter(|(_, count)| *count > 0);
        occurred.map(|(index, count)| (ErrorCode::from_code(index as i16 - 1), count))
    }

    pub fn sum(&self) -> u64 {
        self.all().map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_api_and_every_error_has_its_place() {
        let metrics = RequestMetrics::default();
        for key in ApiKey::all() {
            let [high, low] = key.code().to_be_bytes();
            let version = key.versions().1;
            let begun = Begun::of(&[high, low, 0, version as u8, 9, 9], Instant::now());
            metrics.answered(begun);
            let versions: Vec<_> = metrics.api(key).versions().collect();
            assert_eq!(versions, [(version as usize, 1)], "{key:?}");
            assert_eq!(metrics.api(key).took.counted().count, 1);
        }
        metrics.answered(Begun::of(&[0x7f, 0xff, 0, 0], Instant::now()));
        metrics.answered(Begun::of(&[], Instant::now()));
        for error in ErrorCode::all() {
            metrics.produce_errors.add(error);
        }
        assert_eq!(metrics.produce_errors.sum() as usize, ErrorCode::all().len() - 1);
        assert!(metrics.produce_errors.all().all(|(error, count)| error != ErrorCode::None && count == 1));
    }
}
