//! `kafka-delete-records`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::super::output::say;
use super::ToolError;
use super::admin::{BOOTSTRAP, COMMAND_CONFIG, connect};
use super::error::exception;
use super::options::{OptionSpec, Options, value};
use crate::client::{ClientError, Place};

pub const OPTIONS: &[OptionSpec] = &[
    BOOTSTRAP,
    COMMAND_CONFIG,
    value(
        "offset-json-file",
        "String: file",
        "REQUIRED: A file with {\"partitions\":[{\"topic\":\"t\",\"partition\":0,\"offset\":1}],\"version\":1}; records \
         below the offset go, -1 is the end.",
    ),
];

pub async fn run(options: Options) -> Result<(), ToolError> {
    options.require(&["bootstrap-server", "offset-json-file"]).map_err(ToolError::usage)?;
    let path = options.value("offset-json-file").map_err(ToolError::usage)?.unwrap_or_default();
    let text = std::fs::read_to_string(path).map_err(|_| ToolError::failed(format!("Unable to read file {path}")))?;
    let offsets = parse(&text).map_err(ToolError::failed)?;
    let client = connect(&options).await?;
    say("Executing records delete operation")?;
    let mut results = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let result = client.delete_records(&topic, partition, offset).await;
        results.insert(format!("{topic}-{partition}"), result);
    }
    say("Records delete operation completed:")?;
    for (place, result) in results {
        match result {
            Ok(low_watermark) => say(format_args!("partition: {place}\tlow_watermark: {low_watermark}"))?,
            Err(error) => say(format_args!("partition: {place}\terror: {}", shown(&error)))?,
        }
    }
    Ok(())
}

fn shown(error: &ClientError) -> String {
    match error {
        ClientError::NotFound(message) => {
            format!("org.apache.kafka.common.errors.UnknownTopicOrPartitionException: {message}")
        }
        error => exception(error),
    }
}

fn parse(text: &str) -> Result<BTreeMap<Place, i64>, String> {
    let json: Value = serde_json::from_str(text).map_err(|_| "The input string is not a valid JSON".to_owned())?;
    if let Some(version) = json.get("version").filter(|version| version.as_i64() != Some(1)) {
        return Err(format!("Not supported version field value {version}"));
    }
    let mut offsets = BTreeMap::new();
    let mut repeated = Vec::new();
    let partitions = json.get("partitions").ok_or("Missing partitions field")?;
    for one in partitions.as_array().ok_or("partitions is not a list")? {
        let field = |name: &str| one.get(name).ok_or_else(|| format!("No such field exists: `{name}`"));
        let topic = field("topic")?.as_str().ok_or("topic is not a text")?.to_owned();
        let partition = field("partition")?.as_i64().and_then(|id| i32::try_from(id).ok());
        let place = (topic, partition.ok_or("partition is not a number")?);
        let offset = field("offset")?.as_i64().ok_or("offset is not a number")?;
        if offsets.insert(place.clone(), offset).is_some() {
            repeated.push(format!("{}-{}", place.0, place.1));
        }
    }
    match repeated.is_empty() {
        true => Ok(offsets),
        false => Err(format!("Offset json file contains duplicate topic partitions: {}", repeated.join(","))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_mistakes_in_them_told() {
        let good = r#"{"partitions":[{"topic":"t","partition":1,"offset":7}],"version":1}"#;
        assert_eq!(parse(good).unwrap(), BTreeMap::from([(("t".to_owned(), 1), 7)]));
        for (text, expected) in [
            ("garbage", "The input string is not a valid JSON"),
            (r#"{"partitions":[],"version":2}"#, "Not supported version field value 2"),
            (r#"{"version":1}"#, "Missing partitions field"),
            (r#"{"partitions":[{"topic":"t","offset":1}]}"#, "No such field exists: `partition`"),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected, "{text}");
        }
        let twice = r#"{"partitions":[{"topic":"t","partition":0,"offset":1},{"topic":"t","partition":0,"offset":2}]}"#;
        assert_eq!(parse(twice).unwrap_err(), "Offset json file contains duplicate topic partitions: t-0");
    }
}
