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
    /// A list whose members all come from here, at least one of them.
    ListOf(&'static [&'static str]),
    NonEmpty,
    /// -1 or 1 to 9.
    GzipLevel,
    /// `*`, or `partition:broker` pairs.
    ThrottledReplicas,
}

/// Why a value was refused.
pub(super) enum Reason {
    /// It does not parse, or breaks a bound; Kafka's sentence names configuration and value.
    Because(String),
    /// The same, about one member of a list.
    Member(String, String),
}

impl Reason {
    pub(super) fn sentence(self, name: &str, value: &str) -> String {
        match self {
            Reason::Because(why) => format!("Invalid value {value} for configuration {name}: {why}"),
            Reason::Member(member, why) => format!("Invalid value {member} for configuration {name}: {why}"),
        }
    }
}

/// Parses `value` as `kind` and holds it against `valid`.
pub(super) fn check(kind: ConfigType, valid: Valid, value: &str) -> Result<(), Reason> {
    let value = value.trim();
    match kind {
        ConfigType::Boolean if !value.eq_ignore_ascii_case("true") && !value.eq_ignore_ascii_case("false") => {
            Err(because("Expected value to be either true or false"))
        }
        ConfigType::Int => check_integer(value, kind, i64::from(i32::MIN), i64::from(i32::MAX), valid),
        ConfigType::Short => check_integer(value, kind, i64::from(i16::MIN), i64::from(i16::MAX), valid),
        ConfigType::Long => check_integer(value, kind, i64::MIN, i64::MAX, valid),
        ConfigType::Double => check_double(value, valid),
        ConfigType::List => check_list(value, valid),
        ConfigType::Boolean | ConfigType::String | ConfigType::Class | ConfigType::Password => {
            check_string(value, valid)
        }
    }
}

fn check_integer(value: &str, kind: ConfigType, minimum: i64, maximum: i64, valid: Valid) -> Result<(), Reason> {
    let number = value.parse::<i64>().ok().filter(|number| (minimum..=maximum).contains(number));
    let Some(number) = number else {
        return Err(because(format!("Not a number of type {}", kind.name())));
    };
    match valid {
        Valid::AtLeast(least) | Valid::Between(least, _) if number < least => {
            Err(because(format!("Value must be at least {least}")))
        }
        Valid::Between(_, most) if number > most => Err(because(format!("Value must be no more than {most}"))),
        Valid::GzipLevel if number != -1 && !(1..=9).contains(&number) => {
            Err(because("Value must be between 1 and 9 or equal to -1"))
        }
        _ => Ok(()),
    }
}

fn check_double(value: &str, valid: Valid) -> Result<(), Reason> {
    let Some(number) = value.parse::<f64>().ok().filter(|number| number.is_finite()) else {
        return Err(because("Not a number of type DOUBLE"));
    };
    match valid {
        Valid::BetweenDouble(least, _) if number < least => Err(because(format!("Value must be at least {least}"))),
        Valid::BetweenDouble(_, most) if number > most => Err(because(format!("Value must be no more than {most}"))),
        _ => Ok(()),
    }
}

fn check_string(value: &str, valid: Valid) -> Result<(), Reason> {
    match valid {
        Valid::OneOf(values) if !values.contains(&value) => {
            Err(because(format!("String must be one of: {}", values.join(", "))))
        }
        Valid::OneOfIgnoringCase(values) if !values.iter().any(|known| known.eq_ignore_ascii_case(value)) => {
            Err(because(format!("String must be one of (case insensitive): {}", values.join(", "))))
        }
        Valid::NonEmpty if value.is_empty() => Err(because("String must be non-empty")),
        _ => Ok(()),
    }
}

fn check_list(value: &str, valid: Valid) -> Result<(), Reason> {
    let members = list_values(value);
    match valid {
        Valid::ListOf(known) => match members.iter().find(|member| !known.contains(member)) {
            Some(member) => {
                Err(Reason::Member((*member).to_owned(), format!("String must be one of: {}", known.join(", "))))
            }
            None => Ok(()),
        },
        Valid::ThrottledReplicas if !is_throttled_replicas(&members) => Err(because(
            "Must be the literal '*' or a list of replicas in the following format: [partitionId]:[brokerId],[partitionId]:[brokerId],...",
        )),
        Valid::NonEmpty if members.is_empty() => Err(because("List must not be empty")),
        _ => Ok(()),
    }
}

fn is_throttled_replicas(members: &[&str]) -> bool {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let is_pair =
        |member: &&str| member.split_once(':').is_some_and(|(left, right)| is_number(left) && is_number(right));
    members == ["*"] || members.iter().all(is_pair)
}

fn because(why: impl Into<String>) -> Reason {
    Reason::Because(why.into())
}
