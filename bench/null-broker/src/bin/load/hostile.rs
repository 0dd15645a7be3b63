//! Who means harm: connections that send a frame no broker should take, and are gone.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Each ends in a closed connection, and must not end in anything else.
const FRAMES: [&[u8]; 4] = [
    // A frame of two gigabytes.
    b"\x7f\xff\xff\xffxxxxxxxxxxxx",
    // Metadata of four billion topics.
    b"\0\0\0\x0f\0\x03\0\x09\0\0\0\x01\xff\xff\0\xff\xff\xff\xff\x0f",
    // An API that nobody has.
    b"\0\0\0\x0a\x03\xe7\0\0\0\0\0\x01\xff\xff",
    b"GET / HTTP/1.1\r\n\r\n",
];

/// So many connections a second, until somebody ends it.
pub fn run(address: &str, rate: u32) -> io::Result<()> {
    let address: SocketAddr = address.parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let origin = Instant::now();
    for index in 0u32.. {
        let due = origin + Duration::from_secs(index.into()) / rate.max(1);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        // A broker that refuses it defends itself: that is its affair.
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(1))
            .and_then(|mut socket| socket.write_all(FRAMES[index as usize % FRAMES.len()]));
    }
    Ok(())
}
