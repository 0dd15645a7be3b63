//! FindCoordinator v1, JoinGroup v3, SyncGroup v2, Heartbeat v2, OffsetCommit v3, OffsetFetch v3, by hand.

use std::io;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::frames::{connect, put_string, request, response};

const OFFSET_COMMIT: i16 = 8;
const OFFSET_FETCH: i16 = 9;
const FIND_COORDINATOR: i16 = 10;
const JOIN_GROUP: i16 = 11;
const HEARTBEAT: i16 = 12;
const SYNC_GROUP: i16 = 14;

/// About what a consumer of one topic says of itself.
const SUBSCRIPTION_BYTES: usize = 40;
const SESSION_TIMEOUT_MS: i32 = 60_000;

/// What a member knows of its generation.
pub struct Joined {
    pub error: i16,
    pub generation: i32,
    pub leader: String,
    pub member_id: String,
    pub members: Vec<String>,
}

/// Reads fields one after the other; what is missing is zero, and the error code then says so.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((head, rest)) = self.0.split_first_chunk::<N>() else { return [0; N] };
        self.0 = rest;
        *head
    }

    fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }

    fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }

    fn bytes(&mut self, length: usize) -> &[u8] {
        let (head, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        head
    }

    fn string(&mut self) -> String {
        let length = self.i16().max(0) as usize;
        String::from_utf8_lossy(self.bytes(length)).into_owned()
    }
}

/// Waits until somebody coordinates the group: brokers make the topic for it when they are asked first.
pub async fn await_coordinator(address: &str, group: &str) -> io::Result<()> {
    let mut body = Vec::new();
    put_string(&mut body, group);
    body.push(0);
    let mut socket = connect(address).await?;
    for _ in 0..200 {
        socket.write_all(&request(FIND_COORDINATOR, 1, &body)).await?;
        let answer = response(&mut socket).await?;
        let mut fields = Fields(&answer);
        fields.i32();
        if fields.i16() == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(io::Error::other("nobody coordinates the group"))
}

pub async fn join(socket: &mut TcpStream, group: &str, member_id: &str) -> io::Result<Joined> {
    let mut body = Vec::new();
    put_string(&mut body, group);
    body.extend(SESSION_TIMEOUT_MS.to_be_bytes());
    body.extend(SESSION_TIMEOUT_MS.to_be_bytes()); // of a rebalance
    put_string(&mut body, member_id);
    put_string(&mut body, "consumer");
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, "range");
    body.extend((SUBSCRIPTION_BYTES as i32).to_be_bytes());
    body.extend([0; SUBSCRIPTION_BYTES]);
    socket.write_all(&request(JOIN_GROUP, 3, &body)).await?;
    let answer = response(socket).await?;
    let mut fields = Fields(&answer);
    fields.i32();
    let (error, generation, _protocol) = (fields.i16(), fields.i32(), fields.string());
    let (leader, member_id) = (fields.string(), fields.string());
    let mut members = Vec::new();
    for _ in 0..fields.i32() {
        members.push(fields.string());
        let length = fields.i32().max(0) as usize;
        fields.bytes(length);
    }
    Ok(Joined { error, generation, leader, member_id, members })
}

/// The error code.
pub async fn sync(socket: &mut TcpStream, group: &str, joined: &Joined) -> io::Result<i16> {
    let mut body = of_member(group, joined);
    let assigned: &[String] = if joined.leader == joined.member_id { &joined.members } else { &[] };
    body.extend((assigned.len() as i32).to_be_bytes());
    for member in assigned {
        put_string(&mut body, member);
        body.extend((SUBSCRIPTION_BYTES as i32).to_be_bytes());
        body.extend([0; SUBSCRIPTION_BYTES]);
    }
    socket.write_all(&request(SYNC_GROUP, 2, &body)).await?;
    error_of(socket).await
}

/// The error code.
pub async fn heartbeat(socket: &mut TcpStream, group: &str, joined: &Joined) -> io::Result<i16> {
    socket.write_all(&request(HEARTBEAT, 2, &of_member(group, joined))).await?;
    error_of(socket).await
}

fn of_member(group: &str, joined: &Joined) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, group);
    body.extend(joined.generation.to_be_bytes());
    put_string(&mut body, &joined.member_id);
    body
}

async fn error_of(socket: &mut TcpStream) -> io::Result<i16> {
    let answer = response(socket).await?;
    let mut fields = Fields(&answer);
    fields.i32();
    Ok(fields.i16())
}

/// Of the first so many partitions, by somebody who is no member.
pub fn commit(group: &str, topic: &str, partitions: i32, offset: i64) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, group);
    body.extend((-1i32).to_be_bytes());
    put_string(&mut body, "");
    body.extend((-1i64).to_be_bytes());
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(partitions.to_be_bytes());
    for partition in 0..partitions {
        body.extend(partition.to_be_bytes());
        body.extend(offset.to_be_bytes());
        put_string(&mut body, "");
    }
    request(OFFSET_COMMIT, 3, &body)
}

/// The first error code among those of so many partitions.
pub fn commit_error(body: &[u8], partitions: i32) -> i16 {
    let mut fields = Fields(body);
    let (_throttle_ms, _topics, _name) = (fields.i32(), fields.i32(), fields.string());
    if fields.i32() != partitions {
        return -1;
    }
    let errors = (0..partitions).map(|_| {
        fields.i32();
        fields.i16()
    });
    errors.fold(0, |first, error| if first == 0 { error } else { first })
}

pub fn fetch_offset(group: &str, topic: &str, partition: i32) -> Vec<u8> {
    let mut body = Vec::new();
    put_string(&mut body, group);
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(partition.to_be_bytes());
    request(OFFSET_FETCH, 3, &body)
}

/// Error code and offset of the only partition.
pub fn fetched_offset(body: &[u8]) -> (i16, i64) {
    let mut fields = Fields(body);
    let (_throttle_ms, topics) = (fields.i32(), fields.i32());
    let mut offset = -1;
    for _ in 0..topics {
        let (_name, _partitions, _index) = (fields.string(), fields.i32(), fields.i32());
        offset = i64::from_be_bytes(fields.take());
        let (_metadata, error) = (fields.string(), fields.i16());
        if error != 0 {
            return (error, offset);
        }
    }
    (fields.i16(), offset)
}
