//! `capek health`: is the broker ready? Over HTTP (`/readyz`), or by asking its Kafka listener which versions it speaks.

use std::time::{Duration, Instant};

use clap::Args;

use super::connect::Connect;
use super::output::say;
use super::serve::ServeArguments;
use super::{Exit, Failure, http_get, offsets};
use crate::config::{self, Settings};

#[derive(Args)]
pub struct HealthArguments {
    /// Ask the Kafka listener of this broker [default: localhost:9092]
    #[arg(short, long, value_name = "ADDR", env = "CAPEK_BOOTSTRAP", hide_env_values = true)]
    bootstrap: Option<String>,
    /// Ask over HTTP, as http://localhost:8080
    #[arg(long, value_name = "URL")]
    http: Option<String>,
    /// Ask the broker that this environment configures, as a container's health check does
    #[arg(long, conflicts_with = "http")]
    local: bool,
    /// Keep asking this long until it is ready
    #[arg(long, value_name = "DURATION", value_parser = offsets::parse_duration)]
    wait: Option<Duration>,
    /// How long one question may take
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = offsets::parse_duration)]
    timeout: Duration,
}

const PAUSE: Duration = Duration::from_millis(100);

enum Target {
    Http(String),
    Kafka(String),
}

pub async fn run(arguments: HealthArguments) -> Result<(), Failure> {
    let target = target(&arguments)?;
    let started = Instant::now();
    loop {
        let failure = match ask(&target, arguments.timeout).await {
            Ok(answer) => return say(answer),
            Err(failure) => failure,
        };
        let Some(wait) = arguments.wait else { return Err(failure) };
        if started.elapsed() + PAUSE > wait {
            return Err(Failure::new(Exit::TimedOut, format!("not ready within {wait:?}: {failure}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn target(arguments: &HealthArguments) -> Result<Target, Failure> {
    if let Some(url) = &arguments.http {
        return Ok(Target::Http(url.clone()));
    }
    if !arguments.local {
        let bootstrap = arguments.bootstrap.clone().unwrap_or_else(|| "localhost:9092".to_owned());
        return Ok(Target::Kafka(bootstrap));
    }
    let loaded = config::load(&ServeArguments::default().sources())?;
    let settings = Settings::from_loaded(loaded, &config::host_name())?;
    // A wildcard listens on loopback, too.
    let local = |endpoint: &config::Endpoint| match endpoint.is_wildcard() {
        true => format!("localhost:{}", endpoint.port),
        false => endpoint.to_string(),
    };
    match (settings.http.first(), settings.listeners.first()) {
        (Some(http), _) => Ok(Target::Http(format!("http://{}", local(http)))),
        (None, Some(listener)) => Ok(Target::Kafka(local(&listener.bind))),
        (None, None) => Err(Failure::usage("nothing listens in this configuration")),
    }
}

async fn ask(target: &Target, timeout: Duration) -> Result<String, Failure> {
    match target {
        Target::Http(url) => {
            let answer = http_get::get(url, "/readyz", timeout).await?;
            match answer.status {
                200 => Ok(format!("ready: {}", answer.body.trim())),
                status => Err(Failure::new(Exit::Connection, format!("not ready ({status}): {}", answer.body.trim()))),
            }
        }
        Target::Kafka(bootstrap) => {
            let connect = Connect { bootstrap: bootstrap.clone(), timeout };
            let client = connect.client().await?;
            let connection = client.any().await?;
            Ok(format!("ready: {} answers {} APIs", connection.whom(), connection.versions().len()))
        }
    }
}
