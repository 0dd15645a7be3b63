//! The schemas of `/openapi.json`: what stands in bodies, as JSON Schema.

use serde_json::{Map, Value, json};

/// By name; the tables of endpoints name them.
pub fn all() -> Map<String, Value> {
    let mut schemas = Map::new();
    for (name, schema) in general().into_iter().chain(v1()).chain(rest_v2()).chain(rest_v3()) {
        schemas.insert(name.to_owned(), schema);
    }
    schemas
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn integer() -> Value {
    json!({ "type": "integer" })
}

/// All of `fields` may be there; `required` must.
fn object(fields: &[(&str, Value)], required: &[&str]) -> Value {
    let properties: Map<String, Value> =
        fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    json!({ "type": "object", "properties": properties, "required": required })
}

fn list_of(item: Value) -> Value {
    json!({ "type": "array", "items": item })
}

fn or_null(kind: &str) -> Value {
    json!({ "type": [kind, "null"] })
}

fn schema(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

fn general() -> Vec<(&'static str, Value)> {
    vec![
        ("Any", json!({})),
        ("Text", text()),
        ("Empty", json!({ "type": "object" })),
        ("Nothing", json!({ "type": "array", "maxItems": 0 })),
        ("Names", list_of(text())),
        (
            "Health",
            object(
                &[("status", text()), ("node", integer()), ("cluster", text()), ("reasons", list_of(text()))],
                &["status"],
            ),
        ),
        ("Error", object(&[("error_code", integer()), ("message", text())], &["error_code", "message"])),
        (
            "Problem",
            object(
                &[
                    ("type", text()),
                    ("title", text()),
                    ("status", integer()),
                    ("detail", text()),
                    ("error", text()),
                    ("retriable", json!({ "type": "boolean" })),
                    ("position", object(&[("line", integer()), ("column", integer())], &["line", "column"])),
                ],
                &["type", "title", "status", "detail"],
            ),
        ),
    ]
}

fn v1() -> Vec<(&'static str, Value)> {
    let boolean = || json!({ "type": "boolean" });
    let configs =
        || json!({ "type": "object", "additionalProperties": { "type": ["string", "number", "boolean", "null"] } });
    let new_topic = [
        ("topic", json!({ "type": "string", "pattern": "^[a-zA-Z0-9._-]{1,249}$" })),
        ("partitions", json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 1000 })),
        ("replication_factor", json!({ "type": ["integer", "null"], "minimum": 1, "maximum": 32767 })),
        ("configs", configs()),
        ("validate_only", boolean()),
    ];
    let changes = [("partitions", or_null("integer")), ("configs", configs()), ("validate_only", boolean())];
    let topic = [
        ("topic", text()),
        ("id", text()),
        ("partitions", json!({})),
        ("replication_factor", integer()),
        ("internal", boolean()),
        ("configs", configs()),
    ];
    let reset = [
        ("topic", text()),
        ("partitions", json!({ "type": ["array", "null"], "items": { "type": "integer" } })),
        ("to", json!({ "type": "string", "examples": ["earliest", "latest", "-10", "offset:5", "-1h"] })),
        ("dry_run", boolean()),
    ];
    let stored = [("partition", integer()), ("offset", or_null("integer")), ("timestamp", integer())];
    let place = || list_of(json!({ "type": "object" }));
    let of_place = [("topic", text()), ("partition", integer()), ("offset", integer())];
    let places = || list_of(object(&of_place, &["topic", "partition", "offset"]));
    vec![
        ("V1Stored", object(&stored, &["partition", "offset", "timestamp"])),
        ("V1NewTopic", closed(object(&new_topic, &["topic"]))),
        ("V1TopicChanges", closed(object(&changes, &[]))),
        ("V1Topic", object(&topic, &["topic", "partitions", "replication_factor"])),
        ("V1Topics", object(&[("topics", list_of(schema("V1Topic")))], &["topics"])),
        ("V1Configs", object(&[("topic", text()), ("configs", configs())], &["topic", "configs"])),
        ("V1Offsets", object(&[("topic", text()), ("offsets", place())], &["topic", "offsets"])),
        (
            "V1Group",
            object(
                &[("group", text()), ("state", text()), ("type", text()), ("coordinator", integer())],
                &["group", "state"],
            ),
        ),
        ("V1Groups", object(&[("groups", list_of(schema("V1Group")))], &["groups"])),
        ("V1GroupOffsets", object(&[("group", text()), ("offsets", place())], &["group", "offsets"])),
        ("V1Acks", closed(object(&[("through", places()), ("records", places())], &[]))),
        ("V1Acked", object(&[("committed", place())], &["committed"])),
        ("V1Reset", closed(object(&reset, &["topic", "to"]))),
    ]
}

/// What is not named is refused.
fn closed(mut schema: Value) -> Value {
    schema["additionalProperties"] = json!(false);
    schema
}

