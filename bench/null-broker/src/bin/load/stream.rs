//! REST v3's stream of records: as many as one request takes, what the broker holds meanwhile, and how much later than Kafka's
//! acknowledgement a report comes.

use std::cell::Cell;
use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::sockets::resident_kib;
use crate::{frames, new_histogram, percentiles};

const RECORDS_OF_A_CHUNK: usize = 100;
const SAMPLE_EVERY: Duration = Duration::from_millis(10);

pub struct Load {
    pub kafka: String,
    pub http: String,
    pub cluster: String,
    /// With one partition.
    pub topic: String,
    /// One after the other, without waiting for reports.
    pub records: usize,
    /// Then so many a second, each when the report of the one before is there, in turn with one over Kafka's protocol.
    pub rate: u32,
    pub seconds: u32,
    pub broker_pid: u32,
}

pub async fn run(load: Load) -> io::Result<()> {
    let before_kib = resident_kib(load.broker_pid)?;
    let started = Instant::now();
    let (sender, mut reports) = open(&load).await?;
    let peak_kib = Cell::new(before_kib);
    let received = async {
        let first = reports.next().await?;
        for index in 1..load.records as i64 {
            let offset = reports.next().await?;
            if offset != first + index {
                return Err(io::Error::other(format!("report {index} has offset {offset} after {first}")));
            }
        }
        Ok::<(), io::Error>(())
    };
    tokio::select! {
        done = async { tokio::try_join!(send_all(sender, load.records), received) } => drop(done?),
        failed = sample(load.broker_pid, &peak_kib) => return failed,
    }
    let elapsed = started.elapsed().as_secs_f64();
    let (report, ack) = latencies(&load).await?;
    println!(
        "{{\"records\": {}, \"per_second\": {:.0}, \"rss_before_kib\": {before_kib}, \"rss_peak_kib\": {}, \
         \"report\": {{{}}}, \"ack\": {{{}}}}}",
        load.records,
        load.records as f64 / elapsed,
        peak_kib.get(),
        percentiles(&report),
        percentiles(&ack)
    );
    Ok(())
}

/// Until it fails.
async fn sample(pid: u32, peak_kib: &Cell<u64>) -> io::Result<()> {
    loop {
        peak_kib.set(peak_kib.get().max(resident_kib(pid)?));
        tokio::time::sleep(SAMPLE_EVERY).await;
    }
}

async fn send_all(mut sender: OwnedWriteHalf, records: usize) -> io::Result<OwnedWriteHalf> {
    for first in (0..records).step_by(RECORDS_OF_A_CHUNK) {
        let last = records.min(first + RECORDS_OF_A_CHUNK);
        let body: String = (first..last).map(record).collect();
        sender.write_all(&chunk(&body)).await?;
    }
    sender.write_all(b"0\r\n\r\n").await?;
    Ok(sender)
}

/// How long a report takes, and how long Kafka's acknowledgement.
async fn latencies(load: &Load) -> io::Result<(Histogram<u64>, Histogram<u64>)> {
    let (mut sender, mut reports) = open(load).await?;
    let mut kafka = frames::connect(&load.kafka).await?;
    let (mut report, mut ack) = (new_histogram(), new_histogram());
    let took = |since: Instant| since.elapsed().as_micros() as u64;
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / load.rate);
    for index in 0..load.rate as usize * load.seconds as usize {
        ticks.tick().await;
        let sent = Instant::now();
        sender.write_all(&chunk(&record(index))).await?;
        reports.next().await?;
        report.saturating_record(took(sent));
        let batch = frames::batch(record(index).as_bytes());
        let sent = Instant::now();
        kafka.write_all(&frames::produce(&load.topic, 0, &batch)).await?;
        let answer = frames::response(&mut kafka).await?;
        ack.saturating_record(took(sent));
        if frames::produce_error(&answer, &load.topic) != 0 {
            return Err(io::Error::other("a record was refused"));
        }
    }
    Ok((report, ack))
}

fn record(number: usize) -> String {
    format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{{\"user\":\"u-4711\",\"action\":\"view\",\"n\":{number}}}}}}}\n")
}

fn chunk(body: &str) -> Vec<u8> {
    format!("{:x}\r\n{body}\r\n", body.len()).into_bytes()
}

async fn open(load: &Load) -> io::Result<(OwnedWriteHalf, Reports)> {
    let socket: TcpStream = frames::connect(&load.http).await?;
    let (receiver, mut sender) = socket.into_split();
    let head = format!(
        "POST /v3/clusters/{}/topics/{}/records HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n\
         Transfer-Encoding: chunked\r\n\r\n",
        load.cluster, load.topic, load.http
    );
    sender.write_all(head.as_bytes()).await?;
    let mut reports = Reports { socket: BufReader::new(receiver), body: Vec::new(), read: 0 };
    let status = reports.line().await?;
    while !reports.line().await?.is_empty() {}
    if status.starts_with("HTTP/1.1 200") { Ok((sender, reports)) } else { Err(io::Error::other(status)) }
}

/// The reports of an answer that comes in chunks.
struct Reports {
    socket: BufReader<OwnedReadHalf>,
    /// Of the chunks; up to `read` it was given out.
    body: Vec<u8>,
    read: usize,
}

impl Reports {
    /// The offset of the next.
    async fn next(&mut self) -> io::Result<i64> {
        let report = loop {
            let rest = &self.body[self.read..];
            if let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
                self.read += end + 2;
                break &rest[..end];
            }
            self.body.drain(..self.read);
            self.read = 0;
            let size = self.line().await?;
            let size = usize::from_str_radix(&size, 16).map_err(io::Error::other)?;
            let held = self.body.len();
            self.body.resize(held + size, 0);
            self.socket.read_exact(&mut self.body[held..]).await?;
            self.line().await?;
        };
        let report = String::from_utf8_lossy(report);
        let offset = report.split_once("\"offset\":").and_then(|(_, rest)| rest.split([',', '}']).next()?.parse().ok());
        offset.ok_or_else(|| io::Error::other(report.into_owned()))
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.socket.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}
