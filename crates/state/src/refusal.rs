//! Why a state machine said no: the error code of the protocol and the sentence that goes with it.

use std::borrow::Cow;
use std::fmt;

use capek_wire::error_code::ErrorCode;
use serde::{Deserialize, Serialize};

/// A refused command. The code is part of the protocol; the message is what Kafka's tools print to their users.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Refusal {
    pub code: ErrorCode,
    /// Absent where Kafka sends the code alone.
    pub message: Option<Cow<'static, str>>,
}

impl Refusal {
    /// A refusal with the message that the client shows.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Refusal {
        Refusal { code, message: Some(message.into()) }
    }

    /// A refusal that needs no words.
    pub const fn bare(code: ErrorCode) -> Refusal {
        Refusal { code, message: None }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => formatter.write_str(message),
            None => write!(formatter, "{:?}", self.code),
        }
    }
}

impl std::error::Error for Refusal {}
