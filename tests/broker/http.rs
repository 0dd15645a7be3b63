//! HTTP in, Kafka out, and the other way round: `curl`, a WebSocket client and a reader of Server-Sent Events.

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{Background, curl, kcat, output_of, output_with_input, parse_tabbed, python};
use crate::support::rest::call;

const TABBED: &str = "%p\\t%o\\t%T\\t%k\\t%s\\t%h\\n";

#[test]
fn health_and_readiness_are_answered() {
    let broker = Broker::start();
    for path in ["/healthz", "/livez", "/readyz", "/status/ready", "/actuator/health"] {
        assert_eq!(status_of(&broker, path, &[]), "200", "{path}");
    }
}

/// What GET answers, without the body; a read that moves a consumer on, or has no end, is not for that.
#[test]
fn head_is_answered_as_get_is() {
    let broker = Broker::start();
    broker.create_topic("heads", 1);
    call("POST", &broker.http("/v1/topics/heads"), &[], "x").expect(200);
    let clusters = broker.get("/v3/clusters").expect(200);
    let cluster = clusters["data"][0]["cluster_id"].as_str().expect("it has an id");
    let of_cluster = format!("/v3/clusters/{cluster}");
    for path in [
        "/",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/topics",
        "/topics/heads/partitions",
        "/topics/heads/partitions/0/records?offset=0",
        "/brokers",
        "/v3/clusters",
        &of_cluster,
        "/kafka/v3/clusters",
        "/v1/topics",
        "/v1/topics/heads",
        "/v1/topics/heads/records",
        "/v1/groups",
        "/v1/actors",
    ] {
        let get = status_of(&broker, path, &[]);
        assert_eq!((get.as_str(), status_of(&broker, path, &["--head"]).as_str()), ("200", "200"), "{path}");
        let body = output_of(curl(&["--http1.1", "--head", "--write-out", "%{size_download}", &broker.http(path)]));
        assert!(body.ends_with("\r\n\r\n0"), "{path}: {body}");
    }
    let length = |more: &[&str]| {
        let head = output_of(curl(
            &[&["--output", "/dev/null", "--dump-header", "-", &broker.http("/topics")], more].concat(),
        ));
        let line = head.to_ascii_lowercase().lines().find(|line| line.starts_with("content-length")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{head}"))
    };
    assert_eq!(length(&[]), length(&["--head"]), "it says how long the body would be");
    assert_eq!(status_of(&broker, "/v1/topics/nothing", &["--head"]), "404");
    for path in ["/v1/topics/heads/sse", "/v1/topics/heads/ws", "/consumers/g/instances/i/records"] {
        assert_eq!(status_of(&broker, path, &["--head"]), "405", "{path}");
    }
    // The connection is of use after it.
    let twice =
        output_of(curl(&["--head", "--write-out", "%{num_connects} ", &broker.http("/topics"), &broker.http("/")]));
    assert_eq!(twice.lines().last().map(str::trim), Some("0"), "{twice}");
}

/// The body is the record; key, partition and headers come in the query.
#[test]
fn a_body_posted_with_curl_is_read_by_kcat() {
    let broker = Broker::start();
    broker.create_topic("plain", 2);
    let url = broker.http("/v1/topics/plain?key=k&partition=1&header.trace=1&header.trace=again");
    let answer = json_of(curl(&["--fail-with-body", "--data-binary", "hello", "-H", "Content-Type: text/plain", &url]));
    assert_eq!((&answer["partition"], &answer["offset"]), (&json!(1), &json!(0)), "{answer}");
    assert!(answer["timestamp"].is_number(), "{answer}");
    let seen = kcat_all(&broker, "plain");
    assert_eq!(seen.len(), 1);
    assert_eq!((seen[0].key.as_str(), seen[0].value.as_str(), seen[0].partition), ("k", "hello", 1));
    assert_eq!(seen[0].headers, "trace=1,trace=again");
}

/// HTTP chooses the partition of a key as Kafka's clients do.
#[test]
fn a_key_lands_in_the_partition_that_kafkas_clients_choose() {
    let broker = Broker::start();
    for topic in ["by-http", "by-client"] {
        broker.create_topic(topic, 7);
    }
    // librdkafka's own default is another hash; murmur2 is what Java uses.
    let input: String = (0..30).map(|index| format!("key-{index}:x\n")).collect();
    let arguments =
        ["-P", "-b", &broker.kafka(), "-t", "by-client", "-K", ":", "-X", "topic.partitioner=murmur2_random"];
    output_with_input(kcat(&arguments), &input);
    for index in 0..30 {
        output_of(curl(&["--fail-with-body", "-d", "x", &broker.http(&format!("/v1/topics/by-http?key=key-{index}"))]));
    }
    let placed = |topic: &str| {
        let mut keys: Vec<_> = kcat_all(&broker, topic).into_iter().map(|seen| (seen.key, seen.partition)).collect();
        keys.sort();
        keys
    };
    assert_eq!(placed("by-http"), placed("by-client"));
}

#[test]
fn a_line_of_ndjson_is_a_record() {
    let broker = Broker::start();
    broker.create_topic("lines", 1);
    let body = "{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n";
    let content_type = "Content-Type: application/x-ndjson";
    let url = broker.http("/v1/topics/lines");
    let answer = output_of(curl(&["--fail-with-body", "--data-binary", body, "-H", content_type, &url]));
    let offsets: Vec<Value> = answer.lines().map(|line| parse(line)["offset"].clone()).collect();
    assert_eq!(offsets, [json!(0), json!(1), json!(2)], "{answer}");
    assert_eq!(kcat_all(&broker, "lines").len(), 3);
}

#[test]
fn rest_v2_takes_json_and_binary() {
    let broker = Broker::start();
    broker.create_topic("rest", 2);
    let url = broker.http("/topics/rest");
    let send = |content_type: &str, body: Value| {
        let header = format!("Content-Type: {content_type}");
        json_of(curl(&["--fail-with-body", "-d", &body.to_string(), "-H", &header, &url]))
    };
    let records = json!({"records": [{"key": "k", "value": {"name": "testUser"}, "partition": 0}, {"value": null, "partition": 1}]});
    let answer = send("application/vnd.kafka.json.v2+json", records);
    assert_eq!(
        answer["offsets"][0],
        json!({"partition": 0, "offset": 0, "error_code": null, "error": null}),
        "{answer}"
    );
    assert_eq!(
        answer["offsets"][1],
        json!({"partition": 1, "offset": 0, "error_code": null, "error": null}),
        "{answer}"
    );
    assert_eq!((&answer["key_schema_id"], &answer["value_schema_id"]), (&Value::Null, &Value::Null));
    let records = json!({"records": [{"key": "a2V5", "value": "Y29uZmx1ZW50", "partition": 0}]});
    assert_eq!(send("application/vnd.kafka.binary.v2+json", records)["offsets"][0]["offset"], json!(1));
    let seen = kcat_all(&broker, "rest");
    assert!(seen.iter().any(|record| record.value == r#"{"name":"testUser"}"#), "{seen:?}");
    assert!(seen.iter().any(|record| record.key == "key" && record.value == "confluent"), "{seen:?}");
}

#[test]
fn bad_json_is_refused_with_its_position() {
    let broker = Broker::start();
    broker.create_topic("strict", 1);
    let (status, answer) =
        post(&broker, "/topics/strict", "application/vnd.kafka.json.v2+json", "{\"records\":[{\"value\":}]}");
    assert_eq!(status, "400", "{answer}");
    assert_eq!(answer["error_code"], json!(400), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|message| message.contains("column")), "{answer}");
    let (status, answer) = post(&broker, "/v1/topics/strict", "application/json", "{\n\"n\":}\n");
    assert_eq!((status.as_str(), &answer["position"]["line"]), ("400", &json!(2)), "{answer}");
    let (status, answer) = post(&broker, "/topics/strict", "application/vnd.kafka.json.v2+json", "{\"records\":[]}");
    assert_eq!((status.as_str(), &answer["error_code"]), ("422", &json!(422)), "{answer}");
    assert!(kcat_all(&broker, "strict").is_empty(), "nothing of it was stored");
}

#[test]
fn an_unknown_topic_or_path_is_404() {
    let broker = Broker::start_with(&["auto.create.topics.enable=false"]);
    let records = r#"{"records":[{"value":1}]}"#;
    let (status, answer) = post(&broker, "/topics/nowhere", "application/vnd.kafka.json.v2+json", records);
    assert_eq!((status.as_str(), &answer["error_code"]), ("404", &json!(40401)), "{answer}");
    assert_eq!(status_of(&broker, "/no/such/path", &[]), "404");
    assert_eq!(status_of(&broker, "/v1/topics/nowhere/sse", &[]), "404");
}

#[test]
fn a_websocket_consumer_sees_the_past_and_the_present() {
    let broker = Broker::start();
    broker.create_topic("stream", 1);
    kcat_produce(&broker, "stream", &["k1:{\"a\":1}", "k2:text"]);
    let url = websocket(&broker, "stream");
    let mut consumer = Background::start(python("websocket_client.py", &[&url, "4"]));
    let mut records = Vec::new();
    while records.len() < 2 {
        records.extend(records_of(&parse(&consumer.line())));
    }
    kcat_produce(&broker, "stream", &["k3:later", "k4:latest"]);
    while records.len() < 4 {
        records.extend(records_of(&parse(&consumer.line())));
    }
    let offsets: Vec<i64> = records.iter().filter_map(|record| record["offset"].as_i64()).collect();
    assert_eq!(offsets, [0, 1, 2, 3]);
    assert_eq!((&records[0]["key"], &records[0]["value"]), (&json!("k1"), &json!({"a": 1})));
    assert_eq!(records[1]["value"], json!("text"));
}

/// Far more than any buffer: what a consumer that does not read has not asked for stays in the log.
#[test]
fn a_stalled_websocket_consumer_slows_only_itself() {
    let broker = Broker::start();
    broker.create_topic("bulk", 1);
    let line = format!("{}\n", "x".repeat(1000));
    let arguments = ["-P", "-b", &broker.kafka(), "-t", "bulk"];
    output_with_input(kcat(&arguments), &line.repeat(100_000));
    let before = broker.memory_bytes();
    let url = websocket(&broker, "bulk");
    let stalled: Vec<Background> =
        (0..10).map(|_| Background::start(python("websocket_client.py", &[&url, "100000", "20"]))).collect();
    std::thread::sleep(std::time::Duration::from_secs(3));
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth <= 128 << 20, "{growth} bytes for ten stalled consumers of 100 MB");
    assert_eq!(kcat_all(&broker, "bulk").len(), 100_000, "another consumer is served");
    drop(stalled);
}

#[test]
fn an_sse_consumer_sees_the_past_and_resumes_where_it_stopped() {
    let broker = Broker::start();
    broker.create_topic("events", 1);
    kcat_produce(&broker, "events", &["k1:one", "k2:two", "k3:three"]);
    let url = broker.http("/v1/topics/events/sse?from=earliest");
    let messages = sse(&[&url, "2"]);
    let offsets: Vec<i64> = messages.iter().filter_map(|message| message.1["offset"].as_i64()).collect();
    assert_eq!(offsets, [0, 1]);
    assert_eq!((&messages[0].1["key"], &messages[0].1["value"]), (&json!("k1"), &json!("one")));
    // The id says what comes next, and is what a browser sends back.
    let id = messages[1].0.as_str().expect("a message has an id");
    assert_eq!(parse(id), json!([{"topic": "events", "partition": 0, "offset": 2}]));
    let resumed = sse(&[&url, "1", id]);
    assert_eq!(resumed[0].1["offset"], json!(2));
}

/// Id and data of the messages.
fn sse(arguments: &[&str]) -> Vec<(Value, Value)> {
    let output = output_of(python("sse_client.py", arguments));
    let events = output.lines().map(parse).filter(|event| event["event"] == json!("message"));
    events.map(|event| (event["id"].clone(), parse(event["data"].as_str().expect("data is text")))).collect()
}

fn records_of(frame: &Value) -> Vec<Value> {
    if frame["type"] == json!("records") {
        frame["records"].as_array().cloned().unwrap_or_default()
    } else {
        Vec::new()
    }
}

fn websocket(broker: &Broker, topic: &str) -> String {
    broker.wait_for_http();
    format!("ws://{}/v1/topics/{topic}/ws?from=earliest", broker.http_address())
}

fn kcat_produce(broker: &Broker, topic: &str, records: &[&str]) {
    let input: String = records.iter().map(|record| format!("{record}\n")).collect();
    output_with_input(kcat(&["-P", "-b", &broker.kafka(), "-t", topic, "-K", ":", "-p", "0"]), &input);
}

fn kcat_all(broker: &Broker, topic: &str) -> Vec<crate::support::programs::Seen> {
    let arguments = ["-C", "-q", "-e", "-b", &broker.kafka(), "-t", topic, "-o", "beginning", "-f", TABBED];
    parse_tabbed(&output_of(kcat(&arguments)))
}

/// Status and body.
fn post(broker: &Broker, path: &str, content_type: &str, body: &str) -> (String, Value) {
    let header = format!("Content-Type: {content_type}");
    let arguments = ["--write-out", "\n%{http_code}", "--data-binary", body, "-H", &header, &broker.http(path)];
    let output = output_of(curl(&arguments));
    let (answer, status) = output.rsplit_once('\n').expect("curl writes the status last");
    (status.to_owned(), serde_json::from_str(answer).unwrap_or(Value::Null))
}

fn status_of(broker: &Broker, path: &str, more: &[&str]) -> String {
    let arguments = ["--output", "/dev/null", "--write-out", "%{http_code}", &broker.http(path)];
    output_of(curl(&[&arguments[..], more].concat()))
}

fn json_of(command: std::process::Command) -> Value {
    parse(&output_of(command))
}

fn parse(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}
