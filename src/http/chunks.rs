//! The body of a response that is written while it is sent.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, MessageBody};
use bytes::Bytes;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::doors::InFlight;

/// Ends when its sender is dropped.
pub struct Chunks {
    receiver: Receiver<Bytes>,
    _in_flight: InFlight,
}

impl Chunks {
    /// One chunk waits for the socket; whoever makes more waits with it.
    pub fn new(in_flight: InFlight) -> (Sender<Bytes>, Chunks) {
        let (sender, receiver) = channel(1);
        (sender, Chunks { receiver, _in_flight: in_flight })
    }
}

impl MessageBody for Chunks {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        self.get_mut().receiver.poll_recv(task).map(|chunk| chunk.map(Ok))
    }
}
