//! curl as a client of REST v2 and v3.

use serde_json::Value;

use super::broker::Broker;
use super::programs::{curl, output_of};

/// What came back.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub text: String,
    /// Null when it is no JSON.
    pub body: Value,
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text);
        self.body
    }

    /// The error's code, which the body must hold.
    #[track_caller]
    pub fn refused(&self, status: u16) -> i64 {
        assert_eq!(self.status, status, "{}", self.text);
        assert!(self.body["message"].is_string(), "{}", self.text);
        self.body["error_code"].as_i64().unwrap_or_else(|| panic!("no error_code: {}", self.text))
    }
}

/// `headers` are whole lines; an empty body is none.
pub fn call(method: &str, url: &str, headers: &[&str], body: &str) -> Answer {
    let mut arguments = vec!["--request", method, "--write-out", "\n%{http_code} %{content_type}"];
    for header in headers {
        arguments.extend(["--header", header]);
    }
    if !body.is_empty() {
        arguments.extend(["--data-binary", body]);
    }
    arguments.push(url);
    let output = output_of(curl(&arguments));
    let (text, told) = output.rsplit_once('\n').expect("curl writes the status last");
    let (status, content_type) = told.split_once(' ').expect("status and type");
    Answer {
        status: status.parse().expect("a status"),
        content_type: content_type.to_owned(),
        text: text.to_owned(),
        body: serde_json::from_str(text).unwrap_or(Value::Null),
    }
}

pub const V2: &str = "Content-Type: application/vnd.kafka.v2+json";
pub const V2_JSON: &str = "Content-Type: application/vnd.kafka.json.v2+json";
pub const JSON: &str = "Content-Type: application/json";
pub const ACCEPT_JSON: &str = "Accept: application/vnd.kafka.json.v2+json";
pub const ACCEPT_BINARY: &str = "Accept: application/vnd.kafka.binary.v2+json";

impl Broker {
    pub fn get(&self, path: &str) -> Answer {
        call("GET", &self.http(path), &[], "")
    }

    pub fn post_v2(&self, path: &str, body: &Value) -> Answer {
        call("POST", &self.http(path), &[V2], &body.to_string())
    }

    pub fn delete(&self, path: &str) -> Answer {
        call("DELETE", &self.http(path), &[], "")
    }

    /// JSON values to one partition of a topic.
    pub fn produce_json(&self, topic: &str, partition: i32, values: &[Value]) {
        let records: Vec<Value> =
            values.iter().map(|value| serde_json::json!({ "value": value, "partition": partition })).collect();
        let body = serde_json::json!({ "records": records }).to_string();
        let answer = call("POST", &self.http(&format!("/topics/{topic}")), &[V2_JSON], &body).expect(200);
        assert!(answer["offsets"].as_array().is_some_and(|offsets| offsets.iter().all(|one| one["error"].is_null())));
    }
}
