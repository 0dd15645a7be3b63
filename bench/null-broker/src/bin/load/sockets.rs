//! WebSocket consumers that live beside others that stall: how late records come to the first, what the broker holds for all.
//!
//! A record begins with the microseconds after the origin at which it was due to be sent, as in `latency.rs`. The sockets speak
//! `capek.v1.bin` (docs/http.md has its layout), by hand: a thousand of them must not cost more than the broker that serves them.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};

use crate::latency;
use crate::speed::{Latencies, Probe};

const CREDIT_RECORDS: u64 = 10_000;
const CREDIT_BYTES: u64 = 1 << 20;
/// Records that were due before are not counted: the first of a partition makes its files.
const WARM_UP: Duration = Duration::from_secs(1);
/// How long after the last record the last of them may come.
const LATE_WITHIN: Duration = Duration::from_secs(30);

pub struct Load {
    pub kafka: String,
    pub http: String,
    pub topic: String,
    /// Socket i reads partition i modulo this.
    pub partitions: usize,
    pub live: usize,
    pub stalled: usize,
    /// Records a second, over all partitions.
    pub rate: u32,
    pub record_bytes: usize,
    pub seconds: u32,
    pub broker_pid: u32,
}

pub async fn run(load: Load) -> io::Result<()> {
    let local = LocalSet::new();
    local.run_until(measure(Rc::new(load))).await
}

async fn measure(load: Rc<Load>) -> io::Result<()> {
    let idle_kib = resident_kib(load.broker_pid)?;
    let mut stalled = Vec::with_capacity(load.stalled);
    for index in 0..load.stalled {
        stalled.push(open(&load, index % load.partitions).await?);
    }
    let mut live = Vec::with_capacity(load.live);
    for index in 0..load.live {
        let mut socket = open(&load, index % load.partitions).await?;
        while !text(&mut socket).await?.contains("\"caught_up\"") {}
        live.push(socket);
    }
    let open_kib = resident_kib(load.broker_pid)?;
    let count = u64::from(load.rate) * u64::from(load.seconds);
    let probe = Probe::start();
    let origin = Instant::now() + Duration::from_millis(200);
    let producing = latency::Load {
        address: load.kafka.clone(),
        topic: load.topic.clone(),
        rate: load.rate,
        record_bytes: load.record_bytes,
        seconds: load.seconds,
    };
    let partitions = load.partitions;
    let producer = std::thread::spawn(move || latency::produce(&producing, partitions, count as i64, origin));
    let lateness = Rc::new(RefCell::new(Latencies::new(origin)));
    let mut readers = JoinSet::new();
    for (index, socket) in live.into_iter().enumerate() {
        let wanted = (index % partitions..count as usize).step_by(partitions).count();
        readers.spawn_local(read(socket, wanted, origin, lateness.clone()));
    }
    let within = Duration::from_secs(load.seconds.into()) + LATE_WITHIN;
    // Nobody hangs up before all have read: a thousand that do are work of another kind.
    let mut done = Vec::with_capacity(load.live);
    let all = async {
        while let Some(reader) = readers.join_next().await {
            done.push(reader.map_err(io::Error::other)??);
        }
        Ok::<_, io::Error>(())
    };
    tokio::time::timeout(within, all).await.map_err(|_| io::Error::other("records did not come"))??;
    producer.join().map_err(|_| io::Error::other("the producer panicked"))??;
    let end_kib = resident_kib(load.broker_pid)?;
    let lateness = lateness.borrow();
    println!(
        "{{\"deliveries\": {}, {}, \"rss_idle_kib\": {idle_kib}, \"rss_open_kib\": {open_kib}, \"rss_end_kib\": {end_kib}}}",
        lateness.len(),
        lateness.json(&probe.stop()?)
    );
    Ok(())
}

