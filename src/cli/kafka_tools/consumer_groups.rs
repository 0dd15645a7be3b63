//! `kafka-consumer-groups`: list, describe, delete; resetting and deleting offsets is in [`super::group_reset`].

use std::collections::{BTreeMap, BTreeSet};

use capek_wire::ErrorCode;

use super::super::output::{say, warn};
use super::admin::{BOOTSTRAP, COMMAND_CONFIG, connect};
use super::error::{exception, sentence};
use super::options::{OptionSpec, Options, flag, perhaps, value};
use super::{ToolError, group_output, group_reset};
use crate::client::{Client, ClientError, GroupDescription, OffsetQuery, Place};

pub const OPTIONS: &[OptionSpec] = &[
    flag("all-groups", "All groups."),
    flag("all-topics", "With --reset-offsets: all topics of the group."),
    BOOTSTRAP,
    value("by-duration", "String: duration", "With --reset-offsets: so long ago, as PnDTnHnMnS."),
    COMMAND_CONFIG,
    flag("delete", "Delete groups with their offsets."),
    flag("delete-offsets", "Delete the offsets of topics of a group."),
    flag("describe", "Show a group's offsets, members or state."),
    flag("dry-run", "With --reset-offsets: only show what would be done (the default)."),
    flag("execute", "With --reset-offsets: do it."),
    flag("export", "With --reset-offsets: print the plan as CSV."),
    value("from-file", "String: file", "With --reset-offsets: as this CSV file says."),
    value("group", "String: consumer group", "The group. May repeat."),
    flag("list", "List groups."),
    flag("members", "With --describe: the members."),
    flag("offsets", "With --describe: the offsets (the default)."),
    flag("reset-offsets", "Change the offsets of a group without members."),
    value("shift-by", "Long: count", "With --reset-offsets: so many records on, or back."),
    perhaps(
        "state",
        "String: states",
        "With --describe: the state; with --list: also the state, or only these states.",
    ),
    value("timeout", "Long: ms", "How long brokers may take to answer (5000)."),
    flag("to-current", "With --reset-offsets: to what is committed."),
    value("to-datetime", "String: time", "With --reset-offsets: to a time, as YYYY-MM-DDTHH:mm:SS.sss (UTC)."),
    flag("to-earliest", "With --reset-offsets: to the first record."),
    flag("to-latest", "With --reset-offsets: to the end."),
    value("to-offset", "Long: offset", "With --reset-offsets: to this offset."),
    value("topic", "String: topic[:0,1]", "The topic, or some of its partitions. May repeat."),
    perhaps("type", "String: types", "With --list: also the type, or only these types (classic, consumer)."),
    value("validate-regex", "String: regex", "Only say whether a regular expression is valid."),
    flag("verbose", "With --describe: more columns."),
];

const ACTIONS: [&str; 6] = ["list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex"];
const STATES: [&str; 7] =
    ["PreparingRebalance", "Stable", "Assigning", "Empty", "Dead", "CompletingRebalance", "Reconciling"];

pub async fn run(options: Options) -> Result<(), ToolError> {
    let action = check(&options)?;
    if action == "validate-regex" {
        return validate_regex(options.value("validate-regex").map_err(ToolError::usage)?.unwrap_or_default());
    }
    if action == "list" {
        filters(&options)?;
    }
    let done = async {
        let client = connect(&options).await?;
        match action {
            "list" => list(&client, &options).await,
            "describe" => describe(&client, &options).await,
            "delete" => delete(&client, &options).await,
            "reset-offsets" => group_reset::reset(&client, &options).await,
            _ => group_reset::delete_offsets(&client, &options).await,
        }
    };
    match done.await {
        // Kafka tells the failure on standard output and ends well.
        Err(error) if !error.with_usage && !error.to_string().is_empty() => {
            Ok(told(format_args!("Executing consumer group command failed due to {error}"))?)
        }
        other => other,
    }
}

/// An error as this tool tells it.
pub fn told(message: impl std::fmt::Display) -> Result<(), ToolError> {
    Ok(say(format_args!("\nError: {message}"))?)
}

