//! Kafka's error codes with their names and texts.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

include!(concat!(env!("OUT_DIR"), "/error_codes.rs"));

struct Entry {
    code: ErrorCode,
    name: &'static str,
    message: &'static str,
    is_retriable: bool,
}

/// The table begins with -1.
const FIRST_CODE: i16 = -1;

impl ErrorCode {
    /// All codes, rising.
    pub fn all() -> impl ExactSizeIterator<Item = ErrorCode> {
        TABLE.iter().map(|entry| entry.code)
    }

    /// The number on the wire.
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// The error with this number; a number from a newer Kafka is `UnknownServerError`.
    pub fn from_code(code: i16) -> ErrorCode {
        let index = usize::try_from(i32::from(code) - i32::from(FIRST_CODE));
        index.ok().and_then(|index| TABLE.get(index)).map_or(ErrorCode::UnknownServerError, |entry| entry.code)
    }

    fn entry(self) -> &'static Entry {
        // Codes rise from -1 without a gap: a test holds it.
        &TABLE[(self.code() - FIRST_CODE) as usize]
    }

    /// Kafka's name, such as `CORRUPT_MESSAGE`.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// The sentence that clients show.
    pub fn message(self) -> &'static str {
        self.entry().message
    }

    /// Whether a client may send the same request again.
    pub fn is_retriable(self) -> bool {
        self.entry().is_retriable
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::error::Error for ErrorCode {}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> i16 {
        code.code()
    }
}

/// Stored by number: the order of the variants says nothing.
impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_i16(self.code())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i16::deserialize(deserializer).map(ErrorCode::from_code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_rise_without_a_gap() {
        for (index, code) in ErrorCode::all().enumerate() {
            assert_eq!(i32::from(code.code()), index as i32 - 1, "{code:?}");
            assert_eq!(ErrorCode::from_code(code.code()), code);
        }
        assert_eq!(ErrorCode::all().len(), 135);
    }

    #[test]
    fn names_and_texts_are_kafkas() {
        assert_eq!(ErrorCode::NotLeaderOrFollower.name(), "NOT_LEADER_OR_FOLLOWER");
        assert_eq!(ErrorCode::from_code(36).message(), "Topic with this name already exists.");
        assert!(ErrorCode::KafkaStorageError.is_retriable() && !ErrorCode::InvalidRecord.is_retriable());
        assert_eq!(ErrorCode::from_code(999), ErrorCode::UnknownServerError);
        assert_eq!(ErrorCode::from_code(i16::MIN), ErrorCode::UnknownServerError);
        assert_eq!(ErrorCode::default().to_string(), "NONE");
    }
}
