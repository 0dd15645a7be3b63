//! What the header of a batch must be like before its records may enter the log, in Kafka's order of checks.
//!
//! The checks need no record: the leader does not inflate what it stores. [`check_bytes`] adds what only the bytes can
//! tell, one whole batch and its checksum, at their places in that order; keys and timestamps of single records are in
//! `record_checks`.

use capek_wire::batch::{self, BatchError, BatchHeader, Codec};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::Offset;

use crate::Refusal;
use crate::config::{TimestampType, TopicConfig};

/// What admission depends on besides the batch and the partition.
#[derive(Clone, Copy, Debug)]
pub struct AdmitContext<'a> {
    pub now_ms: i64,
    pub config: &'a TopicConfig,
    /// What the producer waits for: -1 is every in-sync replica, and only then must there be enough of them.
    pub acks: i16,
    /// False for a Produce request below version 7, whose readers may not know zstd.
    pub accepts_zstd: bool,
}

/// The batch was taken, now or earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Admitted {
    /// Write it at `base_offset`; the log ends at `end_offset` from now on.
    Append { base_offset: Offset, end_offset: Offset },
    /// The producer sent it before and it is in the log (or on its way to the disk): write nothing, answer the same.
    Duplicate { base_offset: Offset, end_offset: Offset, log_append_time_ms: i64 },
}

/// Is this one whole batch whose checksum fits, and nothing wrong with what is looked at before the checksum? What it
/// answers is ready for [`super::Leader::admit`].
pub fn check_bytes(bytes: &[u8], context: &AdmitContext<'_>) -> Result<BatchHeader, Refusal> {
    let header = BatchHeader::parse(bytes).map_err(not_a_batch)?;
    if header.size_bytes() != bytes.len() {
        return Err(invalid_record("a produce request must carry exactly one whole batch for each partition"));
    }
    check_before_checksum(&header, context)?;
    batch::check(bytes).map_err(not_a_batch)
}

fn not_a_batch(error: BatchError) -> Refusal {
    match error {
        BatchError::Truncated { .. } | BatchError::Trailing(_) => invalid_record(error.to_string()),
        BatchError::Magic(magic) => unknown_magic(magic),
        error => Refusal::new(ErrorCode::CorruptMessage, error.to_string()),
    }
}

/// Versions 0 and 1 are formats that Kafka no longer takes; others never were.
fn unknown_magic(magic: i8) -> Refusal {
    match magic {
        0 | 1 => invalid_record(format!("record batches of magic {magic} are no longer taken, only of magic 2")),
        magic => Refusal::new(ErrorCode::CorruptMessage, format!("Invalid magic found in record: {magic}")),
    }
}

/// The checks that come before the checksum is computed: cheap, and a huge batch is refused for its size.
pub fn check_before_checksum(header: &BatchHeader, context: &AdmitContext<'_>) -> Result<(), Refusal> {
    if header.is_transactional() {
        // Final on purpose: a retriable error would keep a transactional client busy for a minute.
        return Err(Refusal::new(
            ErrorCode::TransactionalIdAuthorizationFailed,
            "transactions are not supported by this broker yet",
        ));
    }
    if header.magic != 2 {
        return Err(unknown_magic(header.magic));
    }
    if !context.accepts_zstd && header.codec().is_ok_and(|codec| codec == Codec::Zstd) {
        return Err(Refusal::new(
            ErrorCode::UnsupportedCompressionType,
            "produce requests below version 7 may not use zstd compression",
        ));
    }
    if header.base_offset != 0 {
        return Err(invalid_record(format!(
            "the base offset of a produced batch must be 0, not {}",
            header.base_offset
        )));
    }
    check_size(header.size_bytes(), context)
}

/// Is a batch of this size one that the topic takes?
pub(super) fn check_size(size_bytes: usize, context: &AdmitContext<'_>) -> Result<(), Refusal> {
    if size_bytes as i64 > i64::from(context.config.max_message_bytes) {
        return Err(Refusal::new(
            ErrorCode::MessageTooLarge,
            format!(
                "the record batch has {size_bytes} bytes, more than max.message.bytes allows ({})",
                context.config.max_message_bytes
            ),
        ));
    }
    Ok(())
}

/// The checks that come after the checksum was found right.
pub(super) fn check_after_checksum(header: &BatchHeader, context: &AdmitContext<'_>) -> Result<(), Refusal> {
    if header.codec().is_err() {
        return Err(invalid_record("the record batch names an unknown compression codec"));
    }
    if header.size_bytes() as i64 > i64::from(context.config.segment_bytes) {
        return Err(Refusal::new(
            ErrorCode::RecordListTooLarge,
            format!(
                "the record batch has {} bytes, more than one segment may hold ({})",
                header.size_bytes(),
                context.config.segment_bytes
            ),
        ));
    }
    check_counts(header)?;
    check_origin(header)?;
    check_timestamps(header, context)
}

fn check_counts(header: &BatchHeader) -> Result<(), Refusal> {
    // In i64: a last offset delta of i32::MAX is legal to write down and must not overflow here.
    let spanned_count = i64::from(header.last_offset_delta) + 1;
    if spanned_count <= 0 || header.record_count <= 0 || spanned_count != i64::from(header.record_count) {
        return Err(invalid_record(format!(
            "the record batch counts {} records but its last offset delta is {}",
            header.record_count, header.last_offset_delta
        )));
    }
    Ok(())
}

fn check_origin(header: &BatchHeader) -> Result<(), Refusal> {
    if header.is_control() {
        return Err(invalid_record("clients may not write control batches"));
    }
    if header.producer_id >= 0 && header.base_sequence < 0 {
        return Err(invalid_record(format!(
            "base sequence {} in a record batch with producer id {}",
            header.base_sequence, header.producer_id
        )));
    }
    Ok(())
}

fn check_timestamps(header: &BatchHeader, context: &AdmitContext<'_>) -> Result<(), Refusal> {
    let config = context.config;
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let bounds = TimestampBounds::of(context);
    if !bounds.allow(header.base_timestamp) || !bounds.allow(header.max_timestamp) {
        return Err(invalid_timestamp());
    }
    Ok(())
}

pub(super) fn invalid_timestamp() -> Refusal {
    Refusal::new(ErrorCode::InvalidTimestamp, "One or more records have been rejected due to invalid timestamp")
}

/// How far the clock of a producer may be from ours; both ends are inside.
#[derive(Clone, Copy)]
pub(super) struct TimestampBounds {
    pub(super) oldest: i64,
    pub(super) newest: i64,
}

impl TimestampBounds {
    pub(super) fn of(context: &AdmitContext<'_>) -> TimestampBounds {
        TimestampBounds {
            oldest: context.now_ms.saturating_sub(context.config.timestamp_before_max_ms),
            newest: context.now_ms.saturating_add(context.config.timestamp_after_max_ms),
        }
    }

    /// -1 means that the producer set none; Kafka does not judge that.
    pub(super) fn allow(self, timestamp_ms: i64) -> bool {
        timestamp_ms == -1 || (self.oldest..=self.newest).contains(&timestamp_ms)
    }
}

pub(super) fn invalid_record(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::InvalidRecord, message)
}
