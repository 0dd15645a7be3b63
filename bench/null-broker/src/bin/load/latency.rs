//! End to end at a fixed rate: from the time at which a record was due to be sent, to the time at which a waiting consumer
//! has it. A broker that stalls is charged for all the records that should have been sent meanwhile.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;

use crate::frames;
use crate::speed::{Latencies, Probe};

pub struct Load {
    pub address: String,
    pub topic: String,
    pub rate: u32,
    pub record_bytes: usize,
    pub seconds: u32,
}

pub async fn run(load: Load) -> io::Result<()> {
    let start_offset = frames::latest_offset(&load.address, &load.topic).await?;
    let count = i64::from(load.rate) * i64::from(load.seconds);
    let probe = Probe::start();
    let origin = Instant::now() + Duration::from_millis(200);
    let load = Arc::new(load);
    let producing = Arc::clone(&load);
    let producer = std::thread::spawn(move || produce(&producing, 1, count, origin));
    let latencies = consume(&load, start_offset, count, origin).await?;
    producer.join().map_err(|_| io::Error::other("the producer panicked"))??;
    println!("{{\"records\": {}, {}}}", latencies.len(), latencies.json(&probe.stop()?));
    Ok(())
}

/// On a thread of its own, because the runtime's timers count in milliseconds. The value begins with the microseconds after
/// the origin at which the record is due; partitions take turns.
pub fn produce(load: &Load, partitions: usize, count: i64, origin: Instant) -> io::Result<()> {
    let mut socket = TcpStream::connect(&load.address)?;
    socket.set_nodelay(true)?;
    let mut answers = socket.try_clone()?;
    let answers = std::thread::spawn(move || io::copy(&mut answers, &mut io::sink()));
    let mut value = vec![b'x'; load.record_bytes.max(8)];
    for index in 0..count {
        let due_us = (index * 1_000_000 / i64::from(load.rate)) as u64;
        std::thread::sleep((origin + Duration::from_micros(due_us)).saturating_duration_since(Instant::now()));
        let partition = (index as usize % partitions) as i32;
        value[..8].copy_from_slice(&due_us.to_be_bytes());
        socket.write_all(&frames::produce(&load.topic, partition, &frames::batch(&value)))?;
    }
    socket.shutdown(Shutdown::Write)?;
    answers.join().map_err(|_| io::Error::other("the reader of answers panicked"))??;
    Ok(())
}

async fn consume(load: &Load, start_offset: i64, count: i64, origin: Instant) -> io::Result<Latencies> {
    let mut socket = frames::connect(&load.address).await?;
    let mut latencies = Latencies::new(origin);
    let mut offset = start_offset;
    while offset < start_offset + count {
        socket.write_all(&frames::fetch(&load.topic, offset)).await?;
        let body = frames::response(&mut socket).await?;
        let now = Instant::now();
        let mut batches = frames::fetched(&body, &load.topic)?;
        while let Some((base_offset, due_us, rest)) = first_batch(batches, load.record_bytes.max(8)) {
            batches = rest;
            if base_offset >= offset {
                offset = base_offset + 1;
                latencies.note(origin + Duration::from_micros(due_us), now);
            }
        }
    }
    Ok(latencies)
}

/// Base offset, due time, and what follows; every batch holds one record of ours, whose value ends one byte before the end.
fn first_batch(batches: &[u8], value_bytes: usize) -> Option<(i64, u64, &[u8])> {
    let base_offset = i64::from_be_bytes(*batches.first_chunk()?);
    let size = 12 + i32::from_be_bytes(*batches.get(8..)?.first_chunk()?) as usize;
    let batch = batches.get(..size)?;
    let value_at = size.checked_sub(1 + value_bytes)?;
    Some((base_offset, u64::from_be_bytes(*batch.get(value_at..)?.first_chunk()?), &batches[size..]))
}
