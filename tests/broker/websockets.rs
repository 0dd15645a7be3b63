//! The WebSocket protocol in full, and its siblings without one: subscriptions under credit, frames that are wrong, filters and
//! ends, bytes instead of JSON, records that are stored once, and readers that go on after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::chaos::CHAOS;
use crate::support::frames::LATEST;
use crate::support::programs::{Background, curl, output_of, python};
use crate::support::scrape::Scrape;
use crate::support::socket::{Socket, places_of};
use crate::support::wait_for;

const STREAM: &str = "/v1/stream/ws";

/// `{"n":0}`, `{"n":1}` and so on, from `first` on.
fn produce(broker: &Broker, topic: &str, partition: i32, first: usize, count: usize) {
    let body: String = (first..first + count).map(|index| format!("{{\"n\":{index}}}\n")).collect();
    let url = broker.http(&format!("/v1/topics/{topic}?partition={partition}"));
    output_of(curl(&["--fail-with-body", "--data-binary", &body, "-H", "Content-Type: application/x-ndjson", &url]));
}

#[test]
fn one_socket_has_many_subscriptions_each_under_its_own_credit() {
    let broker = Broker::start();
    broker.create_topic("a", 2);
    broker.create_topic("b", 1);
    for partition in 0..2 {
        produce(&broker, "a", partition, 0, 3);
    }
    produce(&broker, "b", 0, 0, 5);
    let mut socket = Socket::open(&broker, STREAM);
    socket.send(json!({"type": "subscribe", "id": "x", "topics": ["b"], "from": "earliest", "credit": {"records": 2}}));
    let subscribed = socket.until("subscribed", &[]);
    assert_eq!(
        (&subscribed["id"], &subscribed["sub"], &subscribed["credit"]["records"]),
        (&json!("x"), &json!(1), &json!(2))
    );
    assert_eq!(socket.until("assigned", &[])["partitions"][0]["end"], json!(5));
    assert_eq!(socket.records(2, &[]), [(0, 0), (0, 1)]);

    // The first has used up its credit; the second does not wait for it.
    socket.send(json!({"type": "subscribe", "id": "y", "topics": ["a", "b"], "from": "earliest"}));
    assert_eq!(socket.until("subscribed", &[])["sub"], json!(2));
    assert_eq!(socket.until("assigned", &[])["partitions"].as_array().map(Vec::len), Some(3));
    let mut seen = BTreeSet::new();
    while seen.len() < 11 {
        let frame = socket.until("records", &["caught_up"]);
        assert_eq!(frame["sub"], json!(2), "{frame}");
        let topic = frame["topic"].as_str().expect("a topic").to_owned();
        seen.extend(places_of(&frame).into_iter().map(|place| (topic.clone(), place)));
    }
    socket.send(json!({"type": "credit", "sub": 1, "records": 2, "id": 1}));
    let frame = socket.until("records", &["caught_up", "done"]);
    assert_eq!((&frame["sub"], places_of(&frame)), (&json!(1), vec![(0, 2), (0, 3)]));

    // Without subscription 2 only the first goes on.
    socket.send(json!({"type": "unsubscribe", "sub": 2, "id": 2}));
    while socket.until("done", &["caught_up"])["id"] != json!(2) {}
    socket.send(json!({"type": "pause", "sub": 2, "id": 3}));
    assert_eq!(socket.until("error", &[])["id"], json!(3), "it is gone");
    socket.send(json!({"type": "credit", "sub": 1, "bytes": 1 << 20, "records": 100}));
    assert_eq!(socket.records(1, &[]), [(0, 4)]);
    assert_eq!(socket.until("caught_up", &[])["sub"], json!(1));
    produce(&broker, "a", 0, 3, 1);
    produce(&broker, "b", 0, 5, 1);
    assert_eq!(socket.records(1, &[]), [(0, 5)]);
    assert_eq!(Scrape::of(&broker).value("capek_ws_credit_stalls_total"), 2.0, "after two records, and two more");
}

