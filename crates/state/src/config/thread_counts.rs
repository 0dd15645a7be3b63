//! How far Kafka lets the sizes of its thread pools change at a time.

/// Pools whose size can change while a broker runs; the log cleaner has a sentence of its own.
const POOLS: [&str; 5] = [
    "background.threads",
    "num.io.threads",
    "num.network.threads",
    "num.recovery.threads.per.data.dir",
    "num.replica.fetchers",
];
const CLEANER: &str = "log.cleaner.threads";

/// May a broker that has `current` threads get `value` of them? At least half as many, at most twice as many. What is no
/// number is judged elsewhere. The words are Kafka's.
pub fn check_thread_count(name: &str, value: &str, current: &str) -> Result<(), String> {
    let is_pool = POOLS.contains(&name);
    let (Ok(count), Ok(current)) = (value.trim().parse::<i64>(), current.trim().parse::<i64>()) else {
        return Ok(());
    };
    if !is_pool && name != CLEANER || count < 1 || count == current {
        return Ok(());
    }
    let failed = format!("Dynamic thread count update validation failed for {name}={count}, value should");
    match (count < current / 2, count > current.saturating_mul(2)) {
        (false, false) => Ok(()),
        (true, _) if is_pool => Err(format!("{failed} be at least half the current value {current}")),
        (_, _) if is_pool => Err(format!("{failed} not be greater than double the current value {current}")),
        (true, _) => {
            Err(format!("Log cleaner threads cannot be reduced to less than half the current value {current}"))
        }
        _ => Err(format!("Log cleaner threads cannot be increased to more than double the current value {current}")),
    }
}
