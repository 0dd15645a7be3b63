//! A topic with a codec of its own (`compression.type` other than `producer`): what comes in another one is compressed anew.
//!
//! Only then are the records looked at, and must be what their batch says of them.

use capek_wire::batch::{BatchContent, BatchError, BatchHeader, Codec};
use capek_wire::error_code::ErrorCode;

use super::admit::{AdmitContext, check_size, invalid_record};
use crate::Refusal;
use crate::config::TopicConfig;

/// The batch as it shall be stored; `None`: as it came. `batch` has passed [`super::check_bytes`].
pub fn convert(
    header: &BatchHeader,
    batch: &[u8],
    inflated_bytes_max: usize,
    context: &AdmitContext<'_>,
) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(wanted) = context.config.compression_type.filter(|wanted| header.codec() != Ok(*wanted)) else {
        return Ok(None);
    };
    let content = BatchContent::open(batch, inflated_bytes_max).map_err(unreadable)?;
    check_offsets(&content)?;
    let converted = content.recompressed(wanted, level(wanted, context.config)).map_err(unreadable)?;
    check_size(converted.len(), context)?;
    Ok(Some(converted))
}

fn level(codec: Codec, config: &TopicConfig) -> Option<i32> {
    match codec {
        Codec::Gzip => Some(config.compression_gzip_level),
        Codec::Zstd => Some(config.compression_zstd_level),
        Codec::None | Codec::Snappy | Codec::Lz4 => None,
    }
}

fn check_offsets(content: &BatchContent<'_>) -> Result<(), Refusal> {
    for (expected, record) in (content.header().base_offset..).zip(content.views()) {
        let record = record.map_err(unreadable)?;
        if record.offset != expected {
            return Err(invalid_record(format!("a record has offset {} where {expected} is expected", record.offset)));
        }
    }
    Ok(())
}

fn unreadable(error: BatchError) -> Refusal {
    match error {
        BatchError::Codec(_) => invalid_record("the record batch names an unknown compression codec"),
        BatchError::Record { .. } | BatchError::Inflated(_) => invalid_record(error.to_string()),
        error => Refusal::new(ErrorCode::CorruptMessage, error.to_string()),
    }
}
