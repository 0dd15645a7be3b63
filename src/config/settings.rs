//! What the effective configuration means for the doors and the start of the broker: listeners parsed, directories, node
//! id, what to create at start. Kafka's own configs travel on by name, untouched.

use std::path::PathBuf;

use capek_actors::peer_certificates::PeerTlsFiles;

use super::listeners::{self, Endpoint, Listener, ListenerConfig};
use super::peer_tls::peer_tls;
use super::peers::{Peers, peers};
use super::{ConfigProblems, EffectiveConfig, Loaded, TopicToCreate};

/// Everything `capek serve` needs to start.
#[derive(Clone, Debug)]
pub struct Settings {
    pub node_id: i32,
    /// From `CLUSTER_ID` or `cluster.id`; without it the data directory decides, or a new one is drawn.
    pub cluster_id: Option<String>,
    pub data_dirs: Vec<PathBuf>,
    pub listeners: Vec<Listener>,
    /// Where HTTP is served. Empty when `capek.http.listeners` is empty.
    pub http: Vec<Endpoint>,
    /// Where other brokers connect. Nothing listens there while there is one broker.
    pub peer: Endpoint,
    /// All brokers of the cluster, this one too; empty: it is by itself.
    pub peers: Peers,
    /// With which brokers talk TLS to each other; None: they talk in the clear.
    pub peer_tls: Option<PeerTlsFiles>,
    pub insecure: bool,
    pub create_topics: Vec<TopicToCreate>,
    /// The values themselves, with their origins.
    pub config: EffectiveConfig,
    /// What the log should say at start.
    pub warnings: Vec<String>,
}

impl Settings {
    /// Interprets a loaded configuration; all problems come at once.
    pub fn from_loaded(loaded: Loaded, host_name: &str) -> Result<Settings, ConfigProblems> {
        let Loaded { config, warnings, create_topics, .. } = loaded;
        let mut problems = Vec::new();
        let node_id = node_id(&config).unwrap_or_else(|problem| note(&mut problems, problem));
        let resolved = listeners::resolve(&listener_config(&config, host_name)).unwrap_or_else(|found| {
            problems.extend(found);
            listeners::Listeners::default()
        });
        let http = http_listeners(config.get("capek.http.listeners").unwrap_or(""))
            .unwrap_or_else(|problem| note(&mut problems, problem));
        let peers = peers(&config, node_id).unwrap_or_else(|problem| note(&mut problems, problem));
        let peer_tls = peer_tls(&config).unwrap_or_else(|problem| note(&mut problems, problem));
        let own = peers.get(&node_id);
        let peer = resolved.peer.map_or_else(|| peer_listener(&config, own), Ok).unwrap_or_else(|problem| {
            problems.push(problem);
            Endpoint { host: "localhost".to_owned(), port: 9190 }
        });
        let mut settings = Settings {
            node_id,
            cluster_id: config.set_value("cluster.id").filter(|id| !id.is_empty()).map(str::to_owned),
            data_dirs: data_dirs(&config),
            listeners: resolved.kafka,
            http,
            peer,
            peers,
            peer_tls,
            insecure: config.is_true("capek.insecure"),
            create_topics,
            config,
            warnings,
        };
        settings.check_exposure(&mut problems);
        if problems.is_empty() { Ok(settings) } else { Err(ConfigProblems(problems)) }
    }

    /// Beyond this machine without authentication only when the owner says so.
    fn check_exposure(&mut self, problems: &mut Vec<String>) {
        let kafka = self.listeners.iter().map(|one| (format!("listener {}", one.name), &one.bind));
        let http = self.http.iter().map(|endpoint| ("HTTP listener".to_owned(), endpoint));
        let has_open_peer_listener = !self.peers.is_empty() && self.peer_tls.is_none();
        let peer = has_open_peer_listener.then(|| ("peer listener".to_owned(), &self.peer));
        let exposed: Vec<String> = kafka
            .chain(http)
            .chain(peer)
            .filter(|(_, endpoint)| !endpoint.is_loopback())
            .map(|(what, endpoint)| format!("{what} ({endpoint})"))
            .collect();
        if exposed.is_empty() {
            return;
        }
        let exposed = exposed.join(", ");
        if self.insecure {
            self.warnings.push(format!("reachable from other machines without authentication: {exposed}"));
        } else {
            problems.push(format!(
                "{exposed}: reachable from other machines without authentication. Listen on localhost, or set \
                 capek.insecure=true (CAPEK_INSECURE=true) if everyone on that network may read and write"
            ));
        }
    }
}

