//! `capek topic describe`: partitions with their replicas and offsets, and the configs that differ from the default.

use clap::Args;
use serde_json::{Value, json};

use super::Failure;
use super::connect::Connect;
use super::output::{List, OutputForm, say};
use crate::client::{Client, ConfigEntry, Resource, TopicMetadata};

#[derive(Args)]
pub struct DescribeArguments {
    #[arg(required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    /// Also show configs that have their default
    #[arg(short, long)]
    all_configs: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

/// What the broker sets itself, in DescribeConfigs.
const SOURCE_DEFAULT: i8 = 5;

struct Description {
    name: String,
    topic: TopicMetadata,
    bounds: std::collections::BTreeMap<i32, (i64, i64)>,
    configs: Vec<ConfigEntry>,
}

pub async fn run(arguments: DescribeArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let mut descriptions = Vec::new();
    for name in &arguments.topics {
        descriptions.push(describe(&client, name, arguments.all_configs).await?);
    }
    match arguments.output {
        OutputForm::Table => descriptions.iter().try_for_each(print_table),
        OutputForm::Json => say(format_args!("{:#}", Value::Array(descriptions.iter().map(to_json).collect()))),
        OutputForm::Jsonl => descriptions.iter().try_for_each(|one| say(to_json(one))),
        form => {
            let mut list = partitions_list(true);
            descriptions.iter().for_each(|one| add_partitions(&mut list, one, true));
            list.print(form)
        }
    }
}

async fn describe(client: &Client, name: &str, all_configs: bool) -> Result<Description, Failure> {
    let topic = client.topic(name).await?;
    // Who has no leader can still be described: it is what one wants to see then.
    let led: Vec<i32> =
        topic.partitions.iter().filter(|(_, partition)| partition.leader >= 0).map(|(index, _)| *index).collect();
    let bounds = client.offset_bounds_of(name, &led).await?;
    let mut configs = client.describe_configs(&Resource::Topic(name.to_owned()), None).await?;
    configs.retain(|config| all_configs || config.config_source != SOURCE_DEFAULT);
    configs.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Description { name: name.to_owned(), topic, bounds, configs })
}

fn print_table(description: &Description) -> Result<(), Failure> {
    let Description { name, topic, configs, .. } = description;
    let partitions = topic.partitions.len();
    let replicas = topic.partitions.values().map(|partition| partition.replicas.len()).max().unwrap_or(0);
    say(format_args!("{name}: {partitions} partitions, {replicas} replicas each, id {}\n", topic.id))?;
    let mut list = partitions_list(false);
    add_partitions(&mut list, description, false);
    list.print(OutputForm::Table)?;
    say("")?;
    if configs.is_empty() {
        return say("all configs have their default\n");
    }
    let mut list = List::new(&["config", "value", "source"]);
    for config in configs {
        list.row(vec![json!(&*config.name), value_of(config), json!(source(config.config_source))]);
    }
    list.print(OutputForm::Table)?;
    say("")
}

fn partitions_list(with_name: bool) -> List {
    let columns = ["topic", "partition", "leader", "epoch", "replicas", "isr", "offline", "start", "end"];
    List::new(&columns[usize::from(!with_name)..])
}

fn add_partitions(list: &mut List, description: &Description, with_name: bool) {
    for (index, partition) in &description.topic.partitions {
        let (start, end) = description.bounds.get(index).copied().unzip();
        let mut row = vec![
            json!(index),
            json!(partition.leader),
            json!(partition.leader_epoch),
            json!(partition.replicas),
            json!(partition.isr),
            json!(partition.offline),
            json!(start),
            json!(end),
        ];
        if with_name {
            row.insert(0, json!(description.name));
        }
        list.row(row);
    }
}

fn to_json(description: &Description) -> Value {
    let partition = |(index, partition): (&i32, &crate::client::PartitionMetadata)| {
        let (start, end) = description.bounds.get(index).copied().unzip();
        json!({
            "partition": index, "leader": partition.leader, "leader_epoch": partition.leader_epoch,
            "replicas": partition.replicas, "isr": partition.isr, "offline": partition.offline,
            "log_start_offset": start, "high_watermark": end, "error": error_name(partition.error),
        })
    };
    let config = |config: &ConfigEntry| json!({ "name": &*config.name, "value": value_of(config), "source": source(config.config_source) });
    json!({
        "name": description.name,
        "id": description.topic.id.to_string(),
        "partitions": description.topic.partitions.iter().map(partition).collect::<Vec<_>>(),
        "configs": description.configs.iter().map(config).collect::<Vec<_>>(),
    })
}

fn error_name(code: capek_wire::ErrorCode) -> Value {
    if code == capek_wire::ErrorCode::None { Value::Null } else { json!(code.name()) }
}

/// Secrets are told by nobody: the broker sends null.
pub fn value_of(config: &ConfigEntry) -> Value {
    if config.is_sensitive { json!("[hidden]") } else { json!(config.value.as_deref()) }
}

/// Where a value comes from, in DescribeConfigs' numbers.
pub fn source(code: i8) -> &'static str {
    match code {
        1 => "topic",
        2 => "broker, dynamic",
        3 => "all brokers, dynamic",
        4 => "broker, static",
        5 => "default",
        6 => "broker logger",
        _ => "unknown",
    }
}
