//! What is done with hostile bytes, and valid ones to begin from.

use bytes::{Bytes, BytesMut};

use super::{Sampler, encoded};
use crate::batch::{self, BatchBuilder, BatchError, Codec};
use crate::messages::{ApiVisitor, visit_apis};
use crate::produce_view::ProduceView;
use crate::{ApiKey, DecodeError, Message, Reader, Request, RequestHeader, frame};

const CODECS: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

/// Reads a request frame (without its size) of any API and version. What can be read can be written, and reads the same.
pub fn request_frame(bytes: Bytes) -> Result<(), DecodeError> {
    let mut r = Reader::new(bytes);
    let header = RequestHeader::decode(&mut r)?;
    let mut visitor = Body { header: &header, is_request: true, r, outcome: Ok(()) };
    visit_apis(&mut visitor);
    visitor.outcome
}

/// Reads a response body of any API and version, as [`request_frame`] does.
pub fn response_body(api_key: i16, api_version: i16, bytes: Bytes) -> Result<(), DecodeError> {
    let header = RequestHeader { api_key, api_version, ..RequestHeader::default() };
    let mut visitor = Body { header: &header, is_request: false, r: Reader::new(bytes), outcome: Ok(()) };
    visit_apis(&mut visitor);
    visitor.outcome
}

/// Looks for the API that the header names.
struct Body<'a> {
    header: &'a RequestHeader,
    is_request: bool,
    r: Reader,
    outcome: Result<(), DecodeError>,
}

impl ApiVisitor for Body<'_> {
    fn visit<R: Request>(&mut self) {
        if R::KEY.code() != self.header.api_key {
            return;
        }
        let version = self.header.api_version;
        self.outcome = match self.is_request {
            true => there_and_back::<R>(&mut self.r, version),
            false => there_and_back::<R::Response>(&mut self.r, version),
        };
    }
}

/// Bytes are compared, not messages: a NaN does not equal itself.
fn there_and_back<M: Message>(r: &mut Reader, version: i16) -> Result<(), DecodeError> {
    let message = M::decode(r, version)?;
    let written = encoded(&message, version);
    let mut again = Reader::with_budget(written.clone(), usize::MAX);
    let read = M::decode(&mut again, version).unwrap_or_else(|error| panic!("version {version}: {error}: {message:?}"));
    assert_eq!(again.remaining(), 0, "version {version}: {message:?}");
    assert_eq!(encoded(&read, version), written, "version {version}: {message:?}");
    Ok(())
}

/// Splits a Produce frame, if it is one; the generated decoder must agree on whether it is sound.
pub fn produce_frame(bytes: &[u8]) {
    let mut r = Reader::new(Bytes::copy_from_slice(bytes));
    let Ok(header) = RequestHeader::decode(&mut r) else { return };
    if header.api_key != ApiKey::Produce.code() || !ApiKey::Produce.has_version(header.api_version) {
        return;
    }
    let is_sound = crate::messages::ProduceRequest::decode(&mut r, header.api_version).is_ok();
    let view = ProduceView::decode(BytesMut::from(bytes));
    if let (true, Err(error)) = (is_sound, view) {
        // Both have a budget, and they count differently.
        assert!(matches!(error, DecodeError::Memory { .. }), "the view refuses what the decoder reads: {error}");
    }
}

/// Reads everything as record batches: headers, checks, and every record, inflated or not.
pub fn record_batches(bytes: &[u8], inflated_bytes_max: usize) {
    for found in batch::batches(bytes) {
        let Ok((position, header)) = found else { break };
        let one = &bytes[position..position + header.size_bytes()];
        let _is_whole = batch::check(one);
        let _numbers = (header.last_offset(), header.next_offset(), header.last_sequence(), header.codec());
        let Ok(records) = batch::records(Bytes::copy_from_slice(one), inflated_bytes_max) else { continue };
        let read = records.take_while(Result::is_ok).count();
        assert!(read <= header.record_count.max(0) as usize);
    }
}

/// Inflates with every codec.
pub fn compressed(bytes: &[u8], inflated_bytes_max: usize) {
    for codec in CODECS {
        match batch::decompress(codec, bytes, inflated_bytes_max) {
            Ok(inflated) => assert!(inflated.len() <= inflated_bytes_max),
            Err(BatchError::Inflated(limit)) => assert_eq!(limit, inflated_bytes_max),
            Err(BatchError::Compressed { .. }) => {}
            Err(other) => panic!("{codec}: {other}"),
        }
    }
}

/// A sound request frame (without its size), and the body of a sound response to it.
pub fn sample_frame(s: &mut Sampler) -> (Bytes, Bytes) {
    let keys: Vec<ApiKey> = ApiKey::all().collect();
    let key = keys[s.below(keys.len() as u64) as usize];
    let (low, high) = key.versions();
    let version = low + s.below((high - low + 1) as u64) as i16;
    let mut visitor = Sample { key, version, s, out: (Bytes::new(), Bytes::new()) };
    visit_apis(&mut visitor);
    visitor.out
}

struct Sample<'a> {
    key: ApiKey,
    version: i16,
    s: &'a mut Sampler,
    out: (Bytes, Bytes),
}

impl ApiVisitor for Sample<'_> {
    fn visit<R: Request>(&mut self) {
        if R::KEY != self.key {
            return;
        }
        let request = R::sample(self.s, self.version);
        let framed = frame::encode_request(self.s.i32(), Some("client"), &request, self.version);
        let framed = framed.expect("a sample can be written");
        let response = R::Response::sample(self.s, self.version);
        self.out = (framed.slice(frame::SIZE_BYTES..), encoded(&response, self.version));
    }
}

/// One to three sound batches with any codec.
pub fn sample_batch(s: &mut Sampler) -> Vec<u8> {
    let mut out = Vec::new();
    for _ in 0..=s.below(3) {
        let mut builder = BatchBuilder::new(CODECS[s.below(5) as usize]);
        for _ in 0..=s.below(20) {
            let (key, value, name) = (s.bytes(), s.bytes(), s.str());
            let key = s.nullable(true, |_| &key[..]);
            let value = s.nullable(true, |_| &value[..]);
            let headers = vec![(name.as_bytes(), value); s.below(4) as usize];
            builder.push(s.i64(), key, value, &headers);
        }
        if s.bool() {
            builder.producer(s.i64(), s.i16(), s.i32());
        }
        out.extend_from_slice(&builder.build().expect("a batch with a record can be built"));
    }
    out
}
