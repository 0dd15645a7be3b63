//! `kafka-console-producer`.

use std::io::{IsTerminal, Write};
use std::sync::Arc;

use tokio::sync::mpsc;

use super::super::output::warn;
use super::super::produce::{Chooser, read_lines};
use super::ToolError;
use super::admin::BOOTSTRAP;
use super::error::sentence;
use super::line_reader::LineReader;
use super::options::{OptionSpec, Options, flag, perhaps, value};
use super::properties::{Properties, deprecated};
use crate::client::{Delivery, Producer};

pub const OPTIONS: &[OptionSpec] = &[
    value("batch-size", "Integer: bytes", "The size of a batch (16384)."),
    BOOTSTRAP,
    value("command-config", "String: config file", "A property file with configs of the producer."),
    value("command-property", "String: name=value", "A config of the producer. May repeat."),
    perhaps("compression-codec", "String: codec", "none, gzip (without a codec), snappy, lz4 or zstd."),
    value("line-reader", "String: class", "The class that reads lines: only Kafka's own is there."),
    value("max-block-ms", "Long: ms", "How long a record may wait for room or metadata (60000)."),
    value("max-memory-bytes", "Long: bytes", "The memory for records that wait (33554432)."),
    value("max-partition-memory-bytes", "Integer: bytes", "The size of a batch, in older words."),
    value("message-send-max-retries", "Integer", "How often a batch is tried again."),
    value("metadata-expiry-ms", "Long: ms", "How old metadata may become."),
    value("producer-property", "String: name=value", "Deprecated: --command-property."),
    value("producer.config", "String: config file", "Deprecated: --command-config."),
    value("property", "String: name=value", "Deprecated: --reader-property."),
    value("reader-config", "String: config file", "A property file for the reader of lines."),
    value(
        "reader-property",
        "String: name=value",
        "parse.key, key.separator, parse.headers, headers.delimiter, headers.separator, headers.key.separator, \
         ignore.error, null.marker. May repeat.",
    ),
    value("request-required-acks", "String: acks", "0, 1 or all (-1)."),
    value("request-timeout-ms", "Integer: ms", "How long a broker may take to answer (1500)."),
    value("retry-backoff-ms", "Long: ms", "The pause before a batch is tried again."),
    value("socket-buffer-size", "Integer: bytes", "The size of the socket's buffer."),
    flag("sync", "Wait for each record to be confirmed before the next."),
    value("timeout", "Long: ms", "How long a batch waits for more records (1000)."),
    value("topic", "String: topic", "REQUIRED: The topic."),
];

const LINE_READER: &str = "org.apache.kafka.tools.LineMessageReader";

pub async fn run(options: Options) -> Result<(), ToolError> {
    let usage = ToolError::usage;
    options.require(&["topic"]).map_err(usage)?;
    let Some(bootstrap) = options.value("bootstrap-server").map_err(usage)? else {
        return Err(ToolError::usage("Error while validating the bootstrap address\n"));
    };
    if let Some(class) = options.value("line-reader").map_err(usage)?.filter(|class| *class != LINE_READER) {
        return Err(ToolError::failed(format!("java.lang.ClassNotFoundException: {class}")));
    }
    let mut reader = LineReader::new(&reader_properties(&options)?)?;
    let properties = producer_properties(&options)?;
    let mut producer_options = properties.producer_options()?;
    let is_sync = options.has("sync");
    if is_sync {
        producer_options.linger = std::time::Duration::ZERO;
    }
    let client = properties.connect(bootstrap, |client| client.auto_create_topics = true).await?;
    let topic: Arc<str> = Arc::from(options.value("topic").map_err(usage)?.unwrap_or_default());
    let mut chooser = Chooser::new(&client, &topic, producer_options.batch_bytes_max).await?;
    let (mut producer, deliveries) = Producer::new(client, producer_options).await?;
    let failures = tokio::spawn(report(deliveries));
    let sent = send_lines(&mut producer, &topic, &mut chooser, &mut reader).await;
    producer.close().await;
    let failures = failures.await.map_err(|error| ToolError::failed(error.to_string()))?;
    sent?;
    // Kafka's tool ends with success here all the same; records that are lost are no success.
    if failures > 0 { Err(ToolError::silent(1)) } else { Ok(()) }
}

async fn send_lines(
    producer: &mut Producer,
    topic: &Arc<str>,
    chooser: &mut Chooser,
    reader: &mut LineReader,
) -> Result<(), ToolError> {
    let mut lines = read_lines(None)?;
    prompt();
    while let Some(chunk) = lines.recv().await {
        for line in chunk? {
            let record = reader
                .read(line)
                .map_err(|problem| ToolError::failed(format!("org.apache.kafka.common.KafkaException: {problem}")))?;
            let partition = chooser.choose(None, &record)?;
            producer.send(topic, partition, record).await?;
        }
        prompt();
    }
    Ok(())
}

/// A person is told that it is his turn.
fn prompt() {
    if std::io::stdin().is_terminal() {
        let mut out = std::io::stdout().lock();
        // Who does not see it can still type.
        let _ = out.write_all(b">").and_then(|()| out.flush());
    }
}

/// Tells what could not be sent and counts it.
async fn report(mut deliveries: mpsc::Receiver<Delivery>) -> usize {
    let mut failures = 0;
    while let Some(Delivery { topic, count, result, .. }) = deliveries.recv().await {
        if let Err(error) = result {
            failures += count;
            warn(format_args!("Error when sending {count} messages to topic {topic}: {}", sentence(&error)));
        }
    }
    failures
}

fn reader_properties(options: &Options) -> Result<Properties, ToolError> {
    deprecated(options, "property", "reader-property")?;
    let mut properties = match options.value("reader-config").map_err(ToolError::usage)? {
        Some(path) => Properties::from_file(path)?,
        None => Properties::default(),
    };
    let pairs = [options.values("property"), options.values("reader-property")].concat();
    properties.extend(Properties::from_pairs(&pairs)?);
    Ok(properties)
}

/// Options of their own beat the file; properties given by name beat both.
fn producer_properties(options: &Options) -> Result<Properties, ToolError> {
    let usage = ToolError::usage;
    deprecated(options, "producer-property", "command-property")?;
    deprecated(options, "producer.config", "command-config")?;
    let mut properties = Properties::default();
    properties.set("linger.ms", "1000");
    properties.set("batch.size", "16384");
    properties.set("client.id", "console-producer");
    for path in [options.values("producer.config"), options.values("command-config")].concat() {
        properties.extend(Properties::from_file(path)?);
    }
    for (option, name) in [
        ("request-required-acks", "acks"),
        ("timeout", "linger.ms"),
        ("batch-size", "batch.size"),
        ("max-partition-memory-bytes", "batch.size"),
        ("max-memory-bytes", "buffer.memory"),
        ("max-block-ms", "default.api.timeout.ms"),
        ("request-timeout-ms", "request.timeout.ms"),
    ] {
        if let Some(value) = options.value(option).map_err(usage)? {
            properties.set(name, value);
        }
    }
    if options.has("compression-codec") {
        properties.set("compression.type", options.value("compression-codec").map_err(usage)?.unwrap_or("gzip"));
    }
    let pairs = [options.values("producer-property"), options.values("command-property")].concat();
    properties.extend(Properties::from_pairs(&pairs)?);
    Ok(properties)
}
