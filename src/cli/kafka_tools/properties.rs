//! What Kafka's tools take as client configuration: property files and `name=value` pairs, and the ones of them that our
//! client has, applied to it. Names that it does not have are overlooked: they tune a client that is not this one.

use std::collections::BTreeMap;
use std::time::Duration;

use capek_wire::batch::Codec;

use super::super::output::say;
use super::ToolError;
use super::options::Options;
use crate::client::{Client, ClientOptions, ProducerOptions};
use crate::config::parse_properties;

/// Client configuration in Kafka's names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

impl Properties {
    /// Later pairs win.
    pub fn from_pairs(pairs: &[&str]) -> Result<Properties, ToolError> {
        let mut properties = Properties::default();
        for pair in pairs {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if name.is_empty() {
                return Err(ToolError::usage(format!("Invalid property: {pair}")));
            }
            properties.set(name, value);
        }
        Ok(properties)
    }

    pub fn from_file(path: &str) -> Result<Properties, ToolError> {
        let text = std::fs::read_to_string(path).map_err(|error| ToolError::failed(format!("{path}: {error}")))?;
        let parsed = parse_properties(&text).map_err(|error| ToolError::failed(format!("{path}: {error}")))?;
        Ok(Properties(parsed.into_iter().map(|property| (property.name, property.value)).collect()))
    }

    pub fn set(&mut self, name: &str, value: &str) {
        self.0.insert(name.to_owned(), value.to_owned());
    }

    /// What `other` has replaces what is here.
    pub fn extend(&mut self, other: Properties) {
        self.0.extend(other.0);
    }

    pub fn pairs(self) -> impl Iterator<Item = (String, String)> {
        self.0.into_iter()
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub fn is_true(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| value.trim().eq_ignore_ascii_case("true"))
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>, ToolError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let number = text.trim().parse();
        number.map(Some).map_err(|_| ToolError::failed(invalid(name, text, "Not a number of type INT")))
    }

    fn one_of(&self, name: &str, allowed: &[&str]) -> Result<Option<&str>, ToolError> {
        match self.get(name) {
            Some(value) if !allowed.contains(&value) => {
                let problem = format!("String must be one of: {}", allowed.join(", "));
                Err(ToolError::failed(invalid(name, value, &problem)))
            }
            value => Ok(value),
        }
    }

    /// Connects to where `bootstrap` says. What needs TLS or SASL is refused rather than sent in the clear.
    pub async fn connect(&self, bootstrap: &str, change: impl FnOnce(&mut ClientOptions)) -> Result<Client, ToolError> {
        if let Some(protocol) = self.get("security.protocol").filter(|protocol| *protocol != "PLAINTEXT") {
            return Err(ToolError::failed(format!(
                "security.protocol {protocol} is not supported by this tool: use PLAINTEXT"
            )));
        }
        let request_timeout = self.number("request.timeout.ms")?.unwrap_or(30_000);
        let retry_timeout = self.number("default.api.timeout.ms")?.unwrap_or(60_000);
        let mut options = ClientOptions::new(bootstrap, milliseconds(request_timeout));
        options.retry_timeout = milliseconds(retry_timeout);
        if let Some(client_id) = self.get("client.id") {
            options.connection.client_id = client_id.to_owned();
        }
        change(&mut options);
        Ok(Client::connect(options).await?)
    }

    pub fn producer_options(&self) -> Result<ProducerOptions, ToolError> {
        let acks = match self.one_of("acks", &["all", "-1", "0", "1"])? {
            Some("0") => 0,
            Some("1") => 1,
            _ => -1,
        };
        let mut options = ProducerOptions { acks, ..ProducerOptions::default() };
        if let Some(name) = self.one_of("compression.type", &["none", "gzip", "snappy", "lz4", "zstd"])? {
            options.codec = name.parse().unwrap_or(Codec::None);
        }
        if let Some(linger_ms) = self.number("linger.ms")? {
            options.linger = milliseconds(linger_ms);
        }
        if let Some(bytes) = self.number("batch.size")? {
            options.batch_bytes_max = usize::try_from(bytes.max(1)).unwrap_or(usize::MAX);
        }
        if let Some(bytes) = self.number("buffer.memory")? {
            options.buffer_bytes_max = usize::try_from(bytes.max(1 << 20)).unwrap_or(usize::MAX);
        }
        if let Some(in_flight) = self.number("max.in.flight.requests.per.connection")? {
            options.in_flight_max = usize::try_from(in_flight.clamp(1, 64)).unwrap_or(1);
        }
        if let Some(timeout_ms) = self.number("delivery.timeout.ms")? {
            options.delivery_timeout = milliseconds(timeout_ms);
        }
        // Kafka's client leaves idempotence off where acks do not allow it.
        options.idempotent = options.acks == -1 && self.get("enable.idempotence") != Some("false");
        Ok(options)
    }
}

fn invalid(name: &str, value: &str, problem: &str) -> String {
    format!("Invalid value {value} for configuration {name}: {problem}")
}

/// Warns of an option's older spelling, as Kafka does on standard output; both spellings at once are a mistake.
pub fn deprecated(options: &Options, old: &str, new: &str) -> Result<(), ToolError> {
    if !options.has(old) {
        return Ok(());
    }
    if options.has(new) {
        return Err(ToolError::usage(format!("Options --{new} and --{old} cannot be specified together.")));
    }
    let warning =
        format!("Warning: --{old} is deprecated and will be removed in a future version. Use --{new} instead.");
    Ok(say(warning)?)
}

pub fn milliseconds(count: i64) -> Duration {
    Duration::from_millis(u64::try_from(count).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_properties_win_and_reach_the_producer() {
        let mut properties = Properties::from_pairs(&["acks=1", "linger.ms=3", "acks=0", "x=a=b"]).unwrap();
        assert_eq!((properties.get("acks"), properties.get("x")), (Some("0"), Some("a=b")));
        properties.extend(Properties::from_pairs(&["acks=all", "compression.type=zstd", "batch.size=100"]).unwrap());
        let options = properties.producer_options().unwrap();
        assert_eq!((options.acks, options.codec, options.batch_bytes_max), (-1, Codec::Zstd, 100));
        assert_eq!(options.linger, Duration::from_millis(3));
        assert!(options.idempotent);
    }

    #[test]
    fn values_that_no_client_takes_are_refused_in_kafkas_words() {
        let refused = |pair: &str| Properties::from_pairs(&[pair]).unwrap().producer_options().unwrap_err().to_string();
        assert_eq!(refused("acks=7"), "Invalid value 7 for configuration acks: String must be one of: all, -1, 0, 1");
        assert!(refused("compression.type=nope").contains("none, gzip, snappy, lz4, zstd"));
        assert!(refused("linger.ms=x").contains("Not a number"));
    }
}
