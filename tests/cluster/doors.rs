//! HTTP doors of a cluster: every broker takes and gives what any of them leads, and finds every group's coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::support::broker::Broker;
use crate::support::frames::Fields;
use crate::support::programs::{Background, curl};
use crate::support::rest::{JSON, V2_JSON, call};
use crate::support::socket::Socket;
use crate::support::wait_for;

pub const BROKERS: i32 = 3;
/// Of REST v3.
const REQUEST_TIMED_OUT: i32 = 50_003;

/// Partition 0 is led by broker 1, and so on; each is on one broker only.
pub fn one_on_each(cluster: &Cluster, topic: &str) {
    let assignments: Vec<Value> =
        (0..BROKERS).map(|index| json!({ "partition_id": index, "broker_ids": [index + 1] })).collect();
    let wanted = json!({ "topic_name": topic, "replicas_assignments": assignments }).to_string();
    // In the middle of an election it may be late, or in vain: whoever looked for the topic then would make another one.
    wait_for("the topic is made", HEALED_WITHIN, || {
        let made = call("POST", &cluster.broker(1).http(&v3(cluster, "/topics")), &[JSON], &wanted);
        let is_there = made.status == 201 || made.text.contains("already exists");
        assert!(is_there || made.body["error_code"] == REQUEST_TIMED_OUT, "{}", made.text);
        is_there.then_some(())
    });
    cluster.wait_until_in_sync(topic, BROKERS);
}

pub fn v3(cluster: &Cluster, path: &str) -> String {
    let clusters = cluster.broker(1).get("/v3/clusters").expect(200);
    format!("/v3/clusters/{}{path}", clusters["data"][0]["cluster_id"].as_str().expect("a cluster has an id"))
}

/// Where it is.
fn post(broker: &Broker, topic: &str, partition: i32, value: &str) -> i64 {
    let url = broker.http(&format!("/v1/topics/{topic}?partition={partition}"));
    let stored = call("POST", &url, &[], value).expect(200);
    assert_eq!(stored["partition"], json!(partition));
    stored["offset"].as_i64().expect("a record has an offset")
}

/// Values by partition, each with its offset, as the broker's bounded read tells them.
fn read(broker: &Broker, topic: &str) -> BTreeMap<i64, Vec<(i64, String)>> {
    let url = broker.http(&format!("/v1/topics/{topic}/records?from=earliest"));
    let answer = call("GET", &url, &[], "");
    assert_eq!(answer.status, 200, "{}", answer.text);
    let mut found: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    for line in answer.text.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let number = |name: &str| record[name].as_i64().unwrap_or_else(|| panic!("no {name}: {line}"));
        let value = record["value"].as_str().unwrap_or_else(|| panic!("no value: {line}")).to_owned();
        found.entry(number("partition")).or_default().push((number("offset"), value));
    }
    found
}

/// Through each broker to each partition, in every way; and what is there, through each broker.
#[test]
fn every_broker_takes_and_gives_records_that_any_of_them_leads() {
    let cluster = Cluster::start();
    one_on_each(&cluster, "spread");
    let mut expected: BTreeMap<i64, Vec<(i64, String)>> = BTreeMap::new();
    let v3_records = v3(&cluster, "/topics/spread/records");
    for id in cluster.ids() {
        let broker = cluster.broker(id);
        for partition in 0..BROKERS {
            let mut next = expected.get(&i64::from(partition)).map_or(0, |found| found.len() as i64);
            let mut stored = |offset: i64, value: &str| {
                assert_eq!(offset, next, "{value}");
                next += 1;
                expected.entry(partition.into()).or_default().push((offset, value.to_owned()));
            };
            let value = format!("v1 {id} {partition}");
            stored(post(broker, "spread", partition, &value), &value);

            let value = format!("v2 {id} {partition}");
            let body = json!({ "records": [{ "value": value, "partition": partition }] }).to_string();
            let answer = call("POST", &broker.http("/topics/spread"), &[V2_JSON], &body).expect(200);
            let offset = answer["offsets"][0]["offset"].as_i64().unwrap_or_else(|| panic!("{answer}"));
            stored(offset, &value);

            let value = format!("v3 {id} {partition}");
            let body = json!({ "partition_id": partition, "value": { "type": "STRING", "data": value } }).to_string();
            let answer = call("POST", &broker.http(&v3_records), &[JSON], &body).expect(200);
            let offset = answer["offset"].as_i64().unwrap_or_else(|| panic!("{answer}"));
            stored(offset, &value);
        }
    }
    for id in cluster.ids() {
        let broker = cluster.broker(id);
        assert_eq!(read(broker, "spread"), expected, "through broker {id}");
        for (partition, records) in &expected {
            let count = records.len() as i64;
            let offsets = broker.get(&format!("/topics/spread/partitions/{partition}/offsets")).expect(200);
            assert_eq!(offsets, json!({ "beginning_offset": 0, "end_offset": count }), "through broker {id}");
            let path = v3(&cluster, &format!("/topics/spread/partitions/{partition}/offset?offset_type=latest"));
            assert_eq!(broker.get(&path).expect(200)["offset"], json!(count));
            let path = format!("/topics/spread/partitions/{partition}/records?offset=1&timeout=5000");
            let answer = call("GET", &broker.http(&path), &["Accept: application/vnd.kafka.binary.v2+json"], "");
            let found = answer.expect(200);
            assert_eq!(found.as_array().map(Vec::len), Some(records.len() - 1), "through broker {id}: {found}");
            let beyond = format!("/topics/spread/partitions/{partition}/records?offset={}", count + 1);
            assert_eq!(broker.get(&beyond).refused(400), 40002);
        }
    }
}

