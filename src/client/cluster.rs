//! The cluster as one thing to talk to: connections to its brokers, its metadata, and trying again where that helps.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use capek_wire::messages::metadata::MetadataRequestTopic;
use capek_wire::messages::{MetadataRequest, MetadataResponse};
use capek_wire::{ErrorCode, Str, Uuid};
use tokio::time::Instant;

use super::connection::{Connection, ConnectionOptions};
use super::error::ClientError;
use super::metadata::{ClusterMetadata, TopicMetadata};

const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_LAST: Duration = Duration::from_millis(1000);

#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `host:port`, tried in order.
    pub bootstrap: Vec<String>,
    /// How long retries go on, all in all, for one call.
    pub retry_timeout: Duration,
    pub connection: ConnectionOptions,
    /// Whether asking for a topic's metadata may create it.
    pub auto_create_topics: bool,
}

/// A cluster. Clones share connections and metadata.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    options: ClientOptions,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    bootstrap: Option<Connection>,
    brokers: BTreeMap<i32, Connection>,
    metadata: ClusterMetadata,
}

impl ClientOptions {
    /// Bootstrap addresses as the command line has them: a list, port 9092 where none is given.
    pub fn new(bootstrap: &str, timeout: Duration) -> ClientOptions {
        let addresses = bootstrap.split(',').map(str::trim).filter(|address| !address.is_empty());
        ClientOptions {
            bootstrap: addresses.map(with_port).collect(),
            retry_timeout: timeout,
            connection: ConnectionOptions {
                client_id: "capek".to_owned(),
                connect_timeout: timeout.min(Duration::from_secs(10)),
                request_timeout: timeout,
                in_flight_max: 64,
            },
            auto_create_topics: false,
        }
    }
}

fn with_port(address: &str) -> String {
    let bare_ipv6 = address.parse::<std::net::Ipv6Addr>().is_ok();
    let has_port = !bare_ipv6 && address.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    match (bare_ipv6, has_port) {
        (true, _) => format!("[{address}]:9092"),
        (_, true) => address.to_owned(),
        _ => format!("{address}:9092"),
    }
}

/// `[::1]:9092` and `localhost:9092` as host and port.
fn split_address(address: &str) -> Result<(&str, u16), ClientError> {
    let split = address.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?)));
    let (host, port) = split.ok_or_else(|| ClientError::Invalid(format!("'{address}' is not HOST:PORT")))?;
    Ok((host.trim_start_matches('[').trim_end_matches(']'), port))
}

impl Client {
    /// Connects to the first bootstrap address that answers.
    pub async fn connect(options: ClientOptions) -> Result<Client, ClientError> {
        let client = Client { shared: Arc::new(Shared { options, state: Mutex::default() }) };
        client.bootstrap().await?;
        Ok(client)
    }

