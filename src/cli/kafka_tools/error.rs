//! How a tool ends when it does not do what it was asked: Kafka's sentence, where Kafka prints it, and its exit code.

use std::fmt;

use super::super::output::{say, warn};
use super::super::{Exit, Failure};
use crate::client::ClientError;

#[derive(Debug)]
pub struct ToolError {
    message: String,
    /// Some tools tell their failures on standard output.
    to_stdout: bool,
    pub with_usage: bool,
    pub exit: u8,
}

impl ToolError {
    /// What was asked makes no sense: the usage follows.
    pub fn usage(message: impl Into<String>) -> ToolError {
        ToolError { message: message.into(), to_stdout: false, with_usage: true, exit: 1 }
    }

    pub fn failed(message: impl Into<String>) -> ToolError {
        ToolError { message: message.into(), to_stdout: false, with_usage: false, exit: 1 }
    }

    /// Told on standard output.
    pub fn told(message: impl Into<String>) -> ToolError {
        ToolError { message: message.into(), to_stdout: true, with_usage: false, exit: 1 }
    }

    /// Everything has been said already.
    pub fn silent(exit: u8) -> ToolError {
        ToolError { message: String::new(), to_stdout: false, with_usage: false, exit }
    }

    pub fn print(&self) {
        match (self.message.is_empty(), self.to_stdout) {
            (true, _) => {}
            // Nobody can be told when that fails.
            (false, true) => drop(say(&self.message)),
            (false, false) => warn(&self.message),
        }
    }
}

impl fmt::Display for ToolError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl From<ClientError> for ToolError {
    fn from(error: ClientError) -> ToolError {
        ToolError::failed(sentence(&error))
    }
}

impl From<Failure> for ToolError {
    fn from(failure: Failure) -> ToolError {
        match failure.quiet {
            true => ToolError::silent(0),
            false => ToolError { exit: Exit::Usage as u8, ..ToolError::failed(failure.message) },
        }
    }
}

impl From<std::io::Error> for ToolError {
    fn from(error: std::io::Error) -> ToolError {
        Failure::from(error).into()
    }
}

/// What Kafka's clients say of an error: the broker's own words where it sent some.
pub fn sentence(error: &ClientError) -> String {
    match error {
        ClientError::Refused { code, message, .. } => message.clone().unwrap_or_else(|| code.message().to_owned()),
        other => other.to_string(),
    }
}

/// The error as Java prints it: the exception's class, then what it says.
pub fn exception(error: &ClientError) -> String {
    let Some(code) = error.code() else { return sentence(error) };
    format!("org.apache.kafka.common.errors.{}: {}", class_name(code.name()), sentence(error))
}

/// `GROUP_ID_NOT_FOUND` is thrown as `GroupIdNotFoundException`; a few classes have other names than their codes.
fn class_name(code_name: &str) -> String {
    let words = match code_name {
        "NON_EMPTY_GROUP" => "GROUP_NOT_EMPTY",
        "REQUEST_TIMED_OUT" => "TIMEOUT",
        "TOPIC_ALREADY_EXISTS" => "TOPIC_EXISTS",
        "INVALID_TOPIC_EXCEPTION" => "INVALID_TOPIC",
        "INVALID_CONFIG" => "INVALID_CONFIGURATION",
        other => other,
    };
    let mut class = String::new();
    for word in words.split('_') {
        let (first, rest) = word.split_at(word.len().min(1));
        class.push_str(first);
        class.push_str(&rest.to_ascii_lowercase());
    }
    class + "Exception"
}

#[cfg(test)]
mod tests {
    use super::*;
    use capek_wire::ErrorCode;

    #[test]
    fn errors_have_javas_class_names() {
        let refused = |code| ClientError::refused("a broker", "something", code, None);
        assert_eq!(
            exception(&refused(ErrorCode::GroupIdNotFound)),
            "org.apache.kafka.common.errors.GroupIdNotFoundException: The group id does not exist."
        );
        assert_eq!(
            exception(&refused(ErrorCode::NonEmptyGroup)),
            "org.apache.kafka.common.errors.GroupNotEmptyException: The group is not empty."
        );
        let own_words = ClientError::refused("a broker", "something", ErrorCode::InvalidConfig, Some("no such config"));
        assert_eq!(sentence(&own_words), "no such config");
    }
}
