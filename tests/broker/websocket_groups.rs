//! Members of groups over WebSockets and Server-Sent Events: what is acknowledged is committed, what is not is read again.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{Background, curl, output_of};
use crate::support::rest::{JSON, call};
use crate::support::socket::{Socket, places_of};
use crate::support::wait_for;

const SOON: Duration = Duration::from_secs(60);

fn produce(broker: &Broker, topic: &str, partition: i32, count: usize) {
    let body: String = (0..count).map(|index| format!("{{\"n\":{index}}}\n")).collect();
    let url = broker.http(&format!("/v1/topics/{topic}?partition={partition}"));
    output_of(curl(&["--fail-with-body", "--data-binary", &body, "-H", "Content-Type: application/x-ndjson", &url]));
}

fn committed(broker: &Broker, group: &str, partition: i64) -> Option<i64> {
    let answer = call("GET", &broker.http(&format!("/v1/groups/{group}/offsets")), &[], "");
    let offsets = answer.body["offsets"].as_array()?;
    offsets.iter().find(|offset| offset["partition"] == json!(partition))?["offset"].as_i64()
}

fn wait_for_commit(broker: &Broker, group: &str, partition: i64, offset: i64) {
    wait_for("the offset is committed", SOON, || (committed(broker, group, partition) == Some(offset)).then_some(()));
}

/// Partitions of the next `assigned` that has any.
fn assigned(socket: &mut Socket, passes: &[&str]) -> BTreeSet<i64> {
    loop {
        let frame = socket.until("assigned", passes);
        let partitions = frame["partitions"].as_array().expect("partitions are a list");
        if !partitions.is_empty() {
            assert!(frame["generation"].as_i64().is_some_and(|generation| generation > 0), "{frame}");
            return partitions.iter().map(|place| place["partition"].as_i64().expect("a number")).collect();
        }
    }
}

fn through(topic: &str, partition: i64, offset: i64) -> Value {
    json!([{"topic": topic, "partition": partition, "offset": offset}])
}

#[test]
fn what_is_acknowledged_is_committed_and_the_rest_comes_again() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 10);
    let path = "/v1/groups/g/ws?topics=t";
    let mut socket = Socket::open(&broker, path);
    let subscribed = socket.until("subscribed", &[]);
    assert_eq!(subscribed["group"], json!("g"));
    assert!(subscribed["member"].is_string(), "{subscribed}");
    assigned(&mut socket, &[]);
    assert_eq!(socket.records(10, &[]).len(), 10);
    socket.send(json!({"type": "ack", "sub": 1, "id": 7, "through": through("t", 0, 3)}));
    let acked = socket.until("acked", &["caught_up"]);
    assert_eq!((&acked["id"], &acked["committed"]), (&json!(7), &through("t", 0, 4)), "the next one is stored");
    assert_eq!(committed(&broker, "g", 0), Some(4));
    // Twice is once, and one by one in any order.
    for (id, records, expected) in [(8, [3, 2], 4), (9, [6, 5], 4), (10, [4, 3], 7)] {
        let records: Vec<_> = records.iter().map(|offset| json!({"partition": 0, "offset": offset})).collect();
        socket.send(json!({"type": "ack", "id": id, "records": records}));
        let acked = socket.until("acked", &["caught_up"]);
        assert_eq!((&acked["id"], &acked["committed"]), (&json!(id), &through("t", 0, expected)));
    }
    for (bad, part) in [(through("t", 0, 10), "was not sent"), (through("t", 5, 0), "is not this member's")] {
        socket.send(json!({"type": "ack", "id": 11, "through": bad}));
        let error = socket.until("error", &["caught_up"]);
        assert_eq!(error["id"], json!(11));
        assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "{error}");
    }
    socket.line("@close");
    let mut socket = Socket::open(&broker, path);
    assigned(&mut socket, &["subscribed"]);
    assert_eq!(socket.records(3, &[]), [(0, 7), (0, 8), (0, 9)]);
    // Who reads again what is done commits from there.
    socket.send(json!({"type": "seek", "to": through("t", 0, 1)}));
    assert_eq!(assigned(&mut socket, &["caught_up"]), BTreeSet::from([0]));
    assert_eq!(socket.records(9, &[]).first(), Some(&(0, 1)));
    assert_eq!(committed(&broker, "g", 0), Some(7), "a seek alone commits nothing");
    socket.send(json!({"type": "ack", "id": 12, "through": through("t", 0, 1)}));
    assert_eq!(socket.until("acked", &["caught_up"])["committed"], through("t", 0, 2));
    // By somebody else who has done the work.
    let body = json!({"through": through("t", 0, 5)}).to_string();
    let acked = call("POST", &broker.http("/v1/groups/g/ack"), &[JSON], &body).expect(200);
    assert_eq!(acked["committed"], through("t", 0, 6));
    assert_eq!(committed(&broker, "g", 0), Some(6));
}

