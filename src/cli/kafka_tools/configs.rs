//! `kafka-configs`: the dynamic configs of topics, brokers, groups and client metrics.

use super::super::output::say;
use super::ToolError;
use super::admin::{BOOTSTRAP, COMMAND_CONFIG, connect, topic_names};
use super::error::exception;
use super::options::{OptionSpec, Options, flag, value};
use super::properties::Properties;
use crate::client::{Client, ConfigChange, ConfigEntry, Resource};

pub const OPTIONS: &[OptionSpec] = &[
    value("add-config", "String: k=v,k=[v,v]", "Configs to set; brackets around values that hold commas."),
    value("add-config-file", "String: file", "A property file with configs to set."),
    flag("all", "With --describe: also configs that have their default."),
    flag("alter", "Change the configs of an entity."),
    BOOTSTRAP,
    value("broker", "String: broker id", "The broker's id."),
    flag("broker-defaults", "The defaults of all brokers."),
    value("broker-logger", "String: broker id", "The loggers of this broker."),
    value("client", "String: client id", "The client's id (quotas)."),
    flag("client-defaults", "The defaults of all clients (quotas)."),
    value("client-metrics", "String: name", "The subscription for client metrics."),
    COMMAND_CONFIG,
    value("delete-config", "String: k,k", "Configs to put back to their default."),
    flag("describe", "Show the configs of entities."),
    flag("entity-default", "The defaults of an entity type."),
    value("entity-name", "String: name", "The name of the entity."),
    value(
        "entity-type",
        "String: type",
        "topics, clients, users, brokers, ips, client-metrics, groups or broker-loggers.",
    ),
    flag("force", "Do not ask."),
    value("group", "String: group", "The group."),
    value("ip", "String: address", "The address (quotas)."),
    flag("ip-defaults", "The defaults of all addresses (quotas)."),
    value("topic", "String: topic", "The topic."),
    value("user", "String: user", "The user (quotas)."),
    flag("user-defaults", "The defaults of all users (quotas)."),
];

const TYPES: [&str; 8] = ["topics", "clients", "users", "brokers", "ips", "client-metrics", "groups", "broker-loggers"];
/// Options that name an entity of a type in one word.
const SHORT: [(&str, &str); 8] = [
    ("topic", "topics"),
    ("client", "clients"),
    ("user", "users"),
    ("broker", "brokers"),
    ("broker-logger", "broker-loggers"),
    ("ip", "ips"),
    ("client-metrics", "client-metrics"),
    ("group", "groups"),
];
const SHORT_DEFAULTS: [(&str, &str); 4] = [
    ("client-defaults", "clients"),
    ("user-defaults", "users"),
    ("broker-defaults", "brokers"),
    ("ip-defaults", "ips"),
];

/// What the options are about: a type, and one of it, its default, or all.
#[derive(Debug, PartialEq, Eq)]
struct Entity {
    kind: &'static str,
    /// Empty is the default; None is all.
    name: Option<String>,
}

pub async fn run(options: Options) -> Result<(), ToolError> {
    let entity = check(&options)?;
    if matches!(entity.kind, "users" | "clients" | "ips") {
        return Err(ToolError::failed(format!("quotas of {} are not supported by this tool", entity.kind)));
    }
    let client = connect(&options).await?;
    match options.has("describe") {
        true => describe(&client, &entity, options.has("all")).await,
        false => alter(&client, &entity, &options).await,
    }
}

