//! `kafka-console-consumer`.

use std::io::{BufWriter, Write};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::decode::for_each_record;
use super::super::output::{say, warn};
use super::ToolError;
use super::admin::BOOTSTRAP;
use super::message_formatter::{MessageFormatter, Shown};
use super::options::{OptionSpec, Options, flag, value};
use super::properties::{Properties, milliseconds};
use super::topic_filter::TopicFilter;
use crate::client::{
    Client, Consumer, ConsumerOptions, Fetched, GroupConsumer, GroupConsumerOptions, MemberOptions, OffsetReset,
};

pub const OPTIONS: &[OptionSpec] = &[
    BOOTSTRAP,
    value("command-config", "String: config file", "A property file with configs of the consumer."),
    value("command-property", "String: name=value", "A config of the consumer. May repeat."),
    value("consumer-property", "String: name=value", "Deprecated: --command-property."),
    value("consumer.config", "String: config file", "Deprecated: --command-config."),
    value("formatter", "String: class", "DefaultMessageFormatter, LoggingMessageFormatter or NoOpMessageFormatter."),
    value("formatter-config", "String: config file", "A property file for the formatter."),
    value(
        "formatter-property",
        "String: name=value",
        "print.timestamp, print.key, print.offset, print.partition, print.headers, print.value, key.separator, \
         line.separator, headers.separator, null.literal, key.deserializer, value.deserializer, headers.deserializer. \
         May repeat.",
    ),
    flag("from-beginning", "Begin with the first record where nothing was committed."),
    value("group", "String: consumer group id", "The group to be a member of."),
    value("include", "String: regex", "All topics that match this regular expression."),
    value("isolation-level", "String: level", "read_uncommitted or read_committed."),
    value("key-deserializer", "String: class", "How keys become text."),
    value("max-messages", "Integer: count", "Stop after this many records."),
    value("offset", "String: offset", "With --partition: an offset, earliest or latest."),
    value("partition", "Integer: partition", "Read this partition."),
    value("property", "String: name=value", "Deprecated: --formatter-property."),
    flag("skip-message-on-error", "Go on after a record that cannot be shown."),
    value("timeout-ms", "Integer: ms", "Stop when no record comes for this long."),
    value("topic", "String: topic", "The topic."),
    value("value-deserializer", "String: class", "How values become text."),
];

/// Where a partition that is named is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    Earliest,
    Latest,
    Offset(i64),
}

enum Source {
    /// The partition that was named.
    Partition(Consumer),
    Group(Box<GroupConsumer>),
}

struct Reading {
    formatter: MessageFormatter,
    max: u64,
    skips_errors: bool,
    processed: u64,
}

pub async fn run(options: Options) -> Result<(), ToolError> {
    let usage = ToolError::usage;
    let from = check(&options)?;
    let formatter = formatter(&options)?;
    let mut properties = consumer_properties(&options)?;
    let group = group_of(&options, &mut properties)?;
    let timeout = options.number::<i64>("timeout-ms").map_err(usage)?.filter(|timeout| *timeout >= 0).map(milliseconds);
    let max = options.number::<i64>("max-messages").map_err(usage)?.and_then(|max| u64::try_from(max).ok());
    let bootstrap = options.value("bootstrap-server").map_err(usage)?.unwrap_or_default();
    let client = properties.connect(bootstrap, |client| client.auto_create_topics = true).await?;
    let mut source = open(&client, &options, &properties, &group, from, timeout).await?;
    let mut reading = Reading {
        formatter,
        max: max.unwrap_or(u64::MAX),
        skips_errors: options.has("skip-message-on-error"),
        processed: 0,
    };
    let result = reading.run(&mut source, timeout).await;
    if let Source::Group(consumer) = source {
        consumer.close().await?;
    }
    warn(format_args!("Processed a total of {} messages", reading.processed));
    result
}

