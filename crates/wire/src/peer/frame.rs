//! What stands around a peer's message.
//!
//! ```text
//!   size u32 | kind u8 | id u64 | head size u32 | head | body          size counts what follows it
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// How many bytes say how long a frame is.
pub const SIZE_BYTES: usize = 4;
/// Kind, id and the size of the head.
const FIXED_BYTES: usize = 1 + 8 + 4;
/// The longest frame that is read: a fetch of 16 MiB whose first batch is as large as a batch may be.
pub const FRAME_BYTES_MAX: usize = 128 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameKind {
    Request,
    Response,
    OneWay,
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: FrameKind,
    /// A response has that of its request.
    pub id: u64,
    pub head: Bytes,
    /// What the head describes, such as records.
    pub body: Bytes,
}

/// The connection cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("a frame of {size} bytes; at least {FIXED_BYTES} and at most {FRAME_BYTES_MAX} are read")]
    Size { size: usize },
    #[error("a frame of the unknown kind {kind}")]
    Kind { kind: u8 },
    #[error("a head of {size} bytes in a frame that has {room} left")]
    Head { size: usize, room: usize },
}

impl FrameKind {
    fn code(self) -> u8 {
        match self {
            FrameKind::Request => 0,
            FrameKind::Response => 1,
            FrameKind::OneWay => 2,
        }
    }

    fn from_code(kind: u8) -> Result<FrameKind, FrameError> {
        match kind {
            0 => Ok(FrameKind::Request),
            1 => Ok(FrameKind::Response),
            2 => Ok(FrameKind::OneWay),
            _ => Err(FrameError::Kind { kind }),
        }
    }
}

/// The part of a frame that stands before its body, which is sent behind it as it is.
pub fn encode_before_body(kind: FrameKind, id: u64, head: &[u8], body_bytes: usize) -> Bytes {
    let size = FIXED_BYTES + head.len() + body_bytes;
    let mut out = BytesMut::with_capacity(SIZE_BYTES + FIXED_BYTES + head.len());
    out.put_u32(u32::try_from(size).expect("frames are kept below their limit by those who fill them"));
    out.put_u8(kind.code());
    out.put_u64(id);
    out.put_u32(head.len() as u32); // shorter than the frame
    out.put_slice(head);
    out.freeze()
}

/// How long the frame at the front of the buffer is, with its size; None until that is known.
pub fn frame_bytes(buffer: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(size) = buffer.first_chunk::<SIZE_BYTES>() else { return Ok(None) };
    let size = u32::from_be_bytes(*size) as usize;
    if !(FIXED_BYTES..=FRAME_BYTES_MAX).contains(&size) {
        return Err(FrameError::Size { size });
    }
    Ok(Some(SIZE_BYTES + size))
}

/// Takes a whole frame off the front of the buffer; None while it is not all there.
pub fn take_frame(buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
    let taken = take_frame_mut(buffer)?;
    Ok(taken.map(|(kind, id, head, body)| Frame { kind, id, head, body: body.freeze() }))
}

/// The same with a body that may be changed in place, as an appended batch is.
pub fn take_frame_mut(buffer: &mut BytesMut) -> Result<Option<(FrameKind, u64, Bytes, BytesMut)>, FrameError> {
    let Some(whole) = frame_bytes(buffer)?.filter(|bytes| buffer.len() >= *bytes) else { return Ok(None) };
    let mut rest = buffer.split_to(whole);
    rest.advance(SIZE_BYTES);
    let kind = FrameKind::from_code(rest.get_u8())?;
    let id = rest.get_u64();
    let head_bytes = rest.get_u32() as usize;
    if head_bytes > rest.len() {
        return Err(FrameError::Head { size: head_bytes, room: rest.len() });
    }
    let head = rest.split_to(head_bytes).freeze();
    Ok(Some((kind, id, head, rest)))
}
