//! The broker as a whole: the cluster as it sees it, the controller and the quorum, requests, journals, compaction, peers,
//! memory and actors.

use std::sync::atomic::Ordering;
use std::time::Instant;

use capek_actors::broker::BrokerShared;
use capek_actors::budget::MemoryBudget;
use capek_actors::census::KindSummary;
use capek_actors::histogram::Histogram;
use capek_actors::request_metrics::ErrorCounts;
use capek_state::cluster::Image;
use capek_wire::api::ApiKey;

use super::exposition::{Exposition, Family, Kind, Labels, Vocabulary};

static QUANTILES: [(&str, f64); 6] =
    [("0.50", 0.5), ("0.75", 0.75), ("0.95", 0.95), ("0.98", 0.98), ("0.99", 0.99), ("0.999", 0.999)];
/// Kafka's numbers for what a broker is doing.
const RUNNING: i32 = 3;
const STOPPING: i32 = 6;
const MILLION: f64 = 1_000_000.0;

/// Writes all of it but for partitions and groups.
pub fn write(out: &mut Exposition, broker: &BrokerShared, image: &Image, is_stopping: bool) {
    write_cluster(out, broker, image, is_stopping);
    write_controller(out, broker, image);
    write_quorum(out, broker);
    write_requests(out, broker);
    write_journals(out, broker);
    write_cleaner(out, broker);
    write_peers(out, broker);
    write_actors(out, broker);
}

fn write_cluster(out: &mut Exposition, broker: &BrokerShared, image: &Image, is_stopping: bool) {
    let living = image.brokers().filter(|broker| !broker.fenced).count();
    let help = "Brokers that are registered and not fenced.";
    out.one(Vocabulary::Exporter, "kafka_brokers", Kind::Gauge, help, living);
    out.one(Vocabulary::Own, "capek_cluster_brokers", Kind::Gauge, help, living);
    let help = "1 for each registered broker, with where clients find it.";
    let mut family = out.family(Vocabulary::Exporter, "kafka_broker_info", Kind::Gauge, help);
    for known in image.brokers() {
        let address = known.client_listeners().next();
        let address = address.map(|endpoint| format!("{}:{}", endpoint.host, endpoint.port)).unwrap_or_default();
        family.sample(&Labels::of(&[("id", &known.id.to_string()), ("address", &address)]), 1);
    }
    let state = if is_stopping { STOPPING } else { RUNNING };
    let help = "3: it runs; 6: it hands its partitions over and stops.";
    out.one(Vocabulary::Jmx, "kafka_server_kafkaserver_brokerstate", Kind::Gauge, help, state);
    let build = Labels::of(&[("version", env!("CARGO_PKG_VERSION")), ("cluster", &broker.cluster_id)]);
    let build = build.and("node", &broker.config.node_id.to_string());
    out.family(Vocabulary::Own, "capek_info", Kind::Gauge, "1, with who this is.").sample(&build, 1);
    let names = [
        (Vocabulary::Strimzi, "kafka_server_socket_server_metrics_connection_count"),
        (Vocabulary::Confluent, "kafka_server_socketservermetrics_connection_count"),
    ];
    for (vocabulary, name) in names {
        let help = "Connections of Kafka clients that are open.";
        let mut family = out.family(vocabulary, name, Kind::Gauge, help);
        for listener in &broker.config.listeners {
            let count = broker.census.children_count(&format!("broker/listener:{}", listener.name));
            family.sample(&Labels::of(&[("listener", &listener.name)]), count);
        }
    }
}

