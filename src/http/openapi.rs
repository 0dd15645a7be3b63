//! `/openapi.json` (3.1), made of the tables that the router serves, and `/docs`, a page that shows it.

use std::collections::BTreeMap;

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value, json};

use super::routes::{self, Endpoint};
use super::{actors, health, metrics, openapi_schemas, rest_v2, rest_v3, stream, v1};

pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint::get("/openapi.json", || routes::get().to(document), "This document"),
    Endpoint::get("/openapi", || routes::get().to(document), "This document (Strimzi)"),
    Endpoint::get("/docs", || routes::get().to(page), "This document as a page").answers(200, "text/html", "Text"),
];

pub fn routes(config: &mut web::ServiceConfig) {
    routes::serve(config, "", ENDPOINTS);
}

/// Every table with its tag and its prefix.
fn tables() -> [(&'static str, &'static str, &'static [Endpoint]); 8] {
    [
        ("REST v2", "", rest_v2::ENDPOINTS),
        ("REST v3", rest_v3::PREFIXES[0], rest_v3::ENDPOINTS),
        ("Plain records", "", v1::ENDPOINTS),
        ("Streams", "", stream::ENDPOINTS),
        ("Actors", "", actors::ENDPOINTS),
        ("Health", "", health::ENDPOINTS),
        ("Metrics", "", metrics::ENDPOINTS),
        ("Documents", "", ENDPOINTS),
    ]
}

async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(openapi().to_string())
}

/// What it looks like is in the page itself, so that a strict policy can say so. What is typed into its console may read and write here.
async fn page() -> HttpResponse {
    let mut page = String::from(PAGE_HEAD);
    for (tag, prefix, endpoints) in tables() {
        page.push_str(&format!("<h2>{tag}</h2><table>"));
        for endpoint in endpoints {
            let (method, path, summary) = (endpoint.method.to_uppercase(), endpoint.path, endpoint.summary);
            let query = endpoint.query_names().collect::<Vec<_>>().join("&amp;");
            let query = if query.is_empty() { query } else { format!("?{query}") };
            page.push_str(&format!(
                "<tr><td>{method}</td><td><code>{prefix}{path}{query}</code></td><td>{summary}</td></tr>"
            ));
        }
        page.push_str("</table>");
    }
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'",
        ))
        .body(page)
}

const PAGE_HEAD: &str = "<!doctype html><html lang=en><meta charset=utf-8><title>capek: HTTP</title>\
<style>body{font:15px/1.5 system-ui;max-width:70rem;margin:2rem auto;padding:0 1rem}table{width:100%;border-collapse:collapse}\
td{border-top:1px solid #8884;padding:.25rem .5rem;vertical-align:top}td:first-child{width:5rem;font-weight:600}\
:root{color-scheme:light dark}</style><h1>capek: what HTTP serves</h1>\
<p>For programs: <a href=\"/openapi.json\">/openapi.json</a> (OpenAPI 3.1).</p>";

/// The whole document.
pub fn openapi() -> Value {
    let mut paths: Map<String, Value> = Map::new();
    for (tag, prefix, endpoints) in tables() {
        for endpoint in endpoints {
            let path = format!("{prefix}{}", endpoint.path);
            let of_path = paths.entry(path.clone()).or_insert_with(|| json!({}));
            of_path[endpoint.method] = operation(tag, &path, endpoint);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "capek",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "A log broker: records in and out over HTTP. REST v3 is also served under /kafka/v3.",
        },
        "paths": paths,
        "components": { "schemas": openapi_schemas::all() },
    })
}

fn operation(tag: &str, path: &str, endpoint: &Endpoint) -> Value {
    let mut operation = json!({
        "tags": [tag],
        "summary": endpoint.summary,
        "operationId": operation_id(endpoint.method, path),
        "parameters": parameters(path, endpoint),
        "responses": responses(path, endpoint),
    });
    if let Some(body) = endpoint.body {
        let content: BTreeMap<&str, Value> = body
            .media_types
            .iter()
            .map(|media_type| (*media_type, json!({ "schema": reference(body.schema) })))
            .collect();
        operation["requestBody"] = json!({ "content": content });
    }
    operation
}

fn operation_id(method: &str, path: &str) -> String {
    let words = path.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.fold(method.to_owned(), |id, word| format!("{id}_{word}"))
}

