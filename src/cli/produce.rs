//! `capek produce`: records from a file or standard input, one a line or as JSON lines.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use capek_wire::batch::Codec;
use capek_wire::partitioner::{Sticky, partition_for_key};
use clap::{Args, ValueEnum};
use tokio::sync::mpsc;

use super::connect::{Connect, name_and_value};
use super::offsets::parse_duration;
use super::output::{say, warn};
use super::{Exit, Failure, record_json};
use crate::client::{Client, ClientError, Delivery, Producer, ProducerOptions, ProducerRecord};

#[derive(Args)]
pub struct ProduceArguments {
    topic: String,
    /// Read records from here instead of standard input
    file: Option<PathBuf>,
    #[command(flatten)]
    connect: Connect,
    /// The key of all records
    #[arg(short, long)]
    key: Option<String>,
    /// Each line is KEY, this separator, VALUE
    #[arg(short = 'K', long, value_name = "SEP", conflicts_with = "key")]
    key_separator: Option<String>,
    /// A header of all records; may repeat
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE", value_parser = name_and_value)]
    headers: Vec<(String, String)>,
    /// Send everything to this partition; otherwise the key decides, or chance
    #[arg(short, long, value_name = "N")]
    partition: Option<i32>,
    /// Who must have a record before it counts as sent: 0 nobody, 1 the leader, all the replicas in sync
    #[arg(long, default_value = "all", value_parser = parse_acks, allow_negative_numbers = true)]
    acks: i16,
    /// Compress with none, gzip, snappy, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none", value_parser = parse_codec)]
    compression: Codec,
    /// What a line is
    #[arg(short, long, value_enum, default_value_t)]
    format: InputForm,
    /// An empty value is a tombstone (null)
    #[arg(short = 'Z', long)]
    tombstone: bool,
    /// How long a batch waits for more records
    #[arg(long, value_name = "DURATION", default_value = "5ms", value_parser = parse_duration)]
    linger: Duration,
    /// The largest batch
    #[arg(long, value_name = "BYTES", default_value_t = 1_000_000)]
    batch_bytes: usize,
    /// Do not ask for a producer id: after an error a record may be stored twice
    #[arg(long)]
    no_idempotence: bool,
    /// Tell where each batch went
    #[arg(short, long)]
    verbose: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum InputForm {
    /// The value, or key and value with -K
    #[default]
    Lines,
    /// {"key":…,"value":…,"headers":[["name","value"]],"partition":…,"timestamp":…}
    Jsonl,
}

/// A line longer than any record that a broker takes.
const LINE_BYTES_MAX: usize = 100 << 20;
const CHUNK_BYTES: usize = 256 << 10;
const CHUNKS_MAX: usize = 8;

pub fn parse_acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "0" => Ok(0),
        "1" => Ok(1),
        _ => Err("acks is 0, 1 or all".to_owned()),
    }
}

pub fn parse_codec(text: &str) -> Result<Codec, String> {
    text.parse().map_err(|_| format!("'{text}' is not none, gzip, snappy, lz4 or zstd"))
}

pub async fn run(arguments: ProduceArguments) -> Result<(), Failure> {
    let client = arguments.connect.client_with(|options| options.auto_create_topics = true).await?;
    let topic: Arc<str> = Arc::from(arguments.topic.as_str());
    let mut chooser = Chooser::new(&client, &topic, arguments.batch_bytes).await?;
    let options = ProducerOptions {
        acks: arguments.acks,
        codec: arguments.compression,
        linger: arguments.linger,
        batch_bytes_max: arguments.batch_bytes,
        idempotent: !arguments.no_idempotence,
        ..ProducerOptions::default()
    };
    let (mut producer, deliveries) = Producer::new(client, options).await?;
    let tally = tokio::spawn(count(deliveries, arguments.verbose));
    let mut lines = read_lines(arguments.file.clone())?;
    let mut sent: u64 = 0;
    let mut stopped = None;
    while let Some(chunk) = lines.recv().await {
        let result = send_chunk(&mut producer, &topic, &mut chooser, &arguments, chunk, &mut sent).await;
        if let Err(failure) = result {
            stopped = Some(failure);
            break;
        }
    }
    // Whatever stopped us, what was taken before is sent and counted.
    producer.close().await;
    let tally = tally.await.map_err(|error| Failure::usage(error.to_string()))?;
    finish(&topic, sent, tally, stopped, arguments.verbose)
}

