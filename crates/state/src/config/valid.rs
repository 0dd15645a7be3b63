//! What a configuration's value may be, and what Kafka says when it is not.

use super::definition::ConfigType;
use super::list::list_values;

/// Bounds beyond the type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Valid {
    Any,
    AtLeast(i64),
    Between(i64, i64),
    BetweenDouble(f64, f64),
    OneOf(&'static [&'static str]),
    OneOfIgnoringCase(&'static [&'static str]),
    /// A list whose members all come from here.
    ListOf(&'static [&'static str]),
    /// A text that says something.
    NonEmpty,
    /// -1 or 1 to 9.
    GzipLevel,
    /// A time that is not 0; every negative one is "for ever".
    NotZero,
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
    /// `earliest`, `latest`, or `by_duration:` and a duration of ISO 8601.
    OffsetReset,
}

/// A value that is to be judged, with what its error needs to say.
#[derive(Clone, Copy)]
pub(super) struct Candidate<'a> {
    pub(super) name: &'a str,
    pub(super) value: &'a str,
}

impl Candidate<'_> {
    /// Parses the value as `kind` and holds it against `valid`. The error is Kafka's sentence.
    pub(super) fn check(self, kind: ConfigType, valid: Valid) -> Result<(), String> {
        match kind {
            ConfigType::Boolean => self.check_boolean(),
            ConfigType::Int => self.check_integer(kind, i64::from(i32::MIN), i64::from(i32::MAX), valid),
            ConfigType::Short => self.check_integer(kind, i64::from(i16::MIN), i64::from(i16::MAX), valid),
            ConfigType::Long => self.check_integer(kind, i64::MIN, i64::MAX, valid),
            ConfigType::Double => self.check_double(valid),
            ConfigType::List => self.check_list(valid),
            ConfigType::String | ConfigType::Class | ConfigType::Password => self.check_string(valid),
        }
    }

    fn check_boolean(self) -> Result<(), String> {
        let value = self.value.trim();
        if value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false") {
            return Ok(());
        }
        self.invalid("Expected value to be either true or false")
    }

    fn check_integer(self, kind: ConfigType, minimum: i64, maximum: i64, valid: Valid) -> Result<(), String> {
        let parsed = self.value.trim().parse::<i64>().ok();
        let Some(number) = parsed.filter(|number| (minimum..=maximum).contains(number)) else {
            return self.invalid(format!("Not a number of type {}", kind.name()));
        };
        match valid {
            Valid::AtLeast(least) | Valid::Between(least, _) if number < least => self.too_small(least),
            Valid::Between(_, most) if number > most => self.too_large(most),
            Valid::NotZero if number == 0 => {
                Err(format!("requirement failed: {} must be unlimited (-1) or, greater than or equal to 1", self.name))
            }
            Valid::GzipLevel if number != -1 && !(1..=9).contains(&number) => {
                self.invalid("Value must be between 1 and 9 or equal to -1")
            }
            _ => Ok(()),
        }
    }

    fn check_double(self, valid: Valid) -> Result<(), String> {
        let parsed = self.value.trim().parse::<f64>().ok();
        let Some(number) = parsed.filter(|number| number.is_finite()) else {
            return self.invalid("Not a number of type DOUBLE");
        };
        let written = format!("{number:?}"); // 2 is 2.0, as Java writes it
        let as_java = Candidate { value: &written, ..self };
        match valid {
            Valid::BetweenDouble(least, _) if number < least => as_java.too_small(least),
            Valid::BetweenDouble(_, most) if number > most => as_java.too_large(most),
            _ => Ok(()),
        }
    }

    fn check_string(self, valid: Valid) -> Result<(), String> {
        let value = self.value.trim();
        match valid {
            Valid::OneOf(values) if !values.contains(&value) => self.not_one_of(values),
            Valid::OneOfIgnoringCase(values) if !values.iter().any(|known| known.eq_ignore_ascii_case(value)) => {
                self.invalid(format!("String must be one of (case insensitive): {}", values.join(", ")))
            }
            Valid::OffsetReset if !is_offset_reset(value) => self.invalid(format!(
                "Invalid value `{value}` for configuration {}. The value must be either 'earliest', 'latest' or of the \
                 format 'by_duration:<PnDTnHnMn.nS>'.",
                self.name
            )),
            Valid::NonEmpty if value.is_empty() => self.invalid("String must be non-empty"),
            _ => Ok(()),
        }
    }

    fn check_list(self, valid: Valid) -> Result<(), String> {
        let members = list_values(self.value);
        if members.contains(&"") {
            return Err(format!("Configuration '{}' values must not be empty.", self.name));
        }
        match valid {
            Valid::ListOf(known) => match members.iter().find(|member| !known.contains(member)) {
                Some(member) => Candidate { value: member, ..self }.not_one_of(known),
                None => Ok(()),
            },
            Valid::ThrottledReplicas if !is_throttled_replicas(&members) => self.not_throttled_replicas(&members),
            _ => Ok(()),
        }
    }

    fn not_one_of(self, values: &[&str]) -> Result<(), String> {
        self.invalid(format!("String must be one of: {}", values.join(", ")))
    }

    fn not_throttled_replicas(self, members: &[&str]) -> Result<(), String> {
        let written = format!("[{}]", members.join(", "));
        Candidate { value: &written, ..self }.invalid(format!(
            "{} must be the literal '*' or a list of replicas in the following format: \
             [partitionId]:[brokerId],[partitionId]:[brokerId],...",
            self.name
        ))
    }

    fn too_small(self, least: impl std::fmt::Display) -> Result<(), String> {
        self.invalid(format!("Value must be at least {least}"))
    }

    fn too_large(self, most: impl std::fmt::Display) -> Result<(), String> {
        self.invalid(format!("Value must be no more than {most}"))
    }

    fn invalid(self, why: impl std::fmt::Display) -> Result<(), String> {
        Err(format!("Invalid value {} for configuration {}: {why}", self.value, self.name))
    }
}

