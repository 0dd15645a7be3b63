//! `capek topic`: list, create, alter, delete, add-partitions and trim (`describe` has a file of its own).

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::json;

use super::connect::{Connect, confirm, name_and_value};
use super::offsets::{self, From};
use super::output::{List, OutputForm, say, warn};
use super::topic_describe::{self, DescribeArguments};
use super::{Exit, Failure};
use crate::client::{Client, ConfigChange, NewTopic, OffsetQuery, Resource, TopicOutcome};

#[derive(Subcommand)]
pub enum TopicCommand {
    /// List topics
    #[command(alias = "ls")]
    List(ListArguments),
    /// Create topics
    Create(CreateArguments),
    /// Show partitions, offsets and configs of topics
    Describe(DescribeArguments),
    /// Change configs of a topic
    Alter(AlterArguments),
    /// Delete topics with all their records
    #[command(alias = "rm")]
    Delete(DeleteArguments),
    /// Add partitions to a topic
    AddPartitions(AddPartitionsArguments),
    /// Delete the oldest records of a topic
    Trim(TrimArguments),
}

#[derive(Args)]
pub struct ListArguments {
    #[command(flatten)]
    connect: Connect,
    /// Also show topics that belong to the broker
    #[arg(short, long)]
    internal: bool,
    /// Also show how many bytes each takes on disk, all replicas together
    #[arg(long)]
    size: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

#[derive(Args)]
pub struct CreateArguments {
    #[arg(required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    /// Number of partitions; without it the broker decides
    #[arg(short, long, value_name = "N", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    partitions: i32,
    /// Replication factor; without it the broker decides
    #[arg(short, long, value_name = "N", default_value_t = -1, hide_default_value = true, allow_negative_numbers = true)]
    replicas: i16,
    /// A config of the topic
    #[arg(short, long = "config", value_name = "NAME=VALUE", value_parser = name_and_value)]
    configs: Vec<(String, String)>,
    /// A topic that is there already is no error
    #[arg(long)]
    if_not_exists: bool,
    /// Only ask whether it would work
    #[arg(long)]
    dry_run: bool,
}

#[derive(Args)]
pub struct AlterArguments {
    topic: String,
    #[command(flatten)]
    connect: Connect,
    /// Set a config
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    set: Vec<(String, String)>,
    /// Put a config back to its default
    #[arg(short = 'd', long, value_name = "NAME")]
    unset: Vec<String>,
    /// Add to a config that is a list
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    append: Vec<(String, String)>,
    /// Take from a config that is a list
    #[arg(long, value_name = "NAME=VALUE", value_parser = name_and_value)]
    subtract: Vec<(String, String)>,
}

#[derive(Args)]
pub struct DeleteArguments {
    #[arg(required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Args)]
pub struct AddPartitionsArguments {
    topic: String,
    #[command(flatten)]
    connect: Connect,
    /// How many to add
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..), required_unless_present = "total")]
    num: Option<i32>,
    /// How many there shall be in all
    #[arg(long, value_name = "N", conflicts_with = "num")]
    total: Option<i32>,
}

#[derive(Args)]
pub struct TrimArguments {
    topic: String,
    #[command(flatten)]
    connect: Connect,
    /// Records before this offset go: 42, end, +10, -1000, @-24h, @2026-02-14
    #[arg(short, long, value_name = "OFFSET", allow_hyphen_values = true)]
    offset: String,
    /// Only of these partitions
    #[arg(short, long, value_name = "N,N", value_delimiter = ',')]
    partitions: Vec<i32>,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(command: TopicCommand) -> Result<(), Failure> {
    match command {
        TopicCommand::List(arguments) => list(arguments).await,
        TopicCommand::Create(arguments) => create(arguments).await,
        TopicCommand::Describe(arguments) => topic_describe::run(arguments).await,
        TopicCommand::Alter(arguments) => alter(arguments).await,
        TopicCommand::Delete(arguments) => delete(arguments).await,
        TopicCommand::AddPartitions(arguments) => add_partitions(arguments).await,
        TopicCommand::Trim(arguments) => trim(arguments).await,
    }
}

async fn list(arguments: ListArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let metadata = client.refresh(None).await?;
    let sizes = if arguments.size { sizes_bytes(&client).await? } else { BTreeMap::new() };
    let columns = ["name", "partitions", "replicas", "size_bytes"];
    let mut list = List::new(&columns[..if arguments.size { 4 } else { 3 }]);
    for (name, topic) in &metadata.topics {
        let is_internal = topic.is_internal || name.starts_with("__");
        if is_internal && !arguments.internal {
            continue;
        }
        let replicas = topic.partitions.values().map(|partition| partition.replicas.len()).max().unwrap_or(0);
        let mut row = vec![json!(name), json!(topic.partitions.len()), json!(replicas)];
        if arguments.size {
            row.push(json!(sizes.get(name).copied().unwrap_or(0)));
        }
        list.row(row);
    }
    list.print(arguments.output)
}

/// What each topic takes on the disks of all brokers.
async fn sizes_bytes(client: &Client) -> Result<BTreeMap<String, i64>, Failure> {
    let mut sizes: BTreeMap<String, i64> = BTreeMap::new();
    for broker in client.describe_cluster().await?.brokers {
        for dir in client.describe_log_dirs(broker.broker_id).await? {
            for topic in dir.topics {
                let bytes: i64 = topic.partitions.iter().map(|partition| partition.partition_size).sum();
                *sizes.entry(topic.name.to_string()).or_default() += bytes;
            }
        }
    }
    Ok(sizes)
}

async fn create(arguments: CreateArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let new_topic = |name: &String| NewTopic {
        name: name.clone(),
        partitions: arguments.partitions,
        replication_factor: arguments.replicas,
        configs: arguments.configs.clone(),
        assignments: Vec::new(),
    };
    let topics: Vec<NewTopic> = arguments.topics.iter().map(new_topic).collect();
    let mut outcomes = client.create_topics(&topics, arguments.dry_run).await?;
    if arguments.if_not_exists {
        for outcome in &mut outcomes {
            let code = outcome.result.as_ref().err().and_then(|error| error.code());
            if code == Some(capek_wire::ErrorCode::TopicAlreadyExists) {
                outcome.result = Ok(());
            }
        }
    }
    if !arguments.dry_run {
        for outcome in outcomes.iter().filter(|outcome| outcome.result.is_ok()) {
            client.wait_for_topic(&outcome.topic).await?;
        }
    }
    report(outcomes, if arguments.dry_run { "would be created" } else { "created" })
}

async fn delete(arguments: DeleteArguments) -> Result<(), Failure> {
    let plan = format!("this deletes {} with all records", arguments.topics.join(", "));
    let client = arguments.connect.client().await?;
    confirm(&plan, arguments.yes)?;
    report(client.delete_topics(&arguments.topics).await?, "deleted")
}

/// One line for each topic; the exit code tells whether all, some or none went well.
fn report(outcomes: Vec<TopicOutcome>, done: &str) -> Result<(), Failure> {
    let total = outcomes.len();
    let mut failures: Vec<Failure> = Vec::new();
    for TopicOutcome { topic, result } in outcomes {
        match result {
            Ok(()) => say(format_args!("{topic}: {done}"))?,
            Err(error) => failures.push(error.into()),
        }
    }
    let failed = failures.len();
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| warn(format_args!("capek: {failure}")));
    Err(if failed == total { last } else { Failure::new(Exit::Partial, last.message) })
}

