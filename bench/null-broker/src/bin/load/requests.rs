//! Many connections, each with a fixed number of one-record requests in flight: acks=all, partitions spread evenly.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use crate::frames;
use crate::speed::{Latencies, Probe};

pub struct Load {
    pub address: String,
    pub topic: String,
    pub partitions: usize,
    pub connections: usize,
    pub in_flight: usize,
    pub record_bytes: usize,
    pub seconds: u64,
}

pub async fn run(load: Load) -> io::Result<()> {
    let load = Rc::new(load);
    let probe = Probe::start();
    let started = Instant::now();
    let latencies = Rc::new(RefCell::new(Latencies::new(started)));
    let end = started + Duration::from_secs(load.seconds);
    on_each(load.connections, |index| connection(Rc::clone(&load), index, end, Rc::clone(&latencies))).await?;
    let elapsed = started.elapsed().as_secs_f64();
    let latencies = latencies.borrow();
    let per_second = latencies.len() as f64 / elapsed;
    let times = latencies.json(&probe.stop()?);
    println!("{{\"requests\": {}, \"per_second\": {per_second:.0}, {times}}}", latencies.len());
    Ok(())
}

/// A task for each connection, until all are done or one has failed.
pub async fn on_each<F>(connections: usize, connection: impl Fn(usize) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..connections).map(|index| local.spawn_local(connection(index))).collect();
    local
        .run_until(async {
            for task in tasks {
                task.await.map_err(io::Error::other)??;
            }
            Ok(())
        })
        .await
}

async fn connection(load: Rc<Load>, index: usize, end: Instant, latencies: Rc<RefCell<Latencies>>) -> io::Result<()> {
    let mut socket = frames::connect(&load.address).await?;
    let mut requests = of(&load, index).into_iter().cycle();
    let mut next = || requests.next().expect("a connection has a partition at least");
    let first: Vec<u8> = std::iter::repeat_with(&mut next).take(load.in_flight).flatten().collect();
    socket.write_all(&first).await?;
    let mut sent: VecDeque<Instant> = std::iter::repeat_n(Instant::now(), load.in_flight).collect();
    let (mut input, mut output) = (Vec::with_capacity(64 << 10), Vec::new());
    while !sent.is_empty() {
        if socket.read_buf(&mut input).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let now = Instant::now();
        let mut start = 0;
        output.clear();
        while let Some(response) = whole_frame(&input[start..]) {
            let error = frames::produce_error(&response[8..], &load.topic);
            if error != 0 {
                return Err(io::Error::other(format!("produce: error {error}")));
            }
            start += response.len();
            let sent_at = sent.pop_front().ok_or(io::ErrorKind::InvalidData)?;
            latencies.borrow_mut().note(sent_at, now);
            if now < end {
                output.extend(next());
                sent.push_back(now);
            }
        }
        input.drain(..start);
        if !output.is_empty() {
            socket.write_all(&output).await?;
        }
    }
    Ok(())
}

/// One for each of a connection's partitions: where there are more partitions than connections they are shared out, else shared.
pub fn of(load: &Load, index: usize) -> Vec<Vec<u8>> {
    let batch = frames::batch(&vec![b'x'; load.record_bytes]);
    let partitions = (index % load.partitions..load.partitions).step_by(load.connections);
    partitions.map(|partition| frames::produce(&load.topic, partition as i32, &batch)).collect()
}

pub fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    let size = i32::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(..4 + size as usize)
}
