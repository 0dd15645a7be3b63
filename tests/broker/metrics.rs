//! `/metrics`: each number is watched while what it counts is done.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::chaos::{CHAOS, panic_and_wait};
use crate::support::frames::{Fields, NO_SEQUENCE, PRODUCE, RawClient, batch, produce_body, produced};
use crate::support::programs::{curl, output_of, python};
use crate::support::scrape::{Scrape, wait_for_value};
use crate::support::wait_for;

const OFFSET_COMMIT: i16 = 8;
const NOT_COORDINATOR_YET: [i16; 3] = [14, 15, 16];

#[test]
fn both_formats_are_read_by_prometheus_own_parsers() {
    let broker = Broker::start();
    let mut client = busy(&broker);
    commit(&mut client, "readers \"quoted\\\n", "busy", 0, 1);
    let names = output_of(python("metrics_parsed.py", &[&broker.http("/metrics")]));
    let names: BTreeSet<&str> = names.lines().collect();
    for name in ["kafka_topic_partitions", "kafka_log_log_size", "capek_journal_sync_duration_seconds"] {
        assert!(names.contains(name), "{name} of {names:?}");
    }
}

/// As Prometheus asks.
#[test]
fn a_scrape_is_compressed_for_whoever_takes_that() {
    let broker = Broker::start();
    let url = broker.http("/metrics");
    let head = |coding: &str| {
        output_of(curl(&["--head", "--request", "GET", "-H", &format!("Accept-Encoding: {coding}"), &url]))
    };
    let is_gzip = |coding: &str| head(coding).to_ascii_lowercase().contains("content-encoding: gzip");
    assert!(is_gzip("gzip") && is_gzip("br, gzip;q=0.5"));
    assert!(!is_gzip("identity") && !is_gzip("gzip;q=0"));
    let inflated = output_of(curl(&["--compressed", "-H", "Accept-Encoding: gzip", &url]));
    assert!(inflated.contains("# TYPE kafka_brokers gauge\n"), "{inflated}");
}

/// A topic of two partitions with three records of "one", "two", "three" in the first, all of them fetched once.
fn busy(broker: &Broker) -> RawClient {
    broker.create_topic("busy", 2);
    let mut client = broker.client();
    let sent = client.produce("busy", 0, &batch(&[b"one", b"two", b"three"], NO_SEQUENCE));
    assert_eq!((sent.error, sent.base_offset), (0, 0));
    let (error, high_watermark, bytes) = client.fetch("busy", 0, 0);
    assert_eq!((error, high_watermark), (0, 3));
    assert!(!bytes.is_empty());
    client
}

#[test]
fn records_bytes_and_requests_are_counted_by_topic() {
    let broker = Broker::start();
    let mut client = busy(&broker);
    let records = batch(&[b"one", b"two", b"three"], NO_SEQUENCE);
    let scrape = Scrape::of(&broker);
    let of_topic = |name: &str| scrape.value(&format!("kafka_server_brokertopicmetrics_{name}{{topic=\"busy\"}}"));
    for (strimzis, confluents, expected) in [
        ("messagesin_total", "messagesinpersec", 3.0),
        ("bytesin_total", "bytesinpersec", records.len() as f64),
        ("bytesout_total", "bytesoutpersec", records.len() as f64),
        ("totalproducerequests_total", "totalproducerequestspersec", 1.0),
        ("failedproducerequests_total", "failedproducerequestspersec", 0.0),
        ("totalfetchrequests_total", "totalfetchrequestspersec", 1.0),
        ("failedfetchrequests_total", "failedfetchrequestspersec", 0.0),
    ] {
        assert_eq!((of_topic(strimzis), of_topic(confluents)), (expected, expected), "{strimzis}");
    }
    let mut spoilt = records.clone();
    *spoilt.last_mut().expect("a batch has bytes") ^= 1;
    assert_ne!(client.produce("busy", 1, &spoilt).error, 0);
    assert_ne!(client.fetch("busy", 0, 99).0, 0);
    let scrape = Scrape::of(&broker);
    for name in ["failedproducerequests_total", "failedfetchrequests_total"] {
        assert_eq!(scrape.value(&format!("kafka_server_brokertopicmetrics_{name}{{topic=\"busy\"}}")), 1.0, "{name}");
    }
    assert_eq!(scrape.value("kafka_server_brokertopicmetrics_messagesin_total{topic=\"busy\"}"), 3.0);
    let error = |request, error| {
        scrape.value(&format!("kafka_network_requestmetrics_errors_total{{request=\"{request}\",error=\"{error}\"}}"))
    };
    assert_eq!((error("Produce", "CORRUPT_MESSAGE"), error("Fetch", "OFFSET_OUT_OF_RANGE")), (1.0, 1.0));
}

