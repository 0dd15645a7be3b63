//! The offset language of `consume -o`: rpk's (`start`, `end`, `:end`, `+5`, `-10`, `7:20`, `@-1h:end`, `@2026-02-14:1h`)
//! with kcat's words and marks beside it (`beginning`, `s@TIMESTAMP`, `e@TIMESTAMP`).

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// Where reading begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum From {
    #[default]
    Earliest,
    /// Only what comes after now.
    Latest,
    Exact(i64),
    /// This many after the first offset there is.
    AfterEarliest(i64),
    /// This many before the end as it is now.
    BeforeLatest(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
}

/// Where reading ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    #[default]
    Never,
    /// The end as it is when reading begins.
    Latest,
    /// Up to this offset, exclusive.
    Exact(i64),
    /// Up to the first record at or after this time.
    Time(i64),
}

/// What `-o` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OffsetRange {
    pub from: From,
    pub until: Until,
}

/// Combines all `-o` of a command line: kcat gives the two ends of a range in two of them.
pub fn parse_all(texts: &[String], default: OffsetRange, now_ms: i64) -> Result<OffsetRange, String> {
    let mut range = default;
    for text in texts {
        if let Some(time) = text.strip_prefix("e@") {
            range.until = Until::Time(whole_time(time, now_ms)?);
        } else if let Some(time) = text.strip_prefix("s@") {
            range.from = From::Time(whole_time(time, now_ms)?);
        } else {
            range = parse(text, now_ms)?;
        }
    }
    Ok(range)
}

/// Parses one range; times without a date are counted from `now_ms`.
pub fn parse(text: &str, now_ms: i64) -> Result<OffsetRange, String> {
    let wrong = || {
        format!(
            "'{text}' is not an offset: start, end, :end, 42, +5 (after the start), -10 (before the end), 7:20, \
             @TIME, @TIME:TIME (as -1h, 2026-02-14, 2026-02-14T10:00:00Z or milliseconds), @-1h:end"
        )
    };
    if let Some(times) = text.strip_prefix('@') {
        return parse_times(times, now_ms).ok_or_else(wrong);
    }
    let range = match text {
        "start" | "earliest" | "beginning" => OffsetRange::default(),
        "end" | "latest" => OffsetRange { from: From::Latest, until: Until::Never },
        ":end" | "start:end" => OffsetRange { from: From::Earliest, until: Until::Latest },
        _ => parse_exact(text).ok_or_else(wrong)?,
    };
    Ok(range)
}

fn parse_exact(text: &str) -> Option<OffsetRange> {
    let (from, until) = text.split_once(':').unwrap_or((text, ""));
    let from = match from {
        "" | "start" => From::Earliest,
        _ if from.starts_with('+') => From::AfterEarliest(number(&from[1..])?),
        _ if from.starts_with('-') => From::BeforeLatest(number(&from[1..])?),
        _ => From::Exact(number(from)?),
    };
    let until = match until {
        "" if text.is_empty() || text == ":" => return None,
        "" => Until::Never,
        "end" => Until::Latest,
        _ => Until::Exact(number(until)?),
    };
    if let (From::Exact(start), Until::Exact(end)) = (from, until)
        && end < start
    {
        return None;
    }
    Some(OffsetRange { from, until })
}

