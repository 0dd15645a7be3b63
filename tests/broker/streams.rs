//! Streams over HTTP in depth: the WebSocket protocol, who may open one, and what becomes of streams when something ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{Background, curl, output_of, python};
use crate::support::wait_for;

const STARTS_A_WEBSOCKET: [&str; 8] = [
    "-H",
    "Upgrade: websocket",
    "-H",
    "Connection: Upgrade",
    "-H",
    "Sec-WebSocket-Version: 13",
    "-H",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
];

/// Credit, seek, pause, bad frames, a gap; and at the end a goodbye that says when to come back.
#[test]
fn a_websocket_consumer_governs_its_stream_and_is_told_of_a_stop() {
    let mut broker = Broker::start();
    broker.create_topic("stream", 1);
    produce_lines(&broker, "stream", 5);
    let mut client = Background::start(python("websocket_scenario.py", &[&broker.http_address(), "stream"]));
    assert_eq!(client.line(), "stop me");
    let started = Instant::now();
    assert!(broker.terminate().success(), "{}", broker.output());
    assert!(started.elapsed() < Duration::from_secs(5), "an open stream does not hold up the stop");
    assert_eq!(client.line(), "done");
}

#[test]
fn an_sse_stream_and_one_of_lines_end_with_the_broker() {
    let mut broker = Broker::start();
    broker.create_topic("ending", 1);
    produce_lines(&broker, "ending", 2);
    let url = broker.http("/v1/topics/ending/sse?from=earliest");
    let mut events = Background::start(curl(&["--no-buffer", &url]));
    let mut lines = Background::start(curl(&["--no-buffer", "-H", "Accept: application/x-ndjson", &url]));
    while !events.line().starts_with("event: caught_up") {}
    let record: Value = serde_json::from_str(&lines.line()).expect("a line is JSON");
    assert_eq!((&record["offset"], &record["value"]), (&json!(0), &json!({"n": 0})));
    assert!(broker.terminate().success(), "{}", broker.output());
    while events.line() != "event: end" {}
    assert!(events.line().contains("1012"));
}

/// An event source comes back by itself where it was; whoever reads lines does not, and is left alone.
#[test]
fn event_streams_are_rotated_and_lines_are_not() {
    let broker = Broker::start_with(&["capek.http.sse.rotate.ms=2000"]);
    broker.create_topic("rotated", 1);
    produce_lines(&broker, "rotated", 2);
    let url = broker.http("/v1/topics/rotated/sse?from=earliest");
    let mut lines = Background::start(curl(&["--no-buffer", "-H", "Accept: application/x-ndjson", &url]));
    lines.line();
    let first = output_of(curl(&["--fail-with-body", &url]));
    assert!(first.ends_with(": come again\n\n") && !first.contains("event: end"), "{first}");
    let id = first.lines().rev().find_map(|line| line.strip_prefix("id: ")).expect("an id");
    produce_lines(&broker, "rotated", 1);
    let second = output_of(curl(&["--fail-with-body", "-H", &format!("Last-Event-ID: {id}"), &url]));
    let offsets: Vec<_> =
        second.lines().filter(|line| line.starts_with("data: ") && line.contains("\"value\"")).collect();
    assert!(offsets.len() == 1 && offsets[0].contains("\"offset\":2,"), "it goes on where it was: {second}");
    assert!(lines.line().contains("\"offset\":1,"));
    assert!(lines.line().contains("\"offset\":2,"), "the lines go on");
}

/// A page that a user happens to visit must not read or write here in their name.
#[test]
fn pages_of_another_origin_are_refused() {
    let broker = Broker::start();
    broker.create_topic("private", 1);
    let here = format!("Origin: {}", broker.http(""));
    for (origin, socket_status, produce_status) in
        [("Origin: http://evil.example", "403", "403"), ("Origin: null", "403", "403"), (here.as_str(), "101", "200")]
    {
        let url = broker.http("/v1/topics/private/ws");
        let opened = status_of(&[&STARTS_A_WEBSOCKET[..], &["--max-time", "2", "-H", origin, &url]].concat());
        assert_eq!(opened, socket_status, "{origin}");
        let url = broker.http("/v1/topics/private");
        assert_eq!(status_of(&["-H", origin, "-d", "x", &url]), produce_status, "{origin}");
    }
}

