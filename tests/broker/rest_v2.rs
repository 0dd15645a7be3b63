//! REST v2 with curl: consumer instances, their group, and what they are refused.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::programs::{Background, curl, kcat, output_of, output_with_input, python};
use crate::support::rest::{ACCEPT_BINARY, ACCEPT_JSON, Answer, JSON, V2, V2_JSON, call};
use crate::support::wait_for;

/// Groups that settle within a test.
const SETTINGS: [&str; 2] = ["group.consumer.heartbeat.interval.ms=300", "group.consumer.assignment.interval.ms=100"];

fn start(more: &[&str]) -> Broker {
    let broker = Broker::start_with(&[&SETTINGS[..], more].concat());
    broker.wait_for_http();
    broker
}

/// A JSON instance that begins at the beginning.
fn create(broker: &Broker, group: &str, instance: &str, more: Value) -> String {
    let mut body = json!({ "name": instance, "format": "json", "auto.offset.reset": "earliest" });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = broker.post_v2(&format!("/consumers/{group}"), &body).expect(200);
    assert_eq!(answer["instance_id"], json!(instance));
    let base = format!("/consumers/{group}/instances/{instance}");
    assert_eq!(answer["base_uri"], json!(broker.http(&base)));
    base
}

fn subscribed(broker: &Broker, group: &str, instance: &str, topic: &str) -> String {
    let base = create(broker, group, instance, json!({}));
    broker.post_v2(&format!("{base}/subscription"), &json!({ "topics": [topic] })).expect(204);
    base
}

fn read(broker: &Broker, base: &str, query: &str) -> Answer {
    call("GET", &broker.http(&format!("{base}/records{query}")), &[ACCEPT_JSON], "")
}

fn values(records: &Value) -> Vec<Value> {
    records.as_array().expect("records are a list").iter().map(|record| record["value"].clone()).collect()
}

/// Offsets that the group has committed, by partition.
fn committed(broker: &Broker, base: &str, topic: &str, partition: i32) -> Value {
    let body = json!({ "partitions": [{ "topic": topic, "partition": partition }] }).to_string();
    call("GET", &broker.http(&format!("{base}/offsets")), &[V2], &body).expect(200)["offsets"].clone()
}

/// The complaint about other proxies: the first read comes back empty, because nothing is assigned yet.
#[test]
fn the_first_read_of_an_instance_waits_for_its_assignment() {
    let broker = start(&[]);
    broker.create_topic("orders", 3);
    for partition in 0..3 {
        broker.produce_json("orders", partition, &[json!({ "n": partition })]);
    }
    let base = subscribed(&broker, "g", "one", "orders");
    let answer = read(&broker, &base, "?timeout=10000");
    assert_eq!(answer.content_type, "application/vnd.kafka.json.v2+json");
    let mut seen = values(&answer.expect(200));
    seen.sort_by_key(|value| value["n"].as_i64());
    assert_eq!(seen, [json!({"n": 0}), json!({"n": 1}), json!({"n": 2})]);
    let assigned = broker.get(&format!("{base}/assignments")).expect(200);
    assert_eq!(assigned["partitions"].as_array().map(Vec::len), Some(3), "{assigned}");
    assert_eq!(broker.get(&format!("{base}/subscription")).expect(200), json!({ "topics": ["orders"] }));
    broker.delete(&base).expect(204);
    assert_eq!(read(&broker, &base, "").refused(404), 40403);
}

#[test]
fn a_read_returns_when_a_record_comes_and_not_before_its_time_is_up() {
    let broker = start(&[]);
    broker.create_topic("live", 1);
    let base = subscribed(&broker, "g", "one", "live");
    let begun = Instant::now();
    assert_eq!(read(&broker, &base, "?timeout=700").expect(200), json!([]));
    assert!(begun.elapsed() >= Duration::from_millis(700), "{:?}", begun.elapsed());
    let url = broker.http(&format!("{base}/records?timeout=20000"));
    let waiting = std::thread::spawn(move || output_of(curl(&["-H", ACCEPT_JSON, &url])));
    std::thread::sleep(Duration::from_millis(300));
    let begun = Instant::now();
    broker.produce_json("live", 0, &[json!("now")]);
    let answer: Value = serde_json::from_str(&waiting.join().unwrap()).unwrap();
    assert_eq!(values(&answer), [json!("now")]);
    assert!(begun.elapsed() < Duration::from_secs(5), "it waited for its time-out");
}

