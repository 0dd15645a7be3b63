//! Records out: `GET …/instances/{instance}/records`, and `GET /topics/{topic}/partitions/{partition}/records` without any
//! consumer.
//!
//! A read returns as soon as there is enough (`fetch.min.bytes`, one byte unless said), or when its time is up.

use std::time::Duration;

use actix_web::{HttpRequest, HttpResponse, web};
use capek_actors::consumer_commands::{InstanceError, ReadInstance, ReadRecord};
use capek_actors::record_reader::{self, OffsetReset, ReadCursor, ReadLimits};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::super::doors::Doors;
use super::super::problem::RestError;
use super::super::query::QueryPairs;
use super::consumers::{READ_WITHIN_MS_MAX, ask, find, refused};
use super::formats::{Format, records_body};

/// What one read brings at most; as JSON it is half as much again.
const READ_BYTES_MAX: u64 = 16 << 20;
const STATELESS_READ_WITHIN: Duration = Duration::from_secs(1);

pub async fn of_instance(
    request: HttpRequest,
    path: web::Path<(String, String)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (group, instance) = path.into_inner();
    let found = find(&doors, group, instance).await?;
    let format = Format::of_name(found.settings.format)?.accepted_of(&request)?;
    let limits = limits(&request, found.settings.read_within, found.settings.min_bytes)?;
    let (reply, answer) = oneshot::channel();
    ask(&found, ReadInstance { limits, reply }).await?;
    let batch = answer.await.unwrap_or(Err(InstanceError::Gone)).map_err(refused)?;
    Ok(HttpResponse::Ok().content_type(format.media_type()).body(records_body(&batch.records, format)))
}

fn limits(request: &HttpRequest, within: Duration, min_bytes: u64) -> Result<ReadLimits, RestError> {
    let query = QueryPairs::of(request)?;
    let within = match query.number::<i64>("timeout")?.and_then(|ms| u64::try_from(ms).ok()) {
        Some(ms) => Duration::from_millis(ms.min(READ_WITHIN_MS_MAX)),
        None => within,
    };
    let max_bytes = query.number::<i64>("max_bytes")?.and_then(|bytes| u64::try_from(bytes).ok());
    let max_bytes = max_bytes.unwrap_or(READ_BYTES_MAX).clamp(1, READ_BYTES_MAX);
    Ok(ReadLimits { max_bytes, min_bytes: min_bytes.min(max_bytes), deadline: Instant::now() + within })
}

pub async fn of_partition(
    request: HttpRequest,
    path: web::Path<(String, i32)>,
    doors: web::Data<Doors>,
) -> Result<HttpResponse, RestError> {
    let (topic, partition) = path.into_inner();
    let format = Format::accepted(&request)?;
    let query = QueryPairs::of(&request)?;
    let limits = limits(&request, STATELESS_READ_WITHIN, 1)?;
    let image = doors.client.image();
    let known = image.topic_by_name(&topic).ok_or_else(RestError::topic_not_found)?;
    known.partition(partition).ok_or_else(RestError::partition_not_found)?;
    let source = doors.client.known_partition(&topic, partition).await.map_err(|code| RestError::kafka(code, None))?;
    let (log_start, end) = (source.log_start(), source.high_watermark());
    let next = query.number::<i64>("offset")?.unwrap_or(log_start);
    if !(log_start..=end).contains(&next) {
        let message = format!("offset {next} is not in the range [{log_start}..{end}] of {topic}-{partition}");
        return Err(RestError::new(40002, message));
    }
    let cursors = vec![ReadCursor { source, next }];
    let mut read = record_reader::read(&doors.client, cursors, 0, OffsetReset::None, limits).await;
    if let Some(code) = read.failed {
        return Err(refused(InstanceError::Kafka(code, None)));
    }
    let records = std::mem::take(&mut read.records).into_iter();
    let records: Vec<_> = records.map(|(_, record)| ReadRecord { place: (topic.clone(), partition), record }).collect();
    Ok(HttpResponse::Ok().content_type(format.media_type()).body(records_body(&records, format)))
}