#[test]
fn a_session_that_panics_ends_its_own_stream_only() {
    let broker = Broker::start_with(&["capek.chaos=true"]);
    broker.create_topic("sessions", 1);
    let url = broker.http("/v1/topics/sessions/sse");
    let mut streams: Vec<_> = (0..2).map(|_| Background::start(curl(&["--no-buffer", &url]))).collect();
    for stream in &mut streams {
        while !stream.line().starts_with("event: caught_up") {}
    }
    let paths = session_paths(&broker);
    assert_eq!(paths.len(), 2, "{paths:?}");
    let victim = json!({ "path": paths[0] }).to_string();
    output_of(curl(&["--fail-with-body", "--json", &victim, &broker.http("/v1/chaos/panic")]));
    let left = wait_for("the session is gone", Duration::from_secs(10), || {
        Some(session_paths(&broker)).filter(|paths| paths.len() == 1)
    });
    assert_eq!(left, paths[1..]);
    produce_lines(&broker, "sessions", 1);
    let has_ended = |stream: &mut Background| loop {
        match stream.next_line() {
            Some(line) if line.starts_with("event: message") => return false,
            Some(_) => {}
            None => return true,
        }
    };
    let ended: Vec<bool> = streams.iter_mut().map(has_ended).collect();
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1, "{ended:?}");
}

/// A body that drips in, and one that never ends, cost neither a thread nor memory without bound.
#[test]
fn bodies_are_bounded() {
    let broker = Broker::start();
    broker.create_topic("bounded", 1);
    let url = broker.http("/v1/topics/bounded");
    let large = vec![b'x'; 17 << 20];
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("large-{}", std::process::id()));
    std::fs::write(&path, &large).expect("the target directory is writable");
    let from_file = format!("@{}", path.display());
    assert_eq!(status_of(&["--data-binary", &from_file, &url]), "413");
    assert_eq!(status_of(&["--data-binary", &from_file, "-H", "Transfer-Encoding: chunked", &url]), "413");
    std::fs::remove_file(&path).expect("it was just written");
    let two_mib = "x".repeat(2 << 20);
    std::fs::write(&path, &two_mib).expect("the target directory is writable");
    assert_eq!(status_of(&["--data-binary", &from_file, &url]), "413", "larger than the topic's max.message.bytes");
    std::fs::remove_file(&path).expect("it was just written");
    assert_eq!(status_of(&["-H", "Content-Encoding: br", "-d", "x", &url]), "415");
    assert_eq!(status_of(&["-H", "Content-Encoding: gzip", "-d", "x", &url]), "400");
    assert_eq!(status_of(&["-d", "x", &broker.http("/v1/topics/..%2F..%2Fetc")]), "400");
    assert_eq!(status_of(&["-d", "x", &url]), "200");
}

fn produce_lines(broker: &Broker, topic: &str, count: usize) {
    let body: String = (0..count).map(|index| format!("{{\"n\":{index}}}\n")).collect();
    let url = broker.http(&format!("/v1/topics/{topic}"));
    output_of(curl(&["--fail-with-body", "--data-binary", &body, "-H", "Content-Type: application/x-ndjson", &url]));
}

fn session_paths(broker: &Broker) -> Vec<Value> {
    let answer = output_of(curl(&["--fail-with-body", &broker.http("/v1/actors?under=broker/http")]));
    let answer: Value = serde_json::from_str(&answer).expect("the answer is JSON");
    let actors = answer["actors"].as_array().expect("actors are a list");
    actors.iter().filter(|actor| actor["kind"] == json!("stream-session")).map(|actor| actor["path"].clone()).collect()
}

/// A stream that stays open is left by curl after a while; its status counts all the same.
fn status_of(arguments: &[&str]) -> String {
    let always = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"];
    let output = std::process::Command::new("curl").args(always).args(arguments).output().expect("curl is there");
    String::from_utf8_lossy(&output.stdout).into_owned()
}