fn check(options: &Options) -> Result<Entity, ToolError> {
    if options.given(&["describe", "alter"]).len() != 1 {
        return Err(ToolError::usage("Command must include exactly one action: --describe, --alter"));
    }
    let entity = entity(options)?;
    if !options.has("bootstrap-server") {
        return Err(ToolError::failed("Either --bootstrap-server or --bootstrap-controller must be specified"));
    }
    let is_describe = options.has("describe");
    if is_describe
        && entity.name.as_deref() == Some("")
        && !matches!(entity.kind, "brokers" | "users" | "clients" | "ips")
    {
        return Err(ToolError::failed(format!(
            "--entity-default must not be specified with --describe of {}",
            entity.kind
        )));
    }
    if matches!(entity.kind, "brokers" | "broker-loggers")
        && let Some(name) = entity.name.as_deref().filter(|name| !name.is_empty())
        && name.parse::<i32>().is_err()
    {
        let message =
            format!("The entity name for {} must be a valid integer broker id, but it is: {name}", entity.kind);
        return Err(ToolError::failed(message));
    }
    if !is_describe {
        if entity.name.is_none() {
            return Err(ToolError::failed(format!("An entity name must be specified with --alter of {}", entity.kind)));
        }
        if options.given(&["add-config", "add-config-file", "delete-config"]).is_empty() {
            let message =
                "At least one of --add-config, --add-config-file, or --delete-config must be specified with --alter";
            return Err(ToolError::failed(message));
        }
        if options.has("add-config") && options.has("add-config-file") {
            return Err(ToolError::failed("Only one of --add-config or --add-config-file must be specified"));
        }
    }
    Ok(entity)
}

fn entity(options: &Options) -> Result<Entity, ToolError> {
    let failed = ToolError::failed;
    let mut entities = Vec::new();
    for text in options.values("entity-type") {
        let Some(kind) = TYPES.into_iter().find(|kind| *kind == text) else {
            return Err(failed(format!(
                "Invalid entity type {text}, the entity type must be one of {} with a --bootstrap-server or \
                 --bootstrap-controller argument",
                TYPES.join(", ")
            )));
        };
        let name = options.value("entity-name").map_err(failed)?.map(str::to_owned);
        entities.push(Entity { kind, name: name.or(options.has("entity-default").then(String::new)) });
    }
    for (option, kind) in SHORT {
        let names = options.values(option).into_iter();
        entities.extend(names.map(|name| Entity { kind, name: Some(name.to_owned()) }));
    }
    for (option, kind) in SHORT_DEFAULTS {
        entities.extend(options.has(option).then(|| Entity { kind, name: Some(String::new()) }));
    }
    let is_quota = |entity: &Entity| matches!(entity.kind, "users" | "clients");
    match entities.len() {
        0 => Err(ToolError::failed("At least one entity type must be specified")),
        1 => Ok(entities.remove(0)),
        _ if entities.iter().all(is_quota) => Ok(entities.remove(0)),
        _ => Err(ToolError::failed("Only 'users' and 'clients' entity types may be specified together")),
    }
}

/// `topic aa`, `broker 1`: the type's name without its plural.
fn shown(kind: &str, name: &str) -> String {
    match (kind, name) {
        (_, "") => format!("default config for {kind} in the cluster"),
        ("client-metrics", _) => format!("config for client-metric {name}"),
        _ => format!("config for {} {name}", kind.trim_end_matches('s')),
    }
}

async fn describe(client: &Client, entity: &Entity, all: bool) -> Result<(), ToolError> {
    let known = known_names(client, entity.kind).await?;
    let names = match &entity.name {
        Some(name)
            if !name.is_empty() && !known.contains(name) && !matches!(entity.kind, "groups" | "client-metrics") =>
        {
            let singular = entity.kind.trim_end_matches('s');
            return Ok(say(format_args!("The {singular} '{name}' doesn't exist and doesn't have dynamic config."))?);
        }
        Some(name) => vec![name.clone()],
        None if entity.kind == "brokers" => [known, vec![String::new()]].concat(),
        None => known,
    };
    for name in names {
        let kind = entity.kind.trim_end_matches('s');
        match name.as_str() {
            "" => say(format_args!("Default configs for {} in the cluster are:", entity.kind))?,
            _ if all => say(format_args!("All configs for {kind} {name} are:"))?,
            _ => say(format_args!("Dynamic configs for {kind} {name} are:"))?,
        }
        let mut configs = client.describe_configs(&resource(entity.kind, &name), None).await?;
        let source = own_source(entity.kind, &name);
        configs.retain(|config| all || config.config_source == source);
        configs.sort_by(|one, other| one.name.cmp(&other.name));
        configs.iter().try_for_each(|config| say(config_line(config)))?;
    }
    Ok(())
}

