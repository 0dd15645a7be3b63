//! What a subscription may say of how its records come: which parts of them, offsets as strings, batches as they are stored.

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{curl, output_of};
use crate::support::socket::Socket;

/// One record a line, stored as one batch.
fn produce(broker: &Broker, path: &str, lines: &str) {
    let url = broker.http(path);
    output_of(curl(&["--fail-with-body", "--data-binary", lines, "-H", "Content-Type: application/x-ndjson", &url]));
}

fn records(frame: &Value) -> &Vec<Value> {
    frame["records"].as_array().unwrap_or_else(|| panic!("no records: {frame}"))
}

#[test]
fn offsets_are_strings_for_those_who_ask_for_that() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "/v1/topics/t", "1\n2\n");
    let mut socket = Socket::open(&broker, "/v1/groups/g/ws?topics=t&offset_str=1");
    let assigned = socket.until("assigned", &["subscribed"]);
    assert_eq!((&assigned["partitions"][0]["next"], &assigned["partitions"][0]["end"]), (&json!("0"), &json!("2")));
    let frame = socket.until("records", &[]);
    assert_eq!((&records(&frame)[1]["offset"], &frame["next"], &frame["hw"]), (&json!("1"), &json!("2"), &json!("2")));
    assert_eq!(socket.until("caught_up", &[])["next"], json!("2"));
    let ack = |offset| json!({"type": "ack", "through": [{"topic": "t", "partition": 0, "offset": offset}]});
    socket.send(ack(json!("0")));
    assert_eq!(socket.until("acked", &[])["committed"][0]["offset"], json!("1"));
    socket.send(ack(json!(1)));
    assert_eq!(socket.until("acked", &[])["committed"][0]["offset"], json!(2), "as it was asked");
    socket.send(json!({"type": "seek", "to": [{"topic": "t", "partition": 0, "offset": "1"}]}));
    assert_eq!(socket.until("assigned", &[])["partitions"][0]["next"], json!("1"));
    let produce = json!({"type": "produce", "topic": "t", "offset_str": true, "records": [{"value": 3}]});
    socket.send(produce);
    assert_eq!(socket.until("produced", &["records", "caught_up"])["results"][0]["offset"], json!("2"));

    let url = broker.http("/v1/topics/t/sse?from=earliest&to=offset:1&offset_str=true");
    let events = output_of(curl(&["--fail-with-body", &url]));
    assert!(events.contains(r#""partition":0,"offset":"0","#), "{events}");
    assert!(
        events.contains(r#"id: [{"topic":"t","partition":0,"offset":1}]"#),
        "an id is what others write, too: {events}"
    );
}

#[test]
fn a_record_has_the_parts_that_are_included() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "/v1/topics/t?header.h=v&timestamp=5", "1\n");
    let first = |query: &str| {
        let url = broker.http(&format!("/v1/topics/t/sse?from=earliest&to=latest&{query}"));
        output_of(curl(&["--fail-with-body", "-H", "Accept: application/x-ndjson", &url]))
    };
    let start = r#"{"topic":"t","partition":0,"offset":0"#;
    assert_eq!(first("").trim_end(), format!(r#"{start},"ts":5,"key":null,"value":1,"headers":[["h","v"]]}}"#));
    assert_eq!(first("include=").trim_end(), format!(r#"{start},"key":null,"value":1}}"#));
    assert_eq!(first("include=timestamp").trim_end(), format!(r#"{start},"ts":5,"key":null,"value":1}}"#));
    let mut socket = Socket::open(&broker, "/v1/topics/t/ws?from=earliest&include=headers,resume");
    let frame = socket.until("records", &["subscribed", "assigned"]);
    let record = &records(&frame)[0];
    assert_eq!((&record["ts"], &record["headers"]), (&Value::Null, &json!([["h", "v"]])));
    assert!(frame["resume"].is_string(), "{frame}");
    let schema = broker.http("/v1/topics/t/sse?include=schema");
    assert!(output_of(curl(&[&schema])).contains("schema registry"), "it is not there, and that is said");
}

/// There are no transactions: what is replicated is committed.
#[test]
fn both_isolations_read_up_to_the_high_watermark() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "/v1/topics/t", "1\n2\n");
    for isolation in ["read_committed", "read_uncommitted"] {
        let mut socket = Socket::open(&broker, &format!("/v1/topics/t/ws?from=earliest&isolation={isolation}"));
        assert_eq!(socket.records(2, &["subscribed", "assigned"]), [(0, 0), (0, 1)]);
    }
}

/// A frame of raw batches: the first offset wanted, where reading goes on, and the batches.
fn raw_frame(frame: &Value) -> (i64, i64, Vec<u8>) {
    let hex = frame["hex"].as_str().unwrap_or_else(|| panic!("no bytes: {frame}"));
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex")).collect();
    assert_eq!(bytes[..2], [1, 3], "version and kind");
    let number = |at: usize| i64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    (number(12), number(20), bytes[44..].to_vec())
}

/// Base offset, records and codec of each batch (Kafka's record batch, version 2).
fn batches(mut bytes: &[u8]) -> Vec<(i64, i32, u8)> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let length = i32::from_be_bytes(bytes[8..12].try_into().expect("four bytes")) as usize;
        let count = i32::from_be_bytes(bytes[57..61].try_into().expect("four bytes"));
        assert_eq!(bytes[16], 2, "magic");
        found.push((i64::from_be_bytes(bytes[..8].try_into().expect("eight bytes")), count, bytes[22] & 7));
        bytes = &bytes[12 + length..];
    }
    found
}

#[test]
fn raw_batches_come_as_they_are_stored_under_credit() {
    const GZIP: u8 = 1;
    let broker = Broker::start();
    broker.create_topic_with("t", 1, &[("compression.type", "gzip")]);
    for _ in 0..3 {
        produce(&broker, "/v1/topics/t?partition=0", "1\n2\n3\n");
    }
    let (mut socket, _) = Socket::open_as(&broker, "/v1/stream/ws", "capek.v1.bin");
    let mut subscribe = json!({"type": "subscribe", "topics": ["t"], "group": "g", "raw": true, "from": "earliest"});
    subscribe["credit"] = json!({"records": 4});
    socket.send(subscribe);
    let (first, next, bytes) = raw_frame(&socket.until("bytes", &["subscribed", "assigned"]));
    assert_eq!((first, next, batches(&bytes)), (0, 3, vec![(0, 3, GZIP)]), "another one is more than the credit");
    let (first, next, bytes) = raw_frame(&socket.until("bytes", &[]));
    assert_eq!((first, next, batches(&bytes)), (3, 6, vec![(3, 3, GZIP)]), "a batch passes while there is credit left");
    let place = json!({"topic": "t", "partition": 0, "offset": 5});
    socket.send(json!({"type": "ack", "id": 1, "records": [place]}));
    assert_eq!(socket.until("error", &[])["id"], json!(1), "nobody knows here what is in them");
    socket.send(json!({"type": "ack", "id": 2, "through": [place]}));
    assert_eq!(socket.until("acked", &[])["committed"][0]["offset"], json!(6), "and the third waits for credit");
    socket.send(json!({"type": "credit", "records": 1, "bytes": 1}));
    assert_eq!(batches(&raw_frame(&socket.until("bytes", &[])).2), [(6, 3, GZIP)]);

    // The end, and the begin, lie within batches: a client passes over what is outside.
    let path = "/v1/topics/t/ws?raw=1&from=offset:1&to=offset:7";
    let (mut socket, _) = Socket::open_as(&broker, path, "capek.v1.bin");
    let (first, next, bytes) = raw_frame(&socket.until("bytes", &["subscribed", "assigned"]));
    assert_eq!((first, next, batches(&bytes).len()), (1, 7, 3));
    socket.until("end", &[]);
    let mut socket = Socket::open(&broker, "/v1/stream/ws");
    socket.send(json!({"type": "subscribe", "topics": ["t"], "raw": true}));
    assert!(socket.until("error", &[])["message"].to_string().contains("capek.v1.bin"));
}

#[test]
fn records_are_gathered_for_a_while_unless_a_frame_is_full() {
    const FOR_EVER: u64 = 60_000;
    let broker = Broker::start();
    broker.create_topic("t", 1);
    let one = || produce(&broker, "/v1/topics/t", "1\n");
    one();
    let path = format!("/v1/topics/t/ws?from=earliest&linger_ms={FOR_EVER}&batch_records=3");
    let mut socket = Socket::open(&broker, &path);
    assert_eq!(socket.records(1, &["subscribed", "assigned"]), [(0, 0)], "what was there waits for nothing");
    socket.until("caught_up", &[]);
    (0..3).for_each(|_| one());
    let frame = socket.until("records", &[]);
    assert_eq!(records(&frame).len(), 3, "the frame is full: {frame}");

    let mut socket = Socket::open(&broker, "/v1/topics/t/ws?from=latest&linger_ms=500");
    socket.until("caught_up", &["subscribed", "assigned"]);
    (0..3).for_each(|_| one());
    assert_eq!(socket.records(3, &["caught_up"]).len(), 3, "no frame is full, and they come");
    let mut socket = Socket::open(&broker, &format!("/v1/topics/t/ws?to=offset:9&linger_ms={FOR_EVER}"));
    socket.until("caught_up", &["subscribed", "assigned"]);
    (0..2).for_each(|_| one());
    assert_eq!(socket.records(2, &[]).len(), 2, "nothing comes after the end");
    socket.until("end", &[]);
}

/// `count` records of this key, numbered.
fn produce_of(broker: &Broker, key: &str, count: usize) {
    let lines: String = (0..count).map(|index| format!("{index}\n")).collect();
    produce(broker, &format!("/v1/topics/t?partition=0&key={key}"), &lines);
}

#[test]
fn a_viewer_sees_the_newest_record_of_each_key_and_how_many_it_does_not() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    for _ in 0..3 {
        produce_of(&broker, "a", 50);
        produce_of(&broker, "b", 50);
    }
    let path = "/v1/groups/g/ws?topics=t&conflate=1&linger_ms=200&credit_records=3";
    let mut socket = Socket::open(&broker, path);
    let gap = socket.until("gap", &["subscribed", "assigned"]);
    let told = (&gap["requested"], &gap["resumed"], &gap["reason"], &gap["count"]);
    assert_eq!(told, (&json!(0), &json!(299), &json!("filtered"), &json!(298)));
    let frame = socket.until("records", &[]);
    let shown: Vec<_> =
        records(&frame).iter().map(|record| (record["key"].clone(), record["offset"].clone())).collect();
    assert_eq!(shown, [(json!("a"), json!(249)), (json!("b"), json!(299))]);
    assert_eq!(frame["next"], json!(300));
    let ack = |offset: i64| json!({"type": "ack", "through": [{"topic": "t", "partition": 0, "offset": offset}]});
    socket.send(ack(299));
    assert_eq!(socket.until("acked", &["caught_up"])["committed"][0]["offset"], json!(300));

    // Live, with credit for one more: whatever comes, it is told of the newest only, and of nothing when that is used up.
    let (mut seen, mut left_out) = (0, 0);
    produce_of(&broker, "c", 20);
    produce_of(&broker, "d", 20);
    socket.send(json!({"type": "ping", "t": 1}));
    let mut newest = -1;
    while newest < 0 {
        let frame = socket.next();
        match frame["type"].as_str() {
            Some("gap") => left_out += frame["count"].as_i64().expect("a count"),
            Some("records") => {
                assert_eq!(records(&frame).len(), 1, "as much as the credit: {frame}");
                newest = records(&frame)[0]["offset"].as_i64().expect("an offset");
                seen += 1;
            }
            _ => {}
        }
    }
    assert_eq!(300 + seen + left_out, newest + 1, "all of them are shown or counted");
    produce_of(&broker, "e", 1);
    socket.send(json!({"type": "credit", "records": 100, "bytes": 1000}));
    while seen + left_out < 41 {
        let frame = socket.next();
        match frame["type"].as_str() {
            Some("gap") => left_out += frame["count"].as_i64().expect("a count"),
            Some("records") => {
                seen += records(&frame).len() as i64;
                newest = records(&frame).last().expect("a record")["offset"].as_i64().expect("an offset");
            }
            _ => {}
        }
    }
    assert_eq!((300 + seen + left_out, newest), (341, 340));
}

/// What a viewer is sent counts as seen, and what was left out too; what was on its way and not sent does not.
#[test]
fn a_viewer_without_a_websocket_goes_on_behind_what_it_was_shown() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce_of(&broker, "a", 50);
    let url = broker.http("/v1/topics/t/sse?from=earliest&to=latest&conflate=1");
    let events = output_of(curl(&["--fail-with-body", &url]));
    let gap = r#"event: gap
data: {"topic":"t","partition":0,"requested":0,"resumed":49,"reason":"filtered","count":49}

id: [{"topic":"t","partition":0,"offset":50}]
event: message
data: {"topic":"t","partition":0,"offset":49,"#;
    assert!(events.contains(gap), "{events}");
    let few =
        broker.http("/v1/topics/t/sse?from=earliest&to=offset:40&conflate=1&batch_records=2&filter=value%20%3C%2030");
    let lines = output_of(curl(&["--fail-with-body", "-H", "Accept: application/x-ndjson", &few]));
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["gap"]["count"], json!(29), "what a filter passes over is not counted: {lines:?}");
    assert_eq!((lines.len(), &lines[1]["offset"]), (2, &json!(29)));
}
