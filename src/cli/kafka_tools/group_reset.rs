//! `kafka-consumer-groups --reset-offsets` and `--delete-offsets`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;

use super::super::group_plan::{Planned, Target, parse_chosen, parse_csv, places_of, plan};
use super::super::output::{say, warn};
use super::ToolError;
use super::consumer_groups::{chosen_groups, is_of_group, told};
use super::error::{exception, sentence};
use super::group_output::line;
use super::options::Options;
use crate::client::{Client, ClientError, Place};

const SCENARIOS: [&str; 8] =
    ["shift-by", "to-offset", "to-earliest", "to-current", "to-latest", "by-duration", "to-datetime", "from-file"];

pub fn check(options: &Options) -> Result<(), ToolError> {
    if options.has("dry-run") && options.has("execute") {
        return Err(ToolError::usage("Option [reset-offsets] only accepts one of [execute] and [dry-run]"));
    }
    if !options.has("dry-run") && !options.has("execute") {
        warn(
            "WARN: No action will be performed as the --execute option is missing. Add --dry-run to say that this is meant.",
        );
    }
    if !options.has("group") && !options.has("all-groups") {
        return Err(ToolError::usage("Option [reset-offsets] takes one of these options: [all-groups], [group]"));
    }
    let scenarios = options.given(&SCENARIOS);
    match scenarios.as_slice() {
        [] => {
            let all: Vec<String> = SCENARIOS.iter().map(|scenario| format!("[{scenario}]")).collect();
            let all = all.join(", ");
            return Err(ToolError::usage(format!(
                "Option '[reset-offsets]' requires one of the following scenarios: [{all}]"
            )));
        }
        [_] => {}
        [first, second, ..] => {
            return Err(ToolError::usage(format!("Option \"[{first}]\" can't be used with option \"[{second}]\"")));
        }
    }
    if !options.has("from-file") && options.given(&["topic", "all-topics"]).is_empty() {
        return Err(ToolError::usage("One of the reset scopes should be defined: --all-topics, --topic."));
    }
    target(options).map(|_| ())
}

/// What the options aim at; None is a file, which differs from group to group.
fn target(options: &Options) -> Result<Option<Target>, ToolError> {
    let usage = ToolError::usage;
    let target = match options.given(&SCENARIOS)[0] {
        "to-earliest" => Target::Earliest,
        "to-latest" => Target::Latest,
        "to-current" => Target::Current,
        "to-offset" => Target::Offset(options.number("to-offset").map_err(usage)?.unwrap_or_default()),
        "shift-by" => Target::Shift(options.number("shift-by").map_err(usage)?.unwrap_or_default()),
        "to-datetime" => {
            // The time itself is read later: a wrong one is told as a failure, not as misuse.
            let text = options.value("to-datetime").map_err(usage)?.unwrap_or_default();
            Target::Time(datetime(text).unwrap_or_default())
        }
        "by-duration" => {
            let text = options.value("by-duration").map_err(usage)?.unwrap_or_default();
            Target::Time(jiff::Timestamp::now().as_millisecond() - duration_ms(text).unwrap_or_default())
        }
        _ => return Ok(None),
    };
    Ok(Some(target))
}

fn datetime(text: &str) -> Result<i64, String> {
    if !text.contains('T') {
        let why = "It does not contain a 'T' according to ISO8601 format";
        return Err(format!("java.text.ParseException: Error parsing timestamp. {why}"));
    }
    let with_zone = text.parse::<jiff::Timestamp>().map(|time| time.as_millisecond());
    let without = || {
        let time = text.parse::<jiff::civil::DateTime>()?.to_zoned(TimeZone::UTC)?;
        Ok::<i64, jiff::Error>(time.timestamp().as_millisecond())
    };
    with_zone.or_else(|_| without()).map_err(|_| format!("java.text.ParseException: Unparseable date: \"{text}\""))
}

/// `PnDTnHnMnS` in milliseconds.
fn duration_ms(text: &str) -> Result<i64, String> {
    let wrong = || "Text cannot be parsed to a Duration".to_owned();
    let span: jiff::Span = text.parse().map_err(|_| wrong())?;
    // A day is 24 hours here, as it is for Java's durations.
    let days = jiff::SpanRelativeTo::days_are_24_hours();
    let has_more = span.get_years() != 0 || span.get_months() != 0 || span.get_weeks() != 0;
    let duration = span.to_duration(days).map_err(|_| wrong())?;
    if has_more { Err(wrong()) } else { i64::try_from(duration.as_millis()).map_err(|_| wrong()) }
}

