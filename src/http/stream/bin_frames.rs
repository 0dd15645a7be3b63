//! The sub-protocol `capek.v1.bin`: records travel as bytes, both ways; everything else stays JSON in frames of text.
//!
//! ```text
//!   records   u8 version (1) │ u8 kind (1) │ u32 sub │ u16 topic │ i32 partition │ i64 base offset │ i64 next │ i64 high watermark │ u64 frame
//!             │ u32 count │ count × { varint offset - base offset │ i64 timestamp │ record }
//!   batches   the same up to the frame, kind 3, first offset wanted │ record batches as they are stored
//!   produce   u8 version (1) │ u8 kind (2) │ u64 id │ i64 seq, or -1 │ i8 acks: 0, 1, -1 for all │ u16 length, topic
//!             │ u32 count │ count × { i32 partition, or -1 │ i64 timestamp, or -1 for now │ record }
//!   record    varint length, or -1 │ key │ varint length, or -1 │ value │ varint count of headers
//!             │ headers × { varint length │ name │ varint length, or -1 │ value }
//! ```
//!
//! Numbers are in network order, a varint is zigzag as in Kafka's records. `topic` is the number that `assigned` has for the
//! topic's name. A `produce` is answered like one of JSON.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use capek_actors::produce::Acks;
use capek_actors::stream_events::{Assignment, Encoder, Outgoing, StreamBatches, StreamEvent, StreamRecords};
use capek_wire::batch::{Record, RecordHeader};
use capek_wire::ids::{Offset, PartitionIndex};
use serde_json::{Value, json};

use super::super::produce::NewRecord;
use super::commands::FrameError;
use super::frames;
use super::produce_frames::ProduceFrame;
use super::values::Formats;

const VERSION: u8 = 1;
const RECORDS: u8 = 1;
const PRODUCE: u8 = 2;
const BATCHES: u8 = 3;
/// As Kafka has it.
const NO_TIMESTAMP: i64 = -1;

/// Makes frames of what happens to a subscription: bytes of its records, text of the rest.
pub fn of_subscription(subscription: u64, formats: Formats, greeting: Value) -> Encoder {
    let mut topics = Topics::default();
    Box::new(move |event| match event {
        StreamEvent::Subscribed => Some(frames::text(&greeting)),
        StreamEvent::Records(records) => {
            let topic = topics.number(&records.place.topic);
            Some(Outgoing::Binary(records_frame(subscription, topic, records, formats)))
        }
        StreamEvent::Batches(batches) => {
            let topic = topics.number(&batches.place.topic);
            Some(Outgoing::Binary(batches_frame(subscription, topic, batches)))
        }
        StreamEvent::Assigned { generation, partitions } => {
            let mut frame = json!({ "type": "assigned", "sub": subscription });
            let with_number = |assignment: &Assignment| {
                let mut place = frames::assignment(assignment, formats);
                place["topic_id"] = json!(topics.number(&assignment.place.topic));
                place
            };
            frame["partitions"] = partitions.iter().map(with_number).collect();
            if let Some(generation) = generation {
                frame["generation"] = json!(generation);
            }
            Some(frames::text(&frame))
        }
        other => frames::event_frame(subscription, other, formats).as_ref().map(frames::text),
    })
}

/// The numbers of topics within a subscription, from 0 in the order of their first assignment.
#[derive(Default)]
struct Topics(Vec<Arc<str>>);

impl Topics {
    fn number(&mut self, topic: &Arc<str>) -> u16 {
        let known = self.0.iter().position(|known| known == topic);
        let number = known.unwrap_or_else(|| {
            self.0.push(topic.clone());
            self.0.len() - 1
        });
        // A subscription has no more topics than its options allow.
        u16::try_from(number).unwrap_or(u16::MAX)
    }
}

fn records_frame(subscription: u64, topic: u16, records: &StreamRecords, formats: Formats) -> Bytes {
    const RECORD_OVERHEAD_BYTES: usize = 24;
    let StreamRecords { sequence, place, next, high_watermark, .. } = records;
    let base_offset = records.records.first().map_or(*next, |record| record.offset);
    let mut out = Vec::with_capacity(64 + records.size_bytes as usize + records.records.len() * RECORD_OVERHEAD_BYTES);
    let head = Head { subscription, topic, partition: place.partition, base_offset, next: *next };
    head.put(&mut out, RECORDS, *high_watermark, *sequence);
    out.put_u32(u32::try_from(records.records.len()).unwrap_or(u32::MAX));
    for record in &records.records {
        put_varint(&mut out, record.offset - base_offset);
        out.put_i64(if formats.has_timestamp { record.timestamp } else { NO_TIMESTAMP });
        put_record(&mut out, record, formats.has_headers);
    }
    out.into()
}