fn number(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// RFC 3339 times hold colons themselves: every colon is tried as the one between the two times.
fn parse_times(times: &str, now_ms: i64) -> Option<OffsetRange> {
    if let Some(from) = time(times, now_ms, None) {
        return Some(OffsetRange { from: From::Time(from), until: Until::Never });
    }
    for (position, _) in times.match_indices(':') {
        let (first, second) = (&times[..position], &times[position + 1..]);
        let from = if first.is_empty() { Some(From::Earliest) } else { time(first, now_ms, None).map(From::Time) };
        let Some(from) = from else { continue };
        let base = if let From::Time(time) = from { Some(time) } else { None };
        let until = match second {
            "" if first.is_empty() => None,
            "" => Some(Until::Never),
            "end" => Some(Until::Latest),
            _ => time(second, now_ms, base).map(Until::Time),
        };
        if let Some(until) = until {
            return Some(OffsetRange { from, until });
        }
    }
    None
}

fn whole_time(text: &str, now_ms: i64) -> Result<i64, String> {
    time(text, now_ms, None).or_else(|| number(text)).ok_or_else(|| {
        format!("'{text}' is not a time: milliseconds since 1970, 2026-02-14, 2026-02-14T10:00:00Z or -1h")
    })
}

/// A time in milliseconds. `-1h` is counted back from now; `1h` forward from `base`, so only where there is one.
fn time(text: &str, now_ms: i64, base: Option<i64>) -> Option<i64> {
    if let Some(digits) = number(text) {
        return match text.len() {
            13 => Some(digits),
            9 | 10 => Some(digits * 1000),
            _ => None,
        };
    }
    if let Some(back) = text.strip_prefix('-') {
        return Some(now_ms - duration_ms(back)?);
    }
    if let (Some(base), Some(forward)) = (base, duration_ms(text)) {
        return Some(base + forward);
    }
    if let Ok(date) = text.parse::<Date>()
        && text.len() == "2026-02-14".len()
    {
        return Some(date.to_zoned(TimeZone::UTC).ok()?.timestamp().as_millisecond());
    }
    text.parse::<Timestamp>().ok().map(|timestamp| timestamp.as_millisecond())
}

/// `1h30m`, `90s`, `250ms`, `2d`.
pub fn duration_ms(text: &str) -> Option<i64> {
    let mut total: i64 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let count = number(&rest[..digits])?;
        rest = &rest[digits..];
        let letters = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let unit_ms = match &rest[..letters] {
            "ms" => 1,
            "s" | "sec" => 1000,
            "m" | "min" => 60_000,
            "h" | "hr" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(count.checked_mul(unit_ms)?)?;
        rest = &rest[letters..];
    }
    (!text.is_empty()).then_some(total)
}

/// For clap: a duration as `30s`, or plain seconds.
pub fn parse_duration(text: &str) -> Result<std::time::Duration, String> {
    let ms = duration_ms(text).or_else(|| number(text).and_then(|seconds| seconds.checked_mul(1000)));
    let ms = ms.ok_or_else(|| format!("'{text}' is not a duration: write 30s, 500ms or 1m30s"))?;
    Ok(std::time::Duration::from_millis(ms.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;
    const HOUR: i64 = 3_600_000;

    fn check(text: &str, from: From, until: Until) {
        assert_eq!(parse(text, NOW), Ok(OffsetRange { from, until }), "{text}");
    }

    #[test]
    fn words_and_numbers() {
        check("start", From::Earliest, Until::Never);
        check("beginning", From::Earliest, Until::Never);
        check("end", From::Latest, Until::Never);
        check(":end", From::Earliest, Until::Latest);
        check("+5", From::AfterEarliest(5), Until::Never);
        check("-10", From::BeforeLatest(10), Until::Never);
        check("42", From::Exact(42), Until::Never);
        check("42:", From::Exact(42), Until::Never);
        check(":42", From::Earliest, Until::Exact(42));
        check("7:20", From::Exact(7), Until::Exact(20));
        check("-10:end", From::BeforeLatest(10), Until::Latest);
    }

    #[test]
    fn times() {
        let valentine = 1_644_796_800_000;
        check("@1644796800000", From::Time(valentine), Until::Never);
        check("@1644796800", From::Time(valentine), Until::Never);
        check("@2022-02-14", From::Time(valentine), Until::Never);
        check("@2022-02-14:", From::Time(valentine), Until::Never);
        check("@2022-02-14:1h", From::Time(valentine), Until::Time(valentine + HOUR));
        check("@2022-02-14T00:00:00Z:2022-02-14T01:00:00Z", From::Time(valentine), Until::Time(valentine + HOUR));
        check("@2022-02-14T00:00:00.250Z", From::Time(valentine + 250), Until::Never);
        check("@-48h:-24h", From::Time(NOW - 48 * HOUR), Until::Time(NOW - 24 * HOUR));
        check("@-1m:end", From::Time(NOW - 60_000), Until::Latest);
        check("@:-1hr", From::Earliest, Until::Time(NOW - HOUR));
    }

    #[test]
    fn kcats_ends_come_in_two_options() {
        let texts = ["s@1644796800000".to_owned(), "e@1644796900000".to_owned()];
        let range = parse_all(&texts, OffsetRange::default(), NOW).unwrap();
        let until = Until::Time(1_644_796_900_000);
        assert_eq!(range, OffsetRange { from: From::Time(1_644_796_800_000), until });
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ":", "@", "@:", "x", "1:x", "9:7", "@yesterday", "@1h", "--1", "+", "1.5"] {
            assert!(parse(text, NOW).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, ms) in [("3ms", 3), ("10s", 10_000), ("1m3ms", 60_003), ("1d", 86_400_000), ("1h30m", 5_400_000)] {
            assert_eq!(duration_ms(text), Some(ms), "{text}");
        }
        for text in ["", "h", "1", "1x", "-1s"] {
            assert_eq!(duration_ms(text), None, "{text}");
        }
        assert_eq!(parse_duration("30"), Ok(std::time::Duration::from_secs(30)));
    }
}