fn check(options: &Options) -> Result<From, ToolError> {
    let usage = |message: &str| Err(ToolError::usage(message));
    if options.given(&["topic", "include"]).len() != 1 {
        return usage("Exactly one of the following arguments is required: [topic], [include]");
    }
    options.require(&["bootstrap-server"]).map_err(ToolError::usage)?;
    if options.has("partition") && !options.has("topic") {
        return usage("The topic is required when partition is specified.");
    }
    if options.has("offset") && !options.has("partition") {
        return usage("The partition is required when offset is specified.");
    }
    if options.has("from-beginning") && options.has("offset") {
        return usage("Options from-beginning and offset cannot be specified together.");
    }
    if options.has("group") && options.has("partition") {
        return usage("Options group and partition cannot be specified together.");
    }
    let level = options.value("isolation-level").map_err(ToolError::usage)?.unwrap_or("read_uncommitted");
    if !matches!(level.to_ascii_lowercase().as_str(), "read_uncommitted" | "read_committed") {
        return usage(&format!("Invalid isolation level {level}: read_uncommitted or read_committed"));
    }
    match options.value("offset").map_err(ToolError::usage)? {
        None if options.has("from-beginning") => Ok(From::Earliest),
        None => Ok(From::Latest),
        Some(text) => offset(text),
    }
}

fn offset(text: &str) -> Result<From, ToolError> {
    match (text.to_ascii_lowercase().as_str(), text.parse::<i64>()) {
        ("earliest", _) => Ok(From::Earliest),
        ("latest", _) => Ok(From::Latest),
        (_, Ok(offset)) if offset >= 0 => Ok(From::Offset(offset)),
        _ => Err(ToolError::usage(format!(
            "The provided offset value '{text}' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long."
        ))),
    }
}

fn deprecated(options: &Options, old: &str, new: &str) -> Result<(), ToolError> {
    match (options.has(old), options.has(new)) {
        (true, true) => Err(ToolError::usage(format!("Options {old} and {new} cannot be specified together."))),
        (true, false) => {
            let use_instead = format!("Use --{new} instead.");
            let warning =
                format!("Option --{old} is deprecated and will be removed in a future version. {use_instead}");
            Ok(say(warning)?)
        }
        _ => Ok(()),
    }
}

fn formatter(options: &Options) -> Result<MessageFormatter, ToolError> {
    deprecated(options, "property", "formatter-property")?;
    let mut properties = match options.value("formatter-config").map_err(ToolError::usage)? {
        Some(path) => Properties::from_file(path)?,
        None => Properties::default(),
    };
    let pairs = [options.values("property"), options.values("formatter-property")].concat();
    properties.extend(Properties::from_pairs(&pairs)?);
    for (option, property) in [("key-deserializer", "key.deserializer"), ("value-deserializer", "value.deserializer")] {
        if let Some(class) = options.value(option).map_err(ToolError::usage)? {
            properties.set(property, class);
        }
    }
    MessageFormatter::new(options.value("formatter").map_err(ToolError::usage)?, &properties)
}

fn consumer_properties(options: &Options) -> Result<Properties, ToolError> {
    deprecated(options, "consumer-property", "command-property")?;
    deprecated(options, "consumer.config", "command-config")?;
    let mut properties = Properties::default();
    properties.set("client.id", "console-consumer");
    for path in [options.values("consumer.config"), options.values("command-config")].concat() {
        properties.extend(Properties::from_file(path)?);
    }
    let pairs = [options.values("consumer-property"), options.values("command-property")].concat();
    properties.extend(Properties::from_pairs(&pairs)?);
    if properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer")) {
        return Err(ToolError::failed("group.protocol=consumer is not supported by this tool: use classic"));
    }
    Ok(properties)
}

/// The group's name; where none is given one is made up, in which nothing is committed.
fn group_of(options: &Options, properties: &mut Properties) -> Result<String, ToolError> {
    let given = options.value("group").map_err(ToolError::usage)?;
    let configured = properties.get("group.id");
    match (given, configured) {
        (Some(given), Some(configured)) if given != configured => Err(ToolError::usage(format!(
            "The group ids provided in different places (directly using '--group', via '--consumer-property', or via \
             '--consumer.config') do not match. Detected group ids: '{given}', '{configured}'"
        ))),
        (Some(name), _) | (None, Some(name)) => Ok(name.to_owned()),
        (None, None) => {
            properties.set("enable.auto.commit", "false");
            let seed = jiff::Timestamp::now().subsec_nanosecond() as u32 ^ std::process::id();
            Ok(format!("console-consumer-{}", seed % 100_000))
        }
    }
}

