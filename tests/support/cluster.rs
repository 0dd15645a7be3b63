//! Brokers of one cluster: real processes on free ports, with ids from 1 on. They can be killed, stopped, paused and started
//! again, each by itself; what is asked of them here is asked by hand-made frames.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::network::Network;
use crate::support::broker::{Broker, Directory, free_port};
use crate::support::frames::{Answer, CREATE_TOPICS, DESCRIBE_CLUSTER, Fields, METADATA, RawClient};
use crate::support::wait_for;

/// A few seconds instead of many, so that a test sees sessions end.
pub const TIMES: [&str; 3] =
    ["broker.session.timeout.ms=3000", "broker.heartbeat.interval.ms=500", "replica.lag.time.max.ms=2000"];
pub const SESSION: Duration = Duration::from_secs(3);

/// An election, a session and a round of replication, on a machine that does much else.
pub const HEALED_WITHIN: Duration = Duration::from_secs(30);
/// A broker that is paused answers nobody.
const PATIENCE: Duration = Duration::from_secs(2);

pub struct Cluster {
    brokers: Vec<Broker>,
    peers: BTreeMap<i32, String>,
}

/// What one broker says of the cluster and a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Those in the cluster.
    pub brokers: Vec<i32>,
    /// Those whose addresses clients are told: who has just left, too.
    pub named: Vec<i32>,
    pub controller: i32,
    /// Those that were asked for.
    pub topics: Vec<String>,
    /// Empty when the topic is not known.
    pub partitions: BTreeMap<i32, PartitionView>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartitionView {
    pub leader: i32,
    pub replicas: Vec<i32>,
    pub in_sync: Vec<i32>,
}

impl Cluster {
    pub fn start() -> Cluster {
        Cluster::start_with(3, &[])
    }

    pub fn start_with(count: i32, settings: &[&str]) -> Cluster {
        let mut cluster = Cluster::prepare(count, settings);
        cluster.start_all();
        cluster
    }

    pub fn prepare(count: i32, settings: &[&str]) -> Cluster {
        let peers = (1..=count).map(|id| (id, format!("127.0.0.1:{}", free_port()))).collect();
        Cluster::prepare_at(peers, |_| Vec::new(), settings)
    }

    /// Three brokers with the times that a cluster has when nobody sets them.
    pub fn with_usual_times() -> Cluster {
        let peers = (1..=3).map(|id| (id, format!("127.0.0.1:{}", free_port()))).collect();
        let mut cluster = Cluster::make(peers, |_| Vec::new(), &[]);
        cluster.start_all();
        cluster
    }

    /// Its brokers reach each other through this network only.
    pub fn behind(network: &Network, settings: &[&str]) -> Cluster {
        let listener = |id: i32| vec![format!("capek.peer.listener={}", network.listeners[&id])];
        let mut cluster = Cluster::prepare_at(network.relays.clone(), listener, settings);
        cluster.start_all();
        cluster
    }

    /// `peers`: where each is reached by the others; `own`: settings of one broker.
    pub fn prepare_at(peers: BTreeMap<i32, String>, own: impl Fn(i32) -> Vec<String>, settings: &[&str]) -> Cluster {
        let settings: Vec<&str> = TIMES.into_iter().chain(settings.iter().copied()).collect();
        Cluster::make(peers, own, &settings)
    }

    fn make(peers: BTreeMap<i32, String>, own: impl Fn(i32) -> Vec<String>, settings: &[&str]) -> Cluster {
        let list: Vec<String> = peers.iter().map(|(id, address)| format!("{id}@{address}")).collect();
        let list = format!("capek.cluster.peers={}", list.join(","));
        let brokers = peers.keys().map(|id| {
            let own = own(*id);
            let own = own.iter().map(String::as_str);
            let all: Vec<&str> = settings.iter().copied().chain([&*list]).chain(own).collect();
            let directory = Directory::new();
            let data_dir = directory.path().join("data");
            let mut broker = Broker::prepare(directory, data_dir, &all);
            broker.set_node_id(*id);
            broker
        });
        Cluster { brokers: brokers.collect(), peers }
    }

    /// All that do not run, together, until each knows all the others.
    pub fn start_all(&mut self) {
        for id in self.ids() {
            if !self.broker_mut(id).is_running() {
                self.broker_mut(id).spawn();
            }
        }
        self.wait_until_whole();
    }

    pub fn wait_until_whole(&mut self) {
        self.brokers.iter_mut().for_each(Broker::wait_until_it_answers);
        for id in self.ids() {
            wait_for("the broker knows all the others", HEALED_WITHIN, || {
                (self.view_of(id, "")?.brokers == self.ids()).then_some(())
            });
        }
    }

    /// Those that run answer, and each says of all of them what the others say.
    pub fn wait_until_settled(&mut self) {
        let running = self.running();
        running.iter().for_each(|id| self.broker_mut(*id).wait_until_it_answers());
        wait_for("all brokers see each other", HEALED_WITHIN, || {
            let views: Option<Vec<View>> = running.iter().map(|id| self.view_of(*id, "")).collect();
            views?.iter().all(|view| view.brokers == running && view.controller > 0).then_some(())
        });
    }