#[test]
fn each_request_is_counted_and_timed() {
    let broker = Broker::start();
    let mut client = busy(&broker);
    // One more without an answer, which the next answer proves to be dealt with.
    client.send(PRODUCE, 7, produce_body(0, "busy", 1, &batch(&[b"four"], NO_SEQUENCE)));
    client.send(PRODUCE, 7, produce_body(-1, "busy", 1, &batch(&[b"five"], NO_SEQUENCE)));
    assert_eq!(produced(&mut client.receive().1).error, 0);
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.value("kafka_network_requestmetrics_requests_total{request=\"Produce\",version=\"7\"}"), 3.0);
    assert_eq!(scrape.value("kafka_network_requestmetrics_requestspersec{request=\"Fetch\",version=\"4\"}"), 1.0);
    assert_eq!(scrape.value("capek_request_duration_seconds_count{request=\"Produce\"}"), 3.0);
    assert_eq!(scrape.value("capek_request_duration_seconds_bucket{request=\"Produce\",le=\"+Inf\"}"), 3.0);
    assert!(scrape.value("capek_request_duration_seconds_sum{request=\"Produce\"}") > 0.0);
    let name = "kafka_network_requestmetrics_totaltimems";
    assert!(scrape.value(&format!("{name}{{request=\"Produce\",quantile=\"0.99\"}}")) > 0.0);
    assert_eq!(scrape.value(&format!("{name}_count{{request=\"Produce\"}}")), 3.0);
    assert!(scrape.sum("capek_journal_sync_duration_seconds_count", "") >= 2.0);
    assert!(scrape.sum("capek_journal_rounds_total", "") >= 2.0);
}

#[test]
fn partitions_are_told_with_their_offsets_and_sizes() {
    let broker = Broker::start();
    busy(&broker);
    let scrape = Scrape::of(&broker);
    let partition = |name: &str, index| scrape.value(&format!("{name}{{topic=\"busy\",partition=\"{index}\"}}"));
    for (name, expected) in [
        ("kafka_topic_partition_current_offset", [3.0, 0.0]),
        ("kafka_topic_partition_oldest_offset", [0.0, 0.0]),
        ("kafka_topic_partition_leader", [1.0, 1.0]),
        ("kafka_topic_partition_leader_is_preferred", [1.0, 1.0]),
        ("kafka_topic_partition_replicas", [1.0, 1.0]),
        ("kafka_topic_partition_in_sync_replica", [1.0, 1.0]),
        ("kafka_topic_partition_under_replicated_partition", [0.0, 0.0]),
        ("kafka_cluster_partition_underminisr", [0.0, 0.0]),
        ("kafka_cluster_partition_atminisr", [1.0, 1.0]),
        ("kafka_log_log_logendoffset", [3.0, 0.0]),
        ("kafka_log_log_numlogsegments", [1.0, 0.0]),
    ] {
        assert_eq!([partition(name, 0), partition(name, 1)], expected, "{name}");
    }
    let size_bytes = batch(&[b"one", b"two", b"three"], NO_SEQUENCE).len() as f64;
    assert_eq!(partition("kafka_log_log_size", 0), size_bytes);
    assert_eq!(scrape.value("capek_topic_size_bytes{topic=\"busy\"}"), size_bytes);
    assert_eq!(scrape.value("kafka_topic_partitions{topic=\"busy\"}"), 2.0);
    assert_eq!(scrape.value("kafka_server_replicamanager_leadercount"), 2.0);
    assert_eq!(scrape.value("kafka_controller_kafkacontroller_globalpartitioncount"), 2.0);
    assert_eq!(scrape.value("kafka_controller_kafkacontroller_activecontrollercount"), 1.0);
    assert_eq!(scrape.value("kafka_brokers"), 1.0);
}

