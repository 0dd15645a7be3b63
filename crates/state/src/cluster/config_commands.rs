//! Changing configurations: of topics, of one broker, of all brokers. The rules and the words are Kafka's.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use capek_wire::error_code::ErrorCode;

use super::command::{ConfigOperation, ConfigOperationKind, Decision};
use super::decide::records;
use super::election_rules::{DECISIVE_SETTINGS, with_elections};
use super::image::Image;
use super::record::{ConfigKind, ConfigResource, Record};
use super::topic_commands::check_topic_name;
use crate::Refusal;
use crate::config::{
    ConfigDef, ConfigType, Dynamic, INTERVAL_MS_MAX, INTERVAL_MS_MIN, connection_overrides, find_broker_config,
    find_client_metrics_config, find_group_config, find_topic_config, illegal_match, list_values, subtract_values,
    union_values,
};

/// Kafka opens and closes listeners while it runs; a broker here has those that it was started with.
const AT_START_ONLY: [&str; 2] = ["listeners", "listener.security.protocol.map"];

/// None: back to the default.
type Changes = Vec<(String, Option<String>)>;

/// The configuration of a topic that is being created.
pub(super) fn topic_overrides(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut overrides = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            return Err(invalid_config(format!("Null value not supported for topic configs: {name}")));
        };
        overrides.insert(name.clone(), value.clone());
    }
    check_topic_configs(&overrides)?;
    Ok(overrides)
}

pub(super) fn alter(
    image: &Image,
    resource: &ConfigResource,
    operations: &[ConfigOperation],
) -> Result<Decision, Refusal> {
    check_resource(image, resource)?;
    let mut named = BTreeSet::new();
    if !operations.iter().all(|operation| named.insert(operation.name.as_str())) {
        return Err(invalid_request("Error due to duplicate config keys"));
    }
    let current = image.configs(resource);
    let mut changes = Changes::new();
    for operation in operations {
        let before = current.get(&operation.name);
        let after = changed_value(resource, operation, before)?;
        changes.push((operation.name.clone(), after));
    }
    Ok(with_elections(image, resource, judge(resource, current, changes)?))
}

pub(super) fn replace(
    image: &Image,
    resource: &ConfigResource,
    configs: &BTreeMap<String, Option<String>>,
) -> Result<Decision, Refusal> {
    check_resource(image, resource)?;
    let current = image.configs(resource);
    let mut changes = Changes::new();
    for (name, value) in configs {
        let value = value.clone().ok_or_else(|| null_value(name))?;
        changes.push((name.clone(), Some(value)));
    }
    let dropped = current.keys().filter(|name| !configs.contains_key(*name));
    changes.extend(dropped.map(|name| (name.clone(), None)));
    Ok(with_elections(image, resource, judge(resource, current, changes)?))
}

fn check_resource(image: &Image, resource: &ConfigResource) -> Result<(), Refusal> {
    let name = &resource.name;
    match resource.kind {
        ConfigKind::Topic if name.is_empty() => Err(invalid_request("Default topic resources are not allowed.")),
        ConfigKind::Topic => {
            check_topic_name(name)?;
            if image.topic_by_name(name).is_none() {
                let message = format!("The topic '{name}' does not exist.");
                return Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            Ok(())
        }
        ConfigKind::Broker if name.is_empty() => Ok(()),
        ConfigKind::Broker => match name.parse() {
            Ok(broker) if image.broker(broker).is_some() => Ok(()),
            Ok(broker) => {
                Err(Refusal::new(ErrorCode::BrokerIdNotRegistered, format!("No broker with id {broker} found.")))
            }
            Err(_) => Err(invalid_request(format!("Invalid broker name {name}"))),
        },
        ConfigKind::Group if name.is_empty() => Err(invalid_request("Default group resources are not allowed.")),
        ConfigKind::ClientMetrics if name.is_empty() => Err(invalid_request("Subscription name can't be empty")),
        ConfigKind::Group | ConfigKind::ClientMetrics => Ok(()),
    }
}

fn changed_value(
    resource: &ConfigResource,
    operation: &ConfigOperation,
    before: Option<&String>,
) -> Result<Option<String>, Refusal> {
    let name = operation.name.as_str();
    if operation.kind == ConfigOperationKind::Delete {
        return Ok(None);
    }
    let value = operation.value.as_deref().ok_or_else(|| null_value(name))?;
    Ok(Some(match operation.kind {
        ConfigOperationKind::Append => union_values(list_before(resource, name, before, "APPEND")?, value),
        ConfigOperationKind::Subtract => subtract_values(list_before(resource, name, before, "SUBTRACT")?, value),
        ConfigOperationKind::Set | ConfigOperationKind::Delete => value.to_owned(),
    }))
}

/// What APPEND and SUBTRACT start from: what is set, else the default.
fn list_before<'a>(
    resource: &ConfigResource,
    name: &str,
    before: Option<&'a String>,
    operation: &str,
) -> Result<&'a str, Refusal> {
    let definition = match resource.kind {
        ConfigKind::Topic => find_topic_config(name),
        ConfigKind::Broker => find_broker_config(name),
        ConfigKind::Group => find_group_config(name),
        // Kafka does not know the types of these here.
        ConfigKind::ClientMetrics => None,
    };
    match definition {
        Some(definition) if definition.kind == ConfigType::List => {
            let default = definition.default.unwrap_or_default();
            Ok(before.map_or(default, String::as_str))
        }
        _ if resource.kind == ConfigKind::Broker => {
            let operation = operation.to_ascii_lowercase();
            Err(invalid_config(format!("Config value {operation} is not allowed for config key: {name}")))
        }
        _ => Err(invalid_config(format!("Can't {operation} to key {name} because its type is not LIST."))),
    }
}