fn batches_frame(subscription: u64, topic: u16, batches: &StreamBatches) -> Bytes {
    let StreamBatches { sequence, place, first, next, high_watermark, batches } = batches;
    let head = Head { subscription, topic, partition: place.partition, base_offset: *first, next: *next };
    let mut out = Vec::with_capacity(64 + batches.len());
    head.put(&mut out, BATCHES, *high_watermark, *sequence);
    out.extend_from_slice(batches);
    out.into()
}

/// What frames of records begin with.
struct Head {
    subscription: u64,
    topic: u16,
    partition: PartitionIndex,
    base_offset: Offset,
    next: Offset,
}

impl Head {
    fn put(&self, out: &mut Vec<u8>, kind: u8, high_watermark: Offset, sequence: u64) {
        out.put_u8(VERSION);
        out.put_u8(kind);
        // Subscriptions are counted from 1, and few.
        out.put_u32(u32::try_from(self.subscription).unwrap_or(u32::MAX));
        out.put_u16(self.topic);
        out.put_i32(self.partition);
        out.put_i64(self.base_offset);
        out.put_i64(self.next);
        out.put_i64(high_watermark);
        out.put_u64(sequence);
    }
}

fn put_record(out: &mut Vec<u8>, record: &Record, has_headers: bool) {
    put_field(out, record.key.as_deref());
    put_field(out, record.value.as_deref());
    let headers = if has_headers { &record.headers[..] } else { &[] };
    put_varint(out, headers.len() as i64);
    for RecordHeader { key, value } in headers {
        put_field(out, Some(key));
        put_field(out, value.as_deref());
    }
}

fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    put_varint(out, field.map_or(-1, |field| field.len() as i64));
    out.extend_from_slice(field.unwrap_or_default());
}

fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Reads a frame of a client; the keys and values are slices of it.
pub fn parse(frame: Bytes) -> Result<ProduceFrame, FrameError> {
    let mut reader = Reader(frame);
    let id = reader.head().map_err(|message| FrameError { id: None, message })?;
    reader.produce(id).map_err(|message| FrameError { id: Some(json!(id)), message })
}

struct Reader(Bytes);

impl Reader {
    /// Up to the id.
    fn head(&mut self) -> Result<u64, String> {
        let cut = || "this binary frame is cut".to_owned();
        let (version, kind) = (self.u8().ok_or_else(cut)?, self.u8().ok_or_else(cut)?);
        if version != VERSION {
            return Err(format!("version {version} of binary frames is not known"));
        }
        if kind != PRODUCE {
            return Err(format!("binary frames of kind {kind} are not for a client to send"));
        }
        self.i64().ok_or_else(cut).map(i64::cast_unsigned)
    }

    fn produce(&mut self, id: u64) -> Result<ProduceFrame, String> {
        const CUT: &str = "it is cut";
        let sequence = match self.i64().ok_or(CUT)? {
            -1 => None,
            sequence => Some(u64::try_from(sequence).map_err(|_| "its seq is negative")?),
        };
        let acks = self.u8().ok_or(CUT)?.cast_signed();
        let acks = Acks::from_wire(acks.into()).ok_or("its acks are not 0, 1 or -1")?;
        let topic_bytes = usize::from(self.u8().ok_or(CUT)?) << 8 | usize::from(self.u8().ok_or(CUT)?);
        let topic = self.bytes(topic_bytes).ok_or(CUT)?;
        let topic = std::str::from_utf8(&topic).map_err(|_| "the name of its topic is no text")?;
        let topic = (!topic.is_empty()).then(|| topic.to_owned());
        let count = self.i32().and_then(|count| usize::try_from(count).ok()).ok_or(CUT)?;
        /// Of a record without anything.
        const RECORD_BYTES_MIN: usize = 15;
        if count > self.0.len() / RECORD_BYTES_MIN {
            return Err(CUT.to_owned());
        }
        let records = (0..count).map(|_| self.record().ok_or(CUT)).collect::<Result<Vec<_>, _>>()?;
        if self.0.has_remaining() {
            return Err("there is more behind its records".to_owned());
        }
        Ok(ProduceFrame { id: Some(json!(id)), sequence, acks, topic, records, formats: Formats::default() })
    }