    pub fn options(&self) -> &ClientOptions {
        &self.shared.options
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    async fn bootstrap(&self) -> Result<Connection, ClientError> {
        let mut last = ClientError::Invalid("no bootstrap address given".to_owned());
        for address in &self.shared.options.bootstrap {
            let hint = |error: &std::io::Error| bootstrap_hint(error, address);
            let whom = format!("broker {address}");
            let options = self.shared.options.connection.clone();
            match Connection::open(split_address(address)?, whom, &hint, options).await {
                Ok(connection) => {
                    self.state().bootstrap = Some(connection.clone());
                    return Ok(connection);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// A connection to any broker.
    pub async fn any(&self) -> Result<Connection, ClientError> {
        let open = {
            let state = self.state();
            let known = state.bootstrap.iter().chain(state.brokers.values());
            known.into_iter().find(|connection| connection.is_open()).cloned()
        };
        match open {
            Some(connection) => Ok(connection),
            None => self.bootstrap().await,
        }
    }

    /// The connection to a broker by id, opened if need be.
    pub async fn broker(&self, id: i32) -> Result<Connection, ClientError> {
        if let Some(connection) = self.state().brokers.get(&id).filter(|connection| connection.is_open()) {
            return Ok(connection.clone());
        }
        let connection = self.open_broker(id).await?;
        self.state().brokers.insert(id, connection.clone());
        Ok(connection)
    }

    /// A connection of its own to a broker: for work that must not queue behind other work.
    pub async fn open_broker(&self, id: i32) -> Result<Connection, ClientError> {
        let broker = self.state().metadata.brokers.get(&id).cloned();
        let broker = match broker {
            Some(broker) => broker,
            None => {
                self.refresh(Some(&[])).await?;
                let broker = self.state().metadata.brokers.get(&id).cloned();
                broker.ok_or_else(|| ClientError::NotFound(format!("there is no broker {id} in the cluster")))?
            }
        };
        let whom = format!("broker {id} ({}:{})", broker.host, broker.port);
        let hint = |error: &std::io::Error| advertised_hint(error, id, &broker.host, broker.port);
        Connection::open((&broker.host, broker.port), whom, &hint, self.shared.options.connection.clone()).await
    }

    /// The broker that takes changes of topics and configs; any broker where none is named, or one that has just gone.
    pub async fn controller(&self) -> Result<Connection, ClientError> {
        if self.state().metadata.brokers.is_empty() {
            self.refresh(Some(&[])).await?;
        }
        let controller_id = {
            let metadata = &self.state().metadata;
            Some(metadata.controller_id).filter(|id| metadata.brokers.contains_key(id))
        };
        match controller_id {
            Some(id) => self.broker(id).await,
            None => self.any().await,
        }
    }

    /// Asks for metadata: of all topics, or of those named.
    pub async fn refresh(&self, topics: Option<&[String]>) -> Result<ClusterMetadata, ClientError> {
        let connection = self.any().await?;
        let request = self.metadata_request(topics);
        let response: MetadataResponse = connection.call(&request).await?;
        super::error::check(connection.whom(), "Metadata", response.error_code, None)?;
        let mut state = self.state();
        if topics.is_none() {
            state.metadata.topics.clear();
        }
        state.metadata.update(response);
        Ok(state.metadata.clone())
    }

    fn metadata_request(&self, topics: Option<&[String]>) -> MetadataRequest {
        let by_name = |name: &String| MetadataRequestTopic { name: Some(Str::from(name)), ..Default::default() };
        MetadataRequest {
            topics: topics.map(|names| names.iter().map(by_name).collect()),
            allow_auto_topic_creation: self.shared.options.auto_create_topics,
            ..Default::default()
        }
    }

    /// The metadata of a topic, from the cache if it is there and sound. A topic that does not exist is an error, unless
    /// asking for it creates it: then this waits until it is there.
    pub async fn topic(&self, name: &str) -> Result<TopicMetadata, ClientError> {
        if let Some(topic) = self.state().metadata.topics.get(name).filter(|topic| is_sound(topic)) {
            return Ok(topic.clone());
        }
        let names = [name.to_owned()];
        self.retry("Metadata", || async {
            let metadata = self.refresh(Some(&names)).await?;
            let topic = metadata.topics.get(name);
            let code = topic.map_or(ErrorCode::UnknownTopicOrPartition, |topic| topic.error);
            match (code, topic) {
                (ErrorCode::None, Some(topic)) if is_sound(topic) => Ok(topic.clone()),
                (ErrorCode::UnknownTopicOrPartition, _) if !self.shared.options.auto_create_topics => {
                    Err(ClientError::NotFound(format!("topic '{name}' does not exist")))
                }
                (ErrorCode::None, _) => Err(self.refusal("Metadata", ErrorCode::LeaderNotAvailable, name)),
                (code, _) => Err(self.refusal("Metadata", code, name)),
            }
        })
        .await
    }

    fn refusal(&self, doing: &str, code: ErrorCode, topic: &str) -> ClientError {
        let doing = format!("{doing} of topic '{topic}'");
        ClientError::refused("the cluster", &doing, code, None)
    }

    /// Forgets what is known about a topic: the next call asks again.
    pub fn forget(&self, topic: &str) {
        self.state().metadata.topics.remove(topic);
    }

    /// The leader of a partition and the topic's id.
    pub async fn leader(&self, topic: &str, partition: i32) -> Result<(i32, Uuid), ClientError> {
        let known = self
            .state()
            .metadata
            .topics
            .get(topic)
            .and_then(|topic| Some((topic.partitions.get(&partition)?.leader, topic.id)));
        if let Some((leader, topic_id)) = known.filter(|(leader, _)| *leader >= 0) {
            return Ok((leader, topic_id));
        }
        let metadata = self.topic(topic).await?;
        let Some(found) = metadata.partitions.get(&partition) else {
            let count = metadata.partitions.len();
            let message = format!("topic '{topic}' has no partition {partition}: it has {count}, counted from 0");
            return Err(ClientError::NotFound(message));
        };
        if found.leader < 0 {
            self.forget(topic);
            let doing = format!("finding the leader of {topic}-{partition}");
            return Err(ClientError::refused("the cluster", &doing, ErrorCode::LeaderNotAvailable, None));
        }
        Ok((found.leader, metadata.id))
    }

    /// Calls until it works, fails for good, or time is up. Between tries it waits, each time longer.
    pub async fn retry<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        doing: &str,
        call: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        self.retry_while(doing, ClientError::is_retriable, call).await
    }

    /// As [`Client::retry`], where a topic that is not there is an answer: nobody waits for it to come.
    pub async fn retry_known<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        doing: &str,
        call: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        let helps =
            |error: &ClientError| error.is_retriable() && error.code() != Some(ErrorCode::UnknownTopicOrPartition);
        self.retry_while(doing, helps, call).await
    }

    async fn retry_while<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        doing: &str,
        helps: impl Fn(&ClientError) -> bool,
        mut call: impl FnMut() -> F,
    ) -> Result<T, ClientError> {
        let deadline = Instant::now() + self.shared.options.retry_timeout;
        let mut backoff = BACKOFF_FIRST;
        loop {
            let error = match call().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if !helps(&error) || Instant::now() + backoff > deadline {
                return Err(error);
            }
            log::debug!("{doing} failed, trying again in {backoff:?}: {error}");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_LAST);
        }
    }
}

/// Usable for routing. A partition may be without a leader all the same: the others go on.
fn is_sound(topic: &TopicMetadata) -> bool {
    topic.error == ErrorCode::None && !topic.partitions.is_empty()
}

fn bootstrap_hint(error: &std::io::Error, address: &str) -> Option<String> {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => Some(format!(
            "nothing listens at {address}: start a broker there (capek serve), or name another with -b HOST:PORT"
        )),
        std::io::ErrorKind::TimedOut => Some("a firewall, or a wrong address given with -b?".to_owned()),
        _ => Some("check the address given with -b (or CAPEK_BOOTSTRAP)".to_owned()),
    }
}

/// The first failure that everybody meets with containers: the bootstrap works, the advertised address does not.
fn advertised_hint(error: &std::io::Error, id: i32, host: &str, port: u16) -> Option<String> {
    let what = match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "where nothing listens",
        std::io::ErrorKind::TimedOut => "which does not answer from here",
        _ => "which this host cannot resolve or reach",
    };
    Some(format!(
        "broker {id} advertised {host}:{port}, {what}: bootstrap from a listener whose advertised address works from \
         here, or correct the broker's advertised.listeners"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_port() {
        for (given, expected) in [
            ("localhost", ("localhost", 9092)),
            ("localhost:19092", ("localhost", 19092)),
            ("::1", ("::1", 9092)),
            ("[::1]:19092", ("::1", 19092)),
        ] {
            assert_eq!(split_address(&with_port(given)).unwrap(), expected, "{given}");
        }
    }
}