/// Streams follow partitions that other brokers lead, as records come.
#[test]
fn a_stream_through_any_broker_follows_what_the_others_lead() {
    let cluster = Cluster::start();
    one_on_each(&cluster, "followed");
    let mut streams: Vec<Background> = cluster
        .ids()
        .into_iter()
        .map(|id| {
            let url = cluster.broker(id).http("/v1/topics/followed/sse?from=earliest");
            Background::start(curl(&["--no-buffer", "-H", "Accept: application/x-ndjson", &url]))
        })
        .collect();
    for round in 0..3 {
        let mut expected = BTreeSet::new();
        for partition in 0..BROKERS {
            let value = format!("{round} to {partition}");
            // Through a broker that does not lead it.
            let through = (partition + 1) % BROKERS + 1;
            assert_eq!(post(cluster.broker(through), "followed", partition, &value), round);
            expected.insert(value);
        }
        for stream in &mut streams {
            let found: BTreeSet<String> = (0..BROKERS).map(|_| next_value(stream)).collect();
            assert_eq!(found, expected);
        }
    }
}

fn next_value(stream: &mut Background) -> String {
    loop {
        let line = stream.line();
        let record: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if let Some(value) = record["value"].as_str() {
            return value.to_owned();
        }
    }
}

pub const LEADER_GONE_FOR_MAX: Duration = Duration::from_secs(60);

/// The leader dies in the middle: whoever sends again with the same key stores nothing twice, and what was confirmed stays.
#[test]
fn keyed_records_through_any_door_outlive_their_leader_once_each() {
    let mut cluster = Cluster::start();
    cluster.create_topic("keyed", 1);
    let send = |broker: &Broker, number: usize| {
        let key = format!("Idempotency-Key: order-{number}");
        let answer = call("POST", &broker.http("/v1/topics/keyed"), &[&key], &format!("order {number}"));
        (answer.status == 200).then(|| answer.body["offset"].as_i64().expect("an offset"))
    };
    let mut offsets = Vec::new();
    let leader = cluster.leader("keyed", 0);
    let doors = cluster.others(&[leader]);
    for number in 0..60 {
        if number == 20 {
            cluster.kill(leader);
        }
        let mut tries = 0;
        offsets.push(wait_for("the record is taken", LEADER_GONE_FOR_MAX, || {
            tries += 1;
            send(cluster.broker(doors[(number + tries) % doors.len()]), number)
        }));
    }
    // All of them once more, each through another door than the first time.
    for number in 0..60 {
        let again = wait_for("the record is known", LEADER_GONE_FOR_MAX, || {
            send(cluster.broker(doors[number % doors.len()]), number)
        });
        assert_eq!(again, offsets[number], "order {number}");
    }
    let expected: BTreeMap<i64, String> =
        offsets.iter().enumerate().map(|(number, offset)| (*offset, format!("order {number}"))).collect();
    assert_eq!(expected.len(), 60, "each has an offset of its own: {offsets:?}");
    for door in doors {
        let found = read(cluster.broker(door), "keyed").remove(&0).unwrap_or_default();
        assert_eq!(found, expected.clone().into_iter().collect::<Vec<_>>(), "through broker {door}");
    }
    cluster.start_again(leader);
    cluster.wait_until_in_sync("keyed", 1);
    let found = read(cluster.broker(leader), "keyed").remove(&0).unwrap_or_default();
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "through the one that was away");
}

