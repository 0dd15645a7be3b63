//! `kafka-topics`.

use std::collections::BTreeMap;

use capek_wire::messages::describe_topic_partitions::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use capek_wire::{ErrorCode, Uuid};

use super::super::output::say;
use super::admin::{BOOTSTRAP, COMMAND_CONFIG, connect, is_without_leader, joined, topic_names};
use super::options::{OptionSpec, Options, flag, value};
use super::topic_filter::TopicFilter;
use super::{ToolError, error};
use crate::client::{Client, ClientError, ConfigEntry, NewTopic, Resource};

pub const OPTIONS: &[OptionSpec] = &[
    flag("alter", "Raise the number of partitions of a topic."),
    flag("at-min-isr-partitions", "With --describe: only partitions whose ISR is as small as it may be."),
    BOOTSTRAP,
    COMMAND_CONFIG,
    value("config", "String: name=value", "With --create: a config of the new topic. May repeat."),
    flag("create", "Create a topic."),
    flag("delete", "Delete topics."),
    flag("describe", "Show the partitions of topics."),
    flag("exclude-internal", "Leave out the topics that belong to the brokers."),
    flag("if-exists", "A topic that is not there is no error."),
    flag("if-not-exists", "With --create: a topic that is there already is no error."),
    flag("list", "List topics."),
    value("partition-size-limit-per-response", "Integer: partitions", "How many partitions one answer may describe."),
    value("partitions", "Integer: # of partitions", "How many partitions the topic has, or shall have."),
    value(
        "replica-assignment",
        "String: id:id,id:id",
        "With --create: the brokers of each partition, the leader first.",
    ),
    value("replication-factor", "Integer: replication factor", "With --create: how many replicas each partition has."),
    value("topic", "String: topic", "The topic; a regular expression, except with --create."),
    value("topic-id", "String: topic-id", "With --describe: the topic with this id."),
    flag("topics-with-overrides", "With --describe: only topics with configs of their own."),
    flag("unavailable-partitions", "With --describe: only partitions without a leader."),
    flag("under-min-isr-partitions", "With --describe: only partitions whose ISR is too small."),
    flag("under-replicated-partitions", "With --describe: only partitions with replicas that are not in sync."),
];

/// The options that choose partitions for --describe.
const SELECTIONS: [&str; 5] = [
    "under-replicated-partitions",
    "under-min-isr-partitions",
    "at-min-isr-partitions",
    "unavailable-partitions",
    "topics-with-overrides",
];
const SOURCE_DEFAULT: i8 = 5;

pub async fn run(options: Options) -> Result<(), ToolError> {
    check(&options)?;
    let done = match options.given(&["list", "describe", "create", "alter", "delete"])[0] {
        "list" => list(&options).await,
        "describe" => describe(&options).await,
        "create" => create(&options).await,
        "alter" => alter(&options).await,
        _ => delete(&options).await,
    };
    done.map_err(|error| error.told_behind("Error while executing topic command : "))
}

fn check(options: &Options) -> Result<(), ToolError> {
    let usage = ToolError::usage;
    let actions = options.given(&["list", "describe", "create", "alter", "delete"]);
    if actions.len() != 1 {
        let message = "Command must include exactly one action: --list, --describe, --create, --alter or --delete";
        return Err(ToolError::usage(message));
    }
    if !options.has("bootstrap-server") {
        return Err(ToolError::usage("--bootstrap-server must be specified"));
    }
    let action = actions[0];
    match action {
        "describe" if !options.has("topic-id") => {}
        "list" | "describe" => {}
        _ => options.require(&["topic"]).map_err(usage)?,
    }
    if action == "alter" {
        if options.has("config") {
            return Err(ToolError::usage(
                "Option combination \"[[config], [bootstrap-server]]\" can't be used with option \"[alter]\" (To alter \
                 topic configurations, the kafka-configs tool can be used.)",
            ));
        }
        options.require(&["partitions"]).map_err(usage)?;
    }
    let only = |name: &str, actions: &[&str]| match options.has(name) && !actions.contains(&action) {
        true => Err(usage(format!("Option \"[{name}]\" can't be used with option \"[{action}]\""))),
        false => Ok(()),
    };
    only("config", &["create"])?;
    only("partitions", &["create", "alter"])?;
    only("replication-factor", &["create"])?;
    only("replica-assignment", &["create", "alter"])?;
    only("if-not-exists", &["create"])?;
    only("if-exists", &["alter", "delete", "describe"])?;
    only("exclude-internal", &["list", "describe"])?;
    only("topic-id", &["describe"])?;
    for selection in SELECTIONS {
        only(selection, &["describe"])?;
    }
    if action == "create" {
        options.forbid("partitions", &["replica-assignment"]).map_err(swapped)?;
        options.forbid("replication-factor", &["replica-assignment"]).map_err(swapped)?;
    }
    Ok(())
}

