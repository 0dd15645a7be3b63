//! Topics and partitions: leaders, replicas, offsets, sizes, traffic.
//!
//! Each broker speaks for the partitions that it leads, and the controller for those that nobody leads, so that the sum over all
//! brokers counts nothing twice. What a replica holds (`kafka_log_log_*`) every broker says of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use capek_actors::broker::BrokerShared;
use capek_actors::routes::PartitionRoute;
use capek_actors::traffic::TopicTraffic;
use capek_log::Extent;
use capek_state::cluster::{Image, Partition, Topic};
use capek_wire::ids::BrokerId;

use super::exposition::{Exposition, Kind, Labels, Vocabulary};
use super::settings::{Level, Settings};

/// How many families a partition is in: what `capek.metrics.series.max` is divided by.
pub const FAMILIES: usize = 18;

/// A partition that this broker speaks for, or has a replica of.
struct Row {
    labels: Labels,
    /// Led here, or led by nobody while the controller is here.
    is_ours: bool,
    topic: Arc<Topic>,
    index: usize,
    min_isr: usize,
    replica: Option<Replica>,
}

impl Row {
    fn metadata(&self) -> &Partition {
        &self.topic.partitions[self.index]
    }
}

struct Replica {
    is_leader: bool,
    log_start: i64,
    log_end: i64,
    high_watermark: i64,
    /// None: its directory cannot be listed; what is wrong with it the log says.
    extent: Option<Extent>,
    /// Of a compacted topic: what lies below was compacted.
    cleaned_end: Option<i64>,
}

struct TopicRow {
    labels: Labels,
    partitions: usize,
    /// This broker speaks for its first partition.
    is_ours: bool,
    traffic: Option<Arc<TopicTraffic>>,
    /// None: that of a replica is not known.
    size_bytes: Option<u64>,
    under_replicated: usize,
}

/// What all partitions come to on this broker.
#[derive(Default)]
struct Totals {
    leaders: usize,
    replicas: usize,
    under_replicated: usize,
    under_min_isr: usize,
    at_min_isr: usize,
    offline_replicas: usize,
    /// Of the cluster.
    offline: usize,
    not_preferred: usize,
}

/// See the head of this file.
pub struct Partitions {
    topics: Vec<TopicRow>,
    rows: Vec<Row>,
    totals: Totals,
    /// Partitions that are counted, but have no series of their own.
    left_out: usize,
}

impl Partitions {
    pub fn gather(broker: &BrokerShared, image: &Image, is_controller: bool, settings: &Settings) -> Partitions {
        let rows_max = if settings.level == Level::Full { settings.series_max / FAMILIES } else { 0 };
        let mut gathered = Partitions { topics: Vec::new(), rows: Vec::new(), totals: Totals::default(), left_out: 0 };
        for topic in image.topics() {
            let route = broker.routes.topic_by_id(topic.id);
            let mut row = TopicRow {
                labels: Labels::of(&[("topic", &topic.name)]),
                partitions: topic.partitions.len(),
                is_ours: false,
                traffic: route.as_ref().map(|route| route.traffic.clone()),
                size_bytes: Some(0),
                under_replicated: 0,
            };
            gathered.totals.offline_replicas += route.as_ref().map_or(0, |route| route.offline_count());
            for (index, partition) in topic.partitions.iter().enumerate() {
                let found = route.as_ref().and_then(|route| route.partition(index as i32));
                let me = broker.config.node_id;
                let is_ours = partition.leader == me || (partition.leader < 0 && is_controller);
                let min_isr = if is_ours { min_isr(broker, image, topic, partition, found.as_deref()) } else { 0 };
                gathered.totals.add(partition, me, min_isr);
                row.is_ours |= index == 0 && is_ours;
                let replica = found.as_deref().map(replica);
                if let Some(replica) = &replica {
                    row.size_bytes = row.size_bytes.zip(replica.extent).map(|(sum, extent)| sum + extent.size_bytes);
                }
                row.under_replicated += usize::from(is_ours && is_under_replicated(partition));
                if !is_ours && replica.is_none() {
                    continue;
                }
                if gathered.rows.len() >= rows_max {
                    gathered.left_out += 1;
                    continue;
                }
                gathered.rows.push(Row {
                    labels: row.labels.clone().and("partition", &index.to_string()),
                    is_ours,
                    topic: topic.clone(),
                    index,
                    min_isr,
                    replica,
                });
            }
            gathered.topics.push(row);
        }
        gathered
    }
}