fn rest_v2() -> Vec<(&'static str, Value)> {
    let place = [("topic", text()), ("partition", integer())];
    let offset = [&place[..], &[("offset", integer()), ("metadata", or_null("string"))]].concat();
    let time = [&place[..], &[("timestamp", json!({ "type": "string", "format": "date-time" }))]].concat();
    let header = object(&[("key", text()), ("value", or_null("string"))], &["key"]);
    let record = [
        ("key", json!({})),
        ("value", json!({})),
        ("partition", or_null("integer")),
        ("headers", list_of(header)),
        ("timestamp", or_null("integer")),
    ];
    let stored = [
        ("partition", or_null("integer")),
        ("offset", or_null("integer")),
        ("error_code", or_null("integer")),
        ("error", or_null("string")),
    ];
    let read = [&place[..], &[("offset", integer()), ("key", json!({})), ("value", json!({}))]].concat();
    let replica =
        [("broker", integer()), ("leader", json!({ "type": "boolean" })), ("in_sync", json!({ "type": "boolean" }))];
    let partition = [("partition", integer()), ("leader", integer()), ("replicas", list_of(object(&replica, &[])))];
    let consumer = [
        ("name", text()),
        ("id", text()),
        ("format", json!({ "enum": ["binary", "json", "text"] })),
        ("auto.offset.reset", json!({ "enum": ["earliest", "latest", "none"] })),
        ("auto.commit.enable", json!({ "type": ["string", "boolean"] })),
        ("fetch.min.bytes", json!({ "type": ["string", "integer"] })),
        ("consumer.request.timeout.ms", json!({ "type": ["string", "integer"] })),
    ];
    let named_topic =
        [("name", text()), ("configs", json!({ "type": "object" })), ("partitions", schema("V2Partitions"))];
    vec![
        ("V2Topic", object(&named_topic, &["name", "configs", "partitions"])),
        ("V2Partition", object(&partition, &["partition", "leader", "replicas"])),
        ("V2Partitions", list_of(schema("V2Partition"))),
        (
            "V2PartitionOffsets",
            object(&[("beginning_offset", integer()), ("end_offset", integer())], &["beginning_offset", "end_offset"]),
        ),
        ("V2Brokers", object(&[("brokers", list_of(integer()))], &["brokers"])),
        ("V2Produce", object(&[("records", list_of(object(&record, &[])))], &["records"])),
        ("V2Produced", object(&[("offsets", list_of(object(&stored, &[])))], &["offsets"])),
        ("V2Records", list_of(object(&read, &["topic", "partition", "offset"]))),
        ("V2CreateConsumer", object(&consumer, &[])),
        ("V2Consumer", object(&[("instance_id", text()), ("base_uri", text())], &["instance_id", "base_uri"])),
        ("V2Subscription", object(&[("topics", list_of(text())), ("topic_pattern", text())], &[])),
        ("V2Topics", object(&[("topics", list_of(text()))], &["topics"])),
        ("V2Places", object(&[("partitions", list_of(object(&place, &["topic", "partition"])))], &["partitions"])),
        (
            "V2Offsets",
            object(&[("offsets", list_of(object(&offset, &["topic", "partition", "offset"])))], &["offsets"]),
        ),
        (
            "V2Positions",
            object(
                &[
                    ("offsets", list_of(object(&offset, &["topic", "partition", "offset"]))),
                    ("timestamps", list_of(object(&time, &["topic", "partition", "timestamp"]))),
                ],
                &[],
            ),
        ),
        (
            "StrimziCreateTopic",
            object(
                &[
                    ("topic_name", text()),
                    ("partitions_count", integer()),
                    ("replication_factor", integer()),
                    ("config", json!({ "type": "object" })),
                ],
                &["topic_name"],
            ),
        ),
    ]
}

fn rest_v3() -> Vec<(&'static str, Value)> {
    let resource = [("kind", text()), ("metadata", json!({ "type": "object" })), ("cluster_id", text())];
    let list = [("kind", text()), ("metadata", json!({ "type": "object" })), ("data", list_of(schema("V3Resource")))];
    let data = object(&[("type", json!({ "enum": ["BINARY", "JSON", "STRING"] })), ("data", json!({}))], &["type"]);
    let data_or_null = json!({ "anyOf": [data, { "type": "null" }] });
    let header = object(&[("name", text()), ("value", or_null("string"))], &["name"]);
    let record = [
        ("partition_id", or_null("integer")),
        ("headers", list_of(header)),
        ("key", data_or_null.clone()),
        ("value", data_or_null),
        ("timestamp", json!({ "type": ["string", "null"], "format": "date-time" })),
    ];
    let entry = [&[("id", json!({ "type": "string", "minLength": 1, "maxLength": 80 }))], &record[..]].concat();
    let config = object(&[("name", text()), ("value", or_null("string"))], &["name"]);
    let alteration = object(
        &[("name", text()), ("value", or_null("string")), ("operation", json!({ "enum": ["SET", "DELETE"] }))],
        &["name"],
    );
    let new_topic = [
        ("topic_name", text()),
        ("partitions_count", or_null("integer")),
        ("replication_factor", or_null("integer")),
        ("configs", list_of(config)),
        ("validate_only", json!({ "type": "boolean" })),
    ];
    let report = [
        ("error_code", integer()),
        ("message", text()),
        ("cluster_id", text()),
        ("topic_name", text()),
        ("partition_id", integer()),
        ("offset", integer()),
        ("timestamp", text()),
    ];
    let reports = || list_of(json!({ "type": "object" }));
    vec![
        ("V3Resource", object(&resource, &["kind", "metadata", "cluster_id"])),
        ("V3List", object(&list, &["kind", "metadata", "data"])),
        ("V3CreateTopic", object(&new_topic, &["topic_name"])),
        ("V3GrowTopic", object(&[("partitions_count", integer())], &["partitions_count"])),
        ("V3Value", object(&[("value", or_null("string"))], &[])),
        (
            "V3AlterConfigs",
            object(&[("data", list_of(alteration)), ("validate_only", json!({ "type": "boolean" }))], &["data"]),
        ),
        ("V3Record", object(&record, &[])),
        ("V3Report", object(&report, &["error_code"])),
        ("V3Batch", object(&[("entries", list_of(object(&entry, &["id"])))], &["entries"])),
        ("V3BatchReport", object(&[("successes", reports()), ("failures", reports())], &["successes", "failures"])),
    ]
}