#[test]
fn what_is_no_frame_is_an_error_and_what_is_no_protocol_a_close() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let mut socket = Socket::open(&broker, STREAM);
    for (line, part) in [
        (r#"{"type":"dance","id":1}"#, "unknown type"),
        (r#"{"id":1}"#, "no frame"),
        (r#"{"type":5,"id":1}"#, "no frame"),
        (r#"{"#, "no frame"),
        ("@hex 01ff", "binary"),
        (r#"{"type":"subscribe","topics":["t"],"from":"tomorrow"}"#, "tomorrow"),
        (r#"{"type":"subscribe","topics":["t"],"format":"avro"}"#, "schema registry"),
        (r#"{"type":"ack","sub":1,"through":[{"topic":"t","partition":0,"offset":0}]}"#, "no subscription"),
        (r#"{"type":"produce","records":[{"value":1}]}"#, "no topic"),
        (r#"{"type":"produce","topic":"t","records":[]}"#, "empty"),
    ] {
        socket.line(line);
        let error = socket.until("error", &[]);
        assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "{line}: {error}");
        assert_eq!(error["id"].is_null(), !line.contains(r#""id":1"#), "whatever has an id has its answer: {error}");
    }
    socket.send(json!({"type": "subscribe", "id": 9, "topics": ["none"]}));
    let error = socket.until("error", &[]);
    assert_eq!((&error["id"], &error["error_code"]), (&json!(9), &json!(40401)));
    socket.send(json!({"type": "ping", "t": 5, "id": 6}));
    assert_eq!(socket.until("pong", &[])["id"], json!(6), "it is as open as before");

    socket.line("@text 7bff7d");
    assert_eq!(socket.closed(), 1007);
    let mut socket = Socket::open(&broker, STREAM);
    socket.line(&format!("\"{}\"", "x".repeat(2 << 20)));
    assert_eq!(socket.closed(), 1009);
}

#[test]
fn a_filter_and_an_end_bound_what_is_read() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 0, 100);
    let filter = "/v1/topics/t/ws?from=earliest&to=latest&filter=value.n%20%3E%2096";
    let mut socket = Socket::open(&broker, filter);
    assert_eq!(socket.records(3, &["subscribed", "assigned"]), [(0, 97), (0, 98), (0, 99)]);
    socket.until("end", &[]);
    assert_eq!(socket.closed(), 1000);

    let lines = |query: &str| {
        let url = broker.http(&format!("/v1/topics/t/sse?{query}"));
        let output = output_of(curl(&["--fail-with-body", "-H", "Accept: application/x-ndjson", &url]));
        output.lines().map(|line| line.to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(lines("from=offset:10&to=offset:12&envelope=value"), [r#"{"n":10}"#, r#"{"n":11}"#]);
    assert_eq!(lines("from=earliest&to=latest").len(), 100, "a stream with an end ends");
    assert_eq!(lines("from=earliest&to=latest&envelope=value&filter=value.n%20==%2042"), [r#"{"n":42}"#]);
    assert!(lines("from=latest&to=latest").is_empty());
    assert_eq!(lines("from=ts:1&to=latest").len(), 100, "the first record at or after a time");
    assert!(lines("from=ts:4000000000000&to=latest").is_empty(), "all are older");
}

/// The fields of a frame of records, as docs/http.md has them.
fn binary_records(hex: &str) -> Vec<(i64, Vec<u8>)> {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
    assert_eq!(bytes[..2], [1, 1], "version and kind");
    let number = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let (base_offset, count) = (number(12), u32::from_be_bytes(bytes[44..48].try_into().expect("four bytes")));
    let mut at = 48;
    let varint = |at: &mut usize| {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            value |= u64::from(bytes[*at] & 0x7f) << shift;
            *at += 1;
            if bytes[*at - 1] & 0x80 == 0 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
            shift += 7;
        }
    };
    let mut records = Vec::new();
    for _ in 0..count {
        let offset = base_offset + varint(&mut at);
        at += 8;
        assert_eq!(varint(&mut at), -1, "there is no key");
        let length = varint(&mut at) as usize;
        records.push((offset, bytes[at..at + length].to_vec()));
        at += length;
        assert_eq!(varint(&mut at), 0, "there are no headers");
    }
    assert_eq!(at, bytes.len());
    records
}

#[test]
fn records_are_bytes_both_ways_in_the_binary_protocol() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let (mut socket, _) = Socket::open_as(&broker, STREAM, "capek.v1.bin");
    socket.send(json!({"type": "subscribe", "topics": ["t"], "from": "earliest"}));
    assert_eq!(socket.until("assigned", &["subscribed"])["partitions"][0]["topic_id"], json!(0));
    socket.until("caught_up", &[]);
    // Id 7, no seq, acks of all, topic t, one record: partition 0, now, no key, the value ff00, no headers.
    let produce = "0102 0000000000000007 ffffffffffffffff ff 0001 74 00000001 00000000 ffffffffffffffff 01 04ff00 00";
    socket.line(&format!("@hex {}", produce.replace(' ', "")));
    let mut has_answer = false;
    let mut records = Vec::new();
    while !has_answer || records.is_empty() {
        let frame = socket.next();
        match frame["type"].as_str() {
            Some("produced") => {
                assert_eq!((&frame["id"], &frame["results"][0]["offset"]), (&json!(7), &json!(0)));
                has_answer = true;
            }
            Some("bytes") => records = binary_records(frame["hex"].as_str().expect("hex")),
            _ => panic!("{frame}"),
        }
    }
    assert_eq!(records, [(0, vec![0xff, 0])]);
    socket.line("@hex 0102");
    socket.until("error", &[]);
    socket.line("@hex 0903");
    assert!(socket.until("error", &[])["message"].to_string().contains("version 9"));
}

fn end_offset(broker: &Broker, topic: &str, partition: i32) -> i64 {
    broker.client().list_offset(topic, partition, LATEST).1
}

#[test]
fn a_producers_frames_are_stored_once_over_connections_and_a_crash() {
    let mut broker = Broker::start();
    broker.create_topic("t", 3);
    let send = |socket: &mut Socket, sequence: u64| {
        let records =
            json!([{"value": {"n": sequence}}, {"key": format!("k{sequence}"), "value": "x", "headers": [["h", "v"]]}]);
        socket.send(json!({"type": "produce", "id": sequence, "seq": sequence, "records": records}));
    };
    let answers = |socket: &mut Socket, count: usize| -> BTreeMap<u64, Value> {
        let answered = (0..count).map(|_| socket.until("produced", &["throttle"]));
        answered.map(|frame| (frame["seq"].as_u64().expect("a seq"), frame["results"].clone())).collect()
    };
    let (mut socket, welcome) = Socket::open_as(&broker, "/v1/topics/t/produce/ws", "capek.v1.json");
    let session = welcome["session"].as_str().expect("a session").to_owned();
    for sequence in 0..100 {
        send(&mut socket, sequence);
    }
    let first = answers(&mut socket, 100);
    assert!(first.values().all(|results| results[0]["offset"].is_i64() && results[1]["offset"].is_i64()), "{first:?}");
    let ends = |broker: &Broker| (0..3).map(|partition| end_offset(broker, "t", partition)).sum::<i64>();
    assert_eq!(ends(&broker), 200);

    let again = format!("/v1/topics/t/produce/ws?session={session}");
    for crashes in [false, true] {
        if crashes {
            broker.kill();
            broker.start_again();
        }
        let mut socket = Socket::open(&broker, &again);
        for sequence in 60..100 {
            send(&mut socket, sequence);
        }
        let repeated = answers(&mut socket, 40);
        for (sequence, results) in &repeated {
            for index in 0..2 {
                let place = |results: &Value| (results[index]["partition"].clone(), results[index]["offset"].clone());
                assert_eq!(place(results), place(&first[sequence]), "seq {sequence}, crashes: {crashes}");
            }
        }
        assert_eq!(ends(&broker), 200, "crashes: {crashes}");
        // Whoever is not known under that name stores them.
    }
    let mut other = Socket::open(&broker, "/v1/topics/t/produce/ws");
    send(&mut other, 60);
    assert_eq!(answers(&mut other, 1).len(), 1);
    assert_eq!(ends(&broker), 202);
    other.send(json!({"type": "produce", "id": "big", "records": [{"partition": 7, "value": 1}, {"partition": 0, "value": 2}]}));
    let produced = other.until("produced", &[]);
    let message = "partition 7 is not in the range [0...3) of topic t";
    assert_eq!(produced["results"][0], json!({"error_code": 40402, "message": message, "retriable": false}));
    assert!(produced["results"][1]["offset"].is_i64(), "{produced}");
}

#[test]
fn the_good_records_of_a_partly_bad_frame_are_stored_and_the_bad_are_told() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let mut socket = Socket::open(&broker, "/v1/topics/t/produce/ws?session=s");
    let bad = [
        r#"{"value":{"$b64":"!"}}"#,
        r#"{"timestamp":"now"}"#,
        r#"{"timestamp":-1}"#,
        r#"{"headers":[["h"]]}"#,
        "[0,1,null,null,[]]",
    ];
    for (index, bad) in bad.iter().enumerate() {
        for _ in 0..2 {
            socket.line(&format!(
                r#"{{"type":"produce","id":{index},"seq":{index},"records":[{bad},{{"value":{index}}}]}}"#
            ));
            let produced = socket.until("produced", &[]);
            let (told, stored) = (&produced["results"][0], &produced["results"][1]);
            assert_eq!((&told["error_code"], &told["retriable"]), (&json!(400), &json!(false)), "{bad}: {produced}");
            assert_eq!(stored["offset"], json!(index), "{bad}: {produced}");
        }
    }
    assert_eq!(end_offset(&broker, "t", 0), bad.len() as i64);
}

/// A client that has lost its count is told so: its records are not those that were stored under that number.
#[test]
fn a_number_that_was_used_for_other_records_is_refused() {
    let mut broker = Broker::start();
    broker.create_topic("t", 1);
    let produced = |broker: &Broker, sequence: u64, celsius: f64| {
        let mut socket = Socket::open(broker, "/v1/topics/t/produce/ws?session=sensor-7");
        socket.send(json!({"type": "produce", "seq": sequence, "records": [{"value": {"celsius": celsius}}]}));
        socket.until("produced", &[])["results"][0].clone()
    };
    // The numbers go round once, so that some are written in a later epoch.
    let mut socket = Socket::open(&broker, "/v1/topics/t/produce/ws?session=sensor-7");
    for sequence in 0..70 {
        socket.send(json!({"type": "produce", "seq": sequence, "records": [{"value": {"celsius": sequence}}]}));
        assert_eq!(socket.until("produced", &[])["results"][0]["offset"], json!(sequence));
    }
    for crashes in [false, true] {
        if crashes {
            broker.kill();
            broker.start_again();
        }
        for sequence in [69, 63] {
            let other = produced(&broker, sequence, 99.5);
            assert_eq!((&other["error_code"], &other["retriable"]), (&json!(409), &json!(false)), "{other}");
            assert!(other["message"].as_str().is_some_and(|message| message.contains("other records")), "{other}");
            let mut again = Socket::open(&broker, "/v1/topics/t/produce/ws?session=sensor-7");
            let value = json!({"celsius": sequence});
            again.send(json!({"type": "produce", "seq": sequence, "records": [{"value": value}]}));
            assert_eq!(again.until("produced", &[])["results"][0]["offset"], json!(sequence), "crashes: {crashes}");
        }
        let restarted = produced(&broker, 0, 99.5);
        assert_eq!((&restarted["error_code"], &restarted["retriable"]), (&json!(409), &json!(false)), "{restarted}");
    }
    assert_eq!(end_offset(&broker, "t", 0), 70);
}

/// More than may be in flight is not read; that is told once.
#[test]
fn a_producer_that_is_ahead_of_its_answers_is_told_once() {
    let broker = Broker::start_with(&CHAOS);
    broker.create_topic("t", 1);
    let mut socket = Socket::open(&broker, "/v1/topics/t/produce/ws");
    let stall = json!({"path": "broker/replica-manager/partition:t-0", "ms": 5000}).to_string();
    output_of(curl(&["--fail-with-body", "--json", &stall, &broker.http("/v1/chaos/stall")]));
    for id in 0..200 {
        socket.send(json!({"type": "produce", "id": id, "records": [{"value": id}]}));
    }
    let throttle = socket.until("throttle", &[]);
    assert_eq!((&throttle["reason"], &throttle["inflight"]), (&json!("inflight"), &json!(64)));
    let answered: BTreeSet<i64> =
        (0..200).map(|_| socket.until("produced", &[])["id"].as_i64().expect("an id")).collect();
    assert_eq!(answered.len(), 200, "and all are stored");
}

#[test]
fn a_reader_goes_on_after_a_crash_without_gap_or_doubles() {
    let mut broker = Broker::start();
    broker.create_topic("t", 2);
    let mut seen: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
    let mut token: Option<String> = None;
    for round in 0..3 {
        for partition in 0..2 {
            produce(&broker, "t", partition, round * 50, 50);
        }
        let mut socket = Socket::open(&broker, STREAM);
        let mut subscribe = json!({"type": "subscribe", "topics": ["t"], "from": "earliest", "include": ["resume"], "batch_records": 7});
        if let Some(token) = &token {
            subscribe["resume"] = json!(token);
        }
        socket.send(subscribe);
        let mut count = 0;
        // Not all of what there is, but for the last time.
        while count < if round == 2 { usize::MAX } else { 60 } {
            let frame = socket.until("records", &["subscribed", "assigned", "caught_up"]);
            token = frame["resume"].as_str().map(str::to_owned);
            for (partition, offset) in places_of(&frame) {
                seen.entry(partition).or_default().push(offset);
                count += 1;
            }
            if seen.values().map(Vec::len).sum::<usize>() == 300 {
                break;
            }
        }
        if round < 2 {
            broker.kill();
            broker.start_again();
        }
    }
    let all: Vec<i64> = (0..150).collect();
    assert_eq!(seen, BTreeMap::from([(0, all.clone()), (1, all)]));
}

#[test]
fn an_sse_reader_of_several_partitions_goes_on_after_a_crash() {
    let mut broker = Broker::start();
    broker.create_topic("t", 3);
    let mut seen = Vec::new();
    let mut id = String::new();
    for round in 0..2 {
        for partition in 0..3 {
            produce(&broker, "t", partition, round * 20, 20);
        }
        let url = broker.http("/v1/topics/t/sse?from=earliest");
        let wanted = if round == 0 { "25" } else { "95" };
        let mut arguments = vec![url.as_str(), wanted];
        if round == 1 {
            arguments.push(&id);
        }
        let output = output_of(python("sse_client.py", &arguments));
        let mut next_id = String::new();
        for line in output.lines() {
            let event: Value = serde_json::from_str(line).expect("an event is JSON");
            if event["event"] == json!("message") {
                let data: Value = serde_json::from_str(event["data"].as_str().expect("data")).expect("JSON");
                seen.push((data["partition"].as_i64().expect("a number"), data["offset"].as_i64().expect("a number")));
                next_id = event["id"].as_str().expect("an id").to_owned();
            }
        }
        id = next_id;
        broker.kill();
        broker.start_again();
    }
    let distinct: BTreeSet<_> = seen.iter().copied().collect();
    assert_eq!((seen.len(), distinct.len()), (120, 120), "each once");
}

#[test]
fn a_reader_of_a_topic_that_was_made_anew_is_told() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 0, 5);
    let mut socket = Socket::open(&broker, "/v1/topics/t/ws?from=earliest&heartbeat_ms=1000");
    socket.records(5, &["subscribed", "assigned"]);
    let token = loop {
        let heartbeat = socket.until("heartbeat", &["caught_up"]);
        if let Some(token) = heartbeat["resume"]["1"].as_str() {
            break token.to_owned();
        }
    };
    output_of(curl(&["--fail-with-body", "-X", "DELETE", &broker.http("/v1/topics/t")]));
    let goodbye = socket.until("goodbye", &["caught_up"]);
    assert_eq!(goodbye["code"], json!(4504));
    assert_eq!(socket.closed(), 4504);
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 0, 2);
    let mut socket = Socket::open(&broker, &format!("/v1/topics/t/ws?resume={token}"));
    let gap = socket.until("gap", &["subscribed", "assigned"]);
    assert_eq!((&gap["requested"], &gap["resumed"], &gap["reason"]), (&json!(5), &json!(0), &json!("topic_recreated")));
    assert_eq!(socket.records(2, &[]), [(0, 0), (0, 1)]);
    let damaged = broker.http(&format!("/v1/topics/t/sse?resume={}", &token[..token.len() - 3]));
    let refused = crate::support::rest::call("GET", &damaged, &[], "");
    assert_eq!(refused.status, 400, "{}", refused.text);
}

/// What stalls is one client: others on the same broker, and other sockets of the same topic, go on.
#[test]
fn a_client_that_reads_nothing_holds_up_nobody_else() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    broker.wait_for_http();
    let url = format!(
        "ws://{}/v1/topics/t/ws?from=earliest&credit_records=1000000&credit_bytes=60000000",
        broker.http_address()
    );
    let mut stalled = Background::start(python("websocket_driver.py", &[&url]));
    stalled.write_line("@wait");
    wait_for("the stalled client is there", Duration::from_secs(30), || {
        let actors = output_of(curl(&[&broker.http("/v1/actors?under=broker/http")]));
        actors.contains("stream-session").then_some(())
    });
    let mut reader =
        Socket::open(&broker, "/v1/topics/t/ws?from=earliest&credit_records=1000000&credit_bytes=60000000");
    let large = "x".repeat(1 << 10);
    for round in 0..10 {
        let body: String =
            (0..1000).map(|index| format!("{{\"n\":{},\"text\":\"{large}\"}}\n", round * 1000 + index)).collect();
        let url = broker.http("/v1/topics/t");
        let mut produce =
            curl(&["--fail-with-body", "--data-binary", "@-", "-H", "Content-Type: application/x-ndjson"]);
        produce.arg(&url);
        crate::support::programs::output_with_input(produce, &body);
    }
    let read = reader.records(10_000, &["subscribed", "assigned", "caught_up"]);
    assert_eq!(read.last(), Some(&(0, 9_999)));
    // And whoever stalled has missed nothing.
    stalled.write_line("@read");
    let mut last = -1;
    while last < 9_999 {
        let frame: Value = serde_json::from_str(&stalled.line()).expect("JSON");
        if frame["type"] == json!("records") {
            for (_, offset) in places_of(&frame) {
                assert_eq!(offset, last + 1);
                last = offset;
            }
        }
    }
}
