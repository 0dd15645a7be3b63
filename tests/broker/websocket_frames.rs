//! WebSocket frames made by hand: what breaks the protocol closes its socket, and costs nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::broker::Broker;
use crate::support::scrape::wait_for_value;

const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x40;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const FRAME_BYTES_MAX: usize = 1 << 20;

/// Upgraded and welcomed.
fn open(broker: &Broker) -> TcpStream {
    open_with(broker, "")
}

fn open_with(broker: &Broker, query: &str) -> TcpStream {
    broker.wait_for_http();
    let mut socket = TcpStream::connect(broker.http_address()).expect("it listens");
    socket.set_read_timeout(Some(ANSWERED_WITHIN)).expect("a socket has a time-out");
    socket.set_write_timeout(Some(ANSWERED_WITHIN)).expect("a socket has a time-out");
    let head = format!(
        "GET /v1/stream/ws{query} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        broker.http_address()
    );
    socket.write_all(head.as_bytes()).expect("the broker reads");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte).expect("the broker answers");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    socket
}

/// The head of a frame that is masked with zeros, as long as it says.
fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    match length {
        0..126 => head.push(0x80 | length as u8),
        126..0x1_0000 => {
            head.push(0x80 | 126);
            head.extend((length as u16).to_be_bytes());
        }
        _ => {
            head.push(0x80 | 127);
            head.extend(length.to_be_bytes());
        }
    }
    head.extend([0; 4]);
    head
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = head(first, payload.len() as u64);
    frame.extend(payload);
    frame
}

