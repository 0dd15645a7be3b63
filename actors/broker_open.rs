//! The first half of a start: data directories are opened (and recovered if need be), sockets bound, and the metadata is there:
//! from this broker's own file, or from the quorum that it has joined.

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use actix::Addr;
use capek_log::vfs::RealVfs;
use capek_log::{Journal, JournalOptions, LogId, OpenError, Recovery};
use capek_state::cluster::{Command, Delta, Endpoint, Image, PartitionRecord, Record, RegisterBroker, decide};
use capek_state::config::Flush;
use capek_wire::ids::{BrokerId, PartitionIndex, TopicId, Uuid};
use log::{error, info, warn};

use crate::broker::{Broker, StartError};
use crate::broker_children::cluster_dir;
use crate::census::Census;
use crate::cluster_start::{self, Joined, check_alone};
use crate::config::{BrokerConfig, ClusterConfig, ListenerConfig};
use crate::controller::{Alone, Ledger};
use crate::features;
use crate::journal::JournalHandle;
use crate::meta_log::MetaLog;
use crate::replica_logs;
use crate::sockets::{Bound, bind_all, listen_all, with_bound_ports};

pub struct OpenedDir {
    pub engine: Journal,
    pub logs: Vec<LogId>,
    was_clean: bool,
}

/// What the data directories tell of the last life.
struct Found {
    was_clean: bool,
    /// The ids of the directories.
    dirs: Vec<Uuid>,
    /// The logs that cannot be opened.
    damaged: Vec<(TopicId, PartitionIndex)>,
}

impl Default for Found {
    fn default() -> Found {
        Found { was_clean: true, dirs: Vec::new(), damaged: Vec::new() }
    }
}

pub struct Opened {
    pub dirs: Vec<OpenedDir>,
    pub was_clean: bool,
    pub image: Arc<Image>,
    /// From nothing to the image.
    pub delta: Delta,
    pub ledger: Ledger,
    pub joined: Option<Joined>,
}

pub type Prepared = (Opened, Arc<BrokerConfig>, Bound);

/// A broker by itself: its file is the metadata log.
pub fn open_alone(config: BrokerConfig) -> Result<Prepared, StartError> {
    check_alone(&cluster_dir(&config))?;
    let cluster_id = known_cluster_id(&config).unwrap_or_else(|| Uuid(crate::random::bytes()).to_string());
    let (dirs, found) = open_dirs(&config, &cluster_id)?;
    let (mut log, records) = MetaLog::open(&cluster_dir(&config))?;
    let (mut image, mut delta) = (Image::default(), Delta::default());
    records.iter().for_each(|record| image.apply_into(record, &mut delta));
    if records.is_empty() {
        change(&mut log, &mut image, &mut delta, &Command::CreateCluster { cluster_id })?;
    }
    let (dirs, sockets) = bind_or_close(dirs, &config.listeners)?;
    if let Err(error) = listen_all(&sockets) {
        close_unused(dirs);
        return Err(error);
    }
    let config = Arc::new(with_bound_ports(config, &sockets));
    register(&config, &mut log, &mut image, &mut delta, &found)?;
    let image = Arc::new(image);
    let ledger = Ledger::Alone(Alone { log, image: image.clone() });
    Ok((Opened { dirs, was_clean: found.was_clean, image, delta, ledger, joined: None }, config, sockets))
}

/// One of several: the quorum has the metadata log, and may have to name the cluster first.
pub async fn open_in_cluster(
    config: BrokerConfig,
    cluster: &ClusterConfig,
    broker: &Addr<Broker>,
    census: &Census,
) -> Result<Prepared, StartError> {
    let known = known_cluster_id(&config);
    let opened = known.as_ref().map(|cluster_id| open_dirs(&config, cluster_id)).transpose()?;
    let (dirs, found) = opened.unwrap_or_default();
    let all: Vec<_> = std::iter::once(&cluster.listener).chain(&config.listeners).cloned().collect();
    let (mut dirs, mut sockets) = bind_or_close(dirs, &all)?;
    let peer_sockets = vec![sockets.remove(0)];
    if let Err(error) = listen_all(&peer_sockets) {
        close_unused(dirs);
        return Err(error);
    }
    let peer_sockets = peer_sockets.into_iter().flat_map(|(_, sockets)| sockets).collect();
    let config = Arc::new(with_bound_ports(config, &sockets));
    let joined = match cluster_start::join(&config, cluster, known, peer_sockets, broker, census).await {
        Ok(joined) => joined,
        Err(error) => {
            close_unused(dirs);
            return Err(error);
        }
    };
    let mut found = found;
    if dirs.is_empty() {
        (dirs, found) = open_dirs(&config, &joined.cluster_id)?;
    }
    if !found.was_clean {
        found.damaged.extend(unsynced(&config, &joined.quorum.image(), &dirs));
    }
    let image = cluster_start::register(&joined, registration(&config, joined.me.incarnation, &found)).await?;
    let delta = Delta::between(&Image::default(), &image);
    let ledger = Ledger::Quorum(joined.quorum.clone());
    Ok((Opened { dirs, was_clean: found.was_clean, image, delta, ledger, joined: Some(joined) }, config, sockets))
}

