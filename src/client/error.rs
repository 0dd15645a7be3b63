//! Why a call to a broker failed: what was being done, where, and what most likely helps.

use std::time::Duration;

use capek_wire::ErrorCode;

/// Every way in which a call can fail.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection came about.
    #[error("cannot connect to {whom}: {problem}{}", hinted(.hint))]
    Connect { whom: String, problem: String, hint: Option<String> },
    /// A connection ended before the answer came.
    #[error("{whom} closed the connection during {doing}: {problem}{}", hinted(.hint))]
    Closed { whom: String, doing: String, problem: String, hint: Option<String> },
    #[error("{whom} did not answer {doing} within {after:?}")]
    TimedOut { whom: String, doing: String, after: Duration },
    /// The broker answered with an error code.
    #[error("{whom} refused {doing}: {} ({code}){}", .message.as_deref().unwrap_or(code.message()), hinted(&refusal_hint(*.code)))]
    Refused { whom: String, doing: String, code: ErrorCode, message: Option<String> },
    /// Broker and client have no version of an API in common.
    #[error("{whom} does not speak {api} in a version that we know (we: {ours}, it: {theirs})")]
    Version { whom: String, api: &'static str, ours: String, theirs: String },
    /// The answer is not what the protocol says.
    #[error("{whom} sent an answer to {doing} that cannot be read: {problem}")]
    Malformed { whom: String, doing: String, problem: String },
    /// The topic or partition is not there.
    #[error("{0}")]
    NotFound(String),
    /// What was asked cannot be asked.
    #[error("{0}")]
    Invalid(String),
}

fn hinted(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!("\n  hint: {hint}")).unwrap_or_default()
}

fn refusal_hint(code: ErrorCode) -> Option<String> {
    let hint = match code {
        ErrorCode::InvalidReplicationFactor => "there are fewer brokers than replicas asked for: use -r 1",
        ErrorCode::MessageTooLarge => "raise the topic's max.message.bytes, or send smaller records",
        ErrorCode::NotEnoughReplicas | ErrorCode::NotEnoughReplicasAfterAppend => {
            "fewer replicas are in sync than min.insync.replicas: wait for the others, or lower it"
        }
        ErrorCode::KafkaStorageError => "the broker's disk is full or broken: its log says which",
        _ => return None,
    };
    Some(hint.to_owned())
}

impl ClientError {
    pub fn refused(whom: &str, doing: &str, code: ErrorCode, message: Option<&str>) -> ClientError {
        let message = message.filter(|message| !message.is_empty()).map(str::to_owned);
        ClientError::Refused { whom: whom.to_owned(), doing: doing.to_owned(), code, message }
    }

    /// The broker's error code, where it answered with one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            ClientError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Trying again, perhaps with fresh metadata, may help.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Connect { .. } | ClientError::Closed { .. } | ClientError::TimedOut { .. } => true,
            ClientError::Refused { code, .. } => code.is_retriable(),
            _ => false,
        }
    }
}

/// `Ok` for `NONE`, else the refusal.
pub fn check(whom: &str, doing: &str, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    match ErrorCode::from_code(code) {
        ErrorCode::None => Ok(()),
        code => Err(ClientError::refused(whom, doing, code, message)),
    }
}
