//! The calls that manage topics, configs and the cluster.

use std::time::Duration;

use capek_wire::messages::create_partitions::CreatePartitionsTopic;
use capek_wire::messages::create_topics::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use capek_wire::messages::delete_records::{DeleteRecordsPartition, DeleteRecordsTopic};
use capek_wire::messages::delete_topics::DeleteTopicState;
use capek_wire::messages::describe_configs::{DescribeConfigsResource, DescribeConfigsResourceResult};
use capek_wire::messages::describe_log_dirs::DescribeLogDirsResult;
use capek_wire::messages::incremental_alter_configs::{AlterConfigsResource, AlterableConfig};
use capek_wire::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeClusterResponse, DescribeConfigsRequest, DescribeLogDirsRequest, IncrementalAlterConfigsRequest,
};
use capek_wire::{ErrorCode, Str};

use super::cluster::Client;
use super::error::{ClientError, check};

/// A topic to create. Counts of -1 leave the choice to the broker.
#[derive(Clone, Debug)]
pub struct NewTopic {
    pub name: String,
    pub partitions: i32,
    pub replication_factor: i16,
    pub configs: Vec<(String, String)>,
    /// The replicas of each partition, where the caller chooses them.
    pub assignments: Vec<Vec<i32>>,
}

/// What became of one topic of a call.
#[derive(Clone, Debug)]
pub struct TopicOutcome {
    pub topic: String,
    pub result: Result<(), ClientError>,
}

/// What configs belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    Topic(String),
    /// A broker by id; an empty id is the default of all.
    Broker(String),
    /// The log levels of a broker.
    BrokerLogger(String),
    ClientMetrics(String),
    Group(String),
}

/// A config as the broker tells it.
pub type ConfigEntry = DescribeConfigsResourceResult;

/// A change of one config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    Set(String, String),
    /// Back to the default.
    Unset(String),
    /// Adds to, or takes from, a list.
    Append(String, String),
    Subtract(String, String),
}

impl Resource {
    fn code(&self) -> i8 {
        match self {
            Resource::Topic(_) => 2,
            Resource::Broker(_) => 4,
            Resource::BrokerLogger(_) => 8,
            Resource::ClientMetrics(_) => 16,
            Resource::Group(_) => 32,
        }
    }

    fn name(&self) -> &str {
        match self {
            Resource::Topic(name)
            | Resource::Broker(name)
            | Resource::BrokerLogger(name)
            | Resource::ClientMetrics(name)
            | Resource::Group(name) => name,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Resource::Topic(name) => write!(formatter, "topic '{name}'"),
            Resource::Broker(name) if name.is_empty() => write!(formatter, "all brokers"),
            Resource::Broker(name) => write!(formatter, "broker {name}"),
            Resource::BrokerLogger(name) => write!(formatter, "the loggers of broker {name}"),
            Resource::ClientMetrics(name) => write!(formatter, "client metrics '{name}'"),
            Resource::Group(name) => write!(formatter, "group '{name}'"),
        }
    }
}

impl Client {
    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.options().connection.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    pub async fn create_topics(
        &self,
        topics: &[NewTopic],
        validate_only: bool,
    ) -> Result<Vec<TopicOutcome>, ClientError> {
        let config = |(name, value): &(String, String)| CreatableTopicConfig {
            name: Str::from(name),
            value: Some(Str::from(value)),
        };
        let assignment = |(index, brokers): (usize, &Vec<i32>)| CreatableReplicaAssignment {
            partition_index: index as i32,
            broker_ids: brokers.clone(),
        };
        let creatable = |topic: &NewTopic| CreatableTopic {
            name: Str::from(&topic.name),
            num_partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            assignments: topic.assignments.iter().enumerate().map(assignment).collect(),
            configs: topic.configs.iter().map(config).collect(),
        };
        let request = CreateTopicsRequest {
            topics: topics.iter().map(creatable).collect(),
            timeout_ms: self.timeout_ms(),
            validate_only,
        };
        self.retry("CreateTopics", || async {
            let connection = self.controller().await?;
            let response = connection.call(&request).await?;
            let outcome = |topic: capek_wire::messages::create_topics::CreatableTopicResult| {
                let doing = format!("creating topic '{}'", topic.name);
                let result = check(connection.whom(), &doing, topic.error_code, topic.error_message.as_deref());
                TopicOutcome { topic: topic.name.to_string(), result }
            };
            not_controller(response.topics.into_iter().map(outcome).collect())
        })
        .await
    }

