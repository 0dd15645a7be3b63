//! A Produce request split apart: the records of each partition as bytes that nobody else holds.
//!
//! The generated decoder shares one frame between all fields, so its records cannot be changed. A broker patches the base
//! offset and the leader epoch into each batch; this view splits the frame where the records are, and nothing is copied.

use std::ops::Range;

use bytes::BytesMut;

use crate::codec::{DecodeError, STRING_BYTES_MAX, Str, budget_bytes};
use crate::frame::RequestHeader;
use crate::ids::Uuid;

/// Versions from here have compact types and tagged fields.
const FLEXIBLE_FROM: i16 = 9;
/// Versions from here name topics by id.
const TOPIC_ID_FROM: i16 = 13;

/// How the request names a topic: by name up to version 12, by id from 13.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TopicRef {
    /// Versions 3 to 12.
    Name(Str),
    /// Version 13.
    Id(Uuid),
}

/// A Produce request, versions 3 to 13.
#[derive(Debug)]
pub struct ProduceView {
    /// The frame's header.
    pub header: RequestHeader,
    /// Set by a transactional producer.
    pub transactional_id: Option<Str>,
    /// 0, 1 or -1; not checked.
    pub acks: i16,
    /// How long the client waits.
    pub timeout_ms: i32,
    /// In the order of the request.
    pub topics: Vec<TopicView>,
}

/// One topic of the request.
#[derive(Debug)]
pub struct TopicView {
    /// Which.
    pub topic: TopicRef,
    /// In the order of the request.
    pub partitions: Vec<PartitionView>,
}

/// One partition of the request.
#[derive(Debug)]
pub struct PartitionView {
    /// Which.
    pub index: i32,
    /// What to append; not checked. None when the client sent null.
    pub records: Option<BytesMut>,
}

impl ProduceView {
    /// Reads a whole frame (without its size).
    pub fn decode(frame: BytesMut) -> Result<ProduceView, DecodeError> {
        let mut cursor = Cursor { bytes: &frame, at: 0, budget_bytes: budget_bytes(frame.len()) };
        cursor.i16()?; // the key: the caller has looked at it
        let api_version = cursor.i16()?;
        let correlation_id = cursor.i32()?;
        let flexible = api_version >= FLEXIBLE_FROM;
        let client_id = cursor.text(false)?;
        if flexible {
            cursor.skip_tags()?;
        }
        let transactional_id = cursor.text(flexible)?;
        let acks = cursor.i16()?;
        let timeout_ms = cursor.i32()?;
        let layout = cursor.topics(api_version)?;
        let text =
            |range: Option<Range<usize>>| range.map(|range| str_of(&frame[range.clone()], range.start)).transpose();
        let header = RequestHeader { api_key: 0, api_version, correlation_id, client_id: text(client_id)? };
        let transactional_id = text(transactional_id)?;
        let topics = split(frame, layout)?;
        Ok(ProduceView { header, transactional_id, acks, timeout_ms, topics })
    }
}

/// Small texts are copied: a slice would hold the frame, and with it the right to change the records.
fn str_of(bytes: &[u8], at: usize) -> Result<Str, DecodeError> {
    std::str::from_utf8(bytes).map(Str::from).map_err(|_| DecodeError::Utf8 { at })
}

/// Where things stand in the frame.
struct TopicLayout {
    topic: TopicRef,
    partitions: Vec<(i32, Option<Range<usize>>)>,
}

/// Cuts the records out of the frame, front to back.
fn split(mut frame: BytesMut, layout: Vec<TopicLayout>) -> Result<Vec<TopicView>, DecodeError> {
    let mut consumed = 0;
    let mut cut = |range: Range<usize>| {
        let _between = frame.split_to(range.start - consumed);
        consumed = range.end;
        frame.split_to(range.len())
    };
    let mut topics = Vec::with_capacity(layout.len());
    for topic in layout {
        let partition =
            |(index, records): (i32, Option<Range<usize>>)| PartitionView { index, records: records.map(&mut cut) };
        topics
            .push(TopicView { topic: topic.topic, partitions: topic.partitions.into_iter().map(partition).collect() });
    }
    Ok(topics)
}

