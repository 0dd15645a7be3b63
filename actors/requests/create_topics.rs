//! CreateTopics (key 19, versions 2–7): topics with partitions, replicas and configurations; -1 stands for the broker's defaults.
//!
//! Topics are judged one by one. A name that a request has twice is refused, once, and answered last. From version 5 the
//! answer describes what was created, from version 7 with its id.

use std::collections::BTreeMap;
use std::rc::Rc;

use capek_state::Refusal;
use capek_state::cluster::{Assignment, Command, CreateTopic, Outcome};
use capek_state::config::{ConfigSources, resolve_with_origin, topic_configs};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};

use super::{RequestContext, change, repeated};
use crate::broker::BrokerShared;
use crate::topics;

/// Versions from here describe the topic.
const DESCRIPTION_VERSION_MIN: i16 = 5;
/// A description is a hundred times as long as the wish for a topic: in one answer there are so many, the rest stay empty.
const DESCRIPTIONS_MAX: usize = 1000;

pub async fn answer(context: Rc<RequestContext>, request: CreateTopicsRequest, version: i16) -> CreateTopicsResponse {
    let twice = repeated(request.topics.iter().map(|topic| &topic.name));
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics.into_iter().filter(|topic| !twice.contains(&topic.name)) {
        let is_described = version >= DESCRIPTION_VERSION_MIN && results.len() < DESCRIPTIONS_MAX;
        let created = create(&context.broker, topic, request.validate_only, is_described).await;
        results.push(created);
    }
    let refusal = || Refusal::new(ErrorCode::InvalidRequest, "Duplicate topic name.");
    results.extend(twice.into_iter().map(|name| failed(name, refusal())));
    CreateTopicsResponse { topics: results, ..Default::default() }
}

async fn create(
    broker: &BrokerShared,
    topic: CreatableTopic,
    validate_only: bool,
    is_described: bool,
) -> CreatableTopicResult {
    let name = topic.name.clone();
    let overrides = overrides(&topic);
    let command = Command::CreateTopic(command(broker, topic));
    match change::make(broker, command, validate_only).await {
        Err(refusal) => failed(name, refusal),
        Ok(Outcome::TopicCreated { topic_id, partitions, replication_factor }) => {
            let configs = if is_described { describe(broker, &overrides, replication_factor) } else { Vec::new() };
            CreatableTopicResult {
                name,
                topic_id,
                error_message: None,
                num_partitions: partitions,
                replication_factor,
                configs: Some(configs),
                ..Default::default()
            }
        }
        Ok(_) => failed(name, Refusal::bare(ErrorCode::UnknownServerError)),
    }
}

fn command(broker: &BrokerShared, topic: CreatableTopic) -> CreateTopic {
    let assignments = topic.assignments.into_iter();
    let configs = topic.configs.into_iter();
    CreateTopic {
        name: topic.name.to_string(),
        id: topics::new_topic_id(),
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: assignments
            .map(|assignment| Assignment { partition: assignment.partition_index, brokers: assignment.broker_ids })
            .collect(),
        configs: configs.map(|config| (config.name.to_string(), config.value.map(String::from))).collect(),
        defaults: topics::defaults(broker),
        seed: crate::random::seed(),
    }
}

/// What the topic has of its own; of a key that is named twice the last value counts.
fn overrides(topic: &CreatableTopic) -> BTreeMap<String, String> {
    let configs = topic.configs.iter();
    configs.filter_map(|config| Some((config.name.to_string(), config.value.as_ref()?.to_string()))).collect()
}

/// The configuration as it is, or would be: a topic that was only judged is not in the image.
fn describe(
    broker: &BrokerShared,
    overrides: &BTreeMap<String, String>,
    replication_factor: i16,
) -> Vec<CreatableTopicConfigs> {
    let image = broker.image.load();
    image.with_sources(None, broker.config.node_id, &broker.config.properties, |sources| {
        let sources = ConfigSources { topic: overrides, replication_factor: i32::from(replication_factor), ..*sources };
        let describe = |definition| {
            let resolved = resolve_with_origin(definition, &sources);
            CreatableTopicConfigs {
                name: Str::from_static(definition.name),
                value: resolved.value.map(Str::from),
                read_only: false,
                config_source: resolved.source.wire_code(),
                is_sensitive: definition.is_sensitive,
            }
        };
        topic_configs().iter().map(describe).collect()
    })
}

fn failed(name: Str, refusal: Refusal) -> CreatableTopicResult {
    let (error_code, error_message) = change::error_of::<()>(&Err(refusal));
    CreatableTopicResult { name, error_code, error_message, ..Default::default() }
}
