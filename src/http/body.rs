//! A request's body: bounded in bytes, paid for while it is held, due within a time that grows with what has come, and
//! inflated when it is compressed (`gzip`, `zstd`), with the same bound for what comes out.

use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use capek_actors::budget::{BudgetPermit, MemoryBudget};
use capek_wire::batch::{BatchError, Codec, decompress};
use futures_core::Stream;
use tokio::time::Instant;

use super::problem::Problem;

/// What holds for all bodies.
pub struct Bodies {
    /// Their batches are paid for again, from the broker's own budget, when they are appended: were both one budget, bodies
    /// could hold all of it while they wait for their batches.
    pub budget: MemoryBudget,
    /// `capek.http.body.bytes.max`: for records.
    pub records_bytes_max: usize,
    /// `capek.http.body.timeout.ms`: a body without a single byte, and what was begun in a stream, is cut after this.
    pub due_within: Duration,
}

/// What a route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    Records,
    /// A few words of JSON.
    Small,
}

const SMALL_BYTES_MAX: usize = 64 << 10;
/// Whoever sends slower than this holds memory for too long.
const BYTES_PER_SECOND_MIN: usize = 32 << 10;
/// What is paid for at a time when the length is not told.
const STEP_BYTES: usize = 256 << 10;

impl Bodies {
    /// When all of something that began then, and of which so much has come, is due.
    pub fn due(&self, began: Instant, bytes: usize) -> Instant {
        began + self.due_within + Duration::from_secs((bytes / BYTES_PER_SECOND_MIN) as u64)
    }

    pub fn bytes_max(&self, size: Size) -> usize {
        match size {
            Size::Records => self.records_bytes_max,
            Size::Small => SMALL_BYTES_MAX.min(self.records_bytes_max),
        }
    }
}

/// A whole body; its memory is paid for until this is dropped.
pub struct Body {
    pub bytes: Bytes,
    _permits: Vec<BudgetPermit>,
}

#[cfg(test)]
impl Body {
    /// That nobody pays for.
    pub fn free(bytes: Bytes) -> Body {
        Body { bytes, _permits: Vec::new() }
    }
}

/// Reads all of it.
pub async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    size: Size,
    bodies: &Bodies,
) -> Result<Body, Problem> {
    let encoding = encoding(request)?;
    let bytes_max = bodies.bytes_max(size);
    let started = Instant::now();
    let (mut paid, mut bytes) = (Paid::default(), BytesMut::new());
    if let Some(length) = content_length(request)? {
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        within(bodies.due(started, 0), paid.pay(&bodies.budget, length)).await?;
        bytes.reserve(length);
    }
    loop {
        let deadline = bodies.due(started, bytes.len());
        let next = std::future::poll_fn(|task| Pin::new(&mut payload).poll_next(task));
        let Some(chunk) = within(deadline, next).await? else { break };
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        let length = bytes.len() + chunk.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        within(deadline, paid.pay(&bodies.budget, length)).await?;
        bytes.extend_from_slice(&chunk);
    }
    let body = Body { bytes: bytes.freeze(), _permits: paid.permits };
    match encoding {
        Codec::None => Ok(body),
        codec => inflate(body, codec, bytes_max, bodies).await,
    }
}

/// What it may become is paid for while it is open; what it was is given back.
async fn inflate(body: Body, codec: Codec, bytes_max: usize, bodies: &Bodies) -> Result<Body, Problem> {
    let compressed = body.bytes;
    drop(body._permits); // or two bodies could wait for what the other holds
    let permit = within(Instant::now() + bodies.due_within, bodies.budget.acquire(bytes_max)).await?;
    // Megabytes would hold up everybody on this arbiter.
    let inflated = tokio::task::spawn_blocking(move || decompress(codec, &compressed, bytes_max)).await;
    match inflated {
        Ok(Ok(bytes)) => Ok(Body { bytes: bytes.into(), _permits: vec![permit] }),
        Ok(Err(BatchError::Inflated(_))) => Err(too_large(bytes_max)),
        Ok(Err(error)) => Err(Problem::bad_request(format!("the body cannot be inflated: {error}"))),
        Err(_) => Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "inflating the body failed")),
    }
}

/// What has been paid for something that grows.
#[derive(Default)]
pub struct Paid {
    permits: Vec<BudgetPermit>,
    bytes: usize,
}

impl Paid {
    /// Pays for so many bytes in all, as far as that is not done.
    pub async fn pay(&mut self, budget: &MemoryBudget, bytes: usize) {
        if bytes > self.bytes {
            let step = (bytes - self.bytes).max(if self.bytes == 0 { 0 } else { STEP_BYTES });
            self.permits.push(budget.acquire(step).await);
            self.bytes += step;
        }
    }
}

async fn within<T>(deadline: Instant, future: impl Future<Output = T>) -> Result<T, Problem> {
    let mut future = std::pin::pin!(future);
    // Most bodies are there already, and a timer costs more than reading them.
    let polled = std::future::poll_fn(|task| Poll::Ready(future.as_mut().poll(task))).await;
    if let Poll::Ready(done) = polled {
        return Ok(done);
    }
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    tokio::time::timeout_at(deadline, future).await.map_err(late)
}

fn content_length(request: &HttpRequest) -> Result<Option<usize>, Problem> {
    let Some(value) = request.headers().get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("Content-Length is not a number"))
}

/// `Content-Encoding`; what is not understood would be stored as it is, and nobody could read it.
pub fn encoding(request: &HttpRequest) -> Result<Codec, Problem> {
    let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) else { return Ok(Codec::None) };
    let encoding = encoding.to_str().unwrap_or("").trim().to_ascii_lowercase();
    match encoding.as_str() {
        "" | "identity" => Ok(Codec::None),
        "gzip" | "x-gzip" => Ok(Codec::Gzip),
        "zstd" => Ok(Codec::Zstd),
        _ => {
            let detail = format!("Content-Encoding: {encoding} is not understood: gzip and zstd are");
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
        }
    }
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {bytes_max} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix_rt::test]
    async fn what_grows_is_paid_for_in_steps_and_given_back_at_once() {
        let budget = MemoryBudget::new(1 << 30);
        let mut paid = Paid::default();
        for (bytes, expected) in [
            (70_016, 70_016),
            (60_032, 70_016),
            (70_080, 70_016 + STEP_BYTES),
            (70_016 + STEP_BYTES, 70_016 + STEP_BYTES),
            (1 << 20, 1 << 20),
        ] {
            paid.pay(&budget, bytes).await;
            assert_eq!(budget.used_bytes(), expected, "for {bytes}");
        }
        drop(paid);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[actix_rt::test]
    async fn more_time_is_given_to_what_has_come() {
        let budget = MemoryBudget::new(1);
        let bodies = Bodies { budget, records_bytes_max: 1, due_within: Duration::from_secs(30) };
        let began = Instant::now();
        for (bytes, seconds) in [(0, 30), (32_767, 30), (32_768, 31), (1 << 20, 62)] {
            assert_eq!(bodies.due(began, bytes) - began, Duration::from_secs(seconds), "{bytes}");
        }
    }
}