fn parameters(path: &str, endpoint: &Endpoint) -> Vec<Value> {
    let names = path.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    let in_path = names.map(|name| {
        let is_number = matches!(name, "partition" | "broker_id");
        let schema = if is_number {
            json!({ "type": "integer", "minimum": 0 })
        } else {
            json!({ "type": "string", "minLength": 1 })
        };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let optional =
        |name: &str, place: &str| json!({ "name": name, "in": place, "required": false, "schema": schema_of(name) });
    let in_query = endpoint.query_names().map(|name| optional(name, "query"));
    let in_headers = endpoint.headers.iter().map(|name| optional(name, "header"));
    in_path.chain(in_query).chain(in_headers).collect()
}

/// What may stand for a name in a query or a header.
fn schema_of(name: &str) -> Value {
    match name {
        "partition" | "Capek-Partition" => json!({ "type": "integer", "minimum": 0, "maximum": i32::MAX }),
        "timeout_ms" => json!({ "type": "integer", "minimum": 1000, "maximum": 300_000 }),
        "timestamp" | "limit" | "depth" | "batch_records" | "batch_bytes" | "linger_ms" | "heartbeat_ms"
        | "credit_records" | "credit_bytes" => {
            json!({ "type": "integer", "minimum": 0, "maximum": i64::MAX })
        }
        "timeout" | "max_bytes" | "offset" => json!({ "type": "integer" }),
        "internal" | "async" | "offset_str" | "raw" | "conflate" => json!({ "type": "boolean" }),
        "acks" => json!({ "enum": ["0", "1", "all", "-1"] }),
        "format" | "key_format" => json!({ "enum": ["auto", "json", "string", "base64", "hex"] }),
        "isolation" => json!({ "enum": ["read_committed", "read_uncommitted"] }),
        "envelope" => json!({ "enum": ["record", "value"] }),
        "Idempotency-Key" => json!({ "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$" }),
        _ => json!({ "type": "string" }),
    }
}

fn responses(path: &str, endpoint: &Endpoint) -> Value {
    let mut responses = json!({ "default": error(path, endpoint) });
    for answer in std::iter::once(&endpoint.answer).chain(endpoint.also) {
        let of_status = &mut responses[answer.status.to_string()];
        of_status["description"] = json!(description(answer.status));
        if let Some(media_type) = answer.media_type {
            of_status["content"][media_type] = json!({ "schema": reference(answer.schema) });
        }
    }
    responses
}

fn description(status: u16) -> &'static str {
    match status {
        202 => "It is done after this answer.",
        207 => "Some are done and some are not: each says so.",
        500.. => "Not now.",
        _ => "All is well.",
    }
}

/// Confluent's doors have codes, ours have problems (RFC 9457). Where each line of a body has an answer of its own, that is so
/// also when all of them are errors.
fn error(path: &str, endpoint: &Endpoint) -> Value {
    let (description, media_type, schema) = if path.starts_with("/v1/") {
        ("Why not: `detail` says it in words, `error` is Kafka's name for it.", "application/problem+json", "Problem")
    } else {
        ("Why not: the status is the first three digits of the code.", "application/json", "Error")
    };
    let mut error = json!({ "description": description });
    error["content"][media_type] = json!({ "schema": reference(schema) });
    for lines in endpoint.also.iter().filter(|answer| answer.status == 207) {
        if let Some(media_type) = lines.media_type {
            error["content"][media_type] = json!({ "schema": reference(lines.schema) });
        }
    }
    error
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every `$ref` in the value.
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str().filter(|_| name == "$ref") {
                        Some(target) => drop(found.insert(target.to_owned())),
                        None => references(value, found),
                    }
                }
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema() {
        let document = openapi();
        let mut found = BTreeSet::new();
        references(&document, &mut found);
        assert!(found.len() > 20, "{found:?}");
        for target in found {
            let pointer = target.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{target} leads nowhere");
        }
    }

    #[test]
    fn every_endpoint_is_in_the_document_and_has_an_id_of_its_own() {
        let document = openapi();
        let mut ids = BTreeSet::new();
        for (_, prefix, endpoints) in tables() {
            for endpoint in endpoints {
                let path = format!("{prefix}{}", endpoint.path);
                let operation = &document["paths"][&path][endpoint.method];
                assert_eq!(operation["summary"], json!(endpoint.summary), "{} {path}", endpoint.method);
                assert!(ids.insert(operation["operationId"].to_string()), "{operation}");
            }
        }
        assert!(ids.len() > 80, "{}", ids.len());
    }

    #[test]
    fn every_status_that_records_are_answered_with_is_told() {
        let document = openapi();
        let types = |path: &str, method: &str, status: &str| {
            let content = document["paths"][path][method]["responses"][status]["content"].as_object();
            content.map(|content| content.keys().cloned().collect::<Vec<_>>().join(" "))
        };
        let check = |path: &str, method: &str, expected: &[(&str, &str)]| {
            for (status, expected) in expected {
                assert_eq!(types(path, method, status).as_deref().unwrap_or(""), *expected, "{method} {path} {status}");
                let told = &document["paths"][path][method]["responses"][status]["description"];
                assert_eq!(
                    told.as_str().is_some_and(|told| told.contains("three digits")),
                    !path.starts_with("/v1") && *status == "default"
                );
            }
        };
        let (json, lines, problem) = ("application/json", "application/x-ndjson", "application/problem+json");
        let both = format!("{json} {lines}");
        check(
            "/v1/topics/{topic}",
            "post",
            &[("200", &both), ("202", ""), ("207", lines), ("default", &format!("{problem} {lines}"))],
        );
        check("/v1/topics", "post", &[("200", json), ("201", json), ("default", problem)]);
        check("/v1/groups/{group}", "get", &[("200", json), ("default", problem)]);
        check("/readyz", "get", &[("200", json), ("503", json)]);
        check("/v3/clusters", "get", &[("200", json), ("default", json)]);
    }
}