async fn open(
    client: &Client,
    options: &Options,
    properties: &Properties,
    group: &str,
    from: From,
    timeout: Option<Duration>,
) -> Result<Source, ToolError> {
    let usage = ToolError::usage;
    let level = options.value("isolation-level").map_err(usage)?.or(properties.get("isolation.level"));
    let mut consumer_options = ConsumerOptions {
        read_committed: level.is_some_and(|level| level.eq_ignore_ascii_case("read_committed")),
        ..ConsumerOptions::default()
    };
    consumer_options.max_wait = consumer_options.max_wait.min(timeout.unwrap_or(Duration::MAX));
    let topic = options.value("topic").map_err(usage)?;
    if let (Some(topic), Some(partition)) = (topic, options.number::<i32>("partition").map_err(usage)?) {
        let mut consumer = Consumer::new(client.clone(), consumer_options);
        let topic: Arc<str> = Arc::from(topic);
        let is_there = client.topic(&topic).await?.partitions.contains_key(&partition);
        if is_there {
            let (start, end) =
                client.offset_bounds_of(&topic, &[partition]).await?.remove(&partition).unwrap_or((0, 0));
            let offset = match from {
                From::Earliest => start,
                From::Latest => end,
                From::Offset(offset) => offset,
            };
            consumer.assign(&topic, partition, offset);
        }
        return Ok(Source::Partition(consumer));
    }
    let filter =
        options.value("include").map_err(usage)?.map(TopicFilter::new).transpose().map_err(ToolError::failed)?;
    let mut member = MemberOptions::new(group, topic.into_iter().map(str::to_owned).collect());
    member.instance_id = properties.get("group.instance.id").map(str::to_owned);
    if let Some(ms) = properties.number("session.timeout.ms")? {
        member.session_timeout = milliseconds(ms);
    }
    if let Some(ms) = properties.number("heartbeat.interval.ms")? {
        member.heartbeat_interval = milliseconds(ms.max(1));
    }
    let commits = properties.get("enable.auto.commit").is_none_or(|value| value.eq_ignore_ascii_case("true"));
    let interval = milliseconds(properties.number("auto.commit.interval.ms")?.unwrap_or(5000));
    let group_options = GroupConsumerOptions {
        member,
        consumer: consumer_options,
        reset: reset(options, properties)?,
        commit_interval: commits.then_some(interval),
        pattern: filter.map(|filter| Box::new(move |name: &str| filter.matches(name)) as _),
    };
    Ok(Source::Group(Box::new(GroupConsumer::new(client.clone(), group_options))))
}

fn reset(options: &Options, properties: &Properties) -> Result<OffsetReset, ToolError> {
    let from_beginning = options.has("from-beginning");
    match properties.get("auto.offset.reset") {
        None if from_beginning => Ok(OffsetReset::Earliest),
        None | Some("latest") if !from_beginning => Ok(OffsetReset::Latest),
        Some("earliest") => Ok(OffsetReset::Earliest),
        Some("none") if !from_beginning => Ok(OffsetReset::None),
        Some(other) if from_beginning => Err(ToolError::failed(format!(
            "Can't simultaneously specify --from-beginning and 'auto.offset.reset={other}', please remove one option"
        ))),
        Some(other) => Err(ToolError::failed(format!(
            "Invalid value {other} for configuration auto.offset.reset: earliest, latest or none"
        ))),
        None => Ok(OffsetReset::Latest),
    }
}

impl Reading {
    /// Until enough was read, nothing comes for too long, or somebody says stop.
    async fn run(&mut self, source: &mut Source, timeout: Option<Duration>) -> Result<(), ToolError> {
        let mut last_record = Instant::now();
        let stop = tokio::signal::ctrl_c();
        tokio::pin!(stop);
        while self.processed < self.max {
            let before = self.processed;
            tokio::select! {
                fetched = next(source) => self.take(source, fetched?)?,
                _ = &mut stop => return Ok(()),
            }
            if self.processed > before {
                last_record = Instant::now();
            } else if timeout.is_some_and(|timeout| last_record.elapsed() >= timeout) {
                return Ok(());
            }
        }
        Ok(())
    }