/// Of two options that exclude each other Kafka names the assignment first.
fn swapped(message: String) -> ToolError {
    let (first, second) = (
        "[replica-assignment]",
        if message.contains("[partitions]") { "[partitions]" } else { "[replication-factor]" },
    );
    ToolError::usage(format!("Option \"{first}\" can't be used with option \"{second}\""))
}

async fn list(options: &Options) -> Result<(), ToolError> {
    let client = connect(options).await?;
    chosen(&client, options).await?.iter().try_for_each(|name| Ok(say(name)?))
}

/// The topics that `--topic` and `--exclude-internal` choose.
async fn chosen(client: &Client, options: &Options) -> Result<Vec<String>, ToolError> {
    let metadata = client.refresh(None).await?;
    let mut names = topic_names(&metadata, !options.has("exclude-internal"));
    if let Some(pattern) = options.value("topic").map_err(ToolError::failed)? {
        let filter = TopicFilter::new(pattern).map_err(ToolError::failed)?;
        names.retain(|name| filter.matches(name));
    }
    Ok(names)
}

/// As [`chosen`], where there must be one.
async fn chosen_some(client: &Client, options: &Options) -> Result<Vec<String>, ToolError> {
    let names = chosen(client, options).await?;
    match options.value("topic").map_err(ToolError::failed)? {
        Some(topic) if names.is_empty() && !options.has("if-exists") => {
            Err(ToolError::failed(format!("Topic '{topic}' does not exist as expected")))
        }
        _ => Ok(names),
    }
}

async fn create(options: &Options) -> Result<(), ToolError> {
    let failed = ToolError::failed;
    let name = options.value("topic").map_err(failed)?.unwrap_or_default().to_owned();
    if name.contains(['.', '_']) {
        say(
            "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. \
             To avoid issues it is best to use either, but not both.",
        )?;
    }
    let partitions = options.number::<i32>("partitions").map_err(failed)?;
    let replication_factor = options.number::<i16>("replication-factor").map_err(failed)?;
    if partitions.is_some_and(|count| count < 1) {
        return Err(ToolError::failed("The partitions must be greater than 0"));
    }
    if replication_factor.is_some_and(|factor| factor < 1) {
        return Err(ToolError::failed("The replication factor must be between 1 and 32767 inclusive"));
    }
    let new_topic = NewTopic {
        name: name.clone(),
        partitions: partitions.unwrap_or(-1),
        replication_factor: replication_factor.unwrap_or(-1),
        configs: configs_of(options)?,
        assignments: assignments(options.value("replica-assignment").map_err(failed)?)?,
    };
    let client = connect(options).await?;
    let created = client.create_topics(&[new_topic], false).await;
    let error = match created {
        Ok(outcomes) => outcomes.into_iter().find_map(|outcome| outcome.result.err()),
        Err(error) => Some(error),
    };
    match error {
        None => Ok(say(format_args!("Created topic {name}."))?),
        Some(error) if options.has("if-not-exists") && error.code() == Some(ErrorCode::TopicAlreadyExists) => Ok(()),
        Some(error) => Err(error.into()),
    }
}

fn configs_of(options: &Options) -> Result<Vec<(String, String)>, ToolError> {
    let pair = |text: &str| match text.split_once('=') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(ToolError::failed(
            "requirement failed: Invalid topic config: all configs to be added must be in the format \"key=val\".",
        )),
    };
    options.values("config").into_iter().map(pair).collect()
}