fn write_controller(out: &mut Exposition, broker: &BrokerShared, image: &Image) {
    let is_controller = broker.is_controller();
    let name = "kafka_controller_kafkacontroller_activecontrollercount";
    out.one(Vocabulary::Jmx, name, Kind::Gauge, "1: this broker is the controller.", is_controller);
    if is_controller {
        let fenced = image.brokers().filter(|broker| broker.fenced).count();
        let name = "kafka_controller_kafkacontroller_activebrokercount";
        let active = image.brokers().count() - fenced;
        out.one(Vocabulary::Jmx, name, Kind::Gauge, "Brokers that may lead; told by the controller.", active);
        let name = "kafka_controller_kafkacontroller_fencedbrokercount";
        let help = "Brokers that are registered and not heard of; told by the controller.";
        out.one(Vocabulary::Jmx, name, Kind::Gauge, help, fenced);
    }
    let changes = &broker.metrics.changes;
    let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let pairs = [
        (
            "kafka_controller_controllerstats_uncleanleaderelections_total",
            "kafka_controller_controllerstats_uncleanleaderelectionspersec",
            "Elections of a replica that was not in sync, while this broker was the controller.",
            load(&changes.unclean_elections),
        ),
        (
            "kafka_server_replicamanager_isrshrinks_total",
            "kafka_server_replicamanager_isrshrinkspersec",
            "How often a replica of a partition led here fell out of sync.",
            load(&changes.isr_shrinks),
        ),
        (
            "kafka_server_replicamanager_isrexpands_total",
            "kafka_server_replicamanager_isrexpandspersec",
            "How often a replica of a partition led here came back in sync.",
            load(&changes.isr_expands),
        ),
    ];
    for (strimzis, confluents, help, count) in pairs {
        out.one(Vocabulary::Strimzi, strimzis, Kind::Counter, help, count);
        out.one(Vocabulary::Confluent, confluents, Kind::Counter, help, count);
    }
    let help = "Partitions that got another leader, while this broker was the controller.";
    out.one(Vocabulary::Own, "capek_leader_elections_total", Kind::Counter, help, load(&changes.elections));
    let help = "What the controller refused while it was here, by Kafka's error.";
    let family = out.family(Vocabulary::Own, "capek_controller_refusals_total", Kind::Counter, help);
    write_errors(family, &[], &broker.metrics.refusals);
}

fn write_errors(mut family: Family<'_>, labels: &[(&str, &str)], errors: &ErrorCounts) {
    let labels = Labels::of(labels);
    errors.all().for_each(|(error, count)| family.sample(&labels.clone().and("error", error.name()), count));
}