/// Confluent's clients name the record that they have seen; what is stored is the next.
#[test]
fn offsets_are_committed_as_confluent_does_and_a_new_instance_goes_on_there() {
    let broker = start(&[]);
    broker.create_topic("t", 1);
    let all: Vec<Value> = (0..10).map(Value::from).collect();
    broker.produce_json("t", 0, &all);
    let base = subscribed(&broker, "g", "one", "t");
    assert_eq!(values(&read(&broker, &base, "?timeout=10000").expect(200)), all);
    assert_eq!(committed(&broker, &base, "t", 0), json!([]), "nothing is committed unasked");
    let body = json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": 3, "metadata": "m" }] });
    assert_eq!(broker.post_v2(&format!("{base}/offsets"), &body).expect(200), json!([]));
    let expected = json!([{ "topic": "t", "partition": 0, "offset": 4, "metadata": "m" }]);
    assert_eq!(committed(&broker, &base, "t", 0), expected);
    assert_eq!(broker.get(&format!("{base}/offsets?partitions=t:0")).expect(200)["offsets"], expected);
    broker.delete(&base).expect(204);
    let base = subscribed(&broker, "g", "two", "t");
    assert_eq!(values(&read(&broker, &base, "?timeout=10000").expect(200)), all[4..]);
    // An empty body commits all that was delivered.
    call("POST", &broker.http(&format!("{base}/offsets")), &[V2], "").expect(200);
    assert_eq!(committed(&broker, &base, "t", 0)[0]["offset"], json!(10));
}

#[test]
fn offsets_are_committed_literally_where_that_is_configured() {
    let broker = start(&["capek.rest.v2.commit.semantics=literal"]);
    broker.create_topic("t", 1);
    broker.produce_json("t", 0, &[json!(1)]);
    let base = subscribed(&broker, "g", "one", "t");
    read(&broker, &base, "?timeout=10000").expect(200);
    let body = json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": 1 }] });
    broker.post_v2(&format!("{base}/offsets"), &body).expect(200);
    assert_eq!(committed(&broker, &base, "t", 0)[0]["offset"], json!(1));
}

/// What was handed over counts as received when the client comes back.
#[test]
fn auto_commit_commits_what_the_client_has_come_back_from() {
    let broker = start(&[]);
    broker.create_topic("t", 1);
    broker.produce_json("t", 0, &[json!(0), json!(1)]);
    let base = create(&broker, "g", "one", json!({ "auto.commit.enable": "true" }));
    broker.post_v2(&format!("{base}/subscription"), &json!({ "topics": ["t"] })).expect(204);
    assert_eq!(read(&broker, &base, "?timeout=10000").expect(200).as_array().map(Vec::len), Some(2));
    assert_eq!(committed(&broker, &base, "t", 0), json!([]), "the client may not have got it");
    broker.delete(&base).expect(204);
    let base = create(&broker, "g", "two", json!({}));
    assert_eq!(committed(&broker, &base, "t", 0)[0]["offset"], json!(2));
}

#[test]
fn two_instances_share_a_topic_and_the_survivor_takes_it_all() {
    let broker = start(&[]);
    broker.create_topic("shared", 4);
    let bases: Vec<String> = ["one", "two"].iter().map(|name| subscribed(&broker, "g", name, "shared")).collect();
    let held = |base: &str| {
        let assigned = broker.get(&format!("{base}/assignments")).expect(200);
        assigned["partitions"].as_array().map_or(0, Vec::len)
    };
    wait_for("each has two", Duration::from_secs(30), || (held(&bases[0]) == 2 && held(&bases[1]) == 2).then_some(()));
    broker.delete(&bases[0]).expect(204);
    wait_for("the other has four", Duration::from_secs(30), || (held(&bases[1]) == 4).then_some(()));
}

