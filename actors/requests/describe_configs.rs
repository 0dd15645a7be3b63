//! DescribeConfigs (key 32, versions 1–4): the configurations of topics, of this broker and its loggers, of groups and client
//! metrics subscriptions, with where each value comes from.
//!
//! No keys, or none named, means all; keys that do not exist are left out. The empty broker name stands for the dynamic
//! default of all brokers. Documentation and types come from version 3.

use std::collections::BTreeSet;

use capek_state::Refusal;
use capek_state::cluster::{ConfigKind, ConfigResource, Image};
use capek_state::config::{
    ConfigDef, ConfigSource, ConfigSources, Dynamic, Resolved, Synonym, broker_configs, client_metrics_configs,
    find_broker_config, group_configs, resolve_with_origin, topic_configs,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, topic_name_problem};
use capek_wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, invalid};
use super::{RequestContext, broker_loggers};
use crate::broker::BrokerShared;
use crate::config::INITIAL_REBALANCE_DELAY;

/// The sources of what a subscription and a group have of their own.
const CLIENT_METRICS_SOURCE: i8 = 7;
const GROUP_SOURCE: i8 = 8;

pub fn answer(context: &RequestContext, request: DescribeConfigsRequest, _version: i16) -> DescribeConfigsResponse {
    let image = context.broker.image.load();
    let describe = Describe {
        broker: &context.broker,
        image: &image,
        with_synonyms: request.include_synonyms,
        with_documentation: request.include_documentation,
    };
    // One that is named again is not described again: the answer would be much larger than the request.
    let mut seen = BTreeSet::new();
    let is_new = |asked: &DescribeConfigsResource| seen.insert((asked.resource_type, asked.resource_name.clone()));
    let resources: Vec<_> = request.resources.into_iter().filter(is_new).collect();
    let results = resources.into_iter().map(|asked| describe.result(asked)).collect();
    DescribeConfigsResponse { results, ..Default::default() }
}

struct Describe<'a> {
    broker: &'a BrokerShared,
    image: &'a Image,
    with_synonyms: bool,
    with_documentation: bool,
}