    /// None: it is cut, and what comes behind it cannot be read either.
    fn record(&mut self) -> Option<Result<NewRecord, String>> {
        let (partition, timestamp_ms) = (self.i32()?, self.i64()?);
        let (key, value) = (self.field()?, self.field()?);
        let header_count = self.varint().and_then(|count| usize::try_from(count).ok())?;
        if header_count > self.0.len() / 2 {
            return None;
        }
        let mut headers = Vec::with_capacity(header_count);
        let mut has_names = true;
        for _ in 0..header_count {
            let (name, value) = (self.field()?, self.field()?);
            has_names &= name.is_some();
            headers.push((name.unwrap_or_default(), value));
        }
        Some(if partition < -1 || timestamp_ms < -1 {
            Err("a partition or a timestamp is negative".to_owned())
        } else if !has_names {
            Err("a header has no name".to_owned())
        } else {
            Ok(NewRecord {
                partition: (partition >= 0).then_some(partition),
                key,
                value,
                headers,
                timestamp_ms: (timestamp_ms >= 0).then_some(timestamp_ms),
            })
        })
    }

    fn u8(&mut self) -> Option<u8> {
        self.0.has_remaining().then(|| self.0.get_u8())
    }

    fn i32(&mut self) -> Option<i32> {
        (self.0.remaining() >= 4).then(|| self.0.get_i32())
    }

    fn i64(&mut self) -> Option<i64> {
        (self.0.remaining() >= 8).then(|| self.0.get_i64())
    }

    fn varint(&mut self) -> Option<i64> {
        let mut zigzag = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            zigzag |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((zigzag >> 1).cast_signed() ^ -(zigzag & 1).cast_signed());
            }
        }
        None
    }

    /// Some(None) is null.
    fn field(&mut self) -> Option<Option<Bytes>> {
        match self.varint()? {
            -1 => Some(None),
            length => self.bytes(usize::try_from(length).ok()?).map(Some),
        }
    }

    fn bytes(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }
}

#[cfg(test)]
mod tests {
    use capek_actors::stream_events::StreamPlace;

    use super::*;

    fn record(offset: i64) -> Record {
        let header = RecordHeader { key: Bytes::from("h"), value: None };
        let (key, value) = (None, Some(Bytes::from(vec![0xff; 200])));
        Record { offset, timestamp: 5, key, value, headers: vec![header] }
    }

    /// What a client does with it.
    #[test]
    fn records_are_read_back() {
        let records = StreamRecords {
            sequence: 9,
            place: StreamPlace::new("orders", 3),
            records: vec![record(70), record(200)],
            next: 203,
            high_watermark: 500,
            size_bytes: 402,
            positions: None,
        };
        let Some(Outgoing::Binary(frame)) =
            of_subscription(2, Formats::default(), json!({}))(&StreamEvent::Records(records))
        else {
            panic!("records are bytes here");
        };
        let mut reader = Reader(frame);
        assert_eq!((reader.u8(), reader.u8(), reader.i32()), (Some(1), Some(1), Some(2)));
        assert_eq!((reader.u8(), reader.u8(), reader.i32()), (Some(0), Some(0), Some(3)), "topic 0, partition 3");
        assert_eq!((reader.i64(), reader.i64(), reader.i64(), reader.i64()), (Some(70), Some(203), Some(500), Some(9)));
        assert_eq!(reader.i32(), Some(2));
        for offset in [0, 130] {
            assert_eq!((reader.varint(), reader.i64()), (Some(offset), Some(5)));
            assert_eq!(reader.field(), Some(None));
            assert_eq!(reader.field().flatten().map(|value| value.len()), Some(200));
            assert_eq!(reader.varint(), Some(1));
            assert_eq!((reader.field(), reader.field()), (Some(Some(Bytes::from("h"))), Some(None)));
        }
        assert!(!reader.0.has_remaining());
    }

    #[test]
    fn stored_batches_follow_the_head_as_they_are() {
        let batches = StreamBatches {
            sequence: 9,
            place: StreamPlace::new("orders", 3),
            first: 70,
            next: 203,
            high_watermark: 500,
            batches: Bytes::from("batch"),
        };
        let event = StreamEvent::Batches(batches);
        let Some(Outgoing::Binary(frame)) = of_subscription(2, Formats::default(), json!({}))(&event) else {
            panic!("batches are bytes");
        };
        let mut reader = Reader(frame);
        assert_eq!((reader.u8(), reader.u8(), reader.i32()), (Some(1), Some(3), Some(2)));
        assert_eq!((reader.u8(), reader.u8(), reader.i32()), (Some(0), Some(0), Some(3)), "topic 0, partition 3");
        assert_eq!((reader.i64(), reader.i64(), reader.i64(), reader.i64()), (Some(70), Some(203), Some(500), Some(9)));
        assert_eq!(reader.0, "batch");
    }