fn is_throttled_replicas(members: &[&str]) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_pair =
        |member: &&str| member.split_once(':').is_some_and(|(left, right)| is_number(left) && is_number(right));
    members == ["*"] || members.iter().all(is_pair)
}

fn is_offset_reset(value: &str) -> bool {
    matches!(value, "earliest" | "latest") || value.strip_prefix("by_duration:").is_some_and(is_duration)
}

/// `PnDTnHnMn.nS`, with at least one part, each in its place; only seconds have a fraction.
fn is_duration(text: &str) -> bool {
    let text = text.to_ascii_uppercase();
    let Some(text) = text.strip_prefix('P') else { return false };
    let (days, time) = text.split_once('T').map_or((text, None), |(days, time)| (days, Some(time)));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let are_days = days.strip_suffix('D').is_some_and(is_number);
    if !are_days && !days.is_empty() {
        return false;
    }
    let Some(mut time) = time else { return are_days };
    let mut parts = 0;
    for unit in ['H', 'M', 'S'] {
        let Some((number, rest)) = time.split_once(unit) else { continue };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
        let has_fraction = number.contains('.');
        if !is_number(whole) || !is_number(fraction) || (has_fraction && unit != 'S') {
            return false;
        }
        parts += 1;
        time = rest;
    }
    parts > 0 && time.is_empty()
}

/// The value as Kafka shows it: numbers, booleans and lists without what their reading ignores.
pub(super) fn normal(kind: ConfigType, value: &str) -> String {
    match kind {
        ConfigType::Boolean => value.trim().to_ascii_lowercase(),
        ConfigType::List => list_values(value).join(","),
        ConfigType::Int | ConfigType::Short | ConfigType::Long => {
            value.trim().parse::<i64>().map_or_else(|_| value.to_owned(), |number| number.to_string())
        }
        ConfigType::Double | ConfigType::String | ConfigType::Class => value.trim().to_owned(),
        ConfigType::Password => value.to_owned(),
    }
}
