//! HTTP that means harm, over raw sockets: it is refused or closed, memory does not grow, and others are served meanwhile.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::rest::call;

/// Reads until the broker closes, at most this.
const CLOSED_WITHIN: Duration = Duration::from_secs(20);

fn connect(broker: &Broker) -> TcpStream {
    let stream = TcpStream::connect(broker.http_address()).expect("it listens");
    stream.set_read_timeout(Some(CLOSED_WITHIN)).expect("a socket has a time-out");
    stream
}

/// What comes until the broker closes; a reset is a close too. A time-out is a failure.
#[track_caller]
fn until_closed(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it is still open"),
            Err(_) => break,
        }
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// The first line of what is answered to these bytes.
fn first_line(broker: &Broker, request: &str) -> String {
    let mut stream = connect(broker);
    // The broker may close before all was written.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\r\n") && stream.read(&mut byte).is_ok_and(|count| count == 1) {
        answer.push(byte[0]);
    }
    String::from_utf8_lossy(&answer).trim_end().to_owned()
}

#[track_caller]
fn is_served(broker: &Broker) {
    assert_eq!(call("POST", &broker.http("/v1/topics/healthy"), &[], "x").status, 200);
}

#[test]
fn a_body_that_does_not_come_is_cut() {
    let broker = Broker::start_with(&["capek.http.body.timeout.ms=300"]);
    broker.wait_for_http();
    let head = "POST /v1/topics/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n";
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(&broker)).collect();
    for stream in &mut slow {
        stream.write_all(head.as_bytes()).expect("the broker reads");
    }
    is_served(&broker);
    for stream in &mut slow {
        let answer = until_closed(stream);
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[test]
fn a_head_that_does_not_come_is_cut() {
    let broker = Broker::start_with(&["capek.http.header.timeout.ms=300"]);
    broker.wait_for_http();
    let mut slow: Vec<TcpStream> = (0..50).map(|_| connect(&broker)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /topics HTTP/1.1\r\nHost: loc").expect("the broker reads");
    }
    is_served(&broker);
    for stream in &mut slow {
        let answer = until_closed(stream);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
}

#[test]
fn a_body_larger_than_its_route_takes_is_refused() {
    let broker = Broker::start_with(&["capek.http.body.bytes.max=100000"]);
    broker.wait_for_http();
    for (path, content_type, length) in [
        ("/v1/topics/large", "text/plain", 100_001),
        ("/topics/large", "application/vnd.kafka.json.v2+json", 100_001),
        ("/consumers/large", "application/vnd.kafka.v2+json", 65_537),
        ("/v1/topics", "application/json", 65_537),
    ] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n\r\n"
        );
        assert!(first_line(&broker, &head).starts_with("HTTP/1.1 413"), "{path}: told before it is sent");
    }
    is_served(&broker);
}

/// Chunks without an end: what counts is what has come.
#[test]
fn a_body_without_an_end_is_refused_when_it_is_too_large() {
    let broker = Broker::start_with(&["capek.http.body.bytes.max=100000"]);
    broker.wait_for_http();
    let before = broker.memory_bytes();
    let chunks = format!("4000\r\n{}\r\n", "x".repeat(0x4000)).repeat(10);
    for _ in 0..20 {
        let head = "POST /v1/topics/endless HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
        let line = first_line(&broker, &format!("{head}{chunks}"));
        assert!(line.starts_with("HTTP/1.1 413"), "{line}");
    }
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth < 64 << 20, "{growth} bytes for twenty endless bodies");
    is_served(&broker);
}

/// Whoever refuses it, and whether it reads any of it: what comes is not read for ever.
#[test]
fn a_sender_without_an_end_is_cut() {
    let broker = Broker::start_with(&["capek.http.body.bytes.max=100000"]);
    broker.wait_for_http();
    let chunk = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    for path in ["/v1/topics/endless", "/topics/endless", "/no/such/path", "/v1/topics/no%20name"] {
        let mut stream = connect(&broker);
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("the broker reads");
        let until = Instant::now() + CLOSED_WITHIN;
        while stream.write_all(chunk.as_bytes()).is_ok() {
            assert!(Instant::now() < until, "{path}: it is read without an end");
        }
    }
    is_served(&broker);
}