async fn known_names(client: &Client, kind: &str) -> Result<Vec<String>, ToolError> {
    match kind {
        "topics" => Ok(topic_names(&client.refresh(None).await?, true)),
        "brokers" | "broker-loggers" => {
            Ok(client.refresh(Some(&[])).await?.brokers.keys().map(i32::to_string).collect())
        }
        "groups" => Ok(client.list_groups(&[], &[]).await?.iter().map(|group| group.group_id.to_string()).collect()),
        _ => Ok(Vec::new()),
    }
}

fn resource(kind: &str, name: &str) -> Resource {
    let name = name.to_owned();
    match kind {
        "brokers" => Resource::Broker(name),
        "broker-loggers" => Resource::BrokerLogger(name),
        "client-metrics" => Resource::ClientMetrics(name),
        "groups" => Resource::Group(name),
        _ => Resource::Topic(name),
    }
}

/// Where a config of this very entity comes from, in DescribeConfigs' numbers.
fn own_source(kind: &str, name: &str) -> i8 {
    match (kind, name) {
        ("brokers", "") => 3,
        ("brokers", _) => 2,
        ("broker-loggers", _) => 6,
        ("client-metrics", _) => 7,
        ("groups", _) => 8,
        _ => 1,
    }
}

fn source_name(source: i8) -> &'static str {
    match source {
        1 => "DYNAMIC_TOPIC_CONFIG",
        2 => "DYNAMIC_BROKER_CONFIG",
        3 => "DYNAMIC_DEFAULT_BROKER_CONFIG",
        4 => "STATIC_BROKER_CONFIG",
        5 => "DEFAULT_CONFIG",
        6 => "DYNAMIC_BROKER_LOGGER_CONFIG",
        7 => "DYNAMIC_CLIENT_METRICS_CONFIG",
        8 => "DYNAMIC_GROUP_CONFIG",
        _ => "UNKNOWN",
    }
}

fn config_line(config: &ConfigEntry) -> String {
    let value = |value: &Option<capek_wire::Str>| value.as_deref().unwrap_or("null").to_owned();
    let synonym = |synonym: &capek_wire::messages::describe_configs::DescribeConfigsSynonym| {
        format!("{}:{}={}", source_name(synonym.source), synonym.name, value(&synonym.value))
    };
    let synonyms = config.synonyms.iter().map(synonym).collect::<Vec<_>>().join(", ");
    let (name, sensitive) = (&config.name, config.is_sensitive);
    format!("  {name}={} sensitive={sensitive} synonyms={{{synonyms}}}", value(&config.value))
}

async fn alter(client: &Client, entity: &Entity, options: &Options) -> Result<(), ToolError> {
    let name = entity.name.clone().unwrap_or_default();
    let mut changes = Vec::new();
    for text in options.values("add-config") {
        changes.extend(added(text)?);
    }
    for path in options.values("add-config-file") {
        changes.extend(Properties::from_file(path)?.pairs().map(|(name, value)| ConfigChange::Set(name, value)));
    }
    for text in options.values("delete-config") {
        changes.extend(text.split(',').map(|name| ConfigChange::Unset(name.trim().to_owned())));
    }
    let altered = client.alter_configs(&resource(entity.kind, &name), &changes).await;
    altered
        .map_err(|error| ToolError::failed(format!("Error while executing config command: {}", exception(&error))))?;
    Ok(say(format_args!("Completed updating {}.", shown(entity.kind, &name)))?)
}