/// A log that nobody has touched since the start is not opened by a scrape, and its size is told all the same.
#[test]
fn sizes_are_told_after_a_restart() {
    let mut broker = Broker::start();
    busy(&broker);
    let size = "kafka_log_log_size{topic=\"busy\",partition=\"0\"}";
    let before = Scrape::of(&broker).value(size);
    assert!(before > 0.0);
    broker.terminate();
    broker.start_again();
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.value(size), before);
    assert_eq!(scrape.value("kafka_topic_partition_current_offset{topic=\"busy\",partition=\"0\"}"), 3.0);
}

#[test]
fn a_group_without_members_keeps_its_lag() {
    let broker = Broker::start();
    let mut client = busy(&broker);
    commit(&mut client, "readers", "busy", 0, 1);
    commit(&mut client, "readers", "busy", 1, 0);
    let scrape = Scrape::of(&broker);
    let labels = "consumergroup=\"readers\",topic=\"busy\"";
    assert_eq!(scrape.value(&format!("kafka_consumergroup_current_offset{{{labels},partition=\"0\"}}")), 1.0);
    assert_eq!(scrape.value(&format!("kafka_consumergroup_lag{{{labels},partition=\"0\"}}")), 2.0);
    assert_eq!(scrape.value(&format!("kafka_consumergroup_lag{{{labels},partition=\"1\"}}")), 0.0);
    assert_eq!(scrape.value(&format!("kafka_consumergroup_lag_sum{{{labels}}}")), 2.0);
    assert_eq!(scrape.value(&format!("kafka_consumergroup_current_offset_sum{{{labels}}}")), 1.0);
    assert_eq!(scrape.value("kafka_consumergroup_members{consumergroup=\"readers\"}"), 0.0);
    // As lag-exporter calls them.
    let first = "{group=\"readers\",topic=\"busy\",partition=\"0\"}";
    assert_eq!(scrape.value(&format!("kafka_consumergroup_group_lag{first}")), 2.0);
    let age = scrape.value(&format!("kafka_consumergroup_group_lag_seconds{first}"));
    assert_eq!(scrape.value("kafka_consumergroup_group_max_lag{group=\"readers\"}"), 2.0);
    assert_eq!(scrape.value("kafka_consumergroup_group_max_lag_seconds{group=\"readers\"}"), age);
    assert_eq!(scrape.value("capek_group_lag_records{group=\"readers\"}"), 2.0);
    assert_eq!(scrape.value("capek_group_state{group=\"readers\",state=\"Empty\",type=\"classic\"}"), 1.0);
    assert_eq!(scrape.value("kafka_coordinator_group_groupmetadatamanager_numgroupsempty"), 1.0);
    let age = |scrape: &Scrape, partition| {
        let labels = format!("group=\"readers\",topic=\"busy\",partition=\"{partition}\"");
        scrape.value(&format!("capek_group_lag_seconds{{{labels}}}"))
    };
    assert_eq!(age(&scrape, 1), 0.0);
    // It grows while nobody reads.
    let first = age(&scrape, 0);
    wait_for("the lag grows older", Duration::from_secs(10), || (age(&Scrape::of(&broker), 0) > first).then_some(()));
    commit(&mut client, "readers", "busy", 0, 3);
    assert_eq!(age(&Scrape::of(&broker), 0), 0.0);
}

#[test]
fn a_restarted_actor_is_counted() {
    let broker = Broker::start_with(&CHAOS);
    busy(&broker);
    assert_eq!(Scrape::of(&broker).value("capek_actor_restarts_total{kind=\"partition\"}"), 0.0);
    panic_and_wait(&broker, "broker/replica-manager/partition:busy-0");
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.value("capek_actor_restarts_total{kind=\"partition\"}"), 1.0);
    assert_eq!(scrape.value("capek_actors{kind=\"partition\"}"), 2.0);
}

