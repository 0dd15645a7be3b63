//! Names for the numbers that go around, Kafka's UUID, and the rule for topic names.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A record's place in its partition.
pub type Offset = i64;
/// One leader's reign over a partition.
pub type LeaderEpoch = i32;
/// A broker's `node.id`.
pub type BrokerId = i32;
/// A partition's number within its topic, from 0.
pub type PartitionIndex = i32;
/// An idempotent or transactional producer.
pub type ProducerId = i64;
/// A topic's identity: a topic of the same name that is created later has another one.
pub type TopicId = Uuid;

/// 128 bits, written as Kafka writes them: 22 characters of URL-safe base64 without padding.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(pub [u8; 16]);

/// The text is not 22 characters of URL-safe base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a UUID in Kafka's form: 22 characters of URL-safe base64")]
pub struct UuidError;

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const UUID_CHARS: usize = 22;

impl Uuid {
    /// What stands where there is no id.
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether this is [`Uuid::ZERO`].
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 22 characters hold 132 bits: the id stands at the top, the last four bits are zero.
        let bits = u128::from_be_bytes(self.0);
        let mut text = [0u8; UUID_CHARS];
        for (index, character) in text.iter_mut().enumerate() {
            let shift = 122 - 6 * index as i32;
            let six = if shift >= 0 { bits >> shift } else { bits << -shift };
            *character = BASE64_URL[(six & 0x3f) as usize];
        }
        f.pad(std::str::from_utf8(&text).expect("base64 is ASCII"))
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Uuid, UuidError> {
        let characters = text.as_bytes();
        if characters.len() != UUID_CHARS {
            return Err(UuidError);
        }
        let mut bits = 0u128;
        for (index, character) in characters.iter().enumerate() {
            let six = BASE64_URL.iter().position(|known| known == character).ok_or(UuidError)? as u128;
            let shift = 122 - 6 * index as i32;
            if shift < 0 && six & 0xf != 0 {
                return Err(UuidError);
            }
            bits |= if shift >= 0 { six << shift } else { six >> -shift };
        }
        Ok(Uuid(bits.to_be_bytes()))
    }
}

/// As text where people read it, as 16 bytes elsewhere.
impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() { serializer.collect_str(self) } else { self.0.serialize(serializer) }
    }
}

impl<'de> Deserialize<'de> for Uuid {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return text.parse().map_err(de::Error::custom);
        }
        <[u8; 16]>::deserialize(deserializer).map(Uuid)
    }
}

/// What is wrong with a topic name, in Kafka's words; `None` when it is legal.
pub fn topic_name_problem(name: &str) -> Option<&'static str> {
    const NAME_BYTES_MAX: usize = 249;
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    match name {
        "" => Some("the empty string is not allowed"),
        "." | ".." => Some("'.' or '..' is not allowed"),
        _ if name.len() > NAME_BYTES_MAX => Some("the length of the name is longer than the max allowed length 249"),
        _ if !name.bytes().all(is_legal) => {
            Some("it contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_are_written_as_kafka_writes_them() {
        // From a real broker: the metadata topic's id, and one that uses both special characters.
        let mut one = [0u8; 16];
        one[15] = 1;
        assert_eq!(Uuid(one).to_string(), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(Uuid([0xff; 16]).to_string(), "_____________________w");
        assert_eq!(Uuid::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!("AAAAAAAAAAAAAAAAAAAAAQ".parse(), Ok(Uuid(one)));
        let bytes = std::array::from_fn(|index| (index * 37) as u8);
        assert_eq!(Uuid(bytes).to_string().parse(), Ok(Uuid(bytes)));
    }

    #[test]
    fn a_text_that_is_no_uuid_is_refused() {
        for text in
            ["", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAAA=", "AAAAAAAAAAAAAAAAAAAAAB"]
        {
            assert_eq!(text.parse::<Uuid>(), Err(UuidError), "{text}");
        }
    }

    #[test]
    fn topic_names_follow_kafkas_rule() {
        for name in ["orders", "a.b_c-9", "...", &"x".repeat(249)] {
            assert_eq!(topic_name_problem(name), None, "{name}");
        }
        for name in ["", ".", "..", "a b", "ü", "a/b", &"x".repeat(250)] {
            assert!(topic_name_problem(name).is_some(), "{name}");
        }
    }
}
