//! HTTP doors of a cluster: every broker takes and gives what any of them leads, and finds every group's coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::support::broker::{Broker, free_port};
use crate::support::frames::Fields;
use crate::support::programs::{Background, curl, output_of};
use crate::support::rest::{ACCEPT_JSON, JSON, V2_JSON, call};
use crate::support::socket::Socket;
use crate::support::wait_for;

const BROKERS: i32 = 3;
/// Of REST v3.
const REQUEST_TIMED_OUT: i32 = 50_003;

/// Partition 0 is led by broker 1, and so on; each is on one broker only.
fn one_on_each(cluster: &Cluster, topic: &str) {
    let assignments: Vec<Value> =
        (0..BROKERS).map(|index| json!({ "partition_id": index, "broker_ids": [index + 1] })).collect();
    let wanted = json!({ "topic_name": topic, "replicas_assignments": assignments }).to_string();
    let made = call("POST", &cluster.broker(1).http(&v3(cluster, "/topics")), &[JSON], &wanted);
    // In the middle of an election it may be late, not in vain.
    assert!(made.status == 201 || made.body["error_code"] == REQUEST_TIMED_OUT, "{}", made.text);
    cluster.wait_until_in_sync(topic, BROKERS);
}

fn v3(cluster: &Cluster, path: &str) -> String {
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

/// One consumer on each broker, all in a group of the same name as on the others; each reads what the others lead.
#[test]
fn a_rest_consumer_on_any_broker_reads_commits_and_goes_on() {
    let cluster = Cluster::start();
    one_on_each(&cluster, "consumed");
    for partition in 0..BROKERS {
        cluster.broker(1).produce_json("consumed", partition, &[json!(partition)]);
    }
    for id in cluster.ids() {
        let (broker, group) = (cluster.broker(id), format!("readers-{id}"));
        let first = Instance::start(broker, &group);
        assert_eq!(first.read_values(3), [0, 1, 2].map(|n| json!(n)), "through broker {id}");
        first.commit();
        first.end();
    }
    for partition in 0..BROKERS {
        cluster.broker(2).produce_json("consumed", partition, &[json!(10 + partition)]);
    }
    for id in cluster.ids() {
        // The group is found through each of the others.
        for other in cluster.ids() {
            let asked = cluster.broker(other).get("/v1/groups").expect(200);
            let group = format!("readers-{id}");
            assert!(asked.to_string().contains(&group), "{group} through broker {other}: {asked}");
            let path = v3(&cluster, &format!("/consumer-groups/{group}/lags"));
            let lags = cluster.broker(other).get(&path).expect(200);
            let lags: Vec<i64> =
                lags["data"].as_array().into_iter().flatten().filter_map(|lag| lag["lag"].as_i64()).collect();
            assert_eq!(lags, [1, 1, 1], "{group} through broker {other}");
        }
        let through = cluster.broker(id % BROKERS + 1);
        let next = Instance::start(through, &format!("readers-{id}"));
        assert_eq!(next.read_values(3), [10, 11, 12].map(|n| json!(n)), "the first ones are committed");
        next.end();
    }
}

/// A REST v2 consumer of "consumed".
struct Instance<'a> {
    broker: &'a Broker,
    path: String,
}