#[test]
fn connections_and_streams_are_counted_while_they_are_open() {
    let broker = Broker::start();
    let listener = "kafka_server_socket_server_metrics_connection_count{listener=\"PLAINTEXT\"}";
    wait_for_value(&broker, listener, 0.0);
    let mut client = busy(&broker);
    client.try_api_versions();
    wait_for_value(&broker, listener, 1.0);
    drop(client);
    wait_for_value(&broker, listener, 0.0);
    // That its client is gone a stream learns when it writes.
    let mut stream = curl(&["--no-buffer", &broker.http("/v1/topics/busy/sse?from=earliest&heartbeat_ms=1000")]);
    let mut stream = stream.stdout(std::process::Stdio::null()).spawn().expect("curl is there");
    wait_for_value(&broker, "capek_sse_connections", 1.0);
    stream.kill().expect("a child can be killed");
    stream.wait().expect("a child can be waited for");
    wait_for_value(&broker, "capek_sse_connections", 0.0);
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.value("capek_http_requests_total{door=\"v1\",method=\"GET\",status=\"2xx\"}"), 1.0);
    assert!(scrape.value("capek_http_requests_total{door=\"metrics\",method=\"GET\",status=\"2xx\"}") >= 4.0);
    output_of(curl(&["--output", "/dev/null", &broker.http("/v1/nowhere")]));
    assert_eq!(Scrape::of(&broker).value("capek_http_requests_total{door=\"v1\",method=\"GET\",status=\"4xx\"}"), 1.0);
}

#[test]
fn what_is_told_can_be_bounded() {
    let broker = Broker::start_with(&[
        "capek.metrics.topic.partition.level=topic",
        "capek.metrics.compat=exporter",
        "capek.metrics.series.max=20",
    ]);
    let mut client = busy(&broker);
    commit(&mut client, "readers", "busy", 0, 1);
    let scrape = Scrape::of(&broker);
    assert_eq!(scrape.count("kafka_topic_partition_leader"), 0);
    assert_eq!(scrape.value("kafka_topic_partitions{topic=\"busy\"}"), 2.0);
    assert_eq!(scrape.value("kafka_consumergroup_lag_sum{consumergroup=\"readers\",topic=\"busy\"}"), 2.0);
    assert_eq!(scrape.count("kafka_consumergroup_lag"), 0);
    assert!(scrape.value("capek_metrics_partitions_left_out") >= 2.0);
    assert!(!scrape.families.iter().any(|family| family.starts_with("kafka_server_")), "{:?}", scrape.families);
}

/// Prometheus shows nothing, and warns of nothing, where a name is wrong.
#[test]
fn the_dashboard_and_the_alerts_name_only_what_is_there() {
    let broker = Broker::start();
    busy(&broker);
    let families = Scrape::of(&broker).families;
    for (file, named_min) in [("grafana/dashboards/capek.json", 20), ("prometheus.alerts.yml", 10)] {
        let names = metrics_in(&read(&format!("docker/{file}")));
        assert!(names.len() >= named_min, "{file} names {names:?}");
        let is_there = |name: &&String| {
            let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            families.contains(*name) || of_histogram.is_some_and(|name| families.contains(name))
        };
        let missing: Vec<&String> = names.iter().filter(|name| !is_there(name)).collect();
        assert!(missing.is_empty(), "{file} names what /metrics has not: {missing:?}");
    }
}

#[test]
fn the_guide_says_of_every_alert_what_to_do() {
    let guide = read("docs/operations.md");
    let alerts = read("docker/prometheus.alerts.yml");
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(guide.contains(&format!("| `{name}` |")), "docs/operations.md has no line for {name}");
    }
}

/// Words that begin as our metrics do, and as those of a process.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let is_metric = |word: &&str| ["kafka_", "capek_", "process_"].iter().any(|prefix| word.starts_with(prefix));
    words.filter(is_metric).map(str::to_owned).collect()
}

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// As a consumer without a group does.
fn commit(client: &mut RawClient, group: &str, topic: &str, partition: i32, offset: i64) {
    wait_for("the offset is committed", Duration::from_secs(20), || {
        let body = Fields::default().string(group).i32(-1).string("").i64(-1).i32(1).string(topic);
        let body = body.i32(1).i32(partition).i64(offset).string("");
        let mut answer = client.call(OFFSET_COMMIT, 2, body);
        let (_topics, _name, _partitions, _index) = (answer.i32(), answer.string(), answer.i32(), answer.i32());
        let error = answer.i16();
        assert!(error == 0 || NOT_COORDINATOR_YET.contains(&error), "{error}");
        (error == 0).then_some(())
    });
}
