//! How values stand on the wire: the reader that trusts nothing, the writer that copies no records, and the traits of
//! the generated messages.

mod reader;
mod str;
mod writer;

use std::fmt::Debug;

pub use reader::Reader;
pub(crate) use reader::budget_bytes;
pub use str::Str;
pub use writer::{TagWriter, Writer};

use crate::ApiKey;
#[cfg(feature = "testing")]
use crate::testing::Sampler;

/// Kafka's limit on a string, in both notations.
pub(crate) const STRING_BYTES_MAX: usize = i16::MAX as usize;

/// A struct that stands on the wire, differently in each version of its API.
pub trait Message: Sized + Default + Clone + Debug + PartialEq {
    /// Reads one; what follows it stays in the reader.
    fn decode(r: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Appends it; after an error the writer holds a part of it.
    fn encode(&self, w: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// A random one that `version` can carry.
    #[cfg(feature = "testing")]
    fn sample(s: &mut Sampler, version: i16) -> Self;
}

/// A request, which knows its key and its answer.
pub trait Request: Message {
    /// The key in its header.
    const KEY: ApiKey;
    /// What is answered.
    type Response: Message;
}

/// Why bytes are not a message. `at` counts from the start of what the reader was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end within a value.
    #[error("{needed} more bytes expected at byte {at}")]
    Truncated {
        /// Where the value begins.
        at: usize,
        /// How many bytes it lacks.
        needed: usize,
    },
    /// Null, where the schema does not allow it.
    #[error("null at byte {at}, where it is not allowed")]
    Null {
        /// Just after the null.
        at: usize,
    },
    /// A length that is negative or above the limit of its type.
    #[error("illegal length {length} at byte {at}")]
    Length {
        /// Just after the length.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// More elements than the remaining bytes can hold.
    #[error("{count} elements announced at byte {at}, more than the remaining bytes can hold")]
    Count {
        /// Just after the count.
        at: usize,
        /// What it says.
        count: usize,
    },
    /// The elements would take far more memory than the bytes that announce them.
    #[error("too many empty elements at byte {at}")]
    Memory {
        /// Just after the count.
        at: usize,
    },
    /// A variable-length number that does not end, or does not fit.
    #[error("overlong number at byte {at}")]
    Varint {
        /// Where it begins.
        at: usize,
    },
    /// A string that is not UTF-8.
    #[error("string at byte {at} is not UTF-8")]
    Utf8 {
        /// Where its first byte is.
        at: usize,
    },
    /// A tagged field that is shorter than the room announced for it.
    #[error("{left} bytes left over in a tagged field that ends at byte {at}")]
    Tag {
        /// Where the announced room ends.
        at: usize,
        /// How much of it was not read.
        left: usize,
    },
    /// Bytes after the end of a message.
    #[error("{left} bytes left over after the message")]
    Trailing {
        /// How many.
        left: usize,
    },
    /// An API key that no client may send.
    #[error("unknown api key {0}")]
    ApiKey(i16),
    /// A version that the message does not have.
    #[error("{message} has no version {version}")]
    Version {
        /// Which message.
        message: &'static str,
        /// Which version.
        version: i16,
    },
}

/// Why a message cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A version that the message does not have.
    #[error("{message} has no version {version}")]
    Version {
        /// Which message.
        message: &'static str,
        /// Which version.
        version: i16,
    },
    /// A field is set that the version lacks.
    #[error("version {version} has no {field}")]
    Field {
        /// `Struct.field`.
        field: &'static str,
        /// Which version.
        version: i16,
    },
    /// A field is null that may not be null in the version.
    #[error("{field} may not be null in version {version}")]
    Null {
        /// `Struct.field`.
        field: &'static str,
        /// Which version.
        version: i16,
    },
    /// A string, a byte array, a list or the whole that is longer than its length field can say.
    #[error("{0} is longer than its length field can say")]
    Length(usize),
}
