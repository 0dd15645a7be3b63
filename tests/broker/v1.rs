//! `/v1` with curl: every content type, keys that store once, bounded reads, and the small JSON for scripts.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::{Broker, Directory};
use crate::support::programs::{Seen, curl, kcat, output_of, output_with_input, parse_tabbed};
use crate::support::rest::{Answer, JSON, call};
use crate::support::wait_for;

const TEXT: &str = "Content-Type: text/plain";
const LINES: &str = "Content-Type: application/x-ndjson";

fn post(broker: &Broker, path: &str, headers: &[&str], body: &str) -> Answer {
    call("POST", &broker.http(path), headers, body)
}

fn stored(broker: &Broker, topic: &str) -> Vec<Seen> {
    let format = "%p\\t%o\\t%T\\t%k\\t%s\\t%h\\n";
    parse_tabbed(&output_of(kcat(&[
        "-C",
        "-q",
        "-e",
        "-b",
        &broker.kafka(),
        "-t",
        topic,
        "-o",
        "beginning",
        "-f",
        format,
    ])))
}

fn values(broker: &Broker, topic: &str) -> Vec<String> {
    stored(broker, topic).into_iter().map(|record| record.value).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn every_content_type_is_stored_as_it_says() {
    let broker = Broker::start();
    broker.create_topic("types", 1);
    for (content_type, body, value) in [
        ("text/plain", "a text", "a text"),
        ("application/json", "{ \"n\": 1.0 }", "{ \"n\": 1.0 }"),
        ("application/octet-stream", "bytes", "bytes"),
        ("application/x-www-form-urlencoded", "as curl says of -d", "as curl says of -d"),
        ("application/x-ndjson; charset=utf-8", "{\"n\":1}\n\n{\"n\":2}\n", "{\"n\":1} {\"n\":2}"),
        ("text/csv", "a,b\r\n\"c,\"\"d\",e\r\n", "a,b \"c,\"\"d\",e"),
        ("text/csv; header=present", "name,age\nAnn,7\n", "{\"name\":\"Ann\",\"age\":\"7\"}"),
    ] {
        let before = values(&broker, "types").len();
        post(&broker, "/v1/topics/types", &[&format!("Content-Type: {content_type}")], body).expect(200);
        assert_eq!(values(&broker, "types")[before..].join(" "), value, "{content_type}");
    }
}

#[test]
fn the_good_records_of_a_partly_bad_request_are_stored_and_the_bad_are_told() {
    let broker = Broker::start();
    broker.create_topic("mixed", 1);
    let answer = post(&broker, "/v1/topics/mixed", &[LINES], "{\"n\":1}\n{\"n\":\n{\"n\":3}\n");
    assert_eq!((answer.status, answer.content_type.as_str()), (207, "application/x-ndjson"));
    let told = lines(&answer.text);
    assert_eq!((&told[0]["offset"], &told[2]["offset"]), (&json!(0), &json!(1)), "{told:?}");
    assert_eq!((&told[1]["status"], &told[1]["position"]["line"]), (&json!(400), &json!(2)), "{told:?}");
    assert_eq!(values(&broker, "mixed"), ["{\"n\":1}", "{\"n\":3}"]);
    let answer = post(&broker, "/v1/topics/mixed", &[LINES], "{\n{\n");
    assert_eq!((answer.status, lines(&answer.text).len()), (400, 2), "{}", answer.text);
    let answer = post(&broker, "/v1/topics/mixed", &[JSON], "{");
    assert_eq!((answer.status, answer.content_type.as_str()), (400, "application/problem+json"));
    assert_eq!(answer.body["position"], json!({"line": 1, "column": 1}));
    assert_eq!(values(&broker, "mixed").len(), 2);
}

#[test]
fn acks_0_does_not_wait_for_an_offset() {
    let broker = Broker::start();
    broker.create_topic("unheard", 1);
    for (acks, offset) in [("all", json!(0)), ("1", json!(1)), ("-1", json!(2))] {
        let answer = post(&broker, &format!("/v1/topics/unheard?acks={acks}"), &[TEXT], "x").expect(200);
        assert_eq!(answer["offset"], offset, "{acks}");
    }
    post(&broker, "/v1/topics/unheard?acks=0", &[TEXT], "x").expect(200);
    assert_eq!(post(&broker, "/v1/topics/unheard?acks=2", &[TEXT], "x").status, 400);
    wait_for("the record is stored all the same", Duration::from_secs(10), || {
        (values(&broker, "unheard").len() == 4).then_some(())
    });
}

#[test]
fn a_retry_with_the_same_key_stores_nothing_twice_also_after_a_kill() {
    let mut broker = Broker::start();
    broker.create_topic("once", 7);
    let order = |number: usize| format!("Idempotency-Key: order-{number}");
    let send = |broker: &Broker, number: usize| {
        let body = format!("{{\"order\":{number}}}\n{{\"line\":{number}}}\n");
        let answer = post(broker, "/v1/topics/once", &[LINES, &order(number)], &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        lines(&answer.text).iter().map(|line| (line["partition"].clone(), line["offset"].clone())).collect::<Vec<_>>()
    };
    let first: Vec<_> = (0..20).map(|number| send(&broker, number)).collect();
    assert!(first.iter().all(|places| places[0].0 == places[1].0), "one request, one partition: {first:?}");
    let partitions: std::collections::BTreeSet<String> = first.iter().map(|places| places[0].0.to_string()).collect();
    assert!(partitions.len() > 3, "keys choose partitions: {partitions:?}");
    for round in 0..3 {
        let again: Vec<_> = (0..20).map(|number| send(&broker, number)).collect();
        assert_eq!(again, first, "round {round}");
        broker.kill();
        broker.start_again();
        broker.wait_for_http();
    }
    let records = stored(&broker, "once");
    assert_eq!(records.len(), 40);
    assert!(records.iter().all(|record| record.headers.starts_with("Idempotency-Key=order-")), "{:?}", records[0]);
    // The same key for something else is a mistake of the client, and not stored.
    let answer = post(&broker, "/v1/topics/once", &[TEXT, &order(3)], "something else");
    assert_eq!((answer.status, answer.content_type.as_str()), (422, "application/problem+json"), "{}", answer.text);
    let answer = post(&broker, "/v1/topics/once?partition=0", &[TEXT, &order(100)], "x").expect(200);
    assert_eq!(answer["partition"], json!(0), "a partition that is named wins");
    let long = format!("Idempotency-Key: {}", "k".repeat(256));
    assert_eq!(post(&broker, "/v1/topics/once", &[TEXT, &long], "x").status, 400);
    assert_eq!(stored(&broker, "once").len(), 41);
}

/// A file that Python has compressed.
fn gzipped(directory: &Directory, plain: &[u8]) -> String {
    let path = directory.path().join("plain");
    std::fs::write(&path, plain).expect("the directory is there");
    let file = directory.path().join("plain.gz");
    let output = Command::new("python3")
        .args(["-c", "import gzip,sys; sys.stdout.buffer.write(gzip.compress(open(sys.argv[1],'rb').read()))"])
        .arg(&path)
        .output()
        .expect("python runs");
    std::fs::write(&file, output.stdout).expect("the directory is there");
    file.to_str().expect("ASCII").to_owned()
}

#[test]
fn gzip_and_zstd_bodies_are_inflated_up_to_the_limit() {
    let broker = Broker::start_with(&["capek.http.body.bytes.max=100000"]);
    broker.create_topic("packed", 1);
    let directory = Directory::new();
    let send = |encoding: &str, file: &str| {
        let arguments = ["--write-out", "\n%{http_code}", "--data-binary", &format!("@{file}"), "-H", TEXT, "-H"];
        let encoding = format!("Content-Encoding: {encoding}");
        let output = output_of(curl(&[&arguments[..], &[&encoding, &broker.http("/v1/topics/packed")]].concat()));
        output.rsplit_once('\n').expect("the status is last").1.to_owned()
    };
    let small = gzipped(&directory, b"inflated");
    assert_eq!(send("gzip", &small), "200");
    assert_eq!(send("br", &small), "415");
    assert_eq!(send("zstd", &small), "400", "it is not what it says");
    // "zstd" in one raw block of RFC 8878.
    let zstd = directory.path().join("plain.zstd");
    std::fs::write(&zstd, b"\x28\xb5\x2f\xfd\x20\x04\x21\x00\x00zstd").expect("the directory is there");
    assert_eq!(send("zstd", zstd.to_str().expect("ASCII")), "200");
    let bomb = gzipped(&directory, &vec![b'0'; 50 << 20]);
    assert!(std::fs::metadata(&bomb).expect("it was written").len() < 100_000, "it passes as it comes");
    let before = broker.memory_bytes();
    for _ in 0..10 {
        assert_eq!(send("gzip", &bomb), "413");
    }
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes for ten bombs");
    assert_eq!(values(&broker, "packed"), ["inflated", "zstd"]);
}

#[test]
fn a_bounded_read_ends_where_it_says() {
    let broker = Broker::start();
    broker.create_topic("past", 2);
    let input: String = (0..5).map(|number| format!("k{number}:{{\"n\":{number}}}\n")).collect();
    for partition in ["0", "1"] {
        output_with_input(kcat(&["-P", "-b", &broker.kafka(), "-t", "past", "-K", ":", "-p", partition]), &input);
    }
    broker.wait_for_http();
    let read = |query: &str| {
        let answer = broker.get(&format!("/v1/topics/past/records?{query}"));
        assert_eq!((answer.status, answer.content_type.as_str()), (200, "application/x-ndjson"), "{}", answer.text);
        let place =
            |line: Value| (line["partition"].as_i64().expect("a number"), line["offset"].as_i64().expect("a number"));
        lines(&answer.text).into_iter().map(place).collect::<Vec<_>>()
    };
    let mut all = read("");
    all.sort();
    assert_eq!(all, (0..2).flat_map(|partition| (0..5).map(move |offset| (partition, offset))).collect::<Vec<_>>());
    assert_eq!(read("partitions=1&from=offset:1&to=offset:3"), [(1, 1), (1, 2)]);
    assert_eq!(read("partitions=0&from=-2"), [(0, 3), (0, 4)]);
    assert_eq!(read("partitions=0&limit=3"), [(0, 0), (0, 1), (0, 2)]);
    assert!(read("limit=0").is_empty());
    assert!(read("from=ts:2000-01-01T00:00:00Z&to=ts:2000-01-01T00:00:00Z").is_empty());
    assert!(read("from=latest").is_empty());
    let text = broker.get("/v1/topics/past/records?partitions=0&limit=1&envelope=value").text;
    assert_eq!(text, "{\"n\":0}\n");
    for bad in ["from=x", "to=x", "limit=x", "partitions=2", "partitions=x", "format=x", "envelope=x"] {
        let answer = broker.get(&format!("/v1/topics/past/records?{bad}"));
        assert!([400, 404].contains(&answer.status), "{bad}: {}", answer.text);
        assert!(answer.body["detail"].is_string(), "{bad}: {}", answer.text);
    }
    assert_eq!(broker.get("/v1/topics/nowhere/records").status, 404);
}

/// More than any buffer, read by curl as lines and sent back as lines.
#[test]
fn what_was_read_as_lines_is_written_as_lines() {
    let broker = Broker::start();
    broker.create_topic("from", 1);
    let value = "x".repeat(1000);
    let input: String = (0..5000).map(|number| format!("\"{number}-{value}\"\n")).collect();
    output_with_input(kcat(&["-P", "-b", &broker.kafka(), "-t", "from"]), &input);
    broker.wait_for_http();
    let read = output_of(curl(&[&broker.http("/v1/topics/from/records?envelope=value")]));
    assert_eq!(read, input);
    let directory = Directory::new();
    let file = directory.path().join("lines");
    std::fs::write(&file, &read).expect("the directory is there");
    let data = format!("@{}", file.display());
    let answer = output_of(curl(&["--data-binary", &data, "-H", LINES, &broker.http("/v1/topics/to")]));
    assert_eq!(answer.lines().count(), 5000);
    assert_eq!(output_of(curl(&[&broker.http("/v1/topics/to/records?envelope=value")])), input);
}

#[test]
fn a_topic_is_made_described_changed_and_deleted_by_scripts() {
    let broker = Broker::start();
    broker.wait_for_http();
    let made = json!({"topic": "made", "partitions": 2, "configs": {"retention.ms": 86400000}});
    let answer = post(&broker, "/v1/topics", &[JSON], &made.to_string()).expect(201);
    assert_eq!(answer, json!({"topic": "made", "partitions": 2, "replication_factor": 1}));
    assert_eq!(
        post(&broker, "/v1/topics", &[JSON], &made.to_string()).expect(409)["error"],
        json!("TOPIC_ALREADY_EXISTS")
    );
    let tried = json!({"topic": "tried", "validate_only": true});
    post(&broker, "/v1/topics", &[JSON], &tried.to_string()).expect(200);
    let list = broker.get("/v1/topics").expect(200);
    let names: Vec<_> = list["topics"].as_array().expect("a list").iter().map(|topic| topic["topic"].clone()).collect();
    assert_eq!(names, ["made"]);
    post(&broker, "/v1/topics/made?partition=1", &[TEXT], "x").expect(200);
    let topic = broker.get("/v1/topics/made").expect(200);
    assert_eq!(topic["configs"], json!({"retention.ms": "86400000"}));
    let partition = &topic["partitions"][1];
    assert_eq!((&partition["start_offset"], &partition["end_offset"]), (&json!(0), &json!(1)), "{topic}");
    let change = json!({"partitions": 3, "configs": {"retention.ms": null, "cleanup.policy": "compact"}});
    let changed = call("PATCH", &broker.http("/v1/topics/made"), &[JSON], &change.to_string()).expect(200);
    assert_eq!(changed["configs"], json!({"cleanup.policy": "compact"}));
    assert_eq!(changed["partitions"].as_array().map(Vec::len), Some(3));
    let configs = broker.get("/v1/topics/made/configs").expect(200);
    assert_eq!(configs["configs"]["retention.ms"], json!("604800000"));
    let offsets = broker.get("/v1/topics/made/offsets?at=latest&partitions=1,2").expect(200);
    assert_eq!(offsets["offsets"], json!([{"partition": 1, "offset": 1}, {"partition": 2, "offset": 0}]));
    for (body, expected) in [
        (json!({"configs": {"no.such.config": "1"}}), 400),
        (json!({"partitions": 1}), 400),
        (json!({"partition": 5}), 400),
    ] {
        let answer = call("PATCH", &broker.http("/v1/topics/made"), &[JSON], &body.to_string());
        assert_eq!(answer.status, expected, "{body}: {}", answer.text);
    }
    broker.delete("/v1/topics/made").expect(204);
    assert_eq!(broker.get("/v1/topics/made").expect(404)["error"], json!("UNKNOWN_TOPIC_OR_PARTITION"));
    assert_eq!(broker.delete("/v1/topics/made").status, 404);
    for name in ["../x", "%2e%2e%2fx", "a%00b", "a%0d%0ab", "%D0%B0", &"n".repeat(250)] {
        let answer = broker.get(&format!("/v1/topics/{name}"));
        assert!([400, 404].contains(&answer.status), "{name}: {}", answer.text);
    }
    assert_eq!(post(&broker, "/v1/topics", &["Content-Type: text/plain"], "{\"topic\":\"t\"}").status, 415);
}

#[test]
fn a_groups_offsets_are_told_and_put_elsewhere_by_scripts() {
    let broker = Broker::start();
    broker.create_topic("work", 2);
    broker.wait_for_http();
    for partition in [0, 1, 1, 1] {
        post(&broker, &format!("/v1/topics/work?partition={partition}"), &[TEXT], "x").expect(200);
    }
    let reset = |body: Value| call("POST", &broker.http("/v1/groups/crew/offsets"), &[JSON], &body.to_string());
    let tried = reset(json!({"topic": "work", "to": "latest", "dry_run": true})).expect(200);
    assert_eq!(tried["offsets"][1], json!({"topic": "work", "partition": 1, "before": null, "after": 3}));
    assert_eq!(broker.get("/v1/groups/crew").expect(404)["error"], json!("GROUP_ID_NOT_FOUND"));
    reset(json!({"topic": "work", "to": "latest"})).expect(200);
    let back = reset(json!({"topic": "work", "partitions": [1], "to": "-2"})).expect(200);
    assert_eq!(back["offsets"], json!([{"topic": "work", "partition": 1, "before": 3, "after": 1}]));
    let told = broker.get("/v1/groups/crew/offsets").expect(200);
    assert_eq!(told["lag"], json!(2), "{told}");
    let expected = json!({"topic": "work", "partition": 1, "offset": 1, "end_offset": 3, "lag": 2, "member": null});
    assert_eq!(told["offsets"][1], expected, "{told}");
    let list = broker.get("/v1/groups").expect(200);
    assert_eq!((&list["groups"][0]["group"], &list["groups"][0]["members"]), (&json!("crew"), &json!(0)), "{list}");
    for (body, status) in [
        (json!({"topic": "work", "to": "yesterday"}), 400),
        (json!({"topic": "none", "to": "latest"}), 404),
        (json!({"topic": "work", "partitions": [9], "to": "latest"}), 404),
        (json!({"topic": "work"}), 400),
    ] {
        let answer = reset(body.clone());
        assert_eq!(answer.status, status, "{body}: {}", answer.text);
    }
    broker.delete("/v1/groups/crew").expect(204);
    assert_eq!(broker.delete("/v1/groups/crew").status, 404);
}

#[test]
fn the_offsets_of_a_group_with_members_stay_where_they_are() {
    let broker = Broker::start();
    broker.create_topic("busy", 1);
    broker.wait_for_http();
    broker.post_v2("/consumers/crew", &json!({"name": "one", "format": "json"})).expect(200);
    broker.post_v2("/consumers/crew/instances/one/subscription", &json!({"topics": ["busy"]})).expect(204);
    call(
        "GET",
        &broker.http("/consumers/crew/instances/one/records?timeout=3000"),
        &["Accept: application/vnd.kafka.json.v2+json"],
        "",
    )
    .expect(200);
    let answer = post(&broker, "/v1/groups/crew/offsets", &[JSON], "{\"topic\":\"busy\",\"to\":\"earliest\"}");
    assert_eq!(answer.expect(409)["error"], json!("NON_EMPTY_GROUP"));
    let group = broker.get("/v1/groups/crew").expect(200);
    assert_eq!(group["members"][0]["partitions"], json!([{"topic": "busy", "partition": 0}]), "{group}");
    assert_eq!(broker.delete("/v1/groups/crew").status, 409);
}

#[test]
fn who_does_not_want_to_wait_is_answered_at_once() {
    let broker = Broker::start();
    broker.create_topic("later", 1);
    let prefer = "Prefer: return=minimal, respond-async";
    for (headers, body) in [([TEXT, prefer], "one"), ([LINES, prefer], "2\n3\n")] {
        let answer = post(&broker, "/v1/topics/later", &headers, body);
        assert_eq!((answer.status, answer.text.as_str()), (202, ""));
    }
    wait_for("all is stored", Duration::from_secs(20), || (values(&broker, "later").len() == 3).then_some(()));
    // What is wrong is told at once, and the rest is not left to chance.
    let answer = post(&broker, "/v1/topics/later", &[LINES, prefer], "{\n4\n");
    assert_eq!(answer.status, 207, "{}", answer.text);
    assert_eq!(values(&broker, "later").len(), 4);
    assert_eq!(post(&broker, "/v1/topics/no%20name", &[TEXT, prefer], "x").status, 400);
}

#[test]
fn how_long_storing_took_is_told() {
    let broker = Broker::start();
    broker.create_topic("timed", 1);
    let head = output_of(curl(&["--include", "--data", "x", &broker.http("/v1/topics/timed")]));
    let timing = head.lines().find_map(|line| line.strip_prefix("server-timing: store;dur=")).expect("it is told");
    assert!(timing.trim().parse::<f64>().is_ok_and(|ms| ms > 0.0), "{timing}");
}