/// The code of the broker's close frame. A time-out is a failure.
#[track_caller]
fn closed_with(socket: &mut TcpStream) -> u16 {
    loop {
        let (first, payload) = next(socket);
        if first == FINAL | CLOSE {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
}

/// The first byte and the payload of the broker's next frame. A time-out is a failure.
#[track_caller]
fn next(socket: &mut TcpStream) -> (u8, Vec<u8>) {
    let mut head = [0; 2];
    socket.read_exact(&mut head).expect("the broker sends in time");
    let mut length = usize::from(head[1] & 0x7f);
    if length == 126 {
        let mut longer = [0; 2];
        socket.read_exact(&mut longer).expect("the frame goes on");
        length = u16::from_be_bytes(longer).into();
    }
    let mut payload = vec![0; length];
    socket.read_exact(&mut payload).expect("the frame is whole");
    (head[0], payload)
}

#[test]
fn what_breaks_the_protocol_closes_the_socket() {
    let broker = Broker::start();
    let unmasked = b"\x81\x05hello".to_vec();
    let large = vec![b'x'; 2 * FRAME_BYTES_MAX];
    let two_texts = [frame(TEXT, b"x"), frame(FINAL | TEXT, b"y")].concat();
    for (what, bytes, code) in [
        ("unmasked", unmasked, 1002),
        ("compressed", frame(FINAL | RESERVED | TEXT, b"{}"), 1002),
        ("a long ping", frame(FINAL | PING, &[b'x'; 126]), 1002),
        ("a ping in parts", frame(PING, b"x"), 1002),
        ("the end of nothing", frame(CONTINUATION, b"x"), 1002),
        ("a text within a text", two_texts, 1002),
        ("an unknown kind", frame(FINAL | 3, b"x"), 1002),
        ("a close with an illegal code", frame(FINAL | CLOSE, &[0, 5]), 1002),
        ("no UTF-8", frame(FINAL | TEXT, b"\xff"), 1007),
        ("large", frame(FINAL | TEXT, &large), 1009),
        ("a length that is no number", head(FINAL | TEXT, 1 << 63), 1009),
        ("a close", frame(FINAL | CLOSE, &1000u16.to_be_bytes()), 1000),
    ] {
        let mut socket = open(&broker);
        // The broker may close before all was written.
        let _ = socket.write_all(&bytes);
        assert_eq!(closed_with(&mut socket), code, "{what}");
    }
}

/// Before any of it has come: what is held for a frame is no more than one may have.
#[test]
fn a_frame_that_says_it_is_too_large_is_not_waited_for() {
    let broker = Broker::start();
    for length in [FRAME_BYTES_MAX as u64 + 1, 1 << 40, i64::MAX as u64] {
        for first in [FINAL | TEXT, FINAL | BINARY, TEXT] {
            let mut socket = open(&broker);
            socket.write_all(&head(first, length)).expect("the broker reads");
            assert_eq!(closed_with(&mut socket), 1009, "{length}");
        }
    }
    let mut socket = open(&broker);
    socket.write_all(&head(FINAL | TEXT, FRAME_BYTES_MAX as u64)).expect("the broker reads");
    let garbage = vec![b' '; FRAME_BYTES_MAX];
    socket.write_all(&garbage).expect("so much is taken");
    socket.write_all(&frame(FINAL | CLOSE, &1000u16.to_be_bytes())).expect("the broker reads");
    assert_eq!(closed_with(&mut socket), 1000);
}

#[test]
fn parts_without_an_end_are_not_kept() {
    let broker = Broker::start();
    let send_endless = || {
        let mut socket = open(&broker);
        let part = [b'x'; 60_000];
        let _ = socket.write_all(&frame(TEXT, &part));
        for _ in 0..100 {
            if socket.write_all(&frame(CONTINUATION, &part)).is_err() {
                break;
            }
        }
        assert_eq!(closed_with(&mut socket), 1009);
    };
    // What each worker keeps to use again is not counted.
    (0..10).for_each(|_| send_endless());
    let before = broker.memory_bytes();
    (0..60).for_each(|_| send_endless());
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes for sixty endless messages");
}

/// Whoever is to be pinged rarely is not waited for that long in the middle of a message.
#[test]
fn a_message_that_does_not_come_is_cut() {
    let broker = Broker::start_with(&["capek.http.body.timeout.ms=500", "capek.memory.budget.bytes=268435456"]);
    let mut socket = open_with(&broker, "?heartbeat_ms=300000");
    socket.write_all(&head(FINAL | TEXT, FRAME_BYTES_MAX as u64)).expect("the broker reads");
    socket.write_all(&[b'x'; 100_000]).expect("the broker reads");
    assert_eq!(closed_with(&mut socket), 4008);
    wait_for_value(&broker, "capek_budget_used_bytes{budget=\"http_bodies\"}", 0.0);
}

/// A message that is whole needs its memory once: were it paid for again while the first is held, those who have theirs would
/// wait for each other.
#[test]
fn large_messages_are_all_stored_where_memory_is_for_a_few() {
    let broker = Broker::start_with(&["capek.memory.budget.bytes=16777216"]);
    broker.create_topic("large", 1);
    let record = "x".repeat(1_000_000);
    let produce = format!(r#"{{"type":"produce","topic":"large","records":[{{"value":"{record}"}}]}}"#);
    let message = frame(FINAL | TEXT, produce.as_bytes());
    let mut sockets: Vec<TcpStream> = (0..12).map(|_| open(&broker)).collect();
    let senders: Vec<_> = sockets.iter().map(|socket| socket.try_clone().expect("a socket has two handles")).collect();
    let (first, rest) = message.split_at(500_000);
    let senders = senders.into_iter().map(|mut sender| {
        let (first, rest) = (first.to_vec(), rest.to_vec());
        std::thread::spawn(move || {
            sender.write_all(&first).expect("the broker reads");
            std::thread::sleep(Duration::from_millis(500));
            sender.write_all(&rest).expect("the broker reads");
        })
    });
    let senders: Vec<_> = senders.collect();
    let until = Instant::now() + ANSWERED_WITHIN;
    for socket in &mut sockets {
        loop {
            assert!(Instant::now() < until, "they wait for each other");
            let (_, payload) = next(socket);
            let text = String::from_utf8_lossy(&payload).into_owned();
            assert!(!text.contains("error"), "{text}");
            if text.contains("produced") {
                break;
            }
        }
    }
    senders.into_iter().for_each(|sender| sender.join().expect("it has sent all"));
}
