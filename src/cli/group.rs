//! `capek group`: list, describe, members, reset-offsets, delete, delete-offsets. What loses anything is a dry run until it is
//! told to be none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;

use super::connect::{Connect, confirm};
use super::group_plan::{Planned, Target, parse_chosen, parse_csv, places_of, plan};
use super::offsets::{self, From};
use super::output::{List, OutputForm, say, warn};
use super::{Exit, Failure};
use crate::client::{Client, OffsetQuery, Place};

#[derive(Subcommand)]
pub enum GroupCommand {
    /// List groups
    #[command(alias = "ls")]
    List(ListArguments),
    /// Show what a group has committed, how far behind it is, and who reads what
    Describe(DescribeArguments),
    /// Show the members of a group and their partitions
    Members(DescribeArguments),
    /// Change where a group goes on; shows the plan, and does it with --execute
    ResetOffsets(ResetArguments),
    /// Delete groups with their offsets
    #[command(alias = "rm")]
    Delete(DeleteArguments),
    /// Delete what a group has committed for topics
    DeleteOffsets(DeleteOffsetsArguments),
}

#[derive(Args)]
pub struct ListArguments {
    #[command(flatten)]
    connect: Connect,
    /// Only groups in these states: Empty, Stable, …
    #[arg(short, long, value_name = "STATE,STATE", value_delimiter = ',')]
    state: Vec<String>,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

#[derive(Args)]
pub struct DescribeArguments {
    #[arg(required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

const RESET_HELP: &str = "\
Where to (--to):
  start, end           the first record, the end
  42                   an offset
  +10, -10             so many on from, or back from, what is committed
  @-1h  @2026-02-14T10:00:00Z  @1700000000000   the first record at or after a time
  current              what is committed (the end where nothing is): a plan of how things are";

#[derive(Args)]
#[command(after_long_help = RESET_HELP)]
pub struct ResetArguments {
    group: String,
    #[command(flatten)]
    connect: Connect,
    /// start, end, 42, +10, -10, @-1h, @2026-02-14, current (see --help)
    #[arg(long, value_name = "OFFSET", allow_hyphen_values = true, required_unless_present_any = ["from_file", "like"], conflicts_with_all = ["from_file", "like"])]
    to: Option<String>,
    /// As a file says: lines of topic,partition,offset, as kafka-consumer-groups exports them
    #[arg(long, value_name = "FILE", conflicts_with = "like")]
    from_file: Option<PathBuf>,
    /// As another group has committed
    #[arg(long, value_name = "GROUP")]
    like: Option<String>,
    /// Only this topic, or these partitions of it: TOPIC or TOPIC:0,1; without it all that the group has committed
    #[arg(short, long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Do it
    #[arg(short = 'x', long)]
    execute: bool,
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputForm,
}

#[derive(Args)]
pub struct DeleteArguments {
    #[arg(required = true)]
    groups: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

#[derive(Args)]
pub struct DeleteOffsetsArguments {
    group: String,
    /// TOPIC or TOPIC:0,1
    #[arg(required = true)]
    topics: Vec<String>,
    #[command(flatten)]
    connect: Connect,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
}

pub async fn run(command: GroupCommand) -> Result<(), Failure> {
    match command {
        GroupCommand::List(arguments) => list(arguments).await,
        GroupCommand::Describe(arguments) => describe(arguments).await,
        GroupCommand::Members(arguments) => members(arguments).await,
        GroupCommand::ResetOffsets(arguments) => reset(arguments).await,
        GroupCommand::Delete(arguments) => delete(arguments).await,
        GroupCommand::DeleteOffsets(arguments) => delete_offsets(arguments).await,
    }
}

async fn list(arguments: ListArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let mut list = List::new(&["name", "state", "type", "protocol"]);
    for group in client.list_groups(&arguments.state, &[]).await? {
        let cells = [&group.group_id, &group.group_state, &group.group_type, &group.protocol_type];
        list.row(cells.map(|cell| json!(cell.as_str())).to_vec());
    }
    list.print(arguments.output)
}

async fn describe(arguments: DescribeArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let columns = ["group", "topic", "partition", "committed", "end", "lag", "member", "host", "client_id"];
    let mut list = List::new(&columns);
    for name in &arguments.groups {
        let group = client.describe_group(name).await?;
        let committed = client.committed(name).await?;
        let assigned = group.members.iter().flat_map(|member| &member.assignment);
        let places: BTreeSet<Place> = committed.keys().chain(assigned).cloned().collect();
        let ends = ends(&client, &places).await?;
        for place in &places {
            let commit = committed.get(place).map(|commit| commit.offset);
            let end = ends.get(place).copied();
            let lag = commit.zip(end).map(|(commit, end)| end - commit);
            let member = group.members.iter().find(|member| member.assignment.contains(place));
            list.row(vec![
                json!(name),
                json!(place.0),
                json!(place.1),
                json!(commit),
                json!(end),
                json!(lag),
                json!(member.map(|member| &member.id)),
                json!(member.map(|member| &member.host)),
                json!(member.map(|member| &member.client_id)),
            ]);
        }
        if arguments.output == OutputForm::Table {
            let count = group.members.len();
            let at = &group.coordinator;
            let protocol = if group.protocol.is_empty() { "none" } else { &group.protocol };
            say(format_args!(
                "{name}: {}, {count} members, assignor {protocol}, coordinator {} ({}:{})",
                group.state, at.node_id, at.host, at.port
            ))?;
        }
    }
    list.print(arguments.output)
}

/// The ends of partitions, of those that have a leader.
async fn ends(client: &Client, places: &BTreeSet<Place>) -> Result<BTreeMap<Place, i64>, Failure> {
    let mut ends = BTreeMap::new();
    for topic in places.iter().map(|(topic, _)| topic).collect::<BTreeSet<_>>() {
        // A topic may be gone and what was committed for it still there.
        let Ok(metadata) = client.topic(topic).await else { continue };
        let is_led = |(name, partition): &&Place| {
            name == topic && metadata.partitions.get(partition).is_some_and(|partition| partition.leader >= 0)
        };
        let query =
            |(topic, partition): &Place| OffsetQuery { topic: topic.clone(), partition: *partition, timestamp: -1 };
        let queries: Vec<OffsetQuery> = places.iter().filter(is_led).map(query).collect();
        let found = client.list_offsets(&queries).await?;
        ends.extend(found.into_iter().map(|(query, listed)| ((query.topic, query.partition), listed.offset)));
    }
    Ok(ends)
}

async fn members(arguments: DescribeArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let mut list = List::new(&["member", "instance", "client_id", "host", "partitions", "group"]);
    for name in &arguments.groups {
        for member in client.describe_group(name).await?.members {
            let places: Vec<String> =
                member.assignment.iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect();
            list.row(vec![
                json!(member.id),
                json!(member.instance_id),
                json!(member.client_id),
                json!(member.host),
                json!(places),
                json!(name),
            ]);
        }
    }
    list.print(arguments.output)
}

async fn reset(arguments: ResetArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let group = &arguments.group;
    let committed = client.committed(group).await?;
    let committed: BTreeMap<Place, i64> = committed.into_iter().map(|(place, found)| (place, found.offset)).collect();
    let target = target(&client, &arguments).await?;
    let topics: Vec<&str> = arguments.topics.iter().map(String::as_str).collect();
    let chosen = parse_chosen(&topics).map_err(Failure::usage)?;
    let places: Vec<Place> = match (&target, chosen.is_empty()) {
        (Target::These(offsets), true) => offsets.keys().cloned().collect(),
        (Target::These(offsets), false) => {
            let named = places_of(&client, &chosen).await?;
            named.into_iter().filter(|place| offsets.contains_key(place)).collect()
        }
        (_, true) => committed.keys().cloned().collect(),
        (_, false) => places_of(&client, &chosen).await?,
    };
    if places.is_empty() {
        return Err(Failure::not_found(format!("group '{group}' has committed nothing: name topics with -t")));
    }
    let planned = plan(&client, &places, &committed, &target).await?;
    if arguments.execute {
        refuse_active(&client, group).await?;
        let offsets = planned.iter().map(|one| (one.place.clone(), one.new)).collect();
        client.set_committed(group, &offsets).await?;
    }
    print(&planned, arguments.output)?;
    if !arguments.execute {
        warn("nothing is changed: add --execute to do it");
    }
    Ok(())
}

/// With members reading, what is set now would be overwritten by their next commit.
async fn refuse_active(client: &Client, group: &str) -> Result<(), Failure> {
    match client.describe_group(group).await {
        Ok(described) if !described.is_inactive() => {
            let count = described.members.len();
            let state = described.state;
            Err(Failure::usage(format!("group '{group}' is {state} with {count} members: stop them first")))
        }
        Ok(_) => Ok(()),
        Err(error) if error.code() == Some(capek_wire::ErrorCode::GroupIdNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn target(client: &Client, arguments: &ResetArguments) -> Result<Target, Failure> {
    if let Some(path) = &arguments.from_file {
        let read = std::fs::read_to_string(path);
        let text = read.map_err(|error| Failure::not_found(format!("{}: {error}", path.display())))?;
        let without = parse_csv(&text, &arguments.group, false);
        let offsets = without.or_else(|_| parse_csv(&text, &arguments.group, true)).map_err(Failure::usage)?;
        return Ok(Target::These(offsets));
    }
    if let Some(other) = &arguments.like {
        let offsets = client.committed(other).await?;
        if offsets.is_empty() {
            return Err(Failure::not_found(format!("group '{other}' has committed nothing")));
        }
        return Ok(Target::These(offsets.into_iter().map(|(place, found)| (place, found.offset)).collect()));
    }
    parse_target(arguments.to.as_deref().unwrap_or_default(), jiff::Timestamp::now().as_millisecond())
}

fn parse_target(text: &str, now_ms: i64) -> Result<Target, Failure> {
    if text == "current" {
        return Ok(Target::Current);
    }
    // Here a sign counts from what is committed, not from the ends of the log.
    if text.starts_with(['+', '-']) {
        let by = text.parse().map_err(|_| Failure::usage(format!("'{text}' is not a number of records")))?;
        return Ok(Target::Shift(by));
    }
    match offsets::parse(text, now_ms).map_err(Failure::usage)?.from {
        From::Earliest => Ok(Target::Earliest),
        From::Latest => Ok(Target::Latest),
        From::Exact(offset) => Ok(Target::Offset(offset)),
        From::Time(timestamp) => Ok(Target::Time(timestamp)),
        From::AfterEarliest(_) | From::BeforeLatest(_) => {
            Err(Failure::usage(format!("'{text}' is not a place to go to")))
        }
    }
}

fn print(planned: &[Planned], output: OutputForm) -> Result<(), Failure> {
    let mut list = List::new(&["topic", "partition", "old", "new", "lag"]);
    for one in planned {
        let (topic, partition) = &one.place;
        list.row(vec![json!(topic), json!(partition), json!(one.old), json!(one.new), json!(one.lag())]);
        if let Some(note) = &one.note {
            warn(note);
        }
    }
    list.print(output)
}

async fn delete(arguments: DeleteArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    confirm(&format!("this deletes {} with all offsets", arguments.groups.join(", ")), arguments.yes)?;
    let mut failures = Vec::new();
    for group in &arguments.groups {
        match client.delete_group(group).await {
            Ok(()) => say(format_args!("{group}: deleted"))?,
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    summed(failures, arguments.groups.len())
}

async fn delete_offsets(arguments: DeleteOffsetsArguments) -> Result<(), Failure> {
    let client = arguments.connect.client().await?;
    let topics: Vec<&str> = arguments.topics.iter().map(String::as_str).collect();
    let places = places_of(&client, &parse_chosen(&topics).map_err(Failure::usage)?).await?;
    let plan = format!("this deletes what '{}' has committed for {} partitions", arguments.group, places.len());
    confirm(&plan, arguments.yes)?;
    let mut failures = Vec::new();
    for ((topic, partition), result) in client.delete_committed(&arguments.group, &places).await? {
        match result {
            Ok(()) => say(format_args!("{topic}-{partition}: deleted"))?,
            Err(error) => failures.push(Failure::from(error)),
        }
    }
    summed(failures, places.len())
}

/// The exit code tells whether all, some or none went well.
fn summed(mut failures: Vec<Failure>, total: usize) -> Result<(), Failure> {
    let failed = failures.len();
    let Some(last) = failures.pop() else { return Ok(()) };
    failures.iter().for_each(|failure| warn(format_args!("capek: {failure}")));
    Err(if failed == total { last } else { Failure::new(Exit::Partial, last.message) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_written_as_offsets_with_signs_from_what_is_committed() {
        let parsed = |text: &str| parse_target(text, 1_000_000).unwrap();
        assert_eq!(parsed("start"), Target::Earliest);
        assert_eq!(parsed("end"), Target::Latest);
        assert_eq!(parsed("current"), Target::Current);
        assert_eq!(parsed("42"), Target::Offset(42));
        assert_eq!(parsed("+10"), Target::Shift(10));
        assert_eq!(parsed("-10"), Target::Shift(-10));
        assert_eq!(parsed("@-1s"), Target::Time(999_000));
        for wrong in ["", "x", "+x", "7:8x", "@yesterday"] {
            assert!(parse_target(wrong, 0).is_err(), "{wrong}");
        }
    }
}