    /// Started, and not killed or stopped since.
    pub fn running(&self) -> Vec<i32> {
        self.ids().into_iter().filter(|id| self.broker(*id).is_started()).collect()
    }

    /// As `capek cluster add` and `capek.cluster.peers` name it.
    pub fn peer(&self, id: i32) -> String {
        format!("{id}@{}", self.peers[&id])
    }

    pub fn ids(&self) -> Vec<i32> {
        self.peers.keys().copied().collect()
    }

    /// All but these.
    pub fn others(&self, but: &[i32]) -> Vec<i32> {
        self.ids().into_iter().filter(|id| !but.contains(id)).collect()
    }

    pub fn broker(&self, id: i32) -> &Broker {
        &self.brokers[id as usize - 1]
    }

    pub fn broker_mut(&mut self, id: i32) -> &mut Broker {
        &mut self.brokers[id as usize - 1]
    }

    pub fn kill(&mut self, id: i32) {
        self.broker_mut(id).kill();
    }

    /// On its ports and its directory; waits until it serves clients.
    pub fn start_again(&mut self, id: i32) {
        self.broker_mut(id).start_again();
    }

    pub fn bootstrap(&self) -> String {
        self.brokers.iter().map(Broker::kafka).collect::<Vec<_>>().join(",")
    }

    pub fn client(&self, id: i32) -> RawClient {
        self.broker(id).client()
    }

    /// The first that answers.
    pub fn view(&self, topic: &str) -> Option<View> {
        self.ids().into_iter().find_map(|id| self.view_of(id, topic))
    }

    /// None: it does not answer.
    pub fn view_of(&self, id: i32, topic: &str) -> Option<View> {
        let asked = Fields::default().i32(i32::from(!topic.is_empty()));
        self.ask_metadata(id, if topic.is_empty() { asked } else { asked.string(topic) })
    }

    /// All topics that it knows; None: it does not answer.
    pub fn topics_of(&self, id: i32) -> Option<Vec<String>> {
        Some(self.ask_metadata(id, Fields::default().i32(-1))?.topics)
    }

    fn ask_metadata(&self, id: i32, asked: Fields) -> Option<View> {
        let mut client = RawClient::try_connect(&self.broker(id).kafka())?;
        client.set_patience(PATIENCE);
        let mut view = view(&mut client.try_call(METADATA, 1, asked)?);
        view.brokers = members(&mut client.try_call(DESCRIBE_CLUSTER, 0, Fields::default().i8(0).i8(0).i8(0))?);
        Some(view)
    }

    /// As one of these brokers says.
    pub fn leader(&self, topic: &str, partition: i32) -> i32 {
        self.leader_but(topic, partition, &[])
    }

    /// A leader that is none of these.
    pub fn leader_but(&self, topic: &str, partition: i32, not: &[i32]) -> i32 {
        wait_for("the partition has a leader", HEALED_WITHIN, || {
            let asked = self.others(not).into_iter().find_map(|id| self.view_of(id, topic))?;
            let leader = asked.partitions.get(&partition)?.leader;
            (leader >= 0 && !not.contains(&leader)).then_some(leader)
        })
    }

    /// Which all that run agree on.
    pub fn controller(&self) -> i32 {
        wait_for("there is a controller", HEALED_WITHIN, || {
            let views: Option<Vec<View>> = self.running().into_iter().map(|id| self.view_of(id, "")).collect();
            let controllers: Vec<i32> = views?.iter().map(|view| view.controller).collect();
            let first = *controllers.first()?;
            (first > 0 && controllers.iter().all(|controller| *controller == first)).then_some(first)
        })
    }

    /// None of these.
    pub fn controller_but(&self, not: &[i32]) -> i32 {
        wait_for("there is a controller", HEALED_WITHIN, || {
            let view = self.others(not).into_iter().find_map(|id| self.view_of(id, ""))?;
            (view.controller >= 0 && !not.contains(&view.controller)).then_some(view.controller)
        })
    }

    /// Three replicas of which two must have what is confirmed.
    pub fn create_topic(&self, topic: &str, partitions: i32) {
        self.create_topic_at(1, topic, (partitions, 3), &[("min.insync.replicas", "2")]);
        self.wait_until_in_sync(topic, partitions);
    }

    /// By a broker of one's choice, which may be in the middle of an election; partitions and replicas.
    pub fn create_topic_at(&self, id: i32, topic: &str, shape: (i32, i16), configs: &[(&str, &str)]) {
        let made = || {
            let error = try_create_topic(&mut self.client(id), topic, shape.0, shape.1, configs)?;
            (error != REQUEST_TIMED_OUT).then_some(error)
        };
        let error = wait_for("the topic is made", HEALED_WITHIN, made);
        // An earlier try may have been late, not in vain.
        assert!([0, TOPIC_ALREADY_EXISTS].contains(&error), "creating {topic}: {error}");
    }

