//! What brokers say to each other on the peer listener.
//!
//! ```text
//!   connecting broker                        accepting broker
//!     Hello { versions, cluster, id, lane } ─▶
//!                                           ◀─ HelloReply (the version both speak, or why not)
//!     Frame::Request  ─▶                    ◀─ Frame::Response with the same id, in any order
//!     Frame::OneWay   ─▶                       (nothing comes back)
//! ```
//!
//! Heads are postcard of enums to which variants are only ever appended; what they mean is agreed on by the version of the
//! hello, so that brokers of neighbouring releases work together. Records travel behind the head as they are.
//!
//! The control lane carries raft, commands to the controller and heartbeats; the data lane carries replication: no flood of
//! records stands before a vote. The calls lane carries what clients of one broker's doors want of another.

pub mod calls;
pub mod frame;
pub mod hello;
pub mod replication;

pub use frame::{Frame, FrameError, FrameKind};
pub use hello::{Hello, HelloRefusal, HelloReply, Lane};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Bytes that are not what a peer of the agreed version says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a peer's message does not decode: {0}")]
pub struct PeerDecodeError(pub String);

/// A head from its bytes, all of them.
pub fn decode_head<T: DeserializeOwned>(head: &[u8]) -> Result<T, PeerDecodeError> {
    let (value, rest) = postcard::take_from_bytes(head).map_err(|error| PeerDecodeError(error.to_string()))?;
    if !rest.is_empty() {
        return Err(PeerDecodeError(format!("{} bytes follow the message", rest.len())));
    }
    Ok(value)
}

/// The bytes of a head.
pub fn encode_head<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, Vec::new()).expect("a head is made of plain data and a vector takes any length")
}