/// Walks the frame without holding it.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// What the lists may still allocate.
    budget_bytes: usize,
}

/// The fewest bytes that a topic or a partition takes: an id or a name's length, and a count; an index and a length.
const TOPIC_BYTES_MIN: usize = 2;
const PARTITION_BYTES_MIN: usize = 5;
/// What they take in memory: first where they are, then what is there.
const TOPIC_MEMORY_BYTES: usize = size_of::<TopicLayout>() + size_of::<TopicView>();
const PARTITION_MEMORY_BYTES: usize = size_of::<(i32, Option<Range<usize>>)>() + size_of::<PartitionView>();

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let rest = &self.bytes[self.at..];
        let Some(value) = rest.first_chunk::<N>() else {
            return Err(DecodeError::Truncated { at: self.at, needed: N - rest.len() });
        };
        self.at += N;
        Ok(*value)
    }

    fn i16(&mut self) -> Result<i16, DecodeError> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, DecodeError> {
        self.take().map(i32::from_be_bytes)
    }

    fn uvarint(&mut self) -> Result<u32, DecodeError> {
        let start = self.at;
        let mut value = 0u64;
        for shift in (0..35).step_by(7) {
            let [byte] = self.take()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Varint { at: start });
            }
        }
        Err(DecodeError::Varint { at: start })
    }

    /// A length or a count: -1 (0 when compact) is null.
    fn length(&mut self, length: i64) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(DecodeError::Length { at: self.at, length }),
        }
    }

    fn skip(&mut self, length: usize) -> Result<Range<usize>, DecodeError> {
        let left = self.bytes.len() - self.at;
        if length > left {
            return Err(DecodeError::Truncated { at: self.at, needed: length - left });
        }
        self.at += length;
        Ok(self.at - length..self.at)
    }

    fn text(&mut self, flexible: bool) -> Result<Option<Range<usize>>, DecodeError> {
        let length = if flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i16()?) };
        match self.length(length)? {
            Some(length) if length > STRING_BYTES_MAX => {
                Err(DecodeError::Length { at: self.at, length: length as i64 })
            }
            Some(length) => self.skip(length).map(Some),
            None => Ok(None),
        }
    }

    fn records(&mut self, flexible: bool) -> Result<Option<Range<usize>>, DecodeError> {
        let length = if flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        match self.length(length)? {
            Some(length) => self.skip(length).map(Some),
            None => Ok(None),
        }
    }

    fn count(&mut self, flexible: bool, element_bytes_min: usize, memory_bytes: usize) -> Result<usize, DecodeError> {
        let count = if flexible { i64::from(self.uvarint()?) - 1 } else { i64::from(self.i32()?) };
        let count = self.length(count)?.ok_or(DecodeError::Null { at: self.at })?;
        if count > (self.bytes.len() - self.at) / element_bytes_min {
            return Err(DecodeError::Count { at: self.at, count });
        }
        let cost_bytes = count * memory_bytes;
        self.budget_bytes = self.budget_bytes.checked_sub(cost_bytes).ok_or(DecodeError::Memory { at: self.at })?;
        Ok(count)
    }

    fn skip_tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.uvarint()? {
            self.uvarint()?;
            let length = self.uvarint()?;
            self.skip(length as usize)?;
        }
        Ok(())
    }

    fn topics(&mut self, version: i16) -> Result<Vec<TopicLayout>, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let count = self.count(flexible, TOPIC_BYTES_MIN, TOPIC_MEMORY_BYTES)?;
        let mut topics = Vec::with_capacity(count);
        for _ in 0..count {
            let topic = if version >= TOPIC_ID_FROM {
                TopicRef::Id(Uuid(self.take()?))
            } else {
                let name = self.text(flexible)?.ok_or(DecodeError::Null { at: self.at })?;
                TopicRef::Name(str_of(&self.bytes[name.clone()], name.start)?)
            };
            let partition_count = self.count(flexible, PARTITION_BYTES_MIN, PARTITION_MEMORY_BYTES)?;
            let mut partitions = Vec::with_capacity(partition_count);
            for _ in 0..partition_count {
                let index = self.i32()?;
                partitions.push((index, self.records(flexible)?));
                if flexible {
                    self.skip_tags()?;
                }
            }
            if flexible {
                self.skip_tags()?;
            }
            topics.push(TopicLayout { topic, partitions });
        }
        if flexible {
            self.skip_tags()?;
        }
        Ok(topics)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::encode_request;
    use crate::messages::ProduceRequest;
    use crate::messages::produce::{PartitionProduceData, TopicProduceData};

    fn request(version: i16) -> ProduceRequest {
        let data = |index, records: Option<&'static [u8]>| PartitionProduceData {
            index,
            records: records.map(Bytes::from_static),
        };
        let topic = |name: &'static str, byte, partition_data| TopicProduceData {
            name: if version < TOPIC_ID_FROM { Str::from(name) } else { Str::default() },
            topic_id: if version < TOPIC_ID_FROM { Uuid::ZERO } else { Uuid([byte; 16]) },
            partition_data,
        };
        ProduceRequest {
            transactional_id: Some(Str::from("tx")),
            acks: -1,
            timeout_ms: 1500,
            topic_data: vec![
                topic("orders", 1, vec![data(0, Some(b"first")), data(7, None)]),
                topic("empty", 2, vec![]),
                topic("news", 3, vec![data(1, Some(b"")), data(2, Some(b"last"))]),
            ],
        }
    }

    fn frame(version: i16) -> BytesMut {
        let framed = encode_request(42, Some("client"), &request(version), version).expect("encodes");
        BytesMut::from(&framed[4..])
    }

    #[test]
    fn every_version_splits_into_what_the_generated_decoder_reads() {
        for version in 3..=13 {
            let view = ProduceView::decode(frame(version)).expect("decodes");
            let expected = request(version);
            assert_eq!(view.header.correlation_id, 42);
            assert_eq!(view.header.client_id.as_deref(), Some("client"));
            assert_eq!(view.transactional_id.as_deref(), Some("tx"));
            assert_eq!((view.acks, view.timeout_ms), (-1, 1500));
            assert_eq!(view.topics.len(), expected.topic_data.len());
            for (topic, expected) in view.topics.into_iter().zip(expected.topic_data) {
                match topic.topic {
                    TopicRef::Name(name) => assert_eq!(name, expected.name),
                    TopicRef::Id(id) => assert_eq!(id, expected.topic_id),
                }
                let partitions: Vec<_> =
                    topic.partitions.into_iter().map(|p| (p.index, p.records.map(BytesMut::freeze))).collect();
                let expected: Vec<_> = expected.partition_data.into_iter().map(|p| (p.index, p.records)).collect();
                assert_eq!(partitions, expected, "version {version}");
            }
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_an_error_and_never_a_panic() {
        for version in [3, 8, 9, 13] {
            let whole = frame(version);
            for end in 4..whole.len() {
                assert!(ProduceView::decode(BytesMut::from(&whole[..end])).is_err(), "version {version} cut at {end}");
            }
        }
    }

    #[test]
    fn counts_beyond_the_frame_allocate_nothing() {
        for version in [3i16, 9] {
            let mut bytes = BytesMut::from(&[0, 0, 0, version as u8, 0, 0, 0, 1, 0xff, 0xff][..]);
            if version >= FLEXIBLE_FROM {
                bytes.extend_from_slice(&[0, 0, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0x07]);
            } else {
                bytes.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]);
            }
            assert!(matches!(ProduceView::decode(bytes), Err(DecodeError::Count { .. })));
        }
    }
}
