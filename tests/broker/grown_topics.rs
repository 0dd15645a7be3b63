//! A topic gets more partitions between the first try of a request and the next: nothing is stored twice.

use serde_json::{Value, json};

use crate::support::broker::Broker;
use crate::support::frames::LATEST;
use crate::support::rest::{Answer, call};
use crate::support::socket::Socket;

const TOPIC: &str = "grows";
const LINES: &str = "Content-Type: application/x-ndjson";
const ORDERS: usize = 20;

fn post(broker: &Broker, order: usize, query: &str, body: &str) -> Answer {
    let key = format!("Idempotency-Key: order-{order}");
    call("POST", &broker.http(&format!("/v1/topics/{TOPIC}{query}")), &[LINES, &key], body)
}

/// Where the records of the order are. Those with a key go where it says.
fn send(broker: &Broker, order: usize) -> Vec<Value> {
    let query = if order.is_multiple_of(2) { String::new() } else { format!("?key=customer-{order}") };
    let answer = post(broker, order, &query, &format!("{{\"order\":{order}}}\n{{\"line\":{order}}}\n"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    let place = |line: &str| {
        let stored: Value = serde_json::from_str(line).expect("a line of JSON");
        json!([stored["partition"], stored["offset"]])
    };
    answer.text.lines().map(place).collect()
}

fn stored_count(broker: &Broker, partition_count: i32) -> i64 {
    (0..partition_count).map(|partition| broker.client().list_offset(TOPIC, partition, LATEST).1).sum()
}

fn grow(broker: &Broker, partition_count: i32) {
    broker.grow_topic(TOPIC, partition_count);
    broker.wait_for_leaders(TOPIC, partition_count);
}

#[test]
fn a_retry_finds_its_records_also_after_a_crash() {
    let mut broker = Broker::start();
    broker.create_topic(TOPIC, 2);
    let mut first: Vec<_> = (0..ORDERS).map(|order| send(&broker, order)).collect();
    for (round, partition_count) in [5, 11].into_iter().enumerate() {
        grow(&broker, partition_count);
        let again: Vec<_> = (0..first.len()).map(|order| send(&broker, order)).collect();
        assert_eq!(again, first, "of {partition_count} partitions");
        // The same key for other records is still a mistake of the client.
        assert_eq!(post(&broker, 2, "", "{}").status, 422);
        // And what is new may go to a new partition.
        first.extend((first.len()..first.len() + ORDERS).map(|order| send(&broker, order)));
        let used: Vec<_> = first.iter().flatten().filter_map(|place| place[0].as_i64()).collect();
        let new = used.iter().filter(|partition| **partition >= [2, 5][round]).count();
        assert!(new > 2, "of {partition_count} partitions {used:?}");
        broker.kill();
        broker.start_again();
        broker.wait_for_http();
    }
    let again: Vec<_> = (0..first.len()).map(|order| send(&broker, order)).collect();
    assert_eq!(again, first);
    assert_eq!(stored_count(&broker, 11), 2 * first.len() as i64);
}

#[test]
fn a_numbered_frame_finds_its_records() {
    const FRAMES: u64 = 70; // the numbers go round: some are written in a later epoch
    let broker = Broker::start();
    broker.create_topic(TOPIC, 2);
    let open = || Socket::open(&broker, &format!("/v1/topics/{TOPIC}/produce/ws?session=sensor"));
    let send = |socket: &mut Socket, sequence: u64, value: u64| {
        socket.send(json!({ "type": "produce", "seq": sequence, "records": [{ "value": value }] }));
        let result = &socket.until("produced", &[])["results"][0];
        if result["error_code"].is_null() {
            json!([result["partition"], result["offset"]])
        } else {
            result["error_code"].clone()
        }
    };
    let mut socket = open();
    let mut first: Vec<_> = (0..FRAMES).map(|sequence| send(&mut socket, sequence, sequence)).collect();
    grow(&broker, 7);
    let mut socket = open();
    for sequence in FRAMES - 64..FRAMES {
        assert_eq!(send(&mut socket, sequence, sequence), first[sequence as usize], "frame {sequence}");
        assert_eq!(send(&mut socket, sequence, 1_000), json!(409), "frame {sequence} with another record");
    }
    assert_eq!(send(&mut socket, 0, 0), json!(409), "64 later ones have been stored");
    first.extend((FRAMES..2 * FRAMES).map(|sequence| send(&mut socket, sequence, sequence)));
    assert!(first.iter().any(|place| place[0].as_i64() > Some(1)), "{first:?}");
    for sequence in 2 * FRAMES - 64..2 * FRAMES {
        assert_eq!(send(&mut socket, sequence, sequence), first[sequence as usize], "frame {sequence}");
    }
    assert_eq!(stored_count(&broker, 7), 2 * FRAMES as i64);
}

/// While keyed records come in from all sides, each sent twice.
#[test]
fn a_topic_that_grows_under_load_stores_each_key_once() {
    let broker = Broker::start();
    broker.create_topic(TOPIC, 1);
    std::thread::scope(|scope| {
        for client in 0..4 {
            let broker = &broker;
            scope.spawn(move || {
                for order in (client * 1_000..client * 1_000 + 50).step_by(2) {
                    let first = send(broker, order);
                    assert_eq!(send(broker, order), first);
                }
            });
        }
        for partition_count in 2..9 {
            broker.grow_topic(TOPIC, partition_count);
        }
    });
    broker.wait_for_leaders(TOPIC, 8);
    assert_eq!(stored_count(&broker, 8), 2 * 4 * 25);
}
