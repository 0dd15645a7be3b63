//! `capek config`: the reference of all configs, the broker's own file and environment explained, and the configs of a
//! running cluster shown and changed.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::connect::{Connect, name_and_value};
use super::output::{List, OutputForm, say, warn};
use super::serve::ServeArguments;
use super::topic_describe::{source, value_of};
use super::{Failure, block_on};
use crate::client::{ConfigChange, Resource};
use crate::config::{self, DocsFormat, Settings};

#[derive(Subcommand)]
pub enum ConfigCommand {
    /// Explain all configs, or those whose name contains a word
    Docs(DocsArguments),
    /// Show the configuration that `capek serve` would start with
    Print(PrintArguments),
    /// Check a properties file, together with flags and environment
    Check(CheckArguments),
    /// Show configs of a topic or broker in a running cluster
    Get(GetArguments),
    /// Set configs of a topic or broker in a running cluster
    Set(SetArguments),
    /// Put configs of a topic or broker back to their default
    Unset(UnsetArguments),
}

#[derive(Args)]
pub struct DocsArguments {
    filter: Option<String>,
    #[arg(short, long, value_enum, default_value = "table")]
    format: DocsFormat,
}

#[derive(Args)]
pub struct PrintArguments {
    #[command(flatten)]
    serve: ServeArguments,
    /// Show where each value comes from
    #[arg(long)]
    origin: bool,
    /// Also show what has its default
    #[arg(long)]
    effective: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

#[derive(Args)]
pub struct CheckArguments {
    file: Option<PathBuf>,
    #[command(flatten)]
    serve: ServeArguments,
}

#[derive(Args)]
pub struct GetArguments {
    /// topic/NAME, broker/ID, or brokers for what holds for all
    #[arg(value_parser = parse_resource)]
    target: Resource,
    names: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

#[derive(Args)]
pub struct SetArguments {
    /// topic/NAME, broker/ID, or brokers for what holds for all
    #[arg(value_parser = parse_resource)]
    target: Resource,
    #[arg(required = true, value_name = "NAME=VALUE", value_parser = name_and_value)]
    values: Vec<(String, String)>,
    #[command(flatten)]
    connect: Connect,
}

#[derive(Args)]
pub struct UnsetArguments {
    /// topic/NAME, broker/ID, or brokers for what holds for all
    #[arg(value_parser = parse_resource)]
    target: Resource,
    #[arg(required = true)]
    names: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

fn parse_resource(text: &str) -> Result<Resource, String> {
    match text.split_once('/') {
        Some(("topic", name)) if !name.is_empty() => Ok(Resource::Topic(name.to_owned())),
        Some(("broker", id)) if id.parse::<i32>().is_ok() => Ok(Resource::Broker(id.to_owned())),
        None if text == "brokers" => Ok(Resource::Broker(String::new())),
        _ => Err("write topic/NAME, broker/ID or brokers".to_owned()),
    }
}

pub fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Docs(arguments) => docs(&arguments),
        ConfigCommand::Print(arguments) => print(&arguments),
        ConfigCommand::Check(arguments) => check(arguments),
        ConfigCommand::Get(arguments) => block_on(get(arguments)),
        ConfigCommand::Set(arguments) => {
            let changes = arguments.values.into_iter().map(|(name, value)| ConfigChange::Set(name, value)).collect();
            block_on(change(arguments.target, changes, arguments.connect))
        }
        ConfigCommand::Unset(arguments) => {
            let changes = arguments.names.into_iter().map(ConfigChange::Unset).collect();
            block_on(change(arguments.target, changes, arguments.connect))
        }
    }
}

fn docs(arguments: &DocsArguments) -> Result<(), Failure> {
    let text = config::write_docs(arguments.format, arguments.filter.as_deref());
    match (text.trim().is_empty(), &arguments.filter) {
        (true, Some(filter)) => Err(Failure::not_found(format!("no config has '{filter}' in its name"))),
        _ => say(text.trim_end()),
    }
}

fn print(arguments: &PrintArguments) -> Result<(), Failure> {
    let loaded = config::load(&arguments.serve.sources())?;
    loaded.warnings.iter().for_each(warn);
    let columns = ["name", "value", "origin"];
    let mut list = List::new(&columns[..if arguments.origin { 3 } else { 2 }]);
    for (name, value, origin) in loaded.config.all(arguments.effective) {
        let mut row = vec![json!(name), json!(value)];
        if arguments.origin {
            row.push(json!(origin.to_string()));
        }
        list.row(row);
    }
    list.print(arguments.output)
}

fn check(arguments: CheckArguments) -> Result<(), Failure> {
    let mut serve = arguments.serve;
    serve.config = arguments.file.or(serve.config);
    let loaded = config::load(&serve.sources())?;
    let settings = Settings::from_loaded(loaded, &config::host_name())?;
    settings.warnings.iter().for_each(warn);
    say(format_args!("good: node {}, {} configs set", settings.node_id, settings.config.explicit().len()))?;
    for listener in &settings.listeners {
        say(format_args!("  {} on {}, advertised as {}", listener.name, listener.bind, listener.advertised))?;
    }
    settings.http.iter().try_for_each(|endpoint| say(format_args!("  HTTP on {endpoint}")))?;
    say(format_args!("  other brokers on {} (not opened while there is one broker)", settings.peer))
}

async fn get(arguments: GetArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let names = (!arguments.names.is_empty()).then_some(arguments.names.as_slice());
    let mut configs = client.describe_configs(&arguments.target, names).await?;
    if let Some(missing) = arguments.names.iter().find(|name| !configs.iter().any(|config| *config.name == ***name)) {
        return Err(Failure::not_found(format!("{} has no config '{missing}'", arguments.target)));
    }
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    let mut list = List::new(&["name", "value", "source"]);
    for config in &configs {
        list.row(vec![json!(&*config.name), value_of(config), json!(source(config.config_source))]);
    }
    list.print(arguments.output)
}

async fn change(target: Resource, changes: Vec<ConfigChange>, connect: Connect) -> Result<(), Failure> {
    connect.client().await?.alter_configs(&target, &changes).await?;
    say(format_args!("{target}: changed"))
}
