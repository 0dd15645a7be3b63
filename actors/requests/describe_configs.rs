//! DescribeConfigs (key 32, versions 1–4): the configurations of topics and of this broker, with where each value comes from.
//!
//! No keys, or none named, means all; keys that do not exist are left out. The empty broker name stands for the dynamic
//! default of all brokers. Documentation and types come from version 3.

use std::collections::BTreeSet;

use capek_state::Refusal;
use capek_state::cluster::{ConfigResource, Image};
use capek_state::config::{
    ConfigDef, ConfigSource, ConfigSources, Dynamic, Resolved, Synonym, broker_configs, find_broker_config,
    resolve_with_origin, topic_configs,
};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{BrokerId, topic_name_problem};
use capek_wire::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};

use super::RequestContext;
use super::config_resource::{BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP, TOPIC, invalid};
use crate::broker::BrokerShared;

/// The source of a log level.
const LOGGER_SOURCE: i8 = 6;

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
                vec![root_logger()]
            }
            CLIENT_METRICS | GROUP => {
                return Err(invalid("this broker keeps no configuration of that kind yet".to_string()));
            }
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
                if matches!(definition.name, "broker.id" | "node.id") {
                    resolved.value = Some(self.broker.config.node_id.to_string());
                }
                self.entry(resolved, definition.dynamic == Dynamic::ReadOnly)
            };
            broker_configs().map(describe).collect()
        });
        for name in self.image.configs(&ConfigResource::broker(self.broker.config.node_id)).keys() {
            if find_broker_config(name).is_none() {
                configs.push(unknown(name, ConfigSource::DynamicBroker));
            }
        }
        configs.sort_by(|left, right| left.name.cmp(&right.name));
        configs
    }

    /// Only what was set for all brokers.
    fn dynamic_default(&self) -> Vec<DescribeConfigsResourceResult> {
        let set = self.image.configs(&ConfigResource::brokers());
        let describe = |(name, value): (&String, &String)| {
            let Some(definition) = find_broker_config(name) else {
                return unknown(name, ConfigSource::DynamicDefault);
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
        let shown = synonyms.into_iter().filter(|synonym| self.with_synonyms && is_shown(definition, synonym));
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

/// Of the defaults Kafka shows only that of the nearest name: not that `retention.ms` comes from `log.retention.hours=168`.
fn is_shown(definition: &ConfigDef, synonym: &Synonym) -> bool {
    let is_of_broker = find_broker_config(definition.name).is_some_and(|found| std::ptr::eq(found, definition));
    let nearest = if is_of_broker { Some(&definition.name) } else { definition.synonyms.first() };
    synonym.source != ConfigSource::Default || nearest == Some(&synonym.name)
}

/// Kafka keeps names that it does not know (a plug-in may), and shows no value: it might be a secret.
fn unknown(name: &str, source: ConfigSource) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: Str::from(name),
        value: None,
        config_source: source.wire_code(),
        is_sensitive: true,
        documentation: None,
        ..Default::default()
    }
}

fn root_logger() -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: Str::from_static("root"),
        value: Some(Str::from_static(log::max_level().as_str())),
        config_source: LOGGER_SOURCE,
        documentation: None,
        ..Default::default()
    }
}