/// The name by which this host is known to others; `localhost` if the system will not say.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// Notes the problem; the value only lets the search for further problems go on.
fn note<T: Default>(problems: &mut Vec<String>, problem: String) -> T {
    problems.push(problem);
    T::default()
}

/// `node.id` and `broker.id` are one thing; -1 leaves the choice to us.
fn node_id(config: &EffectiveConfig) -> Result<i32, String> {
    let parse = |name: &str| -> Result<Option<i32>, String> {
        match config.set_value(name) {
            Some(value) => {
                let id: i32 =
                    value.parse().map_err(|_| format!("{name}={value} ({}): not a number", config.origin(name)))?;
                Ok((id != -1).then_some(id))
            }
            None => Ok(None),
        }
    };
    let id = match (parse("node.id")?, parse("broker.id")?) {
        (Some(node), Some(broker)) if node != broker => {
            // A flag is about this start only: it may overrule what an image or a file says.
            let is_flag = |name: &str| matches!(config.origin(name), super::Origin::Flag(_));
            if is_flag("node.id") && !is_flag("broker.id") {
                node
            } else {
                return Err(format!(
                    "node.id={node} ({}) and broker.id={broker} ({}) are the same setting: remove one",
                    config.origin("node.id"),
                    config.origin("broker.id")
                ));
            }
        }
        (Some(id), _) | (None, Some(id)) => id,
        (None, None) => 1,
    };
    if id < 0 { Err(format!("node.id={id}: a node id is 0 or more")) } else { Ok(id) }
}

fn listener_config<'a>(config: &'a EffectiveConfig, host_name: &'a str) -> ListenerConfig<'a> {
    let given = |name: &str| config.set_value(name).filter(|value| !value.is_empty());
    ListenerConfig {
        listeners: given("listeners"),
        advertised_listeners: given("advertised.listeners"),
        protocol_map: given("listener.security.protocol.map"),
        controller_names: given("controller.listener.names"),
        host_name,
    }
}

fn http_listeners(list: &str) -> Result<Vec<Endpoint>, String> {
    let items = list.split(',').map(str::trim).filter(|item| !item.is_empty());
    items
        .map(|item| {
            if item.starts_with("https://") {
                return Err(format!("capek.http.listeners: {item}: TLS is not built yet: write http://"));
            }
            let endpoint = item.strip_prefix("http://").unwrap_or(item).trim_end_matches('/');
            Endpoint::parse(endpoint).map_err(|problem| format!("capek.http.listeners: {problem}"))
        })
        .collect()
}

/// Where nobody says so, a broker listens where the others look for it.
fn peer_listener(config: &EffectiveConfig, own: Option<&Endpoint>) -> Result<Endpoint, String> {
    if let Some(own) = own.filter(|_| config.set_value("capek.peer.listener").is_none()) {
        return Ok(own.clone());
    }
    let text = config.get("capek.peer.listener").unwrap_or("localhost:9190");
    Endpoint::parse(text).map_err(|problem| format!("capek.peer.listener: {problem}"))
}

