//! What is on the network: ids, error codes, Kafka's messages, record batches.
//!
//! Everything that comes from outside is read through [`Reader`]: it answers with an error, never panics, and never
//! allocates more than a small multiple of what it was given. `messages`, `ApiKey` and `ErrorCode` are generated from
//! `schema/` by `build.rs`; see `schema/README.md`.

#![forbid(unsafe_code)]

pub mod api;
pub mod batch;
pub mod codec;
pub mod error_code;
pub mod frame;
pub mod ids;
pub mod keyed;
pub mod messages;
pub mod partitioner;
pub mod peer;
pub mod produce_view;
#[cfg(feature = "testing")]
pub mod testing;

pub use api::ApiKey;
pub use batch::{BatchBuilder, BatchError, BatchHeader, Codec, Record, RecordHeader};
pub use codec::{DecodeError, EncodeError, Message, Reader, Request, Str, Writer};
pub use error_code::ErrorCode;
pub use frame::RequestHeader;
pub use ids::{
    BrokerId, LeaderEpoch, Offset, PartitionIndex, ProducerId, TopicId, Uuid, UuidError, topic_name_problem,
};