    #[test]
    fn what_is_not_included_is_left_out() {
        let records = StreamRecords {
            sequence: 9,
            place: StreamPlace::new("orders", 3),
            records: vec![record(70)],
            next: 71,
            high_watermark: 71,
            size_bytes: 201,
            positions: None,
        };
        let formats = Formats { has_timestamp: false, has_headers: false, ..Formats::default() };
        let mut reader = Reader(records_frame(2, 0, &records, formats).slice(48..));
        assert_eq!((reader.varint(), reader.i64()), (Some(0), Some(NO_TIMESTAMP)));
        assert_eq!((reader.field(), reader.field().flatten().map(|value| value.len())), (Some(None), Some(200)));
        assert_eq!((reader.varint(), reader.0.has_remaining()), (Some(0), false));
    }

    fn produce_frame() -> Vec<u8> {
        let mut out = vec![VERSION, PRODUCE];
        out.put_u64(7);
        out.put_i64(12);
        out.put_i8(-1);
        out.put_u16(6);
        out.put_slice(b"orders");
        out.put_u32(1);
        out.put_i32(-1);
        out.put_i64(-1);
        put_record(&mut out, &record(0), true);
        out
    }

    #[test]
    fn a_produce_frame_is_understood_as_a_whole_or_not_at_all() {
        let frame = produce_frame();
        let parsed = parse(frame.clone().into()).unwrap();
        assert_eq!((parsed.id, parsed.sequence, parsed.acks), (Some(json!(7)), Some(12), Acks::All));
        assert_eq!(parsed.topic.as_deref(), Some("orders"));
        let record = parsed.records[0].as_ref().unwrap();
        assert_eq!((record.partition, record.timestamp_ms, &record.key), (None, None, &None));
        assert_eq!(record.headers, [(Bytes::from("h"), None)]);
        for at in 0..frame.len() {
            assert!(parse(Bytes::copy_from_slice(&frame[..at])).is_err(), "cut at {at}");
        }
        let error = parse([&frame[..], b"x"].concat().into()).unwrap_err();
        assert!(error.id == Some(json!(7)) && error.message.contains("more behind"), "{error:?}");
        let other = |at: usize, byte| {
            let mut frame = frame.clone();
            frame[at] = byte;
            parse(frame.into()).unwrap_err().message
        };
        assert!(other(0, 2).contains("version 2"));
        assert!(other(1, 1).contains("kind 1"));
        assert!(other(18, 9).contains("acks"));
        assert!(other(27, 0xff).contains("cut"), "a count that cannot be");
    }

    #[test]
    fn a_bad_record_is_told_in_its_place() {
        let check = |bad: &[u8], part: &str| {
            let mut frame = produce_frame();
            frame[30] = 2; // the last byte of the count
            frame.extend_from_slice(bad);
            let parsed = parse(frame.into()).unwrap();
            assert!(parsed.records[0].is_ok());
            let message = parsed.records[1].as_ref().unwrap_err();
            assert!(message.contains(part), "{message}");
        };
        let record = |partition: i32, timestamp_ms: i64, rest: &[u8]| {
            [&partition.to_be_bytes()[..], &timestamp_ms.to_be_bytes(), rest].concat()
        };
        check(&record(-2, -1, &[1, 1, 0]), "negative");
        check(&record(0, -2, &[1, 1, 0]), "negative");
        check(&record(0, -1, &[1, 1, 2, 1, 1]), "no name");
    }

    #[test]
    fn assignments_have_the_numbers_of_topics() {
        let assignment = |topic| Assignment { place: StreamPlace::new(topic, 0), next: 0, end: 0, leader_epoch: 0 };
        let mut encoder = of_subscription(1, Formats::default(), json!({}));
        let assigned = StreamEvent::Assigned {
            generation: None,
            partitions: vec![assignment("a"), assignment("b"), assignment("a")],
        };
        let Some(Outgoing::Text(text)) = encoder(&assigned) else { panic!("text") };
        let frame: Value = serde_json::from_slice(&text).unwrap();
        let numbers: Vec<_> = (0..3).map(|index| frame["partitions"][index]["topic_id"].clone()).collect();
        assert_eq!(numbers, [0, 1, 0]);
    }

    #[test]
    fn varints_are_those_of_records() {
        for value in [0, -1, 1, 63, 64, -65, 300, i64::MAX, i64::MIN] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(Reader(out.into()).varint(), Some(value));
        }
    }
}
