//! Produce v7, Fetch v4, ListOffsets v1, CreateTopics v2, by hand: small, and the same for every broker.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const CREATE_TOPICS: i16 = 19;

pub async fn connect(address: &str) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// With its four bytes of length.
pub fn request(api_key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let client_id = b"bench-load";
    let size = 2 + 2 + 4 + 2 + client_id.len() + body.len();
    let mut frame = Vec::with_capacity(4 + size);
    frame.extend((size as i32).to_be_bytes());
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(0i32.to_be_bytes());
    put_string(&mut frame, "bench-load");
    frame.extend(body);
    frame
}

/// The body of the next response, without its length and correlation id.
pub async fn response(socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let size = socket.read_i32().await?;
    let _correlation_id = socket.read_i32().await?;
    let mut body = vec![0; (size.max(4) - 4) as usize];
    socket.read_exact(&mut body).await?;
    Ok(body)
}

pub fn produce(topic: &str, partition: i32, batch: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend((-1i16).to_be_bytes()); // no transactional id
    body.extend((-1i16).to_be_bytes()); // acks=all
    body.extend(30_000i32.to_be_bytes());
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    request(PRODUCE, 7, &body)
}

/// Where the error code of the only partition stands in a Produce response's body.
pub fn produce_error(body: &[u8], topic: &str) -> i16 {
    let at = 4 + 2 + topic.len() + 4 + 4;
    body.get(at..at + 2).map_or(-1, |code| i16::from_be_bytes([code[0], code[1]]))
}

pub fn fetch(topic: &str, offset: i64) -> Vec<u8> {
    let mut body = Vec::new();
    for field in [-1, 500, 1, 1 << 20] {
        body.extend(i32::to_be_bytes(field)); // replica, wait, least and most bytes
    }
    body.push(0);
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend(offset.to_be_bytes());
    body.extend((1i32 << 20).to_be_bytes());
    request(FETCH, 4, &body)
}

/// The record batches of the only partition of a Fetch response's body.
pub fn fetched<'a>(body: &'a [u8], topic: &str) -> io::Result<&'a [u8]> {
    let error_at = 4 + 4 + 2 + topic.len() + 4 + 4;
    let field =
        |at: usize| body.get(at..at + 4).map(|field| i32::from_be_bytes([field[0], field[1], field[2], field[3]]));
    let error = field(error_at).ok_or(io::ErrorKind::UnexpectedEof)? >> 16;
    if error != 0 {
        return Err(io::Error::other(format!("fetch: error {error}")));
    }
    let aborted_at = error_at + 2 + 8 + 8;
    let aborted = field(aborted_at).ok_or(io::ErrorKind::UnexpectedEof)?.max(0) as usize;
    Ok(body.get(aborted_at + 4 + aborted * 16 + 4..).unwrap_or_default())
}

/// An uncompressed batch of one record.
pub fn batch(value: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0, 0, 1]; // attributes, timestamp delta, offset delta, no key (-1)
    put_varint(&mut record, value.len());
    record.extend(value);
    record.push(0);
    let now_ms = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_millis() as i64;
    let mut covered = Vec::new();
    covered.extend(0i16.to_be_bytes());
    covered.extend(0i32.to_be_bytes());
    covered.extend(now_ms.to_be_bytes());
    covered.extend(now_ms.to_be_bytes());
    covered.extend((-1i64).to_be_bytes());
    covered.extend((-1i16).to_be_bytes());
    covered.extend((-1i32).to_be_bytes());
    covered.extend(1i32.to_be_bytes());
    put_varint(&mut covered, record.len());
    covered.extend(record);
    let mut batch = Vec::new();
    batch.extend(0i64.to_be_bytes());
    batch.extend((covered.len() as i32 + 9).to_be_bytes());
    batch.extend((-1i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&covered).to_be_bytes());
    batch.extend(covered);
    batch
}

pub async fn latest_offset(address: &str, topic: &str) -> io::Result<i64> {
    let mut socket = connect(address).await?;
    let (_error, offset) = latest_offsets(&mut socket, topic, 1).await?.pop().ok_or(io::ErrorKind::UnexpectedEof)?;
    Ok(offset)
}

/// Error and offset of each partition.
async fn latest_offsets(socket: &mut TcpStream, topic: &str, partitions: i32) -> io::Result<Vec<(i16, i64)>> {
    let mut body = Vec::new();
    body.extend((-1i32).to_be_bytes());
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(partitions.to_be_bytes());
    for partition in 0..partitions {
        body.extend(partition.to_be_bytes());
        body.extend((-1i64).to_be_bytes());
    }
    socket.write_all(&request(LIST_OFFSETS, 1, &body)).await?;
    let answer = response(socket).await?;
    let answered = answer.get(4 + 2 + topic.len() + 4..).unwrap_or_default().chunks_exact(4 + 2 + 8 + 8);
    Ok(answered
        .map(|one| (i16::from_be_bytes([one[4], one[5]]), i64::from_be_bytes(*one.last_chunk().expect("22 bytes"))))
        .collect())
}

pub async fn create_topic(address: &str, topic: &str, partitions: i32) -> io::Result<()> {
    let mut body = Vec::new();
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(partitions.to_be_bytes());
    body.extend(1i16.to_be_bytes());
    body.extend([0; 8]); // no assignments, no configs
    body.extend(60_000i32.to_be_bytes());
    body.push(0);
    let mut socket = connect(address).await?;
    socket.write_all(&request(CREATE_TOPICS, 2, &body)).await?;
    let answer = response(&mut socket).await?;
    let at = 4 + 4 + 2 + topic.len();
    if answer.get(at..at + 2) != Some(&[0, 0]) {
        return Err(io::Error::other(format!("creating {topic}: error {:?}", answer.get(at..at + 2))));
    }
    // Kafka answers before its leaders know of it.
    while latest_offsets(&mut socket, topic, partitions).await?.iter().any(|(error, _)| *error != 0) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

pub fn put_string(into: &mut Vec<u8>, value: &str) {
    into.extend((value.len() as i16).to_be_bytes());
    into.extend(value.as_bytes());
}

/// Zigzag of a number that is not negative.
fn put_varint(into: &mut Vec<u8>, value: usize) {
    let mut rest = value << 1;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.push(rest as u8);
}