    /// Every broker that runs says that every partition has a leader and all of its replicas are in sync.
    pub fn wait_until_in_sync(&self, topic: &str, partitions: i32) {
        for id in self.running() {
            let deadline = Instant::now() + HEALED_WITHIN;
            loop {
                let view = self.view_of(id, topic).unwrap_or_default();
                let is_in_sync = |partition: &PartitionView| {
                    partition.leader >= 0 && partition.in_sync.len() == partition.replicas.len()
                };
                if view.partitions.len() == partitions as usize && view.partitions.values().all(is_in_sync) {
                    break;
                }
                assert!(Instant::now() < deadline, "not in sync after {HEALED_WITHIN:?}, says broker {id}: {view:?}");
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// Stops all of them in peace and compares what they have on their disks, byte by byte. They must hold the same offsets.
    pub fn stop_and_compare_replicas(&mut self, topic: &str, partitions: i32) {
        for id in self.ids() {
            if self.broker_mut(id).is_running() {
                self.broker_mut(id).terminate();
            }
        }
        for partition in 0..partitions {
            let replicas: Vec<(i32, Vec<u8>)> =
                self.ids().into_iter().map(|id| (id, self.log_bytes(id, topic, partition))).collect();
            let (first, bytes) = &replicas[0];
            assert!(!bytes.is_empty(), "{topic}-{partition} of broker {first} is empty: that shows nothing");
            for (id, other) in &replicas {
                let same = bytes.iter().zip(other).take_while(|(one, other)| one == other).count();
                let lengths = (bytes.len(), other.len());
                assert!(
                    bytes == other,
                    "{topic}-{partition}: brokers {first} and {id} differ at byte {same} of {lengths:?}"
                );
            }
        }
    }

    fn log_bytes(&self, id: i32, topic: &str, partition: i32) -> Vec<u8> {
        let directory = self.broker(id).data_dir.join(format!("{topic}-{partition}"));
        segments(&directory).iter().flat_map(|path| fs::read(path).expect("a segment can be read")).collect()
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let paths = entries.map(|entry| entry.expect("the directory can be read").path());
    let mut logs: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "log")).collect();
    logs.sort();
    logs
}

const REQUEST_TIMED_OUT: i16 = 7;
pub const TOPIC_ALREADY_EXISTS: i16 = 36;

/// The error code; None: no answer.
pub fn try_create_topic(
    client: &mut RawClient,
    topic: &str,
    partitions: i32,
    replicas: i16,
    configs: &[(&str, &str)],
) -> Option<i16> {
    let body = Fields::default().i32(1).string(topic).i32(partitions).i16(replicas).i32(0).i32(configs.len() as i32);
    let body = configs.iter().fold(body, |body, (name, value)| body.string(name).string(value));
    let mut answer = client.try_call(CREATE_TOPICS, 2, body.i32(5_000).i8(0))?;
    let (_throttle_ms, _topics, _name) = (answer.i32(), answer.i32(), answer.string());
    Some(answer.i16())
}

fn view(answer: &mut Answer) -> View {
    let mut view = View::default();
    for _ in 0..answer.i32() {
        let (id, _host, _port, _rack) = (answer.i32(), answer.string(), answer.i32(), answer.string());
        view.named.push(id);
    }
    view.named.sort_unstable();
    view.controller = answer.i32();
    for _ in 0..answer.i32() {
        let (_error, name, _is_internal) = (answer.i16(), answer.string(), answer.i8());
        view.topics.push(name);
        for _ in 0..answer.i32() {
            let (_error, index, leader) = (answer.i16(), answer.i32(), answer.i32());
            let (replicas, in_sync) = (ids(answer), ids(answer));
            view.partitions.insert(index, PartitionView { leader, replicas, in_sync });
        }
    }
    view
}

/// Of an answer to DescribeCluster: lengths are one more than they say, and no structure has tagged fields.
fn members(answer: &mut Answer) -> Vec<i32> {
    let (_tags, _throttle_ms, _error, _message) = (answer.i8(), answer.i32(), answer.i16(), answer.i8());
    let (_cluster_id, _controller) = (compact_string(answer), answer.i32());
    let mut members = Vec::new();
    for _ in 1..answer.i8() {
        members.push(answer.i32());
        let (_host, _port, _rack, _tags) = (compact_string(answer), answer.i32(), compact_string(answer), answer.i8());
    }
    members.sort_unstable();
    members
}

fn compact_string(answer: &mut Answer) -> String {
    let bytes: Vec<u8> = (1..answer.i8()).map(|_| answer.i8() as u8).collect();
    String::from_utf8(bytes).expect("the names of hosts and racks are UTF-8")
}

fn ids(answer: &mut Answer) -> Vec<i32> {
    (0..answer.i32()).map(|_| answer.i32()).collect()
}