impl Instance<'_> {
    fn start<'a>(broker: &'a Broker, group: &str) -> Instance<'a> {
        let settings = json!({ "format": "json", "auto.offset.reset": "earliest" });
        let made = broker.post_v2(&format!("/consumers/{group}"), &settings).expect(200);
        let id = made["instance_id"].as_str().expect("it has a name").to_owned();
        let path = format!("/consumers/{group}/instances/{id}");
        let subscribed = broker.post_v2(&format!("{path}/subscription"), &json!({ "topics": ["consumed"] }));
        assert_eq!(subscribed.status, 204, "{}", subscribed.text);
        Instance { broker, path }
    }

    fn read(&self) -> Value {
        call("GET", &self.broker.http(&format!("{}/records?timeout=2000", self.path)), &[ACCEPT_JSON], "").expect(200)
    }

    /// Sorted.
    fn read_values(&self, count: usize) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        wait_for("the records come", HEALED_WITHIN, || {
            let read = self.read();
            values.extend(read.as_array().into_iter().flatten().map(|record| record["value"].clone()));
            (values.len() >= count).then_some(())
        });
        values.sort_by_key(|value| value.as_i64());
        values
    }

    fn commit(&self) {
        call("POST", &self.broker.http(&format!("{}/offsets", self.path)), &[crate::support::rest::V2], "").expect(200);
    }

    fn end(self) {
        assert_eq!(self.broker.delete(&self.path).status, 204);
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

/// Its coordinator is elsewhere, and dies.
#[test]
fn a_rest_consumer_outlives_the_coordinator_of_its_group() {
    let mut cluster = Cluster::start();
    cluster.create_topic("consumed", 3);
    for partition in 0..3 {
        cluster.broker(1).produce_json("consumed", partition, &[json!(partition)]);
    }
    let door = 1;
    let (group, coordinator) = coordinated_elsewhere(&cluster, door);
    let instance = Instance::start(cluster.broker(door), &group);
    assert_eq!(instance.read_values(3), [0, 1, 2].map(|n| json!(n)));
    instance.commit();
    let path = instance.path.clone();
    cluster.kill(coordinator);
    wait_for("the group is listed with its next coordinator", HEALED_WITHIN, || {
        let listed = cluster.broker(door).get("/v1/groups").expect(200);
        listed.to_string().contains(&group).then_some(())
    });
    for partition in 0..3 {
        let body = json!({ "records": [{ "value": 10 + partition, "partition": partition }] }).to_string();
        let url = cluster.broker(door).http("/topics/consumed");
        wait_for("the record is taken", LEADER_GONE_FOR_MAX, || {
            let answer = call("POST", &url, &[V2_JSON], &body);
            (answer.status == 200 && answer.body["offsets"][0]["error_code"].is_null()).then_some(())
        });
    }
    let instance = Instance { broker: cluster.broker(door), path };
    assert_eq!(instance.read_values(3), [10, 11, 12].map(|n| json!(n)), "it goes on where it was");
    instance.commit();
    instance.end();
    cluster.broker(door).produce_json("consumed", 0, &[json!(20)]);
    let next = Instance::start(cluster.broker(door), &group);
    assert_eq!(next.read_values(1), [json!(20)], "everything before is committed");
    next.end();
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

/// Its client comes to another broker each time, as through a load balancer.
#[test]
fn a_rest_consumer_is_found_through_every_broker() {
    let mut cluster = Cluster::start();
    one_on_each(&cluster, "consumed");
    let instance = Instance::start(cluster.broker(1), "balanced");
    let path = instance.path.clone();
    for round in 0..3 {
        for id in [2, 3, 1] {
            let number = round * 10 + id;
            cluster.broker(id).produce_json("consumed", id - 1, &[json!(number)]);
            let through = Instance { broker: cluster.broker(id), path: path.clone() };
            assert_eq!(through.read_values(1), [json!(number)], "through broker {id}");
            through.commit();
        }
    }
    let (second, third) = (cluster.broker(2), cluster.broker(3));
    let subscribed = second.get(&format!("{path}/subscription")).expect(200);
    assert_eq!(subscribed, json!({ "topics": ["consumed"] }));
    let to_the_first = json!({ "partitions": [{ "topic": "consumed", "partition": 2 }] });
    assert_eq!(third.post_v2(&format!("{path}/positions/beginning"), &to_the_first).status, 204);
    let again = Instance { broker: second, path: path.clone() };
    assert_eq!(again.read_values(3), [3, 13, 23].map(|n| json!(n)), "all of partition 2");
    let refused = third.post_v2(&format!("{path}/subscription"), &json!({ "topics": [] }));
    assert_eq!(refused.refused(422), 422, "its owner's refusal");
    assert_eq!(second.get(&format!("/consumers/balanced/instances/nobody~n{}/records", 3)).refused(404), 40403);

    // Whoever waits through another broker and hangs up has read nothing either.
    let mut waiting = std::net::TcpStream::connect(second.http_address()).expect("it listens");
    let head = format!("GET {path}/records?timeout=60000 HTTP/1.1\r\nHost: localhost\r\n{ACCEPT_JSON}\r\n\r\n");
    std::io::Write::write_all(&mut waiting, head.as_bytes()).expect("the broker reads");
    let counted = hung_up(cluster.broker(1));
    wait_for("the owner has it", HEALED_WITHIN, || (reads(cluster.broker(1)) > 0).then_some(()));
    drop(waiting);
    wait_for("the owner knows that its client has gone", HEALED_WITHIN, || {
        (hung_up(cluster.broker(1)) > counted).then_some(())
    });
    cluster.broker(1).produce_json("consumed", 1, &[json!("late")]);
    assert_eq!(again.read_values(1), [json!("late")]);

    cluster.kill(1);
    wait_for("the instance is gone with its broker", HEALED_WITHIN, || {
        (cluster.broker(2).get(&format!("{path}/records")).status == 404).then_some(())
    });
}

/// A name that its client has given is one consumer, whichever broker its client comes to, and whoever was away when it was made.
#[test]
fn a_named_rest_consumer_is_the_same_through_every_broker() {
    let mut cluster = Cluster::start();
    one_on_each(&cluster, "consumed");
    let create = |broker: &Broker, name: &str| {
        let settings = json!({ "name": name, "format": "json", "auto.offset.reset": "earliest" });
        broker.post_v2("/consumers/named", &settings)
    };
    let made = create(cluster.broker(1), "my_consumer_instance").expect(200);
    let path = "/consumers/named/instances/my_consumer_instance";
    assert_eq!(made["instance_id"], json!("my_consumer_instance"));
    assert_eq!(made["base_uri"], json!(cluster.broker(1).http(path)));
    for id in cluster.ids() {
        assert_eq!(create(cluster.broker(id), "my_consumer_instance").refused(409), 40902, "through broker {id}");
    }
    let subscribed = cluster.broker(2).post_v2(&format!("{path}/subscription"), &json!({ "topics": ["consumed"] }));
    assert_eq!(subscribed.status, 204, "{}", subscribed.text);
    for id in cluster.ids() {
        cluster.broker(id).produce_json("consumed", id - 1, &[json!(id)]);
        let through = Instance { broker: cluster.broker(id), path: path.to_owned() };
        assert_eq!(through.read_values(1), [json!(id)], "through broker {id}");
        assert_eq!(cluster.broker(id).get("/consumers/named/instances/nobody/records").refused(404), 40403);
    }
    assert_eq!(cluster.broker(3).delete(path).status, 204);
    assert_eq!(cluster.broker(1).get(&format!("{path}/subscription")).refused(404), 40403);

    cluster.kill(3);
    let names: Vec<String> = (0..8).map(|number| format!("consumer-{number}")).collect();
    for name in &names {
        wait_for("it is made", HEALED_WITHIN, || (create(cluster.broker(1), name).status == 200).then_some(()));
    }
    cluster.start_again(3);
    cluster.wait_until_whole();
    for (id, name) in cluster.ids().into_iter().flat_map(|id| names.iter().map(move |name| (id, name))) {
        let found = cluster.broker(id).get(&format!("/consumers/named/instances/{name}/subscription"));
        assert_eq!(found.expect(200), json!({ "topics": [] }), "{name} through broker {id}");
    }
}

/// By which name a client came is for the broker to judge that it came to: the owner of what it wants need not know the name.
#[test]
fn what_is_carried_to_its_owner_was_let_in_where_it_came() {
    let peers = (1..=BROKERS).map(|id| (id, format!("127.0.0.1:{}", free_port()))).collect();
    let named =
        |id: i32| if id == 2 { vec!["capek.http.allowed.origins=http://app.example".to_owned()] } else { vec![] };
    let mut cluster = Cluster::prepare_at(peers, named, &[]);
    cluster.start_all();
    one_on_each(&cluster, "consumed");
    let path = Instance::start(cluster.broker(1), "named").path.clone() + "/subscription";
    let ask = |id: i32, method: &[&str]| {
        let url = cluster.broker(id).http(&path);
        let asked = ["--header", "Host: app.example", "--output", "/dev/null", "--write-out", "%{http_code}", &url];
        output_of(curl(&[&asked[..], method].concat()))
    };
    for method in [&[][..], &["--head"]] {
        assert_eq!(ask(2, method), "200", "carried to its owner");
        assert_eq!(ask(1, method), "421", "its owner has no such name");
    }
}

/// REST v2's GETs that were counted as their client's fault.
fn hung_up(broker: &Broker) -> u64 {
    let metrics = broker.get("/metrics").text;
    let name = "capek_http_requests_total{door=\"rest_v2\",method=\"GET\",status=\"4xx\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().expect("a count"))
}

/// Requests that other brokers' clients wait for here.
fn reads(broker: &Broker) -> u64 {
    let metrics = broker.get("/metrics").text;
    let name = "capek_http_carried_requests ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().expect("a count"))
}
