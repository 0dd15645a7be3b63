//! What was not read of a body that comes in chunks. Whatever its handler leaves, actix-http reads to the end to use the
//! connection again, and there may be no end. A body that is still held when its answer is sent makes it close the connection
//! instead: so what was not read is held a little longer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::HttpMessage as _;
use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::header;
use bytes::Bytes;
use futures_core::Stream;
use tokio::time::Instant;

/// Longer than it takes to send an error.
const HELD_FOR: Duration = Duration::from_secs(5);
/// A body that is held has a few chunks at most; of more than these the oldest go.
const HELD_MAX: usize = 1024;

thread_local! {
    static HELD: RefCell<VecDeque<(Instant, Payload)>> = const { RefCell::new(VecDeque::new()) };
}

/// For every request, before its handler has it.
pub fn hold_chunks(request: &mut ServiceRequest) {
    forget_old(HELD_MAX);
    if request.headers().contains_key(header::TRANSFER_ENCODING) {
        let body = ChunkedBody { inner: request.take_payload(), is_over: false };
        request.set_payload(Payload::Stream { payload: Box::pin(body) });
    }
}

fn forget_old(count_max: usize) {
    HELD.with_borrow_mut(|held| {
        while held.len() > count_max || held.front().is_some_and(|(since, _)| since.elapsed() > HELD_FOR) {
            held.pop_front();
        }
    });
}

struct ChunkedBody {
    inner: Payload,
    is_over: bool,
}

impl Stream for ChunkedBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.inner).poll_next(task);
        this.is_over |= matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

impl Drop for ChunkedBody {
    fn drop(&mut self) {
        if !self.is_over {
            let unread = std::mem::replace(&mut self.inner, Payload::None);
            // The thread may be ending, and its connections with it.
            let _ = HELD.try_with(|held| held.borrow_mut().push_back((Instant::now(), unread)));
        }
    }
}
