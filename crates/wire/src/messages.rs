//! Kafka's messages, generated from `schema/`: one module per API, requests and responses also by their bare names.
//!
//! `Default` gives Kafka's defaults (a nullable text without a default of its own is `Some("")`, as in Kafka). Setting a
//! field in a version that lacks it is an error unless the schema lets it be ignored.

// Generated code is as regular as can be, not as short as can be.
#![allow(unused_variables, clippy::all)]

use crate::Request;

/// Names that the generated modules use.
mod prelude {
    pub(super) use bytes::Bytes;

    pub(super) use crate::codec::TagWriter;
    #[cfg(feature = "testing")]
    pub(super) use crate::testing::Sampler;
    pub(super) use crate::{ApiKey, DecodeError, EncodeError, Message, Reader, Request, Str, Uuid, Writer};
}

/// Sees every request type once, see [`visit_apis`].
pub trait ApiVisitor {
    /// Called for each request type.
    fn visit<R: Request>(&mut self);
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
