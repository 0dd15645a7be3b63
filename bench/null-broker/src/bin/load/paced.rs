//! Many connections, each with a record at a time and at a fixed rate: acks=all, each to its own partitions. What is late is charged from
//! the time at which it was due, as in `latency.rs`: a broker that stalls makes all that should have been sent meanwhile late.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::frames;
use crate::requests::{self, Load};
use crate::speed::{Latencies, Probe};

/// Records that were due before are not counted: the first of a partition makes its files.
const WARM_UP: Duration = Duration::from_secs(1);

/// `rate` records a second over all connections.
pub async fn run(load: Load, rate: u32) -> io::Result<()> {
    let period = Duration::from_secs(load.connections as u64) / rate.max(1);
    let load = Rc::new(load);
    let probe = Probe::start();
    let origin = Instant::now() + Duration::from_millis(500);
    let latencies = Rc::new(RefCell::new(Latencies::new(origin)));
    let paced = |index| connection(Rc::clone(&load), index, origin, period, Rc::clone(&latencies));
    requests::on_each(load.connections, paced).await?;
    let latencies = latencies.borrow();
    println!("{{\"requests\": {}, {}}}", latencies.len(), latencies.json(&probe.stop()?));
    Ok(())
}

async fn connection(
    load: Rc<Load>,
    index: usize,
    origin: Instant,
    period: Duration,
    latencies: Rc<RefCell<Latencies>>,
) -> io::Result<()> {
    let mut socket = frames::connect(&load.address).await?;
    let mut requests = requests::of(&load, index).into_iter().cycle();
    let mut input = Vec::new();
    let mut due = origin + period * index as u32 / load.connections as u32;
    while due < origin + Duration::from_secs(load.seconds) {
        tokio::time::sleep_until(due.into()).await;
        socket.write_all(&requests.next().expect("a connection has a partition at least")).await?;
        input.clear();
        while requests::whole_frame(&input).is_none() {
            if socket.read_buf(&mut input).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let error = frames::produce_error(&input[8..], &load.topic);
        if error != 0 {
            return Err(io::Error::other(format!("produce: error {error}")));
        }
        if due >= origin + WARM_UP {
            latencies.borrow_mut().note(due, Instant::now());
        }
        due += period;
    }
    Ok(())
}