fn check(options: &Options) -> Result<&'static str, ToolError> {
    let usage = ToolError::usage;
    let actions = options.given(&ACTIONS);
    if actions != ["validate-regex"] && !actions.is_empty() {
        options.require(&["bootstrap-server"]).map_err(usage)?;
    }
    let has_groups = options.has("group") || options.has("all-groups");
    if options.has("describe") {
        if !has_groups {
            return Err(ToolError::usage("Option [describe] takes one of these options: [all-groups], [group]"));
        }
        if options.given(&["members", "offsets", "state"]).len() > 1 {
            let message = "Option [describe] takes at most one of these options: [members], [offsets], [state]";
            return Err(ToolError::usage(message));
        }
        if options.value("state").map_err(usage)?.is_some() {
            return Err(ToolError::usage("Option [describe] does not take a value for [state]"));
        }
    }
    if options.has("delete") {
        if !has_groups {
            return Err(ToolError::usage("Option [delete] takes one of these options: [all-groups], [group]"));
        }
        if options.has("topic") {
            let message = "The consumer does not support topic-specific offset deletion from a consumer group.";
            return Err(ToolError::usage(message));
        }
    }
    if options.has("delete-offsets") && !(options.has("group") && options.has("topic")) {
        return Err(ToolError::usage("Option [delete-offsets] takes the following options: [topic], [group]"));
    }
    if options.has("reset-offsets") {
        group_reset::check(options)?;
    }
    options.forbid("list", &["group", "all-groups", "topic", "all-topics"]).map_err(usage)?;
    match actions.as_slice() {
        [action] => Ok(action),
        _ => {
            let all: Vec<String> = ACTIONS.iter().map(|action| format!("--{action}")).collect();
            Err(ToolError::usage(format!("Command must include exactly one action: {}", all.join(", "))))
        }
    }
}

fn validate_regex(text: &str) -> Result<(), ToolError> {
    match regex::Regex::new(text) {
        Ok(_) => Ok(say(format_args!("The regular expression `{text}` is valid."))?),
        Err(problem) => Ok(say(format_args!("The regular expression `{text}` is invalid: {problem}."))?),
    }
}

/// The states and types that `--list` is to show; empty for all.
fn filters(options: &Options) -> Result<(Vec<String>, Vec<String>), ToolError> {
    let known = |name: &str, known: &[&str], what: &str| -> Result<Vec<String>, ToolError> {
        let Some(text) = options.value(name).map_err(ToolError::usage)? else { return Ok(Vec::new()) };
        let one = |word: &str| {
            let word: String = word.trim().replace('_', "");
            known.iter().find(|known| known.eq_ignore_ascii_case(&word)).map(|known| (*known).to_owned())
        };
        text.split(',').map(one).collect::<Option<Vec<String>>>().ok_or_else(|| {
            let message = format!("Invalid {what} list '{text}'. Valid {what}s are: {}", known.join(", "));
            ToolError::usage(message)
        })
    };
    Ok((known("state", &STATES, "state")?, known("type", &["Classic", "Consumer"], "type")?))
}

async fn list(client: &Client, options: &Options) -> Result<(), ToolError> {
    let (states, types) = filters(options)?;
    let mut groups = client.list_groups(&states, &types).await?;
    groups.retain(|group| matches!(group.protocol_type.as_str(), "" | "consumer"));
    let (with_type, with_state) = (options.has("type"), options.has("state"));
    if !with_type && !with_state {
        return groups.iter().try_for_each(|group| Ok(say(&group.group_id)?));
    }
    let widest = groups.iter().map(|group| group.group_id.chars().count().max(15)).max().unwrap_or(15) + 10;
    let line = |group: &str, kind: &str, state: &str| {
        let mut cells = vec![group];
        cells.extend(with_type.then_some(kind));
        cells.extend(with_state.then_some(state));
        say(group_output::line(&cells, &[widest, 20, 20]))
    };
    line("GROUP", "TYPE", "STATE")?;
    for group in &groups {
        let capital = |text: &str| match text.split_at_checked(1) {
            Some((first, rest)) => first.to_ascii_uppercase() + rest,
            None => "Unknown".to_owned(),
        };
        line(&group.group_id, &capital(&group.group_type), &capital(&group.group_state))?;
    }
    Ok(())
}

/// The groups that the options name.
pub async fn chosen_groups(client: &Client, options: &Options) -> Result<Vec<String>, ToolError> {
    let groups: BTreeSet<String> = match options.has("all-groups") {
        true => {
            let listed = client.list_groups(&[], &[]).await?;
            let of_consumers = listed.iter().filter(|group| matches!(group.protocol_type.as_str(), "" | "consumer"));
            of_consumers.map(|group| group.group_id.to_string()).collect()
        }
        false => options.values("group").into_iter().map(str::to_owned).collect(),
    };
    Ok(groups.into_iter().collect())
}

async fn describe(client: &Client, options: &Options) -> Result<(), ToolError> {
    let verbose = options.has("verbose");
    let mut groups = Vec::new();
    for name in chosen_groups(client, options).await? {
        let described = client.describe_group(&name).await;
        groups.push(described.map_err(|error| ToolError::failed(exception(&error)))?);
    }
    for group in &groups {
        let lines = match options.given(&["members", "state"]).first() {
            Some(&"members") => {
                state_warning(group);
                group_output::members(group, verbose)
            }
            Some(_) => {
                state_warning(group);
                group_output::state(group, verbose)
            }
            None => {
                let (committed, ends) = offsets_of(client, group).await?;
                state_warning(group);
                group_output::offsets(group, &committed, &ends, verbose)
            }
        };
        if !lines.is_empty() {
            say(format_args!("\n{}", lines.join("\n")))?;
        }
    }
    Ok(())
}