async fn send_chunk(
    producer: &mut Producer,
    topic: &Arc<str>,
    chooser: &mut Chooser,
    arguments: &ProduceArguments,
    chunk: Result<Vec<Bytes>, Failure>,
    sent: &mut u64,
) -> Result<(), Failure> {
    for line in chunk? {
        let (partition, record) = arguments
            .record(line)
            .map_err(|problem| Failure::usage(format!("record {} of the input: {problem}", *sent + 1)))?;
        let partition = chooser.choose(partition, &record)?;
        producer.send(topic, partition, record).await?;
        *sent += 1;
    }
    Ok(())
}

impl ProduceArguments {
    /// The record in a line, and the partition that the line asks for.
    fn record(&self, line: Bytes) -> Result<(Option<i32>, ProducerRecord), String> {
        let (mut partition, mut record) = match self.format {
            InputForm::Jsonl => {
                let input = record_json::read(&line)?;
                (input.partition, input.record)
            }
            InputForm::Lines => (None, self.line_record(line)?),
        };
        if record.key.is_none() {
            record.key = self.key.as_ref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
        }
        let of_flag = |(name, value): &(String, String)| (Bytes::from(name.clone()), Some(Bytes::from(value.clone())));
        record.headers.extend(self.headers.iter().map(of_flag));
        if self.tombstone && record.value.as_ref().is_some_and(Bytes::is_empty) {
            record.value = None;
        }
        partition = self.partition.or(partition);
        Ok((partition, record))
    }

    fn line_record(&self, line: Bytes) -> Result<ProducerRecord, String> {
        let Some(separator) = &self.key_separator else {
            return Ok(ProducerRecord { value: Some(line), ..ProducerRecord::default() });
        };
        // kcat takes a line without the separator as a value without a key.
        let Some(position) = find(&line, separator.as_bytes()) else {
            return Ok(ProducerRecord { value: Some(line), ..ProducerRecord::default() });
        };
        let (key, value) = (line.slice(..position), line.slice(position + separator.len()..));
        Ok(ProducerRecord { key: Some(key), value: Some(value), ..ProducerRecord::default() })
    }
}

pub fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    if wanted.is_empty() {
        return None;
    }
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// Chooses partitions as Kafka's clients do.
pub struct Chooser {
    sticky: Sticky,
    partition_count: i32,
}

impl Chooser {
    pub async fn new(client: &Client, topic: &str, batch_bytes: usize) -> Result<Chooser, ClientError> {
        let partition_count = client.topic(topic).await?.partitions.len() as i32;
        let seed = jiff::Timestamp::now().as_nanosecond() as u64 ^ (u64::from(std::process::id()) << 32);
        Ok(Chooser { sticky: Sticky::new(seed, batch_bytes.min(16 << 10)), partition_count })
    }

    pub fn choose(&mut self, asked: Option<i32>, record: &ProducerRecord) -> Result<i32, Failure> {
        let count = self.partition_count;
        match (asked, &record.key) {
            (Some(partition), _) if (0..count).contains(&partition) => Ok(partition),
            (Some(partition), _) => {
                Err(Failure::not_found(format!("there is no partition {partition}: the topic has {count}, from 0")))
            }
            (None, Some(key)) => Ok(partition_for_key(key, count)),
            (None, None) => Ok(self.sticky.partition(count, record.size_bytes())),
        }
    }
}

