//! What only the records themselves can tell: missing keys in a compacted topic, and which record has the wrong time.
//!
//! Nobody pays for this but the producers that it concerns: keys are looked at in compacted topics alone, timestamps
//! only once the header of the batch was refused.

use std::fmt;

use bytes::Bytes;
use capek_wire::batch::{BatchError, records};

use super::admit::{AdmitContext, TimestampBounds, invalid_record, invalid_timestamp};
use crate::Refusal;
use crate::config::TimestampType;

/// What is wrong with one record of a batch, by its place from 0 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordError {
    pub batch_index: i32,
    pub message: String,
}

/// A batch refused because of some of its records.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecordsRefused {
    pub refusal: Refusal,
    /// Empty when the records could not be read at all.
    pub record_errors: Vec<RecordError>,
}

/// How many record errors the message for the whole batch shows, as Kafka's does.
const SHOWN_MAX: usize = 3;

/// Has every record a key? Asked for topics that are compacted. `partition` is written as in `orders-0`.
pub fn check_keys(batch: Bytes, inflated_bytes_max: usize, partition: &dyn fmt::Display) -> Result<(), RecordsRefused> {
    let record_errors = keyless(batch, inflated_bytes_max, partition)
        .map_err(|error| RecordsRefused { refusal: invalid_record(error.to_string()), record_errors: Vec::new() })?;
    if record_errors.is_empty() {
        return Ok(());
    }
    let show =
        |error: &RecordError| format!("RecordError(batchIndex={}, message='{}')", error.batch_index, error.message);
    let shown: Vec<String> = record_errors.iter().take(SHOWN_MAX).map(show).collect();
    let refusal = invalid_record(format!(
        "One or more records have been rejected due to {} record errors in total, and only showing the first three \
         errors at most: [{}]",
        record_errors.len(),
        shown.join(", ")
    ));
    Err(RecordsRefused { refusal, record_errors })
}

fn keyless(
    batch: Bytes,
    inflated_bytes_max: usize,
    partition: &dyn fmt::Display,
) -> Result<Vec<RecordError>, BatchError> {
    let mut record_errors = Vec::new();
    for (record, batch_index) in records(batch, inflated_bytes_max)?.zip(0..) {
        if record?.key.is_none() {
            let message = format!("Compacted topic cannot accept message without key in topic partition {partition}");
            record_errors.push(RecordError { batch_index, message });
        }
    }
    Ok(record_errors)
}

/// Are all records young enough? Their batch tells the largest timestamp only, so they are looked at where the topic says how
/// old a record may be.
pub fn check_timestamps(
    batch: Bytes,
    inflated_bytes_max: usize,
    context: &AdmitContext<'_>,
) -> Result<(), RecordsRefused> {
    let config = context.config;
    if config.timestamp_before_max_ms == i64::MAX || config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let record_errors = timestamp_errors(batch, inflated_bytes_max, context);
    if record_errors.is_empty() {
        return Ok(());
    }
    Err(RecordsRefused { refusal: invalid_timestamp(), record_errors })
}

/// Which records made the leader refuse a batch with INVALID_TIMESTAMP. Records that cannot be read are left out.
pub fn timestamp_errors(batch: Bytes, inflated_bytes_max: usize, context: &AdmitContext<'_>) -> Vec<RecordError> {
    let bounds = TimestampBounds::of(context);
    let mut record_errors = Vec::new();
    let Ok(records) = records(batch, inflated_bytes_max) else {
        return record_errors;
    };
    for (record, batch_index) in records.map_while(Result::ok).zip(0..) {
        if !bounds.allow(record.timestamp) {
            let message = format!(
                "Timestamp {} of message with offset {batch_index} is out of range. The timestamp should be within \
                 [{}, {}]",
                record.timestamp, bounds.oldest, bounds.newest
            );
            record_errors.push(RecordError { batch_index, message });
        }
    }
    record_errors
}