/// `a=b,c=[d,e]`: commas inside brackets belong to the value.
fn added(text: &str) -> Result<Vec<ConfigChange>, ToolError> {
    let mut changes = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let wrong = || {
            ToolError::failed(
                "requirement failed: Invalid entity config: all configs to be added must be in the format \"key=val\" or  \
                 \"key=[val1,val2]\" to group values which contain commas.",
            )
        };
        let (name, after) = rest.split_once('=').ok_or_else(wrong)?;
        let after = after.trim_start();
        let (value, left) = match after.strip_prefix('[') {
            Some(inner) => inner.split_once(']').ok_or_else(wrong)?,
            None => after.split_once(',').map_or((after, ""), |(value, _)| (value, &after[value.len()..])),
        };
        if name.trim().is_empty() || name.contains(',') {
            return Err(wrong());
        }
        changes.push(ConfigChange::Set(name.trim().to_owned(), value.trim().to_owned()));
        rest = left.trim_start().trim_start_matches(',').trim_start();
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use capek_wire::Str;
    use capek_wire::messages::describe_configs::DescribeConfigsSynonym;

    fn checked(arguments: &[&str]) -> Result<Entity, String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        check(&Options::parse(OPTIONS, &arguments)?).map_err(|error| error.to_string())
    }

    #[test]
    fn entities_are_named_in_the_long_and_the_short_way() {
        let server = ["--bootstrap-server", "b:1", "--describe"];
        let entity = |arguments: &[&str]| checked(&[&server, arguments].concat());
        let expect = |kind: &'static str, name: Option<&str>| Ok(Entity { kind, name: name.map(str::to_owned) });
        assert_eq!(entity(&["--entity-type", "topics", "--entity-name", "a"]), expect("topics", Some("a")));
        assert_eq!(entity(&["--topic", "a"]), expect("topics", Some("a")));
        assert_eq!(entity(&["--entity-type", "brokers"]), expect("brokers", None));
        assert_eq!(entity(&["--entity-type", "brokers", "--entity-default"]), expect("brokers", Some("")));
        assert_eq!(entity(&["--broker-defaults"]), expect("brokers", Some("")));
        assert!(entity(&["--entity-type", "x"]).unwrap_err().starts_with("Invalid entity type x"));
        assert!(entity(&["--broker", "x"]).unwrap_err().contains("must be a valid integer broker id"));
        assert!(entity(&["--topic", "a", "--broker", "1"]).unwrap_err().starts_with("Only 'users' and 'clients'"));
        assert!(
            entity(&["--alter", "--topic", "a"]).unwrap_err().starts_with("Command must include exactly one action")
        );
    }

    #[test]
    fn brackets_keep_commas_together() {
        let set = |name: &str, value: &str| ConfigChange::Set(name.to_owned(), value.to_owned());
        assert_eq!(added("a=1,b=[c,d],e=").unwrap(), [set("a", "1"), set("b", "c,d"), set("e", "")]);
        assert_eq!(added(" a = 1 ").unwrap(), [set("a", "1")]);
        for wrong in ["a", "a=[1", "=1", "a=1,b"] {
            assert!(added(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_config_is_a_line_with_its_synonyms() {
        let synonym =
            |name: &str, source| DescribeConfigsSynonym { name: Str::from(name), value: Some(Str::from("5")), source };
        let config = ConfigEntry {
            name: Str::from("segment.bytes"),
            value: Some(Str::from("5")),
            synonyms: vec![synonym("segment.bytes", 1), synonym("log.segment.bytes", 5)],
            ..Default::default()
        };
        assert_eq!(
            config_line(&config),
            "  segment.bytes=5 sensitive=false synonyms={DYNAMIC_TOPIC_CONFIG:segment.bytes=5, DEFAULT_CONFIG:log.segment.bytes=5}"
        );
    }
}
