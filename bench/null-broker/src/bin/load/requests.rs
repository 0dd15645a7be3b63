//! Many connections, each with a fixed number of one-record requests in flight: acks=all, partitions spread evenly.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;

use crate::{frames, new_histogram, percentiles};

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
    let histogram = Rc::new(RefCell::new(new_histogram()));
    let started = Instant::now();
    let end = started + Duration::from_secs(load.seconds);
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..load.connections)
        .map(|index| local.spawn_local(connection(Rc::clone(&load), index, end, Rc::clone(&histogram))))
        .collect();
    local
        .run_until(async {
            for task in tasks {
                task.await.map_err(io::Error::other)??;
            }
            Ok::<(), io::Error>(())
        })
        .await?;
    let elapsed = started.elapsed().as_secs_f64();
    let histogram = histogram.borrow();
    let per_second = histogram.len() as f64 / elapsed;
    println!("{{\"requests\": {}, \"per_second\": {per_second:.0}, {}}}", histogram.len(), percentiles(&histogram));
    Ok(())
}

async fn connection(
    load: Rc<Load>,
    index: usize,
    end: Instant,
    histogram: Rc<RefCell<Histogram<u64>>>,
) -> io::Result<()> {
    let mut socket = frames::connect(&load.address).await?;
    let value = vec![b'x'; load.record_bytes];
    let request = frames::produce(&load.topic, (index % load.partitions) as i32, &frames::batch(&value));
    socket.write_all(&request.repeat(load.in_flight)).await?;
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
            histogram.borrow_mut().saturating_record((now - sent_at).as_micros() as u64);
            if now < end {
                output.extend(&request);
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

fn whole_frame(bytes: &[u8]) -> Option<&[u8]> {
    let size = i32::from_be_bytes(*bytes.first_chunk()?);
    bytes.get(..4 + size as usize)
}