/// `1:2,2:3`: the brokers of each partition.
fn assignments(text: Option<&str>) -> Result<Vec<Vec<i32>>, ToolError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let mut assignments: Vec<Vec<i32>> = Vec::new();
    for (partition, brokers) in text.split(',').enumerate() {
        let ids: Result<Vec<i32>, _> = brokers.split(':').map(|id| id.trim().parse()).collect();
        let ids = ids.map_err(|_| ToolError::failed(format!("For input string: \"{brokers}\"")))?;
        if assignments.first().is_some_and(|first| first.len() != ids.len()) {
            let shown = ids.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
            let message = format!("Partition {partition} has different replication factor: [{shown}]");
            return Err(ToolError::failed(message));
        }
        assignments.push(ids);
    }
    Ok(assignments)
}

async fn alter(options: &Options) -> Result<(), ToolError> {
    if options.has("replica-assignment") {
        return Err(ToolError::failed(
            "--replica-assignment of new partitions is not supported: the brokers choose them",
        ));
    }
    let count = options.number::<i32>("partitions").map_err(ToolError::failed)?.unwrap_or(-1);
    let client = connect(options).await?;
    for name in chosen_some(&client, options).await? {
        client.create_partitions(&name, count).await?;
    }
    Ok(())
}

async fn delete(options: &Options) -> Result<(), ToolError> {
    let client = connect(options).await?;
    let names = chosen_some(&client, options).await?;
    if names.is_empty() {
        return Ok(());
    }
    let outcomes = client.delete_topics(&names).await?;
    outcomes.into_iter().try_for_each(|outcome| outcome.result.map_err(ToolError::from))
}