/// A broker alone is a quorum of itself.
fn write_quorum(out: &mut Exposition, broker: &BrokerShared) {
    let view = broker.quorum_view();
    let gauges: [(&'static str, &str, u64); 4] = [
        ("capek_raft_term", "Rises with each election of a controller that was begun.", view.term),
        ("capek_raft_log_end_index", "Entries of the metadata log here.", view.log_end),
        ("capek_raft_applied_index", "Of these, the ones that this broker acts on.", view.committed),
        ("capek_raft_voters", "Brokers that vote on the metadata.", view.voters.len() as u64),
    ];
    for (name, help, value) in gauges {
        out.one(Vocabulary::Own, name, Kind::Gauge, help, value);
    }
    let help = "Entries of the metadata log that the broker has not confirmed; told by the controller.";
    let mut family = out.family(Vocabulary::Own, "capek_raft_lag_entries", Kind::Gauge, help);
    for (follower, replicated) in view.replicated.iter().filter(|_| broker.is_controller()) {
        let labels = Labels::of(&[("broker", &follower.to_string())]);
        family.sample(&labels, view.log_end.saturating_sub(*replicated));
    }
    let won = broker.quorum.as_ref().map_or(0, |quorum| quorum.elections_won.load(Ordering::Relaxed));
    let help = "How often this broker has become the controller.";
    out.one(Vocabulary::Own, "capek_raft_elections_won_total", Kind::Counter, help, won);
}

fn write_requests(out: &mut Exposition, broker: &BrokerShared) {
    let requests = &broker.metrics.requests;
    let asked: Vec<_> = ApiKey::all().filter(|key| !requests.api(*key).took.is_empty()).collect();
    let names = [
        (Vocabulary::Strimzi, "kafka_network_requestmetrics_requests_total"),
        (Vocabulary::Confluent, "kafka_network_requestmetrics_requestspersec"),
    ];
    for (vocabulary, name) in names {
        let mut family = out.family(vocabulary, name, Kind::Counter, "Requests that were answered.");
        for key in &asked {
            for (version, count) in requests.api(*key).versions() {
                let labels = Labels::of(&[("request", key.name()), ("version", &version.to_string())]);
                family.sample(&labels, count);
            }
        }
    }
    let names = [
        (Vocabulary::Strimzi, "kafka_network_requestmetrics_errors_total"),
        (Vocabulary::Confluent, "kafka_network_requestmetrics_errorspersec"),
    ];
    for (vocabulary, name) in names {
        let help = "Partitions of Produce and Fetch that were answered with an error.";
        let mut family = out.family(vocabulary, name, Kind::Counter, help);
        for (request, errors) in [("Produce", &requests.produce_errors), ("Fetch", &requests.fetch_errors)] {
            for (error, count) in errors.all() {
                family.sample(&Labels::of(&[("request", request), ("error", error.name())]), count);
            }
        }
    }
    let help = "From the last byte of a request to its answer, in milliseconds: of the last minute or two.";
    let name = "kafka_network_requestmetrics_totaltimems";
    let mut family = out.family(Vocabulary::Confluent, name, Kind::Summary, help);
    let now = Instant::now();
    let shown = if family.is_wanted() { &asked[..] } else { &[] };
    for key in shown {
        write_quantiles(&mut family, &Labels::of(&[("request", key.name())]), &requests.api(*key).took, now);
    }
    let help = "From the last byte of a request to its answer.";
    let mut family = out.family(Vocabulary::Own, "capek_request_duration_seconds", Kind::Histogram, help);
    for key in &asked {
        write_histogram(&mut family, &Labels::of(&[("request", key.name())]), &requests.api(*key).took);
    }
}

/// In milliseconds, as Kafka does.
fn write_quantiles(family: &mut Family<'_>, labels: &Labels, took: &Histogram, now: Instant) {
    if let Some(values) = took.quantiles(QUANTILES.map(|(_, part)| part), now) {
        for ((quantile, _), value) in QUANTILES.iter().zip(values) {
            family.sample(&labels.clone().and("quantile", quantile), value.as_secs_f64() * 1000.0);
        }
    }
    let counted = took.counted();
    family.suffixed("_sum", labels, counted.sum_us as f64 / 1000.0);
    family.suffixed("_count", labels, counted.count);
}

/// A family may hold several, each with its labels.
pub fn write_histogram(family: &mut Family<'_>, labels: &Labels, histogram: &Histogram) {
    let counted = histogram.counted();
    for (bound_us, below) in counted.cumulative() {
        let bound = (bound_us as f64 / MILLION).to_string();
        family.suffixed("_bucket", &labels.clone().and("le", &bound), below);
    }
    family.suffixed("_bucket", &labels.clone().and("le", "+Inf"), counted.count);
    family.suffixed("_sum", labels, counted.sum_us as f64 / MILLION);
    family.suffixed("_count", labels, counted.count);
}

fn write_journals(out: &mut Exposition, broker: &BrokerShared) {
    let dirs = broker.config.data_dirs.iter().map(|dir| Labels::of(&[("dir", &dir.to_string_lossy())]));
    let journals: Vec<_> = dirs.zip(&broker.metrics.journals).collect();
    let help = "Rounds that the journal wrote.";
    let mut family = out.family(Vocabulary::Own, "capek_journal_rounds_total", Kind::Counter, help);
    for (labels, journal) in &journals {
        family.sample(labels, journal.rounds.load(Ordering::Relaxed));
    }
    let help = "Entries that the last round left to the next: more than it can write, or a full disk.";
    let mut family = out.family(Vocabulary::Own, "capek_journal_queued_entries", Kind::Gauge, help);
    for (labels, journal) in &journals {
        family.sample(labels, journal.queued.load(Ordering::Relaxed));
    }
    let help = "How long a round waited for the disk to have it.";
    let mut family = out.family(Vocabulary::Own, "capek_journal_sync_duration_seconds", Kind::Histogram, help);
    for (labels, journal) in &journals {
        write_histogram(&mut family, labels, &journal.synced);
    }
}

fn write_cleaner(out: &mut Exposition, broker: &BrokerShared) {
    let cleaner = &broker.metrics.cleaner;
    let counters = [
        ("capek_cleaner_runs_total", "Logs that were compacted.", &cleaner.runs),
        ("capek_cleaner_failures_total", "Compactions that failed.", &cleaner.failed),
        ("capek_cleaner_read_bytes_total", "Bytes that compaction read.", &cleaner.read_bytes),
        ("capek_cleaner_written_bytes_total", "Bytes that compaction wrote.", &cleaner.written_bytes),
        ("capek_cleaner_keys_total", "Keys that compaction looked at.", &cleaner.keys),
    ];
    for (name, help, counter) in counters {
        out.one(Vocabulary::Own, name, Kind::Counter, help, counter.load(Ordering::Relaxed));
    }
    let help = "Logs that are left alone because they could not be compacted.";
    let count = cleaner.uncleanable.load(Ordering::Relaxed);
    out.one(Vocabulary::Own, "capek_cleaner_uncleanable_logs", Kind::Gauge, help, count);
    let ratios = [
        (
            "capek_cleaner_last_dirty_ratio",
            "Which part of the log that was chosen last was not compacted before.",
            &cleaner.last_dirty_ratio_millionths,
        ),
        (
            "capek_cleaner_last_left_ratio",
            "Which part of what the last run went through was left.",
            &cleaner.last_left_millionths,
        ),
    ];
    for (name, help, millionths) in ratios {
        let ratio = millionths.load(Ordering::Relaxed) as f64 / MILLION;
        out.one(Vocabulary::Own, name, Kind::Gauge, help, ratio);
    }
}

fn write_peers(out: &mut Exposition, broker: &BrokerShared) {
    let peers = &broker.metrics.peers;
    let help = "Connections to the peer listener that were not let in, or were cut off for what they sent.";
    let mut family = out.family(Vocabulary::Own, "capek_peers_refused_total", Kind::Counter, help);
    for (refusal, count) in peers.refusals() {
        family.sample(&Labels::of(&[("reason", refusal.name())]), count);
    }
    let help = "What followers were refused, by Kafka's error: after an election some ask with what was.";
    let family = out.family(Vocabulary::Own, "capek_replica_fetch_errors_total", Kind::Counter, help);
    write_errors(family, &[], &peers.fetch_errors);
}

fn write_actors(out: &mut Exposition, broker: &BrokerShared) {
    type Value = fn(&KindSummary) -> u64;
    let kinds = broker.census.summary();
    let families: [(&'static str, Kind, &str, Value); 6] = [
        ("capek_actors", Kind::Gauge, "Actors that live.", |kind| kind.count),
        ("capek_actor_restarts_total", Kind::Counter, "Actors that were started again.", |kind| kind.restarts),
        ("capek_actor_mailbox_messages", Kind::Gauge, "Messages not handled yet, where senders count.", |kind| {
            kind.mailbox
        }),
        ("capek_actor_mailbox_messages_max", Kind::Gauge, "The same of the fullest mailbox.", |kind| kind.mailbox_max),
        ("capek_actor_parked_replies", Kind::Gauge, "Replies that wait for a condition.", |kind| kind.parked),
        ("capek_actor_held_bytes", Kind::Gauge, "Bytes that actors hold, where they count.", |kind| kind.bytes_held),
    ];
    for (name, metric_kind, help, value) in families {
        let mut family = out.family(Vocabulary::Own, name, metric_kind, help);
        for (kind, summary) in &kinds {
            family.sample(&Labels::of(&[("kind", kind)]), value(summary));
        }
    }
}

/// Memory that is paid for, by what for.
pub fn write_budgets(out: &mut Exposition, budgets: [(&str, &MemoryBudget); 3]) {
    type Value = fn(&MemoryBudget) -> usize;
    let families: [(&'static str, &str, Value); 2] = [
        ("capek_budget_used_bytes", "Of the memory budget, what is in use.", MemoryBudget::used_bytes),
        ("capek_budget_size_bytes", "The memory budget.", MemoryBudget::size_bytes),
    ];
    for (name, help, value) in families {
        let mut family = out.family(Vocabulary::Own, name, Kind::Gauge, help);
        for (budget, memory) in budgets {
            family.sample(&Labels::of(&[("budget", budget)]), value(memory));
        }
    }
}