#[test]
fn heads_that_are_too_large_are_refused() {
    let broker = Broker::start();
    broker.wait_for_http();
    let many: String = (0..100_000).map(|number| format!("X-{number}: 1\r\n")).collect();
    let long = "x".repeat(1 << 20);
    for head in [
        format!("GET /topics HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
        format!("GET /topics HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"),
        format!("GET /topics?{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        format!("GET /v1/topics/{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ] {
        let line = first_line(&broker, &head);
        assert!(line.is_empty() || line.starts_with("HTTP/1.1 4"), "{line}");
    }
    is_served(&broker);
}

#[test]
fn what_is_no_http_is_refused() {
    let broker = Broker::start();
    broker.wait_for_http();
    for bytes in [
        "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n",
        "GET\r\n\r\n",
        "GET /topics HTTP/9.9\r\n\r\n",
        "POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        "POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /v1/topics/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    ] {
        let line = first_line(&broker, bytes);
        assert!(line.is_empty() || line.starts_with("HTTP/1.1 4"), "{bytes}: {line}");
    }
    is_served(&broker);
    assert_eq!(broker.get("/v1/topics/t").status, 404, "nothing was stored");
}

/// A reader that called itself for each bracket would run out of its stack.
#[test]
fn deep_json_does_no_harm() {
    let broker = Broker::start();
    broker.wait_for_http();
    let deep = "[".repeat(100_000);
    let whole = format!("{deep}{}", "]".repeat(100_000));
    for (path, content_type, body) in [
        ("/v1/topics/deep", "application/json", whole.clone()),
        ("/v1/topics/deep", "application/x-ndjson", whole.clone()),
        ("/topics/deep", "application/vnd.kafka.json.v2+json", format!("{{\"records\":[{{\"value\":{whole}}}]}}")),
    ] {
        let content_length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {content_type}\r\nContent-Length: {content_length}\r\n\r\n{body}"
        );
        let line = first_line(&broker, &request);
        assert!(line.starts_with("HTTP/1.1 4") || line.starts_with("HTTP/1.1 200"), "{path}: {line}");
    }
    assert_eq!(broker.get("/v1/topics/deep/records").status, 200);
    is_served(&broker);
}

#[test]
fn an_address_has_so_many_connections_and_no_more() {
    let broker = Broker::start_with(&["max.connections.per.ip=10"]);
    broker.wait_for_http();
    let held: Vec<TcpStream> = (0..10).map(|_| connect(&broker)).collect();
    // Those of `wait_for_http` may just be closing: there is one too many at the latest with the tenth of ours.
    let request = "GET /topics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert!(first_line(&broker, request).starts_with("HTTP/1.1 429"));
    drop(held);
    crate::support::wait_for("places are free again", Duration::from_secs(10), || {
        first_line(&broker, request).starts_with("HTTP/1.1 200").then_some(())
    });
}

/// A refusal is for the connection that was one too many, and it ends with it.
#[test]
fn a_refused_connection_is_closed_and_gives_its_place_back() {
    let broker = Broker::start_with(&["max.connections.per.ip=3"]);
    broker.wait_for_http();
    let request = "GET /topics HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut refused = 0;
    let mut held = Vec::new();
    for _ in 0..12 {
        let mut stream = connect(&broker);
        stream.write_all(request.as_bytes()).expect("the broker reads");
        let mut start = [0; 12];
        stream.read_exact(&mut start).expect("the broker answers");
        match &start {
            b"HTTP/1.1 200" => held.push(stream),
            b"HTTP/1.1 429" => {
                let rest = until_closed(&mut stream).to_ascii_lowercase();
                assert!(rest.contains("connection: close"), "{rest}");
                refused += 1;
            }
            other => panic!("{}", String::from_utf8_lossy(other)),
        }
    }
    // Those of `wait_for_http` may just be closing.
    assert!(held.len() <= 3 && refused >= 9, "{} are served, {refused} are not", held.len());
}

/// What a name server has made to point here (DNS rebinding) is not called by a name of ours; a page of that name could read all
/// that is here, for to its browser it is of one origin with it.
#[test]
fn on_loopback_only_names_of_this_host_are_answered() {
    let status = |broker: &Broker, path: &str, host: &str| {
        let line = first_line(broker, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        line.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    let check = |broker: &Broker, host: &str, expected: &str| {
        for path in ["/v1/topics/pages/records", "/topics/pages", "/v3/clusters", "/healthz", "/"] {
            assert_eq!(status(broker, path, host), expected, "{path} at {host}");
        }
    };
    let broker = Broker::start_with(&["capek.http.allowed.origins=https://app.example:8443"]);
    broker.wait_for_http();
    broker.create_topic("pages", 1);
    let port = broker.http_address().rsplit(':').next().expect("it has a port").to_owned();
    for host in ["localhost", "LOCALHOST:1", "a.localhost", "127.0.0.1", "127.8.8.8:80", "[::1]", "app.example"] {
        check(&broker, host, "200");
    }
    for host in ["evil.example", &format!("evil.example:{port}"), "localhost.evil.example", "192.0.2.1", "", "a b"] {
        check(&broker, host, "421");
    }
    // Before there was such a header there were no pages that could be misled.
    assert!(first_line(&broker, "GET /topics HTTP/1.0\r\n\r\n").contains(" 200"));
    let answer = call("GET", &broker.http("/v1/topics"), &["Host: evil.example"], "");
    assert!(answer.text.contains("capek.http.allowed.origins"), "it says what to do: {}", answer.text);
}

fn websocket_status(broker: &Broker, origin: Option<&str>) -> String {
    let origin = origin.map_or(String::new(), |origin| format!("Origin: {origin}\r\n"));
    let host = broker.http_address();
    let request = format!(
        "GET /v1/topics/pages/ws HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{origin}\r\n"
    );
    first_line(broker, &request).split(' ').nth(1).unwrap_or_default().to_owned()
}

#[test]
fn pages_of_other_origins_are_let_in_only_when_they_are_named() {
    let broker = Broker::start();
    broker.wait_for_http();
    broker.create_topic("pages", 1);
    for (origin, status) in
        [(None, "101"), (Some("http://evil.example"), "403"), (Some("null"), "403"), (Some(""), "403")]
    {
        assert_eq!(websocket_status(&broker, origin), status, "{origin:?}");
    }
    assert_eq!(websocket_status(&broker, Some(&broker.http(""))), "101", "its own");
    let foreign = ["Origin: http://evil.example"];
    let answer = call("POST", &broker.http("/v1/topics/pages"), &foreign, "x");
    assert_eq!(answer.status, 403, "{}", answer.text);
    assert!(!head_of(&broker, "GET", "http://evil.example").contains("access-control-allow-origin"));
    assert!(!head_of(&broker, "OPTIONS", "http://evil.example").contains("access-control-allow-origin"));

    let broker = Broker::start_with(&["capek.http.allowed.origins=http://app.example:3000,https://other.example"]);
    broker.wait_for_http();
    broker.create_topic("pages", 1);
    assert_eq!(websocket_status(&broker, Some("http://app.example:3000")), "101");
    assert_eq!(websocket_status(&broker, Some("http://app.example")), "403");
    assert_eq!(call("POST", &broker.http("/v1/topics/pages"), &["Origin: https://other.example"], "x").status, 200);
    for (method, status) in [("GET", "200"), ("OPTIONS", "204")] {
        let head = head_of(&broker, method, "https://other.example");
        assert!(head.starts_with(&format!("http/1.1 {status}")), "{head}");
        assert!(head.contains("access-control-allow-origin: https://other.example\r\n"), "{head}");
        assert!(head.contains("vary: origin"), "{head}");
        assert!(!head_of(&broker, method, "https://evil.example").contains("access-control"), "{method}");
    }
    assert_eq!(call("POST", &broker.http("/v1/topics/pages"), &foreign, "x").status, 403);
}

/// In lower case.
fn head_of(broker: &Broker, method: &str, origin: &str) -> String {
    let mut stream = connect(broker);
    let request = format!(
        "{method} /topics HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: POST\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).expect("the broker reads");
    until_closed(&mut stream).to_ascii_lowercase()
}
