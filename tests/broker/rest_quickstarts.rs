//! The public quickstarts of REST v2 and v3, as curl commands: what their pages show is what comes back, ids and times aside.

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::rest::call;

/// Both begin with a topic that the other made.
#[test]
fn the_quickstart_of_rest_v3_works_as_shown() {
    let broker = Broker::start();
    let base = broker.http("/v3/clusters");
    let clusters = call("GET", &base, &[], "").expect(200);
    let id = clusters["data"][0]["cluster_id"].as_str().expect("it has an id").to_owned();
    let cluster = format!("{base}/{id}");
    let related = |path: &str| json!({ "related": format!("{cluster}{path}") });
    let expected = json!({
        "kind": "KafkaClusterList",
        "metadata": { "self": base, "next": null },
        "data": [{
            "kind": "KafkaCluster",
            "metadata": { "self": cluster, "resource_name": format!("crn:///kafka={id}") },
            "cluster_id": id,
            "controller": related("/brokers/1"),
            "acls": related("/acls"),
            "brokers": related("/brokers"),
            "broker_configs": related("/broker-configs"),
            "consumer_groups": related("/consumer-groups"),
            "topics": related("/topics"),
            "partition_reassignments": related("/topics/-/partitions/-/reassignment"),
        }],
    });
    assert_eq!(clusters, expected);

    let topics = format!("{cluster}/topics");
    let topic = json!({
        "kind": "KafkaTopic",
        "metadata": { "self": format!("{topics}/jsontest"), "resource_name": format!("crn:///kafka={id}/topic=jsontest") },
        "cluster_id": id,
        "topic_name": "jsontest",
        "is_internal": false,
        "replication_factor": 1,
        "partitions_count": 1,
        "partitions": related("/topics/jsontest/partitions"),
        "configs": related("/topics/jsontest/configs"),
        "partition_reassignments": related("/topics/jsontest/partitions/-/reassignment"),
    });
    let made = call("POST", &topics, &["Content-Type:application/json"], r#"{"topic_name":"jsontest"}"#);
    assert_eq!(made.content_type, "application/json");
    assert_eq!(made.expect(201), topic);
    let listed = call("GET", &topics, &[], "").expect(200);
    assert_eq!(
        listed,
        json!({ "kind": "KafkaTopicList", "metadata": { "self": topics, "next": null }, "data": [topic] })
    );

    let records = format!("{topics}/jsontest/records");
    let produce = |body: &str| {
        let answer = call("POST", &records, &["Content-Type: application/json"], body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        let mut reports: Vec<Value> = serde_json::Deserializer::from_str(&answer.text)
            .into_iter()
            .map(|report| report.expect("a report"))
            .collect();
        for report in &mut reports {
            let time = report["timestamp"].take();
            assert!(time.as_str().is_some_and(|time| time.ends_with('Z')), "{time}");
        }
        reports
    };
    let report = |offset: i64, size: i64| {
        json!({ "error_code": 200, "cluster_id": id, "topic_name": "jsontest", "partition_id": 0, "offset": offset,
            "timestamp": null, "value": { "type": "JSON", "size": size } })
    };
    assert_eq!(produce(r#"{"value":{"type":"JSON","data":{"name":"testUser"}}}"#), [report(0, 19)]);
    let two = r#"{"value":{"type":"JSON","data":"ONE"}} {"value":{"type":"JSON","data":"TWO"}}"#;
    assert_eq!(produce(two), [report(1, 5), report(2, 5)]);
}

#[test]
fn the_quickstart_of_rest_v2_works_as_shown() {
    const JSON: &str = "Content-Type: application/vnd.kafka.json.v2+json";
    const V2: &str = "Content-Type: application/vnd.kafka.v2+json";
    const ACCEPT_V2: &str = "Accept: application/vnd.kafka.v2+json";
    let broker = Broker::start();
    let url = |path: &str| broker.http(path);
    let stored = call("POST", &url("/topics/jsontest"), &[JSON], r#"{"records":[{"value":{"name": "testUser"}}]}"#);
    let expected = json!({
        "offsets": [{ "partition": 0, "offset": 0, "error_code": null, "error": null }],
        "key_schema_id": null,
        "value_schema_id": null,
    });
    assert_eq!(stored.expect(200), expected);
    assert_eq!(call("GET", &url("/topics"), &[], "").expect(200), json!(["jsontest"]));
    let topic = call("GET", &url("/topics/jsontest"), &[], "").expect(200);
    let replica = json!({ "broker": 1, "leader": true, "in_sync": true });
    assert_eq!((&topic["name"], topic["configs"].is_object()), (&json!("jsontest"), true));
    assert_eq!(topic["partitions"], json!([{ "partition": 0, "leader": 1, "replicas": [replica] }]));

    let wanted = r#"{"name": "my_consumer_instance", "format": "json", "auto.offset.reset": "earliest"}"#;
    let made = call("POST", &url("/consumers/my_json_consumer"), &[V2, ACCEPT_V2], wanted);
    assert_eq!(made.content_type, "application/vnd.kafka.v2+json");
    let base = url("/consumers/my_json_consumer/instances/my_consumer_instance");
    assert_eq!(made.expect(200), json!({ "instance_id": "my_consumer_instance", "base_uri": base }));
    let subscribed = call("POST", &format!("{base}/subscription"), &[V2], r#"{"topics":["jsontest"]}"#);
    assert_eq!((subscribed.status, subscribed.text.as_str()), (204, ""));
    let read =
        call("GET", &format!("{base}/records?timeout=10000"), &["Accept: application/vnd.kafka.json.v2+json"], "");
    let record =
        json!({ "key": null, "value": { "name": "testUser" }, "partition": 0, "offset": 0, "topic": "jsontest" });
    assert_eq!(read.expect(200), json!([record]));
    let deleted = call("DELETE", &base, &[ACCEPT_V2], "");
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
}