/// Holds the configuration as it would be against the rules, and records what differs from now.
fn judge(resource: &ConfigResource, current: &BTreeMap<String, String>, changes: Changes) -> Result<Decision, Refusal> {
    match resource.kind {
        ConfigKind::Topic => check_topic_configs(&after_changes(current, &changes))?,
        ConfigKind::Broker => check_broker_changes(resource, current, &changes)?,
        ConfigKind::Group => check_group_configs(&after_changes(current, &changes))?,
        ConfigKind::ClientMetrics => check_client_metrics(&after_changes(current, &changes))?,
    }
    let differing = changes.into_iter().filter(|(name, value)| value.as_ref() != current.get(name));
    let record = |(name, value)| Record::ConfigChanged { resource: resource.clone(), name, value };
    Ok(records(differing.map(record).collect()))
}

fn after_changes(current: &BTreeMap<String, String>, changes: &Changes) -> BTreeMap<String, String> {
    let mut after = current.clone();
    for (name, value) in changes {
        match value {
            Some(value) => after.insert(name.clone(), value.clone()),
            None => after.remove(name),
        };
    }
    after
}

/// All names first, then all values, then what they say together: Kafka's order.
fn check_topic_configs(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if let Some(unknown) = configs.keys().find(|name| find_topic_config(name).is_none()) {
        return Err(invalid_config(format!("Unknown topic config name: {unknown}")));
    }
    for (name, value) in configs {
        let definition = find_topic_config(name).expect("all names were looked up above");
        definition.check(value).map_err(invalid_config)?;
    }
    if configs.get("remote.storage.enable").is_some_and(|value| value.trim().eq_ignore_ascii_case("true")) {
        return Err(invalid_config(
            "Tiered Storage functionality is disabled in the broker. Topic cannot be configured with remote log \
             storage."
                .to_owned(),
        ));
    }
    check_compaction_lags(configs)
}

fn check_compaction_lags(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let lag = |name: &str| {
        let default = find_topic_config(name).and_then(|definition| definition.default);
        let value = configs.get(name).map(String::as_str).or(default);
        value.and_then(|value| value.trim().parse::<i64>().ok())
    };
    match (lag("min.compaction.lag.ms"), lag("max.compaction.lag.ms")) {
        (Some(minimum), Some(maximum)) if minimum > maximum => Err(invalid_config(format!(
            "conflict topic config setting min.compaction.lag.ms ({minimum}) > max.compaction.lag.ms ({maximum})"
        ))),
        _ => Ok(()),
    }
}

fn check_group_configs(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if let Some(unknown) = configs.keys().find(|name| find_group_config(name).is_none()) {
        return Err(invalid_config(format!("Unknown group config name: {unknown}")));
    }
    for (name, value) in configs {
        let definition = find_group_config(name).expect("all names were looked up above");
        definition.check(value).map_err(invalid_config)?;
    }
    Ok(())
}

