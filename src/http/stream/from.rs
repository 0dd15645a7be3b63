//! Where a stream begins: `from=earliest|latest|-100|+50|offset:123|ts:MS|ts:RFC3339|-1h`.

use capek_actors::stream_places::StartAt;
use jiff::Timestamp;

/// `now_ms` is what `-1h` counts from.
pub fn parse(text: &str, now_ms: i64) -> Result<StartAt, String> {
    // `+` in a query stands for a space.
    let text = text.trim_end();
    if let Some(count) = text.strip_prefix(['+', ' ']) {
        return number(text, count).map(StartAt::AfterEarliest);
    }
    if let Some(back) = text.strip_prefix('-') {
        return match back.strip_suffix(|last: char| last.is_ascii_alphabetic()) {
            Some(_) => Ok(StartAt::Time((now_ms - duration_ms(text, back)?).max(0))),
            None => number(text, back).map(StartAt::BeforeLatest),
        };
    }
    if let Some(offset) = text.strip_prefix("offset:") {
        return number(text, offset).map(StartAt::Offset);
    }
    if let Some(time) = text.strip_prefix("ts:") {
        return time_ms(text, time).map(StartAt::Time);
    }
    match text {
        "earliest" | "beginning" => Ok(StartAt::Earliest),
        "latest" | "end" => Ok(StartAt::Latest),
        "committed" => Err("from=committed is for the member of a group".to_owned()),
        _ => Err(format!(
            "from={text} is not earliest, latest, -COUNT, +COUNT, offset:N, ts:MILLISECONDS, ts:RFC3339 or -DURATION (as -1h)"
        )),
    }
}

fn number(whole: &str, digits: &str) -> Result<i64, String> {
    let number = digits.parse().ok().filter(|number| *number >= 0 && !digits.starts_with('+'));
    number.ok_or_else(|| format!("from={whole}: '{digits}' is not a number that fits"))
}

fn duration_ms(whole: &str, text: &str) -> Result<i64, String> {
    let (digits, unit_ms) = match text.split_at_checked(text.len() - 1) {
        Some((digits, "s")) => (digits, 1000),
        Some((digits, "m")) => (digits, 60_000),
        Some((digits, "h")) => (digits, 3_600_000),
        Some((digits, "d")) => (digits, 86_400_000),
        _ => return Err(format!("from={whole}: a duration ends in s, m, h or d")),
    };
    number(whole, digits)?.checked_mul(unit_ms).ok_or_else(|| format!("from={whole} is too long ago"))
}

fn time_ms(whole: &str, text: &str) -> Result<i64, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return number(whole, text);
    }
    let time: Timestamp = text.parse().map_err(|error| format!("from={whole}: {error}"))?;
    let time_ms = time.as_millisecond();
    if time_ms < 0 { Err(format!("from={whole} is before 1970")) } else { Ok(time_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_understood() {
        let now_ms = 10_000_000;
        let check = |text: &str, expected| assert_eq!(parse(text, now_ms), Ok(expected), "{text}");
        check("earliest", StartAt::Earliest);
        check("latest", StartAt::Latest);
        check("-100", StartAt::BeforeLatest(100));
        check("+50", StartAt::AfterEarliest(50));
        check(" 50", StartAt::AfterEarliest(50));
        check("offset:123", StartAt::Offset(123));
        check("ts:1700000000000", StartAt::Time(1_700_000_000_000));
        check("ts:1970-01-01T00:00:01Z", StartAt::Time(1000));
        check("ts:1970-01-01T01:00:01+01:00", StartAt::Time(1000));
        check("-1h", StartAt::Time(6_400_000));
        check("-30s", StartAt::Time(9_970_000));
        check("-1d", StartAt::Time(0));
    }

    #[test]
    fn anything_else_is_refused_with_what_it_should_be() {
        let bad = ["", "now", "-", "+", "--1", "-+1", "offset:", "offset:-1", "ts:", "ts:yesterday", "-1y", "-h"];
        for text in bad.into_iter().chain(["committed", "-99999999999999999999", "-9223372036854775807d"]) {
            assert!(parse(text, 0).is_err(), "{text}");
        }
    }
}