fn bind_or_close(dirs: Vec<OpenedDir>, listeners: &[ListenerConfig]) -> Result<(Vec<OpenedDir>, Bound), StartError> {
    match bind_all(listeners) {
        Ok(sockets) => Ok((dirs, sockets)),
        Err(error) => {
            close_unused(dirs);
            Err(error)
        }
    }
}

fn known_cluster_id(config: &BrokerConfig) -> Option<String> {
    config.cluster_id.clone().or_else(|| config.data_dirs.iter().find_map(|dir| cluster_id_of(dir)))
}

/// The logs that this broker did not sync, by a configuration that is perhaps only its own: the controller knows the others.
fn unsynced(config: &BrokerConfig, image: &Image, dirs: &[OpenedDir]) -> Vec<(TopicId, PartitionIndex)> {
    let is_async =
        |log: &&LogId| image.topic_config(&log.topic, config.node_id, &config.properties).flush == Flush::Async;
    let logs = dirs.iter().flat_map(|dir| &dir.logs).filter(is_async);
    logs.map(|log| (log.topic_id, log.partition)).collect()
}

/// Opens (and if need be recovers) every data directory, all at a time: they may be on disks of their own.
fn open_dirs(config: &BrokerConfig, cluster_id: &str) -> Result<(Vec<OpenedDir>, Found), StartError> {
    let opened: Vec<_> = thread::scope(|scope| {
        let opening: Vec<_> =
            config.data_dirs.iter().map(|path| scope.spawn(|| open_dir(config, path, cluster_id))).collect();
        opening.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    let (mut dirs, mut refused) = (Vec::new(), None);
    let mut found = Found::default();
    for (path, opened) in config.data_dirs.iter().zip(opened) {
        let (engine, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                refused.get_or_insert(error);
                continue;
            }
        };
        found.was_clean &= recovery.clean;
        let dir: Option<Uuid> = property_of(path, "directory.id").and_then(|id| id.parse().ok());
        found.dirs.extend(dir);
        for log in recovery.logs.iter().filter(|log| log.damaged.is_some()) {
            let reason = log.damaged.as_deref().unwrap_or_default();
            error!("{}-{} is damaged: {reason}", log.id.topic, log.id.partition);
            found.damaged.push((log.id.topic_id, log.id.partition));
        }
        if !recovery.clean {
            info!("{}: recovered, {} journal entries replayed", path.display(), recovery.replayed_entries);
        }
        let logs = recovery.logs.into_iter().map(|log| log.id).collect();
        dirs.push(OpenedDir { engine, logs, was_clean: recovery.clean });
    }
    if let Some(error) = refused {
        close_unused(dirs);
        return Err(error.into());
    }
    Ok((dirs, found))
}

/// What was set in the cluster is not known yet: these settings are the broker's own.
fn open_dir(config: &BrokerConfig, path: &Path, cluster_id: &str) -> Result<(Journal, Recovery), OpenError> {
    let own = Image::default();
    let options = JournalOptions {
        file_bytes: config.journal_file_bytes,
        stray_delay_ms: config.number(&own, "log.segment.delete.delay.ms"),
        recovery_threads: config.number(&own, "num.recovery.threads.per.data.dir") as usize,
        ..JournalOptions::new(path, config.node_id, cluster_id)
    };
    Journal::open(Arc::new(RealVfs), options)
}

/// The cluster that a directory belongs to, if it was used before; `Journal::open` checks the file in full.
fn cluster_id_of(dir: &Path) -> Option<String> {
    property_of(dir, "cluster.id")
}

fn property_of(dir: &Path, name: &str) -> Option<String> {
    let properties = std::fs::read_to_string(dir.join("meta.properties")).ok()?;
    let lines = properties.lines().filter_map(|line| line.split_once('='));
    lines.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value.trim().to_string())
}

