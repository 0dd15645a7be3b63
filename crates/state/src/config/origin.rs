//! Where the value of a configuration comes from: what DescribeConfigs shows as its source and synonyms.
//!
//! ```text
//!   topic's own          1   set for the topic by a tool
//!   dynamic broker       2   set for one broker by a tool          ┐ each under the synonyms of the
//!   dynamic default      3   set for all brokers by a tool         │ topic's name, nearest first:
//!   static broker        4   file, environment, flag               ┘ log.retention.ms, .minutes, .hours
//!   default              5
//! ```

use std::collections::BTreeMap;

use super::definition::ConfigDef;
use super::topic_config::default_min_insync_replicas;

/// Who set a value; the wire code stands in DescribeConfigs responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigSource {
    Topic,
    DynamicBroker,
    DynamicDefault,
    StaticBroker,
    Default,
}

impl ConfigSource {
    /// The number of the source in DescribeConfigs. What a group or a client metrics subscription has of its own has
    /// other numbers than what a topic has.
    pub fn wire_code(self) -> i8 {
        match self {
            ConfigSource::Topic => 1,
            ConfigSource::DynamicBroker => 2,
            ConfigSource::DynamicDefault => 3,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
        }
    }
}

/// What was set under a broker-level name.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Everywhere a value can have been set. The functions answer by broker-level name, for what was set, not for
/// defaults.
#[derive(Clone, Copy)]
pub struct ConfigSources<'a> {
    pub topic: &'a BTreeMap<String, String>,
    pub dynamic_broker: Lookup<'a>,
    pub dynamic_default: Lookup<'a>,
    pub static_broker: Lookup<'a>,
    /// The topic's, for `min.insync.replicas`; 1 for a broker.
    pub replication_factor: i32,
}

static NO_OVERRIDES: BTreeMap<String, String> = BTreeMap::new();

impl<'a> ConfigSources<'a> {
    /// Only what file, environment and flags say.
    pub fn of_static(static_broker: Lookup<'a>) -> ConfigSources<'a> {
        ConfigSources {
            topic: &NO_OVERRIDES,
            dynamic_broker: &|_| None,
            dynamic_default: &|_| None,
            static_broker,
            replication_factor: 1,
        }
    }
}

/// One place that has a value; the first of a list is the one that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    pub name: &'static str,
    pub value: Option<String>,
    pub source: ConfigSource,
}

/// A configuration with its value and where that comes from.
#[derive(Clone, Debug)]
pub struct Resolved {
    pub definition: &'static ConfigDef,
    /// None also for a sensitive one.
    pub value: Option<String>,
    pub source: ConfigSource,
    pub synonyms: Vec<Synonym>,
}

/// The value of a topic's or broker's configuration with its origin.
pub fn resolve_with_origin(definition: &'static ConfigDef, sources: &ConfigSources<'_>) -> Resolved {
    // A topic's configuration has other names at the broker, a broker's is asked by its own.
    let of_broker = super::find_broker_config(definition.name).filter(|found| std::ptr::eq(*found, definition));
    let asked_too = of_broker.map(|definition| definition.name);
    let mut synonyms: Vec<Synonym> = candidates(definition, asked_too, sources).collect();
    synonyms.extend(default_of(definition, of_broker.is_some(), sources.replication_factor));
    if definition.is_sensitive {
        synonyms.iter_mut().for_each(|synonym| synonym.value = None);
    }
    let first = synonyms.first();
    Resolved {
        definition,
        value: first.map(|synonym| convert(definition, synonym)).unwrap_or_default(),
        source: first.map_or(ConfigSource::Default, |synonym| synonym.source),
        synonyms,
    }
}

/// The values that somebody has set for a topic's configuration, the one that counts first, in the unit of `definition`.
pub(super) fn explicit_values(
    definition: &'static ConfigDef,
    sources: &ConfigSources<'_>,
) -> impl Iterator<Item = String> {
    candidates(definition, None, sources).filter_map(|synonym| convert(definition, &synonym))
}

/// Who has set it, nearest first: by the synonyms of `definition` and before them by `asked_too`.
fn candidates<'a>(
    definition: &'static ConfigDef,
    asked_too: Option<&'static str>,
    sources: &'a ConfigSources<'a>,
) -> impl Iterator<Item = Synonym> + 'a {
    let own = sources.topic.get(definition.name).map(|value| Synonym {
        name: definition.name,
        value: Some(value.clone()),
        source: ConfigSource::Topic,
    });
    let names = asked_too.into_iter().chain(definition.synonyms.iter().copied());
    let inherited = names.flat_map(move |name| {
        let layers: [(Lookup<'_>, ConfigSource); 3] = [
            (sources.dynamic_broker, ConfigSource::DynamicBroker),
            (sources.dynamic_default, ConfigSource::DynamicDefault),
            (sources.static_broker, ConfigSource::StaticBroker),
        ];
        layers.into_iter().filter_map(move |(ask, source)| {
            let value = ask(name)?;
            Some(Synonym { name, value: Some(value), source })
        })
    });
    own.into_iter().chain(inherited)
}

fn default_of(definition: &'static ConfigDef, is_of_broker: bool, replication_factor: i32) -> Option<Synonym> {
    if definition.name == "min.insync.replicas" {
        let value = Some(default_min_insync_replicas(replication_factor).to_string());
        return Some(Synonym { name: definition.name, value, source: ConfigSource::Default });
    }
    // Kafka names the broker's configuration as the origin of a topic's default: log.retention.hours=168.
    let behind = definition.synonyms.last().and_then(|name| super::find_broker_config(name));
    let behind = behind.filter(|behind| behind.default.is_some());
    let origin = match behind {
        Some(behind) if !is_of_broker || definition.default.is_none() => behind,
        _ => definition,
    };
    Some(Synonym { name: origin.name, value: Some(origin.default?.to_owned()), source: ConfigSource::Default })
}

/// `log.retention.hours=2` means 7200000 to `retention.ms`.
fn convert(definition: &ConfigDef, synonym: &Synonym) -> Option<String> {
    let value = definition.normal(synonym.value.as_deref()?);
    if !definition.name.ends_with(".ms") {
        return Some(value);
    }
    let factor = if synonym.name.ends_with(".hours") {
        60 * 60 * 1000
    } else if synonym.name.ends_with(".minutes") {
        60 * 1000
    } else {
        return Some(value);
    };
    let number: i64 = value.trim().parse().ok()?;
    // Kafka: any negative number of minutes or hours is "for ever".
    Some(if number < 0 { "-1".to_owned() } else { number.saturating_mul(factor).to_string() })
}
