//! A WebSocket client that a test drives frame by frame.

use serde_json::{Value, json};

use super::broker::Broker;
use super::programs::{Background, python};

pub struct Socket {
    client: Background,
    /// What has come and was not asked for yet, for the message of a failure.
    seen: Vec<String>,
}

impl Socket {
    /// Opened and welcomed.
    pub fn open(broker: &Broker, path: &str) -> Socket {
        Socket::open_as(broker, path, "capek.v1.json").0
    }

    pub fn open_as(broker: &Broker, path: &str, protocol: &str) -> (Socket, Value) {
        broker.wait_for_http();
        let url = format!("ws://{}{path}", broker.http_address());
        let mut socket =
            Socket { client: Background::start(python("websocket_driver.py", &[&url, protocol])), seen: Vec::new() };
        socket.line("@read");
        let welcome = socket.next();
        assert_eq!(welcome["type"], json!("welcome"), "{welcome}");
        (socket, welcome)
    }

    pub fn send(&mut self, frame: Value) {
        self.line(&frame.to_string());
    }

    pub fn line(&mut self, line: &str) {
        self.client.write_line(line);
    }

    pub fn next(&mut self) -> Value {
        let line = self.client.line();
        let frame = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        self.seen.push(line);
        frame
    }

    /// The next frame of this kind. Only heartbeats, and what `passes`, may come before it.
    #[track_caller]
    pub fn until(&mut self, kind: &str, passes: &[&str]) -> Value {
        loop {
            let frame = self.next();
            let found = frame["type"].as_str().unwrap_or_default();
            if found == kind {
                return frame;
            }
            assert!(found == "heartbeat" || passes.contains(&found), "{kind} is due\n{}", self.seen.join("\n"));
        }
    }

    /// Records until there are so many, in the order in which they came: partition and offset.
    #[track_caller]
    pub fn records(&mut self, count: usize, passes: &[&str]) -> Vec<(i64, i64)> {
        let mut places = Vec::new();
        while places.len() < count {
            let frame = self.until("records", passes);
            places.extend(places_of(&frame));
        }
        assert_eq!(places.len(), count, "{}", self.seen.join("\n"));
        places
    }

    /// What it was closed with.
    #[track_caller]
    pub fn closed(&mut self) -> i64 {
        loop {
            let frame = self.next();
            if frame["type"] == json!("closed") {
                return frame["code"].as_i64().expect("a code");
            }
            assert_ne!(frame["type"], json!("lost"), "{}", self.seen.join("\n"));
        }
    }
}

/// Partition and offset of each record.
pub fn places_of(frame: &Value) -> Vec<(i64, i64)> {
    let records = frame["records"].as_array().unwrap_or_else(|| panic!("no records: {frame}"));
    let number = |value: &Value| value.as_i64().unwrap_or_else(|| panic!("no number in {frame}"));
    records.iter().map(|record| (number(&frame["partition"]), number(&record["offset"]))).collect()
}