/// A member inside the broker and one outside of it, of the classic protocol: a group does not care where its members live.
#[test]
fn an_instance_and_a_classic_client_share_one_group() {
    let broker = start(&[]);
    broker.create_topic("mixed", 2);
    let base = subscribed(&broker, "g", "one", "mixed");
    assert_eq!(read(&broker, &base, "?timeout=300").expect(200), json!([]));
    let mut other = Background::start(python("group_member.py", &[&broker.kafka(), "g", "classic", "mixed"]));
    let held = || broker.get(&format!("{base}/assignments")).expect(200)["partitions"].clone();
    wait_for("each has a partition", Duration::from_secs(60), || {
        while other.line_within(Duration::from_millis(20)).is_some() {}
        (held().as_array().map(Vec::len) == Some(1)).then_some(())
    });
    for partition in 0..2 {
        broker.produce_json("mixed", partition, &[json!(partition)]);
    }
    let own = held()[0]["partition"].clone();
    assert_eq!(values(&read(&broker, &base, "?timeout=5000").expect(200)), [own]);
}

#[test]
fn positions_go_where_they_are_told() {
    let broker = start(&[]);
    broker.create_topic("t", 2);
    broker.produce_json("t", 0, &[json!(0), json!(1), json!(2)]);
    let base = subscribed(&broker, "g", "one", "t");
    let seek = |path: &str, body: Value| broker.post_v2(&format!("{base}/positions{path}"), &body);
    seek("", json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": 2 }] })).expect(204);
    assert_eq!(values(&read(&broker, &base, "?timeout=5000").expect(200)), [json!(2)]);
    let places = json!({ "partitions": [{ "topic": "t", "partition": 0 }] });
    seek("/beginning", places.clone()).expect(204);
    assert_eq!(values(&read(&broker, &base, "?timeout=5000").expect(200)), [json!(0), json!(1), json!(2)]);
    seek("/end", places.clone()).expect(204);
    assert_eq!(read(&broker, &base, "?timeout=300").expect(200), json!([]));
    seek("", json!({ "timestamps": [{ "topic": "t", "partition": 0, "timestamp": "2020-01-02T03:04:05Z" }] }))
        .expect(204);
    assert_eq!(read(&broker, &base, "?timeout=5000").expect(200).as_array().map(Vec::len), Some(3));
    let elsewhere = json!({ "partitions": [{ "topic": "t", "partition": 7 }] });
    assert_eq!(seek("/end", elsewhere).refused(404), 40403);
    let other = create(&broker, "g2", "idle", json!({}));
    assert_eq!(broker.post_v2(&format!("{other}/positions/end"), &places).refused(409), 40903);
}

#[test]
fn an_assignment_needs_no_group_and_excludes_a_subscription() {
    let broker = start(&[]);
    broker.create_topic("t", 2);
    broker.produce_json("t", 1, &[json!("one")]);
    let base = create(&broker, "g", "one", json!({}));
    assert_eq!(read(&broker, &base, "").refused(409), 40903);
    let places = json!({ "partitions": [{ "topic": "t", "partition": 1 }] });
    broker.post_v2(&format!("{base}/assignments"), &places).expect(204);
    assert_eq!(broker.get(&format!("{base}/assignments")).expect(200), places);
    assert_eq!(values(&read(&broker, &base, "?timeout=5000").expect(200)), [json!("one")]);
    let subscription = format!("{base}/subscription");
    assert_eq!(broker.post_v2(&subscription, &json!({ "topics": ["t"] })).refused(409), 40903);
    broker.delete(&subscription).expect(204);
    broker.post_v2(&subscription, &json!({ "topic_pattern": "t.*" })).expect(204);
    assert_eq!(values(&read(&broker, &base, "?timeout=5000").expect(200)), [json!("one")]);
    assert_eq!(broker.get(&subscription).expect(200), json!({ "topics": ["t"] }));
}

#[test]
fn an_instance_that_nobody_uses_ends_and_leaves_its_group() {
    let broker = start(&["capek.rest.consumer.instance.timeout.ms=700"]);
    broker.create_topic("t", 1);
    let base = subscribed(&broker, "g", "one", "t");
    for _ in 0..4 {
        read(&broker, &base, "?timeout=300").expect(200);
    }
    std::thread::sleep(Duration::from_millis(2000));
    assert_eq!(read(&broker, &base, "").refused(404), 40403);
    let base = subscribed(&broker, "g", "two", "t");
    let assigned = broker.get(&format!("{base}/assignments")).expect(200);
    assert_eq!(assigned["partitions"].as_array().map(Vec::len), Some(1), "the first has left: {assigned}");
}

#[test]
fn each_format_is_read_as_it_was_asked_for() {
    let broker = start(&[]);
    broker.create_topic("f", 1);
    output_with_input(
        kcat(&["-P", "-b", &broker.kafka(), "-t", "f", "-K", ":", "-H", "h=v"]),
        "k:{\"a\": 1}\nk:text\n",
    );
    let one = |format: &str| create(&broker, &format!("g-{format}"), "one", json!({ "format": format }));
    let read_as = |base: &str, accept: &str| {
        broker.post_v2(&format!("{base}/subscription"), &json!({ "topics": ["f"] })).expect(204);
        call("GET", &broker.http(&format!("{base}/records?timeout=10000")), &[accept], "")
    };
    let records = read_as(&one("binary"), "Accept: application/vnd.kafka.v2+json").expect(200);
    let headers = json!([{ "key": "h", "value": "dg==" }]);
    let expected =
        json!({"topic": "f", "key": "aw==", "value": "eyJhIjogMX0=", "partition": 0, "offset": 0, "headers": headers});
    assert_eq!(records[0], expected);
    let records = read_as(&one("json"), ACCEPT_JSON).expect(200);
    assert_eq!((&records[0]["key"], &records[0]["value"]), (&Value::Null, &json!({"a": 1})), "a key k is no JSON");
    assert_eq!(records[1]["error_code"], json!(40801), "one bad record does not end the read: {records}");
    let records = read_as(&one("text"), "Accept: */*").expect(200);
    assert_eq!((&records[0]["key"], &records[1]["value"]), (&json!("k"), &json!("text")));
    let base = "/consumers/g-json/instances/one";
    assert_eq!(call("GET", &broker.http(&format!("{base}/records")), &[ACCEPT_BINARY], "").refused(406), 40601);
    let records = broker.get("/topics/f/partitions/0/records?offset=1").expect(200);
    assert_eq!(records.as_array().map(Vec::len), Some(1), "{records}");
    assert_eq!(broker.get("/topics/f/partitions/0/records?offset=9").refused(400), 40002);
}

#[test]
fn every_refusal_has_its_code() {
    let broker = start(&["auto.create.topics.enable=false"]);
    broker.create_topic("t", 1);
    let base = create(&broker, "g", "one", json!({}));
    let create = |body: Value| broker.post_v2("/consumers/g", &body);
    assert_eq!(create(json!({ "name": "one" })).refused(409), 40902);
    assert_eq!(create(json!({ "name": "x", "format": "xml" })).refused(422), 42204);
    assert_eq!(create(json!({ "name": "x", "format": "avro" })).refused(422), 42206);
    assert_eq!(create(json!({ "name": "x", "auto.offset.reset": "middle" })).refused(422), 42204);
    assert_eq!(create(json!({ "nmae": "x" })).refused(422), 422);
    let long = "x".repeat(250);
    for name in ["", ".", "../x", "a b/c", "a~n1", "x\n", "ü", &long] {
        assert_eq!(create(json!({ "name": name })).refused(422), 422, "{name}");
        assert_eq!(create(json!({ "id": name })).refused(422), 422, "{name}");
    }
    for group in ["%00", "g%20x%0A", "g%7F", &long] {
        assert_eq!(broker.post_v2(&format!("/consumers/{group}"), &json!({})).refused(400), 40002, "{group}");
        let stream = broker.get(&format!("/v1/groups/{group}/sse?topics=t"));
        assert_eq!((stream.status, &stream.body["error"]), (400, &json!("INVALID_GROUP_ID")), "{group}");
        let reset = json!({ "topic": "t", "to": "earliest" }).to_string();
        let reset = call("POST", &broker.http(&format!("/v1/groups/{group}/offsets")), &[JSON], &reset);
        assert_eq!((reset.status, &reset.body["error"]), (400, &json!("INVALID_GROUP_ID")), "{group}");
    }
    broker.post_v2("/consumers/g%20x%C3%BC", &json!({ "name": "1.a_B-9" })).expect(200);
    let subscription = format!("{base}/subscription");
    assert_eq!(broker.post_v2(&subscription, &json!({ "topics": [] })).refused(422), 422);
    assert_eq!(call("POST", &broker.http(&subscription), &[V2], "{").refused(400), 400);
    assert_eq!(call("POST", &broker.http(&subscription), &[V2], "").refused(422), 422);
    assert_eq!(call("POST", &broker.http(&subscription), &["Content-Type: text/plain"], "{}").refused(415), 415);
    assert_eq!(call("PUT", &broker.http(&subscription), &[], "").refused(405), 405);
    assert_eq!(broker.get("/consumers/g/instances/none/records").refused(404), 40403);
    assert_eq!(broker.get("/topics/none").refused(404), 40401);
    assert_eq!(broker.get("/topics/t/partitions/7").refused(404), 40402);
    assert_eq!(broker.get("/topics/t/partitions/x").refused(404), 404);
    assert_eq!(broker.post_v2(&subscription, &json!({ "topic_pattern": "(" })).refused(422), 42204);
    assert_eq!(read(&broker, &base, "").refused(409), 40903, "it has subscribed to nothing");
    let offsets = json!({ "offsets": [{ "topic": "t", "partition": 0, "offset": -1 }] });
    assert_eq!(broker.post_v2(&format!("{base}/offsets"), &offsets).refused(422), 422);
    assert_eq!(
        call("POST", &broker.http("/topics/t"), &["Content-Type: application/vnd.kafka.avro.v2+json"], "{}")
            .refused(422),
        42206
    );
}

#[test]
fn the_good_records_of_a_partly_bad_request_are_stored_and_the_bad_are_told() {
    const V2_BINARY: &str = "Content-Type: application/vnd.kafka.binary.v2+json";
    let broker = start(&[]);
    broker.create_topic("t", 1);
    let bad = [
        r#"{"value":"!!!"}"#,
        r#"{"value":7}"#,
        r#"{"value":"aGk=","headers":[{"key":"h","value":"!"}]}"#,
        r#"{"value":"aGk=","timestamp":"now"}"#,
        r#"{"value":"aGk=","timestamp":-1}"#,
        r#"[null,"aGk=",null,[],null]"#,
    ];
    for (index, bad) in bad.iter().enumerate() {
        for path in ["/topics/t", "/topics/t/partitions/0"] {
            let body = format!(r#"{{"records":[{bad},{{"value":"aGk="}}]}}"#);
            let answer = call("POST", &broker.http(path), &[V2_BINARY], &body).expect(200);
            let (told, stored) = (&answer["offsets"][0], &answer["offsets"][1]);
            assert_eq!((&told["offset"], &told["error_code"]), (&Value::Null, &json!(42203)), "{bad}: {answer}");
            assert!(told["error"].as_str().is_some_and(|error| error.starts_with("records[0]")), "{answer}");
            let offset = 2 * index + usize::from(path != "/topics/t");
            assert_eq!((&stored["offset"], &stored["error"]), (&json!(offset), &Value::Null), "{bad}: {answer}");
        }
        let body = format!(r#"{{"records":[{bad}]}}"#);
        let refused = call("POST", &broker.http("/topics/t"), &[V2_BINARY], &body);
        assert!([400, 422].contains(&refused.status), "there is nothing to store: {}", refused.text);
    }
}

#[test]
fn the_additions_of_other_bridges_are_there() {
    let broker = start(&[]);
    let body = json!({ "topic_name": "made", "partitions_count": 3, "config": { "retention.ms": 1000 } });
    broker.post_v2("/admin/topics", &body).expect(201);
    assert_eq!(broker.post_v2("/admin/topics", &body).refused(400), 40002);
    let made = broker.get("/topics/made").expect(200);
    assert_eq!(
        (made["partitions"].as_array().map(Vec::len), &made["configs"]["retention.ms"]),
        (Some(3), &json!("1000"))
    );
    for path in ["/healthy", "/ready"] {
        broker.get(path).expect(204);
    }
    let url = broker.http("/topics/made?async=true");
    call("POST", &url, &[V2_JSON], r#"{"records":[{"value":1,"partition":0}]}"#).expect(204);
    wait_for("the record is stored", Duration::from_secs(10), || {
        let offsets = broker.get("/topics/made/partitions/0/offsets").expect(200);
        (offsets["end_offset"] == json!(1)).then_some(())
    });
}

/// An instance's member leaves at a stop, so that the group does not wait for it afterwards.
#[test]
fn instances_leave_their_groups_when_the_broker_stops() {
    let mut broker = start(&[]);
    broker.create_topic("t", 1);
    let base = subscribed(&broker, "g", "one", "t");
    read(&broker, &base, "?timeout=300").expect(200);
    assert!(broker.terminate().success());
    broker.start_again();
    broker.wait_for_http();
    let base = subscribed(&broker, "g", "one", "t");
    broker.produce_json("t", 0, &[json!("again")]);
    assert_eq!(values(&read(&broker, &base, "?timeout=10000").expect(200)), [json!("again")]);
}

/// What comes after a client has hung up is for whoever reads next.
#[test]
fn a_client_that_hangs_up_while_it_waits_has_read_nothing() {
    let broker = start(&[]);
    broker.create_topic("t", 1);
    let base = subscribed(&broker, "g", "one", "t");
    read(&broker, &base, "?timeout=300").expect(200);
    for round in 0..3 {
        let mut waiting = std::net::TcpStream::connect(broker.http_address()).expect("it listens");
        let head = format!(
            "GET {base}/records?timeout=60000 HTTP/1.1\r\nHost: localhost\r\nAccept: application/vnd.kafka.json.v2+json\r\n\r\n"
        );
        std::io::Write::write_all(&mut waiting, head.as_bytes()).expect("the broker reads");
        let counted = hung_up(&broker);
        drop(waiting);
        wait_for("the broker knows that it has gone", Duration::from_secs(10), || {
            (hung_up(&broker) > counted).then_some(())
        });
        broker.produce_json("t", 0, &[json!(round)]);
        assert_eq!(values(&read(&broker, &base, "?timeout=10000").expect(200)), [json!(round)]);
    }
}

/// Requests of REST v2 that were counted as their client's fault.
fn hung_up(broker: &Broker) -> u64 {
    let metrics = broker.get("/metrics").text;
    let name = "capek_http_requests_total{door=\"rest_v2\",method=\"GET\",status=\"4xx\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(name)).map_or(0, |count| count.parse().expect("a count"))
}

/// Whatever refuses a request, these paths speak of it in Confluent's words.
#[test]
fn what_is_refused_before_any_handler_is_told_as_confluent_does() {
    let broker = start(&[]);
    let foreign = ["Origin: http://evil.example", V2_JSON];
    for path in ["/topics/t", "/consumers/g", "/v3/clusters/c/topics"] {
        assert_eq!(call("POST", &broker.http(path), &foreign, "{}").refused(403), 40301, "{path}");
        assert_eq!(call("GET", &broker.http(path), &["Accept: text/xml"], "").refused(406), 406, "{path}");
    }
    let answer = call("POST", &broker.http("/v1/topics/t"), &foreign, "{}");
    assert_eq!((answer.status, answer.content_type.as_str()), (403, "application/problem+json"));
}
