//! Senders that begin a record and do not end it: they pay for what they have sent, not for what they might, and are cut.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::rest::call;
use crate::support::scrape::{Scrape, wait_for_value, wait_until};

const CUT_WITHIN: Duration = Duration::from_secs(20);
const USED: &str = "capek_budget_used_bytes{budget=\"http_bodies\"}";
/// A value of this is paid for; what is smaller is free.
const HALF_BYTES: usize = 68 << 10;

/// A stream of records to REST v3, its response not read yet.
struct Records(TcpStream);

impl Records {
    fn open(broker: &Broker, topic: &str) -> Records {
        let clusters = broker.get("/v3/clusters").expect(200);
        let cluster = clusters["data"][0]["cluster_id"].as_str().expect("it has an id").to_owned();
        let mut socket = TcpStream::connect(broker.http_address()).expect("it listens");
        socket.set_read_timeout(Some(CUT_WITHIN)).expect("a socket has a time-out");
        let head = format!(
            "POST /v3/clusters/{cluster}/topics/{topic}/records HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        socket.write_all(head.as_bytes()).expect("the broker reads");
        Records(socket)
    }

    fn send(&mut self, text: &str) {
        let chunk = format!("{:x}\r\n{text}\r\n", text.len());
        self.0.write_all(chunk.as_bytes()).expect("the broker reads");
    }

    /// Reads until this has come; a time-out is a failure.
    #[track_caller]
    fn until(&mut self, wanted: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        while !text.contains(wanted) {
            let count = self.0.read(&mut buffer).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert!(count > 0, "it was closed: {text}");
            text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        text
    }

    /// A reset is a close too.
    #[track_caller]
    fn closed(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it is still open"),
                Err(_) => return,
            }
        }
    }
}

fn half(bytes: usize) -> String {
    format!("{{\"value\":{{\"type\":\"STRING\",\"data\":\"{}", "x".repeat(bytes))
}

#[test]
fn half_a_record_holds_what_it_is_and_is_cut() {
    const SENDERS: usize = 8;
    let broker = Broker::start_with(&["capek.http.body.timeout.ms=1500", "capek.memory.budget.bytes=268435456"]);
    broker.create_topic("halves", 1);
    let mut idle = Records::open(&broker, "halves");
    idle.send("{\"value\":{\"type\":\"JSON\",\"data\":1}}\n");
    idle.until("\"error_code\":200");
    let began = Instant::now();
    let mut halves: Vec<Records> = (0..SENDERS).map(|_| Records::open(&broker, "halves")).collect();
    halves.iter_mut().for_each(|records| records.send(&half(HALF_BYTES)));
    let mut small = Records::open(&broker, "halves");
    small.send("{\"value\":");
    let all = (SENDERS * HALF_BYTES) as f64;
    wait_until(&broker, USED, |used| used >= all);
    let used = Scrape::of(&broker).value(USED);
    assert!(used < 2.0 * all, "{used} bytes are paid for {all}");
    assert_eq!(call("POST", &broker.http("/v1/topics/halves"), &[], "x").status, 200, "others are served meanwhile");

    for records in halves.iter_mut().chain([&mut small]) {
        let told = records.until("\"error_code\":408");
        assert!(told.contains("in time"), "{told}");
        records.closed();
    }
    assert!(began.elapsed() > Duration::from_millis(1500), "{:?}", began.elapsed());
    wait_for_value(&broker, USED, 0.0);
    // What is whole is not waited for: a stream may be silent between two records.
    idle.send("{\"value\":{\"type\":\"JSON\",\"data\":2}}\n");
    idle.until("\"offset\":2");
}

/// The report of a record is for its client to read; until then its sender holds nothing.
#[test]
fn a_large_record_is_stored_and_no_more_paid_for() {
    let broker = Broker::start_with(&["capek.memory.budget.bytes=268435456"]);
    broker.create_topic("large", 1);
    let mut records = Records::open(&broker, "large");
    for _ in 0..2 {
        records.send(&half(500_000));
        wait_until(&broker, USED, |used| used >= 500_000.0);
        records.send("\"}}");
        records.until("\"error_code\":200");
        wait_for_value(&broker, USED, 0.0);
    }
}