/// A change of metadata before there is a controller to ask.
fn change(log: &mut MetaLog, image: &mut Image, delta: &mut Delta, command: &Command) -> Result<(), StartError> {
    let decision = decide(image, command).map_err(StartError::Metadata)?;
    log.append(&decision.records)?;
    for record in &decision.records {
        image.apply_into(record, delta);
    }
    Ok(())
}

/// This process is the broker of this id from now on, with these listeners.
fn registration(config: &BrokerConfig, incarnation: Uuid, found: &Found) -> RegisterBroker {
    let endpoint = |listener: &ListenerConfig| Endpoint {
        name: listener.name.clone(),
        protocol: listener.protocol.clone(),
        host: listener.advertised_host.clone(),
        port: listener.advertised_port,
    };
    let peer = config.cluster.iter().map(|cluster| &cluster.listener);
    RegisterBroker {
        broker: config.node_id,
        incarnation,
        listeners: config.listeners.iter().chain(peer).map(endpoint).collect(),
        rack: config.rack.clone(),
        dirs: found.dirs.clone(),
        fenced: config.cluster.is_some(),
        previous_is_gone: true, // the lock of the data directory says so
        previous_epoch: None,   // whoever proposes it knows
        unclean: !found.was_clean,
        damaged: found.damaged.clone(),
    }
}

fn register(
    config: &BrokerConfig,
    log: &mut MetaLog,
    image: &mut Image,
    delta: &mut Delta,
    found: &Found,
) -> Result<(), StartError> {
    let registration = registration(config, Uuid(crate::random::bytes()), found);
    change(log, image, delta, &Command::RegisterBroker(registration))?;
    for command in features::undecided(image) {
        change(log, image, delta, &command)?;
    }
    if !found.was_clean {
        let bumped = bumped_async_partitions(config, image);
        log.append(&bumped)?;
        bumped.iter().for_each(|record| image.apply_into(record, delta));
    }
    Ok(())
}

/// An `async` log may have lost what its readers saw: a new leader epoch, before the first append, tells them so (KIP-320).
fn bumped_async_partitions(config: &BrokerConfig, image: &Image) -> Vec<Record> {
    let mut bumped = Vec::new();
    for topic in image.topics() {
        let flush = image.topic_config(&topic.name, config.node_id, &config.properties).flush;
        if flush != Flush::Async {
            continue;
        }
        for (index, partition) in topic.partitions.iter().enumerate() {
            bumped.push(Record::Partition(PartitionRecord {
                topic_id: topic.id,
                partition: index as i32,
                replicas: partition.replicas.clone(),
                isr: partition.isr.clone(),
                leader: partition.leader,
                leader_epoch: partition.leader_epoch + 1,
                partition_epoch: partition.partition_epoch + 1,
                dirs: partition.dirs.clone(),
            }));
        }
    }
    bumped
}

/// Logs of partitions that went to other brokers, or whose topic was deleted, while this one was away. The image has this life's
/// registration, so whatever took them away is in it.
pub async fn set_strays_aside(journal: &JournalHandle, logs: &[LogId], image: &Image, me: BrokerId) {
    let is_held = |log: &&LogId| {
        let partition = image.partition(log.topic_id, log.partition);
        partition.is_some_and(|partition| partition.replicas.contains(&me))
    };
    let strays: Vec<_> = logs.iter().filter(|log| !is_held(log)).cloned().collect();
    if !strays.is_empty() {
        replica_logs::set_aside(journal, strays).await;
    }
}

/// The start fails after the directories were opened: they were not changed, so the clean mark comes back where it was. The next
/// start must find out, too, where it was not: what was not synced may be gone.
fn close_unused(dirs: Vec<OpenedDir>) {
    for dir in dirs.into_iter().filter(|dir| dir.was_clean) {
        if let Err(error) = dir.engine.close() {
            warn!("a data directory was not closed cleanly: {error}");
        }
    }
}