/// Records of one partition until there are so many. The socket stays open.
async fn read(
    mut socket: BufReader<TcpStream>,
    wanted: usize,
    origin: Instant,
    lateness: Rc<RefCell<Latencies>>,
) -> io::Result<BufReader<TcpStream>> {
    let (mut received, mut records_left, mut bytes_left) = (0, CREDIT_RECORDS, CREDIT_BYTES);
    while received < wanted {
        let (opcode, payload) = frame(&mut socket).await?;
        match opcode {
            BINARY => {
                let due = records(&payload).ok_or_else(|| io::Error::other("a frame of records is cut"))?;
                let now = Instant::now();
                received += due.len();
                records_left = records_left.saturating_sub(due.len() as u64);
                bytes_left = bytes_left.saturating_sub(payload.len() as u64);
                let mut lateness = lateness.borrow_mut();
                for due_us in due {
                    let due = Duration::from_micros(due_us);
                    if due >= WARM_UP {
                        lateness.note(origin + due, now);
                    }
                }
            }
            PING => send(&mut socket, PONG, &payload).await?,
            CLOSE => return Err(io::Error::other("the broker closed the socket")),
            _ => {}
        }
        if records_left < CREDIT_RECORDS / 2 || bytes_left < CREDIT_BYTES / 2 {
            let (records, bytes) = (CREDIT_RECORDS - records_left, CREDIT_BYTES - bytes_left);
            let credit = format!("{{\"type\":\"credit\",\"records\":{records},\"bytes\":{bytes}}}");
            send(&mut socket, TEXT, credit.as_bytes()).await?;
            (records_left, bytes_left) = (CREDIT_RECORDS, CREDIT_BYTES);
        }
    }
    Ok(socket)
}

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

async fn open(load: &Load, partition: usize) -> io::Result<BufReader<TcpStream>> {
    let mut socket = BufReader::new(crate::frames::connect(&load.http).await?);
    let request = format!(
        "GET /v1/topics/{}/ws?from=latest&partitions={partition}&credit_records={CREDIT_RECORDS}&credit_bytes={CREDIT_BYTES} \
         HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: capek.v1.bin\r\n\r\n",
        load.topic, load.http
    );
    socket.write_all(request.as_bytes()).await?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await?);
    }
    if head.starts_with(b"HTTP/1.1 101") { Ok(socket) } else { Err(io::Error::other(String::from_utf8_lossy(&head))) }
}

async fn text(socket: &mut BufReader<TcpStream>) -> io::Result<String> {
    loop {
        if let (TEXT, payload) = frame(socket).await? {
            return Ok(String::from_utf8_lossy(&payload).into_owned());
        }
    }
}

/// A server's frames are whole and not masked.
async fn frame(socket: &mut BufReader<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let opcode = socket.read_u8().await? & 15;
    let length = match socket.read_u8().await? {
        126 => socket.read_u16().await?.into(),
        127 => socket.read_u64().await?,
        length => length.into(),
    };
    let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    socket.read_exact(&mut payload).await?;
    Ok((opcode, payload))
}

/// A client's are masked; a mask of zeros changes nothing.
async fn send(socket: &mut BufReader<TcpStream>, opcode: u8, payload: &[u8]) -> io::Result<()> {
    const SHORT: usize = 126;
    let length = u8::try_from(payload.len()).ok().filter(|length| usize::from(*length) < SHORT);
    let length = length.ok_or_else(|| io::Error::other("our frames are short"))?;
    let frame = [&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0], payload].concat();
    socket.write_all(&frame).await
}

/// When each record of a frame was due. They have no keys and no headers.
fn records(frame: &[u8]) -> Option<Vec<u64>> {
    const HEAD_BYTES: usize = 48;
    let count = u32::from_be_bytes(*frame.get(HEAD_BYTES - 4..)?.first_chunk()?);
    let mut rest = frame.get(HEAD_BYTES..)?;
    let mut due = Vec::with_capacity(count.min(10_000) as usize);
    for _ in 0..count {
        varint(&mut rest)?;
        rest = rest.get(8..)?;
        varint(&mut rest)?;
        let value_bytes = usize::try_from(varint(&mut rest)?).ok()?;
        due.push(u64::from_be_bytes(*rest.first_chunk()?));
        rest = rest.get(value_bytes..)?;
        varint(&mut rest)?;
    }
    Some(due)
}

fn varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut zigzag = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        zigzag |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
        }
    }
    None
}

pub fn resident_kib(pid: u32) -> io::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok());
    kib.ok_or_else(|| io::Error::other("the status of the broker has no VmRSS"))
}
