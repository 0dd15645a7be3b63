//! REST v3 with curl: resources and their envelopes, records as a stream with reports, groups and how far they are behind.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{kcat, output_of};
use crate::support::rest::{ACCEPT_JSON, Answer, JSON, call};

struct Rest {
    broker: Broker,
    cluster: String,
}

impl Rest {
    fn start(settings: &[&str]) -> Rest {
        let broker = Broker::start_with(settings);
        let clusters = broker.get("/v3/clusters").expect(200);
        let cluster = clusters["data"][0]["cluster_id"].as_str().expect("a cluster has an id").to_owned();
        Rest { broker, cluster }
    }

    fn path(&self, path: &str) -> String {
        format!("/v3/clusters/{}{path}", self.cluster)
    }

    fn url(&self, path: &str) -> String {
        self.broker.http(&self.path(path))
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        call(method, &self.url(path), &[JSON], &body)
    }

    fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &Value::Null)
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        self.call("POST", path, &body)
    }

    /// Sends these as they are and answers the reports.
    fn produce(&self, topic: &str, records: &str) -> Vec<Value> {
        let answer = call("POST", &self.url(&format!("/topics/{topic}/records")), &[JSON], records);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let lines = answer.text.split("\r\n").filter(|line| !line.trim().is_empty());
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }
}

/// An id is whatever it was set to, and links have it escaped.
#[test]
fn a_cluster_is_found_by_the_links_that_its_list_gives() {
    let broker = Broker::start_with(&["cluster.id=50% a+b/c"]);
    let clusters = broker.get("/v3/clusters").expect(200);
    let link = clusters["data"][0]["metadata"]["self"].as_str().expect("a cluster has a link");
    let found = call("GET", link, &[ACCEPT_JSON], "").expect(200);
    assert_eq!(found["cluster_id"], "50% a+b/c");
    let lacking = call("GET", &format!("{link}x"), &[ACCEPT_JSON], "");
    assert_eq!((lacking.status, lacking.text.contains("Cluster 50% a+b/cx cannot be found.")), (404, true));
}

#[test]
fn a_topic_is_made_grown_described_and_deleted() {
    let rest = Rest::start(&[]);
    let configs = json!([{ "name": "cleanup.policy", "value": "compact" }]);
    let wanted = json!({ "topic_name": "made", "partitions_count": 3, "replication_factor": 1, "configs": configs });
    let mut only_checked = wanted.clone();
    only_checked["validate_only"] = json!(true);
    rest.post("/topics", only_checked).expect(200);
    assert_eq!(rest.get("/topics/made").refused(404), 40403, "it was only checked");
    let made = rest.post("/topics", wanted.clone()).expect(201);
    let link = |path: &str| json!({ "related": rest.url(path) });
    let expected = json!({
        "kind": "KafkaTopic",
        "metadata": { "self": rest.url("/topics/made"), "resource_name": format!("crn:///kafka={}/topic=made", rest.cluster) },
        "cluster_id": rest.cluster,
        "topic_name": "made",
        "is_internal": false,
        "replication_factor": 1,
        "partitions_count": 3,
        "partitions": link("/topics/made/partitions"),
        "configs": link("/topics/made/configs"),
        "partition_reassignments": link("/topics/made/partitions/-/reassignment"),
    });
    assert_eq!(made, expected);
    assert_eq!(rest.get("/topics/made").expect(200), expected);
    assert_eq!(rest.post("/topics", wanted).refused(400), 40002, "it exists");
    let list = rest.get("/topics").expect(200);
    assert_eq!((&list["kind"], &list["data"]), (&json!("KafkaTopicList"), &json!([expected])));
    assert_eq!(list["metadata"], json!({ "self": rest.url("/topics"), "next": null }));
    let grown = rest.call("PATCH", "/topics/made", &json!({ "partitions_count": 5 })).expect(200);
    assert_eq!(grown["partitions_count"], json!(5));
    assert_eq!(rest.call("PATCH", "/topics/made", &json!({ "partitions_count": 2 })).refused(400), 40002);
    rest.call("DELETE", "/topics/made", &Value::Null).expect(204);
    assert_eq!(rest.call("DELETE", "/topics/made", &Value::Null).refused(404), 40403);
}