fn data_dirs(config: &EffectiveConfig) -> Vec<PathBuf> {
    let list = config.get("log.dirs").unwrap_or("./capek-data");
    let mut dirs: Vec<PathBuf> = Vec::new();
    for dir in list.split(',').map(str::trim).filter(|dir| !dir.is_empty()) {
        let dir = PathBuf::from(dir);
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    dirs
}

#[cfg(test)]
mod tests {
    use super::super::{Origin, Sources, load};
    use super::*;

    fn settings(environment: &[(&str, &str)]) -> Result<Settings, ConfigProblems> {
        let environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Settings::from_loaded(load(&Sources { environment, ..Sources::default() })?, "box")
    }

    /// The single-broker compose that everybody copies, with what our image sets beside it.
    const SEED_COMPOSE: &[(&str, &str)] = &[
        ("KAFKA_BROKER_ID", "1"),
        ("KAFKA_ZOOKEEPER_CONNECT", "zookeeper:2181"),
        ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://kafka:29092,PLAINTEXT_HOST://localhost:9092"),
        ("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP", "PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT"),
        ("KAFKA_INTER_BROKER_LISTENER_NAME", "PLAINTEXT"),
        ("KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_MIN_ISR", "1"),
        ("KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR", "1"),
        ("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0"),
        ("CAPEK_INSECURE", "true"),
        ("CAPEK_HTTP_LISTENERS", "http://0.0.0.0:8080"),
        ("CAPEK_PEER_LISTENER", "0.0.0.0:9190"),
    ];

    #[test]
    fn the_seed_compose_gives_the_expected_configuration() {
        let settings = settings(SEED_COMPOSE).unwrap();
        assert_eq!(settings.node_id, 1);
        let endpoint = |host: &str, port| Endpoint { host: host.to_owned(), port };
        let listener = |name: &str, port, host: &str| Listener {
            name: name.to_owned(),
            protocol: "PLAINTEXT".to_owned(),
            bind: endpoint("0.0.0.0", port),
            advertised: endpoint(host, port),
        };
        let expected = [listener("PLAINTEXT", 29092, "kafka"), listener("PLAINTEXT_HOST", 9092, "localhost")];
        assert_eq!(settings.listeners, expected);
        assert_eq!(settings.http, [endpoint("0.0.0.0", 8080)]);
        assert_eq!(settings.peer, endpoint("0.0.0.0", 9190));
        assert_eq!(
            settings.warnings,
            [
                "KAFKA_ZOOKEEPER_CONNECT has no effect: there is no ZooKeeper here",
                "reachable from other machines without authentication: listener PLAINTEXT (0.0.0.0:29092), listener \
                 PLAINTEXT_HOST (0.0.0.0:9092), HTTP listener (0.0.0.0:8080)"
            ]
        );
        let explicit: Vec<String> =
            settings.config.explicit().iter().map(|(name, value)| format!("{name}={}", value.value)).collect();
        assert_eq!(
            explicit,
            [
                "advertised.listeners=PLAINTEXT://kafka:29092,PLAINTEXT_HOST://localhost:9092",
                "broker.id=1",
                "capek.http.listeners=http://0.0.0.0:8080",
                "capek.insecure=true",
                "capek.peer.listener=0.0.0.0:9190",
                "group.initial.rebalance.delay.ms=0",
                "inter.broker.listener.name=PLAINTEXT",
                "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
                "offsets.topic.replication.factor=1",
                "transaction.state.log.min.isr=1",
                "transaction.state.log.replication.factor=1",
            ]
        );
        let origin = settings.config.origin("broker.id");
        assert_eq!(origin, Origin::Environment("KAFKA_BROKER_ID".to_owned()));
    }

    #[test]
    fn a_compose_with_its_own_controller_is_understood() {
        let settings = settings(&[
            ("KAFKA_NODE_ID", "1"),
            ("KAFKA_PROCESS_ROLES", "broker,controller"),
            (
                "KAFKA_LISTENERS",
                "PLAINTEXT://localhost:29092, CONTROLLER://localhost:29093, PLAINTEXT_HOST://0.0.0.0:9092",
            ),
            ("KAFKA_ADVERTISED_LISTENERS", "PLAINTEXT://kafka:29092,PLAINTEXT_HOST://localhost:9092"),
            (
                "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP",
                "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,PLAINTEXT_HOST:PLAINTEXT",
            ),
            ("KAFKA_CONTROLLER_LISTENER_NAMES", "CONTROLLER"),
            ("KAFKA_CONTROLLER_QUORUM_VOTERS", "1@localhost:29093"),
            ("KAFKA_INTER_BROKER_LISTENER_NAME", "PLAINTEXT"),
            ("KAFKA_CREATE_TOPICS", "orders:3:1,users:1:1:compact"),
            ("CLUSTER_ID", "MkU3OEVBNTcwNTJENDM2Qk"),
            ("CAPEK_INSECURE", "true"),
        ])
        .unwrap();
        let names: Vec<String> =
            settings.listeners.iter().map(|one| format!("{} {}", one.name, one.advertised)).collect();
        assert_eq!(names, ["PLAINTEXT kafka:29092", "PLAINTEXT_HOST localhost:9092"]);
        assert_eq!(settings.peer.to_string(), "localhost:29093");
        assert_eq!(settings.cluster_id.as_deref(), Some("MkU3OEVBNTcwNTJENDM2Qk"));
        assert_eq!(settings.create_topics.len(), 2);
        assert_eq!(settings.warnings.len(), 1, "{:?}", settings.warnings);
    }

    #[test]
    fn nothing_configured_is_one_local_broker() {
        let settings = settings(&[]).unwrap();
        assert_eq!((settings.node_id, settings.insecure, settings.warnings.len()), (1, false, 0));
        assert_eq!(settings.data_dirs, [PathBuf::from("./capek-data")]);
        assert_eq!(settings.http, [Endpoint { host: "localhost".to_owned(), port: 8080 }]);
        assert_eq!(settings.listeners[0].advertised.to_string(), "localhost:9092");
    }

    #[test]
    fn beyond_loopback_needs_a_word() {
        let problems = settings(&[("KAFKA_LISTENERS", "PLAINTEXT://:9092")]).unwrap_err().0;
        assert!(problems[0].contains("capek.insecure=true"), "{problems:?}");
        assert!(settings(&[("CAPEK_HTTP_LISTENERS", "http://10.1.2.3:8080")]).is_err());
        let settings = settings(&[("KAFKA_LISTENERS", "PLAINTEXT://127.0.0.1:9092"), ("CAPEK_HTTP_LISTENERS", "")]);
        assert_eq!(settings.unwrap().http, []);
    }

    #[test]
    fn two_ids_that_differ_are_refused() {
        let problems = settings(&[("KAFKA_BROKER_ID", "1"), ("KAFKA_NODE_ID", "2")]).unwrap_err().0;
        assert!(problems[0].contains("are the same setting"), "{problems:?}");
        assert_eq!(settings(&[("KAFKA_BROKER_ID", "3"), ("KAFKA_NODE_ID", "3")]).unwrap().node_id, 3);
        assert_eq!(settings(&[("KAFKA_BROKER_ID", "-1")]).unwrap().node_id, 1);
    }

    #[test]
    fn a_broker_of_several_listens_where_the_others_look_for_it() {
        let three = ("CAPEK_CLUSTER_PEERS", "1@127.0.0.1:7001,2@127.0.0.1:7002,3@127.0.0.1:7003");
        let settings = |environment: &[(&str, &str)]| settings(&[&[three], environment].concat());
        assert_eq!(settings(&[]).unwrap().peer.to_string(), "127.0.0.1:7001");
        assert_eq!(settings(&[("CAPEK_PEER_LISTENER", "localhost:7009")]).unwrap().peer.to_string(), "localhost:7009");
        let problems = settings(&[("CAPEK_PEER_LISTENER", "0.0.0.0:7001")]).unwrap_err().0;
        assert!(problems[0].contains("peer listener (0.0.0.0:7001)"), "{problems:?}");
        let tls = ["CERT", "KEY", "CA"].map(|file| (format!("CAPEK_PEER_TLS_{file}"), format!("{file}.pem")));
        let tls = tls.iter().map(|(name, file)| (&**name, &**file));
        let with_tls: Vec<_> = tls.chain([("CAPEK_PEER_LISTENER", "0.0.0.0:7001")]).collect();
        assert!(settings(&with_tls).unwrap().peer_tls.is_some(), "with TLS it is no open door");
    }

    #[test]
    fn directories_are_a_list() {
        let settings = settings(&[("KAFKA_LOG_DIRS", "/a, /b,/a"), ("KAFKA_LOG_DIR", "/c")]).unwrap();
        assert_eq!(settings.data_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    }
}