    pub async fn delete_topics(&self, names: &[String]) -> Result<Vec<TopicOutcome>, ClientError> {
        self.retry("DeleteTopics", || async {
            let connection = self.controller().await?;
            let mut request = DeleteTopicsRequest { timeout_ms: self.timeout_ms(), ..Default::default() };
            if connection.version::<DeleteTopicsRequest>()? >= 6 {
                let by_name = |name: &String| DeleteTopicState { name: Some(Str::from(name)), ..Default::default() };
                request.topics = names.iter().map(by_name).collect();
            } else {
                request.topic_names = names.iter().map(Str::from).collect();
            }
            let response = connection.call(&request).await?;
            names.iter().for_each(|name| self.forget(name));
            let outcomes = response.responses.into_iter().map(|topic| {
                let name = topic.name.as_deref().unwrap_or_default().to_owned();
                let doing = format!("deleting topic '{name}'");
                let result = check(connection.whom(), &doing, topic.error_code, topic.error_message.as_deref());
                TopicOutcome { topic: name, result }
            });
            not_controller(outcomes.collect())
        })
        .await
    }

    /// Raises the number of partitions to `count`.
    pub async fn create_partitions(&self, topic: &str, count: i32) -> Result<(), ClientError> {
        let wanted = CreatePartitionsTopic { name: Str::from(topic), count, assignments: None };
        let request =
            CreatePartitionsRequest { topics: vec![wanted], timeout_ms: self.timeout_ms(), validate_only: false };
        self.retry("CreatePartitions", || async {
            let connection = self.controller().await?;
            let response = connection.call(&request).await?;
            self.forget(topic);
            let doing = format!("adding partitions to topic '{topic}'");
            response.results.iter().try_for_each(|result| {
                check(connection.whom(), &doing, result.error_code, result.error_message.as_deref())
            })
        })
        .await
    }

    /// All configs of a resource, or those named.
    pub async fn describe_configs(
        &self,
        resource: &Resource,
        names: Option<&[String]>,
    ) -> Result<Vec<ConfigEntry>, ClientError> {
        let wanted = DescribeConfigsResource {
            resource_type: resource.code(),
            resource_name: Str::from(resource.name()),
            configuration_keys: names.map(|names| names.iter().map(Str::from).collect()),
        };
        let request =
            DescribeConfigsRequest { resources: vec![wanted], include_synonyms: true, include_documentation: false };
        self.retry_known("DescribeConfigs", || async {
            let connection = self.of_resource(resource).await?;
            let response = connection.call(&request).await?;
            let mut entries = Vec::new();
            for result in response.results {
                let doing = format!("DescribeConfigs of {resource}");
                check(connection.whom(), &doing, result.error_code, result.error_message.as_deref())?;
                entries.extend(result.configs);
            }
            Ok(entries)
        })
        .await
    }

    /// Changes configs of a resource, all or none.
    pub async fn alter_configs(&self, resource: &Resource, changes: &[ConfigChange]) -> Result<(), ClientError> {
        let alterable = |change: &ConfigChange| {
            let (operation, name, value) = match change {
                ConfigChange::Set(name, value) => (0, name, Some(value)),
                ConfigChange::Unset(name) => (1, name, None),
                ConfigChange::Append(name, value) => (2, name, Some(value)),
                ConfigChange::Subtract(name, value) => (3, name, Some(value)),
            };
            AlterableConfig { name: Str::from(name), config_operation: operation, value: value.map(Str::from) }
        };
        let altered = AlterConfigsResource {
            resource_type: resource.code(),
            resource_name: Str::from(resource.name()),
            configs: changes.iter().map(alterable).collect(),
        };
        let request = IncrementalAlterConfigsRequest { resources: vec![altered], validate_only: false };
        self.retry_known("IncrementalAlterConfigs", || async {
            let connection = self.of_resource(resource).await?;
            let response = connection.call(&request).await?;
            let doing = format!("changing configs of {resource}");
            response.responses.iter().try_for_each(|result| {
                check(connection.whom(), &doing, result.error_code, result.error_message.as_deref())
            })
        })
        .await
    }

