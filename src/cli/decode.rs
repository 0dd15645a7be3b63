//! The records in what a fetch brought, one by one: checked, inflated, without markers of transactions.

use std::ops::ControlFlow;

use capek_wire::batch::{self, BatchError, BatchHeader, Record};

use super::{Exit, Failure};
use crate::client::Fetched;

/// What one batch of records may inflate to.
const INFLATED_BYTES_MAX: usize = 1 << 30;

/// Gives every record that was asked for to `each`, until it breaks.
pub fn for_each_record(
    fetched: &Fetched,
    mut each: impl FnMut(&BatchHeader, Record) -> Result<ControlFlow<()>, Failure>,
) -> Result<ControlFlow<()>, Failure> {
    let damaged =
        |error: BatchError| Failure::new(Exit::Usage, format!("{}-{}: {error}", fetched.topic, fetched.partition));
    for found in batch::batches(&fetched.records) {
        let (position, header) = found.map_err(damaged)?;
        // Markers of transactions are for clients, not for people.
        if header.is_control() {
            continue;
        }
        let bytes = fetched.records.slice(position..position + header.size_bytes());
        batch::check(&bytes).map_err(damaged)?;
        for record in batch::records(bytes, INFLATED_BYTES_MAX).map_err(damaged)? {
            let record = record.map_err(damaged)?;
            // A batch may begin before what was asked for.
            if record.offset >= fetched.fetch_offset && each(&header, record)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }
    Ok(ControlFlow::Continue(()))
}