/// What the frames hold is known by the next leader, too.
#[test]
fn numbered_frames_outlive_their_leader_once_each() {
    const FRAMES: u64 = 70; // the numbers go round: some are written in a later epoch
    let mut cluster = Cluster::start();
    cluster.create_topic("numbered", 1);
    let leader = cluster.leader("numbered", 0);
    let doors = cluster.others(&[leader]);
    let open = |broker: &Broker| Socket::open(broker, "/v1/topics/numbered/produce/ws?session=sensor");
    let send = |socket: &mut Socket, sequence: u64, value: u64| {
        socket.send(json!({ "type": "produce", "seq": sequence, "records": [{ "value": format!("frame {value}") }] }));
        socket.until("produced", &[])["results"][0].clone()
    };
    let mut socket = open(cluster.broker(doors[0]));
    for sequence in 0..FRAMES {
        assert_eq!(send(&mut socket, sequence, sequence)["offset"], json!(sequence));
    }
    cluster.kill(leader);
    for door in doors {
        let mut socket = open(cluster.broker(door));
        for sequence in FRAMES - 64..FRAMES {
            let again = wait_for("the frame is known", LEADER_GONE_FOR_MAX, || {
                Some(send(&mut socket, sequence, sequence)).filter(|result| result["offset"].is_i64())
            });
            assert_eq!(again["offset"], json!(sequence), "through broker {door}");
            assert_eq!(send(&mut socket, sequence, 1_000)["error_code"], json!(409), "through broker {door}");
        }
        let found = read(cluster.broker(door), "numbered").remove(&0).unwrap_or_default();
        assert_eq!(found.len() as u64, FRAMES, "through broker {door}");
    }
}

/// It still believes that it leads, and holds every connection open: doors do not wait for it longer than the controller does.
#[test]
fn keyed_records_pass_a_leader_that_is_paused() {
    let cluster = Cluster::start();
    cluster.create_topic("paused", 1);
    let leader = cluster.leader("paused", 0);
    let door = cluster.others(&[leader])[0];
    let send = |value: &str| {
        let key = format!("Idempotency-Key: {value}");
        let url = cluster.broker(door).http("/v1/topics/paused");
        wait_for("the record is taken", LEADER_GONE_FOR_MAX, || {
            let answer = call("POST", &url, &[&key], value);
            (answer.status == 200).then(|| answer.body["offset"].as_i64().expect("an offset"))
        })
    };
    assert_eq!(send("before"), 0);
    cluster.broker(leader).signal("STOP");
    assert_eq!(send("meanwhile"), 1);
    cluster.broker(leader).signal("CONT");
    cluster.wait_until_in_sync("paused", 1);
    assert_eq!(send("meanwhile"), 1, "it is stored once");
    let expected = [(0, "before".to_owned()), (1, "meanwhile".to_owned())];
    for id in cluster.ids() {
        assert_eq!(read(cluster.broker(id), "paused").remove(&0).unwrap_or_default(), expected, "through broker {id}");
    }
}

/// The stream stays open, and tells every record once and in order.
#[test]
fn a_stream_follows_a_partition_to_its_next_leader() {
    let mut cluster = Cluster::start();
    cluster.create_topic("moving", 1);
    let leader = cluster.leader("moving", 0);
    let door = cluster.others(&[leader])[0];
    let url = cluster.broker(door).http("/v1/topics/moving/sse?from=earliest");
    let mut stream = Background::start(curl(&["--no-buffer", "-H", "Accept: application/x-ndjson", &url]));
    for number in 0..40 {
        if number == 20 {
            cluster.kill(leader);
        }
        let value = format!("value {number}");
        // The key says that what was stored and not answered is stored once.
        let key = format!("Idempotency-Key: {value}");
        let url = cluster.broker(door).http("/v1/topics/moving");
        wait_for("the record is taken", LEADER_GONE_FOR_MAX, || {
            (call("POST", &url, &[&key], &value).status == 200).then_some(())
        });
        assert_eq!(next_value(&mut stream), value);
    }
}

/// A group, and the broker that coordinates it, which is not this one.
pub fn coordinated_elsewhere(cluster: &Cluster, door: i32) -> (String, i32) {
    let mut groups = (0..).map(|number| format!("group-{number}")).map(|group| {
        let broker = coordinator(cluster, &group);
        (group, broker)
    });
    groups.find(|(_, broker)| *broker != door).expect("one of them is coordinated elsewhere")
}

fn coordinator(cluster: &Cluster, group: &str) -> i32 {
    const FIND_COORDINATOR: i16 = 10;
    wait_for("the group has a coordinator", HEALED_WITHIN, || {
        let mut answer = cluster.client(1).try_call(FIND_COORDINATOR, 1, Fields::default().string(group).i8(0))?;
        let (_throttle_ms, error, _message, id) = (answer.i32(), answer.i16(), answer.string(), answer.i32());
        (error == 0).then_some(id)
    })
}
