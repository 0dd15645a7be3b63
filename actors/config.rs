//! What the actors need to know of the configuration; `src/config` makes it from flags, environment and file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use capek_state::cluster::Image;
use capek_state::config::find_broker_config;

use crate::peer_certificates::PeerTlsFiles;

/// Its default depends on how many brokers there are: see [`BrokerConfig::initial_rebalance_delay_ms`].
pub const INITIAL_REBALANCE_DELAY: &str = "group.initial.rebalance.delay.ms";

/// The static configuration of one broker.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    pub node_id: i32,
    /// None: what the data directory says, or a new one.
    pub cluster_id: Option<String>,
    /// At least one.
    pub data_dirs: Vec<PathBuf>,
    /// At least one.
    pub listeners: Vec<ListenerConfig>,
    /// Where HTTP is reached, for those who ask where everything listens.
    pub rack: Option<String>,
    /// Every broker configuration that was set, by Kafka's name: what topics without one of their own fall back on, and what
    /// DescribeConfigs shows as static.
    pub properties: BTreeMap<String, String>,
    /// Requests, answers and what waits for the disk, together.
    pub memory_budget_bytes: usize,
    /// `max.connections`.
    pub connections_max: usize,
    /// `max.connections.per.ip`.
    pub connections_per_ip_max: usize,
    /// `connections.max.idle.ms`.
    pub connection_idle_max: Duration,
    /// `socket.request.max.bytes`.
    pub frame_bytes_max: usize,
    /// `fetch.max.bytes`.
    pub fetch_bytes_max: usize,
    /// `max.incremental.fetch.session.cache.slots`.
    pub fetch_sessions_max: usize,
    /// `capek.journal.file.bytes`.
    pub journal_file_bytes: u64,
    /// `capek.restart.max`.
    pub restarts_max: usize,
    /// `capek.restart.period.ms`.
    pub restart_period: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `delete.topic.enable`.
    pub delete_topics: bool,
    /// `capek.chaos`.
    pub chaos: bool,
    /// None: this broker is by itself.
    pub cluster: Option<ClusterConfig>,
    /// How many arbiters carry data; 0: one up to four cores, then one for each two.
    pub data_arbiters: usize,
}

/// What a broker of several needs to know of the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterConfig {
    /// `capek.cluster.peers`: the address of each broker's peer listener, this one's too.
    pub peers: BTreeMap<i32, String>,
    /// `capek.peer.listener`, with what the others are told.
    pub listener: ListenerConfig,
    /// `capek.peer.tls.*`; None: brokers talk in the clear.
    pub tls: Option<PeerTlsFiles>,
    /// `broker.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `broker.session.timeout.ms`.
    pub session_timeout: Duration,
}

/// A named listener that serves Kafka's protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    pub name: String,
    pub protocol: String,
    /// Where to bind. The first must succeed; of the others (`localhost`'s second family) one may be missing.
    pub bind: Vec<SocketAddr>,
    pub advertised_host: String,
    /// 0: the port that was bound.
    pub advertised_port: u16,
}

impl BrokerConfig {
    /// The number of this name that was set for this broker, or else its default.
    pub fn number(&self, image: &Image, name: &str) -> i64 {
        self.text(image, name).trim().parse().unwrap_or(0)
    }

    /// What was set for this broker under this name, or else its default.
    pub fn text(&self, image: &Image, name: &str) -> String {
        let default = || find_broker_config(name).and_then(|definition| definition.default);
        let explicit = image.broker_value(self.node_id, &self.properties, name);
        explicit.unwrap_or_else(|| default().unwrap_or_default().to_string())
    }

    /// `group.initial.rebalance.delay.ms`: while there is one broker and nobody has set it, nobody waits.
    pub fn initial_rebalance_delay_ms(&self, image: &Image) -> i64 {
        let is_set = image.broker_value(self.node_id, &self.properties, INITIAL_REBALANCE_DELAY).is_some();
        let is_alone = image.brokers().count() <= 1;
        if is_alone && !is_set { 0 } else { self.number(image, INITIAL_REBALANCE_DELAY).max(0) }
    }

    pub fn data_arbiter_count(&self) -> usize {
        if self.data_arbiters > 0 {
            return self.data_arbiters;
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        // Waking a parked thread costs more than one core's worth of small requests saves.
        if cores <= 4 { 1 } else { cores / 2 }
    }
}
