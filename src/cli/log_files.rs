//! `capek log`: reads a partition's directory, one segment, or all of a data directory, without a broker. Nothing is
//! changed.

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use capek_log::dump::{self, DumpedBatch, SegmentFile, Verified};
use clap::{Args, Subcommand};
use serde_json::json;

use super::format::Shown;
use super::output::{progress, say};
use super::{Exit, Failure, record_json};

#[derive(Subcommand)]
pub enum LogCommand {
    /// Print the batches, or records, of a partition directory or segment
    Dump(DumpArguments),
    /// Check every batch, record and index of a partition directory, a segment or a whole data directory
    Verify(VerifyArguments),
}

#[derive(Args)]
pub struct DumpArguments {
    /// A directory such as capek-data/orders-0, or a .log file in it
    path: PathBuf,
    /// Print the records too, as JSON lines
    #[arg(short, long)]
    records: bool,
    /// Begin with the batch that holds this offset
    #[arg(short, long, value_name = "OFFSET")]
    offset: Option<i64>,
    /// Stop after this many batches
    #[arg(short, long, value_name = "COUNT")]
    num: Option<u64>,
}

#[derive(Args)]
pub struct VerifyArguments {
    /// A directory such as capek-data/orders-0, a .log file in it, or a whole data directory
    path: PathBuf,
    /// Print the result as one JSON object for each partition
    #[arg(long)]
    json: bool,
}

pub fn run(command: LogCommand) -> Result<(), Failure> {
    match command {
        LogCommand::Dump(arguments) => dump(&arguments),
        LogCommand::Verify(arguments) => verify(&arguments),
    }
}

fn reading(path: &Path) -> impl Fn(std::io::Error) -> Failure {
    move |error| {
        let exit = if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Usage };
        Failure::new(exit, format!("{}: {error}", path.display()))
    }
}

fn segments(path: &Path) -> Result<Vec<SegmentFile>, Failure> {
    let segments = dump::segments(path).map_err(reading(path))?;
    match segments.is_empty() {
        true => Err(Failure::not_found(format!("{}: there is no segment (.log file) here", path.display()))),
        false => Ok(segments),
    }
}

fn dump(arguments: &DumpArguments) -> Result<(), Failure> {
    let segments = segments(&arguments.path)?;
    let from = arguments.offset.unwrap_or(i64::MIN);
    let mut dumping = Dumping {
        out: BufWriter::new(std::io::stdout().lock()),
        topic: topic_of(&arguments.path),
        records: arguments.records,
        from,
        left: arguments.num.unwrap_or(u64::MAX),
        bad: 0,
        failure: None,
    };
    for (index, segment) in segments.iter().enumerate() {
        let is_before = segments.get(index + 1).is_some_and(|next| next.base_offset <= from);
        if is_before || dumping.left == 0 {
            continue;
        }
        writeln!(dumping.out, "# {} ({} bytes)", segment.path.display(), segment.size_bytes)?;
        let bad = segment.for_each_batch(&mut |batch| dumping.batch(&batch)).map_err(reading(&segment.path))?;
        if let Some(failure) = dumping.failure.take() {
            return Err(failure);
        }
        if let Some(bad) = bad.filter(|_| dumping.left > 0) {
            dumping.bad += 1;
            writeln!(dumping.out, "# at {}: {}", bad.position.unwrap_or(0), bad.problem)?;
        }
    }
    dumping.out.flush()?;
    match dumping.bad {
        0 => Ok(()),
        bad => Err(Failure::partial(format!("{bad} damaged batches"))),
    }
}

/// `orders-0` names its topic and partition; anything else is shown as it is called.
fn topic_of(path: &Path) -> (String, i32) {
    let directory = if path.is_dir() { Some(path) } else { path.parent() };
    let name = directory.and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match capek_log::parse_directory_name(&name) {
        Some((topic, partition)) => (topic.to_owned(), partition),
        None => (name, -1),
    }
}

struct Dumping<W: Write> {
    out: W,
    topic: (String, i32),
    records: bool,
    from: i64,
    left: u64,
    bad: u64,
    failure: Option<Failure>,
}

impl<W: Write> Dumping<W> {
    fn batch(&mut self, batch: &DumpedBatch) {
        if self.left == 0 || self.failure.is_some() || batch.header.last_offset() < self.from {
            return;
        }
        self.left -= 1;
        self.bad += u64::from(batch.problem.is_some());
        self.failure = self.print(batch).err();
    }

