//! `capek dev`: brokers on this machine for development, one process of this binary each. Shows where they listen and what
//! they log, starts again what dies, and takes all down with it when it ends.

mod keeper;
mod plan;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::Failure;
use super::output::{List, OutputForm, say, warn};
use crate::signals::Signals;
use keeper::{Event, Keeper, Order};
use plan::{DevBroker, FirstPorts};

#[derive(Args)]
pub struct DevArguments {
    /// How many brokers
    #[arg(long, value_name = "N", default_value_t = 3)]
    brokers: u16,
    /// Where their data lies, a directory named by its number for each
    #[arg(long, value_name = "DIR", default_value = "./capek-dev")]
    data_dir: PathBuf,
    /// Kafka's port of the first broker; each further one is two higher
    #[arg(long, value_name = "PORT", default_value_t = 9092)]
    kafka_port: u16,
    /// The HTTP port of the first broker; each further one is two higher
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    http_port: u16,
    /// Where the first broker is reached by the others; each further one is two higher
    #[arg(long, value_name = "PORT", default_value_t = 9190)]
    peer_port: u16,
    /// Set one config of all brokers by its name, as --set num.partitions=3
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// Remove the data of earlier runs first
    #[arg(long)]
    clean: bool,
    /// End all when one dies, instead of starting it again
    #[arg(long)]
    no_restart: bool,
}

/// A broker says what it is doing a few times in its life.
const EVENTS_MAX: usize = 64;
const REMIND_EVERY: Duration = Duration::from_secs(10);

pub async fn run(arguments: DevArguments) -> Result<(), Failure> {
    let first = FirstPorts { kafka: arguments.kafka_port, http: arguments.http_port, peer: arguments.peer_port };
    let brokers = plan::plan(arguments.brokers, first, &arguments.data_dir)?;
    plan::check_ports(&brokers)?;
    if arguments.clean {
        for directory in plan::clean(&arguments.data_dir)? {
            say(format_args!("removed {}", directory.display()))?;
        }
    }
    let mut signals = Signals::new()?;
    let mut running = Running::start(&brokers, &arguments)?;
    let outcome = running.watch(&brokers, &mut signals).await;
    running.stop(&mut signals).await;
    outcome
}

/// The brokers' keepers, in the order of their start.
struct Running {
    keepers: Vec<(u16, watch::Sender<Order>, JoinHandle<()>)>,
    events: mpsc::Receiver<Event>,
}

impl Running {
    fn start(brokers: &[DevBroker], arguments: &DevArguments) -> Result<Running, Failure> {
        let (events_sender, events) = mpsc::channel(EVENTS_MAX);
        let mut keepers = Vec::new();
        for broker in brokers {
            let (orders, received) = watch::channel(Order::Run);
            let keeper = Keeper {
                broker: broker.clone(),
                command: command(broker, brokers, &arguments.set)?,
                restart: !arguments.no_restart,
                events: events_sender.clone(),
                orders: received,
            };
            keepers.push((broker.id, orders, tokio::spawn(keeper.keep())));
        }
        Ok(Running { keepers, events })
    }

    /// Tells what happens, until a signal or a failure ends it.
    async fn watch(&mut self, brokers: &[DevBroker], signals: &mut Signals) -> Result<(), Failure> {
        let started = Instant::now();
        let mut remind = tokio::time::interval_at((started + REMIND_EVERY).into(), REMIND_EVERY);
        let mut missing: Vec<u16> = brokers.iter().map(|broker| broker.id).collect();
        let mut is_told = false;
        loop {
            tokio::select! {
                name = signals.next() => return say(format_args!("{name}: stopping")),
                _ = remind.tick(), if !missing.is_empty() => {
                    warn(format_args!("still waiting for broker {}", numbers(&missing)));
                }
                Some(event) = self.events.recv() => match event {
                    Event::Up { broker, took } => {
                        missing.retain(|id| *id != broker.id);
                        say(format_args!("broker {} is up: {} after {} ms", broker.id, where_it_is(&broker), took.as_millis()))?;
                        if missing.is_empty() && !std::mem::replace(&mut is_told, true) {
                            tell(brokers)?;
                        }
                    }
                    Event::Died { broker, status } => {
                        if !missing.contains(&broker.id) {
                            missing.push(broker.id);
                        }
                        remind.reset();
                        warn(format_args!("broker {} has ended ({status}): starting it again", broker.id));
                    }
                    Event::Failed { broker, why } => {
                        return Err(Failure::usage(format!("broker {} {why}", broker.id)));
                    }
                }
            }
        }
    }

