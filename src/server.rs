//! The broker's start and stop: settings in, everything listening, and out again in order when a signal says so.

use std::time::Instant;

use capek_actors::broker::{RunningBroker, StartError};
use capek_actors::topics;
use capek_state::cluster::{Command, CreateTopic};
use capek_wire::error_code::ErrorCode;
use log::{info, warn};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::banner;
use crate::cli::Failure;
use crate::config::{Settings, TopicToCreate};
use crate::http::{self, HttpServer};
use crate::signals::Signals;

/// Runs the broker until it is told to stop, or cannot go on. Needs an actix system; makes one on a thread of its own where
/// there is none.
pub async fn serve(settings: Settings) -> Result<(), Failure> {
    if actix_rt::System::try_current().is_some() {
        return run(settings).await;
    }
    let (ended_sender, ended) = tokio::sync::oneshot::channel();
    let body = move || {
        // Nobody waits for the outcome only when the process is going down.
        let _ = ended_sender.send(actix_rt::System::new().block_on(run(settings)));
    };
    std::thread::Builder::new().name("control".to_owned()).spawn(body)?;
    ended.await.unwrap_or_else(|_| Err(Failure::usage("the broker's control thread panicked")))
}

async fn run(settings: Settings) -> Result<(), Failure> {
    let started = Instant::now();
    raise_open_files_limit();
    keep_pages_small();
    for warning in &settings.warnings {
        warn!("{warning}");
    }
    let config = settings.broker_config()?;
    if config.chaos && !settings.http.iter().all(|endpoint| endpoint.is_loopback()) {
        return Err(Failure::usage(
            "capek.chaos=true lets everyone who reaches HTTP break this broker: it is refused unless every listener of \
             capek.http.listeners is on localhost",
        ));
    }
    let mut signals = Signals::new()?;
    let sockets = http::bind_all(&settings.http).map_err(Failure::usage)?;
    let http_addresses: Vec<_> = sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect();
    let mut broker = capek_actors::broker::start(config).await.map_err(start_failure)?;
    for topic in &settings.create_topics {
        create_topic(&broker, topic).await;
    }
    let http = HttpServer::start(&broker, &settings.http, sockets)?;
    banner::print(&banner::Ready {
        settings: &settings,
        cluster_id: &broker.shared.cluster_id,
        kafka: &broker.bound,
        http: &http_addresses,
        took: started.elapsed(),
    });
    give_back_code();

    let reason = tokio::select! {
        reason = broker.failed() => Some(reason),
        name = signals.next() => {
            info!("{name}: stopping");
            None
        }
    };
    let stopped = stop(broker, http, &mut signals).await;
    match reason {
        Some(reason) => Err(Failure::usage(format!("the broker stopped: {reason}"))),
        None => stopped,
    }
}

/// Stops in order; a second signal ends the wait, and the process, without the clean mark.
async fn stop(broker: RunningBroker, http: HttpServer, signals: &mut Signals) -> Result<(), Failure> {
    let in_order = async {
        http.stop().await;
        broker.stop().await
    };
    let outcome = tokio::select! {
        outcome = in_order => outcome,
        name = signals.next() => Err(format!("{name} again: stopped at once")),
    };
    outcome.map(|()| info!("stopped")).map_err(Failure::usage)
}

fn start_failure(error: StartError) -> Failure {
    Failure::usage(error.to_string())
}

/// A topic that the environment asks for. It is no reason not to start when it cannot be made.
async fn create_topic(broker: &RunningBroker, topic: &TopicToCreate) {
    let id = topics::new_topic_id();
    let seed = id.0.iter().take(8).fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    let configs = topic.cleanup_policy.iter().map(|policy| ("cleanup.policy".to_owned(), Some(policy.clone())));
    let command = Command::CreateTopic(CreateTopic {
        name: topic.name.clone(),
        id,
        partitions: topic.partitions,
        replication_factor: topic.replication_factor,
        configs: configs.collect(),
        defaults: topics::defaults(&broker.shared),
        seed,
        ..Default::default()
    });
    match topics::propose(&broker.shared, command).await {
        Ok(_) => info!("created topic {} with {} partitions", topic.name, topic.partitions),
        Err(refusal) if refusal.code == ErrorCode::TopicAlreadyExists => {}
        Err(refusal) => warn!("topic {} was not created: {refusal}", topic.name),
    }
}

/// Every connection and every open segment is a descriptor; the usual soft limit of 1024 is soon reached.
fn raise_open_files_limit() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// What the start has run is not run again, and would count as the broker's memory for as long as it lives.
fn give_back_code() {
    if let Err(error) = capek_writeback::give_back_code() {
        log::debug!("the pages of the start stay: {error}");
    }
}

/// With huge pages the kernel gives (and clears) two megabytes where a few kilobytes are used: nearly twice the memory while
/// idle, and measured to take more of the processor under load as well. The allocator does not ask for them (its `no_thp`),
/// but some systems give them unasked.
fn keep_pages_small() {
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        log::debug!("huge pages stay: {error}");
    }
}
