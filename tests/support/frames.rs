//! Kafka's frames made by hand, from the protocol's description and not through our own codec: what the two agree on is then
//! more than one opinion. Old versions without compact types are enough here.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const API_VERSIONS: i16 = 18;
pub const CREATE_TOPICS: i16 = 19;
pub const INIT_PRODUCER_ID: i16 = 22;
pub const OFFSET_FOR_LEADER_EPOCH: i16 = 23;
pub const DESCRIBE_CLUSTER: i16 = 60;

pub const LATEST: i64 = -1;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Big-endian fields, appended.
#[derive(Clone, Default)]
pub struct Fields(pub Vec<u8>);

impl Fields {
    pub fn i8(mut self, value: i8) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn i16(mut self, value: i16) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn i32(mut self, value: i32) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn i64(mut self, value: i64) -> Fields {
        self.0.extend(value.to_be_bytes());
        self
    }
    pub fn string(self, value: &str) -> Fields {
        let mut fields = self.i16(value.len() as i16);
        fields.0.extend(value.as_bytes());
        fields
    }
    pub fn bytes(self, value: &[u8]) -> Fields {
        let mut fields = self.i32(value.len() as i32);
        fields.0.extend(value);
        fields
    }
    pub fn raw(mut self, value: &[u8]) -> Fields {
        self.0.extend(value);
        self
    }
}

/// The same, read back.
pub struct Answer {
    bytes: Vec<u8>,
    at: usize,
}

impl Answer {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes.get(self.at..self.at + N).expect("the answer is long enough");
        self.at += N;
        taken.try_into().expect("the range has this length")
    }
    pub fn i8(&mut self) -> i8 {
        i8::from_be_bytes(self.take())
    }
    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take())
    }
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take())
    }
    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take())
    }
    pub fn string(&mut self) -> String {
        let length = self.i16().max(0) as usize;
        let text = String::from_utf8_lossy(&self.bytes[self.at..self.at + length]).into_owned();
        self.at += length;
        text
    }
    /// What was not read yet.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }
    pub fn bytes(&mut self) -> Vec<u8> {
        let length = self.i32().max(0) as usize;
        let bytes = self.bytes[self.at..self.at + length].to_vec();
        self.at += length;
        bytes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub error: i16,
    pub base_offset: i64,
}

pub struct RawClient {
    socket: TcpStream,
    correlation_id: i32,
}

impl RawClient {
    pub fn try_connect(address: &str) -> Option<RawClient> {
        let socket = TcpStream::connect(address).ok()?;
        socket.set_read_timeout(Some(ANSWER_WITHIN)).ok()?;
        socket.set_write_timeout(Some(ANSWER_WITHIN)).ok()?;
        socket.set_nodelay(true).ok()?;
        Some(RawClient { socket, correlation_id: 0 })
    }

    /// Sends a request and answers the correlation id that its response must carry.
    pub fn send(&mut self, api_key: i16, version: i16, body: Fields) -> i32 {
        self.correlation_id += 1;
        let frame = frame(api_key, version, self.correlation_id, &body);
        self.socket.write_all(&frame).expect("the broker reads");
        self.correlation_id
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next response: its correlation id, and what follows it.
    pub fn receive(&mut self) -> (i32, Answer) {
        self.try_receive().expect("the broker answers")
    }

    fn try_receive(&mut self) -> io::Result<(i32, Answer)> {
        let mut size = [0; 4];
        self.socket.read_exact(&mut size)?;
        let mut bytes = vec![0; u32::from_be_bytes(size) as usize];
        self.socket.read_exact(&mut bytes)?;
        let mut answer = Answer { bytes, at: 0 };
        Ok((answer.i32(), answer))
    }

    /// For a broker that may go away while it is asked.
    pub fn try_call(&mut self, api_key: i16, version: i16, body: Fields) -> Option<Answer> {
        self.correlation_id += 1;
        self.socket.write_all(&frame(api_key, version, self.correlation_id, &body)).ok()?;
        Some(self.try_receive().ok()?.1)
    }

    pub fn call(&mut self, api_key: i16, version: i16, body: Fields) -> Answer {
        let expected = self.send(api_key, version, body);
        let (correlation_id, answer) = self.receive();
        assert_eq!(correlation_id, expected, "responses come in request order");
        answer
    }

    /// How long it waits for an answer.
    pub fn set_patience(&mut self, patience: Duration) {
        self.socket.set_read_timeout(Some(patience)).expect("the time is not zero");
    }

    /// Whether the broker closes this connection within `within`, answers left out.
    pub fn is_closed_within(&mut self, within: Duration) -> bool {
        self.socket.set_read_timeout(Some(within)).expect("the time is not zero");
        let mut buffer = [0; 4096];
        loop {
            match self.socket.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => continue,
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
                Err(_) => return true,
            }
        }
    }

    pub fn try_api_versions(&mut self) -> Option<()> {
        self.socket.write_all(&frame(API_VERSIONS, 0, 1, &Fields::default())).ok()?;
        let (_, mut answer) = self.try_receive().ok()?;
        (answer.i16() == 0).then_some(())
    }