    fn print(&mut self, batch: &DumpedBatch) -> Result<(), Failure> {
        let header = &batch.header;
        let codec = header.codec().map_or_else(|error| error.to_string(), |codec| codec.to_string());
        write!(
            self.out,
            "offsets {}-{} records {} position {} bytes {} codec {codec} epoch {} timestamps {}-{} crc {:08x}",
            header.base_offset,
            header.last_offset(),
            header.record_count,
            batch.position,
            header.size_bytes(),
            header.leader_epoch,
            header.base_timestamp,
            header.max_timestamp,
            header.crc
        )?;
        if header.producer_id >= 0 {
            let (id, epoch, sequence) = (header.producer_id, header.producer_epoch, header.base_sequence);
            write!(self.out, " producer {id} epoch {epoch} sequence {sequence}-{}", header.last_sequence())?;
        }
        for (is_set, word) in [
            (header.is_transactional(), "transactional"),
            (header.is_control(), "control"),
            (header.is_log_append_time(), "log-append-time"),
        ] {
            if is_set {
                write!(self.out, " {word}")?;
            }
        }
        match &batch.problem {
            Some(problem) => writeln!(self.out, " DAMAGED: {problem}")?,
            None => writeln!(self.out)?,
        }
        if self.records { self.print_records(batch) } else { Ok(()) }
    }

    fn print_records(&mut self, batch: &DumpedBatch) -> Result<(), Failure> {
        let records = match batch.records() {
            Ok(records) => records,
            Err(problem) => return Ok(writeln!(self.out, "# records cannot be read: {problem}")?),
        };
        let mut lines = Vec::new();
        for record in records {
            let headers: Vec<(&[u8], Option<&[u8]>)> =
                record.headers.iter().map(|header| (header.key.as_ref(), header.value.as_deref())).collect();
            let shown = Shown {
                topic: &self.topic.0,
                partition: self.topic.1,
                offset: record.offset,
                timestamp: record.timestamp,
                leader_epoch: batch.header.leader_epoch,
                key: record.key.as_deref(),
                value: record.value.as_deref(),
                headers: &headers,
                index: 0,
            };
            record_json::write(&shown, &mut lines);
        }
        Ok(self.out.write_all(&lines)?)
    }
}

fn verify(arguments: &VerifyArguments) -> Result<(), Failure> {
    let directories = partitions_in(&arguments.path)?;
    let bar = progress(directories.len() as u64, "verifying");
    let mut problems = 0;
    for directory in &directories {
        let verified = dump::verify(directory).map_err(reading(directory))?;
        problems += verified.problems.len();
        bar.suspend(|| print_verified(directory, &verified, arguments.json))?;
        bar.inc(1);
    }
    bar.finish_and_clear();
    match problems {
        0 => Ok(()),
        _ => Err(Failure::partial(format!("{problems} problems found"))),
    }
}

/// The path itself if it is a partition's directory; else those in it.
fn partitions_in(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    if is_partition(path)? {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).map_err(reading(path))? {
        let directory = entry?.path();
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if directory.is_dir() && capek_log::parse_directory_name(name).is_some() && is_partition(&directory)? {
            found.push(directory);
        }
    }
    found.sort();
    match found.is_empty() {
        true => Err(Failure::not_found(format!("{}: no segment and no partition directory is here", path.display()))),
        false => Ok(found),
    }
}

/// One that holds segments, or that says whose it is: it may be empty.
fn is_partition(directory: &Path) -> Result<bool, Failure> {
    let holds_segments = !dump::segments(directory).map_err(reading(directory))?.is_empty();
    Ok(holds_segments || directory.join(capek_log::PARTITION_METADATA).exists())
}

fn print_verified(directory: &Path, verified: &Verified, as_json: bool) -> Result<(), Failure> {
    let Verified { segments, batches, records, size_bytes, log_start, end, problems } = verified;
    let name = directory.display();
    if as_json {
        let problem = |problem: &dump::Problem| json!({"path": problem.path, "position": problem.position, "problem": problem.problem});
        return say(json!({
            "path": directory, "segments": segments, "batches": batches, "records": records, "size_bytes": size_bytes,
            "log_start": log_start, "end": end, "problems": problems.iter().map(problem).collect::<Vec<_>>(),
        }));
    }
    let start = log_start.unwrap_or(0);
    let verdict = if problems.is_empty() { "good" } else { "DAMAGED" };
    say(format_args!(
        "{name}: {verdict}, offsets {start} to {end}, {records} records in {batches} batches, {segments} segments, \
         {size_bytes} bytes"
    ))?;
    problems.iter().try_for_each(|problem| {
        let position = problem.position.map(|position| format!(" at {position}")).unwrap_or_default();
        say(format_args!("  {}{position}: {}", problem.path.display(), problem.problem))
    })
}