pub async fn reset(client: &Client, options: &Options) -> Result<(), ToolError> {
    let failed = ToolError::failed;
    for (option, parse) in [("to-datetime", datetime as fn(&str) -> Result<i64, String>), ("by-duration", duration_ms)]
    {
        if let Some(text) = options.value(option).map_err(failed)? {
            parse(text).map_err(failed)?;
        }
    }
    let mut plans: BTreeMap<String, Vec<Planned>> = BTreeMap::new();
    for group in chosen_groups(client, options).await? {
        let planned = match client.describe_group(&group).await {
            Ok(described) if !described.is_inactive() => {
                let state = &described.state;
                told(format_args!(
                    "Assignments can only be reset if the group '{group}' is inactive, but the current state is {state}."
                ))?;
                Vec::new()
            }
            // A group that is not there yet is made by its first offset.
            Ok(_) => reset_one(client, options, &group).await?,
            Err(error) if is_of_group(error.code()) => reset_one(client, options, &group).await?,
            Err(error) => return Err(error.into()),
        };
        plans.insert(group, planned);
    }
    print(&plans, options)
}

async fn reset_one(client: &Client, options: &Options, group: &str) -> Result<Vec<Planned>, ToolError> {
    let committed = client.committed(group).await?;
    let committed: BTreeMap<Place, i64> = committed.into_iter().map(|(place, found)| (place, found.offset)).collect();
    let (places, target) = match target(options)? {
        Some(target) if options.has("all-topics") => (committed.keys().cloned().collect(), target),
        Some(target) => {
            let chosen = parse_chosen(&options.values("topic")).map_err(ToolError::usage)?;
            (places_of(client, &chosen).await?, target)
        }
        None => {
            let offsets = read_file(options, group)?;
            (offsets.keys().cloned().collect::<Vec<_>>(), Target::These(offsets))
        }
    };
    let planned = plan(client, &places, &committed, &target).await.map_err(|error| match error {
        ClientError::Invalid(message) => ToolError::usage(message),
        other => other.into(),
    })?;
    for note in planned.iter().filter_map(|one| one.note.as_ref()) {
        match note.starts_with("Warn:") {
            true => say(format_args!("\n{note}"))?,
            false => log::warn!("{note}"),
        }
    }
    if options.has("execute") {
        let offsets = planned.iter().map(|one| (one.place.clone(), one.new)).collect();
        client.set_committed(group, &offsets).await?;
    }
    Ok(planned)
}

/// With one group a file may leave it out.
fn read_file(options: &Options, group: &str) -> Result<BTreeMap<Place, i64>, ToolError> {
    let path = options.value("from-file").map_err(ToolError::usage)?.unwrap_or_default();
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|_| ToolError::failed(format!("java.io.IOException: Unable to read file {path}")))?;
    let is_single = options.values("group").len() == 1 && !options.has("all-groups");
    let without = if is_single { parse_csv(&text, group, false).ok() } else { None };
    match without {
        Some(offsets) => Ok(offsets),
        None => parse_csv(&text, group, true).map_err(ToolError::failed),
    }
}

fn print(plans: &BTreeMap<String, Vec<Planned>>, options: &Options) -> Result<(), ToolError> {
    let mut lines = Vec::new();
    let is_single = options.values("group").len() == 1 && !options.has("all-groups");
    let widest = |texts: Vec<&String>| texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(15);
    let widths =
        [widest(plans.keys().collect()), widest(plans.values().flatten().map(|one| &one.place.0).collect()), 10, 0];
    for (group, planned) in plans {
        for Planned { place: (topic, partition), new, .. } in planned {
            let (partition, new) = (partition.to_string(), new.to_string());
            lines.push(match (options.has("export"), is_single) {
                (true, true) => format!("{topic},{partition},{new}"),
                (true, false) => format!("{group},{topic},{partition},{new}"),
                (false, _) => line(&[group, topic, &partition, &new], &widths),
            });
        }
    }
    if options.has("export") {
        return Ok(say(format_args!("{}\n", lines.join("\n")))?);
    }
    if !plans.is_empty() {
        lines.insert(0, format!("\n{}", line(&["GROUP", "TOPIC", "PARTITION", "NEW-OFFSET"], &widths)));
    }
    Ok(say(lines.join("\n"))?)
}

