//! Topics and configs, changed and described for every door: Kafka's own requests, so that its rules and words hold here too.

use capek_actors::consumer_commands::InstanceError;
use capek_actors::local_requests::{AskError, Caller, Destination};
use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::messages::create_partitions::CreatePartitionsTopic;
use capek_wire::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreatableTopicResult};
use capek_wire::messages::delete_topics::DeleteTopicState;
use capek_wire::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResult};
use capek_wire::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use capek_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest,
};

use super::doors::Doors;

const CREATE_TOPICS_VERSION: i16 = 7;
const DELETE_TOPICS_VERSION: i16 = 6;
const CREATE_PARTITIONS_VERSION: i16 = 3;
const DESCRIBE_CONFIGS_VERSION: i16 = 4;
const ALTER_CONFIGS_VERSION: i16 = 1;
const TIMEOUT_MS: i32 = 30_000;

/// What Kafka says instead of doing it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub code: ErrorCode,
    pub message: String,
}

impl Refused {
    pub fn new(code: ErrorCode, message: Option<&str>) -> Refused {
        let message = message.filter(|message| !message.is_empty()).unwrap_or(code.message());
        Refused { code, message: message.to_owned() }
    }

    fn check(error_code: i16, message: Option<&Str>) -> Result<(), Refused> {
        match ErrorCode::from_code(error_code) {
            ErrorCode::None => Ok(()),
            code => Err(Refused::new(code, message.map(Str::as_str))),
        }
    }
}

impl From<AskError> for Refused {
    fn from(error: AskError) -> Refused {
        Refused { code: error.code(), message: error.to_string() }
    }
}

impl From<InstanceError> for Refused {
    fn from(error: InstanceError) -> Refused {
        match error {
            InstanceError::Kafka(code, message) => Refused::new(code, message.as_deref()),
            other => Refused::new(ErrorCode::UnknownServerError, Some(&other.to_string())),
        }
    }
}

/// A topic to make; -1 is what the broker's configuration says.
#[derive(Debug, Clone, Default)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    /// By partition, when the client has chosen the brokers itself.
    pub assignments: Vec<(i32, Vec<i32>)>,
    pub configs: Vec<(String, Option<String>)>,
    pub validate_only: bool,
}

/// What Kafka's resources are called in its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResourceKind {
    Topic = 2,
    Broker = 4,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigChange {
    Set(String, Option<String>),
    Delete(String),
}

fn one<T>(items: Vec<T>) -> Result<T, Refused> {
    let mut items = items;
    items.pop().ok_or_else(|| Refused::new(ErrorCode::UnknownServerError, Some("the answer is empty")))
}

impl Doors {
    pub async fn create_topic(&self, caller: &Caller, topic: NewTopic) -> Result<CreatableTopicResult, Refused> {
        let config = |(name, value): &(String, Option<String>)| CreatableTopicConfig {
            name: Str::from(name),
            value: value.as_ref().map(Str::from),
        };
        let assignment = |(partition_index, broker_ids): &(i32, Vec<i32>)| {
            capek_wire::messages::create_topics::CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: broker_ids.clone(),
            }
        };
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: Str::from(&topic.name),
                num_partitions: topic.partitions,
                replication_factor: topic.replication_factor,
                assignments: topic.assignments.iter().map(assignment).collect(),
                configs: topic.configs.iter().map(config).collect(),
            }],
            timeout_ms: TIMEOUT_MS,
            validate_only: topic.validate_only,
        };
        let answer = self.client.ask(Destination::Anyone, caller, &request, CREATE_TOPICS_VERSION).await?;
        let created = one(answer.topics)?;
        Refused::check(created.error_code, created.error_message.as_ref())?;
        Ok(created)
    }

    pub async fn delete_topic(&self, caller: &Caller, name: &str) -> Result<(), Refused> {
        let topic = DeleteTopicState { name: Some(Str::from(name)), ..Default::default() };
        let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, ..Default::default() };
        let answer = self.client.ask(Destination::Anyone, caller, &request, DELETE_TOPICS_VERSION).await?;
        let deleted = one(answer.responses)?;
        Refused::check(deleted.error_code, deleted.error_message.as_ref())
    }

    /// `count` is how many there are afterwards.
    pub async fn grow_topic(&self, caller: &Caller, name: &str, count: i32) -> Result<(), Refused> {
        let topic = CreatePartitionsTopic { name: Str::from(name), count, assignments: None };
        let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: TIMEOUT_MS, validate_only: false };
        let answer = self.client.ask(Destination::Anyone, caller, &request, CREATE_PARTITIONS_VERSION).await?;
        let grown = one(answer.results)?;
        Refused::check(grown.error_code, grown.error_message.as_ref())
    }

    /// All configs of each of these, or those with a name of `keys`. The default of a whole cluster is the broker "".
    pub async fn describe_configs(
        &self,
        caller: &Caller,
        kind: ResourceKind,
        names: &[String],
        key: Option<&str>,
    ) -> Result<Vec<DescribeConfigsResult>, Refused> {
        let resource = |name: &String| DescribeConfigsResource {
            resource_type: kind as i8,
            resource_name: Str::from(name),
            configuration_keys: key.map(|key| vec![Str::from(key)]),
        };
        let resources = names.iter().map(resource).collect();
        let request = DescribeConfigsRequest { resources, include_synonyms: true, include_documentation: false };
        let destination = self.of_resource(kind, names);
        let answer = self.client.ask(destination, caller, &request, DESCRIBE_CONFIGS_VERSION).await?;
        for result in &answer.results {
            Refused::check(result.error_code, result.error_message.as_ref())?;
        }
        Ok(answer.results)
    }

    pub async fn alter_configs(
        &self,
        caller: &Caller,
        kind: ResourceKind,
        name: &str,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), Refused> {
        const SET: i8 = 0;
        const DELETE: i8 = 1;
        let altered = |change: &ConfigChange| match change {
            ConfigChange::Set(name, value) => {
                AlterableConfig { name: Str::from(name), config_operation: SET, value: value.as_ref().map(Str::from) }
            }
            ConfigChange::Delete(name) => {
                AlterableConfig { name: Str::from(name), config_operation: DELETE, value: None }
            }
        };
        let resource = AlterConfigsResource {
            resource_type: kind as i8,
            resource_name: Str::from(name),
            configs: changes.iter().map(altered).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
        let destination = self.of_resource(kind, &[name.to_owned()]);
        let answer = self.client.ask(destination, caller, &request, ALTER_CONFIGS_VERSION).await?;
        let altered = one(answer.responses)?;
        Refused::check(altered.error_code, altered.error_message.as_ref())
    }

    /// A broker tells of its own configs; those of topics and of the whole cluster are everyone's.
    fn of_resource(&self, kind: ResourceKind, names: &[String]) -> Destination<'static> {
        let broker = names.first().filter(|_| kind == ResourceKind::Broker).and_then(|name| name.parse().ok());
        broker.map_or(Destination::Anyone, Destination::Broker)
    }
}