impl Describe<'_> {
    fn result(&self, asked: DescribeConfigsResource) -> DescribeConfigsResult {
        let (code, message, configs) = match self.configs(&asked) {
            // Kafka's message is empty, not null, where there is nothing to say.
            Ok(configs) => (ErrorCode::None, Str::default(), configs),
            Err(Refusal { code, message }) => (code, Str::from(message.as_deref().unwrap_or_default()), Vec::new()),
        };
        DescribeConfigsResult {
            error_code: code.code(),
            error_message: Some(message),
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
            configs,
            ..Default::default()
        }
    }

    fn configs(&self, asked: &DescribeConfigsResource) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        let name = &asked.resource_name;
        let mut configs = match asked.resource_type {
            TOPIC => self.topic(name)?,
            BROKER if name.is_empty() => self.dynamic_default(),
            BROKER => {
                self.check_node(name, " or empty string,")?;
                self.broker()
            }
            BROKER_LOGGER if name.is_empty() => return Err(invalid("Broker id must not be empty".to_string())),
            BROKER_LOGGER => {
                self.check_node(name, "")?;
                broker_loggers::describe()
            }
            CLIENT_METRICS if name.is_empty() => {
                return Err(invalid("Client metrics subscription name must not be empty".to_string()));
            }
            GROUP if name.is_empty() => return Err(invalid("Group name must not be empty".to_string())),
            CLIENT_METRICS => self.other(ConfigKind::ClientMetrics, name, client_metrics_configs()),
            GROUP => self.other(ConfigKind::Group, name, group_configs()),
            _ => return Err(invalid(ErrorCode::InvalidRequest.message().to_string())),
        };
        if let Some(keys) = asked.configuration_keys.as_ref().filter(|keys| !keys.is_empty()) {
            let keys: BTreeSet<&Str> = keys.iter().collect();
            configs.retain(|config| keys.contains(&config.name));
        }
        Ok(configs)
    }

    /// Brokers describe themselves.
    fn check_node(&self, name: &str, or: &str) -> Result<(), Refusal> {
        let node_id = self.broker.config.node_id;
        match name.parse::<BrokerId>() {
            Ok(id) if id.to_string() != name => {
                Err(invalid(format!("Broker id must be an integer, but it is: {name}")))
            }
            Ok(id) if id == node_id => Ok(()),
            Ok(id) => Err(invalid(format!("Unexpected broker id, expected {node_id}{or} but received {id}"))),
            Err(_) => Err(invalid(format!("Broker id must be an integer, but it is: {name}"))),
        }
    }

    fn topic(&self, name: &str) -> Result<Vec<DescribeConfigsResourceResult>, Refusal> {
        if let Some(problem) = topic_name_problem(name) {
            let message = format!("Topic name is invalid: {problem}");
            return Err(Refusal::new(ErrorCode::InvalidTopicException, message));
        }
        if self.image.topic_by_name(name).is_none() {
            return Err(Refusal::bare(ErrorCode::UnknownTopicOrPartition));
        }
        Ok(self.with_sources(Some(name), |sources| {
            let describe = |definition| self.entry(resolve_with_origin(definition, sources), false);
            topic_configs().iter().map(describe).collect()
        }))
    }

    fn broker(&self) -> Vec<DescribeConfigsResourceResult> {
        let mut configs: Vec<_> = self.with_sources(None, |sources| {
            let describe = |definition: &'static ConfigDef| {
                let mut resolved = resolve_with_origin(definition, sources);
                resolved.synonyms.extend(farther_synonyms(&resolved));
                match definition.name {
                    "broker.id" | "node.id" => resolved.value = Some(self.broker.config.node_id.to_string()),
                    INITIAL_REBALANCE_DELAY => self.describe_delay(&mut resolved),
                    _ => {}
                }
                self.entry(resolved, definition.dynamic == Dynamic::ReadOnly)
            };
            broker_configs().map(describe).collect()
        });
        let listed: BTreeSet<&str> = broker_configs().map(|definition| definition.name).collect();
        let own = ConfigResource::broker(self.broker.config.node_id);
        let mut seen = BTreeSet::new();
        for (resource, source) in
            [(own, ConfigSource::DynamicBroker), (ConfigResource::brokers(), ConfigSource::DynamicDefault)]
        {
            let set = self.image.configs(&resource).keys();
            for name in set.filter(|name| !listed.contains(name.as_str())) {
                if seen.insert(name) {
                    configs.push(self.unlisted(name, source));
                }
            }
        }
        configs.sort_by(|left, right| left.name.cmp(&right.name));
        configs
    }

    /// The default that holds is not the one of the table while there is one broker.
    fn describe_delay(&self, resolved: &mut Resolved) {
        let delay_ms = self.broker.config.initial_rebalance_delay_ms(self.image).to_string();
        if resolved.source == ConfigSource::Default {
            resolved.synonyms.iter_mut().for_each(|synonym| synonym.value = Some(delay_ms.clone()));
            resolved.value = Some(delay_ms);
        }
    }

    /// What only tools set is told of while it is set.
    fn unlisted(&self, name: &str, source: ConfigSource) -> DescribeConfigsResourceResult {
        match find_broker_config(name) {
            None => unknown(name, source, self.with_synonyms),
            Some(definition) => self.with_sources(None, |sources| {
                let mut resolved = resolve_with_origin(definition, sources);
                resolved.synonyms.retain(|synonym| synonym.source != ConfigSource::Default);
                self.entry(resolved, false)
            }),
        }
    }

    /// A group, or a client metrics subscription: whether there is one of that name does not matter.
    fn other(
        &self,
        kind: ConfigKind,
        name: &str,
        definitions: &'static [ConfigDef],
    ) -> Vec<DescribeConfigsResourceResult> {
        let resource = ConfigResource { kind, name: name.to_string() };
        let config = &self.broker.config;
        let own_source = if kind == ConfigKind::Group { GROUP_SOURCE } else { CLIENT_METRICS_SOURCE };
        let of_topic = ConfigSource::Topic.wire_code();
        self.image.with_sources_of(Some(&resource), config.node_id, &config.properties, |sources| {
            let describe = |definition: &'static ConfigDef| {
                let mut resolved = resolve_with_origin(definition, sources);
                if kind == ConfigKind::ClientMetrics {
                    // Kafka tells no default of these.
                    resolved.synonyms.retain(|synonym| synonym.source != ConfigSource::Default);
                }
                let mut entry = self.entry(resolved, false);
                let codes = entry.synonyms.iter_mut().map(|synonym| &mut synonym.source);
                for code in codes.chain([&mut entry.config_source]).filter(|code| **code == of_topic) {
                    *code = own_source;
                }
                entry
            };
            definitions.iter().map(describe).collect()
        })
    }

    /// Only what was set for all brokers.
    fn dynamic_default(&self) -> Vec<DescribeConfigsResourceResult> {
        let set = self.image.configs(&ConfigResource::brokers());
        let describe = |(name, value): (&String, &String)| {
            let Some(definition) = find_broker_config(name) else {
                return unknown(name, ConfigSource::DynamicDefault, self.with_synonyms);
            };
            let ask = |asked: &str| (asked == name).then(|| value.clone());
            let sources = ConfigSources { dynamic_default: &ask, ..ConfigSources::of_static(&|_| None) };
            let mut resolved = resolve_with_origin(definition, &sources);
            resolved.synonyms.retain(|synonym| synonym.source == ConfigSource::DynamicDefault);
            self.entry(resolved, definition.dynamic == Dynamic::ReadOnly)
        };
        set.iter().map(describe).collect()
    }

    fn with_sources<T>(&self, topic: Option<&str>, work: impl FnOnce(&ConfigSources<'_>) -> T) -> T {
        let config = &self.broker.config;
        self.image.with_sources(topic, config.node_id, &config.properties, work)
    }

    fn entry(&self, resolved: Resolved, read_only: bool) -> DescribeConfigsResourceResult {
        let Resolved { definition, value, source, synonyms } = resolved;
        let shown = shown_synonyms(definition, synonyms).into_iter().filter(|_| self.with_synonyms);
        let synonyms = shown.map(|synonym| DescribeConfigsSynonym {
            name: Str::from_static(synonym.name),
            value: synonym.value.map(Str::from),
            source: synonym.source.wire_code(),
            ..Default::default()
        });
        DescribeConfigsResourceResult {
            name: Str::from_static(definition.name),
            value: value.map(Str::from),
            read_only,
            config_source: source.wire_code(),
            is_sensitive: definition.is_sensitive,
            synonyms: synonyms.collect(),
            config_type: definition.kind.wire_code(),
            documentation: self.with_documentation.then(|| Str::from_static(definition.doc)),
            ..Default::default()
        }
    }
}