#[test]
fn a_member_is_acknowledged_over_another_socket() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 5);
    let mut member = Socket::open(&broker, "/v1/groups/g/ws?topics=t");
    let token = member.until("subscribed", &[])["member"].clone();
    assert_eq!(member.records(5, &["assigned"]).len(), 5);
    let mut other = Socket::open(&broker, "/v1/stream/ws");
    let mut ack = |member: &Value, offset: i64, answer: &str| {
        let through = through("t", 0, offset);
        other.send(json!({"type": "ack", "id": offset, "group": "g", "member": member, "through": through}));
        other.until(answer, &[])
    };
    let acked = ack(&token, 2, "acked");
    assert_eq!(acked, json!({"type": "acked", "id": 2, "group": "g", "committed": through("t", 0, 3)}));
    assert_eq!(committed(&broker, "g", 0), Some(3));
    for (member, offset, part) in [(&json!("another"), 3, "is not held by this member"), (&token, 9, "was not sent")] {
        let error = ack(member, offset, "error");
        assert_eq!(error["id"], json!(offset));
        assert!(error["message"].as_str().is_some_and(|message| message.contains(part)), "{error}");
    }
    let post = |member: &Value| {
        let body = json!({"member": member, "through": through("t", 0, 3)}).to_string();
        call("POST", &broker.http("/v1/groups/g/ack"), &[JSON], &body)
    };
    assert_eq!(post(&json!("another")).status, 409);
    assert_eq!(post(&token).expect(200)["committed"], through("t", 0, 4));
}

#[test]
fn members_share_partitions_and_hand_them_over() {
    let broker = Broker::start();
    broker.create_topic("t", 2);
    for partition in 0..2 {
        produce(&broker, "t", partition, 5);
    }
    let path = "/v1/groups/g/ws?topics=t";
    let mut first = Socket::open(&broker, path);
    assert_eq!(assigned(&mut first, &["subscribed"]), BTreeSet::from([0, 1]));
    let mut read: BTreeSet<_> = first.records(10, &["caught_up"]).into_iter().collect();
    // One is done, the other is not when it has to be given up.
    let mut second = Socket::open(&broker, path);
    let revoked = first.until("revoked", &["caught_up"]);
    let given_up = revoked["partitions"][0]["partition"].as_i64().expect("a number");
    assert_eq!((&revoked["reason"], &revoked["deadline_ms"]), (&json!("rebalance"), &json!(3000)));
    first.send(json!({"type": "ack", "id": 1, "through": through("t", given_up, 2)}));
    assert_eq!(first.until("acked", &["caught_up"])["committed"], through("t", given_up, 3));
    assert_eq!(assigned(&mut second, &["subscribed"]), BTreeSet::from([given_up]));
    assert_eq!(second.records(2, &[]), [(given_up, 3), (given_up, 4)], "from where the first has come");
    first.send(json!({"type": "ack", "id": 2, "through": through("t", given_up, 4)}));
    first.until("error", &["caught_up"]);

    // The second goes without a word: the first has all of it again, and nothing is lost.
    drop(second);
    assert_eq!(assigned(&mut first, &["caught_up"]), BTreeSet::from([given_up]));
    assert_eq!(first.records(2, &[]), [(given_up, 3), (given_up, 4)]);
    produce(&broker, "t", given_up as i32, 1);
    read.extend(first.records(1, &["caught_up"]));
    assert_eq!(read.len(), 11);
}

#[test]
fn what_has_arrived_is_committed_without_acknowledgements() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 20);
    let mut received = Socket::open(&broker, "/v1/groups/received/ws?topics=t&ack=received");
    assert_eq!(received.records(20, &["subscribed", "assigned"]).len(), 20);
    wait_for_commit(&broker, "received", 0, 20);
    received.send(json!({"type": "ack", "id": 1, "through": through("t", 0, 3)}));
    received.until("error", &["caught_up"]);

    let mut none = Socket::open(&broker, "/v1/groups/none/ws?topics=t&ack=none");
    assert_eq!(none.records(20, &["subscribed", "assigned"]).len(), 20);
    none.line("@close");
    let mut again = Socket::open(&broker, "/v1/groups/none/ws?topics=t&ack=none");
    assert_eq!(again.records(20, &["subscribed", "assigned"]).len(), 20, "nothing was committed");
    assert_eq!(committed(&broker, "none", 0), None);
}

