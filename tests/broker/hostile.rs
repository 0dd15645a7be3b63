//! Frames that mean harm: the connection is closed, memory does not grow, other clients go on.

use std::net::TcpStream;
use std::time::Duration;

use crate::support::broker::Broker;
use crate::support::frames::{Fields, NO_SEQUENCE, RawClient, batch, frame};

const GROWTH_BYTES_MAX: u64 = 64 << 20;
const CLOSED_WITHIN: Duration = Duration::from_secs(10);

#[test]
fn a_huge_frame_length_closes_the_connection() {
    check_hostile(100, |client, _| client.write(&Fields::default().i32(i32::MAX).raw(&[0; 16]).0));
}

#[test]
fn a_negative_frame_length_closes_the_connection() {
    check_hostile(100, |client, _| client.write(&Fields::default().i32(-1).raw(&[0; 16]).0));
}

/// Five bytes of body that ask for an array of 2^31 topics: Metadata v9 (compact) and v1.
#[test]
fn a_metadata_request_that_claims_two_billion_topics_closes_the_connection() {
    check_hostile(100, |client, _| {
        client.write(&frame(3, 9, 1, &Fields::default().raw(&[0, 0xff, 0xff, 0xff, 0xff, 0x0f])))
    });
    check_hostile(100, |client, _| client.write(&frame(3, 1, 1, &Fields::default().i32(i32::MAX))));
}

#[test]
fn a_client_that_was_well_behaved_before_has_its_line_too() {
    check_hostile(5, |client, _| {
        client.try_api_versions().expect("it is answered");
        client.write(&Fields::default().i32(i32::MAX).raw(&[0; 16]).0)
    });
}

#[test]
fn a_string_longer_than_its_frame_closes_the_connection() {
    check_hostile(100, |client, _| client.write(&frame(3, 1, 1, &Fields::default().i32(1).i16(i16::MAX))));
}

#[test]
fn an_unknown_api_or_version_closes_the_connection() {
    check_hostile(20, |client, _| client.write(&frame(999, 0, 1, &Fields::default())));
    check_hostile(20, |client, _| client.write(&frame(-5, 0, 1, &Fields::default())));
    check_hostile(20, |client, _| client.write(&frame(3, 1000, 1, &Fields::default())));
    check_hostile(20, |client, _| client.write(&frame(0, 2, 1, &Fields::default()))); // Produce v2: advertised, refused
}

#[test]
fn garbage_closes_the_connection() {
    check_hostile(200, |client, round| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(round + 1);
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .take(512)
        .collect();
        // A small length, so that the noise is taken for a request; its first byte makes no known API.
        client.write(&Fields::default().i32(512).i8(0x55).raw(&noise[1..]).0)
    });
}

#[test]
fn an_http_request_to_the_kafka_port_closes_the_connection() {
    check_hostile(20, |client, _| client.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
}

/// A thousand connections that promise a large frame and send a byte of it: no memory for what has not come.
#[test]
fn slow_clients_hold_no_memory_and_stop_nobody() {
    let broker = Broker::start_with(&["max.connections.per.ip=2000"]);
    broker.create_topic("busy", 1);
    let before = broker.memory_bytes();
    let mut slow: Vec<TcpStream> = Vec::new();
    for _ in 0..1000 {
        let mut client = TcpStream::connect(broker.kafka()).expect("the broker accepts");
        let promise = Fields::default().i32(60_000).i16(0);
        std::io::Write::write_all(&mut client, &promise.0).expect("the broker reads");
        slow.push(client);
    }
    let mut client = broker.client();
    for offset in 0..50 {
        assert_eq!(client.produce("busy", 0, &batch(&[b"still served"], NO_SEQUENCE)).base_offset, offset);
    }
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "{growth} bytes for 1000 slow clients");
}

/// The same attack `times` over; every connection is closed, the broker serves on, and its memory stays.
fn check_hostile(times: u64, attack: impl Fn(&mut RawClient, u64) -> std::io::Result<()>) {
    let mut broker = Broker::start();
    broker.create_topic("alive", 1);
    let before = broker.memory_bytes();
    for round in 0..times {
        let mut client = broker.client();
        // The broker may close before all was written.
        let _ = attack(&mut client, round);
        assert!(client.is_closed_within(CLOSED_WITHIN), "round {round} is still connected");
    }
    assert!(broker.is_running());
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth <= GROWTH_BYTES_MAX, "memory grew by {growth} bytes");
    let lines = broker.output().matches("connection closed after").count() as u64;
    assert_eq!(lines, times, "each has its line in the log");
    assert_eq!(broker.client().produce("alive", 0, &batch(&[b"yes"], NO_SEQUENCE)).base_offset, 0);
}