fn is_under_replicated(partition: &Partition) -> bool {
    partition.isr.len() < partition.replicas.len()
}

/// Below this many in sync it refuses acks=all.
fn min_isr(
    broker: &BrokerShared,
    image: &Image,
    topic: &Topic,
    partition: &Partition,
    route: Option<&PartitionRoute>,
) -> usize {
    let count = partition.replicas.len() as i32;
    let min_isr = match route {
        Some(route) => route.shared.config().min_insync_replicas_for(count),
        None => {
            let config = image.topic_config(&topic.name, broker.config.node_id, &broker.config.properties);
            config.min_insync_replicas_for(count)
        }
    };
    usize::try_from(min_isr).unwrap_or(0)
}

fn replica(route: &PartitionRoute) -> Replica {
    let (shared, log) = (&route.shared, &route.shared.log);
    Replica {
        is_leader: shared.is_leader(),
        log_start: log.log_start(),
        log_end: log.end_offset(),
        high_watermark: shared.high_watermark(),
        extent: log.extent().ok(),
        cleaned_end: shared.config().cleanup_policy.compact.then(|| log.cleaned_end()),
    }
}

impl Totals {
    fn add(&mut self, partition: &Partition, me: BrokerId, min_isr: usize) {
        self.replicas += usize::from(partition.replicas.contains(&me));
        self.offline += usize::from(partition.leader < 0);
        let is_preferred = partition.replicas.first() == Some(&partition.leader);
        self.not_preferred += usize::from(!is_preferred);
        if partition.leader == me {
            self.leaders += 1;
            self.under_replicated += usize::from(is_under_replicated(partition));
            self.under_min_isr += usize::from(partition.isr.len() < min_isr);
            self.at_min_isr += usize::from(partition.isr.len() == min_isr);
        }
    }
}

impl Partitions {
    pub fn write(&self, out: &mut Exposition, level: Level, is_controller: bool) {
        self.write_totals(out, is_controller);
        if level != Level::Off {
            self.write_topics(out);
            self.write_traffic(out);
        }
        self.write_metadata(out);
        self.write_replicas(out);
        out.one(
            Vocabulary::Own,
            "capek_metrics_partitions_left_out",
            Kind::Gauge,
            "Partitions without series of their own (capek.metrics.series.max, capek.metrics.topic.partition.level).",
            self.left_out,
        );
    }