type Offsets = (BTreeMap<Place, crate::client::Committed>, BTreeMap<Place, i64>);

/// What a group has committed, and the ends of all partitions that it reads or has read.
async fn offsets_of(client: &Client, group: &GroupDescription) -> Result<Offsets, ClientError> {
    let committed = client.committed(&group.id).await?;
    let assigned = group.members.iter().flat_map(|member| &member.assignment);
    let places: BTreeSet<Place> = committed.keys().chain(assigned).cloned().collect();
    Ok((committed, ends(client, &places).await?))
}

/// The ends of partitions that have a leader.
pub async fn ends(client: &Client, places: &BTreeSet<Place>) -> Result<BTreeMap<Place, i64>, ClientError> {
    let names: BTreeSet<&String> = places.iter().map(|(topic, _)| topic).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<String> = names.into_iter().cloned().collect();
    let metadata = client.refresh(Some(&names)).await?;
    let is_led = |(topic, partition): &&Place| {
        let found = metadata.topics.get(topic).and_then(|topic| topic.partitions.get(partition));
        found.is_some_and(|partition| partition.leader >= 0)
    };
    let query = |(topic, partition): &Place| OffsetQuery { topic: topic.clone(), partition: *partition, timestamp: -1 };
    let queries: Vec<OffsetQuery> = places.iter().filter(is_led).map(query).collect();
    let found = client.list_offsets(&queries).await?;
    Ok(found.into_iter().map(|(query, listed)| ((query.topic, query.partition), listed.offset)).collect())
}

fn state_warning(group: &GroupDescription) {
    match group.state.as_str() {
        "Empty" => warn(format_args!("\nConsumer group '{}' has no active members.", group.id)),
        "Stable" => {}
        _ => warn(format_args!("\nWarning: Consumer group '{}' is rebalancing.", group.id)),
    }
}

async fn delete(client: &Client, options: &Options) -> Result<(), ToolError> {
    let mut deleted = Vec::new();
    let mut failed = Vec::new();
    for name in chosen_groups(client, options).await? {
        match client.delete_group(&name).await {
            Ok(()) => deleted.push(format!("'{name}'")),
            Err(error) if matches!(error, ClientError::Refused { .. }) => {
                failed.push(format!("* Group '{name}' could not be deleted due to: {}", exception(&error)));
            }
            Err(error) => return Err(ToolError::failed(sentence(&error))),
        }
    }
    let deleted = deleted.join(", ");
    if failed.is_empty() {
        return Ok(say(format_args!("Deletion of requested consumer groups ({deleted}) was successful."))?);
    }
    told("Deletion of some consumer groups failed:")?;
    failed.iter().try_for_each(say)?;
    match deleted.is_empty() {
        true => Ok(()),
        false => Ok(say(format_args!("\nThese consumer groups were deleted successfully: {deleted}"))?),
    }
}

/// Whether a code speaks of the whole group rather than of a partition.
pub fn is_of_group(code: Option<ErrorCode>) -> bool {
    matches!(
        code,
        Some(
            ErrorCode::InvalidGroupId
                | ErrorCode::GroupIdNotFound
                | ErrorCode::GroupAuthorizationFailed
                | ErrorCode::NonEmptyGroup
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> Result<&'static str, String> {
        let server = ["--bootstrap-server", "b:1"];
        let arguments: Vec<String> = server.iter().chain(arguments).map(|argument| argument.to_string()).collect();
        let options = Options::parse(OPTIONS, &arguments)?;
        check(&options).and_then(|action| filters(&options).map(|_| action)).map_err(|error| error.to_string())
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_in_kafkas_words() {
        for (arguments, expected) in [
            (
                &[][..],
                "Command must include exactly one action: --list, --describe, --delete, --reset-offsets, --delete-offsets, \
                 --validate-regex",
            ),
            (&["--describe"], "Option [describe] takes one of these options: [all-groups], [group]"),
            (
                &["--describe", "--group", "g", "--members", "--state"],
                "Option [describe] takes at most one of these options: [members], [offsets], [state]",
            ),
            (&["--delete"], "Option [delete] takes one of these options: [all-groups], [group]"),
            (
                &["--delete-offsets", "--group", "g"],
                "Option [delete-offsets] takes the following options: [topic], [group]",
            ),
            (&["--list", "--describe", "--group", "x"], "Option \"[group]\" can't be used with option \"[list]\""),
            (
                &["--list", "--state", "bogus"],
                "Invalid state list 'bogus'. Valid states are: PreparingRebalance, Stable, Assigning, Empty, Dead, \
                 CompletingRebalance, Reconciling",
            ),
        ] {
            assert_eq!(checked(arguments).unwrap_err(), expected, "{arguments:?}");
        }
        assert_eq!(checked(&["--list", "--state", "stable,empty", "--type"]), Ok("list"));
    }
}
