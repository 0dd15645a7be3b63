//! Where a stream begins in a partition: a word for it, an offset that a client brings back, or what its group has committed.

use capek_wire::codec::Str;
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{LeaderEpoch, Offset, TopicId};
use capek_wire::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use capek_wire::messages::offset_for_leader_epoch::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use capek_wire::messages::{ListOffsetsRequest, OffsetForLeaderEpochRequest};

use crate::local::LocalClient;
use crate::local_requests::{Caller, Destination};
use crate::partition_source::PartitionSource;
use crate::stream_cursors::{Cursor, GapReason};
use crate::stream_events::{Position, StreamEvent, StreamPlace};

/// What a stream reads: see [`LocalClient::partition`].
pub type Source = PartitionSource;

/// The place in each partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    Earliest,
    /// Only what comes after now.
    Latest,
    /// This many before the end.
    BeforeLatest(i64),
    /// This many after the first that there is.
    AfterEarliest(i64),
    Offset(i64),
    /// The first record at or after this time, in milliseconds since 1970.
    Time(i64),
}

const EPOCH_VERSION: i16 = 4;
const OFFSETS_VERSION: i16 = 7;

/// The partition, if it is there.
pub fn find(client: &LocalClient, place: &StreamPlace) -> Result<Source, ErrorCode> {
    client.partition(&place.topic, place.partition)
}

/// The partition as its leader knows it now. Waits a while for a leader.
pub async fn known(client: &LocalClient, place: &StreamPlace) -> Result<Source, ErrorCode> {
    client.known_partition(&place.topic, place.partition).await
}

/// An offset that is not in the log is left as it is: the session tells of the gap.
pub async fn offset_of(
    client: &LocalClient,
    caller: &Caller,
    place: &StreamPlace,
    source: &Source,
    start: StartAt,
) -> Result<Offset, ErrorCode> {
    let (log_start, end) = (source.log_start(), source.high_watermark());
    Ok(match start {
        StartAt::Earliest => log_start,
        StartAt::Latest => end,
        StartAt::BeforeLatest(count) => end.saturating_sub(count).max(log_start),
        StartAt::AfterEarliest(count) => log_start.saturating_add(count).min(end),
        StartAt::Offset(offset) => offset,
        StartAt::Time(time_ms) => offset_of_time(client, caller, place, time_ms).await?.unwrap_or(end),
    })
}

/// Begins in a partition where `start` says.
pub async fn begin(
    client: &LocalClient,
    caller: &Caller,
    place: StreamPlace,
    topic_id: TopicId,
    start: StartAt,
) -> Result<Cursor<Source>, ErrorCode> {
    let source = known(client, &place).await?;
    let next = offset_of(client, caller, &place, &source, start).await?;
    Ok(Cursor::new(place, topic_id, source, next))
}

/// The first record at or after that time; None when all are older.
async fn offset_of_time(
    client: &LocalClient,
    caller: &Caller,
    place: &StreamPlace,
    time_ms: i64,
) -> Result<Option<Offset>, ErrorCode> {
    let partition = ListOffsetsPartition { partition_index: place.partition, timestamp: time_ms, ..Default::default() };
    let topic = ListOffsetsTopic { name: Str::from(&*place.topic), partitions: vec![partition] };
    let request = ListOffsetsRequest { replica_id: -1, topics: vec![topic], ..Default::default() };
    let destination = Destination::Leader(&place.topic, place.partition);
    let answer = client.ask(destination, caller, &request, OFFSETS_VERSION).await.map_err(|error| error.code())?;
    let found = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let found = found.ok_or(ErrorCode::UnknownServerError)?;
    match ErrorCode::from_code(found.error_code) {
        ErrorCode::None => Ok((found.offset >= 0).then_some(found.offset)),
        code => Err(code),
    }
}

/// Goes on where a client was. A topic that was made anew is read from its beginning, a log that was cut from where it was: each
/// with the gap to tell of.
pub async fn resume(
    client: &LocalClient,
    caller: &Caller,
    topic_id: TopicId,
    position: &Position,
) -> Result<(Cursor<Source>, Option<StreamEvent>), ErrorCode> {
    let place = position.place.clone();
    let source = known(client, &place).await?;
    let requested = position.next;
    let (resumed, reason) = if position.topic_id != topic_id {
        (source.log_start(), GapReason::TopicRecreated)
    } else {
        (agreed_end(client, caller, position).await?.min(requested), GapReason::Truncation)
    };
    let is_gap = reason == GapReason::TopicRecreated || resumed < requested;
    let gap = is_gap.then(|| StreamEvent::Gap { place: place.clone(), requested, resumed, reason });
    let mut cursor = Cursor::new(place, topic_id, source, resumed);
    if !is_gap {
        cursor.leader_epoch = position.leader_epoch;
    }
    Ok((cursor, gap))
}

/// Up to where the log is still the one that the client has read (KIP-320).
async fn agreed_end(client: &LocalClient, caller: &Caller, position: &Position) -> Result<Offset, ErrorCode> {
    let Position { place, leader_epoch, .. } = position;
    if *leader_epoch < 0 {
        return Ok(position.next);
    }
    match end_of_epoch(client, caller, place, *leader_epoch).await? {
        end if end >= 0 => Ok(end),
        // The token speaks of an epoch that is yet to come.
        _ => Ok(position.next),
    }
}

async fn end_of_epoch(
    client: &LocalClient,
    caller: &Caller,
    place: &StreamPlace,
    leader_epoch: LeaderEpoch,
) -> Result<Offset, ErrorCode> {
    let partition = OffsetForLeaderPartition { partition: place.partition, leader_epoch, ..Default::default() };
    let topic = OffsetForLeaderTopic { topic: Str::from(&*place.topic), partitions: vec![partition] };
    let request = OffsetForLeaderEpochRequest { topics: vec![topic], ..Default::default() };
    let destination = Destination::Leader(&place.topic, place.partition);
    let answer = client.ask(destination, caller, &request, EPOCH_VERSION).await.map_err(|error| error.code())?;
    let found = answer.topics.into_iter().flat_map(|topic| topic.partitions).next();
    let found = found.ok_or(ErrorCode::UnknownServerError)?;
    match ErrorCode::from_code(found.error_code) {
        ErrorCode::None => Ok(found.end_offset),
        code => Err(code),
    }
}
