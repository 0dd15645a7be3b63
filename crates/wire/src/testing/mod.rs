//! For tests only (feature `testing`): random messages, and what the fuzzers and property tests do with hostile bytes.
//!
//! Every function here takes any bytes at all. It panics only when the crate has a bug.

mod hostile;
mod sampler;

pub use hostile::{
    compressed, produce_frame, record_batches, request_frame, response_body, sample_batch, sample_frame,
};
pub use sampler::Sampler;

use bytes::Bytes;

use crate::{Message, Writer};

/// The message on the wire; a panic says that a sampled or decoded message cannot be written.
pub fn encoded<M: Message>(message: &M, version: i16) -> Bytes {
    let mut w = Writer::new();
    if let Err(error) = message.encode(&mut w, version) {
        panic!("version {version}: {error}: {message:?}");
    }
    w.into_bytes()
}