/// Kafka tells that `retention.ms` comes from `log.retention.hours=168` only behind a value that somebody has set, and of a
/// broker's configuration not that an older name has a default too.
fn shown_synonyms(definition: &ConfigDef, mut synonyms: Vec<Synonym>) -> Vec<Synonym> {
    if find_broker_config(definition.name).is_some_and(|found| std::ptr::eq(found, definition)) {
        let is_older_name = |synonym: &Synonym| definition.synonyms.contains(&synonym.name);
        synonyms.retain(|synonym| synonym.source != ConfigSource::Default || !is_older_name(synonym));
        return synonyms;
    }
    let is_of_topic = topic_configs().iter().any(|found| std::ptr::eq(found, definition));
    let nearest = definition.synonyms.first().or((!is_of_topic).then_some(&definition.name));
    let is_inherited = |synonym: &Synonym| !matches!(synonym.source, ConfigSource::Topic | ConfigSource::Default);
    let is_set = synonyms.iter().any(is_inherited);
    synonyms.retain(|synonym| synonym.source != ConfigSource::Default || is_set || nearest == Some(&synonym.name));
    synonyms
}

/// Behind `log.retention.ms` stand the minutes and the hours, once it is set.
fn farther_synonyms(resolved: &Resolved) -> Vec<Synonym> {
    let Resolved { definition, synonyms, .. } = resolved;
    let is_set = synonyms.first().is_some_and(|synonym| synonym.source != ConfigSource::Default);
    let family = topic_configs().iter().map(|topic| topic.synonyms);
    let family = family.filter(|names| is_set && names.len() > 1).find(|names| names[0] == definition.name);
    let behind = family.into_iter().flatten().skip(1).filter_map(|name| find_broker_config(name));
    let default = |behind: &'static ConfigDef| {
        let value = Some(behind.default?.to_owned());
        Some(Synonym { name: behind.name, value, source: ConfigSource::Default })
    };
    behind.filter_map(default).collect()
}

/// Kafka keeps names that it does not know (a plug-in may), and shows no value: it might be a secret.
fn unknown(name: &str, source: ConfigSource, with_synonyms: bool) -> DescribeConfigsResourceResult {
    let synonym = || DescribeConfigsSynonym {
        name: Str::from(name),
        value: None,
        source: source.wire_code(),
        ..Default::default()
    };
    DescribeConfigsResourceResult {
        name: Str::from(name),
        value: None,
        read_only: true,
        config_source: source.wire_code(),
        is_sensitive: true,
        synonyms: with_synonyms.then(synonym).into_iter().collect(),
        documentation: None,
        ..Default::default()
    }
}