/// Reads lines in a thread of its own: standard input cannot be waited for in any better way.
pub fn read_lines(file: Option<PathBuf>) -> Result<mpsc::Receiver<Result<Vec<Bytes>, Failure>>, Failure> {
    let input: Box<dyn Read + Send> = match file.filter(|path| path.as_os_str() != "-") {
        Some(path) => {
            let opened = std::fs::File::open(&path);
            Box::new(opened.map_err(|error| Failure::not_found(format!("{}: {error}", path.display())))?)
        }
        None => Box::new(std::io::stdin()),
    };
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    std::thread::spawn(move || {
        if let Err(error) = split_lines(input, |lines| sender.blocking_send(Ok(lines)).is_ok()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    Ok(receiver)
}

/// Gives lines as they come, many at a time; stops when `take` says so.
fn split_lines(mut input: impl Read, mut take: impl FnMut(Vec<Bytes>) -> bool) -> Result<(), Failure> {
    let mut buffer = BytesMut::new();
    loop {
        let old_len = buffer.len();
        if old_len > LINE_BYTES_MAX {
            return Err(Failure::usage(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
        }
        buffer.resize(old_len + CHUNK_BYTES, 0);
        let read = loop {
            match input.read(&mut buffer[old_len..]) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        buffer.truncate(old_len + read);
        let whole = match (read, buffer[old_len..].iter().rposition(|byte| *byte == b'\n')) {
            (0, _) => buffer.len(),
            (_, Some(position)) => old_len + position + 1,
            (_, None) => 0,
        };
        let whole = buffer.split_to(whole).freeze();
        let lines = lines_of(&whole);
        if (!lines.is_empty() && !take(lines)) || read == 0 {
            return Ok(());
        }
    }
}

/// Without line ends; the last one need not have one.
fn lines_of(text: &Bytes) -> Vec<Bytes> {
    let mut lines = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let end = text[start..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |length| start + length);
        let without_return = if text[start..end].ends_with(b"\r") { end - 1 } else { end };
        lines.push(text.slice(start..without_return));
        start = end + 1;
    }
    lines
}

#[derive(Default)]
struct Tally {
    confirmed: u64,
    error: Option<ClientError>,
}

async fn count(mut deliveries: mpsc::Receiver<Delivery>, verbose: bool) -> Tally {
    let mut tally = Tally::default();
    while let Some(Delivery { topic, partition, count, result }) = deliveries.recv().await {
        match result {
            Ok(base_offset) => {
                tally.confirmed += count as u64;
                if verbose {
                    // Standard output is gone: the records are sent all the same.
                    let _ = say(format_args!("{topic}-{partition}: {count} at offset {base_offset}"));
                }
            }
            Err(error) => tally.error = tally.error.or(Some(error)),
        }
    }
    tally
}

fn finish(topic: &str, sent: u64, tally: Tally, stopped: Option<Failure>, verbose: bool) -> Result<(), Failure> {
    let confirmed = tally.confirmed;
    if let Some(error) = tally.error {
        let failure = Failure::from(error);
        let message = format!("{}\n  {confirmed} of {sent} records were confirmed", failure.message);
        return Err(Failure::new(if confirmed > 0 { Exit::Partial } else { failure.exit }, message));
    }
    if let Some(failure) = stopped {
        let message = format!("{}\n  {confirmed} records before it are sent", failure.message);
        return Err(Failure::new(if confirmed > 0 { Exit::Partial } else { failure.exit }, message));
    }
    if verbose || std::io::stderr().is_terminal() {
        warn(format_args!("{confirmed} records sent to {topic}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_split_wherever_reads_end() {
        struct OneByte<'a>(&'a [u8]);
        impl Read for OneByte<'_> {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                let Some((first, rest)) = self.0.split_first() else { return Ok(0) };
                (buffer[0], self.0) = (*first, rest);
                Ok(1)
            }
        }
        let text = b"a\r\n\nbb\nlast";
        let mut found = Vec::new();
        split_lines(OneByte(text), |lines| {
            found.extend(lines);
            true
        })
        .unwrap();
        assert_eq!(found, ["a", "", "bb", "last"]);
        assert_eq!(lines_of(&Bytes::from_static(text)), found);
    }

    #[test]
    fn a_separator_may_be_longer_than_one_character() {
        assert_eq!(find(b"key::value", b"::"), Some(3));
        assert_eq!(find(b"key", b"::"), None);
    }
}