    /// The last one first, each when the one before it is down. Another signal kills those that are left.
    async fn stop(mut self, signals: &mut Signals) {
        while let Some((id, orders, mut keeper)) = self.keepers.pop() {
            // It is not there any more when it failed.
            let _ = orders.send(Order::Stop);
            loop {
                tokio::select! {
                    _ = &mut keeper => break,
                    name = signals.next() => {
                        warn(format_args!("{name} again: killing what is left"));
                        let _ = orders.send(Order::Kill);
                        for (_, orders, _) in &self.keepers {
                            let _ = orders.send(Order::Kill);
                        }
                    }
                }
            }
            warn(format_args!("broker {id} is down"));
        }
    }
}

/// What starts the broker. What the caller sets comes first: ports and directories are ours to give.
fn command(broker: &DevBroker, brokers: &[DevBroker], set: &[String]) -> Result<Command, Failure> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["serve", "--node-id", &broker.id.to_string()]).arg("--data-dir").arg(&broker.data_dir);
    command.args(["--kafka", &format!("localhost:{}", broker.kafka_port)]);
    command.args(["--http", &format!("localhost:{}", broker.http_port)]);
    command.args(["--parent", &std::process::id().to_string()]);
    for setting in set {
        command.args(["--set", setting]);
    }
    command.args(["--set", &format!("capek.peer.listener=localhost:{}", broker.peer_port)]);
    if brokers.len() > 1 {
        let peers: Vec<String> =
            brokers.iter().map(|peer| format!("{}@localhost:{}", peer.id, peer.peer_port)).collect();
        command.args(["--set", &format!("capek.cluster.peers={}", peers.join(","))]);
    }
    if std::io::stderr().is_terminal() && std::env::var_os("CAPEK_LOG_STYLE").is_none() {
        command.env("CAPEK_LOG_STYLE", "always");
    }
    // Ctrl-C is for this process, which stops them one by one.
    command.process_group(0).kill_on_drop(true);
    Ok(command)
}

fn where_it_is(broker: &DevBroker) -> String {
    format!("Kafka localhost:{}, HTTP http://localhost:{}", broker.kafka_port, broker.http_port)
}

fn numbers(ids: &[u16]) -> String {
    ids.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// All are up: where each listens, and what to paste.
fn tell(brokers: &[DevBroker]) -> Result<(), Failure> {
    let mut list = List::new(&["broker", "kafka", "http", "peers", "data"]);
    for broker in brokers {
        list.row(vec![
            json!(broker.id),
            json!(format!("localhost:{}", broker.kafka_port)),
            json!(format!("http://localhost:{}", broker.http_port)),
            json!(format!("localhost:{}", broker.peer_port)),
            json!(broker.data_dir.display().to_string()),
        ]);
    }
    list.print(OutputForm::Table)?;
    say(format_args!("Try it (Ctrl-C stops {}):", if brokers.len() == 1 { "it" } else { "all" }))?;
    lines_to_paste(brokers).iter().try_for_each(|line| say(format_args!("  {line}")))
}

/// Written through the first broker, read through the last.
fn lines_to_paste(brokers: &[DevBroker]) -> Vec<String> {
    let (Some(first), Some(last)) = (brokers.first(), brokers.last()) else { return Vec::new() };
    let program = std::env::args().next().unwrap_or_else(|| "capek".to_owned());
    let bootstrap = match last.kafka_port {
        9092 => String::new(),
        port => format!(" -b localhost:{port}"),
    };
    vec![
        format!("curl -d 'hello, world' 'http://localhost:{}/v1/topics/greetings?key=me'", first.http_port),
        format!("{program} consume greetings -o earliest -n 1{bootstrap}"),
        format!("curl -N 'http://localhost:{}/v1/topics/greetings/sse?from=earliest'", last.http_port),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings_of(broker: &DevBroker, brokers: &[DevBroker]) -> Vec<String> {
        let command = command(broker, brokers, &["num.partitions=3".to_owned()]).unwrap();
        let words: Vec<_> = command.as_std().get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        words.windows(2).filter(|pair| pair[0] == "--set").map(|pair| pair[1].clone()).collect()
    }

    #[test]
    fn each_broker_knows_the_peers_where_there_are_several() {
        let first = FirstPorts { kafka: 9092, http: 8080, peer: 9190 };
        let one = plan::plan(1, first, "data".as_ref()).unwrap();
        assert_eq!(settings_of(&one[0], &one), ["num.partitions=3", "capek.peer.listener=localhost:9190"]);
        let three = plan::plan(3, first, "data".as_ref()).unwrap();
        let expected = [
            "num.partitions=3",
            "capek.peer.listener=localhost:9192",
            "capek.cluster.peers=1@localhost:9190,2@localhost:9192,3@localhost:9194",
        ];
        assert_eq!(settings_of(&three[1], &three), expected);
    }
}
