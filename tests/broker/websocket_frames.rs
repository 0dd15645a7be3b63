//! WebSocket frames made by hand: what breaks the protocol closes its socket, and costs nothing.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::broker::Broker;

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
    broker.wait_for_http();
    let mut socket = TcpStream::connect(broker.http_address()).expect("it listens");
    socket.set_read_timeout(Some(ANSWERED_WITHIN)).expect("a socket has a time-out");
    socket.set_write_timeout(Some(ANSWERED_WITHIN)).expect("a socket has a time-out");
    let head = format!(
        "GET /v1/stream/ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
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
        let mut head = [0; 2];
        socket.read_exact(&mut head).expect("the broker closes in time");
        let mut length = usize::from(head[1] & 0x7f);
        if length == 126 {
            let mut longer = [0; 2];
            socket.read_exact(&mut longer).expect("the frame goes on");
            length = u16::from_be_bytes(longer).into();
        }
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).expect("the frame is whole");
        if head[0] == FINAL | CLOSE {
            return u16::from_be_bytes([payload[0], payload[1]]);
        }
    }
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
    let before = broker.memory_bytes();
    for _ in 0..10 {
        let mut socket = open(&broker);
        let part = [b'x'; 60_000];
        let _ = socket.write_all(&frame(TEXT, &part));
        for _ in 0..100 {
            if socket.write_all(&frame(CONTINUATION, &part)).is_err() {
                break;
            }
        }
        assert_eq!(closed_with(&mut socket), 1009);
    }
    let growth = broker.memory_bytes().saturating_sub(before);
    assert!(growth < 32 << 20, "{growth} bytes for ten endless messages");
}