async fn alter(arguments: AlterArguments) -> Result<(), Failure> {
    let pairs = |list: Vec<(String, String)>, change: fn(String, String) -> ConfigChange| {
        list.into_iter().map(move |(name, value)| change(name, value))
    };
    let changes: Vec<ConfigChange> = pairs(arguments.set, ConfigChange::Set)
        .chain(arguments.unset.into_iter().map(ConfigChange::Unset))
        .chain(pairs(arguments.append, ConfigChange::Append))
        .chain(pairs(arguments.subtract, ConfigChange::Subtract))
        .collect();
    if changes.is_empty() {
        return Err(Failure::usage("nothing to change: give --set NAME=VALUE, --unset NAME, --append or --subtract"));
    }
    let client = arguments.connect.client().await?;
    client.alter_configs(&Resource::Topic(arguments.topic.clone()), &changes).await?;
    say(format_args!("{}: changed", arguments.topic))
}

async fn add_partitions(arguments: AddPartitionsArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let topic = &arguments.topic;
    let there = client.topic(topic).await?.partitions.len() as i32;
    let total = arguments.total.unwrap_or_else(|| there + arguments.num.unwrap_or(0));
    client.create_partitions(topic, total).await?;
    say(format_args!("{topic}: {total} partitions, {} of them new", total - there))
}

async fn trim(arguments: TrimArguments) -> Result<(), Failure> {
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let range = offsets::parse(&arguments.offset, now_ms).map_err(Failure::usage)?;
    let client = arguments.connect.client().await?;
    let topic = &arguments.topic;
    let targets = trim_targets(&client, topic, &arguments.partitions, range.from).await?;
    let lost: i64 = targets.iter().map(|target| target.offset - target.start).sum();
    confirm(&format!("this deletes {lost} records of {topic}"), arguments.yes)?;
    let mut list = List::new(&["partition", "old_start", "new_start", "end"]);
    for target in targets {
        let new_start = client.delete_records(topic, target.partition, target.offset).await?;
        list.row(vec![json!(target.partition), json!(target.start), json!(new_start), json!(target.end)]);
    }
    list.print(OutputForm::Table)
}

struct TrimTarget {
    partition: i32,
    start: i64,
    end: i64,
    /// The first offset to stay.
    offset: i64,
}

async fn trim_targets(client: &Client, topic: &str, only: &[i32], from: From) -> Result<Vec<TrimTarget>, Failure> {
    let mut targets = Vec::new();
    for (partition, (start, end)) in client.offset_bounds(topic).await? {
        if !only.is_empty() && !only.contains(&partition) {
            continue;
        }
        let offset = resolve(client, topic, partition, (start, end), from).await?;
        targets.push(TrimTarget { partition, start, end, offset: offset.clamp(start, end) });
    }
    match only.iter().find(|wanted| !targets.iter().any(|target| target.partition == **wanted)) {
        Some(missing) => Err(Failure::not_found(format!("topic '{topic}' has no partition {missing}"))),
        None => Ok(targets),
    }
}

/// The offset that a place in the offset language stands for in one partition, whose bounds are given.
pub async fn resolve(
    client: &Client,
    topic: &str,
    partition: i32,
    (start, end): (i64, i64),
    from: From,
) -> Result<i64, Failure> {
    let query = |timestamp| OffsetQuery { topic: topic.to_owned(), partition, timestamp };
    let offset = match from {
        From::Earliest => start,
        From::Latest => end,
        From::Exact(offset) => offset,
        From::AfterEarliest(count) => start + count,
        From::BeforeLatest(count) => (end - count).max(start),
        From::Time(timestamp) => {
            let query = query(timestamp);
            let found = client.list_offsets(std::slice::from_ref(&query)).await?;
            // No record is that young: only what comes.
            found.get(&query).map(|listed| listed.offset).filter(|offset| *offset >= 0).unwrap_or(end)
        }
    };
    Ok(offset)
}