pub async fn delete_offsets(client: &Client, options: &Options) -> Result<(), ToolError> {
    let group = options.value("group").map_err(ToolError::usage)?.unwrap_or_default();
    let chosen = parse_chosen(&options.values("topic")).map_err(ToolError::usage)?;
    let names: Vec<String> = chosen.keys().cloned().collect();
    let metadata = client.refresh(Some(&names)).await?;
    let mut results: BTreeMap<(String, Option<i32>), Result<(), ClientError>> = BTreeMap::new();
    let mut places = Vec::new();
    for (topic, partitions) in chosen {
        let found =
            metadata.topics.get(&topic).map(|topic| topic.partitions.keys().copied().collect::<BTreeSet<i32>>());
        match partitions.or(found).filter(|partitions| !partitions.is_empty()) {
            Some(partitions) => places.extend(partitions.into_iter().map(|partition| (topic.clone(), partition))),
            None => {
                let code = capek_wire::ErrorCode::UnknownTopicOrPartition;
                results
                    .insert((topic, None), Err(ClientError::refused("the cluster", "finding the topic", code, None)));
            }
        }
    }
    let heading = match client.delete_committed(group, &places).await {
        Ok(each) => {
            let code = each.values().find_map(|result| result.as_ref().err().and_then(ClientError::code));
            results.extend(each.into_iter().map(|((topic, partition), result)| ((topic, Some(partition)), result)));
            code.map(|_| "Encountered some partition-level error, see the follow-up details.".to_owned())
        }
        Err(error) if is_of_group(error.code()) => {
            let failed = |(topic, partition): Place| ((topic, Some(partition)), Err(error.clone()));
            results.extend(places.into_iter().map(failed));
            Some(sentence(&error))
        }
        Err(error) => return Err(error.into()),
    };
    match heading {
        Some(problem) => told(problem)?,
        None => say(format_args!("Request succeeded for deleting offsets from group {group}."))?,
    }
    let widest = results.keys().map(|(topic, _)| topic.chars().count()).max().unwrap_or(0).max(15);
    let row = |topic: &str, partition: &str, status: &str| line(&[topic, partition, status], &[widest, 10, 15]);
    let mut lines = vec![row("TOPIC", "PARTITION", "STATUS")];
    for ((topic, partition), result) in &results {
        let partition = partition.map_or("-".to_owned(), |partition| partition.to_string());
        let status =
            result.as_ref().map_or_else(|error| format!("Error: {}", exception(error)), |()| "Successful".to_owned());
        lines.push(row(topic, &partition, &status));
    }
    Ok(say(format_args!("\n{}", lines.join("\n")))?)
}

#[cfg(test)]
mod tests {
    use super::super::consumer_groups::OPTIONS;
    use super::*;

    fn checked(arguments: &[&str]) -> Result<(), String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| argument.to_string()).collect();
        check(&Options::parse(OPTIONS, &arguments)?).map_err(|error| error.to_string())
    }

    #[test]
    fn a_reset_names_a_group_one_scenario_and_a_scope() {
        let whole = ["--group", "g", "--topic", "t", "--to-earliest", "--dry-run"];
        assert_eq!(checked(&whole), Ok(()));
        assert_eq!(checked(&["--group", "g", "--from-file", "f", "--execute"]), Ok(()));
        assert!(checked(&whole[2..]).unwrap_err().contains("takes one of these options: [all-groups], [group]"));
        assert!(
            checked(&whole[..4])
                .unwrap_err()
                .contains("requires one of the following scenarios: [[shift-by], [to-offset],")
        );
        assert!(checked(&["--group", "g", "--to-earliest"]).unwrap_err().starts_with("One of the reset scopes"));
        let two = checked(&[&whole[..], &["--to-latest"]].concat()).unwrap_err();
        assert_eq!(two, "Option \"[to-earliest]\" can't be used with option \"[to-latest]\"");
        assert!(checked(&[&whole[..], &["--execute"]].concat()).unwrap_err().contains("only accepts one of"));
    }

    #[test]
    fn times_and_durations_are_javas() {
        assert_eq!(datetime("1970-01-01T00:00:01.500"), Ok(1500));
        assert_eq!(datetime("1970-01-01T01:00:00.000+01:00"), Ok(0));
        assert!(datetime("nope").unwrap_err().contains("It does not contain a 'T'"));
        assert_eq!(duration_ms("P1DT1H"), Ok(25 * 3_600_000));
        assert_eq!(duration_ms("PT0.5S"), Ok(500));
        assert_eq!(duration_ms("nope").unwrap_err(), "Text cannot be parsed to a Duration");
        assert!(duration_ms("P1M").is_err());
    }
}