#[test]
fn configs_are_set_reset_and_told_with_their_source() {
    let rest = Rest::start(&[]);
    rest.broker.create_topic("t", 1);
    let path = "/topics/t/configs/retention.ms";
    let before = rest.get(path).expect(200);
    assert_eq!((&before["kind"], &before["is_default"]), (&json!("KafkaTopicConfig"), &json!(true)), "{before}");
    rest.call("PUT", path, &json!({ "value": "1000" })).expect(204);
    let set = rest.get(path).expect(200);
    assert_eq!((&set["value"], &set["source"]), (&json!("1000"), &json!("DYNAMIC_TOPIC_CONFIG")), "{set}");
    rest.call("DELETE", path, &Value::Null).expect(204);
    assert_eq!(rest.get(path).expect(200)["value"], before["value"]);
    let alter = json!({ "data": [{ "name": "cleanup.policy", "value": "compact" }, { "name": "retention.ms", "operation": "DELETE" }] });
    rest.post("/topics/t/configs:alter", alter).expect(204);
    let all = rest.get("/topics/-/configs").expect(200);
    let policy = all["data"].as_array().unwrap().iter().find(|one| one["name"] == json!("cleanup.policy")).unwrap();
    assert_eq!((&policy["topic_name"], &policy["value"]), (&json!("t"), &json!("compact")));
    assert_eq!(rest.call("PUT", path, &json!({ "value": "soon" })).refused(400), 40002);
    assert_eq!(rest.get("/topics/t/configs/no.such").status, 404);
    rest.call("PUT", "/broker-configs/log.cleaner.threads", &json!({ "value": "2" })).expect(204);
    assert_eq!(rest.get("/broker-configs/log.cleaner.threads").expect(200)["value"], json!("2"));
    let of_broker = rest.get("/brokers/1/configs/log.cleaner.threads").expect(200);
    assert_eq!(of_broker["source"], json!("DYNAMIC_DEFAULT_BROKER_CONFIG"), "{of_broker}");
    assert!(rest.get("/brokers/-/configs").expect(200)["data"].as_array().is_some_and(|data| data.len() > 50));
    assert_eq!(rest.get("/brokers/9/configs").refused(404), 404);
}