    /// The error code.
    pub fn create_topic(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> i16 {
        self.try_create_topic(topic, partitions, configs).expect("the broker answers")
    }

    pub fn try_create_topic(&mut self, topic: &str, partitions: i32, configs: &[(&str, &str)]) -> Option<i16> {
        let mut body = Fields::default().i32(1).string(topic).i32(partitions).i16(1).i32(0).i32(configs.len() as i32);
        for (name, value) in configs {
            body = body.string(name).string(value);
        }
        let mut answer = self.try_call(CREATE_TOPICS, 2, body.i32(15_000).i8(0))?;
        let (_throttle_ms, _topics, _name) = (answer.i32(), answer.i32(), answer.string());
        Some(answer.i16())
    }

    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Produced {
        let mut answer = self.call(PRODUCE, 7, produce_body(-1, topic, partition, batch));
        produced(&mut answer)
    }

    /// Error code, high watermark, and the record batches.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> (i16, i64, Vec<u8>) {
        let mut answer = self.call(FETCH, 4, fetch_body(topic, partition, offset, 0));
        let (_throttle_ms, _topics, _name, _partitions, _index) =
            (answer.i32(), answer.i32(), answer.string(), answer.i32(), answer.i32());
        let (error, high_watermark, _last_stable) = (answer.i16(), answer.i64(), answer.i64());
        for _ in 0..answer.i32().max(0) {
            let (_producer_id, _first_offset) = (answer.i64(), answer.i64());
        }
        (error, high_watermark, answer.bytes())
    }

    /// Error code and offset.
    pub fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> (i16, i64) {
        let body = Fields::default().i32(-1).i32(1).string(topic).i32(1).i32(partition).i64(timestamp);
        let mut answer = self.call(LIST_OFFSETS, 1, body);
        let (_topics, _name, _partitions, _index) = (answer.i32(), answer.string(), answer.i32(), answer.i32());
        let (error, _timestamp, offset) = (answer.i16(), answer.i64(), answer.i64());
        (error, offset)
    }

    /// Producer id and epoch; Kafka has none for a moment after its start.
    pub fn init_producer_id(&mut self) -> (i64, i16) {
        super::wait_for("a producer id", ANSWER_WITHIN, || {
            let mut answer = self.call(INIT_PRODUCER_ID, 0, Fields::default().i16(-1).i32(60_000));
            let (_throttle_ms, error) = (answer.i32(), answer.i16());
            (error == 0).then(|| (answer.i64(), answer.i16()))
        })
    }
}

pub fn frame(api_key: i16, version: i16, correlation_id: i32, body: &Fields) -> Vec<u8> {
    let header = Fields::default().i16(api_key).i16(version).i32(correlation_id).string("raw");
    let size = (header.0.len() + body.0.len()) as i32;
    Fields::default().i32(size).raw(&header.0).raw(&body.0).0
}

pub fn produce_body(acks: i16, topic: &str, partition: i32, batch: &[u8]) -> Fields {
    let body = Fields::default().i16(-1).i16(acks).i32(10_000).i32(1).string(topic);
    body.i32(1).i32(partition).bytes(batch)
}

pub fn produced(answer: &mut Answer) -> Produced {
    let (_topics, _name, _partitions, _index) = (answer.i32(), answer.string(), answer.i32(), answer.i32());
    Produced { error: answer.i16(), base_offset: answer.i64() }
}

pub fn fetch_body(topic: &str, partition: i32, offset: i64, wait_ms_max: i32) -> Fields {
    let body = Fields::default().i32(-1).i32(wait_ms_max).i32(1).i32(8 << 20).i8(0);
    body.i32(1).string(topic).i32(1).i32(partition).i64(offset).i32(8 << 20)
}

/// Who wrote a batch, for the idempotent producer.
#[derive(Clone, Copy)]
pub struct Sequence {
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

pub const NO_SEQUENCE: Sequence = Sequence { producer_id: -1, producer_epoch: -1, base_sequence: -1 };

/// An uncompressed record batch v2.
pub fn batch(values: &[&[u8]], sequence: Sequence) -> Vec<u8> {
    let mut records = Vec::new();
    for (index, value) in values.iter().enumerate() {
        let mut record = vec![0, 0]; // attributes, timestamp delta
        varint(&mut record, index as i64);
        varint(&mut record, -1); // no key
        varint(&mut record, value.len() as i64);
        record.extend(*value);
        varint(&mut record, 0); // no headers
        varint(&mut records, record.len() as i64);
        records.extend(record);
    }
    let now_ms = std::time::UNIX_EPOCH.elapsed().expect("the clock is past 1970").as_millis() as i64;
    let covered = Fields::default().i16(0).i32(values.len() as i32 - 1).i64(now_ms).i64(now_ms);
    let covered = covered.i64(sequence.producer_id).i16(sequence.producer_epoch).i32(sequence.base_sequence);
    let covered = covered.i32(values.len() as i32).raw(&records).0;
    let length = (4 + 1 + 4 + covered.len()) as i32;
    let head = Fields::default().i64(0).i32(length).i32(-1).i8(2).i32(crc32c::crc32c(&covered) as i32);
    head.raw(&covered).0
}

fn varint(into: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        into.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    into.push(zigzag as u8);
}

/// How many records the batches of a fetch hold, and the offset after the last of them.
pub fn count_records(mut batches: &[u8]) -> (i64, i64) {
    let (mut count, mut end_offset) = (0, 0);
    while batches.len() >= 61 {
        let at = |range: std::ops::Range<usize>| i32::from_be_bytes(batches[range].try_into().expect("four bytes"));
        let base_offset = i64::from_be_bytes(batches[0..8].try_into().expect("eight bytes"));
        let size = 12 + at(8..12) as usize;
        if batches.len() < size {
            break;
        }
        count += i64::from(at(57..61));
        end_offset = base_offset + i64::from(at(23..27)) + 1;
        batches = &batches[size..];
    }
    (count, end_offset)
}