fn check_client_metrics(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    for (name, value) in configs {
        let Some(definition) = find_client_metrics_config(name) else {
            return Err(invalid_request(format!("Unknown client metrics configuration: {name}")));
        };
        definition.check(value).map_err(invalid_config)?;
        let number = value.trim().parse::<i64>().unwrap_or_default();
        if name == "interval.ms" && !(INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(&number) {
            return Err(invalid_request(format!(
                "Invalid value {value} for interval.ms, interval must be between {INTERVAL_MS_MIN} and \
                 {INTERVAL_MS_MAX} (1 hour)"
            )));
        }
        if let Some(illegal) = illegal_match(value).filter(|_| name == "match") {
            return Err(invalid_config(format!("Illegal client matching pattern: {illegal}")));
        }
    }
    Ok(())
}

/// What is taken back is not judged: it may have been set by a release that allowed it.
fn check_broker_changes(
    resource: &ConfigResource,
    current: &BTreeMap<String, String>,
    changes: &Changes,
) -> Result<(), Refusal> {
    let set = || changes.iter().filter_map(|(name, value)| Some((name.as_str(), value.as_deref()?)));
    let find_named = |dynamic: Dynamic| -> Vec<&str> {
        let with = |name: &&str| find_broker_config(base_name(name)).is_some_and(|found| found.dynamic == dynamic);
        set().map(|(name, _)| name).filter(with).collect()
    };
    let read_only = find_named(Dynamic::ReadOnly);
    if !read_only.is_empty() {
        return Err(invalid_request(format!("Cannot update these configs dynamically: [{}]", read_only.join(", "))));
    }
    let per_broker = find_named(Dynamic::PerBroker);
    let is_security =
        |name: &&str| name.starts_with("ssl.") || (name.starts_with("sasl.") && *name != "sasl.jaas.config");
    let without_listener: Vec<&str> = per_broker.iter().copied().filter(is_security).collect();
    if !without_listener.is_empty() {
        return Err(invalid_request(format!(
            "These security configs can be dynamically updated only per-listener using the listener prefix: [{}]",
            without_listener.join(", ")
        )));
    }
    if resource.name.is_empty() && !per_broker.is_empty() {
        return Err(invalid_request(format!(
            "Cannot update these configs at default cluster level, broker id must be specified: [{}]",
            per_broker.join(", ")
        )));
    }
    for (name, value) in set() {
        // Kafka keeps names that it does not know: a plug-in may.
        if let Some(definition) = find_broker_config(base_name(name)) {
            definition.check(value).map_err(invalid_request)?;
            check_classes(definition, value)?;
        }
    }
    check_effect(resource, set)?;
    let after = after_changes(current, changes);
    check_connection_limits(&after)?;
    check_cleaner_memory(&after)
}

/// What would be kept and described, but not hold: Kafka acts upon these while it runs, we do not.
fn check_effect<'a, S: Iterator<Item = (&'a str, &'a str)>>(
    resource: &ConfigResource,
    set: impl Fn() -> S,
) -> Result<(), Refusal> {
    let named = |names: &[&str]| -> Vec<&str> {
        set().map(|(name, _)| name).filter(|name| names.contains(&base_name(name))).collect()
    };
    let at_start = named(&AT_START_ONLY);
    if !at_start.is_empty() {
        return Err(invalid_request(format!(
            "Cannot update these configs dynamically: [{}]. Here they need a restart: set them in the broker's file, \
             environment or flags",
            at_start.join(", ")
        )));
    }
    if set().any(|(name, value)| name == "cordoned.log.dirs" && !value.trim().is_empty()) {
        return Err(invalid_request(
            "cordoned.log.dirs is without effect in this version: no directory can be cordoned",
        ));
    }
    let decisive = named(&DECISIVE_SETTINGS);
    if !resource.name.is_empty() && !decisive.is_empty() {
        return Err(invalid_config(format!(
            "These configs decide elections and cannot be altered for one broker: [{}]. Set them for all brokers, or for \
             a topic",
            decisive.join(", ")
        )));
    }
    Ok(())
}

/// No Java class can be loaded here; those that a default names stand for what is built in.
fn check_classes(definition: &ConfigDef, value: &str) -> Result<(), Refusal> {
    let is_class = definition.kind == ConfigType::Class || definition.name == "metric.reporters";
    let default = definition.default.unwrap_or_default();
    match list_values(value).into_iter().find(|class| is_class && *class != default) {
        Some(class) => Err(invalid_request(format!(
            "Invalid value {value} for configuration {}: Class {class} could not be found.",
            definition.name
        ))),
        None => Ok(()),
    }
}

fn check_cleaner_memory(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    const BYTES_MIN: i64 = 1024 * 1024;
    let number = |name: &str| configs.get(name).and_then(|value| value.trim().parse::<i64>().ok());
    let threads = number("log.cleaner.threads").unwrap_or(1).max(1);
    match number("log.cleaner.dedupe.buffer.size") {
        Some(bytes) if bytes / threads <= BYTES_MIN => Err(invalid_request(
            "requirement failed: log.cleaner.dedupe.buffer.size must be at least 1MB per cleaner thread.",
        )),
        _ => Ok(()),
    }
}

fn check_connection_limits(configs: &BTreeMap<String, String>) -> Result<(), Refusal> {
    let overrides = configs.get("max.connections.per.ip.overrides").map_or("", String::as_str);
    if let Err(problem) = connection_overrides(overrides) {
        return Err(invalid_request(format!(
            "Error parsing configuration property 'max.connections.per.ip.overrides': {problem}"
        )));
    }
    let nobody_else = configs.get("max.connections.per.ip").is_some_and(|value| value.trim() == "0");
    if nobody_else && overrides.trim().is_empty() {
        return Err(invalid_request(
            "requirement failed: max.connections.per.ip can be set to zero only if max.connections.per.ip.overrides \
             property is set.",
        ));
    }
    Ok(())
}

/// `listener.name.external.ssl.keystore.location` is `ssl.keystore.location` for one listener.
fn base_name(name: &str) -> &str {
    let of_listener = name.strip_prefix("listener.name.").and_then(|rest| rest.split_once('.'));
    of_listener.map_or(name, |(_listener, base)| base)
}

fn null_value(name: &str) -> Refusal {
    invalid_request(format!("Null value not supported for : {name}"))
}

fn invalid_request(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

fn invalid_config(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, message)
}
