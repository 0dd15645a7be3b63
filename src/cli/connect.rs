//! What every command that talks to a broker shares: where it is, and how long to wait.

use std::time::Duration;

use capek_wire::ErrorCode;
use clap::Args;

use super::{Exit, Failure, offsets};
use crate::client::{Client, ClientError, ClientOptions};

#[derive(Args, Clone, Debug)]
pub struct Connect {
    /// Brokers to begin with, as HOST:PORT,...
    #[arg(
        short,
        long,
        value_name = "ADDR",
        env = "CAPEK_BOOTSTRAP",
        default_value = "localhost:9092",
        hide_env_values = true
    )]
    pub bootstrap: String,
    /// How long a broker may take to answer
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = offsets::parse_duration)]
    pub timeout: Duration,
}

impl Connect {
    pub async fn client(&self) -> Result<Client, Failure> {
        self.client_with(|_| {}).await
    }

    pub async fn client_with(&self, change: impl FnOnce(&mut ClientOptions)) -> Result<Client, Failure> {
        let mut options = ClientOptions::new(&self.bootstrap, self.timeout);
        change(&mut options);
        Ok(Client::connect(options).await?)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        Failure::new(exit_of(&error), error.to_string())
    }
}

fn exit_of(error: &ClientError) -> Exit {
    match error {
        ClientError::Connect { .. } | ClientError::Closed { .. } => Exit::Connection,
        ClientError::TimedOut { .. } => Exit::TimedOut,
        ClientError::NotFound(_) => Exit::NotFound,
        ClientError::Refused { code, .. } => match code {
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId | ErrorCode::GroupIdNotFound => {
                Exit::NotFound
            }
            ErrorCode::RequestTimedOut => Exit::TimedOut,
            ErrorCode::TopicAuthorizationFailed
            | ErrorCode::GroupAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::TransactionalIdAuthorizationFailed
            | ErrorCode::SaslAuthenticationFailed => Exit::Authorisation,
            _ => Exit::Usage,
        },
        _ => Exit::Usage,
    }
}

/// Splits `name=value` of a flag.
pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.trim().is_empty() => Ok((name.trim().to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not NAME=VALUE")),
    }
}

/// Asks a person before something is lost; a script says --yes.
pub fn confirm(plan: &str, yes: bool) -> Result<(), Failure> {
    use std::io::{BufRead, IsTerminal, Write};
    if yes {
        return Ok(());
    }
    if !std::io::stdin().is_terminal() {
        return Err(Failure::usage(format!("{plan}: add --yes to do it without asking")));
    }
    let mut err = std::io::stderr().lock();
    write!(err, "{plan}. Go on? [y/N] ")?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    match answer.trim() {
        "y" | "Y" | "yes" => Ok(()),
        _ => Err(Failure::usage("nothing done")),
    }
}
