//! The body of a stream's response: it takes the next frame only when the socket has room, control before data.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::{BufMut, Bytes, BytesMut};
use capek_actors::stream_events::{CONTROL_FRAMES_MAX, DATA_FRAMES_MAX, GOODBYE_FRAMES, Goodbye, Outgoing};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::super::doors::InFlight;

/// What stands around a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    WebSocket,
    /// The frames follow each other; there are no pings.
    Plain,
}

/// See the head of this file. When it is dropped the session notices, and ends.
pub struct StreamBody {
    control: Receiver<Outgoing>,
    data: Receiver<Outgoing>,
    framing: Framing,
    /// The frame whose header has gone out.
    payload: Option<Bytes>,
    is_closed: bool,
    _in_flight: InFlight,
}

/// Where a session puts its frames.
pub struct StreamSenders {
    pub control: Sender<Outgoing>,
    pub data: Sender<Outgoing>,
}

impl StreamBody {
    pub fn new(framing: Framing, in_flight: InFlight) -> (StreamBody, StreamSenders) {
        let (control_sender, control) = channel(CONTROL_FRAMES_MAX);
        let (data_sender, data) = channel(DATA_FRAMES_MAX + GOODBYE_FRAMES);
        let body = StreamBody { control, data, framing, payload: None, is_closed: false, _in_flight: in_flight };
        (body, StreamSenders { control: control_sender, data: data_sender })
    }

    /// The next bytes for the socket; None for what this framing has no form for.
    fn encode(&mut self, outgoing: Outgoing) -> Option<Bytes> {
        match (self.framing, outgoing) {
            (Framing::Plain, Outgoing::Text(frame) | Outgoing::Binary(frame)) => Some(frame),
            (Framing::Plain, Outgoing::Ping(_) | Outgoing::Pong(_)) => None,
            (_, Outgoing::Close(goodbye)) => {
                self.is_closed = true;
                (self.framing == Framing::WebSocket).then(|| close_frame(&goodbye))
            }
            (Framing::WebSocket, Outgoing::Text(frame)) => Some(self.with_header(TEXT, frame)),
            (Framing::WebSocket, Outgoing::Binary(frame)) => Some(self.with_header(BINARY, frame)),
            (Framing::WebSocket, Outgoing::Ping(payload)) => Some(self.with_header(PING, payload)),
            (Framing::WebSocket, Outgoing::Pong(payload)) => Some(self.with_header(PONG, payload)),
        }
    }

    /// The header goes out first.
    fn with_header(&mut self, opcode: u8, payload: Bytes) -> Bytes {
        let header = header(opcode, payload.len());
        self.payload = Some(payload);
        header
    }
}

impl MessageBody for StreamBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = self.get_mut();
        if let Some(payload) = this.payload.take().filter(|payload| !payload.is_empty()) {
            return Poll::Ready(Some(Ok(payload)));
        }
        while !this.is_closed {
            let outgoing = match this.control.poll_recv(task) {
                Poll::Ready(Some(outgoing)) => outgoing,
                Poll::Ready(None) | Poll::Pending => match this.data.poll_recv(task) {
                    Poll::Ready(Some(outgoing)) => outgoing,
                    // The session has gone, and has not said why.
                    Poll::Ready(None) => Outgoing::Close(FAILED),
                    Poll::Pending => return Poll::Pending,
                },
            };
            if let Some(bytes) = this.encode(outgoing) {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
        Poll::Ready(None)
    }
}

const FAILED: Goodbye = Goodbye { code: 1011, reason: "the session failed", reconnect_after_ms: None };

const FINAL: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// RFC 6455, 5.2: a whole message in one frame, unmasked as a server's are.
fn header(opcode: u8, length: usize) -> Bytes {
    let mut header = BytesMut::with_capacity(10);
    header.put_u8(FINAL | opcode);
    match length {
        0..=125 => header.put_u8(length as u8),
        126..=0xffff => {
            header.put_u8(126);
            header.put_u16(length as u16);
        }
        _ => {
            header.put_u8(127);
            header.put_u64(length as u64);
        }
    }
    header.freeze()
}

fn close_frame(goodbye: &Goodbye) -> Bytes {
    let mut frame = BytesMut::from(&header(CLOSE, 2 + goodbye.reason.len())[..]);
    frame.put_u16(goodbye.close_code());
    frame.put_slice(goodbye.reason.as_bytes());
    frame.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(body: &mut StreamBody) -> Option<Bytes> {
        let next = std::future::poll_fn(|task| Pin::new(&mut *body).poll_next(task)).await;
        next.map(|bytes| bytes.expect("it never fails"))
    }

    fn frame(text: &'static str) -> Outgoing {
        Outgoing::Text(Bytes::from_static(text.as_bytes()))
    }

    #[actix_rt::test]
    async fn control_goes_before_data_and_the_end_is_told() {
        let (mut body, senders) = StreamBody::new(Framing::WebSocket, InFlight::default());
        senders.data.try_send(frame("data")).unwrap();
        senders.control.try_send(Outgoing::Ping(Bytes::new())).unwrap();
        assert_eq!(next(&mut body).await.unwrap(), [0x89, 0][..]);
        assert_eq!(next(&mut body).await.unwrap(), [0x81, 4][..]);
        assert_eq!(next(&mut body).await.unwrap(), "data");
        let control = senders.control.clone();
        drop(senders);
        assert_eq!(next(&mut body).await.unwrap(), close_frame(&FAILED), "whoever still holds the other channel");
        assert_eq!(next(&mut body).await, None);
        drop(control);
    }

    #[actix_rt::test]
    async fn plain_frames_have_nothing_around_them() {
        let (mut body, senders) = StreamBody::new(Framing::Plain, InFlight::default());
        senders.control.try_send(Outgoing::Ping(Bytes::new())).unwrap();
        senders.data.try_send(frame("line")).unwrap();
        assert_eq!(next(&mut body).await.unwrap(), "line");
        senders.control.try_send(Outgoing::Close(FAILED)).unwrap();
        assert_eq!(next(&mut body).await, None);
    }

    #[test]
    fn frames_have_the_shortest_length_there_is() {
        assert_eq!(&header(TEXT, 5)[..], [0x81, 5]);
        assert_eq!(&header(BINARY, 5)[..], [0x82, 5]);
        assert_eq!(&header(TEXT, 126)[..], [0x81, 126, 0, 126]);
        assert_eq!(&header(TEXT, 65_536)[..], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        let goodbye = Goodbye { code: 1012, reason: "bye", reconnect_after_ms: None };
        assert_eq!(&close_frame(&goodbye)[..], [0x88, 5, 0x03, 0xf4, b'b', b'y', b'e']);
        assert_eq!(close_frame(&Goodbye::DRAIN)[2..4], 1012u16.to_be_bytes());
        assert_eq!(close_frame(&Goodbye::TOPIC_DELETED)[2..4], 4504u16.to_be_bytes());
    }
}
