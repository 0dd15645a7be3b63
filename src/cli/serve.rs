//! `capek serve`: gathers the configuration and hands it to the broker.

use std::path::PathBuf;

use clap::Args;
use log::LevelFilter;
use rustix::process;

use super::Failure;
use crate::config::{self, Settings, Sources};
use crate::signals;

#[derive(Args, Clone, Debug, Default)]
pub struct ServeArguments {
    /// A properties file with Kafka's names
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Set one config by its name, as --set log.retention.hours=24
    #[arg(long, value_name = "NAME=VALUE")]
    pub set: Vec<String>,
    /// Where the data lies (log.dirs) [default: ./capek-data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Where Kafka clients connect (listeners) [default: localhost:9092]
    #[arg(long, value_name = "ADDR")]
    pub kafka: Option<String>,
    /// Where HTTP is served (capek.http.listeners) [default: localhost:8080]
    #[arg(long, value_name = "ADDR")]
    pub http: Option<String>,
    /// This broker's id (node.id) [default: 1]
    #[arg(long, value_name = "N")]
    pub node_id: Option<i32>,
    /// Refuse to start with a config that nobody knows
    #[arg(long)]
    pub strict_config: bool,
    /// Stop when this process, which started this one, has ended
    #[arg(long, value_name = "PID", hide = true)]
    pub parent: Option<i32>,
}

impl ServeArguments {
    /// These flags with the environment of the process.
    pub fn sources(&self) -> Sources {
        // A variable that is not text cannot be configuration.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources {
            file: self.config.clone(),
            set: self.set.clone(),
            data_dir: self.data_dir.clone(),
            kafka: self.kafka.clone(),
            http: self.http.clone(),
            node_id: self.node_id,
            environment,
            strict: self.strict_config,
        }
    }
}

pub fn run(arguments: ServeArguments) -> Result<(), Failure> {
    if let Some(parent) = arguments.parent {
        stop_with(parent)?;
    }
    let loaded = config::load(&arguments.sources())?;
    crate::telemetry::start(LevelFilter::Info, loaded.log_level.as_deref());
    let settings = Settings::from_loaded(loaded, &config::host_name())?;
    actix_rt::System::new().block_on(crate::server::serve(settings))
}

fn stop_with(parent: i32) -> Result<(), Failure> {
    signals::end_with_parent()?;
    // It may have ended before.
    match process::getppid() {
        Some(now) if now.as_raw_nonzero().get() == parent => Ok(()),
        _ => Err(Failure::usage(format!("process {parent}, which started this one, has ended"))),
    }
}
