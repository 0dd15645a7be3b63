//! A request's body: bounded in bytes, paid for while it is held, and due within a time that grows with what has come.

use std::pin::Pin;
use std::time::Duration;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, web};
use bytes::{Bytes, BytesMut};
use capek_actors::budget::{BudgetPermit, MemoryBudget};
use futures_core::Stream;
use tokio::time::Instant;

use super::problem::Problem;

/// For records: a batch as large as Kafka's clients send, and then some.
pub const RECORDS_BYTES_MAX: usize = 16 << 20;
/// For what is a few words of JSON.
pub const SMALL_BYTES_MAX: usize = 64 << 10;

/// A body without a single byte is cut after this.
const DUE_WITHIN: Duration = Duration::from_secs(30);
/// Whoever sends slower than this holds memory for too long.
const BYTES_PER_SECOND_MIN: usize = 32 << 10;
/// What is paid for at a time when the length is not told.
const STEP_BYTES: usize = 256 << 10;

/// A whole body; its memory is paid for until this is dropped.
pub struct Body {
    pub bytes: Bytes,
    _permits: Vec<BudgetPermit>,
}

/// Reads all of it.
pub async fn read(
    request: &HttpRequest,
    mut payload: web::Payload,
    bytes_max: usize,
    budget: &MemoryBudget,
) -> Result<Body, Problem> {
    check_encoding(request)?;
    let started = Instant::now();
    let mut reader = Reader { budget, permits: Vec::new(), paid_bytes: 0, bytes: BytesMut::new() };
    if let Some(length) = content_length(request)? {
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        within(started + DUE_WITHIN, reader.pay(length)).await?;
        reader.bytes.reserve(length);
    }
    loop {
        let seconds = (reader.bytes.len() / BYTES_PER_SECOND_MIN) as u64;
        let deadline = started + DUE_WITHIN + Duration::from_secs(seconds);
        let next = std::future::poll_fn(|task| Pin::new(&mut payload).poll_next(task));
        let Some(chunk) = within(deadline, next).await? else { break };
        let chunk = chunk.map_err(|error| Problem::bad_request(format!("the body cannot be read: {error}")))?;
        let length = reader.bytes.len() + chunk.len();
        if length > bytes_max {
            return Err(too_large(bytes_max));
        }
        within(deadline, reader.pay(length)).await?;
        reader.bytes.extend_from_slice(&chunk);
    }
    Ok(Body { bytes: reader.bytes.freeze(), _permits: reader.permits })
}

struct Reader<'a> {
    budget: &'a MemoryBudget,
    permits: Vec<BudgetPermit>,
    paid_bytes: usize,
    bytes: BytesMut,
}

impl Reader<'_> {
    /// Pays for a body of `length` bytes as far as that is not done.
    async fn pay(&mut self, length: usize) {
        if length > self.paid_bytes {
            let step = (length - self.paid_bytes).max(if self.paid_bytes == 0 { 0 } else { STEP_BYTES });
            self.permits.push(self.budget.acquire(step).await);
            self.paid_bytes += step;
        }
    }
}

async fn within<T>(deadline: Instant, future: impl Future<Output = T>) -> Result<T, Problem> {
    let late = |_| Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time");
    tokio::time::timeout_at(deadline, future).await.map_err(late)
}

fn content_length(request: &HttpRequest) -> Result<Option<usize>, Problem> {
    let Some(value) = request.headers().get(header::CONTENT_LENGTH) else { return Ok(None) };
    let length = value.to_str().ok().and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Problem::bad_request("Content-Length is not a number"))
}

/// What is compressed would be stored as it is, and nobody could read it.
fn check_encoding(request: &HttpRequest) -> Result<(), Problem> {
    let Some(encoding) = request.headers().get(header::CONTENT_ENCODING) else { return Ok(()) };
    if encoding.as_bytes().eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "compressed bodies are not understood yet: send it as it is"))
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body is larger than {bytes_max} bytes"))
}
