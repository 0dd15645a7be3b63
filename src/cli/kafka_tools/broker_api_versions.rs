//! `kafka-broker-api-versions`.

use std::fmt::Write;

use capek_wire::ApiKey;

use super::super::output::say;
use super::ToolError;
use super::admin::{BOOTSTRAP, COMMAND_CONFIG, connect};
use super::options::{OptionSpec, Options};
use crate::client::{ClientError, Connection};

pub const OPTIONS: &[OptionSpec] = &[BOOTSTRAP, COMMAND_CONFIG];

pub async fn run(options: Options) -> Result<(), ToolError> {
    options.require(&["bootstrap-server"]).map_err(ToolError::usage)?;
    let client = connect(&options).await?;
    let metadata = client.refresh(Some(&[])).await?;
    for (id, broker) in &metadata.brokers {
        let rack = broker.rack.as_deref().unwrap_or("null");
        let name = format!("{}:{} (id: {id} rack: {rack} isFenced: false)", broker.host, broker.port);
        match client.broker(*id).await {
            Ok(connection) => say(format_args!("{name} -> {}", versions(&connection)))?,
            Err(error) => say(format_args!("{name} -> ERROR: {}", one_line(&error)))?,
        }
    }
    Ok(())
}

fn one_line(error: &ClientError) -> String {
    error.to_string().replace('\n', " ")
}

/// What the broker speaks, and what we would use of it; then what it has and we do not know.
fn versions(connection: &Connection) -> String {
    let theirs = connection.versions();
    let ours = ApiKey::all().map(|key| {
        let spoken = match theirs.get(&key.code()) {
            None => "UNSUPPORTED".to_owned(),
            Some(&(low, high)) => {
                let (own_low, own_high) = key.versions();
                let usable = match low <= own_high && own_low <= high {
                    true => format!("[usable: {}]", own_high.min(high)),
                    false if high < own_low => "[unusable: node too old]".to_owned(),
                    false => "[unusable: node too new]".to_owned(),
                };
                format!("{} {usable}", span(low, high))
            }
        };
        format!("{}({}): {spoken}", key.name(), key.code())
    });
    let unknown = theirs.iter().filter(|(code, _)| ApiKey::from_code(**code).is_none());
    let unknown = unknown.map(|(code, (low, high))| format!("UNKNOWN({code}): {}", span(*low, *high)));
    let mut text = "(\n".to_owned();
    let lines: Vec<String> = ours.chain(unknown).collect();
    // A String takes everything.
    let _ = write!(text, "\t{}\n)", lines.join(",\n\t"));
    text
}

fn span(low: i16, high: i16) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}
