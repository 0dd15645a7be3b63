//! What configuration requests are about: a type and a name on the wire, a topic, broker, group or subscription in the image.

use capek_state::Refusal;
use capek_state::cluster::{ConfigKind, ConfigResource};
use capek_state::config::{Lookup, check_group_bounds, check_thread_count, find_group_config};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::BrokerId;

use super::{change, repeated};
use crate::broker::BrokerShared;

pub const TOPIC: i8 = 2;
pub const BROKER: i8 = 4;
pub const BROKER_LOGGER: i8 = 8;
pub const CLIENT_METRICS: i8 = 16;
pub const GROUP: i8 = 32;

/// What a change is about. The words are Kafka's.
pub fn for_change(node_id: BrokerId, resource_type: i8, name: &Str) -> Result<ConfigResource, Refusal> {
    match resource_type {
        TOPIC => Ok(ConfigResource { kind: ConfigKind::Topic, name: name.to_string() }),
        BROKER if name.is_empty() => Ok(ConfigResource::brokers()),
        BROKER => match name.parse::<BrokerId>() {
            Ok(id) if id == node_id => Ok(ConfigResource::broker(id)),
            Ok(id) => Err(invalid(format!("Unexpected broker id, expected {node_id}, but received {id}"))),
            Err(_) => Err(invalid(format!("Node id must be an integer, but it is: {name}"))),
        },
        CLIENT_METRICS => Ok(ConfigResource { kind: ConfigKind::ClientMetrics, name: name.to_string() }),
        GROUP => Ok(ConfigResource { kind: ConfigKind::Group, name: name.to_string() }),
        other => Err(invalid(format!("Unknown resource type {other}"))),
    }
}

/// What a broker lets its groups set, and how far its threads can be changed; only it knows its own configuration. Names
/// and types are judged later.
pub fn check_bounds<'a>(
    broker: &BrokerShared,
    resource: &ConfigResource,
    set: impl Iterator<Item = (&'a str, &'a str)>,
) -> Result<(), Refusal> {
    let image = broker.image.load();
    let setting = |name: &str| image.broker_setting(broker.config.node_id, &broker.config.properties, name);
    match resource.kind {
        ConfigKind::Group if !resource.name.is_empty() => check_groups(set, &setting),
        ConfigKind::Broker => {
            let own = image.configs(&ConfigResource::broker(broker.config.node_id));
            // What is set for all does not change a broker that has its own.
            let is_own = |name: &str| resource.name.is_empty() && own.contains_key(name);
            check_threads(set.filter(|(name, _)| !is_own(name)), &setting)
        }
        _ => Ok(()),
    }
}

fn check_groups<'a>(mut set: impl Iterator<Item = (&'a str, &'a str)>, setting: Lookup<'_>) -> Result<(), Refusal> {
    let is_legal = |name: &str, value: &str| find_group_config(name).is_some_and(|known| known.check(value).is_ok());
    set.try_for_each(|(name, value)| match is_legal(name, value) {
        true => {
            check_group_bounds(name, value, setting).map_err(|problem| Refusal::new(ErrorCode::InvalidConfig, problem))
        }
        false => Ok(()),
    })
}

fn check_threads<'a>(mut set: impl Iterator<Item = (&'a str, &'a str)>, setting: Lookup<'_>) -> Result<(), Refusal> {
    set.try_for_each(|(name, value)| {
        let current = setting(name).unwrap_or_default();
        check_thread_count(name, value, &current).map_err(invalid)
    })
}

/// What became of one resource of a request.
pub struct Changed {
    pub resource_type: i8,
    pub resource_name: Str,
    pub error_code: i16,
    pub error_message: Option<Str>,
}

/// Changes resources one by one, in their order; one that is named twice is refused each time.
pub async fn change_each<R>(
    resources: Vec<R>,
    key: impl Fn(&R) -> (i8, Str),
    change_one: impl AsyncFn(R) -> Result<(), Refusal>,
) -> Vec<Changed> {
    let keys: Vec<_> = resources.iter().map(key).collect();
    let twice = repeated(keys.iter());
    let mut changed = Vec::with_capacity(resources.len());
    for (resource, key) in resources.into_iter().zip(keys) {
        let result = match twice.contains(&key) {
            true => Err(invalid("Each resource must appear at most once.".to_string())),
            false => change_one(resource).await,
        };
        let (error_code, error_message) = change::error_of(&result);
        let (resource_type, resource_name) = key;
        changed.push(Changed { resource_type, resource_name, error_code, error_message });
    }
    changed
}

pub fn invalid(message: String) -> Refusal {
    Refusal::new(ErrorCode::InvalidRequest, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(resource_type: i8, name: &str) -> String {
        for_change(1, resource_type, &Str::from(name)).expect_err("refused").to_string()
    }

    #[test]
    fn a_broker_changes_itself_and_the_default_of_all() {
        assert_eq!(for_change(1, BROKER, &Str::from("1")), Ok(ConfigResource::broker(1)));
        assert_eq!(for_change(1, BROKER, &Str::from("")), Ok(ConfigResource::brokers()));
        assert_eq!(message(BROKER, "9"), "Unexpected broker id, expected 1, but received 9");
        assert_eq!(message(BROKER, "x"), "Node id must be an integer, but it is: x");
        assert_eq!(message(99, "x"), "Unknown resource type 99");
        assert_eq!(message(BROKER_LOGGER, "1"), "Unknown resource type 8");
    }
}