async fn describe(options: &Options) -> Result<(), ToolError> {
    let client = connect(options).await?;
    let names = match options.value("topic-id").map_err(ToolError::failed)? {
        Some(text) => by_id(&client, text, options).await?,
        None => chosen_some(&client, options).await?,
    };
    let selection = SELECTIONS.into_iter().find(|selection| options.has(selection));
    for topic in client.describe_topics(&names).await? {
        let name = topic.name.as_deref().unwrap_or_default().to_owned();
        let configs = match client.describe_configs(&Resource::Topic(name.clone()), None).await {
            Ok(configs) => configs,
            // Deleted since it was listed.
            Err(ClientError::Refused { code: ErrorCode::UnknownTopicOrPartition, .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        describe_one(&name, topic, &configs, selection)?;
    }
    Ok(())
}

async fn by_id(client: &Client, text: &str, options: &Options) -> Result<Vec<String>, ToolError> {
    let id: Uuid = text.parse().map_err(|problem| ToolError::failed(format!("{problem}")))?;
    let metadata = client.refresh(None).await?;
    let found = metadata.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name.clone());
    match found {
        None if !options.has("if-exists") => {
            Err(ToolError::failed(format!("TopicId '{text}' does not exist as expected")))
        }
        found => Ok(found.into_iter().collect()),
    }
}

fn describe_one(
    name: &str,
    topic: DescribeTopicPartitionsResponseTopic,
    configs: &[ConfigEntry],
    selection: Option<&str>,
) -> Result<(), ToolError> {
    let own = own_configs(configs);
    if matches!(selection, None | Some("topics-with-overrides")) {
        if selection.is_some() && own.is_empty() {
            return Ok(());
        }
        let replication_factor = topic.partitions.first().map_or(0, |partition| partition.replica_nodes.len());
        let configs = own.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",");
        say(format_args!(
            "Topic: {name}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {replication_factor}\tConfigs: {configs}",
            topic.topic_id,
            topic.partitions.len()
        ))?;
    }
    let isr_min = isr_min(configs);
    let mut partitions = topic.partitions;
    partitions.sort_by_key(|partition| partition.partition_index);
    for partition in partitions.iter().filter(|partition| is_selected(partition, selection, isr_min)) {
        say(partition_line(name, partition))?;
    }
    Ok(())
}

/// The configs that are not the default, in a fixed order.
fn own_configs(configs: &[ConfigEntry]) -> BTreeMap<&str, &str> {
    let own = configs.iter().filter(|config| config.config_source != SOURCE_DEFAULT);
    own.map(|config| (config.name.as_str(), config.value.as_deref().unwrap_or_default())).collect()
}

fn isr_min(configs: &[ConfigEntry]) -> usize {
    let config = configs.iter().find(|config| &*config.name == "min.insync.replicas");
    config.and_then(|config| config.value.as_deref()?.parse().ok()).unwrap_or(1)
}

fn is_selected(partition: &DescribeTopicPartitionsResponsePartition, selection: Option<&str>, isr_min: usize) -> bool {
    let isr = partition.isr_nodes.len();
    match selection {
        None => true,
        Some("under-replicated-partitions") => isr < partition.replica_nodes.len(),
        Some("unavailable-partitions") => is_without_leader(partition),
        Some("under-min-isr-partitions") => isr < isr_min,
        Some("at-min-isr-partitions") => isr == isr_min,
        Some(_) => false,
    }
}

fn partition_line(topic: &str, partition: &DescribeTopicPartitionsResponsePartition) -> String {
    let leader = if is_without_leader(partition) { "none".to_owned() } else { partition.leader_id.to_string() };
    let optional = |ids: &Option<Vec<i32>>| ids.as_deref().map_or("N/A".to_owned(), joined);
    format!(
        "\tTopic: {topic}\tPartition: {}\tLeader: {leader}\tReplicas: {}\tIsr: {}\tElr: {}\tLastKnownElr: {}",
        partition.partition_index,
        joined(&partition.replica_nodes),
        joined(&partition.isr_nodes),
        optional(&partition.eligible_leader_replicas),
        optional(&partition.last_known_elr),
    )
}

impl ToolError {
    /// Told on standard output behind `prefix`, as some tools tell what went wrong on the way.
    fn told_behind(self, prefix: &str) -> ToolError {
        match self.with_usage || self.to_string().is_empty() {
            true => self,
            false => error::ToolError::told(format!("{prefix}{self}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> Result<(), String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        let options = Options::parse(OPTIONS, &arguments)?;
        check(&options).map_err(|error| error.to_string())
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_in_kafkas_words() {
        let server = ["--bootstrap-server", "b:1"];
        let refused = |arguments: &[&str]| checked(&[&server, arguments].concat()).unwrap_err();
        assert!(refused(&[]).starts_with("Command must include exactly one action"));
        assert!(refused(&["--list", "--create"]).starts_with("Command must include exactly one action"));
        assert_eq!(refused(&["--create"]), "Missing required argument \"[topic]\"");
        assert_eq!(refused(&["--alter", "--topic", "a"]), "Missing required argument \"[partitions]\"");
        assert!(
            refused(&["--alter", "--topic", "a", "--config", "x=y"]).contains("the kafka-configs tool can be used")
        );
        assert_eq!(
            refused(&["--describe", "--config", "x=y"]),
            "Option \"[config]\" can't be used with option \"[describe]\""
        );
        assert_eq!(
            refused(&["--create", "--topic", "a", "--replica-assignment", "1", "--partitions", "3"]),
            "Option \"[replica-assignment]\" can't be used with option \"[partitions]\""
        );
        assert_eq!(checked(&["--list"]).unwrap_err(), "--bootstrap-server must be specified");
        assert_eq!(checked(&["--bootstrap-server", "b:1", "--describe", "--under-replicated-partitions"]), Ok(()));
    }

    #[test]
    fn replica_assignments_are_read_partition_by_partition() {
        assert_eq!(assignments(Some("1:2,2:1")).unwrap(), [[1, 2], [2, 1]]);
        assert!(
            assignments(Some("1:2,1"))
                .unwrap_err()
                .to_string()
                .contains("Partition 1 has different replication factor: [1]")
        );
        assert!(assignments(Some("x")).is_err());
    }

    #[test]
    fn a_partition_is_a_line_of_kafkas() {
        let partition = DescribeTopicPartitionsResponsePartition {
            partition_index: 2,
            leader_id: 1,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1],
            eligible_leader_replicas: Some(vec![]),
            last_known_elr: None,
            ..Default::default()
        };
        assert_eq!(
            partition_line("t", &partition),
            "\tTopic: t\tPartition: 2\tLeader: 1\tReplicas: 1,2\tIsr: 1\tElr: \tLastKnownElr: N/A"
        );
        assert!(is_selected(&partition, Some("under-replicated-partitions"), 1));
        assert!(is_selected(&partition, Some("at-min-isr-partitions"), 1));
        assert!(is_selected(&partition, Some("under-min-isr-partitions"), 2));
        assert!(!is_selected(&partition, Some("unavailable-partitions"), 1));
    }
}
