//! `kafka-get-offsets`.

use std::collections::BTreeMap;

use super::super::output::say;
use super::ToolError;
use super::admin::{COMMAND_CONFIG, connect};
use super::error::sentence;
use super::options::{OptionSpec, Options, flag, value};
use super::topic_filter::TopicFilter;
use crate::client::OffsetQuery;

pub const OPTIONS: &[OptionSpec] = &[
    value("bootstrap-server", "String: host:port,...", "REQUIRED: The server(s) to connect to."),
    COMMAND_CONFIG,
    flag("exclude-internal-topics", "Leave out the topics that belong to the brokers."),
    value("partitions", "String: ids", "Only these partitions, comma-separated."),
    value(
        "time",
        "String: time",
        "Milliseconds, or -1/latest (default), -2/earliest, -3/max-timestamp, -4/earliest-local, -5/latest-tiered, \
         -6/earliest-pending-upload.",
    ),
    value("topic", "String: topic", "Only topics that match this regular expression."),
    value(
        "topic-partitions",
        "String: rules",
        "Rules topic-pattern:partition-pattern, comma-separated; the second is N, N-M, N- or -M (M exclusive).",
    ),
];

const TIMES: [(&str, i64); 6] = [
    ("latest", -1),
    ("earliest", -2),
    ("max-timestamp", -3),
    ("earliest-local", -4),
    ("latest-tiered", -5),
    ("earliest-pending-upload", -6),
];

/// Which partitions of which topics: the first rule that fits decides.
struct Rule {
    topics: Option<TopicFilter>,
    partitions: Partitions,
}

#[derive(Debug, PartialEq, Eq)]
enum Partitions {
    All,
    These(Vec<i32>),
    /// From the first up to the second, exclusive.
    Span(i32, i32),
}

pub async fn run(options: Options) -> Result<(), ToolError> {
    if !options.has("bootstrap-server") {
        return Err(ToolError::usage("Missing required argument \"[bootstrap-server]\""));
    }
    let failed = |problem: String| ToolError::failed(format!("Error occurred: {problem}"));
    let timestamp = timestamp(options.value("time").map_err(failed)?).map_err(failed)?;
    let rules = rules(&options).map_err(failed)?;
    let client = connect(&options).await?;
    let metadata = client.refresh(None).await?;
    let mut queries = Vec::new();
    let mut matched = false;
    for (name, topic) in &metadata.topics {
        if options.has("exclude-internal-topics") && topic.is_internal {
            continue;
        }
        for (index, partition) in &topic.partitions {
            if !rules.iter().any(|rule| rule.fits(name, *index)) {
                continue;
            }
            matched = true;
            match partition.leader >= 0 {
                true => queries.push(OffsetQuery { topic: name.clone(), partition: *index, timestamp }),
                false => super::warn(format_args!(
                    "Skip getting offsets for topic-partition {name}:{index} due to error: There is no leader for this \
                     topic-partition as we are in the middle of a leadership election."
                )),
            }
        }
    }
    if !matched {
        return Err(failed("Could not match any topic-partitions with the specified filters".to_owned()));
    }
    let found = client.list_offsets(&queries).await.map_err(|error| failed(sentence(&error)))?;
    // In the order of their names as text, in which 10 comes before 2.
    let sorted: BTreeMap<(String, String), i64> = found
        .into_iter()
        .filter(|(_, listed)| listed.offset >= 0)
        .map(|(query, listed)| ((query.topic, query.partition.to_string()), listed.offset))
        .collect();
    sorted.iter().try_for_each(|((topic, partition), offset)| Ok(say(format_args!("{topic}:{partition}:{offset}"))?))
}

fn timestamp(text: Option<&str>) -> Result<i64, String> {
    let Some(text) = text else { return Ok(-1) };
    let named = TIMES.iter().find(|(name, _)| *name == text).map(|(_, timestamp)| *timestamp);
    named.or_else(|| text.parse().ok()).ok_or_else(|| {
        let known: Vec<String> = TIMES.iter().map(|(name, number)| format!("{number} or {name}")).collect();
        let known = known.join(" / ");
        format!("Malformed time argument {text}. Please use {known}, or a specified long format timestamp")
    })
}

fn rules(options: &Options) -> Result<Vec<Rule>, String> {
    let topic = options.value("topic")?;
    let partitions = options.value("partitions")?;
    let Some(text) = options.value("topic-partitions")? else {
        let partitions = partitions.map_or(Ok(Partitions::All), listed_partitions)?;
        return Ok(vec![Rule { topics: topic.map(TopicFilter::new).transpose()?, partitions }]);
    };
    if topic.is_some() || partitions.is_some() {
        return Err("--topic-partitions cannot be used with --topic or --partitions".to_owned());
    }
    text.split(',').map(|rule| Rule::parse(rule.trim())).collect()
}

fn listed_partitions(text: &str) -> Result<Partitions, String> {
    let ids: Result<Vec<i32>, _> = text.split(',').map(|id| id.trim().parse()).collect();
    ids.map(Partitions::These).map_err(|_| {
        format!("--partitions expects a comma separated list of numeric partition ids, but received: {text}")
    })
}

impl Rule {
    fn parse(text: &str) -> Result<Rule, String> {
        let wrong = || format!("Invalid rule specification: {text}");
        let (topic, partitions) = text.split_once(':').unwrap_or((text, ""));
        let topics = if topic.is_empty() { None } else { Some(TopicFilter::new(topic)?) };
        let number = |text: &str| text.parse::<i32>().map_err(|_| wrong());
        let partitions = match partitions.split_once('-') {
            None if partitions.is_empty() => Partitions::All,
            None => Partitions::These(vec![number(partitions)?]),
            Some((from, until)) => {
                let from = if from.is_empty() { 0 } else { number(from)? };
                Partitions::Span(from, if until.is_empty() { i32::MAX } else { number(until)? })
            }
        };
        Ok(Rule { topics, partitions })
    }

    fn fits(&self, topic: &str, partition: i32) -> bool {
        let fits_partition = match &self.partitions {
            Partitions::All => true,
            Partitions::These(ids) => ids.contains(&partition),
            Partitions::Span(from, until) => (*from..*until).contains(&partition),
        };
        fits_partition && self.topics.as_ref().is_none_or(|filter| filter.matches(topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_names_and_numbers() {
        for (text, expected) in
            [(None, -1), (Some("latest"), -1), (Some("-2"), -2), (Some("max-timestamp"), -3), (Some("17"), 17)]
        {
            assert_eq!(timestamp(text), Ok(expected), "{text:?}");
        }
        assert!(
            timestamp(Some("abc"))
                .unwrap_err()
                .starts_with("Malformed time argument abc. Please use -1 or latest / -2 or")
        );
    }

    #[test]
    fn rules_choose_partitions_of_topics() {
        for (rule, topic, partition, expected) in [
            ("a:1", "a", 1, true),
            ("a:1", "a", 2, false),
            ("a:0-1", "a", 1, false),
            ("a:0-1", "a", 0, true),
            ("a:1-", "a", 7, true),
            ("a:-2", "a", 1, true),
            (":0", "anything", 0, true),
            ("a.*", "abc", 3, true),
            ("a", "b", 0, false),
        ] {
            assert_eq!(Rule::parse(rule).unwrap().fits(topic, partition), expected, "{rule} {topic}-{partition}");
        }
        assert_eq!(Rule::parse("a:x").err().unwrap(), "Invalid rule specification: a:x");
    }
}
