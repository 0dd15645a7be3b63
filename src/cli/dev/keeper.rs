//! Keeps one broker running: starts its process, passes its log lines on, starts it again when it dies, stops it when told to.

use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::super::http_get;
use super::super::output::warn;
use super::plan::DevBroker;

/// Before a broker that died is started again.
const BACK_OFF: Duration = Duration::from_secs(1);
/// For leaving the cluster, syncing and closing; then it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);
const ASK_EVERY: Duration = Duration::from_millis(50);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// What a keeper is to do; it only ever goes forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    Run,
    Stop,
    /// At once, without an orderly stop.
    Kill,
}

/// What happened to a broker.
#[derive(Debug)]
pub enum Event {
    Up {
        broker: DevBroker,
        took: Duration,
    },
    /// It is going to be started again.
    Died {
        broker: DevBroker,
        status: ExitStatus,
    },
    /// It is not going to be started again, and that ends it all.
    Failed {
        broker: DevBroker,
        why: String,
    },
}

pub struct Keeper {
    pub broker: DevBroker,
    /// What starts it.
    pub command: Command,
    /// Whether it is started again when it dies, once it has been up.
    pub restart: bool,
    pub events: mpsc::Sender<Event>,
    pub orders: watch::Receiver<Order>,
}

/// How one life of a broker's process ended.
enum End {
    AsOrdered,
    ByItself(ExitStatus),
}

impl Keeper {
    /// Until an order to stop, or until it gives up.
    pub async fn keep(mut self) {
        let mut has_been_up = false;
        loop {
            let why = match self.live(&mut has_been_up).await {
                Ok(End::AsOrdered) => return,
                // What never was up has the same fault the next time.
                Ok(End::ByItself(status)) if self.restart && has_been_up => {
                    self.tell(Event::Died { broker: self.broker.clone(), status }).await;
                    if self.rest().await {
                        continue;
                    }
                    return;
                }
                Ok(End::ByItself(status)) if has_been_up => format!("ended ({status})"),
                Ok(End::ByItself(status)) => format!("did not start ({status}): see its log above"),
                Err(error) => format!("cannot be run: {error}"),
            };
            return self.tell(Event::Failed { broker: self.broker.clone(), why }).await;
        }
    }

    /// False when it is not to be started again.
    async fn rest(&mut self) -> bool {
        tokio::select! {
            () = sleep(BACK_OFF) => true,
            () = ordered(&mut self.orders, Order::Stop) => false,
        }
    }

    async fn live(&mut self, has_been_up: &mut bool) -> std::io::Result<End> {
        let started = Instant::now();
        let mut child = self.command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let lines = child.stderr.take().map(|stderr| tokio::spawn(pass_on(self.broker.id, stderr)));
        let mut is_up = false;
        let end = loop {
            tokio::select! {
                status = child.wait() => break End::ByItself(status?),
                () = ready(self.broker.http_port), if !is_up => {
                    (is_up, *has_been_up) = (true, true);
                    self.tell(Event::Up { broker: self.broker.clone(), took: started.elapsed() }).await;
                }
                () = ordered(&mut self.orders, Order::Stop) => {
                    self.stop(&mut child).await?;
                    break End::AsOrdered;
                }
            }
        };
        // Its last lines come before what is said of its end.
        if let Some(lines) = lines {
            let _ = timeout(Duration::from_secs(1), lines).await;
        }
        Ok(end)
    }

    /// In order, unless that takes too long or the order becomes a harder one.
    async fn stop(&mut self, child: &mut Child) -> std::io::Result<()> {
        if let Some(id) = child.id().and_then(|id| Pid::from_raw(id as i32)) {
            // It may end at this moment by itself.
            let _ = kill_process(id, Signal::TERM);
        }
        tokio::select! {
            stopped = timeout(STOP_WITHIN, child.wait()) => {
                if stopped.is_ok() {
                    return Ok(());
                }
                warn(format_args!("broker {} did not stop within {STOP_WITHIN:?}: killing it", self.broker.id));
            }
            () = ordered(&mut self.orders, Order::Kill) => {}
        }
        child.kill().await
    }

    /// Nobody listens only when all of it ends.
    async fn tell(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}

/// Until this order, or a harder one, is given; who gave them is gone when all of it ends.
async fn ordered(orders: &mut watch::Receiver<Order>, order: Order) {
    let _ = orders.wait_for(|given| *given >= order).await;
}

async fn ready(http_port: u16) {
    let base = format!("http://localhost:{http_port}");
    loop {
        if http_get::get(&base, "/readyz", ANSWER_WITHIN).await.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        sleep(ASK_EVERY).await;
    }
}

/// Each line with the broker's number before it.
async fn pass_on(id: u16, stderr: impl AsyncRead + Unpin) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        warn(format_args!("{id} | {}", String::from_utf8_lossy(&line)));
    }
}