    fn write_totals(&self, out: &mut Exposition, is_controller: bool) {
        let totals = &self.totals;
        let of_broker: [(&'static str, &str, usize); 6] = [
            ("kafka_server_replicamanager_leadercount", "Partitions that this broker leads.", totals.leaders),
            ("kafka_server_replicamanager_partitioncount", "Replicas on this broker.", totals.replicas),
            (
                "kafka_server_replicamanager_underreplicatedpartitions",
                "Partitions led here with fewer replicas in sync than they have.",
                totals.under_replicated,
            ),
            (
                "kafka_server_replicamanager_underminisrpartitioncount",
                "Partitions led here that refuse acks=all.",
                totals.under_min_isr,
            ),
            (
                "kafka_server_replicamanager_atminisrpartitioncount",
                "Partitions led here that cannot lose another replica.",
                totals.at_min_isr,
            ),
            (
                "kafka_server_replicamanager_offlinereplicacount",
                "Replicas of this broker that serve nobody.",
                totals.offline_replicas,
            ),
        ];
        for (name, help, count) in of_broker {
            out.one(Vocabulary::Jmx, name, Kind::Gauge, help, count);
        }
        if !is_controller {
            return;
        }
        let of_cluster: [(&'static str, &str, usize); 4] = [
            (
                "kafka_controller_kafkacontroller_offlinepartitionscount",
                "Partitions without a leader; told by the controller.",
                totals.offline,
            ),
            (
                "kafka_controller_kafkacontroller_preferredreplicaimbalancecount",
                "Partitions that another than their first replica leads; told by the controller.",
                totals.not_preferred,
            ),
            ("kafka_controller_kafkacontroller_globaltopiccount", "Topics; told by the controller.", self.topics.len()),
            (
                "kafka_controller_kafkacontroller_globalpartitioncount",
                "Partitions; told by the controller.",
                self.topics.iter().map(|topic| topic.partitions).sum(),
            ),
        ];
        for (name, help, count) in of_cluster {
            out.one(Vocabulary::Jmx, name, Kind::Gauge, help, count);
        }
    }

    fn write_topics(&self, out: &mut Exposition) {
        let ours = || self.topics.iter().filter(|topic| topic.is_ours);
        let mut family =
            out.family(Vocabulary::Exporter, "kafka_topic_partitions", Kind::Gauge, "Partitions of the topic.");
        ours().for_each(|topic| family.sample(&topic.labels, topic.partitions));
        let help = "Bytes of the topic's replicas on this broker.";
        let mut family = out.family(Vocabulary::Own, "capek_topic_size_bytes", Kind::Gauge, help);
        let here = self.topics.iter().filter(|topic| topic.traffic.is_some());
        family.present(here.map(|topic| (&topic.labels, topic.size_bytes)));
        let help = "Partitions of the topic, led here, with fewer replicas in sync than they have.";
        let mut family = out.family(Vocabulary::Own, "capek_topic_under_replicated_partitions", Kind::Gauge, help);
        for topic in self.topics.iter().filter(|topic| topic.is_ours || topic.under_replicated > 0) {
            family.sample(&topic.labels, topic.under_replicated);
        }
    }

    fn write_traffic(&self, out: &mut Exposition) {
        type Counter = fn(&TopicTraffic) -> u64;
        let load: [(&'static str, &'static str, &str, Counter); 7] = [
            (
                "kafka_server_brokertopicmetrics_messagesin_total",
                "kafka_server_brokertopicmetrics_messagesinpersec",
                "Records taken in by leaders on this broker.",
                |traffic| traffic.records_in.load(Ordering::Relaxed),
            ),
            (
                "kafka_server_brokertopicmetrics_bytesin_total",
                "kafka_server_brokertopicmetrics_bytesinpersec",
                "Bytes taken in by leaders on this broker.",
                |traffic| traffic.bytes_in.load(Ordering::Relaxed),
            ),
            (
                "kafka_server_brokertopicmetrics_bytesout_total",
                "kafka_server_brokertopicmetrics_bytesoutpersec",
                "Bytes given to consumers.",
                |traffic| traffic.bytes_out.load(Ordering::Relaxed),
            ),
            (
                "kafka_server_brokertopicmetrics_totalproducerequests_total",
                "kafka_server_brokertopicmetrics_totalproducerequestspersec",
                "Batches that producers sent; each partition of a request counts.",
                |traffic| traffic.produce_requests.load(Ordering::Relaxed),
            ),
            (
                "kafka_server_brokertopicmetrics_failedproducerequests_total",
                "kafka_server_brokertopicmetrics_failedproducerequestspersec",
                "Batches that were refused.",
                |traffic| traffic.produce_failures.load(Ordering::Relaxed),
            ),
            (
                "kafka_server_brokertopicmetrics_totalfetchrequests_total",
                "kafka_server_brokertopicmetrics_totalfetchrequestspersec",
                "Reads for consumers; each partition of a request counts.",
                |traffic| traffic.fetch_requests.load(Ordering::Relaxed),
            ),
            (
                "kafka_server_brokertopicmetrics_failedfetchrequests_total",
                "kafka_server_brokertopicmetrics_failedfetchrequestspersec",
                "Reads for consumers that were answered with an error.",
                |traffic| traffic.fetch_failures.load(Ordering::Relaxed),
            ),
        ];
        for (strimzis, confluents, help, counter) in load {
            for (vocabulary, name) in [(Vocabulary::Strimzi, strimzis), (Vocabulary::Confluent, confluents)] {
                let mut family = out.family(vocabulary, name, Kind::Counter, help);
                for topic in &self.topics {
                    if let Some(traffic) = &topic.traffic {
                        family.sample(&topic.labels, counter(traffic));
                    }
                }
            }
        }
    }

    /// What the metadata says of the partitions that are ours to speak for.
    fn write_metadata(&self, out: &mut Exposition) {
        type Value = fn(&Row) -> i64;
        let families: [(Vocabulary, &'static str, &str, Value); 11] = [
            (Vocabulary::Exporter, "kafka_topic_partition_leader", "The broker that leads; -1: none.", |row| {
                i64::from(row.metadata().leader)
            }),
            (Vocabulary::Exporter, "kafka_topic_partition_leader_is_preferred", "1: the first replica leads.", |row| {
                i64::from(row.metadata().replicas.first() == Some(&row.metadata().leader))
            }),
            (Vocabulary::Exporter, "kafka_topic_partition_replicas", "Replicas.", |row| {
                row.metadata().replicas.len() as i64
            }),
            (Vocabulary::Exporter, "kafka_topic_partition_in_sync_replica", "Replicas in sync.", |row| {
                row.metadata().isr.len() as i64
            }),
            (
                Vocabulary::Exporter,
                "kafka_topic_partition_under_replicated_partition",
                "1: fewer replicas are in sync than there are.",
                |row| i64::from(is_under_replicated(row.metadata())),
            ),
            (Vocabulary::Jmx, "kafka_cluster_partition_replicascount", "Replicas.", |row| {
                row.metadata().replicas.len() as i64
            }),
            (Vocabulary::Jmx, "kafka_cluster_partition_insyncreplicascount", "Replicas in sync.", |row| {
                row.metadata().isr.len() as i64
            }),
            (
                Vocabulary::Jmx,
                "kafka_cluster_partition_underreplicated",
                "1: fewer replicas are in sync than there are.",
                |row| i64::from(is_under_replicated(row.metadata())),
            ),
            (Vocabulary::Jmx, "kafka_cluster_partition_underminisr", "1: it refuses acks=all.", |row| {
                i64::from(row.metadata().isr.len() < row.min_isr)
            }),
            (Vocabulary::Jmx, "kafka_cluster_partition_atminisr", "1: it cannot lose another replica.", |row| {
                i64::from(row.metadata().isr.len() == row.min_isr)
            }),
            (Vocabulary::Own, "capek_partition_leader_epoch", "Rises with each election of a leader.", |row| {
                i64::from(row.metadata().leader_epoch)
            }),
        ];
        for (vocabulary, name, help, value) in families {
            let mut family = out.family(vocabulary, name, Kind::Gauge, help);
            for row in self.rows.iter().filter(|row| row.is_ours) {
                family.sample(&row.labels, value(row));
            }
        }
    }

    /// What the replicas on this broker hold.
    fn write_replicas(&self, out: &mut Exposition) {
        type Value = fn(&Replica) -> Option<i64>;
        let families: [(Vocabulary, &'static str, &str, Value); 7] = [
            (
                Vocabulary::Exporter,
                "kafka_topic_partition_current_offset",
                "Where consumers stop: the offset of the next record that is committed.",
                |replica| replica.is_leader.then_some(replica.high_watermark),
            ),
            (
                Vocabulary::Exporter,
                "kafka_topic_partition_oldest_offset",
                "The first offset that can be read.",
                |replica| replica.is_leader.then_some(replica.log_start),
            ),
            (Vocabulary::Jmx, "kafka_log_log_logstartoffset", "The first offset of this replica.", |replica| {
                Some(replica.log_start)
            }),
            (Vocabulary::Jmx, "kafka_log_log_logendoffset", "The next offset of this replica.", |replica| {
                Some(replica.log_end)
            }),
            (Vocabulary::Jmx, "kafka_log_log_size", "Bytes of this replica.", |replica| {
                replica.extent.map(|extent| extent.size_bytes as i64)
            }),
            (Vocabulary::Jmx, "kafka_log_log_numlogsegments", "Segments of this replica.", |replica| {
                replica.extent.map(|extent| extent.segments as i64)
            }),
            (Vocabulary::Own, "capek_log_cleaned_offset", "Compaction of this replica has come so far.", |replica| {
                replica.cleaned_end
            }),
        ];
        for (vocabulary, name, help, value) in families {
            let mut family = out.family(vocabulary, name, Kind::Gauge, help);
            family.present(self.rows.iter().map(|row| (&row.labels, row.replica.as_ref().and_then(value))));
        }
    }
}
