//! Consumer instances of REST v2 on a cluster: each lives on one broker, and is found through every one.

use serde_json::{Value, json};

use crate::cluster::{Cluster, HEALED_WITHIN};
use crate::doors::{BROKERS, LEADER_GONE_FOR_MAX, coordinated_elsewhere, one_on_each, v3};
use crate::support::broker::{Broker, free_port};
use crate::support::programs::{curl, output_of};
use crate::support::rest::{ACCEPT_JSON, V2_JSON, call};
use crate::support::wait_for;

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
