//! HTTP itself: requests by door, method and class of status, how long they took, and the streams that are open.
//!
//! A stream's request takes as long as its client stays, so it is counted and not timed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{Method, StatusCode, header};
use bytes::Bytes;
use capek_actors::histogram::Histogram;

use super::super::door::Door;
use super::broker::write_histogram;
use super::exposition::{Exposition, Kind, Labels, Vocabulary};

const METHODS: [&str; 6] = ["GET", "POST", "PUT", "DELETE", "PATCH", "other"];
const STATUSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// See the head of this file.
#[derive(Default)]
pub struct HttpMetrics {
    requests: [[[AtomicU64; STATUSES.len()]; METHODS.len()]; Door::NAMES.len()],
    took: [Histogram; Door::NAMES.len()],
    web_sockets: Arc<AtomicU64>,
    event_streams: Arc<AtomicU64>,
    /// How often a stream stood still for want of its client's credit.
    pub credit_stalls: Arc<AtomicU64>,
    /// Carried here by other brokers, and not answered yet.
    carried: Arc<AtomicU64>,
}

/// A request that is being answered.
pub struct Asked {
    door: usize,
    method: usize,
    at: Instant,
}

impl Asked {
    pub fn of(request: &ServiceRequest) -> Asked {
        let method = match *request.method() {
            Method::GET => "GET",
            Method::POST => "POST",
            Method::PUT => "PUT",
            Method::DELETE => "DELETE",
            Method::PATCH => "PATCH",
            _ => "other",
        };
        Asked { door: Door::of(request.path()) as usize, method: place(&METHODS, method), at: Instant::now() }
    }
}

/// The last stands for all others.
fn place(names: &[&str], name: &str) -> usize {
    names.iter().position(|known| *known == name).unwrap_or(names.len() - 1)
}

impl HttpMetrics {
    /// An answer is on its way; a stream is counted until it ends.
    pub fn answered(&self, asked: &Asked, response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
        self.count(asked, response.status());
        let streams = if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            &self.web_sockets
        } else if is_stream(&response) {
            &self.event_streams
        } else {
            self.took[asked.door].record(asked.at.elapsed());
            return response;
        };
        let open = Open::begin(streams.clone());
        response.map_body(|_, body| BoxBody::new(Counted { body, _open: open }))
    }

    pub fn failed(&self, asked: &Asked, status: StatusCode) {
        self.count(asked, status);
        self.took[asked.door].record(asked.at.elapsed());
    }

    /// Its client went before there was an answer: as nginx counts it, among what clients do wrong.
    pub fn hung_up(&self, asked: &Asked) {
        self.count(asked, StatusCode::REQUEST_TIMEOUT);
    }

    /// Another broker has carried a request here; it counts until this is dropped.
    pub fn begin_carried(&self) -> Open {
        Open::begin(self.carried.clone())
    }

    fn count(&self, asked: &Asked, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, STATUSES.len()) - 1;
        self.requests[asked.door][asked.method][class].fetch_add(1, Ordering::Relaxed);
    }

    pub fn write(&self, out: &mut Exposition) {
        let help = "HTTP requests that were answered.";
        let mut family = out.family(Vocabulary::Own, "capek_http_requests_total", Kind::Counter, help);
        for (door, by_method) in Door::NAMES.iter().zip(&self.requests) {
            for (method, by_status) in METHODS.iter().zip(by_method) {
                for (status, count) in STATUSES.iter().zip(by_status) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        let labels = Labels::of(&[("door", door), ("method", method), ("status", status)]);
                        family.sample(&labels, count);
                    }
                }
            }
        }
        let help = "How long HTTP requests took until their answer began; streams are left out.";
        let mut family = out.family(Vocabulary::Own, "capek_http_request_duration_seconds", Kind::Histogram, help);
        for (door, took) in Door::NAMES.iter().zip(&self.took).filter(|(_, took)| !took.is_empty()) {
            write_histogram(&mut family, &Labels::of(&[("door", door)]), took);
        }
        let open = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let help = "WebSockets that are open.";
        out.one(Vocabulary::Own, "capek_ws_connections", Kind::Gauge, help, open(&self.web_sockets));
        let help = "How often the credit of a WebSocket's subscription was used up, so that it waited for its client.";
        let name = "capek_ws_credit_stalls_total";
        out.one(Vocabulary::Own, name, Kind::Counter, help, open(&self.credit_stalls));
        let help = "Requests that another broker carried here for its client, and that are being answered.";
        out.one(Vocabulary::Own, "capek_http_carried_requests", Kind::Gauge, help, open(&self.carried));
        let help = "Streams of Server-Sent Events that are open.";
        out.one(Vocabulary::Own, "capek_sse_connections", Kind::Gauge, help, open(&self.event_streams));
    }
}

fn is_stream(response: &ServiceResponse<BoxBody>) -> bool {
    let content_type = response.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|content_type| content_type.as_bytes().starts_with(b"text/event-stream"))
}

/// Counts as open until it is dropped.
pub struct Open(Arc<AtomicU64>);

impl Open {
    fn begin(count: Arc<AtomicU64>) -> Open {
        count.fetch_add(1, Ordering::Relaxed);
        Open(count)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of a stream.
struct Counted {
    body: BoxBody,
    _open: Open,
}

impl MessageBody for Counted {
    type Error = Box<dyn std::error::Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
