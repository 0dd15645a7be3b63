//! The opening of a stream, whatever carries it: the topic, the partitions, and where each begins.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::Addr;
use capek_actors::http::{StartStream, StreamRefusal};
use capek_actors::shared::PartitionShared;
use capek_actors::stream_session::{Credit, Encoder, StreamSession, StreamStart};
use capek_wire::error_code::ErrorCode;
use capek_wire::ids::{Offset, PartitionIndex, TopicId};

use super::super::doors::Doors;
use super::super::problem::Problem;
use super::super::query::QueryPairs;
use super::super::v1::check_topic_name;
use super::body::StreamSenders;
use super::from::From;
use super::last_event_id::Places;
use super::values::Formats;

/// What a client wants to read.
pub struct Wanted {
    pub topic: String,
    pub from: From,
    /// None: all, and those that are added later.
    pub partitions: Option<Vec<PartitionIndex>>,
    /// Where a client goes on that was here before; a partition that it has not seen begins at its first record.
    pub resumed: Option<Places>,
    pub formats: Formats,
    pub heartbeat: Duration,
    pub frame_bytes: u64,
}

/// The partitions and where each begins.
pub struct Opened {
    pub topic: Arc<str>,
    pub topic_id: TopicId,
    pub positions: Vec<(Arc<PartitionShared>, Offset)>,
    follows_growth: bool,
}

const HEARTBEAT_MS_MIN: u64 = 1_000;
const HEARTBEAT_MS_MAX: u64 = 300_000;
const FRAME_BYTES_DEFAULT: u64 = 64 << 10;
const FRAME_BYTES_MAX: u64 = 1 << 20;

/// Asked for and silently not done would be worse than refused.
const NOT_BUILT_YET: [&str; 6] = ["group", "to", "filter", "resume", "ack", "conflate"];

impl Wanted {
    pub fn of(topic: &str, query: &QueryPairs, heartbeat_default: Duration) -> Result<Wanted, Problem> {
        check_topic_name(topic)?;
        if let Some(name) = query.names().find(|name| NOT_BUILT_YET.contains(name)) {
            return Err(Problem::bad_request(format!("{name} is not built yet")));
        }
        let from = query.get("from").unwrap_or("latest");
        let heartbeat_ms: Option<u64> = query.number("heartbeat_ms")?;
        let heartbeat = heartbeat_ms.map(|ms| Duration::from_millis(ms.clamp(HEARTBEAT_MS_MIN, HEARTBEAT_MS_MAX)));
        let frame_bytes = query.number("batch_bytes")?.unwrap_or(FRAME_BYTES_DEFAULT);
        Ok(Wanted {
            topic: topic.to_owned(),
            from: From::parse(from, now_ms()).map_err(Problem::bad_request)?,
            partitions: query.get("partitions").map(partitions).transpose()?,
            resumed: None,
            formats: Formats::of(query).map_err(Problem::bad_request)?,
            heartbeat: heartbeat.unwrap_or(heartbeat_default),
            frame_bytes: frame_bytes.clamp(1, FRAME_BYTES_MAX),
        })
    }

    /// Finds the places. A stream does not create its topic.
    pub async fn open(&self, doors: &Doors) -> Result<Opened, Problem> {
        let image = doors.client.image();
        let topic = image.topic_by_name(&self.topic);
        let topic =
            topic.ok_or_else(|| Problem::kafka(ErrorCode::UnknownTopicOrPartition, Some("Topic not found.".into())))?;
        let all = 0..topic.partitions.len() as PartitionIndex;
        let wanted = self.partitions.clone().unwrap_or_else(|| all.clone().collect());
        if let Some(missing) = wanted.iter().find(|partition| !all.contains(partition)) {
            let detail = format!("topic {} has no partition {missing}: it has {}", self.topic, all.end);
            return Err(Problem::kafka(ErrorCode::UnknownTopicOrPartition, Some(detail)));
        }
        let mut positions = Vec::with_capacity(wanted.len());
        for partition in wanted {
            let shared = doors.client.partition(&self.topic, partition)?;
            let from = match &self.resumed {
                Some(places) => places.get(&partition).copied().unwrap_or(From::Earliest),
                None => self.from,
            };
            let offset = resolve(doors, &shared, from).await?;
            positions.push((shared, offset));
        }
        let follows_growth = self.partitions.is_none();
        Ok(Opened { topic: topic.name.clone(), topic_id: topic.id, positions, follows_growth })
    }
}

impl Opened {
    /// Starts the session on this worker.
    pub async fn start(
        self,
        doors: &Doors,
        wanted: &Wanted,
        credit: Credit,
        senders: StreamSenders,
        encoder: Encoder,
    ) -> Result<Addr<StreamSession>, Problem> {
        let start = StreamStart {
            client: doors.client.clone(),
            topic: self.topic,
            topic_id: self.topic_id,
            positions: self.positions,
            follows_growth: self.follows_growth,
            credit,
            frame_bytes: wanted.frame_bytes,
            heartbeat: wanted.heartbeat,
            data: senders.data,
            control: senders.control,
            encoder,
        };
        let message = StartStream { arbiter: actix_rt::Arbiter::current(), start: Box::new(start) };
        match doors.sessions.send(message).await {
            Ok(Ok(session)) => Ok(session),
            Ok(Err(StreamRefusal::TooMany)) => Err(Problem::too_many("there are too many streams")),
            Ok(Err(StreamRefusal::Stopping)) | Err(_) => Err(Problem::unavailable("the broker stops")),
        }
    }
}

/// `0,3`: each once.
fn partitions(text: &str) -> Result<Vec<PartitionIndex>, Problem> {
    let mut partitions = Vec::new();
    for item in text.split(',') {
        let partition = item.trim().parse().ok().filter(|partition| *partition >= 0);
        let refused = || Problem::bad_request(format!("partitions={text}: '{item}' is no partition"));
        let partition = partition.ok_or_else(refused)?;
        if !partitions.contains(&partition) {
            partitions.push(partition);
        }
    }
    Ok(partitions)
}

/// An offset that is not in the log is left as it is: the session tells of the gap.
async fn resolve(doors: &Doors, shared: &Arc<PartitionShared>, from: From) -> Result<Offset, Problem> {
    let (log_start, end) = (shared.log_start(), shared.high_watermark());
    Ok(match from {
        From::Earliest => log_start,
        From::Latest => end,
        From::BeforeLatest(count) => end.saturating_sub(count).max(log_start),
        From::AfterEarliest(count) => log_start.saturating_add(count).min(end),
        From::Offset(offset) => offset,
        From::Time(time_ms) => doors.client.offset_for_timestamp(shared, time_ms).await?.unwrap_or(end),
    })
}

pub fn now_ms() -> i64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_a_list() {
        assert_eq!(partitions("0, 3,0").unwrap(), [0, 3]);
        for bad in ["", "a", "-1", "1,,2"] {
            assert!(partitions(bad).is_err(), "{bad}");
        }
    }
}
