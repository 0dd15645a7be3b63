//! Single records that come at the same time are stored in one batch, and nobody can tell: each has its own offset, and one that is
//! refused leaves its neighbours alone.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::Value;

use crate::support::broker::Broker;
use crate::support::programs::{Seen, by_place, kcat, output_of, parse_tabbed};
use crate::support::wait_for;

/// A connection that stays open.
struct Lane(BufReader<TcpStream>);

impl Lane {
    fn open(broker: &Broker) -> Lane {
        let stream = TcpStream::connect(broker.http_address()).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket has a time-out");
        Lane(BufReader::new(stream))
    }

    fn post(&mut self, path: &str, headers: &str, body: &str) {
        let length = body.len();
        let request =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{headers}\r\n{body}");
        self.0.get_mut().write_all(request.as_bytes()).expect("the broker reads");
    }

    fn answer(&mut self) -> (u16, Value) {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("there is an answer");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = 0;
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("there is a head");
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("there is a body");
        (status, serde_json::from_slice(&body).expect("JSON"))
    }
}

fn lanes(broker: &Broker, count: usize) -> Vec<Lane> {
    broker.wait_for_http();
    (0..count).map(|_| Lane::open(broker)).collect()
}

fn stored(broker: &Broker, topic: &str) -> Vec<Seen> {
    let (kafka, format) = (broker.kafka(), "%p\\t%o\\t%T\\t%k\\t%s\\t%h\\n");
    parse_tabbed(&output_of(kcat(&["-C", "-q", "-e", "-b", &kafka, "-t", topic, "-o", "beginning", "-f", format])))
}

fn place(answer: &Value) -> (i32, i64) {
    let number = |name: &str| answer[name].as_i64().unwrap_or_else(|| panic!("no {name}: {answer}"));
    (number("partition") as i32, number("offset"))
}

#[test]
fn records_that_come_at_once_are_each_where_their_answers_say() {
    let broker = Broker::start();
    broker.create_topic("crowd", 3);
    let mut lanes = lanes(&broker, 100);
    let mut told = BTreeMap::new();
    for round in 0..20 {
        for (number, lane) in lanes.iter_mut().enumerate() {
            let value = format!("{round}-{number}");
            let acks = if number % 7 == 0 { "1" } else { "all" };
            match number % 3 {
                0 => lane.post(&format!("/v1/topics/crowd?acks={acks}"), "", &value),
                1 => lane.post(&format!("/v1/topics/crowd?acks={acks}&key=k{number}&header.n={value}"), "", &value),
                _ => lane.post("/v1/topics/crowd?partition=2", &format!("Capek-Header-N: {value}\r\n"), &value),
            }
        }
        for (number, lane) in lanes.iter_mut().enumerate() {
            let (status, answer) = lane.answer();
            assert_eq!(status, 200, "{answer}");
            let before =
                told.insert(place(&answer), (format!("{round}-{number}"), number, answer["timestamp"].clone()));
            assert_eq!(before, None, "two were told the same place");
        }
    }
    let stored = by_place(&stored(&broker, "crowd"));
    assert_eq!(stored.len(), 20 * 100);
    for (place, (value, number, timestamp)) in told {
        let record = &stored[&place];
        assert_eq!((&record.value, timestamp), (&value, Value::from(record.timestamp_ms)), "at {place:?}");
        let (key, header) = match number % 3 {
            0 => (String::new(), String::new()),
            1 => (format!("k{number}"), format!("n={value}")),
            _ => (String::new(), format!("n={value}")),
        };
        assert_eq!((&record.key, &record.headers), (&key, &header), "at {place:?}");
        assert!(number % 3 != 2 || place.0 == 2, "a partition that is named wins: {place:?}");
    }
}

#[test]
fn a_record_that_is_refused_leaves_its_neighbours_alone() {
    let broker = Broker::start();
    let configs = [("cleanup.policy", "compact"), ("max.message.bytes", "2000"), ("compression.type", "gzip")];
    broker.create_topic_with("strict", 1, &configs);
    // No two bytes are alike for long, so that gzip does not help.
    let large: String = (0..900u32).map(|number| format!("{:08x}", number.wrapping_mul(2_654_435_761))).collect();
    let mut good = Vec::new();
    for round in 0..10 {
        let value = |number: usize| format!("{round}-{number}");
        let mut lanes = lanes(&broker, 60); // a 413 closes its connection
        for (number, lane) in lanes.iter_mut().enumerate() {
            match number % 6 {
                0 => lane.post("/v1/topics/strict", "", "without a key"),
                1 => lane.post("/v1/topics/strict?key=large", "", &large),
                2 => lane.post("/v1/topics/strict?key=future&timestamp=99999999999999", "", "from the future"),
                3 => lane.post("/v1/topics/strict?key=else&partition=7", "", "elsewhere"),
                _ => lane.post(&format!("/v1/topics/strict?key={number}"), "", &value(number)),
            }
        }
        for (number, lane) in lanes.iter_mut().enumerate() {
            let (status, answer) = lane.answer();
            let expected = [400, 413, 400, 404, 200, 200][number % 6];
            assert_eq!(status, expected, "{number}: {answer}");
            if status == 200 {
                good.push((place(&answer), value(number)));
            }
        }
    }
    let stored = stored(&broker, "strict");
    assert_eq!(stored.len(), good.len(), "what was refused is not there");
    let stored = by_place(&stored);
    for (place, value) in good {
        assert_eq!(stored[&place].value, value, "at {place:?}");
    }
}

#[test]
fn a_client_that_hangs_up_takes_nobodys_record_along() {
    let broker = Broker::start();
    broker.create_topic("deserted", 1);
    for round in 0..10 {
        let mut lanes = lanes(&broker, 40);
        for (number, lane) in lanes.iter_mut().enumerate() {
            lane.post("/v1/topics/deserted", "", &format!("{round}-{number}"));
        }
        let mut number = 0;
        lanes.retain(|_| {
            number += 1;
            number % 2 == 0
        });
        for lane in &mut lanes {
            assert_eq!(lane.answer().0, 200);
        }
    }
    let is_of_who_stayed = |record: &&Seen| record.value.ends_with(['1', '3', '5', '7', '9']);
    wait_for("those who stayed have their records stored", Duration::from_secs(10), || {
        (stored(&broker, "deserted").iter().filter(is_of_who_stayed).count() == 10 * 20).then_some(())
    });
}
