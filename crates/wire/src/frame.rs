//! What stands around a message: size, header, body.
//!
//! ```text
//! request:  size i32 | api_key i16 | api_version i16 | correlation_id i32 | client_id nullable i16-string | [tags] | body
//! response: size i32 | correlation_id i32 | [tags] | body
//! ```
//!
//! The tags are there in flexible versions only, and never in an ApiVersions response; the client id is never compact.

use bytes::Bytes;

use crate::{ApiKey, DecodeError, EncodeError, Message, Reader, Request, Str, Writer};

/// How many bytes say how long a frame is.
pub const SIZE_BYTES: usize = 4;

/// Room for the small parts of a usual message, so that the first values do not reallocate.
const BODY_BYTES_USUAL: usize = 256;

/// What stands before every request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// See [`ApiKey`].
    pub api_key: i16,
    /// Version of request and response.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// What the client calls itself; shares the frame.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads it from a frame without its size; the body is what remains. A version that we lack is read too, since
    /// ApiVersions answers it; an unknown key is an error, since nobody knows what its header looks like.
    pub fn decode(r: &mut Reader) -> Result<RequestHeader, DecodeError> {
        let api_key = r.get_i16()?;
        let api_version = r.get_i16()?;
        let known = ApiKey::from_code(api_key).ok_or(DecodeError::ApiKey(api_key))?;
        let correlation_id = r.get_i32()?;
        let client_id = r.get_nullable_str(false)?;
        if known.request_header_version(api_version) >= 2 {
            r.get_tags(|_, _| Ok(false))?;
        }
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }

    /// Appends it.
    pub fn encode(&self, w: &mut Writer) -> Result<(), EncodeError> {
        w.put_i16(self.api_key);
        w.put_i16(self.api_version);
        w.put_i32(self.correlation_id);
        w.put_nullable_str(self.client_id.as_ref(), false)?;
        let known = ApiKey::from_code(self.api_key);
        if known.is_some_and(|known| known.request_header_version(self.api_version) >= 2) {
            w.put_uvarint(0);
        }
        Ok(())
    }
}

/// A request as a frame with its size.
pub fn encode_request<R: Request>(
    correlation_id: i32,
    client_id: Option<&str>,
    request: &R,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut w = Writer::with_capacity(BODY_BYTES_USUAL);
    w.put_i32(0);
    let client_id = client_id.map(Str::from);
    RequestHeader { api_key: R::KEY.code(), api_version: version, correlation_id, client_id }.encode(&mut w)?;
    request.encode(&mut w, version)?;
    w.set_size_prefix()?;
    Ok(w.into_bytes())
}

/// A response as a frame with its size, in chunks: large records are not copied.
pub fn encode_response<M: Message>(
    api_key: i16,
    version: i16,
    correlation_id: i32,
    response: &M,
) -> Result<Vec<Bytes>, EncodeError> {
    let mut w = Writer::with_capacity(BODY_BYTES_USUAL);
    w.put_i32(0);
    w.put_i32(correlation_id);
    let known = ApiKey::from_code(api_key);
    if known.is_some_and(|known| known.response_header_version(version) >= 1) {
        w.put_uvarint(0);
    }
    response.encode(&mut w, version)?;
    w.set_size_prefix()?;
    Ok(w.into_chunks())
}

/// The correlation id and the response in a frame without its size. We chose the broker that sent it, so that its lists
/// may be as long as its frame.
pub fn decode_response<R: Request>(frame: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    const BUDGET_FACTOR: usize = 64;
    let budget_bytes = frame.len().saturating_mul(BUDGET_FACTOR);
    let mut r = Reader::with_budget(frame, budget_bytes);
    let correlation_id = r.get_i32()?;
    if R::KEY.response_header_version(version) >= 1 {
        r.get_tags(|_, _| Ok(false))?;
    }
    let response = R::Response::decode(&mut r, version)?;
    r.finish()?;
    Ok((correlation_id, response))
}
