//! From the effective configuration to what the actors are started with.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use capek_actors::config::{BrokerConfig, ClusterConfig, ListenerConfig};
use capek_wire::peer::hello::PEER_LISTENER;

use super::{ConfigProblems, EffectiveConfig, Listener, Settings};

impl Settings {
    /// What the actors need to know; all problems come at once.
    pub fn broker_config(&self) -> Result<BrokerConfig, ConfigProblems> {
        let mut values = Values { config: &self.config, problems: Vec::new() };
        let listeners = self.listeners.iter().map(|listener| values.listener(listener)).collect();
        let cluster = self.cluster(&mut values);
        let config = BrokerConfig {
            node_id: self.node_id,
            cluster_id: self.cluster_id.clone(),
            data_dirs: self.data_dirs.clone(),
            listeners,
            rack: self.config.get("broker.rack").filter(|rack| !rack.is_empty()).map(str::to_owned),
            properties: explicit(&self.config),
            memory_budget_bytes: values.memory_budget_bytes(),
            connections_max: values.count("max.connections"),
            connections_per_ip_max: values.count("max.connections.per.ip"),
            connection_idle_max: values.duration_ms("connections.max.idle.ms"),
            frame_bytes_max: values.count("socket.request.max.bytes"),
            fetch_bytes_max: values.count("fetch.max.bytes"),
            fetch_sessions_max: values.count("max.incremental.fetch.session.cache.slots"),
            journal_file_bytes: values.number("capek.journal.file.bytes"),
            restarts_max: values.count("capek.restart.max"),
            restart_period: values.duration_ms("capek.restart.period.ms"),
            retention_check_interval: values.duration_ms("log.retention.check.interval.ms"),
            auto_create_topics: values.is_on("auto.create.topics.enable"),
            delete_topics: values.is_on("delete.topic.enable"),
            chaos: values.is_on("capek.chaos"),
            cluster,
            data_arbiters: 0,
        };
        if values.problems.is_empty() { Ok(config) } else { Err(ConfigProblems(values.problems)) }
    }
}

impl Settings {
    fn cluster(&self, values: &mut Values) -> Option<ClusterConfig> {
        let own = self.peers.get(&self.node_id)?;
        let listener = Listener {
            name: PEER_LISTENER.to_owned(),
            protocol: if self.peer_tls.is_some() { "SSL" } else { "PLAINTEXT" }.to_owned(),
            bind: self.peer.clone(),
            advertised: own.clone(),
        };
        Some(ClusterConfig {
            peers: self.peers.iter().map(|(broker, endpoint)| (*broker, endpoint.to_string())).collect(),
            listener: values.listener(&listener),
            tls: self.peer_tls.clone(),
            heartbeat_interval: values.duration_ms("broker.heartbeat.interval.ms"),
            session_timeout: values.duration_ms("broker.session.timeout.ms"),
        })
    }
}

/// The values that were set, by the broker's name for them.
fn explicit(config: &EffectiveConfig) -> BTreeMap<String, String> {
    config.explicit().iter().map(|(name, value)| (name.clone(), value.value.clone())).collect()
}

struct Values<'a> {
    config: &'a EffectiveConfig,
    problems: Vec<String>,
}

impl Values<'_> {
    fn number<N: FromStr + Default>(&mut self, name: &str) -> N
    where
        N::Err: Display,
    {
        let text = self.config.get(name).unwrap_or("");
        text.parse().unwrap_or_else(|error| {
            self.problems.push(format!("{name}={text} ({}): {error}", self.config.origin(name)));
            N::default()
        })
    }

    /// Kafka's bounds are signed; -1 and its like stand for no bound.
    fn count(&mut self, name: &str) -> usize {
        usize::try_from(self.number::<i64>(name)).unwrap_or(usize::MAX)
    }

    fn duration_ms(&mut self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.number::<i64>(name)).unwrap_or(u64::MAX))
    }

    fn is_on(&self, name: &str) -> bool {
        self.config.get(name).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    fn memory_budget_bytes(&mut self) -> usize {
        const NAME: &str = "capek.memory.budget.bytes";
        match self.config.get(NAME) {
            Some(text) if !text.is_empty() => self.count(NAME),
            _ => memory_bytes() / 4,
        }
    }

    fn listener(&mut self, listener: &Listener) -> ListenerConfig {
        let bind = listener.bind.bind_addresses().unwrap_or_else(|error| {
            self.problems.push(format!("listener {}: {}: {error}", listener.name, listener.bind));
            Vec::new()
        });
        ListenerConfig {
            name: listener.name.clone(),
            protocol: listener.protocol.clone(),
            bind,
            advertised_host: listener.advertised.host.clone(),
            advertised_port: listener.advertised.port,
        }
    }
}

/// The memory of this machine, or of the container that we are in.
fn memory_bytes() -> usize {
    const WHERE_NOTHING_SAYS: usize = 1 << 30;
    let machine = std::fs::read_to_string("/proc/meminfo").ok().and_then(|text| total_of(&text));
    let container = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits = container.iter().filter_map(|path| limit_of(Path::new(path)));
    limits.chain(machine).min().unwrap_or(WHERE_NOTHING_SAYS)
}

fn total_of(meminfo: &str) -> Option<usize> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kib << 10)
}

/// `max` is no number, and no limit.
fn limit_of(path: &Path) -> Option<usize> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{Sources, load};
    use super::*;

    fn settings(environment: &[(&str, &str)]) -> Settings {
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let loaded = load(&Sources { environment, ..Sources::default() }).unwrap();
        Settings::from_loaded(loaded, "box").unwrap()
    }

    #[test]
    fn the_defaults_are_kafkas() {
        let config = settings(&[]).broker_config().unwrap();
        assert_eq!((config.node_id, config.frame_bytes_max, config.fetch_bytes_max), (1, 104_857_600, 57_671_680));
        assert_eq!((config.auto_create_topics, config.delete_topics, config.chaos), (true, true, false));
        assert_eq!(config.connections_max, 2_147_483_647);
        assert_eq!(config.connection_idle_max, Duration::from_secs(600));
        assert_eq!(config.restarts_max, 3);
        assert!(config.properties.is_empty());
        assert!(config.memory_budget_bytes > 1 << 20);
    }

    #[test]
    fn what_was_set_is_known_by_its_name() {
        let environment = [("KAFKA_LOG_RETENTION_HOURS", "24"), ("CAPEK_MEMORY_BUDGET_BYTES", "33554432")];
        let config = settings(&environment).broker_config().unwrap();
        assert_eq!(config.properties.get("log.retention.hours").map(String::as_str), Some("24"));
        assert_eq!(config.memory_budget_bytes, 32 << 20);
    }

    #[test]
    fn memory_is_read_as_linux_writes_it() {
        assert_eq!(total_of("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 << 20));
        assert_eq!(total_of("nothing"), None);
    }
}