    /// A broker's own configs are known to that broker alone.
    async fn of_resource(&self, resource: &Resource) -> Result<super::Connection, ClientError> {
        match resource {
            Resource::Broker(id) | Resource::BrokerLogger(id) if !id.is_empty() => match id.parse() {
                Ok(id) => self.broker(id).await,
                Err(_) => Err(ClientError::Invalid(format!("'{id}' is not a broker id"))),
            },
            _ => self.controller().await,
        }
    }

    /// Moves the start of a partition up to `offset` (-1: to its end); returns the new start.
    pub async fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64, ClientError> {
        self.retry("DeleteRecords", || async {
            let (leader, _) = self.leader(topic, partition).await?;
            let connection = self.broker(leader).await?;
            let wanted = DeleteRecordsPartition { partition_index: partition, offset };
            let request = DeleteRecordsRequest {
                topics: vec![DeleteRecordsTopic { name: Str::from(topic), partitions: vec![wanted] }],
                timeout_ms: self.timeout_ms(),
            };
            let longer = self.options().connection.request_timeout;
            let response = connection.send(&request).await?.patience(longer).get().await?;
            let doing = format!("deleting records of {topic}-{partition} before offset {offset}");
            let Some(result) = response.topics.iter().flat_map(|topic| &topic.partitions).next() else {
                let (whom, problem) = (connection.whom().to_owned(), "it names no partition".to_owned());
                return Err(ClientError::Malformed { whom, doing, problem });
            };
            let checked = check(connection.whom(), &doing, result.error_code, None);
            checked.inspect_err(|_| self.forget(topic))?;
            Ok(result.low_watermark)
        })
        .await
    }

    pub async fn describe_cluster(&self) -> Result<DescribeClusterResponse, ClientError> {
        let connection = self.any().await?;
        let response = connection.call(&DescribeClusterRequest::default()).await?;
        check(connection.whom(), "DescribeCluster", response.error_code, response.error_message.as_deref())?;
        Ok(response)
    }

    /// The log directories of a broker with the sizes of all partitions in them.
    pub async fn describe_log_dirs(&self, broker: i32) -> Result<Vec<DescribeLogDirsResult>, ClientError> {
        let connection = self.broker(broker).await?;
        let response = connection.call(&DescribeLogDirsRequest { topics: None }).await?;
        check(connection.whom(), "DescribeLogDirs", response.error_code, None)?;
        Ok(response.results)
    }

    /// Waits until every broker that leads a partition of the topic says so: a topic just created is not everywhere at
    /// once.
    pub async fn wait_for_topic(&self, topic: &str) -> Result<(), ClientError> {
        let names = [topic.to_owned()];
        self.retry("Metadata", || async {
            let metadata = self.refresh(Some(&names)).await?;
            let is_led = metadata.topics.get(topic).is_some_and(|topic| {
                topic.error == ErrorCode::None && topic.partitions.values().all(|partition| partition.leader >= 0)
            });
            match is_led {
                true => Ok(()),
                false => Err(ClientError::TimedOut {
                    whom: "the cluster".to_owned(),
                    doing: format!("electing leaders for topic '{topic}'"),
                    after: Duration::from_millis(20),
                }),
            }
        })
        .await
    }
}

/// The controller has moved: metadata is asked again with the next try.
fn not_controller(outcomes: Vec<TopicOutcome>) -> Result<Vec<TopicOutcome>, ClientError> {
    let moved = outcomes.iter().find_map(|outcome| {
        outcome.result.as_ref().err().filter(|error| error.code() == Some(ErrorCode::NotController))
    });
    match moved {
        Some(error) => Err(error.clone()),
        None => Ok(outcomes),
    }
}