#[test]
fn partitions_replicas_and_brokers_are_linked() {
    let rest = Rest::start(&[]);
    rest.broker.create_topic("t", 2);
    rest.produce("t", r#"{"partition_id":1,"value":{"type":"STRING","data":"x"}}"#);
    let partition = rest.get("/topics/t/partitions/1").expect(200);
    assert_eq!(partition["leader"]["related"], json!(rest.url("/topics/t/partitions/1/replicas/1")));
    let replica = rest.get("/topics/t/partitions/1/replicas/1").expect(200);
    assert_eq!((&replica["is_leader"], &replica["is_in_sync"]), (&json!(true), &json!(true)));
    assert_eq!(rest.get("/topics/t/partitions/1/offset?offset_type=latest").expect(200)["offset"], json!(1));
    assert_eq!(rest.get("/topics/t/partitions/1/offset?offset_type=earliest").expect(200)["offset"], json!(0));
    assert_eq!(rest.get("/topics/t/partitions/1/offset?offset_type=middle").refused(400), 400);
    for path in ["/topics/-/partitions/-/reassignment", "/topics/t/partitions/-/reassignment"] {
        assert_eq!(rest.get(path).expect(200)["data"], json!([]), "{path}");
    }
    for path in [
        "/topics/t/partitions/7",
        "/topics/t/partitions/1/replicas/9",
        "/brokers/9",
        "/topics/t/partitions/1/reassignment",
    ] {
        assert_eq!(rest.get(path).status, 404, "{path}");
    }
    let broker = rest.get("/brokers/1").expect(200);
    assert_eq!((&broker["host"], &broker["port"]), (&json!("127.0.0.1"), &json!(rest.broker.kafka_port)), "{broker}");
    assert_eq!(rest.get("/brokers/1/partition-replicas").expect(200)["data"].as_array().map(Vec::len), Some(2));
    assert_eq!(rest.get("/acls").refused(400), 40002);
    assert_eq!(rest.broker.get("/v3/clusters/other/topics").refused(404), 404);
    let below_kafka = rest.broker.get(&format!("/kafka/v3/clusters/{}/topics/t", rest.cluster)).expect(200);
    assert!(below_kafka["metadata"]["self"].as_str().is_some_and(|link| link.contains("/kafka/v3/")), "{below_kafka}");
}

#[test]
fn each_record_has_its_report_and_bad_ones_do_not_stop_the_stream() {
    let rest = Rest::start(&[]);
    rest.broker.create_topic("t", 1);
    let records = r#"{"key":{"type":"BINARY","data":"Zm9vYmFy"},"headers":[{"name":"h","value":"dg=="}],"value":{"type":"JSON","data":{"a": 1}},"timestamp":"2021-02-05T19:14:42Z"}
        {"value":{"type":"BINARY","data":1}} {"value":{"type":"STRING","data":"text"}}{"value":{"data":1}}{"partition_id":9,"value":null}"#;
    let reports = rest.produce("t", records);
    let codes: Vec<i64> = reports.iter().map(|report| report["error_code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [200, 400, 200, 42206, 40403], "{reports:?}");
    let expected = json!({"error_code": 200, "cluster_id": rest.cluster, "topic_name": "t", "partition_id": 0, "offset": 0,
        "timestamp": "2021-02-05T19:14:42Z", "key": {"type": "BINARY", "size": 6}, "value": {"type": "JSON", "size": 7}});
    assert_eq!(reports[0], expected);
    assert_eq!(reports[1]["message"], json!("Bad Request: data=1 is not a base64 string."));
    assert_eq!(reports[2]["offset"], json!(1), "what is bad takes no offset");
    let seen = output_of(kcat(&[
        "-C",
        "-q",
        "-e",
        "-b",
        &rest.broker.kafka(),
        "-t",
        "t",
        "-o",
        "beginning",
        "-f",
        "%k|%s|%h\\n",
    ]));
    assert_eq!(seen, "foobar|{\"a\":1}|h=v\n|text|\n");
    let reports = rest.produce("t", "{\"value\":{\"type\":\"STRING\",\"data\":\"ok\"}} {\"value\": oops} {\"value\":{\"type\":\"STRING\",\"data\":\"never\"}}");
    let codes: Vec<i64> = reports.iter().map(|report| report["error_code"].as_i64().unwrap()).collect();
    assert_eq!(codes, [200, 400], "what is no JSON ends the stream: {reports:?}");
}

#[test]
fn an_unknown_topic_is_a_report() {
    let rest = Rest::start(&["auto.create.topics.enable=false"]);
    let reports = rest.produce("none", r#"{"value":{"type":"JSON","data":1}}"#);
    let expected = json!({ "error_code": 40403, "message": "This server does not host this topic-partition." });
    assert_eq!(reports, [expected]);
}

/// The next report of a response that is still open.
fn next_report(socket: &mut TcpStream, pending: &mut Vec<u8>) -> Value {
    loop {
        if let Some(begin) = pending.iter().position(|byte| *byte == b'{')
            && let Some(end) = pending[begin..].windows(2).position(|pair| pair == b"\r\n")
        {
            let report = serde_json::from_slice(&pending[begin..begin + end]).expect("a report is JSON");
            pending.drain(..begin + end + 2);
            return report;
        }
        let mut buffer = [0; 4096];
        let count = socket.read(&mut buffer).expect("a report comes in time");
        assert!(count > 0, "the response has ended: {}", String::from_utf8_lossy(pending));
        pending.extend_from_slice(&buffer[..count]);
    }
}

/// Reports come while the request is open, and a record that is cut in two is whole when its rest has come.
#[test]
fn reports_come_back_while_the_request_is_still_open() {
    let rest = Rest::start(&[]);
    rest.broker.create_topic("t", 1);
    let mut socket = TcpStream::connect(rest.broker.http_address()).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.set_nodelay(true).unwrap();
    let path = rest.path("/topics/t/records");
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut pending = Vec::new();
    let mut slowest = Duration::ZERO;
    for index in 0..100 {
        let record = format!("{{\"value\":{{\"type\":\"JSON\",\"data\":{index}}}}}");
        let (one, other) = record.split_at(10);
        for part in [one, other] {
            socket.write_all(format!("{:x}\r\n{part}\r\n", part.len()).as_bytes()).unwrap();
        }
        let sent = Instant::now();
        let report = next_report(&mut socket, &mut pending);
        slowest = slowest.max(sent.elapsed());
        assert_eq!((&report["error_code"], &report["offset"]), (&json!(200), &json!(index)), "{report}");
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    socket.write_all(b"0\r\n\r\n").unwrap();
    let mut rest_of_it = Vec::new();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    while !rest_of_it.ends_with(b"0\r\n\r\n") {
        let mut buffer = [0; 64];
        let count = socket.read(&mut buffer).expect("the response ends");
        assert!(count > 0);
        rest_of_it.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn a_batch_tells_what_succeeded_and_what_failed() {
    let rest = Rest::start(&[]);
    rest.broker.create_topic("t", 1);
    let entries = json!([
        { "id": "1", "value": { "type": "STRING", "data": "a" } },
        { "id": "2", "value": { "type": "BINARY", "data": "?" } },
        { "id": "3", "value": { "type": "JSON", "data": [1] } },
    ]);
    let answer = rest.post("/topics/t/records:batch", json!({ "entries": entries })).expect(207);
    let successes = answer["successes"].as_array().unwrap();
    let told: Vec<_> =
        successes.iter().map(|one| (one["id"].as_str().unwrap(), one["offset"].as_i64().unwrap())).collect();
    assert_eq!(told, [("1", 0), ("3", 1)], "{answer}");
    assert_eq!((&answer["failures"][0]["id"], &answer["failures"][0]["error_code"]), (&json!("2"), &json!(400)));
    let twice = json!({ "entries": [{ "id": "1", "value": null }, { "id": "1", "value": null }] });
    assert_eq!(rest.post("/topics/t/records:batch", twice).refused(422), 42208);
    assert_eq!(rest.post("/topics/t/records:batch", json!({ "entries": [] })).refused(422), 42208);
}

#[test]
fn a_groups_members_assignments_and_lag_are_told() {
    let rest = Rest::start(&["group.consumer.heartbeat.interval.ms=300"]);
    let broker = &rest.broker;
    broker.create_topic("t", 2);
    broker.produce_json("t", 0, &[json!(0), json!(1), json!(2)]);
    broker.produce_json("t", 1, &[json!(0)]);
    let body = json!({ "name": "one", "format": "json", "auto.offset.reset": "earliest" });
    broker.post_v2("/consumers/g", &body).expect(200);
    broker.post_v2("/consumers/g/instances/one/subscription", &json!({ "topics": ["t"] })).expect(204);
    call("GET", &broker.http("/consumers/g/instances/one/records?timeout=10000"), &[ACCEPT_JSON], "").expect(200);
    let offsets = json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": 0 }, { "topic": "t", "partition": 1, "offset": 0 }] });
    broker.post_v2("/consumers/g/instances/one/offsets", &offsets).expect(200);

    let group = rest.get("/consumer-groups/g").expect(200);
    assert_eq!((&group["kind"], &group["is_simple"]), (&json!("KafkaConsumerGroup"), &json!(false)), "{group}");
    assert_eq!(group["coordinator"]["related"], json!(rest.url("/brokers/1")));
    assert_eq!(rest.get("/consumer-groups").expect(200)["data"].as_array().map(Vec::len), Some(1));
    let members = rest.get("/consumer-groups/g/consumers").expect(200);
    let member = members["data"][0]["consumer_id"].as_str().expect("a member has an id").to_owned();
    let assignments = rest.get(&format!("/consumer-groups/g/consumers/{member}/assignments")).expect(200);
    assert_eq!(assignments["data"].as_array().map(Vec::len), Some(2), "{assignments}");
    rest.get(&format!("/consumer-groups/g/consumers/{member}/assignments/t/partitions/1")).expect(200);
    let lag = rest.get("/consumer-groups/g/lags/t/partitions/0").expect(200);
    assert_eq!(
        (&lag["current_offset"], &lag["log_end_offset"], &lag["lag"]),
        (&json!(1), &json!(3), &json!(2)),
        "{lag}"
    );
    assert_eq!(lag["consumer_id"], json!(member));
    assert_eq!(rest.get("/consumer-groups/g/lags").expect(200)["data"].as_array().map(Vec::len), Some(2));
    let summary = rest.get("/consumer-groups/g/lag-summary").expect(200);
    let told = (&summary["max_lag"], &summary["total_lag"], &summary["max_lag_partition_id"]);
    assert_eq!(told, (&json!(2), &json!(2), &json!(0)), "{summary}");
    broker.delete("/consumers/g/instances/one").expect(204);
    assert_eq!(
        rest.get("/consumer-groups/g/lag-summary").expect(200)["max_lag"],
        json!(2),
        "of a group without members too"
    );
    assert_eq!(rest.get("/consumer-groups/none").refused(404), 404);
}

/// Ours: Confluent's interface has no way to read.
#[test]
fn what_a_partition_holds_is_read_as_lines() {
    let rest = Rest::start(&[]);
    rest.broker.create_topic("read", 2);
    rest.broker.produce_json("read", 1, &[json!({ "n": 0 }), json!({ "n": 1 }), json!({ "n": 2 })]);
    let answer = rest.get("/topics/read/partitions/1/records?from=offset:1&limit=1");
    assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/x-ndjson"), "{}", answer.text);
    assert_eq!(
        (&answer.body["partition"], &answer.body["offset"]),
        (&json!(1), &json!(1)),
        "one line: {}",
        answer.text
    );
    assert_eq!(answer.body["value"], json!({ "n": 1 }));
    assert_eq!(rest.get("/topics/read/partitions/0/records").text, "");
    assert_eq!(rest.get("/topics/read/partitions/2/records").refused(404), 40403);
    assert_eq!(rest.get("/topics/none/partitions/0/records").refused(404), 40403);
    assert_eq!(rest.get("/topics/read/partitions/1/records?from=soon").refused(400), 400);
}
