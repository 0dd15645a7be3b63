//! Changing configurations: of topics, of one broker, of all brokers.

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::error_code::ErrorCode;

use super::command::{ConfigOperation, ConfigOperationKind, Decision};
use super::decide::{is_supported, records};
use super::image::Image;
use super::record::{ConfigKind, ConfigResource, Record};
use crate::Refusal;
use crate::config::{
    ConfigDef, ConfigType, Dynamic, find_broker_config, find_topic_config, subtract_values, union_values,
};

/// The configuration of a topic that is being created.
pub(super) fn topic_overrides(configs: &[(String, Option<String>)]) -> Result<BTreeMap<String, String>, Refusal> {
    let mut overrides = BTreeMap::new();
    for (name, value) in configs {
        let Some(value) = value else {
            return Err(invalid_config(format!("Null value not supported for topic configs: {name}")));
        };
        check_topic_config(name, value)?;
        overrides.insert(name.clone(), value.clone());
    }
    Ok(overrides)
}

pub(super) fn alter(
    image: &Image,
    resource: &ConfigResource,
    operations: &[ConfigOperation],
) -> Result<Decision, Refusal> {
    check_resource(image, resource)?;
    let mut named = BTreeSet::new();
    let current = image.configs(resource);
    let mut changes = Vec::new();
    for operation in operations {
        if !named.insert(operation.name.as_str()) {
            return Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("Error due to duplicate config keys: {}", operation.name),
            ));
        }
        let before = current.get(&operation.name);
        let after = changed_value(resource, operation, before)?;
        if after.as_ref() != before {
            changes.push((operation.name.clone(), after));
        }
    }
    Ok(change_records(resource, changes))
}

pub(super) fn replace(
    image: &Image,
    resource: &ConfigResource,
    configs: &BTreeMap<String, Option<String>>,
) -> Result<Decision, Refusal> {
    check_resource(image, resource)?;
    let current = image.configs(resource);
    let mut changes = Vec::new();
    for (name, value) in configs {
        let Some(value) = value else {
            return Err(Refusal::new(ErrorCode::InvalidRequest, format!("Null value not supported for : {name}")));
        };
        check_value(resource, name, value)?;
        if current.get(name) != Some(value) {
            changes.push((name.clone(), Some(value.clone())));
        }
    }
    let dropped = current.keys().filter(|name| !configs.contains_key(*name));
    changes.extend(dropped.map(|name| (name.clone(), None)));
    Ok(change_records(resource, changes))
}

fn change_records(resource: &ConfigResource, changes: Vec<(String, Option<String>)>) -> Decision {
    let record = |(name, value)| Record::ConfigChanged { resource: resource.clone(), name, value };
    records(changes.into_iter().map(record).collect())
}

fn check_resource(image: &Image, resource: &ConfigResource) -> Result<(), Refusal> {
    match resource.kind {
        ConfigKind::Topic if image.topic_by_name(&resource.name).is_none() => {
            Err(Refusal::new(ErrorCode::UnknownTopicOrPartition, "The topic does not exist."))
        }
        ConfigKind::Broker if !resource.name.is_empty() => match resource.name.parse() {
            Ok(broker) if image.broker(broker).is_some() => Ok(()),
            Ok(_) => Err(Refusal::new(
                ErrorCode::BrokerIdNotRegistered,
                format!("Broker ID {} is not currently registered", resource.name),
            )),
            Err(_) => Err(Refusal::new(
                ErrorCode::InvalidRequest,
                format!("Node id must be an integer, but it is: {}", resource.name),
            )),
        },
        kind if !is_supported(kind) => {
            Err(Refusal::new(ErrorCode::InvalidRequest, "this broker keeps no configuration of that kind yet"))
        }
        _ => Ok(()),
    }
}

fn changed_value(
    resource: &ConfigResource,
    operation: &ConfigOperation,
    before: Option<&String>,
) -> Result<Option<String>, Refusal> {
    let name = &operation.name;
    if operation.kind == ConfigOperationKind::Delete {
        return Ok(None);
    }
    let Some(value) = &operation.value else {
        return Err(Refusal::new(ErrorCode::InvalidRequest, format!("Null value not supported for : {name}")));
    };
    let after = match operation.kind {
        ConfigOperationKind::Set | ConfigOperationKind::Delete => value.clone(),
        ConfigOperationKind::Append => union_values(list_before(resource, name, before)?, value),
        ConfigOperationKind::Subtract => subtract_values(list_before(resource, name, before)?, value),
    };
    check_value(resource, name, &after)?;
    Ok(Some(after))
}

/// What APPEND and SUBTRACT start from: what is set, else the default.
fn list_before<'a>(resource: &ConfigResource, name: &str, before: Option<&'a String>) -> Result<&'a str, Refusal> {
    let definition = find(resource.kind, name);
    if definition.is_none_or(|definition| definition.kind != ConfigType::List) {
        return Err(invalid_config(format!("Can't APPEND to key {name} because its type is not LIST.")));
    }
    let default = definition.and_then(|definition| definition.default).unwrap_or_default();
    Ok(before.map_or(default, String::as_str))
}

fn find(kind: ConfigKind, name: &str) -> Option<&'static ConfigDef> {
    match kind {
        ConfigKind::Topic => find_topic_config(name),
        _ => find_broker_config(name),
    }
}

fn check_value(resource: &ConfigResource, name: &str, value: &str) -> Result<(), Refusal> {
    match resource.kind {
        ConfigKind::Topic => check_topic_config(name, value),
        _ => check_broker_config(resource, name, value),
    }
}

fn check_topic_config(name: &str, value: &str) -> Result<(), Refusal> {
    let Some(definition) = find_topic_config(name) else {
        return Err(invalid_config(format!("Unknown topic config name: {name}")));
    };
    definition.check(value).map_err(invalid_config)
}

fn check_broker_config(resource: &ConfigResource, name: &str, value: &str) -> Result<(), Refusal> {
    let Some(definition) = find_broker_config(name) else {
        return Ok(()); // Kafka keeps names that it does not know: a plug-in may.
    };
    let is_allowed = match definition.dynamic {
        Dynamic::ReadOnly => false,
        Dynamic::PerBroker => !resource.name.is_empty(),
        Dynamic::ClusterWide => true,
    };
    if !is_allowed {
        return Err(invalid_config(format!("Cannot update these configs dynamically: Set({name})")));
    }
    definition.check(value).map_err(invalid_config)
}

fn invalid_config(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, message)
}