    fn take(&mut self, source: &mut Source, fetched: Vec<Fetched>) -> Result<(), ToolError> {
        let mut out = BufWriter::with_capacity(64 << 10, std::io::stdout().lock());
        for one in &fetched {
            let mut next_offset = None;
            let read = self.take_one(one, &mut next_offset, &mut out);
            if let (Source::Group(consumer), Some(next_offset)) = (&mut *source, next_offset) {
                consumer.processed(&one.topic, one.partition, next_offset);
            }
            read?;
        }
        Ok(out.flush()?)
    }

    fn take_one(
        &mut self,
        fetched: &Fetched,
        next_offset: &mut Option<i64>,
        out: &mut impl Write,
    ) -> Result<(), ToolError> {
        let mut line = Vec::new();
        let mut broken = None;
        let done = for_each_record(fetched, |header, record| {
            if self.processed >= self.max {
                return Ok(ControlFlow::Break(()));
            }
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|header| (header.key.as_ref(), header.value.as_deref())).collect();
            let shown = Shown {
                partition: fetched.partition,
                offset: record.offset,
                timestamp: record.timestamp,
                is_log_append_time: header.is_log_append_time(),
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
            };
            line.clear();
            match self.formatter.write(&shown, &mut line) {
                Ok(()) => out.write_all(&line)?,
                Err(problem) if self.skips_errors => log::error!("Error processing message, skipping it: {problem}"),
                Err(problem) => {
                    broken = Some(problem);
                    return Ok(ControlFlow::Break(()));
                }
            }
            *next_offset = Some(record.offset + 1);
            self.processed += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        if done.is_continue() {
            *next_offset = Some(fetched.next_offset);
        }
        match broken {
            None => Ok(()),
            Some(problem) => {
                Err(ToolError::failed(format!("Error processing message, terminating consumer process: {problem}")))
            }
        }
    }
}

async fn next(source: &mut Source) -> Result<Vec<Fetched>, ToolError> {
    match source {
        Source::Group(consumer) => Ok(consumer.poll().await?),
        Source::Partition(consumer) if consumer.is_done() => {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Ok(Vec::new())
        }
        Source::Partition(consumer) => Ok(consumer.poll().await?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(arguments: &[&str]) -> Result<From, String> {
        let server = ["--bootstrap-server", "b:1"];
        let arguments: Vec<String> = server.iter().chain(arguments).map(|argument| argument.to_string()).collect();
        check(&Options::parse(OPTIONS, &arguments)?).map_err(|error| error.to_string())
    }

    #[test]
    fn where_reading_begins() {
        assert_eq!(checked(&["--topic", "t"]), Ok(From::Latest));
        assert_eq!(checked(&["--topic", "t", "--from-beginning"]), Ok(From::Earliest));
        assert_eq!(checked(&["--topic", "t", "--partition", "0", "--offset", "7"]), Ok(From::Offset(7)));
        assert_eq!(checked(&["--topic", "t", "--partition", "0", "--offset", "Earliest"]), Ok(From::Earliest));
    }

    #[test]
    fn options_that_do_not_go_together_are_refused_in_kafkas_words() {
        for (arguments, expected) in [
            (&[][..], "Exactly one of the following arguments is required: [topic], [include]"),
            (&["--topic", "t", "--offset", "1"], "The partition is required when offset is specified."),
            (
                &["--topic", "t", "--partition", "0", "--group", "g"],
                "Options group and partition cannot be specified together.",
            ),
            (
                &["--topic", "t", "--partition", "0", "--from-beginning", "--offset", "1"],
                "Options from-beginning and offset cannot be specified together.",
            ),
            (
                &["--topic", "t", "--partition", "0", "--offset", "-5"],
                "The provided offset value '-5' is incorrect. Valid values are 'earliest', 'latest', or a non-negative long.",
            ),
        ] {
            assert_eq!(checked(arguments).unwrap_err(), expected, "{arguments:?}");
        }
    }
}
