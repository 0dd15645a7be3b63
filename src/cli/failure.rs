//! How a command fails: a sentence for people and an exit code for scripts.

use std::fmt;

/// The exit codes that scripts may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Usage = 1,
    Connection = 2,
    Authorisation = 3,
    NotFound = 4,
    /// Some of what was asked is done, some is not.
    Partial = 5,
    TimedOut = 124,
}

/// Why a command ends without having done what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub exit: Exit,
    pub message: String,
    /// The reader of our output went away (`| head`): nothing to say, nothing to complain about.
    pub quiet: bool,
}

impl Failure {
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure { exit, message: message.into(), quiet: false }
    }

    pub fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    pub fn not_found(message: impl Into<String>) -> Failure {
        Failure::new(Exit::NotFound, message)
    }

    pub fn partial(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Partial, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Files and pipes: the only I/O a command does by itself.
impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        let quiet = error.kind() == std::io::ErrorKind::BrokenPipe;
        Failure { exit: Exit::Usage, message: error.to_string(), quiet }
    }
}

impl From<crate::config::ConfigProblems> for Failure {
    fn from(problems: crate::config::ConfigProblems) -> Failure {
        Failure::usage(problems.to_string())
    }
}