#[test]
fn a_member_that_acknowledges_nothing_has_to_go() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 10);
    let path = "/v1/groups/g/ws?topics=t&max_unacked=3&max_poll_interval_ms=1000&heartbeat_ms=1000&batch_records=1";
    let mut socket = Socket::open(&broker, path);
    assert_eq!(socket.records(3, &["subscribed", "assigned"]), [(0, 0), (0, 1), (0, 2)]);
    let goodbye = socket.until("goodbye", &[]);
    assert_eq!(goodbye["code"], json!(4408));
    assert!(goodbye["reconnect_after_ms"].is_i64(), "{goodbye}");
    assert_eq!(socket.closed(), 4408);
}

#[test]
fn an_instance_id_is_one_members() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 1);
    let path = "/v1/groups/g/ws?topics=t&instance_id=i";
    let mut first = Socket::open(&broker, path);
    assert_eq!(first.records(1, &["subscribed", "assigned"]), [(0, 0)]);
    let mut second = Socket::open(&broker, path);
    second.until("error", &["subscribed"]);
    assert_eq!(second.until("goodbye", &[])["code"], json!(4509));
    assert_eq!(second.closed(), 4509);
}

#[test]
fn a_group_goes_on_after_a_crash_where_it_has_committed() {
    let mut broker = Broker::start();
    broker.create_topic("t", 2);
    for partition in 0..2 {
        produce(&broker, "t", partition, 30);
    }
    let path = "/v1/groups/g/ws?topics=t&batch_records=4";
    let mut done = BTreeSet::new();
    let mut socket = Socket::open(&broker, path);
    for id in 0..5 {
        let frame = socket.until("records", &["subscribed", "assigned", "caught_up", "acked"]);
        let places = places_of(&frame);
        let (partition, last) = *places.last().expect("there are records");
        done.extend(places);
        socket.send(json!({"type": "ack", "id": id, "through": through("t", partition, last)}));
    }
    // More has come meanwhile, and is read again after the crash.
    while socket.until("acked", &["records", "caught_up"])["id"] != json!(4) {}
    broker.kill();
    broker.start_again();
    let mut socket = Socket::open(&broker, path);
    let rest = socket.records(60 - done.len(), &["subscribed", "assigned", "caught_up"]);
    done.extend(rest);
    assert_eq!(done.len(), 60, "each once");
}

/// The next event with this name: its id and its data.
fn event(stream: &mut Background, name: &str) -> (Option<String>, Value) {
    let mut id = None;
    let mut is_found = false;
    loop {
        let line = stream.line();
        if let Some(found) = line.strip_prefix("id: ") {
            id = Some(found.to_owned());
        } else if let Some(found) = line.strip_prefix("event: ") {
            is_found = found == name;
        } else if let Some(data) = line.strip_prefix("data: ") {
            if is_found {
                return (id, serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}")));
            }
            id = None;
        }
    }
}

#[test]
fn events_of_a_group_are_committed_by_a_request_or_by_coming_back() {
    let broker = Broker::start();
    broker.create_topic("t", 1);
    produce(&broker, "t", 0, 5);
    let url = broker.http("/v1/groups/g/sse?topics=t");
    let mut stream = Background::start(curl(&["--no-buffer", &url]));
    let mut ids: Vec<String> = (0..5).map(|_| event(&mut stream, "message").0.expect("an id")).collect();
    let ack = |body: Value| call("POST", &broker.http("/v1/groups/g/ack"), &[JSON], &body.to_string());
    let acked = ack(json!({"through": through("t", 0, 1)})).expect(200);
    assert_eq!(acked["committed"], through("t", 0, 2));
    assert_eq!(committed(&broker, "g", 0), Some(2));
    assert_eq!(ack(json!({"through": through("t", 0, 9)})).status, 409, "it was not sent");
    assert_eq!(ack(json!({"through": through("other", 0, 1)})).status, 409, "nobody here reads it");
    assert_eq!(ack(json!({})).status, 400);
    drop(stream);

    // Who comes back with an id has everything before it.
    let id = ids.remove(3);
    let again = curl(&["--no-buffer", "-H", &format!("Last-Event-ID: {id}"), &url]);
    let mut stream = Background::start(again);
    assert_eq!(event(&mut stream, "message").1["offset"], json!(4));
    wait_for_commit(&broker, "g", 0, 4);
    drop(stream);

    // For curl the same in lines.
    let mut lines = Background::start(curl(&["--no-buffer", "-H", "Accept: application/x-ndjson", &url]));
    let record: Value = serde_json::from_str(&lines.line()).expect("a line is JSON");
    assert_eq!((&record["offset"], &record["value"]), (&json!(4), &json!({"n": 4})));
    assert_eq!(ack(json!({"records": through("t", 0, 4)})).expect(200)["committed"], through("t", 0, 5));
    assert_eq!(call("GET", &broker.http("/v1/groups/g/sse?topics=t&ack=received"), &[], "").status, 400);
}
