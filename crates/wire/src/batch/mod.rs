//! The record batch: what is appended, compressed, replicated and checksummed as one.
//!
//! ```text
//! byte  0  base_offset i64            the broker's            21  attributes i16         \
//!       8  batch_length i32           bytes from 12 on        23  last_offset_delta i32   |
//!      12  partition_leader_epoch i32 the broker's            27  base_timestamp i64      |
//!      16  magic i8                   2                       35  max_timestamp i64       |
//!      17  crc u32                    CRC-32C of all that     43  producer_id i64         | covered by
//!                                     follows                 51  producer_epoch i16      | the CRC
//!                                                             53  base_sequence i32       |
//! attributes: bits 0-2 codec, 3 log append time,              57  record_count i32        |
//!      4 transactional, 5 control, 6 delete horizon           61  records, compressed    /
//!
//! record: length varint, attributes i8, timestamp_delta varlong, offset_delta varint,
//!         key_length varint, key, value_length varint, value, header_count varint,
//!         (key_length varint, key, value_length varint, value)*          a length of -1 is null
//! ```
//!
//! A broker writes its two fields in place ([`patch`]): they are outside of the checksum.

mod builder;
mod codec;
mod header;
mod records;
mod sift;
mod varint;

pub use builder::BatchBuilder;
pub use codec::{Codec, compress, decompress};
pub use header::{BatchHeader, Batches, HEADER_BYTES, batches, check, patch, set_log_append_time};
pub use records::{Record, RecordHeader, Records, records};
pub use sift::{BatchContent, RecordView, RecordViews, SiftedBatch, emptied};

use crate::ErrorCode;

/// Why bytes are not a record batch, or cannot become one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Less than a header, or less than the header says.
    #[error("{have} bytes of a batch that takes {need}")]
    Truncated {
        /// What there is.
        have: usize,
        /// What is needed, as far as is known.
        need: usize,
    },
    /// More than one batch where one is expected.
    #[error("{0} bytes after the batch")]
    Trailing(usize),
    /// A length below that of the header, or above what an `i32` can say.
    #[error("illegal batch length {0}")]
    Length(i64),
    /// Another format than 2.
    #[error("unknown magic {0}")]
    Magic(i8),
    /// The checksum does not fit the bytes.
    #[error("checksum {computed:#010x}, but the batch says {stored:#010x}")]
    Crc {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A codec that Kafka does not know.
    #[error("unknown codec {0}")]
    Codec(i16),
    /// Compressed bytes that are damaged.
    #[error("damaged {codec} data: {problem}")]
    Compressed {
        /// With which codec.
        codec: Codec,
        /// What it says.
        problem: String,
    },
    /// The records take more than the limit when inflated.
    #[error("inflates to more than {0} bytes")]
    Inflated(usize),
    /// Records that do not fit what the header says of them.
    #[error("damaged record {index}: {problem}")]
    Record {
        /// Which of the batch.
        index: i32,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A batch without records.
    #[error("no records")]
    Empty,
}

impl BatchError {
    /// What Kafka answers to a producer that sends such a batch.
    pub fn error_code(&self) -> ErrorCode {
        match self {
            BatchError::Trailing(_) | BatchError::Magic(_) | BatchError::Codec(_) | BatchError::Empty => {
                ErrorCode::InvalidRecord
            }
            _ => ErrorCode::CorruptMessage,
        }
    }
}
